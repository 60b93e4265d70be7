# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The contract's reference, row by row; the numbers are its sections.

Each row is said here once, through the wire; where it is tried from all sides is said beside it."""

import re
import uuid

import pytest

from conftest import REASONS, done, places, refused, short_life, wait_for
from rows import Rows, World, world  # noqa: F401
from wire import HOST, ask, head, problem

row = Rows()


# --- the reference: 1, endpoints ------------------------------------------------------------------

ACCOUNT = ["id", "name", "slug", "externalId", "createdBy", "createdAt", "tokens"]
TOKEN = ["id", "name", "slug", "scopes", "serviceAccountId", "createdAt", "createdBy"]


@row("1.0 an unknown path is 404 only for known callers; 405 says what is allowed")
def _(w):
    refused(w.get("/api/nope", ""), 401, "Auth.MissingAuthorizationHeader")
    refused(w.get("/api/nope"), 404, "NOT_FOUND")
    answer = w.get("/api/service-accounts", method="PATCH")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST, GET, HEAD")
    refused(w.get("/api/service-accounts", "", "PATCH"), 401, "Auth.MissingAuthorizationHeader")


@row("1.0 a slash at the end is the same route, and public no more")
def _(w):
    token = w.mint(w.account()["slug"])["token"]
    assert len(done(w.http, w.get("/api/service-accounts/"))["items"]) == 1
    refused(w.get("/api/tokens/validate/", ""), 401, "Auth.MissingAuthorizationHeader")
    assert w.get("/api/tokens/validate/", token).status == 200


@row("1.1 members in the order of the wire")
def _(w):
    account = w.account()
    assert list(account) == ACCOUNT and list(account["createdBy"]) == ["id", "name"]
    minted = w.mint(account["slug"], expiresAt="2099-01-01T00:00:00Z")
    assert list(minted) == TOKEN[:5] + ["expiresAt"] + TOKEN[5:] + ["token"]
    assert list(w.mint(account["slug"], name="never")) == TOKEN + ["token"]


@row("1.1 instants in UTC, trailing zeros of the fraction cut off")
def _(w):
    slug = w.account()["slug"]
    for i, (wish, kept) in enumerate((("2099-08-10T12:00:00.120Z", "2099-08-10T12:00:00.12Z"),
                                      ("2099-08-10T12:00:00.000Z", "2099-08-10T12:00:00Z"))):
        assert w.mint(slug, name=str(i), expiresAt=wish)["expiresAt"] == kept


@row("1.1 one line of JSON, < > & as they are, no $schema, no Link, no Location")
def _(w):
    w.http.connection.request("POST", "/api/service-accounts", b'{"name":"<&>"}',
                              {"Authorization": "Bearer " + w.http.token})
    answer = w.http.connection.getresponse()
    body = answer.read()
    assert body.endswith(b"}\n") and b"<&>" in body and b"$schema" not in body
    assert answer.headers["Content-Type"] == "application/json"
    assert not {"Link", "Location"} & set(answer.headers)


@row("1.2 create: tokens is null; the same slug again is 409, elsewhere it is not")
def _(w):
    assert w.account(slug="same")["tokens"] is None
    refused(w.post("/api/service-accounts", {"name": "x", "slug": "same"}), 409,
            "CreateServiceAccount.SlugConflict",
            'Service account with slug "same" already exists in this organization')
    other = World(w.daemon, w.org + "-other")
    other.account(slug="same")
    other.close()


@row("1.2 what get and list answer can be sent to make another one")
def _(w):
    slug = w.account(slug="first")["slug"]
    for name in ("live", "gone"):
        w.mint(slug, name=name, slug=name, expiresAt="2099-01-01T00:00:00Z")
    path = "/api/service-accounts/first"
    done(w.http, w.get(path + "/tokens/gone", method="DELETE"), 204)
    whole = done(w.http, w.get(path))
    copy = w.account(**dict(whole, slug="second"))
    assert copy["tokens"] is None and copy["name"] == whole["name"]
    assert not {copy["id"], copy["externalId"]} & {whole["id"], whole["externalId"]}
    assert done(w.http, w.get("/api/service-accounts/second"))["tokens"] == []
    gone = whole["tokens"][0]
    again = w.mint("second", **gone)
    assert again["serviceAccountId"] == copy["id"] and again["id"] != gone["id"]
    assert again["slug"] == "gone" and "revokedAt" in gone and "revokedAt" not in again


@row("1.3 list: newest first, tokens embedded, bad cursor 400")
def _(w):
    slugs = [w.account()["slug"] for _ in range(3)]
    w.mint(slugs[0])
    page = done(w.http, w.get("/api/service-accounts"))
    assert [a["slug"] for a in page["items"]] == slugs[::-1]
    assert [len(a["tokens"]) for a in page["items"]] == [0, 0, 1]
    refused(w.get("/api/service-accounts?cursor=not-a-valid-cursor"), 400,
            "ServiceAccounts.InvalidCursor", "invalid cursor")


@row("1.4 get: tokens is [] and not null")
def _(w):
    slug = w.account()["slug"]
    assert done(w.http, w.get("/api/service-accounts/" + slug))["tokens"] == []
    refused(w.get("/api/service-accounts/absent"), 404, "ServiceAccount.NotFound",
            "Service account with slug absent not found")


@row("1.5 update: a whole account can be sent back; another slug is 422 before the scope")
def _(w):
    slug = w.account()["slug"]
    path = "/api/service-accounts/" + slug
    whole = done(w.http, w.get(path))
    done(w.http, w.get(path, method="PUT", body=dict(whole, name="New")), 204)
    for client in (w.http, w.caller(scopes=[])):
        refused(client.request("PUT", path, {"name": "n", "slug": "other"}), 422,
                "UpdateServiceAccount.SlugNotRenameable")


@row("1.6 create a token: minimal body, empty name, a whole struct with zero values")
def _(w):
    slug, zero = w.account()["slug"], "00000000-0000-0000-0000-000000000000"
    w.mint(slug, name="x")
    assert w.mint(slug, name="")["name"] == ""
    w.mint(slug, name="z", id=zero, serviceAccountId=zero, createdAt="0001-01-01T00:00:00Z",
           createdBy={"id": zero}, expiresAt=None, slug=None, token="")


@row("1.6 bad scopes on an absent account are 400, not 404")
def _(w):
    (error,) = refused(w.try_mint("absent", scopes=["a", "b"]), 400, "Token.InvalidScopes",
                       "invalid scopes")
    assert error["location"] == "body.scopes" and "value" not in error
    assert error["message"].startswith("invalid scopes: [a b]. Valid format is <action>:<module> "
                                       "where action is [read, write, delete] and module is [")


@row("1.7 tokens of an unknown account are an empty page")
def _(w):
    page = done(w.http, w.get("/api/service-accounts/absent/tokens"))
    assert page == {"items": [], "hasMore": False}
    refused(w.get("/api/service-accounts/absent/tokens?cursor=x"), 400,
            "ServiceAccountTokens.InvalidCursor", "invalid cursor")


@row("1.8 revoke: 204, then 404; a token may revoke itself")
def _(w):
    slug = w.account()["slug"]
    token = w.mint(slug, slug="self", scopes=["write:tokens"])["token"]
    path = f"/api/service-accounts/{slug}/tokens/self"
    mine = w.with_token(token)
    done(mine, mine.request("DELETE", path), 204)
    refused(w.get(path, method="DELETE"), 404, "Token.NotFound",
            f"Token with slug self not found for service account {slug} or already revoked")


def expired(w, slug, name):
    """A token of that name and slug whose time is over."""
    token = short_life(lambda end: w.try_mint(slug, name=name, slug=name, expiresAt=end)).body
    wait_for(lambda: w.get("/api/tokens/validate", token["token"]).status == 401, "its expiry")


@row("1.8 what has expired keeps its name, is not rotated, and can be revoked")
def _(w):
    slug = w.account()["slug"]
    expired(w, slug, "over")
    path = f"/api/service-accounts/{slug}/tokens/over"
    refused(w.try_mint(slug, name="over"), 409, "CreateToken.Conflict")
    refused(w.post(path + "/rotate"), 409, "RotateToken.Expired",
            "the token has expired; rotation does not extend it, create a new one")
    assert "revokedAt" not in done(w.http, w.get(path))
    done(w.http, w.get(path, method="DELETE"), 204)
    assert done(w.http, w.get(path))["revokedBy"]["name"] == "alice"
    refused(w.post(path + "/rotate"), 404, "Token.NotFound")
    w.mint(slug, name="over")
    refused(w.try_mint(slug, name="x", slug="over"), 409, "CreateToken.SlugConflict")


@row("1.8 revokedBy of a token that revoked itself is its account")
def _(w):
    robot = w.account(name="Robot")
    token = w.mint(robot["slug"], slug="self", scopes=["write:tokens"])["token"]
    path = f"/api/service-accounts/{robot['slug']}/tokens/self"
    assert w.with_token(token).request("DELETE", path).status == 204
    assert done(w.http, w.get(path))["revokedBy"] == {"id": robot["id"], "name": "Robot"}


@row("1.8 tokens of a deleted account are not found")
def _(w):
    slug = w.account()["slug"]
    w.mint(slug, slug="kept")
    path = f"/api/service-accounts/{slug}"
    done(w.http, w.get(path, method="DELETE"), 204)
    detail = f"Token with slug kept not found for service account {slug} or already revoked"
    for method in ("GET", "DELETE"):
        refused(w.get(path + "/tokens/kept", method=method), 404, "Token.NotFound", detail)
    refused(w.try_mint(slug), 404, "CreateToken.ServiceAccountNotFound")
    assert done(w.http, w.get(path + "/tokens"))["items"] == []


@row("1.9 validate: any method, body ignored, nothing below it")
def _(w):
    token = w.mint(w.account()["slug"])["token"]
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
        answer = w.get("/api/tokens/validate", token, method, raw=b"{no json")
        assert answer.status == 200 and answer.headers["Authorization"].startswith("Bearer ey")
    below = w.get("/api/tokens/validate/x", token)
    assert below.status == 404 and "Authorization" not in below.headers
    for value in ("", "bearer " + token, "Basic x", "Bearer "):
        refused(w.get("/api/tokens/validate", "", headers={"Authorization": value}), 401,
                "ValidateToken.MissingAuthorizationHeader", "missing valid Authorization header")


# --- the reference: 2, errors ---------------------------------------------------------------------


@row("2.1 members of a problem and of its errors, in order")
def _(w):
    answer = w.post("/api/service-accounts?x=1", {"name": 7})
    assert list(answer.body) == ["type", "title", "status", "detail", "instance", "code", "errors"]
    assert answer.body == {
        "type": "https://tools.ietf.org/html/rfc4918#section-11.2",
        "title": "Unprocessable Entity", "status": 422, "detail": "validation failed",
        "instance": "/api/service-accounts", "code": "UNPROCESSABLE",
        "errors": [{"message": "expected string", "location": "body.name", "value": 7}]}
    assert list(answer.body["errors"][0]) == ["message", "location", "value"]
    assert answer.headers["Content-Type"] == "application/problem+json"


OTHERWISE = "https://tools.ietf.org/html/rfc7231#section-6.6.1"
# what the door refuses before anything is known of it: status, title, code
AT_THE_DOOR = {
    "no Host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "Bad Request", "VALIDATION"),
    "long target": (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414,
                    "Request URI Too Long", "UNKNOWN"),
    "expectation": (head(b"Expect: x", b"Content-Length: 1"), 417, "Expectation Failed", "UNKNOWN"),
    "long head": (head(b"X: " + b"x" * 20000), 431, "Request Header Fields Too Large", "UNKNOWN"),
    "long method": (head(method=b"M" * 17), 501, "Not Implemented", "UNKNOWN"),
    "version": (head(version=b"2.0"), 505, "HTTP Version Not Supported", "UNKNOWN"),
}


def door_row(data, status, title, code):
    def check(w):
        (answer,) = ask(w.daemon, data, half_close=False)
        found = problem(answer)
        assert list(found) == ["type", "title", "status", "detail", "code"]
        kind = REASONS[400][1] if status == 400 else OTHERWISE
        assert [found[m] for m in ("type", "title", "status", "code")] == [kind, title, status,
                                                                            code]
    return check


for case, expected in AT_THE_DOOR.items():
    row("2.1 at the door: " + case)(door_row(*expected))


@row("2.1 405 and 415 are of the kind of all the rest; 204 has nothing but its head")
def _(w):
    refused(w.get("/api/whoami", method="PUT"), 405, "UNKNOWN",
            "method PUT is not allowed here; allowed: GET, HEAD", "/api/whoami")
    refused(w.post("/api/service-accounts", raw=b"{}", headers={"Content-Type": "a/b"}), 415,
            "UNKNOWN", "validation failed", "/api/service-accounts")
    slug = w.account()["slug"]
    answer = w.get("/api/service-accounts/" + slug, method="PUT", body={"name": "n"})
    assert answer.status == 204
    assert not {"Content-Type", "Content-Length", "Transfer-Encoding"} & set(answer.headers)


# what is sent: (bytes, headers), and what it is answered with
STATUSES = {
    "empty body": (b"", {}, 400, "request body is required", "VALIDATION", None),
    "empty body of an unknown type": (b"", {"Content-Type": "text/csv"}, 400,
                                      "request body is required", "VALIDATION", None),
    "blank body": (b" \n", {}, 400, "validation failed", "VALIDATION",
                   ("body", "unexpected end of JSON input", " \n")),
    "two values": (b"{} {}", {}, 400, "validation failed", "VALIDATION",
                   ("body", "invalid character '{' after top-level value", "{} {}")),
    "null": (b"null", {}, 422, "validation failed", "UNPROCESSABLE",
             ("body", "expected object", None)),
    "no JSON": (b'{"name":x', {}, 400, "validation failed", "VALIDATION",
                ("body", "invalid character 'x' looking for beginning of value", '{"name":x')),
    "JSON that ends": (b"{", {}, 400, "validation failed", "VALIDATION",
                       ("body", "unexpected end of JSON input", "{")),
    "unknown content type": (b"{}", {"Content-Type": "text/csv"}, 415, "validation failed",
                             "UNKNOWN", ("body", "unknown content type: text/csv", None)),
    "too large": (b'"' + b"x" * 1048575, {}, 413, "request body is too large limit=1048576 bytes",
                  "UNKNOWN", None),
    "just not too large": (b"{}".ljust(1048575), {}, 422, "validation failed", "UNPROCESSABLE",
                           ("body", "expected required property name to be present", {})),
    "no object": (b"[]", {}, 422, "validation failed", "UNPROCESSABLE",
                  ("body", "expected object", [])),
    "missing member": (b"{}", {}, 422, "validation failed", "UNPROCESSABLE",
                       ("body", "expected required property name to be present", {})),
    "wrong type": (b'{"name":null}', {}, 422, "validation failed", "UNPROCESSABLE",
                   ("body.name", "expected string", None)),
    "unknown member": (b'{"name":"a","b":1}', {}, 422, "validation failed", "UNPROCESSABLE",
                       ("body.b", "unexpected property", {"name": "a", "b": 1})),
}


def status_row(raw, headers, status, detail, code, error):
    def check(w):
        answer = w.post("/api/service-accounts", raw=raw, headers=headers)
        assert (answer.status, answer.body["detail"], answer.code) == (status, detail, code)
        found = [(e["location"], e["message"], e.get("value"))
                 for e in answer.body.get("errors", [])]
        assert found == ([error] if error else [])
    return check


for case, expected in STATUSES.items():
    row("2.2 " + case)(status_row(*expected))

AUTHORIZATION = {
    "no header": (None, "Auth.MissingAuthorizationHeader", "Missing Authorization header"),
    "not Bearer": ("Basic x", "Auth.UnknownAuthorizationHeader",
                   "Invalid Authorization header format"),
    "no JWT": ("Bearer x", "Auth.InvalidToken", "Failed to parse JWT"),
}


def authorization_row(header, code, detail):
    def check(w):
        headers = {} if header is None else {"Authorization": header}
        refused(w.get("/api/service-accounts", "", headers=headers), 401, code, detail)
    return check


for case, expected in AUTHORIZATION.items():
    row("2.2 authorization: " + case)(authorization_row(*expected))


@row("2.2 missing scope: 403 names it")
def _(w):
    refused(w.caller(scopes=[]).request("GET", "/api/service-accounts"), 403, "Auth.MissingScope",
            "missing required scope: read:tokens", "/api/service-accounts")


@row("2.3 all violations, members by name, what is unexpected last")
def _(w):
    answer = w.post("/api/service-accounts/x/tokens",
                    {"zz": 1, "slug": "A", "scopes": [1], "expiresAt": "x", "createdBy": {}})
    assert places(refused(answer, 422, "UNPROCESSABLE")) == [
        ("body.createdBy", "expected required property id to be present"),
        ("body.expiresAt", "expected string to be RFC 3339 date-time"),
        ("body", "expected required property name to be present"),
        ("body.scopes[0]", "expected string"), ("body.slug", "expected length >= 2"),
        ("body.slug", "expected string to match pattern ^[a-z0-9][a-z0-9-]*[a-z0-9]$"),
        ("body.zz", "unexpected property")]


@row("2.3 an id that is no UUID is told alone, of the whole body")
def _(w):
    for members, message in (('"id":"nope"', "invalid UUID length: 4"),
                             ('"ID":""', "invalid UUID length: 0"),
                             ('"id":"%s"' % ("z" * 36), "invalid UUID format"),
                             ('"tokens":[{"name":"t","scopes":[],"serviceAccountId":"x"}]',
                              "invalid UUID length: 1")):
        raw = '{"name":"n", %s }' % members
        (error,) = refused(w.post("/api/service-accounts", raw=raw.encode()), 422, "UNPROCESSABLE",
                           "validation failed")
        assert error == {"message": message, "location": "body", "value": raw}
    answer = w.post("/api/service-accounts", {"name": "", "id": "nope"})
    assert places(refused(answer, 422, "UNPROCESSABLE")) == [("body.name", "expected length >= 1")]
    # What may hold a secret is not shown again.
    (error,) = refused(w.try_mint("absent", id="nope"), 422, "UNPROCESSABLE", "validation failed")
    assert error == {"message": "invalid UUID length: 4", "location": "body"}


@row("2.3 inside of read-only members, too, each where it stands")
def _(w):
    user = {"id": "x", "y": 1}
    answer = w.post("/api/service-accounts", {"NAME": "n", "createdBy": user, "tokens": [
        {"Name": 5, "createdBy": {}}, 1, {"name": "t", "scopes": None, "expiresAt": ""}]})
    errors = refused(answer, 422, "UNPROCESSABLE", "validation failed")
    assert places(errors) == [
        ("body.createdBy.y", "unexpected property"),
        ("body.tokens[0].createdBy", "expected required property id to be present"),
        ("body.tokens[0].name", "expected string"),
        ("body.tokens[0]", "expected required property scopes to be present"),
        ("body.tokens[1]", "expected object"),
        ("body.tokens[2].expiresAt", "expected string to be RFC 3339 date-time")]
    assert errors[0]["value"] == user


@row("2.3 parameters come once, in the case of their letters, and may be percent-encoded")
def _(w):
    for query in ("limit=1&limit=0", "limit=0&limit=1", "limit=5&limit=5"):
        answer = w.get("/api/service-accounts?" + query)
        assert refused(answer, 422, "UNPROCESSABLE", "validation failed") == [
            {"message": "expected it only once", "location": "query.limit"}]
    for query in ("Limit=0", "LIMIT=abc&CURSOR=x", "limit=%31", "&&limit", "limit=&cursor="):
        done(w.http, w.get("/api/service-accounts?" + query))
    for query in ("%6cimit=0", "limit=&limit=0", "x=%26&limit=0", "cursor=x&limit=0"):
        answer = w.get("/api/service-accounts?" + query)
        assert places(refused(answer, 422, "UNPROCESSABLE")) == [("query.limit",
                                                                  "expected number >= 1")]
    for query in ("limit=%zz", "x=%", "limit=1%00"):
        refused(w.get("/api/service-accounts?" + query), 400, "VALIDATION",
                "malformed query string")


@row("2.3 a query's violations, with what stood there")
def _(w):
    for limit, message, value in (("abc", "invalid integer", "abc"),
                                  ("0", "expected number >= 1", 0),
                                  ("201", "expected number <= 200", 201)):
        (error,) = refused(w.get("/api/service-accounts?limit=" + limit), 422, "UNPROCESSABLE")
        assert error == {"message": message, "location": "query.limit", "value": value}


@row("2.3 a body that may hold a secret is not shown again")
def _(w):
    (error,) = refused(w.post("/api/service-accounts/x/tokens", raw=b'{"token":"ksh_x'), 400,
                       "VALIDATION", "validation failed")
    assert error == {"message": "unexpected end of JSON input", "location": "body"}


@row("2.4 a body that nobody asked for is not looked at")
def _(w):
    slug = w.account()["slug"]
    path = "/api/service-accounts/" + slug
    for headers in ({}, {"Content-Type": "text/csv"}):
        for p in ("/api/service-accounts", path, path + "/tokens", "/api/whoami", "/api/scopes"):
            done(w.http, w.get(p, raw=b"{no json", headers=headers))
    w.mint(slug, slug="one")
    done(w.http, w.get(path + "/tokens/one", method="DELETE", raw=b"[", headers=headers), 204)
    done(w.http, w.get(path, method="DELETE", raw=b"["), 204)


@row("2.4 content types: none, with parameters, +json, any case; Accept is not looked at")
def _(w):
    for kind in (None, "application/json", "APPLICATION/JSON; charset=utf-8", "application/x+json"):
        headers = {"Accept": "text/html"} if kind is None else {"Content-Type": kind}
        answer = w.post("/api/service-accounts", raw=b'{"name":"a"}', headers=headers)
        assert done(w.http, answer, 201)["name"] == "a"
    refused(w.get("/api/service-accounts/absent", headers={"Accept": "text/html"}), 404,
            "ServiceAccount.NotFound")


@row("2.5 letter case, null, read-only members, unknown query parameters, empty slug")
def _(w):
    answer = w.post("/api/service-accounts", {"NAME": "n", "Slug": None, "ID": str(uuid.uuid4()),
                                              "tokens": None})
    assert done(w.http, answer, 201)["name"] == "n"
    assert w.post("/api/service-accounts", raw=b'{"name":"a","NAME":"b"}').status == 400
    refused(w.post("/api/service-accounts", {"name": "n", "createdBy": {}}), 422, "UNPROCESSABLE")
    refused(w.post("/api/service-accounts", {"name": "n", "slug": ""}), 422, "UNPROCESSABLE")
    done(w.http, w.get("/api/service-accounts?sort=name&sort=id"))


# --- the reference: 3 to 6 ------------------------------------------------------------------------


@row("3.3 a slug of one account is free in another")
def _(w):
    for slug in (w.account()["slug"], w.account()["slug"]):
        w.mint(slug, name="same", slug="same")


@row("3.4 slugs are derived from names")
def _(w):
    for name, base in (("Soci\u00e9t\u00e9 G\u00e9n\u00e9rale", "societe-generale-"),
                       ("Kevin\u2019s Shop", "kevins-shop-"), ("!!!", "")):
        assert re.fullmatch(base + "[0-9a-f]{6}", w.account(name=name)["slug"])


@row("3.5 expired tokens stay listed, revocation is at once")
def _(w):
    slug = w.account()["slug"]
    short = short_life(lambda end: w.try_mint(slug, name="short", expiresAt=end)).body
    gone = w.mint(slug, name="gone")
    path = f"/api/service-accounts/{slug}/tokens"
    done(w.http, w.get(f"{path}/{gone['slug']}", method="DELETE"), 204)
    assert w.get("/api/tokens/validate", gone["token"]).status == 401
    wait_for(lambda: w.get("/api/tokens/validate", short["token"]).status == 401, "its expiry")
    first, second = done(w.http, w.get(path))["items"]
    assert (first["name"], second["name"]) == ("gone", "short")
    assert "revokedAt" in first and "revokedAt" not in second


@row("3.6 write:* is everything, read:* every read, write of a module its read")
def _(w):
    for held, wanted, good in ((["write:*"], "delete:tokens", True),
                               (["read:*"], "read:users", True),
                               (["write:releases"], "read:releases", True),
                               (["write:releases"], "delete:releases", False),
                               (["delete:*"], "delete:releases", False),
                               (["read:*"], "write:releases", False)):
        slug = w.account()["slug"]
        caller = w.caller(scopes=held + ["write:tokens"])
        answer = caller.request("POST", f"/api/service-accounts/{slug}/tokens",
                                {"name": "n", "scopes": [wanted]})
        assert answer.status == (201 if good else 403), (held, wanted)


@row("3.7 x-kaiten-scopes: reads and writes of all modules but users and memberships")
def _(w):
    scheme = w.get("/openapi.json").body["components"]["securitySchemes"]["bearerAuth"]
    assert len(scheme["x-kaiten-scopes"]) == 30 and "read:users" not in scheme["x-kaiten-scopes"]


@row("4 createdBy is the user, or for a ksh_ caller the account itself")
def _(w):
    robot = w.account(name="Robot")
    token = w.mint(robot["slug"], scopes=["write:tokens"])["token"]
    mine = w.with_token(token)
    made = done(mine, mine.request("POST", "/api/service-accounts", {"name": "Child"}), 201)
    assert made["createdBy"] == {"id": robot["id"], "name": "Robot"}
    assert robot["createdBy"]["name"] == "alice"


@row("5 limit: 1 to 200, empty is none; cursor: empty is the first page, e30 is past the last")
def _(w):
    w.account()
    for query, status in (("limit=1", 200), ("limit=200", 200), ("limit=", 200), ("limit=0", 422),
                          ("limit=201", 422), ("limit=-1", 422), ("limit=abc", 422),
                          ("cursor=", 200), ("cursor=e30", 200), ("cursor=x", 400)):
        answer = w.get("/api/service-accounts?" + query)
        assert answer.status == status, query
        if status == 200:
            assert len(answer.body["items"]) == (0 if query == "cursor=e30" else 1), query


@row("5 nextCursor if and only if hasMore, no overlap, no gap")
def _(w):
    ids = [w.account()["id"] for _ in range(3)]
    first = done(w.http, w.get("/api/service-accounts?limit=2"))
    assert list(first) == ["items", "nextCursor", "hasMore"] and first["hasMore"] is True
    last = done(w.http, w.get("/api/service-accounts?limit=2&cursor=" + first["nextCursor"]))
    assert list(last) == ["items", "hasMore"] and last["hasMore"] is False
    assert [a["id"] for a in first["items"] + last["items"]] == ids[::-1]


@row("6 two tokens: newest first, no expiry is no member, createdBy and account are right")
def _(w):
    account = w.account()
    w.mint(account["slug"], name="one", expiresAt="2099-01-01T00:00:00Z")
    w.mint(account["slug"], name="two", scopes=["write:entitlements"])
    two, one = done(w.http, w.get("/api/service-accounts/" + account["slug"]))["tokens"]
    assert (two["name"], one["name"]) == ("two", "one")
    assert "expiresAt" not in two and "revokedBy" not in two
    assert two["serviceAccountId"] == account["id"] and two["createdBy"]["name"] == "alice"


@row("6 an update leaves the neighbour's account of the same slug as it was")
def _(w):
    other = World(w.daemon, w.org + "-other")
    w.account(slug="same")
    other.account(slug="same")
    before = other.get("/api/service-accounts/same").body
    done(w.http, w.get("/api/service-accounts/same", method="PUT", body={"name": "n"}), 204)
    assert other.get("/api/service-accounts/same").body == before
    other.close()


@pytest.mark.parametrize("name", row.known)
def test_row(world, name):
    row.known[name](world)


def test_no_row_is_left_out():
    """Section 1.10 is left out by S4."""
    assert row.sections() == ({f"1.{n}" for n in range(10)} | {f"2.{n}" for n in range(1, 6)}
                              | {f"3.{n}" for n in range(3, 8)} | {"4", "5", "6"})
