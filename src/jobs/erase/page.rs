//! A page of an erasure: how much it may delete, and what it came to.

use crate::app::App;
use crate::model::erasure::ErasureProgress;
use crate::store::erasures::items::DeletedItems;

/// The least and the most items of a page.
const PAGE_ITEMS: (usize, usize) = (25, 1_000);
/// The position of a step that begins again where it began: it found more than it may
/// delete at once.
pub(super) const AGAIN: &str = "again";

/// What a page of a step came to.
#[derive(Debug, Default)]
pub struct StepPage {
    /// What was deleted.
    pub progress: ErasureProgress,
    /// Items and rows written, by which it is paced.
    pub items: usize,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

impl StepPage {
    pub(super) fn add(&mut self, deleted: &DeletedItems) {
        let (sum, more) = (&mut self.progress, &deleted.progress);
        sum.events += more.events;
        sum.deliveries += more.deliveries;
        sum.readings += more.readings;
        sum.recoveries += more.recoveries;
        self.items += deleted.items;
    }
}

/// Items that a page may delete.
pub(super) fn page_items(app: &App) -> usize {
    let (least, most) = PAGE_ITEMS;
    (app.config.erasure.per_second_max as usize).clamp(least, most)
}
