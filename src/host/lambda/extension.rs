//! The internal extension that the process registers as, for one thing alone: only
//! a function that has one is sent SIGTERM before it ends.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::error::causes;

const NAME: &str = "millrace";
const NAME_HEADER: &str = "lambda-extension-name";
const ID_HEADER: &str = "lambda-extension-identifier";
/// The runtime API is in the same machine.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(1);

type Api = Client<HttpConnector, Full<Bytes>>;

/// Registers for no event at all, then says that it is ready.
///
/// Without it Lambda ends the process with no signal; that is what happens where
/// the runtime API has no extensions, and nothing is lost by it.
pub async fn register() {
    let Ok(api) = std::env::var("AWS_LAMBDA_RUNTIME_API") else {
        return;
    };
    let client: Api = Client::builder(TokioExecutor::new()).build_http();
    let registered = tokio::time::timeout(REGISTER_TIMEOUT, registration(&client, &api)).await;
    match registered {
        Ok(Ok(id)) => drop(tokio::spawn(wait(client, api, id))),
        Ok(Err(error)) => {
            let cause = causes(error.as_ref());
            tracing::debug!(%error, cause, "lambda extension not registered: no SIGTERM at shutdown");
        }
        Err(_) => tracing::debug!("lambda extension not registered: runtime API timed out"),
    }
}

async fn registration(client: &Api, api: &str) -> anyhow::Result<String> {
    let request = Request::post(format!("http://{api}/2020-01-01/extension/register"))
        .header(NAME_HEADER, NAME)
        .body(Full::from(r#"{"events":[]}"#))?;
    let response = client.request(request).await?;
    let (parts, body) = response.into_parts();
    // Read to its end, so that the connection serves again.
    body.collect().await?;
    let id = parts.headers.get(ID_HEADER);
    let id = id.ok_or_else(|| anyhow::anyhow!("registration answered {}", parts.status))?;
    Ok(id.to_str()?.to_owned())
}

/// Asks for the next event, which never comes: that it asks ends its part of
/// the start-up.
async fn wait(client: Api, api: String, id: String) {
    let request = Request::get(format!("http://{api}/2020-01-01/extension/event/next"))
        .header(ID_HEADER, id)
        .body(Full::default());
    if let Ok(request) = request {
        drop(client.request(request).await);
    }
}
