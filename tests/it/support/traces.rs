//! Spans as a collector receives them.

use millrace::config::{Config, TracesChoice};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::receiver::Receiver;

/// Has the spans of what `config` configures sent to `collector`.
pub fn trace_to(config: &mut Config, collector: &Receiver) {
    config.telemetry.traces = TracesChoice::Otlp;
    config.telemetry.otlp_url.clone_from(&collector.url);
}

/// The spans of one trace, by when they began.
pub fn spans(collector: &Receiver, trace: &str) -> Vec<Span> {
    let bodies = collector.received().into_iter().map(|sent| sent.body);
    let mut spans: Vec<Span> = bodies
        .map(|body| ExportTraceServiceRequest::decode(body).unwrap())
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .filter(|span| hex(&span.trace_id) == trace)
        .collect();
    spans.sort_by_key(|span| span.start_time_unix_nano);
    spans
}

/// Bytes as traces and logs write them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
