//! The TLS of a database's URL: on, unless the URL says otherwise.

/// The `sslmode`s of libpq. Any but the first is taken for the last.
const MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// `url` as `tokio-postgres` reads it: with TLS unless it says
/// `sslmode=disable`. What is no `sslmode` is left as it is, to be refused.
///
/// That the server's certificate is checked, as `verify-full` says, is for who
/// connects: `tokio-postgres` has no mode for it.
pub fn with_tls(url: &str) -> String {
    let (before, query) = url.split_once('?').unwrap_or((url, ""));
    let mode = |parameter: &str| {
        let given = parameter.strip_prefix("sslmode=")?;
        MODES.iter().copied().find(|mode| *mode == given)
    };
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    let (modes, others): (Vec<&str>, Vec<&str>) =
        parameters.partition(|parameter| mode(parameter).is_some());
    // The last one counts, as everywhere in such a URL.
    // Nothing lies between the two: one that would go on without TLS is `require`.
    let chosen = match modes.last().and_then(|last| mode(last)) {
        Some("disable") => "sslmode=disable",
        _ => "sslmode=require",
    };
    let parameters: Vec<&str> = [chosen].into_iter().chain(others).collect();
    format!("{before}?{}", parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_url_that_says_so_goes_without_tls() {
        let url = |query: &str| with_tls(&format!("postgresql://u:p@db/m{query}"));
        for asked in [
            "",
            "?sslmode=allow",
            "?sslmode=prefer",
            "?sslmode=require",
            "?sslmode=verify-ca",
            "?sslmode=verify-full",
            "?sslmode=disable&sslmode=verify-full",
        ] {
            assert_eq!(
                url(asked),
                "postgresql://u:p@db/m?sslmode=require",
                "{asked}"
            );
        }
        assert_eq!(
            url("?application_name=a&sslmode=disable"),
            "postgresql://u:p@db/m?sslmode=disable&application_name=a"
        );
        // Refused by who reads it.
        assert!(url("?sslmode=of").ends_with("?sslmode=require&sslmode=of"));
    }
}
