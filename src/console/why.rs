//! Why a delivery has not succeeded, in a sentence: who failed, how, in whose words, and
//! whose turn it is.
//!
//! Pure: made of the delivery and the state of its endpoint as the API tells them. The
//! words of failed connections are those of [`SendError`](crate::sender::SendError).

use serde_json::Value;

use super::delivery::{Attempt, Delivery};
use crate::model::delivery::DeliveryState;
use crate::model::endpoint::EndpointState;

/// Characters of an answer that are quoted.
const SAYS_CHARS_MAX: usize = 160;

/// Why, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
pub struct Why {
    /// Who failed, and how.
    pub what: String,
    /// What the endpoint's server says of it.
    pub says: Option<String>,
    /// Whose turn it is, and what there is to do.
    pub turn: &'static str,
}

/// Why `delivery` has not succeeded; `None` if it has, or if nothing was tried yet and
/// nothing keeps it.
pub fn of(delivery: &Delivery, endpoint: Option<EndpointState>) -> Option<Why> {
    let is_disabled = delivery.is_pending() && endpoint.is_some_and(is_off);
    match (delivery.state, delivery.attempts.last()) {
        (DeliveryState::Delivered, _) => None,
        (DeliveryState::Canceled, _) => Some(plain(
            "The delivery was ended before it succeeded.",
            "Its endpoint was deleted first: nothing is tried any more.",
        )),
        (_, Some(last)) if !last.succeeded() && !is_disabled => Some(failed(last)),
        (DeliveryState::Pending, last) if is_disabled => {
            let before = last.filter(|last| !last.succeeded()).map(failed);
            let mut why = plain(
                "The endpoint is disabled.",
                "It is your turn: enable the endpoint, and what waits is sent.",
            );
            if let Some(before) = before {
                why.what += &format!(" Before that: {}", before.what);
                why.says = before.says;
            }
            Some(why)
        }
        (DeliveryState::Failed, None) => Some(plain(
            "The delivery failed, and its attempts are not kept any more.",
            "Retry it to see what the endpoint answers now.",
        )),
        _ => None,
    }
}

/// Whether what is pending at an endpoint in this state waits for a person.
pub fn is_off(state: EndpointState) -> bool {
    use EndpointState::{Disabled, Failed, Gone};
    matches!(state, Disabled | Failed | Gone)
}

fn plain(what: &str, turn: &'static str) -> Why {
    Why {
        what: what.to_owned(),
        says: None,
        turn,
    }
}

fn failed(attempt: &Attempt) -> Why {
    if let Some(status) = attempt.status {
        let reason = reason(status).map(|reason| format!(" {reason}"));
        let what = format!(
            "The server answered {status}{}.",
            reason.unwrap_or_default()
        );
        return Why {
            what,
            says: attempt.response.as_deref().and_then(says),
            turn: turn_of_status(status),
        };
    }
    let error = attempt.error.as_deref().unwrap_or("no answer came");
    let (what, turn) = of_error(error);
    let what = match what {
        Some(what) => format!("{what}: {error}."),
        None => format!("No answer came: {error}."),
    };
    Why {
        what,
        says: None,
        turn,
    }
}

/// What HTTP calls `status`, if it has a name.
pub fn reason(status: u16) -> Option<&'static str> {
    let status = http::StatusCode::from_u16(status).ok()?;
    status.canonical_reason()
}

fn turn_of_status(status: u16) -> &'static str {
    match status {
        300..=399 => {
            "It redirects, and no redirect is followed. It is your turn: set the endpoint's URL \
             to where it leads."
        }
        400 | 422 => {
            "It does not take what it was sent. It is the receiver's turn: its log says what it \
             expected; compare it with the event."
        }
        401 | 403 => {
            "It did not let the request in. It is your turn: compare the endpoint's signing \
             secret and credentials with those that the receiver has."
        }
        404 | 405 => {
            "Nothing takes webhooks at that address. It is your turn: compare the endpoint's URL \
             with the receiver's route; it is sent a POST."
        }
        408 | 425 | 429 => {
            "It has too much to do. It is tried again later, and not before it says; an \
             endpoint's rate limit keeps it from coming to that."
        }
        410 => {
            "It wants no more webhooks, so the endpoint was disabled. It is your turn: enable it \
             when the receiver is back, then retry."
        }
        413 => {
            "The event is larger than it takes. It is the receiver's turn: its limit for bodies \
             is below that of events."
        }
        415 => {
            "It does not take the body's media type. It is your turn: the endpoint's body format \
             and content type can be set."
        }
        500..=599 => {
            "The fault is on their side: nothing is wrong with the event or its signature."
        }
        _ => "Only an answer of 2xx counts as taken. It is the receiver's turn.",
    }
}

/// What an error of no answer means, by how it begins, and whose turn it is.
const ERRORS: [(&str, &str, &str); 17] = [
    (
        "URL is not valid",
        "No request can be made of the endpoint's URL",
        "It is your turn: write the endpoint's URL anew.",
    ),
    (
        "address ",
        "The host leads to an address that nothing is sent to",
        "It is your turn: webhooks are sent to public addresses, unless the configuration allows private ones.",
    ),
    (
        "host name not resolved",
        "The host of the endpoint's URL was not found",
        "It is your turn: look for a slip in the URL; else its owner's DNS has no address for it.",
    ),
    (
        "connection refused",
        "Nothing listens at the endpoint's address",
        "The fault is on their side: the server is down, or listens on another port.",
    ),
    (
        "connection reset",
        "The server broke the connection off",
        "The fault is on their side: the server, or what stands before it, does not take connections.",
    ),
    (
        "host unreachable",
        "The server cannot be reached",
        "The fault is on the way or on their side: the network has no way to the host.",
    ),
    (
        "network unreachable",
        "The server cannot be reached",
        "The fault is on the way: the network has no way there.",
    ),
    (
        "connection timed out",
        "The server does not answer to a connection",
        "The fault is on their side or on the way: a firewall may drop what is sent.",
    ),
    (
        "connection failed",
        "No connection to the server came about",
        "The fault is on their side or on the way.",
    ),
    (
        "no connection after",
        "The server does not answer to a connection",
        "The fault is on their side or on the way: a firewall may drop what is sent.",
    ),
    (
        "TLS failed: it asks for a client certificate",
        "The server wants to know who is calling",
        "It is your turn: give the endpoint a client certificate.",
    ),
    (
        "TLS failed: it refused the client certificate",
        "The server does not take the client certificate",
        "It is your turn: compare the endpoint's client certificate with what the receiver takes.",
    ),
    (
        "TLS failed",
        "No secure connection came about",
        "The fault is on their side: nothing is sent to a server whose certificate or TLS is not in order.",
    ),
    (
        "timed out",
        "The server was too slow",
        "The fault is on their side: a receiver should answer first and do its work later.",
    ),
    (
        "connection closed",
        "The server closed the connection before it had answered",
        "The fault is on their side: the server, or what stands before it, gave up.",
    ),
    (
        "response is not valid",
        "What came back is not HTTP",
        "The fault is on their side: something else than a web server listens there.",
    ),
    (
        "response headers are",
        "The answer's headers are too many to read",
        "The fault is on their side.",
    ),
];

fn of_error(error: &str) -> (Option<&'static str>, &'static str) {
    if error.starts_with("more than 32 interim") {
        return (
            Some("The server never came to its answer"),
            "The fault is on their side.",
        );
    }
    let known = ERRORS.iter().find(|(begins, ..)| error.starts_with(begins));
    match known {
        Some((_, what, turn)) => (Some(what), turn),
        None => (None, "It is not known whose fault that is."),
    }
}

/// What an answer's body says, if it says it in a few words.
fn says(body: &str) -> Option<String> {
    let body = body.trim();
    if body.starts_with('<') {
        return None;
    }
    let said = match serde_json::from_str::<Value>(body) {
        Ok(Value::String(text)) => text,
        Ok(json) => member(&json)?,
        // Cut off, or no JSON.
        Err(_) => body.lines().next()?.to_owned(),
    };
    let said = said.trim();
    let mut short: String = said.chars().take(SAYS_CHARS_MAX).collect();
    if short.len() < said.len() {
        short.push('…');
    }
    (!short.is_empty()).then_some(short)
}

/// Where answers in JSON put their words.
fn member(json: &Value) -> Option<String> {
    let names = [
        "detail",
        "message",
        "error_description",
        "error",
        "title",
        "reason",
    ];
    let found = names.iter().map(|name| &json[name]);
    let mut found = found.filter_map(|value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => value["message"].as_str().map(str::to_owned),
        _ => None,
    });
    found.next()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::super::delivery::tests::delivery;
    use super::*;
    use crate::sender::SendError;

    fn why(status: Option<u16>, error: Option<&str>, response: Option<&str>) -> Why {
        let mut failed = delivery(DeliveryState::Pending, &[0], Some(5));
        let last = failed.attempts.last_mut().unwrap();
        (last.status, last.error) = (status, error.map(str::to_owned));
        last.response = response.map(str::to_owned);
        of(&failed, Some(EndpointState::Enabled)).unwrap()
    }

    #[test]
    fn an_answer_is_told_with_its_words_and_whose_turn_it_is() {
        let told = why(
            Some(503),
            None,
            Some(r#"{"error":"warehouse-db is not reachable"}"#),
        );
        assert_eq!(told.what, "The server answered 503 Service Unavailable.");
        assert_eq!(told.says.as_deref(), Some("warehouse-db is not reachable"));
        assert!(told.turn.contains("their side"));
        for (status, part) in [
            (199, "2xx"),
            (302, "no redirect is followed"),
            (400, "expected"),
            (401, "signing secret"),
            (403, "credentials"),
            (404, "URL"),
            (405, "POST"),
            (410, "disabled"),
            (413, "larger"),
            (415, "media type"),
            (418, "2xx"),
            (429, "rate limit"),
            (500, "their side"),
            (599, "their side"),
            (999, "2xx"),
        ] {
            let told = why(Some(status), None, None);
            assert!(told.turn.contains(part), "{status}: {}", told.turn);
            assert!(
                told.what
                    .starts_with(&format!("The server answered {status}"))
            );
        }
    }

    #[test]
    fn what_an_answer_says_is_found_where_answers_say_it() {
        for (body, said) in [
            ("the shelf is full", Some("the shelf is full")),
            ("one\ntwo", Some("one")),
            ("\"no\"", Some("no")),
            (r#"{"error":{"message":"m","code":3}}"#, Some("m")),
            (r#"{"title":"t","detail":"d"}"#, Some("d")),
            (r#"{"ok":false}"#, None),
            ("[1,2]", None),
            ("  ", None),
            ("<!doctype html><h1>503</h1>", None),
        ] {
            assert_eq!(says(body).as_deref(), said, "{body}");
        }
        let long = says(&"é".repeat(5_000)).unwrap();
        assert_eq!(long.chars().count(), SAYS_CHARS_MAX + 1);
    }

    /// Every error that an attempt may end with.
    fn errors() -> Vec<SendError> {
        let second = Duration::from_secs(1);
        let connects = [
            "connection refused",
            "connection reset",
            "host unreachable",
            "network unreachable",
            "connection timed out",
            "connection failed",
        ];
        let tls = [
            "it asks for a client certificate",
            "it refused the client certificate",
            "its certificate has expired",
            "the handshake was cut short",
        ];
        let mut errors: Vec<_> = connects.map(|reason| SendError::Connect { reason }).into();
        errors.extend(tls.map(|reason| SendError::Tls {
            reason,
            cause: None,
        }));
        errors.extend([
            SendError::InvalidUrl,
            SendError::Blocked {
                address: IpAddr::from([10, 0, 0, 1]),
            },
            SendError::Dns,
            SendError::ConnectTimeout { after: second },
            SendError::Timeout { after: second },
            SendError::Closed,
            SendError::InvalidResponse,
            SendError::HeadTooLarge,
            SendError::TooManyInterim,
        ]);
        errors
    }

    #[test]
    fn every_error_of_an_attempt_is_explained() {
        for error in errors() {
            let text = error.to_string();
            let (what, turn) = of_error(&text);
            assert!(what.is_some(), "{text} is not explained");
            assert!(
                turn.starts_with("It is your turn") || turn.starts_with("The fault is"),
                "{turn}"
            );
            let told = why(None, Some(&text), None);
            assert!(told.what.contains(&text), "{}", told.what);
        }
        let told = why(None, Some("something new"), None);
        assert_eq!(told.what, "No answer came: something new.");
    }

    #[test]
    fn what_waits_or_was_ended_says_so_and_what_went_well_says_nothing() {
        let of = |state, attempts: &[i64], endpoint| of(&delivery(state, attempts, None), endpoint);
        use DeliveryState::{Canceled, Delivered, Failed, Pending};
        assert_eq!(of(Delivered, &[0], None), None);
        assert_eq!(of(Pending, &[], Some(EndpointState::Enabled)), None);
        let waits = of(Pending, &[0], Some(EndpointState::Disabled)).unwrap();
        assert!(
            waits
                .what
                .starts_with("The endpoint is disabled. Before that: ")
        );
        assert!(waits.what.contains("503"), "{}", waits.what);
        assert!(of(Canceled, &[], None).unwrap().turn.contains("deleted"));
        assert!(of(Failed, &[], None).unwrap().turn.contains("Retry"));
        assert!(
            of(Failed, &[0], Some(EndpointState::Disabled))
                .unwrap()
                .what
                .contains("503")
        );
    }
}
