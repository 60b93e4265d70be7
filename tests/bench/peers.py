# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The servers that kaitend is measured against, each thrown away at the end."""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import time

from kaiten import free_port, http_answer


def wait_for(path, child):
    for _ in range(200):
        if os.path.exists(path):
            return
        if child.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit(f"bench: {child.args[0]} does not start")


class Redis:
    """Holds as many keys as kaitend has tokens; a value is as long as the answer to token.verify.
    With durable, nothing is answered before it is synced; the log is never rewritten, so that this
    costs it nothing."""

    @staticmethod
    def is_there():
        return shutil.which("redis-server") is not None

    def __init__(self, bench, count, durable=False):
        self.bench = bench
        self.dir = f"{bench.dir}/redis-{'durable' if durable else count}"
        self.socket = f"{self.dir}/redis.sock"
        self.keys = ("--keys", f"{self.dir}/keys", "--width", 40)
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir, mode=0o700)
        self.child = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.dir]
            + ["--save", "", "--logfile", f"{self.dir}/log", "--maxclients", "16000"]
            + ["--appendonly", "yes" if durable else "no", "--appendfsync", "always"]
            + ["--auto-aof-rewrite-percentage", "0"]
        )
        wait_for(self.socket, self.child)
        if count:
            self.fill(count)

    def fill(self, count):
        """Keys in no order, like tokens."""
        with open(f"{self.dir}/keys", "w", encoding="ascii") as f:
            for i in range(count):
                f.write(f"key:{i * 0x9E3779B97F4A7C15 % 2**64:036x}")
        self.load("redis-set", *self.keys, "--in-order", "--depth", 64, "--count", count)

    def load(self, speech, *args):
        return self.bench.load(speech, "--to", self.socket, "--pid", self.child.pid, *args)

    def end(self):
        self.child.terminate()
        self.child.wait()
        shutil.rmtree(self.dir)


class Postgres:
    """One table of tokens with the rules of ours: the slug is unique in its account, the name among
    tokens of the account that are not revoked, the digest everywhere."""

    TABLES = """
        create table account (id bigint generated always as identity primary key,
            org text not null, slug text not null, unique (org, slug));
        create table token (id uuid primary key, account bigint not null, slug text not null,
            name text not null, digest bytea not null unique, scopes text[] not null,
            created_at timestamptz not null default now(), created_by text not null,
            expires_at timestamptz, revoked_at timestamptz, unique (account, slug));
        create unique index on token (account, name) where revoked_at is null;
        """

    CONF = """
        listen_addresses = ''
        unix_socket_directories = '{dir}'
        fsync = on
        synchronous_commit = on
        max_connections = 1100
        shared_buffers = 1GB
        max_wal_size = 4GB
        """

    @classmethod
    def bin(cls):
        """The newest version that is installed, or None."""
        found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
        newest = max(found, key=lambda p: float(p.split("/")[4]), default=shutil.which("postgres"))
        return newest and os.path.dirname(os.path.realpath(newest))

    @classmethod
    def is_there(cls):
        return cls.bin() is not None

    def __init__(self, bench, slugs):
        self.bench = bench
        self.dir = f"{bench.dir}/postgres"
        self.socket = f"{self.dir}/.s.PGSQL.5432"
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir, mode=0o700)
        self.who = {}
        if os.getuid() == 0:  # which PostgreSQL refuses
            user = pwd.getpwnam("postgres")
            os.chown(self.dir, user.pw_uid, user.pw_gid)
            self.who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = f"{self.dir}/data"
        self.run("initdb", "-D", data, "-U", "bench", "-A", "trust", "--no-sync")
        with open(f"{data}/postgresql.conf", "a", encoding="utf-8") as f:
            f.write(self.CONF.format(dir=self.dir))
        with open(f"{self.dir}/log", "w", encoding="utf-8") as log:
            self.child = subprocess.Popen(
                [f"{self.bin()}/postgres", "-D", data], stdout=log, stderr=log, cwd="/", **self.who
            )
        wait_for(self.socket, self.child)
        self.fill(slugs)

    def run(self, program, *args, **more):
        command = [f"{self.bin()}/{program}", *args]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd="/", **self.who, **more)

    def fill(self, slugs):
        at = ("-h", self.dir, "-U", "bench")
        while subprocess.run(
            [f"{self.bin()}/pg_isready", *at], stdout=subprocess.DEVNULL, check=False
        ).returncode:
            time.sleep(0.05)
        self.run("createdb", *at, "bench")
        values = ", ".join(f"('bench', '{slug}')" for slug in slugs)
        sql = f"{self.TABLES} insert into account (org, slug) values {values}; analyze account;"
        self.run("psql", "-q", "-v", "ON_ERROR_STOP=1", *at, "bench", text=True, input=sql)

    def load(self, speech, *args):
        return self.bench.load(speech, "--to", self.socket, "--pid", self.child.pid, *args)

    def end(self):
        self.child.send_signal(signal.SIGINT)  # at once, without waiting for clients
        self.child.wait()
        shutil.rmtree(self.dir)


class Nginx:
    """Answers every request with a constant: the status, the header and the size of the answer to a
    good token, and not one look at anything."""

    CONF = """
        {user}
        daemon off;
        worker_processes 1;
        pid {dir}/pid;
        events {{ worker_connections 4096; }}
        http {{
            access_log off;
            keepalive_requests 1000000000;
            keepalive_timeout 1h;
            client_body_temp_path {dir}/body;
            proxy_temp_path {dir}/proxy;
            fastcgi_temp_path {dir}/fastcgi;
            uwsgi_temp_path {dir}/uwsgi;
            scgi_temp_path {dir}/scgi;
            default_type text/plain;
            server {{
                listen 127.0.0.1:{port};
                listen 127.0.0.1:{tls_port} ssl;
                ssl_certificate {keys}/certificate.pem;
                ssl_certificate_key {keys}/key.pem;
                ssl_protocols TLSv1.3;
                location / {{
                    add_header Authorization "Bearer ey{filler}";
                    return 200 "OK";
                }}
            }}
        }}
        """

    @staticmethod
    def path():
        return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")

    @classmethod
    def is_there(cls):
        return cls.path() is not None

    def __init__(self, bench, size):
        """size: bytes of the whole answer."""
        self.bench, self.dir, self.child = bench, f"{bench.dir}/nginx", None
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir, mode=0o711)
        self.port, self.tls_port = free_port(), free_port()
        self.start(0)
        own = len(http_answer(self.port, "x"))
        self.stop()
        self.start(size - own)

    def start(self, filler):
        with open(f"{self.dir}/conf", "w", encoding="ascii") as f:
            f.write(
                self.CONF.format(
                    user="user root;" if os.getuid() == 0 else "",
                    dir=self.dir,
                    port=self.port,
                    tls_port=self.tls_port,
                    keys=self.bench.keys(),
                    filler="x" * filler,
                )
            )
        self.child = subprocess.Popen(
            [self.path(), "-p", self.dir, "-c", f"{self.dir}/conf", "-e", f"{self.dir}/log"]
        )
        wait_for(f"{self.dir}/pid", self.child)

    def load_http(self, speech, *args, tls=False):
        to = f"127.0.0.1:{self.tls_port if tls else self.port}"
        more = ("--tls",) if tls else ()
        return self.bench.load(speech, "--to", to, "--pid", self.child.pid, *more, *args)

    def stop(self):
        self.child.terminate()
        self.child.wait()

    def end(self):
        self.stop()
        shutil.rmtree(self.dir)


class Munge:
    """With the number of threads that it has by default."""

    @staticmethod
    def path():
        return shutil.which("munged", path=os.environ.get("PATH", "") + ":/usr/sbin")

    @classmethod
    def is_there(cls):
        return cls.path() is not None

    def __init__(self, bench):
        self.bench, self.dir = bench, f"{bench.dir}/munge"
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir, mode=0o711)
        self.socket = f"{self.dir}/socket"
        with open(f"{self.dir}/key", "wb", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write(os.urandom(128))
        self.child = subprocess.Popen(
            [self.path(), "--foreground", "--force", "--key-file", f"{self.dir}/key"]
            + ["--socket", self.socket, "--pid-file", f"{self.dir}/pid"]
            + ["--log-file", f"{self.dir}/log", "--seed-file", f"{self.dir}/seed"],
            stderr=subprocess.DEVNULL,
        )
        wait_for(self.socket, self.child)

    def begin(self, speech, *args):
        return self.bench.begin(speech, "--to", self.socket, "--pid", self.child.pid, *args)

    def end(self):
        self.child.terminate()
        self.child.wait()
        shutil.rmtree(self.dir)


class Memcached:
    """A second opinion on redis, with the same keys."""

    @staticmethod
    def is_there():
        return shutil.which("memcached") is not None

    def __init__(self, bench, keys):
        self.bench, self.dir = bench, f"{bench.dir}/memcached"
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir, mode=0o700)
        self.socket = f"{self.dir}/socket"
        who = ["-u", "root"] if os.getuid() == 0 else []
        self.child = subprocess.Popen(
            ["memcached", *who, "-s", self.socket, "-m", "2048", "-t", "1", "-c", "4096"]
        )
        wait_for(self.socket, self.child)
        count = os.path.getsize(keys[1]) // 40
        self.load("memcached-set", *keys, "--in-order", "--depth", 64, "--count", count)

    def load(self, speech, *args):
        return self.bench.load(speech, "--to", self.socket, "--pid", self.child.pid, *args)

    def end(self):
        self.child.terminate()
        self.child.wait()
        shutil.rmtree(self.dir)


def wrk(port, token, ms):
    """Answers a second, by another generator, with one token; None: it is not installed."""
    if not shutil.which("wrk"):
        return None
    ran = subprocess.run(
        ["wrk", "-t", "1", "-c", "64", "-d", f"{max(1, ms // 1000)}s"]
        + ["-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:{port}/tokens/validate"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    if "Non-2xx" in ran.stdout:
        raise SystemExit("bench: wrk was answered with something else than 200")
    found = [line.split()[1] for line in ran.stdout.splitlines() if "Requests/sec" in line]
    return float(found[0])
