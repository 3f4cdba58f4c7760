"""Tests deploy/scripts, which the pipeline is made of, on the emulator.

Usage: pipeline.py [NAME]… — the tests whose names hold one of these, or all. Talks
to what AWS_ENDPOINT_URL names, an emulator started with --doubles, and runs the
scripts as a person does: as processes, told by STACK. Listens on loopback only.
"""

import concurrent.futures
import http.server
import io
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback

import boto3

deploy = pathlib.Path(__file__).resolve().parent.parent
scripts = deploy / "scripts"
region = os.environ["AWS_REGION"]
ecs, lambdas, ecr, iam, logs = (boto3.client(name, region_name=region) for name in ("ecs", "lambda", "ecr", "iam", "logs"))


# --- What a release acts on --------------------------------------------------


class Site:
    """Answers as Millrace does behind the load balancer, which no emulator runs."""

    def __init__(self):
        site = self
        self.ready, self.unready_answers, self.events, self.repeats_known = True, 0, {}, True

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, code, body):
                content = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def allowed(self):
                return self.headers.get("Authorization") == "Bearer mr_test"

            def do_GET(self):
                if self.path == "/health":
                    self.answer(200, {"status": "ok"})
                elif self.path == "/health/ready":
                    if site.unready_answers > 0:
                        site.unready_answers -= 1
                        self.answer(503, {"status": "unavailable"})
                    else:
                        self.answer(*((200, {"status": "ready"}) if site.ready else (503, {"status": "unavailable"})))
                elif self.path.startswith("/v1/events/") and self.allowed():
                    event = self.path.split("/")[-1]
                    self.answer(*((200, {"id": event}) if event in site.events.values() else (404, {})))
                else:
                    self.answer(401, {})

            def do_POST(self):
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path != "/v1/events" or not self.allowed():
                    return self.answer(401, {})
                known = event["id"] in site.events and site.repeats_known
                made = site.events.setdefault(event["id"], f"evt_{len(site.events) + 1}")
                self.answer(202, {"id": made, "duplicate": known})

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


class Stack:
    """A stack of its own for each test, as Terraform leaves it: on the image `v1`."""

    numbers = itertools.count(1)
    # Several scripts ask one emulator, and each counts from the start.
    script = pathlib.Path(sys.argv[0]).stem.replace("_", "-")

    def __init__(self, services=("api", "worker"), function=True, desired=1):
        name = self.name = f"{Stack.script}{next(Stack.numbers)}-dev"
        self.site = Site()
        self.role = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        self.repository = ecr.create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")["repository"]["repositoryUri"]
        self.image("v1")
        ecs.create_cluster(clusterName=name)
        for kind in (*services, "migrate"):
            logs.create_log_group(logGroupName=f"/millrace/{name}/{kind}")
            self.register(kind)
        for kind in services:
            ecs.create_service(
                cluster=name, serviceName=kind, taskDefinition=f"{name}-{kind}", desiredCount=desired,
                deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": True}, "minimumHealthyPercent": 100, "maximumPercent": 200},
            )
        if function:
            lambdas.create_function(FunctionName=name, Role=self.role, PackageType="Image", Code={"ImageUri": f"{self.repository}:v1"}, Publish=True)
            lambdas.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        self.facts = {
            "region": region, "url": self.site.url, "repository": self.repository, "role": None, "cpu_architecture": "X86_64",
            "ecs": {
                "cluster": name, "services": {kind: f"{name}-{kind}" for kind in services},
                "migrate": {"family": f"{name}-migrate", "subnets": ["subnet-1"], "security_groups": ["sg-1"], "log_group": f"/millrace/{name}/migrate"},
            },
            "lambda": {"function": name, "alias": "live"} if function else None,
        }
        for kind in services:
            self.wait(kind, 1)

    def image(self, *tags):
        for tag in tags:
            ecr.put_image(repositoryName=self.name, imageTag=tag, imageManifest=json.dumps({"schemaVersion": 2, "tag": tag}))

    def register(self, kind, tag="v1", **environment):
        ecs.register_task_definition(
            family=f"{self.name}-{kind}", requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
            executionRoleArn=self.role, taskRoleArn=self.role, runtimePlatform={"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
            tags=[{"key": "Application", "value": "millrace"}],
            containerDefinitions=[{
                "name": "millrace", "image": f"{self.repository}:{tag}", "essential": True, "readonlyRootFilesystem": True,
                "command": ["migrate"] if kind == "migrate" else ["serve"],
                "environment": [{"name": key, "value": value} for key, value in environment.items()],
                "logConfiguration": {"logDriver": "awslogs", "options": {
                    "awslogs-group": f"/millrace/{self.name}/{kind}", "awslogs-region": region, "awslogs-stream-prefix": kind,
                }},
            }],
        )

    def wait(self, kind, revision, seconds=120):
        until = time.monotonic() + seconds
        while True:
            primary = self.deployments(kind)[0]
            if primary["taskDefinition"].endswith(f":{revision}") and primary["rolloutState"] == "COMPLETED" and primary["runningCount"]:
                return
            assert time.monotonic() < until, f"{kind} did not become stable on {revision}: {primary}"
            time.sleep(0.2)

    def deployments(self, kind):
        deployments = ecs.describe_services(cluster=self.name, services=[kind])["services"][0]["deployments"]
        return sorted(deployments, key=lambda deployment: deployment["status"] != "PRIMARY")

    def revision(self, kind):
        return int(ecs.describe_services(cluster=self.name, services=[kind])["services"][0]["taskDefinition"].split(":")[-1])

    def definition(self, kind, revision=None):
        answer = ecs.describe_task_definition(taskDefinition=f"{self.name}-{kind}" + (f":{revision}" if revision else ""), include=["TAGS"])
        return {**answer["taskDefinition"], "tags": answer["tags"]}

    def version(self):
        return lambdas.get_alias(FunctionName=self.name, Name="live")["FunctionVersion"]

    def environment(self, **more):
        return {**os.environ, "STACK": json.dumps(self.facts), "POLL_S": "1", "WAIT_S": "300", "SMOKE_S": "3", **more}

    def run(self, script, *arguments, **more):
        """What it printed, or Failed with what it said."""
        done = subprocess.run([scripts / script, *arguments], env=self.environment(**more), capture_output=True, text=True, timeout=900)
        if done.returncode:
            raise Failed(done)
        return done.stdout.strip()


class Failed(Exception):
    def __init__(self, done):
        super().__init__(f"{done.args} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
        self.said, self.code, self.printed = done.stderr, done.returncode, done.stdout


class fails:
    """The block must fail and say this."""

    def __init__(self, *said):
        self.said = said

    def __enter__(self):
        return self

    def __exit__(self, kind, failed, _):
        assert kind is not None, f"did not fail with {self.said}"
        if kind is not Failed:
            return False
        self.printed = failed.printed
        for said in self.said:
            assert said in failed.said, f"did not say {said!r}, but: {failed.said}"
        # A message of ours, and not a script that fell over.
        assert failed.code != 0 and "unbound variable" not in failed.said and ": line " not in failed.said, failed.said
        return True


def same(found, wanted):
    assert found == wanted, f"found {found!r}, wanted {wanted!r}"


# --- Migrations ----------------------------------------------------------------


def test_migrate_runs_the_image_asked_for():
    stack = Stack(services=(), function=False)
    stack.image("v2")
    stack.run("migrate", "v2")
    definition = stack.definition("migrate")
    same((definition["revision"], definition["containerDefinitions"][0]["image"]), (2, f"{stack.repository}:v2"))
    task = ecs.describe_tasks(cluster=stack.name, tasks=ecs.list_tasks(cluster=stack.name, desiredStatus="STOPPED")["taskArns"])["tasks"][0]
    same((task["taskDefinitionArn"].split("/")[-1], task["launchType"]), (f"{stack.name}-migrate:2", "FARGATE"))
    stack.run("migrate", "v2")
    same(stack.definition("migrate")["revision"], 2)


def test_migrate_that_fails_shows_its_log():
    stack = Stack(services=(), function=False)
    stack.image("conflict-2")
    with fails("the migration failed", "exit code 3", "relation exists already"):
        stack.run("migrate", "conflict-2")


def test_migrate_that_does_not_start_says_why():
    stack = Stack(services=(), function=False)
    stack.image("missing-2")
    with fails("the migration failed", "missing-2: not found"):
        stack.run("migrate", "missing-2")


def test_migrate_that_does_not_end_is_given_up():
    stack = Stack(services=(), function=False)
    # A definition whose command is none that ends.
    definition = stack.definition("migrate")
    container = {**definition["containerDefinitions"][0], "command": ["serve"], "image": f"{stack.repository}:v2"}
    ecs.register_task_definition(family=f"{stack.name}-migrate", containerDefinitions=[container])
    stack.image("v2")
    with fails("migration: not after 3 s"):
        stack.run("migrate", "v2", WAIT_S="3")


# --- Services --------------------------------------------------------------------


def test_services_deploy_rolls_every_service():
    stack = Stack()
    stack.image("v2")
    same(stack.run("services", "running"), "api=1 worker=1")
    # What Terraform registered meanwhile goes out with it.
    stack.register("api", MILLRACE_RETENTION_DAYS="7")
    before = stack.definition("api")
    stack.run("services", "deploy", "v2")
    same(stack.run("services", "running"), "api=3 worker=2")
    after = stack.definition("api")
    same(after["containerDefinitions"][0]["environment"], [{"name": "MILLRACE_RETENTION_DAYS", "value": "7"}])
    same(after["containerDefinitions"][0]["image"], f"{stack.repository}:v2")
    same(after["tags"], [{"key": "Application", "value": "millrace"}])
    changed = {"taskDefinitionArn", "revision", "registeredAt", "containerDefinitions"}
    same({key: value for key, value in after.items() if key not in changed}, {key: value for key, value in before.items() if key not in changed})
    same([deployment["rolloutState"] for deployment in stack.deployments("api")], ["COMPLETED"])


def test_services_deploy_again_does_nothing():
    stack = Stack()
    stack.image("v2")
    stack.run("services", "deploy", "v2")
    deployments = [stack.deployments(kind)[0]["id"] for kind in ("api", "worker")]
    stack.run("services", "deploy", "v2")
    same([stack.deployments(kind)[0]["id"] for kind in ("api", "worker")], deployments)
    same((stack.definition("api")["revision"], stack.revision("worker")), (2, 2))


def test_services_deploy_fails_when_the_circuit_breaker_rolled_back():
    stack = Stack()
    stack.image("crash-2")
    with fails("circuit breaker", "exit code 1", f"{stack.name}-api:2; it now has {stack.name}-api:1"):
        stack.run("services", "deploy", "crash-2")
    stack.wait("api", 1)
    same(stack.revision("api"), 1)


def test_services_deploy_fails_when_the_image_cannot_be_pulled():
    stack = Stack(services=("api",), function=False)
    stack.image("missing-2")
    with fails("ECS gave up deploying", f"{stack.name}-api:2"):
        stack.run("services", "deploy", "missing-2")


def test_services_deploy_fails_when_somebody_else_deploys():
    stack = Stack(services=("api",), function=False)
    stack.image("v2")
    # ECS itself does the same when an alarm rolls back: the service has another
    # revision than was asked for, and nothing is called failed.
    with fails("api: not on", f"{stack.name}-api:2 any more, but on {stack.name}-api:1"):
        process = subprocess.Popen([scripts / "services", "deploy", "v2"], env=stack.environment(POLL_S="3"), stderr=subprocess.PIPE, text=True)
        while stack.revision("api") != 2 and process.poll() is None:
            time.sleep(0.05)
        ecs.update_service(cluster=stack.name, service="api", taskDefinition=f"{stack.name}-api:1")
        _, said = process.communicate(timeout=600)
        if process.returncode:
            raise Failed(subprocess.CompletedProcess(process.args, process.returncode, "", said))


def test_services_deploy_gives_up_when_it_takes_too_long():
    stack = Stack(services=("api",), function=False)
    stack.image("slow-2")
    with fails("api: stable on", "not after 1 s"):
        stack.run("services", "deploy", "slow-2", WAIT_S="1")


def test_services_rollback_goes_to_the_revision_asked_for():
    stack = Stack()
    stack.image("v2", "v3")
    stack.run("services", "deploy", "v2")
    stack.run("services", "deploy", "v3")
    stack.run("services", "rollback", "api=1", "worker=2")
    same(stack.run("services", "running"), "api=1 worker=2")
    same([line.split("\t")[0::2] for line in stack.run("services", "list", "api").splitlines()], [["3"], ["2"], ["1", "runs"]])
    # The next deployment begins from the newest revision, not from this one.
    stack.run("services", "deploy", "v3")
    same(stack.run("services", "running"), "api=3 worker=3")


def test_services_rollback_refuses_what_is_not_there():
    stack = Stack(function=False)
    for arguments, said in {
        ("api=7",): f"there is no revision 7 of {stack.name}-api",
        ("web=1",): "there is no service web; there are: api worker",
        ("api",): "api is not SERVICE=REVISION",
        (): "deploy/scripts/services rollback",
    }.items():
        with fails(said):
            stack.run("services", "rollback", *arguments)
    same(stack.run("services", "running"), "api=1 worker=1")


def test_services_try_again_what_failed():
    stack = Stack(services=("api",), function=False)
    # As after a first apply: tasks crash until the database is migrated, and there
    # is nothing to go back to.
    stack.image("crash-2")
    ecs.update_service(
        cluster=stack.name, service="api", deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": False}}
    )
    for _ in range(2):
        with fails(f"ECS gave up deploying {stack.name}-api:2; it now has {stack.name}-api:2"):
            stack.run("services", "deploy", "crash-2")
    same(len({deployment["id"] for deployment in stack.deployments("api") if deployment["rolloutState"] == "FAILED"}), 2)


# --- The function ----------------------------------------------------------------


def test_function_deploy_publishes_and_moves_the_alias():
    stack = Stack(services=())
    stack.image("v2")
    stack.run("function", "deploy", "v2")
    same((stack.run("function", "running"), stack.version()), ("2", "2"))
    configuration = lambdas.get_function(FunctionName=stack.name, Qualifier="live")
    same((configuration["Code"]["ImageUri"], configuration["Configuration"]["Description"]), (f"{stack.repository}:v2", "v2"))
    same([line.split("\t")[0] + line.split("\t")[3] for line in stack.run("function", "list").splitlines() if "serves" in line], ["2serves"])


def test_function_rollback_moves_the_alias_back():
    stack = Stack(services=())
    stack.image("v2")
    stack.run("function", "deploy", "v2")
    for _ in range(2):
        stack.run("function", "rollback", "1")
        same(stack.version(), "1")
    with fails(f"there is no version 9 of {stack.name}"):
        stack.run("function", "rollback", "9")
    with fails("live is not a version"):
        stack.run("function", "rollback", "live")
    same(stack.version(), "1")


def test_function_deploy_leaves_the_alias_when_the_version_is_not_ready():
    for tag, said in {"unready-2": "503", "broken-2": "Runtime.ExitError"}.items():
        stack = Stack(services=())
        stack.image(tag)
        with fails("version 2 does not answer; live stays on 1", said):
            stack.run("function", "deploy", tag)
        same(stack.version(), "1")


def test_function_deploy_moves_the_alias_back_when_it_is_not_ready():
    stack = Stack(services=())
    stack.image("fickle-2")
    with fails("version 2 does not answer through live, which is back on 1"):
        stack.run("function", "deploy", "fickle-2")
    same(stack.version(), "1")


# --- From outside ----------------------------------------------------------------


def test_smoke_waits_for_the_first_good_answer():
    stack = Stack(services=(), function=False)
    stack.site.unready_answers = 1
    stack.run("smoke", SMOKE_S="20")
    stack.run("smoke", stack.site.url, STACK="")
    stack.site.ready = False
    with fails("/health/ready: not after 3 s", "unavailable"):
        stack.run("smoke")
    with fails("not after 3 s", "no answer"):
        stack.run("smoke", "http://127.0.0.1:9")


def test_smoke_publishes_an_event_with_a_key():
    stack = Stack(services=(), function=False)
    stack.run("smoke", MILLRACE_KEY="mr_test")
    same(len(stack.site.events), 1)
    with fails("an event was not accepted"):
        stack.run("smoke", MILLRACE_KEY="mr_wrong")
    stack.site.repeats_known = False
    with fails("not known when it was sent again"):
        stack.run("smoke", MILLRACE_KEY="mr_test")


# --- A release -------------------------------------------------------------------


def test_release_moves_everything():
    stack = Stack()
    stack.image("v2")
    stack.run("release", "v2")
    same((stack.run("services", "running"), stack.version(), stack.definition("migrate")["revision"]), ("api=2 worker=2", "2", 2))
    stack.run("release", "v2")
    same((stack.run("services", "running"), stack.version(), stack.definition("migrate")["revision"]), ("api=2 worker=2", "2", 2))


def test_release_of_a_stack_on_lambda_alone():
    stack = Stack(services=())
    stack.image("v2")
    stack.run("release", "v2")
    same(stack.version(), "2")
    with fails("hosted on Lambda alone"):
        stack.run("services", "deploy", "v2")


def test_release_of_a_stack_on_fargate_alone():
    stack = Stack(function=False)
    stack.image("v2")
    stack.run("release", "v2")
    same(stack.run("services", "running"), "api=2 worker=2")
    with fails("hosted on Fargate alone"):
        stack.run("function", "deploy", "v2")


def test_release_stops_at_a_migration_that_fails():
    stack = Stack()
    stack.image("conflict-2")
    with fails("nothing but the database was touched"):
        stack.run("release", "conflict-2")
    same((stack.run("services", "running"), stack.version()), ("api=1 worker=1", "1"))
    same(stack.definition("api")["revision"], 1)


def test_release_goes_back_when_services_do_not_start():
    stack = Stack()
    stack.image("v2", "crash-3")
    stack.run("release", "v2")
    with fails("ECS gave up", "crash-3 was not released; what ran before is back"):
        stack.run("release", "crash-3")
    stack.wait("api", 2)
    stack.wait("worker", 2)
    same((stack.run("services", "running"), stack.version()), ("api=2 worker=2", "2"))


def test_release_goes_back_when_the_function_is_not_ready():
    stack = Stack()
    stack.image("unready-2")
    with fails("live stays on 1", "unready-2 was not released; what ran before is back"):
        stack.run("release", "unready-2")
    same((stack.run("services", "running"), stack.version()), ("api=1 worker=1", "1"))


def test_release_goes_back_when_the_deployment_does_not_answer():
    stack = Stack()
    stack.image("v2")
    stack.site.ready = False
    with fails("/health/ready: not after", "v2 was not released; what ran before is back"):
        stack.run("release", "v2")
    same((stack.run("services", "running"), stack.version()), ("api=1 worker=1", "1"))
    same([stack.deployments(kind)[0]["rolloutState"] for kind in ("api", "worker")], ["COMPLETED", "COMPLETED"])


def test_release_says_when_it_could_not_go_back():
    stack = Stack(services=())
    stack.image("v2")
    stack.site.ready = False
    # The version before does not answer either.
    lambdas.update_function_code(FunctionName=stack.name, ImageUri=f"{stack.repository}:unready-0")
    lambdas.get_waiter("function_updated_v2").wait(FunctionName=stack.name)
    version = lambdas.publish_version(FunctionName=stack.name)["Version"]
    lambdas.update_alias(FunctionName=stack.name, Name="live", FunctionVersion=version)
    with fails("WHAT RAN BEFORE IS NOT BACK"):
        stack.run("release", "v2")


def test_release_goes_back_when_it_is_cancelled():
    stack = Stack()
    stack.image("v2")
    stack.site.ready = False
    process = subprocess.Popen(
        [scripts / "release", "v2"], env=stack.environment(SMOKE_S="4"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while stack.version() == "1" and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=600)
    assert process.returncode != 0 and "what ran before is back" in said, said
    same((stack.run("services", "running"), stack.version()), ("api=1 worker=1", "1"))


# --- All of them -----------------------------------------------------------------


def test_image_that_is_not_in_the_repository():
    stack = Stack()
    for script, *arguments in (["migrate"], ["services", "deploy"], ["function", "deploy"], ["release"]):
        with fails(f"there is no image v9 in {stack.repository}"):
            stack.run(script, *arguments, "v9")
    same((stack.run("services", "running"), stack.version(), stack.definition("api")["revision"]), ("api=1 worker=1", "1", 1))


def archive_of(path, architecture="amd64", images=1, index=None):
    """An archive as `docker save` writes it, as far as it says what is in it."""
    config = {"os": "linux", "architecture": architecture}
    files = {"manifest.json": [{"Config": "blobs/sha256/c0ffee", "RepoTags": [f"millrace:{n}"]} for n in range(images)], "blobs/sha256/c0ffee": config}
    if index is not None:
        files["index.json"] = {"schemaVersion": 2, "manifests": index}
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            content = json.dumps(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def test_image_of_another_platform_or_several_is_refused():
    """What Fargate would not start and Lambda would not take, as each engine writes it."""
    stack, oci = Stack(services=(), function=False), "application/vnd.oci.image"
    one = {"mediaType": f"{oci}.manifest.v1+json", "digest": "sha256:1"}
    with tempfile.TemporaryDirectory() as work:
        archive = f"{work}/image.tar"
        for index in (
            [{"mediaType": f"{oci}.index.v1+json", "digest": "sha256:1"}],
            [{"mediaType": "application/vnd.docker.distribution.manifest.list.v2+json", "digest": "sha256:1"}],
            [one, {**one, "digest": "sha256:2"}],
            [],
        ):
            archive_of(archive, index=index)
            with fails("an index", "which Lambda refuses", "--provenance=false"):
                stack.run("image", "push", archive, "v2")
        archive_of(archive, images=2)
        with fails("holds several images"):
            stack.run("image", "push", archive, "v2")
        archive_of(archive, "arm64")
        with fails("is for linux/arm64 and would not start: build with --platform linux/amd64, or set cpu_architecture"):
            stack.run("image", "push", archive, "v2")
        with fails("is for linux/arm64"):
            stack.run("image", "check", archive, "linux/amd64", STACK="")
        # Two tags of one image are one.
        archive_of(archive, "arm64", index=[one, one])
        stack.run("image", "check", archive, "linux/arm64", STACK="")
        for architecture, said in (("ARM64", None), ("X86_64", "linux/arm64"), (None, "says no cpu_architecture")):
            facts = {**stack.facts, "cpu_architecture": architecture}
            if said is None:
                # There already: nothing to push, but looked at all the same.
                stack.run("image", "push", archive, "v1", STACK=json.dumps(facts))
            else:
                with fails(said):
                    stack.run("image", "push", archive, "v1", STACK=json.dumps(facts))
        pathlib.Path(archive).write_bytes(b"")
        with fails("no manifest.json"):
            stack.run("image", "check", archive, "linux/amd64")


def test_image_push():
    """Docker is a double here: a command that writes down how it was called."""
    stack = Stack(services=(), function=False)
    with tempfile.TemporaryDirectory() as work:
        archive, docker, calls = (pathlib.Path(work, name) for name in ("image.tar", "docker", "calls"))
        archive_of(archive)
        docker.write_text(f'#!/bin/sh\necho "$*" >>{calls}\n[ "$1" != load ] || echo "Loaded image: millrace:build"\n[ "$1" != login ] || cat >/dev/null\n')
        docker.chmod(0o755)
        path = {"PATH": f"{work}:{os.environ['PATH']}"}
        stack.run("image", "push", str(archive), "v2", **path)
        same([call.split()[0] for call in calls.read_text().splitlines()], ["load", "login", "tag", "push"])
        assert f"tag millrace:build {stack.repository}:v2" in calls.read_text(), calls.read_text()
        calls.unlink()
        stack.run("image", "push", str(archive), "v1", **path)
        assert not calls.exists(), "pushed over a tag that was there"
        with fails("there is no archive"):
            stack.run("image", "push", f"{work}/none", "v2", **path)


def test_usage():
    stack = Stack(services=(), function=False)
    for script in ("image", "signature", "plan", "migrate", "services", "function", "smoke", "release"):
        with fails(f"deploy/scripts/{script}", "Needs"):
            stack.run(script, "--help")
    for script, *arguments in (["migrate", "v1"], ["services", "running"], ["function", "running"], ["release", "v1"], ["smoke"], ["signature", "verify", "v1"]):
        with fails("export STACK=$(terraform output -json stack)"):
            stack.run(script, *arguments, STACK="")
        with fails("STACK is not the Terraform output"):
            stack.run(script, *arguments, STACK="{}")


def test_pipeline_role_has_what_the_scripts_call():
    """The role's actions are what the scripts call, and no other."""
    deploys, _ = (deploy / "iam_ci.tf").read_text().split("# --- Planning ---")
    granted = set(re.findall(r'"([a-z]+:[A-Z][A-Za-z]+)"', deploys))
    granted -= {"sts:AssumeRoleWithWebIdentity", "iam:PassedToService", "kms:ViaService"}
    called = {"iam:PassRole", "ecs:TagResource", "kms:CreateGrant", "ecr:GetAuthorizationToken"}
    # What docker push does, and Lambda in the name of who updates its code.
    called |= {f"ecr:{name}" for name in (
        "BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload", "GetDownloadUrlForLayer", "InitiateLayerUpload", "PutImage", "UploadLayerPart",
    )}
    # Of use to a person only.
    called_by_people = {"ecs:ListTaskDefinitions", "lambda:ListVersionsByFunction", "ecr:GetLoginPassword"}
    for script in ("stack.sh", "image", "signature", "migrate", "services", "function", "smoke", "release"):
        for service, command in re.findall(r"\baws (ecs|ecr|lambda|logs|iam|elbv2) ([a-z-]+)", (scripts / script).read_text()):
            action = "".join(word.capitalize() for word in command.split("-"))
            called.add(f"{service}:{'InvokeFunction' if action == 'Invoke' else action}")
    same(sorted(granted), sorted(called - called_by_people))


# ---------------------------------------------------------------------------------


def main(names):
    wanted = sys.argv[1:]
    tests = [test for name, test in list(names.items()) if name.startswith("test_") and (not wanted or any(part in name for part in wanted))]

    def run(test):
        began = time.monotonic()
        try:
            test()
            said = "ok"
        except Exception:
            said = "FAILED\n" + traceback.format_exc()
        print(f"{test.__name__[5:]:<70} {time.monotonic() - began:5.1f}s  {said}", flush=True)
        return said != "ok"

    # They mostly wait, and each has a stack of its own.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        failed = sum(pool.map(run, tests))
    print(f"pipeline: {len(tests) - failed} passed, {failed} failed")
    sys.exit(bool(failed or not tests))


if __name__ == "__main__":
    main(globals())
