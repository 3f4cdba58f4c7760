# What the inputs must satisfy together.

locals {
  # Memory, in MiB, that Fargate offers for each size of CPU.
  fargate_memory_mib = {
    256  = [512, 1024, 2048]
    512  = [for gib in range(1, 5) : gib * 1024]
    1024 = [for gib in range(2, 9) : gib * 1024]
    2048 = [for gib in range(4, 17) : gib * 1024]
    4096 = [for gib in range(8, 31) : gib * 1024]
  }
}

resource "terraform_data" "inputs" {
  lifecycle {
    precondition {
      condition     = length(data.aws_availability_zones.available.names) >= var.availability_zones
      error_message = "${var.region} offers ${length(data.aws_availability_zones.available.names)} availability zones to this account: set availability_zones to that or less, or another region."
    }
    precondition {
      condition     = var.environment != "prod" || var.certificate_arn != null
      error_message = "prod must not serve plain HTTP: set certificate_arn to an ACM certificate in ${var.region}."
    }
    precondition {
      condition     = var.environment != "prod" || var.multi_az
      error_message = "prod must survive the loss of a zone: set multi_az = true."
    }
    precondition {
      condition     = !local.fargate || contains(local.fargate_memory_mib[var.api_cpu_units], var.api_memory_mib)
      error_message = "Fargate has no task of ${var.api_cpu_units} CPU units and ${var.api_memory_mib} MiB: set api_memory_mib to one of ${join(", ", local.fargate_memory_mib[var.api_cpu_units])}."
    }
    precondition {
      condition     = !local.fargate || contains(local.fargate_memory_mib[var.worker_cpu_units], var.worker_memory_mib)
      error_message = "Fargate has no task of ${var.worker_cpu_units} CPU units and ${var.worker_memory_mib} MiB: set worker_memory_mib to one of ${join(", ", local.fargate_memory_mib[var.worker_cpu_units])}."
    }
    precondition {
      condition     = !local.lambda || var.lambda_reserved_concurrency == -1 || var.lambda_reserved_concurrency >= sum(values(var.lambda_queue_concurrency)) + 5
      error_message = "The queues may take ${sum(values(var.lambda_queue_concurrency))} invocations at once and leave fewer than 5 for HTTP: set lambda_reserved_concurrency to at least ${sum(values(var.lambda_queue_concurrency)) + 5}, or lower lambda_queue_concurrency."
    }
    precondition {
      condition     = !var.cloudfront || (var.certificate_arn != null && var.domain_name != null && var.cloudfront_certificate_arn != null)
      error_message = "cloudfront speaks TLS to clients and to the load balancer under one name: set domain_name, certificate_arn (in ${var.region}) and cloudfront_certificate_arn (in us-east-1)."
    }
    precondition {
      condition     = var.route53_zone_id == null || var.domain_name != null
      error_message = "route53_zone_id is set but there is no name to create in it: set domain_name."
    }
    precondition {
      condition     = var.failover_role == null || (var.route53_zone_id != null && var.domain_name != null && var.certificate_arn != null)
      error_message = "failover works through a Route 53 record: set route53_zone_id, domain_name and certificate_arn."
    }
    precondition {
      condition     = var.failover_role == null || anytrue([for cidr in var.ingress_cidrs : endswith(cidr, "/0")])
      error_message = "Route 53's health checkers ask the load balancer from addresses of their own, and with a narrow ingress_cidrs would take it for dead: set ingress_cidrs = [\"0.0.0.0/0\"], or failover_role = null."
    }
    precondition {
      condition     = var.failover_role == null || !var.cloudfront
      error_message = "A name cannot both fail over between two load balancers and point to CloudFront: set cloudfront = false, or failover_role = null."
    }
    precondition {
      condition     = var.failover_role != "primary" || var.replica_region != null
      error_message = "The primary replicates the table to the secondary's region: set replica_region."
    }
    precondition {
      condition     = var.failover_role != "secondary" || var.replica_region == null
      error_message = "The secondary uses what the primary replicated to its region: set replica_region in the primary only."
    }
    precondition {
      condition     = var.nat == null || var.nat_per_zone == null
      error_message = "nat and nat_per_zone say the same thing twice: set nat, and leave nat_per_zone out."
    }
    precondition {
      condition     = var.environment != "prod" || startswith(local.nat, "gateway")
      error_message = "prod must not get out by one instance, nor have tasks with public addresses: set nat to \"gateway-per-zone\" or \"gateway\"."
    }
    precondition {
      condition     = local.nat != "none" || !local.lambda
      error_message = "A function in a VPC has no public address, so without a NAT it reaches no webhook: set nat to \"instance\" or \"gateway\", or hosting to \"fargate\"."
    }
    precondition {
      condition     = var.load_balancer || var.hosting == "lambda"
      error_message = "Without a load balancer, requests reach a function only: set hosting = \"lambda\", or load_balancer = true."
    }
    precondition {
      condition     = var.load_balancer || (!var.waf && !var.cloudfront && var.failover_role == null)
      error_message = "WAF, CloudFront and failover stand before the load balancer: set waf = false, cloudfront = false and failover_role = null, or load_balancer = true."
    }
    precondition {
      condition     = var.load_balancer || (var.domain_name == null) == (var.certificate_arn == null)
      error_message = "Without a load balancer, a name and its certificate come together: set both domain_name and certificate_arn, or neither."
    }
    precondition {
      condition     = !local.lambda || var.database_proxy || (var.lambda_reserved_concurrency != -1 && var.lambda_reserved_concurrency <= var.database_connections_max)
      error_message = "Without RDS Proxy each instance of the function has a connection of its own: set lambda_reserved_concurrency to at most database_connections_max, ${var.database_connections_max}, or database_proxy = true."
    }
    precondition {
      condition     = var.budget_usd == 0 || length(var.budget_emails) + length(var.alarm_emails) > 0
      error_message = "A budget that nobody is told of is none: set budget_emails or alarm_emails, or budget_usd = 0."
    }
    precondition {
      condition     = var.backup_copy_region == null || var.backup_copy_region != var.region
      error_message = "backup_copy_region is the stack's own region: set it to another one, or leave it out."
    }
    precondition {
      condition     = var.backup_copy_vault_arn == null || try(local.backup_copy_vault.account != local.account_id && local.backup_copy_vault.region == var.region, false)
      error_message = "A database's backup can be copied to another account or to another region, not to both at once: set backup_copy_vault_arn to a vault of another account in ${var.region}, and backup_copy_region for another region."
    }
    precondition {
      condition     = !var.promoted || local.secondary
      error_message = "Only a secondary can be promoted: set promoted = false here, or failover_role = \"secondary\" in the region that is to take over."
    }
    precondition {
      condition     = var.replica_region == null || var.replica_region != var.region
      error_message = "replica_region is the stack's own region: set replica_region to another one."
    }
  }
}
