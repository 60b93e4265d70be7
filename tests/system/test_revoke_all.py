# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""token.revokeAll: every token that an account has, in one write, through both doors."""

import threading

import pytest

from conftest import done, refused
from test_idempotency import call as call_with_key


def mint(door, account, name, **args):
    return done(door, door.call("token.create", serviceAccountSlug=account, name=name,
                                scopes=["read:instances"], **args), 201)


def revoke_all(door, account):
    return done(door, door.call("token.revokeAll", serviceAccountSlug=account))


def verdicts(verifier, tokens):
    results = verifier.call("token.verifyMany", tokens=[t["token"] for t in tokens])
    return [r.get("code", "valid") for r in results.body["results"]]


def listed(door, account):
    page = done(door, door.call("token.list", serviceAccountSlug=account, limit=200))
    embedded = done(door, door.call("account.get", serviceAccountSlug=account))["tokens"]
    assert embedded == page["items"][:len(embedded)]
    # When they were last used is not what these tests are about.
    return {t["slug"]: {k: v for k, v in t.items() if k != "lastUsedAt"} for t in page["items"]}


def test_the_receipt(door, account):
    who = done(door, door.call("whoami"))
    made = done(door, door.call("account.get", serviceAccountSlug=account))
    receipt = revoke_all(door, account)
    assert list(receipt) == ["serviceAccountId", "serviceAccountSlug", "revokedAt", "revokedBy"]
    assert receipt["serviceAccountId"] == made["id"]
    assert receipt["serviceAccountSlug"] == account
    assert receipt["revokedBy"] == {"id": who["id"], "name": who["name"]}


def test_every_token_ends_and_later_ones_are_good(door, account, daemon, verifier):
    old = [mint(door, account, f"t{i}") for i in range(5)]
    rotated = done(door, door.call("token.rotate", serviceAccountSlug=account,
                                   tokenSlug=old[0]["slug"], gracePeriodSeconds=3600))
    by_itself = done(door, door.call("token.revoke", serviceAccountSlug=account,
                                     tokenSlug=old[1]["slug"]), 204)
    assert by_itself is None or by_itself == b""
    before = listed(door, account)[old[1]["slug"]]
    receipt = revoke_all(door, account)
    assert set(verdicts(verifier, old + [rotated])) == {"revoked"}
    for t in old + [rotated]:
        client = daemon.http(t["token"])
        assert client.call("token.validate").status == 401
        client.close()
    new = mint(door, account, "later")
    assert verdicts(verifier, [new]) == ["valid"]
    seen = listed(door, account)
    assert "revokedAt" not in seen[new["slug"]] and "revokedBy" not in seen[new["slug"]]
    assert seen[old[1]["slug"]] == before  # it had an end of its own
    for t in old[:1] + old[2:]:
        view = seen[t["slug"]]
        assert (view["revokedAt"], view["revokedBy"]) == (receipt["revokedAt"],
                                                          receipt["revokedBy"])
        assert view == done(door, door.call("token.get", serviceAccountSlug=account,
                                            tokenSlug=t["slug"]))


def test_each_time_has_an_end_of_its_own(doors, verifier):
    first, second = doors.caller(sub="first"), doors.caller(sub="second")
    account = done(first, first.call("account.create", name="Twice"), 201)["slug"]
    a = mint(first, account, "a")
    one = revoke_all(first, account)
    b = mint(first, account, "b")
    two = revoke_all(second, account)
    c = mint(first, account, "c")
    assert verdicts(verifier, [a, b, c]) == ["revoked", "revoked", "valid"]
    seen = listed(first, account)
    for token, receipt in ((a, one), (b, two)):
        assert seen[token["slug"]]["revokedBy"] == receipt["revokedBy"]
        assert seen[token["slug"]]["revokedAt"] == receipt["revokedAt"]
    accounts = done(first, first.call("account.list", limit=200))["items"]
    mine = next(x for x in accounts if x["slug"] == account)
    assert [t["slug"] for t in mine["tokens"]] == [t["slug"] for t in (c, b, a)]
    assert ["revokedBy" in t for t in mine["tokens"]] == [False, True, True]


def test_what_is_revoked_is_not_there_to_be_changed(door, account):
    t = mint(door, account, "gone")
    revoke_all(door, account)
    at = dict(serviceAccountSlug=account, tokenSlug=t["slug"])
    for operation in ("token.revoke", "token.rotate"):
        refused(door.call(operation, **at), 404, "Token.NotFound",
                f"Token with slug {t['slug']} not found for service account {account} "
                "or already revoked")


def test_names_are_free_again_and_slugs_are_not(door, account, verifier):
    held = mint(door, account, "Deploy", slug="deploy-1")
    revoke_all(door, account)
    refused(door.call("token.create", serviceAccountSlug=account, name="Other", slug="deploy-1",
                      scopes=[]), 409, "CreateToken.SlugConflict")
    heir = mint(door, account, "Deploy", slug="deploy-2")
    refused(door.call("token.create", serviceAccountSlug=account, name="Deploy", scopes=[]), 409,
            "CreateToken.Conflict")
    # The heir's name is its own: nothing that is said of the other token frees it.
    refused(door.call("token.revoke", serviceAccountSlug=account, tokenSlug=held["slug"]), 404,
            "Token.NotFound")
    refused(door.call("token.create", serviceAccountSlug=account, name="Deploy", scopes=[]), 409,
            "CreateToken.Conflict")
    done(door, door.call("token.revoke", serviceAccountSlug=account, tokenSlug=heir["slug"]), 204)
    assert verdicts(verifier, [mint(door, account, "Deploy")]) == ["valid"]


def test_an_account_without_tokens_and_one_that_is_not_there(door, account, verifier):
    revoke_all(door, account)
    assert verdicts(verifier, [mint(door, account, "first")]) == ["valid"]
    refused(door.call("token.revokeAll", serviceAccountSlug="not-there"), 404,
            "ServiceAccount.NotFound", "Service account with slug not-there not found")


def test_a_member_that_means_nothing_is_refused(door, account, verifier):
    """Whoever sends a condition must not learn that everything was revoked all the same."""
    t = mint(door, account, "stays")
    refused(door.call("token.revokeAll", serviceAccountSlug=account, olderThan="2029-01-01"), 422,
            "UNPROCESSABLE")
    assert verdicts(verifier, [t]) == ["valid"]


def test_without_a_body(daemon, account):
    http = daemon.http(daemon.jwt())
    path = f"/service-accounts/{account}/tokens/revoke"
    assert http.request("POST", path).status == 200
    assert http.request("POST", "/api" + path + "/").status == 200
    answer = http.request("PUT", path)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, DELETE, POST")
    http.close()


def test_a_token_may_have_the_slug_revoke(door, account):
    t = mint(door, account, "Revoke", slug="revoke")
    at = dict(serviceAccountSlug=account, tokenSlug="revoke")
    assert done(door, door.call("token.get", **at))["id"] == t["id"]
    done(door, door.call("token.revoke", **at), 204)


def test_with_a_key_a_lost_answer_can_be_asked_for_again(door, account, verifier):
    """Else a client that asks twice would revoke what it has minted in between."""
    one = call_with_key(door, "token.revokeAll", "revoke-" + account, serviceAccountSlug=account)
    t = mint(door, account, "between")
    two = call_with_key(door, "token.revokeAll", "revoke-" + account, serviceAccountSlug=account)
    assert one.ok and one.body == two.body
    assert verdicts(verifier, [t]) == ["valid"]


def test_other_accounts_and_organizations_keep_theirs(doors, org, verifier):
    clients = [doors.caller(org=org + n) for n in "ab"]
    for c in clients:
        for slug in ("same", "other"):
            done(c, c.call("account.create", name="n", slug=slug), 201)
    tokens = [mint(c, slug, "t") for c in clients for slug in ("same", "other")]
    revoke_all(clients[0], "same")
    assert verdicts(verifier, tokens) == ["revoked", "valid", "valid", "valid"]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_the_end_is_durable(own_daemon, how):
    d = own_daemon("storage-bdb").start()
    rpc = d.rpc()
    account = done(rpc, rpc.call("account.create", name="Durable"), 201)["slug"]
    old = [mint(rpc, account, f"t{i}") for i in range(20)]
    revoke_all(rpc, account)
    new = mint(rpc, account, "t0")
    before = listed(rpc, account)
    rpc.close()
    getattr(d, how)()
    d.start()
    rpc = d.rpc()
    assert verdicts(rpc, old) == ["revoked"] * 20
    assert verdicts(rpc, [new]) == ["valid"]
    assert listed(rpc, account) == before
    revoke_all(rpc, account)
    assert verdicts(rpc, [new]) == ["revoked"]
    rpc.close()


def test_each_mint_is_before_the_end_or_after_it(doors, daemon, verifier):
    """Both at once: a token that was there is dead, one that came later lives, and of those in
    between the list says what the verdict says."""
    owner = doors.caller()
    account = done(owner, owner.call("account.create", name="Race"), 201)["slug"]
    minted, stop = [], threading.Event()

    def mint_on(n):
        door = daemon.rpc()
        for i in range(100_000):
            if stop.is_set():
                break
            minted.append(mint(door, account, f"{n}-{i}"))
        door.close()

    threads = [threading.Thread(target=mint_on, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    try:
        for i in range(15):
            while len(minted) < 10 * i:
                assert any(t.is_alive() for t in threads)
                stop.wait(0.001)
            before = list(minted)
            revoke_all(owner, account)
            assert set(verdicts(verifier, before[-200:])) <= {"revoked"}
            assert verdicts(verifier, [mint(owner, account, f"after-{i}")]) == ["valid"]
    finally:
        stop.set()
        for t in threads:
            t.join()
    last = mint(owner, account, "last")
    minted = minted[-60:] + [last]
    seen, said = listed(owner, account), verdicts(verifier, minted)
    for token, verdict in zip(minted, said):
        if token["slug"] in seen:
            assert ("revokedAt" in seen[token["slug"]]) == (verdict == "revoked")
    assert said[-1] == "valid"
    revoke_all(owner, account)
    assert set(verdicts(verifier, minted)) == {"revoked"}
