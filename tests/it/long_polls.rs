//! Long polls of idle workers: the program on an SQS that leaves polls unanswered for as
//! long as they ask for and closes connections that nobody uses.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::binary::{Served, create_endpoint, first_key};
use crate::support::harness::run;
use crate::support::queues::until;
use crate::support::receiver::Receiver;
use crate::support::sigv4::KNOWN;
use crate::support::sqs_server::{PollEnd, SqsServer};

/// More than three whole polls.
const IDLE: Duration = Duration::from_secs(63);
/// How long a poll asks SQS to wait.
const POLL_WAIT: Duration = Duration::from_secs(20);
const QUEUES: [&str; 3] = ["fan-out", "deliver", "ingest"];

/// The lines of the log that say that something is wrong.
fn warnings(served: &Served) -> Vec<String> {
    let output = served.output();
    let lines = output.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let is_wrong = line["level"] == "WARN" || line["level"] == "ERROR";
        is_wrong.then(|| line.to_string())
    });
    lines.collect()
}

/// The project that a first start makes.
fn first_project(served: &Served) -> String {
    let (_, project) = served.greeting.split_once("(prj_").unwrap();
    format!("prj_{}", project.split_once(')').unwrap().0)
}

/// What was polled of a queue that was idle: whole polls, one after the other.
fn assert_whole_polls(sqs: &SqsServer, queue: &str) {
    let polls = sqs.polls(queue);
    let (last, whole) = polls.split_last().unwrap();
    assert!(whole.len() >= 2, "{polls:?}");
    let most = IDLE.as_secs() / POLL_WAIT.as_secs();
    assert!(whole.len() as u64 <= most + 1, "{polls:?}");
    assert_eq!(last.end, PollEnd::UnderWay, "{polls:?}");
    for poll in whole {
        assert_eq!(
            (poll.wait, poll.end),
            (POLL_WAIT, PollEnd::Empty),
            "{polls:?}"
        );
    }
}

#[test]
fn a_worker_that_was_idle_takes_what_comes_with_the_poll_under_way() {
    run(async {
        let sqs = SqsServer::start().await;
        let data = tempfile::tempdir().unwrap();
        let (key, project) = {
            let served = Served::start(data.path(), &[]);
            let key = first_key(&served.greeting).unwrap();
            (key, first_project(&served))
        };
        let [fan_out, deliver, ingest] = QUEUES.map(|queue| sqs.queue_url(queue));
        let served = Served::start(
            data.path(),
            &[
                ("AWS_ACCESS_KEY_ID", KNOWN.access_key_id),
                ("AWS_SECRET_ACCESS_KEY", KNOWN.secret),
                ("AWS_SESSION_TOKEN", KNOWN.session_token.unwrap()),
                ("AWS_REGION", KNOWN.region),
                ("MILLRACE_SQS__ENDPOINT_URL", &sqs.url),
                ("MILLRACE_SQS__FAN_OUT_URL", &fan_out),
                ("MILLRACE_SQS__DELIVER_URL", &deliver),
                ("MILLRACE_SQS__INGEST_URL", &ingest),
                ("MILLRACE_INGEST__PROJECT", &project),
            ],
        );
        let receiver = Receiver::start([]).await;
        create_endpoint(&served, &key, &receiver.url).await;
        let polled = async || QUEUES.iter().all(|queue| !sqs.polls(queue).is_empty());
        until("all queues are polled", polled).await;
        let warned = warnings(&served);
        tokio::time::sleep(IDLE).await;
        for queue in QUEUES {
            assert_whole_polls(&sqs, queue);
        }

        let begun = QUEUES.map(|queue| sqs.polls(queue).len());
        let made = served.request(Method::POST, "/v1/events", &key, json!({ "type": "b" }));
        assert_eq!(made.await.unwrap().0, StatusCode::ACCEPTED);
        receiver.reached(1).await;
        let event = json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": "c" });
        sqs.send("ingest", &event.to_string());
        receiver.reached(2).await;
        // Neither waited for a poll that began after it: at most for one that came back.
        for (queue, begun) in QUEUES.into_iter().zip(begun) {
            let polls = sqs.polls(queue);
            let cut_off = polls.iter().filter(|poll| poll.end == PollEnd::CutOff);
            assert_eq!(cut_off.count(), 0, "{polls:?}");
            if queue != "fan-out" {
                assert_eq!(
                    polls[begun - 1].end,
                    PollEnd::Messages,
                    "{queue}: {polls:?}"
                );
            }
        }
        let settled = async || QUEUES.iter().all(|queue| sqs.messages(queue) == 0);
        until("messages are deleted", settled).await;
        assert!(sqs.refusals().is_empty(), "{:?}", sqs.refusals());
        assert_eq!(warnings(&served), warned, "nothing is wrong meanwhile");
    });
}
