# What tests/run applies to the emulator, over prod.tfvars. The certificates and
# the zone are made by the script before.

emulated    = true
environment = "prod"
region      = "eu-west-1"
image_tag   = "test"

deletion_protection = false

github_repository = "acme/millrace"
terraform_state   = { bucket = "terraform-state", key = "millrace/test.tfstate", kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/state" }
alarm_emails      = ["oncall@example.com"]
