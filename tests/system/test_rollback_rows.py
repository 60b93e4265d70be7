# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Somebody who can write the database puts single rows back that were true once, seals and all, or
takes away what would tell: it is noticed at the start, and nothing is accepted until the operator has
said so."""

import collections
import subprocess

import pytest

from conftest import BUILD, PATIENCE, PLUGIN_DIR, STORES, wait_for
from test_rollback import Site, quarantined

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
