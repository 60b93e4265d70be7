# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Clients that are gone before they have asked, while they ask, while they are answered and before
they have read it, by a reset: nothing of theirs stays behind, and the log has nothing to say.

KAITEN_STORM=N   so many clients at each stage (20 when not set)
"""

import json
import os
import pathlib
import resource
import secrets
import socket
import struct

import msgpack
import pytest

from conftest import SANITIZED, reads_proc, wait_for
from metrics import scrape

pytestmark = reads_proc

STORM = int(os.environ.get("KAITEN_STORM", "20"))
MIB = 1 << 20
ROOM = 256 * MIB if SANITIZED else 8 * MIB


def http(d, head, body=b"", token=None, more=b""):
    auth = b"Authorization: Bearer " + (token or d.storm_jwt).encode() + b"\r\n"
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return head + b" HTTP/1.1\r\nHost: a\r\n" + auth + length + more + b"\r\n" + body


def mint(d):
    return json.dumps({"name": secrets.token_hex(8), "scopes": ["read:licenses"]}).encode()


TOKENS = b"POST /service-accounts/storm/tokens"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

# Each: the bytes of a stage, how many of them are sent, and how many of the answer's are read.
HTTP = {
    "connected": lambda d: (b"", None, 0),
    "request line": lambda d: (http(d, b"GET /whoami"), 7, 0),
    "headers": lambda d: (http(d, b"GET /whoami"), 40, 0),
    "before the body": lambda d: (http(d, TOKENS, mint(d)), -60, 0),
    "in the body": lambda d: (http(d, TOKENS, mint(d)), -5, 0),
    "in a chunk": lambda d: (http(d, TOKENS, more=CHUNKED) + b"20\r\n{", None, 0),
    "asked, at once": lambda d: (http(d, b"GET /whoami"), None, 0),
    "asked, a worker": lambda d: (http(d, b"GET /service-accounts"), None, 0),
    "asked, a change": lambda d: (http(d, TOKENS, mint(d)), None, 0),
    "asked, a stranger": lambda d: (http(d, b"GET /whoami", token="nonsense"), None, 0),
    "in the answer": lambda d: (http(d, b"GET /openapi.json"), None, 500),
    "many at once": lambda d: (http(d, b"GET /openapi.json") * 40, None, 500),
    "many changes at once": lambda d: (b"".join(http(d, TOKENS, mint(d)) for _ in range(8)),
                                       None, 0),
    "refused": lambda d: (b"nonsense\r\n\r\n" * 9, None, 0),
    "after an answer": lambda d: (http(d, b"GET /whoami"), None, 20),
}


def rpc(method, args, ident=1):
    return msgpack.packb([0, ident, method, [args]])


def rpc_mint(ident=1):
    return rpc("token.create", {"serviceAccountSlug": "storm", "name": secrets.token_hex(8),
                                "scopes": ["read:licenses"]}, ident)


SOCKET = {
    "connected": lambda d: (b"", None, 0),
    "first byte": lambda d: (rpc("whoami", {}), 1, 0),
    "in a message": lambda d: (rpc("whoami", {}), 6, 0),
    "asked, at once": lambda d: (rpc("whoami", {}), None, 0),
    "asked, a worker": lambda d: (rpc("account.list", {}), None, 0),
    "asked, a change": lambda d: (rpc_mint(), None, 0),
    "in the answer": lambda d: (rpc("kaiten.describe", {}), None, 500),
    "many at once": lambda d: (b"".join(rpc("kaiten.describe", {}, i) for i in range(99)), None,
                               500),
    "many changes at once": lambda d: (b"".join(rpc_mint(i) for i in range(8)), None, 0),
    "refused": lambda d: (b"\xc1" * 9, None, 0),
    "after an answer": lambda d: (rpc("whoami", {}), None, 20),
}


def come_and_vanish(d, door, stage):
    data, sent, read = stage(d)
    if door == "http":
        s = socket.create_connection(("127.0.0.1", d.port), timeout=60)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        s = socket.socket(socket.AF_UNIX)
        s.connect(d.socket_path)
        s.settimeout(60)
    s.sendall(data[:sent])
    while read > 0:
        part = s.recv(min(read, 512))
        assert part
        read -= len(part)
    s.close()


def trouble(d):
    """Lines of the log; a notice may be the store's own affair."""
    return [line for line in d.log.read_text(errors="replace").splitlines()
            if "level=notice" not in line]


def state(d):
    folder = pathlib.Path(f"/proc/{d.process.pid}")
    pages = int((folder / "statm").read_text().split()[1])
    return len(list((folder / "fd").iterdir())), pages * resource.getpagesize()


@pytest.fixture(scope="module")
def stormed(store):
    from conftest import Daemon
    d = Daemon(store, level="notice", daemon="loops = 2").start()
    d.storm_jwt = d.jwt()
    d.reader = d.http("")
    client = d.http(d.storm_jwt)
    assert client.call("account.create", name="Storm", slug="storm").ok
    client.close()
    yield d
    d.reader.close()
    code = d.stop()
    text = d.log.read_text(errors="replace")
    d.remove()
    assert code == 0, text[-2000:]


def alone(d):
    m = scrape(d.reader)
    return m.get("kaitend_connections") == 1 and m.get("kaitend_workers_waiting") == 0


@pytest.mark.parametrize("door, stage", [("http", s) for s in HTTP] + [("socket", s) for s in SOCKET])
def test_a_storm_leaves_nothing_behind(stormed, door, stage):
    d, make = stormed, (HTTP if door == "http" else SOCKET)[stage]
    for _ in range(4):  # what is made once is made now
        come_and_vanish(d, door, make)
    wait_for(lambda: alone(d), "the first to be gone", 60)
    fds, memory = state(d)
    said = trouble(d)
    for i in range(STORM):
        come_and_vanish(d, door, make)
        if i % 500 == 499:  # who has gone counts until what it asked for is done
            wait_for(lambda: alone(d), "these to be gone", 60)
    wait_for(lambda: alone(d), "all to be gone", 60)
    wait_for(lambda: state(d)[0] <= fds, "their descriptors to be closed", 60)
    assert state(d)[1] - memory < ROOM
    assert trouble(d) == said
    assert d.http(d.storm_jwt).call("whoami").ok
    client = d.rpc()
    assert client.call("whoami").ok
    client.close()


def test_all_stages_at_once(stormed):
    """In no order, through both doors; then a mint goes through as ever."""
    d, pairs = stormed, [("http", m) for m in HTTP.values()] + [("socket", m) for m in
                                                                 SOCKET.values()]
    fds, memory = state(d)
    said = trouble(d)
    for i in range(STORM * 5):
        come_and_vanish(d, *secrets.choice(pairs))
        if i % 500 == 499:
            wait_for(lambda: alone(d), "these to be gone", 60)
    wait_for(lambda: alone(d), "all to be gone", 60)
    wait_for(lambda: state(d)[0] <= fds, "their descriptors to be closed", 60)
    assert state(d)[1] - memory < ROOM
    assert trouble(d) == said
    client = d.http(d.storm_jwt)
    assert client.call("token.create", serviceAccountSlug="storm", name=secrets.token_hex(8),
                       scopes=[]).status == 201
    client.close()
