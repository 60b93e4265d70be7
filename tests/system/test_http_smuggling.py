# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Requests that two readers could cut differently, made from the rules: each has another request
inside of it or behind it, which must never be run. One answer, and the end."""

import os
import random
import re

import pytest

from conftest import Daemon
from wire import (CHUNKED, HOST, NEXT, answers, ask, bare_problem, chunk, connect, head, problem,
                  read_all, smuggle, statuses)

SEED = int(os.environ.get("KAITEN_HTTP_SEED", "1"))
SPLITS = int(os.environ.get("KAITEN_HTTP_SPLITS", "8"))  # 0: at every byte

N = b"%d" % len(NEXT)
X = b"%x" % len(NEXT)
END = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def door():
    d = Daemon("storage-memory", level="info").start()
    yield d
    code = d.stop()
    d.remove()
    assert code == 0


# --- the payloads -------------------------------------------------------------------------------

def lengths():
    """CL.CL, and what is no length."""
    values = [b"0", b"1", b"+" + N, b"-" + N, b"00" + N + b" ", N, b"0x" + X, N + b", " + N,
              N + b"," + N, N + b" 0", b"0 " + N, N + b";", b'"' + N + b'"', N + b".0", N + b"\0",
              b"\v" + N, b"\f" + N, N + b"\x85", b"\xa0" + N, b"1e2", b"", b"99999999999999999999",
              b"0000000000" + N, b"4294967296" + N, N + b"\t0", N[:1] + b"_" + N[1:]]
    for value in values:
        yield "two, one of them " + repr(value), smuggle(b"Content-Length: " + N,
                                                         b"Content-Length: " + value)
        yield "two, first " + repr(value), smuggle(b"Content-Length: " + value,
                                                   b"Content-Length: " + N)
        if value not in (b"0", b"1", N, b"00" + N + b" "):
            yield "one, " + repr(value), smuggle(b"Content-Length: " + value)


NAMES = [b"%s ", b"%s\t", b" %s", b"\t%s", b"%s\0", b"\0%s", b"%s\r", b"\r%s", b"%s\v", b"\x0c%s",
         b"%s\x7f", b"\x80%s", b'"%s"', b"%s\n", b"%s:", b"X\n%s", b"X: y\n%s", b"X: y\r%s", b"%s;",
         b"(%s)", b"X: y\r\r\n%s", b"X: y\n\n%s", b"X: y\0%s"]


def spelled_names():
    """A length or a coding under a name that some would read as the right one."""
    for name in NAMES:
        length, coding = name % b"Content-Length", name % b"Transfer-Encoding"
        yield "length under " + repr(name), smuggle(length + b": " + N)
        yield "coding under " + repr(name), smuggle(coding + b": chunked",
                                                    body=chunk(NEXT) + END)
        yield "length, coding under " + repr(name), smuggle(
            b"Content-Length: 5", coding + b": chunked", body=END + NEXT)
        yield "coding, length under " + repr(name), smuggle(
            CHUNKED, length + b": " + N, body=END + NEXT)


CODINGS = [b"chunked", b"xchunked", b"chunked x", b"x chunked", b"chunked,", b",chunked",
           b"\vchunked",
           b"\0chunked", b"chunked\0", b"'chunked'", b'"chunked"', b"chunked;a=b",
           b"chunked, identity",
           b"identity, chunked", b"gzip, chunked", b"chunked, chunked", b"chunked, gzip",
           b"identity",
           b"chunk", b"chunked\xff", b"\xefchunked", b"ch\xc3\xbcnked", b"chunked\r", b"cow", b"",
           b"chunked\n", b"\nchunked", b"\r\n chunked", b"\r\n\tchunked", b"chunked\r\n , identity",
           b"deflate,chunked", b"chunked\x7f", b"c h u n k e d", b"chunked chunked", b"\\chunked"]


def codings():
    """CL.TE, TE.CL, TE.TE."""
    for value in CODINGS:
        line = b"Transfer-Encoding: " + value
        for length in (b"0", b"5", N):
            yield f"length {length}, coding {value}", smuggle(
                b"Content-Length: " + length, line, body=END + NEXT)
            yield f"coding {value}, length {length}", smuggle(
                line, b"Content-Length: " + length, body=X + b"\r\n" + NEXT + b"\r\n" + END)
        yield f"chunked and coding {value}", smuggle(CHUNKED, line, body=END + NEXT)
        yield f"coding {value} and chunked", smuggle(line, CHUNKED, body=END + NEXT)
        if value != b"chunked":
            yield f"coding {value}", smuggle(line, body=END + NEXT)
        yield f"coding {value} in 1.0", smuggle(line, body=END + NEXT, version=b"1.0")


SIZES = [b"0x3", b"0X3", b"+3", b"-3", b" 3", b"3 ", b"\t3", b"3\t", b"3 junk", b"3junk", b"3,",
         b"3.",
         b"3_0", b"x3", b"", b";a", b"000000003", b"10000000000000003", b"fffffffffffffffd", b"3\0",
         b"\x003", b"3\v", b"3\x85", b"\xa03", b"3;a\nb", b"3;a\rb", b"3;\0", b"3;a=\"\n\"",
         b"3;\x7f",
         b"3\n;a", b"3\r;a", b"3 ;a", b"\r\n3", b"0\r", b"3\r\n\r", b"3" * 9, b"3;" + b"e" * 1025]
AFTER = [b"", b"\n", b"\r", b"x\r\n", b"\r\r\n", b"\n\r", b" \r\n", b"\0\r\n", b"XX"]
TRAILERS = [b"A : b", b" A: b", b": b", b"A", b"A: b\nC: d", b"A: b\rC: d", b"A: \0", b"A\0: b",
            b"A: " + b"t" * 4096, b"A: b\r\n folded", b"GET /healthz HTTP/1.1", b"\x80: b"]


def chunks():
    for size in SIZES:
        yield "size " + repr(size[:20]), smuggle(CHUNKED, body=size + b"\r\nabc\r\n" + END + NEXT)
        yield "last size " + repr(size[:20]), smuggle(
            CHUNKED, body=chunk(b"abc") + size.replace(b"3", b"0") + b"\r\n\r\n" + NEXT)
    for line in (b"3\nabc\r\n", b"3\rabc\r\n", b"3\n\rabc\r\n"):
        yield "size ends " + repr(line), smuggle(CHUNKED, body=line + END + NEXT)
    for after in AFTER:
        yield "behind data " + repr(after), smuggle(CHUNKED, body=b"3\r\nabc" + after + END + NEXT)
    for line in TRAILERS:
        yield "trailer " + repr(line[:20]), smuggle(
            CHUNKED, body=b"0\r\n" + line + b"\r\n\r\n" + NEXT)
    for end in (b"0\r\n\n", b"0\r\n\r\r", b"0\n\n", b"0\n\r\n", b"0\r\n\rX", b"0;\n\r\n"):
        yield "end " + repr(end), smuggle(CHUNKED, body=end + NEXT)


LINES = [b"GET /healthz HTTP/0.9", b"GET /healthz HTTP/1.99", b"GET /healthz HTTP/+1.1",
         b"GET /healthz HTTP/1.+1", b"GET /healthz HTTP/1.2", b"GET /healthz HTTP/2.0",
         b"GET /healthz HTTP/01.1", b"GET /healthz HTTP/1", b"GET /healthz HTTP/1.1 x",
         b"GET /healthz HTTP/1.1HTTP/1.1", b"GET /healthz", b"GET  /healthz HTTP/1.1",
         b"GET\t/healthz HTTP/1.1", b"GET\v/healthz\vHTTP/1.1", b"\0GET /healthz HTTP/1.1",
         b"GET /healthz HTTP/1.1\0", b"GET http://a/healthz HTTP/1.1", b"CONNECT a:80 HTTP/1.1",
         b"GET a:80 HTTP/1.1", b"GET * HTTP/1.1", b"POST * HTTP/1.1", b"GET healthz HTTP/1.1",
         b"GET /healthz?a b HTTP/1.1", b"GET /healthz#a HTTP/1.1", b"GET /\xc3\xa9 HTTP/1.1",
         b"GET /healthz HTTP/1.1\r", b"G\xc3\x89T /healthz HTTP/1.1", b"GET /healthz\nHTTP/1.1",
         b"PRI * HTTP/2.0", b" GET /healthz HTTP/1.1", b"GET:/healthz HTTP/1.1", b"",
         b"GET /healthz HTTP/1.1 GET /healthz HTTP/1.1", b"{} / HTTP/1.1", b"\x16\x03\x01\x02\x00"]
HEADERS = [b"", b"Host: a\r\nHost: a", b"Host: a\r\nHost: b", b"Host:", b"Host: a b", b"Host: a/b",
           b"Host: a@b", b"Host: a\x80", b"Host: a:x", b"Host: a,b c", b"Host : a",
           b"Host: a\r\n b",
           b"Host: a\r\n: b", b"Host: a\r\nb", b"Host: a\r\nA\x01: b", b"Host: a\r\nA: \x01",
           b"Host: a\r\nA: b\0c", b"Host: a\r\nA: b\nC: d", b"Host: a\r\nA: b\rC: d", b"Host: a\n",
           b"Host: a\r\nExpect: x", b"Host: a\r\nExpect: 100-continue, y", b"\0\r\nHost: a",
           b"Host: a\r\nA[]: b", b"Host: a\r\n\tA: b", b"Host: a\r\nA: b\x7f", b"Host: a\r\n\0",
           b"Host: a\r\nExpect: 100-continue\r\nExpect: 100-continue", b"Host: a\r\n\r",
           b"Host: a\r\nAuthorization: a\r\nAuthorization: b", b"Host: a\r\nA: b\r\r",
           b"Host: a\r\n" + b"A: b\r\n" * 64, b"Host: a\r\nA: " + b"a" * 16384]


def heads():
    for line in LINES:
        yield "line " + repr(line), (line + b"\r\n" + HOST + b"Content-Length: " + N
                                     + b"\r\n\r\n" + NEXT)
        yield "bare line " + repr(line), line + b"\r\n\r\n" + NEXT
    for lines in HEADERS:
        yield "headers " + repr(lines[:40]), (b"POST /healthz HTTP/1.1\r\n" + lines
                                              + b"\r\nContent-Length: " + N + b"\r\n\r\n" + NEXT)
    for first in (b"\n", b"\r", b"\r\n\r\n", b"\r\n\n", b" \r\n", b"\0"):
        yield "before it " + repr(first), first + NEXT + NEXT
    for end in (b"\n\n", b"\n\r\n", b"\r\n\n", b"\r\n\r\r", b"\r\r\n\r\n", b"\r\n \r\n",
                b"\n\r\n\r\n"):
        yield "end " + repr(end), b"GET /healthz HTTP/1.1\r\nHost: a" + end + NEXT


FAMILIES = {"lengths": lengths, "names": spelled_names, "codings": codings, "chunks": chunks,
            "heads": heads}
PAYLOADS = {f: dict(make()) for f, make in FAMILIES.items()}


def refused_once(data, bare=False):
    """What is wrong with what was said, or None. bare: the method was HEAD."""
    try:
        found = answers(data, heads=(0,) if bare else ())
    except (AssertionError, ValueError) as broken:
        return f"no answer at all: {broken}"
    if len(found) != 1:
        return f"{len(found)} answers: {[a[0] for a in found]}"
    status, headers, _ = found[0]
    if status not in (400, 413, 414, 417, 431, 501, 505):
        return f"status {status}"
    if headers.get("Connection") != "close":
        return "not the last answer"
    (bare_problem if bare else problem)(found[0])
    return None


def said_to(door, *pieces):
    """All that is answered until the daemon, and not we, ends it."""
    with connect(door) as s:
        try:
            for piece in pieces:
                s.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has had enough before the last piece
        return read_all(s)


@pytest.mark.parametrize("family", FAMILIES)
def test_refused_once_and_for_all(door, family):
    wrong = {name: why for name, data in PAYLOADS[family].items()
             if (why := refused_once(said_to(door, data)))}
    assert wrong == {}
    assert len(PAYLOADS[family]) > 60


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_anywhere_it_is_the_same(door, family):
    """KAITEN_HTTP_SPLITS payloads of a family at 16 places each; 0: all of them at every byte."""
    rng = random.Random(f"{SEED}{family}")
    short = [(n, d) for n, d in sorted(PAYLOADS[family].items()) if len(d) < 1000]
    chosen = rng.sample(short, SPLITS) if SPLITS else short
    wrong = {}
    for name, data in chosen:
        places = range(1, len(data)) if not SPLITS else rng.sample(range(1, len(data)), 16)
        for at in places:
            if why := refused_once(said_to(door, data[:at], data[at:])):
                wrong[name, at] = why
    assert wrong == {}


def test_random_pairs_of_tricks(door):
    """A head with two of them at once is refused like one with one."""
    rng = random.Random(SEED)
    tricks = [b"Content-Length: " + N, b"Content-Length: 0", CHUNKED, b"Transfer-Encoding: x",
              b"Content-Length : 5", b"Transfer-Encoding : chunked", b"Transfer-Encoding:\vchunked",
              b"content-length:+1", b"Transfer_Encoding\0: chunked", b"X: y\nContent-Length: 5",
              b" Content-Length: 5", b"TRANSFER-ENCODING: chunked, x", b"Transfer-Encoding:"]
    for _ in range(150):
        lines = rng.sample(tricks, 2)
        method = rng.choice((b"GET", b"POST", b"HEAD", b"TRACE", b"OPTIONS", b"X"))
        data = smuggle(*lines, body=rng.choice((END, chunk(NEXT) + END, b"")) + NEXT,
                       method=method)
        assert refused_once(said_to(door, data), method == b"HEAD") is None, data


# --- what is sound stays so ---------------------------------------------------------------------

def test_bodies_of_any_method_are_never_requests(door):
    for method in (b"GET", b"HEAD", b"TRACE", b"DELETE", b"OPTIONS", b"PROPFIND", b"M-SEARCH"):
        gone = (0,) if method == b"HEAD" else ()
        for lines, body in (([b"Content-Length: " + N], NEXT), ([CHUNKED], chunk(NEXT) + END)):
            for target in (b"/healthz", b"/none", b"/tokens/validate"):
                found = ask(door, head(*lines, method=method, target=target) + body, heads=gone)
                assert len(found) == 1, (method, target, found)


def test_encoded_requests_in_targets_are_text(door):
    for evil in (b"/healthz%20HTTP/1.1%0d%0aHost:%20a%0d%0a%0d%0aGET%20/healthz", b"/%0d%0a%0d%0a",
                 b"/%00", b"/..%2fhealthz", b"/%2e%2e/healthz", b"//healthz", b"/healthz%00", b"/%",
                 b"/healthz;a", b"/HEALTHZ", b"/healthz%3f", b"/./healthz",
                 b"/service-accounts/../x"):
        found = ask(door, head(target=evil), half_close=True)
        assert [a[0] for a in found] == [401], evil
        assert b"\r\n" not in found[0][2]


IDENTITY = ["X-Forwarded-User: root", "X-Forwarded-For: 127.0.0.1", "X-Original-URL: /healthz",
            "X-Rewrite-URL: /healthz", "X-HTTP-Method-Override: GET", "X-Remote-User: root",
            "X-Forwarded-Host: b", "Forwarded: for=127.0.0.1;host=b", "X-Forwarded-Email: a@b",
            "X-Kaiten-Org: acme", "X-Auth-Request-User: root", "X-SSL-Client-Verify: SUCCESS",
            "X-Forwarded-Client-Cert: By=x;Subject=y", "Proxy-Authorization: Bearer x",
            "Cookie: token=x", "X-Forwarded-Prefix: /x", "X-Original-Method: DELETE"]


@pytest.mark.parametrize("target", [b"/healthz", b"/whoami", b"/service-accounts", b"/none",
    b"/scopes",
                                    b"/tokens/validate"])
def test_headers_of_proxies_change_nothing(door, target):
    def blank(answer):
        return answer[0], {k: v for k, v in answer[1].items() if k != "Date"}, re.sub(
            rb"[0-9a-f]{8}-[0-9a-f-]{27}", b"", answer[2])

    for lines in ([], [b"Authorization: Bearer " + door.jwt(org="proxied").encode()]):
        (plain,) = ask(door, head(*lines, target=target))
        for line in IDENTITY:
            (same,) = ask(door, head(*lines, line.encode(), target=target))
            assert blank(same) == blank(plain), line


# --- the checks that a tester of HTTP/1.1 servers makes -----------------------------------------

GOOD, BAD = "2xx or 4xx, and goes on", "4xx or 5xx, and ends"
CHECKS = {
    "valid GET": ([NEXT], GOOD),
    "fragmented method": ([b"G", NEXT[1:]], GOOD),
    "fragmented target 1": ([NEXT[:4], NEXT[4:]], GOOD),
    "fragmented target 2": ([NEXT[:5], NEXT[5:]], GOOD),
    "fragmented target 3": ([NEXT[:9], NEXT[9:]], GOOD),
    "fragmented version": ([NEXT[:17], NEXT[17:]], GOOD),
    "fragmented request line": ([NEXT[:21], NEXT[21:]], GOOD),
    "fragmented CR LF": ([NEXT[:22], NEXT[22:]], GOOD),
    "fragmented name": ([NEXT[:25], NEXT[25:]], GOOD),
    "fragmented colon": ([NEXT[:28], NEXT[28:]], GOOD),
    "fragmented value": ([NEXT[:29], NEXT[29:]], GOOD),
    "fragmented end 1": ([NEXT[:-3], NEXT[-3:]], GOOD),
    "fragmented end 2": ([NEXT[:-2], NEXT[-2:]], GOOD),
    "fragmented end 3": ([NEXT[:-1], NEXT[-1:]], GOOD),
    "valid GET with a query": ([head(target=b"/healthz?a=%20&b")], GOOD),
    "valid GET with odd headers": ([head(b"X-Empty:", b"x!#$%&'*+-.^_`|~1: v", b"A:\tb\t")], GOOD),
    "names in any case": ([head(host=b"hOST: a\r\n")], GOOD),
    "valid POST with a length": ([smuggle(b"Content-Length: 5", body=b"hello")], GOOD),
    "valid POST in chunks": ([smuggle(CHUNKED, body=chunk(b"hello") + END)], GOOD),
    "fragmented body": ([smuggle(b"Content-Length: 5", body=b"he"), b"llo"], GOOD),
    "fragmented chunk": ([smuggle(CHUNKED, body=b"5\r\nhe"), b"llo\r\n0\r\n", b"\r\n"], GOOD),
    "no Host": ([head(host=b"")], BAD),
    "two Hosts": ([head(host=HOST + HOST)], BAD),
    "negative length": ([smuggle(b"Content-Length: -123456789123456789123456789")], BAD),
    "length is no number": ([smuggle(b"Content-Length: abc")], BAD),
    "length and chunks": ([smuggle(CHUNKED, b"Content-Length: 5", body=END)], BAD),
    "space in a name": ([head(b"X X: a")], BAD),
    "no colon": ([head(b"X-Invalid")], BAD),
    "control in a value": ([head(b"X: a\x07")], BAD),
    "lower-case version": ([NEXT.replace(b"HTTP", b"http")], BAD),
    "wrong version": ([head(version=b"9.9")], BAD),
    "garbage before": ([b"Extra lineGET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"], BAD),
    "bare LF": ([NEXT.replace(b"\r\n", b"\n")], BAD),
}


@pytest.mark.parametrize("check", CHECKS)
def test_checks(door, check):
    pieces, expected = CHECKS[check]
    if expected == BAD:
        assert refused_once(said_to(door, *pieces)) is None
    else:
        first, second = statuses(door, *pieces, NEXT)
        assert first < 500 and first not in (400, 408, 413, 417, 431) and second == 200
