//! The data in an erasure: events with all that lies below them, recoveries, and the
//! deliveries that jobs under way wrote of events that were gone.

use futures_util::future;

use super::page::{AGAIN, StepPage, page_items};
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::erasure::Erasure;
use crate::model::id::{EndpointId, EventId};
use crate::store::erasures::{config, items};
use crate::store::{events, keys};

/// Events deleted at a time.
const EVENTS_AT_ONCE: usize = 8;
/// Endpoints that one page looks at.
const ENDPOINTS_MAX: usize = 25;

/// Deletes a page of events; of an event, what there is of it.
pub(super) async fn delete_events(app: &App, claimed: &Erasure) -> Result<StepPage> {
    let most = page_items(app);
    let mut page = StepPage::default();
    if let Some(event) = claimed.event() {
        if is_published_again(app, claimed, &event).await? {
            return Ok(page);
        }
        let deleted = items::delete_event(&app.dynamo, &event, most).await?;
        page.add(&deleted);
        page.next = deleted.has_more.then(|| AGAIN.to_owned());
        return Ok(page);
    }
    // What is deleted is listed no more, so where it began is where it goes on.
    let mut position = claimed.position.clone().unwrap_or(keys::TIMES_END.into());
    let after = Some(position.as_str());
    let (rows, next) = items::list_events(&app.dynamo, claimed, after).await?;
    for some in rows.chunks(EVENTS_AT_ONCE) {
        let left = most.saturating_sub(page.items);
        let deletes = some
            .iter()
            .map(|row| items::delete_event(&app.dynamo, &row.id, left));
        let deleted = future::try_join_all(deletes).await?;
        for one in &deleted {
            page.add(one);
        }
        if deleted.iter().any(|one| one.has_more) {
            page.next = Some(position);
            return Ok(page);
        }
        position = some.last().map_or(position, items::position_after);
        if page.items >= most {
            page.next = Some(position);
            return Ok(page);
        }
    }
    page.next = next;
    Ok(page)
}

/// Whether there is a new event of that id, which its publisher was told is kept: the
/// same source and id give the same one.
async fn is_published_again(app: &App, claimed: &Erasure, id: &EventId) -> Result<bool> {
    let kept = events::place(&app.dynamo, id).await?;
    Ok(kept.is_some_and(|kept| claimed.until().is_some_and(|until| kept.received > until)))
}

/// Deletes a page of recoveries.
pub(super) async fn delete_recoveries(app: &App, claimed: &Erasure) -> Result<StepPage> {
    let after = claimed.position.as_deref();
    let (deleted, next) = items::delete_recoveries(&app.dynamo, claimed, after).await?;
    let mut page = StepPage {
        next,
        ..StepPage::default()
    };
    page.add(&deleted);
    Ok(page)
}

/// Where the look for deliveries without an event is: at an endpoint, and in its
/// timeline.
struct StrayPosition {
    endpoint: EndpointId,
    after: Option<String>,
}

impl StrayPosition {
    /// The next place after `text`, which [`StrayPosition::write`] wrote; none after the
    /// last endpoint.
    async fn next(app: &App, claimed: &Erasure, text: &str) -> Result<Option<Self>> {
        let (endpoint, after) = text.split_once('#').unwrap_or_default();
        if !after.is_empty() {
            return Ok(Some(Self {
                endpoint: endpoint.parse().map_err(Error::internal)?,
                after: Some(after.to_owned()),
            }));
        }
        let next = config::next_endpoint(&app.postgres, claimed, endpoint).await?;
        Ok(next.map(|endpoint| Self {
            endpoint,
            after: None,
        }))
    }

    fn write(endpoint: &EndpointId, after: Option<&str>) -> String {
        format!("{endpoint}#{}", after.unwrap_or_default())
    }
}

/// Deletes deliveries without an event at the next endpoints.
pub(super) async fn delete_strays(app: &App, claimed: &Erasure) -> Result<StepPage> {
    let mut page = StepPage::default();
    let mut position = claimed.position.clone().unwrap_or_default();
    for _ in 0..ENDPOINTS_MAX {
        let Some(at) = StrayPosition::next(app, claimed, &position).await? else {
            page.next = None;
            return Ok(page);
        };
        let after = at.after.as_deref();
        let (deleted, next) =
            items::delete_strays(&app.dynamo, claimed, &at.endpoint, after).await?;
        page.add(&deleted);
        position = StrayPosition::write(&at.endpoint, next.as_deref());
        if page.items >= page_items(app) {
            break;
        }
    }
    page.next = Some(position);
    Ok(page)
}
