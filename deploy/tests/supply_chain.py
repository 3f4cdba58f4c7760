"""Tests deploy/scripts/signature and plan, as pipeline.py tests the others.

Usage: supply_chain.py [NAME]… — cosign and terraform are doubles here, as strict about
their arguments as the real ones: cosign keeps signatures in the emulator's registry,
under the tags that cosign 2 uses, with the identity that the environment says.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import pipeline
from pipeline import Failed, Stack, deploy, ecr, fails, same, scripts

SIGNER = "https://github.com/acme/millrace/.github/workflows/release.yml@refs/heads/main"

COSIGN = '''#!{python} -IS
import json, os, subprocess, sys

FLAGS = {{
    "sign": {{"--yes": 0}},
    "attest": {{"--yes": 0, "--type": 1, "--predicate": 1}},
    "verify": {{"--certificate-identity": 1, "--certificate-oidc-issuer": 1, "--certificate-github-workflow-sha": 1}},
    "login": {{"--username": 1, "--password-stdin": 0}},
}}
FLAGS["verify-attestation"] = {{**FLAGS["verify"], "--type": 1}}
command, *arguments = sys.argv[1:]
given, images = {{}}, []
while arguments:
    argument = arguments.pop(0)
    if argument.startswith("-"):
        given[argument] = arguments.pop(0) if FLAGS[command][argument] else True
    else:
        images.append(argument)
(image,) = images
with open(os.environ["COSIGN_CALLS"], "a") as calls:
    calls.write(f"{{command}} {{image}}\\n")
if command == "login":
    sys.exit(0 if sys.stdin.read() else "no password")
repository, digest = image.split("@")
tag = digest.replace("sha256:", "sha256-") + (".sig" if command in ("sign", "verify") else ".att")
name = repository.split("/", 1)[1]
me = {{"identity": os.environ["COSIGN_IDENTITY"], "issuer": "https://token.actions.githubusercontent.com", "sha": os.environ["GITHUB_SHA"]}}

def aws(*arguments):
    return subprocess.run(["aws", "ecr", *arguments, "--repository-name", name, "--output", "text"], capture_output=True, text=True)

if command in ("sign", "attest"):
    # It asks before it writes down for all to see, unless told.
    assert given["--yes"]
    if command == "attest":
        assert given["--type"] == "cyclonedx" and json.load(open(given["--predicate"]))["bomFormat"] == "CycloneDX"
    made = aws("put-image", "--image-tag", tag, "--image-manifest", json.dumps({{"schemaVersion": 2, "signed": me, "of": tag}}))
    sys.exit(made.returncode and made.stderr)
found = aws("batch-get-image", "--image-ids", f"imageTag={{tag}}", "--query", "images[0].imageManifest").stdout.strip()
if found in ("", "None"):
    sys.exit("Error: no signatures found")
wanted = {{"identity": given["--certificate-identity"], "issuer": given["--certificate-oidc-issuer"], "sha": given["--certificate-github-workflow-sha"]}}
if json.loads(found)["signed"] != wanted:
    sys.exit(f"Error: no matching signatures: none of the expected identities matched: {{found}}")
'''

TERRAFORM = '''#!{python} -IS
import json, os, sys

chdir, command, *arguments = sys.argv[1:]
assert chdir == "-chdir={deploy}", chdir
with open(os.environ["TERRAFORM_CALLS"], "a") as calls:
    calls.write(json.dumps([command, *arguments]) + "\\n")
if command == "output":
    assert arguments == ["-raw", "image_tag"]
    print("v7", end="")
elif command == "plan":
    assert "-lock=false" in arguments and "-detailed-exitcode" in arguments
    (local,) = [name.split("=", 1)[1] for name in arguments if name.startswith("-var-file=") and name.endswith("local.tfvars")]
    assert open(local).read() == "waf = true\\n", open(local).read()
    print("Error: no credentials" if os.environ["TERRAFORM_CODE"] == "1" else "…")
    sys.exit(int(os.environ["TERRAFORM_CODE"]))
elif command == "show":
    print("  # aws_sqs_queue.main will be updated\\nPlan: 0 to add, 1 to change, 0 to destroy.")
else:
    assert command == "init" and "-backend-config=key=millrace/dev.tfstate" in arguments, arguments
'''


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)


class Signed(Stack):
    """A stack with a signer, the double of cosign before all others, and an archive."""

    def __init__(self, work):
        super().__init__(services=(), function=False)
        self.work = pathlib.Path(work)
        self.facts["signer"] = SIGNER
        program(self.work / "cosign", COSIGN.format(python=sys.executable))
        self.calls, self.sbom = self.work / "calls", self.work / "sbom.cdx.json"
        self.calls.touch()
        self.sbom.write_text('{"bomFormat": "CycloneDX"}')

    def built(self, content="the image"):
        """The archive of an image, and its configuration's digest."""
        digest = hashlib.sha256(content.encode()).hexdigest()
        archive = self.work / "image.tar"
        with tarfile.open(archive, "w") as tar:
            manifest = json.dumps([{"Config": f"blobs/sha256/{digest}", "RepoTags": ["millrace:v2"]}]).encode()
            entry = tarfile.TarInfo("manifest.json")
            entry.size = len(manifest)
            tar.addfile(entry, io.BytesIO(manifest))
        return archive, f"sha256:{digest}"

    def push(self, tag, digest):
        ecr.put_image(repositoryName=self.name, imageTag=tag, imageManifest=json.dumps({"schemaVersion": 2, "config": {"digest": digest}}))

    def signature(self, *arguments, identity=SIGNER, sha="v2"):
        more = {"PATH": f"{self.work}:{os.environ['PATH']}", "COSIGN_CALLS": str(self.calls), "COSIGN_IDENTITY": identity, "GITHUB_SHA": sha}
        return self.run("signature", *(str(argument) for argument in arguments), **more)

    def made(self):
        return [line.split()[0] for line in self.calls.read_text().splitlines() if line.split()[0] in ("sign", "attest")]


@contextlib.contextmanager
def signed_stack():
    with tempfile.TemporaryDirectory() as work:
        yield Signed(work)


def test_signature_is_made_once_and_verified():
    with signed_stack() as stack:
        archive, digest = stack.built()
        stack.push("v2", digest)
        with fails(f"is not signed by {SIGNER} for v2"):
            stack.signature("verify", "v2")
        stack.signature("sign", archive, "v2", stack.sbom)
        stack.signature("verify", "v2")
        # Tags never change: a second signature could not be pushed.
        stack.signature("sign", archive, "v2", stack.sbom)
        same(stack.made(), ["sign", "attest"])
        assert all("@sha256:" in line for line in stack.calls.read_text().splitlines() if not line.startswith("login")), "not by digest"


def test_signature_goes_on_where_it_was_broken_off():
    with signed_stack() as stack:
        archive, digest = stack.built()
        stack.push("v2", digest)
        stack.sbom.write_text("{}")
        with contextlib.suppress(Failed):
            stack.signature("sign", archive, "v2", stack.sbom)
        with fails(f"is not attested by {SIGNER} for v2"):
            stack.signature("verify", "v2")
        stack.sbom.write_text('{"bomFormat": "CycloneDX"}')
        stack.signature("sign", archive, "v2", stack.sbom)
        same(stack.made(), ["sign", "attest", "attest"])


def test_signature_is_not_for_what_somebody_else_pushed():
    with signed_stack() as stack:
        archive, _ = stack.built()
        _, other = stack.built("another's")
        archive, _ = stack.built()
        stack.push("v2", other)
        with fails("what is in the repository as v2 is not the image in", "it is not signed"):
            stack.signature("sign", archive, "v2", stack.sbom)
        same(stack.made(), [])


def test_signature_of_an_index_is_refused():
    with signed_stack() as stack:
        archive, _ = stack.built()
        ecr.put_image(repositoryName=stack.name, imageTag="v2", imageManifest=json.dumps({"schemaVersion": 2, "manifests": []}))
        with fails("is not the image in"):
            stack.signature("sign", archive, "v2", stack.sbom)


def test_signature_by_others_is_none():
    for identity, sha in {
        SIGNER.replace("refs/heads/main", "refs/heads/branch"): "v2",
        SIGNER.replace("acme", "evil"): "v2",
        SIGNER.replace("release.yml", "ci.yml"): "v2",
        # Of another commit.
        SIGNER: "v1",
    }.items():
        with signed_stack() as stack:
            archive, digest = stack.built()
            stack.push("v2", digest)
            with fails(f"is not signed by {SIGNER} for v2"):
                stack.signature("sign", archive, "v2", stack.sbom, identity=identity, sha=sha)
            with fails(f"is not signed by {SIGNER} for v2"):
                stack.signature("verify", "v2")


def test_signature_needs_a_signer_and_an_image():
    with signed_stack() as stack:
        with fails("there is no image v9"):
            stack.signature("verify", "v9")
        stack.facts["signer"] = None
        with fails("this stack has no signer: set github_repository"):
            stack.signature("verify", "v1")


# --- Plans -------------------------------------------------------------------


def plan(code, *arguments, **more):
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        program(work / "terraform", TERRAFORM.format(python=sys.executable, deploy=deploy))
        where = {"region": "eu-west-1", "state": {"bucket": "state", "key": "millrace/dev.tfstate"}, "role": "arn:aws:iam::1:role/plan"}
        environment = {
            **os.environ, "PATH": f"{work}:{os.environ['PATH']}", "TERRAFORM_CALLS": str(work / "calls"), "TERRAFORM_CODE": str(code),
            "ENVIRONMENT": "dev", "PLAN": json.dumps(where), "TFVARS": "waf = true", "GITHUB_STEP_SUMMARY": str(work / "summary"), **more,
        }
        (work / "calls").touch()
        done = subprocess.run([scripts / "plan", *arguments], env=environment, capture_output=True, text=True, timeout=60)
        summary = (work / "summary").read_text() if (work / "summary").exists() else ""
        return done, summary, [json.loads(line) for line in (work / "calls").read_text().splitlines()]


def test_plan_shows_and_drift_fails():
    for code, arguments, ends, title in [
        (0, [], 0, "### dev: no changes"),
        (2, [], 0, "### dev: Plan: 0 to add, 1 to change, 0 to destroy."),
        (2, ["drift"], 2, "### dev: Plan: 0 to add, 1 to change, 0 to destroy."),
        (0, ["drift"], 0, "### dev: no changes"),
        (1, [], 1, "### dev: the plan failed"),
        (1, ["drift"], 1, "### dev: the plan failed"),
    ]:
        done, summary, calls = plan(code, *arguments)
        same((done.returncode, summary.splitlines()[0]), (ends, title))
        (planned,) = [call for call in calls if call[0] == "plan"]
        # With the image of the last apply, which the pipeline has moved on from.
        assert "-var=image_tag=v7" in planned and "-var-file=dev.tfvars" in planned, planned
        assert not any(call[0] in ("apply", "refresh", "import") for call in calls), calls
        same(("aws_sqs_queue.main" in summary, "no credentials" in summary), (code == 2, code == 1))


def test_plan_says_what_it_needs():
    for more, said in [
        ({"ENVIRONMENT": "nowhere"}, "set ENVIRONMENT"),
        ({"ENVIRONMENT": "../dev"}, "set ENVIRONMENT"),
        ({"PLAN": ""}, "terraform output -json plan"),
        ({"PLAN": "{}"}, "terraform output -json plan"),
    ]:
        done, _, calls = plan(0, **more)
        assert done.returncode == 1 and said in done.stderr and calls == [], done.stderr


if __name__ == "__main__":
    pipeline.main(globals())
