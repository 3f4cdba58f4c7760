//! What is remembered of endpoints that have no lane.

use std::collections::HashMap;

use super::budget::Owner;
use super::lane::LaneClass;
use crate::model::id::EndpointId;

/// Endpoints whose speed is remembered; at more, all are forgotten.
const REMEMBERED_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct KnownEndpoints(HashMap<EndpointId, (LaneClass, Owner)>);

impl KnownEndpoints {
    pub fn get(&self, endpoint: &EndpointId) -> (LaneClass, &Owner) {
        let known = self.0.get(endpoint);
        known.map_or((LaneClass::Unknown, &None), |(class, owner)| {
            (*class, owner)
        })
    }

    pub fn remember(&mut self, endpoint: &EndpointId, class: LaneClass, owner: Owner) {
        if let Some(known) = self.0.get_mut(endpoint) {
            *known = (class, owner);
            return;
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(endpoint.clone(), (class, owner));
    }
}
