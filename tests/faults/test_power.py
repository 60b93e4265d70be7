# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Power cuts: a run is written down change by change, and states that a cut could have left of it
are made, opened and compared with what clients had been told before the cut."""

import collections
import contextlib
import random
import signal
import subprocess
import tempfile
import time

from conftest import PATIENCE, Daemon
from faultlib import (DISK, FULL, LIGHT, REPLAY, SEED, Ended, Shared, accounts_of, actors_of,
                      disk, durable, figures, join, journal_until, loaded, looked_at, no_tsan,
                      start_or_end)
from journal import Journal, Pool

pytestmark = [durable, no_tsan]

STATES = 1000 if FULL else 24
LATER = 60                        # tokens that are made in what was left
LIVES = 3 if FULL else 2          # of the daemon in one trace
SECONDS = 1.0 if FULL else 0.4    # of load in each
SELF_CHECKS = 50 if FULL else 10
TORN = ("blocks", "sectors")
MODES = ("drop", "data", "names", "kept") + TORN * 3

Record = collections.namedtuple("Record", "at kind object n name")


class Run:
    """A daemon under load with its trace, and what its clients know."""

    def __init__(self, make, folder, lie=False):
        self.folder, self.trace = folder, folder / "trace"
        self.journal, self.times = Journal(), []
        self.control = Shared(folder / "control", DISK)
        d = make("storage-bdb", storage=LIGHT, level="info")
        for life in range(1 if lie else LIVES):
            d.start(env=disk(d, self.control, self.trace))
            if life == 0:
                self.accounts = accounts_of(d)
                self.control.lie = lie
            self.load(d, life)
            assert d.stop() == 0, d.tail()
        lines = subprocess.run([REPLAY, self.trace], check=True, capture_output=True, text=True)
        self.records = [Record(int(at), kind, int(o), int(n), name) for at, kind, o, n, name in
                        (line.split(" ", 4) for line in lines.stdout.splitlines())]

    def load(self, d, life):
        pool = Pool(d, self.journal, self.accounts)
        pool.up.set()
        actors = actors_of(pool, 2, prefix=f"{life}-")
        time.sleep(SECONDS)
        loaded(self.journal, 20)
        if life % 2:
            d.process.send_signal(signal.SIGTERM)
            d.process.wait(PATIENCE)
        join(pool, actors)

    def cuts(self, chance, count):
        """Records to cut before: anywhere, and more often where it hurts."""
        names = [i for i, r in enumerate(self.records)
                 if r.kind in ("create", "rename", "unlink", "mkdir", "link")]
        syncs = [i for i, r in enumerate(self.records) if r.kind == "sync"]
        for _ in range(count):
            where = chance.random()
            if where < 0.2:
                yield min(chance.choice(names) + chance.randrange(4), len(self.records) - 1)
            elif where < 0.6:
                yield min(chance.choice(syncs) + chance.randrange(2), len(self.records) - 1)
            else:
                yield chance.randrange(1, len(self.records))

    def state(self, cut, mode, seed):
        """A daemon on what was left, not started, and what its clients had been told."""
        folder = tempfile.mkdtemp(prefix="state.", dir=self.folder)
        d = Daemon("storage-bdb", storage=LIGHT, level="info", folder=folder)
        subprocess.run([REPLAY, self.trace, str(cut), mode, str(seed), d.state], check=True)
        return d, journal_until(self.journal, self.records[cut].at)


def goes_on(d):
    """It takes so many new rows that each of its files grows; what they are told."""
    with contextlib.closing(d.rpc()) as rpc:
        answers = [rpc.call("account.create", name="later", slug="later")]
        answers += [rpc.call("token.create", serviceAccountSlug="later", scopes=["read:instances"],
                             name=f"{i} " + "x" * 90) for i in range(LATER)]
    return [f"later: {a.status} {a.code}" for a in answers if not a.ok]


def violations(d, journal, accounts):
    """Of one state, and of what is written into it next."""
    start_or_end(d, 3, env=disk(d))
    created = any(line["line"] == "acknowledged" for line in journal.lines)
    return looked_at(d, journal, accounts if created else []) + goes_on(d)


def torn_and_told(mode, ended):
    return mode in TORN and ended.code > 0 and "damaged" in ended.words


def test_a_power_cut_loses_nothing_that_was_acknowledged(own_daemon, tmp_path):
    run, chance = Run(own_daemon, tmp_path), random.Random(SEED)
    counts, found, times = collections.Counter(), [], []
    for i, cut in enumerate(run.cuts(chance, STATES)):
        mode, seed = MODES[i % len(MODES)], chance.randrange(1 << 40)
        d, journal = run.state(cut, mode, seed)
        begun = time.monotonic()
        try:
            wrong = violations(d, journal, run.accounts)
            times.append(time.monotonic() - begun)
        except Ended as e:
            counts["refused"] += 1
            wrong = [] if torn_and_told(mode, e) else [str(e)]
        if wrong:
            found.append((cut, mode, seed, wrong[:3]))
        d.remove()
    figures("power cuts", states=STATES, refused_as_damaged=counts["refused"],
            violations=len(found), records=len(run.records),
            acknowledged_mints=run.journal.count("mint"), s_to_look_at_one_at_most=max(times))
    assert not found, f"{len(found)} of {STATES}, seed {SEED}, the first: {found[:5]}"
    assert run.journal.count("mint") > 20 and run.journal.count("revoke") > 0


def test_the_recorder_finds_a_store_that_does_not_sync(own_daemon, tmp_path):
    """Syncs that do nothing must be seen, or the test above proves nothing."""
    run, chance = Run(own_daemon, tmp_path, lie=True), random.Random(SEED)
    told = min(line["at"] for line in run.journal.lines if line.get("secret")
               and line["line"] == "acknowledged") * 1e9
    late = [i for i, r in enumerate(run.records) if r.at > told]
    flagged = 0
    for _ in range(SELF_CHECKS):
        d, journal = run.state(chance.choice(late), "drop", 1)
        try:
            flagged += bool(violations(d, journal, run.accounts))
        except Ended:
            flagged += 1
        d.remove()
    figures("power cuts without syncs", states=SELF_CHECKS, seen=flagged)
    assert flagged >= 0.8 * SELF_CHECKS
