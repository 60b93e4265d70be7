# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What holds for all operations: who asks, scopes, the order of checks, paths."""

import json
import subprocess

import pytest

from conftest import KAITEN_JWT, done, places, refused
from contract import MODULES, create, http, mint, try_mint, utc  # noqa: F401


# --- who asks -------------------------------------------------------------------------------------


def with_header(daemon, value):
    client = daemon.http("")
    answer = client.request("GET", "/api/service-accounts",
                            headers={} if value is None else {"Authorization": value})
    client.close()
    return answer


@pytest.mark.parametrize("header,code,detail", [
    (None, "Auth.MissingAuthorizationHeader", "Missing Authorization header"),
    ("Basic eDp5", "Auth.UnknownAuthorizationHeader", "Invalid Authorization header format"),
    ("bearer x", "Auth.UnknownAuthorizationHeader", "Invalid Authorization header format"),
    ("Bearer", "Auth.UnknownAuthorizationHeader", "Invalid Authorization header format"),
    ("Bearer x", "Auth.InvalidToken", "Failed to parse JWT"),
    ("Bearer a.b.c", "Auth.InvalidToken", None),
    ("Bearer ksm_" + "a" * 32, "Auth.InvalidToken", "Failed to parse JWT"),
    ("Bearer ksh_" + "a" * 32, "Auth.InvalidToken", "Invalid token")])
def test_auth_row_header(daemon, header, code, detail):
    refused(with_header(daemon, header), 401, code, detail, "/api/service-accounts")


@pytest.fixture
def sign(daemon):
    """Signs claims with the key that the daemon knows; None leaves one out."""
    def make(**changes):
        claims = {"sub": "alice", "kaiten_external_org_id": "acme", "scopes": []}
        claims.update(changes)
        args = [KAITEN_JWT, "sign", "--alg", "RS256", "--key", daemon.private]
        args += [f"{k}:={json.dumps(v)}" for k, v in claims.items() if v is not None]
        return subprocess.run(args, check=True, capture_output=True, text=True).stdout.strip()

    return make


CLAIMS = {
    "sub missing": ({"sub": None}, "Auth.MissingClaims", "sub"),
    "sub empty": ({"sub": ""}, "Auth.MissingClaims", "sub"),
    "sub blank": ({"sub": "  "}, "Auth.MissingClaims", "sub"),
    "sub a number": ({"sub": 7}, "Auth.MissingClaims", "sub"),
    "org missing": ({"kaiten_external_org_id": None}, "Auth.MissingClaims",
                    "kaiten_external_org_id"),
    "org empty": ({"kaiten_external_org_id": ""}, "Auth.MissingClaims", "kaiten_external_org_id"),
    "org a list": ({"kaiten_external_org_id": ["acme"]}, "Auth.MissingClaims",
                   "kaiten_external_org_id"),
    "scopes missing": ({"scopes": None}, "Auth.MissingClaims", "scopes"),
    "scopes a text": ({"scopes": "read:*"}, "Auth.MissingClaims", "scopes"),
    "scopes an object": ({"scopes": {}}, "Auth.MissingClaims", "scopes"),
    "scopes mixed": ({"scopes": ["read:*", 1]}, "Auth.InvalidScopes", None),
}


@pytest.mark.parametrize("row", CLAIMS)
def test_auth_row_claims(doors, sign, row):
    changes, code, name = CLAIMS[row]
    answer = doors.with_token(sign(**changes)).call("whoami")
    refused(answer, 401, code, f"Missing required JWT claims ({name})" if name
            else "Scopes must be an array of strings")


@pytest.mark.parametrize("changes,organization,scopes", [
    ({"scopes": []}, "acme", []),
    ({"scopes": ["read:*", "write:tokens"]}, "acme", ["read:*", "write:tokens"]),
    ({"scopes": ["", "read:tokens", " ", "read:nothing"]}, "acme",
     ["read:tokens", " ", "read:nothing"]),
    ({"sub": " alice ", "kaiten_external_org_id": "\tacme\n"}, "acme", []),
    ({"kaiten_external_org_id": None, "org_id": "second"}, "second", []),
    ({"kaiten_external_org_id": None, "organization_id": "third"}, "third", []),
    ({"org_id": "second"}, "acme", []),
    ({"scopes": None, "scope": "read:tokens write:tokens"}, "acme",
     ["read:tokens", "write:tokens"]),
    ({"kaiten_user_id": 5, "kaiten_org_id": [], "unknown": {}}, "acme", [])])
def test_auth_row_valid_claims_are_the_caller(doors, sign, changes, organization, scopes):
    door = doors.with_token(sign(name="Al", **changes))
    who = done(door, door.call("whoami"))
    assert (who["subject"], who["name"], who["organization"]) == ("alice", "Al", organization)
    assert who["scopes"] == scopes and who["kind"] == "jwt"


def test_ids_of_users_and_organizations_are_derived(doors):
    door = doors.caller(sub="user_splinter", org="org_tmnt_hq")
    who = done(door, door.call("whoami"))
    assert who["id"] == "52f59945-dbb4-5107-a9f5-e5a9937d320c"
    assert who["organizationId"] == "44dce9a2-ded1-5945-a886-f8b9fbfa135f"
    assert who["name"] == "user_splinter"


# --- scopes ---------------------------------------------------------------------------------------

NEEDS = [("account.create", {"name": "n"}, "write:tokens"), ("account.list", {}, "read:tokens"),
         ("account.get", {"serviceAccountSlug": "aa"}, "read:tokens"),
         ("account.update", {"serviceAccountSlug": "aa", "name": "n"}, "write:tokens"),
         ("account.delete", {"serviceAccountSlug": "aa"}, "write:tokens"),
         ("token.create", {"serviceAccountSlug": "aa", "name": "n", "scopes": []}, "write:tokens"),
         ("token.list", {"serviceAccountSlug": "aa"}, "read:tokens"),
         ("token.get", {"serviceAccountSlug": "aa", "tokenSlug": "bb"}, "read:tokens"),
         ("token.rotate", {"serviceAccountSlug": "aa", "tokenSlug": "bb"}, "write:tokens"),
         ("token.revoke", {"serviceAccountSlug": "aa", "tokenSlug": "bb"}, "write:tokens"),
         ("token.revokeAll", {"serviceAccountSlug": "aa"}, "write:tokens")]


@pytest.mark.parametrize("operation,args,scope", NEEDS)
def test_scope_refusal_names_the_scope(doors, operation, args, scope):
    for held in ([], ["read:instances", "delete:*", "delete:tokens"],
                 ["read:*"] if scope == "write:tokens" else ["write:instances"]):
        door = doors.caller(scopes=held)
        path = door.ROUTES[operation][1].format(**args) if door.name == "http" else None
        refused(door.call(operation, **args), 403, "Auth.MissingScope",
                "missing required scope: " + scope, "/api" + path if path else operation)


@pytest.mark.parametrize("held,required", [
    ("write:*", "write:tokens"), ("write:*", "read:tokens"), ("read:*", "read:tokens"),
    ("write:tokens", "read:tokens"), ("write:tokens", "write:tokens"),
    ("read:tokens", "read:tokens")])
def test_scope_implication(doors, org, held, required):
    door = doors.caller(org=org, scopes=[held])
    if required == "read:tokens":
        done(door, door.call("account.list"))
    else:
        create(door)


def test_scopes_are_published(door):
    body = done(door, door.call("scopes"))
    published = [m for m in MODULES if m not in ("users", "memberships")]
    assert body["scopes"] == sorted(f"{a}:{m}" for a in ("read", "write") for m in published)
    assert body["modules"] == MODULES


# --- order of checks ------------------------------------------------------------------------------


def test_order_of_checks(doors, org):
    """401, then the body, then the scope, then what the operation finds."""
    poor, rich = doors.caller(org=org, scopes=[]), doors.caller(org=org)
    nobody = doors.with_token("ksh_" + "a" * 32)
    broken = dict(serviceAccountSlug="not-there", name=1, scopes=["bad"])
    fine = dict(broken, name="n")
    refused(nobody.call("token.create", **broken), 401, "Auth.InvalidToken")
    refused(poor.call("token.create", **broken), 422, "UNPROCESSABLE")
    refused(poor.call("token.create", **fine), 403, "Auth.MissingScope")
    refused(rich.call("token.create", **fine), 400, "Token.InvalidScopes")
    fine["scopes"] = []
    refused(rich.call("token.create", **fine), 404, "CreateToken.ServiceAccountNotFound")


def test_order_of_checks_in_the_body_of_http(http, daemon, org):
    poor = daemon.http(daemon.jwt(org=org, scopes=[]))
    for path in ("/service-accounts", "/service-accounts/not-there/tokens"):
        for raw, status, headers in ((b"", 400, {}), (b"{", 400, {}),
                                     (b"{}", 415, {"Content-Type": "text/xml"}), (b"[]", 422, {})):
            assert poor.request("POST", path, raw=raw, headers=headers).status == status
    answer = poor.request("GET", "/service-accounts?limit=abc")
    assert places(refused(answer, 422, "UNPROCESSABLE")) == [("query.limit", "invalid integer")]
    poor.close()
    nobody = daemon.http("")
    assert nobody.request("POST", "/service-accounts", raw=b"{").status == 401
    nobody.close()


def test_past_expiry_comes_before_the_scope(doors, org):
    poor = doors.caller(org=org, scopes=[])
    errors = refused(try_mint(poor, "not-there", expiresAt=utc(seconds=-1)), 422, "UNPROCESSABLE")
    assert [e["location"] for e in errors] == ["body.expiresAt"]


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_every_route_with_and_without_api(daemon, org, prefix):
    http = daemon.http(daemon.jwt(org=org))
    http.prefix = prefix
    slug = create(http, slug="farm")["slug"]
    t = mint(http, slug)
    at = {"serviceAccountSlug": slug, "tokenSlug": t["slug"]}
    done(http, http.call("account.list"))
    done(http, http.call("account.get", serviceAccountSlug=slug))
    done(http, http.call("account.update", serviceAccountSlug=slug, name="n"), 204)
    done(http, http.call("token.list", serviceAccountSlug=slug))
    done(http, http.call("token.get", **at))
    r = done(http, http.call("token.rotate", **at))
    for operation in ("whoami", "scopes", "healthz", "readyz"):
        done(http, http.call(operation))
    assert http.request("GET", prefix + "/.well-known/jwks.json").status == 200
    mine = daemon.http(r["token"])
    mine.prefix = prefix
    assert mine.call("token.validate").status == 200
    mine.close()
    done(http, http.call("token.revoke", **at), 204)
    done(http, http.call("token.revokeAll", serviceAccountSlug=slug))
    done(http, http.call("account.delete", serviceAccountSlug=slug), 204)
    refused(http.call("account.get", serviceAccountSlug=slug), 404, "ServiceAccount.NotFound",
            instance=prefix + "/service-accounts/farm")
    http.close()


def test_instance_is_the_path_without_the_query(http):
    answer = http.request("GET", "/api/service-accounts?limit=0&x=y")
    refused(answer, 422, "UNPROCESSABLE", instance="/api/service-accounts")


def test_public_paths_need_nobody(daemon):
    nobody = daemon.http("")
    for prefix in ("", "/api"):
        for path in ("/healthz", "/readyz", "/.well-known/jwks.json"):
            assert nobody.request("GET", prefix + path).status == 200
        for path in ("/docs/", "/openapi.json/"):
            assert nobody.request("GET", prefix + path).status == 200
        # Whatever is below the documents is public, and has nothing to hide.
        for path in ("/docs/none", "/docs/style.css/x", "/openapi", "/openapi.yaml", "/openapi/x"):
            refused(nobody.request("GET", prefix + path), 404, "NOT_FOUND", instance=prefix + path)
        for path in ("/docs", "/docs/style.css", "/openapi.json"):
            answer = nobody.request("POST", prefix + path)
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        # A path beside a public one is like every other.
        for path in ("/healthz/", "/tokens/validate/", "/no-such-path", "/", "", "/docsx", "/open",
                     "/doc", "/x/docs/", "/Docs", "//docs/x"):
            answer = nobody.request("GET", prefix + path or "/")
            refused(answer, 401, "Auth.MissingAuthorizationHeader")
    nobody.close()


def test_unrouted_path_is_not_found_for_known_callers(http):
    for path in ("/no-such-path", "/api/no-such-path", "/service-accounts/a/b", "/api/api/scopes",
                 "/platform/me", "/platform/organizations"):
        refused(http.request("GET", path), 404, "NOT_FOUND", instance=path)


def test_unknown_method_of_the_socket_is_told(daemon):
    rpc = daemon.rpc()
    refused(rpc.call("nvim_get_api_info"), 404, "Method.NotFound", "no method nvim_get_api_info",
            "nvim_get_api_info")
    done(rpc, rpc.call("kaiten.ping"))
    rpc.close()


# --- foreign and absent ---------------------------------------------------------------------------


def test_foreign_and_absent_are_the_same_bytes(doors, org):
    """The texts may differ in nothing but the slug that the caller wrote."""
    owner, other = doors.caller(org=org), doors.caller(org=org + "-other")
    create(owner, slug="theirs")
    token = mint(owner, "theirs", slug="deploy-1")
    for operation, args, _ in NEEDS:
        if "serviceAccountSlug" not in args:
            continue
        args = dict(args, tokenSlug="deploy-1") if "tokenSlug" in args else args
        answers = {}
        for slug in ("theirs", "absent"):
            answer = other.call(operation, **dict(args, serviceAccountSlug=slug))
            answers[slug] = (answer.status, json.dumps(answer.body),
                             {k: v for k, v in answer.headers.items() if k != "Date"})
        theirs = json.dumps(answers["theirs"]).replace("theirs", "absent")
        assert theirs == json.dumps(answers["absent"]), operation
        assert answers["absent"][0] == (200 if operation == "token.list" else 404), operation
        own = done(owner, owner.call("whoami"))
        for secret in (own["organizationId"], token["id"], token["serviceAccountId"]):
            assert secret not in theirs
    assert done(owner, owner.call("token.get", serviceAccountSlug="theirs",
                                  tokenSlug="deploy-1"))["slug"] == "deploy-1"
