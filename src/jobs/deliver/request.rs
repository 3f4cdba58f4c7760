//! The webhook's request: the body in the endpoint's format, and every header.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::model::endpoint::{BodyFormat, ContentType, Target};
use crate::model::event;
use crate::model::id::DeliveryId;
use crate::model::message_signature::sign_headers;
use crate::model::signature::signature_header;

/// A request but for its URL.
#[derive(Debug)]
pub struct WebhookRequest {
    pub headers: HeaderMap,
    /// Names of headers that are to be written as they are here.
    pub spelled: Vec<String>,
    pub body: Bytes,
}

/// The headers and the body of an attempt sent at `sent`. The signature is of the
/// body as it is sent; where the event is in the headers, they have one too.
///
/// # Errors
/// [`Error::Internal`] when the event is not one, or the endpoint's secrets or
/// credentials cannot be opened: its deliveries wait.
pub fn request(
    id: &DeliveryId,
    target: &Target,
    event: &Bytes,
    sent: Timestamp,
) -> Result<WebhookRequest> {
    let closed = |what: &str| {
        let endpoint = &target.id;
        Error::internal(anyhow::anyhow!("no {what} of {endpoint} can be opened"))
    };
    if target.active_secrets(sent).next().is_none() {
        return Err(closed("secret"));
    }
    let credentials = target
        .credentials
        .as_ref()
        .ok_or_else(|| closed("header"))?;
    // First, so that no header of the endpoint's own replaces one of Millrace's.
    let mut headers = credentials.header_map();
    let (described, body) = match target.delivery_settings.body_format {
        BodyFormat::Cloudevents => (
            structured(target.delivery_settings.content_type),
            event.clone(),
        ),
        BodyFormat::Data => event::to_binary(event)?,
    };
    headers.extend(described);
    sign(id, target, &body, sent, &mut headers);
    if target.delivery_settings.body_format == BodyFormat::Data {
        sign_event_headers(target, sent, &mut headers);
    }
    Ok(WebhookRequest {
        headers,
        spelled: credentials.spelled_names(),
        body,
    })
}

fn structured(content_type: ContentType) -> HeaderMap {
    let media = HeaderValue::from_static(content_type.as_str());
    HeaderMap::from_iter([(CONTENT_TYPE, media)])
}

/// Adds the headers of Standard Webhooks 1.0.
fn sign(id: &DeliveryId, target: &Target, body: &[u8], sent: Timestamp, headers: &mut HeaderMap) {
    let event = id.event();
    let signature = signature_header(
        target.active_secrets(sent),
        event.as_str(),
        sent.as_second(),
        body,
    );
    let value = |text: &str| HeaderValue::from_str(text).expect("ids and signatures are ASCII");
    headers.insert("webhook-id", value(event.as_str()));
    headers.insert("webhook-timestamp", HeaderValue::from(sent.as_second()));
    headers.insert("webhook-signature", value(&signature));
}

/// Adds the signature of the event's headers, whose values are ASCII. An endpoint's own
/// `signature` stays beside it: both fields are lists.
fn sign_event_headers(target: &Target, sent: Timestamp, headers: &mut HeaderMap) {
    let fields = sign_headers(target.active_secrets(sent), headers, sent.as_second());
    let value = |text: &str| HeaderValue::from_str(text).expect("names and base64 are ASCII");
    headers.append("signature-input", value(&fields.input));
    headers.append("signature", value(&fields.signature));
}
