//! Cursor pages: `limit` and `cursor` in, `data` and `next_cursor` out.
//!
//! A cursor is a position in one list and is read in no other: it begins with a digest of
//! the list, which is the operation, the project, and whatever selects other rows or puts
//! them in another order. What a client may change from page to page is not in it: how
//! many rows, and the times between which they lie.
//!
//! The version before gave positions without a digest. They are read where they can be a
//! position of the list, so that who pages through one during a deployment goes on.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::Serialize;

use crate::error::{Error, Invalid, Result};
use crate::model::filter::TypePattern;
use crate::model::id::ProjectId;
use crate::store::keys;
use crate::store::timeline::TimelineRange;

/// Rows in a page when none is asked for.
const LIMIT_DEFAULT: usize = 50;
/// Rows in a page at most.
pub const LIMIT_MAX: usize = 100;
/// No position a list gives is longer.
const POSITION_LEN_MAX: usize = 255;

/// Bytes of a list's digest: no two lists of anybody's have the same by chance.
const DIGEST_LEN: usize = 8;
/// What a cursor with a digest begins with: a byte that no text has, so that it is no
/// position.
const DIGESTED: u8 = 0xff;

/// A list, as its cursors know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List([u8; DIGEST_LEN]);

impl List {
    /// The list that `operation` gives of `project`.
    pub fn of(operation: &str, project: &ProjectId) -> Self {
        Self::of_all(operation).with("project", Some(project.as_str()))
    }

    /// The list that `operation` gives of the whole deployment.
    pub fn of_all(operation: &str) -> Self {
        Self([0; DIGEST_LEN]).with("operation", Some(operation))
    }

    /// The part of it that `selector` selects, or which it was not asked to.
    pub fn with(self, selector: &str, value: Option<&str>) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.0);
        for part in [Some(selector), value].into_iter().flatten() {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let mut out = [0; DIGEST_LEN];
        out.copy_from_slice(&digest.finish().as_ref()[..DIGEST_LEN]);
        Self(out)
    }

    /// The cursor of `position` in it.
    fn cursor(self, position: &str) -> String {
        let parts = [&[DIGESTED], &self.0[..], position.as_bytes()];
        URL_SAFE_NO_PAD.encode(parts.concat())
    }

    /// The position that `cursor` is of, if it is one of this list.
    fn position(self, cursor: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let position = match bytes.strip_prefix(&[DIGESTED]) {
            Some(digested) => digested.strip_prefix(&self.0)?,
            None => &bytes,
        };
        String::from_utf8(position.to_vec()).ok()
    }
}

/// A page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Pass as `cursor` for the next page; null on the last. A page may be short,
    /// even empty, and not the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of `list` that ends at `position`, unless it is the last.
    pub fn new(list: List, data: Vec<T>, position: Option<String>) -> Self {
        Self {
            data,
            next_cursor: position.map(|position| list.cursor(&position)),
        }
    }

    /// A page of up to `limit` of `rows`, of which one more was asked for to see
    /// whether there is a next.
    pub fn from_lookahead<R>(
        list: List,
        mut rows: Vec<R>,
        limit: usize,
        position: impl Fn(&R) -> String,
        row: impl Fn(R) -> T,
    ) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let position = rows.last().filter(|_| more).map(position);
        Self::new(list, rows.into_iter().map(row).collect(), position)
    }
}

impl<T, E> Page<Result<T, E>> {
    /// The page, unless one of its rows is an error.
    ///
    /// # Errors
    /// The first row's that is one.
    pub fn transpose(self) -> Result<Page<T>, E> {
        Ok(Page {
            data: self.data.into_iter().collect::<Result<_, E>>()?,
            next_cursor: self.next_cursor,
        })
    }
}

/// Reads `limit`: 1 to 100, 50 if absent.
///
/// # Errors
/// [`Error::Invalid`] when it is out of range.
pub fn limit(limit: Option<usize>) -> Result<usize> {
    match limit.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(Error::invalid(
            "limit",
            format!("expected 1 to {LIMIT_MAX}"),
        )),
    }
}

/// Reads `cursor`: the position a former page of `list` ended at.
///
/// # Errors
/// [`Error::Invalid`] when no page of it gave it.
pub fn position(list: List, cursor: Option<&str>) -> Result<Option<String>> {
    let plain = |text: String| {
        let is_plain = (1..=POSITION_LEN_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic());
        is_plain.then_some(text)
    };
    position_by(list, cursor, plain)
}

/// The refusal of what is no cursor of the list.
pub fn no_cursor() -> Error {
    let detail = "expected the next_cursor of a former page of this list, asked for alike";
    Error::invalid("cursor", detail)
}

/// Reads `cursor` as `read` reads the position a former page of `list` ended at.
///
/// # Errors
/// [`Error::Invalid`] when it reads nothing.
pub fn position_by<T>(
    list: List,
    cursor: Option<&str>,
    read: impl FnOnce(String) -> Option<T>,
) -> Result<Option<T>> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    match list.position(cursor).and_then(read) {
        Some(position) => Ok(Some(position)),
        None => Err(no_cursor()),
    }
}

/// Reads `cursor` of a list in the order of ids of one kind; the position before all of
/// them without one.
///
/// # Errors
/// [`Error::Invalid`] when no page gave it.
pub fn id_position<T: FromStr>(list: List, cursor: Option<&str>) -> Result<String> {
    let read = |text: String| text.parse::<T>().is_ok().then_some(text);
    Ok(position_by(list, cursor, read)?.unwrap_or_default())
}

/// Reads `cursor` of a list by number.
///
/// # Errors
/// [`Error::Invalid`] when no page gave it.
pub fn numeric_position(list: List, cursor: Option<&str>) -> Result<Option<i64>> {
    position_by(list, cursor, |text| {
        let number = text.parse::<i64>().ok();
        // As a page writes it: no plus, no leading zeros.
        number.filter(|number| number.to_string() == text)
    })
}

/// Reads `type`: a pattern as in an endpoint's `event_types`, or any type without `*`
/// that an event may have.
///
/// # Errors
/// [`Error::Invalid`] when it is none.
pub fn type_pattern(text: Option<&str>) -> Result<Option<TypePattern>> {
    let read = |text: &str| {
        // Whoever writes `us*` means a pattern, and would find nothing.
        if text.contains('*') {
            TypePattern::parse(text)
        } else {
            TypePattern::for_list(text)
        }
    };
    let pattern = text.map(read).transpose();
    Ok(pattern.map_err(|invalid| Invalid::new("type", invalid.detail))?)
}

/// The range of a list of events or deliveries by time.
///
/// # Errors
/// [`Error::Invalid`] naming `limit`, `cursor` or `since`.
pub fn range(
    list: List,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit_asked: Option<usize>,
    cursor: Option<&str>,
) -> Result<TimelineRange> {
    let is_position = |after: &str| keys::event_of_timeline_sort(after).is_some();
    range_of(list, since, until, limit_asked, cursor, is_position)
}

/// The range of a list by time whose positions are those that `is_ours` knows.
///
/// # Errors
/// As [`range`].
pub fn range_of(
    list: List,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit_asked: Option<usize>,
    cursor: Option<&str>,
    is_position: impl Fn(&str) -> bool,
) -> Result<TimelineRange> {
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(Error::invalid("since", "expected a time before until"));
    }
    let after = position(list, cursor)?;
    if after.as_ref().is_some_and(|after| !is_position(after)) {
        return Err(no_cursor());
    }
    Ok(TimelineRange {
        since,
        until,
        after,
        limit: limit(limit_asked)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::KeyId;

    fn list() -> List {
        List::of_all("listThings")
    }

    fn cursor(position: &str) -> String {
        list().cursor(position)
    }

    #[test]
    fn a_cursor_is_of_one_list() {
        let project = |n| ProjectId::new(1, [n; 10]);
        let lists = [
            List::of_all("listThings"),
            List::of_all("listOthers"),
            List::of("listThings", &project(1)),
            List::of("listThings", &project(2)),
            List::of("listThings", &project(1)).with("type", None),
            List::of("listThings", &project(1)).with("type", Some("")),
            List::of("listThings", &project(1)).with("type", Some("a")),
            List::of("listThings", &project(1)).with("tenant", Some("a")),
        ];
        for (at, given) in lists.iter().enumerate() {
            let cursor = given.cursor("5");
            for (other, list) in lists.iter().enumerate() {
                let read = numeric_position(*list, Some(&cursor));
                assert_eq!(read.ok(), (at == other).then_some(Some(5)));
            }
        }
        // As the version before gave it.
        let bare = URL_SAFE_NO_PAD.encode("5");
        assert_eq!(numeric_position(list(), Some(&bare)).unwrap(), Some(5));
        let id = URL_SAFE_NO_PAD.encode(project(1).as_str());
        assert!(id_position::<ProjectId>(list(), Some(&id)).is_ok());
        assert!(id_position::<KeyId>(list(), Some(&id)).is_err());
    }

    #[test]
    fn a_number_is_read_as_a_page_writes_it() {
        for given in [0, -1, i64::MAX, i64::MIN] {
            let page = Page::<()>::new(list(), vec![], Some(given.to_string()));
            assert_eq!(
                numeric_position(list(), page.next_cursor.as_deref()).unwrap(),
                Some(given)
            );
        }
        for forged in ["", "+1", "01", "-0", "1 ", "9223372036854775808", "x"] {
            assert!(
                numeric_position(list(), Some(&cursor(forged))).is_err(),
                "{forged}"
            );
        }
    }

    #[test]
    fn a_place_in_time_is_read_as_a_page_writes_it() {
        let event = format!("evt_{}", "0".repeat(32));
        let range = |position: String| range(list(), None, None, None, Some(&cursor(&position)));
        let given = format!("1700000000000#{event}");
        assert_eq!(range(given.clone()).unwrap().after, Some(given));
        for forged in [
            event.clone(),
            format!("now-or-never!#{event}"),
            format!("1700000000000${event}"),
            "1700000000000#evt_0".into(),
        ] {
            assert!(range(forged).is_err());
        }
    }
}
