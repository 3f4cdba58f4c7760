# AWS Backup: a copy of the table and the database apart from both, on top of
# their own point-in-time recovery.

resource "aws_backup_vault" "main" {
  name          = local.prefix
  kms_key_arn   = aws_kms_key.data.arn
  force_destroy = !var.deletion_protection
}

# Governance mode: no changeable_for_days, so that an administrator can lift it.
resource "aws_backup_vault_lock_configuration" "main" {
  count              = var.backup_vault_lock && local.on_aws.backup_vault_lock ? 1 : 0
  backup_vault_name  = aws_backup_vault.main.name
  min_retention_days = 1
  max_retention_days = 366
}

resource "aws_backup_plan" "main" {
  name = local.prefix

  rule {
    rule_name         = "daily"
    target_vault_name = aws_backup_vault.main.name
    schedule          = "cron(0 4 * * ? *)"
    start_window      = 60
    completion_window = 360

    lifecycle {
      delete_after = var.backup_days
    }
  }

  rule {
    rule_name         = "monthly"
    target_vault_name = aws_backup_vault.main.name
    schedule          = "cron(0 5 1 * ? *)"
    start_window      = 60
    completion_window = 360

    lifecycle {
      delete_after = 365
    }
  }
}

resource "aws_backup_selection" "main" {
  name         = local.prefix
  plan_id      = aws_backup_plan.main.id
  iam_role_arn = aws_iam_role.backup.arn
  # The secondary's table is the primary's to back up.
  resources = concat([local.database_arn], aws_dynamodb_table.main[*].arn)
}
