//! Answers whose status came, whatever came after it or before.

use super::super::connection::HEAD_BYTES_MAX;
use super::super::exchange::INTERIM_MAX;
use super::*;

fn leak(text: String) -> &'static str {
    text.leak()
}

/// The status of an answer, and what is shown of its body.
async fn status_of(reply: Reply) -> Result<(u16, String), SendError> {
    let response = post_to(reply).await?;
    Ok((response.status, response.body_head))
}

#[tokio::test]
async fn a_status_decides_whatever_becomes_of_the_body() {
    for (rest, shown) in [
        ("content-length: 10\r\n\r\nhalf", "half"),
        ("content-length: 10\r\n\r\n", ""),
        ("transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "half"),
        ("transfer-encoding: chunked\r\n\r\nzzz\r\n", ""),
        ("transfer-encoding: chunked\r\n\r\n4\r\nhalfXXXX", "half"),
        ("transfer-encoding: gzip, chunked\r\n\r\n4\r\nhalf", "half"),
        ("\r\nno length at all", "no length at all"),
        // Of these nobody can tell where the body ends.
        ("content-length: many\r\n\r\nx", ""),
        ("content-length: -1\r\n\r\nx", ""),
        ("content-length: 1\r\ncontent-length: 2\r\n\r\nx", ""),
        ("content-length: 99999999999999999999999\r\n\r\nx", ""),
    ] {
        for status in [200, 204, 302, 410, 429, 500] {
            let text = leak(format!("HTTP/1.1 {status} It\r\n{rest}"));
            let got = status_of(Reply::AnswerAndClose(text)).await;
            let (got, body) = got.unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(got, status, "{text}");
            if status != 204 {
                assert_eq!(body, shown, "{text}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_of_http_1_0_counts_with_a_length_it_may_not_have() {
    let text = "HTTP/1.0 500 No\r\ntransfer-encoding: chunked\r\nRetry-After: 7\r\n\r\n0\r\n\r\n";
    let response = post_to(Reply::AnswerAndClose(text)).await.unwrap();
    assert_eq!(response.status, 500);
    assert_eq!(response.retry_after.as_deref(), Some("7"));
}

#[tokio::test]
async fn what_a_cut_answer_asks_for_is_kept() {
    let text = "HTTP/1.1 429 Slow\r\nretry-after: 120\r\ncontent-length: 9\r\n\r\nsl";
    let response = post_to(Reply::AnswerAndClose(text)).await.unwrap();
    assert_eq!(response.status, 429);
    assert_eq!(response.retry_after.as_deref(), Some("120"));
}

#[tokio::test]
async fn a_body_that_stops_is_not_waited_for_beyond_the_attempt() {
    let reply = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let receiver = Receiver::start(Reply::Answer(reply)).await;
    let sender = Sender::new(SenderConfig {
        timeout: Duration::from_millis(300),
        ..config()
    });
    let response = post(&sender, &receiver.url()).await.unwrap();
    assert_eq!((response.status, &*response.body_head), (200, "half"));
    receiver.closed.notified().await;
}

#[tokio::test]
async fn a_head_that_is_cut_is_no_answer() {
    assert_eq!(post_to(Reply::Close).await, Err(SendError::Closed));
    for cut in ["HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200", "HTT"] {
        let outcome = post_to(Reply::AnswerAndClose(cut)).await;
        assert_eq!(outcome, Err(SendError::Closed), "{cut}");
    }
}

#[tokio::test]
async fn an_answer_that_is_reset_after_its_head_counts() {
    let receiver = Receiver::start(Reply::AnswerAndReset(
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    ))
    .await;
    let response = post(&Sender::new(config()), &receiver.url()).await;
    assert_eq!(response.unwrap().status, 200);
}

#[tokio::test]
async fn headers_that_are_not_valid_are_passed_over() {
    for header in ["no colon", "name : value", "folded: a\r\n b", "b@d: x"] {
        let text = leak(format!(
            "HTTP/1.1 200 OK\r\n{header}\r\ncontent-length: 2\r\n\r\nok"
        ));
        let got = status_of(Reply::Answer(text)).await;
        assert_eq!(got, Ok((200, "ok".to_owned())), "{header}");
    }
}

#[tokio::test]
async fn as_many_headers_as_fit_are_an_answer() {
    for count in [100, 101, 2_000, 16_000] {
        let headers = "a:\r\n".repeat(count);
        let text = leak(format!(
            "HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\nok"
        ));
        let got = status_of(Reply::Answer(text)).await;
        assert_eq!(got, Ok((200, "ok".to_owned())), "{count}");
    }
}

#[tokio::test]
async fn a_head_beyond_64_kib_is_said_so() {
    let head = |bytes: usize| {
        let (begin, end) = ("HTTP/1.1 200 OK\r\na: ", "\r\ncontent-length: 2\r\n\r\n");
        let value = "x".repeat(bytes - begin.len() - end.len());
        leak(format!("{begin}{value}{end}ok"))
    };
    let got = status_of(Reply::Answer(head(HEAD_BYTES_MAX))).await;
    assert_eq!(got, Ok((200, "ok".to_owned())));
    let error = post_to(Reply::Answer(head(4 * HEAD_BYTES_MAX)))
        .await
        .unwrap_err();
    assert_eq!(error, SendError::HeadTooLarge);
    assert_eq!(error.to_string(), "response headers are larger than 64 KiB");
}

#[tokio::test]
async fn interim_answers_are_passed_over_up_to_a_bound() {
    let some = "HTTP/1.1 102 Wait\r\n\r\n".repeat(INTERIM_MAX);
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let got = status_of(Reply::Answer(leak(format!("{some}{ok}")))).await;
    assert_eq!(got, Ok((200, "ok".to_owned())));
    for one in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
    ] {
        let receiver = Receiver::start(Reply::Repeat(one)).await;
        let error = post(&Sender::new(config()), &receiver.url())
            .await
            .unwrap_err();
        assert_eq!(error, SendError::TooManyInterim);
        receiver.closed.notified().await;
    }
}
