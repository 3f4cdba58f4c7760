"""Millrace as other people's code sees it.

The CloudEvents SDK publishes, Standard Webhooks' library verifies, and an
OpenAPI validator reads the document. `MILLRACE_BIN` names the program; it runs
on a data directory of its own with everything else as it is by default.
"""

import http.client
import json
import os
import pathlib
import queue
import subprocess
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_structured_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from openapi_spec_validator import OpenAPIV31SpecValidator
from standardwebhooks import Webhook, WebhookVerificationError

# Seconds: to start with a database to make, and for a webhook to arrive.
START_MAX = 60
ARRIVAL_MAX = 20

BATCH = "application/cloudevents-batch+json"


class Millrace:
    """The running program, and how to speak to it."""

    def __init__(self, data_dir):
        self.process = subprocess.Popen(
            [os.environ["MILLRACE_BIN"]],
            env={
                "MILLRACE_DATA_DIR": str(data_dir),
                "MILLRACE_HTTP__LISTEN": "127.0.0.1:0",
                "MILLRACE_LOG__FORMAT": "json",
                # Failures are tried again soon, so that a test sees it.
                "MILLRACE_DELIVERY__RETRY_SCHEDULE_S": "0,1,1,1",
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = queue.Queue()
        reader = threading.Thread(
            target=lambda: [lines.put(line) for line in self.process.stdout],
            daemon=True,
        )
        reader.start()
        self.key = None
        while True:
            line = lines.get(timeout=START_MAX)
            # Its file is named, so that it is in no log.
            if line.strip().endswith("/first-api-key"):
                self.key = pathlib.Path(line.strip()).read_text()
            if line.startswith("{") and json.loads(line)["message"] == "listening":
                self.address = json.loads(line)["address"]
                return

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        headers = {"Authorization": f"Bearer {self.key}"} | (headers or {})
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None

    def json(self, method, path, body, expected):
        headers = {"Content-Type": "application/json"}
        status, answer = self.request(method, path, json.dumps(body), headers)
        assert status == expected, answer
        return answer

    def publish(self, message):
        return self.request("POST", "/v1/events", message.body, message.headers)


class Receiver:
    """Answers as it is told, and keeps what it was sent."""

    def __init__(self):
        self.script = []
        self.received = queue.Queue()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.script.pop(0) if receiver.script else 200
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.put(HTTPMessage(headers=headers, body=body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        serve = lambda: self.server.serve_forever(poll_interval=0.02)
        threading.Thread(target=serve, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def next(self):
        return self.received.get(timeout=ARRIVAL_MAX)


@pytest.fixture(scope="session")
def millrace(tmp_path_factory):
    running = Millrace(tmp_path_factory.mktemp("millrace") / "data")
    yield running
    running.stop()


@pytest.fixture
def receiver():
    started = Receiver()
    yield started
    started.server.shutdown()


@pytest.fixture
def event_type(request):
    """A type of the test's own, so that tests do not see each other's events."""
    name = request.node.name
    return "conformance." + "".join(c if c.isalnum() else "." for c in name)


@pytest.fixture
def endpoint(millrace, receiver, event_type):
    body = {"url": receiver.url, "event_types": [event_type]}
    return millrace.json("POST", "/v1/endpoints", body, 201)


def make_event(event_type, event_id="1", data=None, **more):
    attributes = {
        "id": event_id,
        # The id's other half: of the test's own, like the type.
        "source": f"https://example.com/{event_type}",
        "type": event_type,
        "subject": "naïve café ☕ 100% \"quoted\"",
        "time": datetime(2026, 3, 1, 10, 0, 0, 250000, tzinfo=timezone.utc),
        "datacontenttype": "application/json",
        "tenant": "acme",
        **more,
    }
    return CloudEvent(attributes, {"total": 12.5, "items": [1, 2]} if data is None else data)


def batch_of(events):
    """The batch mode, which the SDK leaves to its user: a list of its structured ones."""
    bodies = b",".join(JSONFormat().write(event) for event in events)
    return HTTPMessage(headers={"content-type": BATCH}, body=b"[" + bodies + b"]")


def verified(secret, webhook):
    """The event in a webhook whose signature holds; read by the SDK."""
    Webhook(secret).verify(webhook.body, webhook.headers)
    assert webhook.headers["content-type"] == "application/cloudevents+json"
    return from_structured_event(webhook)


def assert_same(sent, arrived):
    assert arrived.get_attributes() == sent.get_attributes()
    assert arrived.get_data() == sent.get_data()


@pytest.mark.parametrize(
    "publish_as",
    [to_binary_event, to_structured_event, lambda event: batch_of([event])],
    ids=["binary", "structured", "batch"],
)
@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("application/json", {"total": 12.5, "name": "Zoë"}),
        ("application/json", {}),
        ("text/plain", "plain text, naïve"),
        ("application/octet-stream", bytes(range(256))),
    ],
    ids=["json", "empty", "text", "bytes"],
)
def test_an_event_arrives_as_it_was_published(
    millrace, receiver, endpoint, event_type, publish_as, content_type, data
):
    sent = make_event(event_type, data=data, datacontenttype=content_type)
    status, answer = millrace.publish(publish_as(sent))
    assert status == 202, answer
    answer = answer.get("data", [answer])[0]
    assert answer["duplicate"] is False

    webhook = receiver.next()
    assert webhook.headers["webhook-id"] == answer["id"]
    assert_same(sent, verified(endpoint["secret"], webhook))


def test_a_batch_answers_for_each_event(millrace, receiver, endpoint, event_type):
    sent = [make_event(event_type, event_id=str(n)) for n in range(10)]
    status, answer = millrace.publish(batch_of(sent))
    assert status == 202, answer
    arrived = {}
    for _ in sent:
        webhook = receiver.next()
        event = verified(endpoint["secret"], webhook)
        arrived[event.get_id()] = (webhook.headers["webhook-id"], event)
    for event, accepted in zip(sent, answer["data"], strict=True):
        webhook_id, seen = arrived[event.get_id()]
        assert webhook_id == accepted["id"]
        assert_same(event, seen)


def test_every_mode_is_the_same_event(millrace, endpoint, event_type):
    sent = make_event(event_type)
    _, first = millrace.publish(to_binary_event(sent))
    _, second = millrace.publish(to_structured_event(sent))
    _, third = millrace.publish(batch_of([sent]))
    assert second == {"id": first["id"], "duplicate": True}
    assert third["data"] == [second]

    other = make_event(event_type, data={"total": 13})
    status, problem = millrace.publish(to_structured_event(other))
    assert (status, problem["code"]) == (409, "conflict")


def test_a_retry_is_the_same_webhook_signed_anew(millrace, receiver, endpoint, event_type):
    receiver.script = [500, 503]
    sent = make_event(event_type)
    _, answer = millrace.publish(to_structured_event(sent))
    attempts = [receiver.next() for _ in range(3)]
    for webhook in attempts:
        assert webhook.headers["webhook-id"] == answer["id"]
        assert webhook.body == attempts[0].body
        assert_same(sent, verified(endpoint["secret"], webhook))
    times = [int(webhook.headers["webhook-timestamp"]) for webhook in attempts]
    assert times == sorted(times) and times[0] < times[2]

    millrace.publish(to_structured_event(sent))
    later = make_event(event_type, event_id="later")
    millrace.publish(to_structured_event(later))
    assert_same(later, verified(endpoint["secret"], receiver.next()))
    assert receiver.received.empty(), "a duplicate is not delivered again"


def test_after_a_rotation_both_secrets_verify(millrace, receiver, endpoint, event_type):
    path = f"/v1/endpoints/{endpoint['id']}/rotate-secret"
    new = millrace.json("POST", path, {}, 200)["secret"]
    old = endpoint["secret"]
    assert new != old
    sent = make_event(event_type)
    millrace.publish(to_structured_event(sent))
    webhook = receiver.next()
    assert_same(sent, verified(old, webhook))
    assert_same(sent, verified(new, webhook))

    changed = HTTPMessage(headers=webhook.headers, body=webhook.body + b" ")
    for secret, message in [(new, changed), ("whsec_" + "A" * 32, webhook)]:
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(message.body, message.headers)


def test_the_served_document_is_openapi_3_1(millrace):
    status, document = millrace.request("GET", "/openapi.json")
    assert status == 200
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()
