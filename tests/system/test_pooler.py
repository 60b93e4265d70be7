# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""storage-postgres through PgBouncer, as kaiten-storage-postgres(7) says."""

import concurrent.futures
import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import pytest

import postgres
from conftest import wait_for
from daemon_cluster import KEYS
from postgres import ROLE
from postgres_daemon import kept, make, marks, refuses_to_start, server, tokens_in, works

PROGRAM = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

pytestmark = [*marks, pytest.mark.skipif(not PROGRAM, reason="pgbouncer is missing")]

__all__ = ["make", "server", "works"]  # fixtures


class PgBouncer:
    """In front of a server, in a temporary folder, as an unprivileged user."""

    def __init__(self, behind, mode, more=""):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="kpb."))
        self.dir.chmod(0o755)
        (self.dir / "users").write_text(f'"{ROLE}" ""\n')
        (self.dir / "conf").write_text(f"""[databases]
* = host={behind.dir}
[pgbouncer]
listen_addr =
unix_socket_dir = {self.dir}
listen_port = 5432
auth_type = trust
auth_file = {self.dir}/users
admin_users = {ROLE}
pool_mode = {mode}
default_pool_size = 40
{more}
""")
        user = {}
        if os.geteuid() == 0:  # it refuses to be root
            nobody = pwd.getpwnam("nobody")
            os.chown(self.dir, nobody.pw_uid, nobody.pw_gid)
            user = dict(user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
        with open(self.dir / "log", "wb") as log:
            self.process = subprocess.Popen([PROGRAM, self.dir / "conf"], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, cwd=self.dir,
                                            preexec_fn=postgres.die_with_parent, **user)
        wait_for(lambda: (self.dir / ".s.PGSQL.5432").exists() or self.process.poll() is not None,
                 "pgbouncer")
        assert self.process.poll() is None, (self.dir / "log").read_text()

    def connection(self, name):
        return f"host={self.dir} dbname={name} user={ROLE}"

    def remove(self):
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture
def bouncer(server):
    with contextlib.ExitStack() as made:
        def start(mode, more=""):
            b = PgBouncer(server, mode, more)
            made.callback(b.remove)
            return b
        yield start


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_with_the_option_every_mode_will_do(server, bouncer, make, works, mode):
    """Many mint together, so that changes go in pipelines; another daemon hears of a revocation."""
    name = server.database()
    through = bouncer(mode).connection(name)
    d = make(through, "timeout = 20s\npooler = yes").start()
    slug, _ = works(d)
    other = make(through, "timeout = 20s\npooler = yes")
    for key in KEYS:
        shutil.copy(d.state / key, other.state / key)
    other.start()

    def mint(i):
        with contextlib.closing(d.http()) as door:
            return door.call("token.create", serviceAccountSlug=slug, name=f"t{i}", scopes=[])

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        minted = [f.result() for f in [pool.submit(mint, i) for i in range(100)]]
    assert {m.status for m in minted} == {201}
    assert tokens_in(server, name) == "101"
    for m in minted[:10]:
        assert other.http(m.body["token"]).call("token.validate").status == 200
        assert d.http().call("token.revoke", serviceAccountSlug=slug,
                             tokenSlug=m.body["slug"]).status == 204
        wait_for(lambda m=m: other.http(m.body["token"]).call("token.validate").status == 401,
                 "the other one to hear of it")
    assert kept(d, "notices") == 0
    assert [d.stop(), other.stop()] == [0, 0]


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_server_s_connection_that_is_lost_behind_it(server, bouncer, make, works, mode):
    """It says so in its own words, perhaps between a commit and its answer."""
    name = server.database()
    d = make(bouncer(mode).connection(name), "timeout = 20s\npooler = yes").start()
    slug, _ = works(d)
    stop = []

    def mint(thread):
        answers = []
        with contextlib.closing(d.http()) as door:
            while not stop:
                i = len(answers)
                answers.append(door.call("token.create", serviceAccountSlug=slug,
                                         name=f"t{thread}-{i}", scopes=[]))
        return answers

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        threads = [pool.submit(mint, i) for i in range(16)]
        for n in range(100, 1100, 100):
            wait_for(lambda n=n: int(tokens_in(server, name)) > n, "more tokens")
            server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                       f"'{name}'")
        stop.append(True)
        answers = [a for thread in threads for a in thread.result()]
    assert {a.status for a in answers} <= {201, 503}, [a for a in answers if a.status == 409][:2]
    good = [a for a in answers if a.status == 201]
    assert len(good) > 900
    wait_for(lambda: {d.http(a.body["token"]).call("token.validate").status
                      for a in good[-50:]} == {200}, "verdicts")
    assert d.stop() == 0


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("more, said", [
    ("", "unsupported startup parameter"),
    ("ignore_startup_parameters = options", "settings of the session were not taken"),
])
def test_without_the_option_the_start_says_what_to_set(server, bouncer, make, mode, more, said):
    text = refuses_to_start(make(bouncer(mode, more).connection(server.database())))
    assert said in text and "pooler = yes" in text
