# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""storage-postgres and which server is believed, and what it says it has done."""

import contextlib
import socket
import struct
import threading
import time

import pytest

import postgres
from conftest import wait_for
from postgres import ROLE
from postgres_daemon import Proxy, connections, make, marks, server, tokens_in, works
from test_postgres_answers import standbys

pytestmark = marks

__all__ = ["make", "server", "works"]  # fixtures


class Switch(Proxy):
    """Passes new connections on to the server that is there now, and leaves the others alone."""

    following = None  # what the daemon asks for changes over

    def serve(self, client):
        threading.current_thread().client = client
        super().serve(client)

    def passed_up(self, data):
        if b"kaiten_news\0SELECT" in data:
            self.following = threading.current_thread().client
        return data

    def cut(self):
        self.following.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def durable():
    """Makes servers that keep what they have committed."""
    with contextlib.ExitStack() as made:
        def make_one(**kwargs):
            s = postgres.Server(**(kwargs or dict(durable=True)))
            made.callback(s.remove)
            return s.start()
        yield make_one


@pytest.fixture
def switch():
    made = []

    def to(server):
        made.append(Switch(server))
        return made[-1]
    yield to
    for proxy in made:
        proxy.close()


def validated(d, token):
    return d.http(token).call("token.validate").status


def forget_tokens(server, name):
    """As if they had been deleted by a daemon: they are gone, and whoever asks is told so."""
    server.sql("WITH d AS (DELETE FROM kaiten.row WHERE substr(key, 1, 1) = 'h' RETURNING key)"
               " INSERT INTO kaiten.gone SELECT pg_current_xact_id(), key FROM d", name)


def test_connections_of_one_daemon_do_not_lead_to_two_servers(durable, switch, make, works):
    """What is in between leads to a standby that took over, and old connections to a server that
    nobody has stopped. What the new one says has changed is not looked up in the old one."""
    old = durable()
    name = old.database()
    new = durable(copy_of=old)
    proxy = switch(old)
    d = make(f"host={proxy.dir} dbname={name} user={ROLE}").start()
    slug, token = works(d)
    wait_for(lambda: connections(old, name) == "14", "8 + 4 + 2 connections")
    at = old.sql("SELECT pg_current_wal_lsn()")
    wait_for(lambda: new.sql(f"SELECT pg_last_wal_replay_lsn() >= '{at}'") == "t", "the standby")
    new.run("pg_ctl", "promote", "-w", "-D", new.data)
    forget_tokens(new, name)
    assert validated(d, token) == 200
    proxy.server = new
    proxy.cut()
    wait_for(lambda: validated(d, token) == 401, "what the new server says to be believed")
    minted = d.http().call("token.create", serviceAccountSlug=slug, name="after", scopes=[])
    assert minted.status == 201 and validated(d, minted.body["token"]) == 200
    assert tokens_in(new, name) == "2" and tokens_in(old, name) == "1"
    assert connections(old, name) == "0"
    assert d.stop() == 0


def test_nothing_is_read_from_a_server_that_takes_no_writes_any_more(durable, switch, make, works):
    """It may have a successor. Nobody can ask it for changes, and the other connections are still
    there: what memory does not decide any more they do not, either."""
    old = durable()
    name = old.database()
    proxy = switch(old)
    d = make(f"host={proxy.dir} dbname={name} user={ROLE}",
             daemon="max_staleness = 1s\nlast_used_interval = 1h").start()
    _, token = works(d)
    wait_for(lambda: connections(old, name) == "14", "8 + 4 + 2 connections")
    old.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    proxy.refusing = True
    proxy.cut()
    old.sql("SELECT pg_reload_conf()")
    wait_for(lambda: "event=follow.failed" in d.log.read_text(), "it to be missed")
    began = time.monotonic()
    while time.monotonic() < began + 3:
        age = time.monotonic() - began
        assert validated(d, token) == 503 or age <= 1
    old.sql("ALTER SYSTEM RESET default_transaction_read_only")
    old.sql("SELECT pg_reload_conf()")
    proxy.refusing = False
    wait_for(lambda: validated(d, token) == 200, "the server to take writes again")
    assert d.stop() == 0


def test_a_daemon_of_the_format_before_goes_on_and_looks_up(server, make, works):
    """A newer format may take away what it asks for changes with. It says so, decides nothing from
    memory any more, and goes on."""
    name = server.database()
    d = make(server.connection(name), daemon="max_staleness = 1s").start()
    slug, token = works(d)
    server.sql("DROP FUNCTION kaiten.news", name)
    assert d.http().call("token.create", serviceAccountSlug=slug, name="new", scopes=[]).ok
    wait_for(lambda: d.http("").request("GET", "/readyz").body["stalenessMs"] > 1000,
             "its view to be too old")
    assert "event=follow.failed" in d.log.read_text()
    assert validated(d, token) == 200
    forget_tokens(server, name)
    assert validated(d, token) == 401
    assert d.stop() == 0


# --- what was committed, and where ----------------------------------------------------------------


def test_a_commit_that_was_made_not_to_wait_is_not_acknowledged(durable, make, works):
    """By an administrator who cancels what waits for a synchronous standby: the server says that it
    has committed, and warns that this is so on this machine alone."""
    alone = durable()
    name = alone.database()
    d = make(alone.connection(name), "timeout = 3s\nconnections = 1").start()
    slug, _ = works(d)
    standbys(alone, "nobody")
    with contextlib.closing(d.rpc()) as client:
        client.send("token.create", dict(serviceAccountSlug=slug, name="lonely", scopes=[]))
        wait_for(lambda: alone.sql("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
                                   " WHERE wait_event = 'SyncRep'") != "0", "a commit that waits")
        assert client.receive()[2]["status"] == 503
    assert tokens_in(alone, name) == "2"
    standbys(alone, "")
    wait_for(lambda: d.http().call("token.create", serviceAccountSlug=slug, name="after",
                                   scopes=[]).ok, "the standby not to be missed")
    assert d.stop() == 0


class Pooler(Proxy):
    """Loses the server's answer and says so itself, in fewer words than a server has for it; its own
    session with the daemon goes on."""

    def spoil(self, how, client, upstream, data):
        self.armed = None
        upstream.sendall(data)
        self.wait_for_answer(upstream)
        fields = b"S%s\0C08006\0Mserver conn crashed?\0\0" % how.encode()
        client.sendall(b"E" + struct.pack("!I", 4 + len(fields)) + fields + b"Z\0\0\0\5I")
        self.spoilt.set()


@pytest.mark.parametrize("severity", ["FATAL", "ERROR"])
def test_what_a_pooler_has_lost_is_looked_up(server, make, works, severity):
    proxy, name = Pooler(server), server.database()
    d = make(f"host={proxy.dir} dbname={name} user={ROLE}", "timeout = 20s\nconnections = 1").start()
    slug, _ = works(d)
    proxy.armed = severity
    answer = d.http().call("token.create", serviceAccountSlug=slug, name="once", scopes=[])
    assert proxy.spoilt.is_set()
    assert answer.status == 201 and validated(d, answer.body["token"]) == 200
    assert tokens_in(server, name) == "2"
    assert d.stop() == 0
    proxy.close()
