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

use std::path::{Path, PathBuf};

use anyhow::bail;

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

/// The files of a directory that the stores in this process live by.
#[derive(Debug)]
pub struct StoreFiles {
    /// Those that are open, so that another in the place of one is not it.
    pub open: Vec<PathBuf>,
    /// Those that are opened anew by their names.
    pub needed: Vec<PathBuf>,
}

impl Embedded {
    /// The files of those stores that are here, in `dir`; none if none is.
    pub fn files(&self, dir: &Path) -> Option<StoreFiles> {
        let open = self.dynamodb.as_ref().map(|_| dynamodb::files(dir));
        let needed = self.postgres.as_ref().map(|_| postgres::files(dir));
        (open.is_some() || needed.is_some()).then(|| StoreFiles {
            open: open.unwrap_or_default(),
            needed: needed.unwrap_or_default(),
        })
    }
}

/// Starts the stores `config` names no others for, in `dir`.
///
/// # Errors
/// A store cannot be read or written; the message names it and the way out.
pub async fn start(config: &Config, dir: &DataDir) -> anyhow::Result<Embedded> {
    let was_cut_short = dir.was_unclean_shutdown();
    let dir = dir.path();
    if config.uses_embedded_dynamodb() {
        check_both(dir)?;
        // Before the other starts, so that a refusal leaves all as it was.
        if dynamodb::is_there(dir)? && was_cut_short {
            dynamodb::check_integrity(dir).await?;
        }
    }
    // First, so that a start cut short leaves no event store by itself.
    let postgres = if config.uses_embedded_postgres() {
        Some(start_postgres(dir).await?)
    } else {
        None
    };
    let dynamodb = if config.uses_embedded_dynamodb() {
        start_dynamodb(dir).map(Some)
    } else {
        Ok(None)
    };
    match dynamodb {
        Ok(dynamodb) => Ok(Embedded { postgres, dynamodb }),
        Err(error) => {
            if let Some(postgres) = postgres {
                postgres.stop().await;
            }
            Err(error)
        }
    }
}

/// An event store beside a new control plane would go on with keys that nobody
/// can revoke and endpoints that nobody can change.
fn check_both(dir: &Path) -> anyhow::Result<()> {
    let (postgres, dynamodb) = (dir.join(postgres::DIRECTORY), dir.join(dynamodb::FILE));
    if dynamodb.exists() && !postgres.exists() {
        bail!(
            "data_dir: {} is missing, and the keys and endpoints in {} are managed by no other; \
             restore it from a backup or move both away to begin anew",
            postgres.display(),
            dynamodb::FILE
        );
    }
    Ok(())
}
