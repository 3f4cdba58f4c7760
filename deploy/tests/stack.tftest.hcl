# What single variants have that others have not. Applied against a mocked provider,
# so that everything is known; nothing leaves this machine.

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

# Keys told apart, to see who may use which.
override_resource {
  target = aws_kms_key.data
  values = { arn = "arn:aws:kms:eu-west-1:123456789012:key/data" }
}

override_resource {
  target = aws_kms_key.logs
  values = { arn = "arn:aws:kms:eu-west-1:123456789012:key/logs" }
}

variables {
  environment     = "prod"
  region          = "eu-west-1"
  image_tag       = "0123abc"
  certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/mock"
}

# Queues told apart, to see who may write to which.
override_resource {
  target = aws_sqs_queue.main["fan_out"]
  values = { arn = "arn:aws:sqs:eu-west-1:123456789012:fan-out", url = "https://queues/fan-out" }
}

override_resource {
  target = aws_sqs_queue.main["deliver"]
  values = { arn = "arn:aws:sqs:eu-west-1:123456789012:deliver", url = "https://queues/deliver" }
}

override_resource {
  target = aws_sqs_queue.main["ingest"]
  values = { arn = "arn:aws:sqs:eu-west-1:123456789012:ingest", url = "https://queues/ingest" }
}

override_resource {
  target = aws_sqs_queue.dead["parked"]
  values = { arn = "arn:aws:sqs:eu-west-1:123456789012:parked", url = "https://queues/parked" }
}

run "fargate" {
  # Told apart, to see who may read which.
  override_resource {
    target = aws_secretsmanager_secret.main["admin_key"]
    values = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:admin-key" }
  }
  override_resource {
    target = aws_secretsmanager_secret.main["app_login"]
    values = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-login" }
  }

  assert {
    condition     = { for role in ["api", "worker", "migrate"] : role => contains(flatten([for statement in jsondecode(aws_iam_role_policy.task[role].policy).Statement : statement.Resource if statement.Sid == "Secrets"]), "arn:aws:secretsmanager:eu-west-1:123456789012:secret:database") } == { api = false, worker = false, migrate = true }
    error_message = "Only the migration may log in as the database's owner."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.task["api"].policy).Statement : statement.Resource if contains(statement.Action, "sqs:SendMessage")
    ] == [["arn:aws:sqs:eu-west-1:123456789012:fan-out", "arn:aws:sqs:eu-west-1:123456789012:deliver"]]
    error_message = "The api must send to fan_out and deliver only."
  }
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.task["worker"].policy).Statement : statement.Resource if contains(statement.Action, "sqs:SendMessage")
    ] == [["arn:aws:sqs:eu-west-1:123456789012:fan-out", "arn:aws:sqs:eu-west-1:123456789012:deliver", "arn:aws:sqs:eu-west-1:123456789012:parked"]]
    error_message = "The worker must send to fan_out, deliver and parked only."
  }
  assert {
    condition     = { for role in ["api", "worker"] : role => contains(flatten([for statement in jsondecode(aws_iam_role_policy.task[role].policy).Statement : statement.Resource if statement.Sid == "Secrets"]), "arn:aws:secretsmanager:eu-west-1:123456789012:secret:admin-key") } == { api = true, worker = false }
    error_message = "Of the two, only the api may read the admin key."
  }
  assert {
    condition     = !contains(flatten([for statement in jsondecode(aws_iam_role_policy.task["api"].policy).Statement : statement.Action]), "sqs:ReceiveMessage")
    error_message = "The api must not receive."
  }
  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.task["migrate"].policy).Statement : statement.Resource if statement.Sid == "Secrets"] == [["arn:aws:secretsmanager:eu-west-1:123456789012:secret:database", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-login"]]
    error_message = "The migration must read the two logins to the database only."
  }
  assert {
    condition     = { for pair in jsondecode(aws_ecs_task_definition.service["api"].container_definitions)[0].environment : pair.name => pair.value }["MILLRACE_HANDLERS"] == "[\"http\"]"
    error_message = "The api must run the handler http."
  }
  assert {
    condition     = { for pair in jsondecode(aws_ecs_task_definition.service["worker"].container_definitions)[0].environment : pair.name => pair.value }["MILLRACE_HANDLERS"] == "[\"fan_out\",\"deliver\",\"ingest\",\"sweep\",\"meter\"]"
    error_message = "The worker must run every handler but http."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.migrate.container_definitions)[0].command == ["migrate"]
    error_message = "The migration must run the command migrate."
  }
  assert {
    condition     = aws_db_instance.main[0].multi_az && aws_db_instance.main[0].deletion_protection && !aws_db_instance.main[0].skip_final_snapshot && aws_dynamodb_table.main[0].deletion_protection_enabled && aws_lb.main[0].enable_deletion_protection
    error_message = "Prod must be protected."
  }
  assert {
    condition     = length(aws_appautoscaling_policy.cpu) == 2 && length(aws_appautoscaling_policy.memory) == 2 && length(aws_appautoscaling_policy.requests) == 1 && length(aws_appautoscaling_policy.backlog) == 1
    error_message = "Services must scale on CPU, memory, requests and backlog."
  }
  assert {
    condition     = length(aws_nat_gateway.main) == 2 && length(aws_subnet.public) == 2 && length(aws_subnet.private) == 2 && length(aws_subnet.data) == 2
    error_message = "Each zone must have its subnets and its NAT gateway."
  }
  assert {
    condition     = length(aws_iam_role.ci) == 0
    error_message = "Without a repository there must be no role for it."
  }
  assert {
    condition     = toset([for attribute in aws_dynamodb_table.main[0].attribute : attribute.name]) == toset(concat([for key in local.table.key_schema : key.name], flatten([for index in local.table.indexes : [for key in index.keys : key.name]])))
    error_message = "The table must have the keys that table.json describes, and no other attribute."
  }
  assert {
    condition     = !aws_dynamodb_table.main[0].stream_enabled && one(aws_dynamodb_table.main[0].point_in_time_recovery).enabled && one(aws_dynamodb_table.main[0].ttl).enabled
    error_message = "The table must have TTL and point-in-time recovery, and no stream."
  }
}

run "both" {
  variables {
    hosting                = "both"
    lambda_traffic_percent = 25
    github_repository      = "acme/millrace"
  }

  assert {
    condition     = [for target in one(one(aws_lb_listener.https[0].default_action).forward).target_group : target.weight] == [25, 75] || [for target in one(one(aws_lb_listener.https[0].default_action).forward).target_group : target.weight] == [75, 25]
    error_message = "Requests must be shared as lambda_traffic_percent says."
  }
  assert {
    condition     = aws_lambda_function.main[0].environment[0].variables["MILLRACE_DATABASE__HOST"] == aws_db_proxy.main[0].endpoint
    error_message = "The function must reach the database through the proxy."
  }
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.task["lambda"].policy).Statement : statement.Resource if contains(statement.Action, "sqs:SendMessage")
    ] == [["arn:aws:sqs:eu-west-1:123456789012:fan-out", "arn:aws:sqs:eu-west-1:123456789012:deliver", "arn:aws:sqs:eu-west-1:123456789012:parked"]]
    error_message = "The function must send to fan_out, deliver and parked only."
  }
  assert {
    condition     = aws_lambda_function.main[0].package_type == "Image" && aws_lambda_function.main[0].filename == null
    error_message = "Outside an emulator the function must be made of the image."
  }
  assert {
    condition     = !contains(keys(aws_lambda_function.main[0].environment[0].variables), "AWS_REGION")
    error_message = "AWS_REGION is reserved in a function."
  }
  assert {
    condition     = !contains(keys(aws_vpc_security_group_ingress_rule.database_tasks), "lambda")
    error_message = "The function must not reach the database itself."
  }
  assert {
    condition = alltrue(flatten([
      for statement in jsondecode(aws_iam_role_policy.ci[0].policy).Statement : statement.Sid == "NoResourceToName" || !contains(statement.Resource, "*")
    ]))
    error_message = "The pipeline must not act on anything but this stack."
  }
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.ci[0].policy).Statement : statement.Condition.StringEquals["iam:PassedToService"] if statement.Action == ["iam:PassRole"]
    ] == ["ecs-tasks.amazonaws.com"]
    error_message = "The pipeline must pass roles to tasks only."
  }
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.ci[0].policy).Statement : statement.Condition.ArnEquals["ecs:cluster"] if contains(statement.Action, "ecs:RunTask")
    ] == [aws_ecs_cluster.main.arn]
    error_message = "The pipeline must run tasks in this cluster only."
  }
  assert {
    condition     = join(" ", keys(output.stack.ecs.services)) == "api worker" && output.stack.lambda.alias == "live" && output.stack.role == aws_iam_role.ci[0].arn
    error_message = "The pipeline must be told of services, function and role."
  }
}

run "lambda" {
  variables {
    hosting           = "lambda"
    github_repository = "acme/millrace"
  }

  assert {
    condition     = alltrue([for mapping in aws_lambda_event_source_mapping.queue : mapping.function_name == aws_lambda_alias.live[0].arn]) && aws_cloudwatch_event_target.sweep[0].arn == aws_lambda_alias.live[0].arn && alltrue([for attachment in aws_lb_target_group_attachment.lambda : attachment.target_id == aws_lambda_alias.live[0].arn])
    error_message = "Queues, schedule and load balancer must call the alias, which the pipeline moves."
  }
  assert {
    condition     = length(output.stack.ecs.services) == 0 && !contains(flatten([for statement in jsondecode(aws_iam_role_policy.ci[0].policy).Statement : statement.Action]), "ecs:UpdateService")
    error_message = "Without services the pipeline must neither be told of any nor be able to update one."
  }
}

run "archive" {
  variables {
    hosting        = "both"
    archive_bucket = "acme-archive"
  }

  assert {
    condition = {
      for role in keys(aws_iam_role_policy.task) : role => [
        for statement in jsondecode(aws_iam_role_policy.task[role].policy).Statement : statement.Resource if contains(statement.Action, "s3:PutObject")
      ]
    } == { api = [], migrate = [], worker = [["${aws_s3_bucket.archive[0].arn}/*"]], lambda = [["${aws_s3_bucket.archive[0].arn}/*"]] }
    error_message = "The worker and the function, and nobody else, must put objects into the archive's bucket only."
  }
  assert {
    condition = {
      for role in keys(aws_iam_role_policy.task) : role => [
        for statement in jsondecode(aws_iam_role_policy.task[role].policy).Statement : statement.Resource if contains(statement.Action, "s3:ListBucket")
      ]
    } == { api = [], migrate = [], worker = [[aws_s3_bucket.archive[0].arn]], lambda = [[aws_s3_bucket.archive[0].arn]] }
    error_message = "The worker and the function, and nobody else, must list the archive's bucket only."
  }
  assert {
    condition     = { for pair in jsondecode(aws_ecs_task_definition.service["worker"].container_definitions)[0].environment : pair.name => pair.value }["MILLRACE_ARCHIVE__BUCKET"] == "acme-archive" && aws_lambda_function.main[0].environment[0].variables["MILLRACE_ARCHIVE__BUCKET"] == "acme-archive"
    error_message = "Tasks and function must be told the archive's bucket."
  }
  assert {
    condition     = alltrue([for block in aws_s3_bucket_public_access_block.archive : block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets]) && length(aws_s3_bucket_policy.archive) == 1 && length(aws_s3_bucket_lifecycle_configuration.archive) == 1
    error_message = "The archive must be private, taken over TLS only, and have a lifecycle."
  }
  assert {
    condition     = one(aws_s3_bucket_versioning.archive[0].versioning_configuration).status == "Enabled" && one(one(aws_s3_bucket_lifecycle_configuration.archive[0].rule).noncurrent_version_expiration).noncurrent_days == 7 && one(one(aws_s3_bucket_lifecycle_configuration.archive[0].rule).expiration).expired_object_delete_marker
    error_message = "The archive must keep former versions, and for the 7 days that docs/erasure.md says."
  }
  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.archive[0].rule).apply_server_side_encryption_by_default).kms_master_key_id == aws_kms_key.data.arn && contains([for statement in jsondecode(aws_iam_role_policy.task["worker"].policy).Statement : contains(statement.Condition.StringEquals["kms:ViaService"], "s3.eu-west-1.amazonaws.com") if statement.Sid == "KeysThroughServices"], true)
    error_message = "The archive must be under the stack's key, which the worker may use through S3."
  }
}

# As dev.tfvars has it: tests/run puts the file's values in.
run "dev" {
  variables {
    certificate_arn = null
    # dev.tfvars
  }

  assert {
    condition = {
      nat_gateways  = length(aws_nat_gateway.main)
      endpoints     = length(aws_vpc_endpoint.interface)
      balancers     = length(aws_lb.main)
      services      = length(aws_ecs_service.main)
      proxies       = length(aws_db_proxy.main)
      acls          = length(aws_wafv2_web_acl.regional) + length(aws_wafv2_web_acl.cloudfront)
      distributions = length(aws_cloudfront_distribution.main)
      caches        = length(aws_elasticache_replication_group.main)
      clusters      = length(aws_rds_cluster.main)
      instances     = length(aws_instance.nat)
      addresses     = length(aws_eip.nat)
      keys          = length(aws_kms_key.replica) + length(aws_kms_key.backup_copy)
      } == {
      nat_gateways = 0, endpoints = 0, balancers = 0, services = 0, proxies = 0, acls = 0, distributions = 0
      caches       = 0, clusters = 0, instances = 1, addresses = 1, keys = 0
    }
    error_message = "Dev must have none of what costs by the hour but a small NAT instance, its address and the database."
  }
  assert {
    condition     = aws_instance.nat["eu-west-1a"].instance_type == "t4g.nano" && aws_db_instance.main[0].instance_class == "db.t4g.micro" && !aws_db_instance.main[0].multi_az && aws_db_instance.main[0].allocated_storage == 20
    error_message = "README.md reckons dev with a t4g.nano, and a db.t4g.micro with 20 GB in one zone."
  }
  assert {
    condition     = one(aws_ecs_cluster.main.setting).value == "disabled"
    error_message = "Dev must do without Container Insights."
  }
  assert {
    condition     = alltrue([for route in aws_route.private_nat : route.network_interface_id == aws_network_interface.nat["eu-west-1a"].id && route.nat_gateway_id == null]) && length(aws_route.private_nat) == 2
    error_message = "Both private subnets must get out by the instance."
  }
  assert {
    condition     = aws_apigatewayv2_integration.live[0].integration_uri == aws_lambda_alias.live[0].invoke_arn && aws_apigatewayv2_route.all[0].route_key == "$default" && aws_lambda_permission.http_api[0].principal == "apigateway.amazonaws.com" && aws_lambda_permission.http_api[0].qualifier == "live" && output.url == aws_apigatewayv2_api.main[0].api_endpoint
    error_message = "Requests must reach the alias through the HTTP API alone."
  }
  assert {
    condition     = length([for name in keys(aws_cloudwatch_metric_alarm.metric) : name if contains(["latency", "rejected-connections", "unhealthy-hosts", "api-tasks", "worker-tasks"], name)]) == 0 && length(aws_cloudwatch_metric_alarm.alb_5xx) == 0 && length(aws_cloudwatch_metric_alarm.api_5xx) == 1 && length(aws_cloudwatch_metric_alarm.api_latency) == 1 && !contains(keys(aws_cloudwatch_metric_alarm.sum), "nat-ports")
    error_message = "No alarm may watch what is not there, and the API's must."
  }
}

# Fargate for development, without a NAT.
run "without_nat" {
  variables {
    environment         = "dev"
    certificate_arn     = null
    nat                 = "none"
    interface_endpoints = []
    multi_az            = false
    worker_spot         = true
    deletion_protection = false
    container_insights  = false
  }

  assert {
    condition     = length(aws_nat_gateway.main) + length(aws_instance.nat) + length(aws_eip.nat) + length(aws_route.private_nat) == 0
    error_message = "There must be no NAT and no address for one."
  }
  assert {
    condition     = alltrue([for service in aws_ecs_service.main : one(service.network_configuration).assign_public_ip && toset(one(service.network_configuration).subnets) == toset([for subnet in aws_subnet.public : subnet.id])]) && output.stack.ecs.migrate.assign_public_ip == "ENABLED"
    error_message = "Without a NAT, tasks must have an address of their own, the migration's too."
  }
  assert {
    condition     = toset(aws_vpc_endpoint.dynamodb.route_table_ids) == toset(concat([for table in aws_route_table.private : table.id], [aws_route_table.public.id]))
    error_message = "The table must be reached by its endpoint from public subnets too."
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.api_alb : rule.referenced_security_group_id == aws_security_group.alb.id])
    error_message = "Tasks with an address must be reached by the load balancer alone."
  }
  assert {
    condition     = length(aws_lb_listener.http) == 1 && one(aws_ecs_service.main["worker"].capacity_provider_strategy).capacity_provider == "FARGATE_SPOT" && one(aws_ecs_service.main["api"].capacity_provider_strategy).capacity_provider == "FARGATE"
    error_message = "Without a certificate, dev must serve HTTP; Spot is for workers."
  }
  assert {
    condition     = [for metric in one(one(aws_appautoscaling_policy.backlog["worker"].target_tracking_scaling_policy_configuration).customized_metric_specification).metrics : "${one(one(metric.metric_stat).metric).namespace}/${one(metric.metric_stat).stat}" if metric.id == "running"] == ["AWS/ECS/SampleCount"]
    error_message = "Without Container Insights, running tasks must be counted by what they report."
  }
}

# What was set before there was nat.
run "one_gateway" {
  variables {
    nat_per_zone = false
  }

  assert {
    condition     = length(aws_nat_gateway.main) == 1 && length(aws_route.private_nat) == 2
    error_message = "nat_per_zone = false must be one NAT gateway for all."
  }
}

run "http_api_with_a_name" {
  variables {
    hosting         = "lambda"
    load_balancer   = false
    domain_name     = "events.example.com"
    route53_zone_id = "Z0123456789"
  }

  assert {
    condition     = aws_apigatewayv2_api.main[0].disable_execute_api_endpoint && output.url == "https://events.example.com" && one(aws_apigatewayv2_domain_name.main[0].domain_name_configuration).security_policy == "TLS_1_2" && !one(aws_route53_record.main["A"].alias).evaluate_target_health
    error_message = "With a name of its own the API must be reached by that alone, over TLS."
  }
}

run "budget" {
  variables {
    budget_usd    = 50
    alarm_emails  = ["oncall@example.com"]
    budget_emails = ["finance@example.com"]
  }

  assert {
    condition     = aws_budgets_budget.month[0].limit_amount == "50" && toset([for notice in aws_budgets_budget.month[0].notification : "${notice.notification_type} ${notice.threshold}"]) == toset(["ACTUAL 80", "ACTUAL 100", "FORECASTED 100"]) && alltrue([for notice in aws_budgets_budget.month[0].notification : notice.subscriber_email_addresses == toset(["finance@example.com"])])
    error_message = "The budget must be told of at 80 %, in the forecast and at 100 %."
  }
}

# The longest name, environment and region there are: invariants.tf has the limits.
run "longest_names" {
  variables {
    name              = "abcdefghijklmnop"
    environment       = "staging"
    region            = "ap-southeast-1"
    certificate_arn   = "arn:aws:acm:ap-southeast-1:123456789012:certificate/mock"
    hosting           = "both"
    elasticache       = true
    github_repository = "acme/millrace"
  }

  assert {
    condition     = length(aws_s3_bucket.access_logs.bucket) <= 63 && length(aws_s3_bucket.access_logs.bucket) >= 57
    error_message = "The bucket's name must fit, and this run must try the longest."
  }
}

run "primary" {
  variables {
    failover_role   = "primary"
    replica_region  = "eu-central-1"
    route53_zone_id = "Z0123456789"
    domain_name     = "events.example.com"
  }

  assert {
    condition     = aws_dynamodb_table_replica.main[0].point_in_time_recovery && aws_dynamodb_table_replica.main[0].kms_key_arn == aws_kms_key.replica[0].arn && aws_dynamodb_table_replica.main[0].global_table_arn == aws_dynamodb_table.main[0].arn && length(aws_dynamodb_table.main[0].replica) == 0
    error_message = "The replica must be in the other region, under a key there, with point-in-time recovery, and a resource of its own."
  }
  assert {
    condition     = one(aws_route53_record.main["A"].failover_routing_policy).type == "PRIMARY" && aws_route53_record.main["A"].health_check_id == aws_route53_health_check.main[0].id
    error_message = "The record must fail over by its health check."
  }
  assert {
    condition     = alltrue([for secret in aws_secretsmanager_secret.main : one(secret.replica).region == "eu-central-1"]) && length(aws_db_instance_automated_backups_replication.main) == 1
    error_message = "Secrets and the database's backups must be in the other region too."
  }
}

run "secondary" {
  variables {
    region          = "eu-central-1"
    certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/mock"
    failover_role   = "secondary"
    route53_zone_id = "Z0123456789"
    domain_name     = "events.example.com"
  }

  assert {
    condition     = length(aws_dynamodb_table.main) == 0 && length(aws_secretsmanager_secret.main) == 0
    error_message = "The secondary must not make what the primary replicates."
  }
  assert {
    condition     = contains(flatten([for statement in jsondecode(aws_iam_role_policy.task["api"].policy).Statement : statement.Resource]), "arn:aws:dynamodb:eu-central-1:123456789012:table/millrace-prod")
    error_message = "The secondary must use the table's replica in its own region."
  }
  assert {
    condition     = contains(flatten([for statement in jsondecode(aws_iam_role_policy.task["api"].policy).Statement : statement.Resource if statement.Sid == "KeysThroughServices"]), "arn:aws:kms:eu-west-1:123456789012:key/replica")
    error_message = "The secondary must have the replica's key."
  }
}

# Until regions share their work, jobs are done in one of them.
run "secondary_takes_requests_alone" {
  variables {
    region          = "eu-central-1"
    certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/mock"
    failover_role   = "secondary"
    route53_zone_id = "Z0123456789"
    domain_name     = "events.example.com"
    hosting         = "both"
  }

  assert {
    condition     = join(" ", keys(aws_ecs_service.main)) == "api" && join(" ", keys(output.stack.ecs.services)) == "api" && !contains(keys(aws_iam_role.task), "worker")
    error_message = "A secondary must have no worker, and tell the pipeline of none."
  }
  assert {
    condition     = length(aws_lambda_event_source_mapping.queue) == 0 && length(aws_cloudwatch_event_rule.sweep) == 0 && length(aws_lambda_permission.sweep) == 0
    error_message = "Neither a queue nor the schedule may call a secondary's function."
  }
  assert {
    condition     = aws_lambda_function.main[0].environment[0].variables["MILLRACE_HANDLERS"] == "[\"http\"]" && { for pair in jsondecode(aws_ecs_task_definition.service["api"].container_definitions)[0].environment : pair.name => pair.value }["MILLRACE_HANDLERS"] == "[\"http\"]"
    error_message = "A secondary's handlers must be http alone."
  }
  assert {
    condition     = length([for name in keys(aws_cloudwatch_metric_alarm.metric) : name if startswith(name, "queue-age-") || startswith(name, "worker-")]) == 0 && length(aws_cloudwatch_metric_alarm.delivery_stalled) == 0
    error_message = "Where no jobs are done, no alarm may wait for them."
  }
}

run "promoted_secondary_works" {
  variables {
    region          = "eu-central-1"
    certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/mock"
    failover_role   = "secondary"
    promoted        = true
    route53_zone_id = "Z0123456789"
    domain_name     = "events.example.com"
    hosting         = "both"
  }

  assert {
    condition     = join(" ", keys(aws_ecs_service.main)) == "api worker" && length(aws_lambda_event_source_mapping.queue) == 3 && length(aws_cloudwatch_event_rule.sweep) == 1 && length(jsondecode(aws_lambda_function.main[0].environment[0].variables["MILLRACE_HANDLERS"])) == 6
    error_message = "A promoted secondary must do what the primary did."
  }
}

run "backups" {
  assert {
    condition     = { for rule in aws_backup_plan.main.rule : rule.rule_name => one(rule.lifecycle).delete_after } == { daily = 7, monthly = 365 } && alltrue([for rule in aws_backup_plan.main.rule : length(rule.copy_action) == 0])
    error_message = "Seven daily backups and the monthly ones must be kept, in this vault alone."
  }
}

run "backups_copied" {
  variables {
    backup_copy_region    = "eu-central-1"
    backup_copy_vault_arn = "arn:aws:backup:eu-west-1:210987654321:backup-vault:millrace"
  }

  override_resource {
    target = aws_backup_vault.copy[0]
    values = { arn = "arn:aws:backup:eu-central-1:123456789012:backup-vault:copy" }
  }
  override_resource {
    target = aws_kms_key.backup_copy[0]
    values = { arn = "arn:aws:kms:eu-central-1:123456789012:key/copy" }
  }

  assert {
    condition = alltrue([for rule in aws_backup_plan.main.rule : toset([for copy in rule.copy_action : copy.destination_vault_arn]) == toset([
      "arn:aws:backup:eu-central-1:123456789012:backup-vault:copy", "arn:aws:backup:eu-west-1:210987654321:backup-vault:millrace",
      ]) && alltrue([for copy in rule.copy_action : one(copy.lifecycle).delete_after == one(rule.lifecycle).delete_after])
    ])
    error_message = "Every backup must be copied to both vaults and kept there as long."
  }
  assert {
    condition     = aws_backup_vault.copy[0].kms_key_arn == "arn:aws:kms:eu-central-1:123456789012:key/copy" && length(aws_backup_vault_lock_configuration.copy) == 1
    error_message = "The copies must be under a key of their region, and locked."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.data.policy).Statement :
      statement.Condition.ArnLike["aws:PrincipalArn"] == "arn:aws:iam::210987654321:role/aws-service-role/backup.amazonaws.com/AWSServiceRoleForBackup"
      if try(statement.Principal.AWS, "") == "arn:aws:iam::210987654321:root"
    ]) && length([for statement in jsondecode(aws_kms_key.data.policy).Statement : statement if try(statement.Principal.AWS, "") == "arn:aws:iam::210987654321:root"]) == 2
    error_message = "Of the other account AWS Backup alone may use the key."
  }
}

run "plan_role" {
  variables {
    github_repository = "acme/millrace"
    terraform_state   = { bucket = "terraform-state", key = "millrace/prod.tfstate" }
  }

  assert {
    condition = jsondecode(aws_iam_role.plan[0].assume_role_policy).Statement[0].Condition == {
      StringEquals = {
        "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
        "token.actions.githubusercontent.com:sub" = ["repo:acme/millrace:pull_request", "repo:acme/millrace:ref:refs/heads/main"]
      }
    }
    error_message = "Pull requests and main of the one repository, and nobody else, may plan."
  }
  assert {
    condition     = toset(flatten([for statement in jsondecode(aws_iam_role_policy.plan[0].policy).Statement : statement.Action if statement.Effect == "Allow"])) == toset(["s3:GetObject", "s3:ListBucket"]) && [for statement in jsondecode(aws_iam_role_policy.plan[0].policy).Statement : statement.NotResource if statement.Sid == "NoOtherObjects"] == [["arn:aws:s3:::terraform-state/millrace/prod.tfstate"]]
    error_message = "Who plans must read the state, and no other object."
  }
  assert {
    condition     = alltrue([for action in ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan", "secretsmanager:GetSecretValue", "sqs:ReceiveMessage", "logs:FilterLogEvents", "ecr:BatchGetImage"] : contains(flatten([for statement in jsondecode(aws_iam_role_policy.plan[0].policy).Statement : statement.Action if statement.Sid == "NoData"]), action)])
    error_message = "Who plans must read no data."
  }
  assert {
    condition     = output.plan == { region = "eu-west-1", state = { bucket = "terraform-state", key = "millrace/prod.tfstate" }, role = aws_iam_role.plan[0].arn } && output.image_tag == "0123abc"
    error_message = "The workflow must be told where the state is, by whom it is read, and of which image."
  }
  assert {
    condition     = output.stack.signer == "https://github.com/acme/millrace/.github/workflows/release.yml@refs/heads/main"
    error_message = "What is released must be signed by release.yml on main."
  }
}
