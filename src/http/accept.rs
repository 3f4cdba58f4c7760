//! What a request's `Accept` likes better (RFC 9110 §12.5.1).

use http::header::{ACCEPT, HeaderMap};

/// How much it likes the best of `wanted`, of those that it names: 0 to 1, 0 if none.
pub(super) fn weight(headers: &HeaderMap, wanted: &[&str]) -> f32 {
    let values = headers.get_all(ACCEPT).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let found = values.flat_map(|value| value.split(',')).find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        if !wanted
            .iter()
            .any(|wanted| name.eq_ignore_ascii_case(wanted))
        {
            return None;
        }
        let q = parts.find_map(|part| part.strip_prefix("q="));
        Some(q.map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0)))
    });
    found.unwrap_or(0.0)
}

/// Whether it names CSV and likes it better than JSON.
pub(super) fn prefers_csv(headers: &HeaderMap) -> bool {
    weight(headers, &["text/csv"]) > weight(headers, &["application/json"])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn csv_is_for_who_names_it() {
        for (accept, csv) in [
            ("text/csv", true),
            ("TEXT/CSV; header=present; q=0.5", true),
            ("text/csv, */*;q=0.1", true),
            ("application/json;q=0.9, text/csv", true),
            ("application/json, text/csv", false),
            ("application/json, text/csv;q=0.9", false),
            ("text/csv;q=0", false),
            ("text/*", false),
            ("*/*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(prefers_csv(&headers), csv, "{accept}");
        }
        assert!(!prefers_csv(&HeaderMap::new()));
        let lines = ["application/json;q=0.5", "text/csv"];
        let lines = lines.map(|line| (ACCEPT, HeaderValue::from_static(line)));
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        assert!(prefers_csv(&headers));
    }
}
