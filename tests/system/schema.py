# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Reading the daemon's own OpenAPI document: its operations, and a validator of its schemas."""

import datetime
import re


def no_repeats(pairs):
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), names
    return dict(pairs)


def operations(document):
    """operationId: (path, method, operation)."""
    return {op["operationId"]: (path, method, op) for path, item in document["paths"].items()
            for method, op in item.items()}


def follow(document, node):
    while "$ref" in node or "allOf" in node:
        if "allOf" in node:
            (node,) = node["allOf"]
            continue
        at = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            at = at[step]
        node = at
    return node


TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
         "number": float, "null": type(None)}
CHECKS = {
    "minLength": lambda v, n: len(v) >= n, "maxLength": lambda v, n: len(v) <= n,
    "pattern": lambda v, p: re.search(p.replace("$", r"\Z"), v) is not None,
    "minimum": lambda v, n: v >= n, "maximum": lambda v, n: v <= n,
    "minItems": lambda v, n: len(v) >= n, "maxItems": lambda v, n: len(v) <= n,
}
NOTES = {"description", "examples", "readOnly", "default", "$ref", "type", "format", "items",
         "properties", "required", "additionalProperties", "allOf"}


def is_instant(text):
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).tzinfo is not None
    except ValueError:
        return False


def faults(document, schema, value, sent=False, at=""):
    """What is wrong with the value. sent: in a request, where read-only members need not be."""
    schema = dict(follow(document, schema), **{k: v for k, v in schema.items() if k != "$ref"})
    assert set(schema) <= NOTES | set(CHECKS), set(schema) - NOTES - set(CHECKS)
    types = schema.get("type", list(TYPES))
    types = [types] if isinstance(types, str) else types
    kinds = [t for t in types if isinstance(value, TYPES[t])
             and (t != "integer" or not isinstance(value, bool))]
    if not kinds:
        return [f"{at}: no {types}: {value!r}"]
    found = [f"{at}: {check} {bound}: {value!r}" for check, bound in schema.items()
             if check in CHECKS and value is not None and not CHECKS[check](value, bound)]
    if schema.get("format") == "date-time" and not is_instant(value):
        found.append(f"{at}: no date-time: {value!r}")
    if isinstance(value, list):
        for i, item in enumerate(value):
            found += faults(document, schema.get("items", {}), item, sent, f"{at}[{i}]")
    if isinstance(value, dict) and "properties" in schema:
        members = schema["properties"]
        found += [f"{at}: unexpected {name}" for name in value if name not in members]
        found += [f"{at}: lacks {name}" for name in schema.get("required", [])
                  if name not in value and not (sent and members[name].get("readOnly"))]
        for name, inner in value.items():
            if sent and inner is None and (name not in schema.get("required", [])
                                           or members[name].get("readOnly")):
                continue  # the same as its absence
            found += faults(document, members.get(name, {}), inner, sent, f"{at}.{name}")
        known = [name for name in value if name in members]
        if not sent and known != [name for name in members if name in value]:
            found.append(f"{at}: order: {known}")
    return found


def check_answer(document, op, answer):
    """That an answer is one of those which the operation declares, and looks like it."""
    responses = op["responses"]
    assert answer.status in range(400, 500) or str(answer.status) in responses, answer
    content = follow(document, responses.get(str(answer.status), responses["4XX"]))
    content = content.get("content", {})
    if answer.status == 204:
        assert not content and answer.body == b""
        return
    kind = answer.headers["Content-Type"]
    assert kind in content, (kind, answer)
    if "json" in kind:
        assert faults(document, content[kind]["schema"], answer.body) == [], answer
