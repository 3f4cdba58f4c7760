# VPC endpoints: AWS services reached without leaving the VPC.

locals {
  tasks_subnet_ids = [for zone in local.zones : aws_subnet.private[zone].id]
  data_subnet_ids  = [for zone in local.zones : aws_subnet.data[zone].id]
}

# Free, and keeps the table's traffic off the NAT gateways.
resource "aws_vpc_endpoint" "dynamodb" {
  vpc_id            = aws_vpc.main.id
  service_name      = "com.amazonaws.${var.region}.dynamodb"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for zone in local.zones : aws_route_table.private[zone].id]
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
  route_table_ids   = [for zone in local.zones : aws_route_table.private[zone].id]
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
      length(local.archive_object_arns) == 0 ? [] : [{
        Sid       = "Archive"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["s3:PutObject"]
        Resource  = local.archive_object_arns
      }],
    )
  })
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
      Action    = "*"
      Resource  = "*"
      Condition = { StringEquals = { "aws:PrincipalAccount" = local.account_id } }
    }]
  })
}
