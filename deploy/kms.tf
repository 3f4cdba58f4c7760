# Three keys: data (table, database, queues, secrets, images, backups), logs
# (log groups and the alarm topic) and, with a second region, its replica of
# the data. All rotate every year.

locals {
  # The account's own policies decide who may use a key; without this statement
  # nobody could ever change it again.
  key_administration = {
    Sid       = "AccountPolicies"
    Effect    = "Allow"
    Principal = { AWS = "arn:${local.partition}:iam::${local.account_id}:root" }
    Action    = "kms:*"
    Resource  = "*"
  }

  # EventBridge names no source to KMS when a rule sends to an encrypted topic or
  # queue: with aws:SourceArn or aws:SourceAccount here, nothing would arrive, and
  # nobody be told. Whose rules may send is said where it is told: by the policy of
  # the topic (alarms.tf) and of the queue (sqs.tf).
  key_for_rules = {
    Effect    = "Allow"
    Principal = { Service = "events.${local.dns_suffix}" }
    Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
    Resource  = "*"
  }
}

resource "aws_kms_key" "data" {
  description             = "${local.prefix}: table, database, queues, secrets, images, backups"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.backup_copy_readers, [
      local.key_administration,
      {
        Sid       = "BucketsSendToIngest"
        Effect    = "Allow"
        Principal = { Service = "s3.${local.dns_suffix}" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account_id } }
      },
      {
        Sid       = "TopicsSendToIngest"
        Effect    = "Allow"
        Principal = { Service = "sns.${local.dns_suffix}" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Resource  = "*"
        Condition = { ArnLike = { "aws:SourceArn" = "arn:${local.partition}:sns:*:${local.account_id}:*" } }
      },
      merge(local.key_for_rules, { Sid = "RulesSendToIngest" }),
    ])
  })
}

resource "aws_kms_alias" "data" {
  name          = "alias/${local.prefix}-data"
  target_key_id = aws_kms_key.data.key_id
}

resource "aws_kms_key" "logs" {
  description             = "${local.prefix}: log groups and the alarm topic"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      local.key_administration,
      {
        Sid       = "LogGroups"
        Effect    = "Allow"
        Principal = { Service = "logs.${var.region}.${local.dns_suffix}" }
        Action    = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
        Resource  = "*"
        Condition = { ArnLike = { "kms:EncryptionContext:aws:logs:arn" = "arn:${local.partition}:logs:${var.region}:${local.account_id}:log-group:*" } }
      },
      {
        Sid       = "AlarmsNotify"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.${local.dns_suffix}" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Resource  = "*"
        Condition = { ArnLike = { "aws:SourceArn" = local.alarm_arn_pattern } }
      },
      merge(local.key_for_rules, { Sid = "RulesNotify" }),
    ]
  })
}

resource "aws_kms_alias" "logs" {
  name          = "alias/${local.prefix}-logs"
  target_key_id = aws_kms_key.logs.key_id
}

# --- The second region -----------------------------------------------------

resource "aws_kms_key" "replica" {
  count                   = var.replica_region == null ? 0 : 1
  provider                = aws.replica
  description             = "${local.prefix}: what ${var.region} replicates here"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = jsonencode({ Version = "2012-10-17", Statement = [local.key_administration] })
}

resource "aws_kms_alias" "replica" {
  count         = var.replica_region == null ? 0 : 1
  provider      = aws.replica
  name          = "alias/${local.prefix}-replica"
  target_key_id = aws_kms_key.replica[0].key_id
}

data "aws_kms_alias" "replica" {
  count = local.secondary ? 1 : 0
  name  = "alias/${local.prefix}-replica"
}

locals {
  # Keys the tasks' data is under: their own stack's, and in the secondary
  # region also the one the primary made for the table and the secrets.
  data_key_arns = concat([aws_kms_key.data.arn], data.aws_kms_alias.replica[*].target_key_arn)
}
