//! Canonical bodies that an earlier version kept, in today's form.

use bytes::Bytes;

use super::draft::Data;
use super::members;

/// How a body that is data in Base64 begins its last member.
const BASE64_MEMBER: &str = ",\"data_base64\":\"";

/// The canonical body `kept`, whose data, if it is JSON in Base64, becomes JSON: so it
/// was kept once, and would reach neither meters nor endpoints as what it is. Costs a
/// search for the member, and of a body that has it, its reading.
pub fn with_json_data(kept: Bytes) -> Bytes {
    let text = std::str::from_utf8(&kept).unwrap_or_default();
    if !text.ends_with("\"}") || !text.contains(BASE64_MEMBER) {
        return kept;
    }
    json_data(text).unwrap_or(kept)
}

fn json_data(kept: &str) -> Option<Bytes> {
    let members = members::members(kept.as_bytes()).ok()?;
    if members.data.is_some() {
        return None;
    }
    let draft = members::draft(members).ok()?;
    let is_json = matches!(draft.data, Data::Json(_));
    is_json
        .then(|| draft.write().ok())
        .flatten()
        .map(|body| body.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: &str) -> String {
        let kept = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{extra}}}"#);
        let body = with_json_data(kept.clone().into());
        let body = std::str::from_utf8(&body).unwrap().to_owned();
        let (head, _) = kept.split_at(kept.len() - extra.len() - 1);
        body.strip_prefix(head).unwrap().to_owned()
    }

    #[test]
    fn json_kept_in_base64_is_json() {
        for (kept, now) in [
            (
                r#","n":5,"data_base64":"eyJhIjogMS41MH0=""#,
                r#","n":5,"data":{"a": 1.50}}"#,
            ),
            (
                r#","datacontenttype":"a/b+JSON; c=d","data_base64":"IG51bGwg""#,
                r#","datacontenttype":"a/b+JSON; c=d","data":null}"#,
            ),
        ] {
            assert_eq!(read(kept), now);
        }
    }

    #[test]
    fn all_else_stays_as_it_was_kept() {
        for kept in [
            "",
            r#","data":{"a":1,"data_base64":"eyJhIjoxfQ=="}"#,
            r#","data":"x""#,
            r#","data_base64":"""#,
            r#","data_base64":"AAE=""#,
            r#","datacontenttype":"image/png","data_base64":"e30=""#,
            r#","datacontenttype":"application/json","data_base64":"ew==""#,
        ] {
            assert_eq!(read(kept), format!("{kept}}}"));
        }
    }
}
