//! Refusals of AWS services, in words for the log: the error code and message, the
//! HTTP status and the id of the request.
//!
//! What AWS says may repeat what it was sent: a signature that does not match is
//! answered with the canonical request, session token and all. So nothing but a
//! message's first line is kept, and of a body nothing but code and message.

use std::fmt;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use serde::Deserialize;

use crate::error::one_line;

/// What is kept of a message.
const MESSAGE_CHARS_MAX: usize = 300;

#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{code}")?,
            None => f.write_str("no error code")?,
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        write!(f, " (HTTP {}", self.status)?;
        if let Some(id) = &self.request_id {
            write!(f, ", request {id}")?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    fn new(status: u16, code: Option<&str>, message: Option<&str>) -> Self {
        // DynamoDB and X-Ray write `com.amazonaws.dynamodb.v20120810#Name`, and
        // some services `Name:http://…`.
        let name = |code: &str| {
            let code = code.rsplit('#').next().unwrap_or_default();
            one_line(code.split(':').next().unwrap_or_default(), 100)
        };
        let first_line = |message: &str| {
            let line = message.lines().next().unwrap_or_default();
            one_line(line, MESSAGE_CHARS_MAX)
        };
        let filled = |text: &String| !text.is_empty();
        Self {
            status,
            code: code.map(name).filter(filled),
            message: message.map(first_line).filter(filled),
            request_id: None,
        }
    }
}

/// Why a call of the SDK failed: what the service answered, or what kept it from
/// being asked.
pub fn cause<E>(error: SdkError<E, HttpResponse>) -> anyhow::Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let SdkError::ServiceError(answer) = &error else {
        return error.into();
    };
    let meta = answer.err().meta();
    let mut refusal = Refusal::new(answer.raw().status().as_u16(), meta.code(), meta.message());
    refusal.request_id = meta
        .extra("aws_request_id")
        .map(|id| one_line(id, MESSAGE_CHARS_MAX));
    refusal.into()
}

/// Why a service that is called without the SDK refused: S3 says so in XML, the
/// others in JSON. A body may be cut off.
pub fn refusal(status: u16, body: &str) -> anyhow::Error {
    if let Ok(said) = serde_json::from_str::<JsonError>(body) {
        return Refusal::new(status, said.code.as_deref(), said.message.as_deref()).into();
    }
    // Cut off. What comes after an escape may be the line that repeats what was sent.
    let member = |name: &str| {
        let (_, rest) = body.split_once(&format!("\"{name}\""))?;
        let text = rest.trim_start_matches([':', ' ']).strip_prefix('"')?;
        text.split(['"', '\\']).next()
    };
    if body.trim_start().starts_with('{') {
        let code = member("__type").or_else(|| member("code"));
        let message = member("message").or_else(|| member("Message"));
        return Refusal::new(status, code, message).into();
    }
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        rest.split_once("</").map(|(text, _)| text)
    };
    match (element("Code"), element("Message")) {
        // An answer of something else on the way, such as a proxy.
        (None, None) => Refusal::new(status, None, Some(body.trim_start())).into(),
        (code, message) => Refusal::new(status, code, message).into(),
    }
}

#[derive(Deserialize)]
struct JsonError {
    #[serde(alias = "__type", alias = "Code")]
    code: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_its_code_its_message_and_no_more() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code>\
            <Message>The request signature we calculated does not match.</Message>\
            <AWSAccessKeyId>AKIA1</AWSAccessKeyId><CanonicalRequest>PUT\nx-amz-security-token:\
            hunter2</CanonicalRequest></Error>";
        let json = r#"{"__type":"com.amazonaws#AccessDeniedException","message":"not authorized"}"#;
        let lines =
            "{\"message\":\"no match\\n\\nThe Canonical String\\nx-amz-security-token:hunter2\"}";
        for (status, body, expected) in [
            (
                403,
                xml,
                "SignatureDoesNotMatch: The request signature we calculated does not match. (HTTP 403)",
            ),
            (403, &xml[..100], "SignatureDoesNotMatch (HTTP 403)"),
            (
                403,
                json,
                "AccessDeniedException: not authorized (HTTP 403)",
            ),
            (400, lines, "no error code: no match (HTTP 400)"),
            (
                400,
                &lines[..lines.len() - 1],
                "no error code: no match (HTTP 400)",
            ),
            (
                403,
                &json[..json.len() - 8],
                "AccessDeniedException: not auth (HTTP 403)",
            ),
            (403, "{\"x-amz-security-token", "no error code (HTTP 403)"),
            (
                502,
                "\nBad gateway\nx",
                "no error code: Bad gateway (HTTP 502)",
            ),
            (500, "", "no error code (HTTP 500)"),
        ] {
            assert_eq!(refusal(status, body).to_string(), expected);
        }
    }
}
