# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Memory that cannot be had: the nth allocation of each request fails, and of the start; once, and
from then on. The daemon answers 500 or 503 or closes, lives or ends with 75, and lies to nobody."""

import collections
import concurrent.futures
import os
import random
import re
import shutil
import signal
import subprocess

import pytest

from conftest import Rpc, wait_for
from faultlib import (FULL, MEMORY, ON_ANY, ON_NO_TABLE, ON_REALLOC, SEED, Busy, Shared, durable,
                      ended, figures, looked_at, own_memory, points, preload)
from journal import LOST

pytestmark = [durable, own_memory]

PATIENCE = 2.0   # seconds to wait for an answer while there is no memory
SIDES = os.cpu_count() if FULL else 1  # starts that go on side by side
AFTERWARDS = 60  # and once there is some again; the daemon's own limit for a request is 10


class Player(Busy):
    """One client that is told what to do, and what it may hear."""

    def __init__(self, pool, kind, name):
        super().__init__(pool, kind, name, SEED)
        self.account = pool.accounts[0]
        self.dead = self.other = None

    def connected(self):
        if self.door is None:
            self.door = self.pool.connect(self.kind)
            if self.kind == "http":
                self.door.connection.timeout = PATIENCE  # of a new connection
            else:
                self.door.socket.settimeout(PATIENCE)
        return self.door

    def answer_comes(self):
        """Without any memory the library under the store tries again and again; not for ever."""
        s = self.door.connection.sock if self.kind == "http" else self.door.socket
        s.settimeout(AFTERWARDS)
        try:
            s.recv(65536)
        except TimeoutError:
            return False
        except LOST:
            pass
        return True

    def leave(self):
        if self.door:
            self.door.close()
        self.door = None

    def with_token(self, token, operation, **args):
        """The same question from somebody else."""
        door = self.connected()
        mine, door.token = door.token, token
        try:
            return door.call(operation, **args)
        finally:
            door.token = mine

    def fresh(self):
        """A token that only this client knows."""
        self.mint()
        assert self.mine, "no token to begin with"

    def one_dead(self):
        if not self.dead:
            self.fresh()
            self.dead = self.mine[-1][3]
            self.mine = self.mine[-1:]
            self.revoke()

    def verified_as(self, secret):
        if self.kind == "http":
            return self.with_token(secret, "token.validate")
        return self.connected().call("token.verify", token=secret)


def ok(answer):
    return answer is None or answer.ok


def refused(*statuses):
    return lambda answer: answer.status in statuses


def not_valid(answer):
    return answer.status == 401 or (answer.status == 200 and isinstance(answer.body, dict)
                                    and answer.body.get("valid") is False)


def valid(answer):
    return answer.ok and (not isinstance(answer.body, dict) or answer.body.get("valid", True))


def call(operation, **args):
    return lambda p: p.connected().call(operation, **args)


def on(operation, **args):
    return lambda p: p.connected().call(operation, serviceAccountSlug=p.account, **args)


def changed(what):
    """A change that the journal knows; its answer is judged there."""
    return lambda p: p.connected() and getattr(p, what)()


def named(p):
    return f"{p.name}-{next(p.numbers)}"


Scenario = collections.namedtuple("Scenario", "run normal before doors",
                                  defaults=(ok, None, ("http", "socket")))
SOCKET = ("socket",)
HTTP = ("http",)

SCENARIOS = {
    "mint": Scenario(changed("mint")),
    "revoke": Scenario(changed("revoke"), before=Player.fresh),
    "rotate": Scenario(changed("rotate"), before=Player.fresh),
    "delete": Scenario(changed("delete")),
    "verify": Scenario(lambda p: p.verified_as(p.mine[-1][3]), valid,
                       lambda p: p.mine or p.fresh()),
    "verify-dead": Scenario(lambda p: p.verified_as(p.dead), not_valid, Player.one_dead),
    "verify-unknown": Scenario(lambda p: p.verified_as("ksh_" + "1" * 32), not_valid),
    "verifyMany": Scenario(call("token.verifyMany", tokens=["ksh_" + "1" * 32] * 5), doors=SOCKET),
    "create": Scenario(lambda p: p.connected().call("account.create", name=named(p))),
    "update": Scenario(lambda p: p.connected().call(
        "account.update", serviceAccountSlug=p.account, name=named(p))),
    "get": Scenario(on("account.get")),
    "list": Scenario(call("account.list", limit=2)),
    "tokens": Scenario(on("token.list", limit=5)),
    "token": Scenario(lambda p: p.connected().call(
        "token.get", serviceAccountSlug=p.account, tokenSlug=p.mine[-1][1]),
        before=lambda p: p.mine or p.fresh()),
    "whoami": Scenario(call("whoami")),
    "whoami-jwt": Scenario(lambda p: p.with_token(p.pool.jwt, "whoami")),
    "whoami-token": Scenario(lambda p: p.with_token(p.mine[-1][3], "whoami"),
                             before=lambda p: p.mine or p.fresh()),
    # OpenSSL does not always say that it was memory that it could not have.
    "whoami-new-jwt": Scenario(lambda p: p.with_token(p.other, "whoami"), refused(200, 401),
                               before=lambda p: setattr(p, "other", p.pool.daemon.jwt(
                                   sub=named(p)))),
    "dead-caller": Scenario(lambda p: p.with_token(p.dead, "account.list"), refused(401),
                            Player.one_dead),
    "false-jwt": Scenario(lambda p: p.with_token(p.pool.jwt[:-9] + "AAAAAAAAA", "account.list"),
                          refused(401)),
    "no-scope": Scenario(lambda p: p.with_token(p.mine[-1][3], "account.create", name="x"),
                         refused(403), lambda p: p.mine or p.fresh()),
    "no-account": Scenario(call("account.get", serviceAccountSlug="nobody"), refused(404)),
    "bad-body": Scenario(call("account.create", name=[1, {"a": None}]), refused(422)),
    "no-name": Scenario(call("account.create"), refused(422)),
    "big": Scenario(call("account.create", name="x" * 60000), refused(400, 413, 422)),
    "scopes": Scenario(call("scopes")),
    "readyz": Scenario(call("readyz")),
    "nowhere": Scenario(lambda p: p.connected().request("GET", "/nowhere"), refused(404),
                        None, HTTP),
    "openapi": Scenario(lambda p: p.connected().request("GET", "/openapi.json"), ok, None, HTTP),
    "jwks": Scenario(lambda p: p.connected().request("GET", "/jwks.json"),
                     lambda a: a.status in (200, 404), None, HTTP),
    "describe": Scenario(call("kaiten.describe"), doors=SOCKET),
    "connect": Scenario(call("whoami"), before=Player.leave),
}


def answers(d):
    try:
        Rpc(d.socket_path, timeout=PATIENCE).close()
        return True
    except (AssertionError, *LOST):  # refused, or gone
        return False


class Torture:
    def __init__(self, template, folder):
        self.control = Shared(folder / "control", MEMORY)
        self.d, self.journal = template.copy(folder / "daemon")
        self.env = preload("memory", KAITEN_MEMORY_CONTROL=self.control.path)
        self.pool = template.pool(self.d, self.journal)
        self.counts, self.found = collections.Counter(), []
        self.d.start(env=self.env)

    def play(self, name, door):
        s, p = SCENARIOS[name], Player(self.pool, door, f"{name}-{door}")
        chance = random.Random(f"{SEED} {name} {door}")
        self.attempt(s, p, name, 0, False)  # caches are filled
        count = self.attempt(s, p, name, 0, False)
        for forever in (False, True):
            for nth in points(chance, count, 3):
                self.attempt(s, p, name, nth, forever)
        p.leave()

    def attempt(self, s, p, name, nth, forever):
        """Returns how many allocations there were."""
        self.prepare(s, p)
        self.control.arm(nth, forever)
        try:
            self.judge(s, s.run(p), (name, p.kind, nth, forever))
        except TimeoutError:
            self.counts["waited"] += 1
            self.control.disarm()
            if not p.answer_comes():
                self.wrong(name, p.kind, nth, forever, "no answer")
            p.leave()
        except LOST:
            self.counts["closed"] += 1
            p.leave()
        finally:
            count = self.control.disarm()
        self.counts["points"] += nth > 0
        self.counts["hit"] += self.control.hits > 0
        return count

    def prepare(self, s, p):
        """The end of what failed before may still be under way."""
        for left in (3, 2, 1, 0):
            try:
                p.again.clear()
                p.connected()
                if s.before:
                    s.before(p)
                return
            except LOST:
                p.leave()
                if not left:
                    raise
                self.alive()

    def judge(self, s, answer, where):
        if answer is None or s.normal(answer):
            self.counts["normal"] += 1
        elif answer.status in (500, 503):
            self.counts["refused"] += 1
        else:
            self.wrong(*where, answer)

    def alive(self):
        """It is there and answers, or it is started again."""
        wait_for(lambda: self.d.process.poll() is not None or answers(self.d), "a decision")
        code = self.d.process.poll()
        if code is None:
            return
        self.counts["ended"] += 1
        if code != os.EX_TEMPFAIL:
            self.wrong("ended", code, self.d.tail(30))
        self.d.start(env=self.env)

    def wrong(self, *what):
        self.found.append(what)
        print("wrong:", *what)

    def start(self, nth, forever):
        """Returns how many allocations a start needs."""
        self.control.arm(nth, forever)
        self.d.spawn(env=self.env)
        try:
            wait_for(lambda: self.d.process.poll() is not None or answers(self.d), "a start",
                     1 if forever else 60)
        except AssertionError:  # it is there, and has no memory for anybody
            if not forever:
                self.wrong("start", nth, forever, "neither ready nor ended", self.d.tail(8))
                self.d.kill()
        count = self.control.disarm()
        wait_for(lambda: self.d.process.poll() is not None or answers(self.d), "a start")
        code = self.d.process.poll()
        if code == 0:
            self.wrong("start", nth, forever, "it ended, and nobody had told it to")
        self.judge_start(code or 0, nth, forever)
        if code is None and ended(self.d) < 0:
            self.died("end", nth, forever, self.d.process.returncode)
        return count

    def judge_start(self, code, nth, forever):
        """code: of its end; 0: it was ready, and ended when it was told to."""
        self.counts["not started" if code else "started"] += 1
        if code < 0:
            self.died("start", nth, forever, code)
        elif code == os.EX_DATAERR:
            self.wrong("start", nth, forever, "the store is damaged now", self.d.tail(8))

    def died(self, *what):
        """Berkeley DB uses some memory without having looked whether it got it, while nobody is
        served yet: the next start recovers."""
        frames = re.findall(r"^(/\S+?)\(.*\[0x", self.d.tail(30), re.M)[2:]
        if what[0] == "start" and frames and "libdb-" in frames[0]:
            self.counts["died in the library"] += 1
        else:
            self.wrong(*what, self.d.tail(30))


@pytest.mark.parametrize("door", ["http", "socket"])
def test_an_allocation_fails_in_a_request(template, tmp_path, door):
    t = Torture(template, tmp_path)
    plays = [name for name, s in SCENARIOS.items() if door in s.doors]
    for name in plays:
        t.play(name, door)
    t.alive()
    t.found += looked_at(t.d, t.journal, t.pool.accounts)
    t.d.kill()
    t.d.start()
    t.found += looked_at(t.d, t.journal, t.pool.accounts)
    assert t.d.stop() == 0
    t.d.remove()
    figures(f"allocations of requests, {door}", scenarios=len(plays), points=t.counts["points"],
            hit=t.counts["hit"], as_ever=t.counts["normal"], refused=t.counts["refused"],
            closed=t.counts["closed"], ended_the_daemon=t.counts["ended"],
            violations=len(t.found))
    assert not t.found, f"seed {SEED}: {len(t.found)}, the first: {t.found[:5]}"


# --- starts ---------------------------------------------------------------------------------------

class Starts:
    """Starts on a store of their own, one after the other. Each is told to end before it begins, so
    that it does both, and nobody has to ask whether it has come so far. The store is one that was
    killed, and again so once a start got through: each has it to recover."""

    LOOK_EVERY = 500

    def __init__(self, template, folder, kinds):
        folder.mkdir()
        self.template, self.t = template, Torture(template, folder)
        self.t.control.kinds = kinds
        self.t.d.kill()
        self.through = True

    def renew(self):
        shutil.rmtree(self.t.d.state)
        shutil.copytree(self.template.d.state, self.t.d.state)

    def start(self, nth):
        """Returns how many allocations there were."""
        d, control = self.t.d, self.t.control
        if self.through:
            self.renew()
        self.through = False
        os.truncate(d.log, 0)
        control.arm(nth, False)
        d.spawn(env=self.t.env)
        d.process.send_signal(signal.SIGTERM)
        try:
            code = d.process.wait(AFTERWARDS)
        except subprocess.TimeoutExpired:
            self.t.wrong("start", nth, "neither ready nor ended", d.tail(8))
            d.kill()
            return control.disarm()
        count = control.disarm()
        self.through = code == 0
        self.t.counts["hit"] += control.hits > 0
        self.t.judge_start(code, nth, False)
        return count

    def every(self, numbers):
        for i, nth in enumerate(numbers, 1):
            found = len(self.t.found)
            self.start(nth)
            if len(self.t.found) > found:  # a store that is damaged is no other one for the next
                self.renew()
            if i % self.LOOK_EVERY == 0 or i == len(numbers):
                self.look()

    def look(self):
        t = self.t
        t.d.start()
        t.found += looked_at(t.d, t.journal, t.pool.accounts)
        assert t.d.stop() == 0


def without_sigterm():
    """What this thread starts has it pending until it asks for it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


# Where the library reads its log, and takes what it could not read for the end, memory grows.
# Most of all are of libcrypto's tables of names, so that a sample of all is of little else.
@pytest.mark.parametrize("kinds, most, what", [(ON_NO_TABLE, 40, "allocations but for tables"),
                                               (ON_ANY, 4, "allocations"),
                                               (ON_REALLOC, 40, "larger pieces")])
def test_an_allocation_fails_at_the_start(template, tmp_path, kinds, most, what):
    sides = [Starts(template, tmp_path / str(i), kinds) for i in range(SIDES)]
    with concurrent.futures.ThreadPoolExecutor(SIDES, initializer=without_sigterm) as pool:
        count = max(pool.map(lambda side: side.start(0), sides))
        numbers = list(points(random.Random(SEED), count, most))
        list(pool.map(lambda i: sides[i].every(numbers[i::SIDES]), range(SIDES)))
    for side in sides:
        side.t.d.remove()
    counts = sum((side.t.counts for side in sides), collections.Counter())
    found = [wrong for side in sides for wrong in side.t.found]
    figures(f"{what} of a start and an end", calls=count, points=len(numbers), hit=counts["hit"],
            started=counts["started"], not_started=counts["not started"],
            died_in_the_library=counts["died in the library"], violations=len(found))
    assert not found, f"seed {SEED}: {len(found)}, the first: {found[:5]}"


@pytest.mark.parametrize("kinds, most, what", [(ON_NO_TABLE, 100 if FULL else 6, "allocations"),
                                               (ON_REALLOC, 100 if FULL else 20, "larger pieces")])
def test_there_is_no_memory_from_some_point_of_the_start_on(template, tmp_path, kinds, most, what):
    t = Torture(template, tmp_path)
    assert ended(t.d) == 0
    t.control.kinds = kinds
    count = t.start(0, False)
    numbers = sorted(random.Random(SEED).sample(range(1, count + 1), min(most, count)))
    for nth in numbers:
        if not t.found:
            t.start(nth, True)
    t.d.start()
    t.found += looked_at(t.d, t.journal, t.pool.accounts)
    assert t.d.stop() == 0
    t.d.remove()
    figures(f"no {what} from some point of a start on", calls=count, points=len(numbers),
            started=t.counts["started"], not_started=t.counts["not started"],
            died_in_the_library=t.counts["died in the library"], violations=len(t.found))
    assert not t.found, f"seed {SEED}: {len(t.found)}, the first: {t.found[:5]}"
