# The VPC: public subnets hold the load balancer and the NAT gateways, private
# subnets the tasks, data subnets (no way out) the database and the cache.

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394:zones are taken in the order of their letters, and a new one gets the next letter
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  # Never more than there are, so that too few fail the check in inputs.tf and not
  # here. Sorted, so that a zone added by AWS moves no subnet.
  zones = slice(
    sort(data.aws_availability_zones.available.names),
    0,
    min(var.availability_zones, length(data.aws_availability_zones.available.names)),
  )
  nat = coalesce(var.nat, var.nat_per_zone == false ? "gateway" : "gateway-per-zone")
  # Where there is an address that tasks get out by.
  nat_zones     = local.nat == "none" ? [] : local.nat == "gateway-per-zone" ? local.zones : slice(local.zones, 0, min(1, length(local.zones)))
  gateway_zones = startswith(local.nat, "gateway") ? local.nat_zones : []
}

resource "aws_vpc" "main" {
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = local.prefix }
}

# The default group would let its members talk to each other: emptied, so that
# nothing can be put there by omission.
resource "aws_default_security_group" "default" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = "${local.prefix}-default-unused" }
}

resource "aws_subnet" "public" {
  for_each          = { for index, zone in local.zones : zone => index }
  vpc_id            = aws_vpc.main.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.value)
  tags              = { Name = "${local.prefix}-public-${each.key}", Tier = "public" }
}

resource "aws_subnet" "private" {
  for_each          = { for index, zone in local.zones : zone => index }
  vpc_id            = aws_vpc.main.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, 4 + each.value)
  tags              = { Name = "${local.prefix}-private-${each.key}", Tier = "private" }
}

resource "aws_subnet" "data" {
  for_each          = { for index, zone in local.zones : zone => index }
  vpc_id            = aws_vpc.main.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, 8 + each.value)
  tags              = { Name = "${local.prefix}-data-${each.key}", Tier = "data" }
}

# --- Ways out --------------------------------------------------------------

resource "aws_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = local.prefix }
}

resource "aws_eip" "nat" {
  for_each = toset(local.nat_zones)
  domain   = "vpc"
  tags     = { Name = "${local.prefix}-nat-${each.key}" }
}

locals {
  # Where webhooks come from.
  nat_addresses = [for eip in aws_eip.nat : eip.public_ip]
}

resource "aws_nat_gateway" "main" {
  for_each      = toset(local.gateway_zones)
  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id
  tags          = { Name = "${local.prefix}-${each.key}" }

  depends_on = [aws_internet_gateway.main]
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = "${local.prefix}-public" }
}

resource "aws_route" "public_internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.main.id
}

resource "aws_route_table_association" "public" {
  for_each       = aws_subnet.public
  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table" "private" {
  for_each = toset(local.zones)
  vpc_id   = aws_vpc.main.id
  tags     = { Name = "${local.prefix}-private-${each.key}" }
}

resource "aws_route" "private_nat" {
  for_each               = toset(local.nat == "none" ? [] : local.zones)
  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = local.nat == "instance" ? null : aws_nat_gateway.main[contains(local.gateway_zones, each.key) ? each.key : local.gateway_zones[0]].id
  network_interface_id   = local.nat == "instance" ? aws_network_interface.nat[local.nat_zones[0]].id : null
}

resource "aws_route_table_association" "private" {
  for_each       = aws_subnet.private
  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[each.key].id
}

# No route but the VPC's own: data neither reaches the internet nor is reached.
resource "aws_route_table" "data" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = "${local.prefix}-data" }
}

resource "aws_route_table_association" "data" {
  for_each       = aws_subnet.data
  subnet_id      = each.value.id
  route_table_id = aws_route_table.data.id
}

# --- Flow logs -------------------------------------------------------------

resource "aws_flow_log" "vpc" {
  vpc_id                   = aws_vpc.main.id
  traffic_type             = "ALL"
  log_destination_type     = "cloud-watch-logs"
  log_destination          = aws_cloudwatch_log_group.flow.arn
  iam_role_arn             = aws_iam_role.flow.arn
  max_aggregation_interval = 600
  tags                     = { Name = local.prefix }
}
