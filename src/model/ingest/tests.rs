//! Each mapping against a document of AWS's.

use insta::assert_snapshot;

use super::*;

const S3: &str = include_str!("../../../tests/it/payloads/s3.json");
const SNS: &str = include_str!("../../../tests/it/payloads/sns.json");
const EVENT_BRIDGE: &str = include_str!("../../../tests/it/payloads/event_bridge.json");
const QUEUE_ARN: &str = "arn:aws:sqs:eu-west-1:123456789012:millrace-ingest";

fn in_queue(body: &str) -> Vec<Result<MappedEvent<'_>>> {
    let notification = Notification::Message {
        id: "m1",
        queue_arn: QUEUE_ARN,
        sent: Timestamp::from_millisecond(1_768_469_400_650).ok(),
        trace: None,
        body,
    };
    events(&notification).unwrap()
}

fn invoked(json: &str) -> Vec<Result<MappedEvent<'_>>> {
    events(&Notification::Invocation { json }).unwrap()
}

/// The one event, without its data.
fn attributes(events: &[Result<MappedEvent<'_>>]) -> String {
    let [Ok(mapped)] = events else {
        panic!("{events:?}")
    };
    let body = std::str::from_utf8(mapped.event.body()).unwrap();
    let (attributes, _) = body.split_once(",\"data\":").unwrap();
    attributes.to_owned()
}

fn data(events: &[Result<MappedEvent<'_>>]) -> serde_json::Value {
    serde_json::from_slice(events[0].as_ref().unwrap().event.data().unwrap()).unwrap()
}

/// The SNS message as a queue gets it: without the record around it.
fn sns_in_queue(message: &str) -> String {
    serde_json::json!({
        "Type": "Notification",
        "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:orders",
        "Message": message,
        "Timestamp": "2026-01-15T09:30:00.000Z",
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=arn:aws:sns:eu-west-1:123456789012:orders:2bcf",
    })
    .to_string()
}

#[test]
fn an_array_is_no_envelope() {
    let seven = "[1,[],2,3,4,5,{}]";
    assert_eq!(
        data(&in_queue(seven)),
        serde_json::json!([1, [], 2, 3, 4, 5, {}])
    );
    assert!(events(&Notification::Invocation { json: seven }).is_err());
}

#[test]
fn s3_by_the_cncf_adapter() {
    let events = invoked(S3);
    assert_snapshot!(attributes(&events), @r#"{"specversion":"1.0","id":"C3D13FE58DE4C810.FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD","source":"aws:s3.eu-west-1.invoices","type":"com.amazonaws.s3.ObjectCreated:Put","datacontenttype":"application/json","subject":"2026/01/ada+lovelace.pdf","time":"2026-01-15T09:30:00.000Z""#);
    assert_eq!(data(&events)["s3"]["object"]["size"], 1024);
    assert_eq!(attributes(&in_queue(S3)), attributes(&events));
}

#[test]
fn objects_deleted_by_one_request_can_be_told_apart() {
    let events = invoked(S3);
    let mapped = events[0].as_ref().unwrap();
    let distinct = mapped.with_distinct_id().unwrap().unwrap();
    assert_eq!(
        distinct.id(),
        format!("{}.0055AED6DCD90281E5", mapped.event.id())
    );
    assert!(
        in_queue("1")[0]
            .as_ref()
            .unwrap()
            .with_distinct_id()
            .is_none()
    );
}

#[test]
fn sns_by_the_cncf_adapter() {
    let events = invoked(SNS);
    assert_snapshot!(attributes(&events), @r#"{"specversion":"1.0","id":"95df01b4-ee98-5cb9-9903-4c221d41eb5e","source":"arn:aws:sns:eu-west-1:123456789012:orders:2bcfbf39-05c3-41de-beaa-fcfcc21c8f55","type":"com.amazonaws.sns.Notification","datacontenttype":"application/json","subject":"Order paid","time":"2026-01-15T09:30:00.000Z""#);
    assert_eq!(data(&events)["Message"], "Ada paid");
    let queued = sns_in_queue("Ada paid");
    assert_snapshot!(attributes(&in_queue(&queued)), @r#"{"specversion":"1.0","id":"95df01b4-ee98-5cb9-9903-4c221d41eb5e","source":"arn:aws:sns:eu-west-1:123456789012:orders:2bcf","type":"com.amazonaws.sns.Notification","datacontenttype":"application/json","time":"2026-01-15T09:30:00.000Z""#);
    let topics = queued.replace("UnsubscribeURL", "Other");
    assert_snapshot!(in_queue(&topics)[0].as_ref().unwrap().event.source(), @"arn:aws:sns:eu-west-1:123456789012:orders");
}

#[test]
fn event_bridge_attribute_by_attribute() {
    let events = invoked(EVENT_BRIDGE);
    assert_snapshot!(attributes(&events), @r#"{"specversion":"1.0","id":"7bf73129-1428-4cd3-a780-95db273d1602","source":"aws.ec2","type":"EC2 Instance State-change Notification","awsaccount":"123456789012","awsregion":"eu-west-1","datacontenttype":"application/json","subject":"arn:aws:ec2:eu-west-1:123456789012:instance/i-abcd1111","time":"2026-01-15T09:30:00Z""#);
    assert_eq!(data(&events)["state"], "pending");
    assert_eq!(attributes(&in_queue(EVENT_BRIDGE)), attributes(&events));
}

#[test]
fn what_is_wrapped_in_sns_is_what_is_inside() {
    for inside in [S3, EVENT_BRIDGE] {
        let wrapped = sns_in_queue(inside);
        assert_eq!(
            attributes(&in_queue(&wrapped)),
            attributes(&invoked(inside))
        );
    }
}

#[test]
fn any_other_message_is_the_queues() {
    let events = in_queue("{\"order\": 1}");
    assert_snapshot!(attributes(&events), @r#"{"specversion":"1.0","id":"m1","source":"arn:aws:sqs:eu-west-1:123456789012:millrace-ingest","type":"com.amazonaws.sqs.message","datacontenttype":"application/json","time":"2026-01-15T09:30:00.65Z""#);
    assert_eq!(data(&events)["order"], 1);
    assert_snapshot!(attributes(&in_queue("not JSON")), @r#"{"specversion":"1.0","id":"m1","source":"arn:aws:sqs:eu-west-1:123456789012:millrace-ingest","type":"com.amazonaws.sqs.message","datacontenttype":"text/plain","time":"2026-01-15T09:30:00.65Z""#);
    assert_eq!(data(&in_queue("not JSON")), "not JSON");
    for odd in [
        "",
        "[1]",
        "{\"Records\":7}",
        "{\"Records\":[{\"eventSource\":\"aws:kinesis\"}]}",
        "{\"a\":1,\"a\":2}",
    ] {
        assert!(
            attributes(&in_queue(odd)).contains("com.amazonaws.sqs.message"),
            "{odd}"
        );
    }
}

#[test]
fn a_cloud_event_is_itself() {
    let events = in_queue(r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1}"#);
    assert_snapshot!(attributes(&events), @r#"{"specversion":"1.0","id":"1","source":"/s","type":"t""#);
}

#[test]
fn s3s_test_is_about_nothing() {
    assert!(in_queue(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}"#).is_empty());
}

#[test]
fn a_record_that_cannot_be_mapped_leaves_the_others_alone() {
    let mut document: serde_json::Value = serde_json::from_str(S3).unwrap();
    let mut broken = document["Records"][0].clone();
    broken.as_object_mut().unwrap().remove("eventName");
    document["Records"].as_array_mut().unwrap().push(broken);
    let document = document.to_string();
    let events = invoked(&document);
    assert!(events[0].is_ok());
    assert_snapshot!(events[1].as_ref().unwrap_err(), @"expected an S3 record, which has `eventName`");
}

#[test]
fn what_breaks_a_rule_of_cloud_events_is_refused() {
    let no_source = EVENT_BRIDGE.replace("aws.ec2", "not a URI");
    assert_snapshot!(in_queue(&no_source)[0].as_ref().unwrap_err(), @r#"source: expected a non-empty URI reference of at most 2048 characters (CloudEvents 1.0 §3.1, RFC 3986), got a string of 9 characters"#);
    let no_time = EVENT_BRIDGE.replace("2026-01-15T09:30:00Z", "yesterday");
    assert_snapshot!(in_queue(&no_time)[0].as_ref().unwrap_err(), @r#"time: expected an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z, got a string of 9 characters"#);
    let number = EVENT_BRIDGE.replace("\"aws.ec2\"", "7");
    assert_snapshot!(in_queue(&number)[0].as_ref().unwrap_err(), @"expected an EventBridge event, at line 5, column 13");
    let large = format!("\"{}\"", "x".repeat(event::EVENT_BYTES_MAX));
    assert!(matches!(in_queue(&large)[0], Err(Error::TooLarge(_))));
}
