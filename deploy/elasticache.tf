# A Valkey cluster, by variable. Millrace itself has no use for a cache server;
# this is for the services a startup runs beside it, in the same tasks' groups.
# Clients log in with IAM: there is no password to keep, and a role needs
# elasticache:Connect on the cluster and the user. Millrace's own roles lack it.

resource "aws_security_group" "cache" {
  count       = var.elasticache ? 1 : 0
  name_prefix = "${local.prefix}-cache-"
  description = "Cache: Valkey from tasks, nothing out"
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${local.prefix}-cache" }

  lifecycle { create_before_destroy = true }
}

locals {
  cache_clients = { for group in keys(local.task_groups) : group => group if var.elasticache && group != "migrate" }
}

resource "aws_vpc_security_group_ingress_rule" "cache_tasks" {
  for_each                     = local.cache_clients
  security_group_id            = aws_security_group.cache[0].id
  description                  = "From ${each.key}"
  referenced_security_group_id = aws_security_group.tasks[each.key].id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}

resource "aws_vpc_security_group_egress_rule" "tasks_cache" {
  for_each                     = local.cache_clients
  security_group_id            = aws_security_group.tasks[each.key].id
  description                  = "Cache"
  referenced_security_group_id = aws_security_group.cache[0].id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}

resource "aws_elasticache_subnet_group" "main" {
  count      = var.elasticache ? 1 : 0
  name       = local.prefix
  subnet_ids = local.data_subnet_ids
}

resource "aws_elasticache_user" "main" {
  count         = var.elasticache ? 1 : 0
  user_id       = "${local.prefix}-tasks"
  user_name     = "${local.prefix}-tasks"
  engine        = "valkey"
  access_string = "on ~* +@all -@admin -@dangerous"

  authentication_mode {
    type = "iam"
  }
}

resource "aws_elasticache_user_group" "main" {
  count         = var.elasticache ? 1 : 0
  user_group_id = local.prefix
  engine        = "valkey"
  user_ids      = [aws_elasticache_user.main[0].user_id]
}

resource "aws_elasticache_replication_group" "main" {
  #checkov:skip=CKV2_AWS_50:var.multi_az, which is false in dev.tfvars only
  #checkov:skip=CKV_AWS_31:clients log in with IAM through the user group, which excludes a shared token
  count                = var.elasticache ? 1 : 0
  replication_group_id = local.prefix
  description          = "Cache of ${local.prefix}"
  engine               = "valkey"
  engine_version       = "8.0"
  node_type            = var.elasticache_node_type
  port                 = 6379

  num_cache_clusters         = var.multi_az ? 2 : 1
  multi_az_enabled           = var.multi_az
  automatic_failover_enabled = var.multi_az

  subnet_group_name          = aws_elasticache_subnet_group.main[0].name
  security_group_ids         = [aws_security_group.cache[0].id]
  user_group_ids             = [aws_elasticache_user_group.main[0].user_group_id]
  transit_encryption_enabled = true
  at_rest_encryption_enabled = true
  kms_key_id                 = aws_kms_key.data.arn

  snapshot_retention_limit = 1
  apply_immediately        = true
}
