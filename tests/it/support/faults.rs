//! Faults before an embedded event store: calls that a test's rule picks are refused, as
//! DynamoDB refuses them, or answered by nobody.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::body::SdkBody;
use millrace::host::embedded::EmbeddedDynamo;
use millrace::store::dynamo::{Dynamo, connect_embedded};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `ProvisionedThroughputExceededException`.
    Throttle,
    /// `TransactionCanceledException` with a throttle among its reasons.
    ThrottledTransaction,
    /// It is made, and its answer does not come back.
    LostAnswer,
    /// It is never answered.
    Hang,
}

/// By the operation and the request's JSON.
type Rule = Box<dyn FnMut(&str, &str) -> Option<Fault> + Send>;

/// The way to an embedded store of its own.
#[derive(Clone)]
pub struct FaultyStore {
    store: EmbeddedDynamo,
    rule: Arc<Mutex<Rule>>,
    faults: Arc<AtomicUsize>,
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyStore")
    }
}

impl FaultyStore {
    /// One without faults.
    pub fn new() -> Self {
        Self {
            store: EmbeddedDynamo::memory().unwrap(),
            rule: Arc::new(Mutex::new(Box::new(|_, _| None))),
            faults: Arc::default(),
        }
    }

    /// Its client, which tries nothing again by itself.
    pub fn dynamo(&self) -> Dynamo {
        connect_embedded(&super::harness::config(), self.clone().into_shared())
    }

    /// Its client, which tries again as one of AWS does, and at once.
    pub fn retrying_dynamo(&self) -> Dynamo {
        let Dynamo { client, table } = self.dynamo();
        let retries = RetryConfig::standard()
            .with_max_attempts(4)
            .with_initial_backoff(std::time::Duration::from_millis(1));
        let config = client.config().to_builder().retry_config(retries);
        Dynamo::new(config.build(), table)
    }

    /// From now on `rule` says what becomes of a call.
    pub fn fail(&self, rule: impl FnMut(&str, &str) -> Option<Fault> + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// From now on all calls are answered.
    pub fn heal(&self) {
        self.fail(|_, _| None);
    }

    /// Calls that met a fault.
    pub fn faults(&self) -> usize {
        self.faults.load(Ordering::SeqCst)
    }
}

fn refusal(code: &str, rest: &str) -> HttpConnectorFuture {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}"{rest}}}"#);
    let response = HttpResponse::new(400.try_into().unwrap(), SdkBody::from(body));
    HttpConnectorFuture::ready(Ok(response))
}

impl HttpConnector for FaultyStore {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        let body = std::str::from_utf8(body).unwrap_or_default();
        let fault = (self.rule.lock().unwrap())(operation, body);
        self.faults
            .fetch_add(usize::from(fault.is_some()), Ordering::SeqCst);
        match fault {
            None => self.store.call(request),
            Some(Fault::Throttle) => refusal("ProvisionedThroughputExceededException", ""),
            Some(Fault::ThrottledTransaction) => refusal(
                "TransactionCanceledException",
                r#","CancellationReasons":[{"Code":"None"},{"Code":"ThrottlingError"}]"#,
            ),
            Some(Fault::LostAnswer) => {
                let made = self.store.call(request);
                HttpConnectorFuture::new(async move {
                    made.await?;
                    Err(ConnectorError::io("the answer is lost".into()))
                })
            }
            Some(Fault::Hang) => HttpConnectorFuture::new(std::future::pending()),
        }
    }
}

impl HttpClient for FaultyStore {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}
