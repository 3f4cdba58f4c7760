# PostgreSQL, the control plane: an RDS instance, or Aurora Serverless v2 by
# variable; behind RDS Proxy for the function. The owner's password is made, kept and
# rotated by RDS; nobody knows it, and the migration alone logs in with it. What
# serves has a role of its own (secrets.tf), which the migration makes.

locals {
  proxied         = local.lambda && var.database_proxy
  database_name   = "millrace"
  database_family = "postgres${split(".", var.postgres_version)[0]}"

  # Whichever of the two there is.
  database_host = one(concat(aws_db_instance.main[*].address, aws_rds_cluster.main[*].endpoint))
  database_secret_arn = one(concat(
    [for instance in aws_db_instance.main : instance.master_user_secret[0].secret_arn if local.on_aws.managed_secret],
    [for cluster in aws_rds_cluster.main : cluster.master_user_secret[0].secret_arn],
    aws_secretsmanager_secret.database_stand_in[*].arn,
  ))
  database_arn = one(concat(aws_db_instance.main[*].arn, aws_rds_cluster.main[*].arn))

  database_parameters = {
    "rds.force_ssl"              = "1"
    "log_min_duration_statement" = "1000"
    "log_statement"              = "ddl"
    "log_connections"            = "1"
    "log_disconnections"         = "1"
  }
}

resource "aws_db_subnet_group" "main" {
  name       = local.prefix
  subnet_ids = local.data_subnet_ids
}

# --- An RDS instance -------------------------------------------------------

resource "aws_db_parameter_group" "main" {
  count       = var.aurora ? 0 : 1
  name_prefix = "${local.prefix}-"
  family      = local.database_family

  dynamic "parameter" {
    for_each = local.database_parameters
    content {
      name  = parameter.key
      value = parameter.value
    }
  }

  lifecycle { create_before_destroy = true }
}

resource "aws_db_instance" "main" {
  #checkov:skip=CKV_AWS_293:var.deletion_protection, which is false in dev.tfvars only
  #checkov:skip=CKV2_AWS_69:the parameter group sets rds.force_ssl, from a map that checkov does not unroll
  #checkov:skip=CKV2_AWS_30:the parameter group logs statements, from a map that checkov does not unroll
  #checkov:skip=CKV_AWS_161:each login is in a secret; a second way in would only be another one to guard
  #checkov:skip=CKV_AWS_157:multi_az is a variable that inputs.tf demands for prod
  count      = var.aurora ? 0 : 1
  identifier = local.prefix

  engine               = "postgres"
  engine_version       = var.postgres_version
  instance_class       = var.database_instance_class
  db_name              = local.database_name
  parameter_group_name = aws_db_parameter_group.main[0].name
  ca_cert_identifier   = "rds-ca-rsa2048-g1"

  username                      = "millrace"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = aws_kms_key.data.arn

  storage_type          = "gp3"
  allocated_storage     = var.database_storage_gib.first
  max_allocated_storage = var.database_storage_gib.most
  storage_encrypted     = true
  kms_key_id            = aws_kms_key.data.arn

  multi_az               = var.multi_az
  db_subnet_group_name   = aws_db_subnet_group.main.name
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false

  backup_retention_period   = var.database_backup_days
  backup_window             = "02:00-03:00"
  maintenance_window        = "sun:03:30-sun:04:30"
  copy_tags_to_snapshot     = true
  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = !var.deletion_protection
  final_snapshot_identifier = "${local.prefix}-final"
  delete_automated_backups  = !var.deletion_protection

  auto_minor_version_upgrade = true
  apply_immediately          = false

  performance_insights_enabled    = true
  performance_insights_kms_key_id = aws_kms_key.data.arn
  monitoring_interval             = 60
  monitoring_role_arn             = aws_iam_role.database_monitoring.arn
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]

  # RDS upgrades the minor version by itself.
  lifecycle {
    ignore_changes = [engine_version]
  }

  depends_on = [aws_cloudwatch_log_group.database]
}

# --- Aurora Serverless v2 --------------------------------------------------

resource "aws_rds_cluster_parameter_group" "main" {
  count       = var.aurora ? 1 : 0
  name_prefix = "${local.prefix}-"
  family      = "aurora-postgresql${split(".", var.postgres_version)[0]}"

  dynamic "parameter" {
    for_each = local.database_parameters
    content {
      name  = parameter.key
      value = parameter.value
    }
  }

  lifecycle { create_before_destroy = true }
}

resource "aws_rds_cluster" "main" {
  #checkov:skip=CKV2_AWS_27:the parameter group logs statements, from a map that checkov does not unroll
  #checkov:skip=CKV_AWS_162:each login is in a secret; a second way in would only be another one to guard
  #checkov:skip=CKV2_AWS_8:backup.tf selects it, as it does the instance, through local.database_arn
  count              = var.aurora ? 1 : 0
  cluster_identifier = local.prefix

  engine                          = "aurora-postgresql"
  engine_mode                     = "provisioned"
  engine_version                  = var.postgres_version
  database_name                   = local.database_name
  db_cluster_parameter_group_name = aws_rds_cluster_parameter_group.main[0].name

  serverlessv2_scaling_configuration {
    min_capacity = var.aurora_capacity_acu.min
    max_capacity = var.aurora_capacity_acu.max
  }

  master_username               = "millrace"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = aws_kms_key.data.arn

  storage_encrypted = true
  kms_key_id        = aws_kms_key.data.arn

  db_subnet_group_name   = aws_db_subnet_group.main.name
  vpc_security_group_ids = [aws_security_group.database.id]

  backup_retention_period      = var.database_backup_days
  preferred_backup_window      = "02:00-03:00"
  preferred_maintenance_window = "sun:03:30-sun:04:30"
  copy_tags_to_snapshot        = true
  deletion_protection          = var.deletion_protection
  skip_final_snapshot          = !var.deletion_protection
  final_snapshot_identifier    = "${local.prefix}-final"

  enabled_cloudwatch_logs_exports = ["postgresql"]

  lifecycle {
    ignore_changes = [engine_version]
  }

  depends_on = [aws_cloudwatch_log_group.database]
}

resource "aws_rds_cluster_instance" "main" {
  count              = var.aurora ? (var.multi_az ? 2 : 1) : 0
  identifier         = "${local.prefix}-${count.index}"
  cluster_identifier = aws_rds_cluster.main[0].id
  engine             = aws_rds_cluster.main[0].engine
  engine_version     = aws_rds_cluster.main[0].engine_version
  instance_class     = "db.serverless"
  ca_cert_identifier = "rds-ca-rsa2048-g1"

  db_subnet_group_name = aws_db_subnet_group.main.name
  publicly_accessible  = false

  auto_minor_version_upgrade      = true
  copy_tags_to_snapshot           = true
  performance_insights_enabled    = true
  performance_insights_kms_key_id = aws_kms_key.data.arn
  monitoring_interval             = 60
  monitoring_role_arn             = aws_iam_role.database_monitoring.arn

  lifecycle {
    ignore_changes = [engine_version]
  }
}

# --- RDS Proxy, for the function -------------------------------------------

# It lends a connection for a transaction at a time, since no statement of Millrace
# leaves anything behind in its session.

resource "aws_db_proxy" "main" {
  count                  = local.proxied ? 1 : 0
  name                   = local.prefix
  engine_family          = "POSTGRESQL"
  require_tls            = true
  debug_logging          = false
  idle_client_timeout    = 900
  role_arn               = aws_iam_role.proxy[0].arn
  vpc_subnet_ids         = local.data_subnet_ids
  vpc_security_group_ids = [aws_security_group.proxy[0].id]

  auth {
    auth_scheme               = "SECRETS"
    iam_auth                  = "DISABLED"
    client_password_auth_type = "POSTGRES_SCRAM_SHA_256"
    secret_arn                = local.app_login_secret_arn
  }

  depends_on = [aws_iam_role_policy.proxy]
}

resource "aws_db_proxy_default_target_group" "main" {
  count         = local.proxied ? 1 : 0
  db_proxy_name = aws_db_proxy.main[0].name

  connection_pool_config {
    max_connections_percent      = 80
    max_idle_connections_percent = 20
    connection_borrow_timeout    = 5
  }
}

resource "aws_db_proxy_target" "main" {
  count                  = local.proxied ? 1 : 0
  db_proxy_name          = aws_db_proxy.main[0].name
  target_group_name      = aws_db_proxy_default_target_group.main[0].name
  db_instance_identifier = var.aurora ? null : aws_db_instance.main[0].identifier
  db_cluster_identifier  = var.aurora ? aws_rds_cluster.main[0].id : null

  depends_on = [aws_rds_cluster_instance.main]
}
