//! What measuring costs the work that is measured: per request with traces off,
//! on but not kept, and kept; and per number counted.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use http::{HeaderMap, Method};
use millrace::config::Config;
use millrace::telemetry::Telemetry;
use millrace::telemetry::scope::{self, WorkContext};

fn telemetry(traces: &str, ratio: f64) -> Telemetry {
    let toml = format!(
        "[database]\nurl = \"postgresql://u@db/m\"\n[telemetry]\ntraces = {traces:?}\n\
         otlp_url = \"http://127.0.0.1:1\"\nsample_ratio = {ratio:?}"
    );
    Telemetry::new(&Config::from_toml(&toml).expect("a valid configuration"))
}

/// A request's span, the scope around its work and the trace of one message.
fn request(telemetry: &Telemetry) {
    let headers = HeaderMap::new();
    let mut span = telemetry
        .traces
        .request(&Method::POST, Some("/v1/events"), &headers);
    span.set_attribute("request.id", || "0123456789abcdef");
    let work = async { black_box(scope::traceparent()) };
    black_box(WorkContext::request("0123456789abcdef", span.context()).run(work)).now_or_never();
}

fn benches(c: &mut Criterion) {
    let cases = [
        ("request, traces off", telemetry("off", 0.0)),
        ("request, not sampled", telemetry("otlp", 0.0)),
        // Nobody takes them, so the list is full; making them is what costs.
        ("request, sampled", telemetry("otlp", 1.0)),
    ];
    for (name, telemetry) in &cases {
        c.bench_function(name, |b| b.iter(|| request(telemetry)));
    }
    let off = &cases[0].1;
    c.bench_function("count", |b| b.iter(|| off.metrics.accepted.add_one()));
    let latency = Duration::from_millis(37);
    c.bench_function("see a duration", |b| {
        b.iter(|| off.metrics.attempt_latency.record(black_box(latency)));
    });
}

criterion_group!(telemetry_benches, benches);
criterion_main!(telemetry_benches);
