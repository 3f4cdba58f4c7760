# What a person, the pipeline and the tests need next.

output "url" {
  description = "Base URL of the API."
  value       = local.url
}

output "alb_dns_name" {
  description = "Name of the load balancer: point domain_name to it, unless route53_zone_id did. Null without one."
  value       = one(aws_lb.main[*].dns_name)
}

output "cloudfront_domain_name" {
  description = "Name of the CloudFront distribution, if any."
  value       = one(aws_cloudfront_distribution.main[*].domain_name)
}

output "create_first_project" {
  description = "Commands that create the first project and print its id."
  value       = <<-EOT
    ADMIN_KEY=$(aws secretsmanager get-secret-value --region ${var.region} --secret-id ${local.admin_key_secret_arn} --query SecretString --output text)
    curl -sS -X POST -H "Authorization: Bearer $ADMIN_KEY" -H "Content-Type: application/json" -d '{"name":"${var.environment}"}' ${local.url}/v1/projects
  EOT
}

output "region" {
  description = "Region of the stack."
  value       = var.region
}

output "ecr_repository_url" {
  description = "Where the image is pushed."
  value       = aws_ecr_repository.main.repository_url
}

locals {
  # What a deployment on Fargate needs: cluster, services with their task families,
  # and how the migrate task is run.
  ecs = {
    cluster  = aws_ecs_cluster.main.name
    services = { for name, service in aws_ecs_service.main : name => aws_ecs_task_definition.service[name].family }
    migrate = {
      family          = aws_ecs_task_definition.migrate.family
      subnets         = local.tasks_subnet_ids
      security_groups = [aws_security_group.tasks["migrate"].id]
      # Without a NAT, tasks get to AWS by an address of their own.
      assign_public_ip = local.nat == "none" ? "ENABLED" : "DISABLED"
      log_group        = aws_cloudwatch_log_group.app["migrate"].name
    }
  }
  url = (
    var.load_balancer
    ? "${var.certificate_arn == null ? "http" : "https"}://${coalesce(var.domain_name, local.alb.dns_name)}"
    : local.api_domain ? "https://${var.domain_name}" : join("", aws_apigatewayv2_api.main[*].api_endpoint)
  )
}

output "ecs" {
  description = "What a deployment on Fargate needs: cluster, services with their task families, and how the migrate task is run."
  value       = local.ecs
}

output "lambda" {
  description = "What a deployment on Lambda needs: function and alias. Null without Lambda."
  value       = one([for alias in aws_lambda_alias.live : { function = alias.function_name, alias = alias.name, arn = alias.arn }])
}

output "stack" {
  description = "All that scripts/ and the workflows must know of this stack: STACK in their environment, as JSON. Names and ARNs, no secrets."
  value = {
    region     = var.region
    url        = local.url
    repository = aws_ecr_repository.main.repository_url
    role       = one(aws_iam_role.ci[*].arn)
    signer     = local.github ? "https://github.com/${var.github_repository}/.github/workflows/release.yml@refs/heads/main" : null
    ecs        = local.ecs
    lambda     = one([for alias in aws_lambda_alias.live : { function = alias.function_name, alias = alias.name }])

    # An image for another is not pushed.
    cpu_architecture = var.cpu_architecture
    table            = local.table_name
    table_arn        = local.table_arn
    database = {
      identifier      = local.prefix
      arn             = local.database_arn
      cluster         = var.aurora
      subnet_group    = aws_db_subnet_group.main.name
      security_groups = [aws_security_group.database.id]
      login           = local.app_login_secret_arn
    }
    backup = { vault = aws_backup_vault.main.name, role = aws_iam_role.backup.arn, key = aws_kms_key.data.arn }
  }
}

output "target_group_arn" {
  description = "Target group of the api tasks, for waiting until they are healthy."
  value       = one(aws_lb_target_group.api[*].arn)
}

output "table" {
  description = "Name of the DynamoDB table."
  value       = local.table_name
}

output "queues" {
  description = "URLs of the queues and of their dead-letter queues."
  value = {
    for name in keys(local.queues) : name => { url = aws_sqs_queue.main[name].url, dead_letter_url = aws_sqs_queue.dead[name].url }
  }
}

output "ingest_queue_arn" {
  description = "Target for S3 notifications, SNS subscriptions and EventBridge rules."
  value       = aws_sqs_queue.main["ingest"].arn
}

output "secrets" {
  description = "ARNs of the secrets; scripts/secrets fills key_ring, admin_key and app_login."
  value = {
    key_ring  = local.key_ring_secret_arn
    admin_key = local.admin_key_secret_arn
    app_login = local.app_login_secret_arn
    database  = local.database_secret_arn
  }
}

output "database_host" {
  description = "Host of the database."
  value       = local.database_host
}

output "environment_of_tasks" {
  description = "Environment variables of each kind of process, as the task definitions and the function have them."
  value = merge(
    { for name, service in local.fargate_services : name => merge(local.task_environment, { MILLRACE_HANDLERS = jsonencode(service.handlers) }) },
    { migrate = local.migrate_environment },
    { for function in aws_lambda_function.main : "lambda" => function.environment[0].variables },
  )
}

output "ci_role_arn" {
  description = "Role that the pipeline assumes. Null without github_repository."
  value       = one(aws_iam_role.ci[*].arn)
}

output "alarm_topic_arn" {
  description = "SNS topic of the alarms."
  value       = aws_sns_topic.alarms.arn
}

output "dashboard_url" {
  description = "The dashboard in the console."
  value       = "https://${var.region}.console.aws.amazon.com/cloudwatch/home?region=${var.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.main.dashboard_name}"
}

output "cache_endpoint" {
  description = "Primary endpoint of the Valkey cluster, if any."
  value       = one(aws_elasticache_replication_group.main[*].primary_endpoint_address)
}

output "image_tag" {
  description = "Image of the last apply, with which scripts/plan plans."
  value       = var.image_tag
}

output "plan" {
  description = "What scripts/plan must know: region, where the state is, and the role that may read both. Null without terraform_state."
  value = var.terraform_state == null ? null : {
    region = var.region
    state  = { bucket = var.terraform_state.bucket, key = var.terraform_state.key }
    role   = one(aws_iam_role.plan[*].arn)
  }
}

output "http_api_domain" {
  description = "Without a load balancer: what domain_name is to point to, unless route53_zone_id did. Null without a domain of its own."
  value       = one(aws_apigatewayv2_domain_name.main[*].domain_name_configuration[0].target_domain_name)
}

output "nat_addresses" {
  description = "Public addresses that webhooks come from, for receivers' firewalls; also GET /v1/source-addresses."
  value       = local.nat_addresses
}
