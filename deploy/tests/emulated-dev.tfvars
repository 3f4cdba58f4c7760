# As dev.tfvars has it: no certificate, one NAT gateway, no interface endpoint.

environment = "dev"
