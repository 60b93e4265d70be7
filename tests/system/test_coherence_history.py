# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Several daemons on one store that forgets, and their starts: nobody believes it until what was lost
is explained."""

import os
import shutil
import subprocess

import pytest

from conftest import KAITEND, PATIENCE, wait_for
from daemon_cluster import (  # noqa: F401
    PLUGIN, calm, calm_cluster, cluster, mint, pair, revoke, rotate, settle, verdict,
)
from shared_store import Shared

pytestmark = pytest.mark.skipif(not PLUGIN.exists(), reason="tests/plugin was not built")


# --- when the store forgets -----------------------------------------------------------------------

def test_a_history_without_the_last_writes(pair):
    """A standby took over that lacks what was acknowledged last."""
    one, two, three = (mint(pair.door_a, pair.account, f"t{i}") for i in range(3))
    settle(pair, one, two, three)
    pair.store.order("save")
    revoke(pair, one)
    late = mint(pair.door_a, pair.account, "late")
    settle(pair, late)
    wait_for(lambda: verdict(pair.rpc_b, one["token"]) == "revoked", "the refusal")
    pair.store.order("restore")
    # What was revoked is revoked again, in the store too; what the store has lost is unknown.
    wait_for(lambda: "follow.reread tokens_gone=1" in pair.b.log.read_text(), "the new history")
    wait_for(lambda: "follow.reread tokens_gone=1" in pair.a.log.read_text(), "the new history")
    for rpc in (pair.rpc_a, pair.rpc_b):
        assert verdict(rpc, one["token"]) == "revoked"
        assert verdict(rpc, two["token"]) == verdict(rpc, three["token"]) == "live"
        assert verdict(rpc, late["token"]) == "unknown"
    listed = pair.door_b.call("token.get", serviceAccountSlug=pair.account,
                              tokenSlug=one["slug"]).body
    assert listed["revokedAt"]
    # Nobody who comes later believes otherwise.
    third = pair.cluster.add()
    rpc = third.rpc()
    assert verdict(rpc, one["token"]) == "revoked"
    rpc.close()
    revoke(pair, two)
    wait_for(lambda: verdict(pair.rpc_b, two["token"]) == "revoked", "the refusal")


def test_a_history_that_is_not_explained_yet(pair):
    """Until the store has been told again what it has lost, it is not believed either."""
    one, two = mint(pair.door_a, pair.account, "one"), mint(pair.door_a, pair.account, "two")
    settle(pair, one, two)
    pair.store.order("save")
    revoke(pair, one)
    wait_for(lambda: verdict(pair.rpc_b, one["token"]) == "revoked", "the refusal")
    pair.store.set(a="fail")
    pair.store.order("restore")
    wait_for(lambda: verdict(pair.rpc_b, two["token"]) == 503, "nothing to be decided")
    for _ in range(20):
        assert verdict(pair.rpc_b, one["token"]) == "revoked"
        assert verdict(pair.rpc_b, two["token"]) == 503
    pair.store.set(a=None)
    wait_for(lambda: verdict(pair.rpc_b, two["token"]) == "live", "it to be explained")
    assert verdict(pair.rpc_b, one["token"]) == "revoked"


def test_only_one_knows_what_was_lost(cluster):
    """Who was away when it was revoked hears of it from the journal of the one who was not."""
    c = cluster(2)
    a, b = c.daemons
    door, rpc = a.http(), b.rpc()
    account = door.call("account.create", name="Build Farm").body["slug"]
    token = mint(door, account, "one")
    wait_for(lambda: verdict(rpc, token["token"]) == "live", "the other to know it")
    c.store.order("save")
    c.store.set(notices=False, c=30)
    assert door.call("token.revoke", serviceAccountSlug=account, tokenSlug=token["slug"]).ok
    c.store.order("restore")
    c.store.set(c=None)
    wait_for(lambda: verdict(rpc, token["token"]) == "revoked", "the refusal")
    rpc.close()
    door.close()


def test_a_position_that_is_too_old(pair):
    one, two = mint(pair.door_a, pair.account, "one"), mint(pair.door_a, pair.account, "two")
    settle(pair, one, two)
    pair.store.set(c="fail")
    revoke(pair, one)
    pair.store.order("forget")
    pair.store.set(c=None)
    wait_for(lambda: "follow.reread tokens_gone=0" in pair.b.log.read_text(), "everything again")
    settle(pair, two)
    assert verdict(pair.rpc_b, one["token"]) == "revoked"


def test_a_reread_that_breaks_off(pair):
    one, two = mint(pair.door_a, pair.account, "one"), mint(pair.door_a, pair.account, "two")
    settle(pair, one, two)
    pair.store.set(s="fail", c="fail")
    revoke(pair, one)
    pair.store.order("forget")
    pair.store.set(c=None)
    wait_for(lambda: pair.b.log.read_text().count("follow.reread") > 1, "the attempts")
    # Nothing is answered from what is half read.
    for _ in range(20):
        assert verdict(pair.rpc_b, one["token"]) in ("revoked", 503)
        assert verdict(pair.rpc_b, two["token"]) in ("live", 503)
    pair.store.set(s=None)
    settle(pair, two)
    assert verdict(pair.rpc_b, one["token"]) == "revoked"


def test_a_store_that_no_journal_explains(pair):
    """An older store than the journal was introduced to: nobody can name what it has forgotten."""
    token = mint(pair.door_a, pair.account, "one")
    settle(pair, token)
    revoke(pair, token)
    pair.store.order("save")
    pair.store.order("drop", prefix="mjournal")
    pair.store.order("save")
    pair.store.order("restore")
    for daemon, rpc in ((pair.a, pair.rpc_a), (pair.b, pair.rpc_b)):
        wait_for(lambda: "quarantine reason" in daemon.log.read_text(), "the quarantine")
        answer = rpc.call("token.verify", token=token["token"])
        assert answer.status == 503 and answer.code == "Server.Quarantined"
    assert pair.door_a.call("account.create", name="No").status == 503
    pair.a.stop()
    done = subprocess.run([KAITEND, "-c", pair.a.conf, "--accept-rollback", "keep"],
                          env=pair.a.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    pair.a.start(env=pair.a.env)


# --- starting -------------------------------------------------------------------------------------

def test_journals_do_not_quarantine_each_other(pair):
    tokens = [mint(pair.door_a, pair.account, f"t{i}") for i in range(4)]
    for token, door in zip(tokens, (pair.door_a, pair.door_b) * 2):
        revoke(pair, token, door)
    kept, old, graced = (mint(pair.door_b, pair.account, n) for n in ("kept", "old", "graced"))
    # The secrets end, the tokens go on.
    new = rotate(pair, old)
    rotate(pair, graced, gracePeriodSeconds=1)
    for rpc in (pair.rpc_a, pair.rpc_b):
        wait_for(lambda: verdict(rpc, old["token"]) == "revoked", "the refusal")
        wait_for(lambda: verdict(rpc, graced["token"]) == "expired", "its end")
    for d in (pair.a, pair.b):
        assert d.stop() == 0
    for d in (pair.a, pair.b):
        d.start(env=d.env)
        rpc = d.rpc()
        assert verdict(rpc, kept["token"]) == verdict(rpc, new["token"]) == "live"
        assert {verdict(rpc, t["token"]) for t in tokens} == {"revoked"}
        rpc.close()
        assert "quarantine" not in d.log.read_text()


def fails(daemon, text):
    daemon.spawn(env=daemon.env)
    assert daemon.process.wait(PATIENCE) != 0
    assert text in daemon.log.read_text(), daemon.tail()


def test_keys_have_to_be_the_same(cluster):
    c = cluster(1)
    other = c.make(keys=("signing.pem",))
    c.daemons.append(other)
    fails(other, "the digest key is missing, but the store is not empty")
    (other.state / "digest.key").unlink(missing_ok=True)
    shutil.copy(c.daemons[0].state / "digest.key", other.state / "digest.key")
    (other.state / "signing.pem").unlink()
    fails(other, "is not the one that the daemons of this store sign with")
    # The operator wants this one from now on.
    done = subprocess.run([KAITEND, "-c", other.conf, "--accept-signing-key"], env=other.env,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    other.start(env=other.env)


def test_a_store_that_does_not_answer_at_the_start(cluster):
    """Another start may help, and the exit code says so to whoever would have to make it."""
    c = cluster(1)
    other = c.make()
    c.daemons.append(other)
    c.store.set(g="fail")
    other.spawn(env=other.env)
    assert other.process.wait(PATIENCE) == os.EX_TEMPFAIL, other.tail()
    assert "another digest key" not in other.log.read_text()
    c.store.set(g=None)
    other.start(env=other.env)


def test_one_signs_and_all_publish(calm):
    keys = [d.http("").request("GET", "/.well-known/jwks.json").body for d in (calm.a, calm.b)]
    assert keys[0] == keys[1] and keys[0]["keys"]


def test_two_that_make_the_store_together(cluster):
    """With different keys one of them gives way, and says why."""
    store = Shared()
    c = cluster(0, store=store)
    pair = [c.make(), c.make()]
    c.daemons += pair
    for d in pair:
        d.spawn(env=d.env)

    def decided():
        ended = [d for d in pair if d.process.poll() is not None]
        ready = [d for d in pair if " event=ready " in d.log.read_text()]
        return len(ended) == 1 and len(ready) == 1 and ended[0]

    loser = wait_for(decided, "one of the two")
    assert "digest key" in loser.log.read_text()
