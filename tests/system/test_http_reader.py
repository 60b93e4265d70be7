# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What the readers of HTTP take, against a second one: http_reference.py."""

import os
import random
import struct
import subprocess

import pytest

from conftest import BUILD, SOURCE
from http_reference import READERS
from mutate import edit_line, mutate

CHECK = BUILD / "tests/tools/http-check"
CASES = int(os.environ.get("KAITEN_HTTP_CASES", "30000"))
SEED = int(os.environ.get("KAITEN_HTTP_SEED", "1"))


def ask(cases):
    """What kaitend's readers say to (reader, bytes in a piece, bytes)."""
    message = b"".join(struct.pack("<IcB", len(data) + 2, reader.encode(), piece) + data
                       for reader, piece, data in cases)
    said = subprocess.run([CHECK], input=message, capture_output=True, check=True).stdout
    lines = said.decode().split("\n")[:-1]
    assert len(lines) == len(cases)
    return lines


def disagreements(cases):
    return [(case, said, expected) for case, said in zip(cases, ask(cases))
            if said != (expected := READERS[case[0]](case[2]))]


HEADS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nGET /healthz?a=b&c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /service-accounts/a%2Db/tokens HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 12\r\n"
    b"Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n{\"name\":\"a\"}",
    b"PUT /x HTTP/1.1\r\nhost: a.example:8080\r\nTransfer-Encoding: Chunked\r\n"
    b"Authorization: Bearer abc\r\nIdempotency-Key: k\r\nConnection: close, x\r\n\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nAccept: b\r\nX-A:\tb \xc3\xa9 \t\r\n\r\n",
    b"DELETE /a HTTP/1.1\r\nHost:a\r\nA:\r\nB: \r\nContent-Length:0\r\n\r\nGET / HTTP/1.1\r\n",
    b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\ncontent-encoding: Identity\r\n\r\n",
]
HEAD_PIECES = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\v", b"\x7f", b"\x80", b":", b" :", b",", b";",
    b"#", b"?", b"%", b"*", b"http://a/", b"a:80", b"CONNECT ", b"OPTIONS * ", b"HTTP/1.1",
    b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/+1.1", b"HTTP/01.1", b"http/1.1",
    b"Content-Length: 3\r\n", b"content-length:0\r\n", b"Content-Length: +3\r\n",
    b"Content-Length: 12345678901\r\n", b"Content-Length : 3\r\n", b"Content-Length: 1, 1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n", b"transfer-encoding:\tCHUNKED \r\n",
    b"Transfer-Encoding: chunked,\r\n", b"Transfer-Encoding: xchunked\r\n", b" folded\r\n",
    b"Transfer-Encoding: ,chunked\r\n", b"Transfer-Encoding:\r\n", b"Host: b\r\n", b"Host:\r\n",
    b"Host: a b\r\n", b"Host: [::1\r\n", b"Host: a@b\r\n", b"Host: a:b\r\n", b"Host: []\r\n",
    b"Expect: 100-Continue\r\n", b"Expect: x\r\n", b"Connection: close\r\n", b": x\r\n",
    b"Connection: keep-alive , Close\r\n", b"Connection:,,\r\n", b"Authorization: Basic x\r\n",
    b"Content-Encoding: br\r\n", b"content-encoding:\r\n", b"Content-Encoding: identity\r\n",
    b"X: " + b"y" * 3000 + b"\r\n", b"/" + b"z" * 2700, b"A: b\r\n" * 21, b"M" * 9,
]
CHUNKS = [
    b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\nGET / HTTP/1.1\r\n",
    b"A;a=b\r\n0123456789\r\n00000001;\r\nx\r\n0;c=\"d\"\r\nTrailer: a\r\nB:\r\n\r\n",
    b"1\r\na\r\n" * 9 + b"000\r\n\r\n", b"fff\r\n" + b"y" * 4095 + b"\r\n1\r\nz\r\n0\r\n\r\n",
]
CHUNK_PIECES = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b";", b";a", b";a\nb", b";a\rb", b"0x3\r\nabc\r\n",
    b"+3", b"-1", b"g", b"F", b"0", b"00000000", b"000000001", b"1000", b"1001\r\n",
    b"FFFFFFFF\r\n",
    b"1\r\nq\r\n", b"0\r\n", b"A: b\r\n", b": b\r\n", b"A b: c\r\n", b"A\x7f: b\r\n", b"A:\x7f\r\n",
    b";" + b"e" * 600, b"T: " + b"t" * 1400 + b"\r\n", b"\xff",
]
SEGMENTS = [b"a", b"%41b", b"a%20b", b"caf%C3%A9", b"%F0%9F%8D%BA", b"a%2525", b"..a", b"%2e%2E"]
SEGMENT_PIECES = [b"%", b"%2", b"%2F", b"%2f", b"%00", b"%zz", b"%c0%af", b"%ed%a0%80", b"%ff",
                  b".",
                  b"%e9", b"%f4%90%80%80", b"%5C", b"%25", b"\xc3\xa9", b"\xff", b"+", b"%+1",
                  b"\0"]
QUERIES = [b"limit=10&cursor=abc", b"a", b"a=", b"=a", b"a=b=c&&d", b"a+b=c%2Bd", b"x=%C3%A9&x=1"]
QUERY_PIECES = SEGMENT_PIECES + [b"&", b"=", b"&=", b"&limit=2", b"%26", b"%3D"]

KINDS = {"h": (HEADS, HEAD_PIECES), "c": (CHUNKS, CHUNK_PIECES), "p": (SEGMENTS, SEGMENT_PIECES),
         "q": (QUERIES, QUERY_PIECES)}


def test_second_reader_is_strict():
    for head in HEADS:
        assert READERS["h"](head).startswith("done ")
    for body in CHUNKS:
        assert READERS["c"](body).startswith("done ")
    for bad in (b"GET / HTTP/1.1\n",
                HEADS[0].replace(b"Host", b"Host "), b"GET / HTTP/1.1\r\n\r\n",
                HEADS[3].replace(b"Trans", b"Content-Length: 1\r\nTrans"), b"\r\n\r\n" + HEADS[0]):
        assert READERS["h"](bad).startswith("bad "), bad
    for bad in (b"0x1\r\n", b"1 \r\n", b"1\n", b"\r\n", b"1;\n", b"1\r\nab", b"000000001"):
        assert READERS["c"](bad).startswith("bad "), bad


def test_every_beginning_and_every_piece():
    """Where bytes are cut changes nothing, and no beginning is taken for the whole."""
    for reader, wholes in (("h", HEADS), ("c", CHUNKS)):
        for whole in wholes:
            cases = [(reader, 0, whole[:n]) for n in range(len(whole))]
            cases += [(reader, piece, whole) for piece in range(1, 8)]
            assert disagreements(cases) == []


@pytest.mark.parametrize("reader", ["h", "c"])
def test_every_byte_for_every_other(reader):
    """In each place of a message stands, one after the other, every byte."""
    whole = {"h": HEADS[2], "c": CHUNKS[2]}[reader]
    assert disagreements([(reader, 0, whole[:i] + bytes([b]) + whole[i + 1:])
                          for i in range(len(whole)) for b in (*range(0x81), 0xFF)])[:3] == []


@pytest.mark.parametrize("reader", KINDS)
def test_mutated_messages(reader):
    """KAITEN_HTTP_CASES of them in all, of which KAITEN_HTTP_SEED chooses others."""
    rng = random.Random(f"{SEED}{reader}")
    seeds, pieces = KINDS[reader]
    corpus = SOURCE / "tests/fuzz/corpus/none"
    if reader in "hc":
        corpus = corpus.with_name({"h": "http_head", "c": "http_chunk"}[reader])
    seeds = seeds + [p.read_bytes() for p in sorted(corpus.glob("*"))]
    share = CASES * {"h": 5, "c": 3, "p": 1, "q": 1}[reader] // 10
    verdicts = dict.fromkeys(("done", "bad", "more"), 0)
    for first in range(0, share, 5000):
        cases = [(reader, rng.choice((0, 0, 1, 2, 7, 64)), mutate(rng, seeds, pieces, edit_line, 0))
                 for _ in range(min(5000, share - first))]
        assert disagreements(cases)[:3] == []
        for said in ask(cases):
            verdicts[said.split()[0]] += 1
    # Messages of every kind were among them.
    assert min(verdicts["done"], verdicts["bad"]) > share // 50, verdicts
    assert reader in "pq" or verdicts["more"] > share // 50, verdicts
