//! What a list of endpoints is narrowed to.

use crate::model::endpoint::EndpointState;

/// What a list of endpoints is narrowed to.
#[derive(Debug, Clone, Copy, Default)]
pub struct EndpointFilter<'a> {
    /// Only those of this tenant.
    pub tenant: Option<&'a str>,
    /// Only those in this state.
    pub state: Option<EndpointState>,
    /// Only those that fail, which are these, or only the others.
    pub failing: Option<(&'a [String], bool)>,
}
