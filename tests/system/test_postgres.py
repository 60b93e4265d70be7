# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""storage-postgres beyond what any store does: making it, rights, passwords, connections."""

import socket

import postgres
import pytest
from conftest import done, wait_for
from postgres import OWNER, ROLE
from postgres_daemon import (Proxy, connections, init, kept, make, marks, refuses_to_start, server,
                             works)

pytestmark = marks

__all__ = ["init", "make", "server", "works"]  # fixtures


# --- making the store -----------------------------------------------------------------------------


def test_without_a_schema_the_start_says_what_to_run(server, make, init):
    server.sql("CREATE DATABASE bare")
    text = refuses_to_start(make(server.connection("bare")))
    assert "there is no schema kaiten in database bare: make it with kaitend --init-store" in text

    code, text = init(server.connection("bare", "stranger"), server.connection("bare", OWNER))
    assert code != 0 and "the role stranger, as which kaitend connects, is missing" in text
    assert server.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'kaiten'", "bare") == "0"

    code, text = init(server.connection("bare"), server.connection("bare", OWNER))
    assert code == 0 and "format 3, made; role kaitend" in text
    code, text = init(server.connection("bare"), server.connection("bare", OWNER))
    assert code == 0 and "format 3, as before" in text
    assert make(server.connection("bare")).start().stop() == 0


def test_a_newer_format_is_refused(server, make, init):
    name = server.database()
    server.sql("UPDATE kaiten.meta SET format = 99", name)
    assert "format 99; this kaitend knows formats up to 3" in refuses_to_start(
        make(server.connection(name)))
    code, text = init(server.connection(name), server.connection(name, OWNER))
    assert code != 0 and "format 99; this kaitend knows formats up to 3" in text


def test_an_older_format_is_brought_up_to_date(server, make, init):
    name = server.database()
    server.sql("DROP FUNCTION kaiten.news; UPDATE kaiten.meta SET format = 1", name)
    assert (f"the store in database {name} has format 1: bring it to format 3 with kaitend "
            "--init-store") in refuses_to_start(make(server.connection(name)))
    code, text = init(server.connection(name), server.connection(name, OWNER))
    assert code == 0 and "format 3, brought up to date; role kaitend" in text
    assert make(server.connection(name)).start().stop() == 0


def test_without_rights_nothing_is_made(server, init):
    server.sql("CREATE DATABASE foreign_one")
    code, text = init(server.connection("foreign_one"), server.connection("foreign_one"))
    assert code != 0 and "permission denied" in text


@pytest.mark.parametrize("statement", [
    "CREATE TABLE kaiten.more (x int)", "CREATE SCHEMA more", "DROP TABLE kaiten.row",
    "ALTER TABLE kaiten.row ADD x int", "TRUNCATE kaiten.row", "CREATE TABLE public.more (x int)",
    "CREATE FUNCTION kaiten.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE ROLE more",
    "DROP FUNCTION kaiten.apply", "SELECT * FROM pg_authid", "SELECT pg_read_file('/etc/passwd')",
    "SELECT setval('kaiten.revision', 1)",
    "SELECT kaiten.admit('kaitend')", "INSERT INTO kaiten.meta (format) VALUES (1)",
    "DELETE FROM kaiten.meta",
])
def test_the_daemon_s_role_may_read_and_write_rows_and_nothing_else(server, daemon_role, statement):
    refused = server.sql(statement, daemon_role, ROLE, check=False)
    assert refused.returncode != 0
    assert "permission denied" in refused.stderr or "must be owner" in refused.stderr


@pytest.fixture(scope="module")
def daemon_role():
    return postgres.shared().database()


@pytest.mark.parametrize("setting, text", [
    ("synchronous_commit = off", "synchronous_commit is off"),
])
def test_commits_that_may_be_lost_are_warned_of(server, make, setting, text):
    name = server.database()
    server.sql(f"ALTER DATABASE {name} SET {setting}")
    d = make(server.connection(name)).start()
    assert text in d.log.read_text()
    assert "fsync is off" in d.log.read_text()  # of this server
    assert kept(d, "durable") == 0
    assert d.stop() == 0


def test_what_the_server_keeps_is_told_as_it_is(make, works):
    """It is asked at the start, and again with each new session and each minute."""
    alone = postgres.Server(durable=True).start()
    try:
        name = alone.database()
        d = make(alone.connection(name)).start()
        assert kept(d, "durable") == 1
        wait_for(lambda: kept(d, "notices") == 1, "a notice to arrive")
        assert "WARNING" not in d.log.read_text().upper()

        def set_to(value):
            alone.sql(f"ALTER DATABASE {name} SET synchronous_commit = {value}")
            alone.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                      f"'{name}' AND application_name = 'kaitend'")

        set_to("off")
        wait_for(lambda: kept(d, "durable") == 0, "the setting to be seen")
        assert "synchronous_commit is off: a crash of the server loses" in d.log.read_text()
        set_to("on")
        wait_for(lambda: kept(d, "durable") == 1, "the setting to be seen")
        assert "synchronous_commit is on" in d.log.read_text()
        works(d)
        assert d.stop() == 0
    finally:
        alone.remove()


# --- passwords ------------------------------------------------------------------------------------


def write_secret(path, text):
    path.write_text(text)
    path.chmod(0o600)


def test_a_password_is_read_anew_for_each_connection_and_never_logged(server, make, tmp_path):
    name = server.database()
    server.sql("CREATE ROLE locked LOGIN PASSWORD 'first-2cc9d1'")
    server.sql("SELECT kaiten.admit('locked')", name)
    secret = tmp_path / "password"
    write_secret(secret, "wrong-77aa01\n")
    connection = server.connection(name, "locked")
    storage = f"timeout = 20s\npassword_file = {secret}"
    d = make(connection, storage)
    assert "password authentication failed" in refuses_to_start(d)
    write_secret(secret, "first-2cc9d1\n")
    d.start()
    assert done(d.http(), d.http().call("account.create", name="One"), 201)

    server.sql("ALTER ROLE locked PASSWORD 'second-91e0aa'")
    write_secret(secret, "second-91e0aa\n")
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'locked'")
    wait_for(lambda: d.http().call("account.create", name="Two").status == 201, "the new password")
    assert d.stop() == 0
    log = d.log.read_text()
    for password in ("wrong-77aa01", "first-2cc9d1", "second-91e0aa"):
        assert password not in log


def test_a_password_in_the_connection_string_is_refused(server, make):
    d = make(server.connection("postgres") + " password=hunter2-5590")
    text = refuses_to_start(d)
    assert "connection: has a password; accepted: password_file" in text
    assert "hunter2" not in d.log.read_text()


# --- connections ----------------------------------------------------------------------------------


def test_session_settings(server, make, works):
    name = server.database()
    d = make(server.connection(name), "connections = 3\nreaders = 2\ntimeout = 3s").start()
    works(d)
    wait_for(lambda: connections(server, name) == "7", "3 + 2 + 2 connections")
    assert d.stop() == 0


class Noting(Proxy):
    """Keeps what daemons say."""

    noted = b""

    def passed_up(self, data):
        self.noted += data
        return data


def test_through_a_pooler_nothing_is_set(server, make, works):
    name = server.database()
    proxy = Noting(server)
    d = make(f"host={proxy.dir} dbname={name} user={ROLE}", "timeout = 20s\npooler = yes").start()
    works(d)
    assert b"kaiten.apply(" in proxy.noted and b"\0kaiten_" not in proxy.noted  # or prepared
    assert kept(d, "notices") == 0
    assert "notices do not arrive" not in d.log.read_text()  # nobody has said that they would
    assert server.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%LISTEN%'"
                      f" AND datname = '{name}'") == "0"
    assert d.stop() == 0
    proxy.close()


def test_the_isolation_level_is_the_daemon_s(server, make, works):
    name = server.database()
    server.sql(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")
    assert "is not read committed" in refuses_to_start(make(server.connection(name), "pooler = yes"))
    d = make(server.connection(name)).start()
    works(d)
    assert d.stop() == 0


def test_of_several_hosts_the_one_that_takes_writes_is_used(server, make, works, tmp_path):
    name = server.database()
    silent = socket.socket(socket.AF_UNIX)  # takes connections and never answers
    silent.bind(str(tmp_path / ".s.PGSQL.5432"))
    silent.listen(20)
    hosts = f"/nonexistent,{tmp_path},{server.dir}"
    d = make(f"host={hosts} dbname={name} user={ROLE}").start(60)
    works(d)
    assert d.stop() == 0
    silent.close()


# --- tidying up -----------------------------------------------------------------------------------


def test_old_operations_and_deletions_are_forgotten(server, make, works):
    name = server.database()
    d = make(server.connection(name)).start()
    slug, _ = works(d)
    assert done(d.http(), d.http().call("account.delete", serviceAccountSlug=slug), 204) == b""
    assert d.stop() == 0
    count = "SELECT (SELECT count(*) FROM kaiten.op), (SELECT count(*) FROM kaiten.gone)"
    ops, gone = map(int, server.sql(count, name).split("|"))
    assert ops > 0 and gone > 0
    purge = "SELECT kaiten.purge(1000)"
    assert server.sql(purge, name, ROLE) == "0"  # too young
    server.sql("UPDATE kaiten.op SET at = at - interval '6 minutes';"
               "UPDATE kaiten.meta SET gone_since = gone_since - interval '1 minute';"
               "UPDATE kaiten.gone SET at = at - interval '2 hours'", name)
    assert int(server.sql(purge, name, ROLE)) == ops
    assert server.sql("SELECT gone_until > max FROM kaiten.meta,"
                      " (SELECT written AS max FROM kaiten.gone ORDER BY written DESC LIMIT 1) AS m",
                      name) == "t"
    assert server.sql(count, name) == f"0|{gone}"  # announced, not yet removed
    server.sql("UPDATE kaiten.meta SET gone_since = gone_since - interval '1 minute'", name)
    assert int(server.sql(purge, name, ROLE)) == gone
    assert server.sql(count, name) == "0|0"
