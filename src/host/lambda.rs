//! The Lambda runtime API: requests, queue batches, the schedule and AWS's own
//! events, all to one function and distinguished by payload.
//!
//! Starts with nothing a first request would not need: no connection, no secret,
//! no file. What a payload carries is never taken for another kind: an HTTP
//! request is one whatever its path and body, and a job comes only from a
//! queue of ours, known by its ARN.

mod batch;
mod extension;
pub mod payload;
pub mod request;
mod stop;

use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use axum::Router;
use lambda_http::request::LambdaRequest;
use lambda_runtime::{Context, Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shutdown::Signals;
use super::start;
use crate::app::{self, App};
use crate::config::{Config, Handler};
use crate::error::Error;
use crate::http;
use crate::jobs::idle_watch::IdleWatches;
use crate::jobs::recover::archive;
use crate::jobs::{activity, erase, ingest, meter, sweep};
use crate::model::ingest::Notification;
use crate::telemetry::scope::WorkContext;

use batch::BatchResponse;
use payload::{PayloadError, PayloadKind};

type Invoked = Pin<Box<dyn Future<Output = Result<InvocationResponse, InvocationError>> + Send>>;

/// Kept back from an invocation's time for its answer to reach Lambda.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// Between two pages of erasures: longer than one page keeps the next waiting.
const ERASE_PAUSE: Duration = Duration::from_secs(1);
/// How long a connection to the database is kept that nobody uses: less than from one
/// minute's invocation to the next, and this function's closes its own.
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(50);

/// The runtime for Lambda: one thread, unless invocations come several at a time
/// (Lambda Managed Instances).
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let concurrency = std::env::var("AWS_LAMBDA_MAX_CONCURRENCY");
    let concurrency = concurrency.ok().and_then(|text| text.parse::<u32>().ok());
    let mut builder = match concurrency {
        Some(2..) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

/// Answers invocations until Lambda ends the process.
///
/// # Errors
/// The configuration lacks what Lambda needs, or the runtime API is gone.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let timeout = config.http.drain_timeout;
    let started = start::assemble(config).await?;
    let function = Function::new(started.app.clone());
    // Before the first poll for work, which ends the time for it.
    extension::register().await;
    let mut signals = Signals::listen()?;
    let in_flight = TaskTracker::new();
    let invocations = in_flight.clone();
    let mut polling = pin!(lambda_runtime::run_concurrent(service_fn(move |event| {
        let function = function.clone();
        let in_flight = invocations.token();
        // Boxed, for this future is large and lambda_runtime moves it about.
        Box::pin(async move {
            let answer = function.invoke(event).await;
            drop(in_flight);
            answer
        }) as Invoked
    })));
    tokio::select! {
        ended = polling.as_mut() => {
            ended.map_err(|error| anyhow::anyhow!("lambda runtime API: {error}"))?;
        }
        signal = signals.next() => {
            signal?;
            stop::finish(polling, &in_flight, timeout).await;
        }
    }
    activity::flush_in_time(&started.app).await;
    started.app.telemetry.flush().await;
    started.stop().await?;
    Ok(())
}

/// The Lambda function: one for every kind of payload.
#[derive(Debug, Clone)]
pub struct Function {
    app: Arc<App>,
    /// Made at the first request: a queue's function never needs it.
    router: Arc<OnceLock<Router>>,
    watches: Arc<IdleWatches>,
}

/// What an invocation is answered with.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the names say it")]
#[expect(clippy::large_enum_variant, reason = "made once an invocation")]
pub enum InvocationResponse {
    Http(request::HttpResponse),
    Batch(BatchResponse),
    Done(()),
}

/// Why an invocation failed; Lambda shows its name and text.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// The payload is none of those documented, or not as documented.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The payload asks for work that `handlers` leaves out.
    #[error("handlers: {0:?} is not among them, and this payload needs it")]
    HandlerOff(Handler),
    /// The work did not get done; Lambda or the sender tries again.
    #[error("{0}")]
    Work(#[source] Error),
}

impl InvocationError {
    /// Logs it, with the ids of the invocation; the runtime's own line would be
    /// without them and is left out.
    fn log(&self) {
        let cause = match self {
            Self::Work(error) => error.causes(),
            Self::Payload(_) | Self::HandlerOff(_) => None,
        };
        tracing::error!(error = %self, error.type = self.name(), cause, "invocation failed");
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Payload(_) => "Millrace.UnreadablePayload",
            Self::HandlerOff(_) => "Millrace.HandlerOff",
            Self::Work(Error::Unavailable { .. }) => "Millrace.Unavailable",
            Self::Work(_) => "Millrace.Failed",
        }
    }
}

/// Logs that work which another invocation finds again was not done in this one.
fn log_deferred(what: &str, error: &Error) {
    let cause = error.causes();
    tracing::warn!(what, %error, cause, "deferred: dependency unavailable");
}

impl From<InvocationError> for Diagnostic {
    fn from(failed: InvocationError) -> Self {
        Self {
            error_type: failed.name().to_owned(),
            error_message: failed.to_string(),
        }
    }
}

impl Function {
    /// A function that does what `app`'s configuration says.
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            router: Arc::default(),
            watches: Arc::default(),
        }
    }

    /// Answers one invocation.
    ///
    /// # Errors
    /// [`InvocationError`]; a record of a queue's batch that fails is no error but part of
    /// the answer.
    pub async fn invoke(
        &self,
        event: LambdaEvent<Box<RawValue>>,
    ) -> Result<InvocationResponse, InvocationError> {
        let LambdaEvent { payload, context } = event;
        let trace_id = context.xray_trace_id.clone();
        let scope = WorkContext::invocation(&context.request_id, trace_id.as_deref());
        let answered = async {
            let answer = Box::pin(self.answer(payload.get(), context)).await;
            answer.inspect_err(InvocationError::log)
        };
        let answer = scope.run(answered).await;
        // Lambda may freeze the process once it has the answer.
        activity::flush_if_due(&self.app, app::now()).await;
        self.app.telemetry.flush().await;
        answer
    }

    async fn answer(
        &self,
        json: &str,
        context: Context,
    ) -> Result<InvocationResponse, InvocationError> {
        match payload::kind(json)? {
            PayloadKind::Request(format) => {
                let request = payload::request(format, json)?;
                Ok(InvocationResponse::Http(
                    self.request(request, context).await,
                ))
            }
            PayloadKind::Queue => {
                let messages = payload::messages(json)?;
                let timeout = timeout(&context);
                let answer = batch::run(&self.app, &messages, timeout).await;
                Ok(InvocationResponse::Batch(answer))
            }
            PayloadKind::Schedule => self.scheduled(&context).await.map(InvocationResponse::Done),
            PayloadKind::Notification => self.ingest(json).await.map(InvocationResponse::Done),
        }
    }

    async fn request(&self, request: LambdaRequest, context: Context) -> request::HttpResponse {
        let router = self.router.get_or_init(|| {
            if self.app.config.handles(Handler::Http) {
                super::router(self.app.clone())
            } else {
                http::health_router(self.app.clone())
            }
        });
        request::answer(router.clone(), request, context).await
    }

    /// Sweeps and counts, whichever this function is to do.
    async fn scheduled(&self, context: &Context) -> Result<(), InvocationError> {
        self.app.postgres.close_idle(CONNECTION_IDLE_MAX);
        if !self.app.config.handles(Handler::Meter) {
            return self.sweep(context).await;
        }
        // One after the other: there may be one connection to the database.
        let swept = if self.app.config.handles(Handler::Sweep) {
            self.sweep(context).await
        } else {
            Ok(())
        };
        self.meter(context).await;
        swept
    }

    /// Counts until nothing more is due. A failure is logged: what is to be counted
    /// waits for the next minute.
    async fn meter(&self, context: &Context) {
        let app = &self.app;
        let counting = async {
            while let meter::MeterRun {
                has_more: true,
                found: 1..,
                ..
            } = meter::meter(app, app::now()).await?
            {}
            // Once an hour.
            let is_hour = app::now().as_second() / 60 % 60 == 0;
            if is_hour && self.watches.prune.take_due(app.postgres.uses()) {
                meter::prune(app, app::now()).await?;
            }
            Ok(())
        };
        match tokio::time::timeout(timeout(context), counting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log_deferred("counting", &error),
            Err(_) => tracing::warn!("metering deferred: out of time"),
        }
    }

    /// Sweeps until nothing more is due, and repairs.
    async fn sweep(&self, context: &Context) -> Result<(), InvocationError> {
        self.require_handler(Handler::Sweep)?;
        let timeout = timeout(context);
        let stop = CancellationToken::new();
        let sweeping = async {
            while let sweep::SweepSummary {
                has_more: true,
                enqueued: 1..,
                ..
            } = sweep::sweep_until(&self.app, app::now(), &stop).await?
                && !stop.is_cancelled()
            {}
            Ok(())
        };
        let mut sweeping = pin!(sweeping);
        // What there is no time for is due at the next minute, too. What is claimed by
        // half of the time is sent in an eighth more.
        let swept = match tokio::time::timeout(timeout / 2, &mut sweeping).await {
            Ok(swept) => Some(swept),
            Err(_) => {
                stop.cancel();
                tokio::time::timeout(timeout / 8, sweeping).await.ok()
            }
        };
        if let Some(swept) = swept {
            swept.map_err(InvocationError::Work)?;
        }
        // The control plane may be down; that is no reason to fail a sweep that
        // the data plane alone was to have.
        let repaired = sweep::repair_outbox_if_due(&self.app, &self.watches.outbox);
        match tokio::time::timeout(timeout / 8, repaired).await {
            Ok(Ok(0)) => {}
            Ok(Ok(changes)) => tracing::info!(changes, "outbox repaired: late changes projected"),
            Ok(Err(error)) => log_deferred("outbox", &error),
            Err(_) => tracing::warn!("outbox repair deferred: out of time"),
        }
        match tokio::time::timeout(timeout / 8, self.archive()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(days)) => tracing::info!(days, "archive planned"),
            Ok(Err(error)) => log_deferred("archive", &error),
            Err(_) => tracing::warn!("archive planning deferred: out of time"),
        }
        self.erase(timeout / 8).await;
        Ok(())
    }

    /// Plans archives and looks for late ones; how many were planned.
    async fn archive(&self) -> crate::error::Result<usize> {
        // Side by side: neither takes the other's time, nor fails for it.
        let plan = archive::plan(&self.app, app::now());
        let watch = archive::watch(&self.app, app::now());
        let (planned, late) = tokio::join!(plan, watch);
        late.and(planned)
    }

    /// Goes on with erasures for as long as there is time; what is left is due at the
    /// next minute, too.
    async fn erase(&self, time: Duration) {
        let erasing = async {
            let watch = &self.watches.erasures;
            while let Some(1..) = erase::run_due_if_any(&self.app, watch, app::now()).await? {
                tokio::time::sleep(ERASE_PAUSE).await;
            }
            Ok(())
        };
        // Cut off in a page, it is done again when its lease is over.
        if let Ok(Err(error)) = tokio::time::timeout(time, erasing).await {
            log_deferred("erasures", &error);
        }
    }

    /// AWS's own events, sent to the function itself.
    async fn ingest(&self, json: &str) -> Result<(), InvocationError> {
        self.require_handler(Handler::Ingest)?;
        let notification = Notification::Invocation { json };
        ingest::ingest(&self.app, &notification, app::now())
            .await
            .map_err(InvocationError::Work)
    }

    fn require_handler(&self, handler: Handler) -> Result<(), InvocationError> {
        if self.app.config.handles(handler) {
            Ok(())
        } else {
            Err(InvocationError::HandlerOff(handler))
        }
    }
}

/// How long the work of an invocation may take.
fn timeout(context: &Context) -> Duration {
    let left = context.deadline().duration_since(SystemTime::now());
    left.unwrap_or_default().saturating_sub(ANSWER_TIME)
}
