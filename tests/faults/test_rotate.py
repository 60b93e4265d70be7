# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The daemon's keys change under load, and the process is killed in the midst of it: every token is
told as before."""

import collections
import contextlib
import os
import threading

import pytest

from conftest import wait_for
from faultlib import FULL, SEED, Calm, accounts_of, durable, figures, keep, looked_at
from journal import LOST, Journal, Pool, check, sweep
from test_kill import cycles

CYCLES = int(os.environ.get("KAITEN_ROTATE_CYCLES", 300 if FULL else 5))
CLIENTS = 2     # at each door
TOGETHER = 500  # tokens that are asked for in one call

pytestmark = durable


class Tidy(Calm):
    """Ends what it does not know the outcome of. A secret that nobody has is never used, and a key
    cannot go before all that it tells apart were used, or have ended."""

    WEIGHTS = dict(Calm.WEIGHTS, mint=10, verify=70)
    PAUSE = 0.02  # what depends on a key is counted in the whole store, which is to stay small

    def __init__(self, *args):
        super().__init__(*args)
        self.lost = []

    def turn(self):
        if self.lost:
            self.step("tidy")
        else:
            super().turn()

    def tidy(self):
        self.ask(*self.lost.pop(0), lambda b: {})

    def mint(self):
        """Without an idempotency key: an answer that is kept for one needs the digest key that
        sealed it."""
        account, slug = self.random.choice(self.pool.accounts), f"{self.name}-{next(self.numbers)}"
        answer = self.ask("mint", "token.create",
                          dict(serviceAccountSlug=account, name=slug, slug=slug,
                               scopes=["read:instances"]),
                          dict(account=account, key=slug, nonce=slug),
                          lambda b: dict(self.minted(b), answered=b["slug"]))
        if answer.ok:
            self.mine.append([answer.body["id"], slug, account, answer.body["token"]])

    def ask(self, what, operation, args, facts, told, call=None):
        try:
            return super().ask(what, operation, args, facts, told, call)
        except LOST:
            slugs = {k: args[k] for k in ("serviceAccountSlug", "tokenSlug", "slug") if k in args}
            if what in ("rotate", "revoke") or "slug" in slugs:
                slugs["tokenSlug"] = slugs.pop("slug", slugs.get("tokenSlug"))
                self.lost.append(("revoke", "token.revoke", slugs, dict(token=facts.get("token"))))
            elif what in ("mint", "delete"):
                self.lost.append(("delete", "account.delete", slugs,
                                  dict(account=facts["account"])))
            raise


class Rotator(threading.Thread):
    """Rotates both keys, uses all tokens, and takes the old keys out again, as fast as it can."""

    def __init__(self, pool):
        super().__init__(daemon=True)
        self.pool, self.rotated, self.retired = pool, collections.Counter(), collections.Counter()
        self.live, self.seen, self.broken = [], 0, None

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
        for kind in ("digest", "signing"):
            self.rotated[kind] += rpc.call("key.rotate", kind=kind).ok
        self.use(rpc)
        for k in rpc.call("key.list").body.get("items", ()):  # which may take too long
            if k["state"] == "retired" and not k.get("tokens") and not k.get("records"):
                self.retired[k["kind"]] += rpc.call("key.retire", key=k["id"]).ok

    def has_done_enough(self):
        return all(self.rotated[kind] >= CYCLES and self.retired[kind] >= CYCLES // 2
                   for kind in ("digest", "signing"))

    def use(self, rpc):
        """Only a token that is used gets a digest of the current key."""
        fresh, live = self.pool.secrets[self.seen:], []
        self.seen += len(fresh)
        self.live += fresh
        for i in range(0, len(self.live), TOGETHER):
            part = self.live[i:i + TOGETHER]
            results = rpc.call("token.verifyMany", tokens=part).body["results"]
            live += [secret for secret, r in zip(part, results) if r["valid"]]
        self.live = live


def settle(d, pool):
    """Once every token was used nothing needs the keys from before. Each client may have lost sight
    of one more in the last kill."""
    rpc = d.rpc()

    def gone():
        sweep(rpc, pool.journal, list(pool.secrets))
        keys = [k for k in rpc.call("key.list").body["items"] if k["kind"] == "digest"]
        for k in keys[1:]:
            rpc.call("key.retire", key=k["id"])
        left = collections.Counter()
        for k in keys[1:]:
            left.update(tokens=k["tokens"], records=k["records"])
        return left["records"] == 0 and left["tokens"] <= 2 * CLIENTS

    wait_for(gone, "nothing to be told by keys that have retired", 120)
    rpc.close()


def test_every_token_verifies_while_keys_change_and_the_process_is_killed(own_daemon):
    d = own_daemon("storage-bdb", daemon="last_used_interval = 1s", level="notice").start()
    pool = Pool(d, Journal(), accounts_of(d))
    rotator = Rotator(pool)
    rotator.start()
    try:
        times = cycles(d, pool, CYCLES, CLIENTS, (0.05, 2.5), Tidy)
    finally:
        pool.stop.set()
        rotator.join(60)
    assert not rotator.is_alive()
    if rotator.broken:
        raise rotator.broken
    with contextlib.closing(d.rpc()) as rpc:  # on a slow machine it has not come so far
        wait_for(lambda: rotator.has_done_enough() or rotator.rotate(rpc), "keys to be taken out")
    settle(d, pool)
    looked_at(d, pool.journal, pool.accounts)
    found = check(pool.journal.lines)
    figures("rotation and kill -9", cycles=len(times), violations=len(found),
            digest_keys=rotator.rotated["digest"], taken_out=rotator.retired["digest"],
            signing_keys=rotator.rotated["signing"], withdrawn=rotator.retired["signing"],
            mints=pool.journal.count("mint"), revocations=pool.journal.count("revoke"),
            verdicts=pool.journal.count("verify"), s_until_ready_at_most=max(times))
    if found:
        pytest.fail(f"seed {SEED}: {len(found)} violations, the first: {found[:5]}; see "
                    f"{keep(pool.journal, 'keys')}")
    assert "does not authenticate" not in d.log.read_text()
    assert d.stop() == 0
