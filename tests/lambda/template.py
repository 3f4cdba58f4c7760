"""template.yaml against what the code says of its table and of the build."""
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
    build(template)


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
