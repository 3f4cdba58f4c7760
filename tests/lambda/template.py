"""template.yaml against what the code says of its table, its calls and the build."""
import json
import pathlib
import tomllib

from samcli.yamlhelper import yaml_parse

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    template = yaml_parse((ROOT / "template.yaml").read_text())
    table = template["Resources"]["Table"]["Properties"]
    expected = json.loads((ROOT / "src/store/table.json").read_text())

    def keys(schema):
        return [(key["AttributeName"], key["KeyType"]) for key in schema]

    def named(schema):
        return [(key["name"], key["role"]) for key in schema]

    assert table["BillingMode"] == expected["billing"]
    assert keys(table["KeySchema"]) == named(expected["key_schema"])
    assert table["TimeToLiveSpecification"] == {"AttributeName": expected["ttl_attribute"], "Enabled": True}
    indexes = {
        index["IndexName"]: (keys(index["KeySchema"]), dict(index["Projection"]))
        for index in table["GlobalSecondaryIndexes"]
    }
    assert indexes == {
        index["name"]: (named(index["keys"]), {
            "ProjectionType": index["projection"]["type"],
            "NonKeyAttributes": index["projection"]["attributes"],
        })
        for index in expected["indexes"]
    }, indexes
    parts = [expected["key_schema"], *(index["keys"] for index in expected["indexes"])]
    types = {key["name"]: key["type"] for part in parts for key in part}
    assert {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]} == types
    print("ok   template.yaml has the table of src/store/table.json")
    calls(template)
    build(template)


# What SAM lets a function do that is mapped to a queue.
OF_MAPPED_QUEUES = {"sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}


def calls(template):
    """The function's statements are what the code calls: no more, no less, and
    only tracing is not of things that are named."""
    wanted = set(json.loads((ROOT / "deploy/actions.json").read_text())["lambda"])
    assert OF_MAPPED_QUEUES <= wanted
    (policy,) = template["Resources"]["Function"]["Properties"]["Policies"]
    given = []
    for statement in policy["Statement"]:
        # One that depends on a parameter is looked at as if it applied.
        statement = statement.get("Fn::If", [None, statement])[1]
        assert statement["Effect"] == "Allow" and "NotAction" not in statement and "NotResource" not in statement, statement
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        given += actions
        services = {action.split(":")[0] for action in actions}
        assert len(services) == 1, f"one statement for several services: {services}"
        assert (statement["Resource"] == "*") == (services == {"xray"}), statement
    assert len(given) == len(set(given)), sorted(given)
    missing, unused = wanted - OF_MAPPED_QUEUES - set(given), set(given) - (wanted - OF_MAPPED_QUEUES)
    assert not missing and not unused, f"template.yaml lacks {missing}, and the code does not call {unused}"
    print("ok   template.yaml allows what deploy/actions.json lists")


def build(template):
    """`sam build` knows --release alone, and has to make `dist` of it."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    dist, build = manifest["profile"]["dist"], manifest["package"]["metadata"]["lambda"]["build"]
    assert dist.pop("inherits") == "release"
    given = tomllib.loads("\n".join(build["config"]))["profile"]["release"]
    assert given == dist, (given, dist)
    # Or cargo-lambda's own settings would come after these.
    assert build["disable_optimizations"] and build["no_default_features"], build
    # Which SAM would leave out without a word.
    assert set(template["Resources"]["Function"]["Metadata"]["BuildProperties"]) == {"Binary"}
    print("ok   sam build builds the profile dist")
    variables = template["Resources"]["Function"]["Properties"]["Environment"]["Variables"]
    shown = (ROOT / "docs/deploy.md").read_text().split("```json\n")[1].split("```")[0]
    unknown = set(json.loads(shown)["Function"]) - set(variables)
    assert not unknown, f"`sam local` does not set what template.yaml does not name: {unknown}"
    print("ok   docs/deploy.md sets what template.yaml names")


main()
