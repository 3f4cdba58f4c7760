# Terraform, the provider and where the state lives.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # Bucket, key and region come from `terraform init -backend-config=dev.tfbackend`;
  # README.md says how to create the bucket.
  backend "s3" {
    encrypt = true
  }
}

provider "aws" {
  region = var.region

  # Calls an emulator does not know answer with a server error, which the
  # provider would otherwise repeat for minutes.
  max_retries       = var.emulated ? 2 : 25
  s3_use_path_style = var.emulated

  default_tags {
    tags = local.tags
  }
}

# The region that holds the table's replica and the copies of the secrets.
provider "aws" {
  alias  = "replica"
  region = coalesce(var.replica_region, var.region)

  max_retries       = var.emulated ? 2 : 25
  s3_use_path_style = var.emulated

  default_tags {
    tags = local.tags
  }
}

# The region that backups are copied to.
provider "aws" {
  alias  = "backup_copy"
  region = coalesce(var.backup_copy_region, var.region)

  max_retries       = var.emulated ? 2 : 25
  s3_use_path_style = var.emulated

  default_tags {
    tags = local.tags
  }
}

# CloudFront reads its web ACL and certificate from this region only.
provider "aws" {
  alias  = "us_east_1"
  region = "us-east-1"

  max_retries       = var.emulated ? 2 : 25
  s3_use_path_style = var.emulated

  default_tags {
    tags = local.tags
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  # Begins every name. At most 24 characters, by the validation of its parts: a
  # target group's name may have 32.
  prefix     = "${var.name}-${var.environment}"
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  dns_suffix = data.aws_partition.current.dns_suffix

  tags = {
    Application = var.name
    Environment = var.environment
    ManagedBy   = "terraform"
  }

  fargate = contains(["fargate", "both"], var.hosting)
  lambda  = contains(["lambda", "both"], var.hosting)

  # A secondary region uses the table, keys and secrets the primary replicated to it.
  secondary = var.failover_role == "secondary"

  # What takes jobs runs in one region only: in a secondary, once it is promoted.
  works = !local.secondary || var.promoted
}
