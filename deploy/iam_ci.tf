# The pipeline's role, by GitHub's OIDC: no stored credentials. It deploys
# images; it cannot change the infrastructure.

locals {
  github      = var.github_repository != null
  github_host = "token.actions.githubusercontent.com"
  github_oidc_provider_arn = local.github ? coalesce(
    var.github_oidc_provider_arn,
    one(aws_iam_openid_connect_provider.github[*].arn),
  ) : null

  ecs_arn    = "arn:${local.partition}:ecs:${var.region}:${local.account_id}"
  lambda_arn = "arn:${local.partition}:lambda:${var.region}:${local.account_id}:function:${local.prefix}"
  # Families whose revisions the pipeline registers.
  ci_families = concat(["migrate"], keys(local.fargate_services))
}

resource "aws_iam_openid_connect_provider" "github" {
  count          = local.github && var.github_oidc_provider_arn == null ? 1 : 0
  url            = "https://${local.github_host}"
  client_id_list = ["sts.${local.dns_suffix}"]

  # AWS checks GitHub's certificate against its own list of authorities and
  # fills this in; there is nothing to pin.
  lifecycle {
    ignore_changes = [thumbprint_list]
  }
}

resource "aws_iam_role" "ci" {
  count                = local.github ? 1 : 0
  name                 = "${local.prefix}-ci-${var.region}"
  description          = "Workflows of ${var.github_repository} in the GitHub environment ${var.environment}"
  max_session_duration = 3600

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = local.github_oidc_provider_arn }
      Condition = {
        StringEquals = {
          "${local.github_host}:aud" = "sts.${local.dns_suffix}"
          # The environment's protection rules (approval, branches) thereby
          # guard the role.
          "${local.github_host}:sub" = "repo:${var.github_repository}:environment:${var.environment}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "ci" {
  count = local.github ? 1 : 0
  name  = "deploy"
  role  = aws_iam_role.ci[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          # AWS forces the resource of both.
          Sid    = "NoResourceToName"
          Effect = "Allow"
          Action = [
            "ecr:GetAuthorizationToken",
            "ecs:DescribeTaskDefinition",
          ]
          Resource = ["*"]
        },
        {
          Sid    = "PushImage"
          Effect = "Allow"
          Action = [
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:CompleteLayerUpload",
            "ecr:DescribeImages",
            "ecr:GetDownloadUrlForLayer",
            "ecr:InitiateLayerUpload",
            "ecr:PutImage",
            "ecr:UploadLayerPart",
          ]
          Resource = [aws_ecr_repository.main.arn]
        },
        {
          Sid      = "RegisterRevisions"
          Effect   = "Allow"
          Action   = ["ecs:RegisterTaskDefinition", "ecs:TagResource"]
          Resource = [for family in local.ci_families : "${local.ecs_arn}:task-definition/${local.prefix}-${family}:*"]
        },
        {
          Sid       = "Migrate"
          Effect    = "Allow"
          Action    = ["ecs:RunTask"]
          Resource  = ["${local.ecs_arn}:task-definition/${local.prefix}-migrate:*"]
          Condition = { ArnEquals = { "ecs:cluster" = aws_ecs_cluster.main.arn } }
        },
        {
          Sid      = "WatchMigration"
          Effect   = "Allow"
          Action   = ["ecs:DescribeTasks"]
          Resource = ["${local.ecs_arn}:task/${local.prefix}/*"]
        },
        {
          Sid      = "ReadMigrationLog"
          Effect   = "Allow"
          Action   = ["logs:GetLogEvents"]
          Resource = ["${aws_cloudwatch_log_group.app["migrate"].arn}:log-stream:*"]
        },
        {
          # Nothing can be run as a role but what these tasks run as already.
          Sid    = "PassRolesToTasks"
          Effect = "Allow"
          Action = ["iam:PassRole"]
          Resource = concat(
            [aws_iam_role.execution.arn],
            [for name, role in aws_iam_role.task : role.arn if name != "lambda"],
          )
          Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.${local.dns_suffix}" } }
        },
      ],
      [
        for statement in [{
          Sid      = "Roll"
          Effect   = "Allow"
          Action   = ["ecs:DescribeServices", "ecs:UpdateService"]
          Resource = [for name in keys(local.services) : "${local.ecs_arn}:service/${local.prefix}/${name}"]
        }] : statement if local.fargate
      ],
      [
        for statement in [{
          Sid    = "MoveAlias"
          Effect = "Allow"
          Action = [
            "lambda:GetAlias",
            "lambda:GetFunction",
            "lambda:GetFunctionConfiguration",
            # A version is asked whether it is ready before the alias moves to it.
            "lambda:InvokeFunction",
            "lambda:PublishVersion",
            "lambda:UpdateAlias",
            "lambda:UpdateFunctionCode",
          ]
          Resource = [local.lambda_arn, "${local.lambda_arn}:*"]
          }, {
          # Of a function whose variables this key encrypts, Lambda makes the grant
          # for a new version in the name of who publishes it.
          Sid       = "VariablesOfVersions"
          Effect    = "Allow"
          Action    = ["kms:CreateGrant"]
          Resource  = [aws_kms_key.data.arn]
          Condition = { StringEquals = { "kms:ViaService" = "lambda.${var.region}.${local.dns_suffix}" } }
        }] : statement if local.lambda
      ],
    )
  })
}

# --- Planning ----------------------------------------------------------------

# For pull requests of this repository's own branches (GitHub gives those of forks no
# token) and for the drift job on main. It reads how things are set up, and no data.

locals {
  plans = local.github && var.terraform_state != null
}

resource "aws_iam_role" "plan" {
  count                = local.plans ? 1 : 0
  name                 = "${local.prefix}-plan-${var.region}"
  description          = "Pull requests and the drift job of ${var.github_repository}: terraform plan"
  max_session_duration = 3600

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = local.github_oidc_provider_arn }
      Condition = {
        StringEquals = {
          "${local.github_host}:aud" = "sts.${local.dns_suffix}"
          "${local.github_host}:sub" = ["repo:${var.github_repository}:pull_request", "repo:${var.github_repository}:ref:refs/heads/main"]
        }
      }
    }]
  })
}

# AWS's own list: what a provider reads grows with each of its versions, and a copy
# kept here would one day fail a plan. What of it is data is denied below.
resource "aws_iam_role_policy_attachment" "plan" {
  count      = local.plans ? 1 : 0
  role       = aws_iam_role.plan[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/ReadOnlyAccess"
}

resource "aws_iam_role_policy" "plan" {
  count = local.plans ? 1 : 0
  name  = "state-and-no-data"
  role  = aws_iam_role.plan[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "ReadState"
          Effect   = "Allow"
          Action   = ["s3:GetObject"]
          Resource = [local.plan_state_arn]
        },
        {
          Sid      = "FindState"
          Effect   = "Allow"
          Action   = ["s3:ListBucket"]
          Resource = ["arn:${local.partition}:s3:::${var.terraform_state.bucket}"]
        },
        {
          Sid         = "NoOtherObjects"
          Effect      = "Deny"
          Action      = ["s3:GetObject*"]
          NotResource = [local.plan_state_arn]
        },
        {
          Sid    = "NoData"
          Effect = "Deny"
          Action = [
            "athena:GetQueryResults*",
            "dynamodb:BatchGetItem",
            "dynamodb:GetItem",
            "dynamodb:GetRecords",
            "dynamodb:PartiQLSelect",
            "dynamodb:Query",
            "dynamodb:Scan",
            "ecr:BatchGetImage",
            "ecr:GetDownloadUrlForLayer",
            "kinesis:Get*",
            "logs:FilterLogEvents",
            "logs:GetLog*",
            "logs:GetQueryResults",
            "logs:StartQuery",
            "rds:DownloadCompleteDBLogFile",
            "rds:DownloadDBLogFilePortion",
            "secretsmanager:BatchGetSecretValue",
            "secretsmanager:GetSecretValue",
            "sqs:ReceiveMessage",
            "xray:BatchGetTraces",
            "xray:GetTraceSummaries",
          ]
          Resource = ["*"]
        },
      ],
      [
        for statement in [{
          Sid       = "StateKey"
          Effect    = "Allow"
          Action    = ["kms:Decrypt"]
          Resource  = [try(var.terraform_state.kms_key_arn, null)]
          Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.${local.dns_suffix}" } }
        }] : statement if try(var.terraform_state.kms_key_arn, null) != null
      ],
    )
  })
}

locals {
  plan_state_arn = local.plans ? "arn:${local.partition}:s3:::${var.terraform_state.bucket}/${var.terraform_state.key}" : null
}
