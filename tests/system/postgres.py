# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A throw-away PostgreSQL: in a temporary folder, as an unprivileged user, on a Unix socket only.

As a program: postgres.py COMMAND... runs the command with the options, as NAME=VALUE, of a store that
kaitend --init-store has made on a server of its own."""

import atexit
import contextlib
import ctypes
import functools
import glob
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(os.environ.get("abs_top_srcdir", pathlib.Path(__file__).parents[2]))
BUILD = pathlib.Path(os.environ.get("abs_top_builddir", SOURCE))
MISSING = "postgresql is missing"
OWNER, ROLE = "postgres", "kaitend"


@functools.lru_cache(maxsize=None)
def programs():
    """The folder of the newest server that is installed, or None."""
    found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    found.sort(key=lambda path: int(re.search(r"/(\d+)/bin/", path)[1]))
    if found:
        return os.path.dirname(found[-1])
    path = shutil.which("postgres")
    return os.path.dirname(os.path.realpath(path)) if path else None


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG


class Server:
    """One server; settings are lines of postgresql.conf. With copy_of a standby of that one."""

    def __init__(self, settings=(), durable=False, copy_of=None):
        assert programs(), MISSING
        # Short: the name of a socket has at most 107 bytes.
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="kpg."))
        self.dir.chmod(0o755)
        self.data = self.dir / "data"
        self.log = self.dir / "log"
        self.process = None
        self.databases = 0
        self.role_made = self.template_made = False
        self.extra = {}  # more of the environment of the server itself
        self.user = {}
        if os.geteuid() == 0:  # a server refuses to be root
            nobody = pwd.getpwnam("nobody")
            self.user = dict(user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
            os.chown(self.dir, nobody.pw_uid, nobody.pw_gid)
        if copy_of:
            self.copy(copy_of)
        else:
            self.run("initdb", "-D", self.data, "-U", OWNER, "-A", "trust", "-E", "UTF8",
                     "--no-locale", "--no-sync", "--no-instructions")
            self.configure(["listen_addresses = ''", "max_connections = 200",
                            "shared_buffers = 64MB", "autovacuum_naptime = 5s",
                            f"fsync = {'on' if durable else 'off'}", *settings])
            hba = self.data / "pg_hba.conf"  # one role needs its password
            hba.write_text("local all locked scram-sha-256\n" + hba.read_text())

    def copy(self, primary):
        """Becomes a standby of another server, whatever was here before."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.run("pg_basebackup", "-h", primary.dir, "-U", OWNER, "-D", self.data, "-R",
                 "--checkpoint=fast", "--no-sync")
        self.configure()

    def configure(self, settings=()):
        """The last line about a setting counts."""
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write("\n".join([f"unix_socket_directories = '{self.dir}'", *settings]) + "\n")

    def run(self, program, *args, check=True, **kwargs):
        """One of the server's programs, as its user."""
        done = subprocess.run([f"{programs()}/{program}", *args], capture_output=True, text=True,
                              cwd=self.dir, env=self.environment(), **self.user, **kwargs)
        assert not check or done.returncode == 0, (program, done.stdout, done.stderr)
        return done

    @staticmethod
    def environment():
        return {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}

    def start(self, seconds=60.0):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [f"{programs()}/postgres", "-D", self.data], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd=self.dir, env={**self.environment(), **self.extra},
                preexec_fn=die_with_parent, start_new_session=True, **self.user)
        end = time.monotonic() + seconds
        while self.run("pg_isready", "-q", "-h", self.dir, check=False).returncode != 0:
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)
        return self

    def stop(self, how=signal.SIGINT, seconds=60.0):
        """SIGINT: in order; SIGQUIT: at once, as if it had crashed."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(seconds)
        self.process = None

    def signal_all(self, number):
        """Every process of the server, SIGSTOP or SIGCONT for example; each is a session."""
        task = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}")
        os.kill(self.process.pid, number)  # first: a stopped one makes no more
        for child in task.joinpath("children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)

    def remove(self):
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.dir, ignore_errors=True)

    def make_role(self):
        """The daemon's; database() does it, too."""
        if not self.role_made:
            self.sql(f"CREATE ROLE {ROLE} LOGIN")
        self.role_made = True
        return self

    def sql(self, text, database="postgres", user=OWNER, check=True):
        """What psql prints for a statement, unaligned, or its whole outcome with check=False."""
        done = self.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.dir,
                        "-U", user, "-d", database, "-c", text, check=check)
        return done.stdout.strip() if check else done

    @contextlib.contextmanager
    def session(self, database, user):
        """A connection of somebody else, held; AssertionError when there is none to be had."""
        psql = subprocess.Popen([f"{programs()}/psql", "-X", "-q", "-A", "-t", "-h", self.dir,
                                 "-U", user, "-d", database], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                cwd=self.dir, env=self.environment(), **self.user)
        try:
            psql.stdin.write("SELECT 1;\n")
            psql.stdin.flush()
            assert psql.stdout.readline() == "1\n", "no connection"
            yield psql
        finally:
            psql.kill()
            psql.communicate()

    def connection(self, database, user=ROLE):
        return f"host={self.dir} dbname={database} user={user}"

    def database(self):
        """The name of a fresh database with an empty store."""
        self.make_role()
        if not self.template_made:
            self.sql("CREATE DATABASE kaiten_template")
            self.init_store("kaiten_template")
            self.template_made = True
        self.databases += 1
        name = f"store{self.databases}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE kaiten_template")
        return name

    def init_store(self, database):
        """Runs kaitend --init-store on a database; returns what it has logged."""
        with tempfile.TemporaryDirectory(prefix="kaitend-init.") as folder:
            conf = pathlib.Path(folder) / "kaitend.conf"
            conf.write_text(f"""[kaitend]
state_dir = {folder}
plugin_dir = {BUILD / "plugins/.libs"}
storage = storage-postgres
[storage-postgres]
connection = {self.connection(database)}
init_connection = {self.connection(database, OWNER)}
[socket]
path = {folder}/rpc.sock
auth = auth-token
""")
            done = subprocess.run([BUILD / "daemon/kaitend", "-c", conf, "--init-store"],
                                  capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            return done.stderr


made = []


@functools.lru_cache(maxsize=None)
def shared():
    """The server of this run, for tests that leave it alone."""
    server = Server().start().make_role()
    atexit.register(server.remove)
    made.append(server)
    return server


def remove_shared():
    """At the end of a run: a process of xdist is ended before it comes to what atexit would do."""
    while made:
        made.pop().remove()


@functools.lru_cache(maxsize=None)
def store_of(folder):
    """The connection string of the store that belongs to a daemon's folder."""
    return shared().connection(shared().database())


def main():
    if not programs():
        print("postgresql")
        return 77
    server = Server().start()  # nothing here survives a crash of the server, or is meant to
    try:
        store = "connection=" + server.connection(server.database())
        # A long time-out: the machine may be slow, and nothing is tested of an outage here.
        return subprocess.run([*sys.argv[1:], store, "timeout=20s"]).returncode
    finally:
        server.remove()


if __name__ == "__main__":
    sys.exit(main())
