# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Somebody who can write the database puts single rows back that were true once, seals and all, or
takes away what would tell: it is noticed at the start, and nothing is accepted until the operator has
said so."""

import collections
import subprocess

import pytest

from conftest import BUILD, PATIENCE, PLUGIN_DIR, STORES, wait_for
from test_backup import kaitend
from test_rollback import Cut, Site, quarantined, rekeyed

pytestmark = pytest.mark.skipif("storage-bdb" not in STORES, reason="no durable store was built")

MARK = b"mjournal".hex()
SPACES = H, T, A = "68", "74", "61"


class Rows(Site):
    """Rows go through the library, which makes its own page checksums anew."""

    def tool(self, *commands):
        ran = subprocess.run([BUILD / "tests/plugin/bdb-tool", PLUGIN_DIR / "storage-bdb.so",
                              self.db, "ballast=1M", *commands],
                             capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def read(self):
        """Of a store that is not in use: key to value, in hexadecimal digits."""
        lines = (line.split() for line in self.tool("rows=acehmrstux").splitlines())
        return {line[1]: line[2] for line in lines if line[0] == "row"}

    def write(self, rows):
        self.tool(*(f"row={key}:{value}" for key, value in rows.items()))

    def says_why(self):
        """Starts it, and tells why nothing is accepted."""
        reason = self.start_quarantined().body["detail"]
        self.d.stop()
        return reason


@pytest.fixture
def site(own_daemon):
    s = Rows(own_daemon("storage-bdb").start())
    for account in ("farm", "gone", "swept"):
        assert s.call("account.create", name=account, slug=account).ok
    return s


def rotate(site, slug, grace):
    assert site.call("token.rotate", serviceAccountSlug="farm", tokenSlug=slug,
                     gracePeriodSeconds=grace).ok


ENDINGS = {
    "revoked": ("farm", lambda s: s.revoke("revoked")),
    "rotated": ("farm", lambda s: rotate(s, "rotated", 0)),
    "graced": ("farm", lambda s: rotate(s, "graced", 1)),
    "deleted": ("gone", lambda s: s.call("account.delete", serviceAccountSlug="gone")),
    "swept": ("swept", lambda s: s.call("token.revokeAll", serviceAccountSlug="swept")),
}


def test_a_single_row_that_is_put_back_is_noticed(site):
    kept = site.mint(slug="kept")
    tokens = {what: site.mint(account, what) for what, (account, _) in ENDINGS.items()}
    site.d.stop()
    old = site.read()
    site.d.start()
    for _, end in ENDINGS.values():
        end(site)
    wait_for(lambda: site.says(tokens["graced"]) == "expired", "the end of the grace")
    assert site.call("account.create", name="gone", slug="gone").ok
    assert site.call("token.revoke", serviceAccountSlug="farm", tokenSlug="rotated").ok
    assert site.call("token.revoke", serviceAccountSlug="farm", tokenSlug="graced").ok
    for _ in range(2):  # the second start finds a store that knows of all endings
        site.d.stop()
        site.d.start()
    site.d.stop()
    now = site.read()
    changed = {key: value for key, value in old.items()
               if key[:2] in SPACES and now.get(key) != value}
    assert collections.Counter(key[:2] for key in changed) == {H: 3, T: 3, A: 2}
    for key, value in changed.items():
        site.write({key: value})
        assert "rows of the store are older" in site.says_why(), key
        site.write({key: now.get(key, "")})
    site.write(changed)
    quarantined(site, kept, "rows of the store are older")
    ran = site.accept("keep")
    assert ran.returncode == 0, ran.stderr
    site.d.start()
    assert site.says(kept) == "valid"
    assert all(site.says(token) != "valid" for token in tokens.values())
    for what in ("revoked", "rotated", "graced"):
        assert site.call("token.get", serviceAccountSlug="farm", tokenSlug=what).body["revokedAt"]
    assert site.says(site.mint("gone", "later")) == "valid"


# Graces of the rotations before the row is kept, and after.
CHAINS = [([], [0]), ([], [3600]), ([], [0, 0]), ([0], [0]), ([0], [3600]), ([3600], [0]),
          ([3600], [3600]), ([], [1])]


def test_a_token_from_before_its_rotation_is_noticed(site):
    """Its row names a secret that was replaced: to revoke it would spare the one that is in use."""
    slugs = [f"t{i}" for i in range(len(CHAINS))]
    firsts = [site.mint(slug=slug) for slug in slugs]
    for slug, (before, _) in zip(slugs, CHAINS):
        for grace in before:
            rotate(site, slug, grace)
    site.d.stop()
    old = site.read()
    site.d.start()
    for slug, (_, after) in zip(slugs, CHAINS):
        for grace in after:
            rotate(site, slug, grace)
    wait_for(lambda: site.says(firsts[-1]) == "expired", "the end of the grace")
    site.d.stop()
    now = site.read()
    changed = {key: value for key, value in old.items()
               if key[:2] == T and now.get(key) != value}
    assert len(changed) == len(CHAINS)
    for key, value in changed.items():
        site.write({key: value})
        assert "rows of the store are older" in site.says_why(), key
        site.write({key: now[key]})
    site.d.start()
    assert [site.says(token) for token in firsts] == [
        "valid" if 3600 in (before[-1:] + after)[-1:] and not before else "revoked"
        for before, after in CHAINS[:-1]] + ["expired"]


@pytest.fixture
def short(own_daemon):
    s = Rows(own_daemon("storage-bdb", daemon="retention = 1s\nlast_used_interval = 1s\n").start())
    assert s.call("account.create", name="farm", slug="farm").ok
    return s


def purged(site, token):
    """Waits until the secret is gone from the store, which knows of all endings; what it has then."""
    wait_for(lambda: site.says(token) == "unknown", "the purge", 60)
    site.d.stop()
    site.d.start()
    site.d.stop()
    return site.read()


def test_what_was_purged_and_is_put_back_is_noticed(short):
    site = short
    kept, dead = site.mint(slug="kept"), site.mint(slug="dead")
    site.d.stop()
    old = site.read()
    site.d.start()
    site.revoke("dead")
    now = purged(site, dead)
    back = {key: value for key, value in old.items() if key[:2] in (H, T) and key not in now}
    assert collections.Counter(key[:2] for key in back) == {H: 1, T: 1}
    for rows in ({k: v for k, v in back.items() if k[:2] == H}, back):
        site.write(rows)
        assert "rows of the store are older" in site.says_why()
        site.write({key: "" for key in back})
    site.write(back)
    assert site.accept("keep").returncode == 0
    site.d.start()
    assert (site.says(kept), site.says(dead) == "valid") == ("valid", False)


def test_a_token_is_not_changed_that_names_a_secret_which_is_gone(short):
    """The secret that was replaced is purged, so that nothing tells at the start; the token that is
    put back from before then knows another secret than the one that is in use."""
    site = short
    first = site.mint(slug="moved")
    site.d.stop()
    old = site.read()
    site.d.start()
    fresh = site.call("token.rotate", serviceAccountSlug="farm", tokenSlug="moved").body["token"]
    purged(site, first)
    site.write({key: value for key, value in old.items() if key[:2] == T})
    site.d.start()
    assert site.says(fresh) == "valid"
    for method in ("token.revoke", "token.rotate"):
        assert site.call(method, serviceAccountSlug="farm", tokenSlug="moved").status == 500
    assert "the row of a token is older than the store" in site.d.log.read_text()
    assert site.call("token.revokeAll", serviceAccountSlug="farm").ok
    assert site.says(fresh) == "revoked"


def test_what_rows_alone_tell_of_an_ending_is_enough_for_a_revoked_token(site):
    """As where another daemon has ended it: no mark tells it, and the copy has its digest under
    another key."""
    token, other = site.mint(slug="moved"), site.mint(slug="other")
    site.save()
    rekeyed(site, token, other)
    site.revoke("other")
    site.d.stop()
    mark = site.read()[MARK]
    site.d.start()
    with Cut(site, lambda: site.write({MARK: mark})):
        site.revoke("moved")
    site.put_back()
    for _ in range(2):
        site.d.start()
        assert site.says(token) == site.says(other) == "revoked"
        site.d.stop()
    site.d.start()
    assert site.call("token.rotate", serviceAccountSlug="farm", tokenSlug="moved").status == 404


def test_no_row_from_before_a_key_that_is_gone_is_believed(site):
    """What the journal has forgotten is still told by the key of that time."""
    token = site.mint(slug="kept")
    site.d.stop()
    old = site.read()
    site.d.start()
    key = site.call("key.list").body["items"][0]["id"]
    assert site.call("key.rotate", kind="digest").ok
    wait_for(lambda: site.says(token) == "valid" and site.call("key.retire", key=key).ok,
             "the key to be of no more use", 60)
    site.d.stop()
    site.write({key: value for key, value in old.items() if key[:2] == H})
    site.d.spawn()
    assert site.d.process.wait(PATIENCE) == 75
    assert "space 'h' does not authenticate" in site.d.log.read_text()


def test_a_store_and_a_journal_without_each_other_are_no_first_start(site):
    token, dead = site.mint(slug="kept"), site.mint(slug="dead")
    site.d.stop()
    old = site.read()
    site.d.start()
    site.revoke("dead")
    site.d.stop()
    site.write({key: value for key, value in old.items() if key[:2] in (H, T)})
    site.write({MARK: ""})
    site.journal.unlink()
    quarantined(site, token, "no trace of a revocation journal")
    assert site.accept("revoke").returncode == 0
    site.d.start()
    assert site.says(token) == site.says(dead) == "revoked"


@pytest.mark.parametrize("space", ["h", "t", "c"])
def test_a_row_that_somebody_changed_is_refused(site, space):
    token = site.mint(slug="kept")
    site.d.stop()
    rows = {k: v for k, v in site.read().items() if k.startswith(space.encode().hex())}
    assert rows
    site.write({k: f"{v[:-2]}{int(v[-2:], 16) ^ 1:02x}" for k, v in rows.items()})
    if space == "h":  # what is read at the start
        site.d.spawn()
        assert site.d.process.wait(PATIENCE) == 75
    else:
        site.d.start()
        assert site.says(token) == "valid"
        answer = site.call("token.get", serviceAccountSlug="farm", tokenSlug="kept")
        assert answer.status == 500, answer
    assert f"space '{space}' does not authenticate" in site.d.log.read_text()


@pytest.mark.parametrize("space", ["h", "t"])
def test_a_store_that_somebody_changed_is_not_exported(site, space):
    site.mint(slug="kept")
    site.d.stop()
    rows = {k: v for k, v in site.read().items() if k.startswith(space.encode().hex())}
    site.write({k: f"{v[:-2]}{int(v[-2:], 16) ^ 1:02x}" for k, v in rows.items()})
    ran = kaitend(site.d, "--export", site.d.dir / "stream")
    assert ran.returncode == 65 and f"space '{space}' does not authenticate" in ran.stderr, ran
    assert not (site.d.dir / "stream").exists()
