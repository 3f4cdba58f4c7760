"""Checks that every alarm has its runbook in README.md, and no runbook is left over.

Usage: runbooks.py DEPLOY_DIR. Alarms are found by the words "Runbook:
deploy/README.md, NAME" that each puts into its description; where the name is
computed, the maps it is computed from are read.
"""

import re
import sys

deploy = sys.argv[1]
source = open(f"{deploy}/alarms.tf").read()
readme = open(f"{deploy}/README.md").read()


def block(name):
    """The text of a local map, up to the line that closes it."""
    start = source.index(f"  {name} = ")
    return source[start : re.compile(r"^  [})]", re.M).search(source, start).end()]


names = set(re.findall(r"Runbook: deploy/README.md, ([a-z0-9-]+)", source))
names |= set(re.findall(r"^      ([a-z-]+) = \{\n        wanted", block("metric_alarms"), re.M))
names |= set(re.findall(r"^    ([a-z-]+) = \{$", block("sum_alarms") + block("app_alarms") + block("event_alarms"), re.M))
for prefix in re.findall(r'"([a-z-]+)-\$\{replace\(name', block("metric_alarms")):
    names |= {f"{prefix}-{queue}" for queue in ("fan-out", "deliver", "ingest")}
for suffix in re.findall(r'"\$\{name\}-([a-z]+)" = \{', block("metric_alarms")):
    names |= {f"{service}-{suffix}" for service in ("api", "worker")}

runbooks = set()
for heading in re.findall(r"^#### (.+)$", readme, re.M):
    runbooks |= set(re.findall(r"`([a-z0-9-]+)`", heading))

wrong = [f"alarm {name} has no runbook (a heading #### `{name}`) in README.md" for name in sorted(names - runbooks)]
wrong += [f"README.md has a runbook {name} but there is no such alarm" for name in sorted(runbooks - names)]
print("\n".join(wrong) or f"runbooks: {len(names)} alarms, a runbook each")
sys.exit(bool(wrong))
