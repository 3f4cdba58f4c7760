use insta::assert_snapshot;

use super::style::Destination::{Other, Terminal};
use super::*;

/// What an event becomes, by `style`, at 10:31:02.
fn shown(style: &Style, act: impl FnOnce()) -> String {
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    struct Kept(Style, Arc<Mutex<String>>);
    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let at = "2026-01-31T10:31:02.9Z".parse().unwrap();
            let line = line(&self.0, at, event.metadata(), fields).unwrap();
            assert!(!line.contains('\n'), "{line:?}");
            *self.1.lock().unwrap() += &(line + "\n");
        }
    }
    let kept = Arc::new(Mutex::new(String::new()));
    let layer = Kept(style.clone(), kept.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
    let text = kept.lock().unwrap();
    text.clone()
}

macro_rules! attempt {
    ($message:literal, $($field:tt)*) => {
        tracing::info!(target: ATTEMPTS, { delivery.id = "dlv_1", event.type = "user.created",
            endpoint.host = "127.0.0.1:9000", $($field)* }, $message)
    };
}

fn attempts() {
    attempt!(
        "delivered",
        status = 200,
        duration_ms = 2.856,
        recorded = true
    );
    attempt!("delivered", status = 204, duration_ms = 0.3);
    attempt!("delivered", status = 200, duration_ms = 12_345.0);
    attempt!(
        "attempt failed",
        status = 500,
        duration_ms = 3.0,
        retry_in_s = 5
    );
    attempt!(
        "attempt failed",
        status = 503,
        duration_ms = 3.0,
        retry_in_s = 0
    );
    attempt!(
        "attempt failed",
        error = "connection refused",
        duration_ms = 3.0,
        retry_in_s = 292
    );
    attempt!(
        "attempt failed",
        error = "timed out after 30 s",
        duration_ms = 3.0,
        retry_in_s = 7_300
    );
    attempt!(
        "attempt failed",
        error = "no connection after 5 s",
        duration_ms = 3.0,
        retry_in_s = 86_400
    );
    attempt!(
        "delivery failed permanently",
        status = 410,
        duration_ms = 3.0
    );
    attempt!(
        "delivery failed permanently",
        error = "host name not resolved",
        duration_ms = 3.0
    );
}

#[test]
fn an_attempt_is_one_short_line() {
    assert_snapshot!(shown(&Style::plain(), attempts), @"
    10:31:02 ✓ user.created → 127.0.0.1:9000 200 3 ms
    10:31:02 ✓ user.created → 127.0.0.1:9000 204 <1 ms
    10:31:02 ✓ user.created → 127.0.0.1:9000 200 12.3 s
    10:31:02 ✗ user.created → 127.0.0.1:9000 500, again in 5 s
    10:31:02 ✗ user.created → 127.0.0.1:9000 503, again at once
    10:31:02 ✗ user.created → 127.0.0.1:9000 connection refused, again in 5 min
    10:31:02 ✗ user.created → 127.0.0.1:9000 timed out after 30 s, again in 2 h
    10:31:02 ✗ user.created → 127.0.0.1:9000 no connection after 5 s, again in 24 h
    10:31:02 ✗ user.created → 127.0.0.1:9000 410, given up
    10:31:02 ✗ user.created → 127.0.0.1:9000 host name not resolved, given up
    ");
}

#[test]
fn a_failure_is_one_line_with_its_cause() {
    let act = || {
        tracing::error!(
            request.id = "r1",
            error = "the queue is unavailable",
            cause = "AccessDenied: not\nyours",
            status = 503,
            "request failed"
        );
        tracing::warn!(
            error = "refused",
            cause = "refused: by them",
            what = "a job",
            "not done"
        );
        tracing::warn!(endpoint.id = "ep_1", "circuit breaker opened");
        tracing::info!(address = "127.0.0.1:8080", took_ms = 12, "listening");
        tracing::debug!(empty = "", none = None::<u8>, "looked");
        tracing::warn!(target: "hyper::client", "of another");
    };
    assert_snapshot!(shown(&Style::plain(), act), @r#"
    10:31:02 error: request failed: the queue is unavailable: AccessDenied: not\nyours  request.id=r1 status=503
    10:31:02 warning: not done: refused: by them  what="a job"
    10:31:02 warning: circuit breaker opened  endpoint.id=ep_1
    10:31:02 listening  address=127.0.0.1:8080 took_ms=12
    10:31:02 debug: looked  empty="" target=millrace::telemetry::terminal::tests
    10:31:02 warning: of another  target=hyper::client
    "#);
}

#[test]
fn others_text_moves_no_cursor_and_begins_no_line() {
    let evil = "a\u{1b}[2J\r\nb\u{9b}31m\u{202e}c\u{7f}";
    let act = || {
        tracing::info!(target: ATTEMPTS, { event.type = evil, endpoint.host = evil, error = evil,
            retry_in_s = 5 }, "attempt failed");
        tracing::warn!(error = evil, cause = evil, other = evil, "{evil}");
    };
    for style in [Style::plain(), Style::of(Other, &[("LANG", "C")])] {
        let text = shown(&style, act);
        assert_eq!(text.lines().count(), 2, "{text}");
        let active = |c: char| crate::telemetry::escape::is_active(c) && c != '\n';
        assert!(!text.contains(active), "{text:?}");
    }
}

#[test]
fn colours_are_for_terminals_that_have_them() {
    let xterm = ("TERM", "xterm-256color");
    let coloured = |to, variables: &[_]| {
        let text = shown(&Style::of(to, variables), attempts);
        assert_eq!(
            text.contains("\u{1b}[32m✓\u{1b}[0m"),
            text.contains('\u{1b}')
        );
        text.contains('\u{1b}')
    };
    assert!(coloured(Terminal, &[xterm]));
    assert!(
        coloured(Terminal, &[xterm, ("NO_COLOR", "")]),
        "empty is unset"
    );
    assert!(!coloured(Terminal, &[xterm, ("NO_COLOR", "1")]));
    assert!(
        !coloured(Terminal, &[xterm, ("NO_COLOR", "0")]),
        "any value"
    );
    assert!(!coloured(Terminal, &[xterm, ("CLICOLOR", "0")]));
    assert!(!coloured(Terminal, &[("TERM", "dumb")]));
    assert!(!coloured(Terminal, &[]));
    assert!(!coloured(Other, &[xterm]));
    assert!(coloured(Other, &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(Other, &[("CLICOLOR_FORCE", "0")]));
    let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
    assert!(!coloured(Terminal, &both));
}

#[test]
fn a_terminal_without_utf_8_is_given_ascii() {
    let text = |variables: &[_]| shown(&Style::of(Terminal, variables), attempts);
    let ascii = text(&[("LANG", "de_DE.ISO-8859-1")]);
    assert_snapshot!(ascii.lines().nth(3).unwrap(), @"10:31:02 FAILED user.created -> 127.0.0.1:9000 500, again in 5 s");
    assert!(ascii.starts_with("10:31:02 ok user.created -> 127.0.0.1:9000 200 3 ms\n"));
    for locale in ["C", "POSIX", "en_US", "ja_JP.eucJP"] {
        assert!(
            text(&[("LC_ALL", locale), ("LANG", "C.UTF-8")]).is_ascii(),
            "{locale}"
        );
        assert!(
            text(&[("LC_CTYPE", locale), ("LANG", "C.UTF-8")]).is_ascii(),
            "{locale}"
        );
    }
    for locale in ["C.UTF-8", "de_DE.utf8", "en_US.UTF-8@euro"] {
        assert!(
            text(&[("LANG", locale), ("LC_ALL", "")]).contains('✓'),
            "{locale}"
        );
    }
    assert!(text(&[("LC_ALL", "C.UTF-8"), ("LANG", "C")]).contains('✓'));
    assert!(text(&[]).contains('✓'), "no locale at all");
}
