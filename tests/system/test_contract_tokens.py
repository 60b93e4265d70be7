# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The contract of tokens, row by row: minting, scopes, expiry, names and slugs, revoking and reading."""

import base64
import json
import re

import pytest

from conftest import done, places, refused
from contract import MODULES, TIME, create, http, mint, try_mint, utc  # noqa: F401


# --- minting --------------------------------------------------------------------------------------


def test_mint_row_by_row(doors, org):
    door = doors.caller(org=org, name="Splinter")
    a = create(door)
    expiry = utc(hours=24)
    t = mint(door, a["slug"], "deploy", scopes=["write:entitlements"], expiresAt=expiry)
    assert t["token"].startswith("ksh_") and len(t["token"]) == 36
    assert t["name"] == "deploy" and t["scopes"] == ["write:entitlements"]
    assert t["createdBy"] == a["createdBy"] and t["createdBy"]["name"] == "Splinter"
    assert t["expiresAt"] == expiry and t["serviceAccountId"] == a["id"]
    assert "revokedBy" not in t and "revokedAt" not in t
    assert TIME.fullmatch(t["createdAt"])
    got = done(door, door.call("token.get", serviceAccountSlug=a["slug"], tokenSlug=t["slug"]))
    assert got == {k: v for k, v in t.items() if k != "token"}


def test_mint_on_a_missing_account(door):
    refused(try_mint(door, "not-there"), 404, "CreateToken.ServiceAccountNotFound",
            'Service account with slug "not-there" not found')


def test_mint_with_an_empty_name(door, account):
    t = mint(door, account, "")
    assert t["name"] == "" and re.fullmatch("[0-9a-f]{6}", t["slug"])


def test_mint_with_the_whole_struct(door, account):
    zero = "00000000-0000-0000-0000-000000000000"
    never = "0001-01-01T00:00:00Z"
    t = mint(door, account, "whole", id=zero, slug=None, serviceAccountId=zero, expiresAt=None,
             createdAt=never, createdBy={"id": "", "name": ""}, revokedAt=None, revokedBy=None,
             token="")
    assert zero not in (t["id"], t["serviceAccountId"]) and t["token"] and t["createdAt"] > "2020"
    assert "expiresAt" not in t


@pytest.mark.parametrize("args,errors", [
    ({"name": None}, [("body.name", "expected string")]),
    ({"name": 1}, [("body.name", "expected string")]),
    ({"name": "n" * 1025}, [("body.name", "expected length <= 1024")]),
    ({"slug": ""}, [("body.slug", "expected length >= 2"),
                    ("body.slug", "expected string to match pattern "
                     "^[a-z0-9][a-z0-9-]*[a-z0-9]$")]),
    ({"scopes": "read:*"}, [("body.scopes", "expected array")]),
    ({"scopes": {}}, [("body.scopes", "expected array")]),
    ({"scopes": ["read:*", 1, None]}, [("body.scopes[1]", "expected string"),
                                       ("body.scopes[2]", "expected string")]),
    ({"expiresAt": "tomorrow"}, [("body.expiresAt", "expected string to be RFC 3339 date-time")]),
    ({"expiresAt": "2099-02-29T00:00:00Z"},
     [("body.expiresAt", "expected string to be RFC 3339 date-time")]),
    ({"expiresAt": "2099-01-01T00:00:00"},
     [("body.expiresAt", "expected string to be RFC 3339 date-time")]),
    ({"expiresAt": 4070908800}, [("body.expiresAt", "expected string")]),
    ({"expiry": "2099-01-01T00:00:00Z"}, [("body.expiry", "unexpected property")]),
    ({"scope": "read:*"}, [("body.scope", "unexpected property")]),
    ({"revokedBy": {"name": "x"}},
     [("body.revokedBy", "expected required property id to be present")])])
def test_mint_violations(door, account, args, errors):
    answer = try_mint(door, account, **args)
    assert places(refused(answer, 422, "UNPROCESSABLE", "validation failed")) == errors


def test_mint_without_required_members(door, account):
    answer = door.call("token.create", serviceAccountSlug=account)
    missing = "expected required property {} to be present"
    assert places(refused(answer, 422, "UNPROCESSABLE")) == [
        ("body", missing.format("name")), ("body", missing.format("scopes"))]


def test_nothing_is_minted_by_a_refusal(doors, org):
    door = doors.caller(org=org)
    slug = create(door)["slug"]
    for args in ({"expiry": 1}, {"expiresAt": utc(days=-1)}, {"scopes": ["nope"]}, {"slug": "A"}):
        assert not try_mint(door, slug, **args).ok
    assert done(door, door.call("token.list", serviceAccountSlug=slug))["items"] == []


def test_a_secret_in_a_refused_body_is_not_shown_again(door, account):
    secret = "ksh_" + "S" * 32
    for args in ({"token": secret, "x": 1}, {"token": secret, "name": None}, {"token": [secret]}):
        answer = try_mint(door, account, **args)
        assert answer.status == 422 and secret not in json.dumps(answer.body)


# Member names of JSON are found whatever the case of their letters; those of the socket are exact.
def test_letter_case_of_member_names(http, daemon):
    slug = create(http)["slug"]
    answer = http.request("POST", f"/service-accounts/{slug}/tokens",
                          {"NAME": "n", "Scopes": ["read:instances"], "EXPIRESAT": utc(days=1),
                           "sLuG": "lettercase", "createdby": {"ID": "x"}})
    t = done(http, answer, 201)
    assert (t["slug"], t["name"], t["scopes"]) == ("lettercase", "n", ["read:instances"])
    assert "expiresAt" in t
    rpc = daemon.rpc(http.token)
    answer = rpc.call("token.create", serviceAccountSlug=slug, NAME="n", scopes=[])
    assert ("body.NAME", "unexpected property") in places(refused(answer, 422, "UNPROCESSABLE"))
    rpc.close()


def test_answers_are_one_line_without_escaped_html(http):
    http.connection.request("POST", "/service-accounts", b'{"name":"<&>"}',
                            {"Authorization": "Bearer " + http.token})
    answer = http.connection.getresponse()
    raw = answer.read()
    assert raw.endswith(b"}\n") and raw.count(b"\n") == 1
    assert b'"name":"<&>"' in raw
    assert "Location" not in answer.headers and "Link" not in answer.headers


# --- scopes of tokens -----------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [
    "", "readlicenses", "archive:licenses", "read:invalid_module", ":licenses", "read:",
    "read:licenses:extra", " :licenses", "read: ", " read:customers", "read:customers ",
    "read :customers", "read: customers", "READ:customers", "read:Customers", "*:customers", "*",
    "read:**"])
def test_scopes_that_are_none(door, account, scope):
    (error,) = refused(try_mint(door, account, scopes=["read:tokens", scope]), 400,
                       "Token.InvalidScopes", "invalid scopes")
    assert error == {"location": "body.scopes", "message": (
        f"invalid scopes: [{scope}]. Valid format is <action>:<module> where action is "
        f"[read, write, delete] and module is [{', '.join(MODULES)}, *]")}


def test_all_bad_scopes_are_named(door, account):
    answer = try_mint(door, account, scopes=["one", "read:tokens", "two"])
    (error,) = refused(answer, 400, "Token.InvalidScopes")
    assert error["message"].startswith("invalid scopes: [one two]. ")


def test_scopes_are_kept_verbatim(door, account):
    scopes = ["write:licenses", "read:*", "read:licenses", "read:*", "delete:organizations",
              "write:*", "delete:*", "read:users"]
    assert mint(door, account, scopes=scopes)["scopes"] == scopes


def test_scopes_empty_is_empty(door, account):
    assert mint(door, account, scopes=[])["scopes"] == []


def test_scopes_null_is_all_of_the_caller_s(doors, org):
    slug = create(doors.caller(org=org))["slug"]
    held = ["write:tokens", "read:licenses", "made-up", "delete:webhooks"]
    door = doors.caller(org=org, scopes=held)
    t = mint(door, slug, scopes=None)
    assert t["scopes"] == ["write:tokens", "read:licenses", "delete:webhooks"]


@pytest.mark.parametrize("held,wanted,missing", [
    (["write:tokens"], ["write:*"], "write:*"),
    (["write:tokens"], ["read:tokens", "read:licenses", "delete:tokens"],
     "read:licenses, delete:tokens"),
    (["write:tokens", "read:*"], ["write:licenses", "read:licenses"], "write:licenses"),
    (["write:tokens", "read:*"], ["read:*", "write:tokens"], None),
    (["write:tokens", "write:licenses"], ["delete:licenses"], "delete:licenses"),
    (["write:tokens", "delete:*"], ["delete:licenses"], "delete:licenses"),
    (["write:tokens", "delete:*"], ["delete:*"], None),
    (["write:*"], ["delete:licenses", "delete:*", "read:*", "write:*"], None)])
def test_scopes_exceed_the_caller(doors, org, held, wanted, missing):
    slug = create(doors.caller(org=org))["slug"]
    answer = try_mint(doors.caller(org=org, scopes=held), slug, scopes=wanted)
    if missing is None:
        assert answer.ok, answer
    else:
        refused(answer, 403, "CreateToken.ScopesExceedCaller",
                "the caller does not hold: " + missing)


def test_rotation_exceeds_the_caller(doors, org):
    owner, poor = doors.caller(org=org), doors.caller(org=org, scopes=["write:tokens"])
    slug = create(owner)["slug"]
    t = mint(owner, slug, scopes=["read:licenses", "read:tokens"])
    at = {"serviceAccountSlug": slug, "tokenSlug": t["slug"]}
    refused(poor.call("token.rotate", **at), 403, "RotateToken.ScopesExceedCaller",
            "the caller does not hold: read:licenses")
    # A refused rotation has changed nothing; revoking needs no more than the scope for it.
    assert owner.call("token.get", **at).body == {k: v for k, v in t.items() if k != "token"}
    done(poor, poor.call("token.revoke", **at), 204)


def test_unbounded_scopes_are_an_option(own_daemon):
    daemon = own_daemon("storage-memory", daemon="unbounded_scopes = yes").start()
    http = daemon.http(daemon.jwt(scopes=["write:tokens"]))
    slug = create(http)["slug"]
    t = mint(http, slug, scopes=["write:*"])
    done(http, http.call("token.rotate", serviceAccountSlug=slug, tokenSlug=t["slug"]))
    http.close()


def test_modules_are_configuration(own_daemon):
    daemon = own_daemon("storage-memory", daemon="module = ships\nmodule = crews").start()
    http = daemon.http()
    slug = create(http)["slug"]
    assert mint(http, slug, scopes=["read:ships"])["scopes"] == ["read:ships"]
    (error,) = refused(try_mint(http, slug, scopes=["read:licenses"]), 400, "Token.InvalidScopes")
    assert error["message"].endswith("module is [ships, crews, *]")
    assert done(http, http.call("scopes"))["modules"] == ["ships", "crews"]
    http.close()


# --- expiry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["2001-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
                                  "1969-12-31T23:59:59Z"])
def test_past_expiry(door, account, wish):
    errors = refused(try_mint(door, account, expiresAt=wish), 422, "UNPROCESSABLE",
                     "validation failed")
    assert places(errors) == [("body.expiresAt", "expected a time in the future")]


@pytest.mark.parametrize("wish,kept", [
    ("2099-01-01T02:00:00+02:00", "2099-01-01T00:00:00Z"),
    ("2099-01-01T00:00:00-05:30", "2099-01-01T05:30:00Z"),
    ("2099-01-01t00:00:00z", "2099-01-01T00:00:00Z"),
    ("2099-01-01T00:00:00.120Z", "2099-01-01T00:00:00.12Z"),
    ("2099-01-01T00:00:00.123456789Z", "2099-01-01T00:00:00.123Z"),
    ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z")])
def test_expiry_is_converted_to_utc(door, account, wish, kept):
    assert mint(door, account, expiresAt=wish)["expiresAt"] == kept


def test_maximum_lifetime_refuses_and_names_the_limit(own_daemon):
    daemon = own_daemon("storage-memory", daemon="max_token_lifetime = 90m").start()
    for door in (daemon.http(), daemon.rpc(daemon.jwt())):
        slug = create(door)["slug"]
        assert "expiresAt" in mint(door, slug, "short", expiresAt=utc(minutes=89))
        for wish in (utc(minutes=92), "9999-01-01T00:00:00Z", None):
            errors = refused(try_mint(door, slug, expiresAt=wish), 422, "UNPROCESSABLE")
            assert places(errors) == [("body.expiresAt", "expected a lifetime of at most 90m")]
        door.close()


# --- names and slugs of tokens --------------------------------------------------------------------


def test_name_conflict_and_reuse_after_revocation(door, account):
    t = mint(door, account, "same")
    refused(try_mint(door, account, name="same"), 409, "CreateToken.Conflict",
            'Token "same" could not be created due to a conflicting record')
    assert mint(door, account, "Same")["name"] == "Same"
    done(door, door.call("token.revoke", serviceAccountSlug=account, tokenSlug=t["slug"]), 204)
    again = mint(door, account, "same")
    refused(try_mint(door, account, name="same"), 409, "CreateToken.Conflict")
    assert again["id"] != t["id"]


def test_slug_conflict_holds_over_revocation(door, account):
    done(door, door.call("token.revoke", serviceAccountSlug=account,
                         tokenSlug=mint(door, account, "one", slug="kept")["slug"]), 204)
    refused(try_mint(door, account, name="two", slug="kept"), 409, "CreateToken.SlugConflict",
            'Token with slug "kept" already exists for this service account')
    # The refused mint has not taken the name.
    mint(door, account, "two")


def test_slug_and_name_are_free_in_another_account(door, account):
    other = create(door)["slug"]
    for slug in (account, other):
        assert mint(door, slug, "same", slug="same-slug")["slug"] == "same-slug"


def test_rotation_keeps_all_but_the_secret(door, account):
    t = mint(door, account, "n", scopes=["read:licenses"], expiresAt=utc(hours=1))
    at = {"serviceAccountSlug": account, "tokenSlug": t["slug"]}
    r = done(door, door.call("token.rotate", **at))
    assert list(r) == list(t)
    assert {k: v for k, v in r.items() if k != "token"} == {
        k: v for k, v in t.items() if k != "token"}
    refused(try_mint(door, account, name="n"), 409, "CreateToken.Conflict")
    done(door, door.call("token.revoke", **at), 204)
    refused(door.call("token.rotate", **at), 404, "Token.NotFound")


def test_rotation_violations(door, account):
    at = {"serviceAccountSlug": account, "tokenSlug": mint(door, account)["slug"]}
    for grace, message in ((-1, "expected number >= 0"), ("60", "expected integer"),
                           (30 * 86400 + 1, "expected number <= 2592000")):
        errors = refused(door.call("token.rotate", gracePeriodSeconds=grace, **at), 422,
                         "UNPROCESSABLE")
        assert places(errors) == [("body.gracePeriodSeconds", message)]


# --- revoking and reading -------------------------------------------------------------------------


def test_revoke_what_is_not_there(door, account):
    t = mint(door, account)
    text = "Token with slug {} not found for service account {} or already revoked"
    for at in ((account, "not-there"), ("not-there", t["slug"]), (account, t["id"])):
        for operation in ("token.revoke", "token.rotate", "token.get"):
            refused(door.call(operation, serviceAccountSlug=at[0], tokenSlug=at[1]), 404,
                    "Token.NotFound", text.format(at[1], at[0]))


def test_revoke_twice(door, account):
    at = {"serviceAccountSlug": account, "tokenSlug": mint(door, account)["slug"]}
    done(door, door.call("token.revoke", **at), 204)
    refused(door.call("token.revoke", **at), 404, "Token.NotFound",
            "Token with slug {tokenSlug} not found for service account {serviceAccountSlug} or "
            "already revoked".format(**at))
    seen = done(door, door.call("token.get", **at))
    assert TIME.fullmatch(seen["revokedAt"])


def test_list_of_two_tokens(door, account):
    one = mint(door, account, "one", scopes=["read:licenses"])
    two = mint(door, account, "two", scopes=["write:licenses", "read:*"])
    page = done(door, door.call("token.list", serviceAccountSlug=account))
    assert list(page) == ["items", "hasMore"]
    assert page["items"] == [{k: v for k, v in t.items() if k != "token"} for t in (two, one)]


def test_list_of_no_tokens_and_of_an_unknown_account_are_the_same(door, account):
    for slug in (account, "not-there", "system:kaiten"):
        page = done(door, door.call("token.list", serviceAccountSlug=slug))
        assert page == {"items": [], "hasMore": False}


def test_no_answer_shows_what_was_stored_of_a_secret(door, account):
    t = mint(door, account)
    at = {"serviceAccountSlug": account, "tokenSlug": t["slug"]}
    seen = [door.call("token.get", **at), door.call("token.list", serviceAccountSlug=account),
            door.call("account.get", serviceAccountSlug=account), door.call("account.list")]
    text = json.dumps([answer.body for answer in seen])
    assert t["id"] in text
    for part in (t["token"], t["token"][4:12], t["token"][-6:]):
        assert part not in text


def test_cursor_and_ids_are_of_the_reference_s_form(doors, org):
    door = doors.caller(org=org)
    for i in range(2):
        create(door, str(i))
    page = done(door, door.call("account.list", limit=1))
    assert list(page) == ["items", "nextCursor", "hasMore"]
    text = page["nextCursor"]
    cursor = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    assert cursor == {"createdAt": page["items"][0]["createdAt"], "id": page["items"][0]["id"]}
