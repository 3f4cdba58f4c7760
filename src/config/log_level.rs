//! What `log.level` may say: a level, or a list of levels with the targets they
//! are for.

use std::collections::HashSet;

use tracing_subscriber::filter::LevelFilter;

/// What is expected of it, in the words of a message.
pub const EXPECTED: &str = "off, error, warn, info, debug or trace, or a list such as \
    info,millrace::jobs=debug with one level for each target and at most one for all others";

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The levels that `text` lists, each with its target, or with none for all
/// others; nothing if it is no such list. A word alone is a level and never a
/// target, so that a misspelt level is not taken for the target to log all of.
pub fn directives(text: &str) -> Option<Vec<(Option<&str>, LevelFilter)>> {
    let directives: Option<Vec<_>> = text.split(',').map(directive).collect();
    let directives = directives?;
    let targets: HashSet<_> = directives.iter().map(|(target, _)| target).collect();
    (targets.len() == directives.len()).then_some(directives)
}

fn directive(text: &str) -> Option<(Option<&str>, LevelFilter)> {
    let Some((target, name)) = text.split_once('=') else {
        return Some((None, level(text)?));
    };
    let target = target.trim();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':');
    let is_target = !target.is_empty() && target.bytes().all(is_plain);
    is_target.then_some((Some(target), level(name)?))
}

fn level(text: &str) -> Option<LevelFilter> {
    let is_it = |(name, _): &&(&str, _)| name.eq_ignore_ascii_case(text.trim());
    LEVELS.iter().find(is_it).map(|(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_levels_with_targets_are_read() {
        assert_eq!(directives("WARN"), Some(vec![(None, LevelFilter::WARN)]));
        let read = directives(" info, millrace::jobs = debug,aws_=off").unwrap();
        let expected = [
            (None, LevelFilter::INFO),
            (Some("millrace::jobs"), LevelFilter::DEBUG),
            (Some("aws_"), LevelFilter::OFF),
        ];
        assert_eq!(read, expected);
        let read = directives("hyper=trace").unwrap();
        assert_eq!(read, [(Some("hyper"), LevelFilter::TRACE)]);
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for text in [
            "",
            " ",
            "loud",
            "warning",
            "verbose",
            "3",
            "true",
            "millrace",
            "info,",
            ",info",
            "info,loud",
            "info,debug",
            "info;debug",
            "info debug",
            "a=debug,a=info",
            "=debug",
            "millrace=",
            "millrace=loud",
            "millrace=debug=info",
            "mill race=debug",
            "[span]=info",
            "info,=x=",
            "\u{1b}[31m",
        ] {
            assert_eq!(directives(text), None, "{text:?}");
        }
    }
}
