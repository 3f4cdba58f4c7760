"""Whether each alarm of a stack can ring: policies.py asks `check` of every one.

An alarm on a metric that nobody publishes, or on one that never gets so far, is
silent for ever and says so to nobody. So each metric is held against what AWS
documents of it: its dimensions, the statistics that mean something, how far it can
go. Expressions are computed for what they are there for. Rules are given the event
that they wait for. What Millrace itself publishes is held by tests/it/alarms.rs.
"""

import json
import re

# (namespace, metric): the sets of dimensions that it is published by, the statistics
# that mean something, and how far it goes, if not as far as one likes.
BY_BALANCER, BY_DATABASE = [{"LoadBalancer"}], [{"DBInstanceIdentifier"}, {"DBClusterIdentifier"}]
BY_SERVICE, BY_TABLE = [{"ClusterName", "ServiceName"}], [{"TableName"}, {"TableName", "GlobalSecondaryIndexName"}]
BY_API = [{"ApiId"}, {"ApiId", "Stage"}]
PERCENT = 100
METRICS = {
    ("AWS/ApplicationELB", "TargetResponseTime"): (BY_BALANCER, {"p99", "Average", "Maximum"}, 4000),
    ("AWS/ApplicationELB", "UnHealthyHostCount"): ([{"LoadBalancer", "TargetGroup"}], {"Average", "Minimum", "Maximum"}, None),
    ("AWS/ApplicationELB", "RejectedConnectionCount"): (BY_BALANCER, {"Sum"}, None),
    ("AWS/ApplicationELB", "RequestCount"): (BY_BALANCER, {"Sum"}, None),
    ("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count"): (BY_BALANCER, {"Sum"}, None),
    ("AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count"): (BY_BALANCER, {"Sum"}, None),
    # Of an HTTP API, which gives its integration 30 s. 5xx is a sample each request: 0 or 1.
    ("AWS/ApiGateway", "Count"): (BY_API, {"Sum", "SampleCount"}, None),
    ("AWS/ApiGateway", "5xx"): (BY_API, {"Sum"}, None),
    ("AWS/ApiGateway", "Latency"): (BY_API, {"p99", "Average", "Maximum"}, 30_000),
    ("AWS/Lambda", "Errors"): ([{"FunctionName"}], {"Sum"}, None),
    ("AWS/Lambda", "Throttles"): ([{"FunctionName"}], {"Sum"}, None),
    ("AWS/Lambda", "Duration"): ([{"FunctionName"}], {"p99", "Average", "Maximum"}, 900_000),
    ("AWS/RDS", "CPUUtilization"): (BY_DATABASE, {"Average", "Maximum"}, PERCENT),
    ("AWS/RDS", "DatabaseConnections"): (BY_DATABASE, {"Average", "Maximum"}, 262_143),
    ("AWS/RDS", "FreeableMemory"): (BY_DATABASE, {"Average", "Minimum"}, None),
    # Aurora has no such thing: its volume grows.
    ("AWS/RDS", "FreeStorageSpace"): ([{"DBInstanceIdentifier"}], {"Average", "Minimum"}, None),
    ("AWS/RDS", "ACUUtilization"): ([{"DBClusterIdentifier"}], {"Average", "Maximum"}, PERCENT),
    # By node: the group as a whole has none.
    ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage"): ([{"CacheClusterId"}, {"CacheClusterId", "CacheNodeId"}], {"Average", "Maximum"}, PERCENT),
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): ([{"QueueName"}], {"Average", "Minimum", "Maximum"}, None),
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): ([{"QueueName"}], {"Average", "Maximum"}, 4 * 86400),
    ("AWS/SQS", "NumberOfMessagesDeleted"): ([{"QueueName"}], {"Sum"}, None),
    ("AWS/ECS", "CPUUtilization"): (BY_SERVICE, {"Average", "Maximum"}, PERCENT),
    ("AWS/ECS", "MemoryUtilization"): (BY_SERVICE, {"Average", "Maximum"}, PERCENT),
    ("ECS/ContainerInsights", "RunningTaskCount"): (BY_SERVICE, {"Average", "Minimum", "Maximum"}, None),
    ("AWS/DynamoDB", "ReadThrottleEvents"): (BY_TABLE, {"Sum"}, None),
    ("AWS/DynamoDB", "WriteThrottleEvents"): (BY_TABLE, {"Sum"}, None),
    ("AWS/NATGateway", "ErrorPortAllocation"): ([{"NatGatewayId"}], {"Sum"}, None),
}
QUERY = re.compile(r'SELECT (AVG|MAX|MIN|SUM)\(\w+\) FROM SCHEMA\("Millrace", service\)')

# What an expression is there for: data of which its alarm must go off, by the end of
# the alarm's name, and data of which it must not. What is not named is missing.
SCENES = {
    # Of the load balancer, and of the HTTP API in its place.
    "5xx-ratio": (
        [{"requests": 100, "by_target": 100}, {"requests": 100, "by_balancer": 100}, {"by_balancer": 50}, {"requests": 400, "by_target": 5}]
        + [{"requests": 100, "failed": 100}, {"requests": 400, "failed": 5}],
        [{"requests": 100}, {"requests": 2, "by_target": 2}, {"requests": 1000, "by_target": 10}, {}]
        + [{"requests": 2, "failed": 2}, {"requests": 1000, "failed": 10}],
    ),
    "delivery-stalled": ([{"waiting": 1, "attempts": 0}, {"waiting": 7}], [{"waiting": 9, "attempts": 1}, {"attempts": 0}, {}]),
    "table-read-throttles": ([{"table": 11}, {"table": 6, "timeline": 6}], [{"table": 10}, {}]),
    "table-write-throttles": ([{"table": 11}], [{"table": 10}, {}]),
    "nat-ports": ([{"gateway_0": 1}], [{"gateway_0": 0}, {}]),
    "cache-memory": ([{"node_001": 86}, {"node_001": 99.9}], [{"node_001": 85}, {}]),
}


# --- Expressions -----------------------------------------------------------


def computed(expression, data):
    """What CloudWatch makes of it; None if something that it needs is missing."""
    source = re.sub(r"\bAND\b", "and", expression)
    source = re.sub(r"\bMETRICS\(\)", "list(data.values())", source)
    functions = {
        "IF": lambda test, yes, no: yes if test else no,
        "FILL": lambda value, other: other if value is None else value,
        "MAX": lambda values: max([value for value in values if value is not None], default=None),
        "list": list,
        "data": data,
    }
    try:
        return eval(source, {"__builtins__": {}}, {**functions, **data})
    except (TypeError, ZeroDivisionError):
        return None


def value_of(queries, wanted, data):
    """The value of query `wanted`, those that it names computed before it."""
    query = queries[wanted]
    if not query["expression"]:
        return data.get(wanted)
    named = [name for name in queries if re.search(rf"\b{name}\b", query["expression"])]
    of_metrics = {name: data.get(name) for name, one in queries.items() if one["metric"]}
    known = {name: value_of(queries, name, data) for name in named}
    return computed(query["expression"], known if "METRICS()" not in query["expression"] else of_metrics)


# --- Alarms ----------------------------------------------------------------


def metric(stack, address, namespace, name, dimensions, statistic, period_s):
    """How far it goes; says what is wrong with it."""
    if (namespace, name) not in METRICS:
        stack.wrong.append(f"{address}: {namespace} {name} is not known here")
        return None
    sets, statistics, most = METRICS[namespace, name]
    stack.expect(f"{address}: {name} by {sorted(dimensions)}", True, set(dimensions) in sets)
    stack.expect(f"{address}: {statistic} of {name}", True, statistic in statistics)
    stack.expect(f"{address}: {name} every {period_s} s", True, period_s % 60 == 0)
    names = {
        "QueueName": ("aws_sqs_queue", "name"),
        "DBInstanceIdentifier": ("aws_db_instance", "identifier"),
        "DBClusterIdentifier": ("aws_rds_cluster", "cluster_identifier"),
        "FunctionName": ("aws_lambda_function", "function_name"),
        "ApiId": ("aws_apigatewayv2_api", "id"),
        "ServiceName": ("aws_ecs_service", "name"),
        "ClusterName": ("aws_ecs_cluster", "name"),
    }
    for dimension, value in dimensions.items():
        if dimension in names:
            kind, attribute = names[dimension]
            stack.expect(f"{address}: {dimension} {value}", True, value in [one["values"][attribute] for one in stack.of(kind)])
    return most


def alarm(stack, one):
    address, values = one["address"], one["values"]
    stack.expect(f"{address}: it can have its datapoints", True, (values["datapoints_to_alarm"] or 0) <= values["evaluation_periods"])
    queries = {query["id"]: query for query in values["metric_query"]}
    if not queries:
        statistic = values["statistic"] or values["extended_statistic"]
        most = metric(stack, address, values["namespace"], values["metric_name"], values["dimensions"], statistic, values["period"])
        reached = values["threshold"] < most if most and values["comparison_operator"].startswith("Greater") else values["threshold"] >= 0
        stack.expect(f"{address}: {values['threshold']} can be reached", True, reached)
        return
    for query in queries.values():
        for told in query["metric"]:
            metric(stack, address, told["namespace"], told["metric_name"], told["dimensions"], told["stat"], told["period"])
    returned = [name for name, query in queries.items() if query["return_data"]]
    stack.expect(f"{address}: it looks at one value", True, len(returned) == 1)
    if (queries[returned[0]]["expression"] or "").startswith("SELECT"):
        stack.expect(f"{address}: its query", True, bool(QUERY.fullmatch(queries[returned[0]]["expression"])))
        return
    scene = next((scenes for name, scenes in SCENES.items() if values["alarm_name"].endswith(f"-{name}")), None)
    if scene is None:
        stack.wrong.append(f"{address}: what its expression is there for is not known here")
        return
    for wanted, scenes in zip((True, False), scene):
        for data in scenes:
            # An index or a node that this stack lacks is not looked at.
            if set(data) <= {name for name, query in queries.items() if query["metric"]}:
                found = value_of(queries, returned[0], data)
                stack.expect(f"{address} at {data}", wanted, found is not None and found > values["threshold"])


# --- Rules -----------------------------------------------------------------


def matches(pattern, event):
    """As EventBridge matches, as far as the rules here need it."""
    if isinstance(pattern, dict):
        return all(key in event and matches(value, event[key]) for key, value in pattern.items())
    found = event if isinstance(event, list) else [event]
    return any(one == wanted or (isinstance(wanted, dict) and str(one).startswith(wanted["prefix"])) for wanted in pattern for one in found)


def events(prefix, region, account):
    """Of each rule, what AWS sends when it is to ring, as its documentation shows it."""
    service = f"arn:aws:ecs:{region}:{account}:service/{prefix}/api"
    return {
        "deployment-failed": {
            "source": "aws.ecs",
            "detail-type": "ECS Deployment State Change",
            "resources": [service],
            "detail": {"eventType": "ERROR", "eventName": "SERVICE_DEPLOYMENT_FAILED", "deploymentId": "ecs-svc/123"},
        },
        "backup-failed": {
            "source": "aws.backup",
            "detail-type": "Backup Job State Change",
            "resources": [],
            "detail": {"backupJobId": "1", "backupVaultName": prefix, "state": "FAILED", "resourceType": "DynamoDB"},
        },
        "backup-copy-failed": {
            "source": "aws.backup",
            "detail-type": "Copy Job State Change",
            "resources": [],
            "detail": {"copyJobId": "1", "sourceBackupVaultArn": f"arn:aws:backup:{region}:{account}:backup-vault:{prefix}", "state": "FAILED"},
        },
        "database-event": {
            "source": "aws.rds",
            "detail-type": "RDS DB Instance Event",
            "resources": [f"arn:aws:rds:{region}:{account}:db:{prefix}"],
            "detail": {"EventCategories": ["failover"], "SourceType": "DB_INSTANCE", "SourceIdentifier": prefix, "EventID": "RDS-EVENT-0049"},
        },
    }


def check(stack):
    for one in stack.of("aws_cloudwatch_metric_alarm"):
        alarm(stack, one)
    prefix = stack.outputs["ecs"]["cluster"]
    waited, strange = events(prefix, stack.region, stack.account), events("another", stack.region, stack.account)
    for rule in stack.of("aws_cloudwatch_event_rule"):
        if rule["name"] != "alarm":
            continue
        pattern = json.loads(rule["values"]["event_pattern"])
        if rule["index"] not in waited:
            stack.wrong.append(f"{rule['address']}: what it waits for is not known here")
            continue
        stack.expect(f"{rule['address']}: its event", True, matches(pattern, waited[rule["index"]]))
        stack.expect(f"{rule['address']}: another stack's event", False, matches(pattern, strange[rule["index"]]))
