# The function alone, Aurora, CloudFront with WAF, a second region.

hosting            = "lambda"
availability_zones = 3
aurora             = true
waf                = true
cloudfront         = true
replica_region     = "eu-central-1"
