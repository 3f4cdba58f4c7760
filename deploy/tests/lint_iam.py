"""Lints every IAM document of an applied stack.

Usage: lint_iam.py STATE.json ACTIONS.json — `terraform show -json` of the applied
state, where all ARNs are known, and the actions that the code calls. Every policy of a role goes through parliament (is it
grammatical, do actions, resources and conditions fit each other) and
cloudsplaining (escalation, exfiltration, infrastructure modification); every
document, resource policies and trusts included, through the rules below. What the
roles of tasks and function may do is held against what the code calls, both ways.
Exits 1 with a line for each finding.

An exception is listed in EXCEPTIONS with its reason, and one that no longer
occurs is a finding too.
"""

import json
import logging
import sys

import parliament
from cloudsplaining.scan.policy_document import PolicyDocument

logging.disable(logging.WARNING)

# (role, tool, finding): reason
EXCEPTIONS = {
    ("ci", "cloudsplaining", "CredentialsExposure"): "docker push needs a registry login, which AWS gives for the whole registry",
    ("execution", "cloudsplaining", "CredentialsExposure"): "pulling an image needs a registry login, which AWS gives for the whole registry",
    ("lambda", "parliament", "RESOURCE_MISMATCH"): "Lambda's documentation asks for network interfaces as */*: it checks before it has one to name",
    ("lambda", "parliament", "UNKNOWN_CONDITION_FOR_ACTION"): "lambda:SourceFunctionArn is in every call a function's code makes, to any service",
}

# (role, managed policy): reason. No other managed policy may be attached.
ATTACHED = {
    ("backup", "AWSBackupServiceRolePolicyForBackup"): "AWS's own list for its own service: it grows with AWS Backup, and a copy of it would one day fail a backup",
    ("backup", "AWSBackupServiceRolePolicyForRestores"): "likewise, for a restore",
    ("plan", "ReadOnlyAccess"): "what a provider reads grows with its versions; what of it is data, the role's own policy denies",
}

# What a rule may do with the key of an encrypted topic or queue.
KEY_FOR_RULES = ["kms:Decrypt", "kms:GenerateDataKey*"]

DOCUMENTS = {
    # resource type: attributes that hold a policy
    "aws_iam_role": ["assume_role_policy"],
    "aws_iam_role_policy": ["policy"],
    "aws_iam_policy": ["policy"],
    "aws_kms_key": ["policy"],
    "aws_s3_bucket_policy": ["policy"],
    "aws_sqs_queue_policy": ["policy"],
    "aws_sns_topic_policy": ["policy"],
    "aws_ecr_repository_policy": ["policy"],
    "aws_vpc_endpoint": ["policy"],
    "aws_cloudwatch_log_resource_policy": ["policy_document"],
}


def listed(value):
    return value if isinstance(value, list) else [value]


def resources(module):
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from resources(child)


def resource_required(action):
    """Whether AWS lets a policy name the resource of this action."""
    service, name = action.split(":")
    for entry in parliament.iam_definition:
        if entry["prefix"] == service:
            for privilege in entry["privileges"]:
                if privilege["privilege"] == name:
                    return any(kind["resource_type"] for kind in privilege["resource_types"])
    raise SystemExit(f"{action} is no action that AWS knows")


def lint_role_policy(role, document):
    """Yields (tool, finding, detail) for a policy that a role has."""
    analyzed = parliament.analyze_policy_string(json.dumps(document))
    for finding in analyzed.findings:
        yield "parliament", finding.issue, finding.detail
    scanned = PolicyDocument(document)
    for statement in document["Statement"]:
        if statement["Effect"] != "Allow":
            continue
        for action in listed(statement["Action"]):
            if "*" in action:
                yield "rule", "ActionWildcard", action
            elif "*" in listed(statement["Resource"]) and resource_required(action):
                yield "rule", "ResourceWildcard", action
    for name, found in [
        ("PrivilegeEscalation", scanned.allows_privilege_escalation),
        ("ResourceExposure", scanned.permissions_management_without_constraints),
        ("DataExfiltration", scanned.allows_data_exfiltration_actions),
        ("ServiceWildcard", scanned.service_wildcard),
        ("CredentialsExposure", scanned.credentials_exposure),
        ("InfrastructureModification", scanned.infrastructure_modification),
    ]:
        # What is named by ARN is not unconstrained: cloudsplaining looks at `*` only.
        for item in found:
            yield "cloudsplaining", name, json.dumps(item)


def lint_trust(document):
    for statement in document["Statement"]:
        if statement["Principal"] == "*" or "AWS" in statement["Principal"]:
            yield "rule", "OpenTrust", json.dumps(statement["Principal"])
        if "Federated" in statement["Principal"]:
            equals = statement.get("Condition", {}).get("StringEquals", {})
            if not any(key.endswith(":sub") and "*" not in value for key, value in equals.items()):
                yield "rule", "FederatedWithoutSubject", json.dumps(statement)


def lint_resource_policy(document):
    for statement in document["Statement"]:
        if statement["Effect"] == "Allow" and statement["Principal"] == "*" and "Condition" not in statement and listed(statement["Resource"]) == ["*"]:
            yield "rule", "Public", json.dumps(statement)
        service = statement["Principal"].get("Service") if isinstance(statement["Principal"], dict) else None
        # Without a condition, a service could be made to act for someone else. A key's
        # policy cannot have one for EventBridge, which names no source to KMS: whom it
        # acts for is said by what is under the key.
        if statement.get("Action") == KEY_FOR_RULES and service == "events.amazonaws.com":
            continue
        if service and not any(str(one).startswith("logs.") for one in listed(service)):
            keys = {key for test in statement.get("Condition", {}).values() for key in test}
            if not keys & {"aws:SourceArn", "aws:SourceAccount"}:
                yield "rule", "ConfusedDeputy", json.dumps(statement)


def lint_attachment(role, arn):
    """A managed policy is somebody else's list of actions."""
    if (role, arn.split("/")[-1]) not in ATTACHED or not arn.startswith("arn:aws:iam::aws:policy/"):
        yield "rule", "ManagedPolicy", arn


def lint_calls(role, document, wanted):
    """The policy of a task or the function has what the code calls, and no more."""
    given = set()
    for statement in document["Statement"]:
        if statement["Sid"] == "KeysThroughServices":
            # Not the code's calls: those of services on its behalf.
            if set(statement["Action"]) != {"kms:Decrypt", "kms:GenerateDataKey"} or set(statement["Condition"]) != {"StringEquals"}:
                yield "rule", "Keys", json.dumps(statement)
            continue
        given |= set(listed(statement["Action"]))
        for arn in listed(statement["Resource"]):
            service = "xray" if arn == "*" else arn.split(":")[2]
            if any(action.split(":")[0] != service for action in listed(statement["Action"])):
                yield "rule", "OtherService", json.dumps(statement)
    for action in sorted(wanted - given):
        yield "rule", "MissingAction", action
    for action in sorted(given - wanted):
        yield "rule", "UnusedAction", action


def main():
    state, actions = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
    # Without the archive's bucket there is nothing to name for these.
    archive = any(resource["type"] == "aws_s3_bucket" and resource["name"] == "archive" for resource in resources(state["values"]["root_module"]))
    of_archive = set() if archive else {"s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"}
    prefix = state["values"]["outputs"]["ecs"]["value"]["cluster"]
    region = state["values"]["outputs"]["region"]["value"]
    documents, used, attached, wrong, called = 0, set(), set(), [], set()

    def named(name):
        return name.removeprefix(f"{prefix}-").removesuffix(f"-{region}")

    for resource in resources(state["values"]["root_module"]):
        if resource["type"] in ("aws_iam_role_policy_attachment", "aws_iam_policy_attachment", "aws_iam_user_policy_attachment"):
            role, arn = named(resource["values"].get("role") or ""), resource["values"]["policy_arn"]
            attached.add((role, arn.split("/")[-1]))
            wrong += [f"{resource['address']}: {tool}: {finding}: {detail}" for tool, finding, detail in lint_attachment(role, arn)]
        for attribute in DOCUMENTS.get(resource["type"], []):
            text = resource["values"].get(attribute)
            if not text:
                continue
            documents += 1
            document = json.loads(text)
            owner = resource["values"].get("role") or resource["address"]
            owner = named(owner)
            if attribute == "assume_role_policy":
                findings = lint_trust(document)
            elif resource["type"] in ("aws_iam_role_policy", "aws_iam_policy"):
                findings = list(lint_role_policy(owner, document))
                if resource["address"].startswith("aws_iam_role_policy.task["):
                    called.add(owner)
                    findings += lint_calls(owner, document, set(actions[owner]) - of_archive)
            else:
                findings = lint_resource_policy(document)
            for tool, finding, detail in findings:
                if (owner, tool, finding) in EXCEPTIONS:
                    used.add((owner, tool, finding))
                else:
                    wrong.append(f"{resource['address']}: {tool}: {finding}: {detail}")
    # A variant without the function has none of its role's findings.
    there = {key for key in EXCEPTIONS if key[0] in called | {"ci", "execution"}}
    wrong += [f"exception no longer needed: {key}" for key in there - used]
    wrong += [f"managed policy no longer attached: {key}" for key in ATTACHED.keys() - attached]
    if not called >= {"migrate"}:
        wrong.append("no policy of a task was found")
    print("\n".join(wrong) or f"iam: {documents} documents without a finding, {len(used)} exceptions; {', '.join(sorted(called))} as the code calls")
    sys.exit(bool(wrong))


main()
