//! The harness of a test: real stores in this process, the router, and a project of
//! its own.
//!
//! Nothing sleeps or runs in the background: a test drains the queue and sweeps
//! by itself, at whatever time it needs. A test that leaves jobs behind fails.

use std::future::Future;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Once};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use jiff::Timestamp;
use millrace::app::{self, App, Parts};
use millrace::config::Config;
use millrace::jobs::{meter, sweep, worker};
use millrace::model::seal::KeyRing;
use millrace::queue::{LocalQueue, Queue};
use millrace::store::dynamo::Dynamo;
use millrace::store::objects::Objects;
use millrace::store::postgres::Postgres;
use millrace::store::secrets::{AdminKey, CachedSecret};
use millrace::store::table;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::documented::{self, Sent};
use super::stores::{self, postgres, shared_postgres};

pub const ADMIN_KEY: &str = "mradmin_0123456789abcdefghijklmnopqrstuv";
pub const ALL_SCOPES: [&str; 6] = [
    "events:write",
    "events:read",
    "endpoints:write",
    "endpoints:read",
    "meters:write",
    "meters:read",
];

/// The runtime all tests share: pooled connections live on it.
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));

/// The defaults, with short outbound timeouts, and endpoints on loopback allowed
/// whatever the stores are.
pub fn config() -> Config {
    let delivery = "[delivery]\ntimeout_s = 2\nconnect_timeout_s = 1\nallow_private_targets = true";
    // What a build without stores cannot do without; the tests connect by themselves.
    let database = if cfg!(feature = "embedded") {
        ""
    } else {
        "\n[database]\nurl = \"postgresql://nobody@127.0.0.1:1/none\""
    };
    Config::from_toml(&format!("{delivery}{database}")).unwrap()
}

/// Runs a test on the shared runtime, if there are stores to run it on.
pub fn run(test: impl Future<Output = ()>) {
    static SKIPPED: Once = Once::new();
    match stores::missing_variable() {
        None => RUNTIME.block_on(Box::pin(test)),
        Some(name) => SKIPPED.call_once(|| {
            // Past the test runner's capture: it must be seen.
            let why = format!("skipped: all tests on stores, as {name} is not set");
            let _ = writeln!(std::io::stderr(), "{why}");
        }),
    }
}

/// An application on stores of its own but for PostgreSQL, and a project.
pub struct Harness {
    pub app: Arc<App>,
    pub router: Router,
    pub project: String,
    /// A key with every scope.
    pub key: String,
    /// Leaving jobs behind is the point of the test.
    pub leaves_jobs: bool,
}

impl Harness {
    pub async fn new() -> Self {
        Self::builder().build().await
    }

    /// One on stores of its own but for PostgreSQL, with a project of its own.
    pub fn builder() -> Builder {
        Builder {
            config: config(),
            queue: None,
            archive: None,
            key_ring: [7; 32],
            dynamo: None,
            postgres: None,
            project: None,
        }
    }

    /// Another instance on the same stores, for the same project.
    pub fn beside(&self) -> Builder {
        Builder {
            dynamo: Some(self.app.dynamo.clone()),
            project: Some(Project {
                id: self.project.clone(),
                key: self.key.clone(),
            }),
            ..Self::builder()
        }
    }

    /// A new project and a key for it with `scopes`.
    pub async fn new_project(&self, scopes: &[&str]) -> Project {
        // Two tests may begin in one tick of the clock, and two runs share a database.
        static MADE: AtomicU64 = AtomicU64::new(0);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("test {} {made} {}", std::process::id(), app::now());
        let project = self
            .as_admin(Method::POST, "/v1/projects", json!({ "name": name }))
            .await;
        let id = project.expect(StatusCode::CREATED)["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let key = self.new_key(&id, scopes).await;
        Project { id, key }
    }

    /// A key of `project` with `scopes`.
    pub async fn new_key(&self, project: &str, scopes: &[&str]) -> String {
        let path = format!("/v1/projects/{project}/keys");
        let body = json!({ "name": "test", "scopes": scopes });
        let key = self.as_admin(Method::POST, &path, body).await;
        key.expect(StatusCode::CREATED)["key"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub async fn as_admin(&self, method: Method, path: &str, body: Value) -> Answer {
        self.request(method, path, ADMIN_KEY, body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &self.key, Value::Null)
            .await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.request(Method::POST, path, &self.key, body).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.request(Method::PATCH, path, &self.key, body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, &self.key, Value::Null)
            .await
    }

    pub async fn request(&self, method: Method, path: &str, key: &str, body: Value) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        self.send(request.body(body).unwrap()).await
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (sent, request) = sent(request).await;
        let response = Box::pin(self.router.clone().oneshot(request))
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            json,
            bytes: body,
        };
        documented::check(&sent, &answer);
        answer
    }

    /// An endpoint at `url` for `event_types`; the answer.
    pub async fn endpoint(&self, url: &str, event_types: &[&str]) -> Value {
        let body = json!({ "url": url, "event_types": event_types });
        self.post("/v1/endpoints", body)
            .await
            .expect(StatusCode::CREATED)
    }

    /// Publishes `{type, data}` and gives the event's id.
    pub async fn publish(&self, event_type: &str) -> String {
        let body = json!({ "type": event_type, "data": { "n": 1 } });
        let answer = self
            .post("/v1/events", body)
            .await
            .expect(StatusCode::ACCEPTED);
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Runs what is queued now; fails on a job's error.
    pub async fn drain(&self) {
        self.drain_at(app::now()).await;
    }

    pub async fn drain_at(&self, now: Timestamp) {
        // Frames of a debug build are large, and a test's thread has two megabytes.
        let failed = Box::pin(worker::drain(&self.app, now)).await;
        assert!(failed.is_empty(), "{failed:?}");
    }

    /// Counts what is to be counted now, until nothing is left; how many readings
    /// were new.
    pub async fn meter(&self) -> u64 {
        self.meter_after(Duration::ZERO).await
    }

    /// Counts as if `later` had passed.
    pub async fn meter_after(&self, later: Duration) -> u64 {
        let now = app::now() + later;
        let mut counted = 0;
        loop {
            let run = meter::meter(&self.app, now).await.unwrap();
            counted += run.counted;
            if run.found == 0 {
                return counted;
            }
        }
    }

    /// A meter, whose members are those of `body`; its id.
    pub async fn new_meter(&self, body: Value) -> String {
        let created = self.post("/v1/meters", body).await;
        let created = created.expect(StatusCode::CREATED);
        created["id"].as_str().unwrap().to_owned()
    }

    /// Rows of usage, by a query such as `from=…&window=day`.
    pub async fn usage(&self, meter: &str, query: &str) -> Value {
        let answer = self.get(&format!("/v1/meters/{meter}/usage?{query}")).await;
        let mut page = answer.expect(StatusCode::OK);
        assert_eq!(page["next_cursor"], Value::Null);
        page["data"].take()
    }

    /// Publishes `body` and gives the event's id.
    pub async fn publish_body(&self, body: Value) -> String {
        let answer = self.post("/v1/events", body).await;
        let answer = answer.expect(StatusCode::ACCEPTED);
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Sweeps and drains as if `later` had passed.
    pub async fn sweep_after(&self, later: Duration) {
        let now = app::now() + later;
        while sweep::sweep(&self.app, now).await.unwrap().enqueued > 0 {
            self.drain_at(now).await;
        }
    }
}

/// What a request is, and the request.
async fn sent(request: Request<Body>) -> (Sent, Request<Body>) {
    let (parts, mut body) = request.into_parts();
    let mut bytes = None;
    // One that does not say how long it is may break off, or never end.
    if body.size_hint().exact().is_some() {
        let whole = body.collect().await.unwrap().to_bytes();
        bytes = Some(whole.clone());
        body = Body::from(whole);
    }
    let media_type = parts.headers.get("content-type");
    let mut media_type = media_type.and_then(|value| value.to_str().ok());
    if parts
        .headers
        .keys()
        .any(|name| name.as_str().starts_with("ce-"))
    {
        media_type = Some("CloudEvents, binary mode");
    }
    if parts.headers.contains_key("content-encoding") {
        bytes = bytes.and_then(decoded);
    }
    let sent = Sent {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        media_type: documented::essence(media_type.unwrap_or_default()).to_lowercase(),
        body: bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
    };
    (sent, Request::from_parts(parts, body))
}

/// What is compressed in `bytes`, if that is so.
fn decoded(bytes: bytes::Bytes) -> Option<bytes::Bytes> {
    let mut whole = vec![];
    let mut decoder = flate2::read::MultiGzDecoder::new(&*bytes);
    decoder.read_to_end(&mut whole).ok()?;
    Some(whole.into())
}

/// A project and a key of it.
pub struct Project {
    pub id: String,
    pub key: String,
}

/// A harness to be: each part is the default until another is given.
pub struct Builder {
    config: Config,
    queue: Option<Queue>,
    archive: Option<Objects>,
    key_ring: [u8; 32],
    dynamo: Option<Dynamo>,
    postgres: Option<Postgres>,
    /// The project, where there is one already.
    project: Option<Project>,
}

impl Builder {
    /// Configured like this instead of as [`config`].
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// With this queue instead of one in this process.
    pub fn queue(self, queue: Queue) -> Self {
        let queue = Some(queue);
        Self { queue, ..self }
    }

    /// Archiving what is about to expire, where there is something to do it with.
    pub fn archive(self, archive: Option<Objects>) -> Self {
        Self { archive, ..self }
    }

    /// With a key ring of this key.
    pub fn key_ring(self, key_ring: [u8; 32]) -> Self {
        Self { key_ring, ..self }
    }

    /// On this event store.
    pub fn dynamo(self, dynamo: Dynamo) -> Self {
        let dynamo = Some(dynamo);
        Self { dynamo, ..self }
    }

    /// On this control-plane database, which is migrated, instead of the shared one.
    pub fn postgres(self, postgres: Postgres) -> Self {
        let postgres = Some(postgres);
        Self { postgres, ..self }
    }

    /// With a control-plane database that does not answer.
    pub fn without_postgres(self) -> Self {
        // Port 1 is reserved and refuses at once.
        let url = "postgresql://nobody@127.0.0.1:1/none?sslmode=disable";
        self.postgres(postgres(url, 1))
    }

    /// The application alone; nothing is connected to. A database has been chosen.
    pub fn app(self) -> anyhow::Result<Arc<App>> {
        let queue = self
            .queue
            .unwrap_or_else(|| Queue::Local(LocalQueue::new((&self.config).into())));
        let parts = Parts {
            dynamo: self.dynamo.unwrap_or_else(stores::dynamo),
            postgres: self.postgres.expect("a database has been chosen"),
            queue,
            admin_key: CachedSecret::fixed(AdminKey::of(ADMIN_KEY)),
            key_ring: CachedSecret::fixed(KeyRing::generate("test", self.key_ring).unwrap()),
            archive: self.archive,
        };
        App::new(self.config, parts)
    }

    pub async fn build(mut self) -> Harness {
        if self.postgres.is_none() {
            self.postgres = Some(shared_postgres().await);
        }
        let project = self.project.take();
        let app = self.app().unwrap();
        let mut harness = Harness {
            router: millrace::host::router(app.clone()),
            app,
            project: String::new(),
            key: String::new(),
            leaves_jobs: false,
        };
        let project = match project {
            Some(project) => project,
            None => {
                let table = table::create_if_missing(&harness.app.dynamo);
                table.await.unwrap();
                harness.new_project(&ALL_SCOPES).await
            }
        };
        (harness.project, harness.key) = (project.id, project.key);
        harness
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        let Queue::Local(queue) = &self.app.queue else {
            return;
        };
        let left = queue.len();
        if left > 0 && !self.leaves_jobs && !std::thread::panicking() {
            panic!("{left} jobs left in the queue");
        }
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub json: Value,
    pub bytes: bytes::Bytes,
}

impl Answer {
    /// The body, if the status is `status`.
    pub fn expect(self, status: StatusCode) -> Value {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.bytes)
        );
        self.json
    }

    /// The problem's `field` and `detail`, if the status is `status`.
    pub fn problem(self, status: u16) -> String {
        assert_eq!(
            self.status.as_u16(),
            status,
            "{}",
            String::from_utf8_lossy(&self.bytes)
        );
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let text = |name: &str| self.json[name].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("code"), text("detail"))
    }
}
