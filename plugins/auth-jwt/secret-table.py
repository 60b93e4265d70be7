#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Prints secret-table.h: fingerprints of secrets that are published, from lists with one a line.

    python3 plugins/auth-jwt/secret-table.py LIST... > plugins/auth-jwt/secret-table.h

Fingerprints that stand in the table already are kept: lists come and go.
"""
import hashlib
import pathlib
import re
import sys

TABLE = pathlib.Path(__file__).with_suffix(".h")
SHORTEST, LONGEST = 32, 4096  # shorter ones are refused for that
OWN = b"the secret of an example in the documents of kaitend"


def fingerprint(secret):
    return hashlib.sha256(secret.lower()).hexdigest()[:16]


def main():
    found = {fingerprint(OWN)}
    if TABLE.exists():
        found.update(re.findall(r"0x([0-9a-f]{16})", TABLE.read_text()))
    for name in sys.argv[1:]:
        for line in pathlib.Path(name).read_bytes().split(b"\n"):
            secret = line.rstrip(b"\r")
            if SHORTEST <= len(secret) <= LONGEST:
                found.add(fingerprint(secret))
    values = ["0x" + text for text in sorted(found)]
    lines = [", ".join(values[i:i + 4]) for i in range(0, len(values), 4)]
    print("/* SPDX-License-Identifier: Apache-2.0 */\n/* Copyright the kaiten authors */\n"
          "/* Made by secret-table.py: the first eight bytes of SHA-256 over each published secret"
          " in\n * lower case, as a number, rising. */\n"
          "static const uint64_t published[] = {\n    " + ",\n    ".join(lines) + ",\n};")


main()
