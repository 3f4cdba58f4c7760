# With nat = "instance": one small instance in place of a NAT gateway, a tenth of its
# price and of its availability. For development: while it is away, nothing gets out,
# and webhooks are tried again later. Nobody can log in to it; what it does is its user
# data's.

locals {
  nat_instance_zones = local.nat == "instance" ? local.nat_zones : []
  # What tasks send to the internet; 443 is AWS's services too, and the instance's packages.
  nat_ports = setunion(var.webhook_ports, [443])
}

data "aws_ssm_parameter" "nat_image" {
  count = local.nat == "instance" ? 1 : 0
  name  = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

resource "aws_security_group" "nat" {
  #checkov:skip=CKV2_AWS_5:its network interface has it, which checkov does not follow
  count       = local.nat == "instance" ? 1 : 0
  name_prefix = "${local.prefix}-nat-"
  description = "NAT instance: from private subnets to the internet"
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${local.prefix}-nat" }

  lifecycle { create_before_destroy = true }
}

# By address and not by group: AWS does not match groups for what is only passed on.
resource "aws_vpc_security_group_ingress_rule" "nat" {
  for_each          = { for pair in setproduct(length(local.nat_instance_zones) == 0 ? [] : local.zones, local.nat_ports) : "${pair[0]}-${pair[1]}" => { zone = pair[0], port = pair[1] } }
  security_group_id = aws_security_group.nat[0].id
  description       = "Tasks in ${each.value.zone}"
  cidr_ipv4         = aws_subnet.private[each.value.zone].cidr_block
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "nat" {
  for_each          = { for port in local.nat_ports : tostring(port) => port if local.nat == "instance" }
  security_group_id = aws_security_group.nat[0].id
  description       = "Webhooks and AWS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}

# Outlives the instance, so that route and address stay when it is replaced.
resource "aws_network_interface" "nat" {
  for_each          = toset(local.nat_instance_zones)
  subnet_id         = aws_subnet.public[each.key].id
  security_groups   = [aws_security_group.nat[0].id]
  source_dest_check = false
  description       = "NAT instance"
  tags              = { Name = "${local.prefix}-nat-${each.key}" }
}

resource "aws_eip_association" "nat" {
  for_each             = toset(local.nat_instance_zones)
  allocation_id        = aws_eip.nat[each.key].id
  network_interface_id = aws_network_interface.nat[each.key].id
}

resource "aws_instance" "nat" {
  #checkov:skip=CKV_AWS_126:for development, where basic monitoring will do
  #checkov:skip=CKV2_AWS_41:it calls nothing of AWS, so it has no role
  for_each      = toset(local.nat_instance_zones)
  ami           = data.aws_ssm_parameter.nat_image[0].insecure_value
  instance_type = "t4g.nano"
  ebs_optimized = true
  tags          = { Name = "${local.prefix}-nat-${each.key}" }

  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.nat[each.key].id
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    encrypted   = true
    kms_key_id  = aws_kms_key.data.arn
  }

  # On a host that fails, AWS starts it again by itself.
  maintenance_options {
    auto_recovery = "default"
  }

  user_data_replace_on_change = true
  user_data                   = <<-EOT
    #!/bin/bash
    set -euo pipefail
    dnf install -y iptables-services
    out=$(ip -o -4 route show to default | awk '{ print $5; exit }')
    printf 'net.ipv4.ip_forward = 1\n' >/etc/sysctl.d/90-nat.conf
    sysctl --load /etc/sysctl.d/90-nat.conf
    systemctl enable --now iptables
    iptables --flush FORWARD
    iptables --table nat --append POSTROUTING --out-interface "$out" --source ${var.vpc_cidr} --jump MASQUERADE
    service iptables save
    systemctl disable --now sshd
  EOT

  # A newer image is taken when it is replaced, not with just any apply.
  lifecycle {
    ignore_changes = [ami]
  }

  # Its packages come over its address.
  depends_on = [aws_eip_association.nat, aws_route.public_internet, aws_vpc_security_group_egress_rule.nat]
}
