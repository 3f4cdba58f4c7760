//! The usage that a report is of, as its query says: parameters that may be given more
//! than once, `tenant` and `group[/pointer]`, are taken out of the others.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use url::form_urlencoded;

use crate::error::Invalid;
use crate::http::page::List;
use crate::model::meter::{OVERFLOW_GROUP, OVERFLOW_NAME, usage_tenant};
use crate::model::parse_error;
use crate::model::scalar::Scalar;
use crate::store::usage::report::GroupFilter;

/// Tenants that one report is of, unless it is of all.
const TENANTS_MAX: usize = 100;

/// The tenants and groups that a query names; none for all.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Each once, in their order.
    pub tenants: Vec<String>,
    /// By pointer.
    pub groups: BTreeMap<String, String>,
}

/// Reads `query` as a `T` and what it selects.
///
/// # Errors
/// [`Invalid`], which names the parameter.
pub(super) fn read<T: DeserializeOwned>(query: &str) -> Result<(T, Selection), Invalid> {
    let mut selection = Selection::default();
    let mut rest = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !selection.take(&name, &value)? {
            rest.append_pair(&name, &value);
        }
    }
    selection.tenants.sort_unstable();
    selection.tenants.dedup();
    if selection.tenants.len() > TENANTS_MAX {
        let detail = format!("expected it up to {TENANTS_MAX} times");
        return Err(Invalid::new("tenant", detail));
    }
    Ok((parse_error::from_query(&rest.finish())?, selection))
}

impl Selection {
    /// Whether the parameter `name` is one of its own, which it then takes.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, Invalid> {
        if name == "tenant" {
            if value.contains('\0') {
                return Err(Invalid::new("tenant", "expected no NUL"));
            }
            self.tenants.push(value.to_owned());
            return Ok(true);
        }
        let Some(rest) = name.strip_prefix("group") else {
            return Ok(false);
        };
        let pointer = rest
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        match pointer {
            Some(pointer) => {
                let before = self.groups.insert(pointer.to_owned(), value.to_owned());
                match before {
                    None => Ok(true),
                    Some(_) => Err(Invalid::new("group", "expected each pointer once")),
                }
            }
            None if rest.is_empty() => {
                let detail = "expected a pointer in brackets, as group[/plan]=pro";
                Err(Invalid::new("group", detail))
            }
            None => Ok(false),
        }
    }

    /// The rows of `list` that it selects.
    pub fn of(&self, list: List) -> List {
        let list = match self.tenants.as_slice() {
            [] => list.with("tenant", None),
            tenants => tenants
                .iter()
                .fold(list, |list, tenant| list.with("tenant", Some(tenant))),
        };
        self.groups.iter().fold(list, |list, (pointer, value)| {
            list.with("group", Some(pointer)).with("is", Some(value))
        })
    }

    /// The groups that it selects of a meter with that `group_by`.
    ///
    /// # Errors
    /// [`Invalid`] naming `group` when the meter does not group by one of its pointers.
    pub fn groups(&self, group_by: &[String]) -> Result<GroupFilter, Invalid> {
        if self.groups.is_empty() {
            return Ok(GroupFilter::Any);
        }
        if self.groups.len() == 1 && self.groups.get(OVERFLOW_NAME).is_some_and(is_overflow) {
            return Ok(GroupFilter::Overflow);
        }
        let place = |pointer: &String| group_by.iter().position(|known| known == pointer);
        let values = self.groups.iter().map(|(pointer, value)| {
            let place = place(pointer).and_then(|place| i32::try_from(place).ok());
            let place = place.ok_or_else(|| unknown_pointer(group_by))?;
            Ok((place, scalar(value).to_json()))
        });
        values.collect::<Result<_, _>>().map(GroupFilter::Values)
    }
}

/// The names that usage of `tenants` is counted under.
pub(super) fn counted_under(tenants: &[&str]) -> Vec<String> {
    let names = tenants.iter().map(|tenant| usage_tenant(tenant));
    names.map(Cow::into_owned).collect()
}

fn is_overflow(value: &String) -> bool {
    value == OVERFLOW_GROUP
}

fn unknown_pointer(group_by: &[String]) -> Invalid {
    let detail = match group_by {
        [] => "expected none: the meter has no group_by".to_owned(),
        known => format!("expected one of {} in the brackets", known.join(", ")),
    };
    Invalid::new("group", detail)
}

/// A value as it is written in a query: JSON if it is a scalar of it, else a string.
fn scalar(text: &str) -> Scalar {
    let is_bare = !text.starts_with([' ', '\t', '\r', '\n']);
    let json = Some(text)
        .filter(|text| is_bare && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    let read = json.and_then(Scalar::read);
    read.unwrap_or_else(|| Scalar::String(text.into()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rest {
        from: Option<String>,
    }

    fn selection(query: &str) -> Selection {
        read::<Rest>(query).unwrap().1
    }

    #[test]
    fn a_value_is_json_or_else_a_string() {
        for (written, json) in [
            ("pro", "\"pro\""),
            ("\"pro\"", "\"pro\""),
            ("1", "1"),
            ("1.0", "1"),
            ("\"1\"", "\"1\""),
            (" 1", "\" 1\""),
            ("01", "\"01\""),
            ("true", "true"),
            ("null", "null"),
            ("\"null\"", "\"null\""),
            ("", "\"\""),
            ("[1]", "\"[1]\""),
            ("{}", "\"{}\""),
            ("é\"", "\"é\\\"\""),
        ] {
            assert_eq!(scalar(written).to_json(), json, "{written}");
        }
    }

    #[test]
    fn what_may_come_often_is_taken_and_the_rest_is_left() {
        let (rest, selection) =
            read::<Rest>("tenant=b&from=a%26b&tenant=a&tenant=b&group[/a]=1&group%5B%2Fb%5D%5D=x")
                .unwrap();
        assert_eq!(rest.from.as_deref(), Some("a&b"));
        assert_eq!(selection.tenants, ["a", "b"]);
        let by = ["/a".to_owned(), "/b]".to_owned()];
        let expected = GroupFilter::Values(vec![(0, "1".into()), (1, "\"x\"".into())]);
        assert_eq!(selection.groups(&by).unwrap(), expected);
        let overflow = self::selection("group[…]=other");
        assert_eq!(overflow.groups(&by).unwrap(), GroupFilter::Overflow);
        assert_eq!(self::selection("").groups(&by).unwrap(), GroupFilter::Any);
    }

    #[test]
    fn what_is_no_selection_is_refused_by_name() {
        for query in ["group=pro", "group[/a]=1&group[/a]=2"] {
            let refused = read::<Rest>(query).unwrap_err();
            assert_eq!(refused.field.as_deref(), Some("group"), "{query}");
        }
        let many = |count: usize| {
            let tenants: Vec<_> = (0..count).map(|n| format!("tenant={n}")).collect();
            read::<Rest>(&tenants.join("&"))
        };
        assert!(many(TENANTS_MAX).is_ok());
        let refused = many(TENANTS_MAX + 1).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("tenant"));
        for query in [
            "group[/c]=1",
            "group[…]=more",
            "group[…]=other&group[/a]=1",
            "group[]=1",
        ] {
            for by in [vec![], vec!["/a".to_owned()]] {
                let refused = selection(query).groups(&by).unwrap_err();
                assert_eq!(refused.field.as_deref(), Some("group"), "{query}");
            }
        }
        let unknown = read::<Rest>("groups=1").unwrap_err();
        assert_eq!(unknown.field.as_deref(), Some("groups"));
    }

    #[test]
    fn each_selection_is_a_list_of_its_own() {
        let lists = [
            "",
            "tenant=",
            "tenant=a",
            "tenant=a&tenant=b",
            "tenant=ab",
            "group[/a]=b",
        ];
        let lists = lists.map(|query| selection(query).of(List::of_all("usage")));
        for (at, list) in lists.iter().enumerate() {
            assert_eq!(lists.iter().position(|other| other == list), Some(at));
        }
        let order = |query| selection(query).of(List::of_all("usage"));
        assert_eq!(
            order("tenant=a&tenant=b"),
            order("tenant=b&tenant=a&tenant=a")
        );
    }
}
