# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""SIGTERM under load: what was begun is answered, and what was not answered was never begun."""

import fcntl
import json
import os
import random
import signal
import socket
import struct
import termios
import threading
import time

import msgpack
import pytest

from conftest import PATIENCE, wait_for
from journal import LOST, Actor, Journal, Pool, check, read_lists, sweep
from wire import connect_to as connect

CYCLES = int(os.environ.get("KAITEN_DRAIN_CYCLES", "10"))
SEED = int(os.environ.get("KAITEN_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
DRAIN_SECONDS = 30.0  # a busy disk may take seconds for a sync, and then the end is 75


class OneLife(Actor):
    """Asks until its connection ends. What was not answered then must not have happened."""

    LOST_IS = "unread"

    def turn(self):
        super().turn()
        if self.door is None:
            self.over = True

    def run(self):
        self.over = False
        try:
            while not self.over and not self.pool.stop.is_set():
                self.turn()
        except BaseException as e:
            self.broken = e


class Newcomer(OneLife):
    """A fresh connection for each request, until nobody accepts."""

    def turn(self):
        super().turn()
        if self.door:
            self.door.close()
            self.door = None


class Pipeliner(threading.Thread):
    """Keeps many requests under way on one connection; subclasses know how they look."""

    DEPTH = 12

    def __init__(self, pool, name):
        super().__init__(name=name, daemon=True)
        self.pool, self.broken, self.count, self.waiting = pool, None, 0, {}
        self.answers = 0

    def run(self):
        try:
            self.open()
            while not self.pool.stop.is_set():
                self.round()
            return
        except LOST:
            pass
        except BaseException as e:
            self.broken = e
            return
        try:
            self.finish()
            assert not self.rest(), "half an answer"
        except BaseException as e:  # a reset is one as well: it could have destroyed an answer
            self.broken = e
        for n in self.waiting.values():
            self.pool.journal.end(n, "unread")

    def round(self):
        message = b""
        while len(self.waiting) < self.DEPTH:
            self.count += 1
            message += self.request(f"{self.name}-{self.count}")
        self.socket.sendall(message)
        for _ in range(self.DEPTH // 2):
            self.answers += 1
            self.answer()

    def finish(self):
        """A write may have failed before all answers were read."""
        try:
            while True:
                self.answer()
        except EOFError:
            pass

    def minted(self, key, ok, body):
        n = self.waiting.pop(key)
        if ok:
            self.pool.journal.end(n, "acknowledged", secret=body["token"], token=body["id"],
                                  answered=body["slug"])
            self.pool.secrets.append(body["token"])
        else:
            self.pool.journal.end(n, "refused", status=body["status"], code=body["code"])

    def attempt(self, slug):
        account = self.pool.accounts[0]
        self.waiting[slug] = self.pool.journal.attempt("mint", account=account, key=slug,
                                                       nonce=slug)
        return account


class SocketPipeliner(Pipeliner):
    """Mints among questions that may be overtaken."""

    def open(self):
        self.rpc = self.pool.daemon.rpc()
        self.socket = self.rpc.socket
        self.fed = 0
        self.rpc.unpacker = msgpack.Unpacker(raw=False)

    def request(self, slug):
        if self.count % 3:
            self.waiting[self.count] = self.pool.journal.attempt("whoami")
            return msgpack.packb([0, self.count, "whoami", [{}]])
        account = self.attempt(slug)
        return msgpack.packb([0, self.count, "token.create", [{
            "serviceAccountSlug": account, "name": slug, "slug": slug,
            "scopes": ["read:instances"]}]])

    def answer(self):
        for message in self.rpc.unpacker:
            return self.take(message)
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.fed += len(data)
        self.rpc.unpacker.feed(data)
        self.answer()

    def take(self, message):
        kind, ident, error, result = message
        assert kind == 1
        if ident in self.waiting:
            assert error is None, message
            self.pool.journal.end(self.waiting.pop(ident), "acknowledged")
        else:
            self.minted(f"{self.name}-{ident}", error is None, error or result)

    def rest(self):
        return self.fed - self.rpc.unpacker.tell()


class HttpPipeliner(Pipeliner):
    def open(self):
        self.socket = socket.create_connection(("127.0.0.1", self.pool.daemon.port),
                                               timeout=PATIENCE)
        self.data = b""

    def request(self, slug):
        account = self.attempt(slug)
        body = json.dumps({"name": slug, "slug": slug, "scopes": ["read:instances"]}).encode()
        return (f"POST /api/service-accounts/{account}/tokens HTTP/1.1\r\nHost: a\r\n"
                f"Authorization: Bearer {self.pool.jwt}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode() + body

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.data += data

    def answer(self):
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, _, rest = self.data.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        n = int(headers["Content-Length"])
        while len(rest) < n:
            self.more()
            rest = self.data.partition(b"\r\n\r\n")[2]
        self.data = rest[n:]
        status = int(head.split()[1])
        self.minted(next(iter(self.waiting)), status < 400, json.loads(rest[:n]))

    def rest(self):
        return self.data


HALVES = [
    ("http", b""),
    ("http", b"GET /healthz HT"),
    ("http", b"POST /service-accounts HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"),
    ("socket", b""),
    ("socket", msgpack.packb([0, 1, "kaiten.ping", [{}]])[:-4]),
]


def start_clients(pool):
    actors = [OneLife(pool, "http", f"h{pool.cycle}-{i}", SEED) for i in range(2)]
    actors += [OneLife(pool, "socket", f"s{pool.cycle}-{i}", SEED) for i in range(2)]
    actors += [Newcomer(pool, kind, f"n{pool.cycle}-{kind}", SEED) for kind in ("http", "socket")]
    actors += [SocketPipeliner(pool, f"ps{pool.cycle}-{i}") for i in range(3)]
    actors += [HttpPipeliner(pool, f"ph{pool.cycle}-{i}") for i in range(2)]
    for a in actors:
        a.start()
    return actors


def start_slow(d):
    slow = []
    for kind, half in HALVES:
        slow.append(connect(d, kind))
        slow[-1].sendall(half)
    return slow


def end_slow(slow):
    for s in slow:
        try:
            while s.recv(65536):
                pass
        except ConnectionResetError:
            pass  # there was no answer that it could destroy
        s.close()


def busy(actors):
    return all(getattr(a, "answers", 1) for a in actors)


def test_every_request_is_answered_or_was_never_begun(own_daemon):
    d = own_daemon("storage-bdb", level="info", daemon=f"drain_timeout = {DRAIN_SECONDS:.0f}s")
    journal, chance, ends, actors = Journal(), random.Random(SEED), [], []
    d.start()
    accounts = [d.rpc().call("account.create", name="drain").body["slug"]]
    for cycle in range(CYCLES):
        pool = Pool(d, journal, accounts)
        pool.cycle = cycle
        pool.up.set()
        slow, actors = start_slow(d), start_clients(pool)
        wait_for(lambda: busy(actors), "every client to be under way")
        time.sleep(chance.uniform(0, 0.15))  # the instant of the signal is what is random
        begun = time.monotonic()
        d.process.send_signal(signal.SIGTERM)
        code = d.process.wait(PATIENCE)
        ends.append(time.monotonic() - begun)
        assert code == 0, d.tail()
        end_slow(slow)
        for a in actors:
            a.join(PATIENCE)
            assert not a.is_alive(), a.name + " hangs"
            if a.broken:
                raise a.broken
        d.start()
    rpc = d.rpc()
    read_lists(rpc, journal, accounts)
    sweep(rpc, journal, [line["secret"] for line in journal.lines
                         if line["line"] == "acknowledged" and "secret" in line])
    found = check(journal.lines)
    print(f"figures  SIGTERM: {CYCLES} ends, {journal.count('mint')} mints, {journal.count()} "
          f"answers, {journal.count(line='unread')} unread, {len(found)} violations, over after "
          f"{sum(ends) / len(ends):.3f} s on average, {max(ends):.3f} s at most; seed {SEED}")
    assert found == []
    assert journal.count("mint") > CYCLES
    assert max(ends) < DRAIN_SECONDS + PATIENCE / 2


def stuck_client(d):
    """Asks for much and reads nothing: its answers fill the kernel's buffers and ours. The daemon
    has one loop, so whoever else is answered knows that it has gone round."""
    rpc, other = d.rpc(), d.rpc()
    message = b"".join(msgpack.packb([0, i, "kaiten.describe", [{}]]) for i in range(100))
    rpc.socket.setblocking(False)
    seen, sent = [-1], 0

    def stuck():
        """It reads nothing more, and what it sends does not fit."""
        nonlocal sent
        try:
            sent = (sent + rpc.socket.send(message[sent:])) % len(message)
            seen.append(-1)
        except BlockingIOError:
            unread = struct.unpack("i", fcntl.ioctl(rpc.socket, termios.FIONREAD, b"\0" * 4))[0]
            seen.append(unread)
        assert other.call("kaiten.ping").ok
        return len(set(seen[-50:])) == 1 and seen[-1] > 65536

    wait_for(stuck, "the daemon to be stuck")
    other.close()
    return rpc


def refused(d):
    try:
        connect(d, "socket").close()
        return False
    except OSError:
        return True


def test_the_second_signal_ends_at_once(own_daemon):
    d = own_daemon("storage-memory", daemon="drain_timeout = 10m\nloops = 1",
                   sock="write_timeout = 10m")
    d.start()
    client = stuck_client(d)
    d.process.send_signal(signal.SIGTERM)
    wait_for(lambda: refused(d), "the listener to close")
    assert d.process.poll() is None
    d.process.send_signal(signal.SIGTERM)
    assert d.process.wait(PATIENCE) == 0
    client.close()


def test_the_time_to_drain_is_bounded(own_daemon):
    d = own_daemon("storage-memory", daemon="drain_timeout = 500ms\nloops = 1",
                   sock="write_timeout = 10m")
    d.start()
    client = stuck_client(d)
    begun = time.monotonic()
    assert d.stop() == 0
    assert 0.4 < time.monotonic() - begun < PATIENCE
    client.close()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_nothing_to_drain_ends_at_once(own_daemon, sig):
    d = own_daemon("storage-memory", daemon="drain_timeout = 10m").start()
    d.process.send_signal(sig)
    assert d.process.wait(PATIENCE) == 0
    assert not os.path.exists(d.socket_path)


@pytest.mark.parametrize("drain", ["0", "5s"])
def test_changes_in_conflict_end_with_the_daemon(own_daemon, drain):
    """Changes that have to be tried again are under way when nobody waits for them any more."""
    d = own_daemon("storage-memory", daemon=f"drain_timeout = {drain}", level="error")
    for _ in range(5):
        d.start()
        slug = d.rpc().call("account.create", name="Contended").body["slug"]
        clients = [d.rpc() for _ in range(64)]
        for i, c in enumerate(clients):
            c.socket.sendall(b"".join(
                msgpack.packb([0, k, "account.update", [{"serviceAccountSlug": slug,
                                                         "name": f"{i} {k}"}]])
                for k in range(50)))
        clients[0].receive()
        d.process.send_signal(signal.SIGTERM)
        d.process.send_signal(signal.SIGTERM)
        assert d.process.wait(PATIENCE) == 0, d.tail()
        for c in clients:
            c.close()
