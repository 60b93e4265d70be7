# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Measures kaitend against its peers, all in one run, and says what came of it: a table for people,
bench.json for programs. A figure is the ratio of two medians of alternating repetitions, because
absolute numbers say more about the machine than about the servers. Nothing is asserted."""

import json
import os
import platform
import signal
import subprocess
import sys

import cluster  # noqa: F401 (registers its figures)
import figures
import group
import kaiten
import scale

QUICK = os.environ.get("QUICK", "") not in ("", "0")


class Bench:
    """What the figures share: the folder, the generator, the servers that are up, how much is
    measured."""

    reps = 3
    ms = 300 if QUICK else 3000
    million = 100_000 if QUICK else 1_000_000
    many = 300_000 if QUICK else 10_000_000
    idle = 2_000 if QUICK else 10_000
    hundred_thousand = 10_000 if QUICK else 100_000
    revocations = 50 if QUICK else 200

    def __init__(self):
        self.build = os.environ["abs_top_builddir"]
        self.dir = os.path.abspath(os.environ.get("BENCH_DIR") or f"{self.build}/tests/bench/work")
        os.makedirs(self.dir, mode=0o711, exist_ok=True)
        self.servers = {}
        self.made_keys = None

    @staticmethod
    def say(text):
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def keys(self):
        """The folder with certificate and JWT."""
        if not self.made_keys:
            self.made_keys = kaiten.Keys(self)
        return self.made_keys.dir

    @staticmethod
    def run(*command):
        subprocess.run([str(word) for word in command], stderr=subprocess.DEVNULL, check=True)

    def begin(self, speech, *args, quiet=False):
        command = [os.environ.get("BENCH_LOAD") or f"{self.build}/tests/bench/load", speech]
        return subprocess.Popen(
            command + [str(a) for a in args],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
        )

    @staticmethod
    def finish(child):
        """Its line of JSON."""
        out, _ = child.communicate()
        if child.returncode != 0:
            raise SystemExit(f"bench: the generator failed: {' '.join(child.args)}")
        return json.loads(out)

    def load(self, speech, *args):
        """One run of the generator."""
        return self.finish(self.begin(speech, *args))

    def clients(self, n, begin):
        """What n generators answer that run at the same time, as one: begin() begins one."""
        all_of = [self.finish(child) for child in [begin() for _ in range(n)]]
        answers = sum(one["answers"] for one in all_of)
        mean = {f: sum(one[f] for one in all_of) / n for f in ("p50_us", "p99_us", "client_us")}
        # Each has seen all that the server did, and its own answers only.
        server = sum(one["server_us"] * one["answers"] for one in all_of) / n
        per_second = sum(one["per_second"] for one in all_of)
        return mean | {"per_second": per_second, "server_us": server / answers}

    def server(self, key, make):
        """The server of this name, started when nobody has asked for it before."""
        if key not in self.servers:
            self.servers[key] = make()
        return self.servers[key]

    def stop(self, key=None):
        for name in [key] if key else list(self.servers):
            if name in self.servers:
                self.servers.pop(name).end()

    def kaitend(self, count, accounts=100, loops=1, scratch=False):
        """One at a time, so that an idle one takes no memory and no cache."""
        key = f"kaitend-{count}-{accounts}-{loops}-{scratch}"
        for other in [k for k in self.servers if k.startswith("kaitend-") and k != key]:
            self.stop(other)
        return self.server(key, lambda: kaiten.Kaitend(self, count, accounts, loops, scratch))

    def alternate(self, *runs):
        """For each run what all its repetitions answered; the runs take turns."""
        return list(zip(*[[run() for run in runs] for _ in range(self.reps)]))


def machine():
    """What a number depends on, and no name of anything."""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        models = [line.partition(":")[2].strip() for line in f if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
    }


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def tell(row):
    columns = [number(row[c]) for c in ("kaiten", "peer")]
    ratio = f"{row['ratio']:.2f}" if row["ratio"] else "-"
    name, unit = row["name"], row["unit"]
    print(f"{name:<19}{columns[0]:>12}{columns[1]:>12}{ratio:>8}  {unit}", end="")
    print(f" ({row['peer_name']})" if row["peer_name"] else "")
    rest = [f"{k}={number(v)}" for k, v in row["more"].items()]
    if rest:
        print(f"{'':<19}{' '.join(rest)}")
    sys.stdout.flush()


def measure(bench, wanted):
    rows = []
    for name in wanted:
        row = figures.ALL[name](bench)
        if row is None:
            print(f"{name:<19}skipped: its peer is not installed (./autogen.sh --bench)")
            continue
        rows.append({"name": name} | row)
        tell(rows[-1])
    return rows


def write(path, what):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(what, f, indent=1)
        f.write("\n")


def run(bench, about, wanted):
    if os.environ.get("SCALE", "") not in ("", "0"):
        write("scale.json", about | {"curves": scale.measure(bench)})
        scale.plot("scale.json", "scale.svg")
        return
    print(f"{'figure':<19}{'kaiten':>12}{'peer':>12}{'ratio':>8}  medians of {bench.reps}")
    rows = measure(bench, wanted)
    write("bench.json", about | {"figures": rows})


def main():
    wanted = os.environ.get("FIGURES", "").replace(",", " ").split() or list(figures.ALL)
    unknown = [name for name in wanted if name not in figures.ALL]
    if unknown:
        sys.exit(f"bench: no figure {unknown[0]}; there are: {' '.join(figures.ALL)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left behind
    bench = Bench()
    about = {"machine": machine(), "quick": QUICK, "ms": bench.ms}
    with group.Group(bench.say):
        try:
            run(bench, about, wanted)
        finally:
            bench.stop()


main()
