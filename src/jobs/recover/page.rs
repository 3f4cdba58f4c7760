//! What a page of a recovery came to.

use std::time::Duration;

use crate::store::recoveries::PageResult;

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
