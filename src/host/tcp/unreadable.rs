//! Answers to what is no HTTP, as problems: hyper makes them by itself, without a body,
//! and nothing else of this process sees the request.

use http::StatusCode;

use crate::error::{Error, Invalid};
use crate::http::problem::Problem;

/// The head of what hyper answers, and its body to be; none if `written` is another
/// answer. All of ours have a body.
pub fn replaced(written: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(written).ok()?;
    let head = text.strip_suffix("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
    let is_bare = head.lines().any(|line| line == EMPTY) && !head.contains("content-type");
    let body = serde_json::to_vec(&problem(status)?).ok()?;
    let length = format!("content-length: {}", body.len());
    let mut answer = head.replace(EMPTY, &length).into_bytes();
    answer.extend_from_slice(HEADERS.as_bytes());
    answer.extend_from_slice(&body);
    is_bare.then_some(answer)
}

const EMPTY: &str = "content-length: 0";
const HEADERS: &str = "\r\ncontent-type: application/problem+json\
    \r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\r\n";

fn problem(status: StatusCode) -> Option<Problem> {
    let error = match status {
        StatusCode::BAD_REQUEST => Error::Invalid(Invalid::body(
            "the head of the request: expected HTTP/1.1, with at most one length of the body",
        )),
        StatusCode::URI_TOO_LONG => Error::TooLarge("the URI of the request is too long".into()),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            Error::TooLarge("the request has too many headers, or too large ones".into())
        }
        _ => return None,
    };
    let mut problem = Problem::of(&error);
    problem.status = status.as_u16();
    Some(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hyper_answers_becomes_a_problem_and_nothing_else_does() {
        for status in [
            "400 Bad Request",
            "414 URI Too Long",
            "431 Request Header Fields Too Large",
        ] {
            let bare =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\n{EMPTY}\r\ndate: x\r\n\r\n");
            let answer = String::from_utf8(replaced(bare.as_bytes()).unwrap()).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["status"].to_string(), status[..3]);
            assert!(
                head.contains(&format!("content-length: {}\r\n", body.len())),
                "{head}"
            );
            assert!(
                head.ends_with("nosniff") && head.contains("connection: close"),
                "{head}"
            );
        }
        for other in [
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ncontent-type: a/b\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 10\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
            "HTTP/1.1 ",
            "",
        ] {
            assert_eq!(replaced(other.as_bytes()), None, "{other}");
        }
    }
}
