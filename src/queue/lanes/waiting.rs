//! The jobs that wait in lanes, counted.

use std::collections::HashMap;

use super::budget::Owner;

/// What waits, of all lanes together.
#[derive(Debug, Default)]
pub(super) struct WaitingJobs {
    pub jobs: usize,
    pub bytes: usize,
    /// Those of slow endpoints.
    pub slow: usize,
    by_owner: HashMap<Owner, usize>,
}

impl WaitingJobs {
    /// How many are `owner`'s.
    pub fn of(&self, owner: &Owner) -> usize {
        self.by_owner.get(owner).copied().unwrap_or_default()
    }

    pub fn add(&mut self, owner: Owner, bytes: usize, is_slow: bool) {
        self.jobs += 1;
        self.bytes += bytes;
        self.slow += usize::from(is_slow);
        *self.by_owner.entry(owner).or_default() += 1;
    }

    pub fn remove(&mut self, owner: &Owner, bytes: usize, is_slow: bool) {
        self.jobs -= 1;
        self.bytes -= bytes;
        self.slow -= usize::from(is_slow);
        self.take_owner(owner, 1);
    }

    /// Has so many of `from`'s be `to`'s.
    pub fn move_owner(&mut self, from: &Owner, to: &Owner, jobs: usize) {
        if jobs > 0 {
            self.take_owner(from, jobs);
            *self.by_owner.entry(to.clone()).or_default() += jobs;
        }
    }

    fn take_owner(&mut self, owner: &Owner, jobs: usize) {
        if let Some(own) = self.by_owner.get_mut(owner) {
            *own -= jobs;
            if *own == 0 {
                self.by_owner.remove(owner);
            }
        }
    }
}
