# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""storage-postgres writes changes that have nothing to do with each other in one statement, and what
becomes of each is as if it had been written alone."""

import concurrent.futures
import threading

import pytest

import postgres
from conftest import done, wait_for
from metrics import scrape
from postgres import ROLE
from postgres_daemon import Proxy, connections, make, marks, server, tokens_in, works

pytestmark = marks

__all__ = ["make", "server", "works"]  # fixtures

MANY = 12  # fewer than a statement takes


class Gate(Proxy):
    """Lets no change through while it is shut; counts the statements that come."""

    def __init__(self, server):
        super().__init__(server)
        self.open_to_changes = threading.Event()
        self.open_to_changes.set()
        self.statements = 0

    def passed_up(self, data):
        self.statements += data.count(b"\0kaiten_apply\0")
        if b"\0kaiten_apply\0" in data:
            self.open_to_changes.wait(60)
        return data


class Group:
    """A daemon with one connection for writing, and changes that come to it together."""

    def __init__(self, server, make, storage):
        self.server = server
        self.gate = Gate(server)
        self.database = server.database()
        self.d = make(f"host={self.gate.dir} dbname={self.database} user={ROLE}",
                      f"{storage}\nconnections = 1").start()
        wait_for(lambda: connections(server, self.database) == "7", "1 + 4 + 2 connections")

    def waiting(self):
        door = self.d.http("")
        n = scrape(door).get("kaitend_commits_waiting")
        door.close()
        return n

    def mint(self, slug, name):
        door = self.d.http()
        answer = door.call("token.create", serviceAccountSlug=slug, name=name,
                           scopes=["read:instances"])
        door.close()
        return answer

    def together(self, wishes, arm=None):
        """Answers to mints, pairs of account and name, that waited for another one together."""
        self.gate.open_to_changes.clear()
        with concurrent.futures.ThreadPoolExecutor(len(wishes) + 1) as pool:
            seen = self.gate.statements
            first = pool.submit(self.mint, wishes[0][0], "the one before")
            wait_for(lambda: self.gate.statements > seen, "the first one")
            others = [pool.submit(self.mint, *wish) for wish in wishes]
            wait_for(lambda: self.waiting() == len(wishes), "the others to wait")
            self.gate.armed = arm
            self.gate.statements = 0
            self.gate.open_to_changes.set()
            assert first.result().status == 201
            return [other.result() for other in others]


@pytest.fixture
def group(server, make):
    made = []

    def start(storage="timeout = 30s"):
        made.append(Group(server, make, storage))
        return made[-1]
    yield start
    for g in made:
        g.gate.open_to_changes.set()
        g.gate.close()


def live(g, answers):
    return [g.d.http(a.body["token"]).call("token.validate").status for a in answers]


def test_mints_that_wait_share_a_statement(group, works):
    g = group()
    slug, _ = works(g.d)
    answers = g.together([(slug, f"t{i}") for i in range(MANY)])
    assert [a.status for a in answers] == [201] * MANY
    assert g.gate.statements == 1
    assert live(g, answers) == [200] * MANY
    assert g.d.stop() == 0


def test_one_that_is_refused_takes_nobody_along(group, server, works):
    g = group()
    slug, _ = works(g.d)
    assert g.mint(slug, "taken").status == 201
    wishes = [(slug, f"t{i}") for i in range(MANY)]
    wishes[3] = wishes[8] = (slug, "taken")
    answers = g.together(wishes)
    assert [a.status for a in answers] == [409 if i in (3, 8) else 201 for i in range(MANY)]
    assert answers[3].code == answers[8].code == "CreateToken.Conflict"
    assert tokens_in(server, g.database) == str(1 + 1 + 1 + MANY - 2)
    assert live(g, [a for a in answers if a.status == 201]) == [200] * (MANY - 2)
    assert g.d.stop() == 0


def test_a_row_that_somebody_holds_keeps_only_who_needs_it(group, server, works):
    """The statement of all gives up its wait for the lock; then each is tried alone."""
    g = group("timeout = 16s")
    slug, _ = works(g.d)
    other = done(g.d.http(), g.d.http().call("account.create", name="Other"), 201)["slug"]
    assert g.mint(other, "first").status == 201  # the daemon knows the account
    with server.session(g.database, postgres.OWNER) as holder:
        holder.stdin.write("BEGIN; UPDATE kaiten.row SET revision = revision WHERE key = (SELECT key"
                           " FROM kaiten.row WHERE substr(key, 1, 1) = 'a' ORDER BY revision DESC"
                           " LIMIT 1); SELECT 'held';\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "held\n"
        answers = g.together([(other if i == 5 else slug, f"t{i}") for i in range(MANY)])
    assert [a.status for a in answers] == [503 if i == 5 else 201 for i in range(MANY)]
    assert g.d.stop() == 0


@pytest.mark.parametrize("how", ["answer", "request"])
def test_a_lost_answer_to_all_is_looked_up_for_each(group, server, works, how):
    g = group()
    slug, _ = works(g.d)
    answers = g.together([(slug, f"t{i}") for i in range(MANY)], arm=how)
    assert g.gate.spoilt.is_set()
    assert [a.status for a in answers] == [201] * MANY
    assert live(g, answers) == [200] * MANY
    assert tokens_in(server, g.database) == str(1 + 1 + MANY)
    assert g.d.stop() == 0


def test_revocations_share_one_too_and_are_heard_of(group, server, make, works):
    """Also by another daemon, once for all of them."""
    g = group()
    slug, _ = works(g.d)
    minted = [done(g.d.http(), g.mint(slug, f"t{i}"), 201) for i in range(MANY)]

    def revoke(token):
        door = g.d.http()
        answer = door.call("token.revoke", serviceAccountSlug=slug, tokenSlug=token["slug"])
        door.close()
        return answer.status

    g.gate.open_to_changes.clear()
    with concurrent.futures.ThreadPoolExecutor(MANY + 1) as pool:
        seen = g.gate.statements
        first = pool.submit(g.mint, slug, "the one before")
        wait_for(lambda: g.gate.statements > seen, "the first one")
        revoked = [pool.submit(revoke, token) for token in minted]
        wait_for(lambda: g.waiting() == MANY, "the others to wait")
        g.gate.statements = 0
        g.gate.open_to_changes.set()
        assert first.result().status == 201
        assert [r.result() for r in revoked] == [204] * MANY
    assert g.gate.statements <= 2  # and what the journal has got, perhaps
    assert {g.d.http(t["token"]).call("token.validate").status for t in minted} == {401}
    assert g.d.stop() == 0
