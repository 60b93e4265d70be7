# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A disk that fills up, at a hundred amounts of space: nothing is minted without the reserve, and
what is to die dies, also after a restart on the full disk. What runs out of descriptors waits."""

import contextlib
import os
import resource
import socket
import time

from conftest import wait_for
from faultlib import (DISK, FULL, SMALL, Busy, Shared, disk, durable, ended, figures,
                      looked_at, no_tsan)
from journal import LOST

pytestmark = [durable, no_tsan]

MIB = 1 << 20
POINTS = 100 if FULL else 4
STORAGE = SMALL + "\nballast = 4M\nreserve = 4M"
RESERVE = 4 * MIB
SPACE = 1 << 30


def answers(d):
    try:
        d.rpc().close()
        return True
    except LOST:
        return False


def has_started(d):
    """Past the refusals of a daemon that is still filling its index."""
    try:
        with contextlib.closing(d.rpc()) as rpc:
            said = rpc.call("readyz")
    except LOST:
        return False
    return said.ok or "starting" not in said.body["detail"]


class Filled:
    """One daemon on a disk that has so much space left."""

    def __init__(self, template, folder, left):
        self.control = Shared(folder / f"control-{left}", DISK)
        self.d, self.journal = template.copy(folder / f"left-{left}")
        self.d.settings["storage"] = STORAGE
        self.d.write_conf()
        self.accounts, self.left, self.found = template.accounts, left, []
        self.control.limited, self.control.space = 1, SPACE
        self.pool = template.pool(self.d, self.journal)
        self.players = [Busy(self.pool, door, f"full-{door}-{left}", 1)
                        for door in ("http", "socket")]

    def each(self, *steps):
        for what in steps:
            for p in self.players:
                p.step(what)

    def lines(self, what, since=0):
        names = {n["n"]: n["what"] for n in self.journal.lines if n["line"] == "attempt"}
        return [n for n in self.journal.lines[since:]
                if n["line"] != "attempt" and names[n["n"]] == what]

    def revokes(self, when):
        """Both doors revoke, and it is done."""
        since = len(self.journal.lines)
        self.each("revoke")
        for line in self.lines("revoke", since):
            if line["line"] != "acknowledged":
                self.found.append((self.left, when, line))

    def starts(self, again):
        """It serves, though it is not ready: that is about minting, too."""
        self.d.spawn(env=disk(self.d, self.control))
        wait_for(lambda: self.d.process.poll() is not None or has_started(self.d), "a start")
        if self.d.process.poll() is not None:
            self.found.append((self.left, again, self.d.process.returncode, self.d.tail(3)))
            self.d.start(env=disk(self.d))

    def run(self):
        self.d.start(env=disk(self.d, self.control))
        self.each(*["mint"] * 6)
        self.control.space = self.left
        since = len(self.journal.lines)
        if self.left < RESERVE:  # whoever looks at the space does so now and then
            wait_for(lambda: not self.mints(), "mints to be refused")
        self.each("mint", "mint", "verify")
        refused = [n for n in self.lines("mint", since) if n["line"] != "acknowledged"]
        if any(n.get("code") != "Storage.Full" or n.get("status") != 503 for n in refused):
            self.found.append((self.left, refused[:2]))
        self.revokes("while full")
        for again in ("a restart", "the next restart"):
            self.d.kill()
            for p in self.players:
                p.door = None
            self.starts(again)
            self.revokes("after " + again)
        self.control.space = SPACE
        wait_for(self.mints, "mints once there is space")
        self.found += looked_at(self.d, self.journal, self.accounts)
        if ended(self.d) != 0:
            self.found.append((self.left, "the end", self.d.process.returncode))
        self.d.remove()
        return bool(refused)

    def mints(self):
        since = len(self.journal.lines)
        self.each("mint")
        return all(n["line"] == "acknowledged" for n in self.lines("mint", since))


def test_a_disk_that_fills_up(template, tmp_path):
    found, refused, revocations = [], 0, 0
    for i in range(POINTS):
        f = Filled(template, tmp_path, RESERVE * 3 // 2 * i // (POINTS - 1))
        refused += f.run()
        found += f.found
        revocations += f.journal.count("revoke") - template.journal.count("revoke")
    figures("full disks", points=POINTS, refused_mints=refused, revocations=revocations,
            restarts_while_full=2 * POINTS, violations=len(found))
    assert not found, f"{len(found)}, the first: {found[:5]}"
    assert 0 < refused < POINTS


def cpu_seconds(d):
    with open(f"/proc/{d.process.pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def knock(d, local):
    s = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
    s.setblocking(False)
    s.connect_ex(d.socket_path if local else ("127.0.0.1", d.port))
    return s


def test_no_descriptors_are_left(template, tmp_path):
    """Those inside are served, whatever files that takes; nobody spins; and it gets better."""
    d, journal = template.copy(tmp_path / "few")

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (72, 72))

    d.start(preexec_fn=few)
    pool = template.pool(d, journal)
    players = [Busy(pool, door, f"few-{door}", 1) for door in ("http", "socket")]
    for p in players:
        p.step("mint")
    doors = [p.door for p in players]
    waiting = [knock(d, i % 2) for i in range(400 if FULL else 150)]
    wait_for(lambda: "listen.accept" in d.log.read_text(), "the descriptors to run out")
    lines, cpu, begun = d.log.read_text().count("\n"), cpu_seconds(d), time.monotonic()
    while time.monotonic() - begun < 1.5:
        time.sleep(0.05)
    took = time.monotonic() - begun
    used = (cpu_seconds(d) - cpu) / took
    said = d.log.read_text().count("\n") - lines
    assert used < 0.20, f"{used:.0%} of a core while it waits"
    assert said <= took + 1, d.tail()  # a line a second
    for _ in range(60):
        for what in ("mint", "verify", "rotate", "revoke"):
            for p in players:
                p.step(what)
    assert [p.door for p in players] == doors, "those inside were thrown out"
    for s in waiting:
        s.close()
    begun = time.monotonic()
    wait_for(lambda: serves(d), "descriptors")
    recovered = time.monotonic() - begun
    found = looked_at(d, journal, template.accounts)
    figures("no descriptors", clients=len(waiting), percent_of_a_core=round(used * 100, 1),
            lines_in_the_log=said, s_until_served=recovered, violations=len(found))
    assert not found, found[:5]
    assert ended(d) == 0
    d.remove()


def serves(d):
    try:
        return answers(d) and d.http().call("whoami").ok
    except LOST:
        return False
