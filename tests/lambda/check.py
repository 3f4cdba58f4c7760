"""What tests/lambda/run checks, once everything it needs is running."""
import base64
import http.server
import io
import json
import os
import pathlib
import secrets
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile

import boto3
import samcli

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAYLOADS = ROOT / "tests/it/payloads"
BINARY, MINISTACK, POSTGRES_PORT, WORK = sys.argv[1:]
ADMIN_KEY = "mradmin_" + secrets.token_hex(24)
REGION = "us-east-1"


def client(service):
    return boto3.client(service, endpoint_url=MINISTACK, region_name=REGION,
                        aws_access_key_id="test", aws_secret_access_key="test")


def payload(name):
    return json.loads((PAYLOADS / f"{name}.json").read_text())


def check(what, holds, seen=None):
    if not holds:
        print(f"FAIL {what}: {seen}")
        sys.exit(1)
    print(f"ok   {what}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps webhooks; answers 500 to the first `failing`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Hook)
        self.got, self.failing = [], 0
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((dict(self.headers), json.loads(body)))
        status = 500 if self.server.failing > 0 else 204
        self.server.failing -= 1
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


def secret(name, text):
    return client("secretsmanager").create_secret(Name=name, SecretString=text)["ARN"]


def login(password):
    return json.dumps({"username": "millrace", "password": password, "engine": "postgres"})


def environment():
    """Queues, table and secrets, and the variables that name them."""
    sqs = client("sqs")
    urls = {}
    for name in ("dead", "fan-out", "deliver", "ingest"):
        attributes = {"VisibilityTimeout": "3"}
        if name != "dead":
            arn = sqs.get_queue_attributes(QueueUrl=urls["dead"], AttributeNames=["QueueArn"])
            redrive = {"deadLetterTargetArn": arn["Attributes"]["QueueArn"], "maxReceiveCount": 3}
            attributes["RedrivePolicy"] = json.dumps(redrive)
        urls[name] = sqs.create_queue(QueueName=f"millrace-{name}", Attributes=attributes)["QueueUrl"]
    ring = {"primary": "k1", "keys": {"k1": base64.b64encode(secrets.token_bytes(32)).decode()}}
    env = {
        "MILLRACE_AWS__ENDPOINT_URL": MINISTACK,
        "MILLRACE_AWS__REGION": REGION,
        "MILLRACE_DATABASE__URL": f"postgresql://127.0.0.1:{POSTGRES_PORT}/postgres?sslmode=disable",
        "MILLRACE_DATABASE__SECRET_ARN": secret("login", login("first-password")),
        "MILLRACE_KEY_RING__SECRET_ARN": secret("key-ring", json.dumps(ring)),
        "MILLRACE_ADMIN_KEY_SECRET_ARN": secret("admin-key", ADMIN_KEY),
        "MILLRACE_SQS__FAN_OUT_URL": urls["fan-out"],
        "MILLRACE_SQS__DELIVER_URL": urls["deliver"],
        "MILLRACE_DELIVERY__ALLOW_PRIVATE_TARGETS": "true",
        "MILLRACE_DELIVERY__RETRY_SCHEDULE_S": "0,1,1,1,1",
        "MILLRACE_LOG__FORMAT": "json",
    }
    return env, urls


def process_environment(env):
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "HOME": WORK}
    return {"PATH": os.environ["PATH"], **keys, **env}


class Emulated:
    """The binary under the Runtime Interface Emulator."""

    def __init__(self, env):
        rapid = pathlib.Path(samcli.__file__).parent / "local/rapid/aws-lambda-rie-x86_64"
        emulator = pathlib.Path(WORK) / "aws-lambda-rie"
        emulator.write_bytes(rapid.read_bytes())
        emulator.chmod(0o755)
        port, api = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
        self.log = open(pathlib.Path(WORK) / "emulator.log", "wb")
        self.process = subprocess.Popen(
            [emulator, "--runtime-interface-emulator-address", f"127.0.0.1:{port}",
             "--runtime-api-address", f"127.0.0.1:{api}", "--log-level", "error", BINARY],
            env=process_environment(env), stdout=self.log, stderr=self.log)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return
            except OSError:
                time.sleep(0.1)

    def invoke(self, document):
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        request = urllib.request.Request(self.url, raw, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read() or "null")

    def end(self):
        self.process.terminate()
        self.process.wait(10)


class Function:
    """The binary as the `bootstrap` of a function of ministack."""

    def __init__(self, env, queues):
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            entry = zipfile.ZipInfo("bootstrap")
            entry.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(entry, pathlib.Path(BINARY).read_bytes(), zipfile.ZIP_DEFLATED)
        self.client = client("lambda")
        self.client.create_function(
            FunctionName="millrace", Runtime="provided.al2023", Handler="bootstrap", Timeout=30,
            Role="arn:aws:iam::000000000000:role/millrace", Code={"ZipFile": code.getvalue()},
            Environment={"Variables": env})
        for url in queues:
            arn = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
            self.client.create_event_source_mapping(
                FunctionName="millrace", EventSourceArn=arn["Attributes"]["QueueArn"],
                BatchSize=10, FunctionResponseTypes=["ReportBatchItemFailures"])

    def invoke(self, document):
        response = self.client.invoke(FunctionName="millrace", Payload=json.dumps(document).encode())
        return json.loads(response["Payload"].read() or "null")


def http(method, path, key, body=None):
    document = payload("function_url")
    document["rawPath"], document["rawQueryString"] = path, ""
    document["requestContext"]["http"].update(method=method, path=path)
    document["headers"]["authorization"] = f"Bearer {key}"
    if body is not None:
        document["headers"]["content-type"] = "application/json"
        document["body"] = json.dumps(body)
    return document


def call(function, method, path, key, body=None, status=200):
    answer = function.invoke(http(method, path, key, body))
    check(f"{method} {path} answers {status}", answer.get("statusCode") == status, answer)
    return json.loads(answer["body"])


def until(what, condition, seconds=40):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return check(what, True)
        time.sleep(0.3)
    return check(what, False, "not in time")


def with_key(document, key):
    return json.loads(json.dumps(document).replace("Bearer KEY", f"Bearer {key}"))


def set_up(function):
    """A project and its key, through the function."""
    project = call(function, "POST", "/v1/projects", ADMIN_KEY, {"name": secrets.token_hex(8)}, 201)["id"]
    scopes = ["events:write", "events:read", "endpoints:write", "endpoints:read"]
    made = call(function, "POST", f"/v1/projects/{project}/keys", ADMIN_KEY,
                {"name": "test", "scopes": scopes}, 201)
    return project, made["key"]


def under_the_emulator(env):
    function = Emulated(env)
    project, key = set_up(function)
    function.end()
    function = Emulated({**env, "MILLRACE_INGEST__PROJECT": project})
    for name, status in [("api_gateway_v1", 202), ("api_gateway_v2", 202), ("function_url", 200), ("alb_multi_value", 200)]:
        answer = function.invoke(with_key(payload(name), key))
        check(f"emulator: {name} answers {status}", answer.get("statusCode") == status, answer)
    for name in ("schedule", "event_bridge", "s3", "sns"):
        answer = function.invoke(payload(name))
        check(f"emulator: {name} is done", answer is None, answer)
    answer = function.invoke(payload("sqs"))
    check("emulator: sqs is done", answer == {"batchItemFailures": []}, answer)
    listed = call(function, "GET", "/v1/events", key)["data"]
    check("emulator: seven events are kept", len(listed) == 7, [event["type"] for event in listed])
    for what, raw in [("an unknown payload", b"{}"), ("invalid UTF-8", b'{"a":"\xff"}')]:
        answer = function.invoke(raw)
        check(f"emulator: {what} is an error", "errorType" in answer, answer)
    truncated = payload("api_gateway_v2")
    truncated["body"] = truncated["body"][:13]
    answer = function.invoke(truncated)
    check("emulator: truncated Base64 answers 400", answer.get("statusCode") == 400, answer)
    function.end()


def on_ministack(env, urls):
    receiver, sqs = Receiver(), client("sqs")
    env = {**env, "MILLRACE_SQS__PARKED_URL": urls["dead"]}
    function = Function(env, [urls["fan-out"], urls["deliver"]])
    _, key = set_up(function)
    call(function, "POST", "/v1/endpoints", key, {"url": receiver.url, "event_types": ["*"]}, 201)
    event = call(function, "POST", "/v1/events", key, {"type": "order.paid", "data": {"n": 1}}, 202)
    until("function: the webhook arrives by the queue", lambda: len(receiver.got) == 1)
    headers, body = receiver.got[0]
    check("function: it is the event, signed",
          headers["webhook-id"] == event["id"] and body["type"] == "order.paid" and "webhook-signature" in headers,
          receiver.got)

    receiver.failing = 2
    call(function, "POST", "/v1/events", key, {"type": "order.failed", "data": 1}, 202)
    until("function: a failed attempt is made again", lambda: len(receiver.got) == 4)

    sqs.send_message(QueueUrl=urls["deliver"], MessageBody='{"v":9,"job":"deliver"}')
    dead = []

    def parked():
        found = sqs.receive_message(QueueUrl=urls["dead"], MessageAttributeNames=["All"])
        dead.extend(found.get("Messages", []))
        return bool(dead)

    until("function: what no worker can use is parked", parked)
    reason = dead[0]["MessageAttributes"]["reason"]["StringValue"]
    check("function: with the reason", reason == "unknown version 9", reason)

    # A secret is fetched again at most every five seconds.
    time.sleep(5)
    rotate("second-password")
    call(function, "GET", "/v1/endpoints", key)
    check("function: it logs in anew after a rotation", True)


def rotate(password):
    """Gives the role another password, in the database and in its secret, and ends
    the connections that the old one opened."""
    statement = (f"alter role millrace password '{password}'; "
                 "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() "
                 "and usename = 'millrace' and backend_type = 'client backend'")
    subprocess.run(["psql", "-h", "127.0.0.1", "-p", POSTGRES_PORT, "-U", "millrace", "postgres", "-qAtc", statement],
                   env={**os.environ, "PGPASSWORD": "first-password"}, check=True)
    client("secretsmanager").put_secret_value(SecretId="login", SecretString=login(password))


def failing_ingest(env, urls):
    """A mapped queue whose messages cannot be ingested: they are dead-lettered."""
    sqs = client("sqs")
    arn = sqs.get_queue_attributes(QueueUrl=urls["ingest"], AttributeNames=["QueueArn"])
    client("lambda").create_event_source_mapping(
        FunctionName="millrace", EventSourceArn=arn["Attributes"]["QueueArn"],
        BatchSize=10, FunctionResponseTypes=["ReportBatchItemFailures"])
    sqs.send_message(QueueUrl=urls["ingest"], MessageBody='{"order": 1}')
    bodies = []

    def dead():
        found = sqs.receive_message(QueueUrl=urls["dead"], MaxNumberOfMessages=10)
        bodies.extend(message["Body"] for message in found.get("Messages", []))
        return '{"order": 1}' in bodies

    until("function: what fails again and again is dead-lettered", dead, 60)


def main():
    env, urls = environment()
    migrate = {**env, "MILLRACE_DATA_DIR": f"{WORK}/data"}
    subprocess.run([BINARY, "migrate"], env=process_environment(migrate), check=True)
    under_the_emulator(env)
    on_ministack(env, urls)
    failing_ingest(env, urls)
    print("all well")


main()
