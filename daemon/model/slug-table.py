#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Prints slug-table.h: what slug.c has to know of Unicode, computed from Python's own tables.

    python3 daemon/model/slug-table.py > daemon/model/slug-table.h
"""
import unicodedata

SPELT_OUT = {'æ': 'ae', 'ð': 'd', 'đ': 'd', 'ı': 'i', 'ł': 'l', 'ø': 'o', 'œ': 'oe', 'ß': 'ss',
             'þ': 'th'}


def is_mark(c):
    return unicodedata.category(c) == 'Mn'


def ascii_of(c):
    text = unicodedata.normalize('NFD', c.lower())
    text = ''.join(SPELT_OUT.get(x, x) for x in text if not is_mark(x))
    return text if text and all('a' <= x <= 'z' or '0' <= x <= '9' for x in text) else None


def rows(items, per_line):
    for i in range(0, len(items), per_line):
        print('    ' + ' '.join(items[i:i + per_line]))


def main():
    characters = [chr(n) for n in range(0x80, 0x110000) if not 0xd800 <= n < 0xe000]
    letters = [(ord(c), ascii_of(c)) for c in characters]
    letters = [(n, text) for n, text in letters if text]
    assert all(len(text) <= 2 for _, text in letters)

    marks = []
    for n in (ord(c) for c in characters if is_mark(c)):
        if marks and marks[-1][1] == n - 1:
            marks[-1][1] = n
        else:
            marks.append([n, n])

    print('/* SPDX-License-Identifier: Apache-2.0 */')
    print('/* Copyright the kaiten authors */')
    print(f'/* Printed by slug-table.py from Unicode {unicodedata.unidata_version}. Both tables rise. */')
    print('static const struct letter letters[] = {')
    rows([f'{{ 0x{n:04x}, "{text}" }},' for n, text in letters], 5)
    print('};\n')
    print('static const struct range marks[] = {')
    rows([f'{{ 0x{a:04x}, 0x{b:04x} }},' for a, b in marks], 4)
    print('};')


main()
