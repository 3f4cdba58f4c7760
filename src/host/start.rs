//! Start-up: from a configuration to a running [`App`], with slow steps told.

use std::sync::Arc;

use anyhow::Context;
use aws_config::SdkConfig;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};

use super::data_dir::{DataDir, open_data_dir};
use crate::app::{self, App, Parts};
use crate::config::Config;
use crate::http::projects::make_key;
use crate::model::id::ProjectId;
use crate::model::key::Scope;
use crate::model::seal::KeyRing;
use crate::queue::{Local, Queue, sqs};
use crate::store::dynamo::Dynamo;
use crate::store::postgres::{Options, Postgres};
use crate::store::projects::{self, Project};
use crate::store::{connect, table};

/// The name of the project a laptop begins with.
const DEFAULT_PROJECT: &str = "default";
/// The name in a key ring of a key made here.
const LOCAL_KEY_ID: &str = "local";
const KEY_RING_FILE: &str = "key_ring.json";

/// An application and what must outlive it.
#[derive(Debug)]
pub struct Started {
    /// The application.
    pub app: Arc<App>,
    #[cfg_attr(not(feature = "embedded"), expect(dead_code, reason = "it is ()"))]
    stores: Stores,
    _dir: DataDir,
}

#[cfg(feature = "embedded")]
type Stores = super::embedded::Embedded;
#[cfg(not(feature = "embedded"))]
type Stores = ();

impl Started {
    /// Removes what has expired, where the store does not do so by itself.
    ///
    /// # Errors
    /// When the embedded store cannot be read or written.
    pub async fn expire(&self) -> anyhow::Result<usize> {
        #[cfg(feature = "embedded")]
        if let Some(dynamodb) = &self.stores.dynamodb {
            return dynamodb.sweep_ttl().await;
        }
        Ok(0)
    }

    /// Ends the embedded stores in good order.
    pub async fn stop(self) {
        drop(self.app);
        #[cfg(feature = "embedded")]
        if let Some(postgres) = self.stores.postgres {
            postgres.stop().await;
        }
    }
}

/// Opens or starts the stores and puts the application together. Writes nothing
/// to the stores.
///
/// # Errors
/// The data directory is in use or unreadable, or a store does not start; the
/// message names it and the way out.
pub async fn assemble(config: Config) -> anyhow::Result<Started> {
    let dir = open_data_dir(&config.data_dir)?;
    let admin_key = match config.admin_key.expose_secret() {
        "" => dir.secret_file("admin_key", || format!("mradmin_{}", random_text()))?,
        _ => config.admin_key.clone(),
    };
    check_key_ring(&dir)?;
    let key_ring = dir.secret_file(KEY_RING_FILE, || {
        let ring =
            KeyRing::generate(LOCAL_KEY_ID, random()).expect("the key's name is a valid one");
        ring.to_json().expose_secret().to_owned()
    })?;
    let key_ring = KeyRing::parse(key_ring.expose_secret()).map_err(|invalid| {
        let path = dir.path().join(KEY_RING_FILE);
        let path = path.display();
        anyhow::anyhow!("data_dir: cannot read {path}; restore it from a backup: {invalid}")
    })?;
    let aws = match config.embedded_dynamodb() && !config.uses_sqs() {
        true => None,
        false => Some(connect::aws(&config, connect::http_client()).await),
    };
    let queue = match &aws {
        Some(aws) if config.uses_sqs() => Queue::Sqs(sqs::connect(&config, aws)),
        _ => Queue::Local(Local::new((&config).into())),
    };
    let (dynamo, postgres, stores) = open_stores(&config, &dir, aws.as_ref()).await?;
    let app = App::new(
        config,
        Parts {
            dynamo,
            postgres,
            queue,
            admin_key,
            key_ring,
        },
    )?;
    Ok(Started {
        app,
        stores,
        _dir: dir,
    })
}

/// A new key ring beside old stores would be found out at the first delivery,
/// with every endpoint's secret sealed by a key that is gone.
fn check_key_ring(dir: &DataDir) -> anyhow::Result<()> {
    let key_ring = dir.path().join(KEY_RING_FILE);
    let stores = ["dynamodb.sqlite", "postgres"];
    let store = stores.iter().find(|store| dir.path().join(store).exists());
    match store {
        Some(store) if !key_ring.exists() => anyhow::bail!(
            "data_dir: {} is missing, and the secrets in {store} can be read with no other; \
             restore it from a backup or set MILLRACE_DATA_DIR to begin anew",
            key_ring.display()
        ),
        _ => Ok(()),
    }
}

#[cfg(feature = "embedded")]
async fn open_stores(
    config: &Config,
    dir: &DataDir,
    aws: Option<&SdkConfig>,
) -> anyhow::Result<(Dynamo, Postgres, Stores)> {
    if config.embedded_postgres() {
        tracing::info!("starting the embedded PostgreSQL; the first time takes some seconds");
    }
    let stores = super::embedded::start(config, dir).await?;
    let dynamo = match &stores.dynamodb {
        Some(embedded) => connect::embedded_dynamo(config, embedded.http_client()),
        None => remote_dynamo(config, aws),
    };
    let url = match &stores.postgres {
        Some(embedded) => embedded.url().to_owned().into(),
        None => config.database.url.clone(),
    };
    Ok((dynamo, postgres(config, url)?, stores))
}

#[cfg(not(feature = "embedded"))]
async fn open_stores(
    config: &Config,
    _: &DataDir,
    aws: Option<&SdkConfig>,
) -> anyhow::Result<(Dynamo, Postgres, Stores)> {
    let url = config.database.url.clone();
    Ok((remote_dynamo(config, aws), postgres(config, url)?, ()))
}

fn remote_dynamo(config: &Config, aws: Option<&SdkConfig>) -> Dynamo {
    let aws = aws.expect("made for every store that is AWS's");
    connect::dynamo(config, aws)
}

fn postgres(config: &Config, url: SecretString) -> anyhow::Result<Postgres> {
    Postgres::new(&Options {
        url,
        pool_size: config.pool_size(),
        connect_timeout: config.database.connect_timeout,
        statement_timeout: config.database.statement_timeout,
    })
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gives random bytes");
    bytes
}

fn random_text() -> String {
    crate::model::id::base32(&random::<32>())
}

/// Brings both stores up to date: migrations and the table.
///
/// # Errors
/// A store is out of reach or refuses; the message names the key to look at.
pub async fn migrate(app: &App) -> anyhow::Result<()> {
    let applied = app.postgres.migrate().await.context(
        "database.url: the control-plane database cannot be migrated; \
         check MILLRACE_DATABASE__URL and that it is running",
    )?;
    if !applied.is_empty() {
        tracing::info!(
            migrations = applied.join(", "),
            "migrated the control-plane database"
        );
    }
    let created = table::create_if_missing(&app.dynamo)
        .await
        .with_context(|| {
            format!(
                "dynamodb.table: the table {:?} cannot be created or read; check \
             MILLRACE_DYNAMODB__TABLE, MILLRACE_AWS__ENDPOINT_URL and the credentials",
                app.dynamo.table
            )
        })?;
    if created {
        tracing::info!(table = app.dynamo.table, "created the DynamoDB table");
    }
    Ok(())
}

/// The project a new installation begins with, and the text of its key.
#[derive(Debug)]
pub struct FirstKey {
    /// The project.
    pub project: ProjectId,
    /// The key's text: shown this once.
    pub key: String,
}

/// Creates the project `default` and a key for it, if there is no project yet.
///
/// # Errors
/// When a store is out of reach.
pub async fn first_project(app: &App) -> anyhow::Result<Option<FirstKey>> {
    if !projects::list(&app.postgres, "", 1).await?.is_empty() {
        return Ok(None);
    }
    let now = app::now();
    let id = ProjectId::new(now.as_millisecond(), app.random());
    let project = Project {
        id,
        name: DEFAULT_PROJECT.into(),
        created_at: now,
    };
    projects::create(&app.postgres, &project).await?;
    let made = make_key(
        app,
        project.id.clone(),
        "first key".into(),
        Scope::ALL.into(),
    )
    .await?;
    Ok(Some(FirstKey {
        project: project.id,
        key: made.1,
    }))
}
