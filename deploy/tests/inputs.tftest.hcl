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
  alias  = "us_east_1"
  source = "./tests/mocks"
}

variables {
  environment = "test"
  region      = "eu-west-1"
  image_tag   = "0123abc"
}

# --- One variable ----------------------------------------------------------

run "name_with_capitals" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "Millrace"
  }
}

run "name_too_long" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "millrace-of-acme-corp"
  }
}

run "environment_too_long" {
  command         = plan
  expect_failures = [var.environment]

  variables {
    environment = "production"
  }
}

run "region_misspelt" {
  command         = plan
  expect_failures = [var.region]

  variables {
    region = "ireland"
  }
}

run "hosting_misspelt" {
  command         = plan
  expect_failures = [var.hosting]

  variables {
    hosting = "fargte"
  }
}

run "lambda_traffic_above_all" {
  command         = plan
  expect_failures = [var.lambda_traffic_percent]

  variables {
    lambda_traffic_percent = 101
  }
}

run "image_tag_latest" {
  command         = plan
  expect_failures = [var.image_tag]

  variables {
    image_tag = "latest"
  }
}

run "cpu_architecture_misspelt" {
  command         = plan
  expect_failures = [var.cpu_architecture]

  variables {
    cpu_architecture = "amd64"
  }
}

run "vpc_cidr_no_range" {
  command         = plan
  expect_failures = [var.vpc_cidr]

  variables {
    vpc_cidr = "10.20.0.0"
  }
}

run "vpc_cidr_too_small" {
  command         = plan
  expect_failures = [var.vpc_cidr]

  variables {
    vpc_cidr = "10.20.0.0/24"
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

run "one_zone" {
  command         = plan
  expect_failures = [var.availability_zones]

  variables {
    availability_zones = 1
  }
}

run "interface_endpoint_unknown" {
  command         = plan
  expect_failures = [var.interface_endpoints]

  variables {
    interface_endpoints = ["dynamodb"]
  }
}

run "ingress_cidr_wrong" {
  command         = plan
  expect_failures = [var.ingress_cidrs]

  variables {
    ingress_cidrs = ["203.0.113.300/24"]
  }
}

run "webhook_ports_without_https" {
  command         = plan
  expect_failures = [var.webhook_ports]

  variables {
    webhook_ports = [80]
  }
}

run "certificate_not_an_arn" {
  command         = plan
  expect_failures = [var.certificate_arn]

  variables {
    certificate_arn = "events.example.com"
  }
}

run "domain_name_with_scheme" {
  command         = plan
  expect_failures = [var.domain_name]

  variables {
    domain_name = "https://events.example.com"
  }
}

run "zone_by_name" {
  command         = plan
  expect_failures = [var.route53_zone_id]

  variables {
    route53_zone_id = "example.com"
  }
}

run "waf_rate_limit_too_low" {
  command         = plan
  expect_failures = [var.waf_rate_limit]

  variables {
    waf_rate_limit = 10
  }
}

run "cloudfront_certificate_elsewhere" {
  command         = plan
  expect_failures = [var.cloudfront_certificate_arn]

  variables {
    cloudfront_certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/mock"
  }
}

run "cloudfront_price_class_misspelt" {
  command         = plan
  expect_failures = [var.cloudfront_price_class]

  variables {
    cloudfront_price_class = "100"
  }
}

run "api_cpu_size" {
  command         = plan
  expect_failures = [var.api_cpu_units]

  variables {
    api_cpu_units = 300
  }
}

run "api_tasks_none" {
  command         = plan
  expect_failures = [var.api_tasks]

  variables {
    api_tasks = { min = 0, max = 2 }
  }
}

run "worker_cpu_size" {
  command         = plan
  expect_failures = [var.worker_cpu_units]

  variables {
    worker_cpu_units = 300
  }
}

run "worker_tasks_reversed" {
  command         = plan
  expect_failures = [var.worker_tasks]

  variables {
    worker_tasks = { min = 3, max = 2 }
  }
}

run "requests_per_task_none" {
  command         = plan
  expect_failures = [var.requests_per_task]

  variables {
    requests_per_task = 0
  }
}

run "backlog_per_worker_none" {
  command         = plan
  expect_failures = [var.backlog_per_worker]

  variables {
    backlog_per_worker = 0
  }
}

run "lambda_memory_too_small" {
  command         = plan
  expect_failures = [var.lambda_memory_mib]

  variables {
    lambda_memory_mib = 64
  }
}

run "lambda_timeout_below_an_attempt" {
  command         = plan
  expect_failures = [var.lambda_timeout_s]

  variables {
    lambda_timeout_s = 30
  }
}

run "lambda_reserved_too_few" {
  command         = plan
  expect_failures = [var.lambda_reserved_concurrency]

  variables {
    lambda_reserved_concurrency = 3
  }
}

run "lambda_queue_concurrency_one" {
  command         = plan
  expect_failures = [var.lambda_queue_concurrency]

  variables {
    lambda_queue_concurrency = { fan_out = 1, deliver = 2, ingest = 2 }
  }
}

run "postgres_too_old" {
  command         = plan
  expect_failures = [var.postgres_version]

  variables {
    postgres_version = "14.9"
  }
}

run "database_class_misspelt" {
  command         = plan
  expect_failures = [var.database_instance_class]

  variables {
    database_instance_class = "t4g.small"
  }
}

run "database_storage_cannot_grow" {
  command         = plan
  expect_failures = [var.database_storage_gib]

  variables {
    database_storage_gib = { first = 20, most = 20 }
  }
}

run "aurora_capacity_reversed" {
  command         = plan
  expect_failures = [var.aurora_capacity_acu]

  variables {
    aurora_capacity_acu = { min = 4, max = 2 }
  }
}

run "database_connections_none" {
  command         = plan
  expect_failures = [var.database_connections_max]

  variables {
    database_connections_max = 0
  }
}

run "database_backup_too_long" {
  command         = plan
  expect_failures = [var.database_backup_days]

  variables {
    database_backup_days = 60
  }
}

run "retention_none" {
  command         = plan
  expect_failures = [var.retention_days]

  variables {
    retention_days = 0
  }
}

run "dead_letter_at_once" {
  command         = plan
  expect_failures = [var.dead_letter_after]

  variables {
    dead_letter_after = 1
  }
}

run "elasticache_node_misspelt" {
  command         = plan
  expect_failures = [var.elasticache_node_type]

  variables {
    elasticache_node_type = "t4g.micro"
  }
}

run "backup_none" {
  command         = plan
  expect_failures = [var.backup_days]

  variables {
    backup_days = 0
  }
}

run "replica_region_misspelt" {
  command         = plan
  expect_failures = [var.replica_region]

  variables {
    replica_region = "frankfurt"
  }
}

run "failover_role_misspelt" {
  command         = plan
  expect_failures = [var.failover_role]

  variables {
    failover_role = "standby"
  }
}

run "log_retention_not_offered" {
  command         = plan
  expect_failures = [var.log_retention_days]

  variables {
    log_retention_days = 45
  }
}

run "archive_bucket_not_a_name" {
  command         = plan
  expect_failures = [var.archive_bucket]

  variables {
    archive_bucket = "Events.example.com"
  }
}

run "access_logs_too_short" {
  command         = plan
  expect_failures = [var.access_log_days]

  variables {
    access_log_days = 7
  }
}

run "trace_sampling_above_all" {
  command         = plan
  expect_failures = [var.trace_sampling_percent]

  variables {
    trace_sampling_percent = 101
  }
}

run "alarm_email_wrong" {
  command         = plan
  expect_failures = [var.alarm_emails]

  variables {
    alarm_emails = ["oncall"]
  }
}

run "latency_alarm_none" {
  command         = plan
  expect_failures = [var.latency_alarm_ms]

  variables {
    latency_alarm_ms = 0
  }
}

run "delivery_lag_alarm_none" {
  command         = plan
  expect_failures = [var.delivery_lag_alarm_s]

  variables {
    delivery_lag_alarm_s = 0
  }
}

run "backlog_alarm_none" {
  command         = plan
  expect_failures = [var.backlog_alarm]

  variables {
    backlog_alarm = 0
  }
}

run "github_repository_wildcard" {
  command         = plan
  expect_failures = [var.github_repository]

  variables {
    github_repository = "acme/*"
  }
}

run "github_provider_of_another" {
  command         = plan
  expect_failures = [var.github_oidc_provider_arn]

  variables {
    github_oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/example.com"
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
