# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Before the index is full: tokens are verified, as the store and the journal have them, everything
else is refused, and the daemon does not say that it is ready."""

import contextlib
import os

import pytest

from conftest import BUILD, PATIENCE, PLUGIN_DIR, STORES, done, short_life, wait_for
from test_rollback_rows import Rows

HELD = BUILD / "tests/plugin/.libs/storage-held.so"
pytestmark = [
    pytest.mark.skipif("storage-bdb" not in STORES, reason="no durable store was built"),
    pytest.mark.skipif(not HELD.exists(), reason="tests/plugin was not built")]


class Held(Rows):
    """A daemon whose starts read no digests as long as they are held."""

    def __init__(self, d):
        super().__init__(d)
        self.file = d.dir / "held"

    def start(self):
        """Returns with open doors, and without an index."""
        self.file.touch()
        self.d.spawn(env=dict(os.environ, KAITEND_PLUGIN_DIR=str(HELD.parent),
                              KAITEN_HELD_PLUGIN=str(PLUGIN_DIR / "storage-bdb.so"),
                              KAITEN_HELD_FILE=str(self.file)))
        wait_for(self.is_open, "kaitend to answer")

    def is_open(self):
        assert self.d.process.poll() is None, self.d.tail()
        with contextlib.suppress(OSError):
            return self.call("kaiten.ping").ok
        return False

    def readiness(self):
        http = self.d.http("")
        with contextlib.closing(http):
            return http.request("GET", "/readyz")

    def go_on(self):
        self.file.unlink()
        wait_for(lambda: self.readiness().ok, "kaitend to be ready")

    def validate(self, token):
        http = self.d.http(token)
        with contextlib.closing(http):
            return http.request("GET", "/tokens/validate").status

    def used(self, slug):
        return self.call("token.get", serviceAccountSlug="farm",
                         tokenSlug=slug).body.get("lastUsedAt")


@pytest.fixture
def held(own_daemon):
    d = own_daemon("storage-held")
    # The store has an option that must be there, and its name is another one.
    d.settings["storage"] = f"path = {d.state}/db\nballast = 1M"
    d.settings["daemon"] = "last_used_interval = 1s"
    d.write_conf()
    site = Held(d)
    site.start()
    site.go_on()
    for account in ("farm", "gone", "swept"):
        assert site.call("account.create", name=account, slug=account).ok
    return site


def test_tokens_are_verified_before_all_are_read(held):
    tokens = {slug: held.mint(slug=slug) for slug in ("good", "revoked")}
    tokens |= {slug: held.mint(slug, slug) for slug in ("gone", "swept")}
    tokens["over"] = short_life(lambda end: held.call(
        "token.create", serviceAccountSlug="farm", name="over", slug="over", scopes=[],
        expiresAt=end)).body["token"]
    held.revoke("revoked")
    assert held.call("account.delete", serviceAccountSlug="gone").ok
    assert held.call("token.revokeAll", serviceAccountSlug="swept").ok
    tokens["new"] = held.mint("swept", "new")
    wait_for(lambda: held.says(tokens["over"]) == "expired", "the end of a token")
    unknown = tokens["good"][:-1] + ("a" if tokens["good"][-1] != "a" else "b")
    before = {slug: held.says(token) for slug, token in tokens.items()}
    assert before == {"good": "valid", "revoked": "revoked", "gone": "revoked",
                      "swept": "revoked", "over": "expired", "new": "valid"}
    held.d.stop()
    held.start()
    for _ in range(2):
        assert {slug: held.says(token) for slug, token in tokens.items()} == before
        assert held.says(unknown) == "malformed"
        assert held.says("ksh_") == "malformed"
        assert held.validate(tokens["good"]) == 200
        assert {held.validate(tokens[s]) for s in ("revoked", "gone", "swept", "over")} == {401}
        rpc = held.d.rpc()
        many = done(rpc, rpc.call("token.verifyMany", tokens=list(tokens.values())))
        rpc.close()
        assert [r["valid"] for r in many["results"]] == [v == "valid" for v in before.values()]
        # As a caller a token is what it is as a question.
        rpc = held.d.rpc(tokens["good"])
        assert done(rpc, rpc.call("whoami"))["kind"] == "token"
        rpc.close()
        if held.file.exists():
            held.go_on()


def test_everything_else_has_to_wait(held):
    token = held.mint(slug="good")
    held.d.stop()
    held.start()
    answer = held.readiness()
    assert answer.status == 503 and "starting: tokens are verified" in answer.body["detail"]
    http = held.d.http()
    accounts = "/api/service-accounts"
    one = "/".join((accounts, "farm", "tokens", "good"))
    for method, path in (("POST", accounts), ("GET", accounts), ("DELETE", one), ("GET", one)):
        body = {"name": "ab", "slug": "ab"} if method == "POST" else None
        answer = http.request(method, path, body)
        assert (answer.status, answer.code) == (503, "Server.Starting"), (method, path, answer)
        assert answer.headers.get("retry-after") == "1"
    for path in ("/healthz", "/.well-known/jwks.json"):
        assert http.request("GET", path).ok, path
    http.close()
    for method, args in (("store.check", {}), ("store.backup", {}), ("key.list", {}),
                         ("key.rotate", {"kind": "digest"}),
                         ("token.revokeAll", {"serviceAccountSlug": "farm"})):
        assert held.call(method, **args).code == "Server.Starting", method
    assert held.call("token.create", serviceAccountSlug="farm", name="b2", slug="b2",
                     scopes=["read:tokens"]).code == "Server.Starting"
    assert held.says(token) == "valid"
    held.go_on()
    held.revoke("good")
    assert held.says(token) == "revoked"
    assert held.d.stop() == 0


def test_uses_meanwhile_are_known_and_written_down(held):
    token = held.mint(slug="good")
    assert not held.used("good")
    held.d.stop()
    held.start()
    assert held.says(token) == "valid" and held.says(token) == "valid"
    held.go_on()
    at = held.used("good")
    assert at
    wait_for(lambda: "event=used.written" in held.d.log.read_text(), "the use to be written down")
    held.d.stop()
    assert "75" in {key[:2] for key in held.read()}
    held.start()
    held.go_on()
    assert held.used("good") == at


def test_a_row_that_was_put_back_is_not_believed_meanwhile(held):
    """Nor is anything once all rows are read: see test_rollback_rows.py."""
    good = held.mint(slug="good")
    tokens = {slug: held.mint(account, slug)
              for slug, account in (("revoked", "farm"), ("gone", "gone"), ("swept", "swept"))}
    held.d.stop()
    old = held.read()
    held.start()
    held.go_on()
    held.revoke("revoked")
    assert held.call("account.delete", serviceAccountSlug="gone").ok
    assert held.call("token.revokeAll", serviceAccountSlug="swept").ok
    held.d.stop()
    now = held.read()
    changed = {key: value for key, value in old.items()
               if key[:2] in ("68", "74", "61") and now.get(key) != value}
    assert {key[:2] for key in changed} == {"68", "74", "61"}
    held.write(changed)
    held.start()
    assert held.says(good) == "valid"
    assert {held.says(token) for token in tokens.values()} == {"revoked"}
    held.file.unlink()
    wait_for(lambda: "older than the revocation journal" in held.readiness().body["detail"],
             "the quarantine")
    assert held.says(good) == "Server.Quarantined"
    assert held.d.stop() == 0


def test_a_start_that_cannot_read_all_rows_ends(held):
    """What was answered until then was right."""
    token = held.mint(slug="good")
    bad = held.mint(slug="bad")
    held.d.stop()
    rows = held.read()
    digests = sorted(key for key in rows if key.startswith("68"))
    broken = digests[0]
    held.write({broken: rows[broken][:-2] + ("00" if rows[broken][-2:] != "00" else "01")})
    held.start()
    said = {held.says(t) for t in (token, bad)}
    assert "valid" in said and len(said) == 2
    held.file.unlink()
    assert held.d.process.wait(PATIENCE) == 75
    assert "does not authenticate" in held.d.log.read_text()


def test_the_keys_of_before_are_tried(held):
    token = held.mint(slug="good")
    assert held.call("key.rotate", kind="digest").ok
    assert held.says(held.mint(slug="later")) == "valid"
    held.d.stop()
    held.start()
    assert held.says(token) == "valid" and held.validate(token) == 200
    held.go_on()
    assert held.says(token) == "valid"
