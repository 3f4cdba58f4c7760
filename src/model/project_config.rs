//! The configuration of a project, as the event store has it: all that accepting and
//! delivering its events takes, read together and cached.

use std::sync::Arc;

use super::endpoint::Targets;
use super::event_type::EventTypeSchemas;
use super::meter_set::MeterSet;

/// A project's configuration as of one moment.
#[derive(Debug, Default, Clone)]
pub struct ProjectConfig {
    /// The endpoints that its webhooks go to.
    pub targets: Targets,
    /// The meters that its events are counted by.
    pub meters: Arc<MeterSet>,
    /// What the data of its events must satisfy.
    pub event_types: Arc<EventTypeSchemas>,
    /// It is erased, or is being erased: nothing is accepted for it.
    pub is_erased: bool,
}
