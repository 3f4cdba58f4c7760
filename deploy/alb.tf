# The load balancer: TLS ends here, requests go to api tasks or the function.

locals {
  # Empty without one: what reads it is then not there either.
  alb = try(
    { for load_balancer in aws_lb.main : "it" => { arn = load_balancer.arn, arn_suffix = load_balancer.arn_suffix, dns_name = load_balancer.dns_name, zone_id = load_balancer.zone_id } }["it"],
    { arn = "", arn_suffix = "", dns_name = "", zone_id = "" },
  )
}

resource "aws_lb" "main" {
  #checkov:skip=CKV_AWS_150:var.deletion_protection, which is false in dev.tfvars only
  #checkov:skip=CKV2_AWS_20:alb.tf redirects wherever there is a certificate, which inputs.tf demands for prod
  #checkov:skip=CKV2_AWS_76:waf.tf's managed rules hold the one against Log4j (KnownBadInputs)
  #checkov:skip=CKV2_AWS_28:the web ACL is attached by waf.tf when var.waf is true, as in prod
  count                      = var.load_balancer ? 1 : 0
  name                       = local.prefix
  load_balancer_type         = "application"
  subnets                    = [for zone in local.zones : aws_subnet.public[zone].id]
  security_groups            = [aws_security_group.alb.id]
  drop_invalid_header_fields = true
  desync_mitigation_mode     = "defensive"
  enable_deletion_protection = var.deletion_protection

  # Below the application's own keep-alive (local.http_keep_alive_s), or the
  # load balancer would now and then send a request into a closing connection.
  idle_timeout = 60

  access_logs {
    bucket  = aws_s3_bucket.access_logs.id
    enabled = true
  }

  depends_on = [aws_s3_bucket_policy.access_logs]
}

# --- Targets ---------------------------------------------------------------

resource "aws_lb_target_group" "api" {
  #checkov:skip=CKV_AWS_378:TLS ends at the load balancer; from there packets stay in the VPC, between two security groups
  count       = local.fargate ? 1 : 0
  name        = "${local.prefix}-api"
  target_type = "ip"
  vpc_id      = aws_vpc.main.id
  port        = 8080
  protocol    = "HTTP"

  # Below the task's drain time of 25 s, so that the target is out of rotation
  # before the process goes.
  deregistration_delay          = 20
  load_balancing_algorithm_type = "least_outstanding_requests"

  health_check {
    path                = "/health/ready"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_target_group" "lambda" {
  count       = local.lambda && var.load_balancer ? 1 : 0
  name        = "${local.prefix}-lambda"
  target_type = "lambda"
}

resource "aws_lambda_permission" "alb" {
  count          = local.lambda && var.load_balancer ? 1 : 0
  statement_id   = "LoadBalancer"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.main[0].function_name
  qualifier      = aws_lambda_alias.live[0].name
  principal      = "elasticloadbalancing.${local.dns_suffix}"
  source_arn     = aws_lb_target_group.lambda[0].arn
  source_account = local.account_id
}

resource "aws_lb_target_group_attachment" "lambda" {
  count            = local.lambda && var.load_balancer ? 1 : 0
  target_group_arn = aws_lb_target_group.lambda[0].arn
  target_id        = aws_lambda_alias.live[0].arn

  depends_on = [aws_lambda_permission.alb]
}

# --- Listeners -------------------------------------------------------------

locals {
  # The share of requests each target group gets.
  targets = concat(
    [for group in aws_lb_target_group.api : { arn = group.arn, weight = local.lambda ? 100 - var.lambda_traffic_percent : 100 }],
    [for group in aws_lb_target_group.lambda : { arn = group.arn, weight = local.fargate ? var.lambda_traffic_percent : 100 }],
  )

  # One is named as such; of several each gets its share.
  shared_targets = length(local.targets) > 1 && local.on_aws.weighted_targets
  only_target    = local.shared_targets ? null : try(local.targets[0].arn, null)
}

resource "aws_lb_listener" "https" {
  count             = var.load_balancer && var.certificate_arn != null ? 1 : 0
  load_balancer_arn = local.alb.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn

  # With CloudFront, cloudfront.tf has the rule for what comes from it; the rest is
  # refused.
  default_action {
    type = var.cloudfront ? "fixed-response" : "forward"

    dynamic "fixed_response" {
      for_each = var.cloudfront ? [1] : []
      content {
        status_code  = "403"
        content_type = "text/plain"
        message_body = "Not by this way."
      }
    }

    target_group_arn = var.cloudfront ? null : local.only_target

    dynamic "forward" {
      for_each = !var.cloudfront && local.shared_targets ? [1] : []
      content {
        dynamic "target_group" {
          for_each = local.targets
          content {
            arn    = target_group.value.arn
            weight = target_group.value.weight
          }
        }
      }
    }
  }
}

resource "aws_lb_listener" "redirect" {
  count             = var.load_balancer && var.certificate_arn != null ? 1 : 0
  load_balancer_arn = local.alb.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}

# Only without a certificate, which inputs.tf refuses for prod.
resource "aws_lb_listener" "http" {
  #checkov:skip=CKV_AWS_2:exists only in a stack without a certificate, which inputs.tf refuses for prod
  #checkov:skip=CKV_AWS_103:exists only in a stack without a certificate, which inputs.tf refuses for prod
  count             = var.load_balancer && var.certificate_arn == null ? 1 : 0
  load_balancer_arn = local.alb.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type             = "forward"
    target_group_arn = local.only_target

    dynamic "forward" {
      for_each = local.shared_targets ? [1] : []
      content {
        dynamic "target_group" {
          for_each = local.targets
          content {
            arn    = target_group.value.arn
            weight = target_group.value.weight
          }
        }
      }
    }
  }
}

# --- Access logs -----------------------------------------------------------

resource "aws_s3_bucket" "access_logs" {
  #checkov:skip=CKV_AWS_145:load balancers can write only to buckets encrypted with S3's own keys
  #checkov:skip=CKV_AWS_18:this is the bucket of access logs; logging its own access would go round in a circle
  #checkov:skip=CKV_AWS_144:access logs are not worth a copy in another region
  #checkov:skip=CKV2_AWS_62:nothing acts on the arrival of an access log
  # At most 24 + 6 + 12 + 1 characters and the region's, of 63.
  bucket        = "${local.prefix}-logs-${local.account_id}-${var.region}"
  force_destroy = !var.deletion_protection
}

resource "aws_s3_bucket_public_access_block" "access_logs" {
  bucket                  = aws_s3_bucket.access_logs.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "access_logs" {
  bucket = aws_s3_bucket.access_logs.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "access_logs" {
  bucket = aws_s3_bucket.access_logs.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "access_logs" {
  bucket = aws_s3_bucket.access_logs.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "access_logs" {
  bucket = aws_s3_bucket.access_logs.id

  rule {
    id     = "expire"
    status = "Enabled"

    filter {}

    transition {
      days          = 30
      storage_class = "STANDARD_IA"
    }

    expiration {
      days = var.access_log_days
    }

    noncurrent_version_expiration {
      noncurrent_days = 7
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.access_logs]
}

resource "aws_s3_bucket_policy" "access_logs" {
  bucket = aws_s3_bucket.access_logs.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "LoadBalancerWrites"
        Effect    = "Allow"
        Principal = { Service = "logdelivery.elasticloadbalancing.${local.dns_suffix}" }
        Action    = "s3:PutObject"
        Resource  = "${aws_s3_bucket.access_logs.arn}/AWSLogs/${local.account_id}/*"
        Condition = { ArnLike = { "aws:SourceArn" = "arn:${local.partition}:elasticloadbalancing:${var.region}:${local.account_id}:loadbalancer/*" } }
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.access_logs.arn, "${aws_s3_bucket.access_logs.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })

  depends_on = [aws_s3_bucket_public_access_block.access_logs]
}
