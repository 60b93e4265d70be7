# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Measures kaitend against its peers, all in one run, and says what came of it: a table for people,
bench.json for programs. A figure is the ratio of two medians of alternating repetitions, because
absolute numbers say more about the machine than about the servers. Nothing is asserted."""

import json
import os
import statistics
import subprocess
import sys

import kaiten
import peers

QUICK = os.environ.get("QUICK", "") not in ("", "0")
REPS = 3
SECONDS = 1 if QUICK else 3
TOKENS = 100_000 if QUICK else 1_000_000

FIGURES = {}


def figure(name):
    """Registers a function that takes the bench and returns a row, or None when a peer is missing."""

    def register(f):
        FIGURES[name] = f
        return f

    return register


class Bench:
    """What the figures share: the folder, the generator, the servers that are up."""

    def __init__(self):
        self.build = os.environ["abs_top_builddir"]
        self.dir = os.path.abspath(os.environ.get("BENCH_DIR") or f"{self.build}/tests/bench/work")
        os.makedirs(self.dir, mode=0o711, exist_ok=True)
        self.servers = {}

    def load(self, speech, *args):
        """One run of the generator; its line of JSON."""
        command = [os.environ.get("BENCH_LOAD") or f"{self.build}/tests/bench/load", speech]
        done = subprocess.run(command + [str(a) for a in args], stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    def server(self, key, make):
        """The server of this name, started when nobody has asked for it before."""
        if key not in self.servers:
            self.servers[key] = make()
        return self.servers[key]

    def stop(self, key=None):
        for name in [key] if key else list(self.servers):
            if name in self.servers:
                self.servers.pop(name).stop()

    def kaitend(self, loops=1):
        """With so many loops (0: one per core). There is one store, so one daemon at a time."""
        key = f"kaitend-{loops}"
        for other in [name for name in self.servers if name.startswith("kaitend-") and name != key]:
            self.stop(other)
        return self.server(key, lambda: kaiten.Kaitend(self, TOKENS, loops))


def alternate(*runs):
    """Medians of each field of each run's answers; the runs take turns."""
    seen = [[run() for run in runs] for _ in range(REPS)]
    return [median(answers) for answers in zip(*seen)]


def median(answers):
    numbers = [k for k, v in answers[0].items() if isinstance(v, (int, float))]
    return {k: statistics.median(a[k] for a in answers) for k in numbers}


def row(unit, ours, theirs, peer_name, field="per_second", **more):
    """One object of bench.json: more is better, unless the unit is one of time or memory."""
    row = {"kaiten": ours[field], "peer": theirs[field], "peer_name": peer_name, "unit": unit}
    row["ratio"] = ours[field] / theirs[field]
    for f in ("p50_us", "p99_us", "client_us", "server_us"):
        row[f"kaiten_{f}"], row[f"peer_{f}"] = ours[f], theirs[f]
    return row | more


# --- verdicts ---------------------------------------------------------------------------------


def verify(bench, depth):
    if not peers.Redis.is_there():
        return None
    kaitend, redis = bench.kaitend(), bench.server("redis", lambda: peers.Redis(bench, TOKENS))
    how = ("--connections", 50, "--depth", depth, "--seconds", SECONDS)
    ours, theirs = alternate(
        lambda: kaitend.load("kaiten-verify", *kaitend.tokens, *how),
        lambda: redis.load("redis-get", *redis.keys, *how),
    )
    return row("verdicts/s", ours, theirs, "redis GET")


@figure("verify_p1")
def verify_p1(bench):
    return verify(bench, 1)


@figure("verify_p16")
def verify_p16(bench):
    return verify(bench, 16)


# --- minting ----------------------------------------------------------------------------------


@figure("mint_64")
def mint_64(bench):
    """Both sides begin with the accounts alone and grow as they are measured."""
    if not peers.Postgres.is_there():
        return None
    kaitend = bench.server("mint", lambda: kaiten.Kaitend(bench, 0, 1))
    postgres = bench.server("postgres", lambda: peers.Postgres(bench, kaitend.slugs))
    how = ("--connections", 64, "--seconds", SECONDS)
    ours, theirs = alternate(
        lambda: kaitend.load("kaiten-mint", *kaitend.accounts, *how),
        lambda: postgres.load("postgres-mint", *kaitend.accounts, *how),
    )
    return row("mints/s", ours, theirs, "PostgreSQL insert, synchronous commit")


# --- starting ---------------------------------------------------------------------------------


@figure("start_1m")
def start_1m(bench):
    """Seconds from exec to the first right verdict; the files are not in the page cache."""
    kaitend = bench.kaitend(loops=0)
    cold, warm = alternate(lambda: kaitend.restart(cold=True), lambda: kaitend.restart(cold=False))
    return {
        "kaiten": cold["seconds"],
        "peer": None,
        "peer_name": None,
        "ratio": None,
        "unit": "s",
        "warm": warm["seconds"],
        "cpu": cold["cpu"],
        "tokens": kaitend.count,
    }


# --- telling ----------------------------------------------------------------------------------


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def tell(name, row):
    columns = [number(row[c]) for c in ("kaiten", "peer")]
    ratio = f"{row['ratio']:.2f}" if row["ratio"] else "-"
    rest = " ".join(f"{k}={number(v)}" for k, v in row.items() if k not in KNOWN)
    print(f"{name:<20}{columns[0]:>12}{columns[1]:>12}{ratio:>8}  {row['unit']}", end="")
    print(f" ({row['peer_name']})" if row["peer_name"] else "")
    print(f"{'':<20}{rest}", flush=True)


KNOWN = ("kaiten", "peer", "ratio", "unit", "peer_name", "name", "reps")


def main():
    wanted = os.environ.get("FIGURES", "").split() or list(FIGURES)
    unknown = [name for name in wanted if name not in FIGURES]
    if unknown:
        sys.exit(f"bench: no figure {unknown[0]}; there are: {' '.join(FIGURES)}")
    bench, rows = Bench(), []
    print(f"{'figure':<20}{'kaiten':>12}{'peer':>12}{'ratio':>8}  medians of {REPS}", flush=True)
    try:
        for name in wanted:
            measured = FIGURES[name](bench)
            if measured is None:
                print(f"{name:<20}skipped: its peer is not installed (./autogen.sh --bench)")
                continue
            rows.append({"name": name, "reps": REPS} | measured)
            tell(name, measured)
    finally:
        bench.stop()
        with open("bench.json", "w", encoding="utf-8") as f:
            json.dump(rows, f, indent=1)
            f.write("\n")


main()
