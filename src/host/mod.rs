//! The hosts, which drive the process: a listener, or AWS.
//!
//! The only layer that knows sockets, signals, the data directory and the
//! embedded stores. `main` calls it with what it has built; nothing calls up.

pub mod command_output;
pub mod console_link;
pub mod data_dir;
pub mod doctor;
#[cfg(feature = "embedded")]
pub mod embedded;
mod first_key;
mod greeting;
pub mod keys;
pub mod lambda;
mod open_files;
mod running;
pub mod serve;
pub mod shutdown;
pub mod start;
pub mod tcp;

use std::sync::Arc;

use axum::Router;

use crate::app::App;
use crate::config::Config;
use crate::{console, http};

/// All that is answered over HTTP: the API, and the console, which asks it.
pub fn router(app: Arc<App>) -> Router {
    let pages = console::routes(&app, http::router(app.clone()));
    http::router_with(pages, app)
}

/// Where requests and jobs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// A TCP listener, with workers and sweeper in process.
    Tcp,
    /// The same on ECS: stores and queues are AWS's.
    Ecs,
    /// The Lambda runtime API, for requests and jobs alike.
    Lambda,
}

impl Host {
    /// The host the configuration asks for, or else the one that is there.
    pub fn detect(config: &Config) -> Self {
        match (config.runs_on_lambda(), config.runtime_env.is_ecs) {
            (true, _) => Self::Lambda,
            (false, true) => Self::Ecs,
            (false, false) => Self::Tcp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostChoice, RuntimeEnv};

    fn detected(host: HostChoice, variable: &str) -> Host {
        let stores = "[database]\nurl = \"postgresql://u@db/m\"";
        let mut config = Config::from_toml(stores).unwrap();
        config.host = host;
        config.runtime_env = RuntimeEnv::detect(|name| (name == variable).then(|| "x".into()));
        Host::detect(&config)
    }

    #[test]
    fn the_host_is_what_aws_announces_unless_chosen() {
        let (lambda, ecs) = ("AWS_LAMBDA_RUNTIME_API", "ECS_CONTAINER_METADATA_URI_V4");
        assert_eq!(detected(HostChoice::Auto, lambda), Host::Lambda);
        assert_eq!(detected(HostChoice::Auto, ecs), Host::Ecs);
        assert_eq!(detected(HostChoice::Auto, "HOME"), Host::Tcp);
        assert_eq!(detected(HostChoice::Tcp, lambda), Host::Tcp);
        assert_eq!(detected(HostChoice::Tcp, ecs), Host::Ecs);
        assert_eq!(detected(HostChoice::Lambda, "HOME"), Host::Lambda);
    }
}
