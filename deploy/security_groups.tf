# The only way between tiers: load balancer → api → database, worker and
# function → database, nothing else. No group lets its members reach each
# other, and rules name groups, not addresses.

resource "aws_security_group" "alb" {
  name_prefix = "${local.prefix}-alb-"
  description = "Load balancer: HTTP and HTTPS from clients, port 8080 to api tasks"
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${local.prefix}-alb" }

  lifecycle { create_before_destroy = true }
}

resource "aws_security_group" "tasks" {
  for_each    = local.task_groups
  name_prefix = "${local.prefix}-${each.key}-"
  description = each.value
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${local.prefix}-${each.key}" }

  lifecycle { create_before_destroy = true }
}

resource "aws_security_group" "database" {
  name_prefix = "${local.prefix}-database-"
  description = "Database: PostgreSQL from tasks, nothing out"
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${local.prefix}-database" }

  lifecycle { create_before_destroy = true }
}

resource "aws_security_group" "proxy" {
  #checkov:skip=CKV2_AWS_5:rds.tf attaches it to the proxy
  count       = local.proxied ? 1 : 0
  name_prefix = "${local.prefix}-proxy-"
  description = "RDS Proxy: PostgreSQL from the function, to the database"
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${local.prefix}-proxy" }

  lifecycle { create_before_destroy = true }
}

resource "aws_security_group" "endpoints" {
  name_prefix = "${local.prefix}-endpoints-"
  description = "Interface endpoints: HTTPS from tasks"
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${local.prefix}-endpoints" }

  lifecycle { create_before_destroy = true }
}

locals {
  task_groups = merge(
    { migrate = "Migration task: to the database and AWS" },
    local.fargate ? { api = "Api tasks: port 8080 from the load balancer, to the database and AWS" } : {},
    local.fargate && local.works ? { worker = "Worker tasks: to the database, AWS and customers' webhooks" } : {},
    local.lambda ? { lambda = "Function: to the ${local.proxied ? "proxy" : "database"}, AWS and customers' webhooks" } : {},
  )

  # What calls customers' webhooks needs the internet. The others get to it
  # only where AWS's services have no endpoint in the VPC.
  aws_over_nat    = length(setsubtract(["ecr.api", "ecr.dkr", "logs", "secretsmanager", "sqs", "xray"], var.interface_endpoints)) > 0
  webhook_callers = [for group in ["worker", "lambda"] : group if contains(keys(local.task_groups), group)]
  internet_ports = merge(
    { for pair in setproduct(local.webhook_callers, var.webhook_ports) : "${pair[0]}-${pair[1]}" => { group = pair[0], port = pair[1] } },
    local.aws_over_nat ? { for group in keys(local.task_groups) : "${group}-443" => { group = group, port = 443 } } : {},
  )
}

# --- Load balancer ---------------------------------------------------------

data "aws_ec2_managed_prefix_list" "cloudfront" {
  count = var.cloudfront && local.on_aws.prefix_lists ? 1 : 0
  name  = "com.amazonaws.global.cloudfront.origin-facing"
}

locals {
  # Port 80 only redirects, unless there is no certificate; CloudFront never uses it.
  listener_ports = var.certificate_arn == null ? [80] : var.cloudfront ? [443] : [80, 443]
  from_anywhere  = !(var.cloudfront && local.on_aws.prefix_lists)
}

resource "aws_vpc_security_group_ingress_rule" "alb" {
  #checkov:skip=CKV_AWS_260:port 80 redirects to 443, or is the only listener of a stack without a certificate, which prod refuses
  for_each = local.from_anywhere ? {
    for pair in setproduct(local.listener_ports, var.ingress_cidrs) : "${pair[0]}-${pair[1]}" => { port = pair[0], cidr = pair[1] }
  } : {}
  security_group_id = aws_security_group.alb.id
  description       = "Clients"
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "alb_cloudfront" {
  count             = local.from_anywhere ? 0 : 1
  security_group_id = aws_security_group.alb.id
  description       = "CloudFront"
  prefix_list_id    = data.aws_ec2_managed_prefix_list.cloudfront[0].id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "alb_api" {
  count                        = local.fargate ? 1 : 0
  security_group_id            = aws_security_group.alb.id
  description                  = "Api tasks"
  referenced_security_group_id = aws_security_group.tasks["api"].id
  ip_protocol                  = "tcp"
  from_port                    = 8080
  to_port                      = 8080
}

resource "aws_vpc_security_group_ingress_rule" "api_alb" {
  count                        = local.fargate ? 1 : 0
  security_group_id            = aws_security_group.tasks["api"].id
  description                  = "Load balancer"
  referenced_security_group_id = aws_security_group.alb.id
  ip_protocol                  = "tcp"
  from_port                    = 8080
  to_port                      = 8080
}

# --- Tasks to AWS and to webhooks ------------------------------------------

resource "aws_vpc_security_group_egress_rule" "tasks_endpoints" {
  for_each                     = local.task_groups
  security_group_id            = aws_security_group.tasks[each.key].id
  description                  = "Interface endpoints"
  referenced_security_group_id = aws_security_group.endpoints.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_ingress_rule" "endpoints_tasks" {
  for_each                     = local.task_groups
  security_group_id            = aws_security_group.endpoints.id
  description                  = "From ${each.key}"
  referenced_security_group_id = aws_security_group.tasks[each.key].id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "tasks_dynamodb" {
  for_each          = local.on_aws.prefix_lists ? local.task_groups : {}
  security_group_id = aws_security_group.tasks[each.key].id
  description       = "DynamoDB"
  prefix_list_id    = aws_vpc_endpoint.dynamodb.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "tasks_s3" {
  for_each          = local.on_aws.prefix_lists ? local.task_groups : {}
  security_group_id = aws_security_group.tasks[each.key].id
  description       = "S3, for the layers of images"
  prefix_list_id    = aws_vpc_endpoint.s3.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "tasks_internet" {
  for_each          = local.internet_ports
  security_group_id = aws_security_group.tasks[each.value.group].id
  description       = contains(local.webhook_callers, each.value.group) ? "Webhooks" : "AWS over the NAT"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

# --- Database --------------------------------------------------------------

locals {
  # The function goes through the proxy, which shares connections among its many
  # instances; the others keep pools of their own.
  database_clients = { for group in keys(local.task_groups) : group => group if group != "lambda" || !local.proxied }
}

resource "aws_vpc_security_group_egress_rule" "tasks_database" {
  for_each                     = local.database_clients
  security_group_id            = aws_security_group.tasks[each.key].id
  description                  = "Database"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_vpc_security_group_ingress_rule" "database_tasks" {
  for_each                     = local.database_clients
  security_group_id            = aws_security_group.database.id
  description                  = "From ${each.key}"
  referenced_security_group_id = aws_security_group.tasks[each.key].id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_vpc_security_group_egress_rule" "lambda_proxy" {
  count                        = local.proxied ? 1 : 0
  security_group_id            = aws_security_group.tasks["lambda"].id
  description                  = "RDS Proxy"
  referenced_security_group_id = aws_security_group.proxy[0].id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_vpc_security_group_ingress_rule" "proxy_lambda" {
  count                        = local.proxied ? 1 : 0
  security_group_id            = aws_security_group.proxy[0].id
  description                  = "Function"
  referenced_security_group_id = aws_security_group.tasks["lambda"].id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_vpc_security_group_egress_rule" "proxy_database" {
  count                        = local.proxied ? 1 : 0
  security_group_id            = aws_security_group.proxy[0].id
  description                  = "Database"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_vpc_security_group_ingress_rule" "database_proxy" {
  count                        = local.proxied ? 1 : 0
  security_group_id            = aws_security_group.database.id
  description                  = "RDS Proxy"
  referenced_security_group_id = aws_security_group.proxy[0].id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}
