"""Compares the drift of a plan with the allowlist of this variant.

Usage: drift.py PLAN.json ALLOWLIST... — PLAN.json is `terraform show -json` of a
plan made right after an apply. Exits 1 when the plan would change anything that
no line allows, and when a line allows what the plan would not change.
"""

import json
import sys


def allowed(paths):
    """Reads `type: attribute …  # reason` lines into {type: {attribute, …}}."""
    result = {}
    for path in paths:
        for number, line in enumerate(open(path), 1):
            line, _, reason = line.partition("#")
            if not line.strip():
                continue
            kind, _, attributes = line.partition(":")
            if not attributes.strip() or not reason.strip():
                sys.exit(f"{path}:{number}: needs a resource type, its attributes and a reason")
            result.setdefault(kind.strip(), set()).update(attributes.split())
    return result


def drift(plan):
    """Yields (address, type, attribute) of everything the plan would change."""
    for resource in plan.get("resource_changes", []):
        change = resource["change"]
        if resource["mode"] != "managed" or change["actions"] == ["no-op"]:
            continue
        before, after = change["before"] or {}, change["after"] or {}
        if not (before and after):
            # Created, or deleted for good: no attribute tells it.
            yield resource["address"], resource["type"], "/".join(change["actions"])
            continue
        # A replacement makes every computed attribute unknown: only what the
        # configuration sets is drift.
        for name in sorted(set(before) | set(after)):
            if before.get(name) != after.get(name) and change["after_unknown"].get(name) is not True and after.get(name) is not None:
                yield resource["address"], resource["type"], name


def main():
    plan = json.load(open(sys.argv[1]))
    allow = allowed(sys.argv[2:])
    seen, wrong = {}, []
    for address, kind, attribute in drift(plan):
        seen.setdefault(kind, set()).add(attribute)
        if attribute not in allow.get(kind, set()):
            wrong.append(f"unexpected drift: {address}: {attribute}")
    for kind, attributes in allow.items():
        for attribute in sorted(attributes - seen.get(kind, set())):
            wrong.append(f"allowed but not seen, remove it: {kind}: {attribute}")
    print("\n".join(wrong) or f"drift: as allowed, {sum(map(len, seen.values()))} attributes of {len(seen)} types")
    sys.exit(bool(wrong))


main()
