# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""/openapi.json and /docs: what is published of the interface, against what the daemon does."""

import html.parser
import http.client
import json
import re
import subprocess
import urllib.parse

import pytest

from conftest import KAITENCTL, PATIENCE, SOURCE
from schema import check_answer, faults, follow, no_repeats, operations

ACCOUNTS = "/service-accounts"
ACCOUNT = ACCOUNTS + "/{serviceAccountSlug}"
TOKENS = ACCOUNT + "/tokens"
TOKEN = TOKENS + "/{tokenSlug}"
# operationId: method, path, scope, status, what it answers with, what it takes
OPERATIONS = {
    "create-service-account": ("post", ACCOUNTS, "write:tokens", "201", "ServiceAccount",
                               "ServiceAccount"),
    "get-service-accounts": ("get", ACCOUNTS, "read:tokens", "200", "ServiceAccountPage", None),
    "get-service-account": ("get", ACCOUNT, "read:tokens", "200", "ServiceAccount", None),
    "update-service-account": ("put", ACCOUNT, "write:tokens", "204", None, "ServiceAccount"),
    "delete-service-account": ("delete", ACCOUNT, "write:tokens", "204", None, None),
    "create-service-account-token": ("post", TOKENS, "write:tokens", "201", "PlainToken",
                                     "PlainToken"),
    "get-service-account-tokens": ("get", TOKENS, "read:tokens", "200", "TokenPage", None),
    "get-service-account-token": ("get", TOKEN, "read:tokens", "200", "Token", None),
    "rotate-service-account-token": ("post", TOKEN + "/rotate", "write:tokens", "200",
                                     "PlainToken", "TokenRotate"),
    "delete-service-account-token": ("delete", TOKEN, "write:tokens", "204", None, None),
    "revoke-service-account-tokens": ("post", TOKENS + "/revoke", "write:tokens", "200",
                                      "Revocation", "TokenRevokeAll"),
    "validate-token": ("get", "/tokens/validate", "", "200", None, None),
    "get-caller": ("get", "/whoami", "", "200", "Caller", None),
    "get-scopes": ("get", "/scopes", "", "200", "ScopeList", None),
    "get-health": ("get", "/healthz", None, "200", "Health", None),
    "get-readiness": ("get", "/readyz", None, "200", "Readiness", None),
    "get-keys": ("get", "/.well-known/jwks.json", None, "200", None, None),
    "get-metrics": ("get", "/metrics", None, "200", None, None),
    "get-openapi": ("get", "/openapi.json", None, "200", None, None),
    "get-docs": ("get", "/docs", None, "200", None, None),
    "get-docs-style": ("get", "/docs/style.css", None, "200", None, None),
}
# What the reference declares for its seven operations.
DECLARED = {
    "create-service-account": "400 401 403 404 409 422 500 503",
    "get-service-accounts": "400 401 403 404 422 500",
    "get-service-account": "400 401 403 404 422 500",
    "update-service-account": "400 401 403 404 422 500",
    "create-service-account-token": "400 401 403 404 409 422 500 503",
    "get-service-account-tokens": "400 401 403 404 422 500",
    "delete-service-account-token": "400 401 403 404 422 500",
}
SLUG = {"type": "string", "minLength": 2, "maxLength": 100,
        "pattern": "^[a-z0-9][a-z0-9-]*[a-z0-9]$"}
TEXT = {"type": "string"}
# Code that was generated from the reference's document has 64 bits for it.
NUMBER = {"type": "integer", "format": "int64", "minimum": None}
SAID = {"type": "string", "readOnly": True}
WHEN = {"type": "string", "format": "date-time"}
SAID_WHEN = dict(WHEN, readOnly=True)
WHO = {"allOf": [{"$ref": "#/components/schemas/User"}], "readOnly": True}
TOKEN_MEMBERS = {
    "id": SAID, "name": TEXT, "slug": SLUG,
    "scopes": {"type": ["array", "null"], "items": TEXT}, "serviceAccountId": SAID,
    "expiresAt": WHEN, "createdAt": SAID_WHEN, "createdBy": WHO, "revokedAt": SAID_WHEN,
    "revokedBy": WHO,
}
# The reference's objects: members in the order of the wire, and those that must be there.
OBJECTS = {
    "User": ({"id": TEXT, "name": TEXT}, ["id"]),
    "Token": (TOKEN_MEMBERS, ["name", "scopes", "createdAt", "createdBy"]),
    "PlainToken": (dict(TOKEN_MEMBERS, token=SAID), ["name", "scopes", "createdAt", "createdBy"]),
    "ServiceAccount": ({
        "id": SAID, "name": {"type": "string", "minLength": 1}, "slug": SLUG, "externalId": SAID,
        "createdBy": WHO, "createdAt": SAID_WHEN,
        "tokens": {"type": ["array", "null"], "readOnly": True,
                   "items": {"$ref": "#/components/schemas/Token"}},
    }, ["name", "tokens"]),
    "ServiceAccountPage": ({
        "items": {"type": "array", "items": {"$ref": "#/components/schemas/ServiceAccount"}},
        "nextCursor": TEXT, "hasMore": {"type": "boolean"},
    }, ["items", "hasMore"]),
    "TokenPage": ({
        "items": {"type": "array", "items": {"$ref": "#/components/schemas/Token"}},
        "nextCursor": TEXT, "hasMore": {"type": "boolean"},
    }, ["items", "hasMore"]),
    "ErrorDetail": ({"message": TEXT, "location": TEXT, "value": {}}, []),
    "Problem": ({
        "type": TEXT, "title": TEXT, "status": NUMBER, "detail": TEXT,
        "instance": TEXT, "code": TEXT, "errorId": TEXT,
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/ErrorDetail"}},
    }, []),
}
# Members that are ours, said only when there is something to say.
ADDED = {"ServiceAccount": ["tokensTruncated"],
         "Problem": ["retryAfter"], "Token": ["lastUsedAt"], "PlainToken": ["lastUsedAt"]}
POLICY = ("default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
          "frame-ancestors 'none'")
PUBLISHED = [("/openapi.json", "application/json"), ("/docs", "text/html; charset=utf-8"),
             ("/docs/style.css", "text/css; charset=utf-8")]


def fetch(daemon, path, method="GET", **headers):
    """Without any credential: status, headers, bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


@pytest.fixture(scope="module")
def document(daemon):
    status, _, body = fetch(daemon, "/openapi.json")
    assert status == 200
    return json.loads(body, object_pairs_hook=no_repeats)


@pytest.fixture(scope="module")
def page(daemon):
    return fetch(daemon, "/docs")[2].decode()


def everywhere(node):
    yield node
    for inner in node.values() if isinstance(node, dict) else node:
        if isinstance(inner, (dict, list)):
            yield from everywhere(inner)


def test_validator_finds_faults(document):
    token = {"$ref": "#/components/schemas/Token"}
    good = {"name": "n", "slug": "ab", "scopes": None, "createdAt": "2029-01-01T00:00:00Z",
            "createdBy": {"id": "x"}}
    assert faults(document, token, good) == []
    for change in ({"slug": "A"}, {"slug": "a" * 101}, {"scopes": [1]}, {"createdAt": "now"},
                   {"createdBy": {}}, {"revokedBy": {"id": "x", "y": 1}}, {"name": None}):
        assert faults(document, token, dict(good, **change)), change
    assert faults(document, token, {"name": "n", "scopes": []})
    assert faults(document, token, {"name": "n", "scopes": []}, sent=True) == []


# --- the document ---------------------------------------------------------------------------------

def test_document_says_what_it_is(document):
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": "/api"}]
    assert document["info"]["title"] and document["info"]["version"]
    # With it, tools that do not know the dialect validate nothing, and say nothing.
    assert "jsonSchemaDialect" not in document
    assert "$schema" not in json.dumps(document)


def test_document_has_every_operation(document):
    found = {}
    for ident, (path, method, op) in operations(document).items():
        scope = op["security"][0]["bearerAuth"] if op["security"] else [None]
        good = [s for s in op["responses"] if s.startswith("2")]
        answer = op["responses"][good[0]].get("content", {}).get("application/json", {})
        body = op.get("requestBody", {}).get("content", {}).get("application/json", {})
        names = [node.get("schema", {}).get("$ref", "").rpartition("/")[2] or None
                 for node in (answer, body)]
        assert len(good) == 1 and len(scope) <= 1
        found[ident] = (method, path, scope[0] if scope else "", good[0], *names)
    assert found == OPERATIONS


def test_document_has_every_method_of_the_socket_that_is_on_http(daemon, document):
    described = {m["name"]: m for m in daemon.rpc().call("kaiten.describe").body["methods"]}
    for _, _, op in operations(document).values():
        method = described.get(op["x-kaiten-operation"])
        if method is None:
            continue
        assert method["doc"] == op["summary"]
        scopes = op["security"][0]["bearerAuth"] if op["security"] else []
        assert scopes == ([method["scope"]] if method["scope"] else [])
    listed = {op["x-kaiten-operation"] for _, _, op in operations(document).values()}
    assert set(described) - listed == {"token.verify", "token.verifyMany", "kaiten.ping",
                                       "kaiten.hello", "kaiten.describe", "store.check",
                                       "store.backup", "store.export", "store.read", "store.drop",
                                       "key.list", "key.rotate", "key.retire"}


def test_document_declares_what_the_reference_declares(document):
    for ident, statuses in DECLARED.items():
        responses = operations(document)[ident][2]["responses"]
        assert set(statuses.split()) <= set(responses), ident


def test_refusals_are_problems(document):
    for ident, (_, _, op) in operations(document).items():
        refusals = {s: r for s, r in op["responses"].items() if s[0] in "45"}
        assert {"500", "4XX"} <= set(refusals), ident
        assert list(op["responses"]) == sorted(op["responses"], key=lambda s: (s[1] == "X", s))
        for status, response in refusals.items():
            content = follow(document, response)["content"]
            assert list(content) == ["application/problem+json"]
            content = content["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for code, example in content.get("examples", {}).items():
                assert (str(example["value"]["status"]), example["value"]["code"]) == (status, code)


@pytest.mark.parametrize("name", OBJECTS)
def test_schemas_agree_with_the_reference(document, name):
    members, required = OBJECTS[name]
    schema = document["components"]["schemas"][name]
    assert schema["type"] == "object" and schema["additionalProperties"] is False
    assert schema.get("required", []) == required
    assert list(schema["properties"]) == list(members) + ADDED.get(name, [])
    for member, expected in members.items():
        found = schema["properties"][member]
        assert {k: found.get(k) for k in expected} == expected, member
        assert found.get("readOnly", False) == expected.get("readOnly", False), member
        assert found["description"]


def test_references_lead_somewhere_and_nothing_is_left_over(document):
    used = set()
    for node in everywhere(document):
        if isinstance(node, dict) and "$ref" in node:
            follow(document, node)
            used.add(node["$ref"])
    for kind in ("schemas", "parameters", "responses"):
        for name in document["components"][kind]:
            assert f"#/components/{kind}/{name}" in used, name


def test_parameters_are_those_of_the_path(document):
    for ident, (path, _, op) in operations(document).items():
        params = [follow(document, p) for p in op.get("parameters", [])]
        in_path = [p["name"] for p in params if p["in"] == "path"]
        assert in_path == re.findall(r"{(\w+)}", path), ident
        assert all(p["required"] for p in params if p["in"] == "path")
        for p in params:
            if "example" in p:
                assert faults(document, p["schema"], p["example"]) == []
    limit = [p for p in operations(document)["get-service-accounts"][2]["parameters"]
             if p["name"] == "limit"]
    assert limit[0]["schema"] == {"type": "integer", "format": "int32", "minimum": 1,
                                  "maximum": 200, "default": 50}


def test_examples_are_valid(document):
    count = 0
    for ident, (_, _, op) in operations(document).items():
        bodies = [(op["requestBody"], True)] if "requestBody" in op else []
        bodies += [(follow(document, r), False) for r in op["responses"].values()]
        for body, sent in bodies:
            for media in body.get("content", {}).values():
                examples = [e["value"] for e in media.get("examples", {}).values()]
                examples += [media["example"]] if "example" in media else []
                for example in examples:
                    assert faults(document, media["schema"], example, sent) == [], ident
                    count += 1
    for schema in document["components"]["schemas"].values():
        for member in schema["properties"].values():
            for example in member.get("examples", []):
                assert faults(document, member, example) == []
    assert count > 100


def test_scopes_are_published(daemon, document):
    scheme = document["components"]["securitySchemes"]["bearerAuth"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    scopes = scheme["x-kaiten-scopes"]
    assert scopes == sorted(scopes) and len(scopes) == 30
    assert scopes == daemon.http().call("scopes").body["scopes"]


def test_scopes_follow_the_configuration(own_daemon):
    d = own_daemon("storage-memory", daemon="module = tokens\nmodule = rockets").start()
    body = json.loads(fetch(d, "/openapi.json")[2])
    assert body["components"]["securitySchemes"]["bearerAuth"]["x-kaiten-scopes"] == [
        "read:rockets", "read:tokens", "write:rockets", "write:tokens"]


# --- against what the daemon does -----------------------------------------------------------------

class Checked:
    """Sends what an operation describes, and checks the answer against the document."""

    def __init__(self, document, client):
        self.document, self.client = document, client

    def send(self, ident, body=None, query="", token=None, **path):
        route, method, op = operations(self.document)[ident]
        for name, value in path.items():
            route = route.replace("{%s}" % name, value)
        headers = {} if token is None else {"Authorization": token}
        answer = self.client.request(method.upper(), "/api" + route + query, body, headers)
        assert str(answer.status) in op["responses"], (ident, answer)
        check_answer(self.document, op, answer)
        return answer


@pytest.fixture
def checked(daemon, document, org):
    return Checked(document, daemon.http(daemon.jwt(org=org)))


def test_answers_are_as_described(checked):
    send = checked.send
    account = send("create-service-account", {"name": "Build Farm"}).body["slug"]
    here = {"serviceAccountSlug": account}
    wish = {"name": "Nightly", "scopes": ["read:licenses"], "expiresAt": "2030-01-01T00:00:00Z"}
    minted = send("create-service-account-token", wish, **here).body
    there = dict(here, tokenSlug=minted["slug"])
    assert send("validate-token", token="Bearer " + minted["token"]).status == 200
    for ident in ("get-service-accounts", "get-service-account", "get-service-account-tokens",
                  "get-service-account-token", "get-caller", "get-scopes", "get-health",
                  "get-readiness", "get-metrics", "get-keys", "get-openapi", "get-docs",
                  "get-docs-style"):
        params = dict(there) if ident == "get-service-account-token" else dict(here)
        assert send(ident, **params).status == 200, ident
    whole = send("get-service-account", **here).body
    assert send("update-service-account", dict(whole, name="Farm"), **here).status == 204
    assert send("rotate-service-account-token", {"gracePeriodSeconds": 60}, **there).ok
    assert send("delete-service-account-token", **there).status == 204
    revoked = send("get-service-account-token", **there).body
    assert {"revokedAt", "revokedBy"} <= set(revoked)
    assert send("delete-service-account", **here).status == 204


def test_refusals_are_as_described(checked, daemon):
    send = checked.send
    account = send("create-service-account", {"name": "Build Farm"}).body["slug"]
    here = {"serviceAccountSlug": account}
    there = dict(here, tokenSlug="absent")
    nobody = {"serviceAccountSlug": "absent", "tokenSlug": "absent"}
    none = {"name": "n", "scopes": []}
    refusals = [
        (409, send("create-service-account", {"name": "x", "slug": account})),
        (422, send("create-service-account", {"name": ""})),
        (400, send("create-service-account")),
        (400, send("get-service-accounts", query="?cursor=x")),
        (422, send("get-service-accounts", query="?limit=0")),
        (404, send("get-service-account", **nobody)),
        (422, send("update-service-account", {"name": "x", "slug": "other"}, **here)),
        (404, send("create-service-account-token", none, **nobody)),
        (400, send("create-service-account-token", dict(none, scopes=["x"]), **here)),
        (404, send("get-service-account-token", **there)),
        (404, send("delete-service-account-token", **there)),
        (404, send("rotate-service-account-token", {}, **there)),
        (401, send("validate-token", token="Bearer ksh_x")),
        (401, send("get-caller", token="Basic x")),
        (401, send("get-scopes", token="Bearer x.y.z")),
    ]
    assert [a.status for _, a in refusals] == [status for status, _ in refusals]
    poor = "Bearer " + daemon.jwt(scopes=[])
    for ident, (_, _, scope, _, _, body) in OPERATIONS.items():
        if scope:
            answer = send(ident, none if body == "PlainToken" else {"name": "n"}
                          if body == "ServiceAccount" else None, token=poor, **there)
            assert (answer.status, answer.code) == (403, "Auth.MissingScope"), ident


def bodies(document):
    """(operationId, member, schema) of what can be sent."""
    for ident, (_, _, op) in operations(document).items():
        if "requestBody" not in op:
            continue
        media = op["requestBody"]["content"]["application/json"]
        for name, member in follow(document, media["schema"])["properties"].items():
            if not member.get("readOnly"):
                yield ident, name, member, media["example"]


def bounds(member):
    """Values that just meet and just miss each limit of a member."""
    if "maxLength" in member:
        yield "a" * member["maxLength"], True
        yield "a" * (member["maxLength"] + 1), False
    if "minLength" in member:
        yield "a" * member["minLength"], True
        yield "a" * (member["minLength"] - 1), False
    if "maximum" in member:
        yield member["maximum"], True
        yield member["maximum"] + 1, False
        yield member["minimum"], True
        yield member["minimum"] - 1, False
    if "maxItems" in member:
        yield ["read:licenses"] * member["maxItems"], True
        yield ["read:licenses"] * (member["maxItems"] + 1), False
    if "pattern" in member:
        yield "ab-", False
        yield "A-b", False
    if member.get("format") == "date-time":
        yield "2030-01-01T00:00:00+02:00", True
        yield "2030-01-01", False


def test_constraints_are_those_of_the_daemon(checked, document):
    tried = 0
    for ident, name, member, example in bodies(document):
        for value, good in bounds(member):
            assert (faults(document, member, value, sent=True) == []) == good
            here = {"serviceAccountSlug": checked.send("create-service-account",
                                                       {"name": "n"}).body["slug"]}
            there = {"name": "n", "scopes": []}
            here["tokenSlug"] = checked.send("create-service-account-token", there,
                                             **here).body["slug"]
            body = dict(example, **{name: value})
            if ident == "update-service-account":
                if name == "slug":
                    continue
                body.pop("slug")
            elif name != "slug" and "slug" in body:
                # One that is derived may be longer than one that is given.
                body["slug"] = f"given-{tried}"
            answer = checked.send(ident, body, **here)
            assert answer.ok == good, (ident, name, value, answer)
            assert good or answer.status == 422, (ident, name, value, answer)
            tried += 1
    assert tried > 20


def test_codes_of_the_source_are_described(document, page):
    """A refusal that nobody wrote down is found here."""
    code = re.compile(r'"((?:[A-Z][A-Za-z]+)\.(?:[A-Z][A-Za-z]+))"')
    here = ["explain.c", "openapi.c", "docs.c"]
    said = {c for folder in ("daemon", "plugins") for f in (SOURCE / folder).rglob("*.c")
            if f.name not in here for c in code.findall(f.read_text())}
    known = {c for node in everywhere(document) if isinstance(node, dict)
             for c in node.get("examples", {}) if isinstance(node.get("examples"), dict)}
    on_the_socket = {"Auth.PeerNotAllowed", "Auth.NoIdentity", "Method.NotFound", "Auth.AdminOnly",
                     "Store.Busy", "Store.Damaged", "Store.Failed", "Store.NoBackup",
                     "Store.Unable"}
    assert len(said) > 25
    missing = said - known - on_the_socket - set(re.findall(r"<code>([A-Za-z.]+)</code>", page))
    assert not missing


# --- how it is served -----------------------------------------------------------------------------

@pytest.mark.parametrize("path, kind", PUBLISHED)
def test_anybody_may_read_it(daemon, path, kind):
    status, headers, body = fetch(daemon, path)
    assert (status, headers["Content-Type"]) == (200, kind)
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-cache"
    assert int(headers["Content-Length"]) == len(body) > 1000
    again = fetch(daemon, "/api" + path + "?x=1")
    assert (again[0], again[1]["ETag"], again[2]) == (200, headers["ETag"], body)
    head = fetch(daemon, path, "HEAD")
    assert (head[0], head[1]["ETag"], head[2]) == (200, headers["ETag"], b"")
    assert head[1]["Content-Length"] == headers["Content-Length"]


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/api/docs", "/api/docs/"])
def test_links_of_the_page_lead_somewhere(daemon, path):
    body = fetch(daemon, path)[2].decode()
    links = set(re.findall(r'href="([^#"]+)"', body))
    assert len(links) == 2
    assert {fetch(daemon, urllib.parse.urljoin(path, link))[0] for link in links} == {200}


@pytest.mark.parametrize("path, kind", PUBLISHED)
def test_what_is_known_is_not_sent_again(daemon, path, kind):
    tag = fetch(daemon, path)[1]["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    for known in (tag, "W/" + tag, f'"other", {tag}', f"{tag},\"other\"", "*"):
        status, headers, body = fetch(daemon, path, If_None_Match=known)
        assert (status, body) == (304, b""), known
        assert headers["ETag"] == tag and "Content-Length" not in headers
        assert "Content-Type" not in headers and headers["Date"]
    for other in ('"other"', tag.strip('"'), tag[:-2] + '"', ""):
        assert fetch(daemon, path, If_None_Match=other)[0] == 200, other


def test_connection_goes_on_after_304(daemon):
    client = daemon.http()
    client.retry = False
    tag = client.request("GET", "/docs").headers["ETag"]
    for _ in range(3):
        assert client.request("GET", "/docs", headers={"If-None-Match": tag}).status == 304
        assert client.request("GET", "/healthz", headers={"If-None-Match": "*"}).status == 200
    client.close()


def test_texts_differ_in_their_tags(daemon):
    assert len({fetch(daemon, path)[1]["ETag"] for path, _ in PUBLISHED}) == len(PUBLISHED)


def test_other_answers_are_not_kept(daemon):
    client = daemon.http()
    for path in ("/healthz", "/whoami", "/.well-known/jwks.json", "/nothing"):
        headers = client.request("GET", path).headers
        assert headers["Cache-Control"] == "no-store" and "ETag" not in headers, path
    client.close()


# --- the page -------------------------------------------------------------------------------------

class Page(html.parser.HTMLParser):
    """Checks that every element is closed where it must be; keeps what stands in it."""

    VOID = {"meta", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.ids, self.links, self.text = [], [], [], [], {}
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.seen.append((tag, attrs))
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        if tag not in self.VOID:
            self.open.append((tag, attrs))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, (tag, self.open, self.getpos())
        self.open.pop()

    def handle_data(self, data):
        for _, attrs in self.open:
            if "id" in attrs:
                self.text[attrs["id"]] = self.text.get(attrs["id"], "") + data


def test_page_is_well_formed(page):
    assert page.startswith("<!DOCTYPE html>\n<html lang=\"en\">")
    parsed = Page(page)
    assert len(set(parsed.ids)) == len(parsed.ids)
    for link in parsed.links:
        assert link in ("docs/style.css", "openapi.json") or link[1:] in parsed.ids, link


def test_page_has_nothing_that_runs_or_is_fetched_from_elsewhere(page):
    for tag, attrs in Page(page).seen:
        assert tag not in ("script", "style", "iframe", "img", "form", "object", "base")
        assert not [a for a in attrs if a.startswith("on") or a in ("style", "src")]
    assert "http" not in "".join(Page(page).links)


def test_page_has_every_operation_with_a_command(document, page):
    text = Page(page).text
    for ident, (path, method, op) in operations(document).items():
        assert op["summary"] in text[ident]
        command = text[ident][text[ident].index("curl "):]
        assert "\"$KAITEN_URL/api" + path.split("{")[0] in command
        assert (f"-X {method.upper()} " in command) == (method != "get")
        assert ("$KAITEN_TOKEN" in command) == bool(op["security"]), ident
        example = op.get("requestBody", {}).get("content", {}).get("application/json", {})
        if example:
            assert json.loads(re.search(r"-d '(.*)'", command)[1]) == example["example"]
    for name in ("token.verify", "token.verifyMany", "kaiten.describe"):
        assert f"kaitenctl call {name}" in text[name]


def test_page_has_every_object(document, page):
    text = Page(page).text
    for name, schema in document["components"]["schemas"].items():
        for member, described in schema["properties"].items():
            assert member in text[name] and described["description"] in text[name]


def test_commands_of_the_socket_work(daemon, page):
    """What stands on the page can be pasted, if there is something of that name."""
    ctl = [line for line in Page(page).text["create-service-account"].splitlines()
           if line.startswith("kaitenctl")]
    words = re.fullmatch(r"kaitenctl (call) (\S+) '(.*)'", ctl[0]).groups()
    made = json.loads(daemon.ctl(*words).stdout)
    assert (made["slug"], made["name"]) == ("build-farm", "Build Farm")
    daemon.ctl("account", "delete", "build-farm", "--yes")


def test_kaitenctl_reads_the_document(daemon, document):
    got = subprocess.run([KAITENCTL, "--url", f"http://127.0.0.1:{daemon.port}", "call", "openapi"],
                         env={"KAITEN_TOKEN": daemon.jwt()}, capture_output=True, check=True)
    assert json.loads(got.stdout) == document
