# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What the reader of JSON takes, against a second one: Python's, made as strict by its hooks."""

import json
import os
import pathlib
import random
import string
import struct
import subprocess

import pytest

from conftest import BUILD, SOURCE
from mutate import mutate

CHECK = BUILD / "tests/tools/json-check"
CORPORA = pathlib.Path(os.environ.get("KAITEN_CORPORA", SOURCE / "../shared/corpora"))
DOCUMENTS = int(os.environ.get("KAITEN_JSON_DOCUMENTS", "50000"))
SEED = int(os.environ.get("KAITEN_JSON_SEED", "1"))
# client/proto/json.h: what a request may be.
DEPTH, MEMBERS, NODES, STRING, NUMBER = 16, 64, 4096, 4096, 20


class Refused(Exception):
    """JSON that a rule refuses."""


FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def members(pairs):
    names = [name.translate(FOLD) for name, _ in pairs]
    if len(set(names)) != len(names) or len(names) > MEMBERS:
        raise Refused("names")
    return dict(pairs)


def number(text):
    if len(text) > NUMBER:
        raise Refused("number")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Refused("infinite")
    if set(text) <= set("-0123456789") and -2**63 <= int(text) < 2**63:
        return int(text)
    return value


def no_constant(text):
    raise ValueError(text)


DECODER = json.JSONDecoder(object_pairs_hook=members, parse_int=number, parse_float=number,
                           parse_constant=no_constant)
GRAMMAR = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=no_constant)


def text_is_good(text):
    try:
        return "\0" not in text and len(text.encode()) <= STRING
    except UnicodeEncodeError:  # half of a surrogate
        return False


def weigh(value, depth=0):
    """The number of values in it."""
    if isinstance(value, str):
        if not text_is_good(value):
            raise Refused("string")
        return 1
    if not isinstance(value, (dict, list)):
        return 1
    if depth == DEPTH:
        raise Refused("depth")
    if isinstance(value, dict) and not all(map(text_is_good, value)):
        raise Refused("name")
    inner = value.values() if isinstance(value, dict) else value
    return 1 + sum(weigh(v, depth + 1) for v in inner)


def is_json(text):
    try:
        GRAMMAR.decode(text)
        return True
    except RecursionError:
        return True  # nothing is known; the other reader has a limit
    except ValueError:
        return False


def second_opinion(data):
    """"y" and the value, "g" or "r"."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "r", None
    try:
        value = DECODER.decode(text)
        if weigh(value) > NODES:
            raise Refused("nodes")
        return "y", value
    except (Refused, RecursionError):
        return ("r" if is_json(text) else "g"), None
    except ValueError:
        return "g", None


def ask(documents):
    """What kaitend's reader says: its letter, and the value."""
    message = b"".join(struct.pack("<I", len(d)) + d for d in documents)
    said = subprocess.run([CHECK], input=message, capture_output=True, check=True).stdout
    lines = said.split(b"\n")[:-1]
    assert len(lines) == len(documents)
    return [(chr(line[0]), json.loads(line[1:]) if line[1:] else None) for line in lines]


def same(a, b):
    """Equal in type as well: 1 is not 1.0, nor True."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def disagreements(documents):
    found = []
    for data, (said, value) in zip(documents, ask(documents)):
        expected, other = second_opinion(data)
        if (said == "y") != (expected == "y") or (said == "y" and not same(value, other)):
            found.append((data, said, expected))
        # A text that is no JSON may be given up for another reason that stands before.
        elif said == "g" and expected == "r" and is_utf8(data):
            found.append((data, said, expected))
    return found


def is_utf8(data):
    try:
        data.decode()
        return True
    except UnicodeDecodeError:
        return False


EDGES = [b"", b" ", b"1", b"-0", b"-0.0", b"-1", b"01", b"1.", b".1", b"1e5", b"1E+05", b"1e999",
         b"1e-999", b"12345678901234567890", b"123456789012345678901", b"9223372036854775807",
         b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809", b"NaN",
         b"Infinity", b"-Infinity", b"[" * 16 + b"]" * 16, b"[" * 17 + b"]" * 17, b"[" * 5000,
         b'{"a":1,"a":2}', b'{"a":1,"A":2}', b'{"k":1,"\xe2\x84\xaa":2}', b'{"\\u0061":1,"A":2}',
         b'"' + b"a" * 4096 + b'"', b'"' + b"a" * 4097 + b'"', b'"' + "é".encode() * 2049 + b'"',
         b'"\\ud83c\\udf7a"', b'"\\ud83c"', b'"\\udf7a\\ud83c"', b'"\xed\xa0\x80"', b'"\x7f"',
         b'"\\u0000"', b'"\x00"', b"\xef\xbb\xbf{}", b"[" + b"1," * 4094 + b"1]",
         b"[" + b"1," * 4095 + b"1]", b"\xff", b"{}\x00", b"[1]x", b'{"":1}', b'"\\/\\b\\f"',
         json.dumps({str(i): i for i in range(64)}).encode(),
         json.dumps({str(i): i for i in range(65)}).encode()]
REQUESTS = [b'{"name":"Build Farm","slug":"build-farm"}',
            b'{"name":"Nightly","scopes":["read:licenses",null],"expiresAt":"2030-01-31T09:30:00Z",'
            b'"createdBy":{"id":"x","name":"\\u00e9\\ud83c\\udf7a"},"revokedAt":null}',
            b'{"gracePeriodSeconds":3600}', b'[1,-2.5e3,true,false,null,{"a":[{}]},[[]],"\\n"]']
PIECES = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00",
          b"\\u0041", b"\\u00", b"\\x", b"-", b"0", b"1", b".5", b"e", b"E+", b"NaN", b"true",
          b"nul", b"\x00", b"\x1f", b"\x7f", b"\xff", b"\xc3", b"\xc3\xa9", b"\xed\xa0\x80", b" ",
          b"\t", b"\r\n", b"\x0c", b"/**/", b'"a":1', b',"A":1', b"'", b"99999999999999999999"]


@pytest.fixture(scope="module")
def seeds():
    texts = [p.read_bytes() for p in sorted((SOURCE / "tests/fuzz/corpus/json").iterdir())]
    texts += [p.read_bytes() for p in sorted(CORPORA.glob("JSONTestSuite/test_*/*.json"))]
    return [t for t in texts + EDGES + REQUESTS if len(t) < 2000]


def test_second_opinion_is_strict():
    for good in (b"{}", b'{"a":[1,2.5,"x",null]}', EDGES[22], b'"\\ud83c\\udf7a"'):
        assert second_opinion(good)[0] == "y", good
    for bad in (b"", b"{", b"[1,]", b"01", b"NaN", b"1e999", b'"\\ud800"', b'"\\u0000"', b"\xff",
                b'{"a":1,"A":2}', EDGES[23], b"\xef\xbb\xbf1", b"1\x0c", b'"\x01"'):
        assert second_opinion(bad)[0] != "y", bad
    assert not same([1], [1.0]) and not same({"a": 1}, {"a": True}) and same([{}], [{}])


@pytest.mark.parametrize("data", EDGES, ids=[str(e[:24]) for e in EDGES])
def test_edges(data):
    assert disagreements([data]) == []


def test_published_documents():
    files = sorted(CORPORA.glob("JSONTestSuite/test_*/*.json"))
    if not files:
        pytest.skip("JSONTestSuite is not there")
    assert len(files) > 300
    assert disagreements([f.read_bytes() for f in files]) == []


def test_mutated_documents(seeds):
    """KAITEN_JSON_DOCUMENTS of them, of which KAITEN_JSON_SEED chooses others."""
    rng = random.Random(SEED)
    taken = 0
    for _ in range(0, DOCUMENTS, 5000):
        documents = [mutate(rng, seeds, PIECES) for _ in range(5000)]
        assert disagreements(documents)[:3] == []
        taken += sum(said == "y" for said, _ in ask(documents))
    # Documents of both kinds were among them.
    assert DOCUMENTS // 50 < taken < DOCUMENTS
