# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The HTTP door over TLS: versions, resumption, and everything that a peer may do to a handshake or to
a connection."""

import contextlib
import itertools
import json
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

from conftest import PATIENCE, Daemon, free_port, prompt
from tls_door import (  # noqa: F401
    GET, LAST, V12, V13, Wire, ask, authority, connect, context, door, hellos, read_answer, shared,
    tls_daemon,
)
from wire import read_all


# --- versions -------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", [V12, V13])
def test_both_versions_are_spoken(shared, authority, version):
    with connect(shared, context(authority, version)) as s:
        assert s.version() == version.name.replace("_", ".")
        assert ask(s) == (200, b'{"status":"ok"}\n')
        assert s.compression() is None


def test_tls_1_2_is_spoken_with_forward_secrecy_and_authenticated_encryption_only(shared,
                                                                                 authority):
    weak = context(authority, V12)
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA")
    with pytest.raises(ssl.SSLError):
        connect(shared, weak)
    with connect(shared, context(authority, V12)) as s:
        assert re.fullmatch(r"ECDHE-ECDSA-(AES\d+-GCM-SHA\d+|CHACHA20-POLY1305)", s.cipher()[0])


def test_tls_1_1_is_not_spoken(shared, authority):
    old = context(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        connect(shared, old)


def test_the_oldest_version_can_be_1_3(tls_daemon, authority):
    d = tls_daemon("tls_min_version = 1.3")
    with pytest.raises(ssl.SSLError, match="(?i)version"):
        connect(d, context(authority, V12))
    with connect(d, context(authority, V13)) as s:
        assert ask(s)[0] == 200


@pytest.mark.parametrize("offered, chosen", [
    (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), ([], None),
])
def test_alpn(shared, authority, offered, chosen):
    ctx = context(authority)
    if offered:
        ctx.set_alpn_protocols(offered)
    with connect(shared, ctx) as s:
        assert s.selected_alpn_protocol() == chosen
        assert ask(s)[0] == 200


def test_who_speaks_only_other_protocols_is_told(shared, authority):
    ctx = context(authority, V12)
    ctx.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match="(?i)application.protocol"):
        connect(shared, ctx)


def test_renegotiation_is_refused(shared):
    if not shutil.which("openssl"):
        pytest.skip("openssl is missing")
    client = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{shared.tls_port}", "-tls1_2"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    client.stdin.write(b"R\n")
    client.stdin.flush()
    try:
        # Its input stays open until then: at the end of that it leaves at once.
        assert any(b"no renegotiation" in line for line in client.stdout)
    finally:
        client.kill()
        client.communicate()


# --- resumption -----------------------------------------------------------------------------------

@pytest.mark.parametrize("version, ticket", [(V12, True), (V12, False), (V13, True)])
def test_sessions_are_resumed(shared, authority, version, ticket):
    ctx = context(authority, version, ticket)
    session = None
    for again in (False, True, True, True, True):
        with connect(shared, ctx, session) as s:
            assert ask(s)[0] == 200
            assert s.session_reused is again
            session = s.session
            s.sendall(LAST)
            read_all(s)


def test_another_door_does_not_resume(tls_daemon, authority):
    d = tls_daemon(start=False)
    other = free_port()
    d.settings["extra"] += door(other, d.cert, d.key, name="other")
    d.write_conf()
    d.start()
    ctx = context(authority, V12)
    with connect(d, ctx) as s:
        session = s.session
    with connect(d, ctx, session, port=other) as s:
        assert not s.session_reused
        assert ask(s)[0] == 200


# --- peers that do not behave ---------------------------------------------------------------------

def test_plain_http_is_told_that_this_is_https(shared):
    with socket.create_connection(("127.0.0.1", shared.tls_port), timeout=PATIENCE) as s:
        s.sendall(GET)
        head, _, body = read_all(s).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Content-Type: application/problem+json" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["detail"] == "this port speaks HTTPS only"


@pytest.mark.parametrize("data", [
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60000,
    b"SSH-2.0-x\r\n", b"\0" * 70000, b"\x80\x2e\x01\x03\x01",
    b"\x16\x03\x01\xff\xff" + b"x" * 70000,
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x17\x03\x03\x00\x10" + b"y" * 16,
], ids=["body", "ssh", "zeros", "sslv2", "length", "short hello", "alert", "data"])
def test_what_is_not_tls_ends_the_connection(shared, data):
    with socket.create_connection(("127.0.0.1", shared.tls_port), timeout=PATIENCE) as s:
        with contextlib.suppress(ConnectionError):
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            read_all(s)
    assert shared.http().request("GET", "/healthz").status == 200


def hello(authority):
    out = ssl.MemoryBIO()
    tls = context(authority).wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


@pytest.fixture(scope="module")
def hasty(authority):
    """One whose deadlines pass at once."""
    d = Daemon("storage-memory")
    d.tls_port = free_port()
    cert, key = authority.issue("server")
    d.settings["extra"] = door(d.tls_port, cert, key, "first_byte_timeout = 1s\n"
                               "head_timeout = 1s\nidle_timeout = 1s\nbody_timeout = 1s")
    d.write_conf()
    d.start()
    yield d
    assert d.stop() == 0
    d.remove()


@pytest.mark.parametrize("pause", [PATIENCE, 0.02])
def test_a_slow_handshake_ends_at_its_deadline(hasty, authority, pause):
    """No byte moves the deadline."""
    data = hello(authority)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", hasty.tls_port), timeout=pause) as s:
        i = 0
        while time.monotonic() < began + PATIENCE:
            try:
                s.sendall(data[i:i + 1])
                i += 1
                if not s.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert 0.5 < time.monotonic() - began < PATIENCE


def begun_in_time(d, ctx, data=b""):
    """A connection whose handshake was over, and this sent, long before its first deadline."""
    def begin():
        with contextlib.suppress(OSError):
            s = connect(d, ctx)
            s.sendall(data)
            return s

    return prompt(begin, 0.6)


def test_silence_behind_the_handshake_ends_it_too(hasty, authority):
    ctx = context(authority)
    with begun_in_time(hasty, ctx) as s:
        began = time.monotonic()
        assert read_all(s) == b""
    assert 0.2 < time.monotonic() - began < PATIENCE


def test_the_other_deadlines_hold_over_tls(hasty, authority):
    ctx = context(authority)
    with begun_in_time(hasty, ctx, GET[:20]) as s:
        assert read_all(s).startswith(b"HTTP/1.1 408 ")
    with begun_in_time(hasty, ctx, GET) as s:
        status, _, rest = read_answer(s)
        assert (status, rest) == (200, b"")
        began = time.monotonic()
        assert read_all(s) == b""
        assert 0.4 < time.monotonic() - began < PATIENCE


STOCK, ALERT = 40000, 5 + 8 + 2 + 16  # records; bytes of the answer to one


class Flood(threading.Thread):
    """Sends and reads what is answered, until the daemon ends it, or the time."""

    def __init__(self, w, records, end):
        super().__init__()
        self.raw, self.records, self.end = w.raw, records, end
        # Made beforehand, because the daemon is done with them sooner than this can make more.
        self.data = memoryview(b"".join(itertools.islice(records, STOCK)))
        self.answered = 0

    def run(self):
        self.raw.setblocking(False)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < self.end:
                self.data = self.data or memoryview(b"".join(itertools.islice(self.records, 500)))
                with contextlib.suppress(BlockingIOError):
                    self.data = self.data[self.raw.send(self.data):]
                with contextlib.suppress(BlockingIOError):
                    while data := self.raw.recv(1 << 20):
                        self.answered += len(data) / ALERT
                    return


def test_who_asks_for_handshakes_without_end_keeps_nobody_waiting(own_daemon, authority, tmp_path):
    """OpenSSL refuses each of them by itself, and reads on: the daemon ends it after a few."""
    cert, key = authority.issue("server")
    d = own_daemon("storage-memory", daemon="loops = 1")
    d.tls_port = free_port()
    d.settings["extra"] = door(d.tls_port, cert, key, "first_byte_timeout = 60s\n"
                               "idle_timeout = 3s")
    d.write_conf()
    d.start()
    ctx = context(authority, V12)
    ctx.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    ctx.keylog_filename = tmp_path / "keys"
    answers, neighbour, end = 0, d.http(), time.monotonic() + 2 * PATIENCE
    with Wire(d, ctx) as w:
        w.handshake()
        attacker = Flood(w, hellos(w, tmp_path / "keys", first=2), end)
        w.tls.write(GET)
        w.flush()
        assert w.recv().startswith(b"HTTP/1.1 200 ")
        attacker.start()
        while attacker.is_alive() or not answers:
            began = time.monotonic()
            assert neighbour.request("GET", "/healthz").status == 200
            assert time.monotonic() - began < 5
            answers += 1
        attacker.join()
    assert attacker.answered < STOCK / 10
    assert time.monotonic() < end


def test_abrupt_ends(shared, authority):
    """At every stage, with FIN and with RST; the door serves on and forgets them."""
    ctx = context(authority)
    reset = struct.pack("ii", 1, 0)
    for rst in (False, True):
        for stage in range(6):
            with Wire(shared, ctx) as w:
                if rst:
                    w.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                if stage == 1:
                    w.raw.sendall(hello(authority)[:50])
                elif stage == 2:
                    w.raw.sendall(hello(authority))
                elif stage > 2:
                    w.handshake()
                if stage > 3:
                    w.tls.write(GET * 50)
                    data = w.out.read()
                    w.raw.sendall(data if stage == 5 else data[:-9])
    with connect(shared, ctx) as s:
        assert ask(s)[0] == 200


def test_a_forged_record_ends_the_connection_with_an_alert(shared, authority):
    with Wire(shared, context(authority)) as w:
        w.handshake()
        w.tls.write(GET)
        data = bytearray(w.out.read())
        data[-1] ^= 1
        w.raw.sendall(data)
        with pytest.raises(ssl.SSLError, match="(?i)bad.record.mac"):
            while w.recv():
                pass


# --- connections ----------------------------------------------------------------------------------

@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("version", [V12, V13])
def test_half_closed(shared, authority, version, fin):
    """What was asked before the peer's close_notify is answered behind it, and ours follows."""
    with Wire(shared, context(authority, version)) as w:
        w.handshake()
        w.tls.write(GET * 3)
        w.part()
        w.flush()
        if fin:
            w.raw.shutdown(socket.SHUT_WR)
        data = b""
        while part := w.recv():
            data += part
        assert data.count(b"HTTP/1.1 200 OK\r\n") == 3


@pytest.mark.parametrize("version", [V12, V13])
def test_an_end_is_said(shared, authority, version):
    with connect(shared, context(authority, version)) as s:
        s.sendall(LAST)
        assert read_all(s).startswith(b"HTTP/1.1 200 ")
    with connect(shared, context(authority, version)) as s:
        s.sendall(b"nonsense\r\n\r\n" + b"x" * 40000)
        assert read_all(s).startswith(b"HTTP/1.1 400 ")


def test_sixty_four_connections_at_once(shared, authority):
    ctx = context(authority)
    with contextlib.ExitStack() as stack:
        all_of_them = [stack.enter_context(connect(shared, ctx)) for _ in range(64)]
        for _ in range(10):
            for s in all_of_them:
                s.sendall(GET)
            for s in all_of_them:
                assert read_answer(s)[0] == 200


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_records_in_any_pieces(shared, authority, piece):
    with Wire(shared, context(authority)) as w:
        w.handshake(piece)
        for record in (GET, GET * 20, GET[:9], GET[9:] + LAST):
            w.tls.write(record)
        w.flush(piece)
        data = b""
        while part := w.recv():
            data += part
        assert data.count(b"HTTP/1.1 200 OK\r\n") == 23


def body_request(d, n, i):
    body = json.dumps({"name": f"Farm {i}"})[:-1].encode() + b" " * n + b"}"
    head = (f"POST /api/service-accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {d.jwt()}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    return head.encode() + body


def test_big_bodies_one_behind_the_other(shared, authority):
    """More than the daemon takes at a time, so that OpenSSL keeps what the kernel does not tell."""
    requests = [body_request(shared, n, i)
                for i, n in enumerate([100, 400000, 20, 70000, 16000, 900000, 1])]
    with connect(shared, context(authority)) as s:
        # One thread: Python's TLS sockets do not bear two, and the answers are small.
        s.sendall(b"".join(requests))
        rest, statuses = b"", []
        for _ in requests:
            status, body, rest = read_answer(s, rest)
            statuses.append(status)
        assert statuses == [201] * len(requests)
        assert rest == b"" and ask(s)[0] == 200


def test_the_drain_ends_connections_in_form(tls_daemon, authority):
    d = tls_daemon()
    with connect(d, context(authority)) as s, connect(d, context(authority)) as silent, \
            socket.create_connection(("127.0.0.1", d.tls_port), timeout=PATIENCE) as begun:
        assert ask(s)[0] == 200
        begun.sendall(hello(authority)[:30])
        d.process.send_signal(signal.SIGTERM)
        assert read_all(s) == b""
        assert read_all(silent) == b""
        assert begun.recv(1) == b""
    assert d.process.wait(PATIENCE) == 0
