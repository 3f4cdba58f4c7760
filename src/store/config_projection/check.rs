//! The check that the configuration projection is complete, for `doctor`.
//!
//! What is in the outbox is counted; of what is not, the latest is looked up in
//! DynamoDB.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::error::{Error, Result};
use crate::store::dynamo::{Dynamo, ItemExt};
use crate::store::keys;
use crate::store::postgres::{Postgres, classify};

/// How many endpoints, keys, event types and meters are looked up, of each.
const SAMPLE_MAX: i64 = 50;

const BACKLOG: &str = "select count(*), min(created_at) from outbox";

/// The changes that are not projected yet.
#[derive(Debug, Clone, Copy)]
pub struct OutboxBacklog {
    /// How many they are.
    pub changes: i64,
    /// When the first of them was made; none if there are none.
    pub oldest_at: Option<Timestamp>,
}

/// Counts the changes that are not projected yet.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn outbox_backlog(postgres: &Postgres) -> Result<OutboxBacklog> {
    let client = postgres.get().await?;
    let row = client.query_one(BACKLOG, &[]).await.map_err(classify)?;
    Ok(OutboxBacklog {
        changes: row.get(0),
        oldest_at: row.get(1),
    })
}

const ENDPOINTS: &str = "\
    select id, project_id, version from endpoints e \
    where state <> 'deleted' and not exists \
        (select from outbox o where o.kind = 'endpoint' and o.subject_id = e.id) \
    order by updated_at desc limit $1";

const KEYS: &str = "\
    select id, hash, version from api_keys k \
    where revoked_at is null and not exists \
        (select from outbox o where o.kind = 'api_key' and o.subject_id = k.id) \
    order by created_at desc limit $1";

const METERS: &str = "\
    select id, project_id, version from meters m \
    where deleted_at is null and not exists \
        (select from outbox o where o.kind = 'meter' and o.subject_id = m.id) \
    order by updated_at desc limit $1";

const EVENT_TYPES: &str = "\
    select project_id || '/' || name as id, project_id, name, version from event_types t \
    where deleted_at is null and not exists \
        (select from outbox o \
         where o.kind = 'event_type' and o.subject_id = t.project_id || '/' || t.name) \
    order by updated_at desc limit $1";

/// The ids of those among the latest endpoints, keys, event types and meters that the
/// event store lacks or has an older version of. One read for each that is looked up.
///
/// # Errors
/// [`Error::Unavailable`] when either store does not answer.
pub async fn missing(postgres: &Postgres, dynamo: &Dynamo) -> Result<Vec<String>> {
    let client = postgres.get().await?;
    let endpoints = client.query(ENDPOINTS, &[&SAMPLE_MAX]).await;
    let keys = client.query(KEYS, &[&SAMPLE_MAX]).await;
    let types = client.query(EVENT_TYPES, &[&SAMPLE_MAX]).await;
    let meters = client.query(METERS, &[&SAMPLE_MAX]).await;
    // The embedded pool has no other connection.
    drop(client);
    let mut found = Vec::new();
    for row in endpoints.map_err(classify)? {
        let project = row.get::<_, &str>("project_id").parse();
        let id: &str = row.get("id");
        let pk = keys::project(&project.map_err(Error::internal)?);
        let sk = keys::endpoint(&id.parse().map_err(Error::internal)?);
        check(dynamo, (pk, sk), &row, &mut found).await?;
    }
    for row in keys.map_err(classify)? {
        let hash = <[u8; 32]>::try_from(row.get::<_, &[u8]>("hash")).map_err(Error::internal)?;
        let key = (keys::key(&hash), keys::KEY.to_owned());
        check(dynamo, key, &row, &mut found).await?;
    }
    for row in meters.map_err(classify)? {
        let project = row.get::<_, &str>("project_id").parse();
        let id: &str = row.get("id");
        let pk = keys::project(&project.map_err(Error::internal)?);
        let sk = keys::meter(&id.parse().map_err(Error::internal)?);
        check(dynamo, (pk, sk), &row, &mut found).await?;
    }
    for row in types.map_err(classify)? {
        let project = row.get::<_, &str>("project_id").parse();
        let pk = keys::project(&project.map_err(Error::internal)?);
        let sk = keys::event_type(row.get("name"));
        check(dynamo, (pk, sk), &row, &mut found).await?;
    }
    Ok(found)
}

async fn check(
    dynamo: &Dynamo,
    (pk, sk): (String, String),
    row: &Row,
    missing: &mut Vec<String>,
) -> Result<()> {
    let item = dynamo.get(pk, sk).await?;
    let version = item.as_ref().and_then(|item| item.num_opt("version"));
    if version.is_none_or(|version| version < row.get::<_, i64>("version")) {
        missing.push(row.get("id"));
    }
    Ok(())
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[BACKLOG, ENDPOINTS, KEYS, EVENT_TYPES, METERS];
