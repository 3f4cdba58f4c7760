//! `millrace keys create`: another API key, whether or not a Millrace runs.
//!
//! The stores of a data directory are one process's at a time. If one has them open
//! it is asked over its API, with the admin key; else they are opened here. Stores of
//! other machines are written to directly.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::{Method, StatusCode};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::data_dir::{self, DataDirStatus};
use super::first_key::create_default;
use super::running::{self, Answer};
use super::start::{self, ADMIN_KEY_FILE, RunningApp};
use crate::app;
use crate::config::Config;
use crate::error::Error;
use crate::http::projects::{
    IssuedKey, KeySecret, KeySpec, check_name, issue_key, publish_key_created,
};
use crate::model::api_key::{self, Scope};
use crate::model::audit::{Actor, AuditContext};
use crate::model::event;
use crate::model::id::{KeyId, ProjectId};
use crate::model::time::Time;
use crate::store::config_projection::ConfigProjection;
use crate::store::postgres::Postgres;
use crate::store::projects;

/// Longest that another process may hold the data directory and not be asked.
const BUSY_MAX: Duration = Duration::from_secs(30);
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// How long one that runs may take to answer: it may be about to start.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Projects read at a time.
const PAGE: i64 = 100;
/// Projects named of many.
const NAMED_MAX: usize = 20;

/// The key that is asked for.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    /// What people call it.
    pub name: String,
    /// The name or id of its project; the only one there is, if none.
    pub project: Option<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The one tenant it is for; the whole project if none.
    pub tenant: Option<String>,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

/// A key that was made.
#[derive(Debug)]
pub struct MadeKey {
    /// By which it is revoked.
    pub id: String,
    /// The id of its project.
    pub project: String,
    /// The key itself, which is told this once.
    pub text: SecretString,
}

impl From<IssuedKey> for MadeKey {
    fn from(issued: IssuedKey) -> Self {
        Self {
            id: issued.row.id.to_string(),
            project: issued.row.project.to_string(),
            text: issued.text.into(),
        }
    }
}

/// A project, as whoever knows it tells of it.
struct Known {
    id: ProjectId,
    name: String,
}

/// Makes an API key and gives its text. Where there is no project yet, the one that a
/// first start makes is made.
///
/// # Errors
/// There is no such project, or several and none is named; a store is out of reach;
/// or another process has the data directory open and cannot be asked.
pub async fn create(config: Config, request: KeyRequest) -> anyhow::Result<MadeKey> {
    if let Err(Error::Invalid(invalid)) = check_name(request.name.clone()) {
        bail!("--name: {}", invalid.detail);
    }
    let tenant = request.tenant.as_deref();
    if let Err(invalid) = tenant.map_or(Ok(()), event::check_tenant) {
        bail!("--tenant: {}", invalid.detail);
    }
    if request.expires_at.is_some_and(|at| at <= app::now()) {
        bail!("--expires-at: expected a time in the future");
    }
    if !config.uses_embedded_postgres() {
        return in_remote_stores(&config, &request).await;
    }
    let begun = Instant::now();
    loop {
        let failed = match try_create(&config, &request).await? {
            Attempt::Made(key) => return Ok(key),
            Attempt::Busy(why) => why,
        };
        if begun.elapsed() > BUSY_MAX {
            return Err(failed);
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

enum Attempt {
    Made(MadeKey),
    /// Another process has the directory and does not answer yet, for this reason.
    Busy(anyhow::Error),
}

async fn try_create(config: &Config, request: &KeyRequest) -> anyhow::Result<Attempt> {
    let path = &config.data_dir;
    let DataDirStatus::InUse(pid) = data_dir::look(path)? else {
        return match start::assemble(config.clone()).await {
            Ok(started) => in_own_stores(started, request).await.map(Attempt::Made),
            // Somebody was quicker. No later failure is one to try again after: the key
            // may be made.
            Err(error) if matches!(data_dir::look(path)?, DataDirStatus::InUse(_)) => {
                Ok(Attempt::Busy(error))
            }
            Err(error) => Err(error),
        };
    };
    let that = format!(
        "data_dir: {} is in use by another Millrace (pid {pid})",
        path.display()
    );
    let Some(address) = data_dir::address(path) else {
        let why = anyhow::anyhow!("{that}, which does not serve; try again when it has ended");
        return Ok(Attempt::Busy(why));
    };
    let running = Running { address, that };
    match running.projects(&admin_keys(config)?).await {
        Ok((admin_key, known)) => running
            .make(&admin_key, &known, request)
            .await
            .map(Attempt::Made),
        Err(Refusal::Unreachable(error)) => Ok(Attempt::Busy(error.context(running.that))),
        Err(Refusal::Refused(error)) => Err(error),
    }
}

/// What may be the admin key of a process that has this configuration, or had another.
pub(super) fn admin_keys(config: &Config) -> anyhow::Result<Vec<SecretString>> {
    let stored = data_dir::read_secret(&config.data_dir.join(ADMIN_KEY_FILE));
    if config.admin_key.expose_secret().is_empty() {
        return Ok(stored?.into_iter().collect());
    }
    // One that cannot be read may not be needed.
    let stored = stored.unwrap_or_default();
    Ok([Some(config.admin_key.clone()), stored]
        .into_iter()
        .flatten()
        .collect())
}

/// The process that has the data directory.
struct Running {
    address: SocketAddr,
    /// It in words.
    that: String,
}

/// Why a process that runs gives no projects.
enum Refusal {
    /// It does not answer: it starts, or ends.
    Unreachable(anyhow::Error),
    /// It answers, and will not do otherwise.
    Refused(anyhow::Error),
}

impl Running {
    /// All projects, with that of `admin_keys` which it takes.
    async fn projects(
        &self,
        admin_keys: &[SecretString],
    ) -> Result<(SecretString, Vec<Known>), Refusal> {
        for admin_key in admin_keys {
            match self.list(admin_key).await? {
                Some(known) => return Ok((admin_key.clone(), known)),
                None => continue,
            }
        }
        let that = &self.that;
        Err(Refusal::Refused(anyhow::anyhow!(
            "{that}, with another admin key than this configuration's; set MILLRACE_ADMIN_KEY \
             as for that one"
        )))
    }

    /// All projects; none if the admin key is not its.
    async fn list(&self, admin_key: &SecretString) -> Result<Option<Vec<Known>>, Refusal> {
        let mut known = Vec::new();
        let mut path = format!("/v1/projects?limit={PAGE}");
        loop {
            let answered = self.ask(Method::GET, &path, admin_key, &Value::Null).await;
            let answer = answered.map_err(Refusal::Unreachable)?;
            if answer.status == StatusCode::UNAUTHORIZED {
                return Ok(None);
            }
            if answer.status != StatusCode::OK {
                return Err(Refusal::Refused(self.refusal(&answer)));
            }
            for project in answer.body["data"].as_array().into_iter().flatten() {
                let text = |name: &str| project[name].as_str().unwrap_or_default();
                let read = text("id").parse().context("the id of a project");
                known.push(Known {
                    id: read.map_err(Refusal::Refused)?,
                    name: text("name").to_owned(),
                });
            }
            let Some(cursor) = answer.body["next_cursor"].as_str() else {
                return Ok(Some(known));
            };
            path = format!("/v1/projects?limit={PAGE}&cursor={cursor}");
        }
    }

    async fn make(
        &self,
        admin_key: &SecretString,
        known: &[Known],
        request: &KeyRequest,
    ) -> anyhow::Result<MadeKey> {
        let project: ProjectId = match choose(known, request.project.as_deref())? {
            Some(project) => project.id.clone(),
            None => {
                let body = json!({ "name": super::first_key::DEFAULT_PROJECT });
                let made = self.post("/v1/projects", admin_key, &body).await?;
                made["id"].as_str().unwrap_or_default().parse()?
            }
        };
        let mut body = json!({ "name": request.name, "scopes": request.scopes });
        // Absent where it is not asked for: one that runs may be of a version without.
        if let Some(tenant) = &request.tenant {
            body["tenant"] = tenant.as_str().into();
        }
        if let Some(at) = request.expires_at {
            body["expires_at"] = json!(Time(at));
        }
        let path = format!("/v1/projects/{project}/keys");
        let made = self.post(&path, admin_key, &body).await?;
        let key = made["key"].as_str().context("its answer holds no key")?;
        Ok(MadeKey {
            id: made["id"].as_str().unwrap_or_default().to_owned(),
            project: project.to_string(),
            text: key.into(),
        })
    }

    async fn post(
        &self,
        path: &str,
        admin_key: &SecretString,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let answer = self.ask(Method::POST, path, admin_key, body).await?;
        if answer.status != StatusCode::CREATED {
            return Err(self.refusal(&answer));
        }
        Ok(answer.body)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        admin_key: &SecretString,
        body: &Value,
    ) -> anyhow::Result<Answer> {
        let key = Some(admin_key.expose_secret());
        running::ask(self.address, method, path, key, body, ANSWER_TIMEOUT)
            .await
            .with_context(|| format!("it does not answer at {}", self.address))
    }

    fn refusal(&self, answer: &Answer) -> anyhow::Error {
        let (that, status) = (&self.that, answer.status.as_u16());
        // The API has a problem for whatever it does not find.
        if answer.status == StatusCode::NOT_FOUND && answer.body.is_null() {
            return anyhow::anyhow!("{that}, which does not serve the API; see its `handlers`");
        }
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        anyhow::anyhow!("{that}, which answers {status}: {detail}")
    }
}

/// On the stores of the data directory, which nobody else has open.
async fn in_own_stores(started: RunningApp, request: &KeyRequest) -> anyhow::Result<MadeKey> {
    let app = started.app.clone();
    let made = async {
        start::migrate(&app.postgres, &app.dynamo).await?;
        let made = issue(&app.postgres, &app.projection, request).await?;
        publish_key_created(&app, &made.row).await;
        anyhow::Ok(made.into())
    };
    let made = made.await;
    drop(app);
    started.stop().await?;
    made
}

async fn in_remote_stores(config: &Config, request: &KeyRequest) -> anyhow::Result<MadeKey> {
    let (dynamo, postgres) = start::remote_stores(config).await?;
    let pending = postgres.pending_migrations().await.context(
        "database.url: the control-plane database does not answer; check MILLRACE_DATABASE__URL \
         and that it is running",
    )?;
    if !pending.is_empty() {
        bail!("database.url: the control-plane database is not up to date; run `millrace migrate`");
    }
    let postgres = postgres.announcing_in(dynamo.clone());
    let projection = ConfigProjection::writer(dynamo);
    let made = issue(&postgres, &projection, request).await?;
    Ok(made.into())
}

/// Makes the key in the stores at hand.
async fn issue(
    postgres: &Postgres,
    projection: &ConfigProjection,
    request: &KeyRequest,
) -> anyhow::Result<IssuedKey> {
    let known = all_projects(postgres).await?;
    let project = match choose(&known, request.project.as_deref())? {
        Some(project) => project.id.clone(),
        None => create_default(postgres, random()?).await?.id,
    };
    let by = AuditContext {
        project,
        actor: Actor::Admin,
        at: app::now(),
    };
    let spec = KeySpec {
        name: request.name.clone(),
        scopes: request.scopes.clone(),
        rate_limit: None,
        tenant: request.tenant.clone(),
        expires_at: request.expires_at,
    };
    let secret = KeySecret {
        id: KeyId::new(by.at.as_millisecond(), random()?),
        text: api_key::format_key(random()?),
    };
    Ok(issue_key(postgres, projection, &by, spec, secret).await?)
}

async fn all_projects(postgres: &Postgres) -> anyhow::Result<Vec<Known>> {
    let mut known: Vec<Known> = Vec::new();
    loop {
        let after = known.last().map_or("", |last| last.id.as_str()).to_owned();
        let page = projects::list(postgres, &after, PAGE).await?;
        if page.is_empty() {
            return Ok(known);
        }
        known.extend(page.into_iter().map(|row| Known {
            id: row.id,
            name: row.name,
        }));
    }
}

/// The project called `wanted`, or the only one; none if there is none at all.
fn choose<'a>(known: &'a [Known], wanted: Option<&str>) -> anyhow::Result<Option<&'a Known>> {
    match (known, wanted) {
        ([], None) => Ok(None),
        ([only], None) => Ok(Some(only)),
        (several, None) => bail!(
            "--project: expected one of the projects there are: {}",
            listed(several)
        ),
        (known, Some(wanted)) => {
            let is_it = |project: &&Known| project.id.as_str() == wanted || project.name == wanted;
            match known.iter().find(is_it) {
                Some(found) => Ok(Some(found)),
                None if known.is_empty() => {
                    bail!("--project: there is no project {wanted:?}, and no other yet")
                }
                None => bail!(
                    "--project: there is no project {wanted:?}; there are {}",
                    listed(known)
                ),
            }
        }
    }
}

fn listed(projects: &[Known]) -> String {
    let named = projects.iter().take(NAMED_MAX);
    let mut named: Vec<_> = named
        .map(|project| format!("{} ({})", project.name, project.id))
        .collect();
    if projects.len() > NAMED_MAX {
        named.push("…".to_owned());
    }
    named.join(", ")
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| anyhow::anyhow!("the operating system gives no random bytes"))?;
    Ok(bytes)
}
