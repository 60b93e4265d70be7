# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Copies that are made under load, each put back and held against what clients had been told;
copies that are damaged or half made; and stores of another format, killed while they are brought up
to date."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest

from conftest import BUILD, KAITENCTL, KAITEND, Daemon, wait_for
from faultlib import (DISK, FULL, LIGHT, ON_NAME, ON_OPEN, ON_SYNC, ON_WRITE, SEED, Calm, Ended,
                      Shared, accounts_of, actors_of, disk, durable, figures, fill, join,
                      looked_at, no_tsan, not_valid, start_or_end)
from journal import Journal, Pool

COPIES = 50 if FULL else 2
DAMAGES = 50 if FULL else 3
KILLS = 50 if FULL else 2
STEPS = 100 if FULL else 4
FORMAT = BUILD / "tests/plugin/bdb-format"
OLD_ROWS = BUILD / "tests/faults/old-rows"
OLD_TOKENS = 2000
NEWER_ROWS = 4

pytestmark = durable


class Site:
    """A daemon under load, whose copies are taken and put back beside it."""

    def __init__(self, d, folder):
        self.d, self.folder = d.start(), folder
        self.pool = Pool(d, Journal(), accounts_of(d))
        self.actors = actors_of(self.pool, 2, Calm)
        self.pool.up.set()

    def copy(self, n):
        """When it was begun, when the journal of revocations was taken, and the folder."""
        folder = self.folder / f"copy{n}"
        begun = time.monotonic()
        self.d.ctl("backup", folder)
        time.sleep(0.2)  # in which the world goes on
        self.d.process.send_signal(signal.SIGSTOP)
        try:
            wait_for(self.is_still, "all threads to stop")
            taken = time.monotonic()
            beside = self.folder / f"beside{n}"
            beside.mkdir()
            for file in self.d.state.iterdir():
                if file.is_file():
                    shutil.copy2(file, beside)
        finally:
            self.d.process.send_signal(signal.SIGCONT)
        return begun, taken, folder, beside

    def is_still(self):
        """Threads stop one after the other; until then what is asked may yet be done."""
        tasks = pathlib.Path(f"/proc/{self.d.process.pid}/task")
        return all((t / "stat").read_text().rpartition(")")[2].split()[0] == "T"
                   for t in tasks.iterdir())


def restored(copy, beside, folder):
    """Another daemon, with this copy for a store."""
    folder.mkdir()
    d = Daemon("storage-bdb", storage=LIGHT, level="info", folder=folder)
    for file in beside.iterdir():
        if file.is_file():
            shutil.copy2(file, d.state)
    return d, subprocess.run([KAITEND, "-c", d.conf, "--restore", copy], capture_output=True,
                             text=True, timeout=60, check=False)


def known(journal, begun, taken):
    """What must still hold: what was made before the copy was begun, and what ended before the
    journal of revocations was taken. Of what was made between, nobody can tell."""
    part, whats = Journal(), {}
    part.numbers = journal.numbers
    for line in list(journal.lines):
        if line["at"] > taken:
            break
        if line["line"] == "attempt":
            whats[line["n"]] = line["what"]
        made = whats[line["n"]] in ("mint", "rotate", "create", "list")
        if line["line"] == "acknowledged" and made and line["at"] > begun:
            line = dict(n=line["n"], line="unknown", at=line["at"])
        part.lines.append(line)
    return part


def test_every_copy_that_was_finished_can_be_put_back(own_daemon, tmp_path):
    site = Site(own_daemon("storage-bdb", storage=LIGHT, level="notice"), tmp_path)
    found, slowest, copies = [], 0, []
    try:
        for n in range(COPIES):
            copies.append(site.copy(n))
    finally:
        join(site.pool, site.actors)
    for n, (begun, taken, copy, beside) in enumerate(copies):
        d, ran = restored(copy, beside, tmp_path / f"r{n}")
        assert ran.returncode == 0, ran.stderr
        begin = time.monotonic()
        d.start(60)
        slowest = max(slowest, time.monotonic() - begin)
        wrong = looked_at(d, known(site.pool.journal, begun, taken), site.pool.accounts)
        found += [(n, w) for w in wrong]
        assert d.stop() == 0
        d.remove()
    found += looked_at(site.d, site.pool.journal, site.pool.accounts)
    refused, damages = damaged(site, copies, tmp_path)
    figures("copies under load", copies=len(copies), put_back=len(copies), violations=len(found),
            damaged=damages, of_them_refused=refused,
            acknowledged_mints=site.pool.journal.count("mint"),
            revocations=site.pool.journal.count("revoke"), s_to_start_at_most=slowest)
    assert not found, f"seed {SEED}: {len(found)}, the first: {found[:5]}"
    assert refused == damages and site.d.stop() == 0


def damaged(site, copies, folder):
    """One byte of one file, anywhere: such a copy is put in nobody's place."""
    chance, refused = random.Random(SEED), 0
    for n in range(DAMAGES):
        _, _, copy, beside = copies[n % len(copies)]
        file = chance.choice(sorted(f for f in copy.iterdir() if f.stat().st_size))
        data = bytearray(file.read_bytes())
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
        d, ran = restored(copy, beside, folder / f"d{n}")
        refused += ran.returncode == os.EX_DATAERR and not (d.state / "db").exists()
        d.remove()
    return refused, DAMAGES


def test_a_kill_while_a_copy_is_made(own_daemon, tmp_path):
    d = own_daemon("storage-bdb", storage=LIGHT, level="notice")
    site, chance = Site(d, tmp_path), random.Random(SEED)
    whole = kills = 0
    try:
        for n in range(KILLS):
            copy = tmp_path / f"copy{n}"
            ctl = subprocess.Popen([KAITENCTL, "--socket", d.socket_path, "backup", copy],
                                   stderr=subprocess.PIPE)
            time.sleep(chance.uniform(0, 0.15))  # the instant of the kill is what is random
            kills += ctl.poll() is None
            site.pool.up.clear()
            d.kill()
            said = ctl.communicate(timeout=60)
            d.start(60)
            site.pool.up.set()
            assert not (d.state / "backup").exists(), "half a copy is left"
            whole += ctl.returncode == 0
            assert ctl.returncode == 0 or said[1]
            if copy.exists():  # then it is whole, also when that could no longer be said, or refused
                other, ran = restored(copy, d.state, tmp_path / f"k{n}")
                assert ran.returncode in (0, ctl.returncode and os.EX_DATAERR), ran
                other.remove()
    finally:
        join(site.pool, site.actors)
    found = looked_at(d, site.pool.journal, site.pool.accounts)
    figures("kill -9 while a copy is made", kills=KILLS, in_the_midst=kills, finished=whole,
            violations=len(found))
    assert not found, f"seed {SEED}: {len(found)}, the first: {found[:5]}"
    assert d.stop() == 0


@no_tsan
def test_a_kill_while_a_copy_is_put_back(template, tmp_path):
    """What was there before or the copy, at every instant: a start that found nothing would begin an
    empty store. And whatever is left lying about, the next one puts the copy back."""
    control, every = Shared(tmp_path / "control", DISK), ON_WRITE | ON_SYNC | ON_OPEN | ON_NAME
    found, killed, copy = [], 0, tmp_path / "copy"
    first, _ = template.copy(tmp_path / "first")
    first.start().ctl("backup", copy)
    assert first.stop() == 0
    site = template.kept_in(first)

    def put_back(d, **kwargs):
        return subprocess.run([KAITEND, "-c", d.conf, "--restore", copy, "--replace"], timeout=60,
                              capture_output=True, text=True, check=False, **kwargs)

    def look(n, d, journal):
        start_or_end(d)
        found.extend((n, w) for w in looked_at(d, journal, template.accounts))
        assert d.stop() == 0

    def kill(n):
        """At the nth call; 0: never. Returns how many there were."""
        nonlocal killed
        d, journal = site.copy(tmp_path / f"p{n}")
        before = (d.state / "db").stat().st_ino
        control.arm(n, False, kinds=every, error=0)
        ran = put_back(d, env=disk(d, control))
        count = control.disarm()
        if before not in [f.stat().st_ino for f in d.state.glob("db*") if f.name != "db.new"]:
            found.append((n, "what was there is not kept"))
        killed += ran.returncode == -signal.SIGKILL
        look(n, d, journal)
        ran = put_back(d)
        if ran.returncode != 0 or (d.state / "db.new").exists():
            found.append((n, ran))
        look(n, d, journal)
        d.remove()
        return count

    count = kill(0)
    numbers = range(1 if FULL else count - 4, count + 1)  # the names change at the end
    for n in numbers:
        kill(n)
    figures("kill -9 while a copy is put back", points=len(numbers), killed=killed,
            violations=len(found))
    assert not found, f"seed {SEED}: {len(found)}, the first: {found[:5]}"
    assert killed == len(numbers)


# --- formats --------------------------------------------------------------------------------------

def set_format(d, number):
    subprocess.run([FORMAT, d.state / "db", str(number)], check=True, capture_output=True)


def get_format(d):
    ran = subprocess.run([FORMAT, d.state / "db"], check=True, capture_output=True, text=True)
    return int(ran.stdout)


def older(template, folder, what):
    """The template as an older version had it, and the secrets of what is in it besides."""
    d, _ = template.copy(folder)
    secrets = []
    if what == "files":
        set_format(d, get_format(d) - 1)
    else:
        secrets = fill(d, 10, OLD_TOKENS)
        subprocess.run([OLD_ROWS, d.conf, what[-1]], check=True, capture_output=True)
    return template.kept_in(d), secrets


def is_new(d, what, now):
    if what == "files":
        return get_format(d) == now
    return "event=store.migrated space=c" in d.log.read_text()


@no_tsan
@pytest.mark.parametrize("what", ["files", "rows of 1", "rows of 2"])
def test_a_kill_while_the_format_is_brought_up_to_date(template, tmp_path, what):
    control = Shared(tmp_path / "control", DISK)
    every = ON_WRITE | ON_SYNC | ON_OPEN | ON_NAME
    found, killed, now = [], 0, get_format(template.d)
    old, secrets = older(template, tmp_path / "old", what)

    def start(n):
        """The nth call is the last one; 0: none is. Returns how many there were."""
        nonlocal killed
        d, journal = old.copy(tmp_path / f"f{n}")
        control.arm(n, False, kinds=every, error=0)
        try:
            start_or_end(d, env=disk(d, control))
            count = control.count
            d.kill()
        except Ended as e:
            count = control.count
            killed += e.code == -signal.SIGKILL
        control.disarm()
        start_or_end(d)
        found.extend((n, w) for w in looked_at(d, journal, template.accounts))
        found.extend((n, "lost", secret) for secret in not_valid(d, secrets))
        assert d.stop() == 0
        if not is_new(d, what, now):
            found.append((n, "the format is still the older one"))
        d.remove()
        return count

    count = start(0)
    steps = sorted(random.Random(SEED).sample(range(1, count + 1), min(STEPS, count)))
    for n in steps:
        start(n)
    figures(f"kill -9 while the format of {what} is changed", points=len(steps), killed=killed,
            calls_of_such_a_start=count, more_tokens=len(secrets), violations=len(found))
    assert not found, f"seed {SEED}: {len(found)}, the first: {found[:5]}"
    assert killed >= len(steps) // 2


def test_rows_of_a_newer_format_are_refused(template, tmp_path):
    d, _ = template.copy(tmp_path / "newer")
    subprocess.run([OLD_ROWS, d.conf, str(NEWER_ROWS)], check=True, capture_output=True)
    for _ in range(2):
        with pytest.raises(Ended) as e:
            start_or_end(d)
        assert f"format={NEWER_ROWS} known={NEWER_ROWS - 1}" in e.value.words, e.value
        assert e.value.code == os.EX_CONFIG
    d.remove()


def test_a_newer_format_is_refused_and_left_alone(template, tmp_path):
    d, journal = template.copy(tmp_path / "newer")
    now = get_format(d)
    set_format(d, now + 1)
    for _ in range(2):
        with pytest.raises(Ended) as e:
            start_or_end(d)
        assert f"format {now + 1}" in e.value.words and e.value.code > 0
    assert get_format(d) == now + 1
    set_format(d, now)
    d.start(60)
    assert not looked_at(d, journal, template.accounts)
    assert d.stop() == 0
    d.remove()
