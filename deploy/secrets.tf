# Secrets Manager. Terraform makes the secrets, not their values, so that no
# secret is ever in its state; scripts/secrets fills them. The secret of the
# database's owner is RDS's (rds.tf), and only the migration reads it.

locals {
  secrets = {
    key_ring  = "Keys that seal endpoint secrets: {\"primary\": \"<kid>\", \"keys\": {\"<kid>\": \"<base64, 32 bytes>\"}}"
    admin_key = "The key that may create projects: plain text, at least 32 characters"
    app_login = "Who the api, the workers and the function are to PostgreSQL: {\"username\": …, \"password\": …}"
  }

  # A replica of a secret has the secret's name; its ARN differs by region only.
  key_ring_secret_arn  = local.secondary ? data.aws_secretsmanager_secret.replica["key_ring"].arn : aws_secretsmanager_secret.main["key_ring"].arn
  app_login_secret_arn = local.secondary ? data.aws_secretsmanager_secret.replica["app_login"].arn : aws_secretsmanager_secret.main["app_login"].arn
  admin_key_secret_arn = local.secondary ? data.aws_secretsmanager_secret.replica["admin_key"].arn : aws_secretsmanager_secret.main["admin_key"].arn
}

resource "aws_secretsmanager_secret" "main" {
  #checkov:skip=CKV2_AWS_57:a key ring is rotated by adding a key and keeping the old ones, which README.md describes and no rotation function could time
  for_each                = { for name, text in local.secrets : name => text if !local.secondary }
  name                    = "${local.prefix}/${replace(each.key, "_", "-")}"
  description             = each.value
  kms_key_id              = aws_kms_key.data.arn
  recovery_window_in_days = var.deletion_protection ? 30 : 0

  dynamic "replica" {
    for_each = var.replica_region == null ? [] : [var.replica_region]
    content {
      region     = replica.value
      kms_key_id = aws_kms_key.replica[0].arn
    }
  }
}

data "aws_secretsmanager_secret" "replica" {
  for_each = { for name, text in local.secrets : name => text if local.secondary }
  name     = "${local.prefix}/${replace(each.key, "_", "-")}"
}
