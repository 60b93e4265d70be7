# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""kill -9 at random instants under mixed load: what was acknowledged stays."""

import os
import random
import time

import pytest

from conftest import wait_for
from faultlib import (FULL, SEED, Busy, accounts_of, actors_of, durable, figures, fill, join, keep,
                      loaded, looked_at, not_valid)
from journal import Journal, Pool, check, sweep

CYCLES = int(os.environ.get("KAITEN_KILL_CYCLES", 1000 if FULL else 20))
LARGE_CYCLES = 20
LARGE = 1_000_000  # tokens
READY_SECONDS = 60.0  # how long it takes on an idle machine is a figure

pytestmark = durable


def kill_and_start(d, times):
    d.process.kill()
    d.process.wait()
    begun = time.monotonic()
    d.start(300)
    times.append(time.monotonic() - begun)


def cycles(d, pool, count, each, pause=(0.02, 0.5), kind=Busy):
    """So many kills under load, after so many seconds of it; returns the times to be ready again."""
    chance, times, swept = random.Random(SEED), [], 0
    actors = actors_of(pool, each, kind)
    try:
        pool.up.set()
        loaded(pool.journal, 0)
        for _ in range(count):
            before = len(pool.secrets)
            pool.up.set()
            wait_for(lambda: len(pool.secrets) > before, "a mint")
            time.sleep(chance.uniform(*pause))  # the instant of the kill is what is random
            pool.up.clear()
            kill_and_start(d, times)
            rpc = d.rpc()
            known = list(pool.secrets)
            sweep(rpc, pool.journal, known[swept:] + chance.sample(known[:swept], min(swept, 200)))
            rpc.close()
            swept = len(known)
    finally:
        join(pool, actors)
    return times


def verdict(journal, what, times, **more):
    found = check(journal.lines)
    figures(what, cycles=len(times), violations=len(found), mints=journal.count("mint"),
            revocations=journal.count("revoke"), rotations=journal.count("rotate"),
            deleted_accounts=journal.count("delete"), verdicts=journal.count("verify"),
            unknown=journal.count(line="unknown"), s_until_ready_on_average=sum(times) / len(times),
            s_until_ready_at_most=max(times), **more)
    if found:
        pytest.fail(f"seed {SEED}: {len(found)} violations, the first: {found[:5]}; see "
                    f"{keep(journal, 'kill')}")


def test_nothing_acknowledged_is_lost_and_nothing_dead_comes_back(own_daemon):
    d = own_daemon("storage-bdb", level="notice").start()
    pool = Pool(d, Journal(), accounts_of(d))
    times = cycles(d, pool, CYCLES, 5)
    looked_at(d, pool.journal, pool.accounts)
    verdict(pool.journal, "kill -9", times)
    assert pool.journal.count("mint") > CYCLES and pool.journal.count("revoke") > 0
    assert max(times) < READY_SECONDS
    assert d.stop() == 0


@pytest.mark.skipif(not FULL, reason="a million tokens take minutes: make check-faults")
def test_a_kill_with_a_million_tokens(own_daemon):
    d = own_daemon("storage-bdb", level="notice")
    some = random.Random(SEED).sample(fill(d, 100, LARGE), 1000)
    d.start(300)
    pool = Pool(d, Journal(), accounts_of(d))
    times = cycles(d, pool, LARGE_CYCLES, 3)
    looked_at(d, pool.journal, pool.accounts)
    assert not not_valid(d, some)
    size = sum(f.stat().st_size for f in (d.state / "db").glob("*.db"))
    verdict(pool.journal, "kill -9 with many tokens", times, tokens_before=LARGE,
            bytes_per_token_in_the_databases=size // LARGE)
    assert d.stop(300) == 0


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
