# The queues, each with a dead-letter queue. A message is a hint: what is lost
# here is found again by the sweeper.

locals {
  queues = {
    fan_out = "Events whose endpoints are still to be found"
    deliver = "Deliveries to make"
    ingest  = "What S3, EventBridge, SNS and other AWS sources send"
  }

  # Where messages end: a queue's own dead letters, and what no worker can use
  # (sqs.parked_url).
  dead_queues = merge({ for name in keys(local.queues) : name => "${name}-dead" }, { parked = "parked" })

  # AWS's advice for a queue that a function reads. Workers on Fargate renew
  # or shorten it message by message.
  visibility_timeout_s = 6 * var.lambda_timeout_s
}

resource "aws_sqs_queue" "main" {
  for_each = local.queues
  name     = "${local.prefix}-${replace(each.key, "_", "-")}"

  message_retention_seconds  = 4 * 86400
  visibility_timeout_seconds = local.visibility_timeout_s
  receive_wait_time_seconds  = 20

  kms_master_key_id                 = aws_kms_key.data.arn
  kms_data_key_reuse_period_seconds = 3600

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead[each.key].arn
    maxReceiveCount     = var.dead_letter_after
  })

  tags = { Purpose = each.value }
}

resource "aws_sqs_queue" "dead" {
  for_each = local.dead_queues
  name     = "${local.prefix}-${replace(each.value, "_", "-")}"

  message_retention_seconds = 14 * 86400
  receive_wait_time_seconds = 20

  kms_master_key_id                 = aws_kms_key.data.arn
  kms_data_key_reuse_period_seconds = 3600
}

# Only its own queue may send to a dead-letter queue, and be redriven to.
resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  for_each  = local.queues
  queue_url = aws_sqs_queue.dead[each.key].url
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.main[each.key].arn]
  })
}

# --- Who may send ----------------------------------------------------------

resource "aws_sqs_queue_policy" "main" {
  for_each  = aws_sqs_queue.main
  queue_url = each.value.url
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = each.value.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      [for statement in local.ingest_senders : statement if each.key == "ingest"],
    )
  })
}

resource "aws_sqs_queue_policy" "dead" {
  for_each  = aws_sqs_queue.dead
  queue_url = each.value.url
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = each.value.arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

# Sources inside AWS, of this account only. A bucket's ARN names no account,
# which is why S3 is told apart by aws:SourceAccount.
locals {
  ingest_senders = [
    {
      Sid       = "Buckets"
      Effect    = "Allow"
      Principal = { Service = "s3.${local.dns_suffix}" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.main["ingest"].arn
      Condition = { StringEquals = { "aws:SourceAccount" = local.account_id } }
    },
    {
      Sid       = "Topics"
      Effect    = "Allow"
      Principal = { Service = "sns.${local.dns_suffix}" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.main["ingest"].arn
      Condition = { ArnLike = { "aws:SourceArn" = "arn:${local.partition}:sns:*:${local.account_id}:*" } }
    },
    {
      Sid       = "Rules"
      Effect    = "Allow"
      Principal = { Service = "events.${local.dns_suffix}" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.main["ingest"].arn
      Condition = { ArnLike = { "aws:SourceArn" = "arn:${local.partition}:events:*:${local.account_id}:rule/*" } }
    },
  ]
}
