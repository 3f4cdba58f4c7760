//! The configuration of a project, as the event store has it: all that accepting and
//! delivering its events takes, read together and cached.

use super::endpoint::Targets;
use super::event::Event;
use super::event_type::EventTypeSchemas;
use super::meter::{Meter, Reading};

/// A project's configuration as of one moment.
#[derive(Debug, Default)]
pub struct ProjectConfig {
    /// The endpoints that its webhooks go to.
    pub targets: Targets,
    /// The meters that its events are counted by.
    pub meters: Vec<Meter>,
    /// What the data of its events must satisfy.
    pub event_types: EventTypeSchemas,
    /// It is erased, or is being erased: nothing is accepted for it.
    pub is_erased: bool,
}

impl ProjectConfig {
    /// What the project's meters read of `event`. Allocates nothing when none
    /// counts it.
    pub fn readings(&self, event: &Event) -> Vec<Reading> {
        let read = self.meters.iter().filter_map(|meter| meter.read(event));
        read.collect()
    }
}
