# One dashboard, from the edge inwards; its first row is the alarms.

locals {
  alarm_arns = concat(
    [for alarm in aws_cloudwatch_metric_alarm.metric : alarm.arn],
    [for alarm in aws_cloudwatch_metric_alarm.app : alarm.arn],
    [for alarm in aws_cloudwatch_metric_alarm.sum : alarm.arn],
    aws_cloudwatch_metric_alarm.cache_memory[*].arn,
    aws_cloudwatch_metric_alarm.alb_5xx[*].arn,
    aws_cloudwatch_metric_alarm.api_5xx[*].arn,
    aws_cloudwatch_metric_alarm.api_latency[*].arn,
    aws_cloudwatch_metric_alarm.delivery_stalled[*].arn,
  )

  # Title → metrics, in the order they are shown, three to a row.
  graphs = concat(
    [
      { title = "Events accepted and delivered", stat = "Sum", metrics = [for name in ["accepted", "duplicates", "delivered", "failed"] : [{ expression = "SUM(SEARCH('{Millrace,service} MetricName=\"${name}\"', 'Sum', 60))", label = name }]] },
      { title = "First attempts, deliveries and attempts, ms (p95)", stat = "p95", metrics = [for name in ["delivery_lag_ms", "delivery_time_ms", "attempt_latency_ms"] : [{ expression = "SEARCH('{Millrace,service} MetricName=\"${name}\"', 'p95', 60)", label = "" }]] },
      { title = "Work due and not done", stat = "Maximum", metrics = [[{ expression = "SEARCH('{Millrace,service} MetricName=\"backlog\"', 'Maximum', 60)", label = "" }]] },
    ],
    [for graph in [
      { title = "Requests", stat = "Sum", metrics = [for name in ["RequestCount", "HTTPCode_Target_4XX_Count", "HTTPCode_Target_5XX_Count", "HTTPCode_ELB_5XX_Count"] : ["AWS/ApplicationELB", name, "LoadBalancer", local.alb.arn_suffix]] },
      { title = "Response time, s (p99, p50)", stat = "p99", metrics = [for stat in ["p99", "p50"] : ["AWS/ApplicationELB", "TargetResponseTime", "LoadBalancer", local.alb.arn_suffix, { stat = stat }]] },
    ] : graph if var.load_balancer],
    [for graph in [
      { title = "Requests", stat = "Sum", metrics = [for name in ["Count", "4xx", "5xx"] : ["AWS/ApiGateway", name, "ApiId", join("", aws_apigatewayv2_api.main[*].id)]] },
      { title = "Response time, ms (p99, p50)", stat = "p99", metrics = [for stat in ["p99", "p50"] : ["AWS/ApiGateway", "Latency", "ApiId", join("", aws_apigatewayv2_api.main[*].id), { stat = stat }]] },
    ] : graph if !var.load_balancer],
    [for graph in [
      { title = "NAT connections", stat = "Maximum", metrics = [for gateway in aws_nat_gateway.main : ["AWS/NATGateway", "ActiveConnectionCount", "NatGatewayId", gateway.id]] },
    ] : graph if length(local.gateway_zones) > 0],
    [
      { title = "Messages waiting", stat = "Maximum", metrics = [for queue in aws_sqs_queue.main : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue.name]] },
      { title = "Oldest message, s", stat = "Maximum", metrics = [for queue in aws_sqs_queue.main : ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue.name]] },
      { title = "Dead letters", stat = "Maximum", metrics = [for queue in aws_sqs_queue.dead : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue.name]] },

      { title = "Table: capacity units", stat = "Sum", metrics = [for name in ["ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"] : ["AWS/DynamoDB", name, "TableName", local.table_name]] },
      { title = "Database: CPU, %", stat = "Average", metrics = [["AWS/RDS", "CPUUtilization", keys(local.database_dimensions)[0], local.prefix]] },
      { title = "Database: connections", stat = "Maximum", metrics = [["AWS/RDS", "DatabaseConnections", keys(local.database_dimensions)[0], local.prefix]] },
    ],
    [for graph in [
      { title = "Tasks running", stat = "Average", metrics = [for name in keys(local.fargate_services) : ["ECS/ContainerInsights", "RunningTaskCount", "ClusterName", local.prefix, "ServiceName", name] if var.container_insights] },
      { title = "Tasks: CPU, %", stat = "Average", metrics = [for name in keys(local.fargate_services) : ["AWS/ECS", "CPUUtilization", "ClusterName", local.prefix, "ServiceName", name]] },
      { title = "Tasks: memory, %", stat = "Average", metrics = [for name in keys(local.fargate_services) : ["AWS/ECS", "MemoryUtilization", "ClusterName", local.prefix, "ServiceName", name]] },
    ] : graph if local.fargate && length(graph.metrics) > 0],
    [for graph in [
      { title = "Function: invocations, errors, throttles", stat = "Sum", metrics = [for name in ["Invocations", "Errors", "Throttles"] : ["AWS/Lambda", name, "FunctionName", local.prefix]] },
      { title = "Function: duration, ms (p99)", stat = "p99", metrics = [["AWS/Lambda", "Duration", "FunctionName", local.prefix]] },
      { title = "Function: concurrency", stat = "Maximum", metrics = [["AWS/Lambda", "ConcurrentExecutions", "FunctionName", local.prefix]] },
    ] : graph if local.lambda],
  )
}

resource "aws_cloudwatch_dashboard" "main" {
  dashboard_name = local.prefix
  dashboard_body = jsonencode({
    widgets = concat(
      [{ type = "alarm", x = 0, y = 0, width = 24, height = 4, properties = { title = "Alarms", alarms = local.alarm_arns } }],
      [
        for index, graph in local.graphs : {
          type   = "metric"
          x      = 8 * (index % 3)
          y      = 4 + 6 * floor(index / 3)
          width  = 8
          height = 6
          properties = {
            title   = graph.title
            region  = var.region
            view    = "timeSeries"
            stat    = graph.stat
            period  = 60
            metrics = graph.metrics
          }
        }
      ],
    )
  })
}
