# Production. Also set, in a file of your own or with -var: certificate_arn,
# domain_name, alarm_emails, and github_repository for the pipeline.

environment = "prod"
region      = "eu-west-1"
hosting     = "fargate"

availability_zones = 2
nat                = "gateway-per-zone"
waf                = true

api_cpu_units     = 512
api_memory_mib    = 1024
api_tasks         = { min = 2, max = 10 }
worker_cpu_units  = 512
worker_memory_mib = 1024
worker_tasks      = { min = 2, max = 20 }

database_instance_class  = "db.t4g.medium"
database_connections_max = 300
multi_az                 = true
database_backup_days     = 14
backup_days              = 7
backup_vault_lock        = true

deletion_protection    = true
retention_days         = 30
log_retention_days     = 365
access_log_days        = 365
trace_sampling_percent = 5
