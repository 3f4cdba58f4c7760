//! The spelling of header names on the wire.
//!
//! Names are the same in any case, and a `HeaderMap` has them in lower case; but some
//! receivers compare them as text. hyper spells a message's headers as they were when
//! it was parsed, for proxies, and offers no other way: so a message is parsed that
//! has the names as they are to be.

use std::convert::Infallible;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

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

/// What has a request written with `names` as they are here, which must be header
/// names. Everything is in memory: it waits for nothing.
pub(super) async fn spelling(names: &[String]) -> Extensions {
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
