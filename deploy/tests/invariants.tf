# What holds in every variant. tests/run copies this file beside the stack, so
# that each run of terraform test, whatever its variables, checks all of it.

check "database" {
  assert {
    condition     = alltrue([for database in aws_db_instance.main : !database.publicly_accessible && database.storage_encrypted && database.kms_key_id == aws_kms_key.data.arn && database.manage_master_user_password])
    error_message = "The instance must be private, encrypted with the stack's key and have a managed password."
  }
  assert {
    condition     = alltrue([for cluster in aws_rds_cluster.main : cluster.storage_encrypted && cluster.kms_key_id == aws_kms_key.data.arn && cluster.manage_master_user_password])
    error_message = "The cluster must be encrypted with the stack's key and have a managed password."
  }
  assert {
    condition     = alltrue([for database in aws_rds_cluster_instance.main : !database.publicly_accessible])
    error_message = "No instance of the cluster may be public."
  }
  assert {
    condition = alltrue([
      for group in concat(aws_db_parameter_group.main[*].parameter, aws_rds_cluster_parameter_group.main[*].parameter) :
      contains([for parameter in group : parameter.value if parameter.name == "rds.force_ssl"], "1")
    ])
    error_message = "The database must refuse connections without TLS."
  }
  assert {
    condition     = length(aws_db_instance.main) + length(aws_rds_cluster.main) == 1
    error_message = "There must be one database."
  }
  assert {
    condition     = toset(aws_db_subnet_group.main.subnet_ids) == toset([for subnet in aws_subnet.data : subnet.id])
    error_message = "The database must be in the data subnets."
  }
  assert {
    condition     = alltrue([for proxy in aws_db_proxy.main : proxy.require_tls])
    error_message = "The proxy must demand TLS."
  }
}

check "encryption" {
  assert {
    condition     = alltrue([for table in aws_dynamodb_table.main : one(table.server_side_encryption).enabled && one(table.server_side_encryption).kms_key_arn == aws_kms_key.data.arn])
    error_message = "The table must be encrypted with the stack's key."
  }
  assert {
    condition     = alltrue([for queue in concat(values(aws_sqs_queue.main), values(aws_sqs_queue.dead)) : queue.kms_master_key_id == aws_kms_key.data.arn])
    error_message = "Every queue must be encrypted with the stack's key."
  }
  assert {
    condition     = alltrue([for secret in aws_secretsmanager_secret.main : secret.kms_key_id == aws_kms_key.data.arn])
    error_message = "Every secret must be encrypted with the stack's key."
  }
  assert {
    condition     = alltrue([for group in concat(values(aws_cloudwatch_log_group.app), values(aws_cloudwatch_log_group.database), [aws_cloudwatch_log_group.flow, aws_cloudwatch_log_group.container_insights]) : group.kms_key_id == aws_kms_key.logs.arn && group.retention_in_days > 0])
    error_message = "Every log group must have the key of the logs and a retention."
  }
  assert {
    condition     = alltrue([for cache in aws_elasticache_replication_group.main : cache.at_rest_encryption_enabled == "true" && cache.transit_encryption_enabled])
    error_message = "The cache must be encrypted at rest and in transit."
  }
  assert {
    condition     = alltrue([for key in concat([aws_kms_key.data, aws_kms_key.logs], aws_kms_key.replica) : key.enable_key_rotation])
    error_message = "Every key must rotate."
  }
  assert {
    condition     = aws_sns_topic.alarms.kms_master_key_id != null && aws_backup_vault.main.kms_key_arn == aws_kms_key.data.arn && one(aws_ecr_repository.main.encryption_configuration).encryption_type == "KMS"
    error_message = "Topic, vault and repository must be encrypted with the stack's keys."
  }
}

check "edge" {
  assert {
    condition     = alltrue([for listener in aws_lb_listener.https : startswith(listener.ssl_policy, "ELBSecurityPolicy-TLS13-1-2") && listener.protocol == "HTTPS"])
    error_message = "The listener must speak TLS 1.2 at least."
  }
  assert {
    condition     = length(aws_lb_listener.https) == length(aws_lb_listener.redirect) && alltrue([for listener in aws_lb_listener.redirect : one(listener.default_action).type == "redirect" && one(one(listener.default_action).redirect).protocol == "HTTPS"])
    error_message = "Where there is HTTPS, HTTP must redirect to it."
  }
  assert {
    condition     = var.environment != "prod" || length(aws_lb_listener.http) == 0
    error_message = "Prod must not serve plain HTTP."
  }
  assert {
    condition     = length(aws_lb.main) == (var.load_balancer ? 1 : 0) && alltrue([for balancer in aws_lb.main : balancer.drop_invalid_header_fields && one(balancer.access_logs).enabled])
    error_message = "The load balancer must drop invalid headers and log."
  }
  assert {
    condition     = length(aws_wafv2_web_acl.regional) + length(aws_wafv2_web_acl.cloudfront) == (var.waf ? 1 : 0)
    error_message = "There must be one web ACL with waf = true, and none without."
  }
  assert {
    condition     = alltrue([for distribution in aws_cloudfront_distribution.main : (distribution.web_acl_id != null) == var.waf && one(distribution.viewer_certificate).minimum_protocol_version == "TLSv1.2_2021" && one(distribution.default_cache_behavior).viewer_protocol_policy == "https-only" && one(one(distribution.origin).custom_origin_config).origin_protocol_policy == "https-only"])
    error_message = "CloudFront must speak TLS on both sides and have the web ACL."
  }
  assert {
    condition     = alltrue([for distribution in aws_cloudfront_distribution.main : one(distribution.default_cache_behavior).cache_policy_id == data.aws_cloudfront_cache_policy.disabled[0].id && one(distribution.default_cache_behavior).origin_request_policy_id == data.aws_cloudfront_origin_request_policy.all_viewer[0].id && data.aws_cloudfront_cache_policy.disabled[0].name == "Managed-CachingDisabled"])
    error_message = "CloudFront must cache nothing of the API and the console, and pass on all that a session is known by."
  }
  assert {
    condition = alltrue([
      for distribution in aws_cloudfront_distribution.main :
      [for behavior in distribution.ordered_cache_behavior : behavior.path_pattern] == ["/assets/*"] && alltrue([
        for behavior in distribution.ordered_cache_behavior :
        behavior.cache_policy_id == aws_cloudfront_cache_policy.assets[0].id && behavior.origin_request_policy_id == aws_cloudfront_origin_request_policy.assets[0].id &&
        toset(behavior.allowed_methods) == toset(["GET", "HEAD"]) && behavior.viewer_protocol_policy == "https-only" && behavior.compress
      ])
    ])
    error_message = "CloudFront must cache assets, and nothing beside them."
  }
  assert {
    condition = alltrue([
      for policy in aws_cloudfront_cache_policy.assets : policy.min_ttl == 0 && policy.default_ttl == 0 && policy.max_ttl == 31536000 && alltrue([
        for key in policy.parameters_in_cache_key_and_forwarded_to_origin :
        one(key.cookies_config).cookie_behavior == "none" && one(key.headers_config).header_behavior == "none" && one(key.query_strings_config).query_string_behavior == "none" && key.enable_accept_encoding_gzip && key.enable_accept_encoding_brotli
      ])
    ])
    error_message = "An asset must be kept by its path alone, for as long as the origin says."
  }
  assert {
    condition     = alltrue([for policy in aws_cloudfront_origin_request_policy.assets : one(policy.cookies_config).cookie_behavior == "none" && toset(flatten([for headers in one(policy.headers_config).headers : headers.items])) == toset(["Host"]) && one(policy.query_strings_config).query_string_behavior == "none"])
    error_message = "No cookie may be passed on with a request for an asset."
  }
  assert {
    condition     = alltrue([for listener in aws_lb_listener.https : one(listener.default_action).type == (var.cloudfront ? "fixed-response" : "forward")]) && alltrue([for listener in aws_lb_listener.https : one(one(listener.default_action).fixed_response).status_code == "403" if var.cloudfront])
    error_message = "With CloudFront, the load balancer must refuse what no rule lets in."
  }
  assert {
    condition     = length(aws_lb_listener_rule.cloudfront) == (var.cloudfront ? 1 : 0) && alltrue([for rule in aws_lb_listener_rule.cloudfront : one(one(rule.condition).http_header).http_header_name == local.origin_header && toset(one(one(rule.condition).http_header).values) == toset(local.origin_secrets)])
    error_message = "With CloudFront, the one rule must ask for the secret header."
  }
  assert {
    condition     = alltrue([for distribution in aws_cloudfront_distribution.main : [for header in one(distribution.origin).custom_header : header.name] == [local.origin_header] && [for header in one(distribution.origin).custom_header : header.value] == [local.origin_secrets[0]]])
    error_message = "CloudFront must send the secret header."
  }
  assert {
    condition     = !var.cloudfront || length(aws_vpc_security_group_ingress_rule.alb) == 0
    error_message = "With CloudFront, nothing else may reach the load balancer."
  }
  assert {
    condition     = !var.load_balancer || try(sum([for target in local.targets : target.weight]), 0) == 100
    error_message = "The listener's targets must share all requests."
  }
}

locals {
  # The web ACL there is, of the two.
  web_acls = concat(aws_wafv2_web_acl.regional, aws_wafv2_web_acl.cloudfront)

  # All that AWS documents of the two groups whose rules look at what a client sends.
  waf_documented = {
    AWSManagedRulesAmazonIpReputationList = ["AWSManagedIPDDoSList", "AWSManagedIPReputationList", "AWSManagedReconnaissanceList"]
    AWSManagedRulesKnownBadInputsRuleSet = [
      "ExploitablePaths_URIPATH", "Host_localhost_HEADER", "JavaDeserializationRCE_BODY", "JavaDeserializationRCE_HEADER",
      "JavaDeserializationRCE_QUERYSTRING", "JavaDeserializationRCE_URIPATH", "Log4JRCE_BODY", "Log4JRCE_HEADER", "Log4JRCE_QUERYSTRING",
      "Log4JRCE_URIPATH", "PROPFIND_METHOD", "ReactJSRCE_BODY",
    ]
    AWSManagedRulesCommonRuleSet = [
      "CrossSiteScripting_BODY", "CrossSiteScripting_COOKIE", "CrossSiteScripting_QUERYARGUMENTS", "CrossSiteScripting_URIPATH",
      "EC2MetaDataSSRF_BODY", "EC2MetaDataSSRF_COOKIE", "EC2MetaDataSSRF_QUERYARGUMENTS", "EC2MetaDataSSRF_URIPATH",
      "GenericLFI_BODY", "GenericLFI_QUERYARGUMENTS", "GenericLFI_URIPATH", "GenericRFI_BODY", "GenericRFI_QUERYARGUMENTS",
      "GenericRFI_URIPATH", "NoUserAgent_HEADER", "RestrictedExtensions_QUERYARGUMENTS", "RestrictedExtensions_URIPATH",
      "SizeRestrictions_BODY", "SizeRestrictions_Cookie_HEADER", "SizeRestrictions_QUERYSTRING", "SizeRestrictions_URIPATH",
      "UserAgent_BadBots_HEADER",
    ]
  }

  # By group: the rules that the web ACL makes count. Only its managed groups have them.
  waf_overridden = merge(concat([{}], [
    for acl in local.web_acls : {
      for rule in acl.rule : rule.name => [
        for override in one(one(rule.statement).managed_rule_group_statement).rule_action_override : override.name
        if length(one(override.action_to_use).count) == 1
      ] if length(one(rule.statement).managed_rule_group_statement) == 1
    }
  ])...)
}

check "web_acl" {
  assert {
    condition     = length(local.web_acls) == 0 || toset(keys(local.waf_overridden)) == toset(keys(local.waf_documented))
    error_message = "The web ACL must have the three managed groups, and no other whose rules nobody looked at."
  }
  assert {
    condition     = alltrue(flatten([for group, rules in local.waf_overridden : [for rule in rules : contains(local.waf_documented[group], rule)]]))
    error_message = "WAF ignores an override of a rule that it does not have."
  }
  assert {
    condition     = alltrue(flatten([for group, rules in local.waf_overridden : [for rule in local.waf_documented[group] : contains(rules, rule) if rule == "NoUserAgent_HEADER" || endswith(rule, "_BODY") || can(regex("_QUERY(STRING|ARGUMENTS)$", rule))]]))
    error_message = "An event may hold anything: rules on bodies, on queries and on a missing User-Agent must count."
  }
  assert {
    condition     = alltrue([for rule in ["ExploitablePaths_URIPATH", "Host_localhost_HEADER", "PROPFIND_METHOD", "UserAgent_BadBots_HEADER", "AWSManagedIPReputationList", "SizeRestrictions_Cookie_HEADER"] : !contains(flatten(values(local.waf_overridden)), rule)])
    error_message = "What says nothing of an event must block."
  }
  assert {
    condition = alltrue([
      for acl in local.web_acls : alltrue([
        for rule in acl.rule : (
          length(rule.action) == 1 && length(one(rule.action).block) == 1 && rule.priority > max(values(local.waf_managed)[*].priority...) &&
          toset([for statement in one(one(one(rule.statement).and_statement).statement[0].or_statement).statement : one(statement.label_match_statement).key]) == toset(local.waf_labels) &&
          one(one(one(one(one(rule.statement).and_statement).statement[1].not_statement).statement).regex_match_statement).regex_string == "^/(v1|console)/"
        ) if rule.name == "managed-elsewhere"
      ]) && contains([for rule in acl.rule : rule.name], "managed-elsewhere")
    ])
    error_message = "Outside the API and the console, what the counting rules find must be blocked, after them."
  }
}

check "security_groups" {
  assert {
    condition     = alltrue([for rule in concat(values(aws_vpc_security_group_ingress_rule.database_tasks), aws_vpc_security_group_ingress_rule.database_proxy, aws_vpc_security_group_ingress_rule.proxy_lambda, aws_vpc_security_group_ingress_rule.api_alb, values(aws_vpc_security_group_ingress_rule.endpoints_tasks), values(aws_vpc_security_group_ingress_rule.cache_tasks)) : rule.referenced_security_group_id != null && rule.cidr_ipv4 == null && rule.from_port == rule.to_port])
    error_message = "Behind the load balancer, a rule must let in one group on one port, not addresses."
  }
  assert {
    condition     = alltrue([for rule in values(aws_vpc_security_group_egress_rule.tasks_internet) : rule.from_port == rule.to_port && rule.ip_protocol == "tcp"])
    error_message = "Tasks may reach the internet on single ports only."
  }
  assert {
    condition     = length(var.interface_endpoints) == 0 || alltrue([for name, rule in aws_vpc_security_group_egress_rule.tasks_internet : !startswith(name, "api-") && !startswith(name, "migrate-")])
    error_message = "With interface endpoints, api and migrate tasks must not reach the internet."
  }
  assert {
    condition     = length(aws_default_security_group.default.ingress) == 0 && length(aws_default_security_group.default.egress) == 0
    error_message = "The default group must have no rules."
  }
  assert {
    condition     = local.nat == "none" || alltrue([for service in aws_ecs_service.main : !one(service.network_configuration).assign_public_ip && toset(one(service.network_configuration).subnets) == toset([for subnet in aws_subnet.private : subnet.id])])
    error_message = "Tasks must be in private subnets without a public address."
  }
  assert {
    condition     = alltrue([for rule in values(aws_vpc_security_group_ingress_rule.nat) : contains([for subnet in aws_subnet.private : subnet.cidr_block], rule.cidr_ipv4) && rule.from_port == rule.to_port && rule.ip_protocol == "tcp"]) && alltrue([for instance in aws_instance.nat : one(instance.metadata_options).http_tokens == "required" && one(instance.root_block_device).encrypted && instance.iam_instance_profile == ""]) && alltrue([for interface in aws_network_interface.nat : !interface.source_dest_check])
    error_message = "A NAT instance must take from private subnets only, single ports, and have no role."
  }
}

check "compute" {
  assert {
    condition     = join(" ", keys(aws_ecs_service.main)) == (var.hosting == "lambda" ? "" : local.works ? "api worker" : "api") && length(aws_lambda_function.main) == (var.hosting == "fargate" ? 0 : 1)
    error_message = "hosting must decide what runs."
  }
  assert {
    condition     = alltrue([for service in aws_ecs_service.main : one(service.deployment_circuit_breaker).enable && one(service.deployment_circuit_breaker).rollback])
    error_message = "A failed deployment must roll back."
  }
  assert {
    condition     = alltrue([for definition in concat(values(aws_ecs_task_definition.service), [aws_ecs_task_definition.migrate]) : alltrue([for container in jsondecode(definition.container_definitions) : container.readonlyRootFilesystem && try(container.privileged, false) == false])])
    error_message = "Containers must be unprivileged with a read-only root."
  }
  assert {
    condition     = alltrue([for definition in values(aws_ecs_task_definition.service) : jsondecode(definition.container_definitions)[0].stopTimeout > 30]) && alltrue([for group in aws_lb_target_group.api : tonumber(group.deregistration_delay) == 20 && one(group.health_check).path == "/health/ready"])
    error_message = "A task must be given time to drain, and asked whether it is ready."
  }
  assert {
    condition     = join(" ", keys(aws_lambda_event_source_mapping.queue)) == (var.hosting == "fargate" || !local.works ? "" : "deliver fan_out ingest") && alltrue([for mapping in aws_lambda_event_source_mapping.queue : contains(mapping.function_response_types, "ReportBatchItemFailures") && one(mapping.scaling_config).maximum_concurrency >= 2])
    error_message = "The function must take every queue in partial batches with a limit."
  }
  assert {
    condition     = alltrue([for queue in aws_sqs_queue.main : queue.visibility_timeout_seconds >= 6 * var.lambda_timeout_s])
    error_message = "A queue must hide a message for six times the function's timeout."
  }
  assert {
    condition     = length(aws_db_proxy.main) == (local.lambda && var.database_proxy ? 1 : 0) && alltrue([for function in aws_lambda_function.main : one(function.environment).variables["MILLRACE_DATABASE__HOST"] == aws_db_proxy.main[0].endpoint && one(function.environment).variables["MILLRACE_DATABASE__CA_FILE"] == "" if var.database_proxy])
    error_message = "The function must reach the database through the proxy, whose certificate is of a public authority."
  }
  assert {
    condition     = var.database_proxy || alltrue([for function in aws_lambda_function.main : one(function.environment).variables["MILLRACE_DATABASE__HOST"] == local.database_host && one(function.environment).variables["MILLRACE_DATABASE__CA_FILE"] == "/etc/ssl/certs/rds.pem" && contains(keys(aws_vpc_security_group_ingress_rule.database_tasks), "lambda")])
    error_message = "Without a proxy the function must reach the database itself, whose certificate is of RDS's authorities."
  }
  assert {
    condition     = local.nat != "none" || !local.lambda
    error_message = "A function must have a way out."
  }
  assert {
    condition = alltrue([
      for name, value in { MILLRACE_DYNAMODB__TABLE = local.table_name, MILLRACE_KEY_RING__SECRET_ARN = local.key_ring_secret_arn, MILLRACE_DATABASE__SECRET_ARN = local.database_secret_arn, MILLRACE_DATABASE__APP_SECRET_ARN = local.app_login_secret_arn } :
      { for pair in jsondecode(aws_ecs_task_definition.migrate.container_definitions)[0].environment : pair.name => pair.value }[name] == value
    ])
    error_message = "The migration must be told what the configuration demands of it."
  }
  assert {
    condition     = local.app_environment["MILLRACE_DATABASE__SECRET_ARN"] == local.app_login_secret_arn && !contains(values(local.task_environment), local.database_secret_arn) && alltrue([for proxy in aws_db_proxy.main : [for auth in proxy.auth : auth.secret_arn] == [local.app_login_secret_arn]])
    error_message = "What serves must log in as the application, not as the database's owner."
  }
  assert {
    condition = local.works || alltrue(concat(
      [for definition in values(aws_ecs_task_definition.service) : { for pair in jsondecode(definition.container_definitions)[0].environment : pair.name => pair.value }["MILLRACE_HANDLERS"] == "[\"http\"]"],
      [for function in aws_lambda_function.main : one(function.environment).variables["MILLRACE_HANDLERS"] == "[\"http\"]"],
      [length(aws_cloudwatch_event_rule.sweep) == 0, length(aws_cloudwatch_event_target.sweep) == 0],
      [for policy in values(aws_iam_role_policy.task) : !strcontains(policy.policy, "sqs:ReceiveMessage")],
    ))
    error_message = "A secondary that is not promoted must run HTTP alone: no worker, no mapping, no schedule, no right to take a job."
  }
  assert {
    condition     = tonumber(local.app_environment["MILLRACE_TELEMETRY__SAMPLE_RATIO"]) == var.trace_sampling_percent / 100
    error_message = "trace_sampling_percent must reach the application."
  }
  assert {
    condition     = alltrue(flatten([for kind, variables in { app = local.app_environment, tasks = local.task_environment, migrate = local.migrate_environment } : [for name, value in variables : !can(regex("(?i)password|secret_value", name))]]))
    error_message = "No secret may be in the environment, only ARNs."
  }
}

# Each role's trust as a whole, so that nothing can be added to it unseen.
check "trust" {
  assert {
    condition = alltrue([
      for kind, role in aws_iam_role.task : jsondecode(role.assume_role_policy) == {
        Version = "2012-10-17"
        Statement = [{
          Effect    = "Allow"
          Action    = "sts:AssumeRole"
          Principal = { Service = "ecs-tasks.amazonaws.com" }
          Condition = {
            StringEquals = { "aws:SourceAccount" = "123456789012" }
            ArnLike      = { "aws:SourceArn" = "arn:aws:ecs:${var.region}:123456789012:*" }
          }
        }]
      } if kind != "lambda"
    ])
    error_message = "A task's role must be assumed by this account's ECS alone."
  }
  assert {
    condition = alltrue([
      for kind, role in aws_iam_role.task : jsondecode(role.assume_role_policy) == {
        Version = "2012-10-17"
        Statement = [{
          Effect    = "Allow"
          Action    = "sts:AssumeRole"
          Principal = { Service = "lambda.amazonaws.com" }
          Condition = { StringEqualsIfExists = { "aws:SourceAccount" = "123456789012" } }
        }]
      } if kind == "lambda"
    ])
    error_message = "The function's role must be assumed by Lambda alone."
  }
  assert {
    condition = jsondecode(aws_iam_role.execution.assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "ecs-tasks.amazonaws.com" }
        Condition = {
          StringEquals = { "aws:SourceAccount" = "123456789012" }
          ArnLike      = { "aws:SourceArn" = "arn:aws:ecs:${var.region}:123456789012:*" }
        }
      }]
    }
    error_message = "The execution role must be assumed by this account's ECS alone."
  }
  assert {
    condition = alltrue([
      for role in aws_iam_role.proxy : jsondecode(role.assume_role_policy) == {
        Version = "2012-10-17"
        Statement = [{
          Effect    = "Allow"
          Action    = "sts:AssumeRole"
          Principal = { Service = "rds.amazonaws.com" }
          Condition = { StringEqualsIfExists = { "aws:SourceAccount" = "123456789012" } }
        }]
      }
    ])
    error_message = "The proxy's role must be assumed by RDS alone."
  }
  assert {
    condition = jsondecode(aws_iam_role.database_monitoring.assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "monitoring.rds.amazonaws.com" }
        Condition = { StringEquals = { "aws:SourceAccount" = "123456789012" } }
      }]
    }
    error_message = "The monitoring role must be assumed by RDS's monitoring of this account alone."
  }
  assert {
    condition = jsondecode(aws_iam_role.flow.assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "vpc-flow-logs.amazonaws.com" }
        Condition = {
          StringEquals = { "aws:SourceAccount" = "123456789012" }
          ArnLike      = { "aws:SourceArn" = "arn:aws:ec2:${var.region}:123456789012:vpc-flow-log/*" }
        }
      }]
    }
    error_message = "The flow logs' role must be assumed by this account's VPC flow logs alone."
  }
  assert {
    condition = jsondecode(aws_iam_role.backup.assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "backup.amazonaws.com" }
        Condition = { StringEquals = { "aws:SourceAccount" = "123456789012" } }
      }]
    }
    error_message = "The backup role must be assumed by this account's AWS Backup alone."
  }
  assert {
    condition = alltrue([
      for role in aws_iam_role.ci : jsondecode(role.assume_role_policy) == {
        Version = "2012-10-17"
        Statement = [{
          Effect    = "Allow"
          Action    = "sts:AssumeRoleWithWebIdentity"
          Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" }
          Condition = {
            StringEquals = {
              "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
              "token.actions.githubusercontent.com:sub" = "repo:${var.github_repository}:environment:${var.environment}"
            }
          }
        }]
      }
    ])
    error_message = "The pipeline's role must be for one environment of one repository, and for STS."
  }
}

check "least_privilege" {
  assert {
    condition = alltrue(flatten([
      for kind, policy in aws_iam_role_policy.task : [
        for statement in jsondecode(policy.policy).Statement : [
          for resource in statement.Resource : resource != "*" || alltrue([for action in statement.Action : startswith(action, "xray:")])
        ]
      ]
    ]))
    error_message = "A task may use * only for X-Ray, which has no resources."
  }
  assert {
    condition = alltrue([
      for kind, policy in aws_iam_role_policy.task :
      toset(flatten([for statement in jsondecode(policy.policy).Statement : statement.Action if statement.Sid != "KeysThroughServices"])) == toset([for action in local.actions[kind] : action if !startswith(action, "s3:") || var.archive_bucket != null])
    ])
    error_message = "A task's role must have the actions that actions.json lists, but for the archive's without one, and no other."
  }
  assert {
    condition     = alltrue([for endpoint in concat([aws_vpc_endpoint.dynamodb, aws_vpc_endpoint.s3], values(aws_vpc_endpoint.interface)) : alltrue([for statement in jsondecode(endpoint.policy).Statement : alltrue([for action in statement.Action : !strcontains(action, "*")])])])
    error_message = "An endpoint must let through the actions that are used, not all."
  }
  assert {
    condition     = alltrue(flatten([for kind, policy in aws_iam_role_policy.task : [for statement in jsondecode(policy.policy).Statement : contains(keys(statement), "Condition") if anytrue([for action in statement.Action : startswith(action, "kms:")])]]))
    error_message = "A key may be used through a service only."
  }
}

check "alarms" {
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.sum : length([for query in alarm.metric_query : query if length(query.metric) > 0]) <= 10])
    error_message = "An alarm may look at ten metrics, as CloudWatch allows."
  }
}

check "names" {
  assert {
    condition     = alltrue([for name in concat(aws_lb.main[*].name, aws_lb_target_group.api[*].name, aws_lb_target_group.lambda[*].name) : length(name) <= 32]) && alltrue([for role in concat(values(aws_iam_role.task), aws_iam_role.proxy, aws_iam_role.ci, aws_iam_role.plan, [aws_iam_role.execution, aws_iam_role.database_monitoring, aws_iam_role.flow, aws_iam_role.backup]) : length(role.name) <= 64]) && length(aws_s3_bucket.access_logs.bucket) <= 63 && alltrue([for cache in aws_elasticache_replication_group.main : length(cache.replication_group_id) <= 40])
    error_message = "A name is longer than AWS allows."
  }
}

check "prod" {
  assert {
    condition     = var.environment != "prod" || (alltrue(aws_lb.main[*].enable_deletion_protection) && alltrue([for database in concat(aws_db_instance.main[*].deletion_protection, aws_rds_cluster.main[*].deletion_protection) : database]) && alltrue(aws_dynamodb_table.main[*].deletion_protection_enabled) && alltrue(aws_dynamodb_table_replica.main[*].deletion_protection_enabled))
    error_message = "Prod must be protected from deletion."
  }
  assert {
    condition     = var.environment != "prod" || (alltrue([for group in aws_cloudwatch_log_group.app : group.retention_in_days >= 365]) && alltrue(aws_db_instance.main[*].multi_az) && (!var.aurora || length(aws_rds_cluster_instance.main) == 2))
    error_message = "Prod must keep its logs for a year and have a standby of the database."
  }
}
