# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The reference's Go client and its command line: requests in their very bytes, which were watched
at work, and what both rely on in the answers. Needs no Go: test_sdk.py is for Python."""

import datetime
import json
import re
import socket
import urllib.parse

import pytest

from conftest import PATIENCE
from wire import answers

# What the generated code decodes a problem from, for each of its calls. A list takes any status.
DECLARED = {"POST": (400, 401, 403, 404, 409, 422, 500, 503),
            "PUT": (400, 401, 403, 404, 422, 500), "DELETE": (400, 401, 403, 404, 422, 500),
            "GET": (400, 401, 403, 404, 422, 500)}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def instant(value):
    return isinstance(value, str) and INSTANT.fullmatch(value)


def a(*types):
    return lambda value: isinstance(value, types) and not isinstance(value, bool)


def each(check):
    return lambda value: isinstance(value, list) and all(map(check, value))


def members(known, *always):
    """Of the types that Go's structs have; others do not matter, and null is a nil pointer."""
    return lambda value: (isinstance(value, dict) and set(always) <= set(value)
                          and all(value[k] is None or check(value[k])
                                  for k, check in known.items() if k in value))


TEXT = a(str)
USER = members({"id": TEXT, "name": TEXT}, "id")
TOKEN = members({"id": TEXT, "name": TEXT, "slug": TEXT, "scopes": each(TEXT), "token": TEXT,
                 "serviceAccountId": TEXT, "expiresAt": instant, "createdAt": instant,
                 "createdBy": USER, "revokedAt": instant, "revokedBy": USER},
                "name", "scopes", "createdAt", "createdBy")
ACCOUNT = members({"id": TEXT, "name": TEXT, "slug": TEXT, "externalId": TEXT, "createdBy": USER,
                   "createdAt": instant, "tokens": each(TOKEN)}, "name", "tokens")
PROBLEM = members({"type": TEXT, "title": TEXT, "status": a(int), "detail": TEXT,
                   "instance": TEXT, "code": TEXT, "errorId": TEXT,
                   "errors": each(members({"message": TEXT, "location": TEXT}))},
                  "title", "detail", "code")


def marshal(value):
    """JSON as Go writes it: what HTML might take for its own is escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for c in "<>&\u2028\u2029":
        text = text.replace(c, f"\\u{ord(c):04x}")
    return text.encode()


def segment(text):
    return urllib.parse.quote(text, safe="$&+:=@~")


class Go:
    """One connection for all calls, as its transport has it: answers must end where they say."""

    def __init__(self, daemon, token):
        self.authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self.socket = socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE)
        self.host = f"127.0.0.1:{daemon.port}"

    def call(self, method, path, body=None, lists=False):
        """(status, decoded body): of a success as of a problem, after a look at its head."""
        lines = (f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n"
                 "User-Agent: Go-http-client/1.1\r\n")
        if lists:
            lines += "Accept: application/json\r\n" + self.authorization
        elif body is None:
            lines += self.authorization
        else:
            lines += (f"Content-Length: {len(body)}\r\n{self.authorization}"
                      "Content-Type: application/json\r\n")
        self.socket.sendall(lines.encode() + b"Accept-Encoding: gzip\r\n\r\n" + (body or b""))
        status, headers, data = self.answer()
        assert "Content-Encoding" not in headers and headers.get("Connection") != "close"
        if status == 204:
            assert data == b"" and "Content-Length" not in headers
            return status, None
        kind = "application/problem+json" if status >= 400 else "application/json"
        assert headers["Content-Type"] == kind, headers
        value = json.loads(data)
        if status >= 400:
            assert lists or status in DECLARED[method], value
            assert PROBLEM(value) and value["title"] and value["detail"], value
            assert value["status"] == status and value["instance"] == path.partition("?")[0]
        return status, value

    def answer(self):
        data = b""
        while not (mark := data.find(b"\r\n\r\n") + 4) > 3:
            data += self.more()
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", data[:mark])
        while length and len(data) < mark + int(length[1]):
            data += self.more()
        (found,) = answers(data)
        return found

    def more(self):
        part = self.socket.recv(65536)
        assert part, "closed in the middle of an answer"
        return part

    # --- the calls, with the members that each of them sends, in the order of its struct -------

    def list(self, *path):
        """Every page, as long as the answers say that there is one; also their number."""
        path = "/api/service-accounts" + "".join("/" + segment(p) for p in path)
        items, cursor, pages = [], "", 0
        while True:
            query = {"cursor": cursor, "limit": "200"} if cursor else {"limit": "200"}
            status, page = self.call("GET", path + "?" + urllib.parse.urlencode(query), lists=True)
            if status != 200:
                return status, page
            items, pages = items + page["items"], pages + 1
            assert isinstance(page["hasMore"], bool) and len(page["items"]) <= 200
            if not page["hasMore"]:
                assert "nextCursor" not in page
                return items, pages
            assert TEXT(page["nextCursor"]) and page["nextCursor"] not in ("", cursor)
            cursor = page["nextCursor"]

    def get(self, slug):
        return self.call("GET", "/api/service-accounts/" + segment(slug))

    def create(self, name, slug=None):
        body = {"name": name} if slug is None else {"name": name, "slug": slug}
        return self.call("POST", "/api/service-accounts", marshal(body))

    def update(self, slug, name):
        return self.call("PUT", "/api/service-accounts/" + segment(slug), marshal({"name": name}))

    def create_token(self, account, name, scopes=None, slug=None, expires_at=None):
        body = {"name": name, "slug": slug, "scopes": scopes or None, "expiresAt": expires_at}
        body = {k: v for k, v in body.items() if v is not None or k in ("name", "scopes")}
        return self.call("POST", f"/api/service-accounts/{segment(account)}/tokens", marshal(body))

    def delete_token(self, account, slug):
        return self.call("DELETE", f"/api/service-accounts/{segment(account)}/tokens/"
                         + segment(slug))


@pytest.fixture
def client(daemon, org):
    made = []

    def make(token=None, **claims):
        made.append(Go(daemon, daemon.jwt(org=org, **claims) if token is None else token))
        return made[-1]

    yield make
    for go in made:
        go.socket.close()


@pytest.fixture
def go(client):
    return client()


def done(answer, check, status=200):
    assert answer[0] == status and check(answer[1]), answer
    return answer[1]


def test_every_call(client, go):
    assert go.list() == ([], 1)
    made = done(go.create("Build Farm", "farm"), ACCOUNT, 201)
    assert made["tokens"] is None and made["slug"] == "farm" and made["createdBy"]["name"]
    assert done(go.get("farm"), ACCOUNT)["tokens"] == []
    assert go.update("farm", "Farm") == (204, None)
    token = done(go.create_token("farm", "Nightly", ["read:licenses"], "nightly"), TOKEN, 201)
    assert re.fullmatch("ksh_[0-9A-Za-z]{32}", token["token"]) and "expiresAt" not in token
    assert token["serviceAccountId"] == made["id"] and token["scopes"] == ["read:licenses"]
    derived = done(go.create_token("farm", "", ["write:tokens"]), TOKEN, 201)
    assert len(derived["slug"]) == 6
    listed, pages = go.list("farm", "tokens")
    assert pages == 1 and all(map(TOKEN, listed)) and all("token" not in t for t in listed)
    assert [t["slug"] for t in listed] == [derived["slug"], "nightly"]
    own = client(derived["token"])
    (one,), _ = own.list()
    assert ACCOUNT(one) and one["name"] == "Farm" and len(one["tokens"]) == 2
    assert go.delete_token("farm", derived["slug"]) == (204, None)
    assert own.list()[0] == own.get("farm")[0] == 401
    gone = go.list("farm", "tokens")[0][0]
    assert instant(gone["revokedAt"]) and USER(gone["revokedBy"])


def test_no_scopes_is_null(client):
    """Of a nil slice and of an empty one it makes null."""
    go = client(scopes=["write:tokens", "read:licenses"])
    done(go.create("Farm", "farm"), ACCOUNT, 201)
    for scopes in None, []:
        token = done(go.create_token("farm", f"All {scopes}", scopes), TOKEN, 201)
        assert token["scopes"] == ["write:tokens", "read:licenses"]


def test_html_in_a_name_comes_back_as_it_was(go):
    name = "a<b>&\u2028c \u00e4\U0001f4a9"
    assert done(go.create(name, "farm"), ACCOUNT, 201)["name"] == name
    assert done(go.create_token("farm", name, ["read:licenses"]), TOKEN, 201)["name"] == name
    assert done(go.get("farm"), ACCOUNT)["tokens"][0]["name"] == name


@pytest.mark.parametrize("sent, kept", [
    ("2130-01-01T02:00:00.123456789+02:00", "2130-01-01T00:00:00.123Z"),
    ("2130-01-01T00:00:00Z", "2130-01-01T00:00:00Z"),
    ("2129-12-31T18:30:00.5-05:30", "2130-01-01T00:00:00.5Z")])
def test_a_time_with_its_zone(go, sent, kept):
    """time.Time is marshalled to the nanosecond and where the caller is."""
    done(go.create("Farm", "farm"), ACCOUNT, 201)
    token = done(go.create_token("farm", "n", ["read:licenses"], expires_at=sent), TOKEN, 201)
    assert token["expiresAt"] == kept


@pytest.mark.parametrize("slug, status", [(s, 404) for s in (
    "none", "a b", "\u00e4", "a%2fb", "?x=1", "#", "a+b", "a;b,c", "a:b@c&d=e$", "a\\b", "~",
    "*'()", "\U0001f4a9", "\n", "...")] + [("a/b", 400), ("a\0b", 400)])
def test_a_slug_that_is_none(go, slug, status):
    """Escaped as net/url does; the command line exits with 4 for 404 and with 5 for 400."""
    assert go.get(slug)[0] == go.update(slug, "x")[0] == status
    assert go.delete_token(slug, slug)[0] == status
    assert go.create_token(slug, "n", ["read:licenses"])[0] == status
    listed = go.list(slug, "tokens")
    assert listed == ([], 1) if status == 404 else listed[0] == status


def test_two_hundred_on_a_page(go):
    done(go.create("Farm", "farm"), ACCOUNT, 201)
    slugs = [done(go.create_token("farm", f"t{i}", ["read:licenses"], f"t-{i}"), TOKEN, 201)["slug"]
             for i in range(401)]
    listed, pages = go.list("farm", "tokens")
    assert pages == 3 and [t["slug"] for t in listed] == slugs[::-1]


def test_refusals(client, go):
    """Each is one that the client decodes, whole; the first digits decide how the command ends."""
    done(go.create("Farm", "farm"), ACCOUNT, 201)
    done(go.create_token("farm", "Nightly", ["read:licenses"], "nightly"), TOKEN, 201)
    past = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)).isoformat()
    reader, nobody, junk = client(scopes=["read:tokens"]), client(""), client("junk")
    for answer, status, code in (
            (nobody.list(), 401, "Auth.MissingAuthorizationHeader"),
            (nobody.get("farm"), 401, "Auth.MissingAuthorizationHeader"),
            (junk.list(), 401, "Auth.InvalidToken"),
            (junk.create("x"), 401, "Auth.InvalidToken"),
            (junk.delete_token("farm", "nightly"), 401, "Auth.InvalidToken"),
            (reader.create("x"), 403, "Auth.MissingScope"),
            (reader.update("farm", "x"), 403, "Auth.MissingScope"),
            (reader.delete_token("farm", "nightly"), 403, "Auth.MissingScope"),
            (reader.create_token("farm", "n", ["read:tokens"]), 403, "Auth.MissingScope"),
            (go.create("Farm", "farm"), 409, "CreateServiceAccount.SlugConflict"),
            (go.create("Farm", "F"), 422, "UNPROCESSABLE"),
            (go.create("Farm", ""), 422, "UNPROCESSABLE"),
            (go.update("farm", ""), 422, "UNPROCESSABLE"),
            (go.create_token("farm", "n", ["read:x"], "n-1"), 400, "Token.InvalidScopes"),
            (go.create_token("farm", "n", ["read:x"], "n"), 422, "UNPROCESSABLE"),
            (go.create_token("farm", "n", [], expires_at=past), 422, "UNPROCESSABLE"),
            (go.create_token("farm", "n", [], "nightly"), 409, "CreateToken.SlugConflict"),
            (go.create_token("farm", "Nightly", []), 409, "CreateToken.Conflict"),
            (go.create_token("none", "n", []), 404, "CreateToken.ServiceAccountNotFound"),
            (go.update("none", "x"), 404, "ServiceAccount.NotFound"),
            (go.delete_token("farm", "none"), 404, "Token.NotFound")):
        assert (answer[0], answer[1]["code"]) == (status, code), answer
        if code in ("UNPROCESSABLE", "Token.InvalidScopes"):
            assert all(e["location"].startswith("body.") and e["message"]
                       for e in answer[1]["errors"]), answer
