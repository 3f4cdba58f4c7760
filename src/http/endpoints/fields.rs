//! What a request says of an endpoint, to make it or to change it: read, checked and
//! put into its row.

use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::credentials::{self, CredentialsChange, NewAuth, NewCertificate, NewHeaders, Sealing};
use crate::app::App;
use crate::error::{Error, Result};
use crate::http::patch;
use crate::model::access::Access;
use crate::model::audit::AuditContext;
use crate::model::credentials::RedactedCredentials;
use crate::model::endpoint::{BodyFormat, ContentType, DeliverySettings, EndpointState};
use crate::model::endpoint_ref::EndpointUid;
use crate::model::event;
use crate::model::filter::Filter;
use crate::model::id::EndpointId;
use crate::model::metadata::{self, Metadata, MetadataPatch};
use crate::model::origin;
use crate::model::signature::Scheme;
use crate::sender::{self, PrivateTargets};
use crate::store::endpoints::Endpoint as Row;

/// Characters of a description.
const DESCRIPTION_LEN_MAX: usize = 500;

/// An endpoint to create, or to put in place of what there is. What is absent is as by
/// default.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = EndpointCreate)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "url": "https://example.com/webhooks", "event_types": ["invoice.*"] })))]
pub struct NewEndpoint {
    /// Where webhooks go: `https://`.
    #[schema(format = "uri")]
    url: String,
    /// An id of your own, to name it by wherever its id may stand: 1 to 256 characters
    /// of `A-Z a-z 0-9 . _ -`, not beginning with `ep_`. Unique in the project; free
    /// again once the endpoint is deleted.
    pub(super) uid: Option<EndpointUid>,
    /// A note for people.
    description: Option<String>,
    /// `enabled` (the default) or `disabled`.
    state: Option<EndpointSwitch>,
    /// The event types it takes; all if absent.
    event_types: Option<Vec<String>>,
    /// The one tenant whose events it takes. With a key that is for one tenant, that.
    tenant: Option<String>,
    /// `v1` (HMAC-SHA256, the default), which every Standard Webhooks library verifies,
    /// or `v1a` (Ed25519), which the usual ones do not verify: for receivers that must
    /// not be able to sign.
    pub(super) scheme: Option<Scheme>,
    /// A secret of your own, `whsec_…` or `whsk_…`; made here if absent. Standard base64
    /// after that, padded or not; it is shown padded.
    #[schema(value_type = Option<String>)]
    pub(super) secret: Option<SecretString>,
    /// Attempts a second, by all instances together, evenly spaced.
    #[schema(minimum = 1, maximum = 1000)]
    rate_limit: Option<u32>,
    /// Attempts at once by each instance, if that is fewer than
    /// `delivery.endpoint_concurrency`.
    #[schema(minimum = 1, maximum = 1000)]
    max_concurrency: Option<u32>,
    /// `cloudevents` (the default): the whole event in JSON, structured mode of the
    /// CloudEvents HTTP binding. `data`: its data alone, its attributes as `ce-`
    /// headers, binary mode. `webhook-signature` is of the body as it is sent, and of no
    /// header but the webhook's id and time; with `data` all `ce-` headers and the
    /// `Content-Type` have a signature of their own, by the same secret, in `Signature`
    /// and `Signature-Input` (RFC 9421). Verify both.
    body_format: Option<BodyFormat>,
    /// The `Content-Type` of a webhook whose body is the whole event. The default,
    /// `application/cloudevents+json`, is what structured mode of the CloudEvents HTTP
    /// binding asks for and CloudEvents SDKs go by. With `application/json` the body is
    /// the same, for receivers that parse nothing else, such as `express.json()`. Not
    /// with `body_format` `data`: there it is the event's `datacontenttype`, with UTF-8
    /// as the charset of text, and none without data.
    content_type: Option<ContentType>,
    /// Headers to send along, up to 20; never shown again. None that says something
    /// of the connection or the body, nor `webhook-…`, `ce-…`, `traceparent`.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Option<NewHeaders>,
    /// HTTP authentication to use; never shown again.
    auth: Option<NewAuth>,
    /// TLS client certificate to use; its key is never shown again.
    client_certificate: Option<NewCertificate>,
    /// Notes for programs of your own, which no receiver is sent: up to 50 keys of 1 to
    /// 40 characters, each with a string of up to 500.
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Option<MetadataPatch>,
}

/// A new endpoint that nothing is said of yet.
pub(super) fn blank(by: &AuditContext, id: EndpointId) -> Row {
    Row {
        id,
        uid: None,
        project: by.project.clone(),
        url: String::new(),
        description: String::new(),
        metadata: Metadata::default(),
        event_types: vec![],
        tenant: None,
        state: EndpointState::Enabled,
        delivery_settings: DeliverySettings::default(),
        credentials_sealed: None,
        credentials_redacted: RedactedCredentials::default(),
        enabled_at: by.at,
        created_at: by.at,
        updated_at: by.at,
        version: 1,
    }
}

impl NewEndpoint {
    /// What is said of its credentials, taken out of it.
    pub(super) fn credentials(&mut self) -> CredentialsChange {
        CredentialsChange {
            headers: self.headers.take().filter(|headers| !headers.is_empty()),
            auth: self.auth.take().map(Some),
            client_certificate: self.client_certificate.take().map(Some),
        }
    }

    /// The names of the credentials that it gives.
    pub(super) fn given_credentials(&self) -> Vec<&'static str> {
        let given = [
            (
                "headers",
                self.headers
                    .as_ref()
                    .is_some_and(|headers| !headers.is_empty()),
            ),
            ("auth", self.auth.is_some()),
            ("client_certificate", self.client_certificate.is_some()),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(name, _)| name).collect()
    }

    /// The same for a replacement: what is absent goes.
    pub(super) fn all_credentials(&mut self) -> CredentialsChange {
        CredentialsChange {
            headers: Some(self.headers.take().unwrap_or_default()),
            auth: Some(self.auth.take()),
            client_certificate: Some(self.client_certificate.take()),
        }
    }

    /// Makes `row` what is asked for, but for credentials and secret: what is absent is
    /// as by default, except for the state and the uid, which stay. By default it is of
    /// the tenant whom `access` is for.
    pub(super) fn apply(self, row: &mut Row, access: &Access) -> Result<()> {
        let body_format = self.body_format.unwrap_or_default();
        row.delivery_settings = DeliverySettings {
            rate_limit: self.rate_limit,
            max_concurrency: self.max_concurrency,
            body_format,
            content_type: content_type(body_format, self.content_type)?,
        };
        row.uid = self.uid.or_else(|| row.uid.take());
        row.url = self.url;
        row.description = self.description.unwrap_or_default();
        row.event_types = self.event_types.unwrap_or_else(all_event_types);
        row.tenant = access.narrow(self.tenant.as_deref())?.map(str::to_owned);
        row.state = self.state.map_or(row.state, EndpointState::from);
        row.metadata = Metadata::default();
        Ok(row.metadata.merge_given(self.metadata)?)
    }
}

/// What an endpoint takes that was not told.
fn all_event_types() -> Vec<String> {
    vec!["*".into()]
}

/// The content type of what is sent in `body_format`, if the one that is `given` fits.
fn content_type(body_format: BodyFormat, given: Option<ContentType>) -> Result<ContentType> {
    if body_format == BodyFormat::Data && given.is_some() {
        let detail = "expected with body_format cloudevents only: \
            with data the content type is the event's datacontenttype";
        return Err(Error::invalid("content_type", detail));
    }
    Ok(given.unwrap_or_default())
}

/// Checks a row that is made, or changed from one whose URL `was` this, and seals its
/// credentials: those that stay must not go to another origin than they were given for.
pub(super) fn finish(
    app: &App,
    row: &mut Row,
    was: Option<&str>,
    sealing: Option<Sealing>,
) -> Result<()> {
    check(app, row)?;
    if was.is_some_and(|was| is_moved(was, &row.url)) {
        credentials::check_given_again(&row.credentials_redacted, sealing.as_ref())?;
    }
    sealing.map_or(Ok(()), |sealing| sealing.apply(row))
}

/// Whether webhooks go to another origin by the second URL than by the first.
fn is_moved(was: &str, is: &str) -> bool {
    match (Url::parse(was), Url::parse(is)) {
        (Ok(was), Ok(is)) => !origin::is_same(&was, &is),
        // Nobody can say whose it was.
        _ => true,
    }
}

/// What a person may turn an endpoint to.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointSwitch {
    /// Takes events again. Pending deliveries go on: up to 500 at once, more within
    /// 15 minutes.
    Enabled,
    /// New events pass it by; pending deliveries wait until it is enabled, or
    /// until they are forgotten with their events.
    Disabled,
}

impl From<EndpointSwitch> for EndpointState {
    fn from(switch: EndpointSwitch) -> Self {
        match switch {
            EndpointSwitch::Enabled => Self::Enabled,
            EndpointSwitch::Disabled => Self::Disabled,
        }
    }
}

/// What to change of an endpoint; what is absent stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "event_types": ["invoice.*", "user.created"] })))]
#[schema(as = EndpointUpdate)]
pub struct EndpointChanges {
    /// What you call it; null for nothing.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<String>)]
    uid: Option<Option<EndpointUid>>,
    /// Where webhooks go. With another scheme, host or port, the headers, the
    /// authentication and the client certificate that the endpoint has must be given
    /// again, or cleared: they were given for the receiver that was there before.
    #[serde(default, deserialize_with = "patch::lasting")]
    #[schema(format = "uri", nullable = false)]
    url: Option<String>,
    /// A note for people; null for none.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// The event types it takes; null for all.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<Vec<String>>)]
    event_types: Option<Option<Vec<String>>>,
    /// The one tenant whose events it takes; null for the whole project.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<String>)]
    tenant: Option<Option<String>>,
    /// Whether it takes events.
    #[serde(default, deserialize_with = "patch::lasting")]
    #[schema(nullable = false)]
    state: Option<EndpointSwitch>,
    /// Attempts a second, by all instances together; null without a limit.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    rate_limit: Option<Option<u32>>,
    /// Attempts at once by each instance, if that is fewer than
    /// `delivery.endpoint_concurrency`; null for that.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    max_concurrency: Option<Option<u32>>,
    /// What the body of a webhook is; null for the default, `cloudevents`.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<BodyFormat>)]
    body_format: Option<Option<BodyFormat>>,
    /// The `Content-Type` of a webhook whose body is the whole event; null for the
    /// default, `application/cloudevents+json`.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<ContentType>)]
    content_type: Option<Option<ContentType>>,
    /// In place of all its headers; null or `{}` for none.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Option<Option<NewHeaders>>,
    /// In place of its authentication; null for none.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<NewAuth>)]
    auth: Option<Option<NewAuth>>,
    /// In place of its client certificate; null for none.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<NewCertificate>)]
    client_certificate: Option<Option<NewCertificate>>,
    /// Merged with what is there (RFC 7396): a string replaces, null removes its key;
    /// null in place of the whole removes them all.
    #[serde(default, deserialize_with = "metadata::given")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Option<MetadataPatch>,
}

impl EndpointChanges {
    /// What is said of its credentials, taken out of it.
    pub(super) fn credentials(&mut self) -> CredentialsChange {
        CredentialsChange {
            headers: self.headers.take().map(Option::unwrap_or_default),
            auth: self.auth.take(),
            client_certificate: self.client_certificate.take(),
        }
    }

    /// Changes `row`, but for its credentials.
    pub(super) fn apply(self, row: &mut Row) -> Result<()> {
        row.url = self.url.unwrap_or_else(|| std::mem::take(&mut row.url));
        if let Some(description) = self.description {
            row.description = description.unwrap_or_default();
        }
        if let Some(event_types) = self.event_types {
            row.event_types = event_types.unwrap_or_else(all_event_types);
        }
        row.tenant = self.tenant.unwrap_or_else(|| row.tenant.take());
        row.uid = self.uid.unwrap_or_else(|| row.uid.take());
        row.state = self.state.map_or(row.state, EndpointState::from);
        row.metadata.merge_given(self.metadata)?;
        let settings = row.delivery_settings;
        let body_format = self.body_format.map(Option::unwrap_or_default);
        let body_format = body_format.unwrap_or(settings.body_format);
        row.delivery_settings = DeliverySettings {
            rate_limit: self.rate_limit.unwrap_or(settings.rate_limit),
            max_concurrency: self.max_concurrency.unwrap_or(settings.max_concurrency),
            body_format,
            content_type: match (self.content_type, body_format) {
                (Some(given), _) => content_type(body_format, given)?,
                (None, BodyFormat::Cloudevents) => settings.content_type,
                (None, BodyFormat::Data) => ContentType::default(),
            },
        };
        Ok(())
    }
}

/// Refuses what an endpoint must not be, and normalizes its URL.
fn check(app: &App, row: &mut Row) -> Result<()> {
    let url = sender::parse_url(&row.url)?;
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
