# Alarms: each means that someone should look, and each has its runbook in
# README.md under the alarm's name. All go to one topic.

resource "aws_sns_topic" "alarms" {
  name              = "${local.prefix}-alarms"
  kms_master_key_id = aws_kms_key.logs.arn
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "AlarmsNotify"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.${local.dns_suffix}" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms.arn
        Condition = { ArnLike = { "aws:SourceArn" = local.alarm_arn_pattern } }
      },
      {
        Sid       = "RulesNotify"
        Effect    = "Allow"
        Principal = { Service = "events.${local.dns_suffix}" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms.arn
        Condition = { ArnLike = { "aws:SourceArn" = "arn:${local.partition}:events:${var.region}:${local.account_id}:rule/${local.prefix}-*" } }
      },
    ]
  })
}

locals {
  # Those of this stack, by their names.
  alarm_arn_pattern = "arn:${local.partition}:cloudwatch:${var.region}:${local.account_id}:alarm:${local.prefix}-*"
}

resource "aws_sns_topic_subscription" "email" {
  for_each  = var.alarm_emails
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}

# --- One metric against one number -----------------------------------------

locals {
  instance_dimensions = { DBInstanceIdentifier = local.prefix }
  cluster_dimensions  = { DBClusterIdentifier = local.prefix }
  database_dimensions = var.aurora ? local.cluster_dimensions : local.instance_dimensions

  # `wanted`: whether there is such a thing here. `of`: how many periods of how
  # many must be over (`above`) or under (`below`) the number.
  metric_alarms = merge(
    {
      latency = {
        wanted = var.load_balancer
        text   = "The slowest hundredth of requests takes longer than ${var.latency_alarm_ms} ms."
        metric = "AWS/ApplicationELB/TargetResponseTime", dimensions = { LoadBalancer = local.alb.arn_suffix }
        stat   = "p99", period_s = 60, of = [5, 10], above = var.latency_alarm_ms / 1000, below = null
      }
      unhealthy-hosts = {
        wanted = local.fargate
        text   = "An api task fails its readiness checks."
        metric = "AWS/ApplicationELB/UnHealthyHostCount"
        dimensions = {
          LoadBalancer = local.alb.arn_suffix
          TargetGroup  = try(aws_lb_target_group.api[0].arn_suffix, "")
        }
        stat = "Maximum", period_s = 60, of = [3, 5], above = 0, below = null
      }
      rejected-connections = {
        wanted = var.load_balancer
        text   = "The load balancer is out of capacity and rejects connections."
        metric = "AWS/ApplicationELB/RejectedConnectionCount", dimensions = { LoadBalancer = local.alb.arn_suffix }
        stat   = "Sum", period_s = 300, of = [1, 1], above = 0, below = null
      }
      lambda-errors = {
        wanted = local.lambda
        text   = "Invocations of the function fail."
        metric = "AWS/Lambda/Errors", dimensions = { FunctionName = local.prefix }
        stat   = "Sum", period_s = 60, of = [3, 5], above = 5, below = null
      }
      lambda-throttles = {
        wanted = local.lambda
        text   = "The function is at its reserved concurrency."
        metric = "AWS/Lambda/Throttles", dimensions = { FunctionName = local.prefix }
        stat   = "Sum", period_s = 60, of = [3, 5], above = 0, below = null
      }
      lambda-duration = {
        wanted = local.lambda
        text   = "Invocations come near the timeout of ${var.lambda_timeout_s} s."
        metric = "AWS/Lambda/Duration", dimensions = { FunctionName = local.prefix }
        stat   = "p99", period_s = 300, of = [2, 3], above = var.lambda_timeout_s * 900, below = null
      }
      database-cpu = {
        wanted = true
        text   = "The database's CPU is busy."
        metric = "AWS/RDS/CPUUtilization", dimensions = local.database_dimensions
        stat   = "Average", period_s = 300, of = [3, 3], above = 80, below = null
      }
      database-connections = {
        wanted = true
        text   = "The database has more than ${var.database_connections_max} connections."
        metric = "AWS/RDS/DatabaseConnections", dimensions = local.database_dimensions
        stat   = "Maximum", period_s = 300, of = [2, 3], above = var.database_connections_max, below = null
      }
      database-memory = {
        wanted = true
        text   = "The database has less than 64 MiB of memory to spare."
        metric = "AWS/RDS/FreeableMemory", dimensions = local.database_dimensions
        stat   = "Minimum", period_s = 300, of = [3, 3], above = null, below = 64 * 1024 * 1024
      }
      database-storage = {
        wanted = !var.aurora
        text   = "The database has less than 5 GiB of storage to spare."
        metric = "AWS/RDS/FreeStorageSpace", dimensions = local.instance_dimensions
        stat   = "Minimum", period_s = 300, of = [2, 2], above = null, below = 5 * 1024 * 1024 * 1024
      }
      database-capacity = {
        wanted = var.aurora
        text   = "Aurora runs near its most capacity units."
        metric = "AWS/RDS/ACUUtilization", dimensions = local.cluster_dimensions
        stat   = "Average", period_s = 300, of = [3, 3], above = 90, below = null
      }
    },
    {
      for name, queue in aws_sqs_queue.dead : "dead-letters-${replace(name, "_", "-")}" => {
        wanted = true
        text   = name == "parked" ? "A message that no worker can use was parked." : "A job failed ${var.dead_letter_after} times and is in the dead-letter queue of ${name}."
        metric = "AWS/SQS/ApproximateNumberOfMessagesVisible", dimensions = { QueueName = queue.name }
        stat   = "Maximum", period_s = 60, of = [1, 1], above = 0, below = null
      }
    },
    {
      for name, queue in aws_sqs_queue.main : "queue-age-${replace(name, "_", "-")}" => {
        # What a secondary puts into its queues, the primary does from the table.
        wanted = local.works
        text   = "The oldest message of ${name} waits for longer than ${local.queue_age_alarm_s[name]} s."
        metric = "AWS/SQS/ApproximateAgeOfOldestMessage", dimensions = { QueueName = queue.name }
        stat   = "Maximum", period_s = 60, of = [5, 5], above = local.queue_age_alarm_s[name], below = null
      }
    },
    merge([
      for name, service in local.services : {
        "${name}-cpu" = {
          wanted     = contains(keys(local.fargate_services), name)
          text       = "Tasks of ${name} are busy although autoscaling may add some."
          metric     = "AWS/ECS/CPUUtilization"
          dimensions = { ClusterName = local.prefix, ServiceName = name }
          stat       = "Average", period_s = 60, of = [10, 15], above = 85, below = null
        }
        "${name}-memory" = {
          wanted     = contains(keys(local.fargate_services), name)
          text       = "Tasks of ${name} are short of memory."
          metric     = "AWS/ECS/MemoryUtilization"
          dimensions = { ClusterName = local.prefix, ServiceName = name }
          stat       = "Maximum", period_s = 60, of = [5, 10], above = 90, below = null
        }
        "${name}-tasks" = {
          wanted     = contains(keys(local.fargate_services), name) && var.container_insights
          text       = "Fewer tasks of ${name} run than the least there should be."
          metric     = "ECS/ContainerInsights/RunningTaskCount"
          dimensions = { ClusterName = local.prefix, ServiceName = name }
          stat       = "Minimum", period_s = 60, of = [5, 5], above = null, below = service.tasks.min
        }
      }
    ]...),
  )

  # A message of `deliver` may wait up to 900 s for its time, and count from its
  # sending.
  queue_age_alarm_s = { fan_out = 300, deliver = 1800, ingest = 300 }
}

resource "aws_cloudwatch_metric_alarm" "metric" {
  for_each          = { for name, alarm in local.metric_alarms : name => alarm if alarm.wanted }
  alarm_name        = "${local.prefix}-${each.key}"
  alarm_description = "${each.value.text} Runbook: deploy/README.md, ${each.key}."

  # AWS/SQS/Metric → namespace AWS/SQS, metric Metric.
  namespace   = join("/", slice(split("/", each.value.metric), 0, length(split("/", each.value.metric)) - 1))
  metric_name = reverse(split("/", each.value.metric))[0]
  dimensions  = each.value.dimensions

  statistic           = startswith(each.value.stat, "p") ? null : each.value.stat
  extended_statistic  = startswith(each.value.stat, "p") ? each.value.stat : null
  period              = each.value.period_s
  datapoints_to_alarm = each.value.of[0]
  evaluation_periods  = each.value.of[1]
  comparison_operator = each.value.below == null ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = coalesce(each.value.below, each.value.above)
  treat_missing_data  = endswith(each.key, "-tasks") ? "breaching" : "notBreaching"

  alarm_actions = [aws_sns_topic.alarms.arn]
  ok_actions    = [aws_sns_topic.alarms.arn]
}

# --- Ratios and sums -------------------------------------------------------

# More than one request in a hundred fails, and at least five do. A deployment
# of the api that sets it off is rolled back (ecs.tf).
resource "aws_cloudwatch_metric_alarm" "alb_5xx" {
  count               = var.load_balancer ? 1 : 0
  alarm_name          = "${local.prefix}-5xx-ratio"
  alarm_description   = "More than 1 % of requests are answered 5xx. Runbook: deploy/README.md, 5xx-ratio."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 1
  datapoints_to_alarm = 3
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "ratio"
    label       = "Requests answered 5xx, %"
    expression  = "IF(failed >= 5, 100 * failed / asked, 0)"
    return_data = true
  }

  metric_query {
    id         = "failed"
    expression = "FILL(by_target, 0) + FILL(by_balancer, 0)"
  }

  # Requests that the load balancer answers itself, for want of a target, are not in
  # RequestCount: in a total outage there is none at all.
  metric_query {
    id         = "asked"
    expression = "FILL(requests, 0) + FILL(by_balancer, 0)"
  }

  dynamic "metric_query" {
    for_each = {
      requests    = "RequestCount"
      by_target   = "HTTPCode_Target_5XX_Count"
      by_balancer = "HTTPCode_ELB_5XX_Count"
    }
    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/ApplicationELB"
        metric_name = metric_query.value
        dimensions  = { LoadBalancer = local.alb.arn_suffix }
        stat        = "Sum"
        period      = 60
      }
    }
  }
}

# Sums over several things of a kind: `of` maps an id to a metric of one.
locals {
  # The table's name is in all of them, an index's in its own.
  throttled = merge(
    { table = { TableName = local.table_name } },
    { for index in local.table.indexes : replace(index.name, "/[^a-z0-9]/", "_") => { TableName = local.table_name, GlobalSecondaryIndexName = index.name } },
  )

  # Apart, for an alarm may look at ten metrics.
  sum_alarms = {
    table-read-throttles = {
      text      = "DynamoDB throttles reads of the table or an index."
      namespace = "AWS/DynamoDB"
      above     = 10
      of        = { for id, dimensions in local.throttled : id => { metric = "ReadThrottleEvents", dimensions = dimensions } }
    }
    table-write-throttles = {
      text      = "DynamoDB throttles writes of the table or an index."
      namespace = "AWS/DynamoDB"
      above     = 10
      of        = { for id, dimensions in local.throttled : id => { metric = "WriteThrottleEvents", dimensions = dimensions } }
    }
    nat-ports = {
      text      = "A NAT gateway cannot open more connections to one address: webhooks fail."
      namespace = "AWS/NATGateway"
      above     = 0
      of = {
        for index, zone in local.gateway_zones : "gateway_${index}" => {
          metric     = "ErrorPortAllocation"
          dimensions = { NatGatewayId = aws_nat_gateway.main[zone].id }
        }
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "sum" {
  for_each            = { for name, alarm in local.sum_alarms : name => alarm if length(alarm.of) > 0 }
  alarm_name          = "${local.prefix}-${each.key}"
  alarm_description   = "${each.value.text} Runbook: deploy/README.md, ${each.key}."
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  datapoints_to_alarm = 3
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "total"
    label       = each.key
    expression  = join(" + ", [for id in keys(each.value.of) : "FILL(${id}, 0)"])
    return_data = true
  }

  dynamic "metric_query" {
    for_each = each.value.of
    content {
      id = metric_query.key

      metric {
        namespace   = each.value.namespace
        metric_name = metric_query.value.metric
        dimensions  = metric_query.value.dimensions
        stat        = "Sum"
        period      = 60
      }
    }
  }
}

# ElastiCache reports by node, not by group: the fullest of them counts.
resource "aws_cloudwatch_metric_alarm" "cache_memory" {
  count               = var.elasticache ? 1 : 0
  alarm_name          = "${local.prefix}-cache-memory"
  alarm_description   = "The cache is nearly full and evicts. Runbook: deploy/README.md, cache-memory."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 85
  datapoints_to_alarm = 3
  evaluation_periods  = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "fullest"
    label       = "Memory of the fullest node, %"
    expression  = "MAX(METRICS())"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { for number in range(1, one(aws_elasticache_replication_group.main[*].num_cache_clusters) + 1) : format("node_%03d", number) => format("%s-%03d", local.prefix, number) }
    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/ElastiCache"
        metric_name = "DatabaseMemoryUsagePercentage"
        dimensions  = { CacheClusterId = metric_query.value, CacheNodeId = "0001" }
        stat        = "Maximum"
        period      = 300
      }
    }
  }
}

# --- What the application itself reports -----------------------------------

# Over all values of the dimension `service`, hence a query. Two environments in
# one account and region would be seen together: README.md says to keep them
# apart.
locals {
  app_alarms = {
    delivery-lag = {
      text  = "First attempts come more than ${var.delivery_lag_alarm_s} s after acceptance."
      query = "SELECT AVG(delivery_lag_ms) FROM SCHEMA(\"Millrace\", service)"
      above = var.delivery_lag_alarm_s * 1000
    }
    backlog = {
      text  = "More than ${var.backlog_alarm} pieces of work are due and not done."
      query = "SELECT MAX(backlog) FROM SCHEMA(\"Millrace\", service)"
      above = var.backlog_alarm
    }
    archive-late = {
      text  = "A day of events begins to expire and is not archived."
      query = "SELECT MAX(archive_late) FROM SCHEMA(\"Millrace\", service)"
      above = 0
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "app" {
  for_each            = local.app_alarms
  alarm_name          = "${local.prefix}-${each.key}"
  alarm_description   = "${each.value.text} Runbook: deploy/README.md, ${each.key}."
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  datapoints_to_alarm = 5
  evaluation_periods  = 10
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "value"
    label       = each.key
    expression  = each.value.query
    period      = 60
    return_data = true
  }
}

# Deliveries are due and not one is attempted: the whole path stands still.
resource "aws_cloudwatch_metric_alarm" "delivery_stalled" {
  count               = local.works ? 1 : 0
  alarm_name          = "${local.prefix}-delivery-stalled"
  alarm_description   = "Work is waiting and nothing was delivered or failed for 15 minutes. Runbook: deploy/README.md, delivery-stalled."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  datapoints_to_alarm = 3
  evaluation_periods  = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "stalled"
    label       = "1: work waits, none is done"
    expression  = "IF(FILL(waiting, 0) > 0 AND FILL(attempts, 0) == 0, 1, 0)"
    return_data = true
  }

  metric_query {
    id = "attempts"

    # However a job ends, its message is deleted.
    metric {
      namespace   = "AWS/SQS"
      metric_name = "NumberOfMessagesDeleted"
      dimensions  = { QueueName = aws_sqs_queue.main["deliver"].name }
      stat        = "Sum"
      period      = 300
    }
  }

  metric_query {
    id = "waiting"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.main["deliver"].name }
      stat        = "Minimum"
      period      = 300
    }
  }
}

# --- Events: what no metric says -------------------------------------------

locals {
  event_alarms = {
    deployment-failed = {
      text    = "ECS gave up a deployment and rolled it back"
      pattern = { source = ["aws.ecs"], "detail-type" = ["ECS Deployment State Change"], detail = { eventName = ["SERVICE_DEPLOYMENT_FAILED"] }, resources = [{ prefix = "arn:${local.partition}:ecs:${var.region}:${local.account_id}:service/${local.prefix}/" }] }
    }
    backup-failed = {
      text    = "A backup did not complete"
      pattern = { source = ["aws.backup"], "detail-type" = ["Backup Job State Change"], detail = { state = ["ABORTED", "EXPIRED", "FAILED"], backupVaultName = [local.prefix] } }
    }
    backup-copy-failed = {
      text    = "A backup was not copied to another vault"
      pattern = { source = ["aws.backup"], "detail-type" = ["Copy Job State Change"], detail = { state = ["FAILED", "PARTIAL"], sourceBackupVaultArn = ["arn:${local.partition}:backup:${var.region}:${local.account_id}:backup-vault:${local.prefix}"] } }
    }
    database-event = {
      text    = "The database failed over, failed or is short of storage"
      pattern = { source = ["aws.rds"], detail = { EventCategories = ["failover", "failure", "low storage"], SourceIdentifier = [{ prefix = local.prefix }] } }
    }
  }
}

resource "aws_cloudwatch_event_rule" "alarm" {
  for_each      = local.event_alarms
  name          = "${local.prefix}-${each.key}"
  description   = "${each.value.text}. Runbook: deploy/README.md, ${each.key}."
  event_pattern = jsonencode(each.value.pattern)
}

resource "aws_cloudwatch_event_target" "alarm" {
  for_each  = local.event_alarms
  rule      = aws_cloudwatch_event_rule.alarm[each.key].name
  target_id = "topic"
  arn       = aws_sns_topic.alarms.arn
}
