//! What a queue message asks for.
//!
//! A message is a hint: everything it says can be found again by the due index,
//! so a lost one delays its work and a second one does nothing.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::delivery::Progress;
use super::id::{DeliveryId, EndpointId, EventId, ProjectId};

/// A piece of work, by the name of what it is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum Job {
    /// Write and enqueue the deliveries of an event that matches many endpoints,
    /// or that is replayed.
    FanOut {
        /// The event.
        event: EventId,
    },
    /// Make one attempt.
    Deliver {
        /// What to deliver where.
        delivery: DeliveryId,
        /// Attempts made when this was enqueued; a message about another attempt
        /// than the next one is stale and does nothing.
        made: u32,
        /// What the in-process queue carries along, to spare the reads.
        #[serde(skip)]
        carried: Option<Carried>,
    },
    /// Tell the control plane that an endpoint answered 410.
    Disable {
        /// The endpoint.
        endpoint: EndpointId,
    },
}

/// An event and the delivery's progress, as just written.
#[derive(Debug, Clone)]
pub struct Carried {
    /// The project.
    pub project: ProjectId,
    /// The CloudEvent in structured mode: the webhook's body.
    pub body: Bytes,
    /// When the event came, or when it was asked for again.
    pub received: Timestamp,
    /// Where the delivery stands.
    pub progress: Progress,
}

impl Job {
    /// A name that two messages about the same work share, so that the
    /// in-process queue holds it once.
    pub fn name(&self) -> &str {
        match self {
            Self::FanOut { event } => event.as_str(),
            Self::Deliver { delivery, .. } => delivery.as_str(),
            Self::Disable { endpoint } => endpoint.as_str(),
        }
    }

    /// Bytes of event bodies it holds in memory.
    pub fn carried_bytes(&self) -> usize {
        match self {
            Self::Deliver {
                carried: Some(carried),
                ..
            } => carried.body.len(),
            _ => 0,
        }
    }
}
