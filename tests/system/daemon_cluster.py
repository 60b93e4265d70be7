# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Several daemons on one store: fixtures that start them, and what a test does with two of them."""

import http.client
import os
import shutil

import pytest

import postgres
from conftest import BUILD, PATIENCE, STORES, Daemon, wait_for
from metrics import scrape
from shared_store import Shared

PLUGIN = BUILD / "tests/plugin/.libs/storage-shared.so"
KEYS = ("digest.key", "signing.pem", "jwt-private.pem", "jwt-public.pem")


class Database:
    """A store in PostgreSQL, with the part of Shared that it needs."""

    plugin = "storage-postgres"

    def __init__(self):
        self.settings = f"connection = {postgres.shared().connection(postgres.shared().database())}"

    def thaw(self):
        pass

    remove = thaw


class Cluster:
    """Daemons with the same keys on one store."""

    def __init__(self, n, store=None, **settings):
        self.store = store or Shared()
        self.settings = settings
        self.daemons = []
        for _ in range(n):
            self.add()

    def make(self, keys=KEYS, **changes):
        settings = dict(self.settings, **changes)
        d = Daemon(self.store.plugin, storage=self.store.settings + "\n"
                   + settings.pop("storage", "timeout = 5s"), **settings)
        for name in keys if self.daemons else ():
            shutil.copy(self.daemons[0].state / name, d.state / name)
        d.env = dict(os.environ, KAITEND_PLUGIN_DIR=str(PLUGIN.parent))
        return d

    def add(self, **changes):
        d = self.make(**changes)
        self.daemons.append(d)
        d.start(env=d.env)
        return d

    def remove(self):
        self.store.thaw()
        for d in self.daemons:
            d.remove()
        self.store.remove()


class Pair:
    """The first two daemons of a cluster, a door to each, an account, and who may verify."""

    def __init__(self, cluster):
        self.cluster, self.store = cluster, cluster.store
        self.a, self.b = cluster.daemons[:2]
        self.door_a, self.door_b = self.a.http(), self.b.http()
        self.rpc_a, self.rpc_b = self.a.rpc(), self.b.rpc()
        self.account = self.door_a.call("account.create", name="Build Farm").body["slug"]

    def close(self):
        for client in (self.door_a, self.door_b, self.rpc_a, self.rpc_b):
            client.close()


@pytest.fixture
def cluster():
    made = []

    def make(n, **settings):
        made.append(Cluster(n, **settings))
        return made[-1]

    yield make
    for c in made:
        c.remove()


def mint(door, account, name, **more):
    answer = door.call("token.create", serviceAccountSlug=account, name=name, **dict(dict(scopes=["read:tokens"]), **more))
    assert answer.ok, answer
    return answer.body


def verdict(rpc, token):
    answer = rpc.call("token.verify", token=token)
    return answer.body["code"] if answer.ok and not answer.body["valid"] else \
        "live" if answer.ok else answer.status


def validate(daemon, token):
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)
    connection.request("GET", "/tokens/validate", headers={"Authorization": "Bearer " + token})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.fixture
def pair(cluster):
    """Two daemons on a store that the test may do anything with."""
    p = Pair(cluster(2))
    yield p
    p.close()


KINDS = [Shared] + [Database] * ("storage-postgres" in STORES)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.plugin)
def calm_cluster(request):
    if request.param is Database and not postgres.programs():
        pytest.skip(postgres.MISSING)
    c = Cluster(3, store=request.param(), daemon="last_used_interval = 1s")
    yield c
    c.remove()


@pytest.fixture
def calm(calm_cluster):
    """Two daemons, out of three, that the test leaves as they are."""
    p = Pair(calm_cluster)
    yield p
    p.close()


def revoke(pair, token, door=None):
    answer = (door or pair.door_a).call("token.revoke", serviceAccountSlug=pair.account,
                                        tokenSlug=token["slug"])
    assert answer.ok, answer


def rotate(pair, token, **more):
    answer = pair.door_a.call("token.rotate", serviceAccountSlug=pair.account,
                              tokenSlug=token["slug"], **more)
    assert answer.ok, answer
    return answer.body


def asks(pair):
    """How often the other daemon has asked the store for rows."""
    door = pair.b.http("")
    n = scrape(door).get("kaitend_store_gets_total")
    door.close()
    return n


def settle(pair, *tokens):
    """Until the other daemon answers for all of them from memory."""

    def from_memory():
        before = asks(pair)
        said = {verdict(pair.rpc_b, t["token"]) for t in tokens}
        return said <= {"live"} and asks(pair) == before

    wait_for(from_memory, "the tokens to be in memory")
