# How many tasks run: the highest count that any of these policies asks for.

locals {
  scaled = { for name, service in local.fargate_services : name => service if local.on_aws.autoscaling }
}

resource "aws_appautoscaling_target" "service" {
  for_each           = local.scaled
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.main[each.key].name}"
  min_capacity       = each.value.tasks.min
  max_capacity       = each.value.tasks.max
}

resource "aws_appautoscaling_policy" "cpu" {
  for_each           = aws_appautoscaling_target.service
  name               = "cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = each.value.service_namespace
  scalable_dimension = each.value.scalable_dimension
  resource_id        = each.value.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_appautoscaling_policy" "memory" {
  for_each           = aws_appautoscaling_target.service
  name               = "memory"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = each.value.service_namespace
  scalable_dimension = each.value.scalable_dimension
  resource_id        = each.value.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 75
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageMemoryUtilization"
    }
  }
}

resource "aws_appautoscaling_policy" "requests" {
  for_each           = { for name, target in aws_appautoscaling_target.service : name => target if name == "api" }
  name               = "requests-per-task"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = each.value.service_namespace
  scalable_dimension = each.value.scalable_dimension
  resource_id        = each.value.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.requests_per_task
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = "${local.alb.arn_suffix}/${aws_lb_target_group.api[0].arn_suffix}"
    }
  }
}

# Waiting messages of all queues, for each running worker.
resource "aws_appautoscaling_policy" "backlog" {
  for_each           = { for name, target in aws_appautoscaling_target.service : name => target if name == "worker" }
  name               = "backlog-per-worker"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = each.value.service_namespace
  scalable_dimension = each.value.scalable_dimension
  resource_id        = each.value.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.backlog_per_worker
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    customized_metric_specification {
      dynamic "metrics" {
        for_each = aws_sqs_queue.main
        content {
          id          = metrics.key
          return_data = false

          metric_stat {
            stat = "Maximum"

            metric {
              namespace   = "AWS/SQS"
              metric_name = "ApproximateNumberOfMessagesVisible"

              dimensions {
                name  = "QueueName"
                value = metrics.value.name
              }
            }
          }
        }
      }

      # Without Container Insights: each running task reports its CPU once a minute.
      metrics {
        id          = "running"
        return_data = false

        metric_stat {
          stat = var.container_insights ? "Average" : "SampleCount"

          metric {
            namespace   = var.container_insights ? "ECS/ContainerInsights" : "AWS/ECS"
            metric_name = var.container_insights ? "RunningTaskCount" : "CPUUtilization"

            dimensions {
              name  = "ClusterName"
              value = aws_ecs_cluster.main.name
            }

            dimensions {
              name  = "ServiceName"
              value = aws_ecs_service.main["worker"].name
            }
          }
        }
      }

      metrics {
        id          = "backlog_per_worker"
        label       = "Waiting messages per running worker"
        expression  = "(${join(" + ", keys(aws_sqs_queue.main))}) / IF(running > 0, running, 1)"
        return_data = true
      }
    }
  }
}
