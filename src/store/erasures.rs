//! Erasures in PostgreSQL: what was asked for, how far it is, and who is at it.
//!
//! A row is due until its erasure is done. Whoever claims it moves its due time, which
//! is also the token that its record is written under. The files below hold what is
//! deleted: [`config`] what people configured, [`counted`] usage, [`items`] the items
//! of DynamoDB.

pub mod config;
pub mod counted;
pub mod items;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit_log::NewAuditEntry;
use super::change::{Audit, Change, Committed};
use super::outbox::ChangeKind;
use super::postgres::{Postgres, classify};
use crate::error::{Error, Result};
use crate::model::audit::{Actor, AuditContext};
use crate::model::erasure::{Erasure, ErasureKind, ErasureProgress, NextStep};
use crate::model::id::{ErasureId, ProjectId};
use crate::model::recovery::Day;

/// Times an erasure is begun while another of the same ends.
const TRIES_MAX: u32 = 3;
/// Erasures of tenants and events of a project that may be under way.
const RUNNING_MAX: i64 = 100;

fn read(row: &Row) -> Result<Erasure> {
    let text = |name| row.get::<_, &str>(name);
    let count = |name| u64::try_from(row.get::<_, i64>(name)).map_err(Error::internal);
    Ok(Erasure {
        id: text("id").parse().map_err(Error::internal)?,
        project: text("project_id").parse().map_err(Error::internal)?,
        kind: text("kind").parse().map_err(Error::internal)?,
        subject: row.get("subject"),
        received: row.get("received_at"),
        state: text("state").parse().map_err(Error::internal)?,
        step: text("step").parse().map_err(Error::internal)?,
        position: row.get("position"),
        progress: ErasureProgress {
            events: count("events")?,
            deliveries: count("deliveries")?,
            readings: count("readings")?,
            endpoints: count("endpoints")?,
            recoveries: count("recoveries")?,
            archived_objects: count("archived_objects")?,
            usage_rows: count("usage_rows")?,
        },
        created: row.get("created_at"),
        updated: row.get("updated_at"),
        due: row.get("due_at"),
        finished: row.get("finished_at"),
    })
}

const ADD: &str = "\
    insert into erasures \
        (id, project_id, kind, subject, received_at, state, step, created_at, updated_at, due_at) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $8) \
    on conflict (project_id, kind, md5(coalesce(subject, ''))) where state <> 'done' do nothing \
    returning *";

const RUNNING: &str = "\
    select * from erasures \
    where project_id = $1 and kind = $2 and coalesce(subject, '') = coalesce($3, '') \
        and md5(coalesce(subject, '')) = md5(coalesce($3, '')) and state <> 'done'";

/// The erasure as it was added; none if the same runs already.
async fn add(tx: &Change<'_>, new: &Erasure) -> Result<Option<Erasure>> {
    let values: &[&(dyn ToSql + Sync)] = &[
        &new.id.as_str(),
        &new.project.as_str(),
        &new.kind.as_str(),
        &new.subject,
        &new.received,
        &new.state.as_str(),
        &new.step.as_str(),
        &new.created,
    ];
    let row = tx.query_opt(ADD, values).await?;
    row.as_ref().map(read).transpose()
}

/// The erasure of the same that is not done yet, if there is one.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn running(
    postgres: &Postgres,
    project: &ProjectId,
    kind: ErasureKind,
    subject: Option<&str>,
) -> Result<Option<Erasure>> {
    let client = postgres.get().await?;
    let values: &[&(dyn ToSql + Sync)] = &[&project.as_str(), &kind.as_str(), &subject];
    let row = client.query_opt(RUNNING, values).await.map_err(classify)?;
    row.as_ref().map(read).transpose()
}

// A new due time takes it away from whoever is at it.
const RESTART: &str = "\
    update erasures set received_at = $3, created_at = $4, updated_at = $4, due_at = $4, \
        state = 'running', step = $2, position = null \
    where id = $1 and state <> 'done' returning *";

/// The erasure that runs, begun again for what came since; none if it is done meanwhile.
async fn restart(tx: &Change<'_>, running: &Erasure, new: &Erasure) -> Result<Option<Erasure>> {
    // The archive may have it under both days, and is then looked at whole.
    let day = |erasure: &Erasure| erasure.received.map(Day::of);
    let received = new.received.filter(|_| day(new) == day(running));
    let values: &[&(dyn ToSql + Sync)] = &[
        &running.id.as_str(),
        &new.step.as_str(),
        &received,
        &new.created,
    ];
    let row = tx.query_opt(RESTART, values).await?;
    row.as_ref().map(read).transpose()
}

const COUNT_RUNNING: &str = "\
    select count(*) from erasures \
    where project_id = $1 and state <> 'done' and kind in ('tenant', 'event')";

/// Refuses one more of a project that has many under way, so that nobody fills the table
/// with what is there for nobody.
async fn refuse_too_many(tx: &Change<'_>, project: &ProjectId) -> Result<()> {
    let row = tx.query_one(COUNT_RUNNING, &[&project.as_str()]).await?;
    if row.get::<_, i64>(0) < RUNNING_MAX {
        return Ok(());
    }
    let detail = format!("{RUNNING_MAX} erasures of the project are under way: wait for one");
    Err(Error::Conflict(detail.into()))
}

/// Begins the erasure of a tenant or an event. One of the same that is under way begins
/// again, for what came since; it is left as it is when it covers the event already.
///
/// # Errors
/// [`Error::Conflict`] when too many of the project are under way;
/// [`Error::Unavailable`] when the database does not answer.
pub async fn start(postgres: &Postgres, by: &AuditContext, new: &Erasure) -> Result<Erasure> {
    let mut client = Change::connect(postgres).await?;
    let (kind, subject) = (new.kind.as_str(), &new.subject);
    let values: &[&(dyn ToSql + Sync)] = &[&new.project.as_str(), &kind, subject];
    // The one that is in the way may be done before it is begun again.
    for _ in 0..TRIES_MAX {
        let tx = Change::begin(&mut client).await?;
        let begun = match tx.query_opt(RUNNING, values).await? {
            Some(row) => {
                let running = read(&row)?;
                if new.received.is_some() && new.received <= running.until() {
                    return Ok(running);
                }
                restart(&tx, &running, new).await?
            }
            None => {
                refuse_too_many(&tx, &new.project).await?;
                add(&tx, new).await?
            }
        };
        if let Some(begun) = begun {
            tx.commit_unprojected(started(by, &begun)).await?;
            return Ok(begun);
        }
    }
    let source = anyhow::anyhow!("erasures of the same came and went {TRIES_MAX} times");
    Err(Error::internal(source))
}

const CLOSE_PROJECT: &str = "\
    update projects set name = id, erased_at = $2 where id = $1 and erased_at is null returning id";

const REVOKE_KEYS: &str = "\
    update api_keys set revoked_at = $2, version = version + 1 \
    where project_id = $1 and revoked_at is null returning id";

/// Begins the erasure of a project: its name is free again, and its keys are revoked,
/// which still has to be projected.
///
/// # Errors
/// [`Error::NotFound`] when there is no such project, or its erasure has begun;
/// [`Error::Unavailable`] when the database does not answer.
pub async fn start_project(
    postgres: &Postgres,
    by: &AuditContext,
    new: &Erasure,
) -> Result<Committed<Erasure>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let project = by.project.as_str();
    let closed = tx.query_opt(CLOSE_PROJECT, &[&project, &by.at]).await?;
    closed.ok_or_else(|| Error::not_found("project", project))?;
    let added = add(&tx, new).await?;
    let added =
        added.ok_or_else(|| Error::internal(anyhow::anyhow!("{project} is erased twice")))?;
    let keys = tx.query(REVOKE_KEYS, &[&project, &by.at]).await?;
    let keys: Vec<String> = keys.iter().map(|row| row.get("id")).collect();
    let audit = started(by, new);
    tx.commit_many(audit, ChangeKind::ApiKey, &keys, added)
        .await
}

// Those there were when its erasure began: it may come back.
const REVOKE_TENANT_KEYS: &str = "\
    update api_keys set revoked_at = $2, version = version + 1 \
    where project_id = $1 and tenant = $3 and created_at <= $4 and revoked_at is null returning id";

/// Revokes the keys of the tenant, or those that the project got although its erasure
/// had begun.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn revoke_keys(
    postgres: &Postgres,
    by: &AuditContext,
    erasure: &Erasure,
) -> Result<Committed<usize>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let project = by.project.as_str();
    let keys = match erasure.tenant() {
        Some(tenant) => {
            let values: &[&(dyn ToSql + Sync)] = &[&project, &by.at, &tenant, &erasure.created];
            tx.query(REVOKE_TENANT_KEYS, values).await?
        }
        None => tx.query(REVOKE_KEYS, &[&project, &by.at]).await?,
    };
    let keys: Vec<String> = keys.iter().map(|row| row.get("id")).collect();
    tx.commit_many(Audit::Repeated, ChangeKind::ApiKey, &keys, keys.len())
        .await
}

/// The audit entry of a beginning. It names no tenant: the log outlives it.
fn started<'a>(by: &'a AuditContext, new: &'a Erasure) -> Audit<'a> {
    let action = match new.kind {
        ErasureKind::Project => "project.erase",
        ErasureKind::Tenant => "tenant.erase",
        ErasureKind::Event => "event.erase",
    };
    Audit::Entry(NewAuditEntry {
        by,
        action,
        subject: audit_subject(new),
        before: None,
        after: Some(json!({ "erasure": new.id.as_str() })),
    })
}

fn audit_subject(erasure: &Erasure) -> &str {
    match (erasure.kind, &erasure.subject) {
        (ErasureKind::Project, _) => erasure.project.as_str(),
        (ErasureKind::Event, Some(event)) => event,
        _ => erasure.id.as_str(),
    }
}

const GET: &str = "select * from erasures where id = $1 and project_id = $2";

/// The erasure `id` of `project`, whether that is still there or not.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn get(postgres: &Postgres, project: &ProjectId, id: &ErasureId) -> Result<Erasure> {
    let client = postgres.get().await?;
    let values: &[&(dyn ToSql + Sync)] = &[&id.as_str(), &project.as_str()];
    let row = client.query_opt(GET, values).await.map_err(classify)?;
    read(&row.ok_or_else(|| Error::not_found("erasure", id))?)
}

const LIST: &str = "\
    select * from erasures where project_id = $1 and ($2::text is null or id < $2) \
    order by id desc limit $3";

/// Up to `limit` erasures of a project, the newest first, those older than the one
/// called `before` only.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn list(
    postgres: &Postgres,
    project: &ProjectId,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<Erasure>> {
    let client = postgres.get().await?;
    let values: &[&(dyn ToSql + Sync)] = &[&project.as_str(), &before, &limit];
    let rows = client.query(LIST, values).await.map_err(classify)?;
    rows.iter().map(read).collect()
}

const ANY_UNFINISHED: &str = "select exists (select from erasures where state <> 'done')";

/// Whether there is an erasure that is not done.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn is_any_unfinished(postgres: &Postgres) -> Result<bool> {
    let client = postgres.get().await?;
    let row = client.query_one(ANY_UNFINISHED, &[]).await;
    Ok(row.map_err(classify)?.get(0))
}

const DUE: &str = "\
    select id from ( \
        select id, due_at, row_number() over (partition by project_id order by due_at) as turn \
        from erasures where state <> 'done' and due_at <= $1) due \
    order by turn, due_at limit $2";

/// Up to `limit` erasures that are due at `now`, each project's first before any's
/// second.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn due(postgres: &Postgres, now: Timestamp, limit: i64) -> Result<Vec<ErasureId>> {
    let client = postgres.get().await?;
    let rows = client.query(DUE, &[&now, &limit]).await.map_err(classify)?;
    let id = |row: &Row| row.get::<_, &str>(0).parse().map_err(Error::internal);
    rows.iter().map(id).collect()
}

const CLAIM: &str = "\
    update erasures set due_at = $3 \
    where id = $1 and due_at <= $2 and state <> 'done' returning *";

/// Claims an erasure that is due at `now`, until `lease_ends`; none if it is not, or
/// another has claimed it.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn claim(
    postgres: &Postgres,
    id: &ErasureId,
    now: Timestamp,
    lease_ends: Timestamp,
) -> Result<Option<Erasure>> {
    let client = postgres.get().await?;
    let values: &[&(dyn ToSql + Sync)] = &[&id.as_str(), &now, &lease_ends];
    let row = client.query_opt(CLAIM, values).await.map_err(classify)?;
    row.as_ref().map(read).transpose()
}

const RELEASE: &str = "update erasures set due_at = $3 where id = $1 and due_at = $2 returning id";

/// Gives an erasure back whose page failed: due again at `due`.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer; it is due when its lease is
/// over.
pub async fn release(postgres: &Postgres, claimed: &Erasure, due: Timestamp) -> Result<()> {
    let client = postgres.get().await?;
    let values: &[&(dyn ToSql + Sync)] = &[&claimed.id.as_str(), &claimed.due, &due];
    let released = client.query_opt(RELEASE, values).await;
    released.map(drop).map_err(classify)
}

const ADVANCE: &str = "\
    update erasures set state = $3::text, step = $4, position = $5, \
        updated_at = $6::timestamptz, due_at = $7, \
        events = events + $8, deliveries = deliveries + $9, readings = readings + $10, \
        endpoints = endpoints + $11, recoveries = recoveries + $12, \
        archived_objects = archived_objects + $13, usage_rows = usage_rows + $14, \
        finished_at = case when $3 = 'done' then $6 end, \
        subject = case when $3 = 'done' and kind = 'tenant' then null else subject end \
    where id = $1 and due_at = $2 returning *";

/// Records a page, for whoever claimed the erasure: what it deleted, what comes next
/// and when. False if another has claimed it meanwhile. What ends it forgets a tenant's
/// name, and has an audit entry.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn advance(
    postgres: &Postgres,
    claimed: &Erasure,
    deleted: &ErasureProgress,
    next: &NextStep,
    now: Timestamp,
    due: Timestamp,
) -> Result<bool> {
    let counts = [
        deleted.events,
        deleted.deliveries,
        deleted.readings,
        deleted.endpoints,
        deleted.recoveries,
        deleted.archived_objects,
        deleted.usage_rows,
    ];
    let counts = counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let (id, state, step) = (claimed.id.as_str(), next.state.as_str(), next.step.as_str());
    let mut values: Vec<&(dyn ToSql + Sync)> =
        vec![&id, &claimed.due, &state, &step, &next.position, &now, &due];
    values.extend(counts.iter().map(|count| count as &(dyn ToSql + Sync)));
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let Some(row) = tx.query_opt(ADVANCE, &values).await? else {
        return Ok(false);
    };
    let advanced = read(&row)?;
    let by = by_millrace(claimed, now);
    tx.commit_unprojected(finished(&by, claimed, &advanced))
        .await?;
    Ok(true)
}

/// Who deletes what was asked to be deleted.
pub fn by_millrace(erasure: &Erasure, now: Timestamp) -> AuditContext {
    AuditContext {
        project: erasure.project.clone(),
        actor: Actor::Millrace,
        at: now,
    }
}

fn finished<'a>(by: &'a AuditContext, claimed: &'a Erasure, advanced: &Erasure) -> Audit<'a> {
    if advanced.finished.is_none() {
        return Audit::Repeated;
    }
    Audit::Entry(NewAuditEntry {
        by,
        action: "erasure.finish",
        subject: audit_subject(claimed),
        before: None,
        after: Some(counts(advanced)),
    })
}

fn counts(erasure: &Erasure) -> Value {
    let progress = &erasure.progress;
    json!({
        "erasure": erasure.id.as_str(),
        "events": progress.events,
        "deliveries": progress.deliveries,
        "readings": progress.readings,
        "endpoints": progress.endpoints,
        "recoveries": progress.recoveries,
        "archived_objects": progress.archived_objects,
        "usage_rows": progress.usage_rows,
    })
}

/// Every statement of this file and those below it, for the test that prepares them.
pub const STATEMENTS: &[&[&str]] = &[
    &[
        ADD,
        RUNNING,
        RESTART,
        COUNT_RUNNING,
        CLOSE_PROJECT,
        REVOKE_KEYS,
        REVOKE_TENANT_KEYS,
        GET,
        LIST,
        ANY_UNFINISHED,
        DUE,
        CLAIM,
        RELEASE,
        ADVANCE,
    ],
    config::STATEMENTS,
    counted::STATEMENTS,
];
