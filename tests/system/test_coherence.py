# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Several daemons on one store: what one of them ends is refused by the others within the bound that
the configuration states, or nobody is answered."""

import concurrent.futures
import os
import shlex
import subprocess
import threading
import time

import pytest

import postgres
from conftest import BUILD, KAITEND, PATIENCE, SOURCE, STORES, wait_for
from daemon_cluster import (  # noqa: F401
    PLUGIN, Database, Pair, asks, calm, calm_cluster, cluster, mint, pair, revoke, settle, validate,
    verdict,
)
from metrics import scrape
from postgres_daemon import Proxy
from shared_store import Shared

pytestmark = pytest.mark.skipif(not PLUGIN.exists(), reason="tests/plugin was not built")


class Held(Proxy):
    """Holds look-ups back, those that were begun before not counted."""

    def __init__(self, server):
        super().__init__(server)
        self.free = threading.Event()
        self.free.set()
        self.holding = 0

    def passed_up(self, data):
        if b"\0kaiten_get\0" in data and not self.free.is_set():
            self.holding += 1
            self.free.wait(60)
        return data

    def hold(self):
        self.free.clear()

    def held(self):
        return self.holding > 0

    def release(self):
        self.free.set()


def postgres_server():
    if "storage-postgres" not in STORES:
        pytest.skip("storage-postgres was not built")
    if not postgres.programs():
        pytest.skip(postgres.MISSING)
    return postgres.shared()


def test_what_one_daemon_does_the_other_knows(calm):
    token = mint(calm.door_a, calm.account, "one")
    # At once, though nobody has told it yet: it asks the store.
    assert verdict(calm.rpc_b, token["token"]) == "live"
    assert validate(calm.b, token["token"]) == 200
    assert calm.door_a.call("token.revoke", serviceAccountSlug=calm.account,
                            tokenSlug=token["slug"]).ok
    wait_for(lambda: verdict(calm.rpc_b, token["token"]) == "revoked", "the other to refuse it")
    assert validate(calm.b, token["token"]) == 401


def test_endings_of_all_kinds(calm):
    """Revoked, rotated, all at once, with the account, and by the clock."""
    one, two, three = (mint(calm.door_a, calm.account, f"t{i}") for i in range(3))
    other = calm.door_a.call("account.create", name="Other").body["slug"]
    four = mint(calm.door_a, other, "four")
    settle(calm, one, two, three, four)
    revoke(calm, one)
    fresh = calm.door_a.call("token.rotate", serviceAccountSlug=calm.account,
                             tokenSlug=two["slug"]).body
    assert calm.door_a.call("account.delete", serviceAccountSlug=other).ok
    for token in (one, two, four):
        wait_for(lambda: verdict(calm.rpc_b, token["token"]) == "revoked", "a refusal")
    assert verdict(calm.rpc_b, fresh["token"]) == "live"
    assert verdict(calm.rpc_b, three["token"]) == "live"
    assert calm.door_a.call("token.revokeAll", serviceAccountSlug=calm.account).ok
    for token in (three, fresh):
        wait_for(lambda: verdict(calm.rpc_b, token["token"]) == "revoked", "a refusal")
    # And of the new epoch, minted by the one that did not end the old one.
    late = mint(calm.door_b, calm.account, "late")
    assert verdict(calm.rpc_a, late["token"]) == verdict(calm.rpc_b, late["token"]) == "live"


def test_names_of_accounts(calm):
    token = mint(calm.door_a, calm.account, "one", scopes=["read:tokens"])
    settle(calm, token)
    assert calm.door_a.call("account.update", serviceAccountSlug=calm.account, name="New").ok

    def named():
        caller = calm.b.http(token["token"])
        answer = caller.call("whoami")
        caller.close()
        assert answer.ok
        return answer.body["name"] == "New"

    wait_for(named, "the other to know the new name")


def test_tokens_as_callers(calm):
    token = mint(calm.door_a, calm.account, "one", scopes=["read:*", "write:*"])
    caller = calm.b.http(token["token"])
    # It has never heard of it, and asks.
    assert caller.call("account.list").ok
    revoke(calm, token)
    wait_for(lambda: caller.call("account.list").status == 401, "the caller to be refused")
    caller.close()


def test_unknown_tokens_are_asked_for_once(calm):
    """A made-up one without its check characters costs no question at all."""
    token = mint(calm.door_a, calm.account, "one")["token"]
    settle(calm)
    wrong = token[:10] + ("A" if token[10] != "A" else "B") + token[11:]

    def costs_nothing():
        """The daemon looks something up now and then by itself, but not each time."""
        before = asks(calm)
        assert verdict(calm.rpc_b, wrong) == "malformed"
        assert validate(calm.b, wrong) == 401
        return asks(calm) == before

    assert any(costs_nothing() for _ in range(5))


def readiness(daemon):
    door = daemon.http("")
    answer = door.request("GET", "/readyz").body
    door.close()
    return answer


def test_the_bound_is_told(pair):
    """In /readyz and in /metrics: how old the view is, and how old it may be."""
    for d in (pair.a, pair.b):
        assert readiness(d)["maxStalenessMs"] == 1000
        assert 0 <= readiness(d)["stalenessMs"]
    door = pair.b.http("")
    metrics = scrape(door)
    assert metrics.get("kaitend_store_max_staleness_seconds") == 1
    assert metrics.get("kaitend_store_polls_total") > 0
    wait_for(lambda: scrape(door).get("kaitend_store_changes_total") > 0, "the account to be heard of")
    pair.store.set(c="fail")
    wait_for(lambda: readiness(pair.b)["stalenessMs"] > 1500, "the view to age")
    assert scrape(door).get("kaitend_store_staleness_seconds") > 1.5
    assert scrape(door).get("kaitend_store_poll_failures_total") > 0
    pair.store.set(c=None)
    wait_for(lambda: readiness(pair.b)["stalenessMs"] < 1000, "it to be fresh again")
    door.close()


def lags(pair, n):
    """Milliseconds from the acknowledgement of a revocation to the last acceptance elsewhere."""
    tokens = [mint(pair.door_a, pair.account, f"lag{i}") for i in range(n)]
    settle(pair, *tokens)
    found = []
    for token in tokens:
        revoke(pair, token)
        acknowledged = last = time.monotonic()
        while True:
            asked = time.monotonic()
            if verdict(pair.rpc_b, token["token"]) != "live":
                break
            last = asked
        found.append(1000 * (last - acknowledged))
    return sorted(found)


def test_how_late_a_revocation_is(calm):
    found = lags(calm, 100)
    print(f"revocations: p50 {found[50]:.1f} ms, p99 {found[98]:.1f} ms, worst {found[-1]:.1f} ms")
    assert found[-1] <= 1000


def test_how_late_a_revocation_is_without_notices(pair):
    pair.store.set(notices=False)
    found = lags(pair, 20)
    print(f"without notices: p50 {found[10]:.1f} ms, worst {found[-1]:.1f} ms")
    assert found[-1] <= 1000


def test_an_ending_waits_for_no_mint(cluster):
    """While the store is long at work on what a daemon mints, the daemon hears what others end."""
    pair = Pair(cluster(2, daemon="max_staleness = 1h\nrequest_timeout = 1m",
                        storage="timeout = 60s"))
    token = mint(pair.door_a, pair.account, "one")
    settle(pair, token)

    def applies():
        return pair.store.order("count")["counts"].get("a", 0)

    before = applies()
    pair.store.set(a="hold", held=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(pair.door_b.call, "token.create", serviceAccountSlug=pair.account,
                           name="slow", scopes=[])
        wait_for(lambda: applies() > before, "the store to be at work")
        pair.store.set(a=None)
        revoke(pair, token)
        wait_for(lambda: verdict(pair.rpc_b, token["token"]) == "revoked", "the other to refuse it")
        assert not slow.done()
        pair.store.set(held=None)
        assert slow.result().ok
    pair.close()


def test_an_ending_waits_for_no_look_up(cluster):
    """What a daemon has heard of it looks at in the store, for its journal; meanwhile it goes on asking
    what else has ended."""
    server = postgres_server()
    proxy, name = Held(server), server.database()
    store = Database()
    store.settings = f"connection = {server.connection(name)}"
    c = cluster(1, store=store, daemon="max_staleness = 1h", storage="timeout = 60s")
    store.settings = f"connection = host={proxy.dir} dbname={name} user={postgres.ROLE}"
    c.add()
    pair = Pair(c)
    one, two = mint(pair.door_a, pair.account, "one"), mint(pair.door_a, pair.account, "two")
    settle(pair, one, two)
    proxy.hold()
    revoke(pair, one)
    wait_for(lambda: verdict(pair.rpc_b, one["token"]) == "revoked", "the other to refuse it")
    wait_for(proxy.held, "the look-up")
    held, asked = time.monotonic(), 0
    while (looked := time.monotonic() - held) < 4.5:  # the look-up may take five
        # Since before it began, had nobody asked meanwhile.
        asked += readiness(pair.b)["stalenessMs"] < 1000 * (looked - 1)
    assert asked, "what else has ended was not asked for"
    revoke(pair, two)
    wait_for(lambda: verdict(pair.rpc_b, two["token"]) == "revoked", "the other to refuse it")
    proxy.release()
    pair.close()
    proxy.close()


def test_a_store_that_does_not_say_what_changes(pair):
    """Memory decides nothing once it is too old; the store does."""
    one, two = mint(pair.door_a, pair.account, "one"), mint(pair.door_a, pair.account, "two")
    settle(pair, one, two)
    pair.store.set(c="fail", notices=False)

    def asked():
        before = asks(pair)
        assert verdict(pair.rpc_b, two["token"]) == "live"
        return asks(pair) > before

    wait_for(asked, "the other to ask the store")
    revoke(pair, one)
    # No waiting: what is revoked is so at once, for whoever asks the store.
    assert verdict(pair.rpc_b, one["token"]) == "revoked"
    assert validate(pair.b, one["token"]) == 401
    assert validate(pair.b, two["token"]) == 200
    answer = pair.rpc_b.call("token.verifyMany", tokens=[one["token"], two["token"], "nonsense"])
    assert [r.get("code") for r in answer.body["results"]] == ["revoked", None, "malformed"]
    caller = pair.b.http(two["token"])
    assert caller.call("whoami").ok
    caller.close()
    # A denial needs no store: what has ended stays so.
    pair.store.set(g="fail")
    assert verdict(pair.rpc_b, two["token"]) == 503
    pair.store.set(c=None, g=None, notices=True)
    settle(pair, two)
    assert verdict(pair.rpc_b, one["token"]) == "revoked"


def test_a_store_that_has_stopped(cluster):
    pair = Pair(cluster(2, storage="timeout = 1s"))
    one, two = mint(pair.door_a, pair.account, "one"), mint(pair.door_a, pair.account, "two")
    settle(pair, one, two)
    revoke(pair, one)
    wait_for(lambda: verdict(pair.rpc_b, one["token"]) == "revoked", "the refusal")
    pair.store.freeze()
    frozen = time.monotonic()
    # Until the view is too old it is answered from memory, and never after.
    while verdict(pair.rpc_b, two["token"]) == "live":
        assert time.monotonic() - frozen < PATIENCE
    for _ in range(3):
        assert verdict(pair.rpc_b, two["token"]) == 503
        assert verdict(pair.rpc_b, one["token"]) == "revoked"
        assert validate(pair.b, two["token"]) == 503
    # Nobody waits for a time-out behind the time-outs of others.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        began = time.monotonic()
        assert set(pool.map(lambda _: validate(pair.b, two["token"]), range(64))) == {503}
        print(f"64 questions to a store that has stopped: {time.monotonic() - began:.1f} s")
    pair.store.thaw()
    wait_for(lambda: verdict(pair.rpc_b, two["token"]) == "live", "it to be back")
    assert verdict(pair.rpc_b, one["token"]) == "revoked"
    pair.close()


def test_a_store_that_is_slow_to_say(pair):
    """The bound holds without any answer: from then on the store is asked about each token."""
    token = mint(pair.door_a, pair.account, "one")
    settle(pair, token)
    pair.store.set(c=3, notices=False)
    revoke(pair, token)
    acknowledged = last = time.monotonic()
    while True:
        asked = time.monotonic()
        if verdict(pair.rpc_b, token["token"]) != "live":
            break
        last = asked
    print(f"accepted for {1000 * (last - acknowledged):.0f} ms")
    assert last - acknowledged <= 1
    assert verdict(pair.rpc_b, token["token"]) == "revoked"


def test_strangers_leave_room(pair):
    """Made-up tokens, each of which costs a question, do not keep others from being served."""
    made_up = mint(pair.door_a, pair.account, "one")["token"]
    pair.store.order("drop", prefix="h")
    wait_for(lambda: verdict(pair.rpc_b, made_up) == "unknown", "it to be unknown")
    pair.store.set(g=0.1)  # so that a slow client, too, asks faster than the store answers
    crowd = [pair.b.rpc() for _ in range(4)]
    for client in crowd:
        for _ in range(120):
            client.send("token.verify", {"token": made_up})
    answer = pair.door_b.call("account.list")
    assert answer.ok, answer
    refused = sum(client.receive()[2] is not None for client in crowd for _ in range(120))
    assert 0 < refused < 480
    for client in crowd:
        client.close()


def test_the_plugin_keeps_its_promises():
    """What the tests here stand on is a store like any other."""
    store = Shared()
    done = subprocess.run([BUILD / "tests/plugin/kaiten-plugin-check", PLUGIN,
                           f"socket={store.path}"], capture_output=True, text=True, timeout=300)
    store.remove()
    assert done.returncode == 0, done.stdout
    assert " - changes: no write is left out" in done.stdout, done.stdout


# --- what daemons do together ---------------------------------------------------------------------

def test_idempotency_keys(calm):
    """The same key on another daemon: the same answer, or "still at work"."""

    def create(daemon):
        door = daemon.http()
        answer = door.request("POST", f"/api/service-accounts/{calm.account}/tokens",
                              {"name": "once", "scopes": []}, {"Idempotency-Key": "k1"})
        door.close()
        return answer

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(create, (calm.a, calm.b) * 8))
    assert {a.status for a in answers} <= {201, 409}, answers
    made = [a.body["token"] for a in answers if a.status == 201]
    assert len(set(made)) == 1
    assert create(calm.a).body["token"] == create(calm.b).body["token"] == made[0]


@pytest.mark.parametrize("fate", ["kept", "lost"])
def test_a_mint_of_which_nobody_knows(pair, fate):
    """503 and no secret; what is there all the same is revoked, and its name is free again."""
    pair.store.set(apply=fate)
    answer = pair.door_a.call("token.create", serviceAccountSlug=pair.account, name="ghost",
                              scopes=[])
    assert answer.status == 503 and "token" not in answer.body

    def again():
        answer = pair.door_b.call("token.create", serviceAccountSlug=pair.account, name="ghost",
                                  scopes=[])
        return answer.ok and answer.body

    token = wait_for(again, "the name to be free")
    assert verdict(pair.rpc_a, token["token"]) == "live"
    listed = pair.door_a.call("token.list", serviceAccountSlug=pair.account).body["items"]
    assert ["revokedAt" not in t for t in listed] == [True] + [False] * (fate == "kept")


def test_a_mint_of_which_nobody_knows_with_a_key(pair):
    pair.store.set(apply="kept")
    path, body = f"/api/service-accounts/{pair.account}/tokens", {"name": "ghost", "scopes": []}
    head = {"Idempotency-Key": "k2"}
    assert pair.door_a.request("POST", path, body, head).status == 503
    token = pair.door_b.request("POST", path, body, head).body["token"]
    assert pair.door_a.request("POST", path, body, head).body["token"] == token
    assert verdict(pair.rpc_a, token) == verdict(pair.rpc_b, token) == "live"


@pytest.mark.parametrize("fate", ["kept", "lost"])
def test_a_revocation_of_which_nobody_knows(pair, fate):
    token = mint(pair.door_a, pair.account, "one")
    settle(pair, token)
    pair.store.set(apply=fate)
    answer = pair.door_a.call("token.revoke", serviceAccountSlug=pair.account,
                              tokenSlug=token["slug"])
    assert answer.status == 503
    assert verdict(pair.rpc_a, token["token"]) == "revoked"
    wait_for(lambda: verdict(pair.rpc_b, token["token"]) == "revoked", "all to know it")


def test_last_use_is_the_latest(calm):
    token = mint(calm.door_a, calm.account, "one")
    assert validate(calm.b, token["token"]) == 200

    def seen(door):
        answer = door.call("token.get", serviceAccountSlug=calm.account, tokenSlug=token["slug"])
        return answer.body.get("lastUsedAt")

    used = wait_for(lambda: seen(calm.door_a), "the other's use")
    wait_for(lambda: seen(calm.door_b) == used, "its own use, which it hears of like others")


def test_one_purges(cluster):
    c = cluster(3, daemon="retention = 1s\nlast_used_interval = 1s")
    door = c.daemons[0].http()
    account = door.call("account.create", name="Build Farm").body["slug"]
    token = mint(door, account, "one")
    assert door.call("token.revoke", serviceAccountSlug=account, tokenSlug=token["slug"]).ok
    wait_for(lambda: c.store.order("rows", prefix="h") == [], "the purge")
    for d in c.daemons:
        rpc = d.rpc()
        wait_for(lambda: verdict(rpc, token["token"]) == "unknown", "it to be forgotten")
        rpc.close()
    door.close()


# --- what cannot be served ------------------------------------------------------------------------

def test_a_store_of_many_that_does_not_say_what_they_do(own_daemon, tmp_path):
    """Memory could not be kept up to date: such a plugin is refused at the start."""
    source = tmp_path / "careless.c"
    source.write_text('#include "tests/plugin/broken.h"\n'
                      "BROKEN_PLUGIN(.caps = KAITEN_STORAGE_OUTSIDE_WRITERS);\n")
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, "-std=gnu11", "-fPIC", "-shared", f"-I{BUILD}", f"-I{SOURCE}",
                    f"-Wl,--version-script={SOURCE}/plugins/plugin.map", source,
                    "-o", tmp_path / "storage-careless.so"], check=True)
    tmp_path.chmod(0o755)
    d = own_daemon("storage-careless")
    d.spawn(env=dict(os.environ, KAITEND_PLUGIN_DIR=str(tmp_path)))
    assert d.process.wait(60) == os.EX_CONFIG
    assert "others may write its store, but it has no changes()" in d.log.read_text()


def test_a_bound_that_cannot_be_held(own_daemon):
    d = own_daemon("storage-memory", daemon="store_poll = 600ms\nmax_staleness = 1s")
    done = subprocess.run([KAITEND, "-c", d.conf, "--check"], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == os.EX_CONFIG
    assert "max_staleness: 1000 ms is less than twice store_poll (600 ms)" in done.stderr
