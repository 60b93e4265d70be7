# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Revocations of which no notice tells: the connections that daemons hear of them on are cut again
and again, and no daemon accepts what another one has revoked longer ago than the bound."""

import contextlib
import heapq
import os
import random
import threading
import time

import pytest

import postgres
from conftest import STORES
from faultlib import FULL, SEED, figures, fill
from test_postgres import BOUND, DAEMONS, TIMEOUT, Cluster, world  # noqa: F401

PAIRS = int(os.environ.get("KAITEN_PAIRS", 1_000_000 if FULL else 1_000))
ACCOUNTS = 100
WIDTH = 48  # revocations that are under way together
LATE = 2    # how often each of the other daemons is asked once the bound has passed
POLL = "store_poll = 400ms"  # how long nobody knows of what no notice tells
MIX = 0x9E3779B97F4A7C15     # which account a token belongs to, as tests/bench/fill.c has it

pytestmark = pytest.mark.skipif("storage-postgres" not in STORES,
                                reason="storage-postgres was not built")


class Cutter(threading.Thread):
    """Ends some of the listening sessions, now and then."""

    LISTENING = ("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                 "WHERE query = 'LISTEN kaiten' AND random() < 0.6;\n")

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.cuts, self.stop = server, 0, threading.Event()

    def run(self):
        chance = random.Random(SEED)
        with self.server.session("postgres", postgres.OWNER) as psql:
            while not self.stop.wait(chance.uniform(0.02, 0.8)):
                psql.stdin.write(self.LISTENING)
                psql.stdin.flush()
                self.cuts += int(psql.stdout.readline())


class Witness:
    """Has tokens revoked at one daemon and asks the others for them, at any time within the bound
    and once it has passed."""

    def __init__(self, c, secrets):
        self.c, self.secrets, self.chance = c, secrets, random.Random(SEED)
        self.caller = {"token": c.daemons[0].jwt(org="bench", ttl=6 * 3600)}
        self.doors = [[d.rpc() for _ in range(WIDTH)] for d in c.daemons]
        self.askers = [d.rpc() for d in c.daemons]
        self.due = []  # (when, number, daemon, tokens with the time of their end)
        self.pairs = self.revoked = self.early = self.unanswered = 0
        self.latest, self.late = 0.0, []

    def revoke(self, at, numbers):
        """Returns the tokens of which that was acknowledged, and when."""
        used = list(zip(numbers, self.doors[at]))
        for n, door in used:
            account = (n * MIX % (1 << 64)) % ACCOUNTS
            door.send("token.revoke", dict(serviceAccountSlug=f"bench-{account:05}",
                                           tokenSlug=f"t-{n:016x}"), self.caller)
        ended = []
        for n, door in used:
            _, _, error, _ = door.receive()
            if error is None:
                ended.append((self.secrets[n], time.monotonic()))
            else:
                assert error["status"] == 503, error
        self.revoked += len(ended)
        return ended

    def round(self, numbers):
        at = self.chance.randrange(DAEMONS)
        ended = self.revoke(at, numbers)
        for other in range(DAEMONS):
            if other != at and ended:
                self.plan(ended[0][1] + BOUND * self.chance.random() ** 3, other, ended)
                for i in range(LATE):
                    self.plan(ended[-1][1] + BOUND + self.chance.uniform(0, i), other, ended)

    def plan(self, when, daemon, ended):
        heapq.heappush(self.due, (when, self.revoked, daemon, ended))

    def look(self, until):
        """All that is due by then."""
        while self.due and self.due[0][0] <= until:
            when, _, daemon, ended = heapq.heappop(self.due)
            time.sleep(max(0.0, when - time.monotonic()))
            asked = time.monotonic()
            answer = self.askers[daemon].call("token.verifyMany", tokens=[t for t, _ in ended])
            if not answer.ok:  # then it accepts nothing
                self.unanswered += 1
                self.plan(asked + 0.05, daemon, ended)
                continue
            for (secret, end), result in zip(ended, answer.body["results"]):
                self.judge(secret, asked - end, result["valid"])

    def judge(self, secret, age, valid):
        self.pairs += age >= BOUND
        if valid and age >= 0:
            self.early += 1
            self.latest = max(self.latest, age)
            if age >= BOUND:
                self.late.append((secret, age))

    def close(self):
        for door in self.askers + [door for doors in self.doors for door in doors]:
            door.close()


def test_no_notice_tells_of_a_revocation(world):  # noqa: F811
    count, secrets = PAIRS // (DAEMONS - 1) // LATE, []

    def filled(d):
        short = d.settings["storage"]
        d.write_conf(storage=short.replace(f"timeout = {TIMEOUT}", "timeout = 60s"))
        secrets.extend(fill(d, ACCOUNTS, count))
        d.start()  # the first one locks the table, for which a vacuum of what was filled in makes way
        d.stop()   # after a second
        d.write_conf()

    server = world(postgres.Server()).start()
    c = world(Cluster(server.connection(server.database()), daemon=POLL, seconds=300,
                      before=filled))
    cutter = Cutter(server)
    with contextlib.closing(Witness(c, secrets)) as w:
        cutter.start()
        for first in range(0, count, WIDTH):
            w.round(range(first, min(first + WIDTH, count)))
            w.look(time.monotonic())
        w.look(float("inf"))
        cutter.stop.set()
        cutter.join(60)
    figures("lost notices", pairs=w.pairs, revocations=w.revoked, notices_cut=cutter.cuts,
            accepted_within_the_bound=w.early, ms_latest_acceptance=round(1000 * w.latest),
            ms_bound=round(1000 * BOUND), unanswered=w.unanswered, violations=len(w.late))
    assert not w.late, w.late[:5]
    assert w.revoked >= 0.9 * count and w.pairs >= w.revoked and cutter.cuts > 0
    assert [d.stop() for d in c.daemons] == [0] * DAEMONS
