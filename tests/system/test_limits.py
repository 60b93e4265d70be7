# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Garbage, half messages, false sizes, slow peers, and what runs out: descriptors, connections,
the queue, the disk."""

import json
import os
import pathlib
import random
import resource
import socket
import subprocess
import time

import msgpack
import pytest

from conftest import KAITEND, PATIENCE, SANITIZED, STORES, Daemon, prompt, wait_for
from wire import connect_to as connect, read_to_the_end as read_all

SEED = int(os.environ.get("KAITEN_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
MIB = 1 << 20
ROOM = 16 if SANITIZED else 1


def rss(d):
    pages = int(pathlib.Path(f"/proc/{d.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def cpu_seconds(d):
    fields = pathlib.Path(f"/proc/{d.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def assert_serves(d):
    assert d.http().call("whoami").ok
    rpc = d.rpc()
    assert rpc.call("kaiten.ping").ok
    rpc.close()


PING = msgpack.packb([0, 1, "kaiten.ping", [{}]])


def is_closed(s):
    """Whether the daemon closes, by itself; returns what it said before."""
    s.settimeout(PATIENCE)
    try:
        return read_all(s)
    except TimeoutError:
        return None


# --- garbage ------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["http", "socket"])
def test_garbage_is_survived(daemon, kind):
    chance = random.Random(SEED)
    for i in range(300):
        with connect(daemon, kind) as s:
            try:
                s.sendall(chance.randbytes(chance.choice((1, 10, 100, 5000))))
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            read_all(s)
    assert_serves(daemon)


MESSAGES = [
    [0, 7, "token.create", [{"serviceAccountSlug": "none", "name": "n", "scopes": None}, {"a": 1}]],
    [0, 7, "token.verifyMany", [{"tokens": ["ksh_" + "A" * 32, "x"]}]],
    [0, 1 << 63, "kaiten.hello", [{"errors": "problem"}]],
]


def test_a_message_that_ends_early_has_no_answer(daemon):
    """Cut at every byte; each whole one has exactly one answer."""
    for message in map(msgpack.packb, MESSAGES):
        for n in range(1, len(message) + 1):
            with connect(daemon, "socket") as s:
                s.sendall(message[:n])
                s.shutdown(socket.SHUT_WR)
                assert (read_all(s) != b"") == (n == len(message)), message[:n]


def test_damaged_messages_are_survived(daemon):
    chance = random.Random(SEED)
    for i in range(300):
        message = bytearray(msgpack.packb(chance.choice(MESSAGES)))
        for _ in range(chance.randrange(1, 4)):
            message[chance.randrange(len(message))] = chance.randrange(256)
        with connect(daemon, "socket") as s:
            s.sendall(message)
            s.shutdown(socket.SHUT_WR)
            read_all(s)
    assert_serves(daemon)


# --- sizes --------------------------------------------------------------------------------------

HEAD = b"\x94\x00\x01\xacaccount.list"  # a request whose params follow
FALSE_SIZES = {
    "array32": HEAD + b"\xdd\xff\xff\xff\xff",
    "map32": HEAD + b"\x91\xdf\xff\xff\xff\xff",
    "map32 of 2^31": HEAD + b"\x91\xdf\x80\x00\x00\x00",
    "str32": HEAD + b"\x91\x81\xdb\xff\xff\xff\xff",
    "bin32": HEAD + b"\x91\x81\xa1a\xc6\xff\xff\xff\xff",
    "ext32": HEAD + b"\x91\x81\xa1a\xc9\xff\xff\xff\xff\x01",
    "method str32": b"\x94\x00\x01\xdb\xff\xff\xff\xff",
    "method array32": b"\x94\x00\x01\xdd\xff\xff\xff\xff",
    "id map32": b"\x94\x00\xdf\xff\xff\xff\xff",
    "envelope array32": b"\xdd\xff\xff\xff\xff\x00",
    "nested array16": HEAD + b"\xdc\x0f\xff" * 20,
    "deep arrays": HEAD + b"\x91" * 200,
    "deep maps": HEAD + b"\x91" + b"\x81\xa1a" * 200,
    "never used byte": HEAD + b"\x91\xc1",
    "map as envelope": b"\x84\x00\x01\x02\x03\x04\x05\x06\x07",
    "str as envelope": b"\xdb\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", FALSE_SIZES)
def test_a_false_size_is_refused_before_memory_is_taken(daemon, name):
    before = rss(daemon)
    for _ in range(20):
        with connect(daemon, "socket") as s:
            s.sendall(FALSE_SIZES[name])
            s.shutdown(socket.SHUT_WR)
            assert read_all(s) == b""
    assert rss(daemon) - before < 16 * MIB * ROOM
    assert_serves(daemon)


@pytest.mark.parametrize("name", [n for n in FALSE_SIZES if n != "str as envelope"])
def test_a_false_size_is_not_waited_for(daemon, name):
    """The header alone is enough to close; nothing more has to come."""
    with connect(daemon, "socket") as s:
        s.sendall(FALSE_SIZES[name])
        assert is_closed(s) == b""


def padded(size):
    """A whole message of that many bytes."""
    empty = len(msgpack.packb([0, 1, "kaiten.ping", [{"pad": "x" * 60000}]])) - 60000
    return msgpack.packb([0, 1, "kaiten.ping", [{"pad": "x" * (size - empty)}]])


def nested(depth):
    """A whole message with so many containers around its innermost value."""
    value = 1
    for _ in range(depth - 3):
        value = [value]
    return msgpack.packb([0, 1, "kaiten.ping", [{"pad": value}]])


def counted(n):
    """A whole message of n values: itself, its four, the map, key and value, the rest."""
    return msgpack.packb([0, 1, "kaiten.ping", [{"pad": [1] * (n - 8)}]])


def test_the_limits_that_hello_tells_are_exact(daemon):
    rpc = daemon.rpc()
    limits = rpc.call("kaiten.hello", errors="problem").body["limits"]
    assert limits == {"message": 65536, "depth": 8, "elements": 4096}
    for make, most in ((padded, limits["message"]), (nested, limits["depth"]),
                       (counted, limits["elements"])):
        for n, served in ((most - 1, True), (most, True), (most + 1, False)):
            with connect(daemon, "socket") as s:
                s.sendall(make(n))
                s.shutdown(socket.SHUT_WR)
                assert (read_all(s) != b"") == served, (make.__name__, n)
    assert len(padded(65536)) == 65536


def test_many_half_messages_take_bounded_memory(own_daemon):
    d = own_daemon("storage-memory", level="notice").start()
    half = padded(65536)[:60000]
    before = rss(d)
    held = [connect(d, "socket") for _ in range(200)]
    for s in held:
        s.sendall(half)
    rpc = d.rpc()
    assert rpc.call("kaiten.ping").ok  # the loops have read what was sent before
    assert rss(d) - before < 200 * 128 * 1024 * ROOM
    for s in held:
        s.close()
    assert_serves(d)


def test_heads_and_bodies_without_end_take_bounded_memory(own_daemon):
    d = own_daemon("storage-memory", level="notice").start()
    before = rss(d)
    begin = b"POST /service-accounts HTTP/1.1\r\nHost: a\r\n"
    endless = {
        431: (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ", b"x" * 65536),
        414: (b"GET /", b"x" * 65536),
        413: (begin + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        400: (begin + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
    }
    for status, (first, more) in endless.items():
        with connect(d, "http") as s:
            s.sendall(first)
            try:
                for _ in range(1024):  # 64 MiB, if nobody stops us
                    s.sendall(more)
                pytest.fail(f"64 MiB were taken instead of {status}")
            except OSError:
                pass
        assert rss(d) - before < 8 * MIB * ROOM, status
    assert_serves(d)


# --- the wrong direction, ids, pipelines --------------------------------------------------------

@pytest.mark.parametrize("message", [
    [1, 1, None, {}],                   # a response, and nothing was asked
    [1, 1, "x" * 300, b"y" * 5000],     # the same with something to be unpacked
    [3, 1, "kaiten.ping", [{}]],
    [0, 1, "kaiten.ping"],
    [0, 1, "kaiten.ping", [{}], 5],
    [2, "kaiten.event"],
    [0, -1, "kaiten.ping", [{}]],
    [0, "1", "kaiten.ping", [{}]],
    [0, None, "kaiten.ping", [{}]],
    ["0", 1, "kaiten.ping", [{}]],
    [[0], 1, "kaiten.ping", [{}]],
], ids=repr)
def test_what_is_no_request_is_never_answered(daemon, message):
    with connect(daemon, "socket") as s:
        s.sendall(msgpack.packb(message) + PING)
        assert is_closed(s) == b""


def test_notifications_are_heard_and_not_answered(daemon):
    with connect(daemon, "socket") as s:
        s.sendall(msgpack.packb([2, "kaiten.event", [{"a": 1}]]) + msgpack.packb([2, "x", []])
                  + PING)
        s.shutdown(socket.SHUT_WR)
        assert msgpack.unpackb(read_all(s))[:3] == [1, 1, None]


def test_an_id_in_flight_cannot_be_used_again(daemon):
    rpc = daemon.rpc()
    request = msgpack.packb([0, 7, "account.list", [{}]])
    rpc.socket.sendall(request + request)
    first, second = rpc.receive(), rpc.receive()
    assert (first[1], second[1]) == (7, 7)
    errors = [m[2] for m in (first, second) if m[2]]
    assert len(errors) == 1 and errors[0]["status"] == 400
    rpc.socket.sendall(request)
    assert rpc.receive()[2] is None, "an id is free again when it was answered"


def test_ten_thousand_pipelined_requests_are_answered_in_bounded_memory(daemon):
    before = rss(daemon)
    rpc = daemon.rpc()
    message = b"".join(msgpack.packb([0, i, "whoami", [{}]]) for i in range(10000))
    sent, seen = 0, 0
    rpc.socket.setblocking(False)
    while seen < 10000:
        if sent < len(message):
            try:
                sent += rpc.socket.send(message[sent:sent + 65536])
            except BlockingIOError:
                pass
        try:
            rpc.unpacker.feed(rpc.socket.recv(65536))
        except BlockingIOError:
            continue
        seen += sum(1 for reply in rpc.unpacker if reply[2] is None)
    assert rss(daemon) - before < 8 * MIB * ROOM


# --- deadlines ----------------------------------------------------------------------------------

SHORT = "\n".join(f"{phase}_timeout = {ms}ms" for phase, ms in
                  (("first_byte", 500), ("head", 500), ("write", 500), ("idle", 500)))


@pytest.fixture(scope="module")
def short():
    d = Daemon("storage-memory", sock=SHORT, http=SHORT + "\nbody_timeout = 500ms",
               level="info").start()
    yield d
    code = d.stop()
    d.remove()
    assert code == 0


SLOW = {  # what comes at once, what comes byte by byte; test_http_rules_life.py has the other door
    "nothing": (b"", b""),
    "half a message": (PING[:-3], b""),
    "a message by the byte": (b"", padded(60000)),
    "idle after an answer": (PING, b""),
}


@pytest.mark.parametrize("name", SLOW)
def test_slow_peers_are_closed_at_their_deadline(short, name):
    first, rest = SLOW[name]

    def begin():
        s = connect(short, "socket", 0.02)
        s.sendall(first)
        return s

    with prompt(begin, 0.2) as s:
        begun = time.monotonic()
        at, over = 0, False
        while not over:
            try:
                over = not s.recv(65536)
            except TimeoutError:
                try:
                    s.sendall(rest[at:at + 1])
                    at += 1
                except OSError:
                    over = True
            except ConnectionResetError:
                over = True
            took = time.monotonic() - begun
            assert took < PATIENCE, "still open"
        assert took > 0.2


@pytest.mark.parametrize("kind", ["http", "socket"])
def test_a_peer_that_reads_nothing_is_closed(short, kind):
    ask = (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 100 if kind == "http"
           else msgpack.packb([0, 1, "kaiten.describe", [{}]]) * 100)
    before = rss(short)
    with connect(short, kind, 0.1) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deadline = time.monotonic() + PATIENCE
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < deadline:
                try:
                    s.sendall(ask)
                except TimeoutError:
                    pass
    assert rss(short) - before < 8 * MIB * ROOM
    prompt(lambda: assert_serves(short), 0.4)


def test_what_is_at_work_has_no_idle_deadline(short):
    """A connection that asks often enough lives longer than any of its deadlines."""
    def life():
        rpc = prompt(short.rpc, 0.4)
        end, asked = time.monotonic() + 1.2, time.monotonic()
        while time.monotonic() < end:
            try:
                assert rpc.call("kaiten.ping").ok
            except (EOFError, OSError):
                if time.monotonic() - asked < 0.4:
                    raise
                return False  # this process waited for too long for its turn
            asked = time.monotonic()
            time.sleep(0.1)
        rpc.close()
        return True

    wait_for(life, "a life without a pause")


# --- what runs out ------------------------------------------------------------------------------

def served(d, kind, token):
    """A connection that a known caller has spoken on, or None."""
    s = connect(d, kind)
    if probe(s, kind, b"Authorization: Bearer " + token + b"\r\n"):
        return s
    s.close()
    return None


def test_connections_have_a_limit_and_come_back(own_daemon):
    limit = "max_connections = 20"
    d = own_daemon("storage-memory", sock=limit, http=limit, level="info").start()
    token = d.jwt().encode()
    begun = time.monotonic()
    for kind in ("socket", "http"):
        wait_for(lambda: not is_full(d, kind), "the first connections to be gone")
        # The probe's own connection counts until the daemon has seen its end.
        held = [wait_for(lambda: served(d, kind, token), "a place within the limit") for _ in range(20)]
        assert is_full(d, kind)
        assert all(probe(s, kind) for s in held), "those inside are served"
        held.pop().close()
        wait_for(lambda: not is_full(d, kind), "the place to be free")
        for s in held:
            s.close()
    # A line in ten seconds, at each door.
    assert d.log.read_text().count("listen.full") <= 2 * (1 + (time.monotonic() - begun) / 10)


def probe(s, kind, headers=b""):
    ask = PING
    if kind == "http":
        path = b"/whoami" if headers else b"/healthz"
        ask = b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n"
    try:
        s.sendall(ask)
        return s.recv(65536) != b""
    except OSError:
        return False


def is_full(d, kind):
    with connect(d, kind) as s:
        return not probe(s, kind)


def test_without_descriptors_it_waits_and_serves_who_is_inside(own_daemon):
    d = own_daemon("storage-memory", daemon="loops = 2", level="info")

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    d.start(preexec_fn=few)
    inside, rpc = d.http(), d.rpc()
    inside.retry = False
    assert inside.call("whoami").ok
    held = []
    for _ in range(100):
        for kind in ("http", "socket"):
            held.append(connect(d, kind))
    # Those that find a place are let in first.
    wait_for(lambda: "listen.accept" in d.log.read_text(), "the descriptors to run out")
    lines, cpu, begun = d.log.read_text().count("\n"), cpu_seconds(d), time.monotonic()
    while time.monotonic() - begun < 1.5:
        time.sleep(0.05)
    took = time.monotonic() - begun
    used, said = (cpu_seconds(d) - cpu) / took, d.log.read_text().count("\n") - lines
    assert used < 0.20, f"{used:.0%} of a core while it waits"
    assert said <= 3 + took / 5, d.tail()
    assert inside.call("whoami").ok and rpc.call("whoami").ok
    for s in held:
        s.close()
    wait_for(lambda: not is_full(d, "http") and not is_full(d, "socket"), "descriptors")
    assert d.stop() == 0


def test_a_full_queue_is_503_and_says_busy(own_daemon):
    d = own_daemon("storage-bdb" if "storage-bdb" in STORES else "storage-memory",
                   daemon="workers = 1\nqueue_max = 2", level="notice").start()
    rpc = d.rpc()
    slug = rpc.call("account.create", name="q").body["slug"]
    clients = [d.rpc() for _ in range(10)]
    message = [msgpack.packb([0, i, "account.get", [{"serviceAccountSlug": slug}]])
               for i in range(50)]
    for c in clients:
        c.socket.sendall(b"".join(message))
    replies = [c.receive() for c in clients for _ in range(50)]
    busy = [r[2] for r in replies if r[2]]
    assert 0 < len(busy) < len(replies)
    assert all(e["status"] == 503 and e["code"] == "Server.Busy" for e in busy)
    assert rpc.call("account.get", serviceAccountSlug=slug).ok
    http = [connect(d, "http") for _ in range(30)]
    ask = (f"GET /service-accounts/{slug} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {d.jwt()}"
           "\r\n\r\n").encode()
    for s in http:
        s.sendall(ask)
    statuses = {s.recv(65536)[9:12] for s in http}
    assert statuses <= {b"200", b"503"} and b"200" in statuses


# --- the disk -----------------------------------------------------------------------------------

@pytest.fixture
def small_disk(own_daemon):
    """A daemon whose store lies on a file system of its own, with room for a few files."""
    if os.geteuid() != 0 or "storage-bdb" not in STORES:
        pytest.skip("only root can mount a small disk for storage-bdb")
    d = own_daemon("storage-bdb", storage="log_file_size = 1M\ncheckpoint_log = 1M\n"
                                          "cache_size = 4M", level="info")
    store = d.state / "db"
    store.mkdir(mode=0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "none", store],
                      capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield d
    if d.process and d.process.poll() is None:
        d.kill()
    subprocess.run(["umount", "-l", store], check=True)


def test_a_full_disk_refuses_and_loses_nothing(small_disk):
    d = small_disk.start()
    rpc = d.rpc()
    slug = rpc.call("account.create", name="disk").body["slug"]
    minted, refusal = [], None
    other = d.state / "db" / "other"
    for i in range(20000):
        if i == 20:
            fill(other, 256 * 1024)
        answer = rpc.call("token.create", serviceAccountSlug=slug, name=f"t{i}",
                          scopes=["read:instances"])
        if not answer.ok:
            refusal = answer
            break
        minted.append(answer.body)
    assert refusal is not None and refusal.status == 503, refusal
    assert refusal.code == "Storage.Full"
    assert d.process.poll() is None, "a full disk is no reason to end"
    assert verdicts(rpc, minted) == {True}
    assert rpc.call("kaiten.ping").ok and d.http().call("token.validate").status == 401
    assert json.dumps(refusal.body).count("ksh_") == 0

    more = d.state / "db" / "more"
    fill(more, 0)
    revoked, minted = minted[:2], minted[2:]
    assert rpc.call("token.revoke", serviceAccountSlug=slug, tokenSlug=revoked[0]["slug"]).ok
    d.kill()
    d.spawn()  # it serves, and says that it is not ready for everything
    assert d.wait_filled().status == 503
    rpc = d.rpc()
    assert verdicts(rpc, minted) == {True} and verdicts(rpc, revoked[:1]) == {False}
    assert rpc.call("token.revoke", serviceAccountSlug=slug, tokenSlug=revoked[1]["slug"]).ok
    refusal = rpc.call("token.create", serviceAccountSlug=slug, name="full", scopes=[])
    assert refusal.status == 503 and refusal.code == "Storage.Full", refusal

    other.unlink()
    more.unlink()
    wait_for(lambda: rpc.call("token.create", serviceAccountSlug=slug, name="again", scopes=[]).ok,
             "the disk to be seen free")
    assert verdicts(rpc, minted) == {True} and verdicts(rpc, revoked) == {False}
    listed = len(all_tokens(rpc, slug))
    assert listed == len(minted) + len(revoked) + 1
    assert d.stop() == 0


def fill(path, leave):
    """Takes all space but so many bytes."""
    with open(path, "wb") as f:
        while True:
            st = os.statvfs(path.parent)
            free = st.f_bavail * st.f_frsize - leave
            if free <= 0:
                return
            f.write(b"\0" * min(free, MIB))
            f.flush()


def verdicts(rpc, minted):
    found = set()
    for i in range(0, len(minted), 500):
        tokens = [t["token"] for t in minted[i:i + 500]]
        answer = rpc.call("token.verifyMany", tokens=tokens)
        found |= {r["valid"] for r in answer.body["results"]}
    return found


def all_tokens(rpc, slug):
    found, more = [], {}
    while True:
        page = rpc.call("token.list", serviceAccountSlug=slug, limit=200, **more).body
        found += page["items"]
        if not page["hasMore"]:
            return found
        more = {"cursor": page["nextCursor"]}


def test_a_store_in_use_and_a_bad_folder_are_told(own_daemon, tmp_path):
    """The second daemon says who holds what; a folder that others can enter is refused."""
    d = own_daemon("storage-bdb" if "storage-bdb" in STORES else "storage-memory").start()
    second = subprocess.run([KAITEND, "-c", d.conf], capture_output=True, text=True, timeout=PATIENCE)
    assert second.returncode != 0 and second.stderr.strip(), second
    assert str(d.process.pid) in second.stderr or "another" in second.stderr, second.stderr
    assert_serves(d)
