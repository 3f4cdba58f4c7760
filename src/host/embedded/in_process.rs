//! An SDK HTTP client that hands requests to the database in this process.
//!
//! It stands where the TCP connection would: the SDK's own retries, errors and
//! serialization stay as they are with AWS. Only what Millrace calls is spoken.

#[cfg(test)]
pub(super) mod tests;

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::Context;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::shared::IntoShared;
use tokio::sync::oneshot;

use super::engine::{Engine, operation};

/// Calls answered together: enough that a commit is a small part of them, few
/// enough that the first does not wait long for the last.
const GROUP_MAX: usize = 32;

/// The way to the one thread that works on the database.
///
/// SQLite is one lock and does not await. Called from the runtime's workers,
/// it keeps other tasks waiting for most of a second under load; a blocking
/// task for each call does two thirds of what one thread does, as they all wait
/// for the lock.
#[derive(Clone)]
pub struct InProcess {
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
    pub(super) fn new(mut engine: Engine) -> anyhow::Result<Self> {
        let (calls, received) = mpsc::channel();
        thread::Builder::new()
            .name("dynamodb".to_owned())
            .spawn(move || work(&mut engine, &received))
            .context("cannot start the embedded DynamoDB's thread")?;
        Ok(Self { calls })
    }
}

fn work(engine: &mut Engine, received: &Receiver<Call>) {
    let mut waiting = CallQueue::default();
    while let Some(first) = waiting.pop().or_else(|| received.recv().ok()) {
        received.try_iter().for_each(|call| waiting.push(call));
        let rest = std::iter::from_fn(|| waiting.pop());
        let group: Vec<_> = std::iter::once(first).chain(rest).take(GROUP_MAX).collect();
        let requests: Vec<_> = group.iter().map(|call| &call.request).collect();
        for (answer, call) in engine.answer(&requests).into_iter().zip(group) {
            // Who gave up waiting does not want the answer.
            let _ = call.answer.send(answer);
        }
    }
}

/// Calls in two queues that take turns: what brings new work in, and all else.
/// Many publishers at once would otherwise keep their deliveries from ending.
#[derive(Default)]
struct CallQueue {
    new: VecDeque<Call>,
    other: VecDeque<Call>,
    is_turn_of_new: bool,
}

impl CallQueue {
    fn push(&mut self, call: Call) {
        match operation(&call.request) {
            "PutItem" | "TransactWriteItems" => self.new.push_back(call),
            _ => self.other.push_back(call),
        }
    }

    fn pop(&mut self) -> Option<Call> {
        self.is_turn_of_new = !self.is_turn_of_new;
        let (first, second) = if self.is_turn_of_new {
            (&mut self.new, &mut self.other)
        } else {
            (&mut self.other, &mut self.new)
        };
        first.pop_front().or_else(|| second.pop_front())
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
