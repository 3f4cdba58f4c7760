//! The PostgreSQL pool and migrations; errors classified once.

use std::time::Duration;

use anyhow::anyhow;
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError};
use deadpool_postgres::{RecyclingMethod, Runtime, Timeouts};
use rustls::RootCertStore;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};

mod embedded_migrations {
    refinery::embed_migrations!("migrations");
}

/// The control plane's database: a pool that connects when first asked.
///
/// The embedded PostgreSQL has one backend, so its pool holds one connection:
/// nothing may hold a connection while it asks for another.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres")
            .field("status", &self.pool.status())
            .finish()
    }
}

/// How to reach it.
#[derive(Debug)]
pub struct Options {
    /// `postgresql://…`.
    pub url: SecretString,
    /// Connections at most.
    pub pool_size: usize,
    /// For a new connection, and for a free one.
    pub connect_timeout: Duration,
    /// For one statement, enforced by the server.
    pub statement_timeout: Duration,
}

impl Postgres {
    /// A pool for `options`. Connects to nothing yet.
    ///
    /// # Errors
    /// When the URL cannot be read; the message does not repeat it, for it holds
    /// a password.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let mut config: tokio_postgres::Config =
            options.url.expose_secret().parse().map_err(|_| {
                anyhow::anyhow!("database.url: expected postgresql://user:password@host:port/name")
            })?;
        config.connect_timeout(options.connect_timeout);
        config.application_name("millrace");
        let recycle = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = match config.get_ssl_mode() {
            SslMode::Disable => Manager::from_config(config, NoTls, recycle),
            _ => Manager::from_config(config, tls(), recycle),
        };
        let timeout_ms = options.statement_timeout.as_millis();
        let pool = Pool::builder(manager)
            .max_size(options.pool_size)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(options.connect_timeout),
                create: Some(options.connect_timeout),
                recycle: Some(options.connect_timeout),
            })
            .post_create(Hook::async_fn(move |client, _| {
                Box::pin(async move {
                    let set = format!("set statement_timeout = {timeout_ms}");
                    client.batch_execute(&set).await.map_err(HookError::Backend)
                })
            }))
            .build()?;
        Ok(Self { pool })
    }

    /// A connection.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none is to be had in time.
    pub async fn get(&self) -> Result<Object> {
        self.connection().await.map_err(unavailable)
    }

    async fn connection(&self) -> anyhow::Result<Object> {
        self.pool.get().await.map_err(|error| match error {
            // The pool's own text says nothing of use and repeats the cause.
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                error.into()
            }
            PoolError::Timeout(_) => anyhow!("no connection within database.connect_timeout_s"),
            other => other.into(),
        })
    }

    /// Brings the schema up to date. Running it again changes nothing.
    ///
    /// # Errors
    /// When the database is out of reach or a migration fails; each migration is
    /// a transaction of its own.
    pub async fn migrate(&self) -> anyhow::Result<Vec<String>> {
        let mut client = self.connection().await?;
        let report = embedded_migrations::migrations::runner()
            .run_async(&mut **client)
            .await?;
        Ok(report
            .applied_migrations()
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    /// Migrations that this binary knows and the database lacks, by name.
    ///
    /// # Errors
    /// When the database is out of reach, or was migrated by a newer Millrace.
    pub async fn pending_migrations(&self) -> anyhow::Result<Vec<String>> {
        let mut client = self.connection().await?;
        let runner = embedded_migrations::migrations::runner();
        let known: Vec<_> = runner
            .get_migrations()
            .iter()
            .map(ToString::to_string)
            .collect();
        let table = client.query_one(HISTORY_EXISTS, &[]).await?;
        if !table.get::<_, bool>(0) {
            return Ok(known);
        }
        let applied: Vec<_> = runner
            .get_applied_migrations_async(&mut **client)
            .await?
            .iter()
            .map(ToString::to_string)
            .collect();
        if let Some(unknown) = applied.iter().find(|name| !known.contains(name)) {
            anyhow::bail!(
                "the database has migration {unknown}, which this binary does not know: \
                 it was migrated by a newer Millrace"
            );
        }
        Ok(known
            .into_iter()
            .filter(|name| !applied.contains(name))
            .collect())
    }

    /// Asks the database for nothing, to see whether it answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<()> {
        self.get().await?.batch_execute("").await.map_err(classify)
    }
}

const CLOCK: &str = "select clock_timestamp()";

impl Postgres {
    /// The database's clock.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database does not answer.
    pub async fn clock(&self) -> Result<jiff::Timestamp> {
        let client = self.get().await?;
        Ok(client.query_one(CLOCK, &[]).await.map_err(classify)?.get(0))
    }
}

const HISTORY_EXISTS: &str = "select to_regclass('refinery_schema_history') is not null";

fn tls() -> MakeRustlsConnect {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = rustls::crypto::ring::default_provider().into();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
}

fn unavailable(source: anyhow::Error) -> Error {
    Error::Unavailable {
        what: "the control-plane database",
        source,
    }
}

/// `error` as what a request answers with: a broken constraint is the client's,
/// by name; a connection that is gone may be back later; all else is ours.
pub(crate) fn classify(error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        return unavailable(error.into());
    };
    match db.constraint() {
        Some("projects_name_unique") => {
            Error::Conflict("name: a project of that name exists already".into())
        }
        Some("api_keys_project_id_fkey" | "endpoints_project_id_fkey") => {
            Error::NotFound("project".into())
        }
        // 08: connection; 53: resources; 57: operator, shutdown and timeouts.
        _ if ["08", "53", "57"]
            .iter()
            .any(|class| db.code().code().starts_with(class)) =>
        {
            unavailable(error.into())
        }
        _ => Error::internal(error),
    }
}
