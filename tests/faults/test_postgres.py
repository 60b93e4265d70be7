# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Three daemons on one PostgreSQL that is restarted, cut off, stopped, filled and promoted: outages
are answered with 503 in time, nobody waits behind others, everything works again soon after the
database does, and the checker finds nothing on any daemon."""

import concurrent.futures
import contextlib
import itertools
import os
import random
import shutil
import signal
import time

import pytest

import postgres
from conftest import STORES, Daemon, wait_for
from faultlib import (ASAN, DISK, EXCUSED, FULL, ON_WRITE, SEED, TSAN, Busy, Shared, accounts_of,
                      actors_of, figures, join, keep, loaded, preload, secrets_in)
from journal import Journal, Pool, calls, check, read_lists, sweep

ENOSPC = 28
DAEMONS = 3
BOUND = 1.0  # max_staleness: how late another daemon may know of a revocation
KEYS = ("digest.key", "signing.pem", "jwt-private.pem", "jwt-public.pem")
# A promise of an idle machine; the short form runs beside everything else.
ANSWERED = 2.5 if FULL else 20.0
BACK = 20.0  # how long it takes is for the server's own recovery to say, too: a figure
TIMEOUT, LIMIT = ("1800ms", "2s") if FULL else ("3s", "4s")  # of a call, of a whole request

pytestmark = pytest.mark.skipif("storage-postgres" not in STORES,
                                reason="storage-postgres was not built")


class Patient(Busy):
    """Does not hammer at a daemon that has just said that it cannot."""

    def ask(self, *args, **kwargs):
        answer = super().ask(*args, **kwargs)
        if answer.status >= 500:
            time.sleep(0.05)
        return answer


class Everywhere(Pool):
    """Each connection goes to the next daemon."""

    def __init__(self, daemons, journal, accounts):
        super().__init__(daemons[0], journal, accounts)
        self.next = itertools.cycle(daemons)

    def connect(self, kind):
        self.daemon = next(self.next)
        return super().connect(kind)


class Cluster:
    """Daemons with the same keys on one store, and clients at both doors of all. before: what is
    done with the first daemon before it starts."""

    def __init__(self, connection, n=DAEMONS, **settings):
        self.daemons = []
        try:
            for _ in range(n):
                self.add(connection, **settings)
        except BaseException:  # nobody else knows of them yet
            for d in self.daemons:
                d.remove()
            raise
        self.journal = Journal()
        self.pool = Everywhere(self.daemons, self.journal, accounts_of(self.daemons[0]))
        self.actors = []

    def add(self, connection, storage="", daemon="", before=None, **kwargs):
        d = Daemon("storage-postgres", level="info",
                   daemon=f"max_staleness = {BOUND:g}s\nrequest_timeout = {LIMIT}\n{daemon}",
                   storage=f"connection = {connection}\ntimeout = {TIMEOUT}\n{storage}")
        for name in KEYS if self.daemons else ():
            shutil.copy(self.daemons[0].state / name, d.state / name)
        self.daemons.append(d)
        if before and d is self.daemons[0]:
            before(d)
        d.start(**kwargs)

    def load(self, each=3):
        self.actors = actors_of(self.pool, each, Patient)
        self.pool.up.set()
        loaded(self.journal, 0)

    def rest(self):
        join(self.pool, self.actors)
        self.actors = []

    def back(self):
        """Seconds until each daemon mints and verifies again."""
        begun = time.monotonic()
        for d in self.daemons:
            wait_for(lambda d=d: self.works(d), "a daemon to be back", 120)
        return time.monotonic() - begun

    def works(self, d):
        try:
            with contextlib.closing(d.rpc()) as rpc:
                probe = rpc.call("account.create", name="probe")
                return probe.ok and rpc.call("token.verify", token="ksh_" + "0" * 32).ok
        except (OSError, EOFError, AssertionError):
            return False

    def live(self, d, secrets):
        """Which of them a daemon accepts; None when it cannot say."""
        accepted = []
        with contextlib.closing(d.rpc()) as rpc:
            for i in range(0, len(secrets), 500):
                answer = rpc.call("token.verifyMany", tokens=secrets[i:i + 500])
                if not answer.ok:
                    return None
                accepted += [r["valid"] for r in answer.body["results"]]
        return accepted

    def agree(self):
        """What one of them could not learn has been settled: all say the same of everything."""
        secrets = secrets_in(self.journal.lines)
        said = [self.live(d, secrets) for d in self.daemons]
        return None not in said and all(s == said[0] for s in said)

    def verdict(self, what, times, **more):
        """All daemons are asked for everything; figures, and no violations."""
        begun = time.monotonic()
        wait_for(self.agree, "all daemons to agree", 120)
        settled = time.monotonic() - begun
        for d in self.daemons:
            with contextlib.closing(d.rpc()) as rpc:
                sweep(rpc, self.journal, secrets_in(self.journal.lines))
                read_lists(rpc, self.journal, self.pool.accounts)
        found = check(self.journal.lines, EXCUSED + ("Server.Busy",), BOUND)
        ended = [c for c in calls(self.journal.lines) if c.end != float("inf")]
        slowest = max(c.end - c.start for c in ended)
        figures(what, violations=len(found), mints=self.journal.count("mint"),
                revocations=self.journal.count("revoke"),
                refused=self.journal.count(line="refused"),
                unknown=self.journal.count(line="unknown"), s_slowest_answer=slowest,
                s_until_back_at_most=max(times, default=0), s_until_all_agreed=settled,
                **more)
        if found:
            pytest.fail(f"seed {SEED}: {len(found)} violations, the first: {found[:5]}; see "
                        f"{keep(self.journal, 'postgres')}")
        assert slowest < ANSWERED
        assert max(times, default=0) < BACK
        assert [d.stop() for d in self.daemons] == [0] * len(self.daemons)

    def remove(self):
        self.pool.stop.set()
        self.pool.up.set()
        for d in self.daemons:
            d.remove()


@pytest.fixture
def world():
    """Makes servers and clusters, and takes them away again."""
    with contextlib.ExitStack() as made:
        def make(thing):
            made.callback(thing.remove)
            return thing
        yield make


@pytest.fixture
def server(world):
    return world(postgres.Server(durable=True)).start()


def cluster_on(world, server, **kwargs):
    c = world(Cluster(server.connection(server.database()), **kwargs))
    c.load()
    return c


def some_load(c, mints=10):
    before = c.journal.count("mint")
    wait_for(lambda: c.journal.count("mint") >= before + mints, "some load", 120)


def test_the_server_crashes_and_comes_back(world, server):
    c, times = cluster_on(world, server), []
    count = int(os.environ.get("KAITEN_RESTARTS", 100 if FULL else 3))
    for _ in range(count):
        some_load(c)
        server.stop(signal.SIGQUIT)
        server.start()
        times.append(c.back())
    c.rest()
    c.verdict("PostgreSQL restarted at once", times, restarts=count)


def sessions(server):
    """Of daemons; none while the server recovers."""
    said = server.sql("SELECT pid FROM pg_stat_activity WHERE usename = "
                      f"'{postgres.ROLE}'", check=False)
    return [int(pid) for pid in said.stdout.split()] if said.returncode == 0 else []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_its_processes_are_ended(world, server, how):
    """Between a commit and its answer, too: what became of it is looked up. When one is killed the
    server ends all of them, and recovers."""
    c, chance, times = cluster_on(world, server), random.Random(SEED), []
    count = (200 if how == signal.SIGTERM else 500) if FULL else 10
    count = int(os.environ.get("KAITEN_KILLS", count))
    for _ in range(count):
        time.sleep(chance.uniform(0.01, 0.1))  # the instant is what is random
        pids = wait_for(lambda: sessions(server), "sessions", 60)
        for pid in pids if how == signal.SIGTERM else [chance.choice(pids)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        if how == signal.SIGKILL:
            times.append(c.back())
    times.append(c.back())
    some_load(c)
    c.rest()
    c.verdict(f"processes of PostgreSQL ended by {how.name}", times, rounds=count)


def test_the_server_stands_still(world, server):
    seconds = 10 if FULL else 4
    c = cluster_on(world, server)
    some_load(c)
    server.signal_all(signal.SIGSTOP)
    time.sleep(seconds)
    server.signal_all(signal.SIGCONT)
    times = [c.back()]
    some_load(c)
    c.rest()
    c.verdict("PostgreSQL stopped", times, s_stopped=seconds)


def test_nobody_waits_longer_because_others_wait(world, server):
    """A server that stands still, goes on a little and stands still again: no call takes too long,
    and yet the calls of a request, and those that it waits for, add up. Each of many who ask, at
    both doors of all daemons, has an answer in time."""
    c = world(Cluster(server.connection(server.database())))
    slug = c.pool.accounts[0]
    asks = [("token.create", dict(serviceAccountSlug=slug, scopes=["read:instances"])),
            ("account.create", {}), ("token.list", dict(serviceAccountSlug=slug)),
            ("account.delete", dict(serviceAccountSlug=c.pool.accounts[1]))]
    count, stops, still = (240, 5, 1.5) if FULL else (48, 2, 1.5)

    def ask(i):
        time.sleep(i / count * stops * still)  # who comes later finds others waiting
        d, (operation, args) = c.daemons[i % DAEMONS], asks[i // DAEMONS % len(asks)]
        named = dict(args, name=f"crowd {i}") if operation.endswith("create") else args
        with contextlib.closing(d.http(c.pool.jwt) if i % 2 else d.rpc()) as door:
            begun = time.monotonic()
            answer = door.call(operation, **named)
            return time.monotonic() - begun, operation, answer.status

    with concurrent.futures.ThreadPoolExecutor(count) as crowd:
        asked = [crowd.submit(ask, i) for i in range(count)]
        for _ in range(stops):
            server.signal_all(signal.SIGSTOP)
            time.sleep(still)
            server.signal_all(signal.SIGCONT)
            time.sleep(0.01)
        said = [f.result() for f in asked]
    back, slowest = c.back(), max(said)
    statuses = [status for _, _, status in said]
    figures("a crowd while PostgreSQL stands still now and then", requests=count,
            unavailable=statuses.count(503), s_limit=float(LIMIT[:-1]),
            s_slowest_answer=slowest[0], s_until_back=back)
    assert set(statuses) <= {200, 201, 204, 404, 503}, statuses
    assert 503 in statuses or not FULL
    assert slowest[0] < ANSWERED, slowest
    assert back < BACK
    assert [d.stop() for d in c.daemons] == [0] * DAEMONS


def test_others_use_up_the_connections(world):
    server = world(postgres.Server(["max_connections = 60", "superuser_reserved_connections = 3"],
                                   durable=True)).start()
    database = server.database()
    c = world(Cluster(server.connection(database)))
    c.load()
    with contextlib.ExitStack() as hold:
        def take():
            """As many as there are, and those that the daemons lose."""
            with contextlib.suppress(AssertionError):
                while True:
                    hold.enter_context(server.session(database, "taker"))

        server.sql("CREATE ROLE taker LOGIN")
        take()
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = "
                   f"'{postgres.ROLE}'")
        take()
        time.sleep(2)  # that long it stays so
    times = [c.back()]
    some_load(c)
    c.rest()
    c.verdict("no connections left", times)


def test_the_password_is_changed(world):
    server = world(postgres.Server(durable=True))
    hba = server.data / "pg_hba.conf"
    hba.write_text(f"local all {postgres.ROLE} scram-sha-256\n" + hba.read_text())
    server.start()
    database = server.database()
    secret = server.dir / "secret"

    def change(password):
        server.sql(f"ALTER ROLE {postgres.ROLE} PASSWORD '{password}'")
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = "
                   f"'{postgres.ROLE}'")

    def tell(password):
        secret.write_text(password + "\n")
        secret.chmod(0o600)

    change("first")
    tell("first")
    c = world(Cluster(server.connection(database), storage=f"password_file = {secret}"))
    c.load()
    change("second")
    wait_for(lambda: not any(c.works(d) for d in c.daemons), "all to be locked out", 60)
    tell("second")
    times = [c.back()]
    some_load(c)
    c.rest()
    c.verdict("the password changed", times)
    assert not any(word in d.log.read_text() for d in c.daemons for word in ("first", "second"))


@pytest.mark.skipif(ASAN or TSAN, reason="the server is not built with the sanitizer's runtime")
def test_the_disk_of_the_server_is_full(world, tmp_path):
    server = world(postgres.Server(durable=True))
    control = Shared(server.dir / "disk", DISK)
    control.path.chmod(0o666)
    control.kinds, control.error = ON_WRITE, ENOSPC
    server.extra = preload("disk", KAITEN_DISK_ROOT=server.data, KAITEN_DISK_CONTROL=control.path)
    server.start()
    c = cluster_on(world, server)
    some_load(c)
    control.arm(nth=1, forever=True)
    wait_for(lambda: control.hits > 0 and not all(c.works(d) for d in c.daemons),
             "the server to run out of space", 60)
    control.disarm()
    server.stop(signal.SIGQUIT)  # whatever it has made of that
    server.start()
    times = [c.back()]
    some_load(c)
    c.rest()
    c.verdict("PostgreSQL's disk full", times, failed_writes=control.hits)


# --- standbys -------------------------------------------------------------------------------------

def both(one, other):
    return f"host={one.dir},{other.dir} dbname={{}} user={postgres.ROLE}"


def attached(primary, standby, synchronous):
    if synchronous:
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.sql("SELECT pg_reload_conf()")
    state = "sync" if synchronous else "async"
    wait_for(lambda: state in primary.sql("SELECT sync_state FROM pg_stat_replication"),
             "the standby", 60)
    return standby


def detached(primary, standby):
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
    standby.sql("SELECT pg_reload_conf()")
    wait_for(lambda: primary.sql("SELECT count(*) FROM pg_stat_replication") == "0",
             "the standby to be on its own", 60)


def promoted(standby):
    standby.run("pg_ctl", "promote", "-w", "-D", standby.data)
    standby.sql("ALTER SYSTEM RESET synchronous_standby_names")
    standby.sql("SELECT pg_reload_conf()")
    return standby


def test_a_synchronous_standby_takes_over(world):
    """What was acknowledged is on both, so nothing is lost, and what was revoked stays so."""
    count = 20 if FULL else 1
    primary = world(postgres.Server(durable=True)).start()
    database = primary.database()
    standby = world(postgres.Server(copy_of=primary)).start()
    attached(primary, standby, True)
    c = world(Cluster(both(primary, standby).format(database)))
    c.load()
    times = []
    for i in range(count):
        some_load(c)
        primary.stop(signal.SIGQUIT)
        promoted(standby)
        times.append(c.back())
        primary, standby = standby, primary
        if i + 1 < count:
            standby.copy(primary)
            attached(primary, standby.start(), True)
    c.rest()
    c.verdict("a synchronous standby took over", times, promotions=count)


def test_what_an_asynchronous_standby_loses(world):
    """Acknowledged mints may be lost with it; a revoked token stays revoked all the same, since
    every daemon has it in its own journal."""
    primary = world(postgres.Server(durable=True)).start()
    database = primary.database()
    standby = world(postgres.Server(copy_of=primary)).start()
    attached(primary, standby, False)
    c = world(Cluster(both(primary, standby).format(database)))
    c.load()
    some_load(c)
    c.rest()
    with contextlib.closing(c.daemons[0].http()) as door:
        early = [made(c, door, f"early {i}") for i in range(20)]
        wait_for(lambda: standby.sql("SELECT pg_last_wal_replay_lsn() >= "
                                     f"'{primary.sql('SELECT pg_current_wal_lsn()')}'") == "t",
                 "the standby to have all", 60)
        detached(primary, standby)
        for t in early:
            assert door.call("token.revoke", serviceAccountSlug=c.pool.accounts[0],
                             tokenSlug=t["slug"]).ok
        late = [made(c, door, f"late {i}") for i in range(20)]
    for d in c.daemons:
        wait_for(lambda d=d: not any(verdicts(d, early)), "the others to hear of it", 60)
    primary.stop(signal.SIGQUIT)
    promoted(standby)
    times = [c.back()]
    for d in c.daemons:
        assert not any(verdicts(d, early)), "what was revoked has come back"
        wait_for(lambda d=d: not any(verdicts(d, late)), "what is lost to be forgotten", 60)
    figures("an asynchronous standby took over", lost_mints=len(late), revoked_that_came_back=0,
            revocations_not_on_the_standby=len(early), s_until_back=max(times))


def made(c, door, name):
    answer = door.call("token.create", serviceAccountSlug=c.pool.accounts[0], name=name,
                       scopes=["read:instances"])
    assert answer.ok, answer
    return answer.body


def verdicts(d, tokens):
    """Which of them a daemon accepts; also which it accepted while it could not answer for others of
    them, which it says with 503 when the store has another history and is not read yet."""
    good = [False] * len(tokens)

    def answers_for_all():
        with contextlib.closing(d.rpc()) as rpc:
            answers = [rpc.call("token.verify", token=t["token"]) for t in tokens]
        for i, a in enumerate(answers):
            assert a.ok or a.status == 503, a
            good[i] |= a.ok and a.body["valid"]
        return all(a.ok for a in answers)

    wait_for(answers_for_all, "a verdict on each", 60)
    return good
