# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Rows of a table that are tests: each is a function of a World, under the name that the table gives
it."""

import datetime

import pytest

from conftest import done


class Rows:
    """A decorator, and what it has decorated: name -> function."""

    def __init__(self):
        self.known = {}

    def __call__(self, name):
        def keep(f):
            assert name not in self.known, name
            self.known[name] = f
            return f
        return keep

    def sections(self):
        """The first word of each name."""
        return {name.split()[0] for name in self.known}


class World:
    """One organization of its own, and who can be in it."""

    def __init__(self, daemon, org):
        self.daemon, self.org, self.open = daemon, org, []
        self.http = self.caller()

    def caller(self, **claims):
        return self.keep(self.daemon.http(self.daemon.jwt(**dict({"org": self.org}, **claims))))

    def with_token(self, token):
        return self.keep(self.daemon.http(token))

    def rpc(self, token=None):
        return self.keep(self.daemon.rpc(token or self.http.token))

    def keep(self, client):
        self.open.append(client)
        return client

    def close(self):
        for client in self.open:
            client.close()

    def get(self, path, token=None, method="GET", **kwargs):
        client = self.http if token is None else self.with_token(token)
        return client.request(method, path, **kwargs)

    def post(self, path, body=None, **kwargs):
        return self.http.request("POST", path, body, **kwargs)

    def account(self, **body):
        answer = self.post("/api/service-accounts", dict({"name": "Build Farm"}, **body))
        return done(self.http, answer, 201)

    def try_mint(self, account, /, **body):
        return self.post(f"/api/service-accounts/{account}/tokens",
                         dict({"name": "deploy", "scopes": []}, **body))

    def mint(self, account, /, **body):
        return done(self.http, self.try_mint(account, **body), 201)


@pytest.fixture
def world(daemon, org):
    w = World(daemon, org)
    yield w
    w.close()


def utc(**delta):
    t = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**delta)
    return t.strftime("%Y-%m-%dT%H:%M:%SZ")
