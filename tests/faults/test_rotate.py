# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The daemon's keys change under load, and the process is killed in the midst of it: every token is
told as before."""

import os
import threading

import pytest

from conftest import wait_for
from faultlib import FULL, SEED, accounts_of, durable, figures, keep, looked_at
from journal import LOST, Journal, Pool, check, sweep
from test_kill import cycles

CYCLES = int(os.environ.get("KAITEN_ROTATE_CYCLES", 300 if FULL else 5))

pytestmark = durable


class Rotator(threading.Thread):
    """Rotates both keys and takes the old ones out again, as fast as it can."""

    def __init__(self, pool):
        super().__init__(daemon=True)
        self.pool, self.rotated, self.retired, self.broken = pool, 0, 0, None

    def run(self):
        try:
            while not self.pool.stop.is_set():
                if self.pool.up.wait(0.05):
                    self.turn()
        except BaseException as e:  # told by the thread that joins
            self.broken = e

    def turn(self):
        try:
            rpc = self.pool.daemon.rpc()
            while not self.pool.stop.is_set():
                self.rotate(rpc)
        except LOST:
            pass

    def rotate(self, rpc):
        keys = rpc.call("key.list").body["items"]
        retired = [k for k in keys if k["state"] == "retired"]
        for k in retired:
            self.retired += rpc.call("key.retire", key=k["id"]).ok
        for kind in ("digest", "signing"):
            if sum(k["kind"] == kind for k in retired) < 3:
                self.rotated += rpc.call("key.rotate", kind=kind).ok


def settle(d, pool):
    """Once every token was used the keys from before can go; but nobody has the secrets that were
    made when the process was killed."""
    rpc, lost = d.rpc(), pool.journal.count(line="unknown")

    def gone():
        sweep(rpc, pool.journal, list(pool.secrets))
        keys = [k for k in rpc.call("key.list").body["items"] if k["kind"] == "digest"]
        for k in keys[1:]:
            rpc.call("key.retire", key=k["id"])
        return sum(k["tokens"] for k in keys[1:]) <= lost

    wait_for(gone, "nothing to be told by keys that have retired", 120)
    rpc.close()


def test_every_token_verifies_while_keys_change_and_the_process_is_killed(own_daemon):
    d = own_daemon("storage-bdb", daemon="last_used_interval = 1s", level="notice").start()
    pool = Pool(d, Journal(), accounts_of(d))
    rotator = Rotator(pool)
    rotator.start()
    try:
        times = cycles(d, pool, CYCLES, 2, (0.05, 0.8))
    finally:
        pool.stop.set()
        rotator.join(60)
    assert not rotator.is_alive()
    if rotator.broken:
        raise rotator.broken
    settle(d, pool)
    looked_at(d, pool.journal, pool.accounts)
    found = check(pool.journal.lines)
    figures("rotation and kill -9", cycles=len(times), rotated=rotator.rotated,
            taken_out=rotator.retired, violations=len(found), mints=pool.journal.count("mint"),
            revocations=pool.journal.count("revoke"), verdicts=pool.journal.count("verify"),
            s_until_ready_at_most=max(times))
    if found:
        pytest.fail(f"seed {SEED}: {len(found)} violations, the first: {found[:5]}; see "
                    f"{keep(pool.journal, 'keys')}")
    assert rotator.rotated >= CYCLES and rotator.retired > 0
    assert "does not authenticate" not in d.log.read_text()
    assert d.stop() == 0
