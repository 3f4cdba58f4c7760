//! The first API key: made with the first project, and kept in a file until it has
//! been shown.
//!
//! Its text is on disk before the key is, so that no crash between the two, nor any
//! before it is shown, leaves a key that nobody has. It never goes to a log: where a
//! person does not read the output, only the file's path does.

use std::fs;
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::data_dir;
use crate::app::{self, App};
use crate::config::Config;
use crate::http::projects::{KeySecret, KeySpec, issue_key};
use crate::model::api_key::{self, Scope};
use crate::model::audit::{Actor, AuditContext};
use crate::model::id::{KeyId, ProjectId};
use crate::store::api_keys;
use crate::store::postgres::Postgres;
use crate::store::projects::{self, Project};

/// The name of the project that an installation begins with.
pub(super) const DEFAULT_PROJECT: &str = "default";
/// The key of which a start has said that it is there.
const FILE: &str = "first-api-key";
/// The key before anybody was told of it.
const UNTOLD_FILE: &str = "first-api-key.new";

/// The project a new installation begins with, and the text of its key.
#[derive(Debug)]
pub struct FirstKey {
    /// The project that the key is for.
    pub project: ProjectId,
    /// The key's text: shown this once.
    pub key: String,
}

/// Creates the project `default`, if there is no project yet, and a key for it, if
/// it never had one: a start may have been cut short between the two. Where its text
/// could go to a log alone, no key is made.
///
/// # Errors
/// When a store is out of reach, or the data directory cannot be written.
pub async fn first_project(app: &App) -> anyhow::Result<Option<FirstKey>> {
    let project = match projects::list(&app.postgres, "", 1).await?.pop() {
        None => create_default(&app.postgres, app.random()).await?,
        Some(first) => first,
    };
    let has_place = app.config.needs_data_dir() || stdout().is_terminal();
    if project.name != DEFAULT_PROJECT
        || !has_place
        || oldest_key(&app.postgres, &project.id).await?.is_some()
    {
        return Ok(None);
    }
    let by = AuditContext {
        project: project.id.clone(),
        actor: Actor::Millrace,
        at: app::now(),
    };
    let spec = KeySpec {
        name: "first key".into(),
        scopes: Scope::ALL.into(),
        rate_limit: None,
        tenant: None,
        expires_at: None,
    };
    let secret = KeySecret {
        id: KeyId::new(by.at.as_millisecond(), app.random()),
        text: text(app)?,
    };
    let key = issue_key(&app.postgres, &app.projection, &by, spec, secret).await?;
    Ok(Some(FirstKey {
        project: project.id,
        key: key.text,
    }))
}

/// The text of the key to be, on disk if there is one.
fn text(app: &App) -> anyhow::Result<String> {
    let made = || api_key::format_key(app.random());
    if !app.config.needs_data_dir() {
        return Ok(made());
    }
    let path = app.config.data_dir.join(UNTOLD_FILE);
    if let Some(text) = read_untold(&path) {
        return Ok(text);
    }
    let text = made();
    data_dir::write_private(&path, &text)?;
    Ok(text)
}

/// The key in the file `path`. What holds none, empty or cut short as it may be, is
/// removed: no key was made of it.
fn read_untold(path: &Path) -> Option<String> {
    let length = api_key::format_key([0; 32]).len();
    let stored = data_dir::read_secret(path).unwrap_or_default();
    let stored = stored.filter(|text| text.expose_secret().len() == length);
    if stored.is_none() {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
    }
    Some(stored?.expose_secret().to_owned())
}

/// The first key, if a start before this one has made it and told nobody.
///
/// # Errors
/// When a store is out of reach.
pub(super) async fn untold(app: &App) -> anyhow::Result<Option<FirstKey>> {
    let path = app.config.data_dir.join(UNTOLD_FILE);
    if !app.config.needs_data_dir() {
        return Ok(None);
    }
    let Some(key) = read_untold(&path) else {
        return Ok(None);
    };
    let hash = api_key::hash(&key);
    let first = projects::list(&app.postgres, "", 1).await?.pop();
    let first = first.filter(|project| project.name == DEFAULT_PROJECT);
    if let Some(project) = first
        && let Some(oldest) = oldest_key(&app.postgres, &project.id).await?
        && oldest.hash == hash
        && oldest.revoked_at.is_none()
    {
        return Ok(Some(FirstKey {
            project: project.id,
            key,
        }));
    }
    // Of other stores, or revoked: of no use to anybody.
    let _ = fs::remove_file(path);
    Ok(None)
}

async fn oldest_key(
    postgres: &Postgres,
    project: &ProjectId,
) -> anyhow::Result<Option<api_keys::ApiKey>> {
    Ok(api_keys::list(postgres, project, "", 1).await?.pop())
}

/// Creates the project that an installation begins with.
///
/// # Errors
/// When the database is out of reach, or has one of that name.
pub(super) async fn create_default(
    postgres: &Postgres,
    random: [u8; 10],
) -> anyhow::Result<Project> {
    let now = app::now();
    let project = Project {
        id: ProjectId::new(now.as_millisecond(), random),
        name: DEFAULT_PROJECT.into(),
        created_at: now,
    };
    projects::create(postgres, Actor::Millrace, &project).await?;
    Ok(project)
}

/// Puts the key where its owner is told to look for it, for this user alone.
///
/// # Errors
/// The data directory cannot be written.
pub(super) fn keep(config: &Config, first: &FirstKey) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(config.data_dir.join(FILE))?;
    data_dir::write_private(&path, &first.key)?;
    Ok(path)
}

/// Notes that its owner has been told: no later start does so again.
pub(super) fn note_told(config: &Config) {
    // Left there, it is told of once more.
    let _ = fs::remove_file(config.data_dir.join(UNTOLD_FILE));
}
