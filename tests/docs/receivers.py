"""Receivers that a document shows, on trial with real deliveries and forged ones.

A block with `<!-- receiver: PORT [BY] [JSON] -->` starts one at that port: by its own
text, or by the command BY. It gets the webhooks of an endpoint that is created with
JSON besides the rest, its secret as WEBHOOK_SECRET, and prints the id and type of each
webhook that is new to it. One that was written to a file fails at that once, and has to
handle the webhook when it comes again.
"""

import base64
import hashlib
import hmac
import http.client
import json
import re
import socket
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from markdown import Mistake
from session import end_group

# Seconds: for it to listen, and for a webhook to arrive.
START_MAX, ARRIVAL_MAX = 30, 20

# Where a receiver hands on what it got, and what fails there the first time.
HANDS_ON = re.compile(r"^( *)(?=\S.*(?:#|//) put it into your own queue here$)", re.M)
FAILS_ONCE = {
    ".py": 'if not globals().get("has_failed"): globals()["has_failed"] = True; raise OSError',
    ".mjs": "if (!globalThis.hasFailed) { globalThis.hasFailed = true; throw new Error(); }",
}

DIRECTIVE = re.compile(r"(\d+)\s*([^{]*?)\s*(\{.*\})?")


class Recorder:
    """Hands on what it is sent, and keeps it with the answer."""

    def __init__(self, port):
        self.requests = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = post(port, self.path, headers, body)
                recorder.requests.append((headers, body, status))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_port


def post(port, path, headers, body):
    """The status that a request with these headers is answered with."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("POST", path, skip_host=True, skip_accept_encoding=True)
    for name, value in {**headers, "content-length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


class Key:
    """A signing secret, known here so that forgeries are well signed."""

    def __init__(self, scheme, seed):
        self.scheme = scheme
        self.seed = seed
        prefix = {"v1": "whsec_", "v1a": "whsk_"}[scheme]
        self.text = prefix + base64.b64encode(seed).decode()

    def sign(self, webhook_id, timestamp, body):
        signed = f"{webhook_id}.{timestamp}.".encode() + body
        if self.scheme == "v1":
            signature = hmac.new(self.seed, signed, hashlib.sha256).digest()
        else:
            signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(signed)
        return f"{self.scheme}," + base64.b64encode(signature).decode()


def try_receiver(block, text, written, session, server):
    """Starts the receiver of a block, sends it webhooks, and ends it."""
    port, command, more = DIRECTIVE.fullmatch(block.directives["receiver"]).groups()
    if not command:
        written.write_text(failing_once(written.read_text(), written.suffix, block))
    more = json.loads(more or "{}")
    port = int(port)
    key = Key(more.get("scheme", "v1"), hashlib.sha256(str(block).encode()).digest())
    recorder = Recorder(port)
    event_type = f"invoice.paid.{block.line}"
    endpoint = {
        "url": f"http://127.0.0.1:{recorder.port}/webhooks",
        "event_types": [event_type],
        "secret": key.text,
        **more,
    }
    secret = request(server, "POST", "/v1/endpoints", endpoint)["secret"]
    log = session.directory / f".receiver-{block.line}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", command or text],
            cwd=session.directory,
            env={
                **session.env,
                "WEBHOOK_SECRET": secret,
                "PORT": str(port),
                "PYTHONUNBUFFERED": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for_port(port, lambda: process.poll() is not None)
        judge(server, recorder, port, event_type, key, log, fails=not command)
    except Exception as error:
        raise Mistake(f"{block}: {error}\n{log.read_text()[-4000:]}") from error
    finally:
        end_group(process)
        recorder.server.shutdown()
        recorder.server.server_close()


def failing_once(text, suffix, block):
    """A receiver whose own queue is down for the first webhook."""
    changed, places = HANDS_ON.subn(rf"\1{FAILS_ONCE[suffix]}\n\1", text)
    if places != 1:
        raise Mistake(f"{block}: its file hands on at {places} places, not at one")
    return changed


def judge(server, recorder, port, event_type, key, log, fails):
    event = {"type": event_type, "data": {"total": 12.5, "name": "Zoë ☕"}}
    webhook_id = request(server, "POST", "/v1/events", event)["id"]
    deadline = time.monotonic() + ARRIVAL_MAX
    while not recorder.requests:
        if time.monotonic() > deadline:
            raise Mistake(f"no webhook within {ARRIVAL_MAX} s")
        time.sleep(0.05)
    headers, body, status = recorder.requests[0]
    if fails:
        status = come_again(port, headers, body, status)
    if not 200 <= status < 300:
        raise Mistake(f"a real webhook is answered {status}")
    require_handled(log, webhook_id, event_type)

    hold(port, headers, body, key)
    require_handled(log, webhook_id, event_type)
    if len(log.read_text().split(event_type)) != 2:
        raise Mistake("something else than the one webhook was handled, or it twice")


def come_again(port, headers, body, status):
    """What is answered to a webhook that could not be handed on when it came first."""
    if status < 500:
        raise Mistake(f"what could not be put into the queue is answered {status}")
    return post(port, "/webhooks", headers, body)


def hold(port, headers, body, key):
    """What is genuine is taken, however often it comes, and nothing else."""
    for what, sent_headers, sent_body in genuine(headers, body, key):
        status = post(port, "/webhooks", sent_headers, sent_body)
        if not 200 <= status < 300:
            raise Mistake(f"{what} is answered {status}")
    for what, sent_headers, sent_body in forged(headers, body, key):
        status = post(port, "/webhooks", sent_headers, sent_body)
        if not 400 <= status < 500:
            raise Mistake(f"{what} is answered {status}")


def require_handled(log, webhook_id, event_type):
    deadline = time.monotonic() + ARRIVAL_MAX
    while True:
        lines = [line for line in log.read_text().splitlines() if webhook_id in line]
        if len(lines) == 1 and event_type in lines[0]:
            return
        if len(lines) > 1 or time.monotonic() > deadline:
            raise Mistake(f"one line with {webhook_id} and {event_type} was expected")
        time.sleep(0.05)


def genuine(headers, body, key):
    """The same webhook in other clothes."""
    signature = headers["webhook-signature"]
    other = Key(key.scheme, b"other" + key.seed[5:])
    signed_by = lambda who: who.sign(headers["webhook-id"], headers["webhook-timestamp"], body)
    yield "the same webhook again", headers, body
    for what, signatures in [
        ("a webhook signed by an older secret too", f"{signature} {signed_by(other)}"),
        ("a webhook signed by a newer secret too", f"{signed_by(other)} {signature}"),
        ("one with a signature of an unknown version", f"v9,AAAA {signature}"),
    ]:
        yield what, {**headers, "webhook-signature": signatures}, body


def forged(headers, body, key):
    """What nobody sent: no receiver may take any of it."""
    changed = lambda **change: {
        **headers,
        **{name.replace("_", "-"): value for name, value in change.items()},
    }
    other = Key(key.scheme, b"other" + key.seed[5:])
    webhook_id, now = headers["webhook-id"], int(headers["webhook-timestamp"])
    encoded = headers["webhook-signature"].split(",")[1]
    wrong_scheme = {"v1": "v1a", "v1a": "v1"}[key.scheme]
    yield "a changed body", headers, body.replace(b"12.5", b"1250")
    yield "a body with a space more", headers, body + b" "
    yield "an empty body", headers, b""
    yield "a body that is no UTF-8", headers, b"\xff\xfe"
    yield "another id", changed(webhook_id="evt_other"), body
    yield "another time", changed(webhook_timestamp=str(now + 1)), body
    for what, at in [("an old webhook", now - 600), ("one of the future", now + 600)]:
        signature = key.sign(webhook_id, at, body)
        yield what, changed(webhook_timestamp=str(at), webhook_signature=signature), body
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"]:
        without = {given: value for given, value in headers.items() if given != name}
        yield f"a webhook without {name}", without, body
        yield f"an empty {name}", {**headers, name: ""}, body
    yield "a time that is none", changed(webhook_timestamp="soon"), body
    for what, signature in [
        ("another's signature", other.sign(webhook_id, now, body)),
        ("a signature of another scheme", f"{wrong_scheme},{encoded}"),
        ("half a signature", f"{key.scheme},{encoded[:20]}"),
        ("a signature that is no base64", f"{key.scheme},%%%"),
        ("a version alone", key.scheme),
        ("a signature without a version", encoded),
        ("many commas", ",,,,"),
    ]:
        yield what, changed(webhook_signature=signature), body
    if "signature-input" in headers:
        yield from forged_headers(headers, body)


def forged_headers(headers, body):
    """The body as it was sent, with an event in the headers that was not."""
    of_event = [name for name in headers if name.startswith("ce-")]
    for name in [*of_event, "content-type"]:
        without = {given: value for given, value in headers.items() if given != name}
        yield f"a webhook without {name}", without, body
        yield f"another {name}", {**headers, name: headers[name] + "x"}, body
    yield "one attribute more", {**headers, "ce-admin": "true"}, body
    covered, signature = headers["signature-input"], headers["signature"]
    fewer = covered.replace(' "ce-type"', "")
    for what, change in [
        ("a webhook whose headers are not signed", {"signature": "", "signature-input": ""}),
        ("a signature of nothing", {"signature-input": "sig1=()"}),
        ("a signature that covers less", {"signature-input": fewer}),
        ("a signature of other headers", {"signature-input": covered.replace("ce-type", "ce-none")}),
        ("another label", {"signature": signature.replace("sig1", "sig2")}),
        ("half a signature of the headers", {"signature": signature[:20] + ":"}),
        ("the body's signature", {"signature": f"sig1=:{headers['webhook-signature'].split(',')[1]}:"}),
    ]:
        yield what, {**headers, **change}, body
    without = {name: value for name, value in headers.items() if not name.startswith("signature")}
    yield "a webhook without the signature of its headers", without, body


def wait_for_port(port, is_over=lambda: False):
    deadline = time.monotonic() + START_MAX
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if is_over() or time.monotonic() > deadline:
                raise Mistake(f"nothing listens at port {port}") from None
            time.sleep(0.1)


def request(server, method, path, body):
    """The answer of Millrace's API."""
    asked = urllib.request.Request(
        server.url + path,
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Mistake(f"{method} {path} is answered {error.code}: {error.read().decode()}") from None
