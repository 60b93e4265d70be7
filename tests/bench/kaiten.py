# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A kaitend to be measured: its configuration, its tokens, its life."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time

PATIENCE = 1800  # seconds that a start may take: one of an older format writes rows anew
SLUG = 11  # characters of an account's slug, as tests/bench/fill makes them

# What any installation has: both doors, every way to say who calls, and everything else by default
# but the number of connections, since the generator is one peer alone.
CONF = """\
[kaitend]
state_dir = {dir}
plugin_dir = {plugins}
loops = {loops}
log_file = {dir}/kaitend.log

[storage-bdb]
path = {dir}/db
{storage}

[socket]
path = {dir}/rpc.sock
auth = auth-token
auth = auth-jwt
auth = auth-peer
max_connections = 16384
max_connections_per_peer = 16384

[http plain]
listen = 127.0.0.1:{port}
auth = auth-token
auth = auth-jwt

[http tls]
listen = 127.0.0.1:{tls_port}
auth = auth-token
auth = auth-jwt
tls_certificate = {tls}/certificate.pem
tls_key = {tls}/key.pem

[auth-peer]
rule = uid={uid} org=bench subject=bench scopes=read:*,write:* verify=any

[auth-jwt]
key = {tls}/jwt-public.pem alg=ES256
"""
FAST = "cache_size = {cache}M\ncheckpoint_log = 4G"  # while a store is made


def fast():
    """Digests come in no order: a store is made quickly when their pages stay in memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return FAST.format(cache=min(6144, memory // 4 >> 20))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_end(pid):
    """Of a process that is not ours to wait for."""
    while True:
        try:
            with open(f"/proc/{pid}/status", encoding="ascii") as f:
                if "\nState:\tZ" in f.read():
                    return
        except FileNotFoundError:
            return
        time.sleep(0.02)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def forget(folder):
    """Throws the files of a folder out of the page cache."""
    for name in os.listdir(folder):
        fd = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


class Kaitend:
    """On a store with so many tokens and accounts, which is made when it is not there and kept for
    the next run. With scratch, on a copy that may be changed and goes away at the end."""

    def __init__(self, bench, count, accounts=100, loops=1, scratch=False):
        self.bench, self.count, self.pid = bench, count, None
        self.dir = f"{bench.dir}/store-{count}-{accounts}"
        self.port, self.tls_port = free_port(), free_port()
        self.make_or_keep(accounts)
        if scratch:
            kept, self.dir = self.dir, f"{bench.dir}/scratch"
            shutil.rmtree(self.dir, ignore_errors=True)
            subprocess.run(["cp", "-a", "--reflink=auto", kept, self.dir], check=True)
        self.scratch = scratch
        self.socket = f"{self.dir}/rpc.sock"
        self.tokens = ("--keys", f"{self.dir}/tokens", "--width", 36)
        self.accounts = ("--keys", f"{self.dir}/slugs", "--width", SLUG)
        with open(f"{self.dir}/slugs", encoding="ascii") as f:
            text = f.read()
        self.slugs = [text[i : i + SLUG] for i in range(0, len(text), SLUG)]
        self.configure(loops)
        if not self.start():
            with open(f"{self.dir}/stderr", encoding="utf-8") as err:
                raise SystemExit(f"bench: kaitend does not start: {err.read()}")

    def make_or_keep(self, accounts):
        if os.path.exists(f"{self.dir}/complete"):
            self.configure(1)
            if self.start():  # else it is of a format that was given up
                self.stop()
                return
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir, mode=0o700)
        self.configure(1, fast())
        fill = os.environ.get("BENCH_FILL") or f"{self.bench.build}/tests/bench/fill"
        self.bench.say(f"making a store of {self.count:,} tokens")
        files = [f"{self.dir}/kaitend.conf", accounts, self.count]
        files += [f"{self.dir}/slugs", f"{self.dir}/tokens"]
        subprocess.run([fill, *map(str, files)], stderr=subprocess.DEVNULL, check=True)
        os.close(os.open(f"{self.dir}/complete", os.O_CREAT | os.O_WRONLY))

    def configure(self, loops, storage=""):
        plugins = os.environ.get("KAITEND_PLUGIN_DIR") or f"{self.bench.build}/plugins/.libs"
        with open(f"{self.dir}/kaitend.conf", "w", encoding="utf-8") as f:
            f.write(
                CONF.format(
                    dir=self.dir,
                    plugins=plugins,
                    loops=loops,
                    uid=os.getuid(),
                    port=self.port,
                    tls_port=self.tls_port,
                    tls=self.bench.keys(),
                    storage=storage,
                )
            )

    @property
    def command(self):
        kaitend = os.environ.get("BENCH_KAITEND") or f"{self.bench.build}/daemon/kaitend"
        return [kaitend, "-c", f"{self.dir}/kaitend.conf"]

    def start(self):
        """False: it ended."""
        with open(f"{self.dir}/stderr", "w", encoding="utf-8") as err:
            child = subprocess.Popen(self.command, stderr=err)
        self.pid = child.pid
        return self.wait_ready(lambda: child.poll() is not None)

    def wait_ready(self, has_ended=lambda: False):
        """Its first verdicts come before all tokens are in memory. False: it ended."""
        patience = time.monotonic() + PATIENCE
        while True:
            asked = subprocess.run(self.ctl("health"), capture_output=True, text=True, check=False)
            if asked.returncode == 0:
                return True
            if has_ended():
                return False
            if time.monotonic() > patience:
                raise SystemExit(f"bench: kaitend is not ready: {asked.stderr.strip()}")
            time.sleep(0.05)

    def stop(self, how=signal.SIGTERM):
        os.kill(self.pid, how)
        wait_for_end(self.pid)

    def end(self):
        self.stop()
        if self.scratch:
            shutil.rmtree(self.dir)

    def ctl(self, *args):
        kaitenctl = os.environ.get("BENCH_KAITENCTL") or f"{self.bench.build}/client/ctl/kaitenctl"
        return [kaitenctl, "--socket", f"{self.dir}/rpc.sock", *args]

    def load(self, speech, *args):
        return self.bench.load(speech, "--to", self.socket, "--pid", self.pid, *args)

    def load_http(self, speech, *args, tls=False):
        to = f"127.0.0.1:{self.tls_port if tls else self.port}"
        more = ("--tls",) if tls else ()
        return self.bench.load(speech, "--to", to, "--pid", self.pid, *more, *args)

    def begin(self, speech, *args, quiet=False):
        """A load in the background; its answer is what finish() gives."""
        return self.bench.begin(speech, "--to", self.socket, "--pid", self.pid, *args, quiet=quiet)

    def restart(self, cold, how=signal.SIGTERM):
        """Ends it, starts it again, and says how long it took to the first right verdict."""
        self.stop(how)
        if cold:
            forget(f"{self.dir}/db")
        answer = self.bench.load(
            "kaiten-verify", "--to", self.socket, *self.tokens, "--", *self.command
        )
        self.pid = answer.pop("pid")
        return answer | {"cpu": cpu_seconds(self.pid)}

    def files(self):
        """Bytes on disk of the data alone, without the logs."""
        db = f"{self.dir}/db"
        names = [n for n in os.listdir(db) if n.endswith(".db")]
        return sum(os.stat(f"{db}/{n}").st_blocks * 512 for n in names)

    def a_token(self):
        with open(f"{self.dir}/tokens", encoding="ascii") as f:
            return f.read(36)

    def answer_of_validate(self):
        """The whole answer to a good token, as it is on the wire."""
        return http_answer(self.port, self.a_token())


def http_answer(port, token):
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(
            f"GET /tokens/validate HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
            "\r\n".encode()
        )
        data = b""
        while b"\r\n\r\n" not in data:
            data += s.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += s.recv(65536)
        return head + b"\r\n\r\n" + body


class Keys:
    """Certificate, JWT key and JWT of the run."""

    def __init__(self, bench):
        self.dir = f"{bench.dir}/keys"
        if os.path.exists(f"{self.dir}/complete"):
            self.sign(bench)
            return
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir, mode=0o700)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            + ["-nodes", "-subj", "/CN=localhost", "-days", "3650"]
            + ["-keyout", f"{self.dir}/key.pem", "-out", f"{self.dir}/certificate.pem"],
            stderr=subprocess.DEVNULL,
            check=True,
        )
        os.chmod(f"{self.dir}/key.pem", 0o600)
        self.jwt(bench, "keygen", "--alg", "ES256", "--private", f"{self.dir}/jwt-private.pem",
                 "--public", f"{self.dir}/jwt-public.pem")  # fmt: skip
        self.sign(bench)
        os.close(os.open(f"{self.dir}/complete", os.O_CREAT | os.O_WRONLY))

    @staticmethod
    def jwt(bench, *args):
        tool = f"{bench.build}/tests/tools/kaiten-jwt"
        return subprocess.run([tool, *args], stdout=subprocess.PIPE, check=True).stdout

    def sign(self, bench):
        jwt = self.jwt(bench, "sign", "--alg", "ES256", "--key", f"{self.dir}/jwt-private.pem",
                       "--ttl", "86400", "sub=bench", "kaiten_external_org_id=bench",
                       "scopes:=" + json.dumps(["read:*", "write:*"]))  # fmt: skip
        with open(f"{self.dir}/jwt", "wb") as f:
            f.write(jwt)
