#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Who may include whom: every folder with C files has a .may_include.

A line is a pattern for what stands between the quotes, or "FILES: PATTERN" for some files of the
folder only. Headers of other projects' libraries stand in angle brackets and need a line too;
headers of the C library need none, but "!<sys/socket.h>" forbids one.
"""
import fnmatch
import pathlib
import re
import sys

LIBRARIES = ("event2/*", "event.h", "evhttp.h", "msgpack*", "cjson/*", "cJSON.h", "jwt.h",
             "jansson.h", "db.h", "openssl/*", "sodium*", "curl/*", "libpq-fe.h", "cmocka.h")
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.M)


def rules(path):
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            files, colon, pattern = line.rpartition(":")
            yield (files.split() if colon else ["*"]), pattern.strip()


def is_allowed(name, quoted, patterns):
    spelled = name if quoted else f"<{name}>"
    if any(fnmatch.fnmatch(spelled, p[1:]) for p in patterns if p.startswith("!")):
        return False
    if not quoted and not any(fnmatch.fnmatch(name, lib) for lib in LIBRARIES):
        return True
    return any(fnmatch.fnmatch(spelled, p) for p in patterns)


def check(source, top):
    may = source.parent / ".may_include"
    if not may.exists():
        yield f"{source.parent.relative_to(top)} has no .may_include"
        return
    patterns = [pattern for files, pattern in rules(may)
                if any(fnmatch.fnmatch(source.name, f) for f in files)]
    for quoted, angle in INCLUDE.findall(source.read_text(errors="replace")):
        if not is_allowed(quoted or angle, bool(quoted), patterns):
            yield f"{source.relative_to(top)} may not include {quoted or angle}"


def main():
    top = pathlib.Path(sys.argv[1]).resolve()
    sources = [f for folder in ("client", "daemon", "plugins")
               for f in sorted((top / folder).rglob("*.[ch]"))]
    broken = sorted({error for source in sources for error in check(source, top)})
    print("\n".join(broken))
    return 1 if broken or not sources else 0


sys.exit(main())
