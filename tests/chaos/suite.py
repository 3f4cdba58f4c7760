"""The fault suite: tests/chaos/run starts what it needs and says how to use it.

Every fault runs on a project of its own. It is made while events are published,
and ended; then the suite waits until all is well or a deadline, and says what it
found. Lost, changed or left-over work fails the run; duplicates are counted.
"""
import argparse
import asyncio
import base64
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import time

from proxy import Proxy, Replica
from world import ADMIN_KEY, SCOPES, WORK, Api, Postgres, Program, Publisher, Receiver, aws

MINISTACK = os.environ["MINISTACK_URL"]
DUE_SHARDS = 8
# What heals later than this is a failure; the measured time is printed.
HEALED_MAX_S = 150
# Of one event at one endpoint while DynamoDB throttles for a minute: the first, and
# one for each lease that ran out meanwhile, of 6 s and ever twice as long.
ARRIVALS_MAX = 5
# Nothing is ahead of it.
PROMPT_MAX_S = 1


class Run:
    """One fault: its processes, its project, what it found."""

    def __init__(self, suite, name, rng, instances=1, environment=None, embedded=False):
        self.suite, self.name, self.rng = suite, name, rng
        self.instances, self.environment, self.embedded = instances, environment, embedded
        self.notes = []

    def settings(self):
        fast = {
            "MILLRACE_DELIVERY__RETRY_SCHEDULE_S": ",".join(["0", "1", "1", "2"] + ["3"] * 16),
            "MILLRACE_DELIVERY__ALLOW_PRIVATE_TARGETS": "true",
            "MILLRACE_DELIVERY__TIMEOUT_S": "5",
            "MILLRACE_ADMIN_KEY": ADMIN_KEY,
            "MILLRACE_SWEEP__INTERVAL_MS": "500",
            "MILLRACE_SWEEP__LEASE_S": "6",
            "MILLRACE_SWEEP__SQS_LEASE_S": "6",
        }
        if self.embedded:
            return fast
        return {
            **fast,
            "MILLRACE_DATABASE__URL": self.suite.postgres.url,
            "MILLRACE_AWS__REGION": "us-east-1",
            "MILLRACE_AWS__ENDPOINT_URL": MINISTACK,
            "MILLRACE_KEY_RING__SECRET_ARN": self.suite.key_ring,
            "MILLRACE_DYNAMODB__ENDPOINT_URL": self.suite.dynamodb.url,
            "MILLRACE_DYNAMODB__TABLE": self.suite.table,
            "MILLRACE_SQS__ENDPOINT_URL": self.suite.sqs.url,
            "MILLRACE_SQS__FAN_OUT_URL": self.suite.queues[0],
            "MILLRACE_SQS__DELIVER_URL": self.suite.queues[1],
        }

    async def __aenter__(self):
        self.programs = [Program(f"{self.name}-{number}", self.settings(), self.environment)
                         for number in range(self.instances)]
        for program in self.programs:
            await program.start()
        self.api = await Api(self.programs).__aenter__()
        project = await self.api.made("/v1/projects", {"name": f"chaos {self.name}"}, ADMIN_KEY)
        key = await self.api.made(f"/v1/projects/{project['id']}/keys",
                                  {"name": "chaos", "scopes": SCOPES}, ADMIN_KEY)
        self.api.key = key["key"]
        # Who takes what: everything, one family of types, one tenant.
        self.receivers = []
        for endpoint, takes in [
            ({"event_types": ["*"]}, lambda event: True),
            ({"event_types": ["order.*"]}, lambda event: event["type"].startswith("order.")),
            ({"event_types": ["*"], "tenant": "acme"}, lambda event: event["tenant"] == "acme"),
        ]:
            receiver = Receiver()
            await receiver.start()
            await self.api.made("/v1/endpoints", {"url": receiver.url, **endpoint})
            self.receivers.append((receiver, takes))
        self.meters = {}
        for aggregation, pointer in [("count", None), ("sum", "/amount")]:
            meter = {"name": f"chaos {aggregation}", "event_type": "*", "aggregation": aggregation}
            if pointer:
                meter["value"] = pointer
            self.meters[aggregation] = (await self.api.made("/v1/meters", meter))["id"]
        # Another instance has seen the endpoints before the load begins.
        await asyncio.sleep(5.5 if self.instances > 1 else 0)
        self.publisher = Publisher(self.api, f"{self.name}-{self.suite.seed}")
        return self

    async def __aexit__(self, *_):
        for program in self.programs:
            if program.is_running():
                program.kill()
        for receiver, _ in self.receivers:
            await receiver.stop()
        await self.api.__aexit__()

    def load(self, events=None, **options):
        return self.load_of(range(events or self.suite.events), **options)

    def load_of(self, numbers, **options):
        return asyncio.create_task(self.publisher.run(numbers, **options))

    # --- What is expected ---------------------------------------------------

    def missing(self, numbers=None):
        lost = 0
        for number in self.publisher.accepted if numbers is None else numbers:
            event = self.publisher.event(number)
            lost += sum(takes(event) and not receiver.seen[event["id"]] for receiver, takes in self.receivers)
        return lost

    def duplicates(self):
        return sum(count - 1 for receiver, _ in self.receivers for count in receiver.seen.values())

    def due(self):
        """Work left in the due index, by asking DynamoDB itself."""
        found = 0
        shards = [f"due#{shard}" for shard in range(DUE_SHARDS)] + [f"meter#{shard}" for shard in range(DUE_SHARDS)]
        for shard in shards:
            found += self.suite.store.query(
                TableName=self.suite.table, IndexName="due", Select="COUNT",
                KeyConditionExpression="due_pk = :pk",
                ExpressionAttributeValues={":pk": {"S": shard}})["Count"]
        return found

    async def usage(self, aggregation):
        day = 86400
        start = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() - 2 * day))
        end = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() + 2 * day))
        path = f"/v1/meters/{self.meters[aggregation]}/usage?from={start}&to={end}&window=day"
        status, answer = await self.api.call("GET", path)
        if status != 200:
            return None
        return sum(float(row["value"]) for row in answer["data"])

    def expected_usage(self):
        events = [self.publisher.event(number) for number in self.publisher.accepted]
        return {"count": len(events), "sum": sum(event["data"]["amount"] for event in events)}

    async def unwell(self):
        """What is not as it should be, yet."""
        found = []
        if missing := self.missing():
            found.append(f"{missing} deliveries missing")
        elif not self.embedded and (due := self.due()):
            found.append(f"{due} items left in the due index")
        if not found:
            for aggregation, expected in self.expected_usage().items():
                if (usage := await self.usage(aggregation)) != expected:
                    found.append(f"meter {aggregation}: {usage}, expected {expected}")
        return found

    async def heal(self, since):
        """Waits until nothing is left to do; the seconds since `since`."""
        end = time.monotonic() + HEALED_MAX_S
        while True:
            found = await self.unwell()
            if not found:
                return time.monotonic() - since
            if time.monotonic() > end:
                raise Failed(f"{'; '.join(found)} after {HEALED_MAX_S} s")
            await asyncio.sleep(0.3)

    async def arrived(self, numbers, since):
        """Waits until these have arrived; the seconds since `since`."""
        while self.missing(numbers):
            if time.monotonic() - since > HEALED_MAX_S:
                raise Failed(f"{self.missing(numbers)} deliveries missing after {HEALED_MAX_S} s")
            await asyncio.sleep(0.1)
        return time.monotonic() - since

    async def answers_again(self):
        """The same event again answers the same id, and that it is one."""
        numbers = self.rng.sample(sorted(self.publisher.accepted), min(20, len(self.publisher.accepted)))
        for number in numbers:
            status, answer = await self.api.call("POST", "/v1/events", self.publisher.event(number))
            expected = {"id": self.publisher.accepted[number], "duplicate": True}
            if status != 202 or answer != expected:
                raise Failed(f"event {number} again: {status} {answer}, expected {expected}")

    async def finish(self, load, since=None):
        await load
        accepted = len(self.publisher.accepted)
        if accepted < self.suite.events:
            raise Failed(f"only {accepted} events were accepted: {dict(self.publisher.first_answers)}")
        healed = await self.heal(since or time.monotonic())
        await self.answers_again()
        if missing := self.missing():
            raise Failed(f"{missing} deliveries missing")
        return healed

    def errors(self):
        """What the processes logged as an error, but for a store or queue that was slow."""
        return [line for line in self.logged() if line["level"] == "ERROR" and line.get("status") != 503]

    def warnings(self):
        """What the processes logged as a warning or worse."""
        return [line for line in self.logged() if line["level"] in ("WARN", "ERROR")]

    def logged(self):
        lines = [line for program in self.programs for line in program.log.read_text().splitlines()]
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


class Failed(Exception):
    """A promise that was not kept."""


# --- The faults -------------------------------------------------------------


async def none(run):
    """Nothing: what the others are compared with."""
    return await run.finish(run.load())


async def kill(run):
    """kill -9 at random moments, `--rounds` times, and a start each."""
    load, worst = run.load(run.suite.events * 2, seconds=300), 0.0
    for _ in range(run.suite.rounds):
        await asyncio.sleep(run.rng.uniform(0.05, 1.5))
        run.programs[0].kill()
        killed = time.monotonic()
        await run.programs[0].start()
        worst = max(worst, time.monotonic() - killed)
    run.notes.append(f"slowest restart {worst:.1f} s")
    arriving = asyncio.create_task(run.arrived(list(run.publisher.accepted), killed))
    healed = await run.finish(load, time.monotonic())
    run.notes.append(f"what was accepted before the last kill arrived within {await arriving:.1f} s of it")
    return healed


async def terminate(run):
    """SIGTERM under load, five times."""
    load = run.load(seconds=200)
    for _ in range(5):
        await asyncio.sleep(run.rng.uniform(0.2, 1.0))
        code = await run.programs[0].stop()
        if code != 0:
            raise Failed(f"SIGTERM ended with {code}")
        await run.programs[0].start()
    healed = await run.finish(load)
    if run.duplicates():
        raise Failed(f"{run.duplicates()} deliveries arrived twice in a drain")
    return healed


async def faulty(run, proxy, seconds, mode, **how):
    load = run.load(seconds=200)
    await asyncio.sleep(0.3)
    proxy.set(mode, **how)
    await asyncio.sleep(seconds)
    run.notes.append(f"{proxy.hit} of {proxy.count} requests hit")
    if not proxy.hit:
        raise Failed("the fault hit nothing")
    proxy.set("pass")
    return await run.finish(load, time.monotonic())


async def dynamodb_refuses(run):
    """DynamoDB refuses connections for 5 s."""
    return await faulty(run, run.suite.dynamodb, 5, "refuse")


async def dynamodb_throttles(run):
    """DynamoDB throttles every second request for 8 s."""
    return await faulty(run, run.suite.dynamodb, 8, "throttle", of=2)


async def dynamodb_throttles_long(run):
    """DynamoDB throttles three writes of four for 60 s."""
    healed = await faulty(run, run.suite.dynamodb, 60, "throttle_writes", hits=3, of=4)
    most = max(receiver.seen.most_common(1)[0][1] for receiver, _ in run.receivers)
    run.notes.append(f"no event arrived more than {most} times")
    if most > ARRIVALS_MAX:
        raise Failed(f"an event arrived {most} times at one endpoint")
    return healed


async def index_lags(run):
    """DynamoDB's indexes show what the table held 30 s ago, from first to last."""
    replica = run.suite.dynamodb.replica = Replica(run.suite.store, run.suite.table, 30)
    try:
        healed = await run.finish(run.load())
        run.notes.append(f"{replica.shown} items shown late")
        if not replica.shown:
            raise Failed("the indexes never lagged")
        return healed
    finally:
        run.suite.dynamodb.replica = None
        await replica.stop()


async def idle(run):
    """Nothing for 65 s, then one event; and the same again."""
    worst, before = 0.0, len(run.warnings())
    for number in range(2):
        await asyncio.sleep(65)
        began = time.monotonic()
        await run.load_of([number])
        worst = max(worst, await run.arrived([number], began))
        if worst > PROMPT_MAX_S:
            raise Failed(f"the event arrived {worst:.1f} s after it was published")
    run.notes.append(f"arrived within {worst:.2f} s of being published")
    if warnings := run.warnings()[before:]:
        raise Failed(f"{len(warnings)} warnings while idle, the first: {warnings[0]}")
    return await run.finish(run.load(), time.monotonic())


async def dynamodb_slow(run):
    """DynamoDB answers 1.5 s late for 8 s."""
    return await faulty(run, run.suite.dynamodb, 8, "slow", delay=1.5)


async def dynamodb_loses_answers(run):
    """DynamoDB does what it is asked and the answer is lost, one time in five."""
    return await faulty(run, run.suite.dynamodb, 8, "lose", of=5)


async def sqs_refuses(run):
    """SQS refuses connections for 6 s."""
    return await faulty(run, run.suite.sqs, 6, "refuse")


async def sqs_loses_answers(run):
    """SQS takes messages and the answer is lost, one time in three."""
    return await faulty(run, run.suite.sqs, 6, "lose", of=3)


async def queue_lost(run):
    """Every message of both queues is deleted, again and again, under load."""
    load = run.load(seconds=200)
    purged = time.monotonic()
    while not load.done():
        await asyncio.sleep(0.5)
        for url in run.suite.queues:
            run.suite.queue_service.purge_queue(QueueUrl=url)
        purged = time.monotonic()
    return await run.finish(load, purged)


async def postgres_down(run):
    """PostgreSQL is down from before the load until after all was delivered."""
    run.suite.postgres.stop()
    try:
        began = time.monotonic()
        load = run.load(seconds=100)
        await load
        if refused := {s: n for s, n in run.publisher.first_answers.items() if s != 202}:
            raise Failed(f"events were refused: {refused}")
        end = time.monotonic() + 60
        while run.missing() and time.monotonic() < end:
            await asyncio.sleep(0.2)
        if missing := run.missing():
            raise Failed(f"{missing} deliveries missing while PostgreSQL is down")
        run.notes.append(f"all delivered {time.monotonic() - began:.1f} s after it began, PostgreSQL down")
        status, answer = await run.api.call("GET", "/v1/endpoints")
        if status != 503:
            raise Failed(f"the control plane answered {status} {answer}")
    finally:
        run.suite.postgres.start()
    healed = await run.finish(load, time.monotonic())
    if run.duplicates():
        raise Failed(f"{run.duplicates()} deliveries arrived twice")
    return healed


async def receivers_down(run):
    """All receivers are down for 5 s, then answer 500 for 3 s."""
    load = run.load(seconds=200)
    for receiver, _ in run.receivers:
        await receiver.stop()
    await asyncio.sleep(5)
    for receiver, _ in run.receivers:
        receiver.failing = True
        await receiver.start()
    await asyncio.sleep(3)
    for receiver, _ in run.receivers:
        receiver.failing = False
    return await run.finish(load, time.monotonic())


async def clock_jumps(run):
    """The clock jumps an hour ahead, and back, under load; then that hour passes."""
    load = run.load(seconds=200)
    for jump in ("+3600", "-3600", "+0"):
        await asyncio.sleep(2)
        run.suite.clock.write_text(jump)
    await load
    # What was written while it was ahead is due then, and not before.
    run.notes.append(f"{run.missing()} deliveries and {run.due()} items in all waited for the hour")
    run.suite.clock.write_text("+3700")
    return await run.finish(load, time.monotonic())


async def disk_full(run):
    """The embedded stores' disk is full for a while."""
    load = run.load(seconds=200)
    await asyncio.sleep(1)
    filler = run.suite.small_disk / "filler"
    filled = 0
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                filled += file.write(b"\0" * (1 << 16))
        except OSError:
            pass
    await asyncio.sleep(4)
    answers = dict(run.publisher.first_answers)
    filler.unlink()
    run.notes.append(f"{filled >> 20} MiB filled; answers by then {answers}")
    program = run.programs[0]
    if not program.is_running():
        raise Failed("the program ended: " + program.log.read_text()[-500:])
    return await run.finish(load, time.monotonic())


async def two_instances(run):
    """Two instances at once, one of which is killed and comes back."""
    load = run.load(seconds=200)
    for _ in range(3):
        await asyncio.sleep(run.rng.uniform(0.3, 1.5))
        victim = run.rng.choice(run.programs)
        victim.kill()
        await victim.start()
    return await run.finish(load, time.monotonic())


# Nothing but processes of Millrace is disturbed: none has a reason to log an error.
UNDISTURBED = ["none", "kill", "kill_embedded", "terminate", "index_lags", "idle", "two_instances"]
FAULTS = {
    "none": (none, {}),
    "kill": (kill, {}),
    "kill_embedded": (kill, {"embedded": True}),
    "terminate": (terminate, {}),
    "dynamodb_refuses": (dynamodb_refuses, {}),
    "dynamodb_throttles": (dynamodb_throttles, {}),
    "dynamodb_throttles_long": (dynamodb_throttles_long, {}),
    "dynamodb_slow": (dynamodb_slow, {}),
    "dynamodb_loses_answers": (dynamodb_loses_answers, {}),
    "sqs_refuses": (sqs_refuses, {}),
    "sqs_loses_answers": (sqs_loses_answers, {}),
    "queue_lost": (queue_lost, {}),
    "index_lags": (index_lags, {}),
    "idle": (idle, {}),
    "postgres_down": (postgres_down, {}),
    "receivers_down": (receivers_down, {}),
    "clock_jumps": (clock_jumps, {"clock": True}),
    "disk_full": (disk_full, {"embedded": True, "small_disk": True}),
    "two_instances": (two_instances, {"instances": 2}),
}


class Suite:
    """What all faults share."""

    def __init__(self, options):
        self.events, self.rounds, self.seed = options.events, options.rounds, options.seed
        self.clock, self.small_disk = WORK / "clock", WORK / "small-disk"
        self.rows, self.failed = [], False

    async def start(self):
        self.postgres = await asyncio.to_thread(Postgres)
        self.dynamodb, self.sqs = Proxy(MINISTACK), Proxy(MINISTACK)
        await self.dynamodb.start()
        await self.sqs.start()
        self.store, self.queue_service = aws("dynamodb", MINISTACK), aws("sqs", MINISTACK)
        # One for all instances: what one seals, each must open.
        ring = {"primary": "k1", "keys": {"k1": base64.b64encode(secrets.token_bytes(32)).decode()}}
        made = aws("secretsmanager", MINISTACK).create_secret(Name="key-ring", SecretString=json.dumps(ring))
        self.key_ring = made["ARN"]

    async def stop(self):
        await self.dynamodb.stop()
        await self.sqs.stop()
        await asyncio.to_thread(self.postgres.stop)

    def fresh(self, name):
        """Queues and a table that no other fault has touched."""
        name = name.replace("_", "-")
        self.table = f"millrace-{name}"
        self.queues = [self.queue_service.create_queue(
            QueueName=f"{name}-{queue}", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
            for queue in ("fan-out", "deliver")]
        # The program signs for and speaks to whatever its endpoint URL names.
        self.dynamodb.set("pass")
        self.sqs.set("pass")

    async def run(self, name):
        fault, how = FAULTS[name]
        how = dict(how)
        environment = None
        if how.pop("clock", False):
            environment = faked_clock(self.clock)
            if environment is None:
                return self.row(name, "skipped: libfaketime is not installed")
        small = how.pop("small_disk", False)
        if small:
            if not mount_small(self.small_disk):
                return self.row(name, "skipped: a small disk cannot be mounted here")
            environment = {"MILLRACE_DATA_DIR": str(self.small_disk / "data")}
        self.fresh(name)
        rng = random.Random(f"{self.seed} {name}")
        run = Run(self, name, rng, environment=environment, **how)
        try:
            async with run:
                healed = await fault(run)
                if name in UNDISTURBED and (errors := run.errors()):
                    raise Failed(f"{len(errors)} errors in the log, the first: {errors[0]}")
                accepted = len(run.publisher.accepted)
                answers = {str(status): n for status, n in run.publisher.first_answers.items() if status != 202}
                again = f", tries not answered 202: {answers}" if answers else ""
                notes = f" ({'; '.join(run.notes)})" if run.notes else ""
                self.row(name, f"{accepted} accepted, 0 lost, {run.duplicates()} duplicates, "
                               f"healed in {healed:.1f} s{again}{notes}")
        except Failed as failed:
            self.failed = True
            self.row(name, f"FAILED: {failed}")
            for program in run.programs:
                print(f"--- the end of {program.log.name}\n{program.log.read_text()[-4000:]}", file=sys.stderr)
        finally:
            self.dynamodb.set("pass")
            self.sqs.set("pass")
            if small:
                subprocess.run(["umount", "--lazy", self.small_disk], check=False)

    def row(self, name, text):
        self.rows.append((name, text))
        print(f"{name:24} {text}", flush=True)


def faked_clock(file):
    found = [path for path in ("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
                               "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1") if os.path.exists(path)]
    if not found:
        return None
    file.write_text("+0")
    return {"LD_PRELOAD": found[0], "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


def mount_small(path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    path.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m", "chaos", path],
                             stderr=subprocess.DEVNULL, check=False)
    return mounted.returncode == 0


async def main():
    parser = argparse.ArgumentParser(prog="tests/chaos/run")
    parser.add_argument("--events", type=int, default=300, help="published under each fault")
    parser.add_argument("--rounds", type=int, default=8, help="of kill -9")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--list", action="store_true", help="the faults there are")
    parser.add_argument("faults", nargs="*", metavar="FAULT")
    options = parser.parse_args()
    if options.list:
        for name, (fault, _) in FAULTS.items():
            print(f"{name:24} {fault.__doc__}")
        return 0
    unknown = [name for name in options.faults if name not in FAULTS]
    if unknown:
        parser.error(f"no fault {unknown[0]}; there are: {', '.join(FAULTS)}")
    suite = Suite(options)
    print(f"seed {options.seed}, {options.events} events a fault")
    await suite.start()
    try:
        for name in options.faults or FAULTS:
            await suite.run(name)
    finally:
        await suite.stop()
    skipped = sum("skipped" in text for _, text in suite.rows)
    failed = sum("FAILED" in text for _, text in suite.rows)
    print(f"{len(suite.rows) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if suite.failed else 0


sys.exit(asyncio.run(main()))
