//! A relay before the embedded event store, which decides what becomes of each request:
//! its answer is lost and it is sent again, or it does not get through.

use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::shared::IntoShared;
use millrace::host::embedded::EmbeddedDynamo;

/// What becomes of a request.
pub enum Fate {
    Passed,
    /// Its answer is lost, and the client sends it again.
    SentTwice,
    /// It never gets there.
    Lost,
}

type Rule = dyn Fn(&str, &str) -> Fate + Send + Sync;

/// Asks a rule about each request, by its operation and its body.
#[derive(Clone)]
pub struct Relay(Arc<Rule>);

impl Relay {
    pub fn new(rule: impl Fn(&str, &str) -> Fate + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    /// One behind which the first answer to every write is lost.
    pub fn of_lost_answers() -> Self {
        Self::new(|operation, _| match operation {
            "PutItem" | "UpdateItem" | "DeleteItem" | "TransactWriteItems" => Fate::SentTwice,
            _ => Fate::Passed,
        })
    }

    /// A client of `store` that goes through the relay.
    pub fn before(&self, store: &EmbeddedDynamo) -> SharedHttpClient {
        let relayed = Relayed {
            relay: self.clone(),
            store: store.clone(),
        };
        relayed.into_shared()
    }
}

#[derive(Clone)]
struct Relayed {
    relay: Relay,
    store: EmbeddedDynamo,
}

impl fmt::Debug for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relayed").finish_non_exhaustive()
    }
}

impl HttpConnector for Relayed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = request.body().bytes().unwrap_or_default();
        let fate = (self.relay.0)(&operation, &String::from_utf8_lossy(body));
        match fate {
            Fate::Passed => self.store.call(request),
            Fate::Lost => {
                let lost = ConnectorError::other("lost".into(), None);
                HttpConnectorFuture::ready(Err(lost))
            }
            Fate::SentTwice => {
                let again = request.try_clone().unwrap();
                let store = self.store.clone();
                HttpConnectorFuture::new(async move {
                    store.call(request).await?;
                    store.call(again).await
                })
            }
        }
    }
}

impl HttpClient for Relayed {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}
