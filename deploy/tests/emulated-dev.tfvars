# dev.tfvars on Fargate: no certificate, one NAT gateway, no interface endpoint, no
# Container Insights. Its HTTP API and its NAT instance are in plans alone (`plan
# stack`): the emulator answers for an API under a name of its own, and its instances
# have no network interface that was made before.

environment   = "dev"
hosting       = "fargate"
load_balancer = true
nat           = "gateway"
budget_usd    = 50
