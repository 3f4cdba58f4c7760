//! Lists as CSV: page after page of the API, sent as they are read, so that no list is
//! held whole.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;

use super::listing::List;
use super::pairs::segment;
use super::refusal::Refusal;
use super::visit::View;
use crate::model::csv::{Cell, write_row};

/// Rows of a file at most: some hundred requests to the API, in turn.
pub const ROWS_MAX: usize = 10_000;

/// How a list is written.
pub struct Table<T> {
    /// The name of the file, without its ending.
    pub name: &'static str,
    /// The columns.
    pub heads: &'static [&'static str],
    /// Writes a row.
    pub write: fn(&mut String, &T),
}

struct State<T> {
    view: View,
    path: Arc<str>,
    next: Option<List<T>>,
    rows_left: usize,
}

/// The answer that is the list at `path` of the API, which has a query and no cursor, as a
/// file of up to [`ROWS_MAX`] rows.
///
/// # Errors
/// What the API refuses of the first page. A later one that fails breaks the answer off.
pub async fn csv<T>(view: View, path: String, table: Table<T>) -> Result<Response, Refusal>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let first: List<T> = view.get(&path).await?;
    let mut head = String::new();
    write_row(&mut head, table.heads.iter().map(|name| Cell::Plain(name)));
    let state = State {
        view,
        path: path.into(),
        next: Some(first),
        rows_left: ROWS_MAX,
    };
    let write = table.write;
    let pages = stream::try_unfold(state, move |state| async move {
        let page = after(state, write).await;
        page.map_err(|refusal| std::io::Error::other(refusal.detail))
    });
    let head = stream::iter([Ok(head)]);
    let body = Body::from_stream(futures_util::StreamExt::chain(head, pages));
    let disposition = format!("attachment; filename=\"{}.csv\"", table.name);
    let disposition = HeaderValue::from_str(&disposition).expect("our names are ASCII");
    let headers: [(HeaderName, HeaderValue); 2] = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("text/csv; charset=utf-8"),
        ),
        (CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, body).into_response())
}

/// The lines of the page in hand, and what is left to do.
async fn after<T: DeserializeOwned>(
    mut state: State<T>,
    write: fn(&mut String, &T),
) -> Result<Option<(String, State<T>)>, Refusal> {
    let Some(page) = state.next.take() else {
        return Ok(None);
    };
    let mut lines = String::new();
    for row in page.data.iter().take(state.rows_left) {
        write(&mut lines, row);
    }
    state.rows_left = state.rows_left.saturating_sub(page.data.len());
    if let Some(cursor) = page.next_cursor.filter(|_| state.rows_left > 0) {
        let path = format!("{}&cursor={}", state.path, segment(&cursor));
        state.next = Some(state.view.get(&path).await?);
    }
    Ok(Some((lines, state)))
}
