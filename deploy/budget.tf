# What the account may cost in a month: told at four fifths, when a forecast is over it,
# and when it is reached. A budget tells and stops nothing.

locals {
  # A forecast takes AWS about five weeks of use to make.
  budget_notices = {
    near     = { type = "ACTUAL", percent = 80 }
    forecast = { type = "FORECASTED", percent = 100 }
    over     = { type = "ACTUAL", percent = 100 }
  }
}

resource "aws_budgets_budget" "month" {
  count        = var.budget_usd == 0 ? 0 : 1
  name         = "${local.prefix}-${var.region}"
  budget_type  = "COST"
  limit_amount = tostring(var.budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  dynamic "notification" {
    for_each = local.budget_notices
    content {
      notification_type          = notification.value.type
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value.percent
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = coalescelist(tolist(var.budget_emails), tolist(var.alarm_emails), [""])
    }
  }
}
