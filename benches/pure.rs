//! What accepting and delivering costs before any store is asked: the pure rules.
//!
//! `cargo bench --bench pure`

#![expect(clippy::unwrap_used, reason = "what is fixed here parses")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use millrace::model::endpoint::{DeliverySettings, EndpointState, Target, Targets};
use millrace::model::event::{parse_binary, parse_structured};
use millrace::model::failure_streak::LatestStreak;
use millrace::model::filter::Filter;
use millrace::model::id::{DeliveryId, EndpointId, EventId, ProjectId};
use millrace::model::signature::{Scheme, Secret, signature_header};
use serde_json::json;

/// The endpoints of a large project.
const ENDPOINTS: u16 = 1000;

fn data() -> serde_json::Value {
    json!({ "invoice": "in_1234567890", "amount": 1200, "padding": "x".repeat(170) })
}

/// About 400 bytes.
fn structured() -> Vec<u8> {
    let event = json!({
        "specversion": "1.0", "id": "in_1234567890-paid", "source": "/billing",
        "type": "invoice.paid", "subject": "invoice/in_1234567890", "tenant": "acme",
        "time": "2026-01-31T12:00:00Z", "datacontenttype": "application/json", "data": data(),
    });
    event.to_string().into_bytes()
}

fn binary() -> (HeaderMap, Vec<u8>) {
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "in_1234567890-paid"),
        ("ce-source", "/billing"),
        ("ce-type", "invoice.paid"),
        ("ce-subject", "invoice/in_1234567890"),
        ("ce-tenant", "acme"),
        ("ce-time", "2026-01-31T12:00:00Z"),
        ("content-type", "application/json"),
    ];
    let headers = headers.map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    (
        headers.into_iter().collect(),
        data().to_string().into_bytes(),
    )
}

fn endpoint(n: u16) -> EndpointId {
    let mut random = [7; 10];
    random[..2].copy_from_slice(&n.to_be_bytes());
    EndpointId::new(1_700_000_000_000, random)
}

/// One in ten takes the event: by its type, or by type and tenant.
fn targets() -> Targets {
    let target = |n: u16| {
        let (types, tenant) = match n % 10 {
            0 if n.is_multiple_of(20) => (vec!["invoice.*"], None),
            0 => (vec!["invoice.paid"], Some("acme")),
            1..5 => (vec!["invoice.*"], Some("other")),
            _ => (vec!["order.placed", "order.shipped", "customer.*"], None),
        };
        Target {
            id: endpoint(n),
            uid: None,
            version: 1,
            url: format!("https://example.com/{n}").parse().unwrap(),
            filter: Filter::new(&types, tenant).unwrap(),
            state: EndpointState::Enabled,
            secrets: vec![],
            delivery_settings: DeliverySettings::default(),
            credentials: None,
            enabled_at: jiff::Timestamp::UNIX_EPOCH,
            failure_streak: LatestStreak::default(),
        }
    };
    Targets::new((0..ENDPOINTS).map(target).collect(), vec![])
}

fn events(c: &mut Criterion) {
    let json = structured();
    assert!((350..450).contains(&json.len()), "{}", json.len());
    c.bench_function("parse structured and fingerprint", |b| {
        b.iter(|| parse_structured(black_box(&json)).unwrap());
    });
    let (headers, body) = binary();
    c.bench_function("parse binary and fingerprint", |b| {
        b.iter(|| parse_binary(black_box(&headers), black_box(&body)).unwrap());
    });
}

fn signatures(c: &mut Criterion) {
    let body = structured();
    for scheme in [Scheme::V1, Scheme::V1a] {
        let secret = Secret::generate(scheme, [7; 32]);
        c.bench_function(&format!("sign {}", scheme.as_str()), |b| {
            b.iter(|| signature_header([black_box(&secret)], "evt_1", 1_700_000_000, &body));
        });
    }
}

fn matching(c: &mut Criterion) {
    let targets = targets();
    c.bench_function("match 1,000 endpoints", |b| {
        b.iter(|| {
            targets
                .matching(black_box("invoice.paid"), Some("acme"))
                .count()
        });
    });
}

fn ids(c: &mut Criterion) {
    let project = ProjectId::new(1_700_000_000_000, [1; 10]);
    c.bench_function("derive an event's id", |b| {
        b.iter(|| EventId::derive(black_box(&project), "/billing", "in_1234567890-paid"));
    });
    let event = EventId::derive(&project, "/billing", "in_1234567890-paid");
    let endpoint = endpoint(1);
    c.bench_function("name a delivery", |b| {
        b.iter(|| DeliveryId::new(black_box(&event), &endpoint));
    });
}

criterion_group!(benches, events, signatures, matching, ids);
criterion_main!(benches);
