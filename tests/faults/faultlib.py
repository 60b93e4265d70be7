# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What the tests of faults share: orders to the preloaded libraries, a load that does everything,
and one way to look at a store after a fault. Loaded by pytest as a plugin, next to the conftest of
the black-box suite, whose daemon and journal are used here too.

KAITEN_FAULTS=full   every point instead of a sample
KAITEN_SEED=N        another seed; printed with the figures
"""

import contextlib
import copy
import ctypes
import itertools
import mmap
import os
import re
import signal
import subprocess
import time

import pytest

from conftest import (BUILD, KAITEND, PATIENCE, STORES, Daemon, free_port,  # noqa: F401
                      own_daemon, pytest_sessionfinish, wait_for)
from journal import LOST, Actor, Journal, Pool, check, read_lists, sweep
from timelimit import pytest_configure, pytest_runtest_protocol  # noqa: F401 (hooks)

FULL = os.environ.get("KAITEN_FAULTS") == "full"
SEED = int(os.environ.get("KAITEN_SEED", "0")) or 1
SHIMS = BUILD / "tests/faults/.libs"
REPLAY = BUILD / "tests/faults/replay"
FILL = BUILD / "tests/bench/fill"
BINARY = KAITEND.read_bytes() if KAITEND.exists() else b""
ASAN, TSAN = b"__asan_init" in BINARY, b"__tsan_init" in BINARY

durable = pytest.mark.skipif("storage-bdb" not in STORES, reason="no durable store was built")
own_memory = pytest.mark.skipif(ASAN or TSAN, reason="the sanitizer's allocator takes the place "
                                "of the one that is made to fail; the plain run covers it")
no_tsan = pytest.mark.skipif(TSAN, reason="its runtime calls the file functions before the "
                             "preloaded ones are ready; the other runs cover it")

said = []
names = itertools.count(1)


def figures(what, **numbers):
    """One line at the end of the run; of what a test prints, since it may be another process."""
    facts = ", ".join(f"{v:g} {k.replace('_', ' ')}" for k, v in numbers.items())
    print(f"figures  {what}: {facts}; seed {SEED}")


def pytest_runtest_logreport(report):
    if report.when == "call":
        said.extend(line[len("figures  "):] for line in report.capstdout.splitlines()
                    if line.startswith("figures  "))


def pytest_terminal_summary(terminalreporter):
    for line in said:
        terminalreporter.write_line("figures  " + line)


# --- orders to the preloaded libraries ------------------------------------------------------------

class Shared:
    """A structure in a file that the daemon maps as well: its members are those of this object."""

    def __init__(self, path, members):
        kind = type("Control", (ctypes.Structure,), {"_fields_": members})
        path.write_bytes(bytes(ctypes.sizeof(kind)))
        with open(path, "r+b") as f:
            memory = mmap.mmap(f.fileno(), 0)
        self.__dict__.update(path=path, c=kind.from_buffer(memory))

    def __getattr__(self, name):
        return getattr(self.c, name)

    def __setattr__(self, name, value):
        setattr(self.c, name, value)

    def arm(self, nth=0, forever=False, **more):
        """Counts from now on, and makes the nth call fail; 0: none."""
        self.armed = 0
        for name, value in more.items():
            setattr(self, name, value)
        self.count = self.hits = 0
        self.nth, self.forever = nth, forever
        if "hit_at" in dict(self.c._fields_):
            self.hit_at = 0
        self.armed = 1

    def disarm(self):
        self.armed = 0
        return self.count


U32, U64, I64 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int64
DISK = [("armed", U32), ("kinds", U32), ("error", U32), ("forever", U32), ("count", U64),
        ("nth", U64), ("hits", U64), ("hit_at", U64), ("limited", U32), ("lie", U32),
        ("space", I64), ("full", U64), ("hangs", U32), ("hanging", U32)]
MEMORY = [("armed", U32), ("kinds", U32), ("forever", U32), ("count", U64), ("nth", U64),
          ("hits", U64)]
ON_ANY, ON_REALLOC, ON_NO_TABLE = 0, 1, 2
CLOCK = [("offset", I64)]
ON_WRITE, ON_SYNC, ON_OPEN, ON_NAME, ON_READ = 1, 2, 4, 8, 16


def preload(*names, **variables):
    """The environment of a daemon with these libraries before its own."""
    first = []
    if ASAN:
        linked = subprocess.run(["ldd", KAITEND], check=True, capture_output=True, text=True).stdout
        first = re.findall(r"=> (\S*libasan\S*)", linked)
    libraries = first + [str(SHIMS / f"{name}.so") for name in names]
    return dict(os.environ, LD_PRELOAD=":".join(libraries),
                **{k: str(v) for k, v in variables.items()})


def disk(d, control=None, trace=None):
    """The environment of a daemon whose state folder is watched."""
    variables = {"KAITEN_DISK_ROOT": d.state}
    if control:
        variables["KAITEN_DISK_CONTROL"] = control.path
    if trace:
        variables["KAITEN_DISK_TRACE"] = trace
    return preload("disk", **variables)


# --- a load that does everything ------------------------------------------------------------------

class Busy(Actor):
    """Lets accounts live and die as well, with what is in them."""

    WEIGHTS = dict(Actor.WEIGHTS, delete=5)

    def delete(self):
        answer = self.ask("create", "account.create", dict(name=self.name), {}, lambda b: {})
        if not answer.ok:
            return
        account = answer.body["slug"]
        for _ in range(2):
            self.ask("mint", "token.create",
                     dict(serviceAccountSlug=account, name=str(next(self.numbers)),
                          scopes=["read:instances"]),
                     dict(account=account), self.minted)
        self.ask("delete", "account.delete", dict(serviceAccountSlug=account),
                 dict(account=account), lambda b: {})

    def minted(self, body):
        self.pool.secrets.append(body["token"])
        return dict(secret=body["token"], token=body["id"])

    def step(self, what):
        """One thing, chosen by the test; whether the daemon is there or not."""
        try:
            if self.door is None:
                self.door = self.pool.connect(self.kind)
            getattr(self, what)()
        except LOST:
            if self.door:
                self.door.close()
            self.door = None


class Calm(Busy):
    """Takes its time, so that the store stays small however long a test takes."""

    PAUSE = 0.01

    def turn(self):
        time.sleep(self.PAUSE)
        super().turn()


EVERYTHING = ("mint", "mint", "verify", "rotate", "verify", "revoke", "delete", "mint")


def play(pool, rounds=1):
    """Everything at both doors, one after the other: the same each time."""
    players = [Busy(pool, door, f"{door}-{next(names)}", SEED) for door in ("http", "socket")]
    for _ in range(rounds):
        for what in EVERYTHING:
            for p in players:
                p.step(what)
    for p in players:
        if p.door:
            p.door.close()


def actors_of(pool, each, kind=Busy, prefix=""):
    """So many clients at each door, started."""
    actors = [kind(pool, door, f"{prefix}{door}-{i}", SEED)
              for door in ("http", "socket") for i in range(each)]
    for a in actors:
        a.start()
    return actors


def loaded(journal, mints):
    """Waits until that many were acknowledged, and something was revoked: on a slow machine a load
    is not what it does in a second."""
    wait_for(lambda: journal.count("mint") > mints and journal.count("revoke") > 0, "some load")


def join(pool, actors):
    pool.stop.set()
    pool.up.set()
    for a in actors:
        a.join(60)
        assert not a.is_alive(), a.name + " hangs"
        if a.broken:
            raise a.broken


def fill(d, accounts, tokens):
    """So many more in its store, made without a daemon; returns the secrets."""
    folder = d.dir / f"fill-{next(names)}"
    folder.mkdir()
    subprocess.run([FILL, d.conf, str(accounts), str(tokens), folder / "slugs", folder / "tokens"],
                   check=True, capture_output=True)
    return re.findall("ksh_.{32}", (folder / "tokens").read_text())


def not_valid(d, secrets):
    rpc = d.rpc()
    results = [r for i in range(0, len(secrets), 500)
               for r in rpc.call("token.verifyMany", tokens=secrets[i:i + 500]).body["results"]]
    rpc.close()
    return [secret for secret, result in zip(secrets, results) if not result["valid"]]


def accounts_of(d, count=3):
    rpc = d.rpc()
    slugs = [rpc.call("account.create", name=f"fault {i}").body["slug"] for i in range(count)]
    rpc.close()
    return slugs


# --- what a store says after a fault --------------------------------------------------------------

def secrets_in(lines):
    return [line["secret"] for line in lines
            if line["line"] == "acknowledged" and line.get("secret")]


def looked_at(d, journal, accounts, secrets=None, excused=()):
    """Asks a running daemon for everything that the journal knows of; returns the violations."""
    rpc = d.rpc()
    known = secrets_in(journal.lines) if secrets is None else secrets
    sweep(rpc, journal, known)
    read_lists(rpc, journal, accounts)
    rpc.close()
    return check(journal.lines, EXCUSED + excused)


EXCUSED = ("UNAVAILABLE", "INTERNAL", "Storage.Full", "Storage.Unknown")


def journal_until(journal, ns):
    """What clients knew at that time."""
    part = Journal()
    part.lines = [line for line in journal.lines if line["at"] * 1e9 <= ns]
    part.numbers = journal.numbers
    return part


class Ended(Exception):
    """The daemon did not start: with which code, and its last words."""

    def __init__(self, code, words):
        super().__init__(f"ended with {code}: {words}")
        self.code, self.words = code, words


def is_ready(d):
    """By its own socket, which nobody else has."""
    try:
        with contextlib.closing(d.rpc()) as rpc:
            return rpc.call("readyz").ok
    except LOST:
        return False


def start_or_end(d, tries=1, **kwargs):
    """Starts it like a supervisor does: again when it asks for that with 75. Returns how often."""
    for n in range(1, tries + 1):
        try:
            d.start(2 * PATIENCE, **kwargs)
            # Another run of tests may have taken the port meanwhile, and its daemon has answered.
            wait_for(lambda: d.process.poll() is not None or is_ready(d), "it to be ready itself")
            if d.process.poll() is not None:
                raise AssertionError("somebody else answered")
            return n
        except AssertionError as e:
            if str(e).startswith("timed out"):
                raise
            if d.process.returncode == os.EX_UNAVAILABLE and "Address already in use" in d.tail(5):
                d.port = free_port()
                d.write_conf()
                return start_or_end(d, tries, **kwargs)
            if d.process.returncode != os.EX_TEMPFAIL or n == tries:
                raise Ended(d.process.returncode, d.tail(5)) from None


# Small logs and a small cache, so that logs change and pages are written before a checkpoint.
SMALL = "log_file_size = 1M\ncheckpoint_log = 1M\ncache_size = 1M\nbase_log = 2M"
LIGHT = SMALL + "\nballast = 1M\nreserve = 1M"


class Template:
    """A store with a past and its journal; it was killed, so its start has to recover it."""

    def __init__(self, folder, rounds=6):
        self.d = Daemon("storage-bdb", storage=LIGHT, level="info", folder=folder).start()
        self.journal = Journal()
        self.accounts = accounts_of(self.d)
        play(self.pool(self.d, self.journal), rounds)
        self.d.kill()

    def kept_in(self, d):
        """The same past in the store of somebody else, who is not running."""
        other = copy.copy(self)
        other.d = d
        return other

    def pool(self, d, journal):
        return Pool(d, journal, self.accounts)

    def copy(self, folder):
        """Another daemon on a copy of the store, not started, and a copy of the journal."""
        folder.mkdir()
        d = Daemon("storage-bdb", storage=LIGHT, level="info", folder=folder)
        subprocess.run(["cp", "-a", f"{self.d.state}/.", d.state], check=True)
        return d, journal_until(self.journal, float("inf"))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    made = Template(folder)
    yield made
    made.d.remove()


def points(chance, count, most):
    """Numbers from 1 to count: all of them, or a sample that has the first and the last."""
    if FULL or count <= most:
        return range(1, count + 1)
    return sorted({1, count} | set(chance.sample(range(2, count), most - 2)))


def ended(d):
    """SIGTERM; the code, or -signal."""
    if d.process.poll() is None:
        d.process.send_signal(signal.SIGTERM)
    return d.process.wait(2 * PATIENCE)


def keep(journal, name):
    """For whoever wants to know how it came to that."""
    path = BUILD / f"{name}-journal.log"
    journal.dump(path)
    return path
