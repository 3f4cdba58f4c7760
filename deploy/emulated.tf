# What `emulated = true` turns off, and why: the one place.
#
# The flag is for applying this stack to an AWS emulator in tests. Each entry
# is an API the emulator does not have, or has so that Terraform cannot use it;
# everything else is created there exactly as on AWS. tests/run applies with it.
# Beside this, versions.tf makes the provider give up sooner and address S3 by path.

locals {
  on_aws = {
    # No Application Auto Scaling API: services keep their desired count.
    autoscaling = !var.emulated
    # No PutLoggingConfiguration in WAFv2: the web ACL is there, its log is not.
    waf_logging = !var.emulated
    # No vault lock in AWS Backup: vault, plan and selection are there.
    backup_vault_lock = !var.emulated
    # No saved queries in CloudWatch Logs.
    query_definitions = !var.emulated
    # No X-Ray API: no group, and tasks run with traces off.
    xray = !var.emulated
    # Security group rules that name an AWS prefix list come back without it, so
    # that every later plan wants to replace them. Traffic to S3 and DynamoDB is
    # then not opened (nothing filters packets there), and CloudFront's list is
    # replaced by ingress_cidrs.
    prefix_lists = !var.emulated
    # Revisions of task definitions stay after a destroy, for rolling back: not in
    # a test, whose destroy is to leave nothing.
    keep_revisions = !var.emulated
    # A replica of a table comes back with the table's own key, so that every later plan
    # wants to replace it.
    replica_keys = !var.emulated
    # No managed password of a DB instance (of a cluster there is one): a plain
    # secret stands in for it, which the test fills.
    managed_secret = !var.emulated || var.aurora
    # A function made of an image runs only in a container, which the emulator would
    # need Docker for; a zip runs as a process. The function is the same otherwise:
    # role, environment, queues, schedule, alias.
    image_functions = !var.emulated
    # A listener forwards to one target group, without weights: with both ways of
    # hosting that is the api tasks', whatever lambda_traffic_percent says.
    weighted_targets = !var.emulated
  }

  # Where the emulator and the PostgreSQL beside it are, which only the test knows;
  # and that webhooks may go to loopback, where the test receives them.
  emulated_environment = var.emulated ? var.emulated_environment : {}
}

resource "aws_secretsmanager_secret" "database_stand_in" {
  #checkov:skip=CKV2_AWS_57:exists only on an emulator
  count                   = local.on_aws.managed_secret ? 0 : 1
  name                    = "${local.prefix}/database"
  description             = "Stands in for the database's managed secret"
  kms_key_id              = aws_kms_key.data.arn
  recovery_window_in_days = 0
}
