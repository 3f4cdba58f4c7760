//! An endpoint by its uid: looked up, and made or replaced under it.

use jiff::Timestamp;
use serde_json::json;
use tokio_postgres::types::ToSql;

use super::quota::lock_project;
use super::{Endpoint, add_rotated, insert, lock, write};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::audit::AuditContext;
use crate::model::endpoint_ref::EndpointRef;
use crate::model::id::EndpointId;
use crate::model::time::Time;
use crate::store::audit_log::NewAuditEntry;
use crate::store::change::{Audit, Change, Committed};
use crate::store::postgres::{Postgres, classify};

const FIND: &str = "\
    select id from endpoints \
    where project_id = $1 and uid = $2 and state <> 'deleted' \
        and ($3::text is null or tenant = $3)";

/// The id of the endpoint within `access` that is named so. One query for a uid; an id
/// is given back as it is, whether there is such an endpoint or not.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn find(postgres: &Postgres, access: &Access, named: &EndpointRef) -> Result<EndpointId> {
    let uid = match named {
        EndpointRef::Id(id) => return Ok(id.clone()),
        EndpointRef::Uid(uid) => uid,
    };
    let client = postgres.get().await?;
    let project = access.project().as_str();
    let row = client
        .query_opt(FIND, &[&project, &uid.as_str(), &access.tenant()])
        .await
        .map_err(classify)?;
    // Without its uid, which may be anything.
    let row = row.ok_or_else(|| Error::NotFound("endpoint".to_owned()))?;
    row.get::<_, &str>("id").parse().map_err(Error::internal)
}

/// An endpoint as a replacement finds it.
pub struct Current {
    /// Its row.
    pub endpoint: Endpoint,
    /// Its current secret, sealed.
    pub secret_sealed: Vec<u8>,
}

/// What an endpoint is to be.
pub struct Replacement {
    /// Its row.
    pub endpoint: Endpoint,
    /// Its secret, sealed: of a new endpoint, or in place of the current one.
    pub secret_sealed: Option<Vec<u8>>,
}

/// What a replacement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// There was no such endpoint.
    Created,
    /// There was one.
    Updated,
}

const CURRENT_SECRET: &str = "\
    select sealed from endpoint_secrets where endpoint_id = $1 order by number desc limit 1";

/// Makes the endpoint that is named so what `replace` says, one writer of the project
/// at a time; a secret that is replaced signs until `overlap_ends`. The change still
/// has to be projected.
///
/// # Errors
/// [`Error::NotFound`] when an id names nothing; [`Error::Conflict`] when the uid is
/// taken, too many secrets sign, or one is to be made and the project has
/// `per_project_max`; whatever `replace` refuses with;
/// [`Error::Unavailable`] when the database does not answer.
pub async fn put(
    postgres: &Postgres,
    by: &AuditContext,
    named: &EndpointRef,
    overlap_ends: Timestamp,
    per_project_max: u32,
    replace: impl FnOnce(Option<Current>) -> Result<Replacement>,
) -> Result<(Replaced, Committed<Endpoint>)> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    // Two at once would both find that there is none.
    lock_project(&tx, &by.project).await?;
    let id = match named {
        EndpointRef::Id(id) => Some(id.clone()),
        EndpointRef::Uid(uid) => {
            let access = by.access();
            let project = access.project().as_str();
            // Another's is not found, and its uid is taken like any other.
            let values: &[&(dyn ToSql + Sync)] = &[&project, &uid.as_str(), &access.tenant()];
            let row = tx.query_opt(FIND, values).await?;
            let id = row.map(|row| row.get::<_, &str>("id").parse());
            id.transpose().map_err(Error::internal)?
        }
    };
    let Some(id) = id else {
        let new = replace(None)?;
        let secret = new.secret_sealed.as_deref();
        let secret = secret.ok_or_else(|| Error::internal(anyhow::anyhow!("no secret")))?;
        let created = insert(tx, by, new.endpoint, secret, per_project_max).await?;
        return Ok((Replaced::Created, created));
    };
    let before = lock(&tx, by, &id).await?;
    let secret = tx.query_one(CURRENT_SECRET, &[&id.as_str()]).await?;
    let new = replace(Some(Current {
        endpoint: before.clone(),
        secret_sealed: secret.get("sealed"),
    }))?;
    if let Some(sealed) = &new.secret_sealed {
        add_rotated(&tx, by, &id, sealed, overlap_ends).await?;
        tx.record(Audit::Entry(NewAuditEntry {
            by,
            action: "endpoint.rotate_secret",
            subject: id.as_str(),
            before: None,
            after: Some(json!({ "former_signs_until": Time(overlap_ends) })),
        }))
        .await?;
    }
    let written = write(tx, by, &before, new.endpoint).await?;
    Ok((Replaced::Updated, written))
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[FIND, CURRENT_SECRET];
