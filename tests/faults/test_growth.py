# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What a store takes on the disk: its logs go, and the space of what was purged is used again."""

import contextlib
import datetime
import threading
import time

from conftest import wait_for
from faultlib import FULL, SMALL, accounts_of, durable, figures, not_valid

pytestmark = durable

MIB = 1 << 20
LOG_FILE, BASE_LOG = MIB, 2 * MIB  # as in SMALL
CLIENTS = 8
LOG_MINTS = 60000 if FULL else 8000
ROUNDS = 30 if FULL else 5
SETTLED = 3                        # rounds after which nothing is new
EACH_ROUND = 1000 if FULL else 300
LIVING = 1                         # tokens; a page goes when nothing on it lives
PAGE, PAGES_EACH = 4096, 4         # that such a token may hold: of itself, its secret, two claims
SWING = 16                         # a part of all pages: keys in no order fill them differently
PURGE = "retention = 1s\naudit_retention = 1s\nlast_used_interval = 1s"


class Clients:
    """Several at the socket; one call of each is under way at a time."""

    def __init__(self, d):
        self.d, self.account = d, accounts_of(d, 1)[0]
        self.numbers = iter(range(1 << 40))

    def each(self, count, call):
        """Returns what call(rpc, number) returned, of so many calls."""
        done, lock = [], threading.Lock()

        def run(numbers):
            rpc = self.d.rpc()
            mine = [call(rpc, n) for n in numbers]
            rpc.close()
            with lock:
                done.extend(mine)

        numbers = [next(self.numbers) for _ in range(count)]
        threads = [threading.Thread(target=run, args=(numbers[i::CLIENTS],))
                   for i in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(done) == count, "a client failed"
        return done

    def mint(self, rpc, n, **more):
        minted = rpc.call("token.create", serviceAccountSlug=self.account, name=f"growth {n}",
                          slug=f"growth-{n}", scopes=["read:instances"], **more)
        assert minted.ok, minted
        return minted.body

    def revoked(self, rpc, n):
        self.mint(rpc, n)
        revoked = rpc.call("token.revoke", serviceAccountSlug=self.account,
                           tokenSlug=f"growth-{n}")
        assert revoked.ok, revoked

    def expiring(self, rpc, n):
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
        self.mint(rpc, n, expiresAt=end.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def sizes(folder, pattern):
    """By name; one may go meanwhile."""
    found = {}
    for f in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            found[f.name] = f.stat().st_size
    return found


def size_of(folder, pattern):
    return sum(sizes(folder, pattern).values())


def logs(d):
    return {int(name[4:]): size for name, size in sizes(d.state / "db", "log.*").items()}


def written(d):
    """Bytes of log, ever."""
    newest = max(logs(d))
    return (newest - 1) * LOG_FILE + logs(d)[newest]


class Watch(threading.Thread):
    """The most that the logs took, and what the databases took then."""

    def __init__(self, d):
        super().__init__(daemon=True)
        self.d, self.most, self.stop = d, 0, threading.Event()
        self.start()

    def run(self):
        while not self.stop.wait(0.05):
            self.most = max(self.most, sum(logs(self.d).values()))

    def end(self):
        self.stop.set()
        self.join()
        return self.most


def test_logs_go_and_take_no_more_than_they_may(own_daemon):
    """A base copy is made when the logs have outgrown both the databases and base_log; then those
    from before it go."""
    d = own_daemon("storage-bdb", storage=SMALL, level="info").start()
    clients, watch = Clients(d), Watch(d)
    before = written(d)
    clients.each(LOG_MINTS, clients.mint)
    wrote, databases = written(d) - before, size_of(d.state / "db", "*.db")
    bound = 2 * max(databases, BASE_LOG) + 2 * LOG_FILE
    wait_for(lambda: sum(logs(d).values()) <= bound and min(logs(d)) > 1, "logs to go", 60)
    left, base, most = sum(logs(d).values()), size_of(d.state / "db", "base/*"), watch.end()
    figures("logs", mints=LOG_MINTS, bytes_of_log_per_mint=wrote // LOG_MINTS,
            MiB_written=wrote // MIB, MiB_at_most=most // MIB, MiB_left=left // MIB,
            MiB_allowed=bound // MIB, bytes_per_token_in_the_databases=databases // LOG_MINTS,
            bytes_with_logs_and_base_copy=(databases + left + base) // LOG_MINTS)
    assert wrote > bound, "nothing had to go"
    assert d.stop() == 0


def test_the_space_of_what_was_purged_is_used_again(own_daemon):
    d = own_daemon("storage-bdb", storage=SMALL, daemon=PURGE, level="info").start()
    clients, sizes, journal = Clients(d), [], []
    keep, begun = clients.each(LIVING, clients.mint), time.monotonic()

    def purged():
        rpc = d.rpc()
        listed = rpc.call("token.list", serviceAccountSlug=clients.account, limit=100).body
        rpc.close()
        return len(listed["items"]) == len(keep)

    for _ in range(ROUNDS):
        clients.each(EACH_ROUND // 2, clients.revoked)
        clients.each(EACH_ROUND // 2, clients.expiring)
        wait_for(purged, "the purge", 120)
        assert d.stop() == 0  # all that was in memory is in the files
        sizes.append(size_of(d.state / "db", "*.db"))
        journal.append((d.state / "revocations.log").stat().st_size)
        d.start()
    assert not not_valid(d, [t["token"] for t in keep])
    figures("rounds of mint, end and purge", rounds=ROUNDS, tokens_each=EACH_ROUND,
            first_size=sizes[0], size_once_settled=max(sizes[:SETTLED]), last_size=sizes[-1],
            largest_journal=max(journal), s=round(time.monotonic() - begun))
    settled = max(sizes[:SETTLED])
    assert max(sizes[SETTLED:]) <= settled + settled // SWING + LIVING * PAGES_EACH * PAGE, sizes
    assert d.stop() == 0
