"""A fresh Millrace, started in a terminal as the README says."""

import os
import pty
import re
import subprocess
import threading
import time

from markdown import Mistake

# Longest that the first start takes, with a database to make; and the end. Seconds.
START_MAX, END_MAX = 90, 40


class Server:
    """The program, in a directory of its own and with nothing configured but the port."""

    def __init__(self, program, directory):
        self.output = ""
        outer, inner = pty.openpty()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "TERM": "dumb",
            "MILLRACE_HTTP__LISTEN": "127.0.0.1:0",
        }
        self.process = subprocess.Popen(
            [program], cwd=directory, env=env, stdin=inner, stdout=inner, stderr=inner
        )
        os.close(inner)
        threading.Thread(target=self._read, args=(outer,), daemon=True).start()
        self.url = self.wait_for(r"Millrace is up at (http://[0-9.:]+)")
        self.key = self.wait_for(r"export MILLRACE_KEY=(mr_\w+)\s")
        self.wait_for(r"listening")
        data = directory / ".millrace"
        self.admin_key = (data / "admin_key").read_text().strip()

    def _read(self, outer):
        # At the end of a terminal's other side Linux answers with an error.
        try:
            while chunk := os.read(outer, 65536):
                self.output += chunk.decode(errors="replace").replace("\r\n", "\n")
        except OSError:
            pass

    def wait_for(self, pattern):
        deadline = time.monotonic() + START_MAX
        while not (found := re.search(pattern, self.output)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Mistake(f"Millrace did not print {pattern}:\n{self.output}")
            time.sleep(0.05)
        return found.group(1) if found.groups() else found.group()

    def require_printed(self, text, where):
        """What a document shows of the start was printed, line after line."""
        at = 0
        printed = self.output.replace(self.url, "http://127.0.0.1:8080")
        for line in filter(None, text.split("\n")):
            pattern = re.escape(line.strip()).replace("…", r"\S+")
            found = re.compile(pattern).search(printed, at)
            if not found:
                raise Mistake(f"{where}: was not printed: {line}\n{printed}")
            at = found.end()

    def close(self):
        self.process.terminate()
        if code := self.process.wait(timeout=END_MAX):
            raise Mistake(f"Millrace ended with exit code {code}:\n{self.output[-2000:]}")
