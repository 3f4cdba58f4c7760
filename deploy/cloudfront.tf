# CloudFront, by variable: TLS ends near the client. What pages of the console are made
# of is cached (/assets/*, by names that change with what is in them), and nothing else.

data "aws_cloudfront_cache_policy" "disabled" {
  count = var.cloudfront ? 1 : 0
  name  = "Managed-CachingDisabled"
}

data "aws_cloudfront_origin_request_policy" "all_viewer" {
  count = var.cloudfront ? 1 : 0
  name  = "Managed-AllViewer"
}

# The origin alone says what is kept, and for how long: a file for good, a refusal not at
# all. A name says which file it is, so nothing else of a request makes another copy.
resource "aws_cloudfront_cache_policy" "assets" {
  count       = var.cloudfront ? 1 : 0
  name        = "${local.prefix}-assets"
  comment     = "Static assets: by their path alone, for as long as the origin says"
  min_ttl     = 0
  default_ttl = 0
  max_ttl     = 31536000

  parameters_in_cache_key_and_forwarded_to_origin {
    enable_accept_encoding_brotli = true
    enable_accept_encoding_gzip   = true

    cookies_config {
      cookie_behavior = "none"
    }
    headers_config {
      header_behavior = "none"
    }
    query_strings_config {
      query_string_behavior = "none"
    }
  }
}

# By the Host header the load balancer's certificate is checked. Whoever asks is nobody
# here: no cookie goes on to the origin.
resource "aws_cloudfront_origin_request_policy" "assets" {
  count   = var.cloudfront ? 1 : 0
  name    = "${local.prefix}-assets"
  comment = "Static assets: the Host header and nothing else"

  cookies_config {
    cookie_behavior = "none"
  }
  headers_config {
    header_behavior = "whitelist"
    headers {
      items = ["Host"]
    }
  }
  query_strings_config {
    query_string_behavior = "none"
  }
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
  #checkov:skip=CKV_AWS_86:the load balancer behind it logs every request that is not for a cached asset
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

  ordered_cache_behavior {
    path_pattern               = "/assets/*"
    target_origin_id           = "alb"
    viewer_protocol_policy     = "https-only"
    allowed_methods            = ["GET", "HEAD"]
    cached_methods             = ["GET", "HEAD"]
    compress                   = true
    cache_policy_id            = aws_cloudfront_cache_policy.assets[0].id
    origin_request_policy_id   = aws_cloudfront_origin_request_policy.assets[0].id
    response_headers_policy_id = data.aws_cloudfront_response_headers_policy.security[0].id
  }

  # While two builds serve, a file of the one is asked of the other; the next request
  # may find it.
  custom_error_response {
    error_code            = 404
    error_caching_min_ttl = 0
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
