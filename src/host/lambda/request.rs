//! The way of an HTTP request: out of its payload, through the router, and back.
//!
//! `lambda_http` knows how each sender writes down queries and expects answers.
//! Headers, path and body are handled here, because it would panic on bad Base64,
//! odd `Host` headers and queries no URI has, keep one value of a header sent twice,
//! and put a REST API's stage before the path.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::pin::Pin;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};
use http_body_util::BodyExt;
use lambda_http::Adapter;
use lambda_http::request::LambdaRequest;
use lambda_runtime::{Context, LambdaEvent};
use tower::util::ServiceFn;
use tower::{Service, ServiceExt, service_fn};

use crate::error::{Error, Invalid, causes};
use crate::http::client_address::{self, Peer};

/// The first segment of the API's own paths.
const ROOT: &str = "v1";
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// What Lambda is answered: `lambda_http`'s own type, which has no public name.
pub type HttpResponse = <Adapter<'static, Buffered, ServiceFn<Answering>> as Service<
    LambdaEvent<LambdaRequest>,
>>::Response;
type Answering = fn(lambda_http::Request) -> Ready<Result<Buffered, Infallible>>;

/// Answers `request` by `router`, in the form its sender expects.
pub async fn answer(router: Router, mut request: LambdaRequest, context: Context) -> HttpResponse {
    let taken = RequestParts::from(&mut request);
    let mut adapter = Adapter::from(service_fn(move |bare: lambda_http::Request| {
        let router = router.clone();
        let taken = taken.clone();
        async move { Ok(Buffered(buffered(route(router, bare, taken).await).await)) }
    }));
    let answered: Result<_, Infallible> = adapter.call(LambdaEvent::new(request, context)).await;
    match answered {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// What is not left to `lambda_http`.
#[derive(Clone)]
struct RequestParts {
    headers: HeaderMap,
    body: Result<Bytes, Invalid>,
    /// Who sent it to the gateway.
    client: Option<IpAddr>,
}

impl RequestParts {
    fn from(request: &mut LambdaRequest) -> Self {
        match request {
            LambdaRequest::ApiGatewayV1(rest) => {
                without_stage(&mut rest.path, rest.request_context.stage.take());
                rest.request_context.domain_name = None;
                Self {
                    headers: headers(&mut rest.headers, &mut rest.multi_value_headers),
                    body: body(rest.body.take(), rest.is_base64_encoded),
                    client: known(rest.request_context.identity.source_ip.as_deref()),
                }
            }
            LambdaRequest::ApiGatewayV2(http) => {
                without_stage(&mut http.raw_path, http.request_context.stage.take());
                http.request_context.domain_name = None;
                let mut headers = std::mem::take(&mut http.headers);
                // Only here are they apart from the headers.
                let cookies = http.cookies.take().unwrap_or_default().join("; ");
                if let (false, Ok(cookies)) = (cookies.is_empty(), cookies.parse()) {
                    headers.insert(http::header::COOKIE, cookies);
                }
                let query = query(&mut http.raw_query_string);
                let body = body(http.body.take(), http.is_base64_encoded);
                Self {
                    headers,
                    body: query.and(body),
                    client: known(http.request_context.http.source_ip.as_deref()),
                }
            }
            LambdaRequest::Alb(alb) => {
                without_stage(&mut alb.path, None);
                let headers = headers(&mut alb.headers, &mut alb.multi_value_headers);
                Self {
                    client: known(last_hop(&headers)),
                    headers,
                    body: body(alb.body.take(), alb.is_base64_encoded),
                }
            }
            // The shapes are those above; the enum is open for others to come.
            _ => Self {
                headers: HeaderMap::new(),
                body: Err(Invalid::body("an unknown kind of request")),
                client: None,
            },
        }
    }
}

/// Every value of every header: the plural form has them all where there is one.
fn headers(single: &mut HeaderMap, multi: &mut HeaderMap) -> HeaderMap {
    let mut headers = std::mem::take(multi);
    let mut rest = HeaderMap::new();
    for (name, value) in &std::mem::take(single) {
        if !headers.contains_key(name) {
            rest.append(name, value.clone());
        }
    }
    headers.extend(rest);
    headers
}

fn known(address: Option<&str>) -> Option<IpAddr> {
    client_address::address(address?)
}

/// Who a load balancer had a request from: it adds that at the end.
fn last_hop(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get_all(X_FORWARDED_FOR).iter().next_back()?;
    value.to_str().ok()?.rsplit(',').next()
}

fn body(text: Option<String>, is_base64: bool) -> Result<Bytes, Invalid> {
    let text = text.unwrap_or_default();
    if !is_base64 {
        return Ok(text.into());
    }
    STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(|_| Invalid::body("the body is not the Base64 it is said to be"))
}

/// Takes the query away if it cannot be part of a URI: it is written down as it was
/// sent.
fn query(raw: &mut Option<String>) -> Result<(), Invalid> {
    let fits = |query: &String| PathAndQuery::try_from(format!("/?{query}")).is_ok();
    match raw.take_if(|query| !fits(query)) {
        None => Ok(()),
        Some(_) => Err(Invalid::body(
            "expected a query of the characters a URI has, and others percent-encoded",
        )),
    }
}

/// Takes the stage off a path that begins with it, as an HTTP API's do.
///
/// A stage named like the API's own root is taken off only where the root
/// follows it.
fn without_stage(path: &mut Option<String>, stage: Option<String>) {
    let path = path.get_or_insert_default();
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    let Some(stage) = stage.filter(|stage| stage != "$default") else {
        return;
    };
    let rest = path[1..].strip_prefix(&stage);
    let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let Some(rest) = rest else { return };
    if stage == ROOT && !rest[1.min(rest.len())..].starts_with(ROOT) {
        return;
    }
    *path = match rest {
        "" => "/".to_owned(),
        rest => rest.to_owned(),
    };
}

async fn route(router: Router, bare: lambda_http::Request, taken: RequestParts) -> Response {
    let body = match taken.body {
        Ok(body) => body,
        Err(invalid) => return refused(invalid),
    };
    let (mut parts, _) = bare.into_parts();
    // The invocation's own: what a client sends by that name counts for nothing.
    let trace_id = parts.headers.remove(TRACE_ID);
    parts.headers = taken.headers;
    if let Some(trace_id) = trace_id {
        parts.headers.insert(TRACE_ID, trace_id);
    }
    // What lambda_http keeps beside is for its own extractors.
    parts.extensions = http::Extensions::new();
    if let Some(client) = taken.client {
        parts.extensions.insert(Peer::Gateway(client));
    }
    let request = http::Request::from_parts(parts, Body::from(body));
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The answer to a request that does not get as far as the router.
fn refused(invalid: Invalid) -> Response {
    let error = Error::Invalid(invalid);
    let cause = error.causes();
    tracing::info!(%error, cause, "request refused");
    crate::http::problem::Problem::of(&error)
        .into_response()
        .into_response()
}

/// A whole answer of the router's.
#[derive(Debug)]
pub struct Buffered(http::Response<lambda_http::Body>);

impl lambda_http::IntoResponse for Buffered {
    fn into_response(
        self,
    ) -> Pin<Box<dyn Future<Output = http::Response<lambda_http::Body>> + Send>> {
        Box::pin(ready(self.0))
    }
}

async fn buffered(response: Response) -> http::Response<lambda_http::Body> {
    let (parts, body) = response.into_parts();
    // Bodies of the API are in memory already, and none of them breaks off.
    let bytes = match body.collect().await {
        Ok(collected) => Vec::from(collected.to_bytes()),
        Err(error) => {
            let cause = causes(&error);
            tracing::error!(%error, cause, "response body incomplete");
            let error = Error::internal(anyhow::anyhow!("response body incomplete"));
            return Box::pin(buffered(error.into_response())).await;
        }
    };
    let body = match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => lambda_http::Body::Empty,
        Ok(text) => lambda_http::Body::Text(text),
        Err(binary) => lambda_http::Body::Binary(binary.into_bytes()),
    };
    http::Response::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_no_uri_has_is_taken_away() {
        for (written, fits) in [
            ("", true),
            ("type=order.paid&limit=5", true),
            ("a=%20b&c=\u{e9}", true),
            ("a b", false),
            ("a\nb", false),
            ("<", false),
        ] {
            let mut raw = Some(written.to_owned());
            assert_eq!(query(&mut raw).is_ok(), fits, "{written}");
            assert_eq!(raw.is_some(), fits, "{written}");
        }
        assert!(query(&mut None).is_ok());
    }
}
