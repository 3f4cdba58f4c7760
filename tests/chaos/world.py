"""The parts of a chaos run: PostgreSQL, the program, receivers and a publisher."""
import asyncio
import collections
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import time

import aiohttp
import boto3
from aiohttp import web

WORK = pathlib.Path(os.environ["CHAOS_WORK"])
BINARY = os.environ["MILLRACE_BIN"]
REGION = "us-east-1"
ADMIN_KEY = "mradmin_" + secrets.token_hex(24)
SCOPES = ["events:write", "events:read", "endpoints:write", "endpoints:read", "meters:write", "meters:read"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def aws(service, url):
    return boto3.client(service, endpoint_url=url, region_name=REGION,
                        aws_access_key_id="test", aws_secret_access_key="test")


class Postgres:
    """PostgreSQL's own server, of Debian's packages, stopped and started at will."""

    def __init__(self):
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            raise SystemExit("chaos: PostgreSQL's server programs are not installed")
        self.bin, self.dir, self.port = found[-1].parent, WORK / "postgres", free_port()
        self.url = f"postgresql://millrace@127.0.0.1:{self.port}/postgres?sslmode=disable"
        self.dir.mkdir()
        self.prefix = []
        if os.geteuid() == 0:
            # It refuses to run as root.
            shutil.chown(self.dir, "nobody")
            self.prefix = ["runuser", "-u", "nobody", "--"]
        self.call("initdb", "--pgdata", self.dir / "data", "--username", "millrace",
                  "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C")
        self.start()

    def call(self, program, *arguments):
        subprocess.run([*self.prefix, self.bin / program, *arguments], check=True,
                       cwd=self.dir, stdout=subprocess.DEVNULL)

    def start(self):
        self.call("pg_ctl", "--pgdata", self.dir / "data", "-w", "--silent", "--log", self.dir / "log",
                  "--options", f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.dir}", "start")

    def stop(self):
        self.call("pg_ctl", "--pgdata", self.dir / "data", "-w", "--silent", "-m", "immediate", "stop")


class Program:
    """One process of Millrace."""

    def __init__(self, name, settings, environment=None):
        self.name, self.port = name, free_port()
        self.settings, self.environment = settings, environment or {}
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = WORK / f"{name}.log"
        self.process = None

    async def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [BINARY], stdout=log, stderr=log, cwd=WORK,
                env={"PATH": os.environ["PATH"], "HOME": str(WORK), "AWS_ACCESS_KEY_ID": "test",
                     "AWS_SECRET_ACCESS_KEY": "test", "MILLRACE_HTTP__LISTEN": f"127.0.0.1:{self.port}",
                     "MILLRACE_DATA_DIR": str(WORK / f"{self.name}.data"),
                     "MILLRACE_LOG__FORMAT": "json", **self.settings, **self.environment})
        async with aiohttp.ClientSession() as session:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                if self.process.poll() is not None:
                    break
                try:
                    async with session.get(self.url + "/health") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        raise SystemExit(f"chaos: {self.name} did not start:\n" + self.log.read_text()[-3000:])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def stop(self):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 60)

    def is_running(self):
        return self.process is not None and self.process.poll() is None


class Receiver:
    """Takes webhooks and counts each event's arrivals. Down, it refuses
    connections; failing, it answers 500."""

    def __init__(self):
        self.port, self.seen = free_port(), collections.Counter()
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.failing = False
        self.runner = None

    async def start(self):
        app = web.Application()
        app.router.add_post("/hook", self.hook)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    async def stop(self):
        await self.runner.cleanup()

    async def hook(self, request):
        event = json.loads(await request.read())
        if self.failing:
            return web.Response(status=500)
        self.seen[event["id"]] += 1
        return web.Response(status=204)


class Api:
    """The API of whichever process answers, in turn."""

    def __init__(self, programs):
        self.programs, self.turn, self.key = programs, 0, None

    async def __aenter__(self):
        timeout = aiohttp.ClientTimeout(total=15)
        self.session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *_):
        await self.session.close()

    async def call(self, method, path, body=None, key=None):
        """Status and body; none if nobody answered."""
        self.turn += 1
        running = [program for program in self.programs if program.is_running()]
        if not running:
            return None, None
        url = running[self.turn % len(running)].url + path
        headers = {"Authorization": f"Bearer {key or self.key}"}
        try:
            async with self.session.request(method, url, json=body, headers=headers) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, asyncio.TimeoutError, ValueError):
            return None, None

    async def made(self, path, body, key=None):
        status, answer = await self.call("POST", path, body, key)
        if status != 201:
            raise SystemExit(f"chaos: POST {path}: {status} {answer}")
        return answer


class Publisher:
    """Publishes events until each is accepted: what a careful client does."""

    def __init__(self, api, prefix, tenants=("acme", "globex")):
        self.api, self.prefix, self.tenants = api, prefix, tenants
        self.accepted, self.first_answers = {}, collections.Counter()

    def event(self, number):
        return {"specversion": "1.0", "id": f"{self.prefix}-{number}", "source": "/chaos",
                "type": ("order.paid", "order.shipped", "user.created")[number % 3],
                "tenant": self.tenants[number % len(self.tenants)],
                "data": {"amount": number % 97, "note": "x" * 200}}

    async def run(self, numbers, concurrency=8, seconds=120):
        numbers = collections.deque(numbers)
        end = time.monotonic() + seconds

        async def worker():
            while numbers and time.monotonic() < end:
                number = numbers.popleft()
                while time.monotonic() < end:
                    status, answer = await self.api.call("POST", "/v1/events", self.event(number))
                    self.first_answers[status] += 1
                    if status == 202:
                        self.accepted[number] = answer["id"]
                        break
                    if status is not None and status not in (429, 500, 503):
                        raise SystemExit(f"chaos: event {number} answered {status} {answer}")
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(worker() for _ in range(concurrency)))
