"""A shell in which the blocks of one document run in turn, as in a terminal."""

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

from markdown import Mistake

# Longest that a block runs, in seconds.
BLOCK_MAX = 60

# In place of curl: an answer that is no success fails the block, wherever in a pipe
# it stands, and each answer is kept.
CURL = """#!/usr/bin/env bash
answer=$ANSWERS/$(date +%s%N)
"$REAL_CURL" --fail-with-body --silent --show-error --max-time 30 \\
  --dump-header "$answer.head" "$@" >"$answer.body"
code=$?
cat "$answer.body"
status=$(sed -n 's|^HTTP/[0-9.]* \\([0-9]*\\).*|\\1|p' "$answer.head" 2>/dev/null | tail -n 1)
[[ $status =~ ^($(cat "$ANSWERS/expected"))$ ]] && exit 0
printf 'curl %s\\nexit code %s, status %s, %s\\n' "$*" "$code" "$status" "$(cat "$answer.body")" >>"$ANSWERS/failed"
exit 22
"""


class Session:
    """One bash, with its variables and what it started in the background."""

    def __init__(self, directory, path):
        self.directory = Path(directory)
        self.answers = self.directory / ".answers"
        self.answers.mkdir()
        programs = self.directory / ".bin"
        programs.mkdir()
        (programs / "curl").write_text(CURL)
        (programs / "curl").chmod(0o755)
        self.env = {
            "PATH": os.pathsep.join([str(programs), *path, os.environ["PATH"]]),
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "ANSWERS": str(self.answers),
            "REAL_CURL": real_curl(),
        }
        self.output = ""
        self.bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self._blocks = 0
        self._say("set -eu -o pipefail")

    def _read(self):
        while chunk := os.read(self.bash.stdout.fileno(), 65536):
            self.output += chunk.decode(errors="replace")

    def _say(self, command):
        self.bash.stdin.write(command.encode() + b"\n")
        self.bash.stdin.flush()

    def run(self, text, where, expected="2.."):
        """Runs a block to its end, and answers what it printed.

        It fails when a command in it does, or a curl is not answered as expected.
        """
        self._blocks += 1
        name = f".block-{self._blocks}.sh"
        end = f"-- end of {name} --"
        (self.directory / name).write_text(text)
        (self.answers / "expected").write_text(expected)
        (self.answers / "failed").unlink(missing_ok=True)
        begun = len(self.output)
        # A part at a time, or the line itself would be taken for what it prints.
        self._say(f". ./{name} </dev/null\necho {shlex.quote(end[:6])}''{shlex.quote(end[6:])}")
        deadline = time.monotonic() + BLOCK_MAX
        while end not in self.output[begun:]:
            if self.bash.poll() is not None:
                time.sleep(0.2)
                raise Mistake(f"{where}: a command failed:\n{self.told()}{self.output[begun:]}")
            if time.monotonic() > deadline:
                raise Mistake(f"{where}: not done after {BLOCK_MAX} s:\n{self.output[begun:]}")
            time.sleep(0.02)
        if failed := self.told():
            raise Mistake(f"{where}: {failed}")
        return self.output[begun:].split(end)[0]

    def told(self):
        """What curl was refused, if it was."""
        failed = self.answers / "failed"
        return failed.read_text() if failed.exists() else ""

    def last_answer(self):
        """The body of the last answer to a curl."""
        bodies = sorted(self.answers.glob("*.body"))
        if not bodies:
            raise Mistake("no curl was run")
        return bodies[-1].read_text()

    def require(self, outcome, begun, since, where):
        """Waits for what the session prints after `begun` characters of its output."""
        pattern = re.compile(outcome.pattern.replace("\n", ".*").replace("…", "[^\n]*"), re.S)
        while not pattern.search(self.output[begun:]):
            if time.monotonic() > since + outcome.within:
                raise Mistake(
                    f"{where}: not within {outcome.within} s: {outcome.pattern}\n"
                    f"{self.output[begun:]}"
                )
            time.sleep(0.05)
        if time.monotonic() < since + outcome.after:
            raise Mistake(f"{where}: within less than {outcome.after} s: {outcome.pattern}")

    def close(self):
        end_group(self.bash)
        self.reader.join(timeout=30)
        self.bash.stdin.close()
        self.bash.stdout.close()


def real_curl():
    found = subprocess.run(["bash", "-c", "type -P curl"], capture_output=True, text=True)
    if found.returncode:
        raise Mistake("curl is not installed")
    return found.stdout.strip()


def end_group(process):
    """Ends a process that was started in a session of its own, and its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(timeout=30)
