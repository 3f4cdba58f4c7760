"""Doubles for what the emulator needs containers for, which tests have none of.

The emulator itself keeps the state of services, deployments and their circuit
breaker, of tasks and of versions and aliases. Here is only what it asks Docker for:
how a container of an image behaves. The image's tag says it:

    crash-…      as a service exits with 1 at once
    conflict-…   as a migration exits with 3, after a line in its log
    missing-…    cannot be pulled
    slow-…       takes half a minute to be pulled
    unready-…    as a function answers 503
    broken-…     as a function fails
    fickle-…     as a function answers 200 the first time, and 503 from then on
    unmigrated-… as a doctor finds a database without its tables
    anything     runs, or exits with 0 as a migration; answers 200 as a function
"""

import hashlib
import itertools
import time

import doubles_restore
from ministack.services import ecs, lambda_svc

numbers = itertools.count(1)
containers = {}
# What a digest stands for: services are run by it, as the tag was resolved.
tag_of_digest = {}
asked = {}


def tag_of(image):
    _, at, digest = image.partition("@")
    return tag_of_digest[digest] if at else image.rsplit(":", 1)[-1]


class Container:
    """A container that has run as far as it ever will."""

    def __init__(self, image, command):
        self.id = f"{next(numbers):064x}"
        self.attrs = {"NetworkSettings": {"Networks": {}}}
        tag, migration = tag_of(image), command == ["migrate"]
        self.code, self.lines = None, []
        if migration and tag.startswith("conflict-"):
            self.code, self.lines = 3, [b"applying V2", b"relation exists already"]
        elif migration:
            self.code = 0
        elif command == ["doctor"]:
            self.doctor(tag)
        elif tag.startswith("crash-"):
            self.code = 1
        containers[self.id] = self

    def doctor(self, tag):
        """Says what it finds of the database; of the other stores, that they are not its."""
        well = not tag.startswith("unmigrated-")
        self.code = 1
        self.lines = [b"ok    control-plane database", b"ok    migrations" if well else b"WRONG migrations: V1__start is not applied", b"?     keys and endpoints in the event store: not checked"]

    @property
    def status(self):
        return "running" if self.code is None else "exited"

    def wait(self):
        return {"StatusCode": self.code}

    def logs(self, stream=False, **_):
        return iter(self.lines) if stream else b"\n".join(self.lines)

    def reload(self):
        pass

    def stop(self, **_):
        self.code = 0 if self.code is None else self.code

    def remove(self, **_):
        containers.pop(self.id, None)


class Image:
    def __init__(self, image):
        digest = "sha256:" + hashlib.sha256(image.encode()).hexdigest()
        self.id = digest
        tag_of_digest[digest] = tag_of(image)

    def tag(self, *_, **__):
        return True


class Images:
    def get_registry_data(self, image, **_):
        return self.pull(image)

    def pull(self, image, **_):
        if tag_of(image).startswith("missing-"):
            raise RuntimeError(f"{image}: not found")
        if tag_of(image).startswith("slow-"):
            time.sleep(30)
        return Image(image)

    def get(self, image):
        raise RuntimeError(f"{image}: not cached")


class Containers:
    def run(self, image, command=None, **_):
        if tag_of(image).startswith("missing-"):
            raise RuntimeError(f"{image}: not found")
        return Container(image, command)

    def get(self, container_id):
        return containers[container_id]

    def list(self, **_):
        return []


class Docker:
    images = Images()
    containers = Containers()


def invoke(function, event, request_id):
    """A function on an image: answers the load balancer's request for its health."""
    del request_id
    config = function.get("config") or function
    tag = tag_of(config["ImageUri"])
    if event.get("path") != "/health/ready" or "elb" not in event.get("requestContext", {}):
        return {"body": {"errorMessage": f"not a health check: {event}"}, "error": True}
    asked[tag] = asked.get(tag, 0) + 1
    if tag.startswith("broken-"):
        return {"body": {"errorType": "Runtime.ExitError", "errorMessage": "exit status 1"}, "error": True}
    bad = tag.startswith("unready-") or (tag.startswith("fickle-") and asked[tag] > 1)
    return {"body": {"statusCode": 503 if bad else 200, "multiValueHeaders": {}, "body": "{}"}}


def name_task(task):
    """ECS names in a service's events the tasks it stops; the emulator does not."""
    kind = task["group"].removeprefix("service:")
    cluster = task["clusterArn"].split("/")[-1]
    service = ecs._services.get(f"{cluster}/{kind}")
    if service and task["group"] != kind:
        message = f"(service {kind}) has stopped 1 running tasks: (task {task['taskArn'].split('/')[-1]})."
        service["events"].insert(0, {"id": f"event-{next(numbers)}", "createdAt": ecs._iso(), "message": message})


def install():
    docker, record_failure = Docker(), ecs._record_service_task_failure

    def record_named_failure(task, *arguments, **named):
        name_task(task)
        return record_failure(task, *arguments, **named)

    ecs._record_service_task_failure = record_named_failure
    ecs._get_docker = lambda: docker
    doubles_restore.install()
    lambda_svc._execute_function_docker = invoke
