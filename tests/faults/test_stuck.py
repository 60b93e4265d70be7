# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A disk whose syncs do not return, for a while or for good: every request has its answer in time,
verify goes on, and what was in the store's hands is done or undone when the disk comes back."""

import concurrent.futures
import random
import signal
import time

import pytest

from conftest import PATIENCE, Answer, prompt, wait_for
from faultlib import (DISK, FULL, SEED, TSAN, Busy, Shared, accounts_of, actors_of, disk, durable,
                      figures, join, keep, loaded, looked_at, no_tsan)
from journal import Journal, Pool
from metrics import scrape

pytestmark = [durable, no_tsan]

TIMEOUT = 1.0  # request_timeout
HANGS = 40 if FULL else 4
UNKNOWN, BUSY = "Storage.Unknown", "Server.Busy"


class Stuck:
    """A daemon on a disk that can be told to hang."""

    def __init__(self, d, folder):
        self.d, self.control = d, Shared(folder / "control", DISK)
        self.start()
        self.account = accounts_of(d, 1)[0]
        self.jwt = d.jwt()
        self.rpc = d.rpc()

    def start(self):
        self.d.start(env=disk(self.d, self.control))

    def hang(self):
        """Returns when the committer is known to be stuck, in a change that nobody is told of."""
        self.control.hangs = 1

    def heal(self):
        self.control.hangs = 0

    def is_hanging(self):
        return self.control.hanging > 0

    def is_ready(self):
        http = self.d.http()
        answer = http.request("GET", "/readyz")
        http.close()
        return answer.ok

    def mint(self, name, key=None, kind="http"):
        """On a connection of its own; how long it took, and the answer."""
        body = dict(name=name, slug=name, scopes=["read:instances"])
        begun = time.monotonic()
        if kind == "http":
            door = self.d.http(self.jwt)
            answer = door.request("POST", f"/api/service-accounts/{self.account}/tokens", body,
                                  {"Idempotency-Key": key} if key else None)
        else:
            door = self.d.rpc()
            door.send("token.create", dict(body, serviceAccountSlug=self.account),
                      {"idempotency_key": key} if key else None)
            _, _, error, result = door.receive()
            answer = Answer(error["status"], error) if error else Answer(200, result)
        took = time.monotonic() - begun
        door.close()
        return took, answer

    def revoke(self, slug, kind="http"):
        door = self.d.http(self.jwt) if kind == "http" else self.d.rpc()
        begun = time.monotonic()
        answer = door.call("token.revoke", serviceAccountSlug=self.account, tokenSlug=slug)
        took = time.monotonic() - begun
        door.close()
        return took, answer

    def tokens(self):
        page = self.rpc.call("token.list", serviceAccountSlug=self.account, limit=200)
        return {t["slug"]: t for t in page.body["items"]}

    def verdict(self, secret):
        b = self.rpc.call("token.verify", token=secret).body
        return "live" if b["valid"] else b["code"]

    def rate(self, secret, seconds=0.5):
        """Verifications in a second."""
        begun, n = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            assert self.verdict(secret) == "live"
            n += 1
        return n / seconds


@pytest.fixture
def stuck(own_daemon, tmp_path):
    made = []

    def make(**settings):
        settings.setdefault("daemon", f"request_timeout = {TIMEOUT:.0f}s\nloops = 2")
        made.append(Stuck(own_daemon("storage-bdb", level="info", **settings), tmp_path))
        return made[-1]

    yield make
    for s in made:
        s.heal()


def counts(d):
    http = d.http()
    found = scrape(http)
    http.close()
    return found


def in_time(took, most=TIMEOUT):
    """The machine may be busy; without a deadline it would be for ever."""
    return took < most + PATIENCE / 2


def is_refused(answer, code):
    """And says when to come back."""
    assert (answer.status, answer.code) == (503, code), answer
    assert not answer.headers or answer.headers["Retry-After"] == "1"
    return True


def at_once(s, *calls):
    """While the first of them is being applied the others wait; what came of each."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        first = pool.submit(calls[0])
        wait_for(s.is_hanging, "the disk to hang")
        rest = [pool.submit(call) for call in calls[1:]]
        return [f.result() for f in [first] + rest]


@pytest.mark.parametrize("kind", ["http", "socket"])
def test_answers_come_in_time(stuck, kind):
    s = stuck()
    live, end = (s.mint(name)[1].body["token"] for name in ("live", "end"))
    before = s.rate(live)
    s.hang()
    done = at_once(s, lambda: s.mint("taken", kind=kind), lambda: s.mint("waits", kind=kind),
                   lambda: s.revoke("end", kind), lambda: s.mint("keyed", "key-1", kind))
    assert is_refused(done[0][1], UNKNOWN)
    assert all(is_refused(answer, BUSY) for _, answer in done[1:])
    assert all(TIMEOUT * 0.9 < took and in_time(took) for took, _ in done), done
    # From now on it is known, and nobody waits.
    _, answer = prompt(lambda: s.mint("late", kind=kind), TIMEOUT / 2)
    assert is_refused(answer, BUSY)
    assert not s.is_ready()
    assert s.d.http().request("GET", "/healthz").ok
    m = counts(s.d)
    assert m.get("kaitend_commit_running_seconds") >= TIMEOUT
    assert m.get("kaitend_requests_abandoned_total", outcome="unknown") == 1
    assert m.get("kaitend_requests_abandoned_total", outcome="none") == 3
    while_stuck = wait_for(lambda: (rate := s.rate(live)) > before / 10 and rate, "verify to go on")
    assert s.verdict(end) == "live", "its revocation was refused"
    s.heal()
    wait_for(s.is_ready, "the disk to be back")
    wait_for(lambda: s.tokens()["taken"].get("revokedAt"), "the secret that nobody has to be gone")
    tokens = s.tokens()
    assert "never sent" in tokens["taken"]["revokedBy"]["name"]
    assert set(tokens) == {"live", "end", "taken"}, "what was not taken never happened"
    assert s.revoke("end", kind)[1].ok and s.verdict(end) == "revoked" and s.verdict(live) == "live"
    figures(f"a stuck disk, {kind}", verifies_per_s_before=before, while_stuck=while_stuck)
    assert s.d.stop() == 0


@pytest.mark.parametrize("kind", ["http", "socket"])
def test_with_a_key_the_answer_can_be_had(stuck, kind):
    s = stuck()
    s.hang()
    done = at_once(s, lambda: s.mint("keyed", "key-1", kind))
    assert is_refused(done[0][1], UNKNOWN)
    _, again = s.mint("keyed", "key-1", kind)
    assert (again.status, again.code) == (409, "Idempotency.InProgress"), "it is still at work"
    s.heal()

    def asked():
        _, answer = s.mint("keyed", "key-1", kind)
        return answer if answer.code != "Idempotency.InProgress" else None

    answer = wait_for(asked, "the first request to end")
    assert answer.ok, answer
    time.sleep(2.5)  # in which the keeper would revoke it
    assert s.verdict(answer.body["token"]) == "live"
    assert set(s.tokens()) == {"keyed"} and "revokedAt" not in s.tokens()["keyed"]
    assert s.d.stop() == 0


@pytest.mark.parametrize("kind", ["http", "socket"])
def test_a_revocation_that_was_given_up_takes_effect(stuck, kind):
    s = stuck()
    secret = s.mint("end")[1].body["token"]
    s.hang()
    done = at_once(s, lambda: s.revoke("end", kind))
    assert is_refused(done[0][1], UNKNOWN)
    s.heal()
    wait_for(lambda: s.verdict(secret) == "revoked", "the revocation")
    assert s.tokens()["end"]["revokedAt"]
    s.d.kill()
    s.start()
    s.rpc = s.d.rpc()
    assert s.verdict(secret) == "revoked"
    assert s.d.stop() == 0


def test_what_is_pipelined_does_not_add_up(stuck):
    """A mutation holds back what follows it; each of them has its answer."""
    s = stuck()
    live = s.mint("live")[1].body["token"]
    s.hang()
    rpc = s.d.rpc()
    begun = time.monotonic()
    for i in range(5):
        rpc.send("token.create", dict(serviceAccountSlug=s.account, name=f"p-{i}",
                                      scopes=["read:instances"]))
        rpc.send("token.verify", dict(token=live))
    answers = [rpc.receive() for _ in range(10)]
    took = time.monotonic() - begun
    assert [a[2]["code"] for a in answers[::2]] == [UNKNOWN] + 4 * [BUSY]
    assert all(a[3]["valid"] for a in answers[1::2])
    assert took < 4 * TIMEOUT + PATIENCE / 2 * TSAN, took
    s.heal()
    wait_for(s.is_ready, "the disk to be back")
    rpc.send("token.create", dict(serviceAccountSlug=s.account, name="again",
                                  scopes=["read:instances"]))
    assert rpc.receive()[3]["token"]
    rpc.close()
    assert s.d.stop() == 0


def test_who_hangs_up_meanwhile_is_no_trouble(stuck):
    """The request outlives its connection's descriptor, its answer and its caller."""
    s = stuck()
    s.hang()
    clients = []
    for i in range(8):
        rpc = s.d.rpc()
        rpc.send("token.create", dict(serviceAccountSlug=s.account, name=f"gone-{i}",
                                      scopes=["read:instances"]), {"deadline_ms": 100 + 50 * i})
        clients.append(rpc)
        if i == 0:
            wait_for(s.is_hanging, "the disk to hang")
    for i, rpc in enumerate(clients):
        if i % 2:
            assert rpc.receive()[2]["status"] == 503
        rpc.close()
    s.heal()
    wait_for(s.is_ready, "the disk to be back")
    wait_for(lambda: counts(s.d).get("kaitend_commits_waiting") == 0, "the queue to be empty")
    assert len(s.tokens()) <= 1
    assert s.d.stop() == 0


def test_the_end_does_not_wait_for_ever(stuck):
    s = stuck(daemon=f"request_timeout = {TIMEOUT:.0f}s\ndrain_timeout = 2s")
    live = s.mint("live")[1].body["token"]
    s.hang()
    done = at_once(s, lambda: s.mint("taken"))
    assert is_refused(done[0][1], UNKNOWN)
    begun = time.monotonic()
    s.d.process.send_signal(signal.SIGTERM)
    assert s.d.process.wait(PATIENCE) == 75, s.d.tail()
    took = time.monotonic() - begun
    assert 1.9 < took < 2 + PATIENCE / 2, took
    assert "the store does not answer" in s.d.tail(3)
    s.heal()
    s.start()
    s.rpc = s.d.rpc()
    assert s.verdict(live) == "live"
    assert s.d.stop() == 0


def test_the_load_goes_on_after_each_hang(stuck):
    """Everything at both doors while the disk hangs now and then, for shorter and for longer than
    anybody waits."""
    s = stuck()
    journal, chance = Journal(), random.Random(SEED)
    accounts = [s.account] + accounts_of(s.d, 2)
    pool = Pool(s.d, journal, accounts)
    actors = actors_of(pool, 3, Busy)
    pool.up.set()
    loaded(journal, 10)
    for _ in range(HANGS):
        mints = journal.count("mint")
        s.hang()
        wait_for(s.is_hanging, "the disk to hang")
        time.sleep(chance.choice([0.2, 1.5, 3.0]) * TIMEOUT)
        s.heal()
        wait_for(lambda m=mints: journal.count("mint") > m, "the next mint")
    join(pool, actors)
    wait_for(s.is_ready, "the disk to be back")
    found = looked_at(s.d, journal, accounts, excused=(BUSY,))
    m = counts(s.d)
    unknown = m.get("kaitend_requests_abandoned_total", outcome="unknown")
    figures("hangs of the disk", hangs=HANGS, mints=journal.count("mint"), given_up=unknown
            + m.get("kaitend_requests_abandoned_total", outcome="none"), of_unknown_outcome=unknown,
            violations=len(found))
    assert not found, (found[:5], keep(journal, "stuck"))
    assert unknown > 0
    assert s.d.stop() == 0
