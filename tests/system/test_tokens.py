# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The life of tokens, each case through both doors."""

import datetime
import re

import pytest

from conftest import brief_life, wait_for


def mint(door, account, name="deploy", scopes=("read:instances",), **args):
    answer = door.call("token.create", serviceAccountSlug=account, name=name,
                       scopes=list(scopes), **args)
    assert answer.ok, answer
    return answer.body


def utc(**delta):
    t = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**delta)
    return t.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_minted_token_has_the_contract_s_members_in_order(door, account):
    t = mint(door, account, expiresAt=utc(hours=24))
    assert list(t) == ["id", "name", "slug", "scopes", "serviceAccountId", "expiresAt",
                       "createdAt", "createdBy", "token"]
    assert re.fullmatch(r"ksh_[0-9A-Za-z]{32}", t["token"])
    assert re.fullmatch(r"deploy-[0-9a-f]{6}", t["slug"])
    assert t["name"] == "deploy"
    assert t["createdBy"]["name"]


def test_verify_says_whose_it_is(door, account, verifier):
    t = mint(door, account)
    v = verifier.call("token.verify", token=t["token"]).body
    assert v == {"valid": True, "tokenId": t["id"], "organization": "acme",
                 "serviceAccount": account, "scopes": ["read:instances"]}


@pytest.mark.parametrize("scope,valid", [("read:instances", True), ("write:instances", False),
                                         ("read:tokens", False)])
def test_verify_with_scope(door, account, verifier, scope, valid):
    t = mint(door, account)
    v = verifier.call("token.verify", token=t["token"], scope=scope).body
    assert v["valid"] is valid
    assert valid or v["code"] == "scope"


def test_verify_many_answers_in_order(door, account, verifier):
    good = mint(door, account)["token"]
    unknown = "ksh_" + "A" * 32
    v = verifier.call("token.verifyMany", tokens=[good, unknown, good]).body["results"]
    assert [r["valid"] for r in v] == [True, False, True]
    assert v[1]["code"] == "malformed"


def test_revoked_is_refused_at_both_doors_at_once(door, account, daemon, verifier):
    t = mint(door, account)
    assert door.call("token.revoke", serviceAccountSlug=account, tokenSlug=t["slug"]).ok
    v = verifier.call("token.verify", token=t["token"]).body
    assert v == {"valid": False, "code": "revoked"}
    assert daemon.http(t["token"]).call("token.validate").status == 401
    again = door.call("token.revoke", serviceAccountSlug=account, tokenSlug=t["slug"])
    assert (again.status, again.code) == (404, "Token.NotFound")


def test_listed_newest_first_without_the_secret(door, account):
    first, second = mint(door, account, "one"), mint(door, account, "two")
    page = door.call("token.list", serviceAccountSlug=account).body
    assert [t["slug"] for t in page["items"]] == [second["slug"], first["slug"]]
    assert page["hasMore"] is False and "nextCursor" not in page
    assert all("token" not in t for t in page["items"])


def test_rotation_with_grace_keeps_the_old_secret_for_a_while(door, account, verifier):
    t = mint(door, account)
    r = door.call("token.rotate", serviceAccountSlug=account, tokenSlug=t["slug"],
                  gracePeriodSeconds=60)
    assert r.ok and r.body["id"] == t["id"] and r.body["token"] != t["token"]
    assert verifier.call("token.verify", token=t["token"]).body["valid"]
    assert verifier.call("token.verify", token=r.body["token"]).body["valid"]
    assert door.call("token.revoke", serviceAccountSlug=account, tokenSlug=t["slug"]).ok
    for secret in (t["token"], r.body["token"]):
        assert verifier.call("token.verify", token=secret).body["code"] == "revoked"


def test_rotation_without_grace_ends_the_old_secret(door, account, verifier):
    t = mint(door, account)
    r = door.call("token.rotate", serviceAccountSlug=account, tokenSlug=t["slug"])
    assert r.ok
    assert verifier.call("token.verify", token=t["token"]).body["code"] == "revoked"
    assert verifier.call("token.verify", token=r.body["token"]).body["valid"]


def test_expired_token_is_refused(door, account, verifier):
    def expiring(end, over):
        answer = door.call("token.create", serviceAccountSlug=account, name=end, scopes=[],
                           expiresAt=end)
        verdict = answer.ok and verifier.call("token.verify", token=answer.body["token"]).body
        if over():
            return None
        assert answer.ok and verdict["valid"], (answer, verdict)
        return answer.body["token"]

    secret = brief_life(expiring)
    wait_for(lambda: not verifier.call("token.verify", token=secret).body["valid"],
             "the token to expire")
    assert verifier.call("token.verify", token=secret).body["code"] == "expired"


def test_deleting_the_account_ends_its_tokens(door, account, verifier):
    t = mint(door, account)
    assert door.call("account.delete", serviceAccountSlug=account).ok
    assert verifier.call("token.verify", token=t["token"]).body["code"] == "revoked"
    assert door.call("account.get", serviceAccountSlug=account).status == 404


def test_a_slug_created_again_revives_nothing(door, verifier):
    for _ in range(2):
        a = door.call("account.create", name="again", slug="again-and-again")
        assert a.ok, a
        t = mint(door, "again-and-again", slug="one")
        assert door.call("account.delete", serviceAccountSlug="again-and-again").ok
        assert verifier.call("token.verify", token=t["token"]).body["code"] == "revoked"
