"""That the runner finds what is wrong with a document."""

import base64
import tempfile
import threading
import time
import unittest
from contextlib import suppress
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks import Webhook, WebhookVerificationError

from documents import Run
from json_shape import difference
from markdown import Mistake, Outcome, read_blocks
from page import Commands
from receivers import Key, come_again, failing_once, forged, hold
from session import Session


def blocks(text):
    return read_blocks("x.md", text)


class Documents(unittest.TestCase):
    def test_a_block_that_cannot_be_executed_needs_a_reason(self):
        go = "```go\nfunc main() {}\n```\n"
        with self.assertRaisesRegex(Mistake, "x.md:1: go is not executed here"):
            blocks(go)
        with self.assertRaisesRegex(Mistake, "no reason"):
            blocks("<!-- not run: -->\n" + go)
        (block,) = blocks("<!-- not run: no Go here -->\n\n" + go)
        self.assertEqual(block.directives, {"not run": "no Go here"})

    def test_a_comment_that_says_nothing_to_the_runner_is_a_mistake(self):
        for text, expected in [
            ("<!-- notrun: x -->\n```sh\n```\n", "no such comment"),
            ("<!-- not run: x -->\nText.\n", "a comment before no block"),
            ("<!-- not run: x -->\n", "a comment before no block"),
            ("<!-- within 3 s: /x/ -->\n", "no such comment"),
            ("<!-- not run: x\n", "no end"),
            ("```sh\necho\n", "no end"),
        ]:
            with self.subTest(text), self.assertRaisesRegex(Mistake, expected):
                blocks(text)

    def test_what_follows_belongs_to_the_block_before(self):
        first, second = blocks(
            "```sh\na\n```\n<!-- within 3 s: /x/ -->\n\n"
            "<!-- after 1 s and within 2 s: /y\nz/ -->\n\nText.\n\n  ```sh\n  b\n  ```\n"
        )
        self.assertEqual(first.outcomes, [Outcome(0, 3, "x"), Outcome(1, 2, "y\nz")])
        self.assertEqual((second.text, second.outcomes), ("b\n", []))

    def test_json_differs_by_members_and_by_values(self):
        real = {"data": [{"id": "ep_1", "at": "2026-01-31T12:00:00.5Z", "n": 12.5}], "next": None}
        member = {"id": "ep_…", "at": "2020-01-01T00:00:00Z", "n": 12.5}
        self.assertIsNone(difference({"next": None, "data": [member]}, real))
        for shown, expected in [
            ({"data": [member]}, "$.next came and is not shown"),
            ({"data": [member], "next": None, "more": 1}, "$.more is shown and did not come"),
            ({"data": [], "next": None}, "$.data has 0 elements, and 1 came"),
            ({"data": [{**member, "n": 13}], "next": None}, "$.data[0].n is shown as 13"),
            ({"data": [{**member, "id": "evt_…"}], "next": None}, "$.data[0].id is shown"),
            ({"data": [{**member, "at": "now"}], "next": None}, "$.data[0].at is shown"),
            ({"data": [member], "next": False}, "$.next is shown as False"),
            ([], "$ is shown as []"),
        ]:
            with self.subTest(expected):
                self.assertIn(expected, difference(shown, real) or "")
        self.assertIsNotNone(difference(True, 1))

    def test_a_command_that_fails_fails_its_block(self):
        with tempfile.TemporaryDirectory() as directory:
            session = Session(directory, [])
            self.addCleanup(session.close)
            self.assertEqual(session.run("A=1\n(sleep 0.2; echo later) &\n", "x").strip(), "")
            begun = len(session.output)
            self.assertEqual(session.run("echo $A\n", "x").split()[0], "1")
            session.require(Outcome(0, 5, "later"), begun, time.monotonic(), "x")
            with self.assertRaisesRegex(Mistake, "not within 0 s"):
                session.require(Outcome(0, 0, "never"), begun, 0, "x")
            with self.assertRaisesRegex(Mistake, "within less than 60 s"):
                now = time.monotonic()
                session.require(Outcome(60, 90, "later"), begun, now, "x")
            with self.assertRaisesRegex(Mistake, "x: a command failed"):
                session.run("false\necho on\n", "x")

    def test_a_variable_that_is_not_set_fails_its_block(self):
        with tempfile.TemporaryDirectory() as directory:
            session = Session(directory, [])
            self.addCleanup(session.close)
            with self.assertRaisesRegex(Mistake, "EVENT_ID: unbound variable"):
                session.run('echo "$EVENT_ID"\n', "x")

    def test_a_curl_that_is_refused_fails_its_block_even_within_a_pipe(self):
        nothing_there = "A=$(curl http://127.0.0.1:1/ | cat || true)\n"
        with tempfile.TemporaryDirectory() as directory:
            session = Session(directory, [])
            self.addCleanup(session.close)
            with self.assertRaisesRegex(Mistake, "x: curl http://127.0.0.1:1/\nexit code 7"):
                session.run(nothing_there, "x")

    def test_a_part_of_a_file_has_its_text(self):
        with tempfile.TemporaryDirectory() as directory:
            run = Run(directory, "/none", "/none", "/none")
            self.addCleanup(run.close)
            (block,) = blocks("<!-- part of: examples/receiver.rs -->\n```rust\nfn none() {}\n```\n")
            with self.assertRaisesRegex(Mistake, "has not the same text"):
                run.execute([block])

    def test_an_answer_that_nothing_executed_gave_is_a_mistake(self):
        shown = "```json\n{\"wrong\": 1}\n```\n"
        for text in [
            shown,
            "```python\npass\n```\n" + shown,
            "<!-- not run: x -->\n```sh\nfalse\n```\n" + shown,
        ]:
            with self.subTest(text), tempfile.TemporaryDirectory() as directory:
                run = Run(directory, "/none", "/none", "/none")
                self.addCleanup(run.close)
                with self.assertRaisesRegex(Mistake, "no sh block that is executed"):
                    before, block = [None, *blocks(text)][-2:]
                    run.execute_block(block, before)
                (block,) = blocks("<!-- not run: x -->\n" + shown)
                self.assertFalse(run.execute_block(block, None))

    def test_commands_of_a_page_are_read_as_they_are_shown(self):
        commands = Commands()
        commands.feed("<p>x</p><pre>curl &quot;$A?b&amp;c&quot; -d &#39;{&lt;}&#39;</pre><pre>y</pre>")
        self.assertEqual(commands.found, ["curl \"$A?b&c\" -d '{<}'", "y"])

    def test_forgeries_differ_from_what_is_genuine(self):
        body = b'{"total": 12.5}'
        for scheme in ["v1", "v1a"]:
            key = Key(scheme, bytes(32))
            headers = {"webhook-id": "evt_1", "webhook-timestamp": "1796053016"}
            headers["webhook-signature"] = key.sign("evt_1", 1796053016, body)
            sent = list(forged(headers, body, key))
            self.assertGreater(len(sent), 15)
            for what, *changed in sent:
                self.assertNotEqual(changed, [headers, body], what)

    def test_the_library_does_not_verify_ed25519_as_the_guide_says(self):
        body = b'{"total": 12.5}'
        now = datetime.now(timezone.utc)
        for scheme, seed, prefix, expected in [
            ("v1", bytes(32), "whsec_", {"total": 12.5}),
            ("v1a", bytes(32), "whpk_", None),
        ]:
            key = Key(scheme, seed)
            public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
            secret = prefix + base64.b64encode(seed if scheme == "v1" else public).decode()
            headers = {"webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp()))}
            headers["webhook-signature"] = key.sign("evt_1", int(now.timestamp()), body)
            with self.subTest(scheme):
                try:
                    verified = Webhook(secret).verify(body, headers)
                except (WebhookVerificationError, ValueError):
                    verified = None
                self.assertEqual(verified, expected, "docs/receiving.md says otherwise")

    def test_a_receiver_that_takes_or_refuses_everything_fails_its_trial(self):
        body = b'{"total": 12.5}'
        key = Key("v1", bytes(32))
        headers = {"webhook-id": "evt_1", "webhook-timestamp": "1796053016"}
        headers["webhook-signature"] = key.sign("evt_1", 1796053016, body)
        for status, expected in [
            (204, "a changed body is answered 204"),
            (400, "the same webhook again is answered 400"),
            (500, "the same webhook again is answered 500"),
        ]:
            receiver = Receiver(status)
            with self.assertRaisesRegex(Mistake, expected):
                hold(receiver.port, headers, body, key)
            receiver.close()


    def test_what_is_remembered_before_it_is_handed_on_is_not_handled(self):
        hand_on = "    handled.append(1)  # put it into your own queue here\n"
        remember = "    seen.add(1)\n"
        for body, expected in [(hand_on + remember, [1]), (remember + hand_on, [])]:
            state = {"seen": set(), "handled": []}
            text = failing_once("if 1 not in seen:\n" + body, ".py", "x")
            for _ in range(3):
                with suppress(OSError):
                    exec(text, state)
            self.assertEqual(state["handled"], expected)

    def test_a_receiver_that_takes_what_it_cannot_hand_on_fails_its_trial(self):
        with self.assertRaisesRegex(Mistake, "could not be put into the queue is answered 204"):
            come_again(1, {}, b"", 204)
        with self.assertRaisesRegex(Mistake, "at 0 places"):
            failing_once("print(id)\n", ".py", "x")


class Receiver:
    """Answers whatever comes alike."""

    def __init__(self, status):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


if __name__ == "__main__":
    unittest.main()
