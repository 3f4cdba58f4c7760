# A role for each kind of process, and for what AWS does on the stack's behalf.
#
# What the code calls is listed by role in actions.json, which a test compares
# with the code. Here each action gets the ARNs it is used on, and what AWS
# needs around the code (keys, logs, network interfaces) is added.

locals {
  actions_of_code = jsondecode(file("${path.module}/actions.json"))

  # A function that takes no jobs calls what the api does.
  actions = { for role, actions in local.actions_of_code : role => role == "lambda" && !local.works ? local.actions_of_code.api : actions }

  # What an action is called on: by its own name, else by its service. An
  # action of a service that is not listed fails the plan.
  scope_of_action = {
    "dynamodb:Query"  = "TableAndIndexes"
    "s3:ListBucket"   = "ArchiveBucket"
    "sqs:SendMessage" = "JobQueues"
  }
  # Where a role may do it on less than others.
  scope_of_role_action = {
    "migrate/dynamodb:PutItem" = "ChangeMarker"
  }
  scope_of_service = {
    dynamodb       = "Table"
    s3             = "Archive"
    secretsmanager = "Secrets"
    sqs            = "Queues"
    xray           = "Traces"
  }

  scopes = {
    Table           = [local.table_arn]
    TableAndIndexes = [local.table_arn, "${local.table_arn}/index/*"]
    Queues          = [for name in keys(local.queues) : aws_sqs_queue.main[name].arn]
    # Ingest is written to by AWS's services, not by the code.
    JobQueues = [aws_sqs_queue.main["fan_out"].arn, aws_sqs_queue.main["deliver"].arn]
    # Not the database owner's.
    Secrets = [local.app_login_secret_arn, local.key_ring_secret_arn, local.admin_key_secret_arn]
    # X-Ray has no resources to name.
    Traces        = ["*"]
    Archive       = local.archive_object_arns
    ArchiveBucket = local.archive_bucket_arns
  }

  # Where a role's differ: what takes jobs also parks what it cannot use, what has
  # no HTTP needs no admin key, and the migration reads the two logins and looks at the
  # table.
  parking_queues = concat(local.scopes.JobQueues, [aws_sqs_queue.dead["parked"].arn])
  scopes_of_role = {
    for role, scopes in {
      api     = local.scopes
      worker  = merge(local.scopes, { JobQueues = local.parking_queues, Secrets = [local.app_login_secret_arn, local.key_ring_secret_arn] })
      lambda  = merge(local.scopes, local.works ? { JobQueues = local.parking_queues } : {})
      migrate = { Secrets = [local.database_secret_arn, local.app_login_secret_arn], Table = [local.table_arn], ChangeMarker = [local.table_arn] }
    } : role => scopes if contains(keys(local.task_groups), role)
  }

  # Services through which a role may use the data key. The code never calls
  # KMS: these services do, with the role's permissions.
  key_services = {
    for role in keys(local.task_groups) : role => [
      for service in concat(
        ["dynamodb", "secretsmanager"],
        role == "migrate" ? [] : ["sqs"],
        length(local.archive_object_arns) > 0 && contains(local.actions[role], "s3:PutObject") ? ["s3"] : [],
      ) :
      "${service}.${var.region}.${local.dns_suffix}"
    ]
  }
}

# --- Tasks and the function ------------------------------------------------

resource "aws_iam_role" "task" {
  for_each    = local.task_groups
  name        = "${local.prefix}-${each.key}-${var.region}"
  description = "What Millrace may do as ${each.key}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [merge(
      {
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "${each.key == "lambda" ? "lambda" : "ecs-tasks"}.${local.dns_suffix}" }
      },
      each.key == "lambda" ? local.own_account_if_told : local.ecs_confused_deputy,
    )]
  })
}

resource "aws_iam_role_policy" "task" {
  for_each = local.task_groups
  name     = "calls"
  role     = aws_iam_role.task[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        for scope, arns in local.scopes_of_role[each.key] : merge(
          {
            Sid      = scope
            Effect   = "Allow"
            Action   = local.actions_of_scope["${each.key}/${scope}"]
            Resource = arns
          },
          scope == "ChangeMarker" ? local.change_marker_only : {},
        ) if length(arns) > 0 && contains(keys(local.actions_of_scope), "${each.key}/${scope}")
      ],
      [{
        Sid       = "KeysThroughServices"
        Effect    = "Allow"
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = local.data_key_arns
        Condition = { StringEquals = { "kms:ViaService" = local.key_services[each.key] } }
      }],
    )
  })
}

locals {
  # The one item by which a migration tells the sweepers to look.
  change_marker_only = {
    Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = ["control_plane"] } }
  }

  # role/scope → actions.
  actions_of_scope = merge([
    for role in keys(local.task_groups) : {
      for action in local.actions[role] :
      "${role}/${lookup(local.scope_of_role_action, "${role}/${action}", lookup(local.scope_of_action, action, local.scope_of_service[split(":", action)[0]]))}" => action...
    }
  ]...)

  # A task of another account cannot make ECS hand it this role.
  ecs_confused_deputy = {
    Condition = {
      StringEquals = { "aws:SourceAccount" = local.account_id }
      ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:ecs:${var.region}:${local.account_id}:*" }
    }
  }

  # AWS does not document that Lambda and RDS Proxy say on whose behalf they assume
  # a role: where they do, it must be this account.
  own_account_if_told = {
    Condition = { StringEqualsIfExists = { "aws:SourceAccount" = local.account_id } }
  }
}

# What Lambda itself does with the function's role.
resource "aws_iam_role_policy" "lambda" {
  count = local.lambda ? 1 : 0
  name  = "platform"
  role  = aws_iam_role.task["lambda"].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Logs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.app["lambda"].arn}:*"]
      },
      {
        # AWS forces the resource: these describe, or report on, no one thing.
        Sid      = "Describe"
        Effect   = "Allow"
        Action   = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "xray:PutTelemetryRecords"]
        Resource = ["*"]
      },
      {
        # Lambda checks, before there is an interface to name, that the role could
        # do this; its documentation asks for this form of resource.
        Sid    = "NetworkInterfaces"
        Effect = "Allow"
        Action = [
          "ec2:AssignPrivateIpAddresses",
          "ec2:CreateNetworkInterface",
          "ec2:DeleteNetworkInterface",
          "ec2:UnassignPrivateIpAddresses",
        ]
        Resource = ["arn:${local.partition}:ec2:${var.region}:${local.account_id}:*/*"]
      },
      {
        # Lambda may, the code inside the function may not.
        Sid    = "NotFromTheCode"
        Effect = "Deny"
        Action = [
          "ec2:AssignPrivateIpAddresses",
          "ec2:CreateNetworkInterface",
          "ec2:DeleteNetworkInterface",
          "ec2:DescribeNetworkInterfaces",
          "ec2:DescribeSubnets",
          "ec2:UnassignPrivateIpAddresses",
        ]
        Resource  = ["*"]
        Condition = { ArnEquals = { "lambda:SourceFunctionArn" = "arn:${local.partition}:lambda:${var.region}:${local.account_id}:function:${local.prefix}" } }
      },
    ]
  })
}

# --- ECS's own -------------------------------------------------------------

# Starts tasks: pulls the image, opens the log stream.
resource "aws_iam_role" "execution" {
  name        = "${local.prefix}-execution-${var.region}"
  description = "What ECS does to start a task"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [merge({
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ecs-tasks.${local.dns_suffix}" }
    }, local.ecs_confused_deputy)]
  })
}

resource "aws_iam_role_policy" "execution" {
  name = "start-tasks"
  role = aws_iam_role.execution.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # AWS forces the resource.
        Sid      = "RegistryLogin"
        Effect   = "Allow"
        Action   = ["ecr:GetAuthorizationToken"]
        Resource = ["*"]
      },
      {
        Sid      = "Pull"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = [aws_ecr_repository.main.arn]
      },
      {
        Sid      = "Logs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = [for name, group in aws_cloudwatch_log_group.app : "${group.arn}:*" if name != "lambda"]
      },
    ]
  })
}

# --- RDS Proxy -------------------------------------------------------------

resource "aws_iam_role" "proxy" {
  count       = local.proxied ? 1 : 0
  name        = "${local.prefix}-proxy-${var.region}"
  description = "RDS Proxy reads the application's login"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [merge({
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "rds.${local.dns_suffix}" }
    }, local.own_account_if_told)]
  })
}

resource "aws_iam_role_policy" "proxy" {
  count = local.proxied ? 1 : 0
  name  = "read-secret"
  role  = aws_iam_role.proxy[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Secret"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = [local.app_login_secret_arn]
      },
      {
        Sid       = "Key"
        Effect    = "Allow"
        Action    = ["kms:Decrypt"]
        Resource  = [aws_kms_key.data.arn]
        Condition = { StringEquals = { "kms:ViaService" = "secretsmanager.${var.region}.${local.dns_suffix}" } }
      },
    ]
  })
}

# --- Enhanced monitoring of the database -----------------------------------

resource "aws_iam_role" "database_monitoring" {
  name        = "${local.prefix}-db-monitoring-${var.region}"
  description = "RDS writes its operating system's metrics"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "monitoring.rds.${local.dns_suffix}" }
      Condition = { StringEquals = { "aws:SourceAccount" = local.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "database_monitoring" {
  name = "write-metrics"
  role = aws_iam_role.database_monitoring.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # Whatever the call, CloudWatch Logs asks about a stream of the group, be it
        # one without a name.
        Sid    = "Group"
        Effect = "Allow"
        Action = ["logs:CreateLogGroup", "logs:PutRetentionPolicy"]
        Resource = [
          "arn:${local.partition}:logs:${var.region}:${local.account_id}:log-group:RDSOSMetrics",
          "arn:${local.partition}:logs:${var.region}:${local.account_id}:log-group:RDSOSMetrics:*",
        ]
      },
      {
        Sid      = "Streams"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:GetLogEvents", "logs:PutLogEvents"]
        Resource = ["arn:${local.partition}:logs:${var.region}:${local.account_id}:log-group:RDSOSMetrics:log-stream:*"]
      },
    ]
  })
}

# --- Flow logs -------------------------------------------------------------

resource "aws_iam_role" "flow" {
  name        = "${local.prefix}-flow-${var.region}"
  description = "The VPC writes its flow logs"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "vpc-flow-logs.${local.dns_suffix}" }
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account_id }
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:ec2:${var.region}:${local.account_id}:vpc-flow-log/*" }
      }
    }]
  })
}

resource "aws_iam_role_policy" "flow" {
  name = "write-logs"
  role = aws_iam_role.flow.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "Logs"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
      Resource = [aws_cloudwatch_log_group.flow.arn, "${aws_cloudwatch_log_group.flow.arn}:*"]
    }]
  })
}

# --- AWS Backup ------------------------------------------------------------

resource "aws_iam_role" "backup" {
  name        = "${local.prefix}-backup-${var.region}"
  description = "AWS Backup backs up and restores the table and the database"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "backup.${local.dns_suffix}" }
      Condition = { StringEquals = { "aws:SourceAccount" = local.account_id } }
    }]
  })
}

# AWS's own lists for its own service: they change as AWS Backup does, and a
# copy kept here would one day fail a restore. tests/lint_iam.py lists them as the
# only managed policies.
resource "aws_iam_role_policy_attachment" "backup" {
  for_each   = toset(["AWSBackupServiceRolePolicyForBackup", "AWSBackupServiceRolePolicyForRestores"])
  role       = aws_iam_role.backup.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/${each.key}"
}
