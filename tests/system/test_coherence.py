# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Several daemons on one store: what one of them ends is refused by the others within the bound that
the configuration states, or nobody is answered."""

import concurrent.futures
import http.client
import json
import os
import shutil
import threading
import time

import pytest

from conftest import BUILD, Daemon, wait_for
from shared_store import Shared

PLUGIN = BUILD / "tests/plugin/.libs/storage-shared.so"
pytestmark = pytest.mark.skipif(not PLUGIN.exists(), reason="tests/plugin was not built")
KEYS = ("digest.key", "signing.pem", "jwt-private.pem", "jwt-public.pem")


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
        d = Daemon("storage-shared", storage=f"socket = {self.store.path}\n"
                   + settings.pop("storage", ""), **settings)
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
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
    connection.request("GET", "/tokens/validate", headers={"Authorization": "Bearer " + token})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.fixture
def pair(cluster):
    """Two daemons, a door to each, an account, and who may verify."""
    c = cluster(2)
    c.a, c.b = c.daemons
    c.door_a, c.door_b = c.a.http(), c.b.http()
    c.rpc_a, c.rpc_b = c.a.rpc(), c.b.rpc()
    c.account = c.door_a.call("account.create", name="Build Farm").body["slug"]
    yield c
    for client in (c.door_a, c.door_b, c.rpc_a, c.rpc_b):
        client.close()


def test_what_one_daemon_does_the_other_knows(pair):
    token = mint(pair.door_a, pair.account, "one")
    # At once, though nobody has told it yet: it asks the store.
    assert verdict(pair.rpc_b, token["token"]) == "live"
    assert validate(pair.b, token["token"]) == 200
    assert pair.door_a.call("token.revoke", serviceAccountSlug=pair.account,
                            tokenSlug=token["slug"]).ok
    wait_for(lambda: verdict(pair.rpc_b, token["token"]) == "revoked", "the other to refuse it")
    assert validate(pair.b, token["token"]) == 401
