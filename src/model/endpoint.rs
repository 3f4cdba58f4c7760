//! An endpoint, as far as delivering to it goes.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use super::access::Access;
use super::credentials::EndpointCredentials;
use super::endpoint_ref::{EndpointRef, EndpointUid};
use super::failure_streak::{FailureStreak, LatestStreak};
use super::filter::Filter;
use super::id::{EndpointId, ProjectId};
use super::pacing;
use super::signature::Secret;
use crate::error::Invalid;

/// Whether an endpoint takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// It does.
    Enabled,
    /// Paused by a person: new events pass it by; pending deliveries wait, and are
    /// forgotten with their events.
    Disabled,
    /// It answered 410: as disabled, until a person enables it.
    Gone,
    /// It failed for days on end: as disabled, until a person enables it.
    Failed,
    /// Deleted: pending deliveries are canceled.
    Deleted,
}

impl EndpointState {
    /// The name in JSON and in the stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Gone => "gone",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }
}

impl std::str::FromStr for EndpointState {
    type Err = UnknownEndpointState;

    fn from_str(text: &str) -> Result<Self, UnknownEndpointState> {
        match text {
            "enabled" => Ok(Self::Enabled),
            "disabled" => Ok(Self::Disabled),
            "gone" => Ok(Self::Gone),
            "failed" => Ok(Self::Failed),
            "deleted" => Ok(Self::Deleted),
            _ => Err(UnknownEndpointState),
        }
    }
}

/// Not the name of a [`EndpointState`].
#[derive(Debug, thiserror::Error)]
#[error("expected enabled, disabled, gone, failed or deleted")]
pub struct UnknownEndpointState;

/// What the body of a webhook is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyFormat {
    /// The whole CloudEvent in JSON: structured mode of the HTTP binding.
    #[default]
    Cloudevents,
    /// Its data alone, with its attributes as `ce-` headers, which are signed by
    /// themselves: binary mode of the HTTP binding.
    Data,
}

impl BodyFormat {
    /// The name in JSON and in the stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cloudevents => "cloudevents",
            Self::Data => "data",
        }
    }
}

impl std::str::FromStr for BodyFormat {
    type Err = UnknownBodyFormat;

    fn from_str(text: &str) -> Result<Self, UnknownBodyFormat> {
        match text {
            "cloudevents" => Ok(Self::Cloudevents),
            "data" => Ok(Self::Data),
            _ => Err(UnknownBodyFormat),
        }
    }
}

/// Not the name of a [`BodyFormat`].
#[derive(Debug, thiserror::Error)]
#[error("expected cloudevents or data")]
pub struct UnknownBodyFormat;

/// What a webhook's `Content-Type` is, where its body is the whole event. The body is
/// the same: JSON, either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub enum ContentType {
    /// As structured mode of the CloudEvents HTTP binding has it, and as CloudEvents
    /// SDKs tell an event by.
    #[default]
    #[serde(rename = "application/cloudevents+json")]
    CloudeventsJson,
    /// For receivers that parse this type alone.
    #[serde(rename = "application/json")]
    Json,
}

impl ContentType {
    /// The media type: in JSON, in the stores and in the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CloudeventsJson => "application/cloudevents+json",
            Self::Json => "application/json",
        }
    }
}

impl std::str::FromStr for ContentType {
    type Err = UnknownContentType;

    fn from_str(text: &str) -> Result<Self, UnknownContentType> {
        match text {
            "application/cloudevents+json" => Ok(Self::CloudeventsJson),
            "application/json" => Ok(Self::Json),
            _ => Err(UnknownContentType),
        }
    }
}

/// Not the media type of a [`ContentType`].
#[derive(Debug, thiserror::Error)]
#[error("expected application/cloudevents+json or application/json")]
pub struct UnknownContentType;

/// How an endpoint is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeliverySettings {
    /// Attempts a second by all processes together; as many as come if absent.
    pub rate_limit: Option<u32>,
    /// Attempts at once by one process, if fewer than the configured number.
    pub max_concurrency: Option<u32>,
    /// What it is sent.
    pub body_format: BodyFormat,
    /// As what that is sent, where it is the whole event.
    pub content_type: ContentType,
}

/// The most attempts at once that an endpoint may ask for.
pub const CONCURRENCY_MAX: u32 = 1000;

impl DeliverySettings {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Invalid`], which names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        let within = |name: &'static str, number: Option<u32>, most: u32| match number {
            Some(number) if !(1..=most).contains(&number) => {
                Err(Invalid::new(name, format!("expected null or 1 to {most}")))
            }
            _ => Ok(()),
        };
        within("rate_limit", self.rate_limit, pacing::PER_SECOND_MAX)?;
        within("max_concurrency", self.max_concurrency, CONCURRENCY_MAX)
    }
}

/// Where and how to deliver: an endpoint as the event store has it.
#[derive(Debug)]
pub struct Target {
    /// The id of the endpoint, which keys its lane and its breaker too.
    pub id: EndpointId,
    /// What its owner calls it.
    pub uid: Option<EndpointUid>,
    /// Which of its versions this is.
    pub version: i64,
    /// The URL that webhooks are posted to.
    pub url: Url,
    /// Which events it takes.
    pub filter: Filter,
    /// Whether it takes any.
    pub state: EndpointState,
    /// Signing secrets, the newest first; a rotated one until it expires.
    pub secrets: Vec<ExpiringSecret>,
    /// How it is called.
    pub delivery_settings: DeliverySettings,
    /// What its requests carry beside the signature; none if it cannot be opened.
    pub credentials: Option<EndpointCredentials>,
    /// When it was last turned on.
    pub enabled_at: Timestamp,
    /// Since when nothing but failures is known of it.
    pub failure_streak: LatestStreak,
}

/// That the data plane disabled an endpoint, which the control plane has yet to be
/// told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingDisable {
    /// The version that attempts were made with. Later ones are not meant: a clock
    /// could not tell them apart, as each machine has its own.
    pub version: i64,
    /// When it was disabled.
    pub at: Timestamp,
    /// What it is now: gone or failed.
    pub state: EndpointState,
    /// Whose it is; absent in what an older version wrote.
    pub project: Option<ProjectId>,
    /// Since when it had failed.
    pub failing_since: Option<Timestamp>,
}

/// A signing secret and until when it signs.
#[derive(Debug)]
pub struct ExpiringSecret {
    /// What signs.
    pub secret: Secret,
    /// Absent for the current one.
    pub expires_at: Option<Timestamp>,
}

impl Target {
    /// Whether an event of `event_type` and `tenant` goes here.
    pub fn accepts(&self, event_type: &str, tenant: Option<&str>) -> bool {
        self.state == EndpointState::Enabled && self.filter.matches(event_type, tenant)
    }

    /// The run of failures since it was last turned on.
    pub fn failure_streak(&self) -> Option<FailureStreak> {
        self.failure_streak
            .get()
            .filter(|failing| failing.since >= self.enabled_at)
    }

    /// The secrets that sign at `now`.
    pub fn active_secrets(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        self.secrets
            .iter()
            .filter(move |signer| signer.expires_at.is_none_or(|at| at > now))
            .map(|signer| &signer.secret)
    }
}

/// The endpoints of a project, as read together.
#[derive(Debug, Default, Clone)]
pub struct Targets {
    list: Vec<Arc<Target>>,
    by_id: HashMap<EndpointId, usize>,
    unreadable: Vec<EndpointId>,
}

impl Targets {
    /// Collects `list`, and the endpoints whose configuration this version cannot
    /// read: nothing is decided about those.
    pub fn new(list: Vec<Target>, unreadable: Vec<EndpointId>) -> Self {
        let by_id = list
            .iter()
            .enumerate()
            .map(|(n, target)| (target.id.clone(), n))
            .collect();
        Self {
            list: list.into_iter().map(Arc::new).collect(),
            by_id,
            unreadable,
        }
    }

    /// These with `target` in place of an older version of it; as they are if they have
    /// a later one.
    pub fn with(&self, target: Target) -> Self {
        let mut changed = self.clone();
        changed.unreadable.retain(|id| *id != target.id);
        match self.by_id.get(&target.id) {
            Some(place) if self.list[*place].version > target.version => {}
            Some(place) => {
                let before = &self.list[*place];
                target.failure_streak.set(before.failure_streak.get());
                changed.list[*place] = Arc::new(target);
            }
            None => {
                changed.by_id.insert(target.id.clone(), self.list.len());
                changed.list.push(Arc::new(target));
            }
        }
        changed
    }

    /// Takes note of the runs of failures that there are now.
    pub fn set_failure_streaks(&self, streaks: &HashMap<EndpointId, FailureStreak>) {
        for target in &self.list {
            target.failure_streak.set(streaks.get(&target.id).copied());
        }
    }

    /// Every endpoint that can be read, whatever its state.
    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        self.list.iter().map(|target| &**target)
    }

    /// The endpoints that are there but cannot be read.
    pub fn unreadable(&self) -> &[EndpointId] {
        &self.unreadable
    }

    /// Whether the endpoint called `id` is there, readable or not.
    pub fn contains(&self, id: &EndpointId) -> bool {
        self.by_id.contains_key(id) || self.unreadable.contains(id)
    }

    /// The ids of all that are there, readable or not, by age.
    pub fn ids(&self) -> Vec<EndpointId> {
        let readable = self.list.iter().map(|target| &target.id);
        let mut ids: Vec<_> = readable.chain(&self.unreadable).cloned().collect();
        ids.sort_unstable();
        ids
    }

    /// The ids of those that `access` reaches, by age: whose tenant cannot be read is
    /// nobody's but the project's.
    pub fn ids_within(&self, access: &Access) -> Vec<EndpointId> {
        if access.tenant().is_none() {
            return self.ids();
        }
        let own = |target: &&Arc<Target>| access.covers(target.filter.tenant());
        let own = self.list.iter().filter(own);
        let mut ids: Vec<_> = own.map(|target| target.id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// The endpoint called `id`, whatever its state.
    pub fn get(&self, id: &EndpointId) -> Option<&Target> {
        self.by_id.get(id).map(|n| &*self.list[*n])
    }

    /// The endpoint that is named so and not deleted, if it is known here and can be
    /// read.
    pub fn find(&self, named: &EndpointRef) -> Option<&Target> {
        let found = match named {
            EndpointRef::Id(id) => self.get(id),
            EndpointRef::Uid(uid) => self.list.iter().map(|target| &**target).find(|target| {
                // A deleted one may have had it before.
                target.uid.as_ref() == Some(uid) && target.state != EndpointState::Deleted
            }),
        };
        found.filter(|target| target.state != EndpointState::Deleted)
    }

    /// The endpoints that take an event of `event_type` and `tenant`.
    pub fn matching<'a>(
        &'a self,
        event_type: &'a str,
        tenant: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Target> {
        let targets = self.list.iter().map(|target| &**target);
        targets.filter(move |target| target.accepts(event_type, tenant))
    }
}
