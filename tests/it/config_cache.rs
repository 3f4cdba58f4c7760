//! The cache of projects' configurations: what it reads, and what waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::shared::IntoShared;
use http::StatusCode;
use millrace::config::Config;
use millrace::host::embedded::EmbeddedDynamo;
use millrace::store::dynamo::{Dynamo, connect_embedded};
use serde_json::json;
use tokio::sync::watch;

use crate::support::harness::{self, Harness, run};

/// An event store whose queries are counted, and held up while it is closed.
#[derive(Debug, Clone)]
struct Queries {
    store: EmbeddedDynamo,
    count: Arc<AtomicUsize>,
    is_open: watch::Sender<bool>,
}

impl Queries {
    fn of(store: &EmbeddedDynamo) -> Self {
        Self {
            store: store.clone(),
            count: Arc::default(),
            is_open: watch::channel(true).0,
        }
    }

    fn dynamo(&self) -> Dynamo {
        connect_embedded(&harness::config(), self.clone().into_shared())
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl HttpConnector for Queries {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target");
        if !target.is_some_and(|target| target.ends_with(".Query")) {
            return self.store.call(request);
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        let (store, mut is_open) = (self.store.clone(), self.is_open.subscribe());
        HttpConnectorFuture::new(async move {
            is_open.wait_for(|open| *open).await.unwrap();
            store.call(request).await
        })
    }
}

impl HttpClient for Queries {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}

fn config(ttl: Duration) -> Config {
    let mut config = harness::config();
    config.cache.ttl = ttl;
    config
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const AT_ONCE: Duration = Duration::from_millis(1);

/// A harness with that `cache.ttl`, and another process beside it, which may change
/// what it caches.
async fn cached(ttl: Duration) -> (Harness, Queries, Harness) {
    let store = EmbeddedDynamo::memory().unwrap();
    let queries = Queries::of(&store);
    let builder = Harness::builder().config(config(ttl));
    let cached = builder.dynamo(queries.dynamo()).build().await;
    let other = cached.beside().dynamo(Queries::of(&store).dynamo());
    let other = other.config(config(Duration::ZERO)).build().await;
    (cached, queries, other)
}

/// How many endpoints an event of type `a` goes to.
async fn matched(harness: &Harness) -> u64 {
    let body = json!({ "type": "a", "data": {} });
    let accepted = harness.post("/v1/events", body).await;
    let accepted = accepted.expect(StatusCode::ACCEPTED);
    accepted["matched"].as_u64().unwrap()
}

#[test]
fn what_has_not_changed_is_looked_at_with_one_query_and_not_read_again() {
    run(async {
        let (mut cached, queries, other) = cached(AT_ONCE).await;
        cached.leaves_jobs = true;
        for _ in 0..30 {
            other.endpoint("http://127.0.0.1:9/", &["a"]).await;
        }
        let project = cached.project.parse().unwrap();
        let projection = &cached.app.projection;
        projection.project_config(&project).await.unwrap();
        // At a revision that is new to it, it is read once more.
        tokio::time::sleep(AT_ONCE * 2).await;
        let first = projection.project_config(&project).await.unwrap();
        let before = queries.count();
        for _ in 0..10 {
            tokio::time::sleep(AT_ONCE * 2).await;
            let again = projection.project_config(&project).await.unwrap();
            assert!(Arc::ptr_eq(&first, &again));
        }
        assert!(queries.count() - before <= 10);
        other.endpoint("http://127.0.0.1:9/", &["a"]).await;
        while projection
            .project_config(&project)
            .await
            .unwrap()
            .targets
            .ids()
            .len()
            < 31
        {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn accept_waits_for_no_refresh() {
    run(async {
        let (mut cached, queries, other) = cached(AT_ONCE).await;
        cached.leaves_jobs = true;
        other.endpoint("http://127.0.0.1:9/", &["a"]).await;
        assert_eq!(matched(&cached).await, 1);
        other.endpoint("http://127.0.0.1:9/", &["a"]).await;
        queries.is_open.send_replace(false);
        let held = queries.count();
        for _ in 0..50 {
            assert_eq!(matched(&cached).await, 1);
        }
        assert_eq!(queries.count() - held, 1, "one refresh a project");
        queries.is_open.send_replace(true);
        while matched(&cached).await < 2 {}
    });
}

#[test]
fn a_process_sees_its_own_changes_at_once_and_reads_no_endpoints_for_it() {
    run(async {
        let (mut cached, queries, _) = cached(DAY).await;
        cached.leaves_jobs = true;
        assert_eq!(matched(&cached).await, 0);
        let before = queries.count();
        let mut paths = Vec::new();
        for n in 1..=5 {
            let endpoint = cached.endpoint("http://127.0.0.1:9/", &["a"]).await;
            paths.push(format!(
                "/v1/endpoints/{}",
                endpoint["id"].as_str().unwrap()
            ));
            assert_eq!(matched(&cached).await, n);
        }
        let narrow = json!({ "event_types": ["b"] });
        cached.patch(&paths[0], narrow).await.expect(StatusCode::OK);
        assert_eq!(matched(&cached).await, 4);
        let deleted = cached.delete(&paths[1]).await;
        deleted.expect(StatusCode::NO_CONTENT);
        assert_eq!(matched(&cached).await, 3);
        assert_eq!(queries.count(), before);
    });
}

#[test]
fn what_is_read_past_the_cache_is_what_is_there() {
    run(async {
        let (cached, _, other) = cached(DAY).await;
        let project = cached.project.parse().unwrap();
        let projection = &cached.app.projection;
        projection.project_config(&project).await.unwrap();
        other.endpoint("http://127.0.0.1:9/", &["a"]).await;
        let known = projection.project_config(&project).await.unwrap();
        assert!(known.targets.ids().is_empty());
        let fresh = projection.current_project_config(&project).await.unwrap();
        assert_eq!(fresh.targets.ids().len(), 1);
    });
}
