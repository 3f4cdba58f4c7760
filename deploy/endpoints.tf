# VPC endpoints: AWS services reached without leaving the VPC.

locals {
  # Without a NAT, tasks get out by an address of their own, which only public subnets
  # give. Their groups let nothing in but what they do anyway.
  tasks_subnet_ids      = [for zone in local.zones : local.nat == "none" ? aws_subnet.public[zone].id : aws_subnet.private[zone].id]
  tasks_route_table_ids = concat([for zone in local.zones : aws_route_table.private[zone].id], local.nat == "none" ? [aws_route_table.public.id] : [])
  data_subnet_ids       = [for zone in local.zones : aws_subnet.data[zone].id]
}

# Free, and keeps the table's traffic off the NAT gateways.
resource "aws_vpc_endpoint" "dynamodb" {
  vpc_id            = aws_vpc.main.id
  service_name      = "com.amazonaws.${var.region}.dynamodb"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = local.tasks_route_table_ids
  tags              = { Name = "${local.prefix}-dynamodb" }

  # From in here, this stack's table only, whatever credentials someone brings.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "ThisTable"
      Effect    = "Allow"
      Principal = "*"
      Action    = distinct([for action in flatten(values(local.actions)) : action if startswith(action, "dynamodb:")])
      Resource  = [local.table_arn, "${local.table_arn}/index/*"]
      Condition = { StringEquals = { "aws:PrincipalAccount" = local.account_id } }
    }]
  })
}

# For ECR, which keeps the layers of images in S3, and for the archive.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.main.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = local.tasks_route_table_ids
  tags              = { Name = "${local.prefix}-s3" }

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "ImageLayers"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["s3:GetObject"]
        Resource  = ["arn:${local.partition}:s3:::prod-${var.region}-starport-layer-bucket/*"]
      }],
      length(local.archive_object_arns) == 0 ? [] : [
        {
          Sid       = "Archive"
          Effect    = "Allow"
          Principal = "*"
          Action    = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
          Resource  = local.archive_object_arns
        },
        {
          Sid       = "ArchiveBucket"
          Effect    = "Allow"
          Principal = "*"
          Action    = ["s3:ListBucket"]
          Resource  = local.archive_bucket_arns
        },
      ],
    )
  })
}

# What goes through each interface endpoint: the code's own calls, and ECS's when it
# starts a task. Wildcards end names that begin with this stack's.
locals {
  pull_actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
  code_actions = distinct(flatten([for role in keys(local.task_groups) : local.actions[role]]))

  endpoint_actions = {
    "ecr.api"      = concat(["ecr:GetAuthorizationToken"], local.pull_actions)
    "ecr.dkr"      = concat(["ecr:GetAuthorizationToken"], local.pull_actions)
    logs           = ["logs:CreateLogStream", "logs:PutLogEvents"]
    secretsmanager = [for action in local.code_actions : action if startswith(action, "secretsmanager:")]
    sqs            = [for action in local.code_actions : action if startswith(action, "sqs:")]
    xray           = [for action in local.code_actions : action if startswith(action, "xray:")]
  }

  own_arn = { for service in ["logs", "secretsmanager", "sqs"] : service => "arn:${local.partition}:${service}:${var.region}:${local.account_id}" }
  endpoint_resources = {
    # A login is for the whole registry.
    "ecr.api" = ["*"]
    "ecr.dkr" = ["*"]
    logs      = [for group in aws_cloudwatch_log_group.app : "${group.arn}:*"]
    # RDS chooses the name of the database's.
    secretsmanager = ["${local.own_arn.secretsmanager}:secret:${local.prefix}/*", "${local.own_arn.secretsmanager}:secret:rds!*"]
    sqs            = ["${local.own_arn.sqs}:${local.prefix}-*"]
    # X-Ray has no resources to name.
    xray = ["*"]
  }
}

resource "aws_vpc_endpoint" "interface" {
  for_each            = var.interface_endpoints
  vpc_id              = aws_vpc.main.id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = local.tasks_subnet_ids
  security_group_ids  = [aws_security_group.endpoints.id]
  tags                = { Name = "${local.prefix}-${each.key}" }

  # Through these, principals of this account only.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "ThisAccount"
      Effect    = "Allow"
      Principal = "*"
      Action    = local.endpoint_actions[each.key]
      Resource  = local.endpoint_resources[each.key]
      Condition = { StringEquals = { "aws:PrincipalAccount" = local.account_id } }
    }]
  })
}
