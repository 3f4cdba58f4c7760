//! The budgets of running jobs: how many of a class run at a time, and how many of
//! these may be one project's.

use std::collections::HashMap;

use crate::model::id::ProjectId;

/// Whose jobs these are; none while that is not known.
pub(super) type Owner = Option<ProjectId>;

/// What a project may have running is this many times what would be left free: alone
/// it has three quarters, the next one three quarters of the rest, and so on.
const OWNER_SHARE: usize = 3;

/// How many jobs run, and whose they are.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    /// Of an owner's jobs, for each place that is free.
    owner_share: usize,
    running: usize,
    by_owner: HashMap<Owner, usize>,
}

impl Budget {
    /// For jobs that free their places soon: whoever comes has them.
    pub fn first_come(max: usize) -> Self {
        Self::new(max, usize::MAX)
    }

    /// For jobs that may stay long: no project has so many that nothing is left for
    /// the others.
    pub fn shared(max: usize) -> Self {
        Self::new(max, OWNER_SHARE)
    }

    fn new(max: usize, owner_share: usize) -> Self {
        Self {
            max,
            owner_share,
            running: 0,
            by_owner: HashMap::new(),
        }
    }

    pub fn has_room(&self) -> bool {
        self.running < self.max
    }

    /// Whether one more job of `owner` may run.
    pub fn admits(&self, owner: &Owner) -> bool {
        let free = self.max.saturating_sub(self.running);
        let own = self.by_owner.get(owner).copied().unwrap_or_default();
        free > 0 && own < free.saturating_mul(self.owner_share)
    }

    pub fn add(&mut self, owner: &Owner) {
        self.running += 1;
        *self.by_owner.entry(owner.clone()).or_default() += 1;
    }

    pub fn remove(&mut self, owner: &Owner) {
        self.running -= 1;
        if let Some(own) = self.by_owner.get_mut(owner) {
            *own -= 1;
            if *own == 0 {
                self.by_owner.remove(owner);
            }
        }
    }
}
