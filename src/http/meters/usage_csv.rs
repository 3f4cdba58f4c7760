//! A page of usage as CSV: a line for each row, a column for each pointer it is told
//! apart by.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, LINK};
use http::{HeaderMap, Uri};
use url::form_urlencoded;

use super::usage_row::Usage;
use crate::error::{Error, Result};
use crate::http::page::Page;
use crate::model::csv::{self, Cell};
use crate::model::meter::OVERFLOW_NAME;
use crate::model::scalar::Scalar;

/// `page`, which was asked for at `uri`, told apart by `pointers`. The next page is in
/// `Link`.
pub(super) fn response(uri: &Uri, pointers: &[&str], page: &Page<Usage>) -> Result<Response> {
    let mut headers = HeaderMap::new();
    let csv = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
    headers.insert(CONTENT_TYPE, csv);
    if let Some(cursor) = &page.next_cursor {
        let link = format!("<{}>; rel=\"next\"", at_cursor(uri, cursor));
        let link = HeaderValue::from_str(&link).map_err(Error::internal)?;
        headers.insert(LINK, link);
    }
    Ok((headers, table(pointers, &page.data)).into_response())
}

fn at_cursor(uri: &Uri, cursor: &str) -> String {
    let query = uri.query().unwrap_or_default();
    let others = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "cursor");
    let mut next = form_urlencoded::Serializer::new(String::new());
    next.extend_pairs(others).append_pair("cursor", cursor);
    format!("{}?{}", uri.path(), next.finish())
}

fn table(pointers: &[&str], rows: &[Usage]) -> String {
    let mut out = String::new();
    let names = ["start", "end", "tenant"].iter().chain(pointers);
    csv::write_row(
        &mut out,
        names.chain(&["value"]).map(|name| Cell::Text(name)),
    );
    for row in rows {
        write(&mut out, pointers, row);
    }
    out
}

fn write(out: &mut String, pointers: &[&str], row: &Usage) {
    let (start, end) = (format!("{:.3}", row.start.0), format!("{:.3}", row.end.0));
    let values: Vec<Scalar> = pointers.iter().map(|pointer| value(row, pointer)).collect();
    let begin = [
        Cell::Plain(&start),
        Cell::Plain(&end),
        row.tenant.as_deref().map_or(Cell::Empty, Cell::Text),
    ];
    let groups = values.iter().map(cell);
    let cells = begin.into_iter().chain(groups);
    csv::write_row(out, cells.chain([Cell::Plain(row.value.get())]));
}

/// What stood at `pointer`; of what came beyond the bound on groups, their name.
fn value(row: &Usage, pointer: &str) -> Scalar {
    let group = row.group.as_ref();
    match group.and_then(|group| group.get(pointer)) {
        Some(value) => Scalar::read(value.get()).unwrap_or(Scalar::Null),
        None if group.is_some() => Scalar::String(OVERFLOW_NAME.into()),
        None => Scalar::Null,
    }
}

fn cell(value: &Scalar) -> Cell<'_> {
    match value {
        Scalar::Null => Cell::Empty,
        Scalar::Bool(true) => Cell::Plain("true"),
        Scalar::Bool(false) => Cell::Plain("false"),
        Scalar::Number(text) => Cell::Plain(text),
        Scalar::String(text) => Cell::Text(text),
    }
}
