//! A bucket on loopback: what of S3 the archive uses, with the answers that S3's
//! documentation gives, to whoever signs as S3 wants it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use millrace::app;
use serde_json::Value;
use tokio::net::TcpListener;

use super::sigv4::{self, Account, Refused};

/// What it is called.
pub const NAME: &str = "events-bucket";
/// Names of a page, so that there are several.
const PAGE_MAX: usize = 2;

/// The bucket; it ends with the test's process.
#[derive(Clone)]
pub struct Bucket {
    /// Where S3 is, without the bucket.
    pub url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    /// What somebody else writes right after the next GET of an object.
    written_meanwhile: Option<Bytes>,
    /// The next request is refused with 403.
    refuses_next: bool,
    /// Why requests were refused, each by its code.
    refusals: Vec<&'static str>,
}

impl Bucket {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bucket = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            state: Arc::default(),
        };
        tokio::spawn(bucket.clone().serve(listener));
        bucket
    }

    /// The names of the objects.
    pub fn names(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Why requests were refused whose signature is none, each by S3's code.
    pub fn refusals(&self) -> Vec<&'static str> {
        self.state.lock().unwrap().refusals.clone()
    }

    /// The lines of all objects whose name contains `part`.
    pub fn lines(&self, part: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        let objects = state.objects.iter().filter(|(name, _)| name.contains(part));
        objects.flat_map(|(_, gzip)| lines(gzip)).collect()
    }

    /// Puts an object of `lines`.
    pub fn put(&self, name: &str, lines: &[Value]) {
        let mut state = self.state.lock().unwrap();
        state.objects.insert(name.to_owned(), gzip(lines));
    }

    /// After the next GET the object is one of `lines`.
    pub fn replace_after_read(&self, lines: &[Value]) {
        self.state.lock().unwrap().written_meanwhile = Some(gzip(lines));
    }

    /// Refuses the next request, as if the role lacked the action.
    pub fn refuse_next(&self) {
        self.state.lock().unwrap().refuses_next = true;
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let bucket = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| bucket.answer(request));
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let host = self.url.strip_prefix("http://").unwrap();
        let verified = Account::at("s3").verify(&parts, &body, host, app::now());
        let path = parts.uri.path().strip_prefix('/').unwrap();
        let name = path.strip_prefix(NAME).unwrap().strip_prefix('/').unwrap();
        let name = &*String::from_utf8(sigv4::decode(name)).unwrap();
        let mut state = self.state.lock().unwrap();
        if let Err(refused) = verified {
            state.refusals.push(refused.code);
            return Ok(refusal(&refused));
        }
        if std::mem::take(&mut state.refuses_next) {
            return Ok(status(StatusCode::FORBIDDEN));
        }
        let found = state.objects.get(name).cloned();
        Ok(match parts.method {
            Method::GET if name.is_empty() => {
                list(&state.objects, parts.uri.query().unwrap_or_default())
            }
            Method::GET => match found {
                None => status(StatusCode::NOT_FOUND),
                Some(object) => {
                    if let Some(other) = state.written_meanwhile.take() {
                        state.objects.insert(name.to_owned(), other);
                    }
                    let answer = Response::builder().header("etag", etag(&object));
                    answer.body(Full::new(object)).unwrap()
                }
            },
            Method::PUT => {
                let expected = parts.headers.get("if-match");
                let is = found.as_ref().map(etag);
                if expected.is_some_and(|etag| Some(etag.to_str().unwrap()) != is.as_deref()) {
                    return Ok(status(StatusCode::PRECONDITION_FAILED));
                }
                state.objects.insert(name.to_owned(), body);
                status(StatusCode::OK)
            }
            Method::DELETE => {
                state.objects.remove(name);
                status(StatusCode::NO_CONTENT)
            }
            other => panic!("{other}"),
        })
    }
}

fn list(objects: &BTreeMap<String, Bytes>, query: &str) -> Response<Full<Bytes>> {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(one, _)| *one == name);
        let value = found.map_or("", |(_, value)| value);
        String::from_utf8(sigv4::decode(value)).unwrap()
    };
    assert_eq!(value("list-type"), "2");
    let (prefix, after) = (value("prefix"), value("start-after"));
    let names = objects.keys();
    let names = names.filter(|name| name.starts_with(&prefix) && **name > after);
    let names: String = names
        .take(PAGE_MAX)
        .map(|name| format!("<Contents><Key>{}</Key></Contents>", escaped(name)))
        .collect();
    let xml = format!("<?xml version=\"1.0\"?><ListBucketResult>{names}</ListBucketResult>");
    Response::new(Full::new(xml.into()))
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

/// As S3 refuses: it repeats what it expected a signature of.
fn refusal(refused: &Refused) -> Response<Full<Bytes>> {
    let Refused {
        status,
        code,
        canonical_request,
    } = refused;
    let text = escaped(canonical_request);
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>Refused.</Message><CanonicalRequest>{text}</CanonicalRequest></Error>"
    );
    let response = Response::builder().status(*status);
    response.body(Full::new(xml.into())).unwrap()
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .body(Full::default())
        .unwrap()
}

fn etag(object: &Bytes) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, object);
    format!("\"{:?}\"", &hash.as_ref()[..8])
}

fn lines(gzip: &Bytes) -> Vec<Value> {
    let mut text = String::new();
    let mut decoder = GzDecoder::new(gzip.as_ref());
    decoder.read_to_string(&mut text).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn gzip(lines: &[Value]) -> Bytes {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    for line in lines {
        writeln!(gzip, "{line}").unwrap();
    }
    gzip.finish().unwrap().into()
}
