//! Start-up: from a configuration to a running [`App`], with slow steps logged.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use aws_config::SdkConfig;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};

use super::data_dir::{DataDir, DataDirLost, open_data_dir};
pub use super::first_key::{FirstKey, first_project};
use super::open_files;
use crate::app::data_files::DataFiles;
use crate::app::{App, Parts};
use crate::aws::clients;
use crate::config::{Config, DatabaseConfig};
use crate::model::seal::KeyRing;
use crate::queue::{LocalQueue, Queue, sqs};
use crate::store::change_marker;
use crate::store::config_projection::ConfigProjection;
use crate::store::dynamo::{self, Dynamo};
use crate::store::objects::Objects;
use crate::store::outbox;
use crate::store::postgres::{AppRole, Options, Postgres};
use crate::store::projector;
use crate::store::secrets::{self, AdminKey, CachedSecret, Login};
use crate::store::table;

/// The name in a key ring of a key made here.
const LOCAL_KEY_ID: &str = "local";
/// Between two log lines that a step of the start goes on.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
const KEY_RING_FILE: &str = "key_ring.json";
/// The admin key of an installation that is configured with none.
pub(super) const ADMIN_KEY_FILE: &str = "admin_key";

/// An application and what must outlive it.
#[derive(Debug)]
pub struct RunningApp {
    /// What requests and jobs are given.
    pub app: Arc<App>,
    #[cfg_attr(not(feature = "embedded"), expect(dead_code, reason = "it is ()"))]
    stores: Stores,
    dir: Option<DataDir>,
}

#[cfg(feature = "embedded")]
type Stores = super::embedded::Embedded;
#[cfg(not(feature = "embedded"))]
type Stores = ();

impl RunningApp {
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

    /// Makes ready to be found: tells others at what address it serves, and has every
    /// answer depend on the files of the data directory that this process needs.
    ///
    /// # Errors
    /// The data directory cannot be read or written, or is not this process's any more.
    pub fn publish(&self, address: SocketAddr) -> anyhow::Result<()> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        dir.set_address(address)?;
        // Of what each connection to the embedded PostgreSQL makes.
        dir.make_private()?;
        let (mut open, mut needed) = (vec![], vec![]);
        #[cfg(feature = "embedded")]
        if let Some(files) = self.stores.files(dir.path()) {
            open.extend(files.open);
            needed.extend(files.needed);
        }
        open.push(dir.lock_file());
        if self.app.config.key_ring.secret_arn.is_empty() {
            needed.push(dir.path().join(KEY_RING_FILE));
        }
        if self.app.config.makes_admin_key() {
            needed.push(dir.path().join(ADMIN_KEY_FILE));
        }
        self.app.depend_on(DataFiles::new(open, needed)?);
        // Not what came into its place since it was locked.
        Ok(dir.ensure_kept()?)
    }

    /// Ends the embedded stores in good order, if they are still there. If they are
    /// not, they stay open until the process ends: the last that they write would go,
    /// by its path, into whatever is in their place.
    ///
    /// # Errors
    /// The data directory is not this process's any more: it should end with this.
    pub async fn stop(self) -> Result<(), DataDirLost> {
        if let Some(Err(lost)) = self.dir.as_ref().map(DataDir::ensure_kept) {
            std::mem::forget(self);
            return Err(lost);
        }
        drop(self.app);
        #[cfg(feature = "embedded")]
        if let Some(postgres) = self.stores.postgres {
            postgres.stop().await;
        }
        if let Some(dir) = self.dir {
            // It has taken a while.
            dir.ensure_kept()?;
            let _ = dir.make_private();
            dir.close();
        }
        Ok(())
    }
}

/// Opens or starts the stores and puts the application together. Writes nothing
/// to the stores.
///
/// # Errors
/// The data directory is in use or unreadable, or a store does not start; the
/// message names it and the way out.
pub async fn assemble(mut config: Config) -> anyhow::Result<RunningApp> {
    let in_flight_max = &mut config.delivery.in_flight_max;
    *in_flight_max = open_files::attempts_max(*in_flight_max);
    let dir = if config.needs_data_dir() {
        Some(open_data_dir(&config.data_dir)?)
    } else {
        None
    };
    let aws = aws(&config)?;
    let queue = if config.uses_sqs() {
        Queue::Sqs(sqs::connect(&config, &aws))
    } else {
        Queue::Local(LocalQueue::new((&config).into()))
    };
    let admin_key = admin_key(&config, &aws, dir.as_ref())?;
    let key_ring = key_ring(&config, &aws, dir.as_ref())?;
    let archive = Objects::connect(&config).context("archive.endpoint_url")?;
    let opened = open_stores(&config, &aws, dir.as_ref()).await?;
    if let Some(dir) = &dir {
        // What the engines have made since it was opened.
        dir.make_private()?;
    }
    let app = App::new(
        config,
        Parts {
            dynamo: opened.dynamo,
            postgres: opened.postgres,
            queue,
            admin_key,
            key_ring,
            archive,
        },
    )?;
    Ok(RunningApp {
        app,
        stores: opened.stores,
        dir,
    })
}

fn aws(config: &Config) -> anyhow::Result<SdkConfig> {
    let client = clients::http_client(&config.aws.ca_file)?;
    Ok(clients::sdk_config(config, client))
}

fn admin_key(
    config: &Config,
    aws: &SdkConfig,
    dir: Option<&DataDir>,
) -> anyhow::Result<CachedSecret<AdminKey>> {
    if !config.makes_admin_key() {
        return Ok(match config.admin_key.expose_secret() {
            "" => CachedSecret::remote(secrets::connect(config, aws), &config.admin_key_secret_arn),
            text => CachedSecret::fixed(AdminKey::of(text)),
        });
    }
    let made = || format!("mradmin_{}", random_text());
    let text = match dir {
        Some(dir) => dir.secret_file(ADMIN_KEY_FILE, made)?,
        // A worker on AWS that serves no API: nobody has this one.
        None => made().into(),
    };
    Ok(CachedSecret::fixed(AdminKey::of(text.expose_secret())))
}

fn key_ring(
    config: &Config,
    aws: &SdkConfig,
    dir: Option<&DataDir>,
) -> anyhow::Result<CachedSecret<KeyRing>> {
    let Some(dir) = dir.filter(|_| config.key_ring.secret_arn.is_empty()) else {
        return Ok(CachedSecret::remote(
            secrets::connect(config, aws),
            &config.key_ring.secret_arn,
        ));
    };
    check_key_ring(dir)?;
    let text = dir.secret_file(KEY_RING_FILE, || {
        let ring =
            KeyRing::generate(LOCAL_KEY_ID, random()).expect("the key's name is a valid one");
        ring.to_json().expose_secret().to_owned()
    })?;
    let ring = KeyRing::parse(text.expose_secret()).map_err(|invalid| {
        let path = dir.path().join(KEY_RING_FILE);
        let path = path.display();
        anyhow::anyhow!("data_dir: cannot read {path}; restore it from a backup: {invalid}")
    })?;
    Ok(CachedSecret::fixed(ring))
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

/// The stores, wherever they are.
struct OpenedStores {
    dynamo: Dynamo,
    postgres: Postgres,
    /// What must outlive the two.
    stores: Stores,
}

#[cfg(feature = "embedded")]
async fn open_stores(
    config: &Config,
    aws: &SdkConfig,
    dir: Option<&DataDir>,
) -> anyhow::Result<OpenedStores> {
    let Some(dir) = dir.filter(|_| config.uses_embedded_postgres()) else {
        return Ok(OpenedStores {
            dynamo: dynamo::connect(config, aws),
            postgres: postgres(config, aws, config.database_url())?,
            stores: Stores::default(),
        });
    };
    let stores = super::embedded::start(config, dir);
    let step = "the embedded stores, which the first time takes some seconds";
    let stores = log_progress(step, stores).await?;
    let dynamo = match &stores.dynamodb {
        Some(embedded) => dynamo::connect_embedded(config, embedded.http_client()),
        None => dynamo::connect(config, aws),
    };
    let url = match &stores.postgres {
        Some(embedded) => embedded.url().to_owned().into(),
        None => config.database_url(),
    };
    Ok(OpenedStores {
        dynamo,
        postgres: postgres(config, aws, url)?,
        stores,
    })
}

#[cfg(not(feature = "embedded"))]
async fn open_stores(
    config: &Config,
    aws: &SdkConfig,
    _: Option<&DataDir>,
) -> anyhow::Result<OpenedStores> {
    Ok(OpenedStores {
        dynamo: dynamo::connect(config, aws),
        postgres: postgres(config, aws, config.database_url())?,
        stores: (),
    })
}

/// The stores that `config` names, for who needs no more than them. Connects to
/// nothing and reads no secret of Millrace's own.
///
/// # Errors
/// A certificate file or the database's URL cannot be read.
pub(super) async fn remote_stores(config: &Config) -> anyhow::Result<(Dynamo, Postgres)> {
    let aws = aws(config)?;
    let postgres = postgres(config, &aws, config.database_url())?;
    Ok((dynamo::connect(config, &aws), postgres))
}

fn postgres(config: &Config, aws: &SdkConfig, url: SecretString) -> anyhow::Result<Postgres> {
    let database = &config.database;
    let has_login_secret = !config.uses_embedded_postgres() && !database.secret_arn.is_empty();
    let login = has_login_secret
        .then(|| CachedSecret::remote(secrets::connect(config, aws), &database.secret_arn));
    Postgres::new(&Options {
        url,
        login,
        ca_file: clients::file(&database.ca_file).map(Into::into),
        pool_size: config.pool_size(),
        connect_timeout: database.connect_timeout,
        statement_timeout: database.statement_timeout,
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

/// Logs what is begun, and while it takes long that it goes on: a start that hangs
/// is not silent.
async fn log_progress<T>(step: &str, work: impl Future<Output = T>) -> T {
    tracing::info!(step, "starting");
    let (mut work, begun) = (pin!(work), Instant::now());
    loop {
        if let Ok(done) = tokio::time::timeout(PROGRESS_INTERVAL, &mut work).await {
            return done;
        }
        let waited_s = begun.elapsed().as_secs();
        tracing::warn!(step, waited_s, "still starting");
    }
}

/// Brings both stores up to date: migrations and the table, which is given what
/// the database knows if it is made anew.
///
/// # Errors
/// A store is out of reach or refuses; the message names the key to look at.
pub async fn migrate(postgres: &Postgres, dynamo: &Dynamo) -> anyhow::Result<()> {
    let applied = log_progress("the control-plane database", postgres.migrate());
    let applied = applied.await.context(
        "database.url: the control-plane database cannot be migrated; \
         check MILLRACE_DATABASE__URL and that it is running",
    )?;
    if !applied.is_empty() {
        tracing::info!(
            migrations = applied.join(", "),
            "control-plane database migrated"
        );
    }
    let created = log_progress("the event store", table::create_if_missing(dynamo))
        .await
        .with_context(|| {
            format!(
                "dynamodb.table: the table {:?} cannot be created or read; check \
             MILLRACE_DYNAMODB__TABLE, MILLRACE_AWS__ENDPOINT_URL and the credentials",
                dynamo.table
            )
        })?;
    if created {
        tracing::info!(table = dynamo.table, "dynamodb table created");
        reproject(postgres, dynamo).await?;
    }
    Ok(())
}

/// Projects all keys and endpoints to the event store again, as when its table is
/// made anew or restored from a backup: accepting and delivering know no others.
/// Takes a few calls for each.
///
/// # Errors
/// When a store is out of reach; the sweeper goes on with what is left.
async fn reproject(postgres: &Postgres, dynamo: &Dynamo) -> anyhow::Result<()> {
    if outbox::add_all(postgres).await? == 0 {
        return Ok(());
    }
    let projection = ConfigProjection::writer(dynamo.clone());
    let projected = projector::project_pending(postgres, &projection, Duration::ZERO).await?;
    tracing::info!(projected, "configuration reprojected");
    Ok(())
}

/// Leaves it to the sweepers to project all keys and endpoints again, and wakes them.
///
/// # Errors
/// The database is out of reach. If the event store does not let them be woken, the log
/// says that they have to be restarted.
pub async fn defer_reprojection(postgres: &Postgres, dynamo: &Dynamo) -> anyhow::Result<()> {
    if let Err(error) = change_marker::announce(dynamo).await {
        let cause = error.causes();
        tracing::warn!(%error, cause, "sweepers not woken: restart those that run, or they begin within 6 hours");
    }
    let left = outbox::add_all(postgres).await?;
    tracing::info!(left, "reprojection deferred to sweepers");
    Ok(())
}

/// The role that serving processes log in as, if one is configured.
///
/// # Errors
/// Its secret cannot be fetched or read.
async fn app_role(config: &Config) -> anyhow::Result<Option<AppRole>> {
    let DatabaseConfig {
        app_role,
        app_secret_arn,
        ..
    } = &config.database;
    if app_secret_arn.is_empty() {
        return Ok((!app_role.is_empty()).then(|| AppRole {
            name: app_role.clone(),
            password: None,
        }));
    }
    let client = secrets::connect(config, &aws(config)?);
    let secret = CachedSecret::<Login>::remote(client, app_secret_arn);
    let login = secret.get().await;
    let login = login.with_context(|| app_role_key(config))?;
    Ok(Some(AppRole {
        name: login.username.clone(),
        password: Some(login.password.clone()),
    }))
}

/// The key that names the role.
fn app_role_key(config: &Config) -> &'static str {
    match config.database.app_secret_arn.as_str() {
        "" => "database.app_role",
        _ => "database.app_secret_arn",
    }
}

/// [`migrate`] with nothing else of the application: where the stores are others',
/// it needs who logs in to them and no secret of Millrace's own, and prepares the
/// role that serving processes log in as, if one is configured. Projects all keys
/// and endpoints again if that is asked for; on AWS, where migrating may not write
/// items but the one that wakes them, it leaves that to the sweepers.
///
/// # Errors
/// As [`assemble`] and [`migrate`].
pub async fn migrate_alone(config: Config, force_reproject: bool) -> anyhow::Result<()> {
    // The embedded stores are a data directory's, which is made as a whole.
    if config.uses_embedded_postgres() {
        let started = assemble(config).await?;
        let app = &started.app;
        let migrated = async {
            migrate(&app.postgres, &app.dynamo).await?;
            if force_reproject {
                reproject(&app.postgres, &app.dynamo).await?;
            }
            Ok(())
        };
        let migrated = migrated.await;
        started.stop().await?;
        return migrated;
    }
    let (dynamo, postgres) = remote_stores(&config).await?;
    migrate(&postgres, &dynamo).await?;
    if let Some(app_role) = app_role(&config).await? {
        let prepared = postgres.prepare_app_role(&app_role).await;
        prepared.with_context(|| {
            let key = app_role_key(&config);
            format!("{key}: the role {:?} cannot be prepared", app_role.name)
        })?;
        tracing::info!(role = app_role.name, "role of serving processes prepared");
    }
    if force_reproject && config.runtime_env.is_aws() {
        defer_reprojection(&postgres, &dynamo).await?;
    } else if force_reproject {
        reproject(&postgres, &dynamo).await?;
    }
    Ok(())
}

#[cfg(all(test, unix, feature = "embedded"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_stop_leaves_what_is_in_the_place_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let toml = format!("data_dir = {data:?}");
        let started = assemble(Config::from_toml(&toml).unwrap()).await.unwrap();
        fs::rename(&data, dir.path().join("away")).unwrap();
        fs::create_dir(&data).unwrap();
        let open = data.join("open");
        fs::write(&open, "another's").unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        let lost = started.stop().await.unwrap_err();
        assert!(
            lost.to_string().contains("was removed or replaced"),
            "{lost}"
        );
        assert_eq!(fs::read_to_string(&open).unwrap(), "another's");
        let mode = open.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o644);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
    }
}
