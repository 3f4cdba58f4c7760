"""Compares the drift of a plan with the allowlist of this variant.

Usage: drift.py PLAN.json ALLOWLIST... — PLAN.json is `terraform show -json` of a
plan made right after an apply. Exits 1 when the plan would change anything that
no line allows, and when a line allows what the plan would not change.

A line allows attributes of one resource, by its address; without an instance's key,
of all instances.
"""

import json
import sys


def allowed(paths):
    """Reads `address: attribute …  # reason` lines into {(address, attribute), …}."""
    result = set()
    for path in paths:
        for number, line in enumerate(open(path), 1):
            line, _, reason = line.partition("#")
            if not line.strip():
                continue
            address, _, attributes = line.rpartition(":")
            if not address.strip() or not attributes.strip() or not reason.strip():
                sys.exit(f"{path}:{number}: needs a resource's address, its attributes and a reason")
            result |= {(address.strip(), attribute) for attribute in attributes.split()}
    return result


def drift(plan):
    """Yields (address, attribute) of everything the plan would change."""
    for resource in plan.get("resource_changes", []):
        change = resource["change"]
        if resource["mode"] != "managed" or change["actions"] == ["no-op"]:
            continue
        before, after = change["before"] or {}, change["after"] or {}
        if not (before and after):
            # Created, or deleted for good: no attribute tells it.
            yield resource["address"], "/".join(change["actions"])
            continue
        # What is unknown until the apply is the provider's to compute, as all such
        # attributes are of what is replaced. Anything else is drift, also where the
        # plan would take a value away.
        for name in sorted(set(before) | set(after)):
            if before.get(name) != after.get(name) and change["after_unknown"].get(name) is not True:
                yield resource["address"], name


def main():
    plan = json.load(open(sys.argv[1]))
    allow, used, wrong = allowed(sys.argv[2:]), set(), []
    for address, attribute in drift(plan):
        lines = allow & {(address, attribute), (address.partition("[")[0], attribute)}
        used |= lines
        if not lines:
            wrong.append(f"unexpected drift: {address}: {attribute}")
    wrong += [f"allowed but not seen, remove it: {address}: {attribute}" for address, attribute in sorted(allow - used)]
    print("\n".join(wrong) or f"drift: as allowed by {len(used)} attributes")
    sys.exit(bool(wrong))


main()
