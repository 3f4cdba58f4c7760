"""Checks that what was applied is there as the code needs it.

Usage: applied.py OUTPUTS.json TABLE.json — the outputs as `terraform output -json` has
them, and the table description the code reads. Talks to whatever AWS_ENDPOINT_URL
names. Exits at the first thing that is not as it must be.
"""

import base64
import json
import sys

import boto3

outputs = {name: output["value"] for name, output in json.load(open(sys.argv[1])).items()}
description = json.load(open(sys.argv[2]))
region = outputs["region"]


def client(service):
    return boto3.client(service, region_name=region)


def same(what, found, wanted):
    assert found == wanted, f"{what}: found {found!r}, the code needs {wanted!r}"


def keys(schema):
    return {key["AttributeName"]: key["KeyType"] for key in schema}


def described(schema):
    return {key["name"]: key["role"] for key in schema}


def check_table():
    dynamodb, name = client("dynamodb"), outputs["table"]
    table = dynamodb.describe_table(TableName=name)["Table"]
    same("key schema", keys(table["KeySchema"]), described(description["key_schema"]))
    same("billing", table["BillingModeSummary"]["BillingMode"], description["billing"])
    # The code reads no stream; only replication to another region needs one.
    same("streams", table.get("StreamSpecification", {}).get("StreamEnabled", False), bool(table.get("Replicas")))
    same("encryption", table["SSEDescription"]["SSEType"], "KMS")
    indexes = {index["IndexName"]: index for index in table["GlobalSecondaryIndexes"]}
    same("indexes", set(indexes), {index["name"] for index in description["indexes"]})
    for index in description["indexes"]:
        found = indexes[index["name"]]
        same(f"{index['name']} keys", keys(found["KeySchema"]), described(index["keys"]))
        same(f"{index['name']} projection", found["Projection"]["ProjectionType"], index["projection"]["type"])
        same(
            f"{index['name']} attributes",
            set(found["Projection"].get("NonKeyAttributes", [])),
            set(index["projection"].get("attributes", [])),
        )
    ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    same("TTL", (ttl["TimeToLiveStatus"], ttl["AttributeName"]), ("ENABLED", description["ttl_attribute"]))
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    same("PITR", backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"], "ENABLED")
    # Written as the code writes: once, under a condition.
    item = {key["name"]: {"S": "deploy-test"} for key in description["key_schema"]}
    condition = f"attribute_not_exists({description['key_schema'][0]['name']})"
    dynamodb.put_item(TableName=name, Item=item, ConditionExpression=condition)
    try:
        dynamodb.put_item(TableName=name, Item=item, ConditionExpression=condition)
        raise AssertionError("a second conditional put went through")
    except dynamodb.exceptions.ConditionalCheckFailedException:
        pass
    dynamodb.delete_item(TableName=name, Key=item)


def check_queues():
    sqs = client("sqs")

    def attributes(url):
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

    same("queues", set(outputs["queues"]), {"fan_out", "deliver", "ingest"})
    for name, urls in outputs["queues"].items():
        queue, dead = attributes(urls["url"]), attributes(urls["dead_letter_url"])
        same(f"{name} redrive", json.loads(queue["RedrivePolicy"])["deadLetterTargetArn"], dead["QueueArn"])
        same(f"{name} redrive source", json.loads(dead["RedriveAllowPolicy"])["sourceQueueArns"], [queue["QueueArn"]])
        assert queue["KmsMasterKeyId"] and dead["KmsMasterKeyId"], f"{name} is not encrypted"
        sqs.send_message(QueueUrl=urls["url"], MessageBody="{}", DelaySeconds=900)
    # Nothing that was sent here may be read by what comes after.
    for urls in outputs["queues"].values():
        sqs.purge_queue(QueueUrl=urls["url"])


def check_secrets():
    secrets = client("secretsmanager")
    for name, arn in outputs["secrets"].items():
        same(f"secret {name}", secrets.describe_secret(SecretId=arn)["ARN"], arn)

    def value(name):
        return secrets.get_secret_value(SecretId=outputs["secrets"][name])["SecretString"]

    ring = json.loads(value("key_ring"))
    assert ring["primary"] in ring["keys"], "the ring's primary is none of its keys"
    # One by `scripts/secrets init`, one by its rotation.
    same("keys in the ring", len(ring["keys"]), 2)
    same("bytes of a key", {len(base64.b64decode(key, validate=True)) for key in ring["keys"].values()}, {32})
    assert len(value("admin_key")) >= 32, "the admin key is too short"


def check_lambda():
    if not outputs.get("lambda"):
        return
    functions, function = client("lambda"), outputs["lambda"]["function"]
    configuration = functions.get_function_configuration(FunctionName=function)
    same("function's environment", configuration["Environment"]["Variables"]["MILLRACE_DYNAMODB__TABLE"], outputs["table"])
    mappings = {}
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        mappings[mapping["EventSourceArn"].split(":")[-1]] = mapping
    for name, urls in outputs["queues"].items():
        mapping = mappings[urls["url"].split("/")[-1]]
        assert mapping["FunctionArn"] == outputs["lambda"]["arn"], f"{name} calls {mapping['FunctionArn']}"
        same(f"{name} partial batches", mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])
        assert mapping["ScalingConfig"]["MaximumConcurrency"] >= 2, name
        timeout_s = int(client("sqs").get_queue_attributes(QueueUrl=urls["url"], AttributeNames=["All"])["Attributes"]["VisibilityTimeout"])
        same(f"{name} visibility timeout", timeout_s, 6 * configuration["Timeout"])


def check_tasks():
    ecs = client("ecs")
    for name, family in {**outputs["ecs"]["services"], "migrate": outputs["ecs"]["migrate"]["family"]}.items():
        container = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]["containerDefinitions"][0]
        found = {pair["name"]: pair["value"] for pair in container["environment"]}
        same(f"{name} environment", found, outputs["environment_of_tasks"][name])


checks = [check_table, check_queues, check_secrets, check_lambda, check_tasks]
for check in checks:
    check()
print(f"applied: {len(checks)} things are as the code needs them")
