# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""How verifying and minting go with the number of tokens and of clients; a table, and a picture."""

import json
import os
import statistics

TOKENS = (10_000, 100_000, 1_000_000, 10_000_000)
CLIENTS = (1, 8, 64, 256, 1000)


def point(bench, run):
    return statistics.median(run()["per_second"] for _ in range(bench.reps))


def curve(name, x_name, points):
    print(f"{name} by {x_name}")
    made = []
    for x, y in points:
        print(f"{x:>12,}{y:>14,.0f}/s", flush=True)
        made.append([x, y])
    return {"name": name, "x": x_name, "points": made}


def verify(bench, tokens, clients, depth):
    kaitend = bench.kaitend(tokens, scratch=True)
    how = ("--connections", clients, "--depth", depth, "--ms", bench.ms)
    return point(bench, lambda: kaitend.load("kaiten-verify", *kaitend.tokens, *how))


def mint(bench, tokens, clients):
    kaitend = bench.kaitend(tokens, scratch=True)
    how = ("--connections", clients, "--ms", bench.ms)
    return point(bench, lambda: kaitend.load("kaiten-mint", *kaitend.accounts, *how))


def measure(bench):
    """Each store is copied once: verdicts first, then what makes it grow."""
    most = int(os.environ.get("SCALE_MAX") or bench.many)
    tokens = [n for n in TOKENS if n <= most]
    by_clients = min(bench.million, most)
    verdicts, mints = [], []
    for n in tokens:
        verdicts.append((n, verify(bench, n, 50, 16)))
        mints.append((n, mint(bench, n, 64)))
    return [
        curve("verify", "tokens", verdicts),
        curve("mint", "tokens", mints),
        curve("verify", "clients", [(c, verify(bench, by_clients, c, 1)) for c in CLIENTS]),
        curve("mint", "clients", [(c, mint(bench, by_clients, c)) for c in CLIENTS]),
    ]


# --- the picture ------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP = 360, 240, 70, 40


def text(x, y, what, anchor="middle", size=12):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{what}</text>'
    )


def short(n):
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:g}{name}"
    return f"{n:g}"


def nice(top):
    """The smallest of 1, 2, 5 times a power of ten that is not below."""
    step = 1
    while True:
        for m in (1, 2, 5):
            if m * step >= top:
                return m * step
        step *= 10


def panel(curve_, x0, y0):
    xs, ys = zip(*curve_["points"])
    top = nice(max(ys))
    at = [
        (x0 + LEFT + WIDTH * i / max(1, len(xs) - 1), y0 + TOP + HEIGHT * (1 - y / top))
        for i, y in enumerate(ys)
    ]
    out = [text(x0 + LEFT + WIDTH / 2, y0 + 22, f"{curve_['name']}/s by {curve_['x']}", size=15)]
    for i in range(5):
        y = y0 + TOP + HEIGHT * i / 4
        out.append(
            f'<line x1="{x0 + LEFT}" y1="{y:.1f}" x2="{x0 + LEFT + WIDTH}" y2="{y:.1f}" '
            'stroke="#ccc"/>'
        )
        out.append(text(x0 + LEFT - 8, y + 4, short(top * (4 - i) / 4), "end"))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    out.append(f'<polyline points="{line}" fill="none" stroke="#0a5" stroke-width="2"/>')
    for (x, y), n, value in zip(at, xs, ys):
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#0a5"/>')
        out.append(text(x, y0 + TOP + HEIGHT + 18, short(n)))
        out.append(text(x, y - 8, short(round(value, -2 if value >= 1000 else 0)), size=10))
    return out


def plot(source, target):
    with open(source, encoding="utf-8") as f:
        data = json.load(f)
    m = data["machine"]
    wide, high = WIDTH + LEFT + 40, HEIGHT + TOP + 40
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * wide}" height="{2 * high + 30}" '
        'font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for i, c in enumerate(data["curves"]):
        out += panel(c, i % 2 * wide, i // 2 * high)
    about = f"{m['cores']} cores, {m['cpu']}, {m['kernel']}; the generator runs beside the daemon"
    out.append(text(wide, 2 * high + 15, about))
    out.append("</svg>")
    with open(target, "w", encoding="utf-8") as f:
        f.write("\n".join(out) + "\n")
