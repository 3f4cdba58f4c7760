//! The endpoints API: where webhooks go, how they are called and signed, and test
//! events.

pub mod credentials;
pub mod fields;
mod lifecycle;
pub mod list;
pub mod replace;
mod resume;
pub mod stats;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::auth::{Allowed, EndpointsRead, EndpointsWrite};
use super::extract::{Json, Path};
use super::idempotency::Occasion;
use super::lookup;
use super::problem::Problems;
use super::record::{record_best_effort, record_secret_read};
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::endpoint::{BodyFormat, ContentType, EndpointState};
use crate::model::endpoint_ref::{EndpointRef, EndpointUid};
use crate::model::event;
use crate::model::filter::TEST_TYPE;
use crate::model::id::{DeliveryId, EndpointId, EventId, base32};
use crate::model::metadata::Metadata;
use crate::model::signature::{Scheme, Secret};
use crate::model::time::Time;
use crate::publish;
use crate::store::endpoints::{self, Endpoint as Row, open_secret, seal_secret};
use crate::store::projector;

use credentials::{CredentialsChange, RedactedAuth, RedactedCertificate, ShownCredentials};
use fields::{EndpointChanges, NewEndpoint};

/// How long a rotated secret goes on signing.
const ROTATION_OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// An endpoint.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// What you call it; null without one.
    #[schema(required)]
    pub uid: Option<EndpointUid>,
    /// Where webhooks go.
    #[schema(format = "uri")]
    pub url: String,
    /// A note for people.
    pub description: String,
    /// The event types it takes: exact, `prefix.*`, or `*` for all.
    pub event_types: Vec<String>,
    /// The one tenant whose events it takes; null for the whole project.
    #[schema(required)]
    pub tenant: Option<String>,
    /// Whether it takes events.
    #[schema(value_type = EndpointState)]
    pub state: EndpointState,
    /// Attempts a second, by all instances together; null without a limit.
    #[schema(required, minimum = 1, maximum = 1000)]
    pub rate_limit: Option<u32>,
    /// Attempts at once by each instance, if that is fewer than
    /// `delivery.endpoint_concurrency`; null for that.
    #[schema(required, minimum = 1, maximum = 1000)]
    pub max_concurrency: Option<u32>,
    /// What the body of a webhook is.
    pub body_format: BodyFormat,
    /// The `Content-Type` of a webhook; null with `data`, which has its own.
    #[schema(required)]
    pub content_type: Option<ContentType>,
    /// Its own headers by name; values are not shown.
    #[schema(value_type = BTreeMap<String, String>)]
    pub headers: BTreeMap<String, &'static str>,
    /// How its requests authenticate.
    #[schema(required)]
    pub auth: Option<RedactedAuth>,
    /// The TLS client certificate it is called with.
    #[schema(required)]
    pub client_certificate: Option<RedactedCertificate>,
    /// What you noted on it.
    #[schema(value_type = BTreeMap<String, String>)]
    pub metadata: Metadata,
    /// When it was created.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

impl From<Row> for Endpoint {
    fn from(row: Row) -> Self {
        let ShownCredentials {
            headers,
            auth,
            client_certificate,
        } = row.credentials_redacted.into();
        Self {
            rate_limit: row.delivery_settings.rate_limit,
            max_concurrency: row.delivery_settings.max_concurrency,
            body_format: row.delivery_settings.body_format,
            content_type: match row.delivery_settings.body_format {
                BodyFormat::Cloudevents => Some(row.delivery_settings.content_type),
                BodyFormat::Data => None,
            },
            headers,
            auth,
            client_certificate,
            metadata: row.metadata,
            id: row.id,
            uid: row.uid,
            url: row.url,
            description: row.description,
            event_types: row.event_types,
            tenant: row.tenant,
            state: row.state,
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        }
    }
}

/// An endpoint as operational events show it.
fn shown(row: &Row) -> Value {
    serde_json::to_value(Endpoint::from(row.clone())).unwrap_or_default()
}

/// Tells that an endpoint was disabled beside what was asked of another thing.
pub(super) async fn publish_disabled(app: &App, before: &Row, row: &Row) {
    let mut was = lifecycle::EndpointBefore::changing(&CredentialsChange::default());
    was.remember(before.state, shown(before));
    lifecycle::publish_updated(app, was, row, shown(row)).await;
}

/// What a customer verifies webhooks with.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SigningSecret {
    /// `whsec_…` for `v1`, which every Standard Webhooks library takes; the public
    /// `whpk_…` for `v1a`, which the usual ones do not: docs/receiving.md has code
    /// that does.
    pub secret: String,
    /// How webhooks are signed.
    pub scheme: Scheme,
}

impl From<&Secret> for SigningSecret {
    fn from(secret: &Secret) -> Self {
        let text = secret.verifier_text();
        Self {
            secret: text.expose_secret().to_owned(),
            scheme: secret.scheme(),
        }
    }
}

/// A new endpoint and what verifies its webhooks.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EndpointCreated)]
pub struct CreatedEndpoint {
    #[serde(flatten)]
    endpoint: Endpoint,
    #[serde(flatten)]
    secret: SigningSecret,
}

/// Create an endpoint.
#[utoipa::path(post, path = "/v1/endpoints", tag = "endpoints",
    operation_id = "createEndpoint",
    request_body = NewEndpoint,
    responses((status = 201, body = CreatedEndpoint), Problems,
        (status = 409, description = "The `uid` is taken, or the project has as many endpoints as it may")),
    security(("api_key" = ["endpoints:write"])))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    occasion: Occasion,
    Json(mut new): Json<NewEndpoint>,
) -> Result<(StatusCode, Json<CreatedEndpoint>)> {
    let by = caller.by(app::now());
    let id = EndpointId::new(occasion.at.as_millisecond(), occasion.derive("endpoint"));
    if occasion.is_repeated()
        && let Some(created) = created_before(&app, &caller.access, &id).await?
    {
        return Ok((StatusCode::CREATED, Json(created)));
    }
    let (scheme, secret) = (new.scheme, new.secret.clone());
    let mut row = fields::blank(&by, id);
    let sealing = credentials::sealing(&app, new.credentials()).await?;
    new.apply(&mut row, &caller.access)?;
    fields::finish(&app, &mut row, None, sealing)?;
    let secret = make_secret(scheme, secret.as_ref(), app.random())?;
    let key_ring = app.key_ring.get().await?;
    let sealed = seal_secret(&key_ring, app.random(), &row.id, &secret);
    let most = app.config.endpoints.per_project_max;
    let created = endpoints::create(&app.postgres, &by, row, &sealed, most).await?;
    let row = projector::apply(&app.postgres, &app.projection, created).await;
    lifecycle::publish_created(&app, &row, shown(&row)).await;
    let created = CreatedEndpoint {
        endpoint: row.into(),
        secret: (&secret).into(),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// What a request made before its answer was lost.
async fn created_before(
    app: &App,
    access: &Access,
    id: &EndpointId,
) -> Result<Option<CreatedEndpoint>> {
    let row = match endpoints::get(&app.postgres, access, id).await {
        Err(Error::NotFound(_)) => return Ok(None),
        row => row?,
    };
    let sealed = endpoints::current_secret(&app.postgres, access, id).await?;
    let key_ring = app.key_ring.get().await?;
    let secret = open_secret(&key_ring, id, &sealed)?;
    // Who made it may have got no further.
    lifecycle::publish_created(app, &row, shown(&row)).await;
    Ok(Some(CreatedEndpoint {
        endpoint: row.into(),
        secret: (&secret).into(),
    }))
}

/// The secret that is given, or the one of `scheme` that `seed` gives.
fn make_secret(
    scheme: Option<Scheme>,
    given: Option<&SecretString>,
    seed: [u8; 32],
) -> Result<Secret> {
    let Some(text) = given else {
        return Ok(Secret::generate(scheme.unwrap_or_default(), seed));
    };
    let secret = Secret::parse(text.expose_secret())?;
    match scheme {
        Some(scheme) if scheme != secret.scheme() => {
            let is = secret.scheme().as_str();
            let detail = format!("expected {is}, which the given secret is for, or none");
            Err(Error::invalid("scheme", detail))
        }
        _ => Ok(secret),
    }
}

/// Look at one endpoint.
#[utoipa::path(get, path = "/v1/endpoints/{id}", tag = "endpoints",
    operation_id = "getEndpoint",
    params(("id" = String, Path, description = "ep_…, or its uid")),
    responses((status = 200, body = Endpoint), Problems),
    security(("api_key" = ["endpoints:read"])))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsRead>,
    Path(named): Path<EndpointRef>,
) -> Result<Json<Endpoint>> {
    let id = lookup::stored_endpoint(&app, &caller.access, &named).await?;
    Ok(Json(
        endpoints::get(&app.postgres, &caller.access, &id)
            .await?
            .into(),
    ))
}

/// Change an endpoint.
#[utoipa::path(patch, path = "/v1/endpoints/{id}", tag = "endpoints",
    operation_id = "updateEndpoint",
    params(("id" = String, Path, description = "ep_…, or its uid")),
    request_body = EndpointChanges,
    responses((status = 200, body = Endpoint), Problems,
        (status = 409, description = "The `uid` is taken")),
    security(("api_key" = ["endpoints:write"])))]
pub async fn update(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(named): Path<EndpointRef>,
    Json(mut changes): Json<EndpointChanges>,
) -> Result<Json<Endpoint>> {
    let id = lookup::stored_endpoint(&app, &caller.access, &named).await?;
    let by = caller.by(app::now());
    let change = changes.credentials();
    let mut before = lifecycle::EndpointBefore::changing(&change);
    let sealing = credentials::sealing(&app, change).await?;
    let apply = |row: &mut Row| {
        before.remember(row.state, shown(row));
        let was = row.url.clone();
        changes.apply(row)?;
        fields::finish(&app, row, Some(&was), sealing)
    };
    let updated = endpoints::update(&app.postgres, &by, &id, apply).await?;
    let row = projector::apply(&app.postgres, &app.projection, updated).await;
    if row.enabled_at >= by.at {
        resume::resume(&app, &row.id, by.at).await;
    }
    lifecycle::publish_updated(&app, before, &row, shown(&row)).await;
    Ok(Json(row.into()))
}

/// Delete an endpoint; its pending deliveries are canceled.
#[utoipa::path(delete, path = "/v1/endpoints/{id}", tag = "endpoints",
    operation_id = "deleteEndpoint",
    params(("id" = String, Path, description = "ep_…, or its uid")),
    responses((status = 204), Problems),
    security(("api_key" = ["endpoints:write"])))]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(named): Path<EndpointRef>,
) -> Result<StatusCode> {
    let id = lookup::stored_endpoint(&app, &caller.access, &named).await?;
    let by = caller.by(app::now());
    let deleted = endpoints::delete(&app.postgres, &by, &id).await?;
    let row = projector::apply(&app.postgres, &app.projection, deleted).await;
    lifecycle::publish_deleted(&app, &row, shown(&row)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A test event on its way.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TestDelivery {
    /// The test event.
    pub event_id: EventId,
    /// Its delivery: look here for what the endpoint answered.
    pub delivery_id: DeliveryId,
}

/// Send a test event, `millrace.endpoint.test`, to an endpoint whatever its
/// filter.
#[utoipa::path(post, path = "/v1/endpoints/{id}/test", tag = "endpoints",
    operation_id = "testEndpoint",
    params(("id" = String, Path, description = "ep_…, or its uid")),
    responses((status = 202, body = TestDelivery), Problems,
        (status = 409, description = "The endpoint is not enabled")),
    security(("api_key" = ["endpoints:write"])))]
pub async fn test(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    occasion: Occasion,
    Path(named): Path<EndpointRef>,
) -> Result<(StatusCode, Json<TestDelivery>)> {
    let id = lookup::stored_endpoint(&app, &caller.access, &named).await?;
    let row = endpoints::get(&app.postgres, &caller.access, &id).await?;
    lookup::refuse_disabled(row.state)?;
    let mut event = serde_json::json!({
        "specversion": "1.0",
        "id": base32(&occasion.derive::<16>("test event")),
        "source": format!("/v1/endpoints/{id}"),
        "type": TEST_TYPE,
        "time": occasion.at.to_string(),
        "data": { "message": "A test event. Your endpoint works." },
    });
    if let Some(tenant) = &row.tenant {
        // So that it is seen by whoever may see the endpoint.
        event["tenant"] = tenant.as_str().into();
    }
    let event = event::parse_structured(event.to_string().as_bytes())?;
    let now = app::now();
    let receipt = publish::publish_to_endpoint(&app, &row.project, &event, &id, now).await?;
    let delivery_id = DeliveryId::new(&receipt.id, &id);
    let after = serde_json::json!({ "event_id": receipt.id });
    let by = caller.by(now);
    record_best_effort(&app, &by, "endpoint.test", id.as_str(), Some(after)).await;
    Ok((
        StatusCode::ACCEPTED,
        Json(TestDelivery {
            event_id: receipt.id,
            delivery_id,
        }),
    ))
}

/// Read what verifies an endpoint's webhooks. The audit log says who did.
#[utoipa::path(get, path = "/v1/endpoints/{id}/secret", tag = "endpoints",
    operation_id = "getEndpointSecret",
    params(("id" = String, Path, description = "ep_…, or its uid")),
    responses((status = 200, body = SigningSecret), Problems),
    security(("api_key" = ["endpoints:write"])))]
pub async fn secret(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(named): Path<EndpointRef>,
) -> Result<Json<SigningSecret>> {
    let id = lookup::stored_endpoint(&app, &caller.access, &named).await?;
    let sealed = endpoints::current_secret(&app.postgres, &caller.access, &id).await?;
    let key_ring = app.key_ring.get().await?;
    let secret = open_secret(&key_ring, &id, &sealed)?;
    record_secret_read(&app, &caller.by(app::now()), id.as_str()).await?;
    Ok(Json((&secret).into()))
}

/// How to rotate.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRotation {
    /// `v1` or `v1a`; as it is if absent.
    scheme: Option<Scheme>,
    /// A secret of your own, `whsec_…` or `whsk_…`; made here if absent.
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
}

/// Give an endpoint a new signing secret.
///
/// It is of the scheme that the endpoint has, unless another is asked for. For 24
/// hours webhooks carry signatures of the old one too; five secrets at a time sign at
/// most.
#[utoipa::path(post, path = "/v1/endpoints/{id}/rotate-secret", tag = "endpoints",
    operation_id = "rotateEndpointSecret",
    params(("id" = String, Path, description = "ep_…, or its uid")),
    request_body = SecretRotation,
    responses((status = 200, body = SigningSecret), Problems,
        (status = 409, description = "Five of its secrets sign already")),
    security(("api_key" = ["endpoints:write"])))]
pub async fn rotate_secret(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    occasion: Occasion,
    Path(named): Path<EndpointRef>,
    Json(rotation): Json<SecretRotation>,
) -> Result<Json<SigningSecret>> {
    // Not the occasion's: tried again hours later, the old secret signs a day all the same.
    let by = caller.by(app::now());
    let id = lookup::stored_endpoint(&app, &caller.access, &named).await?;
    let seed = occasion.derive("signing secret");
    let key_ring = app.key_ring.get().await?;
    let current = endpoints::current_secret(&app.postgres, &caller.access, &id).await?;
    let current = open_secret(&key_ring, &id, &current)?;
    let scheme = match (rotation.scheme, &rotation.secret) {
        (None, None) => Some(current.scheme()),
        (scheme, _) => scheme,
    };
    let secret = make_secret(scheme, rotation.secret.as_ref(), seed)?;
    if occasion.is_repeated() && current.is_same(&secret) {
        return Ok(Json((&secret).into()));
    }
    let sealed = seal_secret(&key_ring, app.random(), &id, &secret);
    let ends = by
        .at
        .saturating_add(ROTATION_OVERLAP)
        .map_err(Error::internal)?;
    let rotated = endpoints::rotate_secret(&app.postgres, &by, &id, &sealed, ends).await?;
    let row = projector::apply(&app.postgres, &app.projection, rotated).await;
    lifecycle::publish_rotated(&app, &row, shown(&row)).await;
    Ok(Json((&secret).into()))
}
