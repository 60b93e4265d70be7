# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The rules of the HTTP door, one by one: heads, and where bodies end; each limit at its edge.
test_http_rules_life.py has the others, test_http_smuggling.py what attackers make of them, the unit
tests the same in every piece."""

import json
import re

import pytest

from http_door import MAX_BODY, bearer, door  # noqa: F401
from wire import (CHUNKED, HOST, LENGTH, NEXT, ask, chunk, connect, head, problem, refusal, smuggle,
                  statuses)


def long_body(d, length):
    """A head that announces it, of somebody who may ask."""
    return head(bearer(d), b"Content-Length: %d" % length, method=b"POST",
                target=b"/service-accounts")


# --- the head -----------------------------------------------------------------------------------

@pytest.mark.parametrize("line", [
    b"GET  /healthz HTTP/1.1", b"GET /healthz  HTTP/1.1", b" GET /healthz HTTP/1.1",
    b"GET\t/healthz HTTP/1.1", b"GET /healthz\tHTTP/1.1", b"GET /healthz HTTP/1.1 ",
    b"GET /health z HTTP/1.1", b"GET /healthz#a HTTP/1.1", b"GET /health\0z HTTP/1.1",
    b"GET /health\x7fz HTTP/1.1", b"GET /health\xffz HTTP/1.1", b"GET /health\x0bz HTTP/1.1",
    b"GET healthz HTTP/1.1", b"GET  HTTP/1.1", b"GET /healthz", b"GET /healthz HTTP/", b"GET",
    b"GET /healthz HTTP/1.", b"GET /healthz HTTP/1", b"GET /healthz http/1.1",
    b"GET /healthz HTTP/+1.1", b"GET /healthz HTTP/1.1.1", b"GET /healthz HTTP/11",
    b"GET /healthz HTTP/1.10", b"GET /healthz HTTP/01.1", b"GET /healthz HTTP/ 1.1",
    b"GET /healthz HTTPS/1.1", b"G@T /healthz HTTP/1.1", b"G\0T /healthz HTTP/1.1", b": HTTP/1.1"])
def test_rule_01_request_line(door, line):
    refusal(door, line + b"\r\n" + HOST + b"\r\n" + NEXT)


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"1.9", b"2.0", b"3.0", b"0.0", b"9.9"])
def test_rule_01_versions(door, version):
    refusal(door, smuggle(version=version), 505)


def test_rule_01_method_is_up_to_16_bytes(door):
    for n, expected in ((15, [401, 200]), (16, [401, 200]), (17, [501])):
        assert statuses(door, head(method=b"M" * n) + NEXT) == expected, n
    refusal(door, head(method=b"M" * 17) + NEXT, 501)


def test_rule_01_target_is_up_to_2048_bytes(door):
    for n, expected in ((2047, [200, 200]), (2048, [200, 200]), (2049, [414])):
        for path in (b"/healthz?", b"/api/healthz?"):
            target = path + b"q" * (n - len(path))
            assert statuses(door, head(target=target) + NEXT) == expected, n
    for target in (b"/" + b"q" * 2048, b"/service-accounts?cursor=" + b"q" * 2048,
                   b"/tokens/validate?" + b"q" * 2048, b"/service-accounts/" + b"/" * 2048):
        refusal(door, head(bearer(door), target=target) + NEXT, 414)
        refusal(door, head(target=target, method=b"PUT") + NEXT, 414)


def test_rule_01_target_is_longer_where_slugs_are(door):
    """A slug that is derived from the longest name has 2055 bytes, and a path may have two."""
    name = json.dumps({"name": "\u00e6" * 1024, "scopes": []}, ensure_ascii=False).encode()
    json_type = b"Content-Type: application/json"

    def ask_for(method, target, body=b""):
        lines = [bearer(door), json_type, b"Content-Length: %d" % len(body)]
        ((status, _, answer), _) = ask(door, head(*lines, method=method, target=target) + body
                                       + NEXT)
        return status, json.loads(answer) if answer else None

    status, account = ask_for(b"POST", b"/service-accounts", name.replace(b', "scopes": []', b""))
    assert status == 201 and len(account["slug"]) == 2055
    path = b"/api/service-accounts/" + account["slug"].encode() + b"/tokens"
    status, token = ask_for(b"POST", path, name)
    assert status == 201 and len(token["slug"]) == 2055
    longest = path + b"/" + token["slug"].encode()
    assert ask_for(b"POST", longest + b"/rotate/")[0] == 200
    assert ask_for(b"GET", longest)[1]["name"] == "\u00e6" * 1024
    assert ask_for(b"GET", path + b"?limit=200&" + b"q" * 128)[0] == 200
    for n, expected in ((4352, [200, 200]), (4353, [414])):
        target = longest + b"?" + b"q" * (n - len(longest) - 1)
        assert statuses(door, head(bearer(door), target=target) + NEXT) == expected, n
    assert ask_for(b"DELETE", longest)[0] == 204


@pytest.mark.parametrize("data", [
    NEXT.replace(b"\r\n", b"\n"), NEXT.replace(b"\r\n", b"\n", 1), NEXT.replace(b"a\r\n", b"a\n"),
    NEXT[:-2] + b"\n", NEXT[:-1] + b"X", NEXT.replace(b"\r\n", b"\r", 1), NEXT[:-2] + b"\r\r\n",
    NEXT.replace(b"a\r\n", b"a\r"), NEXT.replace(b"a\r\n", b"a\rb\r\n"), b"\n" + NEXT,
    NEXT.replace(b"a\r\n", b"a\r\r\n"), b"\r" + NEXT])
def test_rule_02_lines_end_with_crlf(door, data):
    refusal(door, data + NEXT)


WHOLE = smuggle(CHUNKED, b"A: b", body=b"3;x=y\r\nabc\r\n2\r\nde\r\n0;z\r\nT: u\r\nV: w\r\n\r\n")


@pytest.mark.parametrize("end", [b"\n", b" \n", b"\t\n", b"\r", b"\n\r", b"\r\r\n", b"\n\n", b"\r \n",
                                 b"\r\0\n", b"\x0b\n", b"\xc2\x85\n", b"\0\n"])
def test_rule_02_every_line_of_a_message_ends_with_crlf(door, end):
    """Request line, headers, empty line, chunk sizes with and without extensions, data, the last
    chunk, trailers and what ends them."""
    assert statuses(door, WHOLE + NEXT) == [401, 200]
    places = [m.start() for m in re.finditer(b"\r\n", WHOLE)]
    assert len(places) == 13
    for at in places:
        refusal(door, WHOLE[:at] + end + WHOLE[at + 2:] + NEXT)


def test_rule_03_one_empty_line_may_stand_before(door):
    assert statuses(door, b"\r\n" + NEXT + b"\r\n" + NEXT) == [200, 200]
    refusal(door, b"\r\n\r\n" + NEXT)
    assert statuses(door, NEXT + b"\r\n\r\n" + NEXT, half_close=False) == [200, 400]


@pytest.mark.parametrize("line", [
    b"A : b", b"A\t: b", b" A: b", b"\tA: b", b": b", b":", b"A", b"A b: c", b"A\0: b", b"A\x01: b",
    b"A(: b", b"A[]: b", b"A@: b", b"A/: b", b'A": b', b"A;: b", b"A\x80: b", b"\x7f: b", b"A,: b"])
def test_rule_04_names_are_tokens(door, line):
    refusal(door, smuggle(line))


def test_rule_04_headers_are_up_to_64(door):
    for n, expected in ((63, [200, 200]), (64, [200, 200]), (65, [431])):
        # Host is one of them.
        assert statuses(door, head(*[b"A%d: b" % i for i in range(n - 1)]) + NEXT) == expected, n
    refusal(door, head(*[b"A: b"] * 64) + NEXT, 431)


def test_rule_04_head_is_up_to_16_kib(door):
    for n, expected in ((16383, [200, 200]), (16384, [200, 200]), (16385, [431])):
        whole = head(b"A: " + b"a" * (n - len(head(b"A: "))))
        assert len(whole) == n
        assert statuses(door, whole + NEXT) == expected, n
        assert statuses(door, whole[:9000], whole[9000:] + NEXT) == expected, n


@pytest.mark.parametrize("byte", [*range(9), *range(11, 32), 127])
def test_rule_05_values_hold_no_control(door, byte):
    refusal(door, smuggle(b"A: b" + bytes([byte]) + b"c"))


def test_rule_05_values_may_hold_tabs_and_high_bytes(door):
    assert statuses(door, head(b"A:\tb\tc\x80\xff\t", b"B:", b"C:c") + NEXT) == [200, 200]


@pytest.mark.parametrize("name", [b"A", b"Host", b"Authorization", b"Transfer-Encoding",
                                  b"Content-Length"])
@pytest.mark.parametrize("fold", [b"\r\n ", b"\r\n\t", b"\n ", b"\r\n \r\n "])
def test_rule_06_nothing_is_folded(door, name, fold):
    line = name + b":" + fold + b"a\r\n"
    refusal(door, b"GET /healthz HTTP/1.1\r\n" + line + HOST + b"\r\n" + NEXT)


@pytest.mark.parametrize("host", [
    b"", HOST + HOST, HOST + b"host: b\r\n", b"Host:\r\n", b"Host: a b\r\n", b"Host: a/b\r\n",
    b"Host: u@a\r\n", b"Host: a:b\r\n", b"Host: a:80:81\r\n", b"Host: [::1\r\n", b"Host: ::1\r\n",
    b"Host: []\r\n", b"Host: [::1]x\r\n", b"Host: a,b\x80\r\n", b"Host: a\\b\r\n", b"Host: :80\r\n",
    b"Host: a?b\r\n", b"Host: a#b\r\n", b'Host: "a"\r\n', b"Host: a<b>\r\n"])
def test_rule_07_one_host(door, host):
    refusal(door, head(host=host) + NEXT)


@pytest.mark.parametrize("host", [b"a", b"a:", b"a:80", b"A.example", b"127.0.0.1:3000", b"[::1]",
                                  b"[::1]:3000", b"a_b", b"a%20b"])
def test_rule_07_hosts(door, host):
    assert statuses(door, head(host=b"Host: " + host + b"\r\n") + NEXT) == [200, 200]
    assert statuses(door, head(host=b"", version=b"1.0")) == [200]


@pytest.mark.parametrize("line", [
    b"Host: a", b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Authorization: Bearer a",
    b"Content-Type: application/json", b"Expect: 100-continue", b"Idempotency-Key: a"])
def test_rule_08_what_may_occur_once(door, line):
    lower = line.split(b":")[0].lower() + b":" + line.split(b":")[1]
    host = b"" if line.startswith(b"Host") else HOST
    for second in (line, lower, line + b"x"):
        refusal(door, head(line, second, host=host, method=b"POST") + NEXT, 400, 417)


# --- where a body ends --------------------------------------------------------------------------

@pytest.mark.parametrize("value", [
    b"", b"+3", b"-0", b"-1", b"0x3", b"3 3", b"3,3", b"3, 3", b"3;a", b"3.0", b"1e1", b"\xb23",
    b"00000000003", b"18446744073709551619", b"\v3", b"3\x0b", b"3\0", b"three", b"'3'",
    b"\xd9\xa3"])
def test_rule_09_length_is_1_to_10_digits(door, value):
    refusal(door, smuggle(b"Content-Length: " + value))


def test_rule_09_lengths(door):
    for value in (b"3", b"0000000003", b"\t3\t", b"  3  "):
        assert statuses(door, smuggle(b"Content-Length: " + value,
            body=b"abc" + NEXT)) == [401, 200]
    assert statuses(door, smuggle(b"Content-Length: 0", body=NEXT)) == [401, 200]
    assert statuses(door, smuggle(body=NEXT)) == [401, 200]
    refusal(door, smuggle(b"Content-Length: 9999999999"), 401)
    refusal(door, long_body(door, 9999999999), 413)


@pytest.mark.parametrize("length", [b"0", b"5", b"%d" % len(NEXT)])
def test_rule_10_not_both(door, length):
    lines = [b"Content-Length: " + length, CHUNKED]
    for body in (b"0\r\n\r\n" + NEXT, NEXT):
        refusal(door, smuggle(*lines, body=body))
        refusal(door, smuggle(*reversed(lines), body=body))


@pytest.mark.parametrize("value", [
    b"", b"xchunked", b"chunkedx", b"identity", b"gzip", b"chunked, identity", b"chunked, chunked",
    b"chunked,", b",chunked", b"chunked;q=1", b'"chunked"', b"\vchunked", b"chunk ed", b"chunked\0",
    b"c\xc4\xa7unked", b"x chunked", b"gzip chunked"])
def test_rule_11_other_codings(door, value):
    refusal(door, smuggle(b"Transfer-Encoding: " + value, body=b"0\r\n\r\n" + NEXT), 400, 501)


def test_rule_11_only_chunked_only_in_1_1(door):
    for value in (b"chunked", b"CHUNKED", b"Chunked", b"\tchunked "):
        body = chunk(b"abc") + b"0\r\n\r\n" + NEXT
        assert statuses(door, smuggle(b"Transfer-Encoding:" + value, body=body)) == [401, 200]
    refusal(door, smuggle(CHUNKED, body=b"0\r\n\r\n" + NEXT, version=b"1.0"))
    refusal(door, smuggle(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + NEXT), 501)


@pytest.mark.parametrize("size", [
    b"0x3\r\n", b"+3\r\n", b"-3\r\n", b" 3\r\n", b"3 \r\n", b"\t3\r\n", b"3\t;a\r\n", b"3 junk\r\n",
    b"3\n", b"3\r", b"\r\n", b";a\r\n", b"g\r\n", b"3h\r\n", b"3\0\r\n", b"000000003\r\n",
    b"10000000000000003\r\n", b"\r\n3\r\n", b"3;a\nb\r\n", b"3;a\rb\r\n", b"3;\0\r\n", b"3.\r\n",
    b"3,\r\n", b"'3'\r\n", b"0_3\r\n"])
def test_rule_12_chunk_sizes(door, size):
    refusal(door, smuggle(CHUNKED, body=size + b"abc\r\n0\r\n\r\n" + NEXT))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"x\r\n", b" \r\n", b"\0\r\n", b"\n\r"])
def test_rule_12_data_is_followed_by_crlf(door, end):
    refusal(door, smuggle(CHUNKED, body=b"3\r\nabc" + end + b"0\r\n\r\n" + NEXT))


def test_rule_12_limits(door):
    """1 to 8 digits, extensions of 1024 bytes in all."""
    for size, expected in ((b"0000003", [401, 200]), (b"00000003", [401, 200]),
                           (b"000000003", [400])):
        body = size + b"\r\nabc\r\n0\r\n\r\n"
        assert statuses(door, smuggle(CHUNKED, body=body + NEXT)) == expected, size
    for n, expected in ((1023, [401, 200]), (1024, [401, 200]), (1025, [400])):
        body = b"3;" + b"e" * (n - 24) + b"\r\nabc\r\n0;" + b"e" * 24 + b"\r\n\r\n"
        assert statuses(door, smuggle(CHUNKED, body=body + NEXT)) == expected, n
    for legal in (b"3;a=b", b"3;a=\"b;c\"", b"3;", b"3;;", b"3; a = b"):
        body = legal + b"\r\nabc\r\n0\r\n\r\n"
        assert statuses(door, smuggle(CHUNKED, body=body + NEXT)) == [401, 200]


@pytest.mark.parametrize("line", [
    b": x", b" A: x", b"A : x", b"A", b"A: \0", b"A: b\nc: d", b"A: b\rc: d", b"A\x80: b"])
def test_rule_13_trailers_are_headers_in_form(door, line):
    refusal(door, smuggle(CHUNKED, body=b"0\r\n" + line + b"\r\n\r\n" + NEXT))


def test_rule_13_trailers_are_dropped(door):
    good = b"0\r\nHost: b\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nConnection: close\r\n"
    assert statuses(door, smuggle(CHUNKED, body=good + bearer(door) + b"\r\n\r\n" + NEXT)) == [401,
                                                                                              200]
    for n, expected in ((4095, [401, 200]), (4096, [401, 200]), (4097, [400])):
        trailers = b"A: " + b"t" * (n - 6) + b"\r\nB:c\r\n"
        assert statuses(door, smuggle(CHUNKED, body=b"0\r\n" + trailers + b"\r\n" + NEXT)) == \
            expected, n


# A method's name changes nothing about where its body ends.
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS",
                                    b"TRACE", b"BREW", b"HEAD", b"get"])
def test_rule_14_body_of_every_method_is_a_body(door, method):
    heads = (0,) if method == b"HEAD" else ()
    for lines, body in (([LENGTH], NEXT), ([CHUNKED], chunk(NEXT) + b"0\r\n\r\n")):
        for credential in ([], [bearer(door)]):
            message = head(*lines, *credential, method=method)
            found = ask(door, message + body + NEXT, heads=heads)
            assert len(found) == 2 and found[1][0] == 200
            found = ask(door, message, body + NEXT, heads=heads)
            assert len(found) == 2 and found[1][0] == 200


def create(d, size, *lines, chunked=False):
    """A good request with a body of so many bytes."""
    body = b'{"name":"a"}'.ljust(size)
    lines = [bearer(d), *lines, CHUNKED if chunked else b"Content-Length: %d" % size]
    message = head(*lines, method=b"POST", target=b"/service-accounts")
    return message, chunk(body[:100]) + chunk(body[100:]) + b"0\r\n\r\n" if chunked else body


@pytest.mark.parametrize("chunked", [False, True])
def test_rule_15_body_limit(door, chunked):
    for n, expected in ((MAX_BODY - 1, [201, 200]), (MAX_BODY, [413]), (MAX_BODY + 1, [413])):
        message, body = create(door, n, chunked=chunked)
        assert statuses(door, message + body + NEXT) == expected, n
        assert statuses(door, message, body + NEXT) == expected, n


def test_rule_15_the_head_decides(door):
    for length in (MAX_BODY, 9999999999):
        (answer,) = ask(door, long_body(door, length), half_close=False)
        p = problem(answer)
        assert (answer[0], p["code"]) == (413, "UNKNOWN")
        assert p["title"] == "Request Entity Too Large"
        assert p["detail"] == f"request body is too large limit={MAX_BODY} bytes"
        assert answer[1]["Connection"] == "close"
    # A chunk is refused by its size line.
    refusal(door, head(bearer(door), CHUNKED, method=b"POST", target=b"/service-accounts")
            + b"1000\r\n", 413)


def test_rule_15_who_asks_comes_before_how_much(door):
    """In the contract a body is looked at after the caller, in whatever form it comes."""
    length = b"Content-Length: %d" % MAX_BODY
    for method, target, lines, status in (
            (b"POST", b"/service-accounts", [], 401),
            (b"POST", b"/service-accounts", [b"Authorization: Basic eDp5"], 401),
            (b"POST", b"/service-accounts", [b"Authorization: Bearer x.y.z"], 401),
            (b"POST", b"/none", [bearer(door)], 404),
            (b"PATCH", b"/service-accounts", [bearer(door)], 405),
            (b"POST", b"/service-accounts?limit=1&limit=1", [bearer(door)], 413),
            (b"POST", b"/service-accounts", [bearer(door), b"Content-Type: text/csv"], 413),
            (b"POST", b"/service-accounts", [b"Authorization: Bearer " + door.poor], 413),
            (b"GET", b"/service-accounts", [bearer(door)], 413),
            (b"GET", b"/tokens/validate", [bearer(door)], 413)):
        message = head(length, *lines, method=method, target=target)
        assert refusal(door, message, status) == status
        message = head(CHUNKED, *lines, method=method, target=target) + b"fffff\r\n"
        assert refusal(door, message, status) == status


@pytest.mark.parametrize("value", [b"magic", b"", b"100", b"100-continue, x", b"100-continue;a",
                                   b"200-ok"])
def test_rule_16_other_expectations(door, value):
    refusal(door, smuggle(b"Expect: " + value, LENGTH), 417)


@pytest.mark.parametrize("value", [b"100-continue", b"100-Continue"])
def test_rule_16_continue_is_said_to_the_good(door, value):
    message, body = create(door, 12, b"Expect: " + value)
    with connect(door) as s:
        s.sendall(message)
        assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(body)
        assert s.recv(1000).startswith(b"HTTP/1.1 201 ")
    # Who does not wait is not kept waiting, and 1.0 knows no such word.
    assert statuses(door, message + body) == [201]
    assert statuses(door, message.replace(b"HTTP/1.1", b"HTTP/1.0") + body) == [201]


def test_rule_16_continue_is_not_said_to_the_refused(door):
    """They would send a body that nobody reads."""
    expect, length = b"Expect: 100-continue", b"Content-Length: 12"
    for lines, status in (([expect, length], 401), ([expect, CHUNKED], 401),
                          ([expect, length, b"Authorization: Basic eDp5"], 401),
                          ([expect, length, b"Authorization: Bearer ksh_" + b"A" * 32], 401),
                          ([expect, b"Content-Length: 5000", bearer(door)], 413)):
        refusal(door, head(*lines, method=b"POST", target=b"/service-accounts"), status)
    assert statuses(door, head(bearer(door))) == [200]  # the caller is known from now on
    refusal(door, head(expect, length, bearer(door), method=b"POST", target=b"/none"), 404)


@pytest.mark.parametrize("line", [
    b"GET http://a/healthz", b"GET https://a/healthz", b"GET a/healthz", b"GET //", b"CONNECT a:80",
    b"CONNECT /healthz", b"GET *", b"HEAD *", b"POST *", b"OPTIONS a:80", b"OPTIONS **",
    b"GET a:80",
    b"OPTIONS http://a/", b"GET \\healthz", b"GET ?a", b"GET .", b"GET file:///etc/passwd"])
def test_rule_17_targets_are_paths(door, line):
    if line == b"GET //":
        assert statuses(door, line + b" HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT) == [401, 200]
    else:
        refusal(door, line + b" HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT)


def test_rule_17_options(door):
    """No CORS is spoken here, and Allow says what a path takes: OPTIONS is a method like others."""
    found = ask(door, head(bearer(door), method=b"OPTIONS", target=b"/service-accounts")
                + head(bearer(door), method=b"OPTIONS", target=b"*") + NEXT)
    assert [a[0] for a in found] == [405, 404, 200]
    assert set(found[0][1]["Allow"].split(", ")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("path", [
    b"%2e%2e", b"%2E", b"a%2fb", b"a%2Fb", b"a%00b", b"%c0%af", b"%e0%80%af", b"%ff", b"%ed%a0%80",
    b"%zz", b"%", b"%2", b"..", b".", b"%f4%90%80%80", b"%+1"])
def test_rule_18_paths_that_are_no_paths(door, path):
    target = b"/service-accounts/" + path
    # Nobody learns what is a path here before it is known who asks.
    found = ask(door, head(bearer(door), target=target) + head(target=target) + NEXT)
    assert [a[0] for a in found] == [400, 401, 200]


def test_rule_18_percent_is_decoded_once(door):
    (answer,) = ask(door, head(bearer(door), target=b"/api/service-accounts/a%2525b"))
    p = problem(answer)
    assert answer[0] == 404
    assert p["instance"] == "/api/service-accounts/a%2525b"
    assert "a%25b" in p["detail"]
