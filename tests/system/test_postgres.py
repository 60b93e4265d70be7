# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""storage-postgres beyond what any store does: making it, rights, passwords, lost answers, outages."""

import concurrent.futures
import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid

import postgres
import pytest
from conftest import BUILD, KAITEND, PATIENCE, PLUGIN_DIR, done, wait_for
from metrics import scrape
from postgres import OWNER, ROLE

pytestmark = [
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
    """A daemon on a connection string."""
    return lambda connection, storage="timeout = 20s", **more: own_daemon(
        "storage-postgres", storage=f"connection = {connection}\n{storage}\n", **more)


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


def kept(d, what):
    door = d.http("")
    value = scrape(door).get(f"kaitend_store_{what}")
    door.close()
    return value


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



def test_session_settings(server, make, works):
    name = server.database()
    d = make(server.connection(name), "connections = 3\nreaders = 2\ntimeout = 3s").start()
    works(d)
    wait_for(lambda: connections(server, name) == "7", "3 + 2 + 2 connections")
    assert d.stop() == 0


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


# --- answers that are lost ------------------------------------------------------------------------


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


class Noting(Proxy):
    """Keeps what daemons say."""

    noted = b""

    def passed_up(self, data):
        self.noted += data
        return data


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
             "timeout = 60s\nreaders = 1", daemon="request_timeout = 1m").start()
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


def tokens_in(server, name):
    return server.sql("SELECT count(*) FROM kaiten.row WHERE substr(key, 1, 1) = 't'", name)


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


# --- outages --------------------------------------------------------------------------------------


def mint(d, slug, name):
    return d.http().call("token.create", serviceAccountSlug=slug, name=name,
                         scopes=["read:instances"])


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
