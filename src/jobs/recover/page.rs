//! A page of a recovery: the part of the timeline it is taken from, and what it
//! came to.

use std::time::Duration;

use crate::model::recovery::Recovery;
use crate::store::recoveries::PageResult;
use crate::store::timeline::TimelineRange;

/// What a page came to.
#[derive(Debug)]
pub enum PageOutcome {
    /// It is done, and another may follow.
    Stepped(PageResult),
    /// Its endpoint is not here; after this long it may be.
    NotYet(Duration),
    /// There is no use in another, for this reason.
    Failed(String),
}

/// The part of the timeline that the next page is taken from.
pub(super) fn range(recovery: &Recovery, limit: usize) -> TimelineRange {
    TimelineRange {
        since: Some(recovery.since),
        until: Some(recovery.until),
        after: recovery.cursor.clone(),
        limit,
    }
}
