# Lambda: one function on the same image, told apart by what it is sent. The
# load balancer, the queues and the schedule all call its alias `live`.

resource "aws_lambda_function" "main" {
  #checkov:skip=CKV_AWS_116:only the schedule calls it asynchronously, and a sweep that fails is made up by the next minute's
  #checkov:skip=CKV_AWS_272:code signing is for zip packages; the image comes from this account's repository by an immutable tag
  count         = local.lambda ? 1 : 0
  function_name = local.prefix
  description   = "Millrace: HTTP, queues and the sweep"
  role          = aws_iam_role.task["lambda"].arn
  package_type  = local.on_aws.image_functions ? "Image" : "Zip"
  image_uri     = local.on_aws.image_functions ? local.image : null
  architectures = [var.cpu_architecture == "ARM64" ? "arm64" : "x86_64"]
  memory_size   = var.lambda_memory_mib
  timeout       = var.lambda_timeout_s
  publish       = true
  kms_key_arn   = aws_kms_key.data.arn

  # On an emulator only, as emulated.tf says.
  filename = local.on_aws.image_functions ? null : "${path.module}/function.zip"
  runtime  = local.on_aws.image_functions ? null : "provided.al2023"
  handler  = local.on_aws.image_functions ? null : "bootstrap"

  reserved_concurrent_executions = var.lambda_reserved_concurrency

  environment {
    variables = merge(local.app_environment, {
      MILLRACE_HANDLERS = jsonencode(local.works ? ["http", "fan_out", "deliver", "ingest", "sweep", "meter"] : ["http"])
      }, local.proxied ? {
      MILLRACE_DATABASE__HOST = aws_db_proxy.main[0].endpoint
      # The proxy's certificate is of Amazon's public authorities, not of RDS's own:
      # empty means the public ones.
      MILLRACE_DATABASE__CA_FILE = ""
    } : {}, local.emulated_environment)
  }

  vpc_config {
    subnet_ids         = local.tasks_subnet_ids
    security_group_ids = [aws_security_group.tasks["lambda"].id]
  }

  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.app["lambda"].name
  }

  tracing_config {
    mode = "Active"
  }

  # The pipeline sets the image and publishes a version of it.
  lifecycle {
    ignore_changes = [image_uri]
  }

  depends_on = [aws_iam_role_policy.task, aws_iam_role_policy.lambda, aws_ecr_repository_policy.main]
}

# What is called. The pipeline moves it to a new version, and back.
resource "aws_lambda_alias" "live" {
  count            = local.lambda ? 1 : 0
  name             = "live"
  description      = "The version that serves"
  function_name    = aws_lambda_function.main[0].function_name
  function_version = aws_lambda_function.main[0].version

  lifecycle {
    ignore_changes = [function_version]
  }
}

# --- Queues ----------------------------------------------------------------

resource "aws_lambda_event_source_mapping" "queue" {
  for_each         = { for name, queue in aws_sqs_queue.main : name => queue if local.lambda && local.works }
  event_source_arn = each.value.arn
  function_name    = aws_lambda_alias.live[0].arn
  batch_size       = 10

  # Only the messages that failed come back.
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.lambda_queue_concurrency[each.key]
  }

  depends_on = [aws_iam_role_policy.task]
}

# --- Schedule --------------------------------------------------------------

resource "aws_cloudwatch_event_rule" "sweep" {
  count               = local.lambda && local.works ? 1 : 0
  name                = "${local.prefix}-sweep"
  description         = "Every minute: look for work that is due"
  schedule_expression = "rate(1 minute)"
}

resource "aws_cloudwatch_event_target" "sweep" {
  count     = local.lambda && local.works ? 1 : 0
  rule      = aws_cloudwatch_event_rule.sweep[0].name
  target_id = "function"
  arn       = aws_lambda_alias.live[0].arn

  # A sweep that could not be started is not worth starting late.
  retry_policy {
    maximum_event_age_in_seconds = 60
    maximum_retry_attempts       = 0
  }
}

resource "aws_lambda_permission" "sweep" {
  count          = local.lambda && local.works ? 1 : 0
  statement_id   = "Schedule"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.main[0].function_name
  qualifier      = aws_lambda_alias.live[0].name
  principal      = "events.${local.dns_suffix}"
  source_arn     = aws_cloudwatch_event_rule.sweep[0].arn
  source_account = local.account_id
}

resource "aws_lambda_function_event_invoke_config" "live" {
  count                        = local.lambda ? 1 : 0
  function_name                = aws_lambda_function.main[0].function_name
  qualifier                    = aws_lambda_alias.live[0].name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}
