# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The rules of the HTTP door about time and memory, about what follows on a connection, and about what
every answer says. test_http_rules.py has those before them."""

import json
import socket
import time

import pytest

from conftest import PATIENCE, Daemon, jwt_claims, prompt, wait_for
from http_door import bearer, door  # noqa: F401
from wire import (CHUNKED, HOST, LENGTH, NEXT, answers, ask, bare_problem, chunk, connect, head,
                  problem, read_all, refusal, smuggle, statuses)


# --- time and memory ----------------------------------------------------------------------------

@pytest.fixture(scope="module")
def hasty():
    times = "\n".join(f"{p}_timeout = 500ms"
                      for p in ("first_byte", "head", "body", "write", "idle"))
    d = Daemon("storage-memory", http=times + "\nconnection_lifetime = 1s", level="info").start()
    d.alice = d.jwt().encode()
    yield d
    code = d.stop()
    d.remove()
    assert code == 0


PHASES = {  # what comes at once, what comes byte by byte, what is answered
    "first byte": (b"", b"", []),
    "head": (b"GET /healthz HTTP/1.1\r\nHo", b"", [408]),
    "head by the byte": (b"GET /healthz HTTP/1.1\r\n", b"X-A: b\r\n" * 1000, [408]),
    "body": (smuggle(b"Content-Length: 9", body=b"{"), b"", [408]),
    "body by the byte": (smuggle(b"Content-Length: 9000", body=b""), b"x" * 9000, [408]),
    "chunks by the byte": (smuggle(CHUNKED, body=b""), b"1\r\na\r\n" * 1000, [408]),
    "a good caller's body": (None, b"", [408]),
    "idle": (NEXT, b"", [200]),
}


def hear_out(s, rest):
    """What is said until the end, while rest goes out byte by byte."""
    s.settimeout(0.02)
    data, at = b"", 0
    while True:
        try:
            part = s.recv(65536)
            if not part:
                return data
            data += part
        except ConnectionResetError:
            return data
        except TimeoutError:
            try:
                s.sendall(rest[at:at + 1])
                at += 1
            except OSError:
                pass


@pytest.mark.parametrize("phase", PHASES)
def test_rule_19_no_byte_moves_a_deadline(hasty, phase):
    first, rest, expected = PHASES[phase]
    if first is None:
        first = head(bearer(hasty), b"Content-Length: 9", method=b"POST",
                     target=b"/service-accounts") + b"{"
        assert prompt(lambda: statuses(hasty, head(bearer(hasty))), 0.4) == [200]

    def begin():
        s = connect(hasty)
        s.sendall(first)
        return s

    with prompt(begin, 0.2) as s:
        begun = time.monotonic()
        found = answers(hear_out(s, rest))
        took = time.monotonic() - begun
    assert [a[0] for a in found] == expected
    assert 0.2 < took < PATIENCE
    if expected == [408]:
        assert problem(found[0]) and found[0][1]["Connection"] == "close"


def test_rule_19_what_is_late_after_a_head_has_its_own_answer(hasty):
    """One HEAD is answered; the beginning of a GET behind it, and of another HEAD, is too late."""
    for method in (b"GET", b"HEAD"):
        with connect(hasty) as s:
            s.sendall(head(method=b"HEAD") + method + b" /healthz HTTP/1.1\r\nHo")
            heads = (0, 1) if method == b"HEAD" else (0,)
            first, late = answers(hear_out(s, b""), heads)
        assert (first[0], first[2], late[0]) == (200, b"", 408)
        (bare_problem if method == b"HEAD" else problem)(late)


def test_rule_19_who_does_not_read_is_closed(hasty):
    with connect(hasty) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(0.1)
        end = time.monotonic() + PATIENCE
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < end:
                try:
                    s.sendall(NEXT * 100)
                except TimeoutError:
                    pass


def test_rule_19_lifetime(hasty):
    """Who asks all the time is let go with an answer, not without one."""
    def life():
        """The longest pause between two questions, and the whole of it."""
        begun, headers, pause = time.monotonic(), {}, 0
        asked = begun
        with connect(hasty) as s:
            while "Connection" not in headers:
                try:
                    s.sendall(NEXT)
                    said = answers(s.recv(65536))
                except ConnectionError:
                    said = []
                pause, asked = max(pause, time.monotonic() - asked), time.monotonic()
                if not said and pause > 0.3:
                    return pause, 0  # idle for too long: not what is asked for here
                ((_, headers, _),) = said
                time.sleep(0.02)
            assert headers["Connection"] == "close"
            took = time.monotonic() - begun
            assert read_all(s) == b""
        return pause, took

    took = wait_for(lambda: life()[1], "a life without a pause")
    assert 0.9 < took < PATIENCE


@pytest.fixture(scope="module")
def brisk():
    """One that lets a body come for longer than a request may take."""
    d = Daemon("storage-memory", daemon="request_timeout = 2s", http="body_timeout = 60s",
               level="info").start()
    yield d
    code = d.stop()
    d.remove()
    assert code == 0


def head_of(d, jwt, body):
    """A connection on which the head and the first byte of the body were sent."""
    s = connect(d)
    s.sendall(head(b"Authorization: Bearer " + jwt.encode(), b"Content-Length: %d" % len(body),
                   b"Connection: close", method=b"POST", target=b"/service-accounts") + body[:1])
    return s


def test_rule_19_a_request_is_not_late_because_its_body_was_slow(brisk):
    body = b'{"name": "slow"}'
    with head_of(brisk, brisk.jwt(), body) as s:
        time.sleep(2.5)
        s.sendall(body[1:])
        ((status, _, _),) = answers(read_all(s))
    assert status == 201


def test_rule_19_who_asks_is_judged_when_the_body_is_there(door):
    """A caller who was known and good when the head came, and is not any more."""
    body = b'{"name": "late"}'

    def begin():
        jwt = door.jwt(ttl=4)
        assert door.http(jwt).call("whoami").ok
        return jwt, head_of(door, jwt, body)

    jwt, begun = prompt(begin, 2)
    with begun as s:
        # Without asking: then it would be forgotten.
        time.sleep(max(0, jwt_claims(jwt)["exp"] + 1 - time.time()))
        s.sendall(body[1:])
        ((status, _, _),) = answers(read_all(s))
    assert status == 401


def test_rule_20_strangers_bodies_share_a_limit(own_daemon):
    """Who cannot be judged by the head alone, a JWT that nobody has seen, has 16 KiB of its own."""
    d = own_daemon("storage-memory", http="max_unverified_bodies = 256K", level="info").start()
    first = head(b"Authorization: Bearer a.b.c", b"Content-Length: 100001", method=b"POST",
                 target=b"/service-accounts")
    held = [connect(d) for _ in range(20)]
    for s in held:
        s.sendall(first + b"x" * 100000)
        s.setblocking(False)

    def refused():
        said = []
        for s in held:
            try:
                said.append(s.recv(65536, socket.MSG_PEEK))
            except (BlockingIOError, ConnectionResetError):
                pass
        return said

    # 3 of them have 84 KiB over what is free for each; the others find 4 KiB.
    said = wait_for(lambda: len(refused()) >= 17 and refused(), "the refusals")
    for data in said:
        ((status, headers, _),) = answers(data)
        assert (status, headers["Connection"], headers["Retry-After"]) == (503, "close", "1")
    assert len(said) == 17
    # Small bodies do not need it, nor do those of callers who are known.
    assert statuses(d, first.replace(b"100001", b"15000"), b"x" * 15000) == [401]
    alice = d.http()
    assert alice.call("whoami").ok
    large = b'{"name":"a"}'.ljust(500000)
    assert alice.request("POST", "/service-accounts", raw=large).status == 201
    for s in held:
        s.close()
    wait_for(lambda: statuses(d, first, b"x" * 100001) == [401], "the memory to be free")


def test_rule_20_strangers_are_answered_before_their_bodies(daemon):
    """Not a byte of them is waited for, nor kept."""
    long = b"Content-Length: 1000000"
    for lines in ([], [b"Authorization: Basic eDp5"], [b"Authorization: Bearer ksh_" + b"A" * 32]):
        message = head(*lines, long, method=b"POST", target=b"/service-accounts")
        refusal(daemon, message, 401)
        refusal(daemon, message + b"x" * 40000, 401)
        chunked = head(*lines, CHUNKED, method=b"POST", target=b"/service-accounts")
        refusal(daemon, chunked + b"10001\r\n", 401)
        assert statuses(daemon, chunked + chunk(b"x" * 65536) + b"0\r\n\r\n" + NEXT) == [401, 200]


# --- one after the other ------------------------------------------------------------------------

def test_rule_21_pipelined_in_order(door):
    paths = ["/healthz", "/nothing", "/readyz", "/service-accounts", "/scopes"] * 8
    found = ask(door, b"".join(head(bearer(door), target=p.encode()) for p in paths))
    assert [a[0] for a in found] == [200, 404, 200, 200, 200] * 8
    assert all(("items" in json.loads(a[2])) == (p == "/service-accounts")
               for a, p in zip(found, paths))


def test_rule_21_one_at_a_time(door):
    """What stands behind a change sees it."""
    caller = b"Authorization: Bearer " + door.jwt(org="pipelined").encode()
    listed = head(caller, target=b"/service-accounts")
    made = head(caller, b"Content-Length: 12", method=b"POST", target=b"/service-accounts")
    found = ask(door, (made + b'{"name":"a"}' + listed) * 5)
    assert [a[0] for a in found] == [201, 200] * 5
    assert [len(json.loads(a[2])["items"]) for a in found[1::2]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("first,expected", [
    (head(b"Connection: close"), [200]), (head(b"Connection: x, Close"), [200]),
    (head(version=b"1.0"), [200]), (head(b"Connection: close", b"Connection: keep-alive"), [200]),
    (head(b"Connection: close", target=b"/none"), [401]), (head(b"A : b"), [400]),
    (head(b"Connection: close", LENGTH, method=b"POST") + NEXT, [401])])
def test_rule_22_nothing_after_the_last(door, first, expected):
    found = ask(door, first + NEXT, half_close=False)
    assert [a[0] for a in found] == expected
    assert found[0][1]["Connection"] == "close"


def test_rule_22_old_clients_may_stay(door):
    stays = head(b"Connection: keep-alive", version=b"1.0")
    found = ask(door, stays + stays)
    assert [a[0] for a in found] == [200, 200]
    assert found[0][1]["Connection"] == "keep-alive"


def test_rule_23_the_last_answer_arrives(daemon):
    """Although more is on its way, which the kernel would answer with a reset."""
    for _ in range(20):
        with connect(daemon) as s:
            s.sendall(smuggle(b"Content-Length: 2000000", body=b"x" * 40000))
            assert answers(read_all(s))[0][0] == 401


def test_rule_23_who_is_still_sending_is_told(door):
    """Clients write the whole of a body before they look for an answer, and take a reset meanwhile
    for a broken network."""
    def send():
        with connect(door) as s:
            s.sendall(head(bearer(door), b"Content-Length: 2000000", method=b"POST",
                           target=b"/service-accounts"))
            s.recv(1, socket.MSG_PEEK)  # it is refused by now
            try:
                for _ in range(100):
                    s.sendall(b"x" * 20000)
                    time.sleep(0.001)
                return answers(read_all(s))[0][0]
            except OSError as e:
                return e

    assert prompt(send, 0.9) == 413


def test_rule_23_lingering_has_an_end(door):
    with connect(door) as s:
        s.sendall(b"BAD\r\n")
        assert answers(read_all(s))[0][0] == 400
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begun < PATIENCE:
                s.sendall(b"x" * 1024)


# --- what is said -------------------------------------------------------------------------------

def test_rule_24_every_answer_is_framed_the_same(door):
    for path, credential in ((b"/healthz", []), (b"/none", []), (b"/none", [bearer(door)]),
                             (b"/scopes", [bearer(door)]), (b"/metrics", []), (b"*", [])):
        for status, headers, body in ask(door, head(*credential, target=path)):
            assert headers["Cache-Control"] == "no-store"
            assert "Server" not in headers and "Transfer-Encoding" not in headers
            assert int(headers["Content-Length"]) == len(body)
            stamp = time.strptime(headers["Date"], "%a, %d %b %Y %H:%M:%S GMT")
            assert stamp.tm_year >= 2024


def test_rule_24_head_is_get_without_a_body(door):
    for path in (b"/healthz", b"/scopes", b"/service-accounts", b"/openapi.json", b"/none",
                 b"/service-accounts/a/tokens/b/rotate"):
        lines = [bearer(door)]
        (get,) = ask(door, head(*lines, target=path))
        (bare,) = ask(door, head(*lines, target=path, method=b"HEAD"), heads=(0,))
        assert bare[0] == get[0] and bare[2] == b""
        for headers in (bare[1], get[1]):
            del headers["Date"]
        assert bare[1] == get[1]


def test_rule_24_a_refused_head_has_no_body(door):
    for line in (b"HEAD * HTTP/1.1", b"HEAD /healthz HTTP/2.0", b"HEAD /healthz HTTP/1.1\r\nA : b",
                 b"HEAD /" + b"a" * 5000 + b" HTTP/1.1"):
        message = line + b"\r\n" + HOST + b"\r\n" + NEXT
        refusal(door, message, 400, 414, 505)
        for at in range(1, min(len(line), 40)):
            (bare,) = ask(door, message[:at], message[at:], half_close=False, heads=(0,))
            bare_problem(bare)
    (whole,) = ask(door, b"HEAD/ HTTP/1.1\r\n\r\n", half_close=False)  # no method was read
    problem(whole)


def test_rule_24_secrets_are_not_stored(door):
    client = door.http()
    slug = client.call("account.create", name="a").body["slug"]
    minted = client.call("token.create", serviceAccountSlug=slug, name="t", scopes=[])
    rotated = client.call("token.rotate", serviceAccountSlug=slug, tokenSlug=minted.body["slug"],
                          gracePeriodSeconds=0)
    mine = door.http(rotated.body["token"])
    validated = mine.call("token.validate")
    for answer in (minted, rotated, validated):
        assert answer.ok and answer.headers["Cache-Control"] == "no-store"
    revoked = client.call("token.revoke", serviceAccountSlug=slug, tokenSlug=minted.body["slug"])
    assert revoked.status == 204
    assert "Content-Length" not in revoked.headers and "Content-Type" not in revoked.headers
    client.close(), mine.close()


def test_rule_24_input_comes_back_in_json_only(door):
    evil = b"/<script>alert(1)</script>?<b>"
    (answer,) = ask(door, head(bearer(door), b"X-Evil: <i>", target=evil, method=b"E-V"))
    assert answer[0] == 404
    assert problem(answer)["instance"] == evil.decode().split("?")[0]
    assert not any("<" in value for value in answer[1].values())
    found = ask(door, b"<script> / HTTP/1.1\r\n\r\n", half_close=False)
    assert b"script" not in found[0][2]
