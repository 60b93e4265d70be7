# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Daemons on PostgreSQL: fixtures that make them, and what stands between them and their server."""

import contextlib
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid

import postgres
import pytest
from conftest import BUILD, KAITEND, PLUGIN_DIR, done, wait_for
from metrics import scrape
from postgres import ROLE

marks = [
    pytest.mark.skipif(not (BUILD / "plugins/.libs/storage-postgres.so").exists(),
                       reason="storage-postgres was not built"),
    pytest.mark.skipif(not postgres.programs(), reason=postgres.MISSING),
]


@pytest.fixture
def server():
    return postgres.shared()


@pytest.fixture
def own_server():
    """One that may be stopped."""
    server = postgres.Server().start().make_role()
    yield server
    server.remove()


@pytest.fixture
def make(own_daemon):
    """A daemon on a connection string, whose requests may take as long as its store."""
    return lambda connection, storage="timeout = 20s", daemon="request_timeout = 1m", **more: \
        own_daemon("storage-postgres", storage=f"connection = {connection}\n{storage}\n",
                   daemon=daemon, **more)


@pytest.fixture
def init(tmp_path):
    """Runs kaitend --init-store; returns its exit code and what it has logged."""
    def run(connection, init_connection, more=""):
        conf = tmp_path / "init.conf"
        conf.write_text(f"""[kaitend]
state_dir = {tmp_path}
plugin_dir = {PLUGIN_DIR}
storage = storage-postgres
[storage-postgres]
connection = {connection}
init_connection = {init_connection}
{more}
[socket]
path = {tmp_path}/rpc.sock
auth = auth-token
""")
        done = subprocess.run([KAITEND, "-c", conf, "--init-store"], capture_output=True, text=True,
                              timeout=120)
        return done.returncode, done.stderr
    return run


def refuses_to_start(daemon):
    daemon.spawn()
    assert daemon.process.wait(60) == 75
    return daemon.tail()


def kept(d, what):
    door = d.http("")
    value = scrape(door).get(f"kaitend_store_{what}")
    door.close()
    return value


def created(client, operation, **args):
    """Asked for again where the time-outs of a test are too short for the machine."""
    def attempt():
        answer = client.call(operation, **dict({"name": f"n {uuid.uuid4()}"}, **args))
        return answer if answer.status != 503 else None

    return done(client, wait_for(attempt, operation), 201)


@pytest.fixture
def works():
    def check(d):
        client = d.http()
        slug = created(client, "account.create", name="Build Farm")["slug"]
        token = created(client, "token.create", serviceAccountSlug=slug,
                        scopes=["read:instances"])["token"]
        assert d.http(token).call("token.validate").status == 200
        return slug, token
    return check


def connections(server, name):
    return server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kaitend'"
                      f" AND datname = '{name}'")


def mint(d, slug, name):
    return d.http().call("token.create", serviceAccountSlug=slug, name=name,
                         scopes=["read:instances"])


def tokens_in(server, name):
    return server.sql("SELECT count(*) FROM kaiten.row WHERE substr(key, 1, 1) = 't'", name)


class Proxy:
    """Between the daemon and the server. Once armed, it spoils the next change that comes along:
    answer: lets it happen and loses the answer; unreachable: and every other connection as well;
    request: loses the request; late: cuts the connection and lets the request through afterwards."""

    def __init__(self, server):
        self.server = server
        self.dir = tempfile.mkdtemp(prefix="kpx.")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{self.dir}/.s.PGSQL.5432")
        self.listener.listen(100)
        self.armed = None
        self.refusing = False
        self.open = []
        self.spoilt = threading.Event()
        self.late = threading.Event()  # a late request has been let through and answered
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            self.open.append(client)
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def passed_on(self, data):
        """What the server says, as the client gets it."""
        return data

    def passed_up(self, data):
        """What the client says, as the server gets it."""
        return data

    def serve(self, client):
        upstream = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), client, upstream:
            upstream.connect(f"{self.server.dir}/.s.PGSQL.5432")
            while True:
                ready, _, _ = select.select([client, upstream], [], [])
                for side in ready:
                    data = side.recv(1 << 16)
                    if not data:
                        return
                    if side is upstream:
                        client.sendall(self.passed_on(data))
                    elif self.armed and b"\0kaiten_apply\0" in data:
                        self.spoil(self.armed, client, upstream, data)
                        return
                    else:
                        upstream.sendall(self.passed_up(data))

    def spoil(self, how, client, upstream, data):
        self.armed = None
        if how in ("answer", "unreachable"):
            upstream.sendall(data)
            self.wait_for_answer(upstream)
        if how == "unreachable":
            self.refusing = True
            for other in self.open:  # before this one, or its loss is looked up over another
                with contextlib.suppress(OSError):
                    if other is not client:
                        other.shutdown(socket.SHUT_RDWR)
        client.close()
        self.spoilt.set()
        if how == "late":
            time.sleep(1)  # not to win a race: the look-up has long been answered then, or waits
            upstream.sendall(data)
            self.wait_for_answer(upstream)
            self.late.set()

    @staticmethod
    def wait_for_answer(upstream):
        seen = b""
        while not seen.endswith(b"Z\0\0\0\x05I"):
            seen += upstream.recv(1 << 16)

    def close(self):
        self.listener.close()
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture
def through_proxy(server, make):
    """(proxy, database, daemon) with one connection for writing."""
    made = []

    def start(storage="timeout = 20s"):
        proxy = Proxy(server)
        made.append(proxy)
        name = server.database()
        d = make(f"host={proxy.dir} dbname={name} user={ROLE}", f"{storage}\nconnections = 1").start()
        # One that is still being made would escape the proxy.
        wait_for(lambda: connections(server, name) == "7", "1 + 4 + 2 connections")
        return proxy, name, d
    yield start
    for proxy in made:
        proxy.close()
