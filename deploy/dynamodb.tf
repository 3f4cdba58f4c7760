# The one table, as src/store/table.json describes it: the file the code and its
# tests read too.

locals {
  table = jsondecode(file("${path.module}/../src/store/table.json"))

  # Keys of the table and of its indexes, each once.
  table_attributes = {
    for key in concat(local.table.key_schema, flatten([for index in local.table.indexes : index.keys])) : key.name => key.type...
  }

  # The secondary region uses the replica the primary made there. A replica has
  # the table's name, hence the ARN is known.
  table_name = local.secondary ? local.prefix : aws_dynamodb_table.main[0].name
  table_arn  = local.secondary ? "arn:${local.partition}:dynamodb:${var.region}:${local.account_id}:table/${local.prefix}" : aws_dynamodb_table.main[0].arn
}

resource "aws_dynamodb_table" "main" {
  count        = local.secondary ? 0 : 1
  name         = local.prefix
  billing_mode = local.table.billing
  hash_key     = one([for key in local.table.key_schema : key.name if key.role == "HASH"])
  range_key    = one([for key in local.table.key_schema : key.name if key.role == "RANGE"])

  deletion_protection_enabled = var.deletion_protection

  dynamic "attribute" {
    for_each = local.table_attributes
    content {
      name = attribute.key
      type = attribute.value[0]
    }
  }

  dynamic "global_secondary_index" {
    for_each = { for index in local.table.indexes : index.name => index }
    content {
      name               = global_secondary_index.key
      hash_key           = one([for key in global_secondary_index.value.keys : key.name if key.role == "HASH"])
      range_key          = one([for key in global_secondary_index.value.keys : key.name if key.role == "RANGE"])
      projection_type    = global_secondary_index.value.projection.type
      non_key_attributes = try(global_secondary_index.value.projection.attributes, null)
    }
  }

  ttl {
    enabled        = true
    attribute_name = local.table.ttl_attribute
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = aws_kms_key.data.arn
  }

  # Replication, and nothing else, needs the stream.
  stream_enabled   = var.replica_region != null
  stream_view_type = var.replica_region == null ? null : "NEW_AND_OLD_IMAGES"

  # The replica is a resource of its own, below.
  lifecycle {
    ignore_changes = [replica]
  }
}

# In the other region. A block of the table could not protect it from deletion, which
# holds for each replica by itself.
resource "aws_dynamodb_table_replica" "main" {
  # A secondary has no table to replicate; inputs.tf says so by its own words.
  count            = var.replica_region == null || local.secondary ? 0 : 1
  provider         = aws.replica
  global_table_arn = aws_dynamodb_table.main[0].arn

  kms_key_arn                 = local.on_aws.replica_keys ? aws_kms_key.replica[0].arn : null
  point_in_time_recovery      = true
  deletion_protection_enabled = var.deletion_protection
}
