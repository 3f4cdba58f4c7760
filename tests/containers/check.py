"""What tests/containers/run checks, once the images are there."""
import base64
import concurrent.futures
import http.client
import http.server
import json
import os
import pathlib
import re
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import boto3
import samcli

from balancer import Balancer

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRYING, WORK = sys.argv[1], pathlib.Path(os.environ["WORK"])
IMAGE, RUNTIME = "millrace-test", "millrace-runtime"
REGION = "us-east-1"
ADMIN_KEY = "mradmin_" + secrets.token_hex(24)
# ECS's agent answers its tasks at this address, and so does a container here.
AGENT, NETWORK = "169.254.170.2", "169.254.170.0/24"
CREDENTIALS = "/v2/credentials/" + secrets.token_hex(8)
AGENT_PROGRAM = """
import http.server, sys
class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path == sys.argv[1]
        self.send_response(200 if known else 404)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(sys.argv[2].encode() if known else b"")
http.server.ThreadingHTTPServer(("", 80), Agent).serve_forever()
"""
SUFFIX = secrets.token_hex(4)
started = []


def check(what, holds, seen=None):
    if not holds:
        print(f"FAIL {what}: {seen}", flush=True)
        sys.exit(1)
    print(f"ok   {what}", flush=True)


def until(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return check(what, True)
        time.sleep(0.2)
    return check(what, False, "not in time")


def docker(*arguments, check=True):
    ended = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    if check and ended.returncode != 0:
        sys.exit(f"docker {' '.join(arguments)}: {ended.stderr}")
    return ended.stdout.strip()


def environment(variables):
    return [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]


class Container:
    """A container, and its port on loopback if it has one."""

    def __init__(self, image, *command, options=(), env=(), port=None, name=None):
        self.port = port
        publish = ["--publish", f"127.0.0.1::{port}"] if port else []
        alias = ["--name", f"{name}-{SUFFIX}", "--network-alias", name] if name else []
        network = [] if "--network" in options else ["--network", f"millrace-{SUFFIX}"]
        self.id = docker("run", "--detach", *network, *alias, *publish, *options,
                         *environment(dict(env)), image, *command)
        started.append(self.id)

    def address(self):
        said = docker("port", self.id, f"{self.port}/tcp").splitlines()[0]
        return "127.0.0.1", int(said.rsplit(":", 1)[1])

    def url(self):
        return "http://%s:%d" % self.address()

    def logs(self):
        ended = subprocess.run(["docker", "logs", self.id], capture_output=True, text=True)
        return ended.stdout + ended.stderr

    def is_running(self):
        return docker("inspect", "--format", "{{.State.Running}}", self.id) == "true"

    def stop(self, seconds):
        """SIGTERM, and SIGKILL after so many seconds; its exit code and what it took."""
        begun = time.monotonic()
        docker("stop", "--time", str(seconds), self.id)
        return int(docker("inspect", "--format", "{{.State.ExitCode}}", self.id)), time.monotonic() - begun


class Server(http.server.ThreadingHTTPServer):
    """Keeps what it is sent, by path."""

    request_queue_size = 64
    daemon_threads = True

    def __init__(self, host):
        super().__init__((host, 0), Keep)
        self.got, self.slow = [], 0
        self.url = f"http://{host}:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def at(self, path):
        return [(headers, body) for at, headers, body in list(self.got) if at == path]


class Keep(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def keep(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        time.sleep(self.server.slow)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.got.append((self.path, headers, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    do_POST = keep

    def log_message(self, *_):
        pass


def ask(url, method, path, key, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, method=method, headers={
        "authorization": f"Bearer {key}", "content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=40) as response:
            return response.status, json.loads(response.read() or "null")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def answered(url, what, status, *request):
    got, answer = ask(url, *request)
    check(what, got == status, (got, answer))
    return answer


def metrics(log):
    """The metric lines of a log, in CloudWatch's embedded format."""
    lines = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    return [line for line in lines if "_aws" in line]


def trace_of(headers):
    return bytes.fromhex(headers["traceparent"].split("-")[1])


class Stack:
    """What is there before Millrace: network, ECS's agent, stores, secrets, queues, and
    this process as X-Ray and a customer."""

    def __init__(self):
        docker("network", "create", "--subnet", NETWORK, f"millrace-{SUFFIX}")
        credentials = {"AccessKeyId": "test", "SecretAccessKey": "test", "Token": "test", "RoleArn": "role",
                       "Expiration": "2099-01-01T00:00:00Z"}
        self.agent = Container(os.environ["MINISTACK"], "-c", AGENT_PROGRAM, CREDENTIALS, json.dumps(credentials),
                               options=("--ip", AGENT, "--entrypoint", "python3"), name="agent")
        # A webhook goes to no link-local address, whatever is allowed.
        bridge = json.loads(docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]
        self.host = bridge.get("Gateway", "172.17.0.1")
        self.customer = Server(self.host)
        self.hook = self.customer.url + "/hook"
        ministack = Container(os.environ["MINISTACK"], name="aws", port=4566)
        Container(os.environ["POSTGRES"], "-c", "fsync=off", name="database",
                  env={"POSTGRES_PASSWORD": "owner"})
        self.aws_url = ministack.url()
        until("the emulator of AWS answers", lambda: self.is_up("/_ministack/health"))

    def is_up(self, path):
        try:
            return urllib.request.urlopen(self.aws_url + path, timeout=2).status == 200
        except OSError:
            return False

    def client(self, service):
        return boto3.client(service, endpoint_url=self.aws_url, region_name=REGION,
                            aws_access_key_id="test", aws_secret_access_key="test")

    def secret(self, name, value):
        return self.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(value)
                                                           if isinstance(value, dict) else value)["ARN"]

    def queue(self, name):
        sqs = self.client("sqs")
        url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "5"})["QueueUrl"]
        return url, "http://aws:4566/" + url.split("/", 3)[3]

    def task_environment(self):
        """As deploy/ecs.tf has it, with the emulator in place of AWS."""
        ring = {"primary": "k1", "keys": {"k1": base64.b64encode(secrets.token_bytes(32)).decode()}}
        login = {"username": "millrace_app", "password": "app"}
        self.queues = {name: self.queue(name) for name in ("fan-out", "deliver", "ingest", "parked")}
        return {
            "ECS_CONTAINER_METADATA_URI_V4": f"http://{AGENT}/v4/task",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": CREDENTIALS,
            "AWS_REGION": REGION,
            "MILLRACE_AWS__ENDPOINT_URL": "http://aws:4566",
            "MILLRACE_DATABASE__URL": "postgresql://database/postgres?sslmode=disable",
            "MILLRACE_DATABASE__CA_FILE": "/etc/ssl/certs/rds.pem",
            "MILLRACE_DATABASE__SECRET_ARN": self.secret("login", login),
            "MILLRACE_KEY_RING__SECRET_ARN": self.secret("key-ring", ring),
            "MILLRACE_ADMIN_KEY_SECRET_ARN": self.secret("admin-key", ADMIN_KEY),
            "MILLRACE_SQS__FAN_OUT_URL": self.queues["fan-out"][1],
            "MILLRACE_SQS__DELIVER_URL": self.queues["deliver"][1],
            "MILLRACE_SQS__INGEST_URL": self.queues["ingest"][1],
            "MILLRACE_SQS__PARKED_URL": self.queues["parked"][1],
            "MILLRACE_HTTP__TRUSTED_PROXIES": json.dumps([NETWORK]),
            "MILLRACE_TELEMETRY__TRACES": "xray",
            "MILLRACE_TELEMETRY__OTLP_URL": f"{self.customer.url}/v1/traces",
            "MILLRACE_TELEMETRY__SAMPLE_RATIO": "1",
            "MILLRACE_TELEMETRY__METRICS_INTERVAL_S": "1",
            "MILLRACE_DELIVERY__ALLOW_PRIVATE_TARGETS": "true",
        }

    def traces(self):
        return self.customer.at("/v1/traces")


# What a task definition says of its container, and no more than Fargate gives one.
TASK = ("--read-only", "--init", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
STOP_TIMEOUT_S = 35


def task(env, handlers):
    return Container(IMAGE, options=TASK, port=8080, env={**env, "MILLRACE_HANDLERS": json.dumps(handlers)})


def the_image_itself():
    config = json.loads(docker("image", "inspect", IMAGE))[0]["Config"]
    check("image: its user is none with a name or rights", config["User"] == "65532:65532", config["User"])
    check("image: it starts the program and no shell", config["Entrypoint"] == ["/usr/local/bin/millrace"], config)
    held = docker("create", IMAGE)
    started.append(held)
    for path in ("/bin/sh", "/usr/bin/bash", "/bin/busybox"):
        there = subprocess.run(["docker", "cp", f"{held}:{path}", str(WORK / "shell")], capture_output=True)
        check(f"image: there is no {path}", there.returncode != 0)
    docker("cp", f"{held}:/etc/ssl/certs/rds.pem", str(WORK / "rds.pem"))
    same = (WORK / "rds.pem").read_bytes() == (ROOT / "deploy/rds-global-bundle.pem").read_bytes()
    check("image: the authorities of RDS are in it", same)
    check("image: for anybody to read", (WORK / "rds.pem").stat().st_mode & 0o444 == 0o444)
    docker("cp", f"{held}:/usr/local/bin/millrace", str(WORK / "millrace"))
    check("image: the binary names its crates", b".dep-v0" in (WORK / "millrace").read_bytes())


def migrated(stack, env):
    """The one-off task, with the owner's login and no secret of Millrace's own."""
    owner = stack.secret("owner", {"username": "postgres", "password": "owner"})
    unused = ("MILLRACE_KEY_RING__SECRET_ARN", "MILLRACE_ADMIN_KEY_SECRET_ARN")
    env = {name: value for name, value in env.items() if name not in unused}
    env |= {"MILLRACE_DATABASE__APP_SECRET_ARN": env["MILLRACE_DATABASE__SECRET_ARN"],
            "MILLRACE_DATABASE__SECRET_ARN": owner}

    def ends_well():
        ran = Container(IMAGE, "migrate", options=TASK, env=env)
        code = docker("wait", ran.id)
        return code == "0" or print(ran.logs()[-600:])

    until("ecs: the one-off task migrates", ends_well)
    check("ecs: with the credentials of the task's role", CREDENTIALS in stack.agent.logs())


def as_ecs(stack, env):
    """Two tasks of the API behind a load balancer, and a worker."""
    balancer = Balancer()
    tasks = [task(env, ["http"]) for _ in range(2)]
    targets = [balancer.register(one.address()) for one in tasks]
    worker = task(env, ["fan_out", "deliver", "ingest", "sweep", "meter"])
    until("ecs: the load balancer finds both tasks healthy", lambda: all(t.healthy for t in targets) or dead(tasks))
    url = balancer.url
    project = answered(url, "ecs: a project is made", 201, "POST", "/v1/projects", ADMIN_KEY, {"name": "ecs"})["id"]
    scopes = ["events:write", "events:read", "endpoints:write", "endpoints:read"]
    made = answered(url, "ecs: and a key", 201, "POST", f"/v1/projects/{project}/keys", ADMIN_KEY,
                    {"name": "test", "scopes": scopes})
    key = made["key"]
    answered(url, "ecs: and an endpoint", 201, "POST", "/v1/endpoints", key,
             {"url": stack.hook, "event_types": ["order.*"]})
    # The other task may know the project without its endpoint for some seconds.
    accepted = []

    def publish():
        status, answer = ask(url, "POST", "/v1/events", key, {"type": "order.paid", "data": {"n": 1}})
        accepted.append(answer)
        return status == 202 and answer["matched"] == 1

    until("ecs: an event is accepted for the endpoint", publish)
    event = accepted[-1]
    hooks = lambda: [got for got in stack.customer.at("/hook") if got[0]["webhook-id"] == event["id"]]
    until("ecs: its webhook arrives", hooks)
    headers, body = hooks()[0]
    check("ecs: signed, and the event", headers["webhook-id"] == event["id"]
          and "webhook-signature" in headers and json.loads(body)["type"] == "order.paid", headers)
    until("ecs: the worker's metrics are in its log", lambda: metrics(worker.logs()))
    until("ecs: and the API's in theirs", lambda: all(metrics(one.logs()) for one in tasks))
    trace = trace_of(headers)
    until("ecs: the webhook's trace is exported", lambda: any(trace in body for _, body in stack.traces()))
    signed = [headers for headers, _ in stack.traces() if headers.get("authorization", "").startswith("AWS4-HMAC-SHA256")]
    check("ecs: signed for X-Ray", len(signed) == len(stack.traces()))
    ended_under_load(stack, balancer, tasks, targets, worker, key, env)
    return key


def dead(containers):
    for one in containers:
        if not one.is_running():
            sys.exit(f"a task ended: {one.logs()[-2000:]}")
    return False


def ended_under_load(stack, balancer, tasks, targets, worker, key, env):
    """A deployment takes a task and the worker away while events come in. ECS says
    SIGTERM and the load balancer hears of it in a while."""
    stack.customer.got.clear()
    stack.customer.slow = 0.05
    enough, statuses = threading.Event(), []

    def publish(n):
        while not enough.is_set():
            statuses.append(ask(balancer.url, "POST", "/v1/events", key, {"type": "order.paid", "data": n}))

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        publishing = [pool.submit(publish, n) for n in range(4)]
        until("ecs: deliveries are under way", lambda: len(stack.customer.at("/hook")) >= 20)
        ended = [pool.submit(one.stop, STOP_TIMEOUT_S) for one in (tasks[0], worker)]
        time.sleep(1)
        targets[0].deregistered = True
        (code, took), (worker_code, worker_took) = [future.result() for future in ended]
        after = len(statuses)
        until("ecs: the other task goes on alone", lambda: len(statuses) > after + 5)
        enough.set()
        [future.result() for future in publishing]
    check("ecs: the task ends within its stop timeout", code == 0 and took < STOP_TIMEOUT_S, (code, took))
    check("ecs: so does the worker", worker_code == 0 and worker_took < STOP_TIMEOUT_S, (worker_code, worker_took))
    print(f"     in {took:.1f} s and {worker_took:.1f} s")
    wrong = [status for status in statuses if status[0] != 202]
    check(f"ecs: of {len(statuses)} requests none fails", not wrong, wrong[:3])
    ids = {answer["id"] for _, answer in statuses if answer["matched"] == 1}
    check("ecs: most are for the endpoint", len(ids) > len(statuses) / 2, len(ids))
    next_worker = task(env, ["fan_out", "deliver", "ingest", "sweep", "meter"])
    stack.customer.slow = 0
    balancer.ended.set()
    arrived = lambda: {headers["webhook-id"] for headers, _ in stack.customer.at("/hook")}
    until("ecs: the next worker delivers the rest", lambda: arrived() >= ids or dead([next_worker]), 120)
    for one in (tasks[1], next_worker):
        code, took = one.stop(STOP_TIMEOUT_S)
        check("ecs: an idle one ends at once", code == 0 and took < 15, (code, took, one.logs()[-500:]))


# --- Lambda ----------------------------------------------------------------


class Function(Container):
    """The image under the Runtime Interface Emulator, on a disk it cannot write to
    and as a user who is nobody in it, as on Lambda."""

    def __init__(self, env):
        emulator = WORK / "aws-lambda-rie"
        emulator.write_bytes((pathlib.Path(samcli.__file__).parent / "local/rapid/aws-lambda-rie-x86_64").read_bytes())
        emulator.chmod(0o755)
        WORK.chmod(0o755)
        super().__init__(
            IMAGE, "/usr/local/bin/millrace", port=8080, env=env,
            options=("--read-only", "--tmpfs", "/tmp:mode=1777", "--user", "993:990", "--cap-drop", "ALL",
                     "--volume", f"{emulator}:/aws-lambda/aws-lambda-rie:ro",
                     "--entrypoint", "/aws-lambda/aws-lambda-rie"))

    def invoke(self, document):
        url = self.url() + "/2015-03-31/functions/function/invocations"
        request = urllib.request.Request(url, json.dumps(document).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read() or "null")


def http_payload(method, path, key, body):
    document = json.loads((ROOT / "tests/it/payloads/function_url.json").read_text())
    document["rawPath"], document["rawQueryString"] = path, ""
    document["requestContext"]["http"].update(method=method, path=path)
    document["headers"] |= {"authorization": f"Bearer {key}", "content-type": "application/json"}
    document["body"] = json.dumps(body)
    return document


def sqs_payload(message, arn):
    document = json.loads((ROOT / "tests/it/payloads/sqs.json").read_text())
    record = document["Records"][0]
    record |= {"messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"],
               "body": message["Body"], "attributes": message["Attributes"],
               "eventSourceARN": arn, "messageAttributes": {}}
    return {"Records": [record]}


def as_lambda(stack, env, key):
    """A request and the jobs it leaves, each as the payload of an event source."""
    task_only = ("ECS_CONTAINER_METADATA_URI_V4", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    env = {name: value for name, value in env.items() if name not in task_only}
    env |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "test"}
    stack.customer.got.clear()
    function = Function(env)
    answers = []

    def publish():
        try:
            answers.append(function.invoke(http_payload("POST", "/v1/events", key, {"type": "order.lambda", "data": 1})))
        except OSError:
            return False
        return True

    until("lambda: the function is invoked", publish)
    check("lambda: an event is accepted", answers[0].get("statusCode") == 202, answers)
    event = json.loads(answers[0]["body"])
    sqs = stack.client("sqs")

    def poll():
        for url, _ in (stack.queues["fan-out"], stack.queues["deliver"]):
            arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            for message in sqs.receive_message(QueueUrl=url, AttributeNames=["All"]).get("Messages", []):
                answer = function.invoke(sqs_payload(message, arn))
                check("lambda: a job of the queue is done", answer == {"batchItemFailures": []}, answer)
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [got for got in stack.customer.at("/hook") if got[0]["webhook-id"] == event["id"]]

    until("lambda: its webhook arrives", poll)
    headers, _ = poll()[0]
    check("lambda: signed", "webhook-signature" in headers, headers)
    until("lambda: the metrics are in its log", lambda: metrics(function.logs()))
    until("lambda: its trace is exported", lambda: any(trace_of(headers) in body for _, body in stack.traces()))


# --- Trying ----------------------------------------------------------------


def as_somebody_tries_it(stack):
    """One `docker run`, and the README's first curl. The binary with its stores inside
    is the one the tests have built, where the image's own build would add minutes."""
    container = Container(RUNTIME, options=("--network", "bridge", "--volume", f"{TRYING}:/usr/local/bin/millrace:ro"), port=8080)
    answers = lambda: b"ready" in (read(container.url() + "/health/ready") or b"")
    until("trying: one docker run, and it is up", lambda: answers() or dead([container]), 120)
    docker("cp", f"{container.id}:/home/nonroot/data/first-api-key", str(WORK / "key"))
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"```sh\n(ENDPOINT_ID=.*?)```", readme, re.S)[1]
    stack.customer.got.clear()
    block = block.replace("http://127.0.0.1:8080", container.url()).replace("http://127.0.0.1:9000/", stack.hook)
    env = {**os.environ, "MILLRACE_KEY": (WORK / "key").read_text().strip()}
    ran = subprocess.run(["bash", "-euc", block], env=env, capture_output=True, text=True)
    check("trying: the README's first curl publishes", '"matched":1' in ran.stderr.replace(" ", ""), ran.stderr)
    until("trying: its webhook arrives", lambda: b"Ada" in b"".join(body for _, body in stack.customer.at("/hook")))
    key = docker("exec", container.id, "/usr/local/bin/millrace", "keys", "create")
    check("trying: another key is had as the guide says", "mr_" in key, key)
    code, took = container.stop(30)
    check("trying: it ends when told", code == 0 and took < 30, (code, took))


def read(url):
    try:
        return urllib.request.urlopen(url, timeout=5).read()
    except (OSError, http.client.HTTPException):
        return None


def main():
    try:
        the_image_itself()
        stack = Stack()
        env = stack.task_environment()
        migrated(stack, env)
        key = as_ecs(stack, env)
        as_lambda(stack, env, key)
        as_somebody_tries_it(stack)
        print("all well")
    except SystemExit:
        for one in started:
            ended = subprocess.run(["docker", "logs", "--tail", "15", one], capture_output=True, text=True)
            print(f"--- {one[:12]}\n{ended.stdout}{ended.stderr}", flush=True)
        raise
    finally:
        docker("rm", "--force", "--volumes", *started, check=False)
        docker("network", "rm", f"millrace-{SUFFIX}", check=False)


main()
