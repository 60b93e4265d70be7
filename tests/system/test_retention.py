# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What is dead for long enough is gone from the store; when tokens were last used is kept without a
write for each use."""

import calendar
import re
import time

import pytest

from conftest import STORES, done, refused, short_life, wait_for

KEPT_SECONDS = 2
SHORT = f"retention = {KEPT_SECONDS}s\naudit_retention = 2s\nlast_used_interval = 1s\n"


@pytest.fixture
def short(own_daemon, store):
    d = own_daemon(store, daemon=SHORT).start()
    rpc = d.rpc()
    yield d, rpc
    rpc.close()
    assert d.stop() == 0


def mint(rpc, account, slug, **args):
    return done(rpc, rpc.call("token.create", serviceAccountSlug=account, name=slug, slug=slug,
                              scopes=["read:tokens"], **args))["token"]


def says(rpc, token):
    body = rpc.call("token.verify", token=token).body
    return "valid" if body["valid"] else body["code"]


def in_ms(ms):
    at = time.time() + ms / 1000
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03}Z"


def slugs(rpc, account):
    return [t["slug"] for t in rpc.call("token.list", serviceAccountSlug=account).body["items"]]


def test_the_dead_are_purged_and_the_living_stay(short, store):
    d, rpc = short
    for account in ("farm", "gone", "swept"):
        assert rpc.call("account.create", name=account, slug=account).ok
    kept = mint(rpc, "farm", "kept")
    later = mint(rpc, "farm", "later", expiresAt=in_ms(3600000))
    dead = {name: mint(rpc, "farm", name) for name in ("revoked", "twice")}
    dead["expired"] = short_life(lambda end: rpc.call(
        "token.create", serviceAccountSlug="farm", name="expired", slug="expired", scopes=[],
        expiresAt=end)).body["token"]
    dead["gone"] = mint(rpc, "gone", "gone")
    dead["swept"] = mint(rpc, "swept", "swept")
    for _ in range(2):  # three secrets, of which one can be in use
        dead["twice"] = rpc.call("token.rotate", serviceAccountSlug="farm", tokenSlug="twice",
                                 gracePeriodSeconds=1).body["token"]
    for token in [kept, *dead.values()]:
        says(rpc, token)
    begun = time.monotonic()
    for slug in ("revoked", "twice"):
        assert rpc.call("token.revoke", serviceAccountSlug="farm", tokenSlug=slug).ok
    assert rpc.call("account.delete", serviceAccountSlug="gone").ok
    assert rpc.call("token.revokeAll", serviceAccountSlug="swept").ok
    said = {says(rpc, dead["revoked"]), says(rpc, dead["gone"])}
    assert said == {"revoked"} or time.monotonic() - begun > KEPT_SECONDS  # on a slow machine
    wait_for(lambda: all(says(rpc, t) == "unknown" for t in dead.values()), "the purge")
    assert slugs(rpc, "farm") == ["later", "kept"] and slugs(rpc, "swept") == []
    assert says(rpc, kept) == says(rpc, later) == "valid"
    refused(rpc.call("token.get", serviceAccountSlug="farm", tokenSlug="revoked"), 404,
            "Token.NotFound")
    # Slug and name are free.
    again = mint(rpc, "farm", "revoked")
    assert says(rpc, again) == says(rpc, mint(rpc, "farm", "expired")) == "valid"
    assert says(rpc, mint(rpc, "swept", "swept")) == "valid"
    assert rpc.call("account.create", name="gone", slug="gone").ok
    assert says(rpc, dead["revoked"]) == says(rpc, dead["gone"]) == "unknown"
    if store == "storage-memory":
        return
    d.stop()
    d.start()
    loaded = re.findall(r"event=index\.loaded tokens=(\d+)", d.log.read_text())
    assert loaded == ["0", "5"]
    fresh = d.rpc()
    assert says(fresh, again) == says(fresh, kept) == "valid"
    assert says(fresh, dead["revoked"]) == says(fresh, dead["twice"]) == "unknown"
    fresh.close()


def test_a_store_that_works_for_long_does_not_grow(short, store):
    d, rpc = short
    assert rpc.call("account.create", name="farm", slug="farm").ok
    tokens = []
    for i in range(60):
        tokens.append(mint(rpc, "farm", f"t{i}"))
        assert rpc.call("token.revoke", serviceAccountSlug="farm", tokenSlug=f"t{i}").ok
    wait_for(lambda: slugs(rpc, "farm") == [], "the purge")
    for i in range(60):  # each slug again
        assert says(rpc, mint(rpc, "farm", f"t{i}")) == "valid"
    assert {says(rpc, t) for t in tokens} == {"unknown"}


def test_zero_keeps_for_ever(own_daemon):
    d = own_daemon("storage-memory", daemon="retention = 0\naudit_retention = 2s\n").start()
    rpc = d.rpc()
    assert rpc.call("account.create", name="farm", slug="farm").ok
    dead = mint(rpc, "farm", "dead")
    assert rpc.call("token.revoke", serviceAccountSlug="farm", tokenSlug="dead").ok
    # The audit records go: the job has passed by.
    wait_for(lambda: "event=purged" in d.log.read_text(), "a purge")
    assert says(rpc, dead) == "revoked"
    rpc.close()


# --- last used ------------------------------------------------------------------------------------

def last_used(rpc, slug):
    token = rpc.call("token.get", serviceAccountSlug="farm", tokenSlug=slug).body
    listed = {t["slug"]: t for t in
              rpc.call("token.list", serviceAccountSlug="farm").body["items"]}[slug]
    assert token == listed
    if "lastUsedAt" in token:
        assert list(token)[-1] == "lastUsedAt"
    return token.get("lastUsedAt")


@pytest.mark.parametrize("how", ["verify", "verifyMany", "validate", "caller", "peer"])
def test_a_use_is_noted_however_it_comes(daemon, how, request):
    rpc = daemon.rpc()
    rpc.call("account.create", name="farm", slug="farm")
    slug = f"used-{how}-{daemon.store[8:]}".lower()
    token = mint(rpc, "farm", slug)
    assert last_used(rpc, slug) is None
    before = int(time.time())
    if how == "verify":
        assert says(rpc, token) == "valid"
    elif how == "verifyMany":
        assert rpc.call("token.verifyMany", tokens=[token]).body["results"][0]["valid"]
    elif how == "peer":
        assert daemon.rpc(token).call("whoami").ok
    else:
        http = daemon.http(token)
        assert http.request("GET", "/tokens/validate" if how == "validate" else "/whoami").ok
        http.close()
    at = last_used(rpc, slug)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", at)
    assert before <= calendar.timegm(time.strptime(at, "%Y-%m-%dT%H:%M:%SZ")) <= time.time()
    shown = daemon.ctl("token", "get", "farm", slug).stdout
    assert at in shown
    # A refused one is no use, and a new secret takes along when the token was used.
    fresh = rpc.call("token.rotate", serviceAccountSlug="farm", tokenSlug=slug).body
    assert fresh["lastUsedAt"] == at
    assert list(fresh)[-2:] == ["token", "lastUsedAt"]
    assert says(rpc, token) == "revoked"
    assert last_used(rpc, slug) == at
    rpc.close()


@pytest.mark.skipif("storage-bdb" not in STORES, reason="no durable store was built")
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_last_use_survives(own_daemon, end):
    """A clean end loses nothing; after a kill everything older than an interval is there."""
    d = own_daemon("storage-bdb", daemon="last_used_interval = 1s\n").start()
    rpc = d.rpc()
    assert rpc.call("account.create", name="farm", slug="farm").ok
    tokens = {f"t{i}": mint(rpc, "farm", f"t{i}") for i in range(40)}
    for token in tokens.values():
        assert says(rpc, token) == "valid"
    used = {slug: last_used(rpc, slug) for slug in tokens}
    assert None not in used.values()
    if end == "kill":
        written = re.compile(r"event=used\.written notes=(\d+)")
        wait_for(lambda: sum(map(int, written.findall(d.log.read_text()))) == len(tokens),
                 "the last uses to be written down")
        d.kill()
    else:
        d.stop()
    rpc.close()
    d.start()
    rpc = d.rpc()
    assert {slug: last_used(rpc, slug) for slug in tokens} == used
    rpc.close()
