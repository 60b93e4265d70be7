# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A store that several daemons share, with a switch for everything that can go wrong with one.

Run as a program it serves one store on a Unix socket, for the plugin tests/plugin/storage-shared.c;
Shared is the test's hand on it. It keeps nothing when it ends: a "power cut" is a restore().
"""

import bisect
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import time

DONE, CONFLICT, RETRY = 0, 1, 2
ABSENT, PRESENT, AT = 1, 2, 3
SET, DELETE = 1, 2


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        value, = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def bytes(self):
        n = self.number("I")
        self.at += n
        return self.data[self.at - n:self.at]


def put(data):
    return struct.pack("<I", len(data)) + data


def put_row(key, value, revision):
    here = value is not None
    return put(key) + struct.pack("<B", here) + put(value if here else b"") \
        + struct.pack("<Q", revision)


def put_rows(rows):
    return struct.pack("<I", len(rows)) + b"".join(put_row(*row) for row in rows)


class Store:
    """The rows and what has become of them. Everything under one lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.rows, self.keys, self.log = {}, [], []
        self.revision, self.history, self.oldest = 0, 1, 0
        self.saved = None
        self.faults = {}
        self.listeners = []
        self.counts = {}

    def get(self, r):
        keys = [r.bytes() for _ in range(r.number("I"))]
        return put_rows([(k, *self.rows[k]) for k in keys if k in self.rows])

    def scan(self, r):
        start, end, backward, limit = r.bytes(), r.bytes(), r.number("B"), r.number("Q")
        if not end:
            end = bytes([start[0] + 1])
        keys = self.keys[bisect.bisect_left(self.keys, start):bisect.bisect_left(self.keys, end)]
        if backward:
            keys.reverse()
        return put_rows([(k, *self.rows[k]) for k in keys[:limit or None]])

    def write(self, kind, key, value):
        if kind == SET:
            if key not in self.rows:
                bisect.insort(self.keys, key)
            self.rows[key] = (value, self.revision)
        elif key in self.rows:
            del self.rows[key]
            del self.keys[bisect.bisect_left(self.keys, key)]
        self.log.append((self.revision, key))

    def holds(self, kind, key, revision):
        row = self.rows.get(key)
        return row is None if kind == ABSENT else \
            row is not None and (kind == PRESENT or row[1] == revision)

    def batch(self, r):
        conds = [(r.number("B"), r.bytes(), r.number("Q")) for _ in range(r.number("I"))]
        writes = [(r.number("B"), r.bytes(), r.bytes()) for _ in range(r.number("I"))]
        for i, cond in enumerate(conds):
            if not self.holds(*cond):
                return CONFLICT, i, 0
        self.revision += 1
        for write in writes:
            self.write(*write)
        return DONE, 0, self.revision

    def apply(self, r):
        outcomes = [self.batch(r) for _ in range(r.number("I"))]
        return b"".join(struct.pack("<BIQ", *o) for o in outcomes)

    def changes(self, r):
        since, history, at, spaces = r.number("B"), r.number("Q"), r.number("Q"), r.bytes()
        now = struct.pack("<QQ", self.history, self.revision)
        if not since:
            return DONE, now + put_rows([])
        if history != self.history or at < self.oldest:
            return CONFLICT, now + put_rows([])
        first = bisect.bisect_right(self.log, (at, b"\xff" * 600))
        keys = dict.fromkeys(k for _, k in self.log[first:] if k[0] in spaces)
        return DONE, now + put_rows([(k, *self.rows.get(k, (None, 0))) for k in keys])

    def control(self, order):
        name = order["do"]
        if name == "set":
            self.faults.update(order["faults"])
        elif name == "save":
            self.saved = dict(self.rows), list(self.keys), list(self.log)
        elif name == "restore":
            self.rows, self.keys, self.log = self.saved
            self.history += 1
        elif name == "forget":  # what happened before now, for whoever was away
            self.oldest = self.revision
        elif name == "rows":
            return [k.hex() for k in self.keys if k.startswith(order["prefix"].encode())]
        elif name == "drop":
            self.revision += 1
            for key in [k for k in self.keys if k.startswith(order["prefix"].encode())]:
                self.write(DELETE, key, None)
        return {"revision": self.revision, "history": self.history, "counts": self.counts}


class Handler(socketserver.BaseRequestHandler):
    def recv(self, n):
        data = b""
        while len(data) < n:
            more = self.request.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def send(self, status, data):
        self.request.sendall(struct.pack("<IB", len(data) + 1, status) + data)

    def handle(self):
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                n, = struct.unpack("<I", self.recv(4))
                message = self.recv(n)
                if not self.answer(chr(message[0]), Reader(message[1:])):
                    return

    def faulty(self, kind):
        """True: the connection ends here, as it does when a network does."""
        fault = self.server.store.faults.get(kind)
        if isinstance(fault, (int, float)) and not isinstance(fault, bool) and fault:
            time.sleep(fault)
        while fault == "hold" and self.server.store.faults.get("held"):
            time.sleep(0.005)
        return fault == "cut"

    def answer(self, kind, r):
        store = self.server.store
        if kind == "n":
            store.listeners.append(self.request)
            with contextlib.suppress(EOFError):
                self.recv(1)
            store.listeners.remove(self.request)
            return False
        with store.lock:
            store.counts[kind] = store.counts.get(kind, 0) + 1
        if self.faulty(kind):
            return False
        if store.faults.get(kind) == "fail":
            self.send(RETRY, b"")
            return True
        return self.work(store, kind, r)

    def work(self, store, kind, r):
        status, data = DONE, b""
        with store.lock:
            once = store.faults.pop("apply", None) if kind == "a" else None
            if once == "lost":
                return False
            if kind == "c":
                status, data = store.changes(r)
            elif kind == "j":
                data = json.dumps(store.control(json.loads(r.bytes()))).encode()
            elif kind in "gsa":
                data = {"g": store.get, "s": store.scan, "a": store.apply}[kind](r)
            listeners = list(store.listeners) if kind == "a" else []
        for listener in listeners if store.faults.get("notices", True) else []:
            with contextlib.suppress(OSError):
                listener.sendall(b"!")
        if once == "kept":
            return False
        self.send(status, data)
        return True


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


class Shared:
    """A store's server in a process of its own, and orders to it."""

    plugin = "storage-shared"

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="kaiten-shared."))
        self.path = str(self.dir / "store.sock")
        self.settings = f"socket = {self.path}"
        self.process = subprocess.Popen([sys.executable, __file__, self.path],
                                        stdout=subprocess.PIPE)
        assert self.process.stdout.readline()

    def order(self, do, **more):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.path)
            body = b"j" + put(json.dumps({"do": do, **more}).encode())
            s.sendall(put(body))
            data = b""
            while len(data) < 5 or len(data) < 4 + struct.unpack("<I", data[:4])[0]:
                more = s.recv(65536)
                assert more, "the store has hung up"
                data += more
        return json.loads(data[5:])

    def set(self, **faults):
        """Kinds: g get, s scan, a apply, c changes: "fail", "cut", "hold", or seconds of delay.
        held: as long as this is set, those that came to a "hold" stay there. apply: the next one is
        "kept" or "lost", and nobody hears which. notices: whether there are any."""
        self.order("set", faults=faults)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def remove(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def main():
    server = Server(sys.argv[1], Handler)
    server.store = Store()
    print("ready", flush=True)
    parent = os.getppid()

    def watch():  # a test that dies takes its store along
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    sys.setswitchinterval(0.0005)
    server.serve_forever()


if __name__ == "__main__":
    main()
