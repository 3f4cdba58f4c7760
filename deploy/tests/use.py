"""Runs Millrace on an applied stack: from an empty database to signed webhooks.

Usage: use.py OUTPUTS.json WORK — the outputs as `terraform output -json` has them,
and a directory for logs. MILLRACE_BIN is the program, DATABASE_DIR the directory of
tests/database; the rest of the environment points at the emulator.

The program is run as ECS would run it: command and environment are those of the
applied task definitions, found by asking the emulator. What is set beside them:

- AWS credentials and ECS_CONTAINER_METADATA_URI_V4, which ECS sets;
- MILLRACE_HTTP__LISTEN, as all tasks are here on one host;
- MILLRACE_DATA_DIR and MILLRACE_LOG__FORMAT, which the image sets.

The load balancer is the emulator's, with the listeners, rules and target groups that
were applied; the function is the applied one, called by it and by its queues.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import http.server
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import boto3

OUTPUTS = {name: output["value"] for name, output in json.load(open(sys.argv[1])).items()}
WORK = pathlib.Path(sys.argv[2])
BINARY = os.environ["MILLRACE_BIN"]
EMULATOR = urllib.parse.urlparse(os.environ["AWS_ENDPOINT_URL"])
ORIGIN_HEADER = "X-Millrace-Origin"


def client(service):
    return boto3.client(service, region_name=OUTPUTS["region"])


def check(what, holds, seen=None):
    assert holds, f"{what}: {seen!r}"
    print(f"use: {what}")


def until(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < end, f"{what}: not in {seconds} s"
        time.sleep(0.3)
    print(f"use: {what}")
    return seen


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- A customer's endpoint -------------------------------------------------


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps the webhooks it gets; answers 500 to the next `failing` of them."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Hook)
        self.got, self.failing = [], 0
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def of(self, event):
        return [webhook for webhook in self.got if webhook[0]["webhook-id"] == event]


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status = 500 if self.server.failing > 0 else 204
        self.server.failing -= 1
        self.server.got.append((self.headers, body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


def signed(webhook, secret):
    """Whether `webhook` is signed with `secret`, as Standard Webhooks has it."""
    headers, body = webhook
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return wanted in headers["webhook-signature"].split(" ")


# --- Tasks, as ECS runs them -----------------------------------------------


def container(family):
    definition = client("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]
    return definition["containerDefinitions"][0]


def environment(family, port=0):
    told = {pair["name"]: pair["value"] for pair in container(family)["environment"]}
    ecs = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4/task",
        # Where nothing can be written: the container's root is read-only.
        "MILLRACE_DATA_DIR": "/proc/nowhere",
        "MILLRACE_LOG__FORMAT": "json",
    }
    return {**ecs, **told, "MILLRACE_HTTP__LISTEN": f"127.0.0.1:{port}"}


def migrate():
    """The one-off task, twice: as the pipeline runs it before every deployment."""
    family = OUTPUTS["ecs"]["migrate"]["family"]
    for _ in range(2):
        done = subprocess.run(
            [BINARY, *container(family)["command"]], env=environment(family), cwd=WORK, timeout=60, capture_output=True, text=True
        )
        assert done.returncode == 0, f"migrate: {done.stdout}{done.stderr}"
    print("use: the migrate task migrates, and again")


def doctor():
    """As scripts/restore-check runs it: the migration's task with another command, and
    with the login of what serves."""
    family = OUTPUTS["ecs"]["migrate"]["family"]
    told = {**environment(family), "MILLRACE_DATABASE__SECRET_ARN": OUTPUTS["secrets"]["app_login"]}
    done = subprocess.run([BINARY, "doctor"], env=told, cwd=WORK, timeout=60, capture_output=True, text=True)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    found = {"ok control-plane database", "ok migrations"} <= set(lines)
    check("the migrate task's doctor sees database and migrations", found, done.stdout + done.stderr)


@contextlib.contextmanager
def task(service):
    """A task of `service`, ready; stopped at the end as ECS stops one."""
    port, log = free_port(), WORK / f"{service}.log"
    family = OUTPUTS["ecs"]["services"][service]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [BINARY, *container(family).get("command", [])], env=environment(family, port), cwd=WORK, stdout=out, stderr=out
        )

    def ready():
        assert process.poll() is None, f"{service} ended with {process.returncode}"
        with contextlib.suppress(OSError):
            return request(("127.0.0.1", port), "GET", "/health/ready")[0] == 200

    try:
        until(f"a task of {service} is ready", ready)
        yield port
        process.send_signal(signal.SIGTERM)
        check(f"the task of {service} drains and ends well", process.wait(container(family)["stopTimeout"]) == 0)
    except BaseException:
        process.kill()
        print(f"--- the end of {service}'s log\n{log.read_text()[-6000:]}", file=sys.stderr)
        raise


@contextlib.contextmanager
def in_rotation(port):
    """Registers a task with the api's target group, as its service would."""
    balancer, group = client("elbv2"), OUTPUTS["target_group_arn"]
    target = [{"Id": "127.0.0.1", "Port": port}]
    balancer.register_targets(TargetGroupArn=group, Targets=target)
    try:
        yield
    finally:
        balancer.deregister_targets(TargetGroupArn=group, Targets=target)


# --- Requests --------------------------------------------------------------


def request(address, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def balanced(method, path, key, body=None, origin=None):
    """A request through the load balancer, on the port that clients use."""
    secure = OUTPUTS["url"].startswith("https:")
    headers = {"Host": f"{OUTPUTS['alb_dns_name']}:{443 if secure else 80}", "Authorization": f"Bearer {key}"}
    if origin:
        headers[ORIGIN_HEADER] = origin
    if body is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(body)
    return request((EMULATOR.hostname, EMULATOR.port), method, path, headers, body)


def origin_secret():
    """What the applied distribution sends to the load balancer, if there is one."""
    cloudfront = client("cloudfront")
    found = cloudfront.list_distributions()["DistributionList"].get("Items", [])
    if not found:
        return None
    config = cloudfront.get_distribution_config(Id=found[0]["Id"])["DistributionConfig"]
    (header,) = config["Origins"]["Items"][0]["CustomHeaders"]["Items"]
    assert header["HeaderName"] == ORIGIN_HEADER, header
    return header["HeaderValue"]


ORIGIN = origin_secret()


def api(method, path, key, body=None, status=200):
    got, answer = balanced(method, path, key, body, ORIGIN)
    assert got == status, f"{method} {path} answers {got}, not {status}: {answer[:2000]!r}"
    return json.loads(answer)


def admin_key():
    return client("secretsmanager").get_secret_value(SecretId=OUTPUTS["secrets"]["admin_key"])["SecretString"]


# --- What is shown ---------------------------------------------------------


def login():
    """Gives the database's user the password of the secret that Terraform made.

    Where RDS would have filled the secret and the emulator has not, it is filled
    here as RDS writes it."""
    manager, arn = client("secretsmanager"), OUTPUTS["secrets"]["database"]
    try:
        text = manager.get_secret_value(SecretId=arn).get("SecretString")
    except manager.exceptions.ResourceNotFoundException:
        text = None
    if text is None:
        text = json.dumps({"username": "millrace", "password": secrets.token_urlsafe(24), "engine": "postgres"})
        manager.put_secret_value(SecretId=arn, SecretString=text)
    known = json.loads(text)
    assert known["username"] == "millrace", known["username"]
    password = known["password"].replace("'", "''")
    database = pathlib.Path(__file__).with_name("database")
    subprocess.run(
        [database, "sql", os.environ["DATABASE_DIR"]], input=f"alter role millrace password '{password}'", text=True, check=True
    )


def only_by_cloudfront():
    if ORIGIN:
        refused = [balanced("GET", "/health/ready", "none", origin=origin)[0] for origin in (None, "another's", ORIGIN[:-1])]
        check("the load balancer refuses what does not come from this CloudFront", refused == [403] * 3, refused)


def customer(receiver):
    """A project with a key and an endpoint: (key, the endpoint's secret)."""
    admin = admin_key()
    status, _ = balanced("POST", "/v1/projects", secrets.token_hex(32), {"name": "x"}, ORIGIN)
    check("a wrong admin key is refused", status == 401, status)
    project = api("POST", "/v1/projects", admin, {"name": secrets.token_hex(8)}, 201)["id"]
    scopes = ["events:write", "events:read", "endpoints:write", "endpoints:read"]
    key = api("POST", f"/v1/projects/{project}/keys", admin, {"name": "use", "scopes": scopes}, 201)["key"]
    endpoint = api("POST", "/v1/endpoints", key, {"url": receiver.url, "event_types": ["*"]}, 201)
    secret = endpoint["secret"]
    return key, secret if isinstance(secret, str) else secret["secret"]


def delivered(by, receiver, key, secret, failing=0):
    """Publishes an event and sees it arrive, after `failing` attempts in vain."""
    receiver.failing = failing
    event = api("POST", "/v1/events", key, {"type": "order.paid", "data": {"by": by}}, 202)["id"]
    arrived = until(
        f"{by}: the webhook arrives" + (f", {failing} failed before" if failing else ""),
        lambda: len(found := receiver.of(event)) > failing and found,
    )
    check(f"{by}: it is signed", all(signed(webhook, secret) for webhook in arrived))
    check(f"{by}: it is the event", json.loads(arrived[-1][1])["data"] == {"by": by}, arrived[-1][1])


def parked(by):
    """A message that no worker can use ends in the queue for those."""
    sqs = client("sqs")
    queue = sqs.get_queue_url(QueueName=f"{OUTPUTS['ecs']['cluster']}-parked")["QueueUrl"]
    sqs.send_message(QueueUrl=OUTPUTS["queues"]["deliver"]["url"], MessageBody='{"v":9,"job":"deliver"}')

    def found():
        answer = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"], WaitTimeSeconds=1)
        return answer.get("Messages")

    (message,) = until(f"{by}: what cannot be used is parked", found)
    check(f"{by}: with the reason", message["MessageAttributes"]["reason"]["StringValue"] == "unknown version 9", message)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def mappings(**wanted):
    """The function's mappings by queue, after setting `wanted`."""
    functions, result = client("lambda"), {}
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        if wanted:
            functions.update_event_source_mapping(UUID=mapping["UUID"], **wanted)
        result[mapping["EventSourceArn"].rsplit("-", 1)[-1]] = mapping
    return result


def jobs_of(by, receiver, key, secret):
    """What workers do, whoever they are."""
    delivered(by, receiver, key, secret)
    parked(by)


def by_worker(receiver, key, secret):
    """The worker's task, with the function's queues held back meanwhile."""
    mappings(Enabled=False)
    with task("worker"):
        jobs_of("worker", receiver, key, secret)
        delivered("worker", receiver, key, secret, failing=1)
    mappings(Enabled=True)


def by_function(receiver, key, secret):
    jobs_of("function", receiver, key, secret)

    def found():
        # Set when the function has answered, which is after the webhook has arrived.
        said = mappings()["deliver"]["LastProcessingResult"]
        return None if said == "No records processed" else said

    result = until("function: the queue was answered", found)
    check("function: the queue called it", result.startswith("OK") and "partial" not in result, result)


def main():
    receiver, services, function = Receiver(), OUTPUTS["ecs"]["services"], OUTPUTS.get("lambda")
    login()
    migrate()
    doctor()
    with contextlib.ExitStack() as running:
        if services:
            port = running.enter_context(task("api"))
            running.enter_context(in_rotation(port))
        only_by_cloudfront()
        key, secret = customer(receiver)
        if services:
            by_worker(receiver, key, secret)
        if function:
            by_function(receiver, key, secret)
    doers = [*services, *(["function"] if function else [])]
    print(f"use: passed by {', '.join(doers)} with {len(receiver.got)} webhooks")


main()
