"""Lists what an account holds, to see that a destroy leaves nothing.

Usage: leftovers.py before FILE | after FILE — `before` an apply writes what there is
into FILE; `after` the destroy, exits 1 with a line for each thing that there was not.
What lasts for a reason is listed in LASTS.
"""

import json
import os
import sys

import boto3

REGION = os.environ["AWS_REGION"]

# (kind): reason. Kinds that a destroy leaves behind on AWS too.
LASTS = {
    "kms key to be deleted": "a key is deleted after its waiting period of 30 days",
}


def client(service, region=REGION):
    return boto3.client(service, region_name=region)


def regional(region):
    """Yields (kind, name) of what is in one region."""

    def things(kind, service, operation, key, name, **arguments):
        answer = getattr(client(service, region), operation)(**arguments)
        for thing in answer.get(key) or []:
            yield kind, thing if name is None else thing[name]

    ec2 = {
        "vpc": ("describe_vpcs", "Vpcs", "VpcId"),
        "subnet": ("describe_subnets", "Subnets", "SubnetId"),
        "security group": ("describe_security_groups", "SecurityGroups", "GroupId"),
        "route table": ("describe_route_tables", "RouteTables", "RouteTableId"),
        "internet gateway": ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
        "address": ("describe_addresses", "Addresses", "AllocationId"),
        "flow log": ("describe_flow_logs", "FlowLogs", "FlowLogId"),
    }
    for kind, (operation, key, name) in ec2.items():
        yield from things(kind, "ec2", operation, key, name)
    for gateway in client("ec2", region).describe_nat_gateways()["NatGateways"]:
        if gateway["State"] != "deleted":
            yield "nat gateway", gateway["NatGatewayId"]
    for endpoint in client("ec2", region).describe_vpc_endpoints()["VpcEndpoints"]:
        if endpoint["State"] != "deleted":
            yield "vpc endpoint", endpoint["VpcEndpointId"]
    yield from things("load balancer", "elbv2", "describe_load_balancers", "LoadBalancers", "LoadBalancerName")
    yield from things("target group", "elbv2", "describe_target_groups", "TargetGroups", "TargetGroupName")
    yield from things("function", "lambda", "list_functions", "Functions", "FunctionName")
    yield from things("mapping", "lambda", "list_event_source_mappings", "EventSourceMappings", "UUID")
    for cluster in client("ecs", region).describe_clusters(clusters=client("ecs", region).list_clusters()["clusterArns"])["clusters"]:
        if cluster["status"] == "ACTIVE":
            yield "cluster", cluster["clusterName"]
    yield from things("task definition", "ecs", "list_task_definitions", "taskDefinitionArns", None, status="ACTIVE")
    yield from things("repository", "ecr", "describe_repositories", "repositories", "repositoryName")
    yield from things("database", "rds", "describe_db_instances", "DBInstances", "DBInstanceIdentifier")
    yield from things("database cluster", "rds", "describe_db_clusters", "DBClusters", "DBClusterIdentifier")
    yield from things("database proxy", "rds", "describe_db_proxies", "DBProxies", "DBProxyName")
    yield from things("database subnets", "rds", "describe_db_subnet_groups", "DBSubnetGroups", "DBSubnetGroupName")
    yield from things("cache", "elasticache", "describe_replication_groups", "ReplicationGroups", "ReplicationGroupId")
    yield from things("table", "dynamodb", "list_tables", "TableNames", None)
    yield from things("queue", "sqs", "list_queues", "QueueUrls", None)
    yield from things("secret", "secretsmanager", "list_secrets", "SecretList", "Name")
    yield from things("log group", "logs", "describe_log_groups", "logGroups", "logGroupName")
    yield from things("alarm", "cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName")
    yield from things("dashboard", "cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName")
    yield from things("topic", "sns", "list_topics", "Topics", "TopicArn")
    yield from things("rule", "events", "list_rules", "Rules", "Name")
    yield from things("backup vault", "backup", "list_backup_vaults", "BackupVaultList", "BackupVaultName")
    yield from things("backup plan", "backup", "list_backup_plans", "BackupPlansList", "BackupPlanName")
    yield from things("web ACL", "wafv2", "list_web_acls", "WebACLs", "Name", Scope="REGIONAL")
    for alias in client("kms", region).list_aliases()["Aliases"]:
        if not alias["AliasName"].startswith("alias/aws/"):
            yield "kms alias", alias["AliasName"]
    for key in client("kms", region).list_keys()["Keys"]:
        state = client("kms", region).describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"]
        yield "kms key to be deleted" if state == "PendingDeletion" else "kms key", key["KeyId"]


def everywhere():
    """Yields (kind, name) of what is in no region."""
    iam = client("iam")
    for role in iam.list_roles()["Roles"]:
        if not role["Path"].startswith("/aws-service-role/"):
            yield "role", role["RoleName"]
    for policy in iam.list_policies(Scope="Local")["Policies"]:
        yield "policy", policy["PolicyName"]
    for provider in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]:
        yield "identity provider", provider["Arn"]
    for bucket in client("s3").list_buckets()["Buckets"]:
        yield "bucket", bucket["Name"]
    for distribution in client("cloudfront").list_distributions()["DistributionList"].get("Items") or []:
        yield "distribution", distribution["Id"]
    for acl in client("wafv2", "us-east-1").list_web_acls(Scope="CLOUDFRONT")["WebACLs"]:
        yield "web ACL", acl["Name"]
    route53 = client("route53")
    for zone in route53.list_hosted_zones()["HostedZones"]:
        yield "zone", zone["Name"]
        for record in route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]:
            yield "record", f"{record['Name']} {record['Type']}"
    for check in route53.list_health_checks()["HealthChecks"]:
        yield "health check", check["Id"]


def inventory():
    found = [(f"{kind} in {region}", kind, name) for region in (REGION, "eu-central-1") for kind, name in regional(region)]
    return found + [(kind, kind, name) for kind, name in everywhere()]


def main():
    moment, path = sys.argv[1:]
    found = inventory()
    if moment == "before":
        json.dump(found, open(path, "w"))
        return
    before = {tuple(thing) for thing in json.load(open(path))}
    new = [thing for thing in found if thing not in before]
    left = [f"left behind: {place}: {name}" for place, kind, name in new if kind not in LASTS]
    left += [f"never left behind, remove it: {kind}" for kind in LASTS if kind not in {kind for _, kind, _ in new}]
    print("\n".join(left) or f"leftovers: none, but {len(new)} that last: {', '.join(LASTS)}")
    sys.exit(bool(left))


main()
