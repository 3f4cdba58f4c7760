# Fargate: the api and worker services, and the one-off migrate task.

resource "aws_ecs_cluster" "main" {
  #checkov:skip=CKV_AWS_65:var.container_insights, which is false in dev.tfvars only
  name = local.prefix

  setting {
    name  = "containerInsights"
    value = var.container_insights ? "enabled" : "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "main" {
  cluster_name       = aws_ecs_cluster.main.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]

  default_capacity_provider_strategy {
    capacity_provider = "FARGATE"
    weight            = 1
  }
}

# --- What the application is told ------------------------------------------

locals {
  # Above the load balancer's idle timeout of 60 s; alb.tf says why.
  http_keep_alive_s = 75

  database_environment = {
    MILLRACE_DATABASE__HOST    = local.database_host
    MILLRACE_DATABASE__PORT    = "5432"
    MILLRACE_DATABASE__NAME    = local.database_name
    MILLRACE_DATABASE__CA_FILE = "/etc/ssl/certs/rds.pem"
  }

  # Everything but MILLRACE_HANDLERS, the same for every kind of process. The
  # values are names and ARNs: secrets themselves are read at run time.
  app_environment = merge(local.database_environment, {
    MILLRACE_DATABASE__SECRET_ARN = local.app_login_secret_arn
    MILLRACE_KEY_RING__SECRET_ARN = local.key_ring_secret_arn
    MILLRACE_ADMIN_KEY_SECRET_ARN = local.admin_key_secret_arn
    MILLRACE_DYNAMODB__TABLE      = local.table_name
    MILLRACE_SQS__FAN_OUT_URL     = aws_sqs_queue.main["fan_out"].url
    MILLRACE_SQS__DELIVER_URL     = aws_sqs_queue.main["deliver"].url
    MILLRACE_SQS__INGEST_URL      = aws_sqs_queue.main["ingest"].url
    MILLRACE_SQS__PARKED_URL      = aws_sqs_queue.dead["parked"].url
    MILLRACE_INGEST__PROJECT      = var.ingest_project
    MILLRACE_RETENTION_DAYS       = tostring(var.retention_days)
    MILLRACE_ARCHIVE__BUCKET      = join("", aws_s3_bucket.archive[*].bucket)
    MILLRACE_TELEMETRY__TRACES    = var.tracing && local.on_aws.xray ? "xray" : "off"

    # Of the traces begun here. X-Ray's sampling rules are for its own SDKs.
    MILLRACE_TELEMETRY__SAMPLE_RATIO = tostring(var.trace_sampling_percent / 100)

    # For receivers' firewalls: GET /v1/source-addresses.
    MILLRACE_DELIVERY__SOURCE_ADDRESSES = jsonencode(local.nat_addresses)
  })

  task_environment = merge(local.app_environment, {
    AWS_REGION                    = var.region
    MILLRACE_HTTP__LISTEN         = "0.0.0.0:8080"
    MILLRACE_HTTP__IDLE_TIMEOUT_S = tostring(local.http_keep_alive_s)

    # The load balancer's own addresses, which it says clients' of. Behind CloudFront
    # it says those of CloudFront's, which all clients share: there none is counted.
    MILLRACE_HTTP__TRUSTED_PROXIES   = jsonencode([var.vpc_cidr])
    MILLRACE_HTTP__AUTH_FAILURES_MAX = var.cloudfront ? "0" : "100"
  }, local.emulated_environment)

  # What `millrace migrate` checks before it starts: it looks at the table, and the
  # key ring is only named. It logs in as the owner, and makes the role that the
  # others log in as.
  migrate_environment = merge(local.database_environment, {
    MILLRACE_DATABASE__SECRET_ARN     = local.database_secret_arn
    MILLRACE_DATABASE__APP_SECRET_ARN = local.app_login_secret_arn
    AWS_REGION                        = var.region
    MILLRACE_HANDLERS                 = jsonencode(["sweep"])
    MILLRACE_DYNAMODB__TABLE          = local.table_name
    MILLRACE_KEY_RING__SECRET_ARN     = local.key_ring_secret_arn
  }, local.emulated_environment)

  services = {
    api = {
      handlers   = ["http"]
      cpu_units  = var.api_cpu_units
      memory_mib = var.api_memory_mib
      tasks      = var.api_tasks
      capacity   = "FARGATE"
    }
    worker = {
      handlers   = ["fan_out", "deliver", "ingest", "sweep", "meter"]
      cpu_units  = var.worker_cpu_units
      memory_mib = var.worker_memory_mib
      tasks      = var.worker_tasks
      capacity   = var.worker_spot ? "FARGATE_SPOT" : "FARGATE"
    }
  }
  # Until regions share their work, a secondary takes requests and no jobs.
  fargate_services = { for name, service in local.services : name => service if local.fargate && (local.works || name == "api") }

  # What every container has in common. Lists are sorted and defaults written
  # out as ECS returns them, so that a second plan is empty.
  container = {
    name                   = "millrace"
    image                  = local.image
    essential              = true
    readonlyRootFilesystem = true
    mountPoints            = []
    systemControls         = []
    volumesFrom            = []
    linuxParameters        = { initProcessEnabled = true }
  }
}

# --- Task definitions ------------------------------------------------------

# The pipeline registers the newest revision again with another image, so what
# is changed here goes out with the next deployment.
resource "aws_ecs_task_definition" "service" {
  for_each                 = local.fargate_services
  family                   = "${local.prefix}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.cpu_units
  memory                   = each.value.memory_mib
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task[each.key].arn

  # Rolling back needs the older revisions.
  skip_destroy = local.on_aws.keep_revisions

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([merge(local.container, {
    # Longer than the application's drain time of 25 s.
    stopTimeout  = 35
    portMappings = each.key == "api" ? [{ containerPort = 8080, hostPort = 8080, protocol = "tcp" }] : []
    environment = [
      for key, value in merge(local.task_environment, { MILLRACE_HANDLERS = jsonencode(each.value.handlers) }) :
      { name = key, value = value }
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.app[each.key].name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = each.key
        # A log service that is slow must not stop requests: lines are dropped.
        "mode"            = "non-blocking"
        "max-buffer-size" = "25m"
      }
    }
  })])
}

# Run by the pipeline before a deployment: the same image, another command.
resource "aws_ecs_task_definition" "migrate" {
  family                   = "${local.prefix}-migrate"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task["migrate"].arn
  skip_destroy             = local.on_aws.keep_revisions

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([merge(local.container, {
    command      = ["migrate"]
    portMappings = []
    environment = [
      for key, value in local.migrate_environment :
      { name = key, value = value }
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.app["migrate"].name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = "migrate"
      }
    }
  })])
}

# --- Services --------------------------------------------------------------

resource "aws_ecs_service" "main" {
  for_each               = local.fargate_services
  name                   = each.key
  cluster                = aws_ecs_cluster.main.id
  task_definition        = aws_ecs_task_definition.service[each.key].arn
  desired_count          = each.value.tasks.min
  platform_version       = "1.4.0"
  propagate_tags         = "SERVICE"
  enable_execute_command = false

  # Room to start on a cold host before the load balancer's checks count.
  health_check_grace_period_seconds = each.key == "api" ? 30 : null

  # New tasks are up before old ones go.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  # Tasks that start but answer badly roll back as well.
  dynamic "alarms" {
    for_each = each.key == "api" ? [1] : []
    content {
      enable      = true
      rollback    = true
      alarm_names = aws_cloudwatch_metric_alarm.alb_5xx[*].alarm_name
    }
  }

  capacity_provider_strategy {
    capacity_provider = each.value.capacity
    weight            = 1
  }

  network_configuration {
    subnets          = local.tasks_subnet_ids
    security_groups  = [aws_security_group.tasks[each.key].id]
    assign_public_ip = local.nat == "none"
  }

  dynamic "load_balancer" {
    for_each = each.key == "api" ? [1] : []
    content {
      target_group_arn = aws_lb_target_group.api[0].arn
      container_name   = local.container.name
      container_port   = 8080
    }
  }

  # The pipeline sets the revision, autoscaling the count.
  lifecycle {
    ignore_changes = [task_definition, desired_count]
  }

  depends_on = [
    aws_ecs_cluster_capacity_providers.main,
    aws_iam_role_policy.task,
    aws_iam_role_policy.execution,
    aws_lb_listener.https,
    aws_lb_listener.http,
    aws_lb_listener_rule.cloudfront,
  ]
}
