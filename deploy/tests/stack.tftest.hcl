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
    condition     = aws_db_instance.main[0].multi_az && aws_db_instance.main[0].deletion_protection && !aws_db_instance.main[0].skip_final_snapshot && aws_dynamodb_table.main[0].deletion_protection_enabled && aws_lb.main.enable_deletion_protection
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
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.archive[0].rule).apply_server_side_encryption_by_default).kms_master_key_id == aws_kms_key.data.arn && contains([for statement in jsondecode(aws_iam_role_policy.task["worker"].policy).Statement : contains(statement.Condition.StringEquals["kms:ViaService"], "s3.eu-west-1.amazonaws.com") if statement.Sid == "KeysThroughServices"], true)
    error_message = "The archive must be under the stack's key, which the worker may use through S3."
  }
}

run "dev" {
  variables {
    environment         = "dev"
    certificate_arn     = null
    nat_per_zone        = false
    interface_endpoints = []
    multi_az            = false
    worker_spot         = true
    deletion_protection = false
  }

  assert {
    condition     = length(aws_nat_gateway.main) == 1 && length(aws_vpc_endpoint.interface) == 0
    error_message = "Dev must do with one NAT gateway and no interface endpoint."
  }
  assert {
    condition     = one(aws_ecs_service.main["worker"].capacity_provider_strategy).capacity_provider == "FARGATE_SPOT" && one(aws_ecs_service.main["api"].capacity_provider_strategy).capacity_provider == "FARGATE"
    error_message = "Spot is for workers."
  }
  assert {
    condition     = length(aws_lb_listener.http) == 1
    error_message = "Without a certificate, dev must serve HTTP."
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
