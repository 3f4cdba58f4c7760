"""What stands around the browser: the program, a receiver of webhooks, the API."""
import collections
import contextlib
import http.server
import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

SCOPES = ["events:write", "events:read", "endpoints:write", "endpoints:read", "meters:write", "meters:read"]
# Longest that the first start takes, with a database to make; the end; and anything
# that is waited for. Seconds, far over what they need.
START_MAX, END_MAX, WAIT_MAX = 90, 40, 60


class Mistake(Exception):
    """What was seen is not what should be."""


def until(what, found, every=0.05):
    """Waits until `found()` is something, and answers that."""
    end = time.monotonic() + WAIT_MAX
    while not (answer := found()):
        if time.monotonic() > end:
            raise Mistake(f"{what}: not within {WAIT_MAX} s")
        time.sleep(every)
    return answer


class Program:
    """A fresh Millrace in a terminal, in a directory of its own."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="millrace-browser-"))
        self.output = ""
        outer, inner = pty.openpty()
        env = {
            "PATH": os.environ["PATH"], "HOME": str(self.directory), "TERM": "dumb",
            "MILLRACE_HTTP__LISTEN": "127.0.0.1:0",
            # Three attempts, all of them while somebody looks.
            "MILLRACE_DELIVERY__RETRY_SCHEDULE_S": "0,1,1",
            "MILLRACE_DELIVERY__ALLOW_PRIVATE_TARGETS": "true",
        }
        self.process = subprocess.Popen([os.environ["MILLRACE_BIN"]], cwd=self.directory, env=env,
                                        stdin=inner, stdout=inner, stderr=inner)
        os.close(inner)
        threading.Thread(target=self._read, args=(outer,), daemon=True).start()
        self.url = self._printed(r"Millrace is up at (http://[0-9.:]+)")
        self._printed(r"listening")
        self.admin_key = (self.directory / ".millrace" / "admin_key").read_text().strip()

    def _read(self, outer):
        # At the end of a terminal's other side Linux answers with an error.
        with contextlib.suppress(OSError):
            while chunk := os.read(outer, 65536):
                self.output += chunk.decode(errors="replace").replace("\r\n", "\n")

    def _printed(self, pattern):
        def found():
            if self.process.poll() is not None:
                raise Mistake(f"Millrace ended:\n{self.output[-3000:]}")
            return re.search(pattern, self.output)
        return until(f"Millrace prints {pattern}", found).group(1 if "(" in pattern else 0)

    @property
    def sign_in_link(self):
        """The link of the start, which works once."""
        return self._printed(r"(http://\S+/console/sign-in\?token=[\w.~-]+)")

    def close(self):
        self.process.terminate()
        try:
            code = self.process.wait(timeout=END_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Mistake("Millrace did not end") from None
        if code:
            raise Mistake(f"Millrace ended with exit code {code}:\n{self.output[-3000:]}")
        shutil.rmtree(self.directory)


class Receiver:
    """Takes webhooks and answers with `status`; what arrived, by event id."""

    def __init__(self, status=200):
        self.status, self.seen = status, collections.Counter()
        receiver = self

        class Hook(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                receiver.seen[self.headers["webhook-id"], receiver.status] += 1
                self.send_response(receiver.status)
                self.send_header("content-type", "text/plain")
                self.end_headers()
                if receiver.status >= 500:
                    self.wfile.write(b"the shelf is full")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def arrived(self, event, status):
        return self.seen[event, status]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Api:
    """The API with one key."""

    def __init__(self, url, key):
        self.url, self.key = url, key

    def __call__(self, method, path, body=None):
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.key}", "content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Mistake(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from None
        return json.loads(text) if text else None


class Project:
    """A project of a case's own, and a key of it."""

    def __init__(self, program, name):
        admin = Api(program.url, program.admin_key)
        self.id = admin("POST", "/v1/projects", {"name": name})["id"]
        key = admin("POST", f"/v1/projects/{self.id}/keys", {"name": "seed", "scopes": SCOPES})
        self.key = key["key"]
        self.api = Api(program.url, self.key)
        self.path = f"/console/{self.id}"

    def deliveries(self, **query):
        parameters = "&".join(f"{name}={value}" for name, value in query.items())
        return self.api("GET", f"/v1/deliveries?{parameters}")["data"]
