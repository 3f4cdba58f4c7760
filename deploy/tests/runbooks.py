"""Checks that every alarm has its runbook in README.md, and no runbook is left over.

Usage: runbooks.py DEPLOY_DIR [STATE.json] — alarms are found in alarms.tf by the
words "Runbook: deploy/README.md, NAME" that each puts into its description; where
the name is computed, the maps it is computed from are read. With the state of an
applied stack, the alarms that are really there are held against README.md too.
"""

import json
import re
import sys

deploy = sys.argv[1]


def source(name):
    return open(f"{deploy}/{name}").read()


def block(text, name):
    """The text of a local map, up to the line that closes it."""
    start = text.index(f"  {name} = ")
    return text[start : re.compile(r"^  [})]", re.M).search(text, start).end()]


def keys(text):
    """The keys of a map that is written out, a line or a block each."""
    return set(re.findall(r"^    ([a-z_-]+) += ", text, re.M))


alarms = source("alarms.tf")
metric = block(alarms, "metric_alarms")
queues = keys(block(source("sqs.tf"), "queues"))
# The queues' own dead letters, and what `dead_queues` adds.
dead = queues | set(re.findall(r"\{ ([a-z_]+) = \"", re.search(r"^  dead_queues = .*$", source("sqs.tf"), re.M)[0]))
services = keys(block(source("ecs.tf"), "services"))
computed = {"aws_sqs_queue.main": queues, "aws_sqs_queue.dead": dead}

names = set(re.findall(r"Runbook: deploy/README.md, ([a-z0-9-]+)", alarms))
names |= set(re.findall(r"^      ([a-z-]+) = \{\n        wanted", metric, re.M))
for name in ("sum_alarms", "app_alarms", "event_alarms"):
    names |= keys(block(alarms, name))
for things, prefix in re.findall(r'in (aws_sqs_queue\.\w+) : "([a-z-]+)-\$\{replace\(name', metric):
    names |= {f"{prefix}-{queue.replace('_', '-')}" for queue in computed[things]}
for suffix in re.findall(r'"\$\{name\}-([a-z]+)" = \{', metric):
    names |= {f"{service}-{suffix}" for service in services}

runbooks = set()
for heading in re.findall(r"^#### (.+)$", source("README.md"), re.M):
    runbooks |= set(re.findall(r"`([a-z0-9-]+)`", heading))

wrong = [f"alarm {name} has no runbook (a heading #### `{name}`) in README.md" for name in sorted(names - runbooks)]
wrong += [f"README.md has a runbook {name} but there is no such alarm" for name in sorted(runbooks - names)]

if len(sys.argv) > 2:
    state = json.load(open(sys.argv[2]))["values"]
    applied = [
        resource["values"].get("alarm_name") or resource["values"]["name"]
        for resource in state["root_module"]["resources"]
        if resource["type"] == "aws_cloudwatch_metric_alarm" or resource["address"].startswith("aws_cloudwatch_event_rule.alarm[")
    ]
    prefix = state["outputs"]["ecs"]["value"]["cluster"] + "-"
    wrong += [f"the applied alarm {name} has no runbook" for name in applied if name.removeprefix(prefix) not in runbooks]
    print(f"runbooks: {len(applied)} alarms applied")

print("\n".join(wrong) or f"runbooks: {len(names)} alarms, a runbook each")
sys.exit(bool(wrong))
