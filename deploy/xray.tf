# X-Ray: a group to look at this stack's traces alone. How many are kept is the
# application's own decision (MILLRACE_TELEMETRY__SAMPLE_RATIO in ecs.tf): it sends
# OTLP and asks for no sampling rule, hence there is none here.
#
# Traces arrive over OTLP, which an account has to allow once (Transaction
# Search): README.md has the command. The policy it needs is here.

resource "aws_xray_group" "main" {
  count             = var.tracing && local.on_aws.xray ? 1 : 0
  group_name        = local.prefix
  filter_expression = "service(\"millrace\")"

  insights_configuration {
    insights_enabled      = true
    notifications_enabled = false
  }
}

resource "aws_cloudwatch_log_resource_policy" "spans" {
  count       = var.tracing && local.on_aws.xray ? 1 : 0
  policy_name = "${local.prefix}-spans"
  policy_document = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TransactionSearch"
      Effect    = "Allow"
      Principal = { Service = "xray.${local.dns_suffix}" }
      Action    = "logs:PutLogEvents"
      Resource = [
        "arn:${local.partition}:logs:${var.region}:${local.account_id}:log-group:aws/spans:*",
        "arn:${local.partition}:logs:${var.region}:${local.account_id}:log-group:/aws/application-signals/data:*",
      ]
      Condition = {
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:xray:${var.region}:${local.account_id}:*" }
        StringEquals = { "aws:SourceAccount" = local.account_id }
      }
    }]
  })
}
