//! The endpoints API: where webhooks go, how they are called and signed, and test
//! events.

pub mod credentials;
pub mod stats;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

use super::auth::{Allowed, EndpointsRead, EndpointsWrite};
use super::extract::{Json, Path, Query};
use super::page::{self, Page};
use super::problem::Problems;
use crate::app::{self, App};
use crate::error::{Error, Invalid, Result};
use crate::model::credentials::RedactedCredentials;
use crate::model::delivery::DISABLED_RECHECK_DELAY;
use crate::model::endpoint::{BodyFormat, DeliverySettings, EndpointState};
use crate::model::event;
use crate::model::filter::{Filter, TEST_TYPE};
use crate::model::id::{DeliveryId, EndpointId, EventId, base32};
use crate::model::signature::{Scheme, Secret};
use crate::model::time::Time;
use crate::publish;
use crate::sender::{self, PrivateTargets};
use crate::store::due::{self, BringForward};
use crate::store::endpoints::{self, Endpoint as Row, open_secret, seal_secret};
use crate::store::projector;

use credentials::{
    CredentialsChange, NewAuth, NewCertificate, NewHeaders, RedactedAuth, RedactedCertificate,
    ShownCredentials,
};

/// How long a rotated secret goes on signing.
const ROTATION_OVERLAP: SignedDuration = SignedDuration::from_hours(24);
/// Characters of a description.
const DESCRIPTION_LEN_MAX: usize = 500;

/// An endpoint.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Where webhooks go.
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
    #[schema(required)]
    pub rate_limit: Option<u32>,
    /// Attempts at once by each instance, if that is fewer than
    /// `delivery.endpoint_concurrency`; null for that.
    #[schema(required)]
    pub max_concurrency: Option<u32>,
    /// What the body of a webhook is.
    pub body_format: BodyFormat,
    /// Its own headers by name; values are not shown.
    #[schema(value_type = BTreeMap<String, String>)]
    pub headers: BTreeMap<String, &'static str>,
    /// How its requests authenticate.
    #[schema(required)]
    pub auth: Option<RedactedAuth>,
    /// The TLS client certificate it is called with.
    #[schema(required)]
    pub client_certificate: Option<RedactedCertificate>,
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
            headers,
            auth,
            client_certificate,
            id: row.id,
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
#[schema(as = Created)]
pub struct CreatedEndpoint {
    #[serde(flatten)]
    endpoint: Endpoint,
    #[serde(flatten)]
    secret: SigningSecret,
}

/// An endpoint to create.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "url": "https://example.com/webhooks", "event_types": ["invoice.*"] })))]
pub struct NewEndpoint {
    /// Where webhooks go: `https://`.
    url: String,
    /// A note for people.
    #[serde(default)]
    description: String,
    /// The event types it takes; all if absent.
    event_types: Option<Vec<String>>,
    /// The one tenant whose events it takes.
    tenant: Option<String>,
    /// `v1` (HMAC-SHA256, the default), which every Standard Webhooks library verifies,
    /// or `v1a` (Ed25519), which the usual ones do not verify: for receivers that must
    /// not be able to sign.
    #[serde(default)]
    #[schema(value_type = Option<Scheme>)]
    scheme: Scheme,
    /// A secret of your own, `whsec_…` or `whsk_…`; made here if absent.
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
    /// Attempts a second, by all instances together, evenly spaced.
    #[schema(minimum = 1, maximum = 1000)]
    rate_limit: Option<u32>,
    /// Attempts at once by each instance, if that is fewer than
    /// `delivery.endpoint_concurrency`.
    #[schema(minimum = 1, maximum = 1000)]
    max_concurrency: Option<u32>,
    /// `cloudevents` (the default): the whole event in JSON, structured mode of the
    /// CloudEvents HTTP binding. `data`: its data alone, its attributes as `ce-`
    /// headers, binary mode. Signed is what is sent.
    #[serde(default)]
    #[schema(value_type = Option<BodyFormat>)]
    body_format: BodyFormat,
    /// Headers to send along, up to 20; never shown again. None that says something
    /// of the connection or the body, nor `webhook-…`, `ce-…`, `traceparent`.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: NewHeaders,
    /// HTTP authentication to use; never shown again.
    auth: Option<NewAuth>,
    /// TLS client certificate to use; its key is never shown again.
    client_certificate: Option<NewCertificate>,
}

/// Create an endpoint.
#[utoipa::path(post, path = "/v1/endpoints", tag = "endpoints",
    request_body = NewEndpoint,
    responses((status = 201, body = CreatedEndpoint), Problems),
    security(("api_key" = ["endpoints:write"])))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Json(new): Json<NewEndpoint>,
) -> Result<(StatusCode, Json<CreatedEndpoint>)> {
    let by = caller.by(app::now());
    let now = by.at;
    let mut row = Row {
        delivery_settings: DeliverySettings {
            rate_limit: new.rate_limit,
            max_concurrency: new.max_concurrency,
            body_format: new.body_format,
        },
        credentials_sealed: None,
        credentials_redacted: RedactedCredentials::default(),
        enabled_at: now,
        id: EndpointId::new(now.as_millisecond(), app.random()),
        project: by.project.clone(),
        url: new.url,
        description: new.description,
        event_types: new.event_types.unwrap_or_else(|| vec!["*".into()]),
        tenant: new.tenant,
        state: EndpointState::Enabled,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    check(&app, &mut row)?;
    let credentials = CredentialsChange {
        headers: (!new.headers.is_empty()).then_some(new.headers),
        auth: new.auth.map(Some),
        client_certificate: new.client_certificate.map(Some),
    };
    if let Some(sealing) = credentials::sealing(&app, credentials).await? {
        sealing.apply(&mut row)?;
    }
    let secret = make_secret(&app, new.scheme, new.secret.as_ref())?;
    let key_ring = app.key_ring.get().await?;
    let sealed = seal_secret(&key_ring, app.random(), &row.id, &secret);
    let created = endpoints::create(&app.postgres, &by, row, &sealed).await?;
    let row = projector::apply(&app.postgres, &app.projection, created).await;
    let created = CreatedEndpoint {
        endpoint: row.into(),
        secret: (&secret).into(),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Refuses what an endpoint must not be, and normalizes its URL.
fn check(app: &App, row: &mut Row) -> Result<()> {
    let url = url::Url::parse(&row.url)
        .map_err(|error| Invalid::new("url", format!("expected an absolute URL: {error}")))?;
    let private_targets = if app.config.allows_private_targets() {
        PrivateTargets::Allowed
    } else {
        PrivateTargets::Refused
    };
    sender::check_url(&url, private_targets)?;
    // What was checked, without what a parser leaves out of it.
    row.url = url.into();
    Filter::new(&row.event_types, row.tenant.as_deref())?;
    row.delivery_settings.check()?;
    row.tenant.as_deref().map_or(Ok(()), event::check_tenant)?;
    if row.description.chars().count() > DESCRIPTION_LEN_MAX || row.description.contains('\0') {
        let detail = format!("expected up to {DESCRIPTION_LEN_MAX} characters, none of them NUL");
        return Err(Error::invalid("description", detail));
    }
    Ok(())
}

fn make_secret(app: &App, scheme: Scheme, given: Option<&SecretString>) -> Result<Secret> {
    match given {
        Some(text) => Ok(Secret::parse(text.expose_secret())?),
        None => Ok(Secret::generate(scheme, app.random())),
    }
}

/// What a list of endpoints is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEndpoints {
    /// Only those of this tenant.
    tenant: Option<String>,
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List endpoints, the oldest first.
#[utoipa::path(get, path = "/v1/endpoints", tag = "endpoints", params(ListEndpoints),
    responses((status = 200, body = Page<Endpoint>), Problems),
    security(("api_key" = ["endpoints:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsRead>,
    Query(query): Query<ListEndpoints>,
) -> Result<Json<Page<Endpoint>>> {
    let limit = page::limit(query.limit)?;
    let after = page::position(query.cursor.as_deref())?.unwrap_or_default();
    let tenant = query.tenant.as_deref();
    tenant.map_or(Ok(()), event::check_tenant)?;
    let rows = endpoints::list(
        &app.postgres,
        &caller.project,
        tenant,
        &after,
        limit as i64 + 1,
    )
    .await?;
    let page = Page::from_lookahead(rows, limit, |row| row.id.to_string(), Endpoint::from);
    Ok(Json(page))
}

/// Look at one endpoint.
#[utoipa::path(get, path = "/v1/endpoints/{id}", tag = "endpoints",
    params(("id" = String, Path, description = "ep_…")),
    responses((status = 200, body = Endpoint), Problems),
    security(("api_key" = ["endpoints:read"])))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsRead>,
    Path(id): Path<EndpointId>,
) -> Result<Json<Endpoint>> {
    Ok(Json(
        endpoints::get(&app.postgres, &caller.project, &id)
            .await?
            .into(),
    ))
}

/// What a person may turn an endpoint to.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Switch)]
pub enum EndpointSwitch {
    /// Takes events again. Pending deliveries go on: up to 500 at once, more within
    /// 15 minutes.
    Enabled,
    /// New events pass it by; pending deliveries wait until it is enabled, or
    /// until they are forgotten with their events.
    Disabled,
}

/// What to change of an endpoint; what is absent stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "event_types": ["invoice.*", "user.created"] })))]
#[schema(as = Changes)]
pub struct EndpointChanges {
    /// Where webhooks go.
    url: Option<String>,
    /// A note for people.
    description: Option<String>,
    /// The event types it takes.
    event_types: Option<Vec<String>>,
    /// The one tenant whose events it takes; null for the whole project.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    tenant: Option<Option<String>>,
    /// Whether it takes events.
    state: Option<EndpointSwitch>,
    /// Attempts a second, by all instances together; null without a limit.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    rate_limit: Option<Option<u32>>,
    /// Attempts at once by each instance, if that is fewer than
    /// `delivery.endpoint_concurrency`; null for that.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    max_concurrency: Option<Option<u32>>,
    /// What the body of a webhook is.
    body_format: Option<BodyFormat>,
    /// In place of all its headers.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Option<NewHeaders>,
    /// In place of its authentication; null for none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<NewAuth>)]
    auth: Option<Option<NewAuth>>,
    /// In place of its client certificate; null for none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<NewCertificate>)]
    client_certificate: Option<Option<NewCertificate>>,
}

/// Tells null from absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Change an endpoint.
#[utoipa::path(patch, path = "/v1/endpoints/{id}", tag = "endpoints",
    params(("id" = String, Path, description = "ep_…")),
    request_body = EndpointChanges,
    responses((status = 200, body = Endpoint), Problems),
    security(("api_key" = ["endpoints:write"])))]
pub async fn update(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(id): Path<EndpointId>,
    Json(changes): Json<EndpointChanges>,
) -> Result<Json<Endpoint>> {
    let by = caller.by(app::now());
    let now = by.at;
    let credentials = CredentialsChange {
        headers: changes.headers,
        auth: changes.auth,
        client_certificate: changes.client_certificate,
    };
    let sealing = credentials::sealing(&app, credentials).await?;
    let apply = |row: &mut Row| {
        row.url = changes.url.unwrap_or_else(|| std::mem::take(&mut row.url));
        row.description = changes
            .description
            .unwrap_or_else(|| std::mem::take(&mut row.description));
        row.event_types = changes
            .event_types
            .unwrap_or_else(|| std::mem::take(&mut row.event_types));
        row.tenant = changes.tenant.unwrap_or_else(|| row.tenant.take());
        match changes.state {
            Some(EndpointSwitch::Enabled) => row.state = EndpointState::Enabled,
            Some(EndpointSwitch::Disabled) => row.state = EndpointState::Disabled,
            None => {}
        }
        row.delivery_settings = DeliverySettings {
            rate_limit: changes
                .rate_limit
                .unwrap_or(row.delivery_settings.rate_limit),
            max_concurrency: changes
                .max_concurrency
                .unwrap_or(row.delivery_settings.max_concurrency),
            body_format: changes
                .body_format
                .unwrap_or(row.delivery_settings.body_format),
        };
        check(&app, row)?;
        sealing.map_or(Ok(()), |sealing| sealing.apply(row))
    };
    let updated = endpoints::update(&app.postgres, &by, &id, apply).await?;
    let row = projector::apply(&app.postgres, &app.projection, updated).await;
    if row.enabled_at == now {
        resume(&app, &id, now).await;
    }
    Ok(Json(row.into()))
}

/// Makes deliveries due that wait for an endpoint which was just enabled, as far as
/// that is little work: the others are due within [`DISABLED_RECHECK_DELAY`].
async fn resume(app: &App, id: &EndpointId, now: Timestamp) {
    // Not before every instance knows that it is enabled.
    let at = now + app.config.cache.ttl + Duration::from_secs(1);
    let until = now + DISABLED_RECHECK_DELAY;
    let resume = BringForward {
        endpoint: id,
        to: at,
        until,
        scan_max: RESUME_SCAN_MAX,
        deliveries_max: RESUMED_MAX,
    };
    match due::bring_forward(&app.dynamo, &resume).await {
        Ok(deliveries) => tracing::info!(endpoint.id = %id, deliveries, "endpoint enabled"),
        Err(error) => {
            let cause = error.causes();
            tracing::warn!(endpoint.id = %id, %error, cause, "failed to resume held deliveries");
        }
    }
}

/// Deliveries brought forward when an endpoint is enabled.
const RESUMED_MAX: usize = 500;
/// Due items read for them, in each due partition.
const RESUME_SCAN_MAX: usize = 1000;

/// Delete an endpoint; its pending deliveries are canceled.
#[utoipa::path(delete, path = "/v1/endpoints/{id}", tag = "endpoints",
    params(("id" = String, Path, description = "ep_…")),
    responses((status = 204), Problems),
    security(("api_key" = ["endpoints:write"])))]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(id): Path<EndpointId>,
) -> Result<StatusCode> {
    let by = caller.by(app::now());
    let deleted = endpoints::delete(&app.postgres, &by, &id).await?;
    projector::apply(&app.postgres, &app.projection, deleted).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A test event on its way.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Tested)]
pub struct TestDelivery {
    /// The test event.
    pub event_id: EventId,
    /// Its delivery: look here for what the endpoint answered.
    pub delivery_id: DeliveryId,
}

/// Send a test event, `millrace.endpoint.test`, to an endpoint whatever its
/// filter.
#[utoipa::path(post, path = "/v1/endpoints/{id}/test", tag = "endpoints",
    params(("id" = String, Path, description = "ep_…")),
    responses((status = 202, body = TestDelivery), Problems),
    security(("api_key" = ["endpoints:write"])))]
pub async fn test(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(id): Path<EndpointId>,
) -> Result<(StatusCode, Json<TestDelivery>)> {
    let row = endpoints::get(&app.postgres, &caller.project, &id).await?;
    if row.state != EndpointState::Enabled {
        return Err(Error::Conflict("the endpoint is not enabled".into()));
    }
    let now = app::now();
    let event = serde_json::json!({
        "specversion": "1.0",
        "id": base32(&app.random::<16>()),
        "source": format!("/v1/endpoints/{id}"),
        "type": TEST_TYPE,
        "time": now.to_string(),
        "data": { "message": "A test event. Your endpoint works." },
    });
    let event = event::parse_structured(event.to_string().as_bytes())?;
    let receipt = publish::publish_to_endpoint(&app, &caller.project, &event, &id, now).await?;
    let delivery_id = DeliveryId::new(&receipt.id, &id);
    Ok((
        StatusCode::ACCEPTED,
        Json(TestDelivery {
            event_id: receipt.id,
            delivery_id,
        }),
    ))
}

/// Read what verifies an endpoint's webhooks.
#[utoipa::path(get, path = "/v1/endpoints/{id}/secret", tag = "endpoints",
    params(("id" = String, Path, description = "ep_…")),
    responses((status = 200, body = SigningSecret), Problems),
    security(("api_key" = ["endpoints:write"])))]
pub async fn secret(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(id): Path<EndpointId>,
) -> Result<Json<SigningSecret>> {
    let sealed = endpoints::current_secret(&app.postgres, &caller.project, &id).await?;
    let key_ring = app.key_ring.get().await?;
    let secret = open_secret(&key_ring, &id, &sealed)?;
    Ok(Json((&secret).into()))
}

/// How to rotate.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rotation)]
pub struct SecretRotation {
    /// `v1` (the default) or `v1a`.
    #[serde(default)]
    #[schema(value_type = Option<Scheme>)]
    scheme: Scheme,
    /// A secret of your own; made here if absent.
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
}

/// Give an endpoint a new signing secret.
///
/// For 24 hours webhooks carry signatures of the old one too; five secrets at a
/// time sign at most.
#[utoipa::path(post, path = "/v1/endpoints/{id}/rotate-secret", tag = "endpoints",
    params(("id" = String, Path, description = "ep_…")),
    request_body = SecretRotation,
    responses((status = 200, body = SigningSecret), Problems),
    security(("api_key" = ["endpoints:write"])))]
pub async fn rotate_secret(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(id): Path<EndpointId>,
    Json(rotation): Json<SecretRotation>,
) -> Result<Json<SigningSecret>> {
    let by = caller.by(app::now());
    let secret = make_secret(&app, rotation.scheme, rotation.secret.as_ref())?;
    let key_ring = app.key_ring.get().await?;
    let sealed = seal_secret(&key_ring, app.random(), &id, &secret);
    let ends = by
        .at
        .saturating_add(ROTATION_OVERLAP)
        .map_err(Error::internal)?;
    let rotated = endpoints::rotate_secret(&app.postgres, &by, &id, &sealed, ends).await?;
    projector::apply(&app.postgres, &app.projection, rotated).await;
    Ok(Json((&secret).into()))
}
