# CloudFront, by variable: TLS ends near the client. Nothing is cached.

data "aws_cloudfront_cache_policy" "disabled" {
  count = var.cloudfront ? 1 : 0
  name  = "Managed-CachingDisabled"
}

data "aws_cloudfront_origin_request_policy" "all_viewer" {
  count = var.cloudfront ? 1 : 0
  name  = "Managed-AllViewer"
}

data "aws_cloudfront_response_headers_policy" "security" {
  count = var.cloudfront ? 1 : 0
  name  = "Managed-SecurityHeadersPolicy"
}

# --- How the load balancer knows this distribution -------------------------

# CloudFront's addresses are everybody's: any distribution could have this load
# balancer as its origin, and with it get round the web ACL. So this one sends a
# secret header and the listener refuses what comes without it. AWS makes the
# secret; only the first answer is kept. It is in the state, as is everything that
# CloudFront is told; it opens nothing but this way.
data "aws_secretsmanager_random_password" "origin" {
  for_each            = var.cloudfront ? toset(var.cloudfront_origin_secrets) : []
  password_length     = 48
  exclude_punctuation = true
}

resource "terraform_data" "origin_secret" {
  for_each = var.cloudfront ? toset(var.cloudfront_origin_secrets) : []
  input    = data.aws_secretsmanager_random_password.origin[each.key].random_password

  lifecycle {
    ignore_changes = [input]
  }
}

locals {
  origin_header  = "X-Millrace-Origin"
  origin_secrets = [for name in var.cloudfront_origin_secrets : sensitive(terraform_data.origin_secret[name].output) if var.cloudfront]
}

# The one way in: what the default action would be without CloudFront.
resource "aws_lb_listener_rule" "cloudfront" {
  count        = var.cloudfront && var.certificate_arn != null ? 1 : 0
  listener_arn = aws_lb_listener.https[0].arn
  priority     = 1

  condition {
    http_header {
      http_header_name = local.origin_header
      values           = local.origin_secrets
    }
  }

  action {
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

# --- The distribution ------------------------------------------------------

resource "aws_cloudfront_distribution" "main" {
  #checkov:skip=CKV_AWS_86:the load balancer behind it logs every request, and nothing is cached
  #checkov:skip=CKV_AWS_305:an API has no default document
  #checkov:skip=CKV_AWS_310:failing over to the other region is Route 53's part (failover.tf)
  #checkov:skip=CKV_AWS_374:producers may be in any country
  #checkov:skip=CKV2_AWS_47:waf.tf's managed rules hold the one against Log4j
  count           = var.cloudfront ? 1 : 0
  enabled         = true
  comment         = local.prefix
  aliases         = [var.domain_name]
  http_version    = "http2and3"
  is_ipv6_enabled = true
  price_class     = var.cloudfront_price_class
  web_acl_id      = var.waf ? aws_wafv2_web_acl.cloudfront[0].arn : null

  origin {
    origin_id   = "alb"
    domain_name = local.alb.dns_name

    custom_header {
      name  = local.origin_header
      value = local.origin_secrets[0]
    }

    # The Host header is passed on, so the load balancer's certificate is
    # checked against domain_name.
    custom_origin_config {
      http_port                = 80
      https_port               = 443
      origin_protocol_policy   = "https-only"
      origin_ssl_protocols     = ["TLSv1.2"]
      origin_keepalive_timeout = 55
      origin_read_timeout      = 60
    }
  }

  default_cache_behavior {
    target_origin_id           = "alb"
    viewer_protocol_policy     = "https-only"
    allowed_methods            = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"]
    cached_methods             = ["GET", "HEAD"]
    compress                   = true
    cache_policy_id            = data.aws_cloudfront_cache_policy.disabled[0].id
    origin_request_policy_id   = data.aws_cloudfront_origin_request_policy.all_viewer[0].id
    response_headers_policy_id = data.aws_cloudfront_response_headers_policy.security[0].id
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    acm_certificate_arn      = var.cloudfront_certificate_arn
    ssl_support_method       = "sni-only"
    minimum_protocol_version = "TLSv1.2_2021"
  }
}
