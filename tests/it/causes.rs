//! Why a store was of no use, as the log tells it: the error code or SQLSTATE, the
//! message, and nothing that is secret.

use std::path::Path;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use axum::Router;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use millrace::aws::clients;
use millrace::config::Config;
use millrace::error::Error;
use millrace::model::id::{EventId, ProjectId};
use millrace::queue::sqs::QueueName;
use millrace::queue::{SqsOptions, SqsQueue};
use millrace::store::dynamo::Dynamo;
use millrace::store::objects::Objects;
use millrace::store::secrets::{AdminKey, CachedSecret};
use millrace::store::{events, projects};
use rcgen::generate_simple_self_signed;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::harness::run;
use crate::support::stores;

const SECRET_KEY: &str = "wJalrXUtnFEMIhunter2";
const SESSION_TOKEN: &str = "FwoGZXIvYXdzEhunter2";

/// A part of AWS that refuses whatever it is asked, as `answer` says.
async fn refusing(status: u16, answer: fn(&HeaderMap) -> String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(move |request: Request| async move {
        let headers = [("x-amzn-requestid", "REQ123")];
        let status = StatusCode::from_u16(status).unwrap();
        (status, headers, answer(request.headers()))
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// What lacks the right, as services of JSON say it.
fn denied(_: &HeaderMap) -> String {
    r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"User: arn:aws:sts::1:assumed-role/api is not authorized"}"#.into()
}

/// A wrong signature: the answer repeats what was signed.
fn unmatched(headers: &HeaderMap) -> String {
    let token = headers["x-amz-security-token"].to_str().unwrap();
    let message = format!(
        "The request signature we calculated does not match.\n\n\
         The Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:{token}'"
    );
    serde_json::json!({ "__type": "com.amazon.coral.service#InvalidSignatureException", "message": message })
        .to_string()
}

/// The same by S3.
fn unmatched_xml(headers: &HeaderMap) -> String {
    let token = headers["x-amz-security-token"].to_str().unwrap();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SignatureDoesNotMatch</Code>\
         <Message>The request signature we calculated does not match.</Message>\
         <CanonicalRequest>PUT\n/\n\nx-amz-security-token:{token}</CanonicalRequest></Error>"
    )
}

/// A server whose certificate nobody vouches for.
async fn untrusted() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = rustls::crypto::ring::default_provider().into();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            drop(tls.accept(stream).await);
        }
    });
    format!("https://localhost:{port}")
}

/// A name that is nobody's, by RFC 6761.
const NO_SUCH_HOST: &str = "http://millrace.invalid";

fn credentials() -> Credentials {
    Credentials::from_keys("AKIAEXAMPLE", SECRET_KEY, Some(SESSION_TOKEN.to_owned()))
}

/// Configures an SDK's client: one try, at `url`.
macro_rules! client {
    ($sdk:ident, $url:expr) => {
        $sdk::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(credentials())
            .endpoint_url($url)
            .retry_config(RetryConfig::disabled())
            .http_client(clients::http_client(Path::new("")).unwrap())
    };
}

async fn dynamodb(url: &str) -> Error {
    let dynamo = Dynamo::new(client!(aws_sdk_dynamodb, url).build(), "millrace");
    events::get(&dynamo, &event()).await.unwrap_err()
}

fn event() -> EventId {
    EventId::derive(&ProjectId::new(0, [0; 10]), "", "1")
}

async fn sqs(url: &str) -> Error {
    let options = SqsOptions {
        fan_out_url: format!("{url}/1/fan-out"),
        deliver_url: format!("{url}/1/deliver"),
        ingest_url: String::new(),
        parked_url: None,
        lease: Duration::from_secs(30),
        visibility: Duration::from_secs(30),
        wait: Duration::ZERO,
    };
    let sqs = SqsQueue::new(client!(aws_sdk_sqs, url), options);
    let received = sqs.receive(QueueName::Deliver, Duration::ZERO).await;
    received.unwrap_err()
}

async fn secrets_manager(url: &str) -> Error {
    let config = client!(aws_sdk_secretsmanager, url).build();
    let client = clients::Lazy::new(|| aws_sdk_secretsmanager::Client::from_conf(config));
    let secret =
        CachedSecret::<AdminKey>::remote(client, "arn:aws:secretsmanager:eu-west-1:1:secret:a");
    secret.get().await.map(drop).unwrap_err()
}

async fn s3(url: &str) -> Error {
    let toml = format!(
        "[archive]\nbucket = \"archive\"\nendpoint_url = \"{url}\"\n\
         [database]\nurl = \"postgresql://nobody@127.0.0.1:1/none\""
    );
    let config = Config::from_toml(&toml).unwrap();
    let provider = SharedCredentialsProvider::new(credentials());
    let bucket = Objects::with_credentials(&config, provider);
    let bucket = bucket.unwrap().expect("a bucket");
    let put = bucket.put("a", Bytes::from_static(b"gzip")).await;
    put.unwrap_err()
}

/// What the log says of `error` beside "the event store is unavailable".
fn cause(error: &Error) -> String {
    let cause = error
        .causes()
        .unwrap_or_else(|| panic!("{error}: no cause"));
    assert!(!cause.contains("hunter2"), "{cause}");
    assert!(!cause.contains('\n'), "{cause}");
    cause
}

#[test]
fn what_an_aws_service_refuses_is_told_by_its_code_and_message() {
    run(async {
        let denied = refusing(400, denied).await;
        let unmatched = refusing(400, unmatched).await;
        let xml = refusing(403, unmatched_xml).await;
        let mut told = String::new();
        for error in [
            dynamodb(&denied).await,
            dynamodb(&unmatched).await,
            sqs(&denied).await,
            sqs(&unmatched).await,
            secrets_manager(&denied).await,
            secrets_manager(&unmatched).await,
            s3(&xml).await,
        ] {
            told.push_str(&format!("{error}: {}\n", cause(&error)));
        }
        insta::assert_snapshot!(told, @r"
        the event store is unavailable: AccessDeniedException: User: arn:aws:sts::1:assumed-role/api is not authorized (HTTP 400, request REQ123)
        the event store is unavailable: InvalidSignatureException: The request signature we calculated does not match. (HTTP 400, request REQ123)
        the queue is unavailable: AccessDeniedException: User: arn:aws:sts::1:assumed-role/api is not authorized (HTTP 400, request REQ123)
        the queue is unavailable: InvalidSignatureException: The request signature we calculated does not match. (HTTP 400, request REQ123)
        the secret store is unavailable: secret arn:aws:secretsmanager:eu-west-1:1:secret:a: AccessDeniedException: User: arn:aws:sts::1:assumed-role/api is not authorized (HTTP 400, request REQ123)
        the secret store is unavailable: secret arn:aws:secretsmanager:eu-west-1:1:secret:a: InvalidSignatureException: The request signature we calculated does not match. (HTTP 400, request REQ123)
        the archive is unavailable: SignatureDoesNotMatch: The request signature we calculated does not match. (HTTP 403)
        ");
    });
}

#[test]
fn a_service_that_is_not_reached_is_told_by_what_stood_in_the_way() {
    run(async {
        let untrusted = untrusted().await;
        for (url, expected) in [
            (NO_SUCH_HOST, "host name not resolved"),
            (&*untrusted, "UnknownIssuer"),
            ("http://127.0.0.1:1", "onnection refused"),
        ] {
            for error in [
                dynamodb(url).await,
                sqs(url).await,
                secrets_manager(url).await,
                s3(url).await,
            ] {
                let cause = cause(&error);
                assert!(cause.contains(expected), "{error} at {url}: {cause}");
            }
        }
    });
}

#[test]
fn a_table_that_is_not_there_is_told_by_its_code() {
    run(async {
        let absent = stores::dynamo();
        let error = events::get(&absent, &event()).await.unwrap_err();
        let cause = cause(&error);
        assert!(cause.starts_with("ResourceNotFoundException: "), "{cause}");
    });
}

/// A PostgreSQL that lets nobody in.
async fn locked() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut startup = [0; 1024];
            let _ = stream.read(&mut startup).await;
            let fields =
                b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"api\"\0\
                DConnection matched pg_hba.conf, hunter2\0\0";
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            let answer = [b"E", &length[..], fields].concat();
            let _ = stream.write_all(&answer).await;
        }
    });
    format!("postgresql://api:hunter2@127.0.0.1:{port}/m?sslmode=disable")
}

#[test]
fn what_postgresql_refuses_is_told_by_its_sqlstate() {
    run(async {
        let list = async |url: &str| {
            let pool = stores::postgres(url, 1);
            cause(&projects::list(&pool, "", 1).await.unwrap_err())
        };
        let refused = list(&locked().await).await;
        let expected = "SQLSTATE 28P01: password authentication failed for user \"api\"";
        assert_eq!(refused, expected);
        let nowhere = list("postgresql://api:hunter2@127.0.0.1:1/m?sslmode=disable").await;
        assert!(nowhere.contains("onnection refused"), "{nowhere}");
        let unknown = list("postgresql://api:hunter2@millrace.invalid/m?sslmode=disable").await;
        let expected = "error connecting to server: failed to lookup address information";
        assert!(unknown.starts_with(expected), "{unknown}");
    });
}

#[test]
fn a_statement_that_fails_is_told_by_its_sqlstate() {
    run(async {
        let database = stores::unmigrated_postgres().await;
        let error = projects::list(&database.postgres, "", 1).await.unwrap_err();
        assert_eq!(error.code().to_string(), "internal");
        let expected = "SQLSTATE 42P01: relation \"projects\" does not exist";
        assert_eq!(cause(&error), expected);
    });
}

#[cfg(feature = "embedded")]
#[test]
fn a_log_line_of_a_call_that_failed_says_why_and_no_secret() {
    run(async {
        let url = refusing(400, unmatched).await;
        let data = tempfile::tempdir().unwrap();
        let served = crate::support::binary::Served::start(
            data.path(),
            &[
                ("MILLRACE_SQS__FAN_OUT_URL", &*format!("{url}/1/fan-out")),
                ("MILLRACE_SQS__DELIVER_URL", &format!("{url}/1/deliver")),
                ("MILLRACE_SQS__ENDPOINT_URL", &url),
                ("MILLRACE_AWS__REGION", "eu-west-1"),
                ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
                ("AWS_SESSION_TOKEN", SESSION_TOKEN),
            ],
        );
        let begun = std::time::Instant::now();
        let line = loop {
            let output = served.output();
            let mut lines = output.lines().filter(|line| line.contains("\"cause\""));
            if let Some(line) = lines.next() {
                break serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{output}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(line["error"], "the queue is unavailable");
        let cause = line["cause"].as_str().unwrap();
        assert!(cause.starts_with("InvalidSignatureException: "), "{cause}");
        assert!(!served.output().contains("hunter2"), "{}", served.output());
    });
}
