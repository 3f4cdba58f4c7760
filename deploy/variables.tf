# Every input. What a single variable can tell is validated here; what takes
# two of them is a precondition in inputs.tf (validation may look at one only
# before Terraform 1.9).

# --- Names and place -------------------------------------------------------

variable "name" {
  description = "First part of every resource's name."
  type        = string
  default     = "millrace"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.name))
    error_message = "name must be lower-case letters, digits and single hyphens and start with a letter: set name to something like \"millrace\"."
  }

  validation {
    condition     = length(var.name) <= 16
    error_message = "name may have at most 16 characters: AWS allows 32 in a target group's name, and the environment (7) and what it is for are appended. Set a shorter name."
  }
}

variable "environment" {
  description = "Second part of every name. \"prod\" demands what production needs: a certificate, two zones of the database, deletion protection."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,6}$", var.environment))
    error_message = "environment must be 2 to 7 lower-case letters and digits and start with a letter: set environment to \"dev\", \"staging\" or \"prod\"."
  }
}

variable "region" {
  description = "AWS region of the stack."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the code of an AWS region: set region to something like \"eu-west-1\"."
  }
}

variable "hosting" {
  description = "What runs the image: \"fargate\" (ECS services api and worker), \"lambda\" (one function) or \"both\" side by side on the same queues and table, to move from one to the other."
  type        = string
  default     = "fargate"
  nullable    = false

  validation {
    condition     = contains(["fargate", "lambda", "both"], var.hosting)
    error_message = "hosting must be one of \"fargate\", \"lambda\" and \"both\": set hosting to one of these."
  }
}

variable "lambda_traffic_percent" {
  description = "With hosting = \"both\": the share of HTTP requests, 0 to 100, that the load balancer sends to the function."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.lambda_traffic_percent >= 0 && var.lambda_traffic_percent <= 100 && floor(var.lambda_traffic_percent) == var.lambda_traffic_percent
    error_message = "lambda_traffic_percent must be a whole number from 0 to 100: set the share of requests that the function serves."
  }
}

variable "image_tag" {
  description = "Tag of the image in this stack's ECR repository that new task definitions and a new function start with. The pipeline tags by git SHA and moves both on by itself."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "image_tag must be the tag of an image already pushed, not \"latest\" (tags are immutable): set image_tag to the git SHA that was built."
  }
}

variable "cpu_architecture" {
  description = "Architecture the image was built for: \"X86_64\" or \"ARM64\"."
  type        = string
  default     = "X86_64"
  nullable    = false

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture must be \"X86_64\" or \"ARM64\": set it to what the image was built for."
  }
}

variable "emulated" {
  description = "True only when applying to an AWS emulator in tests. emulated.tf lists what it turns off."
  type        = bool
  default     = false
  nullable    = false
}

variable "emulated_environment" {
  description = "With emulated = true: what tasks and function are told beside, such as the emulator's URL."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.emulated_environment) : startswith(name, "MILLRACE_")])
    error_message = "emulated_environment may hold the application's own variables: set only names that begin with MILLRACE_."
  }
}

variable "deletion_protection" {
  description = "Protect the table, the database and the load balancer from deletion, and take a last snapshot of the database. Set it to false and apply before a destroy."
  type        = bool
  default     = true
  nullable    = false
}

# --- Network ---------------------------------------------------------------

variable "vpc_cidr" {
  description = "Address range of the VPC, a private range (RFC 1918) from /16 to /20. It is cut into sixteen equal subnets."
  type        = string
  default     = "10.20.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && can(regex("^[0-9.]+/[0-9]+$", var.vpc_cidr))
    error_message = "vpc_cidr must be an IPv4 range in CIDR notation: set vpc_cidr to something like \"10.20.0.0/16\"."
  }

  validation {
    condition     = try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 20, false)
    error_message = "vpc_cidr must be from /16 (the largest AWS allows) to /20 (so that a subnet has 256 addresses): set a prefix length from 16 to 20."
  }

  validation {
    condition     = try(cidrhost(var.vpc_cidr, 0) == split("/", var.vpc_cidr)[0], false)
    error_message = "vpc_cidr has bits set beyond its prefix length: set the first address of the range, such as 10.20.0.0/16 and not 10.20.1.0/16."
  }

  validation {
    condition     = can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.)", var.vpc_cidr))
    error_message = "vpc_cidr must be a private range: set one within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  }
}

variable "availability_zones" {
  description = "How many availability zones the subnets are spread over, 2 to 4."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.availability_zones >= 2 && var.availability_zones <= 4 && floor(var.availability_zones) == var.availability_zones
    error_message = "availability_zones must be 2, 3 or 4: the load balancer and the database need two zones to survive the loss of one. Set it to at least 2."
  }
}

variable "nat" {
  description = "How tasks get to the internet: \"gateway-per-zone\" (webhooks go on when a zone is lost), \"gateway\" (one for all), \"instance\" (one t4g.nano, for development) or \"none\" (Fargate tasks in public subnets with an address each, for development; the addresses change). Null: what nat_per_zone says."
  type        = string
  default     = null

  validation {
    condition     = var.nat == null || contains(["gateway-per-zone", "gateway", "instance", "none"], coalesce(var.nat, "-"))
    error_message = "nat must be \"gateway-per-zone\", \"gateway\", \"instance\" or \"none\": set one of these."
  }
}

variable "nat_per_zone" {
  description = "Before there was nat: true is nat = \"gateway-per-zone\", the default, and false nat = \"gateway\". Null: as nat says."
  type        = bool
  default     = null
}

variable "interface_endpoints" {
  description = "AWS services reached through interface endpoints inside the VPC. Empty: over the NAT, cheaper at little traffic. S3 and DynamoDB always have gateway endpoints, which are free."
  type        = set(string)
  default     = ["ecr.api", "ecr.dkr", "logs", "secretsmanager", "sqs", "xray"]
  nullable    = false

  validation {
    condition     = length(setsubtract(var.interface_endpoints, ["ecr.api", "ecr.dkr", "logs", "secretsmanager", "sqs", "xray"])) == 0
    error_message = "interface_endpoints may hold ecr.api, ecr.dkr, logs, secretsmanager, sqs and xray, the services that tasks call: set only these."
  }
}

variable "ingress_cidrs" {
  description = "Who may reach the load balancer. With cloudfront = true only CloudFront may, whatever this says."
  type        = list(string)
  default     = ["0.0.0.0/0"]
  nullable    = false

  validation {
    condition     = length(var.ingress_cidrs) > 0 && alltrue([for cidr in var.ingress_cidrs : can(cidrhost(cidr, 0)) && can(regex("^[0-9.]+/[0-9]+$", cidr))])
    error_message = "ingress_cidrs must be IPv4 ranges in CIDR notation: set something like [\"203.0.113.0/24\"], or [\"0.0.0.0/0\"] for everyone."
  }
}

variable "webhook_ports" {
  description = "TCP ports of customers' webhook URLs that tasks may reach on the internet."
  type        = set(number)
  default     = [80, 443]
  nullable    = false

  validation {
    condition     = contains(var.webhook_ports, 443) && alltrue([for port in var.webhook_ports : port >= 1 && port <= 65535])
    error_message = "webhook_ports must hold 443, and only ports from 1 to 65535: set something like [80, 443]."
  }
}

# --- Edge ------------------------------------------------------------------

variable "load_balancer" {
  description = "An application load balancer in front. Without, with hosting = \"lambda\": an HTTP API of API Gateway, which costs nothing at rest and more by the request; no WAF, no CloudFront, no failover."
  type        = bool
  default     = true
  nullable    = false
}

variable "certificate_arn" {
  description = "ACM certificate, in var.region, of the load balancer. Null serves plain HTTP, which prod refuses."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:aws[a-z-]*:(acm|iam):", var.certificate_arn))
    error_message = "certificate_arn must be the ARN of an ACM certificate: set certificate_arn to \"arn:aws:acm:…\", or leave it out for plain HTTP in development."
  }
}

variable "domain_name" {
  description = "Name clients use, such as events.example.com. Null: the load balancer's own name."
  type        = string
  default     = null

  validation {
    condition     = var.domain_name == null || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,}$", var.domain_name))
    error_message = "domain_name must be a full domain name in lower case without a trailing dot: set something like \"events.example.com\"."
  }
}

variable "route53_zone_id" {
  description = "Route 53 hosted zone in which domain_name is created. Null: you point the name yourself."
  type        = string
  default     = null

  validation {
    condition     = var.route53_zone_id == null || can(regex("^Z[A-Z0-9]{1,31}$", var.route53_zone_id))
    error_message = "route53_zone_id must be a hosted zone's id, not its name: set something like \"Z0123456789ABCDEFGHIJ\"."
  }
}

variable "waf" {
  description = "A web ACL with AWS's managed rules and a rate limit, on CloudFront if that is on and else on the load balancer."
  type        = bool
  default     = false
  nullable    = false
}

variable "waf_rate_limit" {
  description = "Requests one address may send in five minutes before WAF blocks it, 100 to 2,000,000,000."
  type        = number
  default     = 60000
  nullable    = false

  validation {
    condition     = var.waf_rate_limit >= 100 && var.waf_rate_limit <= 2000000000
    error_message = "waf_rate_limit must be from 100 to 2000000000 requests in five minutes: set it above what one producer sends."
  }
}

variable "cloudfront" {
  description = "CloudFront in front of the load balancer."
  type        = bool
  default     = false
  nullable    = false
}

variable "cloudfront_origin_secrets" {
  description = "Names of the secrets by which the load balancer knows this CloudFront distribution. All are accepted, the first is sent; README.md has their rotation."
  type        = list(string)
  default     = ["1"]
  nullable    = false

  validation {
    condition     = length(var.cloudfront_origin_secrets) >= 1 && length(var.cloudfront_origin_secrets) <= 2 && length(distinct(var.cloudfront_origin_secrets)) == length(var.cloudfront_origin_secrets)
    error_message = "cloudfront_origin_secrets must be one name, or two while rotating: set something like [\"1\"], then [\"1\", \"2\"], then [\"2\", \"1\"], then [\"2\"]."
  }
}

variable "cloudfront_certificate_arn" {
  description = "ACM certificate, in us-east-1, of CloudFront."
  type        = string
  default     = null

  validation {
    condition     = var.cloudfront_certificate_arn == null || can(regex("^arn:aws[a-z-]*:acm:us-east-1:", var.cloudfront_certificate_arn))
    error_message = "cloudfront_certificate_arn must be an ACM certificate in us-east-1, the only region CloudFront reads: set \"arn:aws:acm:us-east-1:…\"."
  }
}

variable "cloudfront_price_class" {
  description = "Where CloudFront serves from: \"PriceClass_100\" (Europe, North America), \"PriceClass_200\" or \"PriceClass_All\"."
  type        = string
  default     = "PriceClass_100"
  nullable    = false

  validation {
    condition     = contains(["PriceClass_100", "PriceClass_200", "PriceClass_All"], var.cloudfront_price_class)
    error_message = "cloudfront_price_class must be PriceClass_100, PriceClass_200 or PriceClass_All: set one of these."
  }
}

# --- ECS -------------------------------------------------------------------

variable "api_cpu_units" {
  description = "CPU units of an api task: 256, 512, 1024, 2048 or 4096."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.api_cpu_units)
    error_message = "api_cpu_units must be 256, 512, 1024, 2048 or 4096: set one of Fargate's sizes."
  }
}

variable "api_memory_mib" {
  description = "Memory of an api task in MiB, a size Fargate offers for its CPU units."
  type        = number
  default     = 1024
  nullable    = false
}

variable "api_tasks" {
  description = "Fewest and most api tasks."
  type        = object({ min = number, max = number })
  default     = { min = 2, max = 10 }
  nullable    = false

  validation {
    condition     = var.api_tasks.min >= 1 && var.api_tasks.max >= var.api_tasks.min
    error_message = "api_tasks needs min of at least 1 and max of at least min: set something like { min = 2, max = 10 }."
  }
}

variable "worker_cpu_units" {
  description = "CPU units of a worker task: 256, 512, 1024, 2048 or 4096."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.worker_cpu_units)
    error_message = "worker_cpu_units must be 256, 512, 1024, 2048 or 4096: set one of Fargate's sizes."
  }
}

variable "worker_memory_mib" {
  description = "Memory of a worker task in MiB, a size Fargate offers for its CPU units."
  type        = number
  default     = 1024
  nullable    = false
}

variable "worker_tasks" {
  description = "Fewest and most worker tasks."
  type        = object({ min = number, max = number })
  default     = { min = 2, max = 20 }
  nullable    = false

  validation {
    condition     = var.worker_tasks.min >= 1 && var.worker_tasks.max >= var.worker_tasks.min
    error_message = "worker_tasks needs min of at least 1 and max of at least min: set something like { min = 2, max = 20 }."
  }
}

variable "worker_spot" {
  description = "Run workers on Fargate Spot, about 70 % cheaper. A worker may be taken away at any time without loss: a job's message comes back."
  type        = bool
  default     = false
  nullable    = false
}

variable "container_insights" {
  description = "ECS's Container Insights: metrics by task, billed like custom ones. Without it there is no alarm on the number of running tasks."
  type        = bool
  default     = true
  nullable    = false
}

variable "requests_per_task" {
  description = "HTTP requests a minute one api task should serve before another is added."
  type        = number
  default     = 30000
  nullable    = false

  validation {
    condition     = var.requests_per_task >= 1
    error_message = "requests_per_task must be at least 1: set the requests a minute that one api task should serve."
  }
}

variable "backlog_per_worker" {
  description = "Waiting messages one worker task should face before another is added."
  type        = number
  default     = 500
  nullable    = false

  validation {
    condition     = var.backlog_per_worker >= 1
    error_message = "backlog_per_worker must be at least 1: set the waiting messages that one worker should face."
  }
}

# --- Lambda ----------------------------------------------------------------

variable "lambda_memory_mib" {
  description = "Memory of the function in MiB, 128 to 10,240; CPU grows with it."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.lambda_memory_mib >= 128 && var.lambda_memory_mib <= 10240
    error_message = "lambda_memory_mib must be from 128 to 10240: set the function's memory in MiB."
  }
}

variable "lambda_timeout_s" {
  description = "Seconds an invocation may take, 35 to 900: a delivery attempt alone may take 30. Queues hide a message for six times as long."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.lambda_timeout_s >= 35 && var.lambda_timeout_s <= 900
    error_message = "lambda_timeout_s must be from 35 (a delivery attempt may take 30) to 900: set the function's timeout in seconds."
  }
}

variable "lambda_reserved_concurrency" {
  description = "Concurrent invocations kept for the function and its limit; -1 shares the account's. What lambda_queue_concurrency does not take is left for HTTP."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.lambda_reserved_concurrency == -1 || var.lambda_reserved_concurrency >= 10
    error_message = "lambda_reserved_concurrency must be -1 or at least 10: set the function's limit, or -1 to share the account's."
  }
}

variable "lambda_queue_concurrency" {
  description = "Most concurrent invocations for each queue, at least 2."
  type        = object({ fan_out = number, deliver = number, ingest = number })
  default     = { fan_out = 10, deliver = 50, ingest = 5 }
  nullable    = false

  validation {
    condition     = alltrue([for most in values(var.lambda_queue_concurrency) : most >= 2 && most <= 1000])
    error_message = "lambda_queue_concurrency must be from 2 to 1000 for each queue: set { fan_out = 10, deliver = 50, ingest = 5 } or the like."
  }
}

# --- Data ------------------------------------------------------------------

variable "aurora" {
  description = "Aurora Serverless v2 in place of an RDS instance."
  type        = bool
  default     = false
  nullable    = false
}

variable "database_proxy" {
  description = "With Lambda: RDS Proxy between function and database. Without, each instance of the function keeps connections of its own: for development, with few of them at once. Its least price is two vCPUs, with Aurora Serverless eight ACUs."
  type        = bool
  default     = true
  nullable    = false
}

variable "postgres_version" {
  description = "PostgreSQL version of the instance or cluster."
  type        = string
  default     = "16.10"
  nullable    = false

  validation {
    condition     = can(regex("^1[6-9]\\.[0-9]+$", var.postgres_version))
    error_message = "postgres_version must be 16 or later, with its minor version: set something like \"16.10\"."
  }
}

variable "database_instance_class" {
  description = "Class of the RDS instance, of a burstable or general family."
  type        = string
  default     = "db.t4g.small"
  nullable    = false

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.database_instance_class))
    error_message = "database_instance_class must be an RDS class: set something like \"db.t4g.small\"."
  }
}

variable "database_storage_gib" {
  description = "Storage of the RDS instance in GiB: at first, and at most after it has grown by itself."
  type        = object({ first = number, most = number })
  default     = { first = 20, most = 200 }
  nullable    = false

  validation {
    condition     = var.database_storage_gib.first >= 20 && var.database_storage_gib.most > var.database_storage_gib.first
    error_message = "database_storage_gib needs first of at least 20 and most above first: set something like { first = 20, most = 200 }."
  }
}

variable "aurora_capacity_acu" {
  description = "Fewest and most Aurora capacity units, in halves. A minimum of 0 lets the cluster pause."
  type        = object({ min = number, max = number })
  default     = { min = 0.5, max = 8 }
  nullable    = false

  validation {
    condition     = var.aurora_capacity_acu.min >= 0 && var.aurora_capacity_acu.max >= max(1, var.aurora_capacity_acu.min) && floor(2 * var.aurora_capacity_acu.min) == 2 * var.aurora_capacity_acu.min
    error_message = "aurora_capacity_acu needs min of at least 0 in steps of 0.5 and max of at least 1 and min: set something like { min = 0.5, max = 8 }."
  }
}

variable "multi_az" {
  description = "A standby of the database in a second zone (for Aurora: a reader)."
  type        = bool
  default     = true
  nullable    = false
}

variable "database_connections_max" {
  description = "Connections to the database at which the alarm goes off; see README.md for what a class allows."
  type        = number
  default     = 150
  nullable    = false

  validation {
    condition     = var.database_connections_max >= 10
    error_message = "database_connections_max must be at least 10: set about 80 % of what the instance class allows."
  }
}

variable "database_backup_days" {
  description = "Days of the database's point-in-time recovery, 1 to 35."
  type        = number
  default     = 14
  nullable    = false

  validation {
    condition     = var.database_backup_days >= 1 && var.database_backup_days <= 35
    error_message = "database_backup_days must be from 1 to 35: set how many days back the database can be restored."
  }
}

variable "retention_days" {
  description = "Days events and deliveries are kept, 4 to 3650: longer than their retries take (MILLRACE_RETENTION_DAYS)."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.retention_days >= 4 && var.retention_days <= 3650
    error_message = "retention_days must be from 4 to 3650: set how many days events are kept."
  }
}

variable "archive_bucket" {
  description = "Bucket to create, into which each day's events are written two days before they expire (MILLRACE_ARCHIVE__BUCKET). Null: they expire without."
  type        = string
  default     = null

  validation {
    condition     = var.archive_bucket == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.archive_bucket))
    error_message = "archive_bucket must be a bucket's name without full stops: set 3 to 63 lower-case letters, digits and hyphens, such as \"acme-millrace-archive\"."
  }
}

variable "ingest_project" {
  description = "Project that events from AWS sources belong to, prj_…; empty while there is none (MILLRACE_INGEST__PROJECT)."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.ingest_project == "" || can(regex("^prj_[0-9a-z]{26}$", var.ingest_project))
    error_message = "ingest_project must be a project's id: set what POST /v1/projects answered, prj_ and 26 characters."
  }
}

variable "dead_letter_after" {
  description = "Times a message is received before it goes to the dead-letter queue, 2 to 1000."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.dead_letter_after >= 2 && var.dead_letter_after <= 1000
    error_message = "dead_letter_after must be from 2 to 1000: set how often a message is tried."
  }
}

variable "elasticache" {
  description = "A Valkey cluster that only this stack's tasks reach. Millrace does not use it; it is for the services you run beside it."
  type        = bool
  default     = false
  nullable    = false
}

variable "elasticache_node_type" {
  description = "Node type of the Valkey cluster."
  type        = string
  default     = "cache.t4g.micro"
  nullable    = false

  validation {
    condition     = can(regex("^cache\\.[a-z0-9]+\\.[a-z0-9]+$", var.elasticache_node_type))
    error_message = "elasticache_node_type must be an ElastiCache node type: set something like \"cache.t4g.micro\"."
  }
}

# --- Backup and the second region ------------------------------------------

variable "backup_days" {
  description = "Days AWS Backup keeps a daily backup, 1 to 366; a monthly one is kept for twelve months. Each of the table is a full copy, so keep few: the table's point-in-time recovery reaches back 35 days by itself."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 366
    error_message = "backup_days must be from 1 to 366, which the vault's lock allows: set how many days a daily backup is kept."
  }
}

variable "backup_vault_lock" {
  description = "Refuse to delete backups before their time (governance mode: an administrator can still lift it)."
  type        = bool
  default     = true
  nullable    = false
}

variable "backup_copy_region" {
  description = "Region to whose vault, made here, every backup is copied. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.backup_copy_region == null || can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.backup_copy_region))
    error_message = "backup_copy_region must be the code of an AWS region: set something like \"eu-central-1\", or leave it out."
  }
}

variable "backup_copy_vault_arn" {
  description = "Vault of another account of the same organization, in this region, to which every backup is copied; README.md has what that account must allow. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.backup_copy_vault_arn == null || can(regex("^arn:aws[a-z-]*:backup:[a-z0-9-]+:[0-9]{12}:backup-vault:[A-Za-z0-9_-]{2,50}$", var.backup_copy_vault_arn))
    error_message = "backup_copy_vault_arn must be the ARN of a backup vault: set something like \"arn:aws:backup:eu-west-1:210987654321:backup-vault:millrace\", or leave it out."
  }
}

variable "replica_region" {
  description = "A second region to which the table (as a global table), the secrets and the database's backups are replicated. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.replica_region == null || can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.replica_region))
    error_message = "replica_region must be the code of an AWS region: set something like \"eu-central-1\", or leave it out."
  }
}

variable "failover_role" {
  description = "This stack's part in Route 53 failover: \"primary\" (owns table and secrets, needs replica_region), \"secondary\" (a second apply, in that region) or null (no failover)."
  type        = string
  default     = null

  validation {
    condition     = var.failover_role == null || contains(["primary", "secondary"], coalesce(var.failover_role, "none"))
    error_message = "failover_role must be \"primary\" or \"secondary\": set one of these, or leave it out for no failover."
  }
}

variable "promoted" {
  description = "In a secondary whose primary is lost: take jobs too (fan-out, deliveries, ingest, sweep, meters), not HTTP alone. Never while the primary works; README.md has the runbook."
  type        = bool
  default     = false
  nullable    = false
}

# --- Observability ---------------------------------------------------------

variable "log_retention_days" {
  description = "Days CloudWatch keeps logs, one of the periods it offers."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one of CloudWatch's periods: set 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "access_log_days" {
  description = "Days the load balancer's access logs are kept in S3; after 30 they move to infrequent access."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = var.access_log_days > 30
    error_message = "access_log_days must be above 30, when the logs move to infrequent access: set 31 or more."
  }
}

variable "tracing" {
  description = "Send traces to X-Ray (MILLRACE_TELEMETRY__TRACES)."
  type        = bool
  default     = true
  nullable    = false
}

variable "trace_sampling_percent" {
  description = "Share of the traces begun in Millrace that are kept, 0 to 100 (MILLRACE_TELEMETRY__SAMPLE_RATIO). A request that brings a trace keeps that one's decision; on Lambda, AWS decides: the first one of each second and 5 %."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.trace_sampling_percent >= 0 && var.trace_sampling_percent <= 100
    error_message = "trace_sampling_percent must be from 0 to 100: set the share of requests that are traced."
  }
}

variable "alarm_emails" {
  description = "Addresses that alarms are mailed to. Each has to confirm the subscription AWS mails to it."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+\\.[^@[:space:]]+$", address))])
    error_message = "alarm_emails must be mail addresses: set something like [\"oncall@example.com\"]."
  }
}

variable "latency_alarm_ms" {
  description = "99th percentile of response time, in milliseconds, at which the alarm goes off."
  type        = number
  default     = 1000
  nullable    = false

  validation {
    condition     = var.latency_alarm_ms >= 1
    error_message = "latency_alarm_ms must be at least 1: set the 99th percentile, in milliseconds, that is too slow."
  }
}

variable "delivery_lag_alarm_s" {
  description = "Seconds from acceptance to the first attempt at which the alarm goes off."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.delivery_lag_alarm_s >= 1
    error_message = "delivery_lag_alarm_s must be at least 1: set the seconds that a first attempt may come late."
  }
}

variable "backlog_alarm" {
  description = "Pieces of work waiting at which the alarm goes off."
  type        = number
  default     = 50000
  nullable    = false

  validation {
    # What is counted at most is a little more: src/jobs/backlog.rs.
    condition     = var.backlog_alarm >= 1 && var.backlog_alarm <= 90000
    error_message = "backlog_alarm must be from 1 to 90000, up to which waiting work is counted: set how much of it is too much."
  }
}

variable "budget_usd" {
  description = "US dollars a month that the account may cost before someone is mailed: at 80 % of it, when a forecast is above it, and at 100 %. 0: no budget."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.budget_usd >= 0
    error_message = "budget_usd must be 0, for none, or more: set what the account may cost in a month."
  }
}

variable "budget_emails" {
  description = "Addresses that are mailed about the budget, at most ten. Empty: alarm_emails."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.budget_emails) <= 10 && alltrue([for address in var.budget_emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+\\.[^@[:space:]]+$", address))])
    error_message = "budget_emails must be at most ten mail addresses: set something like [\"finance@example.com\"]."
  }
}

# --- Pipeline --------------------------------------------------------------

variable "github_repository" {
  description = "GitHub repository, as owner/name, whose workflows may deploy this environment. Null: no role for it."
  type        = string
  default     = null

  validation {
    condition     = var.github_repository == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository must be owner/name without a wildcard: set something like \"acme/millrace\"."
  }
}

variable "terraform_state" {
  description = "Where this stack's state is, as in its .tfbackend: with github_repository, pull requests and the drift job may plan, reading it. kms_key_arn: the key of the bucket, if it has one of its own. Null: no role for it."
  type        = object({ bucket = string, key = string, kms_key_arn = optional(string) })
  default     = null

  validation {
    condition     = var.terraform_state == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.terraform_state.bucket)) && can(regex("^[A-Za-z0-9._/-]+$", var.terraform_state.key))
    error_message = "terraform_state must name the bucket and the key without a wildcard: set something like { bucket = \"terraform-state-123456789012\", key = \"millrace/dev.tfstate\" }."
  }
}

variable "github_oidc_provider_arn" {
  description = "The account's identity provider for GitHub Actions, if there is one already: an account has room for one. Null creates it."
  type        = string
  default     = null

  validation {
    condition     = var.github_oidc_provider_arn == null || can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/token\\.actions\\.githubusercontent\\.com$", var.github_oidc_provider_arn))
    error_message = "github_oidc_provider_arn must be the ARN of the provider for token.actions.githubusercontent.com: set it, or leave it out to create the provider."
  }
}
