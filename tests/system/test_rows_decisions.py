# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The decisions of the contract, row by row: S surface, T tokens, C callers.

Each row is said here once, through the wire; where it is tried from all sides is said beside it."""

import base64
import json
import re
import uuid
import zlib

import pytest

from conftest import done, files_below, jwt_claims, refused
from rows import Rows, World, utc, world  # noqa: F401
from schema import operations

row = Rows()
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


# --- decisions: surface ---------------------------------------------------------------------------


@row("S1 every route at / and at /api, instance is the path as requested")
def _(w):
    for prefix in ("", "/api"):
        assert done(w.http, w.get(prefix + "/service-accounts"))["items"] == []
        path = prefix + "/service-accounts/absent"
        refused(w.get(path + "?x=1"), 404, "ServiceAccount.NotFound", instance=path)


@row("S2 the seven operations and ANY /tokens/validate, lists are pages")
def _(w):
    slug = w.account()["slug"]
    at = f"/api/service-accounts/{slug}"
    token = w.mint(slug)
    for path in ("/api/service-accounts", at + "/tokens"):
        assert list(done(w.http, w.get(path))) == ["items", "hasMore"]
    done(w.http, w.get(at))
    done(w.http, w.get(at, method="PUT", body={"name": "n"}), 204)
    assert w.get("/api/tokens/validate", token["token"], "REPORT").status == 200
    done(w.http, w.get(at + "/tokens/" + token["slug"], method="DELETE"), 204)


@row("S3 what was added: delete, get one, rotate, whoami, scopes; new members only when used")
def _(w):
    slug = w.account()["slug"]
    at = f"/api/service-accounts/{slug}"
    token = w.mint(slug, expiresAt="2099-01-01T00:00:00Z")
    one = at + "/tokens/" + token["slug"]
    assert "token" not in done(w.http, w.get(one))
    rotated = done(w.http, w.post(one + "/rotate", {"gracePeriodSeconds": 60}))
    assert rotated["expiresAt"] == token["expiresAt"] and rotated["token"] != token["token"]
    assert w.get("/api/tokens/validate", token["token"]).status == 200
    last = done(w.http, w.post(one + "/rotate"))
    assert w.get("/api/tokens/validate", rotated["token"]).status == 401
    assert "tokensTruncated" not in done(w.http, w.get(at))
    done(w.http, w.get("/api/whoami"))
    done(w.http, w.get("/api/scopes"))
    done(w.http, w.get(at, method="DELETE"), 204)
    assert w.get("/api/tokens/validate", last["token"]).status == 401


@row("S4 no platform surface")
def _(w):
    for path in ("/api/platform/me", "/api/platform/organizations/x/tokens"):
        refused(w.get(path), 404, "NOT_FOUND", instance=path)
    refused(w.get("/api/whoami", "ksm_" + "a" * 32), 401, "Auth.InvalidToken")


@row("S5 healthz, readyz, openapi.json 3.1, docs for anybody")
def _(w):
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert w.get(path, "").status == w.get("/api" + path, "").status == 200
    document = w.get("/openapi.json", "").body
    assert document["openapi"] == "3.1.0" and "jsonSchemaDialect" not in document


@row("S6 one operation has one name on every surface")
def _(w):
    rpc = w.rpc()
    methods = {m["name"] for m in rpc.call("kaiten.describe").body["methods"]}
    named = {op["x-kaiten-operation"]
             for _, _, op in operations(w.get("/openapi.json").body).values()}
    assert {"account.create", "token.create", "token.revoke", "whoami"} <= methods & named
    slug = w.account()["slug"]
    done(rpc, rpc.call("token.create", serviceAccountSlug=slug, name="n", scopes=[]))
    assert re.search(r"op=token\.create ", w.daemon.log.read_text())
    assert w.daemon.ctl("token", "create", "--help", check=False).returncode == 0


# --- decisions: tokens ----------------------------------------------------------------------------


@row("T1 ksh_, 26 random characters, 6 of CRC-32 over all before them: 36")
def _(w):
    token = w.mint(w.account()["slug"])["token"]
    assert re.fullmatch("ksh_[0-9A-Za-z]{32}", token)
    n, text = zlib.crc32(token[:30].encode()), ""
    for _ in range(6):
        n, digit = divmod(n, 62)
        text = BASE62[digit] + text
    assert text == token[30:]


@row("T2 stored is a keyed hash, its key is a file of mode 0600 outside of the store")
def _(w):
    # test_secrets.py looks into every file of the store; test-digest.c at the hash.
    token = w.mint(w.account()["slug"])["token"]
    files = files_below(w.daemon.dir)
    assert files and not [name for name, data in files.items() if token.encode() in data]
    keys = [p for p in w.daemon.state.iterdir() if p.is_file() and "jwt-" not in p.name]
    assert keys and all(p.stat().st_mode & 0o777 == 0o600 for p in keys)


@row("T3 shown once, and in no error body")
def _(w):
    slug = w.account()["slug"]
    token = w.mint(slug, slug="once")["token"]
    seen = [w.get(f"/api/service-accounts/{slug}"), w.get("/api/service-accounts"),
            w.get(f"/api/service-accounts/{slug}/tokens"),
            w.get(f"/api/service-accounts/{slug}/tokens/once"),
            w.get("/api/service-accounts/" + token), w.get("/" + token),
            w.try_mint(slug, name=[token]), w.try_mint(slug, scopes=[token]),
            w.try_mint(slug, **{token: 1}), w.get("/api/service-accounts?limit=" + token)]
    assert token not in json.dumps([a.body for a in seen])


@row("T4 scopes lie within the caller's; null is all of them; a switch lifts it")
def _(w):
    # The switch: test_contract_tokens.py, test_unbounded_scopes_are_an_option.
    slug = w.account()["slug"]
    poor = w.caller(scopes=["write:tokens", "read:licenses"])
    path = f"/api/service-accounts/{slug}/tokens"
    refused(poor.request("POST", path, {"name": "n", "scopes": ["write:licenses"]}), 403,
            "CreateToken.ScopesExceedCaller", "the caller does not hold: write:licenses")
    all_of_them = done(poor, poor.request("POST", path, {"name": "n", "scopes": None}), 201)
    assert all_of_them["scopes"] == ["write:tokens", "read:licenses"]


@row("T5 scopes are matched exactly")
def _(w):
    slug = w.account()["slug"]
    for scope in (" read:customers", "read:customers ", "read: customers"):
        refused(w.try_mint(slug, scopes=[scope]), 400, "Token.InvalidScopes", "invalid scopes")


@row("T6 past expiry is 422 at body.expiresAt, offsets are converted")
def _(w):
    # A maximum lifetime: test_contract_tokens.py, test_maximum_lifetime_refuses_and_names_the_limit.
    slug = w.account()["slug"]
    (error,) = refused(w.try_mint(slug, expiresAt=utc(seconds=-1)), 422, "UNPROCESSABLE")
    assert error["location"] == "body.expiresAt"
    kept = w.mint(slug, expiresAt="2099-01-01T02:00:00+02:00")["expiresAt"]
    assert kept == "2099-01-01T00:00:00Z"


@row("T7 slugs are unique in an account, also revoked ones; names among the unrevoked")
def _(w):
    one, two = w.account()["slug"], w.account()["slug"]
    w.mint(one, name="n", slug="kept")
    w.mint(two, name="n", slug="kept")
    refused(w.try_mint(one, name="n"), 409, "CreateToken.Conflict")
    done(w.http, w.get(f"/api/service-accounts/{one}/tokens/kept", method="DELETE"), 204)
    refused(w.try_mint(one, name="m", slug="kept"), 409, "CreateToken.SlugConflict")
    w.mint(one, name="n")


@row("T8 what starts after the 204 of a revocation is refused, at both doors")
def _(w):
    # Under load, on every loop: test_revocation.py.
    slug = w.account()["slug"]
    token = w.mint(slug, slug="gone")["token"]
    mine, gateway, rpc = w.with_token(token), w.with_token(token), w.rpc(token)
    assert [c.call("whoami").status for c in (mine, rpc)] == [200, 200]
    assert gateway.call("token.validate").status == 200
    done(w.http, w.get(f"/api/service-accounts/{slug}/tokens/gone", method="DELETE"), 204)
    assert [c.call("whoami").status for c in (mine, rpc)] == [401, 401]
    assert gateway.call("token.validate").status == 401


@row("T9 an unknown member is refused")
def _(w):
    (error,) = refused(w.try_mint(w.account()["slug"], expires="2099-01-01T00:00:00Z"), 422,
                       "UNPROCESSABLE", "validation failed")
    assert (error["location"], error["message"]) == ("body.expires", "unexpected property")


@row("T10 lastUsedAt is there once a token was used, at every door, and not before")
def _(w):
    # What of it outlives a crash: test_filling.py; several daemons: test_coherence.py.
    slug = w.account()["slug"]
    path = f"/api/service-accounts/{slug}/tokens/"
    tokens = {name: w.mint(slug, name=name, slug=name)["token"] for name in ("gate", "me", "idle")}
    assert w.get("/api/tokens/validate", tokens["gate"]).status == 200
    done(w.http, w.get("/api/whoami", tokens["me"]))
    for name in tokens:
        seen = done(w.http, w.get(path + name))
        assert ("lastUsedAt" in seen) == (name != "idle")
        if name != "idle":
            assert seen["createdAt"][:19] <= seen["lastUsedAt"][:19] <= utc(seconds=1)[:19]


# --- decisions: callers ---------------------------------------------------------------------------


@row("C1 JWTs are verified; none is never accepted and never produced")
def _(w):
    # Every forgery: test_callers.py.
    head, claims, _ = w.http.token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    for forged in (f"{none}.{claims}.", f"{head}.{claims}.", f"{head}.{claims}.AAAA"):
        refused(w.get("/api/whoami", forged), 401, "Auth.InvalidToken")


@row("C2 claims: sub, organization, scopes or scope, name")
def _(w):
    who = done(w.http, w.get("/api/whoami"))
    assert (who["subject"], who["organization"]) == ("alice", w.org)
    assert who["scopes"] == ["read:*", "write:*"]
    refused(w.caller(sub="").request("GET", "/whoami"), 401, "Auth.MissingClaims",
            "Missing required JWT claims (sub)")


@row("C3 ids of users and organizations are UUIDv5 derivations")
def _(w):
    root = uuid.UUID("eb025416-6f74-4684-97e9-83e99784aaa5")
    who = done(w.http, w.get("/api/whoami"))
    assert who["id"] == str(uuid.uuid5(uuid.uuid5(root, "user"), "alice"))
    assert who["organizationId"] == str(uuid.uuid5(uuid.uuid5(root, "organization"), w.org))


@row("C4 a ksh_ token is a caller within its scopes, at both doors")
def _(w):
    account = w.account(name="Robot")
    token = w.mint(account["slug"], scopes=["read:tokens"])["token"]
    for client in (w.with_token(token), w.rpc(token)):
        done(client, client.call("account.list"))
        refused(client.call("account.create", name="n"), 403, "Auth.MissingScope")


@row("C5 a peer of the socket is known by what the kernel says")
def _(w):
    # Rules, uids, default deny: test_peers.py and test_callers.py.
    who = w.keep(w.daemon.rpc()).call("whoami").body
    assert (who["subject"], who["organization"]) == ("root", "acme")


@row("C6 /tokens/validate: exactly 200 and a signed JWT; one 401 for every refusal")
def _(w):
    # Its signature: test_validate.py.
    account = w.account()
    token = w.mint(account["slug"], scopes=["read:instances"])["token"]
    answer = w.get("/api/tokens/validate", token)
    scheme, _, jwt = answer.headers["Authorization"].partition(" ")
    claims = jwt_claims(jwt)
    assert (answer.status, scheme, answer.body) == (200, "Bearer", b"OK")
    assert json.loads(base64.urlsafe_b64decode(jwt.split(".")[0] + "=="))["alg"] == "ES256"
    assert claims["sub"] == account["externalId"] and claims["kaiten_external_org_id"] == w.org
    assert claims["scopes"] == ["read:instances"] and claims["scope"] == "read:instances"
    assert {"iss", "aud", "jti", "exp", "iat"} <= set(claims)
    for bad in (token[:-1], token[:-1] + "~", "ksm_" + token[4:], "x", w.http.token):
        refused(w.get("/api/tokens/validate", bad), 401, "ValidateToken.Invalid", "invalid token")


@row("C7 401 has its challenge; a foreign account is an absent one; no internal ids in texts")
def _(w):
    answer = w.get("/api/whoami", "x")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="kaiten", error="invalid_token"'
    other = World(w.daemon, w.org + "-other")
    slug = other.account(slug="theirs")["slug"]
    other.close()
    foreign = json.dumps(w.get("/api/service-accounts/" + slug).body)
    absent = json.dumps(w.get("/api/service-accounts/absent").body)
    assert foreign.replace("theirs", "absent") == absent
    assert not re.search("[0-9a-f]{8}-[0-9a-f]{4}-", absent)


@row("C8 authentication, then validation, then the scope, then the business")
def _(w):
    poor, path = w.caller(scopes=[]), "/api/service-accounts/absent/tokens"
    broken, bad, fine = {"name": 1}, {"name": "n", "scopes": ["x"]}, {"name": "n", "scopes": []}
    refused(w.with_token("").request("POST", path, broken), 401, "Auth.MissingAuthorizationHeader")
    refused(poor.request("POST", path, broken), 422, "UNPROCESSABLE")
    refused(poor.request("POST", path, bad), 403, "Auth.MissingScope")
    refused(w.post(path, bad), 400, "Token.InvalidScopes")
    refused(w.post(path, fine), 404, "CreateToken.ServiceAccountNotFound")


@pytest.mark.parametrize("name", row.known)
def test_row(world, name):
    row.known[name](world)


def test_no_row_is_left_out():
    assert row.sections() == ({f"S{n}" for n in range(1, 7)} | {f"T{n}" for n in range(1, 11)}
                              | {f"C{n}" for n in range(1, 9)})
