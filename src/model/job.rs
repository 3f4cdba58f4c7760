//! Jobs, and the messages of a queue that ask for them.
//!
//! A message is a hint: everything it says can be found again by the due index,
//! so a lost one delays its work and a second one does nothing. That is also why
//! a message that cannot be used is parked and not tried again.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::delivery::Progress;
use super::id::{DeliveryId, EndpointId, EventId, ProjectId, RecoveryId};

/// A piece of work, by the name of what it is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each id is of what the job is about")]
pub enum Job {
    /// Write and enqueue the deliveries of an event that matches many endpoints,
    /// or that is replayed.
    FanOut { event: EventId },
    /// Make the next attempt of a delivery.
    Deliver {
        delivery: DeliveryId,
        /// Attempts made when this was enqueued; a message about another attempt
        /// than the next one is stale and does nothing.
        #[serde(rename = "made")]
        attempts_made: u32,
        /// What the in-process queue carries along, to spare the reads.
        #[serde(skip)]
        payload: Option<InlinePayload>,
    },
    /// Disable in PostgreSQL an endpoint that is disabled in the event store: it
    /// answered 410, or failed for days.
    Disable { endpoint: EndpointId },
    /// Do one page of a recovery.
    Recover {
        recovery: RecoveryId,
        /// Pages done when this was enqueued; a message about another page than
        /// the next one is stale and does nothing.
        page: u32,
    },
}

/// The version of what is written here. A change that older workers would get
/// wrong needs a new one; a new field that they may ignore does not.
const VERSION: u64 = 1;
/// The names of [`Job`]'s variants in a message.
const JOB_NAMES: [&str; 4] = ["fan_out", "deliver", "disable", "recover"];
/// The longest a message is of use: its work was swept many times since. Well below
/// the four days that SQS keeps one for by default, or none would get that old.
const AGE_MAX: Duration = Duration::from_hours(24);

/// A message of a queue outside this process:
/// `{"v":1,"job":"deliver","delivery":"dlv_…","made":0,"trace":"00-…"}`.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The work itself.
    pub job: Job,
    /// The W3C `traceparent` of what asked for it.
    pub trace: Option<String>,
}

/// A message that no worker can use, with the reason: which never quotes more of
/// it than a job's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Park {
    /// Why it is parked, for the log.
    pub reason: Cow<'static, str>,
    /// The job's name, if it is a known one.
    pub job: Option<&'static str>,
}

impl Envelope {
    /// The message's body.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct EnvelopeJson<'a> {
            v: u64,
            #[serde(flatten)]
            job: &'a Job,
            #[serde(skip_serializing_if = "Option::is_none")]
            trace: Option<&'a str>,
        }
        let written = EnvelopeJson {
            v: VERSION,
            job: &self.job,
            trace: self.trace.as_deref(),
        };
        serde_json::to_string(&written).expect("ids and numbers are JSON")
    }

    /// Reads a message's body that was sent at `sent`, if that is known.
    ///
    /// # Errors
    /// [`Park`] when it is too old, of another version, or not a job.
    pub fn open(body: &str, sent: Option<Timestamp>, now: Timestamp) -> Result<Self, Park> {
        let envelope = Self::parse(body)?;
        let age = sent.map_or(Duration::ZERO, |sent| {
            now.duration_since(sent).try_into().unwrap_or_default()
        });
        if age > AGE_MAX {
            return Err(Park {
                reason: format!("too old: sent {} hours ago", age.as_secs() / 3600).into(),
                job: Some(envelope.job.kind()),
            });
        }
        Ok(envelope)
    }

    /// Reads a message's body.
    ///
    /// # Errors
    /// [`Park`] when it is of another version, or not a job.
    pub fn parse(body: &str) -> Result<Self, Park> {
        #[derive(Deserialize)]
        struct Head<'a> {
            v: u64,
            #[serde(borrow)]
            job: Option<Cow<'a, str>>,
            trace: Option<String>,
        }
        let park = |reason: Cow<'static, str>, job| Park { reason, job };
        let head: Head<'_> =
            serde_json::from_str(body).map_err(|_| park("not an envelope".into(), None))?;
        let job = JOB_NAMES
            .iter()
            .copied()
            .find(|name| head.job.as_deref() == Some(*name));
        if head.v != VERSION {
            return Err(park(format!("unknown version {}", head.v).into(), job));
        }
        if job.is_none() {
            return Err(park("unknown job".into(), None));
        }
        let job = serde_json::from_str(body).map_err(|_| park("malformed".into(), job))?;
        Ok(Self {
            job,
            trace: head.trace,
        })
    }
}

/// An event and the delivery's progress, as just written.
#[derive(Debug, Clone)]
pub struct InlinePayload {
    /// The project that published the event.
    pub project: ProjectId,
    /// The CloudEvents `type`, shared by all deliveries of the event.
    pub event_type: Arc<str>,
    /// The extension attribute `tenant`.
    pub tenant: Option<Arc<str>>,
    /// The CloudEvent in structured mode: the webhook's body.
    pub body: Bytes,
    /// When the event came, or when it was asked for again.
    pub received: Timestamp,
    /// Where the delivery stands.
    pub progress: Progress,
    /// When it is due again unless it is done.
    pub due: Timestamp,
    /// It was held back for its endpoint's sake: how late its next attempt is says
    /// nothing.
    pub is_untimed: bool,
}

impl Job {
    /// Whose it is, where that is carried along.
    pub fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::Deliver { payload, .. } => payload.as_ref().map(|payload| &payload.project),
            Self::FanOut { .. } | Self::Disable { .. } | Self::Recover { .. } => None,
        }
    }

    /// A name that two messages about the same work share, so that the
    /// in-process queue holds it once.
    pub fn subject(&self) -> &str {
        match self {
            Self::FanOut { event } => event.as_str(),
            Self::Deliver { delivery, .. } => delivery.as_str(),
            Self::Disable { endpoint } => endpoint.as_str(),
            Self::Recover { recovery, .. } => recovery.as_str(),
        }
    }

    /// What it is called in a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::FanOut { .. } => JOB_NAMES[0],
            Self::Deliver { .. } => JOB_NAMES[1],
            Self::Disable { .. } => JOB_NAMES[2],
            Self::Recover { .. } => JOB_NAMES[3],
        }
    }

    /// Bytes of event bodies it holds in memory.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Deliver {
                payload: Some(payload),
                ..
            } => payload.body.len(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs() -> [Job; 4] {
        let event = EventId::derive(&ProjectId::new(0, [0; 10]), "", "1");
        let endpoint = EndpointId::new(0, [0; 10]);
        let delivery = DeliveryId::new(&event, &endpoint);
        [
            Job::FanOut { event },
            Job::Deliver {
                delivery,
                attempts_made: 3,
                payload: None,
            },
            Job::Disable { endpoint },
            Job::Recover {
                recovery: RecoveryId::new(0, [0; 10]),
                page: 2,
            },
        ]
    }

    fn reason(body: &str) -> String {
        Envelope::parse(body).unwrap_err().to_string()
    }

    #[test]
    fn a_message_says_its_job_again() {
        for job in jobs() {
            let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
            let sent = Envelope { job, trace };
            let read = Envelope::parse(&sent.to_json()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{sent:?}"));
            let kind = serde_json::from_str::<serde_json::Value>(&sent.to_json()).unwrap();
            assert_eq!(kind["job"], read.job.kind());
        }
    }

    #[test]
    fn the_shape_of_a_message_stays() {
        let [_, job, ..] = jobs();
        insta::assert_snapshot!(
            Envelope { job, trace: None }.to_json(),
            @r#"{"v":1,"job":"deliver","delivery":"dlv_nnzjfgbfbtx8zqv6ppgtss039r82jn3r00000000000000000000000000","made":3}"#
        );
    }

    #[test]
    fn an_unknown_field_is_ignored() {
        let [job, ..] = jobs();
        let body = Envelope { job, trace: None }.to_json();
        assert!(Envelope::parse(&body.replacen('{', "{\"new\":[1],", 1)).is_ok());
    }

    #[test]
    fn what_no_worker_can_use_is_parked_and_not_quoted() {
        let [job, ..] = jobs();
        let body = Envelope { job, trace: None }.to_json();
        let parked = Envelope::parse(&body.replace("\"v\":1", "\"v\":2")).unwrap_err();
        assert_eq!(parked.to_string(), "unknown version 2");
        assert_eq!(parked.job, Some("fan_out"));
        assert_eq!(reason(r#"{"v":3,"work":"s3cret"}"#), "unknown version 3");
        assert_eq!(reason(r#"{"v":1,"job":"s3cret"}"#), "unknown job");
        for job in [
            r#"{"v":1,"job":"fan_out"}"#,
            r#"{"v":1,"job":"fan_out","event":"s3cret"}"#,
        ] {
            assert_eq!(reason(job), "malformed");
        }
        for body in [
            "s3cret",
            "",
            "[]",
            r#"{"job":"fan_out"}"#,
            r#"{"v":-1,"job":"fan_out"}"#,
        ] {
            assert_eq!(reason(body), "not an envelope");
        }
    }

    #[test]
    fn an_old_message_is_parked() {
        let [job, ..] = jobs();
        let body = Envelope { job, trace: None }.to_json();
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let open = |sent: &str| Envelope::open(&body, Some(sent.parse().unwrap()), now);
        assert!(open("2026-01-09T00:00:00Z").is_ok());
        assert!(open("2026-01-11T00:00:00Z").is_ok(), "a clock may be ahead");
        let parked = open("2026-01-08T23:00:00Z").unwrap_err();
        assert_eq!(parked.to_string(), "too old: sent 25 hours ago");
        assert!(Envelope::open(&body, None, now).is_ok());
    }
}
