# With load_balancer = false: an HTTP API of API Gateway in front of the function. It
# costs by the request and nothing at rest. Not a function URL: to be public, one needs
# a permission for everybody that is narrowed to calls through the URL, and the
# provider's version here could grant it for every call only.

resource "aws_apigatewayv2_api" "main" {
  count         = local.http_api ? 1 : 0
  name          = local.prefix
  description   = "Millrace's API"
  protocol_type = "HTTP"

  # Then its own name would be a second way in.
  disable_execute_api_endpoint = local.api_domain
}

resource "aws_apigatewayv2_integration" "live" {
  count                  = local.http_api ? 1 : 0
  api_id                 = aws_apigatewayv2_api.main[0].id
  integration_type       = "AWS_PROXY"
  integration_uri        = one(aws_lambda_alias.live[*].invoke_arn)
  payload_format_version = "2.0"
}

# Every request: Millrace has its own keys and its own 404.
resource "aws_apigatewayv2_route" "all" {
  #checkov:skip=CKV_AWS_309:Millrace checks each request's key itself
  count     = local.http_api ? 1 : 0
  api_id    = aws_apigatewayv2_api.main[0].id
  route_key = "$default"
  target    = "integrations/${aws_apigatewayv2_integration.live[0].id}"
}

resource "aws_apigatewayv2_stage" "main" {
  #checkov:skip=CKV_AWS_76:the function logs each request
  #checkov:skip=CKV2_AWS_51:clients have keys, not certificates
  count       = local.http_api ? 1 : 0
  api_id      = aws_apigatewayv2_api.main[0].id
  name        = "$default"
  auto_deploy = true
}

resource "aws_lambda_permission" "http_api" {
  count          = local.http_api ? 1 : 0
  statement_id   = "HttpApi"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.main[0].function_name
  qualifier      = aws_lambda_alias.live[0].name
  principal      = "apigateway.${local.dns_suffix}"
  source_arn     = "${aws_apigatewayv2_api.main[0].execution_arn}/*/*"
  source_account = local.account_id
}

# --- A name of its own -----------------------------------------------------

locals {
  # Fargate behind none is refused in inputs.tf.
  http_api   = !var.load_balancer && local.lambda
  api_domain = local.http_api && var.domain_name != null && var.certificate_arn != null
}

resource "aws_apigatewayv2_domain_name" "main" {
  count       = local.api_domain ? 1 : 0
  domain_name = var.domain_name

  domain_name_configuration {
    certificate_arn = var.certificate_arn
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "main" {
  count       = local.api_domain ? 1 : 0
  api_id      = aws_apigatewayv2_api.main[0].id
  domain_name = aws_apigatewayv2_domain_name.main[0].id
  stage       = aws_apigatewayv2_stage.main[0].id
}

# --- Alarms: those of the load balancer, of what is in its place -----------

resource "aws_cloudwatch_metric_alarm" "api_5xx" {
  count               = local.http_api ? 1 : 0
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
    expression  = "IF(failed >= 5, 100 * failed / requests, 0)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { requests = "Count", failed = "5xx" }
    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/ApiGateway"
        metric_name = metric_query.value
        dimensions  = { ApiId = aws_apigatewayv2_api.main[0].id }
        stat        = "Sum"
        period      = 60
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "api_latency" {
  count               = local.http_api ? 1 : 0
  alarm_name          = "${local.prefix}-latency"
  alarm_description   = "The slowest hundredth of requests takes longer than ${var.latency_alarm_ms} ms. Runbook: deploy/README.md, latency."
  namespace           = "AWS/ApiGateway"
  metric_name         = "Latency"
  dimensions          = { ApiId = aws_apigatewayv2_api.main[0].id }
  extended_statistic  = "p99"
  period              = 60
  datapoints_to_alarm = 5
  evaluation_periods  = 10
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.latency_alarm_ms
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
