"""Checks that bad input is told what to set, and that each refusal is tested.

Usage: messages.py DEPLOY_DIR. Every message of variables.tf and inputs.tf must say
what to set; every variable with a validation must be refused in
tests/inputs.tftest.hcl, and so must as many combinations as inputs.tf has
preconditions.
"""

import re
import sys

deploy = sys.argv[1]
variables = open(f"{deploy}/variables.tf").read()
inputs = open(f"{deploy}/inputs.tf").read()
tests = open(f"{deploy}/tests/inputs.tftest.hcl").read()

messages = re.findall(r'^ *error_message = "(.*)"$', variables + inputs, re.M)
wrong = [f"does not say what to set: {message}" for message in messages if not re.search(r"\b[Ss]et ", message)]

validated = {
    block.split('"')[1] for block in re.findall(r"^variable .*?^}", variables, re.M | re.S) if "validation {" in block
}
refused = {name for names in re.findall(r"expect_failures = \[(.*?)\]", tests, re.S) for name in re.findall(r"var\.(\w+)", names)}
wrong += [f"no run of inputs.tftest.hcl refuses {name}" for name in sorted(validated - refused)]

preconditions = inputs.count("precondition {")
together = tests.count("expect_failures = [terraform_data.inputs]")
if together < preconditions:
    wrong.append(f"inputs.tf has {preconditions} preconditions, inputs.tftest.hcl fails {together}")

print("\n".join(wrong) or f"messages: {len(messages)} say what to set, {len(validated)} variables are refused")
sys.exit(bool(wrong))
