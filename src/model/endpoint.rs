//! An endpoint as the data plane sees it.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use super::filter::Filter;
use super::id::EndpointId;
use super::signature::Secret;

/// Whether an endpoint takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EndpointState)]
pub enum State {
    /// It does.
    Enabled,
    /// Paused by a person: new events pass it by; pending deliveries wait, and are
    /// forgotten with their events.
    Disabled,
    /// It answered 410: as disabled, until a person enables it.
    Gone,
    /// Deleted: pending deliveries are canceled.
    Deleted,
}

impl State {
    /// The name in JSON and in the stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Gone => "gone",
            Self::Deleted => "deleted",
        }
    }
}

impl std::str::FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        match text {
            "enabled" => Ok(Self::Enabled),
            "disabled" => Ok(Self::Disabled),
            "gone" => Ok(Self::Gone),
            "deleted" => Ok(Self::Deleted),
            _ => Err(UnknownState),
        }
    }
}

/// Not the name of a [`State`].
#[derive(Debug, thiserror::Error)]
#[error("expected enabled, disabled, gone or deleted")]
pub struct UnknownState;

/// Where and how to deliver: what the data plane needs of an endpoint.
#[derive(Debug)]
pub struct Target {
    /// The endpoint.
    pub id: EndpointId,
    /// Which of its versions this is.
    pub version: i64,
    /// Where to POST.
    pub url: Url,
    /// Which events it takes.
    pub filter: Filter,
    /// Whether it takes any.
    pub state: State,
    /// Signing secrets, the newest first; a rotated one until it expires.
    pub secrets: Vec<Signer>,
}

/// A signing secret and until when it signs.
#[derive(Debug)]
pub struct Signer {
    /// The secret.
    pub secret: Secret,
    /// Absent for the current one.
    pub expires_at: Option<Timestamp>,
}

impl Target {
    /// Whether an event of `event_type` and `tenant` goes here.
    pub fn takes(&self, event_type: &str, tenant: Option<&str>) -> bool {
        self.state == State::Enabled && self.filter.matches(event_type, tenant)
    }

    /// The secrets that sign at `now`.
    pub fn signing(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        self.secrets
            .iter()
            .filter(move |signer| signer.expires_at.is_none_or(|at| at > now))
            .map(|signer| &signer.secret)
    }
}

/// The endpoints of a project, as read together.
#[derive(Debug, Default)]
pub struct Targets {
    list: Vec<Target>,
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
            list,
            by_id,
            unreadable,
        }
    }

    /// The endpoints that are there but cannot be read.
    pub fn unreadable(&self) -> &[EndpointId] {
        &self.unreadable
    }

    /// Whether the endpoint called `id` is there, readable or not.
    pub fn knows(&self, id: &EndpointId) -> bool {
        self.by_id.contains_key(id) || self.unreadable.contains(id)
    }

    /// The endpoint called `id`, whatever its state.
    pub fn get(&self, id: &EndpointId) -> Option<&Target> {
        self.by_id.get(id).map(|n| &self.list[*n])
    }

    /// The endpoints that take an event of `event_type` and `tenant`.
    pub fn matching<'a>(
        &'a self,
        event_type: &'a str,
        tenant: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Target> {
        self.list
            .iter()
            .filter(move |target| target.takes(event_type, tenant))
    }
}
