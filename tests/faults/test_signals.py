# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""SIGHUP under load, also with broken files, and a clock that somebody sets. SIGTERM under load is
tests/system/test_drain.py, which make check-faults runs two hundred times over."""

import contextlib
import datetime
import http.client
import itertools
import os
import pathlib
import resource
import shutil
import signal
import ssl
import subprocess
import threading
import time

import pytest

from conftest import KAITEND, PATIENCE, brief_life, free_port, reads_proc, wait_for
from faultlib import (ASAN, CLOCK, FULL, TSAN, Shared, accounts_of, actors_of, durable, figures,
                      join, looked_at, no_tsan, preload)
from journal import LOST, Actor, Journal, Pool
from tls_door import Authority, door, put

RELOADS = 1000 if FULL else 60
HOUR = 3600
DAY = 24 * HOUR
JUMPS = ((-HOUR, -400 * DAY, HOUR / 2, -50 * 365 * DAY, -2 * HOUR) if FULL
         else (-50 * 365 * DAY, -HOUR))
AHEAD = (2 * HOUR, 12 * 365 * DAY, 74 * 365 * DAY) if FULL else (74 * 365 * DAY,)  # 2038, 2100

pytestmark = durable


class Reader(Actor):
    """Much that is read and little that is kept, so that memory has no reason to grow."""

    WEIGHTS = {"verify": 97, "rotate": 3}

    def run(self):
        self.pool.up.wait()
        self.step_until_made()
        super().run()

    def step_until_made(self):
        while not self.mine and not self.pool.stop.is_set():
            self.door = self.door or self.pool.connect(self.kind)
            self.mint()


class Newcomer(threading.Thread):
    """A fresh TLS connection for each request."""

    def __init__(self, port, authority, token):
        super().__init__(daemon=True)
        self.port, self.token = port, token
        self.context = ssl.create_default_context(cafile=authority.path)
        self.context.check_hostname = False
        self.asked, self.failed, self.stop = 0, [], threading.Event()

    def run(self):
        while not self.stop.is_set():
            self.asked += 1
            try:
                c = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE,
                                                context=self.context)
                c.request("GET", "/whoami", headers={"Authorization": "Bearer " + self.token})
                status = c.getresponse().status
                if status != 200:
                    self.failed.append(status)
                c.close()
            except LOST as e:
                self.failed.append(repr(e))


def descriptors(d):
    return len(os.listdir(f"/proc/{d.process.pid}/fd"))


def resident(d):
    pages = int(pathlib.Path(f"/proc/{d.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def said(d, *events):
    text = d.log.read_text(errors="replace")
    return sum(text.count(f"event={e} ") for e in events)


def test_sighup_under_load(own_daemon, tmp_path):
    authority, port = Authority(tmp_path), free_port()
    cert, key = authority.issue("server")
    d = own_daemon("storage-bdb", level="notice", extra=door(port, cert, key)).start()
    good, conf = cert.read_bytes(), d.conf.read_text()
    pool = Pool(d, Journal(), accounts_of(d))
    newcomer = Newcomer(port, authority, pool.jwt)
    actors = actors_of(pool, 2, Reader)
    pool.up.set()
    newcomer.start()
    try:
        before = None
        for i in range(1, RELOADS + 1):
            if i == RELOADS // 10 + 1:
                before = descriptors(d), resident(d)
            broken = i % 10 == 0
            put(cert, b"this is no certificate" if broken else good)
            d.conf.write_text(conf + "this is no option\n" * (i % 10 == 5))
            n = said(d, "tls.renewed", "tls.kept", "config.kept")
            d.process.send_signal(signal.SIGHUP)
            wait_for(lambda: said(d, "tls.renewed", "tls.kept", "config.kept") > n, "the reload")
        # What was closed by others a moment ago is still open here.
        wait_for(lambda: descriptors(d) - before[0] <= 4, "connections to go: files do not come")
        after = descriptors(d), resident(d)
    finally:
        newcomer.stop.set()
        newcomer.join(PATIENCE)
        join(pool, actors)
    found = looked_at(d, pool.journal, pool.accounts)
    lost = pool.journal.count(line="unknown") + pool.journal.count(line="refused")
    figures("SIGHUP", reloads=RELOADS, with_broken_files=said(d, "tls.kept", "config.kept"),
            requests=pool.journal.count() + newcomer.asked, failed=lost + len(newcomer.failed),
            violations=len(found), descriptors_more=after[0] - before[0],
            MiB_more=round((after[1] - before[1]) / (1 << 20), 1))
    assert not found and not newcomer.failed and lost == 0, (found[:3], newcomer.failed[:3], lost)
    assert said(d, "tls.kept") == said(d, "config.kept") == RELOADS // 10
    assert ASAN or TSAN or after[1] - before[1] < 16 << 20
    assert d.stop() == 0


@contextlib.contextmanager
def no_descriptors(d):
    """It can open nothing meanwhile; what it has open stays."""
    pid = d.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    looks = [{int(name) for name in os.listdir(f"/proc/{pid}/fd")} for _ in range(5)]
    free = next(n for n in itertools.count() if not all(n in used for used in looks))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@reads_proc
def test_sighup_without_descriptors(own_daemon, tmp_path):
    """Nothing can be read then. All is as it was, no caller is taken for somebody else, and the log
    says why."""
    authority, port = Authority(tmp_path), free_port()
    cert, key = authority.issue("server")
    d = own_daemon("storage-memory", level="notice", extra=door(port, cert, key),
                   daemon=f"log_file = {tmp_path}/kaitend.log")
    d.start()
    d.log = tmp_path / "kaitend.log"
    conf, pool = d.conf.read_text(), Pool(d, Journal(), accounts_of(d))
    actors = actors_of(pool, 2, Reader)
    inside = d.http()
    inside.retry = False
    try:
        pool.up.set()
        wait_for(lambda: pool.journal.count("verify") > 100 and inside.call("whoami").ok, "a load")
        with no_descriptors(d):
            for i in range(1, RELOADS // 20 + 1):
                d.conf.write_text(conf.replace("[kaitend]", "[kaitend]\nlast_used_interval = 9s"))
                d.process.send_signal(signal.SIGHUP)
                wait_for(lambda: said(d, "config.kept") == i, "the reload to be refused")
                inside.token = d.jwt(sub=f"caller-{i}")  # whom nobody has verified yet
                assert inside.call("whoami").ok
                inside.token = inside.token[:-9] + "AAAAAAAAA"
                assert inside.call("whoami").status == 401
        verdicts = pool.journal.count("verify")
        wait_for(lambda: pool.journal.count("verify") > verdicts, "the load to go on")
        d.process.send_signal(signal.SIGHUP)
        wait_for(lambda: said(d, "config.loaded") and said(d, "tls.renewed"), "a reload that works")
    finally:
        join(pool, actors)
    lost = pool.journal.count(line="unknown") + pool.journal.count(line="refused")
    found = looked_at(d, pool.journal, pool.accounts)
    figures("SIGHUP without descriptors", reloads=said(d, "config.kept"),
            requests=pool.journal.count(), failed=lost, violations=len(found))
    assert not found and lost == 0, (found[:3], lost)
    assert said(d, "log.kept") == said(d, "config.kept") and said(d, "config.loaded") == 1
    assert "Too many open files" in d.log.read_text()
    assert d.stop() == 0


# --- the clock ------------------------------------------------------------------------------------

class Clocked:
    def __init__(self, d, folder):
        self.d, self.control = d, Shared(folder / "clock", CLOCK)
        self.env = preload("clock", KAITEN_CLOCK_CONTROL=self.control.path)
        d.start(env=self.env)
        self.rpc = d.rpc()

    def set(self, seconds):
        """The daemon looks at its clock every second or so."""
        n = said(self.d, "clock.jumped")
        self.control.offset = int(seconds * 1e9)
        wait_for(lambda: said(self.d, "clock.jumped") > n, "the jump to be seen")

    def mint(self, account, seconds=None):
        more = {}
        if seconds:
            at = time.time() + self.control.offset / 1e9 + seconds
            more["expiresAt"] = datetime.datetime.fromtimestamp(
                at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self.rpc.call("token.create", serviceAccountSlug=account, name=str(time.monotonic()),
                             scopes=["read:instances"], **more)

    def brief(self, account, end, over):
        """A token that ends then and was good before, or nothing when that was too late."""
        minted = self.rpc.call("token.create", serviceAccountSlug=account, name=end,
                               scopes=["read:instances"], expiresAt=end)
        good = minted.ok and self.valid(minted.body["token"])
        if over():
            return None
        assert good, minted
        return minted.body["token"]

    def valid(self, secret):
        return self.rpc.call("token.verify", token=secret).body["valid"]

    def again(self):
        assert self.d.stop() == 0
        self.d.start(env=self.env)
        self.rpc = self.d.rpc()


@no_tsan
def test_the_clock_is_set(own_daemon, tmp_path):
    d = own_daemon("storage-bdb", level="info")
    c = Clocked(d, tmp_path)
    account = accounts_of(d, 1)[0]
    ever = c.mint(account).body["token"]
    hours = c.mint(account, HOUR).body["token"]
    assert c.valid(hours)
    brief = brief_life(lambda end, over: c.brief(account, end, over))
    wait_for(lambda: not c.valid(brief), "the end of a token")
    back, jumps = 0, JUMPS
    for jump in jumps:
        c.set(jump)
        back += c.valid(brief)
        assert c.valid(ever) and c.valid(hours)
        assert c.rpc.call("kaiten.ping").ok, "timers run on, whatever the clock says"
    refused = c.mint(account)
    assert (refused.status, refused.code) == (503, "Server.ClockBehind"), refused
    assert c.rpc.call("token.revoke", serviceAccountSlug=account,
                      tokenSlug=c.rpc.call("token.list", serviceAccountSlug=account, limit=1)
                      .body["items"][0]["slug"]).ok, "a revocation needs no clock"
    c.again()
    back += c.valid(brief)
    for ahead in AHEAD:
        c.set(ahead)
        back += c.valid(brief) + c.valid(hours)
        assert c.valid(ever) and c.mint(account).ok
    c.set(0)
    back += c.valid(brief)
    assert c.mint(account).ok
    figures("the clock", jumps=len(jumps) + len(AHEAD) + 1, restarts=1, expired_that_came_back=back)
    assert back == 0
    assert d.stop() == 0


@no_tsan
def test_a_jwt_that_has_expired_stays_so(own_daemon, tmp_path):
    d = own_daemon("storage-memory", level="info")
    c = Clocked(d, tmp_path)
    now = int(time.time())

    def status(jwt):
        client = d.http(jwt)
        try:
            return client.request("GET", "/whoami").status
        finally:
            client.close()

    def jwt(start, end):
        return d.jwt(iat=now + start, exp=now + end)

    never_seen, seen, hours = jwt(-3600, -5), jwt(-3600, 4), jwt(-3600, 7200)
    assert status(hours) == 200 and status(never_seen) == 401
    wait_for(lambda: status(seen) == 401, "the end of a JWT")
    c.set(-1800)
    back = [status(never_seen), status(seen)].count(200)
    assert status(hours) == 200
    figures("the clock and JWTs", expired_that_came_back=back)
    assert back == 0
    assert d.stop() == 0


@no_tsan
@pytest.mark.parametrize("how", ["rotation", "start"])
def test_a_clock_that_was_ahead_brings_no_token_back(own_daemon, tmp_path, how):
    """What has expired goes from the journal of revocations, because every copy of the store has it
    expired, too. A clock that is ahead must not say so of what has not."""
    d = own_daemon("storage-bdb", level="info")
    c = Clocked(d, tmp_path)
    account = accounts_of(d, 1)[0]
    minted = [c.mint(account, HOUR).body for _ in range(3)]
    d.ctl("backup", tmp_path / "copy")
    for token in minted:
        assert c.rpc.call("token.revoke", serviceAccountSlug=account, tokenSlug=token["slug"]).ok
    if how == "rotation":
        c.set(2 * HOUR)
        assert c.rpc.call("key.rotate", kind="digest").ok
    else:
        c.control.offset = 2 * HOUR * 10**9
        d.kill()
        d.start(env=c.env)
    assert d.stop() == 0
    c.control.offset = 0
    subprocess.run([KAITEND, "-c", d.conf, "--restore", tmp_path / "copy", "--replace"], check=True,
                   capture_output=True)
    d.start(env=c.env)
    c.rpc = d.rpc()
    back = sum(c.valid(token["token"]) for token in minted)
    figures(f"a clock that was ahead, {how}", revoked=len(minted), that_came_back=back)
    assert back == 0 and d.stop() == 0


@no_tsan
@pytest.mark.parametrize("how", ["rotate", "retire"])
def test_a_clock_that_was_ahead_keeps_the_keys_of_jwts_that_are_good(own_daemon, tmp_path, how):
    """The public half of a retired signing key goes once its last JWT has expired. A clock that is
    ahead must not say so of what has not."""
    d = own_daemon("storage-bdb", level="info")
    c = Clocked(d, tmp_path)
    first = c.rpc.call("key.rotate", kind="signing").body["retired"]
    second = c.rpc.call("key.rotate", kind="signing").body["retired"]
    c.set(2 * DAY)
    if how == "rotate":
        assert c.rpc.call("key.rotate", kind="signing").ok
    else:
        assert c.rpc.call("key.retire", key=second).ok
    c.set(0)
    published = [key["id"] for key in c.rpc.call("key.list").body["items"]]
    assert first in published and (second in published) == (how == "rotate")
    assert d.stop() == 0


@no_tsan
def test_a_clock_that_is_ahead_lets_no_digest_key_go(own_daemon, tmp_path):
    """A token that has expired needs no key to be told by. It has not for a clock that is ahead:
    without the key nobody would know it once the clock is right again."""
    d = own_daemon("storage-bdb", level="info", daemon="last_used_interval = 1s")
    c = Clocked(d, tmp_path)
    token = c.mint(accounts_of(d, 1)[0], HOUR).body["token"]
    old = c.rpc.call("key.rotate", kind="digest").body["retired"]

    def needs():
        return next((k["records"], k["tokens"]) for k in c.rpc.call("key.list").body["items"]
                    if k["id"] == old)

    wait_for(lambda: needs() == (0, 1), "all but the token to need the key no more")
    c.set(2 * HOUR)
    assert not c.valid(token)
    refused = c.rpc.call("key.retire", key=old)
    assert (refused.status, refused.code) == (409, "Key.InUse"), refused
    c.set(0)
    assert c.valid(token)
    wait_for(lambda: needs() == (0, 0), "the token to have a digest of the current key")
    assert c.rpc.call("key.retire", key=old).ok and c.valid(token)
    assert d.stop() == 0


@no_tsan
def test_the_operator_accepts_the_clock(own_daemon, tmp_path):
    """A clock that was ahead when the store was made, and is right now."""
    d = own_daemon("storage-bdb", level="info")
    c = Clocked(d, tmp_path)
    d.kill()
    shutil.rmtree(d.state / "db")
    (d.state / "revocations.log").unlink()

    def begin(hours):
        c.control.offset = int(hours * HOUR * 1e9)
        d.start(env=c.env)
        c.rpc = d.rpc()

    def accept():
        return subprocess.run([KAITEND, "-c", d.conf, "--accept-clock"], env=c.env, timeout=60,
                              capture_output=True, text=True, check=False).returncode

    begin(3)
    account = accounts_of(d, 1)[0]
    ever = c.mint(account).body["token"]
    brief = c.mint(account, 3).body["token"]
    wait_for(lambda: not c.valid(brief), "the end of a token", 30)
    assert d.stop() == 0
    begin(0)
    refused = c.mint(account)
    assert (refused.status, refused.code) == (503, "Server.ClockBehind"), refused
    assert c.valid(ever) and not c.valid(brief), "what has expired stays so"
    assert accept() == 75  # the daemon is running
    assert d.stop() == 0
    assert accept() == 0
    begin(0)
    assert c.mint(account).ok and c.valid(ever) and c.valid(brief), "as the manual says"
    assert d.stop() == 0
