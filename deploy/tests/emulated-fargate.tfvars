# Both ways of running, an RDS instance, WAF on the load balancer, a cache.

hosting                = "both"
lambda_traffic_percent = 10
waf                    = true
elasticache            = true
