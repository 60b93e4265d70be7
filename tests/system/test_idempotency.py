# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Idempotency keys: the same request sent twice is done once, through both doors."""

import concurrent.futures
import itertools

import pytest

keys = (f"key-{n}" for n in itertools.count())


def call(door, operation, key, **args):
    """A call with an idempotency key: a header on HTTP, a member of meta on the socket."""
    if door.name == "http":
        method, path = door.ROUTES[operation]
        for name in ("serviceAccountSlug", "tokenSlug"):
            if "{%s}" % name in path:
                path = path.replace("{%s}" % name, args.pop(name))
        return door.request(method, door.prefix + path, args, {"Idempotency-Key": key})
    ident = door.send(operation, args, {"token": door.token, "idempotency_key": key})
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


@pytest.mark.parametrize("key", ["", "x" * 256, "a b"])
def test_a_malformed_key_is_refused(door, account, key):
    answer = mint(door, account, key)
    assert (answer.status, answer.code) == (422, "Idempotency.InvalidKey")


def test_a_refusal_is_not_kept(door, account):
    key = next(keys)
    refused = call(door, "token.create", key, serviceAccountSlug=account, name="n",
                   scopes=["read:nothing"])
    assert refused.status == 400
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
    for path in (d.state / "db").iterdir():
        assert secret not in path.read_bytes()
