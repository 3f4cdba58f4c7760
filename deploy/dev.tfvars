# Development: one of everything, plain HTTP unless certificate_arn is set.

environment = "dev"
region      = "eu-west-1"
hosting     = "fargate"

nat_per_zone        = false
interface_endpoints = []
waf                 = false

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
