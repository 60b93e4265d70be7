# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""An older copy of the store is put back: what was revoked since stays revoked, or nothing is
accepted until the operator has said so."""

import datetime
import shutil
import socket
import subprocess
import time

import pytest

from conftest import KAITEND, STORES, brief_life, done, refused, wait_for

pytestmark = pytest.mark.skipif("storage-bdb" not in STORES, reason="no durable store was built")

RECORD = 128


class Site:
    """A daemon whose store is copied and put back while it is down."""

    def __init__(self, d):
        self.d = d
        self.db, self.copy = d.state / "db", d.dir / "copy"
        self.journal = d.state / "revocations.log"

    def save(self):
        self.d.stop()
        shutil.copytree(self.db, self.copy)
        self.d.start()

    def put_back(self):
        self.d.stop()
        shutil.rmtree(self.db)
        shutil.copytree(self.copy, self.db)

    def mint(self, account="farm", slug=None, **args):
        rpc = self.d.rpc()
        body = done(rpc, rpc.call("token.create", serviceAccountSlug=account, name=slug,
                                  slug=slug, scopes=["read:tokens"], **args))
        rpc.close()
        return body["token"]

    def call(self, method, **args):
        rpc = self.d.rpc()
        answer = rpc.call(method, **args)
        rpc.close()
        return answer

    def revoke(self, slug, account="farm"):
        assert self.call("token.revoke", serviceAccountSlug=account, tokenSlug=slug).ok

    def says(self, token):
        """valid, or why not."""
        answer = self.call("token.verify", token=token)
        if not answer.ok:
            return answer.code
        return "valid" if answer.body["valid"] else answer.body["code"]

    def accept(self, how):
        return subprocess.run([KAITEND, "-c", self.d.conf, "--accept-rollback", how],
                              capture_output=True, text=True, timeout=60, check=False)

    def start_quarantined(self):
        """It is there, but not ready."""
        self.d.spawn()
        answer = self.d.wait_filled()
        assert answer.status == 503, answer
        return answer


@pytest.fixture
def site(own_daemon):
    s = Site(own_daemon("storage-bdb").start())
    for account in ("farm", "gone", "swept"):
        assert s.call("account.create", name=account, slug=account).ok
    return s


def test_what_was_revoked_since_the_copy_stays_revoked(site):
    names = ["kept", "revoked", "rotated", "graced", "expiring"]
    tokens = {name: site.mint(slug=name) for name in names}
    tokens["deleted"] = site.mint("gone", "deleted")
    tokens["swept"] = site.mint("swept", "swept")
    site.save()
    site.revoke("revoked")
    fresh = done(site.d.rpc(), site.call("token.rotate", serviceAccountSlug="farm",
                                         tokenSlug="rotated"))["token"]
    assert site.call("token.rotate", serviceAccountSlug="farm", tokenSlug="graced",
                     gracePeriodSeconds=1).ok
    assert site.call("account.delete", serviceAccountSlug="gone").ok
    for _ in range(10):
        assert site.call("token.revokeAll", serviceAccountSlug="swept").ok
    site.put_back()
    site.d.start()
    assert site.says(tokens["kept"]) == "valid"
    assert site.says(tokens["revoked"]) == "revoked"
    assert site.says(tokens["rotated"]) == "revoked"
    assert site.says(fresh) == "unknown"  # minted after the copy: it is gone with the store
    wait_for(lambda: site.says(tokens["graced"]) == "expired", "the end of the grace")
    assert site.says(tokens["deleted"]) == site.says(tokens["swept"]) == "revoked"
    assert site.says(site.mint("swept", "later")) == "valid"
    assert "event=journal.replayed" in site.d.log.read_text()
    # Reads agree with verdicts, also after another start.
    site.d.stop()
    site.d.start()
    body = done(site.d.rpc(), site.call("token.get", serviceAccountSlug="farm",
                                        tokenSlug="revoked"))
    assert body["revokedAt"] and body["revokedBy"]["name"] == "revocation journal"
    assert "revokedAt" not in site.call("token.get", serviceAccountSlug="farm",
                                        tokenSlug="rotated").body
    swept = site.call("token.get", serviceAccountSlug="swept", tokenSlug="swept").body
    assert swept["revokedBy"]["name"] == "revocation journal"
    refused(site.call("account.get", serviceAccountSlug="gone"), 404, "ServiceAccount.NotFound")
    assert site.says(tokens["revoked"]) == "revoked"
    # The name is free again, and so is the slug of the account.
    assert site.mint(slug="other")
    assert site.call("account.create", name="gone", slug="gone").ok
    assert site.says(tokens["deleted"]) == "revoked"


def test_a_copy_can_be_put_back_again_and_again(site):
    tokens = [site.mint(slug=f"t{i}") for i in range(3)]
    site.save()
    for i in range(3):
        site.revoke(f"t{i}")
        site.put_back()
        site.d.start()
        assert [site.says(t) for t in tokens] == ["revoked"] * (i + 1) + ["valid"] * (2 - i)


def quarantined(site, token, reason):
    answer = site.start_quarantined()
    assert reason in answer.body["detail"], answer
    for client in (site.d.http(), site.d.rpc()):
        refused(client.call("token.create", serviceAccountSlug="farm", name="n", slug="new",
                            scopes=[]), 503, "Server.Quarantined")
        refused(client.call("token.revoke", serviceAccountSlug="farm", tokenSlug="kept"), 503,
                "Server.Quarantined")
        assert client.call("token.list", serviceAccountSlug="farm").ok
        client.close()
    assert site.says(token) == "Server.Quarantined"
    own = site.d.http(token)
    for path in ("/tokens/validate", "/whoami"):
        refused(own.request("GET", path), 503, "Server.Quarantined")
    rpc = site.d.rpc()
    refused(rpc.call("token.verifyMany", tokens=[token]), 503, "Server.Quarantined")
    health = site.d.ctl("health", check=False)
    assert health.returncode == 6 and reason in health.stderr, health
    assert "kaitend(8), Rollback" in health.stderr, health
    assert "event=quarantine" in site.d.log.read_text()
    site.d.stop()


@pytest.mark.parametrize("how", ["missing", "cut", "flipped", "other", "header"])
def test_without_its_journal_an_old_copy_is_not_believed(site, how):
    token = site.mint(slug="kept")
    lost = site.mint(slug="lost")
    first = site.mint(slug="first")
    site.revoke("first")
    site.revoke("lost")
    again = site.mint(slug="again")
    site.revoke("again")
    site.d.stop()
    data = bytearray(site.journal.read_bytes())
    reason = "damaged"
    if how == "missing":
        site.journal.unlink()
        reason = "missing"
    elif how == "cut":
        site.journal.write_bytes(data[:2 * RECORD])
        reason = "older than the store"
    elif how == "flipped":
        data[2 * RECORD + 70] ^= 1
        site.journal.write_bytes(data)
    elif how == "header":
        site.journal.write_bytes(data[:RECORD - 1])
    else:
        store = site.d.dir / "aside"
        site.db.rename(store)
        site.journal.unlink()
        site.d.start()
        site.d.stop()
        shutil.rmtree(site.db)
        store.rename(site.db)
        reason = "another store"
    quarantined(site, token, reason)
    if how == "missing":  # it stays so until the operator has spoken
        quarantined(site, token, reason)
    ran = site.accept("keep")
    assert ran.returncode == 0, ran.stderr
    assert "event=rollback.accepted" in ran.stderr
    site.d.start()
    assert [site.says(t) for t in (token, first, lost, again)] == ["valid"] + ["revoked"] * 3
    if how == "missing":
        site.revoke("kept")
        site.d.stop()
        site.d.start()
        assert site.says(token) == "revoked"


@pytest.mark.parametrize("how", ["mode", "link", "key"])
def test_a_journal_that_is_there_is_not_passed_over(site, how):
    """It says what was revoked since the copy; whoever accepts without having read it would make
    that good again."""
    kept, dead = site.mint(slug="kept"), site.mint(slug="dead")
    site.save()
    key, aside = site.d.state / "digest.key", site.d.dir / "aside"
    old_key = key.read_bytes()
    site.revoke("dead")
    if how == "key":
        assert site.call("key.rotate", kind="digest").ok
    site.put_back()
    right_key = key.read_bytes()
    if how == "mode":
        site.journal.chmod(0o640)
    elif how == "link":
        site.journal.rename(aside)
        site.journal.symlink_to(aside)
    else:
        key.write_bytes(old_key)
    quarantined(site, dead, "the revocation journal was not read")
    before = site.journal.read_bytes()
    for accepted in ("keep", "revoke"):
        ran = site.accept(accepted)
        assert ran.returncode == 78 and "accepted nothing" in ran.stderr, ran
        hint = {"mode": "chmod 600", "link": "a regular file", "key": "the key file"}[how]
        assert hint in ran.stderr, ran.stderr
    assert site.journal.read_bytes() == before
    assert not (site.d.state / "revocations.log.old").exists()
    if how == "mode":
        site.journal.chmod(0o600)
    elif how == "link":
        aside.rename(site.journal)
    else:
        key.write_bytes(right_key)
    assert site.accept("keep").returncode == 0
    site.d.start()
    assert [site.says(t) for t in (kept, dead)] == ["valid", "revoked"]


def test_the_operator_may_have_everything_revoked(site):
    tokens = [site.mint(slug=f"t{i}") for i in range(5)]
    graced = site.call("token.rotate", serviceAccountSlug="farm", tokenSlug="t0",
                       gracePeriodSeconds=3600).body["token"]
    site.d.stop()
    site.journal.unlink()
    ran = site.accept("revoke")
    assert ran.returncode == 0, ran.stderr
    site.d.start()
    assert [site.says(t) for t in [*tokens, graced]] == ["revoked"] * 6
    assert site.call("token.get", serviceAccountSlug="farm", tokenSlug="t3").body["revokedAt"]
    fresh = site.mint(slug="fresh")
    assert site.says(fresh) == "valid"


def test_what_was_accepted_by_halves_is_not_accepted(site):
    token = site.mint(slug="kept")
    site.d.stop()
    site.journal.unlink()
    key = site.d.state / "signing.pem"
    good = key.read_bytes()
    key.write_bytes(b"no key")
    assert site.accept("revoke").returncode != 0  # with a new journal, and nothing revoked yet
    assert site.journal.exists()
    key.write_bytes(good)
    quarantined(site, token, "another store")
    assert site.accept("revoke").returncode == 0
    site.d.start()
    assert site.says(token) == "revoked"


def test_a_copy_from_before_the_accepted_state_is_not_believed(site):
    token = site.mint(slug="kept")
    site.save()
    site.d.stop()
    site.journal.unlink()
    assert site.accept("keep").returncode == 0
    site.d.start()
    site.put_back()
    quarantined(site, token, "another store")


def test_accepting_what_is_in_order_changes_nothing(site):
    token = site.mint(slug="kept")
    dead = site.mint(slug="dead")
    site.revoke("dead")
    site.d.stop()
    before = site.journal.read_bytes().rstrip(b"\0")
    ran = site.accept("keep")
    assert ran.returncode == 0 and "rollback.accepted" not in ran.stderr, ran.stderr
    assert site.journal.read_bytes().rstrip(b"\0") == before
    site.d.start()
    assert (site.says(token), site.says(dead)) == ("valid", "revoked")
    bad = site.accept("maybe")
    assert bad.returncode == 64 and "accepted: keep, revoke" in bad.stderr


@pytest.mark.parametrize("last", ["digest", "account", "epoch"])
def test_what_only_the_store_knows_is_written_down_at_start(site, last):
    """The machine ended between store and journal; no answer was given, and yet it holds."""
    tokens = [site.mint(account, account) for account in ("farm", "gone", "swept")]
    site.save()
    endings = {"digest": lambda: site.revoke("farm"),
               "account": lambda: site.call("account.delete", serviceAccountSlug="gone"),
               "epoch": lambda: site.call("token.revokeAll", serviceAccountSlug="swept")}
    for name in sorted(endings, key=lambda name: name == last):
        endings[name]()
    site.d.stop()
    data = site.journal.read_bytes()
    assert data[4 * RECORD:5 * RECORD].strip(b"\0") and not data[5 * RECORD:].strip(b"\0")
    site.journal.write_bytes(data[:4 * RECORD])
    site.d.start()
    assert "event=journal.healed endings=1" in site.d.log.read_text()
    site.put_back()
    site.d.start()
    assert [site.says(token) for token in tokens] == ["revoked"] * 3


class Cut:
    """The machine ends once the store has the change, and before the journal has been told.
    also(): done to the store while nobody uses it."""

    def __init__(self, site, also=lambda: None):
        self.site, self.also = site, also
        self.before = self.used()

    def used(self):
        return -(-len(self.site.journal.read_bytes().rstrip(b"\0")) // RECORD)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.site.d.stop()
        data = self.site.journal.read_bytes()
        assert self.used() > self.before
        self.site.journal.write_bytes(data[:self.before * RECORD])
        self.also()
        self.site.d.start()
        assert "event=journal.healed endings=" in self.site.d.log.read_text()


def rekeyed(site, *tokens):
    """Their digests are made with another key than those in the copy."""
    assert site.call("key.rotate", kind="digest").ok
    assert [site.says(token) for token in tokens] == ["valid"] * len(tokens)

    def is_done():
        keys = site.call("key.list").body["items"]
        return all(k["tokens"] == 0 for k in keys if k["state"] == "retired")

    wait_for(is_done, "a digest under the new key")


@pytest.mark.parametrize("rotated_again", [False, True])
def test_a_revoked_token_with_another_key_stays_revoked_after_a_cut(site, rotated_again):
    token = site.mint(slug="moved")
    site.save()
    rekeyed(site, token)
    if rotated_again:
        token_2 = done(site.d.rpc(), site.call("token.rotate", serviceAccountSlug="farm",
                                               tokenSlug="moved", gracePeriodSeconds=60))["token"]
        assert site.says(token_2) == "valid"
    with Cut(site):
        site.revoke("moved")
    assert site.says(token) == "revoked"
    site.put_back()
    for _ in range(2):
        site.d.start()
        assert site.says(token) == "revoked"
        site.d.stop()
    site.d.start()
    assert site.call("token.rotate", serviceAccountSlug="farm", tokenSlug="moved").status == 404


@pytest.mark.parametrize("grace", [0, 1])
@pytest.mark.parametrize("moved", [False, True])
def test_a_secret_that_was_replaced_ends_after_a_cut(site, grace, moved):
    token = site.mint(slug="replaced")
    site.save()
    if moved:
        rekeyed(site, token)
    with Cut(site):
        assert site.call("token.rotate", serviceAccountSlug="farm", tokenSlug="replaced",
                         gracePeriodSeconds=grace).ok
    ended = "expired" if grace else "revoked"
    wait_for(lambda: site.says(token) == ended, "the end of the grace")
    site.put_back()
    for _ in range(2):
        site.d.start()
        assert site.says(token) == ended
        site.d.stop()
    site.d.start()


def test_what_is_told_with_a_change_is_told_until_it_is_written_down(site):
    """A start that got no further than its doors has looked at store and journal, too."""
    token = site.mint(slug="replaced")
    site.save()

    def start_in_vain():
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", site.d.port))
            taken.listen()
            site.d.spawn()
            assert site.d.process.wait(60) != 0
        assert "journal.healed" not in site.d.log.read_text()

    with Cut(site, start_in_vain):
        assert site.call("token.rotate", serviceAccountSlug="farm", tokenSlug="replaced",
                         gracePeriodSeconds=1).ok
    wait_for(lambda: site.says(token) == "expired", "the end of the grace")
    site.put_back()
    site.d.start()
    assert site.says(token) == "expired"


def test_the_store_that_holds_nothing_needs_no_journal(own_daemon):
    d = own_daemon("storage-memory").start()
    assert not (d.state / "revocations.log").exists()
    d.stop()


@pytest.mark.parametrize("grace", [0, 3600])
def test_a_token_that_was_rotated_and_then_revoked_cannot_be_rotated_again(site, grace):
    """Its last secret is not in the copy; the token is, and must not get another one."""
    token = site.mint(slug="both")
    site.save()
    assert site.call("token.rotate", serviceAccountSlug="farm", tokenSlug="both",
                     gracePeriodSeconds=grace).ok
    site.revoke("both")
    site.put_back()
    site.d.start()
    assert site.says(token) == "revoked"
    body = site.call("token.get", serviceAccountSlug="farm", tokenSlug="both").body
    assert body["revokedBy"]["name"] == "revocation journal"
    assert site.call("token.rotate", serviceAccountSlug="farm", tokenSlug="both").status == 404
    assert site.mint(slug="other")


@pytest.mark.parametrize("grace", [0, 1])
def test_another_rotation_does_not_revive_what_the_first_one_ended(site, grace):
    """The copy has the replaced secret as the token's own, and a grace would let it live on."""
    token = site.mint(slug="twice")
    site.save()
    assert site.call("token.rotate", serviceAccountSlug="farm", tokenSlug="twice",
                     gracePeriodSeconds=grace).ok
    wait_for(lambda: site.says(token) != "valid", "the end of the grace")
    site.put_back()
    site.d.start()
    ended = site.says(token)
    assert ended == ("expired" if grace else "revoked")
    fresh = done(site.d.rpc(), site.call("token.rotate", serviceAccountSlug="farm",
                                         tokenSlug="twice", gracePeriodSeconds=3600))["token"]
    for _ in range(2):
        assert (site.says(fresh), site.says(token)) == ("valid", "revoked")
        site.d.stop()
        site.d.start()
    assert site.call("token.revoke", serviceAccountSlug="farm", tokenSlug="twice").ok
    assert (site.says(fresh), site.says(token)) == ("revoked", "revoked")


def test_what_has_expired_is_not_given_back_to_the_journal(own_daemon):
    """The journal drops it once it has expired; the store has it as revoked for much longer."""
    d = own_daemon("storage-bdb").start()
    rpc = d.rpc()
    assert rpc.call("account.create", name="farm", slug="farm").ok

    def revoked(end):
        minted = rpc.call("token.create", serviceAccountSlug="farm", name=str(end), scopes=[],
                          expiresAt=end)
        return minted.ok and rpc.call("token.revoke", serviceAccountSlug="farm",
                                      tokenSlug=minted.body["slug"]).ok

    def five(end, over):
        good = all([revoked(end) for _ in range(5)])
        assert good or over()
        return datetime.datetime.fromisoformat(end).timestamp() if good else None

    assert revoked(None)
    ends = brief_life(five, 4)
    rpc.close()
    journal = d.state / "revocations.log"

    def entries():
        data = journal.read_bytes()
        return sum(any(data[i:i + 8]) for i in range(128, len(data), 128))

    assert entries() >= 7
    wait_for(lambda: time.time() > ends + 1, "the tokens to expire", 200)
    for _ in range(3):
        assert d.stop() == 0
        d.start()
        assert "event=journal.healed" not in d.log.read_text()
        assert entries() <= 3
    assert d.stop() == 0
