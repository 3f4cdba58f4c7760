"""Tests deploy/scripts/restore-check on the emulator, as pipeline.py tests the others.

Usage: restore.py [NAME]…
"""

import json
import pathlib
import re

import boto3
import pipeline
from pipeline import Failed, Stack, deploy, ecs, fails, region, same

dynamodb, rds, backups, ec2 = (boto3.client(name, region_name=region) for name in ("dynamodb", "rds", "backup", "ec2"))


class Restorable(Stack):
    """A stack with a table, a database and a vault, and three events in the table."""

    def __init__(self, image="v1"):
        super().__init__(services=(), function=False)
        self.image(*([image] if image != "v1" else []))
        self.register("migrate", image, MILLRACE_DATABASE__HOST="living", MILLRACE_DATABASE__SECRET_ARN="arn:aws:secretsmanager:owner")
        index = {"IndexName": "timeline", "KeySchema": [{"AttributeName": "tl_pk", "KeyType": "HASH"}], "Projection": {"ProjectionType": "ALL"}}
        table = dynamodb.create_table(
            TableName=self.name, BillingMode="PAY_PER_REQUEST", GlobalSecondaryIndexes=[index],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "tl_pk")],
        )["TableDescription"]
        for number in range(3):
            self.put(f"evt_{number}", "event", f'{{"n":{number}}}')
        self.put("evt_0", "delivery#ep_1", "pending")
        database = rds.create_db_instance(DBInstanceIdentifier=self.name, DBInstanceClass="db.t4g.micro", Engine="postgres", MasterUsername="millrace", MasterUserPassword="not-used-here", AllocatedStorage=20)["DBInstance"]
        backups.create_backup_vault(BackupVaultName=self.name)
        self.facts |= {
            "table": self.name, "table_arn": table["TableArn"],
            "database": {
                "identifier": self.name, "arn": database["DBInstanceArn"], "cluster": False, "subnet_group": self.name,
                "security_groups": ["sg-1"], "login": "arn:aws:secretsmanager:app-login",
            },
            "backup": {"vault": self.name, "role": self.role, "key": "arn:aws:kms:eu-west-1:123456789012:key/data"},
        }

    def put(self, pk, sk, body):
        dynamodb.put_item(TableName=self.name, Item={"pk": {"S": pk}, "sk": {"S": sk}, "tl_pk": {"S": "prj"}, "body": {"S": body}})

    def back_up(self):
        for arn in (self.facts["table_arn"], self.facts["database"]["arn"]):
            backups.start_backup_job(BackupVaultName=self.name, ResourceArn=arn, IamRoleArn=self.role)

    def left(self):
        """What a check has left behind: there must be the stack's own alone."""
        tables = [name for name in dynamodb.list_tables()["TableNames"] if name.startswith(f"{self.name}-check-")]
        databases = [one["DBInstanceIdentifier"] for one in rds.describe_db_instances()["DBInstances"] if one["DBInstanceIdentifier"].startswith(f"{self.name}-check-")]
        return tables + databases

    def doctor(self):
        """What the one-off task was told over its definition."""
        tasks = ecs.list_tasks(cluster=self.name, desiredStatus="STOPPED")["taskArns"]
        (override,) = ecs.describe_tasks(cluster=self.name, tasks=tasks)["tasks"][0]["overrides"]["containerOverrides"]
        return override["command"], {pair["name"]: pair["value"] for pair in override["environment"]}


ALL_WELL = [
    "ok    table: the keys and indexes of NAME",
    "ok    table: 3 events as they are, 0 expired or erased since, 0 differ, 1 other items",
    "ok    database: control-plane database",
    "ok    database: migrations",
]


def test_restore_to_the_latest_second():
    stack = Restorable()
    same(stack.run("restore-check").splitlines(), [line.replace("NAME", stack.name) for line in ALL_WELL])
    same(stack.left(), [])
    command, environment = stack.doctor()
    same((command, environment["MILLRACE_DATABASE__SECRET_ARN"]), (["doctor"], "arn:aws:secretsmanager:app-login"))
    assert environment["MILLRACE_DATABASE__HOST"] != "living", environment


def test_restore_from_the_newest_backup():
    stack = Restorable()
    with fails(f"the vault {stack.name} has no complete backup of {stack.facts['table_arn']}"):
        stack.run("restore-check", "backup")
    stack.back_up()
    same(stack.run("restore-check", "backup", EVENT="evt_1").splitlines()[2], "ok    table: evt_1 is in it, as it is")
    same(stack.left(), [])


def test_restore_that_lacks_an_event():
    stack = Restorable()
    with fails() as failed:
        stack.run("restore-check", EVENT="evt_9")
    assert "WRONG table: evt_9 is not in it, or not as it is" in failed.printed, failed.printed
    same(stack.left(), [])


def test_restore_of_an_empty_table():
    stack = Restorable()
    for number in range(3):
        dynamodb.delete_item(TableName=stack.name, Key={"pk": {"S": f"evt_{number}"}, "sk": {"S": "event"}})
    dynamodb.delete_item(TableName=stack.name, Key={"pk": {"S": "evt_0"}, "sk": {"S": "delivery#ep_1"}})
    with fails() as failed:
        stack.run("restore-check")
    assert "WRONG table: 0 events as they are" in failed.printed, failed.printed


def test_restore_of_a_database_without_its_tables():
    stack = Restorable(image="unmigrated-1")
    with fails() as failed:
        stack.run("restore-check")
    assert "WRONG database: migrations: WRONG migrations: V1__start is not applied" in failed.printed, failed.printed
    assert "ok    database: control-plane database" in failed.printed, failed.printed
    same(stack.left(), [])


def test_restore_of_a_database_that_is_gone():
    stack = Restorable()
    rds.delete_db_instance(DBInstanceIdentifier=stack.name, SkipFinalSnapshot=True)
    try:
        stack.run("restore-check")
    except Failed as failed:
        assert "DBInstanceNotFound" in failed.said, failed.said
    else:
        raise AssertionError("restored a database that is not there")
    # The table had been begun.
    same(stack.left(), [])


def test_restore_check_usage():
    stack = Stack(services=(), function=False)
    with fails("deploy/scripts/restore-check", "Needs"):
        stack.run("restore-check", "--help")
    with fails("export STACK=$(terraform output -json stack)"):
        stack.run("restore-check", STACK="")
    with fails("STACK says nothing of"):
        stack.run("restore-check")


def test_restore_policy_has_what_the_script_calls():
    """The policy's actions are what the script calls and what AWS does in its name."""
    granted = set(re.findall(r'"([a-z-]+:[A-Z][A-Za-z*]+)"', (deploy / "iam_restore.tf").read_text())) - {"iam:PassedToService", "kms:ViaService"}
    called = {"iam:PassRole"}
    # DynamoDB writes a restored table in the name of who asked, RDS's and
    # DynamoDB's copies are encrypted so, and RDS makes an instance's tags.
    called |= {f"dynamodb:{name}" for name in ("BatchWriteItem", "DeleteItem", "PutItem", "Query", "UpdateItem")}
    called |= {f"kms:{name}" for name in ("CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKey")}
    called |= {"rds:AddTagsToResource"}
    text = (deploy / "scripts/restore-check").read_text()
    for service, command in re.findall(r"\baws (ecs|rds|dynamodb|backup|logs) ([a-z-]+)", text):
        action = "".join(word.capitalize() for word in command.split("-"))
        called.add(f"{service}:{action.replace('Db', 'DB')}")
    same(sorted(granted), sorted(called))


if __name__ == "__main__":
    pipeline.main(globals())
