# Bad input: each validation and each precondition of inputs.tf refuses what it is
# there for.

mock_provider "aws" {
  source = "./tests/mocks"
}

mock_provider "aws" {
  alias  = "replica"
  source = "./tests/mocks"
}

mock_provider "aws" {
  alias  = "backup_copy"
  source = "./tests/mocks"
}

mock_provider "aws" {
  alias  = "us_east_1"
  source = "./tests/mocks"
}

variables {
  environment = "test"
  region      = "eu-west-1"
  image_tag   = "0123abc"
}

# --- One variable ----------------------------------------------------------

# Every run plans the whole stack, so one run refuses a value of each variable. It
# fails unless every variable it lists is refused, and no other.

run "bad_values" {
  command = plan
  expect_failures = [
    var.name,
    var.environment,
    var.region,
    var.hosting,
    var.lambda_traffic_percent,
    var.image_tag,
    var.cpu_architecture,
    var.vpc_cidr,
    var.availability_zones,
    var.interface_endpoints,
    var.ingress_cidrs,
    var.webhook_ports,
    var.certificate_arn,
    var.domain_name,
    var.route53_zone_id,
    var.waf_rate_limit,
    var.cloudfront_certificate_arn,
    var.cloudfront_price_class,
    var.api_cpu_units,
    var.api_tasks,
    var.worker_cpu_units,
    var.worker_tasks,
    var.requests_per_task,
    var.backlog_per_worker,
    var.lambda_memory_mib,
    var.lambda_timeout_s,
    var.lambda_reserved_concurrency,
    var.lambda_queue_concurrency,
    var.postgres_version,
    var.database_instance_class,
    var.database_storage_gib,
    var.aurora_capacity_acu,
    var.database_connections_max,
    var.database_backup_days,
    var.retention_days,
    var.ingest_project,
    var.cloudfront_origin_secrets,
    var.emulated_environment,
    var.dead_letter_after,
    var.elasticache_node_type,
    var.backup_days,
    var.replica_region,
    var.failover_role,
    var.log_retention_days,
    var.archive_bucket,
    var.access_log_days,
    var.trace_sampling_percent,
    var.alarm_emails,
    var.latency_alarm_ms,
    var.delivery_lag_alarm_s,
    var.backlog_alarm,
    var.github_repository,
    var.github_oidc_provider_arn,
  ]

  variables {
    name                        = "Millrace"   # capitals
    environment                 = "production" # too long
    region                      = "ireland"    # misspelt
    hosting                     = "fargte"     # misspelt
    lambda_traffic_percent      = 101
    image_tag                   = "latest"
    cpu_architecture            = "amd64"     # Docker's word for it
    vpc_cidr                    = "10.20.0.0" # no range
    availability_zones          = 1
    interface_endpoints         = ["dynamodb"]                 # has a gateway
    ingress_cidrs               = ["203.0.113.300/24"]         # no address
    webhook_ports               = [80]                         # without HTTPS
    certificate_arn             = "events.example.com"         # not an ARN
    domain_name                 = "https://events.example.com" # with a scheme
    route53_zone_id             = "example.com"                # by name
    waf_rate_limit              = 10
    cloudfront_certificate_arn  = "arn:aws:acm:eu-west-1:123456789012:certificate/mock" # elsewhere
    cloudfront_price_class      = "100"                                                 # misspelt
    api_cpu_units               = 300                                                   # no size of Fargate's
    api_tasks                   = { min = 0, max = 2 }
    worker_cpu_units            = 300                  # no size of Fargate's
    worker_tasks                = { min = 3, max = 2 } # reversed
    requests_per_task           = 0
    backlog_per_worker          = 0
    lambda_memory_mib           = 64
    lambda_timeout_s            = 30 # shorter than an attempt
    lambda_reserved_concurrency = 3  # too few
    lambda_queue_concurrency    = { fan_out = 1, deliver = 2, ingest = 2 }
    postgres_version            = "14.9"                    # too old
    database_instance_class     = "t4g.small"               # misspelt
    database_storage_gib        = { first = 20, most = 20 } # cannot grow
    aurora_capacity_acu         = { min = 4, max = 2 }      # reversed
    database_connections_max    = 0
    database_backup_days        = 60
    retention_days              = 0
    ingest_project              = "prod" # by name
    cloudfront_origin_secrets   = ["1", "2", "3"]
    emulated_environment        = { PATH = "/tmp" } # of another
    dead_letter_after           = 1                 # at once
    elasticache_node_type       = "t4g.micro"       # misspelt
    backup_days                 = 0
    replica_region              = "frankfurt" # misspelt
    failover_role               = "standby"
    log_retention_days          = 45                   # not offered
    archive_bucket              = "Events.example.com" # no name of a bucket
    access_log_days             = 7                    # too short
    trace_sampling_percent      = 101
    alarm_emails                = ["oncall"]
    latency_alarm_ms            = 0
    delivery_lag_alarm_s        = 0
    backlog_alarm               = 0
    github_repository           = "acme/*"                                              # a wildcard
    github_oidc_provider_arn    = "arn:aws:iam::123456789012:oidc-provider/example.com" # of another
  }
}

run "other_bad_values" {
  command = plan
  expect_failures = [
    var.name,
    var.vpc_cidr,
  ]

  variables {
    name     = "millrace-of-acme-corp" # too long
    vpc_cidr = "10.20.0.0/24"          # too small
  }
}

run "vpc_cidr_too_large" {
  command         = plan
  expect_failures = [var.vpc_cidr]

  variables {
    vpc_cidr = "10.0.0.0/8"
  }
}

run "vpc_cidr_bits_beyond" {
  command         = plan
  expect_failures = [var.vpc_cidr]

  variables {
    vpc_cidr = "10.20.1.0/16"
  }
}

run "vpc_cidr_public" {
  command         = plan
  expect_failures = [var.vpc_cidr]

  variables {
    vpc_cidr = "54.0.0.0/16"
  }
}

# --- Several together ------------------------------------------------------

run "prod_without_certificate" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    environment = "prod"
  }
}

run "prod_in_one_zone" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    environment     = "prod"
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/mock"
    multi_az        = false
  }
}

run "api_memory_not_offered" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    api_memory_mib = 512
  }
}

run "worker_memory_not_offered" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    worker_memory_mib = 8192
  }
}

run "lambda_queues_take_all" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    hosting                     = "lambda"
    lambda_reserved_concurrency = 20
  }
}

run "cloudfront_without_name" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    cloudfront = true
  }
}

run "zone_without_name" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    route53_zone_id = "Z0123456789"
  }
}

run "failover_without_record" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    failover_role  = "primary"
    replica_region = "eu-central-1"
  }
}

run "failover_with_cloudfront" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    failover_role              = "primary"
    replica_region             = "eu-central-1"
    route53_zone_id            = "Z0123456789"
    domain_name                = "events.example.com"
    certificate_arn            = "arn:aws:acm:eu-west-1:123456789012:certificate/mock"
    cloudfront                 = true
    cloudfront_certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/mock"
  }
}

run "failover_with_narrow_ingress" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    failover_role   = "primary"
    replica_region  = "eu-central-1"
    route53_zone_id = "Z0123456789"
    domain_name     = "events.example.com"
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/mock"
    ingress_cidrs   = ["203.0.113.0/24", "198.51.100.0/24"]
  }
}

run "secondary_with_narrow_ingress" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    failover_role   = "secondary"
    route53_zone_id = "Z0123456789"
    domain_name     = "events.example.com"
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/mock"
    ingress_cidrs   = ["0.0.0.0/1"]
  }
}

run "primary_without_replica" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    failover_role   = "primary"
    route53_zone_id = "Z0123456789"
    domain_name     = "events.example.com"
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/mock"
  }
}

run "secondary_with_replica" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    failover_role   = "secondary"
    replica_region  = "eu-central-1"
    route53_zone_id = "Z0123456789"
    domain_name     = "events.example.com"
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/mock"
  }
}

run "replica_in_own_region" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    replica_region = "eu-west-1"
  }
}

run "more_zones_than_the_region_has" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    availability_zones = 3
  }

  override_data {
    target = data.aws_availability_zones.available
    values = { names = ["us-west-1a", "us-west-1c"] }
  }
}

run "promoted_without_a_primary" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    promoted = true
  }
}

run "backup_copy_in_own_region" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    backup_copy_region = "eu-west-1"
  }
}

run "backup_copy_to_another_account_and_region" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    backup_copy_vault_arn = "arn:aws:backup:eu-central-1:210987654321:backup-vault:millrace"
  }
}

run "backup_copy_that_is_no_vault" {
  command         = plan
  expect_failures = [var.backup_copy_vault_arn]

  variables {
    backup_copy_vault_arn = "arn:aws:s3:::bucket"
  }
}

run "nat_said_twice" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    nat          = "gateway"
    nat_per_zone = true
  }
}

run "nat_of_no_kind" {
  command         = plan
  expect_failures = [var.nat]

  variables {
    nat = "bastion"
  }
}

run "function_without_a_way_out" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    nat     = "none"
    hosting = "lambda"
  }
}

run "fargate_without_a_load_balancer" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    load_balancer = false
  }
}

run "waf_without_a_load_balancer" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    load_balancer = false
    hosting       = "lambda"
    waf           = true
  }
}

run "name_without_a_certificate_for_the_api" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    load_balancer = false
    hosting       = "lambda"
    domain_name   = "events.example.com"
  }
}

run "function_without_a_proxy_for_many" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    hosting                     = "lambda"
    database_proxy              = false
    lambda_reserved_concurrency = 1000
  }
}

run "budget_for_nobody" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    budget_usd = 50
  }
}

run "budget_below_nothing" {
  command         = plan
  expect_failures = [var.budget_usd]

  variables {
    budget_usd = -1
  }
}

run "budget_for_no_address" {
  command         = plan
  expect_failures = [var.budget_emails]

  variables {
    budget_emails = ["finance"]
  }
}

run "prod_by_one_instance" {
  command         = plan
  expect_failures = [terraform_data.inputs]

  variables {
    environment     = "prod"
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/mock"
    nat             = "instance"
  }
}

run "state_anywhere" {
  command         = plan
  expect_failures = [var.terraform_state]

  variables {
    terraform_state = { bucket = "terraform-state", key = "*" }
  }
}

run "backup_copy_to_no_region" {
  command         = plan
  expect_failures = [var.backup_copy_region]

  variables {
    backup_copy_region = "Frankfurt"
  }
}
