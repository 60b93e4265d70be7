# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""kill -9 at random instants under mixed load: what was acknowledged stays."""

import os
import random
import time

import pytest

from conftest import BUILD, STORES
from journal import Actor, Journal, Pool, check, read_lists, sweep

CYCLES = int(os.environ.get("KAITEN_KILL_CYCLES", "20"))
SEED = int(os.environ.get("KAITEN_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
ACTORS = 5  # for each door
READY_SECONDS = 5.0

pytestmark = pytest.mark.skipif("storage-bdb" not in STORES, reason="no durable store was built")


def start(d, times):
    begun = time.monotonic()
    d.start()
    times.append(time.monotonic() - begun)


def join(actors):
    for a in actors:
        a.join(30)
        assert not a.is_alive(), a.name + " hangs"
        if a.broken:
            raise a.broken


def verdict(journal, excused=()):
    found = check(journal.lines, excused)
    if found:
        path = BUILD / "crash-journal.log"
        journal.dump(path)
        pytest.fail(f"seed {SEED}: {len(found)} violations, the first: {found[:5]}; see {path}")


def test_nothing_acknowledged_is_lost_and_nothing_dead_comes_back(own_daemon):
    d = own_daemon("storage-bdb", level="notice")
    chance, journal, times = random.Random(SEED), Journal(), []
    d.start()
    rpc = d.rpc()
    accounts = [rpc.call("account.create", name=f"crash {i}").body["slug"] for i in range(4)]
    pool = Pool(d, journal, accounts)
    actors = [Actor(pool, kind, f"{kind}-{i}", SEED)
              for kind in ("http", "socket") for i in range(ACTORS)]
    for a in actors:
        a.start()
    swept = 0
    try:
        for _ in range(CYCLES):
            pool.up.set()
            time.sleep(chance.uniform(0.02, 0.5))  # the instant of the kill is what is random
            d.process.kill()
            pool.up.clear()
            d.process.wait()
            start(d, times)
            rpc = d.rpc()
            known = list(pool.secrets)
            old = chance.sample(known[:swept], min(swept, 200))
            sweep(rpc, journal, known[swept:] + old)
            swept = len(known)
    finally:
        pool.stop.set()
        pool.up.set()
    join(actors)
    read_lists(rpc, journal, accounts)
    sweep(rpc, journal, list(pool.secrets))
    print(f"seed {SEED}: {CYCLES} kills, {journal.count('mint')} mints, {journal.count('revoke')} "
          f"revocations, {journal.count('revoke_all')} of all, {journal.count('rotate')} rotations, {journal.count('verify')} verdicts, "
          f"{journal.count(line='unknown')} unknown; ready after {sum(times) / len(times):.3f} s "
          f"on average, {max(times):.3f} s at most")
    verdict(journal)
    assert journal.count("mint") > CYCLES and journal.count("revoke") > 0
    assert max(times) < READY_SECONDS
    assert d.stop() == 0


def test_what_a_crash_leaves_behind_is_what_a_clean_stop_leaves(own_daemon):
    """No manual step and no litter: the state folder has the same names after kill and restart."""
    d = own_daemon("storage-bdb").start()
    d.rpc().call("account.create", name="one")
    assert d.stop() == 0
    clean = sorted(str(p.relative_to(d.dir)) for p in d.dir.rglob("*"))
    d.start()
    d.rpc().call("account.create", name="two")
    d.kill()
    d.start()
    assert d.stop() == 0
    assert sorted(str(p.relative_to(d.dir)) for p in d.dir.rglob("*")) == clean


def test_a_damaged_store_is_repaired_or_stays_down(own_daemon):
    """One page of every database is spoiled: the daemon ends, and its next start has everything.
    Without the logs that takes it stays down, and says what to do."""
    d = own_daemon("storage-bdb").start()
    rpc = d.rpc()
    slug = rpc.call("account.create", name="page").body["slug"]
    minted = [rpc.call("token.create", serviceAccountSlug=slug, name=f"t{i}",
                       scopes=["read:instances"]).body for i in range(40)]
    dead, live = minted[:10], minted[10:]
    for t in dead:
        assert rpc.call("token.revoke", serviceAccountSlug=slug, tokenSlug=t["slug"]).ok
    assert d.stop() == 0
    spoil(d)
    d.spawn()
    assert d.process.wait(20) == os.EX_TEMPFAIL, d.tail()
    d.start()
    assert "is repaired" in d.log.read_text()
    assert valid(d, live) == {True} and valid(d, dead) == {False}
    assert d.stop() == 0

    spoil(d)
    for log in (d.state / "db").glob("log.*"):
        log.unlink()
    for _ in range(2):
        d.spawn()
        assert d.process.wait(20) == os.EX_DATAERR, d.tail()
        assert "restore a backup" in d.tail(3), d.tail()


def spoil(d):
    for path in (d.state / "db").glob("space-*.db"):
        with open(path, "r+b") as f:
            f.seek(4096 + 300)
            f.write(b"scribble")


def valid(d, tokens):
    answer = d.rpc().call("token.verifyMany", tokens=[t["token"] for t in tokens])
    return {r["valid"] for r in answer.body["results"]}
