# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The daemon's own keys change while it serves, and nobody who has a token notices."""

import base64
import json

import pytest

from conftest import STORES, done, refused, wait_for
from test_backup import kaitend, mint, says
from test_validate import verify_es256

pytestmark = pytest.mark.skipif("storage-bdb" not in STORES, reason="no durable store was built")


@pytest.fixture
def site(own_daemon):
    d = own_daemon("storage-bdb", daemon="last_used_interval = 1s").start()
    rpc = d.rpc()
    assert rpc.call("account.create", name="farm", slug="farm").ok
    yield d, rpc
    rpc.close()


def keys(d, kind="digest"):
    """Of the answer of key.list, the current one first."""
    rpc = d.rpc()
    items = done(rpc, rpc.call("key.list"))["items"]
    rpc.close()
    found = [k for k in items if k["kind"] == kind]
    assert [k["state"] for k in found] == ["current"] + ["retired"] * (len(found) - 1)
    return found


def unneeded(d):
    wait_for(lambda: all(k["records"] == k["tokens"] == 0 for k in keys(d)[1:]),
             "nothing to depend on retired keys", 60)


def lines(d):
    return (d.state / "digest.key").read_text().splitlines()


def test_tokens_outlive_the_key_that_they_were_made_with(site):
    d, rpc = site
    used, unused, dead, late = (mint(rpc, name) for name in ("used", "unused", "dead", "late"))
    assert rpc.call("token.revoke", serviceAccountSlug="farm", tokenSlug="dead").ok
    old = keys(d)[0]["id"]
    assert set(keys(d)[0]) == {"kind", "id", "state"}
    told = json.loads(d.ctl("key", "rotate", "digest", "-o", "json").stdout)
    assert told["retired"] == old and told["kind"] == "digest"
    assert [k["id"] for k in keys(d)] == [told["id"], old]
    assert [line.split()[1] for line in lines(d)] == [told["id"], old]
    assert (d.state / "digest.key").stat().st_mode & 0o777 == 0o600
    after = mint(rpc, "after")
    assert says(d, dead) == "revoked"
    for _ in range(3):
        assert [says(d, t) for t in (used, after)] == ["valid"] * 2
        assert d.http(used).request("GET", "/api/tokens/validate").status == 200
    assert d.http(used).request("GET", "/api/whoami").status == 200
    assert says(d, "ksh_" + "0" * 32) == "malformed"
    wait_for(lambda: keys(d)[1]["records"] == 0 and keys(d)[1]["tokens"] == 2, "records to move", 60)
    ran = d.ctl("key", "retire", old, "--yes", check=False)
    assert ran.returncode == 5 and "2 live tokens" in ran.stderr, ran
    assert [says(d, t) for t in (unused, late)] == ["valid"] * 2
    unneeded(d)
    # What was noted of it before is still there, under its new digest.
    got = rpc.call("token.get", serviceAccountSlug="farm", tokenSlug="used").body
    assert got["lastUsedAt"]
    refused(rpc.call("key.retire", key=told["id"]), 409, "Key.Current")
    refused(rpc.call("key.retire", key="none"), 404, "Key.NotFound")
    assert d.ctl("key", "retire", old, "--yes").returncode == 0
    assert [line.split()[1] for line in lines(d)] == [told["id"]]
    everybody = {used: "valid", unused: "valid", late: "valid", after: "valid"}
    assert {t: says(d, t) for t in everybody} == everybody
    d.kill()
    d.start()
    assert {t: says(d, t) for t in everybody} == everybody
    log = d.log.read_text()
    assert "event=key.rotated" in log and "event=key.retired" in log
    assert not any(line.split()[2] in log for line in lines(d))
    assert "does not authenticate" not in log


def test_an_old_copy_does_not_revive_what_had_another_digest(site):
    d, rpc = site
    tokens = {name: mint(rpc, name) for name in ("kept", "revoked", "rotated", "unused")}
    copy = d.dir / "copy"
    d.ctl("backup", copy)
    d.ctl("key", "rotate", "digest")
    assert {says(d, tokens[n]) for n in ("kept", "revoked", "rotated")} == {"valid"}
    wait_for(lambda: keys(d)[1]["tokens"] == 1, "digests to be made anew", 60)
    assert rpc.call("token.revoke", serviceAccountSlug="farm", tokenSlug="revoked").ok
    assert rpc.call("token.rotate", serviceAccountSlug="farm", tokenSlug="rotated").ok
    d.stop()
    assert kaitend(d, "--restore", copy, "--replace").returncode == 0
    d.start()
    assert {n: says(d, t) for n, t in tokens.items()} == {
        "kept": "valid", "revoked": "revoked", "rotated": "revoked", "unused": "valid"}


def test_a_kept_answer_is_given_again_after_a_rotation(site):
    d, rpc = site
    args = dict(serviceAccountSlug="farm", name="once", scopes=["read:tokens"])

    def ask():
        ident = rpc.send("token.create", args, {"idempotency_key": "k1"})
        answer = rpc.receive()
        assert answer[1] == ident and answer[2] is None, answer
        return answer[3]["token"]

    token = ask()
    d.ctl("key", "rotate", "digest")
    assert ask() == token
    assert says(d, token) == "valid"
    wait_for(lambda: keys(d)[1]["tokens"] == 0 and keys(d)[1]["records"] == 1,
             "all but the kept answer to move", 60)
    refused(rpc.call("key.retire", key=keys(d)[1]["id"]), 409, "Key.InUse")


def test_keys_that_somebody_else_has_changed_are_left_alone(site):
    d, rpc = site
    path = d.state / "digest.key"
    text = path.read_text()
    path.write_text(text + text.replace(text.split()[1], "another"))
    refused(rpc.call("key.rotate", kind="digest"), 503, "Key.File")
    assert "another" in path.read_text() and len(lines(d)) == 2
    path.write_text(text)
    for _ in range(7):
        assert rpc.call("key.rotate", kind="digest").ok
    answer = rpc.call("key.rotate", kind="digest")
    refused(answer, 503, "Key.File")
    assert "at most 8" in answer.body["detail"] and len(lines(d)) == 8
    refused(rpc.call("key.rotate", kind="other"), 422, "UNPROCESSABLE")


def jwt_of(d, token):
    answer = d.http(token).request("GET", "/api/tokens/validate")
    assert answer.status == 200, answer
    return answer.headers["Authorization"].partition(" ")[2]


def kid_of(jwt):
    head = jwt.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]


def published(d):
    return [k["kid"] for k in d.http("").request("GET", "/.well-known/jwks.json").body["keys"]]


def verifies(d, jwt):
    keys = d.http("").request("GET", "/.well-known/jwks.json").body["keys"]
    return any(verify_es256(jwt, k) for k in keys if k["kid"] == kid_of(jwt))


def test_a_signing_key_is_published_until_its_last_jwt_has_expired(site):
    d, rpc = site
    token, other = mint(rpc, "one"), mint(rpc, "two")
    before = jwt_of(d, token)
    old = kid_of(before)
    assert published(d) == [old] and (d.state / "signing.pem").read_text().count("BEGIN") == 1
    told = done(rpc, rpc.call("key.rotate", kind="signing"))
    assert told["retired"] == old and published(d) == [told["id"], old]
    after = jwt_of(d, other)
    assert kid_of(after) == told["id"]
    assert kid_of(jwt_of(d, token)) in published(d)
    assert verifies(d, before) and verifies(d, after)
    assert [k["id"] for k in keys(d, "signing")] == published(d)
    assert keys(d, "signing")[1]["publishedUntil"] > "2026"
    assert (d.state / "signing.pem").stat().st_mode & 0o777 == 0o600
    d.kill()
    d.start()
    assert published(d) == [told["id"], old] and kid_of(jwt_of(d, token)) == told["id"]
    rpc = d.rpc()
    refused(rpc.call("key.retire", key=told["id"]), 409, "Key.Current")
    assert rpc.call("key.retire", key=old).ok  # whose private half somebody has stolen
    assert published(d) == [told["id"]]
    for _ in range(15):
        assert rpc.call("key.rotate", kind="signing").ok
    refused(rpc.call("key.rotate", kind="signing"), 503, "Key.File")
    assert len(published(d)) == 16
    # The time of all but one is over.
    d.stop()
    pem = (d.state / "signing.pem").read_text().split("Until: ")
    assert len(pem) == 16
    (d.state / "signing.pem").write_text(
        "Until: ".join(pem[:2] + ["1000" + p[p.index("\n"):] for p in pem[2:]]))
    d.start()
    wait_for(lambda: len(published(d)) == 2, "keys to be published no longer")
