//! What the OpenAPI document says of a CloudEvent. `model::event` is what reads and
//! writes one.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A CloudEvent 1.0 in JSON, as it is kept and sent to endpoints. Extension
/// attributes stand beside the others.
#[derive(Deserialize, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what is kept as text")]
pub struct CloudEvent {
    /// `1.0`.
    specversion: String,
    /// With `source`, the event's identity.
    id: String,
    /// Where it happened.
    #[schema(format = "uri-reference")]
    source: String,
    /// What kind of thing happened.
    #[serde(rename = "type")]
    event_type: String,
    /// What it happened to.
    #[schema(nullable = false)]
    subject: Option<String>,
    /// The customer it is for.
    #[schema(nullable = false)]
    tenant: Option<String>,
    /// When it happened.
    #[schema(nullable = false, format = DateTime)]
    time: Option<String>,
    /// The media type of `data`.
    #[schema(nullable = false)]
    datacontenttype: Option<String>,
    /// The schema of `data`.
    #[schema(nullable = false, format = "uri")]
    dataschema: Option<String>,
    /// The payload: any JSON.
    data: Option<serde_json::Value>,
    /// The payload in base64, where it is not JSON.
    #[schema(nullable = false, format = Byte)]
    data_base64: Option<String>,
    /// Extension attributes: strings, integers and Booleans.
    #[serde(flatten)]
    extensions: BTreeMap<String, serde_json::Value>,
}
