# AWS Backup: a copy of the table and the database apart from both, on top of their
# own point-in-time recovery. DynamoDB's is full each time and reaches back no
# further than 35 days by itself: a week of daily ones is for a deleted or
# compromised table, the monthly ones for what is older. By variable all of them are
# copied to another region, another account, or both.

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

    dynamic "copy_action" {
      for_each = local.backup_copy_vault_arns
      content {
        destination_vault_arn = copy_action.value

        lifecycle {
          delete_after = var.backup_days
        }
      }
    }
  }

  rule {
    rule_name         = "monthly"
    target_vault_name = aws_backup_vault.main.name
    schedule          = "cron(0 5 1 * ? *)"
    start_window      = 60
    completion_window = 360

    # Of the table; a database's stays as it is, which AWS Backup knows.
    lifecycle {
      cold_storage_after = 30
      delete_after       = 365
    }

    dynamic "copy_action" {
      for_each = local.backup_copy_vault_arns
      content {
        destination_vault_arn = copy_action.value

        lifecycle {
          cold_storage_after = 30
          delete_after       = 365
        }
      }
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

# --- Copies ----------------------------------------------------------------

# In another region, under a key there: keys do not leave their region.
resource "aws_kms_key" "backup_copy" {
  count                   = var.backup_copy_region == null ? 0 : 1
  provider                = aws.backup_copy
  description             = "${local.prefix}: backups copied from ${var.region}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = jsonencode({ Version = "2012-10-17", Statement = [local.key_administration] })
}

resource "aws_kms_alias" "backup_copy" {
  count         = var.backup_copy_region == null ? 0 : 1
  provider      = aws.backup_copy
  name          = "alias/${local.prefix}-backup-copy"
  target_key_id = aws_kms_key.backup_copy[0].key_id
}

# Named after where its copies come from, for there may be another stack in that region.
resource "aws_backup_vault" "copy" {
  count         = var.backup_copy_region == null ? 0 : 1
  provider      = aws.backup_copy
  name          = "${local.prefix}-from-${var.region}"
  kms_key_arn   = aws_kms_key.backup_copy[0].arn
  force_destroy = !var.deletion_protection
}

resource "aws_backup_vault_lock_configuration" "copy" {
  count              = var.backup_copy_region != null && var.backup_vault_lock && local.on_aws.backup_vault_lock ? 1 : 0
  provider           = aws.backup_copy
  backup_vault_name  = aws_backup_vault.copy[0].name
  min_retention_days = 1
  max_retention_days = 366
}

locals {
  backup_copy_vault_arns = concat(aws_backup_vault.copy[*].arn, var.backup_copy_vault_arn == null ? [] : [var.backup_copy_vault_arn])

  # Of "arn:aws:backup:REGION:ACCOUNT:backup-vault:NAME".
  backup_copy_vault = var.backup_copy_vault_arn == null ? null : {
    region  = split(":", var.backup_copy_vault_arn)[3]
    account = split(":", var.backup_copy_vault_arn)[4]
  }

  # AWS Backup of the other account reads what it copies, the database's snapshots
  # above all, under this stack's key. kms.tf has the policy.
  backup_copy_readers = var.backup_copy_vault_arn == null ? [] : [
    {
      Sid       = "OtherAccountCopiesBackups"
      Effect    = "Allow"
      Principal = { AWS = "arn:${local.partition}:iam::${local.backup_copy_vault.account}:root" }
      Action    = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      Resource  = "*"
      Condition = { ArnLike = { "aws:PrincipalArn" = local.backup_service_role } }
    },
    {
      Sid       = "OtherAccountGrantsToServices"
      Effect    = "Allow"
      Principal = { AWS = "arn:${local.partition}:iam::${local.backup_copy_vault.account}:root" }
      Action    = ["kms:CreateGrant"]
      Resource  = "*"
      Condition = {
        ArnLike = { "aws:PrincipalArn" = local.backup_service_role }
        Bool    = { "kms:GrantIsForAWSResource" = "true" }
      }
    },
  ]
  backup_service_role = var.backup_copy_vault_arn == null ? "" : "arn:${local.partition}:iam::${local.backup_copy_vault.account}:role/aws-service-role/backup.${local.dns_suffix}/AWSServiceRoleForBackup"
}
