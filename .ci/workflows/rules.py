"""What no linter knows of our workflows.

Usage: rules.py ROOT. Every action is pinned to a commit, with its version beside it;
every workflow begins with no permissions, every job has its own and a timeout; ci.yml
runs the steps that .ci/run has. Exits 1 with a line for each finding.
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

print("\n".join(wrong) or "rules: 0 findings")
sys.exit(bool(wrong))
