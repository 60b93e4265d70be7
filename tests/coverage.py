#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""coverage.py SOURCE PROGRAM...   run by `make coverage` in a tree that was built for gcov

Runs the unit tests, and the fuzz targets over their corpora, and prints for each parser how many of
its lines and branches were reached, and with KAITEN_COVERAGE=FILE which of that file were not."""

import collections
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

# Whatever reads what a stranger, an administrator or the store may have written.
PARSERS = """
client/proto/bind.c client/proto/check.c client/proto/json.c client/proto/json_scan.c
client/proto/pack.c client/proto/utf8.c
daemon/codec/body.c daemon/conf.c daemon/conf_option.c daemon/conf_values.c daemon/journal_file.c
daemon/model/cursor.c daemon/model/portable.c daemon/model/record.c daemon/model/tokentext.c
daemon/transport/http.c daemon/transport/http_chunk.c daemon/transport/http_head.c
daemon/transport/http_query.c daemon/transport/socket.c daemon/transport/socket_peek.c
plugins/auth-jwt/base64url.c plugins/auth-jwt/claims.c plugins/auth-jwt/json.c
plugins/auth-jwt/jwk.c plugins/auth-jwt/jws.c plugins/auth-jwt/key.c plugins/auth-peer/rule.c
plugins/storage-bdb/leaf.c plugins/storage-bdb/manifest.c plugins/storage-bdb/page.c
plugins/storage-bdb/tree.c
""".split()
WANTED = (95, 85)  # per cent of lines, of branches


def run(source, program):
    name = pathlib.Path(program).name
    corpus = [source / "tests/fuzz/corpus" / name[5:]] if name.startswith("fuzz-") else []
    done = subprocess.run(["./" + program, *corpus], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=900)
    if done.returncode != 0:
        sys.exit(f"{program} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


class File:
    def __init__(self):
        self.lines = collections.Counter()
        self.branches = collections.Counter()

    def add(self, line):
        number = line["line_number"]
        self.lines[number] += line["count"]
        for i, branch in enumerate(line["branches"]):
            self.branches[number, i] += branch["count"]


def shares(counter):
    return 100 * sum(1 for n in counter.values() if n) / max(len(counter), 1)


def collect(source):
    files = {name: File() for name in PARSERS}
    stems = tuple(pathlib.Path(name).stem + ".gcda" for name in PARSERS)
    for data in pathlib.Path(".").rglob("*.gcda"):
        if not data.name.endswith(stems):
            continue
        report = subprocess.run(["gcov", "--json-format", "--stdout", "-b", data], check=True,
                                capture_output=True).stdout
        for entry in json.loads(report)["files"]:
            path = os.path.relpath(os.path.join(os.getcwd(), entry["file"]), source)
            if path in files:
                for line in entry["lines"]:
                    files[path].add(line)
    return files


def show_missed(source, name, file):
    text = (source / name).read_text().splitlines()
    branches = collections.Counter(n for (n, _), count in file.branches.items() if count == 0)
    for number in sorted(file.lines):
        if file.lines[number] == 0 or branches[number]:
            what = "line" if file.lines[number] == 0 else f"{branches[number]} branches"
            print(f"{name}:{number}: {what}: {text[number - 1].strip()}")


def main():
    source = pathlib.Path(sys.argv[1]).resolve()
    for old in pathlib.Path(".").rglob("*.gcda"):
        old.unlink()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda program: run(source, program), sys.argv[2:]))
    files = collect(source)
    print(f"{'':36} lines  branches")
    for name, file in files.items():
        lines, branches = shares(file.lines), shares(file.branches)
        below = "" if lines >= WANTED[0] and branches >= WANTED[1] else "  below %d and %d" % WANTED
        print(f"{name:36} {lines:5.1f}  {branches:8.1f}{below}")
    name = os.environ.get("KAITEN_COVERAGE")
    if name in files:
        show_missed(source, name, files[name])


main()
