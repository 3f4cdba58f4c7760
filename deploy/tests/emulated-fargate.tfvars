# Both ways of running, an RDS instance, WAF on the load balancer, a cache, an
# archive.

hosting                = "both"
lambda_traffic_percent = 10
waf                    = true
elasticache            = true
archive_bucket         = "acme-millrace-archive"
