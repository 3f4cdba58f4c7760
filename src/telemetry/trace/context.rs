//! A place in a trace, and the headers that carry it.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId};
use opentelemetry_aws::trace::XrayPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// W3C's header of Trace Context.
pub const TRACEPARENT: &str = "traceparent";
/// X-Ray's header, which load balancers and Lambda add.
pub const XRAY: &str = "x-amzn-trace-id";
/// The bit by which OpenTelemetry's X-Ray propagator says that the sender left
/// the decision open.
const SAMPLING_UNDECIDED: TraceFlags = TraceFlags::new(0x02);

/// A trace and a place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    /// Invalid where a header names a trace only.
    span_id: SpanId,
    sampled: Option<bool>,
}

impl TraceContext {
    pub(super) fn new(trace_id: TraceId, span_id: SpanId, sampled: Option<bool>) -> Self {
        Self {
            trace_id,
            span_id,
            sampled,
        }
    }

    /// Reads a W3C `traceparent`.
    pub fn of_traceparent(header: &str) -> Option<Self> {
        let context = extracted(
            &TraceContextPropagator::new(),
            SingleHeader(TRACEPARENT, header),
        );
        let sampled = Some(context.is_sampled());
        context.is_valid().then(|| Self::of(&context, sampled))
    }

    /// Reads an X-Ray trace header: `Root=1-…;Parent=…;Sampled=…`. Parent and
    /// decision may be missing: a load balancer sends the root alone.
    pub fn of_xray(header: &str) -> Option<Self> {
        let context = extracted(&XrayPropagator::new(), SingleHeader(XRAY, header.trim()));
        if context.trace_id() == TraceId::INVALID {
            return None;
        }
        let undecided = context.trace_flags() & SAMPLING_UNDECIDED == SAMPLING_UNDECIDED;
        let sampled = (!undecided).then(|| context.is_sampled());
        Some(Self::of(&context, sampled))
    }

    fn of(context: &SpanContext, sampled: Option<bool>) -> Self {
        Self::new(context.trace_id(), context.span_id(), sampled)
    }

    /// The trace it is a place in.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The place in it; invalid if only the trace is known.
    pub fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// Whether the trace is sampled, if that is decided.
    pub fn sampled(&self) -> Option<bool> {
        self.sampled
    }

    /// The W3C `traceparent` that continues the trace from here; none without a
    /// place and a decision.
    pub fn traceparent(&self) -> Option<Box<str>> {
        let sampled = self.sampled?;
        let (trace, span) = (self.trace_id, self.span_id);
        let known = span != SpanId::INVALID;
        known.then(|| format!("00-{trace}-{span}-{:02x}", u8::from(sampled)).into())
    }
}

fn extracted(propagator: &impl TextMapPropagator, header: SingleHeader<'_>) -> SpanContext {
    let context = propagator.extract_with_context(&Context::new(), &header);
    context.span().span_context().clone()
}

/// A carrier of one header.
struct SingleHeader<'a>(&'static str, &'a str);

impl Extractor for SingleHeader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == self.0).then_some(self.1)
    }

    fn keys(&self) -> Vec<&str> {
        vec![self.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "1-58406520-a006649127e371903a2de979";
    const TRACE: &str = "58406520a006649127e371903a2de979";

    fn xray(rest: &str) -> (String, String, Option<bool>) {
        let context = TraceContext::of_xray(&format!("Root={ROOT}{rest}")).unwrap();
        let (trace, span) = (context.trace_id(), context.span_id());
        (trace.to_string(), span.to_string(), context.sampled())
    }

    #[test]
    fn a_load_balancers_root_is_a_trace_without_a_place_or_a_decision() {
        assert_eq!(xray(""), (TRACE.into(), "0".repeat(16), None));
        let context = TraceContext::of_xray(&format!("Root={ROOT}")).unwrap();
        assert_eq!(context.traceparent(), None);
    }

    #[test]
    fn an_x_ray_header_says_who_and_whether() {
        let parent = ";Parent=4c721bf33e3caf8f";
        let says = |sampled: &str| xray(&format!("{parent}{sampled};Lineage=a:b")).2;
        assert_eq!(says(";Sampled=1"), Some(true));
        assert_eq!(says(";Sampled=0"), Some(false));
        assert_eq!(says(";Sampled=?"), None);
        assert_eq!(xray(parent).1, "4c721bf33e3caf8f");
        assert!(TraceContext::of_xray("Root=nonsense").is_none());
        assert!(TraceContext::of_xray("").is_none());
    }

    #[test]
    fn a_traceparent_is_read_and_written() {
        let header = format!("00-{TRACE}-4c721bf33e3caf8f-01");
        let context = TraceContext::of_traceparent(&header).unwrap();
        assert_eq!(context.sampled(), Some(true));
        assert_eq!(context.traceparent().as_deref(), Some(&*header));
        let unsampled = TraceContext::of_traceparent(&header.replace("-01", "-00")).unwrap();
        assert_eq!(unsampled.sampled(), Some(false));
        for bad in [
            "",
            "00",
            "00-0-0-01",
            "zz-zz",
            "00-00000000000000000000000000000000-4c721bf33e3caf8f-01",
        ] {
            assert_eq!(TraceContext::of_traceparent(bad), None, "{bad}");
        }
    }
}
