//! The laptop's stores, in this process and in the data directory.
//!
//! Start-up calls this where the configuration names no others. What it hands
//! out is what the real ones have, a connection string and an SDK HTTP client,
//! so that nothing above knows the difference.

pub mod dynamodb;
mod engine;
pub mod in_process;
pub mod postgres;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::host::data_dir::DataDir;

pub use dynamodb::{EmbeddedDynamo, start_dynamodb};
pub use postgres::{EmbeddedPostgres, start_postgres};

/// The stores that run in this process; keep it for as long as they are used.
#[derive(Debug, Default)]
pub struct Embedded {
    /// Unless `database.url` is set.
    pub postgres: Option<EmbeddedPostgres>,
    /// Unless an endpoint, a database or AWS around us says where it is.
    pub dynamodb: Option<EmbeddedDynamo>,
}

/// Starts the stores `config` names no others for, in `dir`.
///
/// # Errors
/// A store cannot be read or written; the message names it and the way out.
pub async fn start(config: &Config, dir: &DataDir) -> anyhow::Result<Embedded> {
    let dynamodb = match config.embedded_dynamodb() {
        true => Some(start_dynamodb(dir.path())?),
        false => None,
    };
    let postgres = match config.embedded_postgres() {
        true => Some(start_postgres(dir.path()).await?),
        false => None,
    };
    Ok(Embedded { postgres, dynamodb })
}
