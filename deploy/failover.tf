# The name, and by variable the second region. A second region is a second apply
# of this configuration with failover_role = "secondary"; table and secrets
# are replicated to it by the primary's (dynamodb.tf, secrets.tf, kms.tf).

locals {
  # Where the name points.
  edge = (
    var.cloudfront
    ? { name = one(aws_cloudfront_distribution.main[*].domain_name), zone = one(aws_cloudfront_distribution.main[*].hosted_zone_id) }
    : local.api_domain
    ? { name = aws_apigatewayv2_domain_name.main[0].domain_name_configuration[0].target_domain_name, zone = aws_apigatewayv2_domain_name.main[0].domain_name_configuration[0].hosted_zone_id }
    : { name = local.alb.dns_name, zone = local.alb.zone_id }
  )
}

resource "aws_route53_record" "main" {
  for_each = toset(var.route53_zone_id == null || var.domain_name == null ? [] : var.cloudfront ? ["A", "AAAA"] : ["A"])
  zone_id  = var.route53_zone_id
  name     = var.domain_name
  type     = each.key

  alias {
    name                   = local.edge.name
    zone_id                = local.edge.zone
    evaluate_target_health = var.load_balancer && !var.cloudfront
  }

  set_identifier  = var.failover_role == null ? null : var.region
  health_check_id = one(aws_route53_health_check.main[*].id)

  dynamic "failover_routing_policy" {
    for_each = var.failover_role == null ? [] : [upper(var.failover_role)]
    content {
      type = failover_routing_policy.value
    }
  }
}

# Asks the load balancer itself, not the name, which may point elsewhere.
resource "aws_route53_health_check" "main" {
  #checkov:skip=CKV2_AWS_49:there is an alarm on what it checks in this region already; the check itself reports in us-east-1
  count             = var.failover_role == null ? 0 : 1
  fqdn              = local.alb.dns_name
  type              = "HTTPS"
  port              = 443
  resource_path     = "/health/ready"
  request_interval  = 30
  failure_threshold = 3
  enable_sni        = true
  tags              = { Name = "${local.prefix}-${var.region}" }
}

# The database's snapshots and logs, so that it can be restored over there.
resource "aws_db_instance_automated_backups_replication" "main" {
  count                  = var.replica_region != null && !var.aurora ? 1 : 0
  provider               = aws.replica
  source_db_instance_arn = aws_db_instance.main[0].arn
  kms_key_id             = aws_kms_key.replica[0].arn
  retention_period       = var.database_backup_days
}
