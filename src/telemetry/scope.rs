//! The context of the current work: its request, its job, its trace.
//!
//! Set around a future, seen by all it awaits; not by what it spawns. Log lines
//! take their ids from here, queue messages and attempts their trace, so neither
//! is passed along. Nothing is formatted before something asks.

use crate::model::id::{DeliveryId, EndpointId, EventId, RecoveryId};
use crate::model::job::Job;

use super::trace::context::TraceContext;

tokio::task_local! {
    static SCOPE: WorkContext;
}

/// What some work belongs to, for its log lines and its trace.
#[derive(Debug, Clone, Default)]
pub struct WorkContext {
    request: Option<Box<str>>,
    lambda_request: Option<Box<str>>,
    about: WorkSubject,
    trace: Option<TraceContext>,
}

#[derive(Debug, Clone, Default)]
enum WorkSubject {
    #[default]
    Nothing,
    Event(EventId),
    Delivery(DeliveryId),
    Endpoint(EndpointId),
    Recovery(RecoveryId),
}

impl WorkContext {
    /// A Lambda invocation: its request id and the value of its
    /// `Lambda-Runtime-Trace-Id` header, from which what happens inside descends.
    pub fn invocation(lambda_request_id: &str, xray_trace_id: Option<&str>) -> Self {
        Self {
            lambda_request: Some(lambda_request_id.into()),
            trace: xray_trace_id.and_then(TraceContext::of_xray),
            ..Self::default()
        }
    }

    /// A request, within what is around it.
    pub fn request(id: &str, trace: Option<TraceContext>) -> Self {
        Self {
            request: Some(id.into()),
            ..Self::inner(trace)
        }
    }

    /// A job, within what is around it.
    pub fn job(job: &Job, trace: Option<TraceContext>) -> Self {
        let about = match job {
            Job::FanOut { event } => WorkSubject::Event(event.clone()),
            Job::Deliver { delivery, .. } => WorkSubject::Delivery(delivery.clone()),
            Job::Disable { endpoint } => WorkSubject::Endpoint(endpoint.clone()),
            Job::Recover { recovery, .. } => WorkSubject::Recovery(recovery.clone()),
        };
        Self {
            about,
            ..Self::inner(trace)
        }
    }

    /// The taking in of what an AWS source sent, within what is around it.
    pub fn ingest(trace: Option<TraceContext>) -> Self {
        Self::inner(trace)
    }

    /// What the current work belongs to, for work that it spawns.
    pub fn current() -> Self {
        Self::inner(None)
    }

    fn inner(trace: Option<TraceContext>) -> Self {
        let mut scope = SCOPE.try_with(Clone::clone).unwrap_or_default();
        scope.trace = trace.or(scope.trace);
        scope
    }

    /// Runs `work` as belonging to this.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> T {
        SCOPE.scope(self, work).await
    }
}

/// The trace that the current work is part of.
pub fn trace() -> Option<TraceContext> {
    SCOPE.try_with(|scope| scope.trace).ok().flatten()
}

/// The same as a W3C `traceparent`, for a message that continues it elsewhere.
pub fn traceparent() -> Option<Box<str>> {
    trace().and_then(|trace| trace.traceparent())
}

/// Calls `field` with each id of the current work, under the name it is logged by.
pub(super) fn fields(mut field: impl FnMut(&'static str, &dyn std::fmt::Display)) {
    let mut visit = |scope: &WorkContext| {
        if let Some(id) = &scope.request {
            field("request.id", id);
        }
        if let Some(id) = &scope.lambda_request {
            field("lambda.request_id", id);
        }
        if let Some(trace) = &scope.trace {
            field("trace.id", &trace.trace_id());
        }
        match &scope.about {
            WorkSubject::Nothing => {}
            WorkSubject::Event(event) => field("event.id", event),
            WorkSubject::Delivery(delivery) => {
                field("delivery.id", delivery);
                field("event.id", &delivery.event());
                field("endpoint.id", &delivery.endpoint());
            }
            WorkSubject::Endpoint(endpoint) => field("endpoint.id", endpoint),
            WorkSubject::Recovery(recovery) => field("recovery.id", recovery),
        }
    };
    // Outside any scope there is no id.
    let _ = SCOPE.try_with(|scope| visit(scope));
}
