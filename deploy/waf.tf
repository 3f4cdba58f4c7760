# The web ACL, by variable: AWS's managed rules and a limit on each address.

locals {
  # Checks of a body that events fail by their nature: they are larger than a
  # form, and carry URLs and HTML. These count and do not block; the API
  # validates bodies itself and never renders them.
  waf_common_counted = ["SizeRestrictions_BODY", "CrossSiteScripting_BODY", "GenericLFI_BODY", "GenericRFI_BODY", "EC2MetaDataSSRF_BODY"]
}

# CloudFront takes its web ACL from us-east-1, the load balancer from its own
# region; a resource has one provider, hence two with the same rules.
resource "aws_wafv2_web_acl" "regional" {
  #checkov:skip=CKV_AWS_192:local.waf_managed has AWSManagedRulesKnownBadInputsRuleSet, in a map that checkov does not unroll
  count = var.waf && !var.cloudfront ? 1 : 0
  name  = local.prefix
  scope = "REGIONAL"

  default_action {
    allow {}
  }

  dynamic "rule" {
    for_each = local.waf_managed
    content {
      name     = rule.key
      priority = rule.value.priority

      override_action {
        none {}
      }

      statement {
        managed_rule_group_statement {
          vendor_name = "AWS"
          name        = rule.key

          dynamic "rule_action_override" {
            for_each = rule.value.counted
            content {
              name = rule_action_override.value
              action_to_use {
                count {}
              }
            }
          }
        }
      }

      visibility_config {
        cloudwatch_metrics_enabled = true
        metric_name                = rule.key
        sampled_requests_enabled   = true
      }
    }
  }

  rule {
    name     = "rate-limit"
    priority = 10

    action {
      block {}
    }

    statement {
      rate_based_statement {
        limit              = var.waf_rate_limit
        aggregate_key_type = "IP"
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "rate-limit"
      sampled_requests_enabled   = true
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = local.prefix
    sampled_requests_enabled   = true
  }
}

resource "aws_wafv2_web_acl" "cloudfront" {
  #checkov:skip=CKV_AWS_192:local.waf_managed has AWSManagedRulesKnownBadInputsRuleSet, in a map that checkov does not unroll
  count    = var.waf && var.cloudfront ? 1 : 0
  provider = aws.us_east_1
  name     = local.prefix
  scope    = "CLOUDFRONT"

  default_action {
    allow {}
  }

  dynamic "rule" {
    for_each = local.waf_managed
    content {
      name     = rule.key
      priority = rule.value.priority

      override_action {
        none {}
      }

      statement {
        managed_rule_group_statement {
          vendor_name = "AWS"
          name        = rule.key

          dynamic "rule_action_override" {
            for_each = rule.value.counted
            content {
              name = rule_action_override.value
              action_to_use {
                count {}
              }
            }
          }
        }
      }

      visibility_config {
        cloudwatch_metrics_enabled = true
        metric_name                = rule.key
        sampled_requests_enabled   = true
      }
    }
  }

  rule {
    name     = "rate-limit"
    priority = 10

    action {
      block {}
    }

    statement {
      rate_based_statement {
        limit              = var.waf_rate_limit
        aggregate_key_type = "IP"
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "rate-limit"
      sampled_requests_enabled   = true
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = local.prefix
    sampled_requests_enabled   = true
  }
}

locals {
  waf_managed = {
    AWSManagedRulesAmazonIpReputationList = { priority = 0, counted = [] }
    AWSManagedRulesKnownBadInputsRuleSet  = { priority = 1, counted = [] }
    AWSManagedRulesCommonRuleSet          = { priority = 2, counted = local.waf_common_counted }
  }
}

resource "aws_wafv2_web_acl_association" "alb" {
  count        = var.waf && !var.cloudfront ? 1 : 0
  resource_arn = local.alb.arn
  web_acl_arn  = aws_wafv2_web_acl.regional[0].arn
}

# --- Its log: blocked requests only ----------------------------------------

resource "aws_wafv2_web_acl_logging_configuration" "regional" {
  count                   = var.waf && !var.cloudfront && local.on_aws.waf_logging ? 1 : 0
  resource_arn            = aws_wafv2_web_acl.regional[0].arn
  log_destination_configs = [aws_cloudwatch_log_group.waf[0].arn]

  logging_filter {
    default_behavior = "DROP"

    filter {
      behavior    = "KEEP"
      requirement = "MEETS_ANY"

      condition {
        action_condition {
          action = "BLOCK"
        }
      }
      condition {
        action_condition {
          action = "COUNT"
        }
      }
    }
  }

  redacted_fields {
    single_header {
      name = "authorization"
    }
  }
}

resource "aws_wafv2_web_acl_logging_configuration" "cloudfront" {
  count                   = var.waf && var.cloudfront && local.on_aws.waf_logging ? 1 : 0
  provider                = aws.us_east_1
  resource_arn            = aws_wafv2_web_acl.cloudfront[0].arn
  log_destination_configs = [aws_cloudwatch_log_group.waf_cloudfront[0].arn]

  logging_filter {
    default_behavior = "DROP"

    filter {
      behavior    = "KEEP"
      requirement = "MEETS_ANY"

      condition {
        action_condition {
          action = "BLOCK"
        }
      }
      condition {
        action_condition {
          action = "COUNT"
        }
      }
    }
  }

  redacted_fields {
    single_header {
      name = "authorization"
    }
  }
}
