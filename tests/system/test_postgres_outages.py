# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""storage-postgres while its server is away, stands still or begins anew."""

import concurrent.futures
import os
import signal
import time

import pytest
from conftest import PATIENCE, wait_for
from postgres import ROLE
from postgres_daemon import created, make, marks, mint, own_server, server, works

pytestmark = marks

__all__ = ["make", "own_server", "server", "works"]  # fixtures


@pytest.mark.parametrize("how", ["SIGQUIT", "SIGINT", "SIGSTOP"])
def test_while_the_server_is_away_changes_are_unavailable_and_then_done(own_server, make, works, how):
    d = make(own_server.connection(own_server.database()), "timeout = 1800ms").start()
    slug, _ = works(d)
    if how == "SIGSTOP":
        own_server.signal_all(signal.SIGSTOP)
    else:
        own_server.stop(getattr(signal, how))
    for i in range(8):  # one after the other: they do not pile up
        began = time.monotonic()
        assert mint(d, slug, f"away {i}").status == 503
        assert time.monotonic() - began < PATIENCE / 2
    if how == "SIGSTOP":
        own_server.signal_all(signal.SIGCONT)
    else:
        own_server.start()
    wait_for(lambda: mint(d, slug, "back").status in (201, 409), "the server")
    assert d.stop() == 0


def test_no_answer_waits_longer_than_request_timeout(own_server, make, works):
    """However long the store may take for a call, and wherever on its way a request needs it: to know
    the caller, to read, to write. What the machine is busy with cannot make a minute of it."""
    name = own_server.database()
    d = make(own_server.connection(name), "timeout = 60s",
             daemon="request_timeout = 1s\nmax_staleness = 1s").start()
    slug, token = works(d)
    gone = created(d.http(), "token.create", serviceAccountSlug=slug, scopes=[])
    own_server.sql("WITH d AS (DELETE FROM kaiten.row WHERE key IN (SELECT key FROM kaiten.row WHERE"
                   " substr(key, 1, 1) = 'h' ORDER BY revision DESC LIMIT 1) RETURNING key)"
                   " INSERT INTO kaiten.gone SELECT pg_current_xact_id(), key FROM d", name)
    stranger = gone["token"]  # has the right check characters, and nobody knows it
    asks = [(None, "token.create", dict(serviceAccountSlug=slug, name="away", scopes=[])),
            (None, "token.list", dict(serviceAccountSlug=slug)),
            (None, "account.create", dict(name="Away")),
            (token, "token.validate", {}),
            (stranger, "token.validate", {}),
            (stranger, "account.list", {})]
    wait_for(lambda: d.http(stranger).call("token.validate").status == 401, "it to be forgotten")
    own_server.signal_all(signal.SIGSTOP)

    def ask(what):
        credential, method, arguments = what
        door = d.http(credential) if credential else d.http()
        began = time.monotonic()
        status = door.call(method, **arguments).status
        return method, status, time.monotonic() - began

    try:
        time.sleep(1.5)  # until memory is too old to decide
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            for method, status, seconds in pool.map(ask, asks * 4):
                assert status == 503 and seconds < PATIENCE / 2, (method, status, seconds)
    finally:
        own_server.signal_all(signal.SIGCONT)
    wait_for(lambda: mint(d, slug, "back").status in (201, 409), "the server")
    assert d.stop() == 0


def test_after_a_crash_of_the_server_its_history_is_another_one(own_server):
    name = own_server.database()

    def history():
        answer = own_server.sql("SELECT history FROM kaiten.moment()", name, ROLE, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else None

    first = history()
    assert first and history() == first
    one = own_server.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    os.kill(int(one), signal.SIGKILL)  # the server goes on, everything in its memory begins anew
    second = wait_for(lambda: history() not in (None, first) and history(), "another history")
    own_server.stop(signal.SIGQUIT)
    own_server.start()
    third = history()
    assert third not in (None, first, second)
    assert history() == third


def test_connections_that_were_killed_are_not_noticed(server, make, works):
    name = server.database()
    d = make(server.connection(name)).start()
    slug, _ = works(d)
    for i in range(5):
        server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        assert mint(d, slug, f"token {i}").status == 201
    assert d.stop() == 0
