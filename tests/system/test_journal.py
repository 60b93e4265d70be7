# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The checker of journals finds each violation that is put into a clean journal."""

import pytest

import journal


class Story:
    """A journal with a clock of its own."""

    def __init__(self):
        self.journal = journal.Journal()
        self.now = 0

    def tick(self):
        self.now += 1
        self.journal.lines[-1]["at"] = self.now

    def begin(self, what, **facts):
        n = self.journal.attempt(what, **facts)
        self.tick()
        return n

    def end(self, n, line="acknowledged", **facts):
        self.journal.end(n, line, **facts)
        self.tick()

    def call(self, what, line="acknowledged", told=None, **facts):
        self.end(self.begin(what, **facts), line, **(told or {}))

    def mint(self, name, key=None, line="acknowledged", account="a", **more):
        key = key or name
        told = dict(secret="ksh_" + name, token="id-" + name, answered=key, **more)
        self.call("mint", line, told, key=key, nonce=key, account=account)

    def verify(self, name, valid, **more):
        self.call("verify", told=dict(valid=valid, **more), secret="ksh_" + name)

    def check(self, **options):
        return [v.kind for v in journal.check(self.journal.lines, **options)]


def clean():
    """Everything that may happen."""
    s = Story()
    for name in ("one", "two", "three", "four"):
        s.mint(name)
    s.mint("five", line="unknown")
    s.mint("six", line="refused", status=409, code="x")
    s.verify("one", True, answered_token="id-one")
    during = s.begin("verify", secret="ksh_two")
    s.call("revoke", token="id-two")
    s.end(during, valid=True)
    s.verify("two", False, code="revoked")
    s.call("rotate", told=dict(secret="ksh_three2", answered="three"), token="id-three",
           nonce="three")
    s.verify("three", False)
    s.verify("three2", True)
    s.call("revoke", "unknown", token="id-four")
    s.verify("four", True)
    s.verify("four", False)
    s.mint("in-b", account="b")
    s.call("delete", account="b")
    s.verify("in-b", False)
    s.mint("all", account="c")
    s.call("revoke_all", account="c")
    s.verify("all", False)
    s.mint("lost", line="unknown", account="c")
    s.call("revoke_all", account="c")
    s.mint("lost", account="c")  # the same key: what is answered may be dead already
    s.verify("lost", False)
    s.mint("later", account="c")
    s.verify("later", True)
    s.call("list", told=dict(tokens={"all": ("id-all", True), "lost": ("id-lost", True),
                                     "later": ("id-later", False)}), account="c")
    slow = s.begin("mint", key="slow", nonce="slow", account="d")
    s.call("revoke_all", account="d")  # after the mint, before its answer was read
    s.end(slow, secret="ksh_slow", token="id-slow", answered="slow")
    s.call("revoke", "refused", dict(status=404, code="Token.NotFound"), token="id-slow")
    s.verify("slow", False)
    s.call("list", told=dict(tokens={"slow": ("id-slow", True)}), account="d")
    s.mint("short", expires=100)
    s.call("verify", told=dict(valid=False), secret="ksh_short", wall=101)
    s.call("list", told=dict(tokens={"one": ("id-one", False), "two": ("id-two", True),
                                     "three": ("id-three", False), "four": ("id-four", True),
                                     "five": ("id-5", False), "short": ("id-short", False)}),
           account="a")
    s.call("healthz", "refused", dict(status=503, code="Server.Busy"))
    return s


def lost_at_once(s):
    s.verify("one", False, code="unknown")


def lost_by_a_refused_revocation(s):
    s.mint("nr")
    s.call("revoke", "refused", dict(status=403, code="x"), token="id-nr")
    s.verify("nr", False, code="revoked")


def lost_new_secret_of_a_rotation(s):
    s.verify("three2", False, code="revoked")


def lost_from_the_list(s):
    s.mint("nt", account="at")
    s.call("list", told=dict(tokens={}), account="at")


def lost_by_a_revocation_that_came_later(s):
    s.mint("nu")
    s.verify("nu", False)
    s.call("revoke", token="id-nu")


def resurrected_after_revocation(s):
    s.verify("two", True)


def resurrected_after_rotation(s):
    s.verify("three", True)


def resurrected_with_its_account(s):
    s.verify("in-b", True)


def resurrected_with_all_of_its_account(s):
    s.verify("all", True)


def resurrected_in_the_list_after_all_were_revoked(s):
    s.mint("nB", account="aB")
    s.call("revoke_all", account="aB")
    s.call("list", told=dict(tokens={"nB": ("id-nB", False)}), account="aB")


def lost_by_an_end_that_came_before(s):
    s.call("revoke_all", account="aC")
    s.mint("nC", account="aC")
    s.verify("nC", False)


def resurrected_after_it_was_seen_dead(s):
    s.verify("four", True)


def resurrected_after_expiry(s):
    s.mint("brief", expires=100)
    s.call("verify", told=dict(valid=True), secret="ksh_brief", wall=101)


def resurrected_in_the_list(s):
    s.mint("nA", account="aA")
    s.call("revoke", token="id-nA")
    s.call("list", told=dict(tokens={"nA": ("id-nA", False)}), account="aA")


def doubled_key(s):
    s.mint("again", key="one")


def mixed_reply(s):
    s.call("account.get", told=dict(answered="b"), nonce="a")


def mixed_verdict(s):
    s.verify("one", True, answered_token="id-three")


def unexplained_status(s):
    s.call("mint", "refused", dict(status=500, code="INTERNAL"), account="a", key="zz")


def ghost_of_a_refused_mint(s):
    s.mint("nF", account="aF", line="refused", status=422, code="x")
    s.call("list", told=dict(tokens={"nF": ("id-nF", False)}), account="aF")


def ghost_of_an_unread_mint(s):
    s.mint("nG", account="aG", line="unread")
    s.call("list", told=dict(tokens={"nG": ("id-nG", False)}), account="aG")


def ghost_that_nobody_asked_for(s):
    s.call("list", told=dict(tokens={"nH": ("id-nH", False)}), account="aH")


def ghost_of_an_unread_revocation(s):
    s.mint("nI", account="aI")
    s.call("revoke", "unread", token="id-nI")
    s.call("list", told=dict(tokens={"nI": ("id-nI", True)}), account="aI")


KINDS = {"lost", "resurrected", "doubled", "mixed", "unexplained", "ghost"}
SEEDS = [f for name, f in list(globals().items()) if name.split("_")[0] in KINDS]


def test_a_clean_journal_has_no_violation():
    assert clean().check(excused=("Server.Busy",)) == []


@pytest.mark.parametrize("seed", SEEDS, ids=lambda f: f.__name__)
def test_a_seeded_violation_is_found(seed):
    s = clean()
    seed(s)
    assert s.check(excused=("Server.Busy",)) == [seed.__name__.split("_")[0]]


def test_all_seeds_at_once():
    s = clean()
    for seed in SEEDS:
        seed(s)
    found = s.check(excused=("Server.Busy",))
    assert len(found) >= len(SEEDS)
    assert set(found) == KINDS


def test_what_nobody_excused_is_found():
    assert clean().check() == ["unexplained"]


def test_the_end_of_what_was_asked_for_twice_is_explained():
    """The first answer was lost, then all were revoked, then the second answer named the token."""
    s = Story()
    s.mint("one", line="unknown")
    s.call("revoke_all", account="a")
    s.mint("one")
    s.verify("one", False, code="revoked")
    s.call("revoke", line="refused", told=dict(status=404, code="x"), token="id-one")
    s.call("list", told=dict(tokens={"one": ("id-one", True)}), account="a")
    assert s.check() == []
