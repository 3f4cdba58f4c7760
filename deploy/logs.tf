# Log groups, made here so that each has its retention and its key before the
# service that writes it would make one without.

resource "aws_cloudwatch_log_group" "app" {
  #checkov:skip=CKV_AWS_338:var.log_retention_days is a year, but in dev.tfvars
  for_each          = local.task_groups
  name              = "/millrace/${local.prefix}/${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.logs.arn
}

resource "aws_cloudwatch_log_group" "container_insights" {
  #checkov:skip=CKV_AWS_338:var.log_retention_days is a year, but in dev.tfvars
  name              = "/aws/ecs/containerinsights/${local.prefix}/performance"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.logs.arn
}

resource "aws_cloudwatch_log_group" "flow" {
  #checkov:skip=CKV_AWS_338:var.log_retention_days is a year, but in dev.tfvars
  name              = "/aws/vpc/${local.prefix}"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.logs.arn
}

resource "aws_cloudwatch_log_group" "database" {
  #checkov:skip=CKV_AWS_338:var.log_retention_days is a year, but in dev.tfvars
  for_each          = toset(var.aurora ? ["cluster/${local.prefix}/postgresql"] : ["instance/${local.prefix}/postgresql", "instance/${local.prefix}/upgrade"])
  name              = "/aws/rds/${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.logs.arn
}

# WAF writes only to groups whose name begins like this.
resource "aws_cloudwatch_log_group" "waf" {
  count             = var.waf && !var.cloudfront ? 1 : 0
  name              = "aws-waf-logs-${local.prefix}"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.logs.arn
}

resource "aws_cloudwatch_log_group" "waf_cloudfront" {
  #checkov:skip=CKV_AWS_158:a web ACL of CloudFront logs in us-east-1, where the stack has no key; CloudWatch encrypts it with its own
  count             = var.waf && var.cloudfront ? 1 : 0
  provider          = aws.us_east_1
  name              = "aws-waf-logs-${local.prefix}"
  retention_in_days = var.log_retention_days
}

# --- Saved queries ---------------------------------------------------------

locals {
  queries = {
    "errors" = "fields @timestamp, @message | filter level in [\"ERROR\", \"WARN\"] | sort @timestamp desc | limit 200"
    "event"  = "fields @timestamp, @message | filter `event.id` = \"evt_…\" | sort @timestamp asc"
    "slow"   = "fields @timestamp, `http.route`, duration_ms, `trace.id` | filter duration_ms > 500 | sort duration_ms desc | limit 100"
  }
}

resource "aws_cloudwatch_query_definition" "main" {
  for_each        = { for name, query in local.queries : name => query if local.on_aws.query_definitions }
  name            = "${local.prefix}/${each.key}"
  log_group_names = [for group in aws_cloudwatch_log_group.app : group.name]
  query_string    = each.value
}
