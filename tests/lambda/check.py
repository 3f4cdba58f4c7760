"""What tests/lambda/run checks, once everything it needs is running."""
import base64
import collections
import concurrent.futures
import http.server
import io
import json
import os
import pathlib
import secrets
import signal
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
    """Keeps webhooks; answers 500 to the first `failing`, all after `slow` s."""

    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Hook)
        self.got, self.failing, self.slow = [], 0, 0
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        time.sleep(self.server.slow)
        self.server.got.append((dict(self.headers), json.loads(body)))
        status = 500 if self.server.failing > 0 else 204
        self.server.failing -= 1
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


def secret(name, text):
    return client("secretsmanager").create_secret(Name=name, SecretString=text)["ARN"]


def login(username, password):
    return json.dumps({"username": username, "password": password, "engine": "postgres"})


def queue_arn(url):
    attributes = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return attributes["Attributes"]["QueueArn"]


def queues(prefix):
    """Queues that are `prefix`'s own, and the variables that name those of jobs."""
    urls = {}
    for name in ("dead", "fan-out", "deliver", "ingest"):
        attributes = {"VisibilityTimeout": "3"}
        if name != "dead":
            redrive = {"deadLetterTargetArn": queue_arn(urls["dead"]), "maxReceiveCount": 3}
            attributes["RedrivePolicy"] = json.dumps(redrive)
        made = client("sqs").create_queue(QueueName=f"{prefix}-{name}", Attributes=attributes)
        urls[name] = made["QueueUrl"]
    return urls, {
        "MILLRACE_SQS__FAN_OUT_URL": urls["fan-out"],
        "MILLRACE_SQS__DELIVER_URL": urls["deliver"],
    }


def environment():
    """Secrets, and the variables that name what all the processes have."""
    ring = {"primary": "k1", "keys": {"k1": base64.b64encode(secrets.token_bytes(32)).decode()}}
    return {
        "MILLRACE_AWS__ENDPOINT_URL": MINISTACK,
        "MILLRACE_AWS__REGION": REGION,
        "MILLRACE_DATABASE__URL": f"postgresql://localhost:{POSTGRES_PORT}/postgres?sslmode=verify-full",
        "MILLRACE_DATABASE__CA_FILE": f"{WORK}/ca.pem",
        "MILLRACE_DATABASE__SECRET_ARN": secret("login", login("millrace_app", "first-app-password")),
        "MILLRACE_KEY_RING__SECRET_ARN": secret("key-ring", json.dumps(ring)),
        "MILLRACE_ADMIN_KEY_SECRET_ARN": secret("admin-key", ADMIN_KEY),
        "MILLRACE_DELIVERY__ALLOW_PRIVATE_TARGETS": "true",
        "MILLRACE_DELIVERY__RETRY_SCHEDULE_S": "0,1,1,1,1",
        "MILLRACE_LOG__FORMAT": "json",
    }


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


class Container:
    """The binary as ECS runs it."""

    def __init__(self, name, env):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = open(pathlib.Path(WORK) / f"{name}.log", "ab")
        ecs = {"ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:1",
               "MILLRACE_HTTP__LISTEN": f"127.0.0.1:{port}"}
        self.process = subprocess.Popen([BINARY], env=process_environment({**env, **ecs}),
                                        stdout=self.log, stderr=self.log, cwd=WORK)
        for _ in range(200):
            try:
                if self.request("GET", "/health", "")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{name} does not answer")

    def request(self, method, path, key, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method, headers={
            "authorization": f"Bearer {key}", "content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "null")

    def end(self):
        """Ends it by SIGTERM; its exit code and the seconds it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40), time.monotonic() - begun


class Function:
    """The binary as the `bootstrap` of a function of ministack."""

    def __init__(self, name, env, queues):
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            entry = zipfile.ZipInfo("bootstrap")
            entry.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(entry, pathlib.Path(BINARY).read_bytes(), zipfile.ZIP_DEFLATED)
        self.client, self.name = client("lambda"), name
        self.client.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Timeout=30,
            Role="arn:aws:iam::000000000000:role/millrace", Code={"ZipFile": code.getvalue()},
            Environment={"Variables": env})
        for url in queues:
            self.client.create_event_source_mapping(
                FunctionName=name, EventSourceArn=queue_arn(url),
                BatchSize=10, FunctionResponseTypes=["ReportBatchItemFailures"])

    def invoke(self, document):
        response = self.client.invoke(FunctionName=self.name, Payload=json.dumps(document).encode())
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


def answered(answer, what, status):
    check(what, answer.get("statusCode") == status, answer)
    return json.loads(answer["body"])


def call(function, method, path, key, body=None, status=200):
    answer = function.invoke(http(method, path, key, body))
    return answered(answer, f"{method} {path} answers {status}", status)


def until(what, condition, seconds=40):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return check(what, True)
        time.sleep(0.3)
    return check(what, False, "not in time")


def with_key(document, key):
    return json.loads(json.dumps(document).replace("Bearer KEY", f"Bearer {key}"))


def set_up(request):
    """A project and its key; `request` sends one and gives the 201's body."""
    project = request("POST", "/v1/projects", {"name": secrets.token_hex(8)})["id"]
    scopes = ["events:write", "events:read", "endpoints:write", "endpoints:read"]
    return project, request("POST", f"/v1/projects/{project}/keys", {"name": "test", "scopes": scopes})["key"]


REQUESTS = [("api_gateway_v1", 202), ("api_gateway_v2", 202), ("function_url", 200),
            ("alb", 200), ("alb_multi_value", 200)]


def every_payload(where, function, key):
    for name, status in REQUESTS:
        answered(function.invoke(with_key(payload(name), key)), f"{where}: {name} answers {status}", status)
    for name in ("schedule", "event_bridge", "s3", "sns"):
        answer = function.invoke(payload(name))
        check(f"{where}: {name} is done", answer is None, answer)
    answer = function.invoke(payload("sqs"))
    check(f"{where}: sqs is done", answer == {"batchItemFailures": []}, answer)
    listed = call(function, "GET", "/v1/events", key)["data"]
    check(f"{where}: seven events are kept", len(listed) == 7, [event["type"] for event in listed])


def under_the_emulator(env):
    _, jobs = queues("emulator")
    function = Emulated({**env, **jobs})
    project, key = set_up(lambda *request: call(function, *request[:2], ADMIN_KEY, request[2], 201))
    function.end()
    function = Emulated({**env, **jobs, "MILLRACE_INGEST__PROJECT": project})
    every_payload("emulator", function, key)
    answer = function.invoke(b"{}")
    check("emulator: an unknown payload is one by name",
          answer.get("errorType") == "Millrace.UnreadablePayload", answer)
    answer = function.invoke(b'{"a":"\xff"}')
    check("emulator: so is invalid UTF-8", answer.get("errorType") == "&lambda_runtime::deserializer::DeserializeError", answer)
    truncated = payload("api_gateway_v2")
    truncated["body"] = truncated["body"][:13]
    answered(function.invoke(truncated), "emulator: truncated Base64 answers 400", 400)
    function.end()


def as_containers(env):
    """An API and a worker on ECS, with queues between them."""
    urls, jobs = queues("container")
    env = {**env, **jobs, "MILLRACE_SQS__PARKED_URL": urls["dead"]}
    api = Container("api", {**env, "MILLRACE_HANDLERS": "http"})

    def created(method, path, body, key=ADMIN_KEY):
        status, answer = api.request(method, path, key, body)
        check(f"container: {method} {path.split('/')[-1]}", status in (201, 202), answer)
        return answer

    project, key = set_up(created)
    working = {**env, "MILLRACE_HANDLERS": "fan_out,deliver,ingest,sweep",
               "MILLRACE_SQS__INGEST_URL": urls["ingest"], "MILLRACE_INGEST__PROJECT": project}
    worker = Container("worker", working)
    check("container: a worker serves no API", worker.request("GET", "/v1/events", key)[0] == 404)
    check("container: and is ready", worker.request("GET", "/health/ready", key)[0] == 200)
    receiver = Receiver()
    created("POST", "/v1/endpoints", {"url": receiver.url, "event_types": ["order.*"]}, key)
    event = created("POST", "/v1/events", {"type": "order.paid", "data": {"n": 1}}, key)
    until("container: the webhook arrives by the queue", lambda: len(receiver.got) == 1)
    headers, body = receiver.got[0]
    check("container: it is the event, signed",
          headers["webhook-id"] == event["id"] and "webhook-signature" in headers, receiver.got)
    client("sqs").send_message(QueueUrl=urls["ingest"], MessageBody='{"order": 7}')
    kept = lambda: [e["type"] for e in api.request("GET", "/v1/events", key)[1]["data"]]
    until("container: a message of the ingest queue is an event",
          lambda: "com.amazonaws.sqs.message" in kept())

    # Told to end under load, it finishes what runs and gives back the rest.
    receiver.got, receiver.slow = [], 0.05
    publish = lambda n: api.request("POST", "/v1/events", key, {"type": "order.paid", "data": n})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        published = [pool.submit(publish, n) for n in range(300)]
        until("container: deliveries are under way", lambda: len(receiver.got) >= 50)
        code, took = worker.end()
        check("container: it ends under load", code == 0 and took < 30, (code, took))
        accepted = [future.result() for future in published]
    check("container: all are accepted", all(status == 202 for status, _ in accepted))
    check("container: with work left", len(receiver.got) < 300, len(receiver.got))
    worker = Container("worker", working)
    until("container: the next one delivers the rest", lambda: len(receiver.got) >= 300, 90)
    times = collections.Counter(headers["webhook-id"] for headers, _ in receiver.got)
    ids = {answer["id"] for _, answer in accepted}
    check("container: each once", set(times) == ids and set(times.values()) == {1},
          [id for id, count in times.items() if count != 1])
    for name, process in (("API", api), ("worker", worker)):
        code, took = process.end()
        check(f"container: an idle {name} ends", code == 0 and took < 5, (code, took))
        print(f"     in {took:.2f} s")
    return project, key


def on_ministack(env, project, key):
    receiver, sqs = Receiver(), client("sqs")
    urls, jobs = queues("function")
    env = {**env, **jobs}
    parking = {"MILLRACE_SQS__PARKED_URL": urls["dead"], "MILLRACE_INGEST__PROJECT": project}
    function = Function("millrace", {**env, **parking}, [urls["fan-out"], urls["deliver"]])
    call(function, "POST", "/v1/endpoints", key, {"url": receiver.url, "event_types": ["function.*"]}, 201)
    event = call(function, "POST", "/v1/events", key, {"type": "function.a", "data": {"n": 1}}, 202)
    until("function: the webhook arrives by the queue", lambda: len(receiver.got) == 1)
    headers, body = receiver.got[0]
    check("function: it is the event, signed",
          headers["webhook-id"] == event["id"] and body["type"] == "function.a" and "webhook-signature" in headers,
          receiver.got)

    receiver.failing = 2
    call(function, "POST", "/v1/events", key, {"type": "function.b", "data": 1}, 202)
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
    return function


def payloads_on_ministack(env):
    """Every payload, to a function of a project of its own."""
    _, jobs = queues("payloads")
    first = Function("set-up", {**env, **jobs}, [])
    project, key = set_up(lambda *request: call(first, *request[:2], ADMIN_KEY, request[2], 201))
    function = Function("payloads", {**env, **jobs, "MILLRACE_INGEST__PROJECT": project}, [])
    every_payload("function", function, key)


def one_of_ten_fails(env):
    """A batch of messages for a function that has nowhere to park them."""
    urls, jobs = queues("partial")
    first = Function("partial-set-up", {**env, **jobs}, [])
    project, key = set_up(lambda *request: call(first, *request[:2], ADMIN_KEY, request[2], 201))
    bad = '{"specversion":"1.0"}'
    bodies = [json.dumps({"n": n}) for n in range(9)] + [bad]
    entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
    client("sqs").send_message_batch(QueueUrl=urls["ingest"], Entries=entries)
    function = Function("partial", {**env, **jobs, "MILLRACE_INGEST__PROJECT": project}, [urls["ingest"]])
    dead = []

    def buried():
        found = client("sqs").receive_message(QueueUrl=urls["dead"], MaxNumberOfMessages=10)
        dead.extend(message["Body"] for message in found.get("Messages", []))
        return bool(dead)

    until("function: the one of ten that fails is dead-lettered after three times", buried, 60)
    check("function: and no other", dead == [bad], dead)
    events = call(function, "GET", "/v1/events", key)["data"]
    check("function: the nine are events, once", len(events) == 9, len(events))


def rotate(password):
    """Gives the role another password, in the database and in its secret, and ends
    the connections that the old one opened."""
    statement = (f"alter role millrace_app password '{password}'; "
                 "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() "
                 "and usename = 'millrace_app' and backend_type = 'client backend'")
    subprocess.run(["psql", "-h", "127.0.0.1", "-p", POSTGRES_PORT, "-U", "millrace", "postgres", "-qAtc", statement],
                   env={**os.environ, "PGPASSWORD": "first-password"}, check=True)
    client("secretsmanager").put_secret_value(SecretId="login", SecretString=login("millrace_app", password))


def main():
    env = environment()
    # A migration is given the stores with the owner's login and that of the role it
    # makes, and no secret of Millrace's own.
    secret_names = ("MILLRACE_KEY_RING__SECRET_ARN", "MILLRACE_ADMIN_KEY_SECRET_ARN")
    stores = {name: value for name, value in env.items() if name not in secret_names}
    stores["MILLRACE_DATABASE__APP_SECRET_ARN"] = stores["MILLRACE_DATABASE__SECRET_ARN"]
    stores["MILLRACE_DATABASE__SECRET_ARN"] = secret("owner", login("millrace", "first-password"))
    stores["ECS_CONTAINER_METADATA_URI_V4"] = "http://127.0.0.1:1"
    subprocess.run([BINARY, "migrate"], env=process_environment(stores), cwd=WORK, check=True)
    under_the_emulator(env)
    project, key = as_containers(env)
    payloads_on_ministack(env)
    one_of_ten_fails(env)
    on_ministack(env, project, key)
    print("all well")


main()
