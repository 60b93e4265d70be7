# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The figures: each is a function that takes the bench and returns a row of bench.json, or None
when its peer is not installed."""

import os
import signal
import statistics
import time

import kaiten
import peers

ALL = {}


def figure(*names):
    """Registers a function under its names; it is called with the bench and the one that is
    wanted."""

    def register(f):
        for name in names:
            ALL[name] = lambda bench, name=name: f(bench, name)
        return f

    return register


def median(answers, field):
    return statistics.median(a[field] for a in answers)


def row(unit, ours, theirs, peer_name, field="per_second", lower=False, **more):
    """ours and theirs: what the repetitions answered. The ratio is kaiten to peer, always."""
    value = median(ours, field)
    made = {
        "kaiten": value,
        "peer": median(theirs, field) if theirs else None,
        "peer_name": peer_name,
        "ratio": value / median(theirs, field) if theirs and median(theirs, field) else None,
        "unit": unit,
        "better": "lower" if lower else "higher",
        "reps": len(ours),
        "runs": {"kaiten": [a[field] for a in ours], "peer": [a[field] for a in theirs or ()]},
        "more": {},
    }
    for which, answers in (("kaiten", ours), ("peer", theirs or ())):
        for f in ("p50_us", "p99_us", "client_us", "server_us"):
            if answers and f in answers[0]:
                made["more"][f"{which}_{f}"] = median(answers, f)
    made["more"].update(more)
    return made


# --- verdicts ---------------------------------------------------------------------------------


def redis(bench):
    return bench.server("redis", lambda: peers.Redis(bench, bench.million))


def against_redis(bench, kaitend, speech, theirs, *how):
    how = ("--connections", 50, "--ms", bench.ms, *how)
    peer = redis(bench)
    return bench.alternate(
        lambda: kaitend.load(speech, *kaitend.tokens, *how),
        lambda: peer.load(theirs, *peer.keys, *how),
    )


@figure("verify_p1", "verify_p16", "verify_p16_2loops", "verify_10m")
def verify(bench, name):
    if not peers.Redis.is_there():
        return None
    tokens = bench.many if name == "verify_10m" else bench.million
    kaitend = bench.kaitend(tokens, loops=2 if name == "verify_p16_2loops" else 1)
    depth = 1 if name == "verify_p1" else 16
    ours, theirs = against_redis(bench, kaitend, "kaiten-verify", "redis-get", "--depth", depth)
    more = {}
    if peers.Memcached.is_there() and name in ("verify_p1", "verify_p16"):
        how = ("--connections", 50, "--ms", bench.ms, "--depth", depth)
        keys = redis(bench).keys
        other = bench.server("memcached", lambda: peers.Memcached(bench, keys))
        more["memcached"] = other.load("memcached-get", *keys, *how)["per_second"]
    return row("verdicts/s", ours, theirs, "redis GET", tokens=kaitend.count, keys=bench.million,
               **more)  # fmt: skip


@figure("verify_many")
def verify_many(bench, _):
    if not peers.Redis.is_there():
        return None
    kaitend = bench.kaitend(bench.million)
    ours, theirs = against_redis(bench, kaitend, "kaiten-verify-many", "redis-mget")
    return row("tokens/s", ours, theirs, "redis MGET of 64", tokens=kaitend.count)


@figure("verify_munge")
def verify_munge(bench, _):
    if not peers.Munge.is_there():
        return None
    kaitend = bench.kaitend(bench.million, loops=0)  # threads as by default, like munge
    munge = bench.server("munge", lambda: peers.Munge(bench))
    how = ("--connections", 1, "--ms", bench.ms)  # of each of 8 processes: so do those who use it
    ours, theirs = bench.alternate(
        lambda: bench.clients(8, lambda: kaitend.begin("kaiten-verify", *kaitend.tokens, "--once",
                                                       *how)),
        lambda: bench.clients(8, lambda: munge.begin("munge", *how)),
    )  # fmt: skip
    return row("verdicts/s", ours, theirs, "munge encode and decode")


@figure("validate_http", "validate_https")
def validate(bench, figure_name):
    if not peers.Nginx.is_there():
        return None
    tls = figure_name == "validate_https"
    kaitend = bench.kaitend(bench.million)
    size = len(kaitend.answer_of_validate())
    nginx = bench.server("nginx", lambda: peers.Nginx(bench, size))
    how = ("--connections", 64, "--distinct", 10_000, *kaitend.tokens)
    # A JWT is signed once a minute and token, which a run of seconds would see at its beginning.
    kaitend.load_http("http-validate", *how, "--in-order", "--count", 10_000, tls=tls)
    how += ("--ms", bench.ms)
    ours, theirs = bench.alternate(
        lambda: kaitend.load_http("http-validate", *how, tls=tls),
        lambda: nginx.load_http("http-validate", *how, tls=tls),
    )
    name = "nginx return 200, TLS 1.3" if tls else "nginx return 200"
    more = {} if tls else by_wrk(bench, kaitend, nginx)
    return row("verdicts/s", ours, theirs, name, bytes=size, **more)


def by_wrk(bench, kaitend, nginx):
    """What the usual tool says of the same two; it knows one token only."""
    token = kaitend.a_token()
    ours, theirs = (peers.wrk(s.port, token, bench.ms) for s in (kaitend, nginx))
    return {"wrk_kaiten": ours, "wrk_peer": theirs} if ours else {}


# --- minting ----------------------------------------------------------------------------------


def clients_of(name):
    return int(name.rpartition("_")[2])


def mint_kaiten(bench, kaitend, http, *how):
    if http:
        return kaitend.load_http("http-mint", *kaitend.accounts, "--bearer",
                                 f"{bench.keys()}/jwt", *how)  # fmt: skip
    return kaitend.load("kaiten-mint", *kaitend.accounts, *how)


@figure("mint_64", "mint_256", "mint_http_64")
def mint(bench, name):
    """Both sides begin with the accounts alone and grow as they are measured."""
    if not peers.Postgres.is_there():
        return None
    kaitend = bench.kaitend(0, scratch=True)
    postgres = bench.server("postgres", lambda: peers.Postgres(bench, kaitend.slugs))
    how = ("--connections", clients_of(name), "--ms", bench.ms)
    ours, theirs = bench.alternate(
        lambda: mint_kaiten(bench, kaitend, name == "mint_http_64", *how),
        lambda: postgres.load("postgres-mint", *kaitend.accounts, *how),
    )
    return row("mints/s", ours, theirs, "PostgreSQL insert, synchronous commit")


@figure("mint_redis_64", "mint_redis_256")
def mint_redis(bench, name):
    if not peers.Redis.is_there():
        return None
    kaitend = bench.kaitend(0, scratch=True)
    peer = bench.server("redis-durable", lambda: peers.Redis(bench, 0, durable=True))
    how = ("--connections", clients_of(name), "--ms", bench.ms)
    ours, theirs = bench.alternate(
        lambda: mint_kaiten(bench, kaitend, False, *how),
        lambda: peer.load("redis-mint", *kaitend.accounts, *how),
    )
    return row("mints/s", ours, theirs, "redis script, appendfsync always")


@figure("verify_under_mint")
def verify_under_mint(bench, _):
    kaitend = bench.kaitend(bench.million, scratch=True)
    how = ("--connections", 50, "--ms", bench.ms)

    def beside():
        mints = kaitend.begin("kaiten-mint", *kaitend.accounts, "--connections", 64, "--ms",
                              3 * bench.ms)  # fmt: skip
        time.sleep(bench.ms / 4000)
        verdicts = kaitend.load("kaiten-verify", *kaitend.tokens, *how)
        return verdicts | {"mints": bench.finish(mints)["per_second"]}

    ours, alone = bench.alternate(
        beside, lambda: kaitend.load("kaiten-verify", *kaitend.tokens, *how)
    )
    return row("us, 99th percentile", ours, alone, "the same while nobody mints", "p99_us",
               lower=True, mints_per_second=median(ours, "mints"))  # fmt: skip


# --- starting ---------------------------------------------------------------------------------


@figure("start_1m")
def start_1m(bench, _):
    """Seconds from exec to the first right verdict; the files are not in the page cache."""
    kaitend = bench.kaitend(bench.million, loops=0)
    cold, warm = bench.alternate(
        lambda: kaitend.restart(cold=True), lambda: kaitend.restart(cold=False)
    )
    return row("s", cold, None, None, "seconds", lower=True, warm=median(warm, "seconds"),
               cpu=median(cold, "cpu"), tokens=kaitend.count)  # fmt: skip


@figure("start_crash_1m")
def start_crash_1m(bench, _):
    """The same after kill -9 in the middle of what 64 clients mint."""
    kaitend = bench.kaitend(bench.million, loops=0, scratch=True)

    def crash():
        mints = kaitend.begin("kaiten-mint", *kaitend.accounts, "--connections", 64, "--ms", 60_000,
                              quiet=True)  # fmt: skip
        time.sleep(bench.ms / 1000)
        os.kill(kaitend.pid, signal.SIGKILL)
        mints.communicate()  # which fails, as it must
        return kaitend.restart(cold=True, how=signal.SIGCONT)

    (crashed,) = bench.alternate(crash)
    return row("s", crashed, None, None, "seconds", lower=True, cpu=median(crashed, "cpu"),
               tokens=kaitend.count)  # fmt: skip


# --- room -------------------------------------------------------------------------------------


@figure("rss_per_token")
def rss_per_token(bench, _):
    """Memory of a fresh daemon with tokens, less that of one without, by the number of tokens."""

    def memory(count):
        kaitend = bench.kaitend(count)
        if count:
            kaitend.restart(cold=False)
            kaitend.wait_ready()
        return kaiten.rss(kaitend.pid)

    empty = memory(0)
    ours = [{"bytes": (memory(bench.many) - empty) / bench.many} for _ in range(bench.reps)]
    return row("bytes", ours, None, None, "bytes", lower=True, tokens=bench.many)


@figure("disk_per_token")
def disk_per_token(bench, _):
    kaitend = bench.kaitend(bench.million)
    kaitend.restart(cold=False)  # the end of a daemon is a checkpoint
    ours = [{"bytes": kaitend.files() / kaitend.count}]
    return row("bytes", ours, None, None, "bytes", lower=True, tokens=kaitend.count)


@figure("idle_conn")
def idle_conn(bench, _):
    """Memory that a connection takes which has been used once and waits."""
    if not peers.Redis.is_there():
        return None
    kaitend = bench.kaitend(bench.million)
    peer = redis(bench)
    how = ("--connections", bench.idle, "--hold")

    def per_connection(answer):
        grown = answer["rss_after"] - answer["rss_before"]
        return {"bytes": grown / answer["connections"]}

    def ours():
        kaitend.restart(cold=False)  # else the memory of the connections before is used again
        kaitend.wait_ready()
        return per_connection(kaitend.load("kaiten-verify", *kaitend.tokens, *how))

    # redis gives back what it does not need; one repetition is as good as the next.
    return row("bytes", *bench.alternate(
        ours, lambda: per_connection(peer.load("redis-get", *peer.keys, *how))
    ), "redis", "bytes", lower=True, connections=bench.idle)  # fmt: skip


@figure("revoke_all_1m")
def revoke_all_1m(bench, _):
    """All tokens of one account, from the request to its answer, while others verify them; then
    they are asked for and must be dead."""

    def once():
        kaitend = bench.kaitend(bench.million, accounts=1, scratch=True)
        load = kaitend.begin("kaiten-judge", *kaitend.tokens, "--connections", 50, "--ms", bench.ms)
        time.sleep(bench.ms / 2000)
        answer = kaitend.load("kaiten-revoke-all", *kaitend.accounts, "--count", 1)
        kaitend.load("kaiten-dead", *kaitend.tokens, "--count", 100_000, "--depth", 16)
        bench.finish(load)
        for key in [k for k in bench.servers if k.startswith("kaitend-")]:
            bench.stop(key)
        return {"seconds": answer["max_us"] / 1e6}

    ours = [once() for _ in range(bench.reps)]
    return row("s", ours, None, None, "seconds", lower=True, tokens=bench.million)
