//! The operational events of what people do to endpoints: created, updated, enabled,
//! disabled, deleted. Published after the change, to whoever subscribes to them.
//!
//! They show of an endpoint what the API does, without anything of its credentials.

use serde_json::{Map, Value, json};

use super::credentials::CredentialsChange;
use super::fields::NewEndpoint;
use crate::app::{self, App};
use crate::model::audit;
use crate::model::endpoint::EndpointState;
use crate::model::time::Time;
use crate::operational_events::{self, OperationalEvent, OperationalEventKind};
use crate::store::endpoints::Endpoint as Row;

/// Fields that say something of credentials, of which only the names are told.
const CREDENTIALS: [&str; 3] = ["headers", "auth", "client_certificate"];
/// What is there for the programs of whoever configures, and for no receiver.
const METADATA: &str = "metadata";
/// Of an endpoint that was just made.
const FIRST_VERSION: i64 = 1;
/// Changed with every change.
const ALWAYS_CHANGED: &str = "updated_at";

/// Tells the others of a new endpoint, once however often it is called.
pub(super) async fn publish_created(app: &App, row: &Row, shown: Value) {
    let data = data(row, shown);
    let (source, _) = names(row);
    let (project, id, at) = (&row.project, &row.id, app::now());
    // It may have been changed since.
    let key = format!("{id}/{FIRST_VERSION}");
    let kind = OperationalEventKind::EndpointCreated;
    let operational_event = event(row, kind, (&source, &key), data);
    operational_events::publish_to_others(app, project, id, &operational_event, at).await;
}

/// Tells of an endpoint that is gone.
pub(super) async fn publish_deleted(app: &App, row: &Row, shown: Value) {
    let data = data(row, shown);
    publish(app, row, OperationalEventKind::EndpointDeleted, data).await;
}

/// Tells that an endpoint signs with another secret.
pub(super) async fn publish_rotated(app: &App, row: &Row, shown: Value) {
    publish_changed(app, row, shown, vec!["secret".to_owned()]).await;
}

/// An endpoint as it was before it is changed.
pub(super) struct EndpointBefore {
    /// Credentials that are given in place of others.
    given: Vec<&'static str>,
    /// Its state then, and what the API showed of it.
    known: Option<(EndpointState, Value)>,
}

impl EndpointBefore {
    /// Of an endpoint whose credentials are to change so.
    pub(super) fn changing(credentials: &CredentialsChange) -> Self {
        let given = [
            credentials.headers.is_some(),
            credentials.auth.is_some(),
            credentials.client_certificate.is_some(),
        ];
        let named = CREDENTIALS.into_iter().zip(given);
        let given = named.filter(|(_, is_given)| *is_given);
        Self {
            given: given.map(|(name, _)| name).collect(),
            known: None,
        }
    }

    /// Of an endpoint that `new` is put in place of.
    pub(super) fn replacing(new: &NewEndpoint) -> Self {
        Self {
            given: new.given_credentials(),
            known: None,
        }
    }

    /// Takes note that its secret is replaced.
    pub(super) fn has_new_secret(&mut self) {
        self.given.push("secret");
    }

    /// Takes note of the endpoint, which is about to be changed.
    pub(super) fn remember(&mut self, state: EndpointState, shown: Value) {
        self.known = Some((state, shown));
    }

    /// The names of what differs between `before` and `after`, in alphabetical order.
    fn changed(&self, before: &Value, after: &Value) -> Vec<String> {
        let differs = |name: &&String| {
            **name != ALWAYS_CHANGED
                && !self.given.contains(&name.as_str())
                && before[*name] != after[*name]
        };
        let fields = after.as_object().into_iter().flat_map(Map::keys);
        let mut changed: Vec<_> = fields.filter(differs).cloned().collect();
        changed.extend(self.given.iter().map(|name| (*name).to_owned()));
        changed.sort_unstable();
        changed
    }
}

/// Tells how an endpoint is now, if anything of it has changed: that it was updated,
/// and that it was enabled or disabled if it was.
pub(super) async fn publish_updated(app: &App, before: EndpointBefore, row: &Row, shown: Value) {
    let Some((was, shown_before)) = &before.known else {
        return;
    };
    let changed = before.changed(shown_before, &shown);
    if changed.is_empty() {
        return;
    }
    publish_changed(app, row, shown.clone(), changed).await;
    match (*was, row.state) {
        (before, after) if before == after => {}
        (_, EndpointState::Enabled) => {
            let data = data(row, shown);
            publish(app, row, OperationalEventKind::EndpointEnabled, data).await;
        }
        _ => {
            let data = json!({
                "endpoint_id": row.id,
                "reason": "requested",
                "disabled_at": Time(row.updated_at),
                "failing_since": null,
            });
            publish(app, row, OperationalEventKind::EndpointDisabled, data).await;
        }
    }
}

async fn publish_changed(app: &App, row: &Row, shown: Value, changed: Vec<String>) {
    let mut data = data(row, shown);
    data["changed"] = changed.into();
    publish(app, row, OperationalEventKind::EndpointUpdated, data).await;
}

async fn publish(app: &App, row: &Row, kind: OperationalEventKind, data: Value) {
    let (source, key) = names(row);
    let operational_event = event(row, kind, (&source, &key), data);
    operational_events::publish_if_subscribed(
        app,
        &row.project,
        &operational_event,
        row.updated_at,
    )
    .await;
}

/// The source of an event about `row`, and what makes it an event of this version.
fn names(row: &Row) -> (String, String) {
    let id = &row.id;
    (
        format!("/v1/endpoints/{id}"),
        format!("{id}/{}", row.version),
    )
}

fn event<'a>(
    row: &'a Row,
    kind: OperationalEventKind,
    (source, occurrence_key): (&'a str, &'a str),
    data: Value,
) -> OperationalEvent<'a> {
    OperationalEvent {
        kind,
        source,
        occurrence_key,
        tenant: row.tenant.as_deref(),
        data,
    }
}

/// The endpoint as the API shows it, without its metadata and what is said of
/// credentials, and with secrets of its URL masked.
fn data(row: &Row, mut shown: Value) -> Value {
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|name, _| name != METADATA && !CREDENTIALS.contains(&name.as_str()));
    }
    json!({ "endpoint_id": row.id, "endpoint": audit::masked(shown) })
}
