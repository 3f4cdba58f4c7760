//! The list of a whole project's deliveries, a group of endpoints at a time.
//!
//! Deliveries are kept by endpoint and no index has them by project: it would cost
//! every delivery that fails one write more. So a page merges the lists of a group of
//! endpoints, as bounded as that of one is, and its cursor names the group.

use crate::app::App;
use crate::error::Result;
use crate::model::id::{EndpointId, ProjectId};
use crate::store::deliveries::{self, DeliveryFilter, DeliveryPage, Receivers, StoredDelivery};
use crate::store::keys;
use crate::store::timeline::{READ_MAX, TimelineRange};

/// Endpoints whose deliveries are merged. Each takes a read of every shard.
const GROUP_MAX: usize = 16;
/// Groups that are looked at for a page.
const GROUPS_MAX: usize = 8;

/// Where a page ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The last endpoint of the groups that are done; none if none is.
    done: Option<EndpointId>,
    /// The last endpoint of the group in hand, and where in it; none at its beginning.
    within: Option<(EndpointId, String)>,
}

impl Position {
    fn write(&self) -> String {
        let done = self.done.as_ref().map_or("", EndpointId::as_str);
        match &self.within {
            Some((last, after)) => format!("{done}/{last}/{after}"),
            None => done.to_owned(),
        }
    }

    /// Reads what [`Position::write`] wrote; `None` for anything else.
    pub(super) fn read(text: String) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let done = match parts.next()? {
            "" => None,
            done => Some(done.parse().ok()?),
        };
        let within = match (parts.next(), parts.next()) {
            (None, _) => None,
            (Some(last), Some(after)) if keys::is_delivery_position(after) => {
                Some((last.parse().ok()?, after.to_owned()))
            }
            _ => return None,
        };
        let is_somewhere = done.is_some() || within.is_some();
        is_somewhere.then_some(Self { done, within })
    }

    /// The endpoints of the group in hand, of all `ids` by age. One that was created
    /// meanwhile comes last.
    fn group<'a>(&self, ids: &'a [EndpointId]) -> &'a [EndpointId] {
        let done = self.done.as_ref();
        let begin = ids.partition_point(|id| done.is_some_and(|done| id <= done));
        let end = match &self.within {
            Some((last, _)) => ids.partition_point(|id| id <= last).max(begin),
            None => ids.len().min(begin + GROUP_MAX),
        };
        &ids[begin..end.min(begin + GROUP_MAX)]
    }
}

/// Rows and the position after them, if more may follow.
type Rows = (Vec<StoredDelivery>, Option<String>);

/// A page of the deliveries to all endpoints of `project`, whatever `filter` says of
/// endpoints. Cost: that of the lists of up to [`GROUPS_MAX`] groups, of which
/// [`READ_MAX`] rows are looked at in all.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer.
pub(super) async fn list(
    app: &App,
    project: &ProjectId,
    filter: DeliveryFilter<'_>,
    mut range: TimelineRange,
    after: Option<Position>,
) -> Result<Rows> {
    let mut position = after.unwrap_or_default();
    let ids = app.projection.project_config(project).await?.targets.ids();
    let limit = range.limit;
    let (mut rows, mut examined) = (Vec::new(), 0);
    for _ in 0..GROUPS_MAX {
        let group = position.group(&ids);
        let within = position.within.take();
        let Some(last) = within.as_ref().map(|(last, _)| last).or(group.last()) else {
            return Ok((rows, None));
        };
        let last = last.clone();
        // A full page asks for one row more, to know whether it is the last.
        range.limit = (limit - rows.len()).max(1);
        range.after = within.map(|(_, after)| after);
        if !group.is_empty() {
            let to = Receivers::AnyOf(group);
            let of_group = DeliveryFilter {
                to,
                ..filter.clone()
            };
            let left = READ_MAX - examined;
            let page = deliveries::list(&app.dynamo, &of_group, &range, left).await?;
            let DeliveryPage {
                rows: found, next, ..
            } = page;
            if rows.len() == limit && !found.is_empty() {
                return Ok((rows, Some(position.write())));
            }
            rows.extend(found);
            examined += page.examined;
            if let Some(after) = next {
                position.within = Some((last, after));
                return Ok((rows, Some(position.write())));
            }
        }
        position.done = Some(last);
        if examined >= READ_MAX {
            break;
        }
    }
    let more = !position.group(&ids).is_empty();
    Ok((rows, more.then(|| position.write())))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::id::EventId;

    fn endpoint(n: u8) -> EndpointId {
        EndpointId::new(i64::from(n), [n; 10])
    }

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let event = EventId::derive(&ProjectId::new(1, [1; 10]), "/s", "1");
        let sort = keys::timeline_sort(Timestamp::UNIX_EPOCH, &event);
        let within = (endpoint(3), keys::delivery_position(&sort, &endpoint(2)));
        for position in [
            Position {
                done: Some(endpoint(1)),
                within: None,
            },
            Position {
                done: None,
                within: Some(within.clone()),
            },
            Position {
                done: Some(endpoint(1)),
                within: Some(within),
            },
        ] {
            assert_eq!(Position::read(position.write()), Some(position));
        }
        for forged in [
            "",
            "/",
            "//",
            "ep_1",
            "/ep_1/x",
            "/x",
            &format!("{}/", endpoint(1)),
        ] {
            assert_eq!(Position::read(forged.to_owned()), None, "{forged}");
        }
    }

    #[test]
    fn groups_are_every_endpoint_once_whatever_comes_and_goes() {
        let all: Vec<_> = (0..80).map(endpoint).collect();
        let mut position = Position::default();
        let mut seen = vec![];
        while let Some(last) = position.group(&all).last() {
            seen.extend_from_slice(position.group(&all));
            position.done = Some(last.clone());
        }
        assert_eq!(seen, all);
        // The last of the group in hand is gone, and others of it.
        let position = Position {
            done: Some(endpoint(9)),
            within: Some((endpoint(12), String::new())),
        };
        let left: Vec<_> = [5, 9, 11, 13].map(endpoint).into();
        assert_eq!(position.group(&left), [endpoint(11)]);
        assert!(position.group(&[endpoint(20)]).is_empty());
    }
}
