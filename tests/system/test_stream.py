# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A stream of requests made from the daemon's own document, each against what it promises.

For every operation, parameter and member: each constraint just met and just missed, each wrong
type, null, absence, unknown names, read-only members; then many of them at once. A model that knows
nothing but the document says which violations there are, in which order, and in which words."""

import datetime
import itertools
import json
import os
import random
import re
import urllib.parse

import pytest

from conftest import STORES, done, places, refused
from schema import CHECKS, check_answer, follow, operations

REQUESTS = int(os.environ.get("KAITEN_STREAM_REQUESTS", "300"))
SEED = int(os.environ.get("KAITEN_STREAM_SEED", "1"))
SHOWN = 16  # violations of one refusal
names = (f"name-{i}" for i in itertools.count())


# --- the model ------------------------------------------------------------------------------------

RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?"
                     r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)")

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_date_time(text):
    found = RFC3339.fullmatch(text)
    try:
        return bool(found and datetime.date.fromisoformat(found[1]))
    except ValueError:
        return False


def is_odd(body):
    """Ids are strings in the document, and UUIDs."""
    return any(body.get(name) is not None and not UUID.fullmatch(body[name])
               for name in ("id", "serviceAccountId"))


class Model:
    """What is wrong with a value, by the document alone: [(location, message)]."""

    def __init__(self, document):
        self.document = document

    def string(self, schema, value, at):
        if not isinstance(value, str):
            return [(at, "expected string")]
        found = []
        for check, sign in (("minLength", ">="), ("maxLength", "<=")):
            if check in schema and not CHECKS[check](value, schema[check]):
                found.append((at, f"expected length {sign} {schema[check]}"))
        if "pattern" in schema and not CHECKS["pattern"](value, schema["pattern"]):
            found.append((at, "expected string to match pattern " + schema["pattern"]))
        if schema.get("format") == "date-time" and not is_date_time(value):
            found.append((at, "expected string to be RFC 3339 date-time"))
        return found

    def integer(self, schema, value, at):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
            return [(at, "expected integer")]
        for check, sign in (("minimum", ">="), ("maximum", "<=")):
            if check in schema and not CHECKS[check](value, schema[check]):
                return [(at, f"expected number {sign} {schema[check]}")]
        return []

    def boolean(self, schema, value, at):
        return [] if isinstance(value, bool) else [(at, "expected boolean")]

    def array(self, schema, value, at):
        if not isinstance(value, list):
            return [(at, "expected array")]
        if len(value) > schema.get("maxItems", len(value)):
            return [(at, f"expected array length <= {schema['maxItems']}")]
        return [v for i, item in enumerate(value)
                for v in self.violations(schema["items"], item, f"{at}[{i}]")]

    def object(self, schema, value, at):
        if not isinstance(value, dict):
            return [(at, "expected object")]
        found = []
        for name, member in sorted(schema["properties"].items()):
            needed = name in schema.get("required", []) and not member.get("readOnly")
            types = member.get("type", [])
            if name not in value:
                if needed:
                    found.append((at, f"expected required property {name} to be present"))
            elif value[name] is not None or (needed and "null" not in types):
                found += self.violations(member, value[name], f"{at}.{name}")
        return found + [(f"{at}.{name}", "unexpected property") for name in value
                        if name not in schema["properties"]]

    def violations(self, schema, value, at):
        schema = dict(follow(self.document, schema),
                      **{k: v for k, v in schema.items() if k not in ("$ref", "allOf")})
        kind = schema["type"]
        if isinstance(kind, list):
            if value is None:
                return []
            kind = kind[0]
        return getattr(self, kind)(schema, value, at)

    def parameter(self, schema, value, at, is_text):
        """In a query everything is text, and nothing is the same as absence."""
        if is_text and schema["type"] == "integer":
            if value == "":
                return []
            if not re.fullmatch(r"[+-]?[0-9]+", value) or abs(int(value)) >= 2**63:
                return [(at, "invalid integer")]
            value = int(value)
        elif value is None:
            return []
        return self.violations(schema, value, at)


# --- requests -------------------------------------------------------------------------------------

ANYTHING = [None, True, 7, -1, 2.5, 3.0, "", "text", [], [None], ["x", 1], {}, {"id": "x"},
            {"id": 1, "zz": []}]
DATES = ["2099-01-01T00:00:00Z", "2099-01-01t02:00:00.5+02:00", "2099-02-29T00:00:00Z",
         "2099-01-01", "2099-01-01T00:00:00", "2099-01-01T24:00:00Z", "2099-01-01T00:00:00+24:00",
         "2001-01-01T00:00:00Z", "now", " 2099-01-01T00:00:00Z"]
TEXTS = ["a", "ab", "A", "a-", "a_b", "\u00e9\u00e9", "ab\n", "<&>"]


def candidates(document, schema):
    """Values that just meet and just miss what the schema says, and those of other types."""
    schema = follow(document, schema)
    found = list(ANYTHING)
    for check in ("minLength", "maxLength"):
        if check in schema:
            found += ["a" * n for n in range(max(schema[check] - 1, 0), schema[check] + 2)]
            found.append("\u00e9" * schema[check])
    for check in ("minimum", "maximum"):
        if check in schema:
            found += [schema[check] + d for d in (-1, 0, 1)]
    if "maxItems" in schema:
        found += [["read:tokens"] * (schema["maxItems"] + d) for d in (0, 1)]
    if "pattern" in schema:
        found += TEXTS
    if schema.get("format") == "date-time":
        found += DATES
    return found


class Operation:
    """One operation of the document: its parameters, its body, and requests to it."""

    def __init__(self, document, ident):
        self.document, self.ident = document, ident
        self.path, self.method, self.op = operations(document)[ident]
        self.model = Model(document)
        params = [follow(document, p) for p in self.op.get("parameters", [])]
        self.query = {p["name"]: p["schema"] for p in params if p["in"] == "query"}
        content = self.op.get("requestBody", {}).get("content", {}).get("application/json")
        self.schema = content and follow(document, content["schema"])
        self.example = content and content["example"]

    def base(self):
        """The members of a good body, none of which is taken yet."""
        body = dict(self.example or {})
        body.pop("slug", None)
        if "name" in body:
            body["name"] = next(names)
        return body

    def expected(self, at, query, body, door):
        found = []
        for name, schema in sorted(self.query.items()):
            if name in query:
                found += self.model.parameter(schema, query[name], "query." + name,
                                              door.name == "http")
        if self.schema:
            found += self.model.violations(self.schema, body, "body")
        return found

    def send(self, door, at, query, body):
        if door.name == "socket":
            return door.call(self.op["x-kaiten-operation"], **at, **query, **(body or {}))
        path = "/api" + self.path.format(**{k: urllib.parse.quote(v, safe="")
                                            for k, v in at.items()})
        if query:
            path += "?" + urllib.parse.urlencode(query)
        answer = door.request(self.method.upper(), path, None,
                              {"Content-Type": "application/json"} if self.schema else {},
                              raw=json.dumps(body).encode() if self.schema else None)
        check_answer(self.document, self.op, answer)
        return answer

    def check(self, door, at, query, body):
        """Sends it, and compares."""
        if isinstance(body, dict) and len(str(body.get("name"))) > 80 and "slug" not in body:
            body = dict(body, slug=next(names))  # a derived one may be longer
        expected = self.expected(at, query, body, door)
        answer = self.send(door, at, query, body)
        what = (self.ident, door.name, str(query), str(body)[:400], str(answer)[:800])
        if expected:
            assert (answer.status, answer.code) == (422, "UNPROCESSABLE"), what
            assert places(answer.body["errors"]) == expected[:SHOWN], what
            return
        rule = self.rule(at, query, body or {})
        if rule:
            assert (answer.status, answer.code) == rule, what
        else:
            assert answer.ok or answer.status == 409, what

    def rule(self, at, query, body):
        """What is refused although it is well formed."""
        if any(is_odd(body) for body in [body, *(body.get("tokens") or [])]):
            return 422, "UNPROCESSABLE"
        date = body.get("expiresAt")
        if date and date.startswith("2001"):
            return 422, "UNPROCESSABLE"
        if self.ident == "update-service-account":
            if body.get("slug") not in (None, at["serviceAccountSlug"]):
                return 422, "UpdateServiceAccount.SlugNotRenameable"
        if any(not s.startswith("read:") and not s.startswith("write:")
               for s in body.get("scopes") or []):
            return 400, "Token.InvalidScopes"
        if query.get("cursor"):
            token = "tokens" in self.ident
            return 400, f"ServiceAccount{'Tokens' if token else 's'}.InvalidCursor"
        return None


READS = ["get-service-accounts", "get-service-account-tokens"]
WRITES = ["create-service-account", "update-service-account", "create-service-account-token",
          "rotate-service-account-token", "revoke-service-account-tokens"]


@pytest.fixture(scope="session", params=STORES[:1])
def store(request):
    """What is bound has not come to a store yet: one of them will do."""
    return request.param


@pytest.fixture(scope="module")
def document(daemon):
    client = daemon.http("")
    body = client.request("GET", "/openapi.json").body
    client.close()
    return body


@pytest.fixture(scope="module")
def home(daemon):
    """Where the requests of this file go: an account with a token, in an organization apart."""
    client = daemon.http(daemon.jwt(org="org-of-the-stream"))
    account = client.call("account.create", name="Home", slug="home").body["slug"]
    client.call("token.create", serviceAccountSlug=account, name="It", slug="it", scopes=[])
    client.call("account.create", name="Spare", slug="spare")
    client.close()
    return {"serviceAccountSlug": account, "tokenSlug": "it"}


@pytest.fixture
def stream(doors):
    return doors.caller(org="org-of-the-stream")


def place_of(operation, home):
    """What ends tokens must not end the one that others ask for."""
    if operation.ident.startswith("revoke-"):
        home = dict(home, serviceAccountSlug="spare")
    return {name: home[name] for name in re.findall(r"{(\w+)}", operation.path)}


def test_every_operation_that_takes_something_is_here(document):
    """A row that is added to the table is added here, or has nothing that can be wrong."""
    for ident in operations(document):
        operation = Operation(document, ident)
        assert (ident in READS + WRITES) == bool(operation.query or operation.schema), ident


@pytest.mark.parametrize("ident", WRITES)
def test_each_member(document, stream, home, ident):
    operation = Operation(document, ident)
    at = place_of(operation, home)
    operation.check(stream, at, {}, operation.base())
    for name, schema in operation.schema["properties"].items():
        missing = operation.base()
        missing.pop(name, None)
        operation.check(stream, at, {}, missing)
        for value in candidates(document, schema):
            operation.check(stream, at, {}, dict(operation.base(), **{name: value}))
        items = follow(document, schema).get("items", {})
        if "$ref" in items:
            for inner, member in follow(document, items)["properties"].items():
                for value in candidates(document, member)[:14]:
                    item = {"name": "n", "scopes": [], inner: value}
                    operation.check(stream, at, {}, dict(operation.base(), **{name: [{}, item]}))
    for name in ("zz", "", "na me", "name.x", "\u00fcber", "constructor", "__proto__"):
        operation.check(stream, at, {}, dict(operation.base(), **{name: 1}))


@pytest.mark.parametrize("ident", WRITES)
@pytest.mark.parametrize("raw", [[], "text", 7, 1.5, True, None])
def test_a_body_that_is_no_object(document, daemon, home, ident, raw):
    operation = Operation(document, ident)
    http = daemon.http(daemon.jwt(org="org-of-the-stream"))
    operation.check(http, place_of(operation, home), {}, raw)
    http.close()


@pytest.mark.parametrize("ident", READS)
def test_each_parameter_of_a_query(document, stream, home, ident):
    operation = Operation(document, ident)
    at = place_of(operation, home)
    for name, schema in operation.query.items():
        for value in candidates(document, schema) + ["0", "1", "007", "+1", "1e1", " 1", "2" * 30]:
            if stream.name == "http":
                value = "" if value is None else str(value)
            operation.check(stream, at, {name: value}, None)
    operation.check(stream, at, {"limit": "0" if stream.name == "http" else 0, "cursor": "x"}, None)


@pytest.mark.parametrize("ident", ["get-service-account", "update-service-account",
                                   "delete-service-account", "create-service-account-token",
                                   "get-service-account-tokens", "get-service-account-token",
                                   "rotate-service-account-token", "delete-service-account-token"])
def test_each_parameter_of_a_path(document, daemon, home, ident):
    """Whatever stands there names nothing, or is no path; it is answered as declared."""
    operation = Operation(document, ident)
    http = daemon.http(daemon.jwt(org="org-of-the-stream"))
    for name in place_of(operation, home):
        for value in ("x", "A b", "\u00e9", "%", "%2e", "a/b", "\0", ".", "..", "x" * 2100, "'",
                      "?", "home\n", "HOME", "system:kaiten", "{%s}" % name):
            at = dict(place_of(operation, home), **{name: value})
            body = operation.base() if operation.schema else None
            answer = operation.send(http, at, {}, body)
            bad = value in ("a/b", "\0", ".", "..")
            empty = ident == "get-service-account-tokens" and not bad
            assert answer.status == (400 if bad else 200 if empty else 404), (at, answer)
    http.close()


@pytest.mark.parametrize("ident", ["create-service-account", "create-service-account-token",
                                   "rotate-service-account-token"])
def test_the_idempotency_key(document, daemon, home, ident):
    operation = Operation(document, ident)
    http = daemon.http(daemon.jwt(org="org-of-the-stream"))
    (key,) = [follow(document, p) for p in operation.op["parameters"] if "$ref" in p]
    for value in ("", "a", "~!", "k" * key["schema"]["maxLength"],
                  "k" * (key["schema"]["maxLength"] + 1), "a b", "\u00e9", "a\tb"):
        at = place_of(operation, home)
        path = "/api" + operation.path.format(**at)
        value = value and value + ident[0] if len(value) < 3 else value
        answer = http.request("POST", path, operation.base(),
                              {key["name"]: value.encode("latin-1")})
        good = operation.model.string(key["schema"], value, "") == []
        if good:
            assert answer.ok or answer.code == "Idempotency.KeyReused", (value, answer)
        else:
            refused(answer, 422, "Idempotency.InvalidKey")
        check_answer(document, operation.op, answer)
    http.close()


@pytest.mark.parametrize("ident", WRITES)
def test_letter_case_of_each_member(document, daemon, home, ident):
    """Any case names the member; two cases of one name are the same name twice."""
    operation = Operation(document, ident)
    http = daemon.http(daemon.jwt(org="org-of-the-stream"))
    at = place_of(operation, home)
    path = "/api" + operation.path.format(**at)
    for name, schema in operation.schema["properties"].items():
        for spelling in (name.upper(), name.lower(), name.title(), name.swapcase()):
            for value in (None, 7):
                body = operation.base()
                body[name] = value
                expected = operation.expected(at, {}, body, http)
                spelled = {spelling if k == name else k: v for k, v in body.items()}
                answer = http.request(operation.method.upper(), path, spelled)
                check_answer(document, operation.op, answer)
                if expected:
                    assert places(refused(answer, 422, "UNPROCESSABLE")) == expected
                else:
                    assert answer.ok, answer
            if spelling != name:
                answer = http.request(operation.method.upper(), path, {name: None, spelling: None})
                (error,) = refused(answer, 400, "VALIDATION", "validation failed")
                assert error["location"] == "body" and "twice" in error["message"]
    http.close()


def test_what_was_read_can_be_sent_back(document, stream, home):
    """Whole objects, as clients keep them: what is read-only is checked and dropped."""
    slug = home["serviceAccountSlug"]
    account = done(stream, stream.call("account.get", serviceAccountSlug=slug))
    Operation(document, "update-service-account").check(
        stream, {"serviceAccountSlug": slug}, {}, account)
    token = done(stream, stream.call("token.get", **home))
    token.update(name=next(names), slug=next(names), token="")
    Operation(document, "create-service-account-token").check(
        stream, {"serviceAccountSlug": slug}, {}, token)
    account.update(name=next(names), slug=next(names))
    Operation(document, "create-service-account").check(stream, {}, {}, account)


def test_many_at_once(document, stream, home):
    """KAITEN_STREAM_REQUESTS of them, of which KAITEN_STREAM_SEED chooses others."""
    rng = random.Random(SEED)
    all_of_them = [Operation(document, ident) for ident in WRITES + READS]
    pools = {}
    for operation in all_of_them:
        for name, schema in {**operation.query, **((operation.schema or {}).get("properties", {}))
                             }.items():
            pools[operation.ident, name] = candidates(document, schema)
    for _ in range(REQUESTS):
        operation = rng.choice(all_of_them)
        query, body = {}, None
        if operation.schema:
            body = operation.base()
            known = list(operation.schema["properties"])
            for name in rng.sample(known, rng.randint(0, min(len(known), 5))):
                body[name] = rng.choice(pools[operation.ident, name])
            if body and rng.random() < 0.3:
                body.pop(rng.choice(list(body)))
            if body and rng.random() < 0.3:
                body[rng.choice(["zz", "aa", "nmae"])] = rng.choice(ANYTHING)
        for name in operation.query:
            value = rng.choice(pools[operation.ident, name])
            query[name] = value if stream.name == "socket" else "" if value is None else str(value)
        operation.check(stream, place_of(operation, home), query, body)


def test_the_socket_describes_the_same(daemon, document):
    """kaiten.describe: which arguments, of which type, which must be there, and their limits."""
    rpc = daemon.rpc()
    methods = {m["name"]: m for m in rpc.call("kaiten.describe").body["methods"]}
    rpc.close()
    kinds = {"string": "string", "integer": "integer", "array": "array of string"}
    seen = 0
    for ident in operations(document):
        operation = Operation(document, ident)
        method = methods.get(operation.op["x-kaiten-operation"])
        if not method:
            continue
        told = {a["name"]: a for a in method["arguments"]}
        members = (operation.schema or {}).get("properties", {})
        written = {n: s for n, s in members.items() if not s.get("readOnly")}
        in_path = re.findall(r"{(\w+)}", operation.path)
        assert set(told) == set(in_path) | set(operation.query) | set(written), ident
        for name, schema in {**operation.query, **written}.items():
            kind = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
            kind = "date-time" if schema.get("format") == "date-time" else kinds[kind]
            low = [schema[k] for k in ("minLength", "minimum", "minItems") if k in schema]
            high = [schema[k] for k in ("maxLength", "maximum", "maxItems") if k in schema]
            assert told[name]["type"] == kind, (ident, name)
            assert told[name]["required"] == (name in (operation.schema or {}).get("required", []))
            assert [told[name].get("max")] == (high or [None]), (ident, name)
            assert told[name].get("min") == (low[0] if low else 0 if high else None)
            seen += 1
        assert all(told[name]["required"] for name in in_path)
    assert seen > 10
