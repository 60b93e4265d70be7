# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Frames of the socket: a message of each operation, cut and torn at every byte, what a server
alone may send, and one user with many connections beside another."""

import ctypes
import os
import pathlib
import socket
import subprocess
import sys

import msgpack
import pytest

from conftest import PATIENCE, Daemon, Rpc, reads_proc, thousand
from wire import connect_to, read_to_the_end as read_all

TOKEN = "ksh_" + "A" * 32
ACCOUNT = {"serviceAccountSlug": "no-such"}
NAMED = dict(ACCOUNT, tokenSlug="no-such")
# A whole message of each operation. Sent again it has the same answer again, so nothing here makes
# or ends anything; an operation without an example fails below.
EXAMPLES = {
    "account.create": {"name": "Taken", "slug": "taken"},
    "account.list": {"limit": 1},
    "account.get": {"serviceAccountSlug": "taken"},
    "account.update": dict(ACCOUNT, name="Other"),
    "account.delete": ACCOUNT,
    "token.create": dict(ACCOUNT, name="t", scopes=["read:tokens"],
                         expiresAt="2099-01-01T00:00:00Z"),
    "token.list": {"serviceAccountSlug": "taken", "limit": 2},
    "token.get": NAMED,
    "token.rotate": dict(NAMED, gracePeriodSeconds=60),
    "token.revoke": NAMED,
    "token.revokeAll": ACCOUNT,
    "token.verify": {"token": TOKEN, "scope": "read:tokens"},
    "token.verifyMany": {"tokens": [TOKEN, "x"]},
    "whoami": {},
    "scopes": {},
    "healthz": {},
    "readyz": {},
    "store.check": {},
    "store.backup": {},
    "store.export": {},
    "store.read": {"backup": "x", "file": 0, "offset": 0},
    "store.drop": {"backup": "x"},
    "key.list": {},
    "key.rotate": {"kind": "none"},
    "key.retire": {"key": "x"},
    "kaiten.ping": {},
    "kaiten.hello": {"errors": "problem"},
    "kaiten.describe": {},
}


def message_of(method):
    meta = {"deadline_ms": 30000, "trace": "a"}
    return msgpack.packb([0, 1 << 40, method, [EXAMPLES[method], meta]])


@pytest.fixture(scope="module")
def quiet():
    # No deadline of the daemon may end what the test expects it to refuse.
    d = Daemon("storage-memory", sock="head_timeout = 10m\nfirst_byte_timeout = 10m",
               level="notice").start()
    assert d.rpc().call("account.create", **EXAMPLES["account.create"]).ok
    yield d
    code = d.stop()
    d.remove()
    assert code == 0


def connect(d):
    return connect_to(d, "socket")


def test_each_operation_has_an_example(quiet):
    methods = quiet.rpc().call("kaiten.describe").body["methods"]
    assert {m["name"] for m in methods} == set(EXAMPLES)


@pytest.mark.parametrize("method", EXAMPLES)
def test_a_message_that_is_cut_short_is_never_answered(quiet, method):
    """Nor is it done: the whole one comes last, and is answered as if it were the first."""
    message = message_of(method)
    for n in range(1, len(message)):
        with connect(quiet) as s:
            s.sendall(message[:n])
            s.shutdown(socket.SHUT_WR)
            assert read_all(s) == b"", message[:n]
    with connect(quiet) as s:
        s.sendall(message)
        s.shutdown(socket.SHUT_WR)
        assert msgpack.unpackb(read_all(s))[:2] == [1, 1 << 40]


@pytest.mark.parametrize("method", EXAMPLES)
def test_a_message_may_come_in_two_parts_or_byte_by_byte(quiet, method):
    message, rpc = message_of(method), quiet.rpc()

    def answer():
        reply = rpc.receive()
        if reply[2] is None and reply[3]:
            reply[3].pop("backup", None)  # each has a name of its own
        return reply

    rpc.socket.sendall(message)
    whole = answer()
    for n in range(1, len(message)):
        rpc.socket.sendall(message[:n])
        rpc.socket.sendall(message[n:])
        assert answer() == whole, n
    for i in range(len(message)):
        rpc.socket.sendall(message[i:i + 1])
    assert answer() == whole


# --- the wrong direction --------------------------------------------------------------------------

KINDS = {"0": b"\x00", "1": b"\x01", "2": b"\x02", "3": b"\x03", "127": b"\x7f", "128": b"\xcc\x80",
         "256": b"\xcd\x01\x00", "-1": b"\xff", "-128": b"\xd0\x80", "nil": b"\xc0",
         "true": b"\xc3", "0.0": b"\xca\x00\x00\x00\x00", "text": b"\xa10", "array": b"\x91\x00",
         "2^64-1": b"\xcf" + b"\xff" * 8, "1 in nine bytes": b"\xcf" + b"\0" * 7 + b"\x01"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_client_may_send_is_refused_on_its_kind(quiet, kind):
    """Before a byte of its body is there, hence before any of it could be decoded."""
    for count in (0, 1, 2, 3, 4, 5, 15):
        if (kind, count) in (("0", 4), ("2", 3)):
            continue
        for head in (bytes([0x90 | count]), b"\xdc\x00" + bytes([count])):
            with connect(quiet) as s:
                s.sendall(head + KINDS[kind])
                assert read_all(s) == b"", (count, head)


@pytest.mark.parametrize("method", EXAMPLES)
def test_answers_are_no_requests(quiet, method):
    """What the daemon itself would answer, and a refusal, sent to it."""
    rpc = quiet.rpc()
    rpc.socket.sendall(message_of(method))
    answer = rpc.receive()
    for back in (answer, [1, 1, [0, "x" * 5000], None], [1, 1, None, EXAMPLES[method]]):
        with connect(quiet) as s:
            s.sendall(msgpack.packb(back) + message_of("kaiten.ping"))
            assert read_all(s) == b""


def test_a_notification_of_each_name_changes_nothing(quiet):
    with connect(quiet) as s:
        for method in EXAMPLES:
            s.sendall(msgpack.packb([2, method, [EXAMPLES[method]]]))
        s.sendall(message_of("kaiten.ping"))
        s.shutdown(socket.SHUT_WR)
        assert msgpack.unpackb(read_all(s)) == [1, 1 << 40, None, {"status": "ok"}]
    # A hello that was taken for one would have changed the form of refusals.
    with connect(quiet) as s:
        s.sendall(msgpack.packb([2, "kaiten.hello", [{"errors": "problem"}]])
                  + msgpack.packb([0, 1, "no.such", []]))
        s.shutdown(socket.SHUT_WR)
        assert msgpack.unpackb(read_all(s))[2] == [0, "Method.NotFound: no method no.such"]


@pytest.mark.parametrize("ident", [0, 1, 127, 128, (1 << 31) - 1, (1 << 32) - 1, 1 << 32,
                                   (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_an_id_comes_back_as_it_was(quiet, ident):
    rpc = quiet.rpc()
    for method in ("kaiten.ping", "account.list", "no.such"):
        rpc.send(method, {}, ident=ident)
        assert rpc.receive()[:2] == [1, ident]


@pytest.mark.parametrize("ident", [-1, -32, -33, -(1 << 63), 0.0, 1.5, None, True, "1", b"1", [1],
                                   {"a": 1}, msgpack.Timestamp(1)], ids=repr)
def test_what_is_no_id_is_never_echoed(quiet, ident):
    """The connection ends: an invented id would be taken for somebody else's answer."""
    with connect(quiet) as s:
        s.sendall(msgpack.packb([0, ident, "kaiten.ping", [{}]]) + message_of("kaiten.ping"))
        assert read_all(s) == b""


# --- peers ----------------------------------------------------------------------------------------

CROWD, OTHER = 61007, 61008

# Holds n connections with half a message in each, until its input ends.
HOLD = r"""
import socket, sys
path, n = sys.argv[1], int(sys.argv[2])
held = []
for _ in range(n):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.settimeout(60)
    s.sendall(b"\x94\x00\x01\xacaccount.list\x91")
    held.append(s)
print(len(held), flush=True)
sys.stdin.read()
"""

# p99 in microseconds of n verdicts, one after the other.
MEASURE = r"""
import socket, sys, time
import msgpack
path, n, token = sys.argv[1], int(sys.argv[2]), sys.argv[3]
s = socket.socket(socket.AF_UNIX)
s.connect(path)
s.settimeout(60)
ask = msgpack.packb([0, 1, "token.verify", [{"token": token}]])
times = []
for i in range(n):
    begun = time.perf_counter()
    s.sendall(ask)
    answer = s.recv(4096)
    times.append(time.perf_counter() - begun)
    assert msgpack.unpackb(answer)[3]["valid"] is True, answer
print(int(sorted(times)[n * 99 // 100] * 1e6))
"""


def run_as(uid, program, *args, **kwargs):
    return subprocess.Popen([sys.executable, "-c", program, *map(str, args)], cwd="/", user=uid,
                            group=uid, extra_groups=[], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True, **kwargs)


def p99_us(d, token, rounds=3):
    """The best of some rounds: what else the machine does must not count."""
    found = []
    for _ in range(rounds):
        p = run_as(OTHER, MEASURE, d.socket_path, 1000, token)
        out, _ = p.communicate(timeout=PATIENCE)
        assert p.returncode == 0
        found.append(int(out))
    return min(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
@thousand
def test_a_thousand_connections_of_one_user_leave_another_its_pace(own_daemon):
    rules = (f"uid={CROWD} org=crowd subject=crowd scopes=read:*",
             f"uid={OTHER} org=acme subject=other scopes=read:* verify=any",
             *Daemon.PEER_RULES)
    d = own_daemon("storage-memory", rules=rules, sock="head_timeout = 10m", level="notice").start()
    rpc = d.rpc()
    assert rpc.call("account.create", name="Pace", slug="pace").ok
    token = rpc.call("token.create", serviceAccountSlug="pace", name="t",
                     scopes=["read:tokens"]).body["token"]

    def measure():
        before = p99_us(d, token)
        crowd = run_as(CROWD, HOLD, d.socket_path, 1000)
        try:
            assert crowd.stdout.readline() == "1000\n"
            beside = p99_us(d, token)
        finally:
            crowd.communicate("", timeout=PATIENCE)
        print(f"p99 of a verdict: {before} us alone, {beside} us beside 1000 connections")
        # Twice is what is promised; the rest is for machines that do something else meanwhile.
        return beside <= 2 * before + 5000

    # What the rest of the machine does in one measurement and not in the other must not count.
    assert any(measure() for _ in range(5))


WHO = r"""
import socket, sys
import msgpack
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.settimeout(60)
s.sendall(msgpack.packb([0, 1, "whoami", [{}]]))
error, result = msgpack.unpackb(s.recv(65536))[2:]
print(error[1] if error else result["subject"])
"""


def into_a_namespace():
    """A user namespace that knows root alone: everybody else outside looks like 65534 in it."""
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open("/proc/self/" + name, "w") as f:
            f.write(text)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
@pytest.mark.parametrize("rule,answer", [
    ("any org=acme subject=anybody scopes=read:*", "Auth."),
    ("gid=65534 org=acme subject=group scopes=read:*", "Auth."),
    ("uid=65534 org=acme subject=strangers scopes=read:*", "strangers"),
], ids=["any", "gid", "uid"])
def test_strangers_of_another_namespace_are_met_by_their_number_only(own_daemon, rule, answer):
    d = own_daemon("storage-memory", rules=(*Daemon.PEER_RULES, rule), level="notice")
    try:
        d.start(preexec_fn=into_a_namespace)
    except subprocess.SubprocessError:
        pytest.skip("user namespaces are not allowed here")
    out, _ = run_as(OTHER, WHO, d.socket_path).communicate(timeout=PATIENCE)
    assert out.startswith(answer)
    assert d.rpc().call("whoami").body["subject"] == "root"


@reads_proc
def test_a_request_costs_one_turn_of_its_loop(own_daemon):
    """Read and answered in one turn: the loop does not wake itself for another one. By the calls of
    write(2) of its thread, which are those to its eventfd: answers go out with send(2), and there
    is nothing to log."""
    d = own_daemon("storage-memory", level="warning", daemon="loops = 1").start()
    loop = next(t for t in pathlib.Path(f"/proc/{d.process.pid}/task").iterdir()
                if (t / "comm").read_text() == "loop0\n")

    def writes():
        lines = (loop / "io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["syscw"])

    client = Rpc(d.socket_path)
    before = writes()
    for _ in range(200):
        assert client.call("token.verify", token="ksh_" + "0" * 32).ok
    assert writes() - before < 20
    client.close()
