# The web ACL, by variable: AWS's managed rules and a limit on each address.

locals {
  # Where customers' data is: the whole API, and the console, whose forms send the same.
  # An event may hold anything, in its body, in the headers and the query that carry its
  # attributes, and in a path that names its type: HTML, SQL, URLs of metadata services,
  # large ones. And whoever sends it may well be a program without a User-Agent.
  waf_data_paths = "^/(v1|console)/"

  # Managed rules that look at such data. There they count and do not block: what is
  # taken is validated and never run, and pages show it escaped. Elsewhere what they find is
  # blocked all the same, by the rule `managed-elsewhere`. WAF ignores a name that it
  # does not know: tests/invariants.tf has AWS's lists.
  waf_counted = {
    AWSManagedRulesAmazonIpReputationList = []
    AWSManagedRulesKnownBadInputsRuleSet = [
      "JavaDeserializationRCE_BODY",
      "JavaDeserializationRCE_HEADER",
      "JavaDeserializationRCE_QUERYSTRING",
      "Log4JRCE_BODY",
      "Log4JRCE_HEADER",
      "Log4JRCE_QUERYSTRING",
      "ReactJSRCE_BODY",
    ]
    AWSManagedRulesCommonRuleSet = [
      "CrossSiteScripting_BODY",
      "CrossSiteScripting_QUERYARGUMENTS",
      "CrossSiteScripting_URIPATH",
      "EC2MetaDataSSRF_BODY",
      "EC2MetaDataSSRF_QUERYARGUMENTS",
      "EC2MetaDataSSRF_URIPATH",
      "GenericLFI_BODY",
      "GenericLFI_QUERYARGUMENTS",
      "GenericLFI_URIPATH",
      "GenericRFI_BODY",
      "GenericRFI_QUERYARGUMENTS",
      "GenericRFI_URIPATH",
      "NoUserAgent_HEADER",
      "RestrictedExtensions_QUERYARGUMENTS",
      "RestrictedExtensions_URIPATH",
      "SizeRestrictions_BODY",
      "SizeRestrictions_QUERYSTRING",
      "SizeRestrictions_URIPATH",
    ]
  }

  waf_managed = {
    AWSManagedRulesAmazonIpReputationList = { priority = 0, counted = local.waf_counted.AWSManagedRulesAmazonIpReputationList }
    AWSManagedRulesKnownBadInputsRuleSet  = { priority = 1, counted = local.waf_counted.AWSManagedRulesKnownBadInputsRuleSet }
    AWSManagedRulesCommonRuleSet          = { priority = 2, counted = local.waf_counted.AWSManagedRulesCommonRuleSet }
  }

  # Labels that the rules above leave on a request. One that got as far as the rule
  # `managed-elsewhere` has them of counting rules alone: others have blocked it.
  waf_labels = ["awswaf:managed:aws:core-rule-set:", "awswaf:managed:aws:known-bad-inputs:"]
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
    name     = "managed-elsewhere"
    priority = 3

    action {
      block {}
    }

    statement {
      and_statement {
        statement {
          or_statement {
            dynamic "statement" {
              for_each = local.waf_labels
              content {
                label_match_statement {
                  scope = "NAMESPACE"
                  key   = statement.value
                }
              }
            }
          }
        }

        statement {
          not_statement {
            statement {
              regex_match_statement {
                regex_string = local.waf_data_paths

                field_to_match {
                  uri_path {}
                }

                # What /v1/../docs means is neither.
                text_transformation {
                  priority = 0
                  type     = "URL_DECODE"
                }
                text_transformation {
                  priority = 1
                  type     = "NORMALIZE_PATH"
                }
              }
            }
          }
        }
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "managed-elsewhere"
      sampled_requests_enabled   = true
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
    name     = "managed-elsewhere"
    priority = 3

    action {
      block {}
    }

    statement {
      and_statement {
        statement {
          or_statement {
            dynamic "statement" {
              for_each = local.waf_labels
              content {
                label_match_statement {
                  scope = "NAMESPACE"
                  key   = statement.value
                }
              }
            }
          }
        }

        statement {
          not_statement {
            statement {
              regex_match_statement {
                regex_string = local.waf_data_paths

                field_to_match {
                  uri_path {}
                }

                # What /v1/../docs means is neither.
                text_transformation {
                  priority = 0
                  type     = "URL_DECODE"
                }
                text_transformation {
                  priority = 1
                  type     = "NORMALIZE_PATH"
                }
              }
            }
          }
        }
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "managed-elsewhere"
      sampled_requests_enabled   = true
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
