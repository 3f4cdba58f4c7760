"""Checks that whoever is to send something inside the stack may: that alarms ring.

Usage: policies.py STATE.json — `terraform show -json` of an applied stack.
       policies.py --runs < LOG — what `terraform test -json -verbose` says: it is
       shown, and the stack of each of its runs is checked.

For every action of an alarm, target of a rule and subscription, and for every log
group, bucket and queue that an AWS service writes to: the policy of what is written
to, and of the key that it is under, are evaluated for that service with the context
that it really sends (TELLS_KMS), and must allow it. What is in another account must be
refused by the policy of what is written to. Whether the alarms can ring at all is
asked of ringing.py. How something unknown here is reached is
an error: whoever adds it says so below.
"""

import fnmatch
import json
import re
import sys

import ringing

# --- Policies --------------------------------------------------------------


def listed(value):
    return value if isinstance(value, list) else [value]


def like(pattern, text):
    """As IAM has it: * and ? alone are special."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def arn_like(pattern, arn):
    """Each of the six parts by itself: no * reaches over a colon but in the last."""
    patterns, parts = pattern.split(":", 5), arn.split(":", 5)
    return len(patterns) == len(parts) and all(map(like, patterns, parts))


OPERATORS = {
    "StringEquals": lambda wanted, found: wanted == found,
    "StringLike": like,
    "ArnEquals": arn_like,
    "ArnLike": arn_like,
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
}


def holds(operator, keys, context):
    if_exists = operator.endswith("IfExists")
    test = OPERATORS[operator.removesuffix("IfExists")]
    for key, wanted in keys.items():
        found = context.get(key.lower())
        if found is None and not if_exists:
            return False
        if found is not None and not any(test(value, found) for value in listed(wanted)):
            return False
    return True


def applies(statement, principal, action, resource, context):
    who = statement["Principal"]
    if who != "*" and principal not in listed(who.get("Service", [])):
        return False
    if not any(like(pattern.lower(), action.lower()) for pattern in listed(statement["Action"])):
        return False
    if not any(like(pattern, resource) for pattern in listed(statement.get("Resource", "*"))):
        return False
    return all(holds(operator, keys, context) for operator, keys in statement.get("Condition", {}).items())


def allows(policy, principal, action, resource, context):
    context = {key.lower(): value for key, value in {"aws:SecureTransport": "true", **context}.items()}
    effects = {one["Effect"] for one in json.loads(policy)["Statement"] if applies(one, principal, action, resource, context)}
    return effects == {"Allow"}


# --- What services send ----------------------------------------------------

# Service: whether it tells KMS for whom it asks. EventBridge does not: SNS's developer
# guide says that conditions on the source are not supported for what it sends to an
# encrypted topic. CloudWatch Logs names the log group in its encryption context alone.
TELLS_KMS = {"cloudwatch": True, "events": False, "sns": True, "s3": True, "backup": True, "events.rds": False, "budgets": True}

KEY_ACTIONS = ["kms:GenerateDataKey", "kms:Decrypt"]
STRANGER = "999999999999"


def source(arn, account):
    """S3's ARNs name no account, so that it is told beside."""
    return {"aws:SourceArn": arn, "aws:SourceAccount": account}


class Stack:
    """The resources of a stack, by type."""

    def __init__(self, values):
        self.all = list(self.flat(values["root_module"]))
        self.outputs = {name: output["value"] for name, output in values.get("outputs", {}).items()}
        self.region = self.outputs["region"]
        self.account = next(json.loads(one["values"]["policy"])["Statement"][0]["Principal"]["AWS"] for one in self.of("aws_kms_key")).split(":")[4]
        self.wrong, self.checked = [], 0

    def flat(self, module):
        yield from module.get("resources", [])
        for child in module.get("child_modules", []):
            yield from self.flat(child)

    def of(self, kind):
        return [one for one in self.all if one["type"] == kind and one["mode"] == "managed"]

    def with_arn(self, kind, arn):
        return [one["values"] for one in self.of(kind) if one["values"]["arn"] == arn]

    def arn(self, service, rest, account=None):
        return f"arn:aws:{service}:{self.region}:{account or self.account}:{rest}"

    def expect(self, what, wanted, found):
        self.checked += 1
        if wanted != found:
            self.wrong.append(f"{what}: {'no' if wanted else 'yes'}, which must not be")

    # --- What is sent to, and the key it is under ---------------------------

    def policies(self, kind, attribute, value):
        return [one["values"]["policy"] for one in self.of(kind) if one["values"][attribute] == value]

    def key_allows(self, what, key, service, context):
        for found in self.with_arn("aws_kms_key", key):
            for action in KEY_ACTIONS:
                told = context if TELLS_KMS[service] else {}
                self.expect(f"{what}: {action} of its key", True, allows(found["policy"], f"{service}.amazonaws.com", action, key, told))

    def sends(self, what, service, arn, sender):
        """`sender` is an ARN of this account; the same of another must be refused."""
        own, strange = source(sender, self.account), source(sender.replace(self.account, STRANGER), STRANGER)
        kind = arn.split(":")[2]
        if kind == "sns":
            policies, action, found = self.policies("aws_sns_topic_policy", "arn", arn), "sns:Publish", self.with_arn("aws_sns_topic", arn)
        elif kind == "sqs":
            found = self.with_arn("aws_sqs_queue", arn)
            policies, action = self.policies("aws_sqs_queue_policy", "queue_url", found[0]["url"]), "sqs:SendMessage"
        elif kind == "lambda":
            self.invokes(what, service, arn, sender)
            return
        else:
            self.wrong.append(f"{what}: how to reach {arn} is not known here")
            return
        if not policies:
            self.wrong.append(f"{what}: {arn} has no policy")
        for policy in policies:
            self.expect(f"{what}: {action}", True, allows(policy, f"{service}.amazonaws.com", action, arn, own))
            self.expect(f"{what}: {action} from another account", False, allows(policy, f"{service}.amazonaws.com", action, arn, strange))
        for one in found:
            self.key_allows(what, one.get("kms_master_key_id"), service, own)

    def invokes(self, what, service, arn, sender):
        permissions = [one["values"] for one in self.of("aws_lambda_permission")]
        given = [one for one in permissions if one["principal"] == f"{service}.amazonaws.com" and one["action"] == "lambda:InvokeFunction"]
        wanted = source(sender, self.account)
        named = any(
            arn_like(one["source_arn"], wanted["aws:SourceArn"]) and one.get("source_account") in (None, "", self.account)
            for one in given
        )
        self.expect(f"{what}: lambda:InvokeFunction", True, named)


# --- Who sends -------------------------------------------------------------


def alarms(stack):
    for alarm in stack.of("aws_cloudwatch_metric_alarm") + stack.of("aws_cloudwatch_composite_alarm"):
        values = alarm["values"]
        if not values.get("alarm_actions"):
            stack.wrong.append(f"{alarm['address']} tells nobody")
        for state in ("alarm_actions", "ok_actions", "insufficient_data_actions"):
            for arn in values.get(state) or []:
                stack.sends(alarm["address"], "cloudwatch", arn, stack.arn("cloudwatch", f"alarm:{values['alarm_name']}"))


def rules(stack):
    targets = {one["values"]["rule"]: one["values"] for one in stack.of("aws_cloudwatch_event_target")}
    for rule in stack.of("aws_cloudwatch_event_rule"):
        name = rule["values"]["name"]
        if name not in targets:
            stack.wrong.append(f"{rule['address']} has no target")
            continue
        # A mocked rule's ARN does not name it, and a permission has no other.
        sender = rule["values"]["arn"] if targets[name]["arn"].split(":")[2] == "lambda" else stack.arn("events", f"rule/{name}")
        stack.sends(rule["address"], "events", targets[name]["arn"], sender)
        for letters in targets[name].get("dead_letter_config") or []:
            stack.sends(f"{rule['address']}, dead letters", "events", letters["arn"], sender)


def subscriptions(stack):
    for one in stack.of("aws_db_event_subscription"):
        stack.sends(one["address"], "events.rds", one["values"]["sns_topic"], stack.arn("rds", f"es:{one['values']['name']}"))
    for one in stack.of("aws_backup_vault_notifications"):
        stack.sends(one["address"], "backup", one["values"]["sns_topic_arn"], stack.arn("backup", f"backup-vault:{one['values']['backup_vault_name']}"))
    for one in stack.of("aws_budgets_budget"):
        for told in one["values"].get("notification") or []:
            for arn in told.get("subscriber_sns_topic_arns") or []:
                stack.sends(one["address"], "budgets", arn, f"arn:aws:budgets::{stack.account}:budget/{one['values']['name']}")
    for one in stack.of("aws_sns_topic_subscription"):
        if one["values"]["protocol"] == "sqs":
            stack.sends(one["address"], "sns", one["values"]["endpoint"], one["values"]["topic_arn"])
    for one in stack.of("aws_s3_bucket_notification"):
        for to in (one["values"].get("queue") or []) + (one["values"].get("topic") or []):
            stack.sends(one["address"], "s3", to.get("queue_arn") or to["topic_arn"], f"arn:aws:s3:::{one['values']['bucket']}")


def ingest(stack):
    """The customer's own buckets, topics and rules, of this account alone, to one queue."""
    for queue in stack.of("aws_sqs_queue"):
        address, arn = queue["address"], queue["values"]["arn"]
        senders = {
            "s3": "arn:aws:s3:::their-bucket",
            "sns": stack.arn("sns", "their-topic"),
            "events": stack.arn("events", "rule/their-rule"),
        }
        if address == 'aws_sqs_queue.main["ingest"]':
            for service, sender in senders.items():
                stack.sends(f"{address} from {service}", service, arn, sender)
            continue
        # By name, for in a mocked stack queues have one URL.
        own = [one for one in stack.of("aws_sqs_queue_policy") if (one["name"], one["index"]) == (queue["name"], queue["index"])]
        if not own:
            stack.wrong.append(f"{address} has no policy")
        for policy in own:
            for service, sender in senders.items():
                allowed = allows(policy["values"]["policy"], f"{service}.amazonaws.com", "sqs:SendMessage", arn, source(sender, stack.account))
                stack.expect(f"{address} from {service}", False, allowed)


def log_groups(stack):
    for group in stack.of("aws_cloudwatch_log_group"):
        key = group["values"].get("kms_key_id")
        context = {"kms:EncryptionContext:aws:logs:arn": stack.arn("logs", f"log-group:{group['values']['name']}")}
        for found in stack.with_arn("aws_kms_key", key):
            for action in ("kms:Encrypt", "kms:Decrypt", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:DescribeKey"):
                allowed = allows(found["policy"], f"logs.{stack.region}.amazonaws.com", action, key, context)
                stack.expect(f"{group['address']}: {action}", True, allowed)


def access_logs(stack):
    """A load balancer writes to a bucket under S3's own key alone."""
    for balancer in stack.of("aws_lb"):
        for logs in balancer["values"].get("access_logs") or []:
            for bucket in [one for one in stack.of("aws_s3_bucket") if one["name"] == "access_logs"]:
                arn = f"{bucket['values']['arn']}/AWSLogs/{stack.account}/elasticloadbalancing/x.log.gz"
                sender = stack.arn("elasticloadbalancing", f"loadbalancer/app/{balancer['values']['name']}/0123456789abcdef")
                for policy in [one["values"]["policy"] for one in stack.of("aws_s3_bucket_policy") if one["name"] == "access_logs"]:
                    service = "logdelivery.elasticloadbalancing.amazonaws.com"
                    stack.expect(f"{balancer['address']}: its log", True, allows(policy, service, "s3:PutObject", arn, {"aws:SourceArn": sender}))
            for one in stack.of("aws_s3_bucket_server_side_encryption_configuration"):
                if one["name"] == "access_logs":
                    algorithm = one["values"]["rule"][0]["apply_server_side_encryption_by_default"][0]["sse_algorithm"]
                    stack.expect(f"{balancer['address']}: {algorithm} of its log", True, algorithm == "AES256")


# Roles whose policy must let a service write log lines: the actions, each with the
# ARN that CloudWatch Logs asks about, which is always that of a stream.
LOG_WRITERS = {
    "aws_iam_role_policy.database_monitoring": (
        ["logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:GetLogEvents", "logs:PutLogEvents"],
        "RDSOSMetrics",
    ),
    "aws_iam_role_policy.flow": (["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], None),
    "aws_iam_role_policy.execution": (["logs:CreateLogStream", "logs:PutLogEvents"], None),
}


def log_streams(stack):
    policies = {one["address"]: one["values"]["policy"] for one in stack.of("aws_iam_role_policy")}
    for address, (actions, name) in LOG_WRITERS.items():
        if address not in policies:
            continue
        statements = json.loads(policies[address])["Statement"]
        granted = [arn for one in statements if "logs:PutLogEvents" in listed(one["Action"]) for arn in listed(one["Resource"])]
        groups = {re.sub(r":(log-stream:)?\*$", "", arn) for arn in granted}
        for group in [stack.arn("logs", f"log-group:{name}")] if name else sorted(groups):
            for action in actions:
                streams = ["", "a-stream"] if action.endswith(("LogStream", "LogEvents")) else [""]
                for stream in streams:
                    asked = f"{group}:log-stream:{stream}"
                    may = any(action in listed(one["Action"]) and any(like(arn, asked) for arn in listed(one["Resource"])) for one in statements)
                    stack.expect(f"{address}: {action} on {asked}", True, may)


# --- The evaluator itself --------------------------------------------------


def check_evaluator():
    """It refuses what a service does not send the condition of, and what is another's."""
    policy = lambda condition: json.dumps({"Statement": [{"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "kms:*", "Resource": "*", "Condition": condition}]})
    asked = ("events.amazonaws.com", "kms:Decrypt", "arn:aws:kms:r:1:key/k")
    bound = policy({"ArnLike": {"aws:SourceArn": "arn:aws:*:r:1:*"}})
    assert not allows(bound, *asked, {})
    assert allows(bound, *asked, source("arn:aws:events:r:1:rule/x", "1"))
    assert not allows(bound, *asked, source("arn:aws:events:r:2:rule/x", "2"))
    assert not allows(policy({}), "sns.amazonaws.com", *asked[1:], {})
    assert allows(policy({"StringEqualsIfExists": {"aws:SourceAccount": "1"}}), *asked, {})


CHECKS = [rules, subscriptions, ingest, log_groups, access_logs, log_streams]


def checked(name, values, checks):
    stack = Stack(values)
    for check in checks:
        check(stack)
    print("\n".join(f"{name}: {one}" for one in stack.wrong) or f"policies: {name}: {stack.checked} questions answered as they must be")
    return not stack.wrong


def runs(log):
    """Shows a test's log; yields the stack that each of its runs made."""
    for line in log:
        said = json.loads(line)
        if said["type"] == "test_state":
            yield said["@testrun"], said["test_state"]
        elif said["type"] == "diagnostic":
            told = said["diagnostic"]
            where = told.get("range") or {}
            print(f"{told['severity']}: {told['summary']}\n  {where.get('filename', '')}:{where.get('start', {}).get('line', '')}\n  {told.get('detail', '')}")
        elif said["type"] == "test_summary" or said.get("test_run", {}).get("progress") == "complete":
            print(said["@message"].strip())


def main():
    check_evaluator()
    if sys.argv[1] == "--runs":
        results = [checked(name, values, [*CHECKS, alarms, ringing.check]) for name, values in runs(sys.stdin)]
        # A log without a stack is that of a test that could not begin.
        return bool(results) and all(results)
    # Of an alarm the emulator gives back the half: those are asked of the mocked stacks.
    return checked(sys.argv[1].rsplit("/", 2)[-2], json.load(open(sys.argv[1]))["values"], CHECKS)


sys.exit(not main())
