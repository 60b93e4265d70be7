# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""/openapi.json against what the reference publishes of itself, where that is at hand."""

import json
import os
import pathlib
import re

import pytest

from conftest import REASONS, SOURCE, done
from schema import operations

CONTRACT = pathlib.Path(os.environ.get("KAITEN_CONTRACT", SOURCE / "../shared/contract"))


def published(name):
    path = CONTRACT / name
    if not path.exists():
        pytest.skip(f"{path} is not there (KAITEN_CONTRACT)")
    return json.loads(path.read_text())


@pytest.fixture
def document(daemon):
    client = daemon.http()
    yield client.request("GET", "/openapi.json").body
    client.close()


def test_endpoints_of_the_reference(document):
    """Its operations: id, method, path, scope, parameters and their limits, statuses, codes."""
    seen = 0
    for theirs in published("kaiten-endpoints.json"):
        if theirs["surface"] != "core" or not theirs["operationId"]:
            continue
        path, method, op = operations(document)[theirs["operationId"]]
        seen += 1
        assert ("/api" + path, method.upper()) == (theirs["path"], theirs["method"])
        assert op["security"] == [{"bearerAuth": [theirs["scope"]]}]
        assert set(theirs["responses"]) <= set(op["responses"]), theirs["operationId"]
        params = {p["name"]: p for p in op.get("parameters", []) if "name" in p}
        assert list(params) == [p["name"] for p in theirs["params"]]
        for p in theirs["params"]:
            mine = params[p["name"]]
            assert (mine["in"], mine.get("required", False)) == (p["in"], p["required"])
            for limit in ("type", "minimum", "maximum", "default"):
                assert mine["schema"].get(limit) == p.get(limit), (p["name"], limit)
        for what, node in ((theirs["request"], op.get("requestBody")),
                           (next(iter(theirs["responses"].values())),
                            next(iter(op["responses"].values())))):
            name = (what or {}).get("schema")
            content = (node or {}).get("content", {}).get("application/json", {})
            mine = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            page = re.fullmatch("Page<(.*)>", name or "")
            assert mine == (page[1] + "Page" if page else name or ""), theirs["operationId"]
    assert seen == 7


@pytest.mark.parametrize("name", ["User", "Token", "PlainToken", "ServiceAccount", "Page",
                                  "ErrorDetail", "Problem"])
def test_schemas_of_the_reference(document, name):
    """Members, their order, what is required; ours may have limits where theirs have none."""
    theirs = published("kaiten-schemas.json")["schemas"][name]
    for ours in ([name] if name != "Page" else ["TokenPage", "ServiceAccountPage"]):
        schema = document["components"]["schemas"][ours]
        members = schema["properties"]
        added = [m for m in members if m not in theirs["wireOrder"]]
        assert list(members) == theirs["wireOrder"] + added
        assert added == {"ServiceAccount": ["tokensTruncated"], "Token": ["lastUsedAt"],
                         "PlainToken": ["lastUsedAt"], "Problem": ["retryAfter"]}.get(name, [])
        assert schema.get("required", []) == theirs.get("required", [])
        assert schema["additionalProperties"] is theirs.get("additionalProperties", False)
        for member, wanted in theirs.get("properties", {}).items():
            mine = members[member]
            for key in ("type", "minLength", "pattern", "format", "readOnly"):
                assert mine.get(key) == wanted.get(key), (member, key)
            if "maxLength" in wanted:
                assert mine["maxLength"] == wanted["maxLength"]
            if "$ref" in wanted:
                assert mine["allOf"] == [{"$ref": "#/components/schemas/" + wanted["$ref"]}]


def test_modules_of_the_reference(door):
    theirs = published("kaiten-schemas.json")["scopes"]
    modules = done(door, door.call("scopes"))["modules"]
    assert modules == theirs["modules"] + theirs["newerModules"]


def test_kinds_of_problems_of_the_reference():
    for status, uri in published("kaiten-schemas.json")["problemTypes"].items():
        if status != "default":
            assert REASONS[int(status)][1] == uri
