# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""SIGHUP reads the configuration again: all of it, or nothing."""

import datetime
import os
import random
import re
import signal

import pytest

from conftest import STORES, wait_for
from test_backup import kaitend

FULL = os.environ.get("KAITEN_FAULTS") == "full"
MUTATIONS = 200 if FULL else 25
SEED = int(os.environ.get("KAITEN_SEED", 1))

pytestmark = pytest.mark.skipif("storage-bdb" not in STORES, reason="no durable store was built")


class Site:
    def __init__(self, d):
        self.d = d.start()
        self.rpc = d.rpc()
        assert self.rpc.call("account.create", name="farm", slug="farm").ok
        self.minted = 0

    def count(self, event):
        return self.d.log.read_text(errors="replace").count(f"event={event} ")

    def reload(self):
        """True: it was taken over."""
        loaded, kept = self.count("config.loaded"), self.count("config.kept")
        self.d.process.send_signal(signal.SIGHUP)
        wait_for(lambda: (self.count("config.loaded"), self.count("config.kept")) != (loaded, kept),
                 "the configuration to be read")
        return self.count("config.loaded") > loaded

    def last(self, event):
        """That of the latest reload, which may be told a moment later than its outcome."""
        def line():
            text = self.d.log.read_text(errors="replace")
            text = text[max(text.rfind("event=config.loaded "), text.rfind("event=config.kept ")):]
            return [line for line in text.splitlines() if f"event={event} " in line]

        return wait_for(line, event)[-1]

    def may_live(self, hours):
        """Whether a token may live so long."""
        self.minted += 1
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours)
        answer = self.rpc.call("token.create", serviceAccountSlug="farm", name=f"t{self.minted}",
                               scopes=["read:tokens"], expiresAt=end.strftime("%Y-%m-%dT%H:%M:%SZ"))
        assert answer.ok or answer.status == 422, answer
        return answer.ok


@pytest.fixture
def site(own_daemon):
    s = Site(own_daemon("storage-bdb", level="notice"))
    yield s
    s.rpc.close()


def test_what_can_change_does_and_what_cannot_is_named(site):
    d = site.d
    assert site.may_live(2)
    d.write_conf(daemon="max_token_lifetime = 1h\nloops = 7\nrequest_timeout = 9s", level="debug",
                 sock="idle_timeout = 11m", rules=("uid=* org=other subject=other scopes=read:*",))
    assert site.reload()
    assert not site.may_live(2) and site.may_live(0.5)
    restart = site.last("config.restart")
    assert re.search(r'options="\[auth-peer\] rule, \[kaitend\] loops, \[socket\] idle_timeout"',
                     restart), restart
    wait_for(lambda: site.rpc.call("kaiten.ping").ok and "level=debug" in d.log.read_text(),
             "a line of the new level")
    # The rule is the old one, and a fresh connection is judged by it, too.
    assert d.rpc().call("account.list").body["items"]
    d.write_conf()
    assert site.reload()
    assert site.may_live(2)


@pytest.mark.parametrize("change, words", [
    (dict(daemon="max_token_lifetime = 1h\nlopps = 1"), r"kaitend\.conf:\d+: .*lopps"),
    (dict(daemon="max_token_lifetime = 1h\nworkers = 0"), r"kaitend\.conf:\d+: .*workers"),
    (dict(daemon="max_token_lifetime = 1h", rules=("uid=* nonsense",)), None),
    (dict(daemon="max_token_lifetime = 1h", sock="mode = 9"), r"kaitend\.conf:\d+: .*mode"),
    (dict(daemon="max_token_lifetime = 1h", extra="[nobody]\nx = 1"), r"kaitend\.conf:\d+: .*nobody"),
    (dict(daemon="max_token_lifetime = 1h", http="auth = auth-other"),
     r"kaitend\.conf:\d+: .*needs a restart"),
])
def test_a_broken_file_changes_nothing(site, change, words):
    site.d.write_conf(**change)
    taken = site.reload()
    if words is None:  # what stands in a rule is looked at by its plugin, at a restart
        assert taken and "[auth-peer] rule" in site.last("config.restart")
        return
    assert not taken
    assert re.search(words, site.last("config.kept")), site.last("config.kept")
    assert site.may_live(2)
    assert site.d.process.poll() is None


def mutate(chance, text):
    lines = text.splitlines(keepends=True)
    # Plugins that are loaded are not looked for again.
    some = [i for i, line in enumerate(lines) if not line.startswith("plugin_dir")]
    at, other, kind = chance.choice(some), chance.choice(some), chance.randrange(8)
    line = lines[at]
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, line)
    elif kind == 2:
        lines[at] = line[:chance.randrange(len(line))] + "\n"
    elif kind == 3:
        i = chance.randrange(len(line))
        lines[at] = line[:i] + chance.choice("=[]#\"x9 -") + line[i + 1:].rstrip("\n") + "\n"
    elif kind == 4:
        lines[at] = re.sub(r"\d+", lambda m: str(chance.choice([0, 1, 10 ** 6, 10 ** 20])), line)
    elif kind == 5:
        lines.insert(at, chance.choice(["queue_max = 7\n", "audit_retention = 1d\n", "\n", "[http]\n",
                                        "# nothing\n", "retention = often\n"]))
    elif kind == 6:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = line.rstrip("\n") + chance.choice(["s", "h", " x", "\t", ".5"]) + "\n"
    return "".join(lines)


def test_each_of_many_mutations_is_taken_whole_or_refused_with_its_line(site):
    d, chance, in_force, kept = site.d, random.Random(SEED), None, 0
    for i in range(MUTATIONS):
        hours = (1, 3)[i % 2]
        d.write_conf(daemon=f"max_token_lifetime = {hours}h\nlast_used_interval = {30 + i}s")
        text = mutate(chance, d.conf.read_text())
        d.conf.write_text(text)
        ran = kaitend(d, "--dump-config")
        if site.reload():
            assert ran.returncode == 0, (text, ran)
            said = re.search(r"^max_token_lifetime = (.*)$", ran.stdout, re.M).group(1)
            in_force = said
        else:
            kept += 1
            why = site.last("config.kept")
            assert ran.returncode != 0 or "needs a restart" in why, (text, why)
            assert re.search(r"kaitend\.conf(:\d+)?: ", why), why
        limit = {"1h": 1, "3h": 3}.get(in_force)
        if limit:
            assert site.may_live(2) == (limit == 3), (text, in_force)
    assert 0 < kept < MUTATIONS
    assert d.process.poll() is None and d.stop() == 0
