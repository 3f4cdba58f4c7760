//! What the data plane knows of a project: all that accepting and delivering its
//! events take, read together and kept for a moment.

use super::endpoint::Targets;
use super::event_type::Types;

/// A project's configuration as of one moment.
#[derive(Debug, Default)]
pub struct View {
    /// Where its webhooks go.
    pub targets: Targets,
    /// What the data of its events must satisfy.
    pub types: Types,
}
