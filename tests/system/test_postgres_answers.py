# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""storage-postgres when an answer is late, lost, or less durable than it should be."""

import concurrent.futures
import re
import select
import time
import uuid

import postgres
import pytest
from conftest import PATIENCE, wait_for
from metrics import scrape
from postgres import ROLE
from postgres_daemon import (Proxy, kept, make, marks, mint, server, through_proxy, tokens_in, works)

pytestmark = marks

__all__ = ["make", "server", "through_proxy", "works"]  # fixtures


class Slow(Proxy):
    """Look-ups take long."""

    seconds = 0

    def passed_up(self, data):
        if self.seconds and b"\0kaiten_get\0" in data:
            time.sleep(self.seconds)
        return data


def test_who_looks_something_up_does_not_keep_changes_waiting(server, make, works):
    """Strangers with made-up tokens do, one look-up each: how late a revocation is heard of must not
    depend on them."""
    proxy = Slow(server)
    d = make(f"host={proxy.dir} dbname={server.database()} user={ROLE}",
             "timeout = 60s\nreaders = 1").start()
    slug, _ = works(d)

    def age():
        door = d.http("")
        value = scrape(door).get("kaitend_store_staleness_seconds")
        door.close()
        return value

    proxy.seconds = 6
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        began, asked = time.monotonic(), 0
        slow = pool.submit(d.http().call, "account.get", serviceAccountSlug=slug)
        while (waited := time.monotonic() - began) < 6:
            asked += age() < waited - 2  # since it was sent, had nobody asked meanwhile
        assert slow.result().ok and time.monotonic() - began > 6
    assert asked, "changes were not asked for meanwhile"
    proxy.seconds = 0
    assert d.stop() == 0
    proxy.close()


class Swallower(Proxy):
    """As a pooler in transaction mode does: whom a notice is for it does not know."""

    def passed_on(self, data):
        # Its type, length and process, then the channel and an empty text.
        return re.sub(rb"A.{8}kaiten\0\0", b"", data, flags=re.DOTALL)


def test_notices_that_somebody_swallows_are_missed(server, make, works):
    proxy = Swallower(server)
    d = make(f"host={proxy.dir} dbname={server.database()} user={ROLE}").start()
    other = make(server.connection(server.database())).start()
    works(d)
    wait_for(lambda: kept(other, "notices") == 1, "a notice to arrive")
    wait_for(lambda: "notices do not arrive" in d.log.read_text(), "the warning")
    assert kept(d, "notices") == 0
    assert "notices do not arrive" not in other.log.read_text()
    for daemon in (d, other):
        assert daemon.stop() == 0
    proxy.close()


@pytest.mark.parametrize("how", ["answer", "request", "late"])
def test_a_lost_answer_is_looked_up(server, through_proxy, works, how):
    proxy, name, d = through_proxy()
    slug, _ = works(d)
    assert tokens_in(server, name) == "1"
    proxy.armed = how
    answer = d.http().call("token.create", serviceAccountSlug=slug, name="once",
                           scopes=["read:instances"])
    assert proxy.spoilt.wait(PATIENCE)
    assert answer.status == 201
    assert d.http(answer.body["token"]).call("token.validate").status == 200
    if how == "late":
        assert proxy.late.wait(PATIENCE)
    assert tokens_in(server, name) == "2"
    assert d.stop() == 0


def apply(op, key):
    return (f"SELECT kaiten.apply('{op}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}',"
            f" ARRAY['{key}'::bytea], ARRAY['1'::bytea], '{{}}', false)")


def test_an_operation_that_was_looked_up_in_vain_never_happens(server):
    name, op = server.database(), uuid.uuid4()
    assert server.sql(f"SELECT kaiten.resolve('{op}')", name, ROLE) == "0"
    assert server.sql(apply(op, "late"), name, ROLE) == "0"
    assert server.sql("SELECT count(*) FROM kaiten.row", name) == "0"
    assert server.sql(f"SELECT kaiten.resolve('{op}')", name, ROLE) == "0"


def test_a_look_up_waits_for_an_operation_that_is_under_way(server):
    name, op = server.database(), uuid.uuid4()
    waits = ("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
             f" AND datname = '{name}'")
    with concurrent.futures.ThreadPoolExecutor(1) as pool, server.session(name, ROLE) as slow:
        slow.stdin.write(f"BEGIN; {apply(op, 'slow')};\n")
        slow.stdin.flush()
        assert slow.stdout.readline()
        assert server.sql("SELECT count(*) FROM kaiten.row", name) == "0"
        looked_up = pool.submit(server.sql, f"SELECT kaiten.resolve('{op}')", name, ROLE)
        wait_for(lambda: looked_up.done() or server.sql(waits) == "1", "the look-up to wait")
        assert not looked_up.done()
        slow.stdin.write("COMMIT;\n")
        slow.stdin.flush()
        revision = looked_up.result()
    assert revision == server.sql("SELECT revision FROM kaiten.row WHERE key = 'slow'", name) != "0"


def test_nobody_sees_what_is_not_as_durable_as_an_answer(make, works):
    """Else another daemon could hand out, for an idempotency key, a secret that is lost in a crash.
    A standby that does not exist keeps every commit waiting; a group of mints is under way."""
    alone = postgres.Server(durable=True).start()
    try:
        name = alone.database()
        d = make(alone.connection(name), "timeout = 3s\nconnections = 1").start()
        slug, _ = works(d)
        standbys(alone, "nobody")
        crowd = [d.rpc() for _ in range(8)]
        for i, client in enumerate(crowd):
            client.send("token.create", dict(serviceAccountSlug=slug, name=f"t{i}", scopes=[]))
        for client in crowd:  # one of them was a group of its own, the others are another one
            while not select.select([client.socket], [], [], 0.05)[0]:
                assert tokens_in(alone, name) == "1"
            assert client.receive()[2] is not None
        standbys(alone, "")
        wait_for(lambda: d.http().call("token.create", serviceAccountSlug=slug, name="after",
                                       scopes=[]).ok, "the standby not to be missed")
        assert d.stop() == 0
    finally:
        alone.remove()


def standbys(server, names):
    server.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    server.sql("SELECT pg_reload_conf()")
    wait_for(lambda: server.sql("SHOW synchronous_standby_names") == names, "the setting")


def test_what_cannot_be_looked_up_is_unavailable_and_gives_no_secret(server, through_proxy, works):
    proxy, name, d = through_proxy("timeout = 3s")
    slug, _ = works(d)
    proxy.armed = "unreachable"
    answer = d.http().call("token.create", serviceAccountSlug=slug, name="lost",
                           scopes=["read:instances"])
    assert proxy.spoilt.wait(PATIENCE)
    assert answer.status == 503
    assert "token" not in answer.body
    assert tokens_in(server, name) == "2"  # it did happen
    proxy.refusing = False
    wait_for(lambda: mint(d, slug, "next").status in (201, 409), "the connection")
    assert d.stop() == 0
