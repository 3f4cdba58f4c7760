# Development, for less than $50 a month at rest: one of everything, nothing that is
# paid by the hour where something paid by use will do. README.md has the sum.

environment = "dev"
region      = "eu-west-1"

# The function behind an HTTP API, straight to the database: neither tasks, nor a load
# balancer, nor a proxy.
hosting                     = "lambda"
load_balancer               = false
database_proxy              = false
lambda_reserved_concurrency = 20
lambda_queue_concurrency    = { fan_out = 4, deliver = 8, ingest = 2 }

nat                 = "instance"
interface_endpoints = []
waf                 = false
container_insights  = false

# If you set hosting to "fargate" or "both", which takes a load balancer.
api_cpu_units     = 256
api_memory_mib    = 512
api_tasks         = { min = 1, max = 2 }
worker_cpu_units  = 256
worker_memory_mib = 512
worker_tasks      = { min = 1, max = 2 }
worker_spot       = true

database_instance_class  = "db.t4g.micro"
database_connections_max = 60
multi_az                 = false
database_backup_days     = 1
backup_days              = 7
backup_vault_lock        = false

deletion_protection    = false
retention_days         = 7
log_retention_days     = 14
access_log_days        = 31
trace_sampling_percent = 100
