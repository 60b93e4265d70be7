# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Several daemons on one PostgreSQL, and their figures."""

import os
import shutil
import socket
import statistics
import sys
import time

import figures
import kaiten
import peers
from figures import figure, row

sys.path.insert(0, f"{os.environ['abs_top_srcdir']}/tests/system")
import postgres  # noqa: E402 (the throw-away server of the tests)

KEYS = ("digest.key", "signing.pem")
SERVER = ["shared_buffers = 1GB", "max_wal_size = 4GB", "max_connections = 1100"]


class Node(kaiten.Kaitend):
    """A daemon with a folder of its own on a store in PostgreSQL."""

    def __init__(self, bench, folder, connection, more=""):
        self.bench, self.dir, self.pid, self.scratch = bench, folder, None, True
        self.port, self.tls_port = kaiten.free_port(), kaiten.free_port()
        self.connection, self.more = connection, more
        self.socket = f"{self.dir}/rpc.sock"
        os.mkdir(self.dir, mode=0o700)

    def configure(self, loops, storage="timeout = 20s"):
        super().configure(loops)
        path = f"{self.dir}/kaitend.conf"
        with open(path, encoding="utf-8") as f:
            text = f.read()
        begin, end = text.index("[storage-bdb]"), text.index("[socket]")
        text = (text[:begin] + f"storage = storage-postgres\n{self.more}\n[storage-postgres]\n"
                f"connection = {self.connection}\n{storage}\n\n" + text[end:])  # fmt: skip
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


class Cluster:
    """So many daemons on a store with so many tokens. Everything goes away at the end."""

    def __init__(self, bench, nodes, count, accounts=100, more=""):
        self.dir = f"{bench.dir}/cluster"
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir, mode=0o700)
        self.server = postgres.Server(SERVER, durable=True).start()
        connection = self.server.connection(self.server.database())
        self.nodes = [Node(bench, f"{self.dir}/{i}", connection, more) for i in range(nodes)]
        first = self.nodes[0]
        first.configure(1, "timeout = 60s")  # groups are larger than any that clients make
        fill = os.environ.get("BENCH_FILL") or f"{bench.build}/tests/bench/fill"
        bench.say(f"making a store of {count:,} tokens in PostgreSQL")
        bench.run(fill, f"{first.dir}/kaitend.conf", accounts, count, f"{self.dir}/slugs",
                  f"{self.dir}/tokens")  # fmt: skip
        with open(f"{self.dir}/slugs", encoding="ascii") as f:
            text = f.read()
        self.slugs = [text[i : i + kaiten.SLUG] for i in range(0, len(text), kaiten.SLUG)]
        for node in self.nodes:
            for name in KEYS if node is not first else ():
                shutil.copy(f"{first.dir}/{name}", node.dir)
            node.tokens = ("--keys", f"{self.dir}/tokens", "--width", 36)
            node.accounts = ("--keys", f"{self.dir}/slugs", "--width", kaiten.SLUG)
            node.configure(1)
            node.start()

    def end(self):
        for node in self.nodes:
            if node.pid:
                node.stop()
        self.server.remove()
        shutil.rmtree(self.dir)


def cluster(bench, *args, **kwargs):
    """One at a time, and no daemon on another store beside it."""
    for key in [k for k in bench.servers if k.startswith("kaitend-") or k == "cluster"]:
        bench.stop(key)
    return bench.server("cluster", lambda: Cluster(bench, *args, **kwargs))


class Unavailable(Exception):
    """No answer now: on a machine that is overloaded the database may be too slow for one."""


class Client:
    """MessagePack-RPC, as much of it as is needed here."""

    def __init__(self, node):
        import msgpack  # the rest of the bench does without

        self.pack, self.unpacker = msgpack.packb, msgpack.Unpacker(raw=False)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(node.socket)

    def send(self, method, **args):
        self.socket.sendall(self.pack([0, 1, method, [args]]))

    def receive(self):
        while True:
            for message in self.unpacker:
                if message[2] is not None and message[2][1].startswith("UNAVAILABLE"):
                    raise Unavailable
                if message[2] is not None:
                    raise SystemExit(f"bench: {message[2]}")
                return message[3]
            self.unpacker.feed(self.socket.recv(1 << 16))

    def call(self, method, **args):
        for _ in range(100):
            self.send(method, **args)
            try:
                return self.receive()
            except Unavailable:
                time.sleep(0.05)
        raise SystemExit(f"bench: no answer to {method} for 5 seconds")


@figure("pg_mint_64")
def pg_mint(bench, name):
    if not peers.Postgres.is_there():
        return None
    ours = cluster(bench, 1, 0)
    bench.stop("postgres")  # it has the accounts of another store
    theirs = bench.server("postgres", lambda: peers.Postgres(bench, ours.slugs))
    how = ("--connections", figures.clients_of(name), "--ms", bench.ms)
    node = ours.nodes[0]
    made = bench.alternate(
        lambda: node.load("kaiten-mint", *node.accounts, *how),
        lambda: theirs.load("postgres-mint", *node.accounts, *how),
    )
    bench.stop("postgres")
    return row("mints/s", *made, "PostgreSQL insert, synchronous commit")


@figure("pg_verify_p1")
def pg_verify(bench, _):
    """The index is warm, and the store is followed all the while."""
    if not (peers.Postgres.is_there() and peers.Redis.is_there()):
        return None
    node = cluster(bench, 1, bench.hundred_thousand).nodes[0]
    made = figures.against_redis(bench, node, "kaiten-verify", "redis-get", "--depth", 1)
    return row("verdicts/s", *made, "redis GET", tokens=bench.hundred_thousand)


@figure("pg_miss")
def pg_miss(bench, _):
    """Tokens that another daemon has just made, asked for before this one has heard of them. Each
    is a miss once, so that a repetition ends with the tokens that it has."""
    if not peers.Postgres.is_there():
        return None
    both = cluster(bench, 2, 0, more="store_poll = 10s\nmax_staleness = 1h")
    maker, asked = both.nodes
    fresh, count = f"{both.dir}/fresh", 2_000

    def once():
        with Minted(maker, both.slugs[0], count) as tokens:
            with open(fresh, "w", encoding="ascii") as f:
                f.write("".join(t["token"] for t in tokens))
        return asked.load("kaiten-verify", "--keys", fresh, "--width", 36, "--in-order",
                          "--connections", 50, "--count", count)  # fmt: skip

    ours = [once() for _ in range(bench.reps)]
    return row("verdicts/s", ours, None, None)


class Minted:
    """Tokens of an account, with names that nobody else has."""

    number = 0

    def __init__(self, node, account, count):
        self.client, self.account, self.count = Client(node), account, count

    def __enter__(self):
        answers = []
        for _ in range(self.count):
            Minted.number += 1
            answers.append(self.client.call(
                "token.create", serviceAccountSlug=self.account,
                name=f"fresh {Minted.number}", scopes=["read:instances"]))  # fmt: skip
        return answers

    def __exit__(self, *_):
        self.client.socket.close()


def lag(clients, token, account):
    """Milliseconds from the answer of a revocation to the last acceptance that another daemon has
    told; they are asked again and again until all refuse."""
    first, *others = clients
    for other in others:
        if not other.call("token.verify", token=token["token"])["valid"]:
            raise SystemExit("bench: a fresh token is refused")
    first.call("token.revoke", serviceAccountSlug=account, tokenSlug=token["slug"])
    ended = last = time.monotonic()
    waiting = others
    while waiting:
        for other in waiting:
            other.send("token.verify", token=token["token"])
        still = []
        for other in waiting:
            try:
                if other.receive()["valid"]:
                    last = time.monotonic()
                    still.append(other)
            except Unavailable:
                still.append(other)
        waiting = still
    return 1000 * (last - ended)


@figure("pg_revoke_lag_p99")
def pg_revoke_lag(bench, _):
    """Three daemons, one of which mints for 16 clients and all of which verify for 8."""
    if not peers.Postgres.is_there():
        return None
    three = cluster(bench, 3, bench.hundred_thousand)
    clients = [Client(node) for node in three.nodes]
    account = three.slugs[0]

    def once():
        loads = [node.begin("kaiten-verify", *node.tokens, "--connections", 8, "--ms", 60_000,
                            quiet=True) for node in three.nodes]  # fmt: skip
        loads.append(three.nodes[1].begin("kaiten-mint", *three.nodes[1].accounts, "--connections",
                                          16, "--ms", 60_000, quiet=True))  # fmt: skip
        with Minted(three.nodes[0], account, bench.revocations) as tokens:
            lags = sorted(lag(clients, t, account) for t in tokens)
        for load in loads:
            load.kill()
            load.communicate()
        return {"ms": lags[-1 - len(lags) // 100], "median": statistics.median(lags),
                "most": lags[-1]}  # fmt: skip

    ours = [once() for _ in range(bench.reps)]
    return row("ms, 99th percentile", ours, None, None, "ms", lower=True,
               median=figures.median(ours, "median"), most=max(a["most"] for a in ours),
               revocations=bench.revocations)  # fmt: skip
