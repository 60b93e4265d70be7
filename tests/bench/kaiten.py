# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A kaitend to be measured: its configuration, its tokens, its life."""

import os
import shutil
import signal
import subprocess
import time

ACCOUNTS = 100

CONF = """\
[kaitend]
state_dir = {dir}
plugin_dir = {plugins}
loops = {loops}
log_file = {dir}/kaitend.log

[storage-bdb]
path = {dir}/db

[socket]
path = {dir}/rpc.sock
auth = auth-token
auth = auth-peer
max_connections_per_peer = 4096

[auth-peer]
rule = uid={uid} org=bench subject=bench scopes=read:*,write:* verify=any
"""


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


def forget(folder):
    """Throws the files of a folder out of the page cache."""
    for name in os.listdir(folder):
        fd = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


class Kaitend:
    """With count tokens of 100 accounts. A store with tokens is kept for the next run, one without
    is made anew."""

    def __init__(self, bench, count, loops):
        self.bench, self.count, self.pid = bench, count, None
        self.dir = f"{bench.dir}/kaitend-{count}" if count else f"{bench.dir}/kaitend-mint"
        self.socket = f"{self.dir}/rpc.sock"
        self.tokens = ("--keys", f"{self.dir}/tokens", "--width", 36)
        self.configure_and_start(loops)
        with open(f"{self.dir}/slugs", encoding="ascii") as f:
            self.slugs = f.read().split("\n")
        self.accounts = ("--keys", f"{self.dir}/accounts", "--width", len(self.slugs[0]))

    def configure_and_start(self, loops):
        kept = self.count and os.path.exists(f"{self.dir}/complete")
        if kept:
            self.configure(loops)
            if self.start():
                return
        shutil.rmtree(self.dir, ignore_errors=True)
        os.mkdir(self.dir, mode=0o700)
        self.configure(loops)
        if not self.start():
            with open(f"{self.dir}/stderr", encoding="utf-8") as err:
                raise SystemExit(f"bench: kaitend does not start: {err.read()}")
        self.fill()

    def configure(self, loops):
        plugins = os.environ.get("KAITEND_PLUGIN_DIR") or f"{self.bench.build}/plugins/.libs"
        with open(f"{self.dir}/kaitend.conf", "w", encoding="utf-8") as f:
            f.write(CONF.format(dir=self.dir, plugins=plugins, loops=loops, uid=os.getuid()))

    @property
    def command(self):
        kaitend = os.environ.get("BENCH_KAITEND") or f"{self.bench.build}/daemon/kaitend"
        return [kaitend, "-c", f"{self.dir}/kaitend.conf"]

    def start(self):
        """False: it ended. A kept store may be of a format that was given up."""
        with open(f"{self.dir}/stderr", "w", encoding="utf-8") as err:
            child = subprocess.Popen(self.command, stderr=err)
        self.pid = child.pid
        while subprocess.run(self.ctl("health"), capture_output=True, check=False).returncode:
            if child.poll() is not None:
                return False
            time.sleep(0.05)
        return True

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        wait_for_end(self.pid)

    def ctl(self, *args):
        kaitenctl = os.environ.get("BENCH_KAITENCTL") or f"{self.bench.build}/client/ctl/kaitenctl"
        return [kaitenctl, "--socket", self.socket, *args]

    def load(self, speech, *args):
        return self.bench.load(speech, "--socket", self.socket, "--pid", self.pid, *args)

    def fill(self):
        """Through the front door: what is measured then was made as in any installation."""
        slugs = [
            subprocess.run(
                self.ctl("account", "create", f"bench-{i:03}", "-q"),
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            ).stdout.strip()
            for i in range(ACCOUNTS)
        ]
        for name, text in (("slugs", "\n".join(slugs)), ("accounts", "".join(slugs))):
            with open(f"{self.dir}/{name}", "w", encoding="ascii") as f:
                f.write(text)
        if not self.count:
            return
        keys = ("--keys", f"{self.dir}/accounts", "--width", len(slugs[0]))
        much = ("--connections", 256, "--count", self.count)
        self.load("kaiten-mint", *keys, *much, "--save", f"{self.dir}/tokens")
        os.close(os.open(f"{self.dir}/complete", os.O_CREAT | os.O_WRONLY))

    def restart(self, cold):
        """Ends it, starts it again, and says how long it took to the first right verdict."""
        self.stop()
        if cold:
            forget(f"{self.dir}/db")
        answer = self.bench.load(
            "kaiten-verify", "--socket", self.socket, *self.tokens, "--", *self.command
        )
        self.pid = answer.pop("pid")
        return answer | {"cpu": cpu_seconds(self.pid)}
