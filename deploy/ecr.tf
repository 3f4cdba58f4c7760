# The repository of the one image.

resource "aws_ecr_repository" "main" {
  name                 = local.prefix
  image_tag_mutability = "IMMUTABLE"
  force_delete         = !var.deletion_protection

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.data.arn
  }
}

resource "aws_ecr_lifecycle_policy" "main" {
  repository = aws_ecr_repository.main.name
  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Untagged layers go after a week"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 7 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        # An image, then its signature, then the attestation of what is in it: by age,
        # an image goes before what speaks for it, never after.
        description = "The last 50 images stay, for rolling back, with signature and attestation"
        selection   = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 150 }
        action      = { type = "expire" }
      },
    ]
  })
}

# Lambda pulls images by itself, for its own functions only.
resource "aws_ecr_repository_policy" "main" {
  count      = local.lambda ? 1 : 0
  repository = aws_ecr_repository.main.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "LambdaPulls"
      Effect    = "Allow"
      Principal = { Service = "lambda.${local.dns_suffix}" }
      Action    = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      Condition = { ArnLike = { "aws:SourceArn" = "arn:${local.partition}:lambda:${var.region}:${local.account_id}:function:${local.prefix}" } }
    }]
  })
}

locals {
  image = "${aws_ecr_repository.main.repository_url}:${var.image_tag}"
}
