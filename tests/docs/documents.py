"""Executes the documentation: tests/docs/run [DOCUMENT]…

The blocks of each document in turn, in one shell, against a fresh Millrace; see
markdown.py for what a document may say of them.
"""

import argparse
import json
import os
import re
import socket
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from json_shape import difference
from markdown import Mistake, Outcome, read_blocks
from page import read_page
from receivers import try_receiver, wait_for_port
from server import Server
from session import Session

ROOT = Path(__file__).resolve().parents[2]
PAGE = "/docs"
# Longest that a document's answer takes to be what it shows, in seconds.
SETTLED_MAX = 15

# The ports that documents name, and theirs alone; 9000 becomes another one too.
MILLRACE_AT = "127.0.0.1:8080"
RECEIVER_PORT = re.compile(r"\b9000\b")


class Run:
    """A document with its shell and, once something asks for it, its Millrace."""

    def __init__(self, directory, program, node_modules, examples):
        self.directory = Path(directory)
        self.program = program
        self.port = free_port()
        self.session = Session(self.directory, [str(Path(sys.executable).parent)])
        self.session.env["EXAMPLES"] = examples
        (self.directory / ".bin" / "millrace").symlink_to(program)
        (self.directory / "node_modules").symlink_to(node_modules)
        self._server = None
        # What the last block with a name was written to.
        self.written = None

    @property
    def server(self):
        if not self._server:
            self._server = Server(self.program, self.directory)
            self.session.run(f"export MILLRACE_KEY={self._server.key}\n", "start")
        return self._server

    def localize(self, text):
        """A text with the addresses of this run in place of those that are documented."""
        text = text.replace(MILLRACE_AT, self.server.url.removeprefix("http://"))
        return RECEIVER_PORT.sub(str(self.port), text)

    def execute(self, blocks):
        ran = 0
        before = None
        for block in blocks:
            ran += self.execute_block(block, before)
            before = block
        return ran

    def execute_block(self, block, before):
        """Whether something was executed."""
        said = block.directives
        if "part of" in said and block.text.strip() not in (ROOT / said["part of"]).read_text():
            raise Mistake(f"{block}: {said['part of']} has not the same text")
        if "not run" in said or "part of" in said:
            return False
        if "printed at the start" in said:
            self.server.require_printed(block.text, block)
        elif "file" in said:
            self.written = self.directory / said["file"]
            self.written.write_text(self.localize(block.text))
        elif "receiver" in said:
            said["receiver"] = self.localize(said["receiver"])
            text = self.localize(block.text)
            try_receiver(block, text, self.written, self.session, self.server)
        elif block.language == "json":
            self.compare(block, before)
        elif block.language in ("sh", "python", "js"):
            self.run(block)
        else:
            return False
        return True

    def run(self, block):
        text = self.localize(block.text)
        if block.language != "sh":
            program, suffix = {"python": ("python3", "py"), "js": ("node", "mjs")}[block.language]
            name = f"block_{block.line}.{suffix}"
            (self.directory / name).write_text(text)
            text = f"{program} {name}\n"
        begun, since = len(self.session.output), time.monotonic()
        self.session.run(text, block, block.directives.get("answers", "2.."))
        if "listens" in block.directives:
            wait_for_port(int(self.localize(block.directives["listens"])))
        for outcome in block.outcomes:
            self.session.require(outcome, begun, since, block)
        if block.again:
            begun, since = len(self.session.output), time.monotonic()
            self.session.run(text, block, block.directives.get("answers", "2.."))
            self.session.require(Outcome(0, 1, block.again), begun, since, block)

    def compare(self, block, before):
        """What is shown after a command is what came; if it only reads, in the end."""
        try:
            shown = json.loads(block.text)
        except ValueError as error:
            raise Mistake(f"{block}: {error}") from None
        if not before or before.language != "sh" or "not run" in before.directives:
            raise Mistake(
                f"{block}: no sh block that is executed stands before this answer: "
                "say why in a comment before it, <!-- not run: REASON -->"
            )
        reads = not re.search(r"\s(-d|-X|--data|--request)\b", before.text)
        deadline = time.monotonic() + SETTLED_MAX
        while found := difference(shown, json.loads(self.session.last_answer())):
            if not reads or time.monotonic() > deadline:
                raise Mistake(f"{block}: {found}")
            time.sleep(0.3)
            self.session.run(self.localize(before.text), before)

    def close(self):
        self.session.close()
        if self._server:
            self._server.close()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def answer_everything(port):
    """Something that receives, for the page's WEBHOOK_URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main():
    parser = argparse.ArgumentParser(prog="tests/docs/run", description=__doc__.split("\n")[0])
    parser.add_argument("documents", nargs="*", help=f"Markdown files, or {PAGE}; else all")
    chosen = parser.parse_args().documents
    files = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md"))]
    failed = False
    for document in chosen or [*files, PAGE]:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            run = Run(
                directory,
                os.environ["MILLRACE_BIN"],
                os.environ["NODE_MODULES"],
                os.environ["EXAMPLES"],
            )
            try:
                if document == PAGE:
                    answer_everything(run.port)
                    blocks = read_page(run.server, run.port)
                else:
                    blocks = read_blocks(document, (ROOT / document).read_text())
                ran = run.execute(blocks)
                verdict = f"{ran} of {len(blocks)} blocks executed"
            except Mistake as mistake:
                failed = True
                verdict = f"FAILED\n{mistake}"
            finally:
                run.close()
        print(f"{document}: {verdict}, {time.monotonic() - begun:.0f} s", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
