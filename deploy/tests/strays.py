"""Deletes what the emulator holds in the stack's VPC and Terraform does not know.

Usage: strays.py STATE.json. On a loaded machine a connection to the emulator may
break after it has made something; the provider repeats the call, and a second one
is made, which later keeps the VPC from being deleted. AWS tells repetitions by
their tokens; the emulator does not.
"""

import json
import sys

import boto3

state = json.load(open(sys.argv[1]))["values"]["root_module"]["resources"]
known = {resource["values"].get("id") for resource in state}
vpc = next(resource["values"]["id"] for resource in state if resource["address"] == "aws_vpc.main")
ec2 = boto3.client("ec2")
within = [{"Name": "vpc-id", "Values": [vpc]}]

for endpoint in ec2.describe_vpc_endpoints(Filters=within)["VpcEndpoints"]:
    if endpoint["VpcEndpointId"] not in known:
        print("stray", endpoint["VpcEndpointId"])
        ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
for gateway in ec2.describe_nat_gateways(Filters=within)["NatGateways"]:
    if gateway["NatGatewayId"] not in known and gateway["State"] != "deleted":
        print("stray", gateway["NatGatewayId"])
        ec2.delete_nat_gateway(NatGatewayId=gateway["NatGatewayId"])
for subnet in ec2.describe_subnets(Filters=within)["Subnets"]:
    if subnet["SubnetId"] not in known:
        print("stray", subnet["SubnetId"])
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
for table in ec2.describe_route_tables(Filters=within)["RouteTables"]:
    if table["RouteTableId"] not in known and not any(association.get("Main") for association in table["Associations"]):
        print("stray", table["RouteTableId"])
        ec2.delete_route_table(RouteTableId=table["RouteTableId"])
for group in ec2.describe_security_groups(Filters=within)["SecurityGroups"]:
    if group["GroupId"] not in known and group["GroupName"] != "default":
        print("stray", group["GroupId"])
        ec2.delete_security_group(GroupId=group["GroupId"])
