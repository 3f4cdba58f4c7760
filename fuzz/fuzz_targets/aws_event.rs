//! Events of S3, SNS and EventBridge, and messages of queues, on their way to
//! CloudEvents.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::error::Result;
use millrace::model::ingest::{self, MappedEvent, Notification};
use millrace_fuzz::{canonical, refused, text};
use serde_json::value::RawValue;
use serde_json::{Value, json};

const QUEUE_ARN: &str = "arn:aws:sqs:eu-west-1:123456789012:ingest";
const TOPIC_ARN: &str = "arn:aws:sns:eu-west-1:123456789012:topic";

fuzz_target!(|input: &[u8]| {
    let Ok(body) = std::str::from_utf8(input) else {
        return;
    };
    let message = Notification::Message {
        id: "1",
        queue_arn: QUEUE_ARN,
        sent: None,
        trace: None,
        body,
    };
    let queued = ingest::events(&message);
    let invoked = ingest::events(&Notification::Invocation { json: body });
    match (&invoked, &queued) {
        (Ok(invoked), Ok(queued)) => {
            assert_eq!(shown(invoked), shown(queued), "a queue makes no difference");
            // Of text that a tree may not be able to hold: half a surrogate pair.
            let document = serde_json::from_str::<&RawValue>(body);
            assert!(document.is_ok_and(|document| document.get().starts_with('{')));
            in_a_topic(body, invoked);
        }
        // What is nothing in particular is a message of its queue, whole.
        (Err(error), Ok(queued)) => {
            refused(error);
            let [mapped] = &queued[..] else {
                panic!("{} events of one message", queued.len());
            };
            let document = serde_json::from_str::<Value>(body);
            if let (Ok(mapped), Ok(document)) = (mapped, document) {
                let data = mapped.event.data().expect("it has the body as its data");
                assert_eq!(serde_json::from_slice::<Value>(data).ok(), Some(document));
            }
        }
        (_, Err(error)) => panic!("a queue takes any message, but: {error}"),
    }
    for mapped in invoked.iter().chain(&queued).flatten() {
        check(mapped);
    }
});

fn check(mapped: &Result<MappedEvent<'_>>) {
    match mapped {
        Ok(mapped) => {
            canonical(&mapped.event);
            match mapped.with_distinct_id() {
                Some(Ok(event)) => canonical(&event),
                Some(Err(error)) => drop(refused(&error).map(str::to_owned)),
                None => {}
            }
        }
        Err(error) => drop(refused(error).map(str::to_owned)),
    }
}

/// The same, sent by way of a topic, are the same events.
fn in_a_topic(body: &str, events: &[Result<MappedEvent<'_>>]) {
    let notification = json!({
        "Type": "Notification",
        "MessageId": "2",
        "TopicArn": TOPIC_ARN,
        "Message": body,
        "Timestamp": "2026-01-31T12:00:00.000Z",
    });
    let json = notification.to_string();
    let wrapped = ingest::events(&Notification::Invocation { json: &json });
    let wrapped = wrapped.expect("it is a notification of SNS");
    assert_eq!(
        shown(&wrapped),
        shown(events),
        "a topic makes no difference"
    );
}

fn shown(events: &[Result<MappedEvent<'_>>]) -> Vec<String> {
    let shown = events.iter().map(|mapped| match mapped {
        Ok(mapped) => text(&mapped.event).to_owned(),
        Err(error) => error.to_string(),
    });
    shown.collect()
}
