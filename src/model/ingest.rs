//! The mapping of what AWS sends to CloudEvents.
//!
//! S3 and SNS by the CNCF adapters (cloudevents/spec, `adapters/aws-s3.md` and
//! `aws-sns.md`), EventBridge attribute by attribute as AWS's own transformers
//! do, and anything else in a queue as a message of that queue. Pure: which
//! project the events belong to and what becomes of them is the job's affair.
//!
//! | from | id | source | type | subject | data |
//! |---|---|---|---|---|---|
//! | S3 | request id `.` id-2 | `aws:s3.`region`.`bucket | `com.amazonaws.s3.`event name | object key | the record |
//! | SNS | message id | subscription ARN, or the topic's | `com.amazonaws.sns.`message type | Subject | the whole notification |
//! | EventBridge | id | source | detail-type | first resource | detail |
//! | CloudEvent | its own | its own | its own | its own | its own |
//! | SQS | message id | queue ARN | `com.amazonaws.sqs.message` | | the body, as JSON if it is |
//!
//! Wrapped in one another (S3 or EventBridge in SNS, any of them in SQS) they are
//! what is inside, so that an event is the same whichever way it came.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::event::{self, Event};
use crate::error::{Error, Invalid, Result};

/// What was sent, and how it came.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names are AWS's")]
pub enum Notification<'a> {
    /// The payload of a function that was invoked with it: an EventBridge event,
    /// or records of S3 or SNS.
    Invocation { json: &'a str },
    /// A message of an SQS queue, with whatever inside.
    Message {
        id: &'a str,
        queue_arn: &'a str,
        sent: Option<Timestamp>,
        /// The X-Ray header that SQS kept of its sender.
        trace: Option<&'a str>,
        body: &'a str,
    },
}

/// An event made of what AWS sent.
#[derive(Debug, Clone)]
pub struct MappedEvent<'a> {
    /// Checked by the rules for any publisher's.
    pub event: Event,
    s3: Option<&'a RawValue>,
}

/// The events of `notification`: one, or as many as it has records. A record
/// that cannot be mapped leaves the others alone.
///
/// # Errors
/// [`Error::Invalid`] when it is not what it seems to be; also for each record.
pub fn events<'a>(notification: &Notification<'a>) -> Result<Vec<Result<MappedEvent<'a>>>> {
    match *notification {
        Notification::Invocation { json } => match map_envelope(json)? {
            Some(events) => Ok(events),
            None => Err(Invalid::body("expected an event of S3, SNS or EventBridge").into()),
        },
        Notification::Message {
            id,
            queue_arn,
            sent,
            body,
            ..
        } => match map_envelope(body)? {
            Some(events) => Ok(events),
            None => Ok(vec![message(id, queue_arn, sent, body)]),
        },
    }
}

impl MappedEvent<'_> {
    /// The same event under an id of its own, if S3 gave it one that it shares
    /// with others: the adapter makes the id of the request's, and one request
    /// may delete a thousand objects.
    ///
    /// # Errors
    /// As [`events`].
    pub fn with_distinct_id(&self) -> Option<Result<Event>> {
        let record = self.s3?;
        Some(s3_event(record, |s3| match &s3.s3.object.sequencer {
            Some(sequencer) => format!("{}.{sequencer}", s3.id()),
            None => format!("{}.{}", s3.id(), s3.s3.object.key),
        }))
    }
}

/// The fields by which envelopes differ.
#[derive(Deserialize)]
struct EnvelopeFields<'a> {
    specversion: Option<IgnoredAny>,
    #[serde(borrow, rename = "Records")]
    records: Option<&'a RawValue>,
    #[serde(rename = "detail-type")]
    detail_type: Option<IgnoredAny>,
    detail: Option<IgnoredAny>,
    #[serde(rename = "TopicArn")]
    topic_arn: Option<IgnoredAny>,
    #[serde(rename = "MessageId")]
    message_id: Option<IgnoredAny>,
    #[serde(borrow, rename = "Event")]
    event: Option<&'a RawValue>,
}

/// What is in `json`, if it is one of the envelopes of AWS or a CloudEvent.
fn map_envelope(json: &str) -> Result<Option<Vec<Result<MappedEvent<'_>>>>> {
    // An array would be read as the fields in their order.
    if !json.trim_ascii_start().starts_with('{') {
        return Ok(None);
    }
    let Ok(peek) = serde_json::from_str::<EnvelopeFields<'_>>(json) else {
        return Ok(None);
    };
    if peek.specversion.is_some() {
        return Ok(Some(vec![
            event::parse_structured(json.as_bytes()).map(plain),
        ]));
    }
    if let Some(records) = peek.records {
        return map_records(records);
    }
    if peek.detail_type.is_some() && peek.detail.is_some() {
        return Ok(Some(vec![event_bridge(json).map(plain)]));
    }
    if peek.topic_arn.is_some() && peek.message_id.is_some() {
        return Ok(Some(sns(json, None)));
    }
    // What S3 sends when notifications are configured: it is about nothing.
    if peek
        .event
        .is_some_and(|event| event.get() == "\"s3:TestEvent\"")
    {
        return Ok(Some(vec![]));
    }
    Ok(None)
}

fn map_records(records: &RawValue) -> Result<Option<Vec<Result<MappedEvent<'_>>>>> {
    #[derive(Deserialize)]
    struct Record<'a> {
        #[serde(rename = "eventSource", alias = "EventSource")]
        source: Cow<'a, str>,
        #[serde(rename = "EventSubscriptionArn")]
        subscription_arn: Option<Cow<'a, str>>,
        #[serde(borrow, rename = "Sns")]
        sns: Option<&'a RawValue>,
    }
    let Ok(records) = serde_json::from_str::<Vec<&RawValue>>(records.get()) else {
        return Ok(None);
    };
    let mut events = Vec::with_capacity(records.len());
    for raw in records {
        let Ok(record) = serde_json::from_str::<Record<'_>>(raw.get()) else {
            return Ok(None);
        };
        match (&*record.source, record.sns) {
            ("aws:sns", Some(notification)) => {
                events.extend(sns(notification.get(), record.subscription_arn.as_deref()));
            }
            // Services that speak S3's language have a source of their own.
            (source, None) if source.ends_with(":s3") => events.push(s3(raw)),
            _ => return Ok(None),
        }
    }
    Ok(Some(events))
}

fn plain(event: Event) -> MappedEvent<'static> {
    MappedEvent { event, s3: None }
}

/// A CloudEvent to be, in structured mode.
#[derive(Serialize)]
struct CloudEventJson<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    awsaccount: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    awsregion: Option<&'a str>,
    data: CloudEventData<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum CloudEventData<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

impl<'a> CloudEventJson<'a> {
    fn json(id: &'a str, source: &'a str, event_type: &'a str, data: &'a RawValue) -> Self {
        Self {
            specversion: "1.0",
            id,
            source,
            event_type,
            subject: None,
            time: None,
            datacontenttype: "application/json",
            awsaccount: None,
            awsregion: None,
            data: CloudEventData::Json(data),
        }
    }

    /// Through the same rules as any publisher's event.
    fn finish(&self) -> Result<Event> {
        let json = serde_json::to_vec(self).map_err(Error::internal)?;
        event::parse_structured(&json)
    }
}

/// A record of an S3 notification, as far as it is mapped.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct S3Record<'a> {
    event_source: Cow<'a, str>,
    aws_region: Cow<'a, str>,
    event_time: Cow<'a, str>,
    event_name: Cow<'a, str>,
    #[serde(borrow)]
    response_elements: S3Response<'a>,
    #[serde(borrow)]
    s3: S3Entity<'a>,
}

#[derive(Deserialize)]
struct S3Response<'a> {
    #[serde(rename = "x-amz-request-id")]
    request_id: Cow<'a, str>,
    #[serde(rename = "x-amz-id-2")]
    id_2: Cow<'a, str>,
}

#[derive(Deserialize)]
struct S3Entity<'a> {
    #[serde(borrow)]
    bucket: S3Bucket<'a>,
    #[serde(borrow)]
    object: S3Object<'a>,
}

#[derive(Deserialize)]
struct S3Bucket<'a> {
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct S3Object<'a> {
    key: Cow<'a, str>,
    sequencer: Option<Cow<'a, str>>,
}

impl S3Record<'_> {
    fn id(&self) -> String {
        let S3Response { request_id, id_2 } = &self.response_elements;
        format!("{request_id}.{id_2}")
    }
}

fn s3(record: &RawValue) -> Result<MappedEvent<'_>> {
    let event = s3_event(record, |s3| s3.id())?;
    Ok(MappedEvent {
        event,
        s3: Some(record),
    })
}

fn s3_event(record: &RawValue, id: impl FnOnce(&S3Record<'_>) -> String) -> Result<Event> {
    let s3: S3Record<'_> = parse("an S3 record", record.get())?;
    let id = id(&s3);
    let source = format!(
        "{}.{}.{}",
        s3.event_source, s3.aws_region, s3.s3.bucket.name
    );
    let event_type = format!("com.amazonaws.s3.{}", s3.event_name);
    CloudEventJson {
        subject: Some(&s3.s3.object.key),
        time: Some(&s3.event_time),
        ..CloudEventJson::json(&id, &source, &event_type, record)
    }
    .finish()
}

/// A message of SNS, as far as it is mapped.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SnsMessage<'a> {
    #[serde(rename = "Type")]
    kind: Cow<'a, str>,
    message_id: Cow<'a, str>,
    topic_arn: Cow<'a, str>,
    subject: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: &'a RawValue,
    timestamp: Cow<'a, str>,
    #[serde(rename = "UnsubscribeURL", alias = "UnsubscribeUrl")]
    unsubscribe_url: Option<Cow<'a, str>>,
}

fn sns<'a>(json: &'a str, subscription_arn: Option<&str>) -> Vec<Result<MappedEvent<'a>>> {
    let mapped = || -> Result<Vec<Result<MappedEvent<'a>>>> {
        let message: SnsMessage<'_> = parse("an SNS message", json)?;
        let text: String = serde_json::from_str(message.message.get())
            .map_err(|error| malformed("an SNS message", &error))?;
        if let Some(inside) = map_envelope(&text)? {
            // It borrows from the text that was unescaped here.
            return Ok(inside
                .into_iter()
                .map(|one| one.map(|mapped| plain(mapped.event)))
                .collect());
        }
        sns_event(json, &message, subscription_arn).map(|event| vec![Ok(plain(event))])
    };
    mapped().unwrap_or_else(|error| vec![Err(error)])
}

fn sns_event(
    json: &str,
    message: &SnsMessage<'_>,
    subscription_arn: Option<&str>,
) -> Result<Event> {
    let unsubscribe = message.unsubscribe_url.as_deref().and_then(subscription_of);
    // A confirmation is the topic's; a notification is the subscription's.
    let source = match (&*message.kind, subscription_arn, &unsubscribe) {
        ("Notification", Some(arn), _) => arn,
        ("Notification", None, Some(arn)) => arn,
        _ => &message.topic_arn,
    };
    let event_type = format!("com.amazonaws.sns.{}", message.kind);
    CloudEventJson {
        subject: message
            .subject
            .as_deref()
            .filter(|subject| !subject.is_empty()),
        time: Some(&message.timestamp),
        ..CloudEventJson::json(
            &message.message_id,
            source,
            &event_type,
            parse("an SNS message", json)?,
        )
    }
    .finish()
}

fn subscription_of(unsubscribe_url: &str) -> Option<String> {
    // A message in a queue has the subscription's ARN in this URL alone.
    let url = url::Url::parse(unsubscribe_url).ok()?;
    let (_, arn) = url
        .query_pairs()
        .find(|(name, _)| name == "SubscriptionArn")?;
    Some(arn.into_owned())
}

#[derive(Deserialize)]
struct BridgeEvent<'a> {
    id: Cow<'a, str>,
    source: Cow<'a, str>,
    #[serde(rename = "detail-type")]
    detail_type: Cow<'a, str>,
    time: Cow<'a, str>,
    account: Option<Cow<'a, str>>,
    region: Option<Cow<'a, str>>,
    #[serde(default)]
    resources: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    detail: &'a RawValue,
}

fn event_bridge(json: &str) -> Result<Event> {
    let event: BridgeEvent<'_> = parse("an EventBridge event", json)?;
    CloudEventJson {
        subject: event.resources.first().map(|resource| &**resource),
        time: Some(&event.time),
        awsaccount: event.account.as_deref(),
        awsregion: event.region.as_deref(),
        ..CloudEventJson::json(&event.id, &event.source, &event.detail_type, event.detail)
    }
    .finish()
}

fn message<'a>(
    id: &str,
    queue_arn: &str,
    sent: Option<Timestamp>,
    body: &str,
) -> Result<MappedEvent<'a>> {
    let time = sent.map(|time| time.to_string());
    let json = serde_json::from_str::<&RawValue>(body);
    let (datacontenttype, data) = match json {
        Ok(json) => ("application/json", CloudEventData::Json(json)),
        Err(_) => ("text/plain", CloudEventData::Text(body)),
    };
    let draft = CloudEventJson {
        time: time.as_deref(),
        datacontenttype,
        data,
        ..CloudEventJson::json(id, queue_arn, "com.amazonaws.sqs.message", RawValue::NULL)
    };
    draft.finish().map(plain)
}

fn parse<'a, T: Deserialize<'a>>(what: &'static str, json: &'a str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| malformed(what, &error))
}

/// Names where it differs, never what stands there.
fn malformed(what: &'static str, error: &serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    // A missing field is named; of a value only its place is.
    let text = error.to_string();
    let missing = text
        .strip_prefix("missing field ")
        .map(|rest| rest.split(" at ").next());
    let detail = match missing.flatten() {
        Some(field) => format!("expected {what}, which has {field}"),
        None => format!("expected {what}, at line {line}, column {column}"),
    };
    Invalid::body(detail).into()
}

#[cfg(test)]
mod tests;
