//! Traces: a span for each request, each job and each attempt, joined into one trace
//! across the queue and on to the customer's endpoint.
//!
//! Ids, headers, sampling and encoding are OpenTelemetry's; a span is begun and
//! ended here, because its tracer can neither take over a trace id that comes
//! without a parent, as a load balancer sends it, nor export without a thread of
//! its own. Finished spans wait in a bounded list; when it is full they are
//! dropped, so that nothing ever waits for a trace. Off, a span is an empty
//! option.

pub(super) mod context;
mod export;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use http::{HeaderMap, Method};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_aws::trace::XrayIdGenerator;
use opentelemetry_sdk::trace::{
    IdGenerator, Sampler, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanLinks,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use url::Url;

use super::scope;
use crate::config::{Config, TracesChoice};
use crate::model::job::Job;
pub use context::{TRACEPARENT, TraceContext};
use export::Exporter;

/// Finished spans that may wait.
const QUEUED_SPANS_MAX: usize = 2048;
/// Finished spans that are exported before it is time, and spans of one request.
const BATCH_SPANS_MAX: usize = 512;

/// Begins spans and sends them off.
#[derive(Debug)]
pub struct Traces(Option<Tracer>);

#[derive(Debug)]
struct Tracer {
    sampler: Sampler,
    ids: XrayIdGenerator,
    messaging: &'static str,
    queue: Arc<SpanQueue>,
    exporter: Exporter,
}

/// `method` as logs and traces name it, which may be any token otherwise: `_OTHER` is
/// OpenTelemetry's word for one that is none of HTTP's.
pub fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "_OTHER",
    }
}

impl Traces {
    /// As `config` says. Connects to nothing.
    pub fn new(config: &Config) -> Self {
        if config.telemetry.traces == TracesChoice::Off {
            return Self(None);
        }
        Self::to(config, Exporter::new(config))
    }

    fn to(config: &Config, exporter: Exporter) -> Self {
        Self(Some(Tracer {
            sampler: Sampler::TraceIdRatioBased(config.telemetry.sample_ratio),
            ids: XrayIdGenerator::default(),
            messaging: if config.uses_sqs() {
                "aws_sqs"
            } else {
                "in_process"
            },
            queue: Arc::default(),
            exporter,
        }))
    }

    /// A request's span. Its parent is what `traceparent` says, or else the
    /// Lambda invocation around it, or else `x-amzn-trace-id`. No span for health
    /// checks.
    pub fn request(&self, method: &Method, route: Option<&str>, headers: &HeaderMap) -> Span {
        let Some(on) = &self.0 else {
            return Span(None);
        };
        // They say nothing and never end.
        if route.is_some_and(|route| route.starts_with("/health")) {
            return Span(None);
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let parent = header(TRACEPARENT)
            .and_then(TraceContext::of_traceparent)
            .or_else(scope::trace)
            .or_else(|| header(context::XRAY).and_then(TraceContext::of_xray));
        let method = method_name(method);
        let mut span = on.begin(parent, SpanKind::Server, || match route {
            Some(route) => format!("{method} {route}").into(),
            None => method.into(),
        });
        span.set_attribute("http.request.method", || method);
        if let Some(route) = route {
            span.set_attribute("http.route", || route.to_owned());
        }
        span
    }

    /// A job's span. Its parent is the trace its message carried, or else the
    /// Lambda invocation around it.
    pub fn job(&self, job: &Job, carried: Option<&str>) -> Span {
        let Some(on) = &self.0 else {
            return Span(None);
        };
        let parent = carried.and_then(TraceContext::of_traceparent);
        let parent = parent.or_else(scope::trace);
        let kind = match job {
            Job::FanOut { .. } => "fan_out",
            Job::Deliver { .. } => "deliver",
            Job::Disable { .. } => "disable",
            Job::Recover { .. } => "recover",
        };
        let mut span = on.begin(parent, SpanKind::Consumer, || kind.into());
        span.set_attribute("messaging.system", || on.messaging);
        span.set_attribute("messaging.operation.type", || "process");
        match job {
            Job::FanOut { event } => span.set_attribute("event.id", || event.to_string()),
            Job::Disable { endpoint } => span.set_attribute("endpoint.id", || endpoint.to_string()),
            Job::Recover { recovery, page } => {
                span.set_attribute("recovery.id", || recovery.to_string());
                span.set_attribute("recovery.page", || i64::from(*page));
            }
            Job::Deliver {
                delivery,
                attempts_made,
                ..
            } => {
                span.set_attribute("event.id", || delivery.event().to_string());
                span.set_attribute("delivery.id", || delivery.to_string());
                span.set_attribute("endpoint.id", || delivery.endpoint().to_string());
                span.set_attribute("delivery.attempt", || i64::from(*attempts_made) + 1);
            }
        }
        span
    }

    /// The span of taking in what an AWS source sent: `from` names its queue, or
    /// says that the function was invoked with it. Its parent is the X-Ray header
    /// its message carried, or else the Lambda invocation around it.
    pub fn ingest(&self, from: &str, carried: Option<&str>) -> Span {
        let Some(on) = &self.0 else {
            return Span(None);
        };
        let parent = carried.and_then(TraceContext::of_xray);
        let parent = parent.or_else(scope::trace);
        let mut span = on.begin(parent, SpanKind::Consumer, || "ingest".into());
        span.set_attribute("messaging.operation.type", || "process");
        span.set_attribute("messaging.destination.name", || from.to_owned());
        span
    }

    /// An attempt's span, within the current job.
    pub fn attempt(&self, url: &Url) -> Span {
        let Some(on) = &self.0 else {
            return Span(None);
        };
        let mut span = on.begin(scope::trace(), SpanKind::Client, || "POST".into());
        span.set_attribute("http.request.method", || "POST");
        // Not the path and the query, where secrets may be.
        span.set_attribute("url.scheme", || url.scheme().to_owned());
        if let Some(host) = url.host_str() {
            span.set_attribute("server.address", || host.to_owned());
        }
        if let Some(port) = url.port_or_known_default() {
            span.set_attribute("server.port", || i64::from(port));
        }
        span
    }

    /// Waits until finished spans should go out: `at`, or earlier when there are
    /// many. For ever when nothing is traced.
    pub(super) async fn due(&self, at: Instant) {
        match &self.0 {
            None => std::future::pending().await,
            Some(on) => tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = on.queue.batch_ready.notified() => {}
            },
        }
    }

    /// Exports what is finished. After a failure nothing is sent for some seconds, and
    /// what then still waits is tried again.
    pub async fn flush(&self) {
        let Some(on) = &self.0 else { return };
        while let Some(batch) = on.queue.take() {
            if let Err(again) = on.exporter.export(batch).await {
                on.queue.requeue(again);
                return;
            }
        }
    }
}

impl Tracer {
    fn begin(
        &self,
        parent: Option<TraceContext>,
        kind: SpanKind,
        name: impl FnOnce() -> Cow<'static, str>,
    ) -> Span {
        let trace_id = parent.map_or_else(|| self.ids.new_trace_id(), |parent| parent.trace_id());
        let parent_span_id = parent.map_or(SpanId::INVALID, |parent| parent.span_id());
        let decided = parent.and_then(|parent| parent.sampled());
        let sampled = decided.unwrap_or_else(|| {
            let result = self
                .sampler
                .should_sample(None, trace_id, "", &kind, &[], &[]);
            result.decision == SamplingDecision::RecordAndSample
        });
        // Attempts belong to a job of this process; what begins the others is outside.
        let is_remote = kind != SpanKind::Client && parent_span_id != SpanId::INVALID;
        let context = TraceContext::new(trace_id, self.ids.new_span_id(), Some(sampled));
        let recorded = sampled.then(|| {
            let flags = TraceFlags::SAMPLED;
            let (span_id, state) = (context.span_id(), TraceState::NONE);
            let now = SystemTime::now();
            let data = SpanData {
                span_context: SpanContext::new(trace_id, span_id, flags, false, state),
                parent_span_id,
                parent_span_is_remote: is_remote,
                span_kind: kind,
                name: name(),
                start_time: now,
                end_time: now,
                attributes: Vec::with_capacity(8),
                dropped_attributes_count: 0,
                events: SpanEvents::default(),
                links: SpanLinks::default(),
                status: Status::Unset,
                instrumentation_scope: InstrumentationScope::builder("millrace").build(),
            };
            Box::new(RecordedSpan {
                data,
                queue: self.queue.clone(),
            })
        });
        Span(Some(ActiveSpan { context, recorded }))
    }
}

/// Some work of a trace; it ends when this is dropped.
#[derive(Debug)]
pub struct Span(Option<ActiveSpan>);

#[derive(Debug)]
struct ActiveSpan {
    context: TraceContext,
    /// Only of a trace that is sampled.
    recorded: Option<Box<RecordedSpan>>,
}

#[derive(Debug)]
struct RecordedSpan {
    data: SpanData,
    /// Where it goes when it ends.
    queue: Arc<SpanQueue>,
}

impl Span {
    /// Its place in its trace, sampled or not; none when nothing is traced.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|active| active.context)
    }

    /// Adds an attribute, if the trace is sampled.
    pub fn set_attribute<V: Into<Value>>(&mut self, name: &'static str, value: impl FnOnce() -> V) {
        if let Some(recorded) = self.recorded() {
            recorded.data.attributes.push(KeyValue::new(name, value()));
        }
    }

    /// Marks it as failed, if the trace is sampled.
    pub fn set_error(&mut self, why: impl FnOnce() -> String) {
        if let Some(recorded) = self.recorded() {
            recorded.data.status = Status::error(why());
        }
    }

    fn recorded(&mut self) -> Option<&mut RecordedSpan> {
        self.0.as_mut()?.recorded.as_deref_mut()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(recorded) = self.0.as_mut().and_then(|active| active.recorded.take()) {
            let RecordedSpan { mut data, queue } = *recorded;
            data.end_time = SystemTime::now();
            queue.put(data);
        }
    }
}

/// Spans that have ended and wait to be sent.
#[derive(Debug, Default)]
struct SpanQueue {
    waiting: Mutex<Vec<SpanData>>,
    batch_ready: Notify,
    dropped: AtomicU64,
}

impl SpanQueue {
    fn put(&self, span: SpanData) {
        let waiting = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= QUEUED_SPANS_MAX {
                drop(waiting);
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            waiting.push(span);
            waiting.len()
        };
        if waiting == BATCH_SPANS_MAX {
            self.batch_ready.notify_one();
        }
    }

    /// The oldest, as many as go out at once.
    fn take(&self) -> Option<Vec<SpanData>> {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(spans = dropped, "spans dropped: export queue full");
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.len() {
            0 => None,
            1..=BATCH_SPANS_MAX => Some(std::mem::take(&mut *waiting)),
            _ => Some(waiting.drain(..BATCH_SPANS_MAX).collect()),
        }
    }

    /// Puts back what was not sent, as far as there is room.
    fn requeue(&self, mut spans: Vec<SpanData>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        spans.truncate(QUEUED_SPANS_MAX - waiting.len().min(QUEUED_SPANS_MAX));
        spans.append(&mut waiting);
        *waiting = spans;
    }
}
