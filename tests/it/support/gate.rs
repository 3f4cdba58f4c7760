//! A gate before the embedded event store: it holds one write up until a test lets it
//! through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::shared::IntoShared;
use millrace::host::embedded::EmbeddedDynamo;
use tokio::sync::Notify;

/// Holds up the first PutItem after it is made; all else goes through.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    reached: Arc<Notify>,
    released: Arc<Notify>,
    is_passed: Arc<AtomicBool>,
}

impl Gate {
    /// A client of `store` that goes through the gate.
    pub fn before(&self, store: &EmbeddedDynamo) -> SharedHttpClient {
        let gated = Gated {
            gate: self.clone(),
            store: store.clone(),
        };
        gated.into_shared()
    }

    /// Waits until a write is held up.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets it through.
    pub fn release(&self) {
        self.released.notify_one();
    }
}

#[derive(Debug, Clone)]
struct Gated {
    gate: Gate,
    store: EmbeddedDynamo,
}

impl HttpConnector for Gated {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target");
        let is_put = target.is_some_and(|target| target.ends_with(".PutItem"));
        if !is_put || self.gate.is_passed.swap(true, Ordering::SeqCst) {
            return self.store.call(request);
        }
        let Self { gate, store } = self.clone();
        HttpConnectorFuture::new(async move {
            gate.reached.notify_one();
            gate.released.notified().await;
            store.call(request).await
        })
    }
}

impl HttpClient for Gated {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}
