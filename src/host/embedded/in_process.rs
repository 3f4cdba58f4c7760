//! An SDK HTTP client that hands requests to the database in this process.
//!
//! It stands where the TCP connection would: the SDK's own retries, errors and
//! serialization stay as they are with AWS. Only what Millrace calls is spoken.

#[cfg(test)]
pub(super) mod tests;

use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::body::SdkBody;
use dynoxide::actions::transact_write_items::TransactWriteItemsRequest;
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

const TARGET_HEADER: &str = "x-amz-target";
const TARGET_PREFIX: &str = "DynamoDB_20120810.";

/// The database and the one thread that works on it.
///
/// SQLite is one lock and does not await. Called from the runtime's workers,
/// it keeps other tasks waiting for most of a second under load; a blocking
/// task for each call does two thirds of what one thread does, as they all wait
/// for the lock.
#[derive(Clone)]
pub struct InProcess {
    database: Database,
    calls: mpsc::Sender<Call>,
}

struct Call {
    request: HttpRequest,
    answer: oneshot::Sender<HttpResponse>,
}

impl InProcess {
    /// Starts the thread, which ends with the last clone.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn new(database: Database) -> anyhow::Result<Self> {
        let (calls, received) = mpsc::channel::<Call>();
        let worked_on = database.clone();
        thread::Builder::new()
            .name("dynamodb".to_owned())
            .spawn(move || {
                for call in received {
                    // Who gave up waiting does not want the answer.
                    let _ = call.answer.send(answer(&worked_on, &call.request));
                }
            })
            .context("cannot start the embedded DynamoDB's thread")?;
        Ok(Self { database, calls })
    }

    /// The engine itself.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InProcess")
    }
}

impl HttpClient for InProcess {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (answer, answered) = oneshot::channel();
        let sent = self.calls.send(Call { request, answer }).is_ok();
        HttpConnectorFuture::new(async move {
            match answered.await {
                Ok(response) if sent => Ok(response),
                _ => Err(ConnectorError::io(
                    "the embedded DynamoDB has stopped".into(),
                )),
            }
        })
    }
}

/// What the database has to say, panics of the engine included.
fn answer(database: &Database, request: &HttpRequest) -> HttpResponse {
    let operated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let body = request.body().bytes().unwrap_or_default();
        operate(database, operation(request), body)
    }));
    let panicked = |_| {
        let message = "the engine panicked".to_owned();
        Err(DynoxideError::InternalServerError(message))
    };
    match operated.unwrap_or_else(panicked) {
        Ok(body) => respond(200, body.into()),
        Err(error) => respond(error.status_code(), error.to_json().into()),
    }
}

fn operation(request: &HttpRequest) -> &str {
    let target = request.headers().get(TARGET_HEADER).unwrap_or_default();
    target.strip_prefix(TARGET_PREFIX).unwrap_or(target)
}

fn respond(status: u16, body: SdkBody) -> HttpResponse {
    // The engine's codes are literals: 200, 400, 500 and 501.
    let status = StatusCode::try_from(status).expect("a valid HTTP status");
    let mut response = HttpResponse::new(status, body);
    let headers = response.headers_mut();
    headers.insert("content-type", "application/x-amz-json-1.0");
    response
}

fn operate(db: &Database, operation: &str, body: &[u8]) -> dynoxide::Result<Vec<u8>> {
    match operation {
        "BatchGetItem" => call(body, |request| db.batch_get_item(request)),
        "BatchWriteItem" => call(body, |request| db.batch_write_item(request)),
        "CreateTable" => call(body, |request| db.create_table(request)),
        "DeleteItem" => call(body, |request| db.delete_item(request)),
        "DescribeTable" => call(body, |request| db.describe_table(request)),
        "DescribeTimeToLive" => call(body, |request| db.describe_time_to_live(request)),
        "GetItem" => call(body, |request| db.get_item(request)),
        "ListTables" => call(body, |request| db.list_tables(request)),
        "PutItem" => call(body, |request| db.put_item(request)),
        "Query" => call(body, |request| db.query(request)),
        "TransactWriteItems" => call(body, |request| {
            db.transact_write_items(without_token(request))
        }),
        "UpdateItem" => call(body, |request| db.update_item(request)),
        "UpdateTable" => call(body, |request| db.update_table(request)),
        "UpdateTimeToLive" => call(body, |request| db.update_time_to_live(request)),
        other => Err(DynoxideError::UnsupportedCapability(other.to_owned())),
    }
}

fn call<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    operate: impl FnOnce(Q) -> dynoxide::Result<A>,
) -> dynoxide::Result<Vec<u8>> {
    let request = serde_json::from_slice(body).map_err(|error| refused(&error))?;
    let answer = operate(request)?;
    serde_json::to_vec(&answer)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// Takes off the token by which a call that is sent again is known.
///
/// The SDK adds one to every transaction; here none is sent again. The engine
/// keeps each for ten minutes and looks through all of them at each call.
fn without_token(mut request: TransactWriteItemsRequest) -> TransactWriteItemsRequest {
    request.client_request_token = None;
    request
}

/// The engine's request types put the class of a refusal before its text.
fn refused(error: &serde_json::Error) -> DynoxideError {
    let text = error.to_string();
    match text.split_once(':') {
        Some(("SERIALIZATION" | "SERIALIZATION_AS_READ", rest)) => {
            DynoxideError::SerializationException(rest.to_owned())
        }
        Some(("VALIDATION" | "VALIDATION_REQUEST" | "VALIDATION_AS_READ", rest)) => {
            DynoxideError::ValidationException(rest.to_owned())
        }
        _ => DynoxideError::ValidationException(text),
    }
}
