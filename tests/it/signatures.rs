//! Signatures of requests to AWS, as the services verify them.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use millrace::app;
use millrace::aws::clients;
use millrace::aws::sigv4::{Service, SigV4Signer};
use millrace::store::objects::Objects;
use proptest::test_runner::Config;
use proptest::{prop_assert, prop_assert_eq, proptest};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::support::bucket::{self, Bucket};
use crate::support::harness;
use crate::support::sigv4::{Account, KNOWN, PathRule};

/// The account of the examples that AWS publishes for S3.
const EXAMPLE: Account = Account {
    access_key_id: "AKIAIOSFODNN7EXAMPLE",
    secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    session_token: None,
    region: "us-east-1",
    service: "s3",
    path_rule: PathRule::EncodedOnce,
};
const EXAMPLE_HOST: &str = "examplebucket.s3.amazonaws.com";
const EXAMPLE_DATE: &str = "20130524T000000Z";

fn example(request: http::request::Builder, signed: &str, signature: &str, hash: &str) -> Parts {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
         SignedHeaders={signed},Signature={signature}"
    );
    let request = request
        .header("host", EXAMPLE_HOST)
        .header("x-amz-content-sha256", hash)
        .header("x-amz-date", EXAMPLE_DATE)
        .header("authorization", authorization);
    request.body(()).unwrap().into_parts().0
}

#[test]
fn the_examples_that_aws_publishes_are_verified() {
    let now: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let bare = "host;x-amz-content-sha256;x-amz-date";
    let put = Request::put("/test%24file.text")
        .header("date", "Fri, 24 May 2013 00:00:00 GMT")
        .header("x-amz-storage-class", "REDUCED_REDUNDANCY");
    for (parts, body) in [
        (
            example(
                Request::get("/test.txt").header("range", "bytes=0-9"),
                "host;range;x-amz-content-sha256;x-amz-date",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
                empty,
            ),
            "",
        ),
        (
            example(
                put,
                "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
                hash,
            ),
            "Welcome to Amazon S3.",
        ),
        (
            example(
                Request::get("/?lifecycle"),
                bare,
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
                empty,
            ),
            "",
        ),
        (
            example(
                Request::get("/?max-keys=2&prefix=J"),
                bare,
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
                empty,
            ),
            "",
        ),
    ] {
        let verified = EXAMPLE.verify(&parts, body.as_bytes(), EXAMPLE_HOST, now);
        assert_eq!(verified, Ok(()), "{parts:?}");
    }
}

/// A request to `uri` with the headers that the signer adds, as it is sent.
async fn signed(service: Service, uri: &str, body: &[u8], account: &Account) -> Parts {
    let signer = SigV4Signer::with_credentials(&harness::config(), account.provider());
    let mut request = Request::post(uri)
        .header("content-type", "application/x-protobuf")
        .header("x-spaced", "  a   b ")
        .body(())
        .unwrap();
    signer.sign(service, &mut request, body).await.unwrap();
    let mut parts = request.into_parts().0;
    let host = parts.uri.authority().unwrap().as_str().parse().unwrap();
    parts.headers.insert("host", host);
    parts
}

#[test]
fn what_is_signed_for_a_service_is_verified_by_it_and_nothing_else_is() {
    let runtime = Runtime::new().unwrap();
    let now = app::now();
    let verify = |parts: &Parts, body: &[u8], account: &Account, now| {
        let verified = account.verify(parts, body, "aws.example", now);
        verified.map_err(|refused| refused.code)
    };
    let sign = |service, uri: &str| {
        let uri = format!("https://aws.example{uri}");
        runtime.block_on(signed(service, &uri, b"body", &KNOWN))
    };
    for path in [
        "/v1/traces",
        "/v1/a%20b/c=d/",
        "/v1//traces/./x/../y",
        "/v1/traces?b=2&a=1&a=0&c&d=%20%2B%3D~",
    ] {
        let parts = sign(Service::Xray, path);
        let account = Account::at("xray");
        assert_eq!(verify(&parts, b"body", &account, now), Ok(()), "{path}");
    }
    let parts = sign(Service::S3, "/a%3Db//../c");
    let s3 = KNOWN;
    assert_eq!(verify(&parts, b"body", &s3, now), Ok(()));
    let early = now + SignedDuration::from_mins(14);
    assert_eq!(verify(&parts, b"body", &s3, early), Ok(()));
    let late = now + SignedDuration::from_mins(16);
    let skewed = verify(&parts, b"body", &s3, late);
    assert_eq!(skewed, Err("RequestTimeTooSkewed"));
    let body = verify(&parts, b"other", &s3, now);
    assert_eq!(body, Err("XAmzContentSHA256Mismatch"));
    let xray = verify(&parts, b"body", &Account::at("xray"), now);
    assert_eq!(xray, Err("AuthorizationHeaderMalformed"));
    let host = s3.verify(&parts, b"body", "other.example", now);
    assert_eq!(host.unwrap_err().code, "SignatureDoesNotMatch");
    let unescaped = sign(Service::S3, "/a=b");
    let refused = verify(&unescaped, b"body", &s3, now);
    assert_eq!(refused, Err("SignatureDoesNotMatch"), "S3 expects %3D");
    for (header, code) in [
        ("authorization", "AccessDenied"),
        ("x-amz-security-token", "InvalidToken"),
        ("x-amz-content-sha256", "InvalidRequest"),
    ] {
        let mut parts = parts.clone();
        parts.headers.remove(header);
        assert_eq!(verify(&parts, b"body", &s3, now), Err(code));
    }
}

/// Puts, reads, lists and deletes the object `key`.
async fn round_trip(objects: &Objects, bucket: &Bucket, key: &str) -> Result<(), String> {
    let failed = |error: millrace::error::Error| error.causes().unwrap_or_default();
    let body = Bytes::from(key.to_owned());
    objects.put(key, body.clone()).await.map_err(failed)?;
    let names = bucket.names();
    let found = objects.get(key).await.map_err(failed)?;
    let found = found.ok_or("it is not there")?;
    let replaced = objects.replace(key, &found, body.clone()).await;
    let replaced = replaced.map_err(failed)?;
    let listed = objects.list(key, None).await.map_err(failed)?;
    let after = objects.list("", Some(key)).await.map_err(failed)?;
    objects.delete(key).await.map_err(failed)?;
    let is_whole = found.gzip == body && replaced && after.is_empty();
    (names == [key] && listed == [key] && is_whole && bucket.names().is_empty())
        .then_some(())
        .ok_or_else(|| format!("{names:?} {listed:?} {after:?}"))
}

#[test]
fn s3_takes_the_signature_of_a_key_of_any_characters() {
    let runtime = Runtime::new().unwrap();
    let bucket = runtime.block_on(Bucket::start());
    let mut config = harness::config();
    config.archive.bucket = bucket::NAME.into();
    config.archive.endpoint_url = bucket.url.clone();
    let objects = Objects::with_credentials(&config, KNOWN.provider());
    let objects = objects.unwrap().unwrap();
    for key in [
        "events/project=prj_1/day=2026-01-01/part-00001.jsonl.gz",
        "a b+c&d'e~f*g%h<i>\"j",
        "%3D",
        "=",
        "?",
        "#",
        "a//b",
        "a/../b",
        "./a",
        "..",
        "%2e%2e/a",
        "ü/日本",
        "$,;:@!()[]{}|\\^`",
    ] {
        let done = runtime.block_on(round_trip(&objects, &bucket, key));
        assert_eq!(done, Ok(()), "{key}");
    }
    proptest!(Config::with_cases(48), |(key in "[ -~äß日/=+%&'*.]{1,40}")| {
        let done = runtime.block_on(round_trip(&objects, &bucket, &key));
        prop_assert_eq!(done, Ok(()));
        prop_assert!(bucket.refusals().is_empty());
    });
}

#[test]
fn a_request_whose_signature_s3_refuses_is_told_by_its_code() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let bucket = Bucket::start().await;
        let mut config = harness::config();
        config.archive.bucket = bucket::NAME.into();
        config.archive.endpoint_url = bucket.url.clone();
        let stranger = Account {
            secret: "other",
            ..KNOWN
        };
        let objects = Objects::with_credentials(&config, stranger.provider());
        let error = objects.unwrap().unwrap().put("a=b", Bytes::new()).await;
        let causes = error.unwrap_err().causes().unwrap();
        assert!(causes.contains("SignatureDoesNotMatch"), "{causes}");
        assert!(!causes.contains("session"), "{causes}");
        assert_eq!(bucket.refusals(), ["SignatureDoesNotMatch"]);
        assert!(bucket.names().is_empty());
    });
}

/// What a service was asked, and why it refused any of it.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Result<String, String>>>>);

/// A service that verifies what it is asked and answers nothing.
async fn verifying(service: &'static str, asked: Asked) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let url = format!("http://{host}");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (asked, host) = (asked.clone(), host.clone());
            tokio::spawn(async move {
                let answer = async |request: Request<Incoming>| {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let account = Account::at(service);
                    let verified = account.verify(&parts, &body, &host, app::now());
                    let target = parts.headers.get("x-amz-target").cloned();
                    let target = target.map(|t| t.to_str().unwrap().to_owned());
                    let verified = verified.map(|()| target.unwrap_or_default());
                    asked
                        .0
                        .lock()
                        .unwrap()
                        .push(verified.map_err(|r| format!("{r:?}")));
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                };
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                let _ = served.await;
            });
        }
    });
    url
}

#[test]
fn what_the_sdk_signs_is_what_goes_over_the_wire() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let asked = Asked::default();
        let http = clients::http_client(std::path::Path::new("")).unwrap();
        let config = aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("us-east-1"))
            .credentials_provider(KNOWN.provider())
            .http_client(http)
            .build();
        let at = async |service| {
            let url = verifying(service, asked.clone()).await;
            config.to_builder().endpoint_url(url).build()
        };
        let dynamo = aws_sdk_dynamodb::Client::new(&at("dynamodb").await);
        dynamo.list_tables().send().await.unwrap();
        let sqs = aws_sdk_sqs::Client::new(&at("sqs").await);
        sqs.receive_message()
            .queue_url("http://a b/ü=1")
            .send()
            .await
            .unwrap();
        let secrets = aws_sdk_secretsmanager::Client::new(&at("secretsmanager").await);
        let read = secrets.get_secret_value().secret_id("a/b=c+d").send();
        read.await.unwrap();
        let asked = asked.0.lock().unwrap().clone();
        let asked: Result<Vec<_>, _> = asked.into_iter().collect();
        let expected = [
            "DynamoDB_20120810.ListTables",
            "AmazonSQS.ReceiveMessage",
            "secretsmanager.GetSecretValue",
        ];
        assert_eq!(asked, Ok(expected.map(String::from).to_vec()));
    });
}
