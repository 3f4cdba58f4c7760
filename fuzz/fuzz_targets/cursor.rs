//! Cursors of lists: what a page gives is read back, and nothing else is.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use millrace::error::{Error, Result};
use millrace::http::meters::usage;
use millrace::http::page::{self, List, Page};
use millrace::store::keys;

fuzz_target!(|input: &[u8]| {
    // As a cursor, with a digest and without, and as what one stands for: nobody guesses
    // Base64, nor digests.
    if let Ok(text) = std::str::from_utf8(input) {
        cursor(text);
        position(text);
        cursor(&given(text));
    }
    cursor(&URL_SAFE_NO_PAD.encode(input));
});

fn position(text: &str) {
    let is_one =
        (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let read = read(page::position(list(), Some(&given(text))));
    assert_eq!(read.as_deref(), is_one.then_some(text));
}

fn cursor(cursor: &str) {
    if let Some(position) = read(page::position(list(), Some(cursor))) {
        assert!(is_of(cursor, &position), "a cursor is written in two ways");
    }
    if let Some(number) = read(page::numeric_position(list(), Some(cursor))) {
        assert!(is_of(cursor, &number.to_string()));
    }
    let range = page::range(list(), None, None, None, Some(cursor)).map(|range| range.after);
    if let Some(after) = read(range) {
        let at = keys::time_of_sort(&after).expect("it begins with a time");
        let event = keys::event_of_timeline_sort(&after).expect("it ends with an event");
        assert_eq!(keys::timeline_sort(at, &event), after);
    }
    if let Some(position) = read(page::position_by(
        list(),
        Some(cursor),
        usage::read_position,
    )) {
        let again = usage::read_position(usage::write_position(&position));
        assert_eq!(again, Some(position));
    }
}

fn list() -> List {
    List::of_all("listThings")
}

/// Whether `cursor` is that of `position`, or was in the version before.
fn is_of(cursor: &str, position: &str) -> bool {
    cursor == given(position) || cursor == URL_SAFE_NO_PAD.encode(position)
}

/// The cursor of a page that ends at `position`.
fn given(position: &str) -> String {
    let page = Page::<()>::new(list(), vec![], Some(position.to_owned()));
    page.next_cursor.expect("it is not the last page")
}

/// What a cursor stands for, if it is taken for one.
fn read<T>(read: Result<Option<T>>) -> Option<T> {
    match read {
        Ok(position) => Some(position.expect("there was a cursor")),
        Err(Error::Invalid(invalid)) => {
            assert_eq!(invalid.field.as_deref(), Some("cursor"));
            None
        }
        Err(other) => panic!("not the client's fault: {other:?}"),
    }
}
