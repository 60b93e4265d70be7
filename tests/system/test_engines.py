# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""storage-postgres on a server that lacks something, be it another engine that speaks the protocol
or a role with too few rights: what is missing is said by name, before anything depends on it."""

import contextlib
import subprocess
import time
import uuid

import pytest

import postgres
from conftest import BUILD, done, wait_for
from metrics import scrape
from postgres import OWNER, ROLE
from postgres_daemon import (Proxy, init, kept, make, marks, mint, own_server, refuses_to_start,
                             server, works)

pytestmark = marks

__all__ = ["init", "make", "own_server", "server", "works"]  # fixtures


class Lacking(Proxy):
    """A server that does not know one name: on its way there it becomes another one."""

    def __init__(self, server, name):
        super().__init__(server)
        self.name = name.encode()

    def passed_up(self, data):
        return data.replace(self.name, self.name[:-1] + b"x")


@pytest.fixture
def lacking(server):
    made = []

    def start(name):
        made.append(Lacking(server, name))
        return made[-1]
    yield start
    for proxy in made:
        proxy.close()


ENGINE = {
    "lanname = 'plpgsql": "functions in PL/pgSQL",
    "pg_advisory_xact_lock": "advisory locks of a transaction",
    "pg_notify": "notices (pg_notify)",
    "pg_current_xact_id": "numbers of transactions (pg_current_xact_id)",
    "pg_current_snapshot": "snapshots of transactions (pg_current_snapshot)",
    "pg_control_system": "the cluster's identity (pg_control_system)",
    "pg_walfile_name": "the timeline of its log (pg_walfile_name)",
    "pg_stat_wal": "the time of its start (pg_postmaster_start_time, pg_stat_wal)",
}


@pytest.fixture
def bare(server):
    """A database without a store."""
    name = f"bare{uuid.uuid4().hex}"
    server.sql(f"CREATE DATABASE {name}")
    return name


def is_bare(server, name):
    return server.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'kaiten'", name) == "0"


@pytest.mark.parametrize("name", ENGINE)
def test_what_the_engine_lacks_is_said_by_name(server, lacking, make, init, bare, name):
    text = "the server lacks what kaitend needs: " + ENGINE[name]
    proxy, database = lacking(name), server.database()
    assert text in refuses_to_start(make(f"host={proxy.dir} dbname={database} user={ROLE}"))

    code, said = init(server.connection(bare), f"host={proxy.dir} dbname={bare} user={OWNER}")
    assert code != 0 and text in said
    assert is_bare(server, bare)


@pytest.mark.parametrize("name, function", [
    ("PERFORM pg_notify", "kaiten.apply"),
    ("extract(epoch FROM w.stats_reset", "kaiten.moment"),
    ("FROM kaiten.gone AS g", "kaiten.gone"),
    ("LOCK TABLE kaiten.row", "kaiten.watch"),
])
def test_functions_are_tried_when_they_are_made(server, lacking, init, bare, name, function):
    """What they use is looked for only when they run, some of it for the first time when a token is
    revoked. Nothing is left of a store that would not work."""
    proxy = lacking(name)
    code, text = init(server.connection(bare), f"host={proxy.dir} dbname={bare} user={OWNER}")
    assert code != 0 and f"the server lacks what kaitend needs: {function}: " in text
    assert is_bare(server, bare)


def test_trying_them_leaves_nothing_behind(server):
    name = server.database()
    server.init_store(name)
    assert server.sql("SELECT (SELECT count(*) FROM kaiten.row), (SELECT count(*) FROM kaiten.op),"
                      " (SELECT count(*) FROM kaiten.gone)", name) == "0|0|0"


def test_a_server_without_listen_is_asked_all_the_time(lacking, server, make, works):
    proxy = lacking("LISTEN")
    d = make(f"host={proxy.dir} dbname={server.database()} user={ROLE}").start()
    works(d)
    wait_for(lambda: "notices do not arrive" in d.log.read_text(), "the warning")
    assert kept(d, "notices") == 0
    assert d.stop() == 0


RIGHTS = {
    "EXECUTE ON FUNCTION kaiten.news": "EXECUTE on function kaiten.news",
    "EXECUTE ON FUNCTION kaiten.purge": "EXECUTE on function kaiten.purge",
    "UPDATE ON kaiten.meta": "UPDATE on table kaiten.meta",
    "DELETE ON kaiten.row": "DELETE on table kaiten.row",
    "USAGE ON SEQUENCE kaiten.revision": "USAGE on sequence kaiten.revision",
}


@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_that_the_role_lacks_is_said_by_name(server, make, init, right):
    name = server.database()
    server.sql(f"REVOKE {right} FROM {ROLE}", name)
    text = refuses_to_start(make(server.connection(name)))
    assert f"role {ROLE} lacks {RIGHTS[right]}: kaitend --init-store gives it" in text
    code, _ = init(server.connection(name), server.connection(name, OWNER))
    assert code == 0
    assert make(server.connection(name)).start().stop() == 0


def test_who_was_let_in_under_an_older_format_is_so_under_a_newer_one(server, make, init, works):
    """Daemons may have roles of their own; the one that --init-store hears of is one of them."""
    name = server.database()
    server.sql("CREATE ROLE second LOGIN; CREATE ROLE former LOGIN")
    server.sql("SELECT kaiten.admit('second'), kaiten.admit('former');"
               "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA kaiten FROM former;"
               "DROP FUNCTION kaiten.news; UPDATE kaiten.meta SET format = 1", name)
    code, text = init(server.connection(name), server.connection(name, OWNER))
    assert code == 0, text
    news = "kaiten.news(xid8, xid8[], bigint, bigint, bytea, bigint)"
    may = "SELECT has_function_privilege('{}', '" + news + "', 'EXECUTE')"
    assert server.sql(may.format(ROLE), name) == "t"
    assert server.sql(may.format("second"), name) == "t"
    assert server.sql(may.format("former"), name) == "f"  # whom somebody has sent away
    d = make(server.connection(name, "second")).start()
    slug, _ = works(d)
    assert done(d.http(), d.http().call("account.delete", serviceAccountSlug=slug), 204) == b""
    assert d.stop() == 0


def test_functions_of_others_are_not_taken_for_the_system_s(server, make, works):
    """Behind a pooler search_path is the role's, and whoever may create something in public could have
    the daemon run it: a function of just this type comes before one of any array."""
    name = server.database()
    server.sql("CREATE TABLE public.caught (who text); GRANT INSERT ON public.caught TO PUBLIC", name)
    for array in ("bytea[]", "text[]"):
        server.sql(f"CREATE FUNCTION public.unnest({array}) RETURNS SETOF {array[:-2]} LANGUAGE sql AS"
                   " $$ INSERT INTO public.caught VALUES (current_user); SELECT pg_catalog.unnest($1)"
                   " $$", name)
    d = make(server.connection(name), "timeout = 20s\npooler = yes").start()
    works(d)
    assert d.stop() == 0
    assert server.sql("SELECT count(*) FROM public.caught", name) == "0"


def test_a_server_that_takes_no_writes_any_more_is_not_believed(own_server, make, works):
    """It may have a successor by now, and what is revoked there it never hears of; sessions that were
    there before go on."""
    d = make(own_server.connection(own_server.database()), "timeout = 5s").start()
    slug, token = works(d)

    def read_only(value):
        own_server.sql(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        own_server.sql("SELECT pg_reload_conf()")

    def validate():
        return d.http(token).call("token.validate").status

    read_only("on")
    wait_for(lambda: validate() == 503, "it not to be believed")
    assert mint(d, slug, "no").status == 503
    assert "this server takes no writes" in d.log.read_text()
    read_only("off")
    wait_for(lambda: validate() == 200, "it to be believed again")
    assert mint(d, slug, "yes").status == 201
    assert d.stop() == 0


@contextlib.contextmanager
def transaction(server):
    """Of somebody else, in another database, that goes on; positions stay the same meanwhile."""
    with server.session("postgres", OWNER) as session:
        session.stdin.write("BEGIN; SELECT pg_current_xact_id() IS NOT NULL;\n")
        session.stdin.flush()
        assert session.stdout.readline() == "t\n"
        yield


def test_changes_while_another_transaction_goes_on(server):
    name = server.database()
    with transaction(server):
        check = subprocess.run([BUILD / "tests/plugin/kaiten-plugin-check", "-k", "changes:",
                                BUILD / "plugins/.libs/storage-postgres.so",
                                f"connection={server.connection(name)}", "timeout=20s"],
                               capture_output=True, text=True, timeout=300)
    assert check.returncode == 0, check.stdout


def test_what_was_told_is_not_told_again_and_again(server, make, works):
    """Until the transaction of somebody else ends, which may take hours."""
    d = make(server.connection(server.database())).start()
    slug, _ = works(d)

    def counted():
        door = d.http("")
        metrics = scrape(door)
        door.close()
        return (metrics.get("kaitend_store_polls_total"),
                metrics.get("kaitend_store_changes_total"))

    def mints(names):
        for name in names:
            assert mint(d, slug, name).status == 201
            polls, _ = counted()
            wait_for(lambda: counted()[0] > polls + 1, "the daemon to have asked")

    with transaction(server):
        mints(f"before {i}" for i in range(20))
        _, before = counted()
        mints(f"after {i}" for i in range(20))
        assert counted()[1] - before <= 2 * 20
    assert d.stop() == 0


def test_deletions_are_forgotten_while_a_transaction_goes_on(server, make, works):
    """They are kept for an hour, and the transaction of somebody else may take longer: not all is
    read again and again for that."""
    name = server.database()
    d = make(server.connection(name)).start()

    def counted():
        door = d.http("")
        metrics = scrape(door)
        door.close()
        return metrics.get("kaitend_store_polls_total"), metrics.get("kaitend_store_rereads_total")

    def forget():
        server.sql("UPDATE kaiten.gone SET at = at - interval '2 hours';"
                   "UPDATE kaiten.meta SET gone_since = gone_since - interval '1 minute'", name)
        server.sql("SELECT kaiten.purge(1000)", name, ROLE)

    def asked():
        slug, _ = works(d)
        polls, _ = counted()
        wait_for(lambda: counted()[0] > polls + 3, "the daemon to have asked")
        return slug

    slug = asked()
    with transaction(server):
        asked()
        assert done(d.http(), d.http().call("account.delete", serviceAccountSlug=slug), 204) == b""
        for left in ("t", "f"):  # announced, then gone
            asked()
            forget()
            assert server.sql("SELECT count(*) > 0 FROM kaiten.gone", name) == left
            asked()
        assert server.sql("SELECT oldest < gone_until FROM kaiten.moment()", name) == "t"
        assert counted()[1] == 0
    asked()
    assert counted()[1] <= 1  # what it may have deleted itself is not told any more
    assert d.stop() == 0


def test_reading_everything_again_is_done_when_it_has_worked(server, make, works):
    """A transaction that deletes is under way for so long that deletions of its age are not told any
    more, while another one keeps the position where it is; and what is to be read then cannot be. That
    the question after it has an answer does not mean that the daemon knows."""
    name = server.database()
    d = make(server.connection(name)).start()
    _, token = works(d)
    done(d.http(), d.http().call("account.create", name="Damaged"), 201)
    with transaction(server), server.session(name, postgres.OWNER) as psql:
        def run(sql):
            psql.stdin.write(sql + "; SELECT 'ran';\n")
            psql.stdin.flush()
            while psql.stdout.readline() != "ran\n":
                pass

        run("BEGIN; SELECT pg_current_xact_id();"
            "DELETE FROM kaiten.row WHERE substr(key, 1, 1) = 'h'")
        works(d)  # so that the position is that of the first one, and both are known of
        assert verdict(d, token) == 200
        run("UPDATE kaiten.row SET value = value || 'x' WHERE substr(key, 1, 1) = 'a';"
            "UPDATE kaiten.meta SET gone_until = (pg_current_xact_id()::text::bigint + 1)::text::xid8;"
            "COMMIT")
        wait_for(lambda: "event=follow.reread" in d.log.read_text(), "it to be read again")
        wait_for(lambda: "event=follow.failed" in d.log.read_text(), "that to fail")
        end = time.monotonic() + 2
        while time.monotonic() < end:
            assert verdict(d, token) == 401
    assert d.stop() == 0


def verdict(d, token):
    return d.http(token).call("token.validate").status


def told(d):
    door = d.http("")
    n = scrape(door).get("kaitend_store_changes_total")
    door.close()
    return n


def test_questions_for_changes_start_no_processes(make, works):
    """Once much has been deleted the planner would have some share the work, for each question."""
    talkative = postgres.Server(["log_min_messages = debug1"]).start()
    try:
        name = talkative.database()
        talkative.sql("INSERT INTO kaiten.gone SELECT pg_current_xact_id(), 'h'::bytea || sha256("
                      "i::text::bytea) FROM generate_series(1, 100000) AS i;"
                      "INSERT INTO kaiten.row SELECT 'z'::bytea || sha256(i::text::bytea), '', i"
                      " FROM generate_series(1, 100000) AS i;"
                      "ANALYZE kaiten.gone; ANALYZE kaiten.row", name)
        d = make(talkative.connection(name)).start()
        slug, _ = works(d)
        before = told(d)
        assert done(d.http(), d.http().call("account.delete", serviceAccountSlug=slug), 204) == b""
        wait_for(lambda: told(d) > before, "what was deleted to be told")
        assert "parallel worker" not in talkative.log.read_text()
        assert d.stop() == 0
    finally:
        talkative.remove()
