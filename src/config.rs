//! Configuration: its sections, where they come from, what they decide.
//!
//! `config.toml` is compiled in and documents every key; a file and then the
//! environment are laid over it, and the outcome is checked as a whole before
//! anything starts. Read by `main`, `host` and start-up, which hand the parts
//! on; nothing below reads a file or a variable by itself.

mod check;
mod database_url;
mod effective;
mod keys;
mod log_level;
mod mask;
mod problem;
mod runtime_env;
mod sections;
mod source;
mod suggest;
#[cfg(test)]
pub(crate) mod tests;
mod units;

use std::ffi::OsString;
use std::path::Path;

use source::Layer;

pub use check::{Purpose, network};
pub use database_url::with_tls;
pub use log_level::directives as log_directives;
pub use problem::InvalidConfig;
pub use runtime_env::RuntimeEnv;
pub use sections::*;
pub use source::DEFAULT_FILE;

/// The variables that can be read. Of those that cannot, ours are each refused: what
/// they set would be passed over in silence.
fn variables(
    vars: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, InvalidConfig> {
    let (mut read, mut problems) = (Vec::new(), Vec::new());
    for (name, value) in vars {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => read.push((name, value)),
            (Ok(name), Err(_)) if source::is_ours(&name) => {
                problems.push(format!("{name}: expected text in UTF-8"));
            }
            _ => {}
        }
    }
    InvalidConfig::unless_empty(problems)?;
    Ok(read)
}

/// The documented defaults: every key there is, once.
pub const DEFAULTS: &str = include_str!("../config.toml");

impl Config {
    /// Reads `file` (or [`DEFAULT_FILE`] if that is there), then the environment.
    ///
    /// # Errors
    /// The file cannot be read or is not TOML, or any key is unknown, of the
    /// wrong type or out of its range, or lacks what `purpose` takes: all such
    /// keys at once, each by name.
    pub fn load(file: Option<&Path>, purpose: Purpose) -> Result<Self, InvalidConfig> {
        let env = variables(std::env::vars_os())?;
        Self::layered(source::file(file)?, &env, purpose)
    }

    /// The defaults with `toml` laid over them, and no environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(toml: &str) -> Result<Self, InvalidConfig> {
        let file = Layer::toml("this text", toml)?;
        Self::layered(Some(file), &[], Purpose::Serve)
    }

    fn layered(
        file: Option<Layer>,
        env: &[(String, String)],
        purpose: Purpose,
    ) -> Result<Self, InvalidConfig> {
        let sources = [file, Some(Layer::env(env))];
        let mut config: Self = source::extract(sources.into_iter().flatten().collect())?;
        config.runtime_env = RuntimeEnv::detect(|name| {
            let found = env.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        });
        config.validate(purpose)?;
        Ok(config)
    }

    /// Checks every value, alone and against the others, and that `purpose` has
    /// all it takes.
    ///
    /// # Errors
    /// Every problem there is, not only the first.
    pub fn validate(&self, purpose: Purpose) -> Result<(), InvalidConfig> {
        InvalidConfig::unless_empty(check::problems(self, purpose))
    }

    /// What is in force, as TOML in the order of `config.toml`, secrets masked.
    pub fn masked_toml(&self) -> String {
        mask::toml(self, DEFAULTS)
    }
}
