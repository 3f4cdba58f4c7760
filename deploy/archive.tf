# The archive: events go to a bucket before the table forgets them, if
# archive_bucket names one.

resource "aws_s3_bucket" "archive" {
  #checkov:skip=CKV_AWS_18:only the worker's role may read or write here, and CloudTrail can record data events where that must be proven
  #checkov:skip=CKV_AWS_144:a copy in another region is for the account's owner to decide; failover does not need it
  #checkov:skip=CKV2_AWS_62:nothing acts on the arrival of an object
  count         = var.archive_bucket == null ? 0 : 1
  bucket        = var.archive_bucket
  force_destroy = !var.deletion_protection
}

resource "aws_s3_bucket_public_access_block" "archive" {
  count                   = var.archive_bucket == null ? 0 : 1
  bucket                  = aws_s3_bucket.archive[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "archive" {
  count  = var.archive_bucket == null ? 0 : 1
  bucket = aws_s3_bucket.archive[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "archive" {
  count  = var.archive_bucket == null ? 0 : 1
  bucket = aws_s3_bucket.archive[0].id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.data.arn
    }
  }
}

# A part that is written again replaces the one before, which is kept for a week: so
# long an erased event may be restored, and docs/erasure.md says so.
resource "aws_s3_bucket_versioning" "archive" {
  count  = var.archive_bucket == null ? 0 : 1
  bucket = aws_s3_bucket.archive[0].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "archive" {
  count  = var.archive_bucket == null ? 0 : 1
  bucket = aws_s3_bucket.archive[0].id

  rule {
    id     = "cool"
    status = "Enabled"

    filter {}

    transition {
      days          = 30
      storage_class = "GLACIER_IR"
    }

    noncurrent_version_expiration {
      noncurrent_days = 7
    }

    # What is left of a deleted object when its versions are gone.
    expiration {
      expired_object_delete_marker = true
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.archive]
}

resource "aws_s3_bucket_policy" "archive" {
  count  = var.archive_bucket == null ? 0 : 1
  bucket = aws_s3_bucket.archive[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.archive[0].arn, "${aws_s3_bucket.archive[0].arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.archive]
}

locals {
  # The objects that a task may read, write and delete, and what it may list; none
  # without a bucket.
  archive_object_arns = [for bucket in aws_s3_bucket.archive : "${bucket.arn}/*"]
  archive_bucket_arns = [for bucket in aws_s3_bucket.archive : bucket.arn]
}
