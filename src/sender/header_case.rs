//! The spelling of header names on the wire.
//!
//! Names are the same in any case, and a `HeaderMap` has them in lower case; but some
//! receivers compare them as text. hyper spells a message's headers as they were when
//! it was parsed, for proxies, and offers no other way: so a message is parsed that
//! has the names as they are to be.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

/// The headers of a request.
#[derive(Debug, Clone, Default)]
pub struct RequestHeaders {
    /// Names and values.
    pub map: HeaderMap,
    /// Names of the map that are not to be in lower case, as they are to be.
    pub spelled: Vec<String>,
}

impl From<HeaderMap> for RequestHeaders {
    fn from(map: HeaderMap) -> Self {
        Self {
            map,
            spelled: vec![],
        }
    }
}

/// Sets of names whose spelling is kept.
const SPELLINGS_MAX: usize = 1000;

/// The spellings of the sets of names that were sent, parsed once: they are as many as
/// endpoints with such headers.
#[derive(Default)]
pub(super) struct Spellings(Mutex<HashMap<Vec<String>, Extensions>>);

impl Spellings {
    /// What has a request written with `names` as they are here.
    pub async fn get(&self, names: &[String]) -> Extensions {
        if let Some(known) = self.lock().get(names) {
            return known.clone();
        }
        let made = spelling(names).await;
        let mut kept = self.lock();
        if kept.len() >= SPELLINGS_MAX {
            // Made anew when they are needed.
            kept.clear();
        }
        kept.insert(names.to_vec(), made.clone());
        made
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<String>, Extensions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has a request written with `names` as they are here, which must be header
/// names. Everything is in memory: it waits for nothing.
async fn spelling(names: &[String]) -> Extensions {
    let fields = names.iter().map(|name| format!("{name}: \r\n"));
    let head = format!("GET / HTTP/1.1\r\n{}\r\n", fields.collect::<String>());
    let parsed = Arc::new(Mutex::new(Extensions::new()));
    let keep = |request: Request<Incoming>| {
        let mut parsed = parsed.lock().unwrap_or_else(PoisonError::into_inner);
        *parsed = request.extensions().clone();
        async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
    };
    let stream = tokio::io::join(Cursor::new(head.into_bytes()), tokio::io::sink());
    // How it ends does not matter: the names are there, or they stay in lower case.
    let _ = http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service_fn(keep))
        .await;
    let parsed = parsed.lock().unwrap_or_else(PoisonError::into_inner);
    parsed.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn as_many_spellings_are_kept_as_there_is_room_for() {
        let spellings = Spellings::default();
        let names = |n: usize| [format!("X-Name-{n}")];
        for n in (0..SPELLINGS_MAX).chain(0..SPELLINGS_MAX) {
            assert!(!spellings.get(&names(n)).await.is_empty());
        }
        assert_eq!(spellings.lock().len(), SPELLINGS_MAX);
        spellings.get(&names(SPELLINGS_MAX)).await;
        assert_eq!(spellings.lock().len(), 1);
    }
}
