# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""EIO of the nth write, sync, open, change of a name or read: once, and from then on."""

import errno
import os
import random
import subprocess
import time

import pytest

from conftest import PATIENCE
from faultlib import (DISK, LIGHT, ON_NAME, ON_OPEN, ON_READ, ON_SYNC, ON_WRITE, SEED, Ended,
                      Shared, disk, durable, ended, figures, looked_at, no_tsan, play, points,
                      start_or_end)
from journal import LOST

pytestmark = [durable, no_tsan]

KINDS = {"write": ON_WRITE, "sync": ON_SYNC, "open": ON_OPEN, "name": ON_NAME, "read": ON_READ}
CHANGES = ("mint", "revoke", "rotate", "delete", "create")


def acknowledged_after(journal, ns):
    """Changes that were acknowledged after that time."""
    names = {line["n"]: line["what"] for line in journal.lines if line["line"] == "attempt"}
    return [line for line in journal.lines if line["line"] == "acknowledged"
            and line["at"] * 1e9 > ns and names[line["n"]] in CHANGES]


class Errors:
    """One kind of call in one phase of a daemon's life, at one point after the other."""

    def __init__(self, template, folder, kind):
        self.template, self.folder, self.kind = template, folder, KINDS[kind]
        self.control = Shared(folder / "control", DISK)
        self.points = self.ends = self.hits = 0
        self.slowest, self.found = 0, []

    def arm(self, nth, forever):
        self.control.arm(nth, forever, kinds=self.kind, error=errno.EIO)

    def serving(self, nth, forever):
        """The error comes while it serves or stops. Returns the number of calls."""
        d, journal = self.template.copy(self.folder / f"{nth}{'on' if forever else ''}")
        d.start(env=disk(d, self.control))
        self.arm(nth, forever)
        play(self.template.pool(d, journal), 2)
        hit_at = self.control.hit_at
        code = self.decided(d, hit_at)
        self.ends += code is not None
        if code not in (None, os.EX_TEMPFAIL):
            self.wrong(nth, forever, f"ended with {code}: {d.tail(3)}")
        if ended(d) < 0:
            self.wrong(nth, forever, f"died: {d.process.returncode} {d.tail(3)}")
        if hit_at and self.kind == ON_SYNC:
            self.after_a_failed_sync(nth, forever, code, acknowledged_after(journal, hit_at))
        return self.recovered(d, journal, nth, forever)

    def decided(self, d, hit_at):
        """The code that it ended with, or None. Its listeners are gone a moment before it is."""
        if hit_at and self.kind == ON_SYNC:
            try:
                return d.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                return None
        return d.process.poll()

    def after_a_failed_sync(self, nth, forever, code, later):
        if code is None:
            self.wrong(nth, forever, "it goes on after a failed sync")
        if later:
            self.wrong(nth, forever, f"acknowledged after a failed sync: {later[:2]}")

    def starting(self, nth, forever, fresh=False):
        """The error comes while it starts on a store that needs recovery, or on none."""
        d, journal = self.template.copy(
            self.folder / f"{'first' if fresh else 'start'}{nth}{'on' if forever else ''}")
        if fresh:
            journal.lines.clear()
            for path in sorted(d.state.rglob("*"), reverse=True):
                if not path.name.startswith("jwt-"):
                    path.rmdir() if path.is_dir() else path.unlink()
        self.arm(nth, forever)
        try:
            start_or_end(d, env=disk(d, self.control))
            count = self.control.count
            self.control.disarm()
        except Ended as e:
            self.ends += 1
            count = self.control.disarm()
            if e.code < 0 or not e.words:
                self.wrong(nth, forever, f"the start {e}")
        if ended(d) < 0:
            self.wrong(nth, forever, f"died: {d.process.returncode} {d.tail(3)}")
        self.recovered(d, journal, nth, forever, [] if fresh else self.template.accounts)
        return count

    def recovered(self, d, journal, nth, forever, accounts=None):
        count = self.control.disarm()
        self.points += 1
        self.hits += self.control.hits > 0
        begun = time.monotonic()
        try:
            start_or_end(d, 2, env=disk(d))
            self.slowest = max(self.slowest, time.monotonic() - begun)
            wrong = looked_at(d, journal, self.template.accounts if accounts is None else accounts)
            if ended(d) != 0:
                wrong.append(f"the end: {d.process.returncode}")
        except Ended as e:
            wrong = [str(e)]
        if wrong:
            self.wrong(nth, forever, wrong[:3])
        d.remove()
        return count

    def wrong(self, *what):
        self.found.append(what)

    def run(self, what, most, **more):
        phase = getattr(self, what)
        count = phase(0, False, **more)
        chance = random.Random(SEED)
        for forever in (False, True):
            for nth in points(chance, count, most):
                phase(nth, forever, **more)
        return count


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_disk(template, tmp_path, kind):
    e = Errors(template, tmp_path, kind)
    serving = e.run("serving", 3)
    starting = e.run("starting", 2)
    fresh = e.run("starting", 2, fresh=True)
    figures(f"errors of {kind}", calls_while_serving=serving, calls_of_a_start=starting,
            calls_of_a_first_start=fresh, points=e.points, hit=e.hits, ended_the_daemon=e.ends,
            violations=len(e.found), s_to_start_again_at_most=e.slowest)
    assert not e.found, f"seed {SEED}: {len(e.found)}, the first: {e.found[:5]}"
    assert e.hits > 0


@pytest.mark.parametrize("kind", ["signing", "digest"])
def test_the_key_in_force_is_that_of_its_file(own_daemon, tmp_path, kind):
    """What is made with a key must be good after the next start, too."""
    d, control = own_daemon("storage-bdb", storage=LIGHT), Shared(tmp_path / "control", DISK)
    ends = {}

    def current():
        rpc = d.rpc()
        keys = rpc.call("key.list").body["items"]
        rpc.close()
        return next(key["id"] for key in keys if key["kind"] == kind)

    for nth in (1, 2):  # the file, then its folder
        d.start(env=disk(d, control))
        before, rpc = current(), d.rpc()
        control.arm(nth, False, kinds=ON_SYNC, error=errno.EIO)
        try:
            assert rpc.call("key.rotate", kind=kind).code == "Key.File"
            assert current() == before
        except LOST:
            ends[nth] = d.process.wait(PATIENCE)
        assert control.hits == 1
        control.disarm()
        d.kill()
        d.start(env=disk(d))
        assert nth in ends or current() == before
        assert d.stop() == 0
    figures(f"a failed sync of the {kind} key", points=2, ended_the_daemon=len(ends))
    assert ends == {2: os.EX_TEMPFAIL}
