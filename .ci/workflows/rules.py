"""What no linter knows of our workflows.

Usage: rules.py ROOT. Every action is pinned to a commit, with its version beside it;
every workflow begins with no permissions, every job has its own and a timeout; ci.yml
runs the steps that .ci/run has; the image is built on images by their digests, with its
crates written into the binary, and deploy.yml signs where it is from and what is in it;
release.yml verifies the image's signature before it is released; plans apply nothing;
what a script installs is of one version. Exits 1 with a line for each finding.
"""

import pathlib
import re
import sys

import yaml

root = pathlib.Path(sys.argv[1])
wrong = []
for path in sorted((root / ".github/workflows").glob("*.yml")):
    text = path.read_text()
    for number, line in enumerate(text.splitlines(), 1):
        uses = re.match(r"\s*(?:- )?uses: (.*)", line)
        if uses and not re.fullmatch(r"(\./\S+|[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)", uses[1]):
            wrong.append(f"{path.name}:{number}: not pinned to a commit with its version: {uses[1]}")
    workflow = yaml.safe_load(text)
    if workflow.get("permissions") != {}:
        wrong.append(f"{path.name}: begins with permissions: {workflow.get('permissions')}")
    for name, job in workflow["jobs"].items():
        if not job.get("permissions"):
            wrong.append(f"{path.name}: job {name} states no permissions")
        # A job that calls a workflow has those of its jobs.
        if "uses" not in job and "timeout-minutes" not in job:
            wrong.append(f"{path.name}: job {name} has no timeout")

script = re.search(r"^steps=\(([^)]*)\)", (root / ".ci/run").read_text(), re.M)[1].split()
jobs = yaml.safe_load((root / ".github/workflows/ci.yml").read_text())["jobs"]
matrix = " ".join(jobs["steps"]["strategy"]["matrix"]["steps"]).split()
if sorted(matrix) != sorted(script):
    wrong.append(f"ci.yml runs {sorted(matrix)}, .ci/run has {sorted(script)}")

dockerfile = (root / "Dockerfile").read_text()
stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.M)
for image in re.findall(r"^FROM (\S+)", dockerfile, re.M):
    if image not in stages and not re.fullmatch(r"\S+:\S+@sha256:[0-9a-f]{64}", image):
        wrong.append(f"Dockerfile: not a tag with its digest: {image}")
if "# syntax=" in dockerfile or re.search(r"^(ADD|RUN --mount|COPY --chmod)", dockerfile, re.M):
    wrong.append("Dockerfile: needs a frontend of BuildKit's, which not every engine has, or fetches a file")
if re.search(r"cargo build", dockerfile) or "cargo auditable build" not in dockerfile:
    wrong.append("Dockerfile: the binary is built without `cargo auditable`")
signed = [step.get("uses", "").split("@")[0] for step in yaml.safe_load((root / ".github/workflows/deploy.yml").read_text())["jobs"]["build"]["steps"]]
for action in ("actions/attest-build-provenance", "actions/attest-sbom"):
    if action not in signed:
        wrong.append(f"deploy.yml: the image is built without {action}")

steps = yaml.safe_load((root / ".github/workflows/release.yml").read_text())["jobs"]["release"]["steps"]
commands = [step.get("run", "").split("/")[-1].split() for step in steps]
order = [index for wanted in (["image", "push"], ["signature", "sign"], ["signature", "verify"], ["release"]) for index, words in enumerate(commands) if words[: len(wanted)] == wanted]
if len(order) != 4 or order != sorted(order):
    wrong.append("release.yml: does not push, sign, verify and release, in this order")
for name in ("plan.yml", "drift.yml"):
    text = (root / ".github/workflows" / name).read_text()
    if "terraform apply" in text or "pull_request_target" in text or "secrets." in text:
        wrong.append(f"{name}: applies, runs for forks, or is given a secret")

scripts = [root / name for name in ("Dockerfile", ".ci/run", "fuzz/run", "benches/coldstart/run")]
scripts += [*(root / ".ci").glob("*/run"), *(root / "tests").glob("*/run"), *(root / "deploy/tests").glob("run")]
for script in scripts:
    text = script.read_text().replace("\\\n", " ")
    for install in re.finditer(r"^[^#\n]*\bcargo[ \"',]+install\b", text, re.M):
        # In a list of arguments it may be on the next line.
        if not re.search(r"@[\d$]|--version", text[install.start() : install.end() + 120]):
            wrong.append(f"{script.relative_to(root)}: installs whatever version there is: {install[0].strip()}")
    for line in text.splitlines():
        pip = re.search(r"^[^#]*\bpip\"? install\b(?!.*--requirement)", line) and any(
            "==" not in name for name in re.findall(r"(?<= )[\"']?[A-Za-z][\w.=$-]*", line.split(" install ")[1])
        )
        npm = re.search(r"^[^#]*\bnpm (install|i)\b|^[^#]*\bnpx ", line)
        if pip or npm:
            wrong.append(f"{script.relative_to(root)}: installs whatever version there is: {line.strip()}")

print("\n".join(wrong) or "rules: 0 findings")
sys.exit(bool(wrong))
