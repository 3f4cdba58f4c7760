# What scripts/restore-check may do, as a policy for whoever runs it: it can make and
# delete copies under its own names, and read, nothing that serves.

locals {
  # The names that the script gives.
  check_name = "${local.prefix}-check-*"
  rds_arn    = "arn:${local.partition}:rds:${var.region}:${local.account_id}"
}

resource "aws_iam_policy" "restore_check" {
  name        = "${local.prefix}-restore-check-${var.region}"
  description = "Restore table and database under other names, look at them and delete them (deploy/scripts/restore-check)"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "LivingTable"
        Effect   = "Allow"
        Action   = ["dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:RestoreTableToPointInTime"]
        Resource = [local.table_arn]
      },
      {
        # DynamoDB fills a restored table in the name of who asked for it.
        Sid    = "RestoredTable"
        Effect = "Allow"
        Action = [
          "dynamodb:BatchWriteItem",
          "dynamodb:DeleteItem",
          "dynamodb:DeleteTable",
          "dynamodb:DescribeTable",
          "dynamodb:GetItem",
          "dynamodb:PutItem",
          "dynamodb:Query",
          "dynamodb:RestoreTableToPointInTime",
          "dynamodb:Scan",
          "dynamodb:UpdateItem",
        ]
        Resource = ["arn:${local.partition}:dynamodb:${var.region}:${local.account_id}:table/${local.check_name}"]
      },
      {
        Sid    = "RestoreDatabase"
        Effect = "Allow"
        Action = ["rds:AddTagsToResource", "rds:CreateDBInstance", "rds:RestoreDBClusterToPointInTime", "rds:RestoreDBInstanceToPointInTime"]
        Resource = [
          local.database_arn,
          aws_db_subnet_group.main.arn,
          "${local.rds_arn}:db:${local.check_name}",
          "${local.rds_arn}:cluster:${local.check_name}",
          # Of what is restored, the groups of parameters and options that the source has.
          "${local.rds_arn}:pg:*",
          "${local.rds_arn}:cluster-pg:*",
          "${local.rds_arn}:og:*",
        ]
      },
      {
        Sid    = "DeleteRestoredDatabase"
        Effect = "Allow"
        Action = ["rds:DeleteDBCluster", "rds:DeleteDBInstance", "rds:DescribeDBClusters", "rds:DescribeDBInstances"]
        # The last snapshot, which is not made, counts as touched too.
        Resource = [for kind in ["db", "cluster", "cluster-snapshot"] : "${local.rds_arn}:${kind}:${local.check_name}"]
      },
      {
        Sid      = "Backups"
        Effect   = "Allow"
        Action   = ["backup:ListRecoveryPointsByBackupVault"]
        Resource = [aws_backup_vault.main.arn]
      },
      {
        # A backup's ARN is of its own, or a snapshot's or the table's.
        Sid      = "RestoreBackups"
        Effect   = "Allow"
        Action   = ["backup:GetRecoveryPointRestoreMetadata", "backup:StartRestoreJob"]
        Resource = local.recovery_point_arns
      },
      {
        # AWS forces the resource.
        Sid      = "WatchRestore"
        Effect   = "Allow"
        Action   = ["backup:DescribeRestoreJob"]
        Resource = ["*"]
      },
      {
        Sid       = "RestoreAsAwsBackup"
        Effect    = "Allow"
        Action    = ["iam:PassRole"]
        Resource  = [aws_iam_role.backup.arn]
        Condition = { StringEquals = { "iam:PassedToService" = "backup.${local.dns_suffix}" } }
      },
      {
        Sid       = "RunDoctor"
        Effect    = "Allow"
        Action    = ["ecs:RunTask"]
        Resource  = ["${local.ecs_arn}:task-definition/${local.prefix}-migrate:*"]
        Condition = { ArnEquals = { "ecs:cluster" = aws_ecs_cluster.main.arn } }
      },
      {
        Sid      = "WatchDoctor"
        Effect   = "Allow"
        Action   = ["ecs:DescribeTasks"]
        Resource = ["${local.ecs_arn}:task/${local.prefix}/*"]
      },
      {
        Sid      = "ReadDoctor"
        Effect   = "Allow"
        Action   = ["logs:GetLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.app["migrate"].arn}:log-stream:*"]
      },
      {
        Sid       = "DoctorRunsAsMigration"
        Effect    = "Allow"
        Action    = ["iam:PassRole"]
        Resource  = [aws_iam_role.execution.arn, aws_iam_role.task["migrate"].arn]
        Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.${local.dns_suffix}" } }
      },
      {
        Sid       = "CopiesUnderTheKey"
        Effect    = "Allow"
        Action    = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
        Resource  = local.data_key_arns
        Condition = { StringEquals = { "kms:ViaService" = ["dynamodb.${var.region}.${local.dns_suffix}", "rds.${var.region}.${local.dns_suffix}"] } }
      },
    ]
  })
}

locals {
  # Of tables (with and without AWS Backup's own format) and of databases.
  recovery_point_arns = [
    "arn:${local.partition}:backup:${var.region}:${local.account_id}:recovery-point:*",
    "${local.table_arn}/backup/*",
    "${local.rds_arn}:snapshot:awsbackup:*",
    "${local.rds_arn}:cluster-snapshot:awsbackup:*",
  ]
}
