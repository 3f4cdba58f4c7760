//! The PostgreSQL pool and migrations; errors classified once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError,
};
use deadpool_postgres::{RecyclingMethod, Runtime, Timeouts};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::error::SqlState;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

pub use self::app_role::AppRole;
pub use self::contact::Contact;
use self::contact::ContactLog;
use self::login::{LoginConnector, LoginProvider};
pub use self::session::{Session, SessionTransaction};
use self::sql_error::{SqlError, connect_error};
use super::change_marker::ChangeMarker;
use super::dynamo::Dynamo;
use super::secrets::{CachedSecret, Login};
use crate::config::with_tls;
use crate::error::{Error, Invalid, Result};

pub mod app_role;
mod contact;
mod login;
mod session;
mod sql_error;

mod embedded_migrations {
    refinery::embed_migrations!("migrations");
}

/// How long a connection may be idle and still be used unverified. While a function
/// is frozen, or a firewall drops its state, the other end may have closed it.
const UNVERIFIED_IDLE_MAX: Duration = Duration::from_secs(1);
/// How long an idle connection has to answer before it is replaced.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// The control plane's database: a pool that connects when first used.
///
/// The embedded PostgreSQL has one backend, so its pool holds one connection:
/// nothing may hold a connection while it gets another.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    logins: Arc<LoginProvider>,
    statement_timeout_ms: u128,
    contact: Arc<ContactLog>,
    purpose: Purpose,
    /// Where changes are announced, if anywhere.
    marker: Option<Arc<ChangeMarker>>,
}

/// What a pool is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// What somebody asked for or has to be counted.
    Work,
    /// A look whether there is anything to do.
    Background,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres")
            .field("status", &self.pool.status())
            .finish()
    }
}

/// How to connect to the database.
#[derive(Debug)]
pub struct Options {
    /// `postgresql://…`: with TLS, and the server's certificate checked, unless it
    /// says `sslmode=disable`.
    pub url: SecretString,
    /// Who logs in, in place of the user in the URL.
    pub login: Option<CachedSecret<Login>>,
    /// A PEM file of the certificate authorities that may vouch for the server; the
    /// public ones if absent.
    pub ca_file: Option<PathBuf>,
    /// Connections of this process at most.
    pub pool_size: usize,
    /// Limit for a new connection, and for waiting for a free one.
    pub connect_timeout: Duration,
    /// Limit for one statement, enforced by the server.
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
            with_tls(options.url.expose_secret()).parse().map_err(|_| {
                anyhow::anyhow!("database.url: expected postgresql://user:password@host:port/name")
            })?;
        config.connect_timeout(options.connect_timeout);
        config.application_name("millrace");
        let recycle = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let logins = Arc::new(LoginProvider::new(
            options.login.clone(),
            options.ca_file.clone(),
            config.get_ssl_mode(),
        ));
        let connect = LoginConnector(logins.clone());
        let manager = Manager::from_connect(config, connect, recycle);
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
                    let limited = limit_statements(client, timeout_ms).await;
                    limited.map_err(HookError::Backend)
                })
            }))
            .pre_recycle(Hook::async_fn(|client, metrics| {
                let idle = metrics.last_used();
                Box::pin(async move {
                    if idle < UNVERIFIED_IDLE_MAX {
                        Ok(())
                    } else {
                        verify(client).await
                    }
                })
            }))
            .build()?;
        Ok(Self {
            pool,
            logins,
            statement_timeout_ms: timeout_ms,
            contact: Arc::default(),
            purpose: Purpose::Work,
            marker: None,
        })
    }

    /// The same pool, whose changes are announced in `dynamo`.
    pub fn announcing_in(mut self, dynamo: Dynamo) -> Self {
        self.marker = Some(Arc::new(ChangeMarker::new(dynamo)));
        self
    }

    /// The same pool, for looks whether there is anything to do: they are not counted
    /// among its [uses](Self::uses).
    pub fn in_background(&self) -> Self {
        Self {
            purpose: Purpose::Background,
            ..self.clone()
        }
    }

    /// How often a connection was asked for by this process, but for looks in the
    /// background: while this rises, the database is in use anyway.
    pub fn uses(&self) -> u64 {
        self.contact.uses()
    }

    /// What became of the last use of the database; none before the first, and when a
    /// connection has broken since.
    pub fn last_contact(&self) -> Option<Contact> {
        let pooled = self.pool.retain(|client, _| !client.is_closed());
        if !pooled.removed.is_empty() {
            self.contact.forget();
        }
        self.contact.last()
    }

    /// Closes the connections that nobody has used for `longest`: a serverless database
    /// pauses only without any.
    pub fn close_idle(&self, longest: Duration) {
        self.pool.retain(|_, metrics| metrics.last_used() < longest);
    }

    /// Announces that a change is about to be made, where that is done.
    pub(super) async fn announce_change(&self) {
        if let Some(marker) = &self.marker {
            marker.mark().await;
        }
    }

    /// A connection. After a rotation of the login the first one that is refused
    /// fetches the new one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none is free in time; as [`CachedSecret::get`].
    pub async fn get(&self) -> Result<Session> {
        if self.purpose == Purpose::Work {
            self.contact.count_use();
        }
        let attempt = self.contact.begin();
        let got = self.connect().await;
        attempt.end(got.is_ok());
        got
    }

    async fn connect(&self) -> Result<Session> {
        self.logins.fetch().await?;
        let refused = match self.pool.get().await {
            Err(error) if is_refused(&error) => error,
            got => return session(got),
        };
        if !self.logins.renew().await? {
            return Err(unavailable(cause(refused)));
        }
        tracing::info!("database credentials refreshed: authentication had failed");
        session(self.pool.get().await)
    }

    async fn connection(&self) -> anyhow::Result<Session> {
        self.get().await.map_err(|error| match error {
            Error::Unavailable { source, .. } | Error::Internal(source) => source,
            other => other.into(),
        })
    }

    /// Brings the schema up to date. Running it again changes nothing; with nothing to
    /// do it asks for no right to change the schema.
    ///
    /// # Errors
    /// When the database is out of reach or a migration fails; each migration is
    /// a transaction of its own.
    pub async fn migrate(&self) -> anyhow::Result<Vec<String>> {
        if self.pending_migrations().await?.is_empty() {
            self.set_default(&self.connection().await?, None).await?;
            return Ok(vec![]);
        }
        let mut client = self.connection().await?;
        // A migration may take longer than any other statement.
        client.batch_execute(&statement_timeout_sql(0)).await?;
        let report = embedded_migrations::migrations::runner()
            .run_async(client.connection())
            .await;
        client
            .batch_execute(&statement_timeout_sql(self.statement_timeout_ms))
            .await?;
        let report = report?;
        self.set_default(&client, None).await?;
        Ok(report
            .applied_migrations()
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    /// Makes the role that serving processes log in as, or gives it what it needs of a
    /// schema that was migrated. Running it again changes nothing.
    ///
    /// # Errors
    /// When the database is out of reach or refuses, or the role could do more than it
    /// should.
    pub async fn prepare_app_role(&self, app_role: &AppRole) -> anyhow::Result<()> {
        let mut client = self.connection().await?;
        app_role::prepare(&mut client, app_role).await?;
        self.set_default(&client, Some(&app_role.name)).await
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
            .get_applied_migrations_async(client.connection())
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

    /// Sends the database an empty statement, to see whether it answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<()> {
        self.get().await?.batch_execute("").await.map_err(classify)
    }
}

/// The names of the database and of the role `$2`, or one's own, as SQL has them, and
/// whether `$1` is among what the role's sessions begin with there.
const ROLE_DEFAULT: &str = "\
    select quote_ident(current_database()), quote_ident(o.name), exists (\
        select from pg_db_role_setting s \
        join pg_database d on d.oid = s.setdatabase \
        join pg_roles r on r.oid = s.setrole \
        where d.datname = current_database() and r.rolname = o.name \
        and $1 = any (s.setconfig)) \
    from coalesce($2::text, current_user::text) as o (name)";

impl Postgres {
    /// Makes the limit on statements the default of `role`, or of one's own, in this
    /// database, so that new connections need not set it.
    async fn set_default(&self, client: &Session, role: Option<&str>) -> anyhow::Result<()> {
        let wanted = format!("statement_timeout={}", self.statement_timeout_ms);
        let row = client.query_one(ROLE_DEFAULT, &[&wanted, &role]).await?;
        let (database, role, is_set): (&str, &str, bool) = (row.get(0), row.get(1), row.get(2));
        if is_set {
            return Ok(());
        }
        let set = statement_timeout_sql(self.statement_timeout_ms);
        let alter = format!("alter role {role} in database {database} {set}");
        // A role that may not do this is no failure: connections then set it
        // themselves.
        if let Err(error) = client.batch_execute(&alter).await {
            let cause = connect_error(error);
            tracing::warn!(%cause, "failed to set statement_timeout as role default: set per connection");
        }
        Ok(())
    }
}

const STATEMENT_TIMEOUT: &str = "select setting from pg_settings where name = 'statement_timeout'";

fn statement_timeout_sql(timeout_ms: u128) -> String {
    format!("set statement_timeout = {timeout_ms}")
}

/// Limits what one statement of a new connection may take, unless the role's
/// default does so already.
async fn limit_statements(
    client: &ClientWrapper,
    timeout_ms: u128,
) -> Result<(), tokio_postgres::Error> {
    let answer = client.simple_query(STATEMENT_TIMEOUT).await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let setting = row.and_then(|row: &SimpleQueryRow| row.get(0));
    // RDS Proxy gives a session that sets anything a database connection of its own
    // until it ends.
    if setting == Some(&*timeout_ms.to_string()) {
        return Ok(());
    }
    let set = statement_timeout_sql(timeout_ms);
    client.batch_execute(&set).await
}

/// Sends an empty statement on a connection; one that does not answer soon is
/// dropped.
async fn verify(client: &ClientWrapper) -> Result<(), HookError> {
    match tokio::time::timeout(VERIFY_TIMEOUT, client.simple_query("")).await {
        Ok(answered) => answered.map(drop).map_err(HookError::Backend),
        Err(_) => Err(HookError::message(
            "the connection does not answer any more",
        )),
    }
}

const CLOCK: &str = "select clock_timestamp()";

impl Postgres {
    /// The time by the database's clock.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database does not answer.
    pub async fn clock(&self) -> Result<jiff::Timestamp> {
        let client = self.get().await?;
        Ok(client.query_one(CLOCK, &[]).await.map_err(classify)?.get(0))
    }
}

const HISTORY_EXISTS: &str = "select to_regclass('refinery_schema_history') is not null";

fn session(got: Result<Object, PoolError>) -> Result<Session> {
    let got = got.map_err(|error| unavailable(cause(error)));
    got.map(Session::new)
}

fn cause(error: PoolError) -> anyhow::Error {
    match error {
        // The pool's own text only repeats the cause.
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
            connect_error(error)
        }
        PoolError::Timeout(_) => anyhow!("no connection within database.connect_timeout_s"),
        other => other.into(),
    }
}

/// Whether the server knows no such login: 28P01, or 28000 for a role that does not
/// exist any more.
fn is_refused(error: &PoolError) -> bool {
    let PoolError::Backend(error) = error else {
        return false;
    };
    matches!(
        error.code(),
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    )
}

fn unavailable(source: anyhow::Error) -> Error {
    Error::Unavailable {
        what: "the control-plane database",
        source,
    }
}

/// `error` as what a request answers with: a broken constraint is the client's,
/// by name; a lost connection may be back later; all else is ours.
pub(crate) fn classify(error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        return unavailable(error.into());
    };
    let answer = SqlError::from(db);
    match db.constraint() {
        Some("projects_name_unique") => {
            Error::Conflict("name: a project of that name exists already".into())
        }
        // Ids are made once, but for a request that is sent again under its
        // idempotency key.
        Some("endpoints_pkey" | "meters_pkey") => {
            Error::Conflict("what this request made before has been deleted since".into())
        }
        Some("endpoints_uid_unique") => {
            Error::Conflict("uid: an endpoint of that uid exists already".into())
        }
        Some("meters_name_unique") => {
            Error::Conflict("name: a meter of that name exists already".into())
        }
        Some(
            "api_keys_project_id_fkey"
            | "endpoints_project_id_fkey"
            | "event_types_project_id_fkey"
            | "meters_project_id_fkey",
        ) => Error::NotFound("project".into()),
        // A text with a NUL that no rule has refused: PostgreSQL has no place for it.
        _ if matches!(
            *db.code(),
            SqlState::CHARACTER_NOT_IN_REPERTOIRE | SqlState::UNTRANSLATABLE_CHARACTER
        ) =>
        {
            Error::Invalid(Invalid::body(
                "expected no NUL in a text that is looked for or kept",
            ))
        }
        // 08: connection; 53: resources; 57: operator, shutdown and timeouts.
        _ if ["08", "53", "57"]
            .iter()
            .any(|class| db.code().code().starts_with(class)) =>
        {
            unavailable(answer.into())
        }
        _ => Error::internal(answer),
    }
}
