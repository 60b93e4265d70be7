# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Idempotency keys: the same request sent twice is done once, through both doors."""

import concurrent.futures
import itertools
import os

import pytest

from conftest import brief_life, files_below, refused, wait_for

keys = (f"key-{n}" for n in itertools.count())


def call(door, operation, key, **args):
    """A call with an idempotency key: a header on HTTP, a member of meta on the socket."""
    if door.name == "http":
        method, path = door.ROUTES[operation]
        for name in ("serviceAccountSlug", "tokenSlug"):
            if "{%s}" % name in path:
                path = path.replace("{%s}" % name, args.pop(name))
        return door.request(method, door.prefix + path, args, {"Idempotency-Key": key})
    credential = {"token": door.token} if door.token else {}
    ident = door.send(operation, args, {"idempotency_key": key, **credential})
    _, answered, error, result = door.receive()
    assert answered == ident
    from conftest import Answer
    return Answer(200, result) if error is None else Answer(error["status"], error)


def mint(door, account, key, name="deploy"):
    return call(door, "token.create", key, serviceAccountSlug=account, name=name,
                scopes=["read:instances"])


def test_the_same_answer_once_more_secret_included(door, account, verifier):
    key = next(keys)
    first, second = mint(door, account, key), mint(door, account, key)
    assert first.ok, first
    assert second.body == first.body
    assert verifier.call("token.verify", token=second.body["token"]).body["valid"]
    assert len(door.call("token.list", serviceAccountSlug=account).body["items"]) == 1


def test_an_account_is_made_once(door):
    key = next(keys)
    one = call(door, "account.create", key, name="Once")
    two = call(door, "account.create", key, name="Once")
    assert one.ok and one.body == two.body


def test_rotation_happens_once(door, account, verifier):
    t = mint(door, account, next(keys)).body
    key = next(keys)
    one = call(door, "token.rotate", key, serviceAccountSlug=account, tokenSlug=t["slug"])
    two = call(door, "token.rotate", key, serviceAccountSlug=account, tokenSlug=t["slug"])
    assert one.ok and one.body == two.body
    assert verifier.call("token.verify", token=one.body["token"]).body["valid"]


def test_another_body_is_refused(door, account):
    key = next(keys)
    assert mint(door, account, key).ok
    other = mint(door, account, key, name="other")
    assert (other.status, other.code) == (422, "Idempotency.KeyReused")


def test_another_caller_has_keys_of_its_own(doors, account):
    key = next(keys)
    one = mint(doors.caller(), account, key, "one")
    two = mint(doors.caller(sub="bob"), account, key, "two")
    assert one.ok and two.ok and one.body["id"] != two.body["id"]


def test_organizations_do_not_meet_in_a_key(doors):
    """The same subject with the same key at the same instant, in two organizations."""
    def make(org):
        caller = doors.caller(sub="bob", org=org)
        return [call(caller, "account.create", f"meet-{n}", name="x").status for n in range(50)]

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        statuses = [s for made in pool.map(make, ("one", "two")) for s in made]
    assert set(statuses) <= {200, 201}


def test_a_weaker_credential_of_the_caller_does_not_get_the_secret(doors, account):
    """The same subject, so the same keys; but what it could not have asked for is not handed out."""
    made, turned = next(keys), next(keys)
    whole, weak = doors.caller(), doors.caller(scopes=["write:tokens"])

    def mint_all(door):
        return call(door, "token.create", made, serviceAccountSlug=account, name="all", scopes=None)

    def rotate(door):
        return call(door, "token.rotate", turned, serviceAccountSlug=account, tokenSlug=slug)

    first = mint_all(whole)
    assert first.ok and len(first.body["scopes"]) > 1
    slug = first.body["slug"]
    refused(mint_all(weak), 403, "CreateToken.ScopesExceedCaller")
    assert mint_all(doors.caller()).body == first.body
    second = rotate(whole)
    assert second.ok
    refused(rotate(weak), 403, "RotateToken.ScopesExceedCaller")
    assert rotate(doors.caller()).body == second.body


def test_nor_does_one_whose_tokens_may_not_live_so_long(own_daemon):
    rule = f"uid={os.getuid()} org=acme subject=me scopes=read:*,write:*"
    d = own_daemon("storage-bdb", rules=[rule]).start()

    def asked():
        rpc = d.rpc()
        answers = [call(rpc, "account.create", "a", name="A", slug="farm"),
                   call(rpc, "token.create", "t", serviceAccountSlug="farm", name="tt", slug="tt",
                        scopes=[]),
                   call(rpc, "token.rotate", "r", serviceAccountSlug="farm", tokenSlug="tt")]
        rpc.close()
        return answers

    before = asked()
    assert all(a.ok for a in before), before
    assert [a.body for a in asked()] == [a.body for a in before]
    d.stop()
    d.write_conf(rules=[rule + " max_lifetime=1h"])
    d.start()
    account, made, turned = asked()
    assert account.body == before[0].body
    refused(made, 422, "UNPROCESSABLE")
    refused(turned, 403, "RotateToken.LifetimeExceedsCaller")


def test_nor_is_one_that_has_ended_by_now(door, account):
    def attempt(end, over):
        key = next(keys)

        def ask():
            return call(door, "token.create", key, serviceAccountSlug=account, name=key, scopes=[],
                        expiresAt=end)
        first, second = ask(), ask()
        if over():
            return None
        assert first.ok and second.body == first.body
        wait_for(over, "the token to end")
        return ask()

    refused(brief_life(attempt), 422, "UNPROCESSABLE")


def test_the_quotes_of_the_header_are_not_part_of_the_key(daemon):
    door = daemon.http()
    account = call(door, "account.create", "quoted-1", name="Q").body["slug"]
    first = mint(door, account, '"quoted-2"')
    assert first.ok and mint(door, account, "quoted-2").body == first.body
    assert mint(door, account, '"' + "x" * 255 + '"', "longest").ok
    for key in ('""', '"', '"a', '"a"b', '"a";q=1', '"a\\"b"', '"' + "x" * 256 + '"'):
        refused(mint(door, account, key), 422, "Idempotency.InvalidKey")


def test_a_request_is_the_same_through_the_other_door_and_in_another_order(daemon):
    door = daemon.http()
    rpc = daemon.rpc(door.token)
    account = call(door, "account.create", "doors-1", name="D").body
    assert call(rpc, "account.create", "doors-1", name="D").body == account
    args = {"serviceAccountSlug": account["slug"], "name": "d", "expiresAt": "2090-01-01T00:00:00Z",
            "scopes": ["read:users"]}
    first = call(door, "token.create", "doors-2", **args)
    assert first.ok and call(rpc, "token.create", "doors-2", **args).body == first.body
    turned = dict(reversed(args.items()), expiresAt="2090-01-01T02:00:00.000+02:00", id=None)
    assert call(door, "token.create", "doors-2", **turned).body == first.body
    slug = {"serviceAccountSlug": account["slug"], "tokenSlug": first.body["slug"]}
    second = call(rpc, "token.rotate", "doors-3", **slug)
    assert second.ok and call(door, "token.rotate", "doors-3", **slug).body == second.body
    at_once, later = dict(slug, gracePeriodSeconds=0), dict(slug, gracePeriodSeconds=1)
    assert call(door, "token.rotate", "doors-3", **at_once).body == second.body
    refused(call(door, "token.rotate", "doors-3", **later), 422, "Idempotency.KeyReused")
    third = call(door, "token.rotate", "doors-5", **at_once)
    assert third.ok and call(rpc, "token.rotate", "doors-5", **slug).body == third.body
    for change in ({"scopes": None}, {"scopes": []}, {"slug": "other"}, {"name": ""},
                   {"expiresAt": "2090-01-01T00:00:01Z"}, {"expiresAt": None},
                   {"scopes": ["read:users"] * 2}):
        for other in (door, rpc):
            refused(call(other, "token.create", "doors-2", **dict(args, **change)), 422,
                    "Idempotency.KeyReused")
    # Another path, through either door.
    assert call(door, "account.create", "doors-4", name="E", slug="doors-e").ok
    for other in (door, rpc):
        refused(call(other, "token.create", "doors-2", **dict(args, serviceAccountSlug="doors-e")),
                422, "Idempotency.KeyReused")
    rpc.close()


@pytest.mark.parametrize("key", ["", "x" * 256, "a b"])
def test_a_malformed_key_is_refused(door, account, key):
    answer = mint(door, account, key)
    assert (answer.status, answer.code) == (422, "Idempotency.InvalidKey")


def test_a_refusal_is_not_kept(door, account):
    key = next(keys)
    wrong = call(door, "token.create", key, serviceAccountSlug=account, name="n",
                 scopes=["read:nothing"])
    assert wrong.status == 400
    assert mint(door, account, key).ok


def test_at_the_same_instant_one_is_minted(doors, account):
    key = next(keys)
    clients = [doors.caller() for _ in range(16)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda c: mint(c, account, key), clients))
    secrets = {a.body["token"] for a in answers if a.ok}
    assert len(secrets) == 1
    assert all(a.ok or (a.status, a.code) == (409, "Idempotency.InProgress") for a in answers)
    assert len(clients[0].call("token.list", serviceAccountSlug=account).body["items"]) == 1


def test_kept_over_kill_and_sealed(own_daemon):
    d = own_daemon("storage-bdb").start()
    door = d.http()
    account = door.call("account.create", name="A").body["slug"]
    first = mint(door, account, "the-key")
    assert first.ok
    d.kill()
    d.start()
    again = mint(d.http(), account, "the-key")
    assert again.body == first.body
    secret = first.body["token"].encode()
    files = files_below(d.state / "db")
    assert files and not any(secret in data for data in files.values())


def needed(d):
    """What still depends on the retired digest key."""
    rpc = d.rpc()
    (key,) = [k for k in rpc.call("key.list").body["items"]
              if k["kind"] == "digest" and k["state"] == "retired"]
    rpc.close()
    return key["records"], key["tokens"]


def test_without_its_key_a_kept_answer_is_neither_given_nor_made_anew(own_daemon):
    """An operator takes the retired digest key out of the file by hand, too early."""
    d = own_daemon("storage-bdb", daemon="last_used_interval = 1s").start()
    http = d.http()
    assert http.call("account.create", name="A", slug="farm").ok
    first = mint(http, "farm", "the-key")
    assert first.ok
    secret = first.body["token"]
    d.ctl("key", "rotate", "digest")
    assert mint(http, "farm", "the-key").body == first.body
    assert d.rpc().call("token.verify", token=secret).body["valid"]  # it moves to the new key
    wait_for(lambda: needed(d) == (1, 0), "all but the kept answer to move", 60)
    d.stop()
    path = d.state / "digest.key"
    both = path.read_text()
    path.write_text(both.splitlines(keepends=True)[0])
    d.start()
    for door in (d.http(), d.rpc(d.jwt()), d.http()):
        answer = mint(door, "farm", "the-key")
        assert (answer.status, answer.code) == (500, "INTERNAL") and "token" not in answer.body
    assert "space 'i' does not authenticate" in d.log.read_text()
    items = d.http().call("token.list", serviceAccountSlug="farm").body["items"]
    assert [t["id"] for t in items] == [first.body["id"]]
    assert mint(d.http(), "farm", "another-key", "another").ok
    assert d.rpc().call("token.verify", token=secret).body["valid"]
    d.stop()
    path.write_text(both)
    d.start()
    assert mint(d.http(), "farm", "the-key").body == first.body
