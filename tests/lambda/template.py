"""template.yaml against what the code says of its table."""
import json
import pathlib

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


main()
