//! An endpoint made or replaced under the uid its owner gave it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::fields::{self, NewEndpoint};
use super::lifecycle::{self, EndpointBefore};
use super::{CreatedEndpoint, Endpoint, ROTATION_OVERLAP, credentials, make_secret, resume, shown};
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::http::auth::{Allowed, EndpointsWrite};
use crate::http::extract::{Json, Path};
use crate::http::problem::Problems;
use crate::model::endpoint_ref::{EndpointRef, EndpointUid};
use crate::model::id::EndpointId;
use crate::model::seal::KeyRing;
use crate::model::signature::Secret;
use crate::store::endpoints::named::{self, Current, Replaced, Replacement};
use crate::store::endpoints::{self, open_secret, seal_secret};
use crate::store::projector;

/// Make or replace an endpoint.
///
/// Under a uid of yours, with 201 if there was none and 200 if there was; sent again it
/// changes nothing more. Everything that is not given returns to its default, headers,
/// authentication and client certificate too, but for the state, the secret and the
/// uid, which stay. Another `secret` or `scheme` rotates:
/// what signed before does for 24 hours more. Under an `ep_…` id one is replaced, never
/// made.
#[utoipa::path(put, path = "/v1/endpoints/{id}", tag = "endpoints",
    operation_id = "replaceEndpoint",
    params(("id" = String, Path, description = "Its uid, or ep_…")),
    request_body = NewEndpoint,
    responses(
        (status = 200, body = Endpoint),
        (status = 201, body = CreatedEndpoint),
        Problems,
        (status = 409, description = "Five of its secrets sign already, or the project has as many endpoints as it may"),
    ),
    security(("api_key" = ["endpoints:write"])))]
pub async fn replace(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(name): Path<String>,
    body: Result<Json<NewEndpoint>>,
) -> Result<Response> {
    let by = caller.by(app::now());
    let named = named_by(&name)?;
    let mut new = match body {
        Ok(Json(new)) => new,
        // What is not there, or another project's, is told first.
        Err(refused) => {
            if let EndpointRef::Id(id) = &named {
                endpoints::get(&app.postgres, &caller.access, id).await?;
            }
            return Err(refused);
        }
    };
    check_uid(&named, new.uid.as_ref())?;
    let id = EndpointId::new(by.at.as_millisecond(), app.random());
    let mut before = EndpointBefore::replacing(&new);
    let sealing = credentials::sealing(&app, new.all_credentials()).await?;
    let key_ring = app.key_ring.get().await?;
    let mut made = None;
    let replace = |current: Option<Current>| {
        made = next_secret(&app, &key_ring, &new, current.as_ref())?;
        if let Some(Current { endpoint, .. }) = &current {
            before.remember(endpoint.state, shown(endpoint));
        }
        let mut row = current.map_or_else(|| fields::blank(&by, id), |current| current.endpoint);
        // None of a new one, which has no URL.
        let was = Some(row.url.clone()).filter(|url| !url.is_empty());
        new.apply(&mut row, &caller.access)?;
        if let EndpointRef::Uid(uid) = &named {
            row.uid = Some(uid.clone());
        }
        fields::finish(&app, &mut row, was.as_deref(), sealing)?;
        let seal = |secret: &Secret| seal_secret(&key_ring, app.random(), &row.id, secret);
        Ok(Replacement {
            secret_sealed: made.as_ref().map(seal),
            endpoint: row,
        })
    };
    let overlap_ends = by.at.saturating_add(ROTATION_OVERLAP);
    let overlap_ends = overlap_ends.map_err(Error::internal)?;
    let most = app.config.endpoints.per_project_max;
    let put = named::put(&app.postgres, &by, &named, overlap_ends, most, replace);
    let (replaced, written) = put.await?;
    let row = projector::apply(&app.postgres, &app.projection, written).await;
    match (replaced, made) {
        (Replaced::Created, Some(secret)) => {
            lifecycle::publish_created(&app, &row, shown(&row)).await;
            let created = CreatedEndpoint {
                endpoint: row.into(),
                secret: (&secret).into(),
            };
            Ok((StatusCode::CREATED, Json(created)).into_response())
        }
        (_, made) => {
            if row.enabled_at >= by.at {
                resume::resume(&app, &row.id, by.at).await;
            }
            if made.is_some() {
                before.has_new_secret();
            }
            lifecycle::publish_updated(&app, before, &row, shown(&row)).await;
            Ok(Json(Endpoint::from(row)).into_response())
        }
    }
}

/// The secret that an endpoint gets; none if the one it has stays.
fn next_secret(
    app: &App,
    key_ring: &KeyRing,
    new: &NewEndpoint,
    current: Option<&Current>,
) -> Result<Option<Secret>> {
    let given = new.secret.as_ref();
    let make = || make_secret(new.scheme, given, app.random());
    let Some(Current {
        endpoint,
        secret_sealed,
    }) = current
    else {
        return make().map(Some);
    };
    if given.is_none() && new.scheme.is_none() {
        return Ok(None);
    }
    let (next, current) = (make()?, open_secret(key_ring, &endpoint.id, secret_sealed)?);
    let stays = match given {
        Some(_) => next.is_same(&current),
        None => next.scheme() == current.scheme(),
    };
    Ok((!stays).then_some(next))
}

/// Whom the path names: what begins as an id and is none names nobody.
fn named_by(name: &str) -> Result<EndpointRef> {
    if name.starts_with(EndpointId::PREFIX) {
        let id = name.parse().map(EndpointRef::Id);
        return id.map_err(|_| Error::NotFound("endpoint".to_owned()));
    }
    name.parse()
        .map(EndpointRef::Uid)
        .map_err(|invalid| Error::invalid("uid", format!("{invalid}")))
}

/// Refuses a uid in the body that is another than that of the path.
fn check_uid(named: &EndpointRef, given: Option<&EndpointUid>) -> Result<()> {
    match (named, given) {
        (EndpointRef::Uid(uid), Some(given)) if uid != given => {
            let detail = "expected the uid of the path, or none; PATCH changes it";
            Err(Error::invalid("uid", detail))
        }
        _ => Ok(()),
    }
}
