# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Many requests at once: no answer is somebody else's, and of those who want the same thing one
gets it."""

import collections
import json
import random
import re
import selectors
import socket

import msgpack
import pytest

from conftest import PATIENCE

CONNECTIONS = 64


class Stream:
    """A connection with many requests on their way; the answers come in their order (http) or by
    their ids (socket)."""

    def __init__(self, daemon, kind, token):
        self.daemon, self.kind, self.token = daemon, kind, token
        self.unpacker = msgpack.Unpacker(raw=False)
        self.data, self.out, self.asked, self.answers = b"", b"", [], {}

    def open(self):
        if self.kind == "http":
            self.socket = socket.create_connection(("127.0.0.1", self.daemon.port),
                                                   timeout=PATIENCE)
        else:
            self.socket = self.daemon.rpc(self.token).socket

    ROUTES = {
        "account.create": ("POST", "/service-accounts"),
        "account.get": ("GET", "/service-accounts/{serviceAccountSlug}"),
        "account.update": ("PUT", "/service-accounts/{serviceAccountSlug}"),
        "account.delete": ("DELETE", "/service-accounts/{serviceAccountSlug}"),
        "token.create": ("POST", "/service-accounts/{serviceAccountSlug}/tokens"),
        "token.revoke": ("DELETE", "/service-accounts/{serviceAccountSlug}/tokens/{tokenSlug}"),
        "token.rotate": ("POST",
                         "/service-accounts/{serviceAccountSlug}/tokens/{tokenSlug}/rotate"),
        "whoami": ("GET", "/whoami"),
    }

    def ask(self, operation, token=None, **args):
        n = len(self.asked)
        self.asked.append((operation, args))
        token = token or self.token
        if self.kind == "socket":
            self.out += msgpack.packb([0, n, operation, [args, {"token": token}]])
            return n
        method, path = self.ROUTES[operation]
        for name in re.findall(r"{(\w+)}", path):
            path = path.replace("{%s}" % name, args.pop(name))
        body = json.dumps(args).encode() if method in ("POST", "PUT") else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.out += head.encode() + b"\r\n" + body
        return n

    def feed(self, data):
        assert data, "closed by kaitend"
        if self.kind == "socket":
            self.unpacker.feed(data)
            for _, n, error, result in self.unpacker:
                assert n not in self.answers, "answered twice"
                self.answers[n] = (error["status"] if error else 200, error or result)
            return
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"\r\nContent-Length: (\d+)", self.data[:end])
            size = int(length[1]) if length else 0
            if len(self.data) < end + 4 + size:
                return
            body = self.data[end + 4:end + 4 + size]
            self.answers[len(self.answers)] = (int(self.data[9:12]),
                                               json.loads(body) if body else None)
            self.data = self.data[end + 4 + size:]

    @property
    def waits(self):
        return self.out or len(self.answers) < len(self.asked)


def run(streams):
    """Sends and reads all that was asked, everything at once."""
    # Those of HTTP come last: they have not said anything yet, and may not be silent for long.
    for s in sorted(streams, key=lambda s: s.kind, reverse=True):
        s.open()
    with selectors.DefaultSelector() as selector:
        for s in streams:
            s.socket.setblocking(False)
            selector.register(s.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, s)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready, "no answers any more"
            for key, events in ready:
                s = key.data
                if events & selectors.EVENT_WRITE and s.out:
                    s.out = s.out[s.socket.send(s.out[:65536]):]
                if events & selectors.EVENT_READ:
                    s.feed(s.socket.recv(65536))
                if not s.waits:
                    selector.unregister(s.socket)
                elif not s.out:
                    selector.modify(s.socket, selectors.EVENT_READ, s)


def streams_of(daemon, n, token=None):
    token = token or daemon.jwt()
    return [Stream(daemon, ("http", "socket")[i % 2], token) for i in range(n)]


def close(streams):
    for s in streams:
        s.socket.close()


def statuses(streams):
    return collections.Counter(status for s in streams for status, _ in s.answers.values())


def successes(streams):
    return [body for s in streams for status, body in s.answers.values() if status < 400]


@pytest.fixture
def slug(daemon):
    return daemon.http().call("account.create", name="Crowd").body["slug"]


def test_no_answer_is_mixed_up(daemon, slug):
    """Quick and slow questions, refusals and changes, sixteen deep, each with a nonce."""
    chance = random.Random(4711)
    jwts = {f"caller-{i}": daemon.jwt(sub=f"caller-{i}") for i in range(8)}
    accounts = [daemon.http().call("account.create", name=f"n {i}").body for i in range(8)]
    streams = streams_of(daemon, 2 * CONNECTIONS)
    expected = {}
    for number, s in enumerate(streams):
        for k in range(16):
            nonce = f"{number}-{k}"
            which = chance.randrange(5)
            account = chance.choice(accounts)
            if which == 0:
                n = s.ask("account.get", serviceAccountSlug=account["slug"])
                expected[number, n] = lambda a, x=account: a[0] == 200 and a[1]["id"] == x["id"]
            elif which == 1:
                who = chance.choice(list(jwts))
                n = s.ask("whoami", token=jwts[who])
                expected[number, n] = lambda a, x=who: a[0] == 200 and a[1]["subject"] == x
            elif which == 2:
                n = s.ask("account.get", serviceAccountSlug=f"nope-{nonce}")
                expected[number, n] = lambda a, x=nonce: a[0] == 404 and f"nope-{x}" in str(a[1])
            elif which == 3 and s.kind == "socket":
                n = s.ask(f"no.such.method.{nonce}")
                expected[number, n] = lambda a, x=nonce: a[0] == 404 and x in a[1]["detail"]
            else:
                n = s.ask("token.create", serviceAccountSlug=slug, name=f"N {nonce}",
                          slug=f"n-{nonce}", scopes=["read:instances"])
                expected[number, n] = lambda a, x=nonce: (
                    a[0] in (200, 201) and a[1]["name"] == f"N {x}" and a[1]["slug"] == f"n-{x}")
    run(streams)
    wrong = [(streams[i].asked[n], streams[i].answers[n]) for (i, n), good in expected.items()
             if not good(streams[i].answers[n])]
    close(streams)
    assert len(expected) == 2 * CONNECTIONS * 16
    assert wrong == []
    secrets = [b["token"] for s in streams for _, b in s.answers.values() if b and "token" in b]
    assert len(set(secrets)) == len(secrets) > 0


def test_one_of_a_thousand_gets_the_slug(daemon):
    streams = streams_of(daemon, 100)
    for s in streams:
        for _ in range(10):
            s.ask("account.create", name="Contended", slug="contended")
    run(streams)
    close(streams)
    found = statuses(streams)
    assert len(successes(streams)) == 1
    assert found[409] == 999, found
    door = daemon.http()
    assert door.call("account.delete", serviceAccountSlug="contended").ok


@pytest.mark.parametrize("unique", ["name", "slug"])
def test_one_of_a_thousand_tokens_gets_it(daemon, slug, unique):
    streams = streams_of(daemon, 100)
    for i, s in enumerate(streams):
        for k in range(10):
            args = {"name": f"n {i} {k}", "slug": f"s-{i}-{k}"}
            args[unique] = "the-one"
            s.ask("token.create", serviceAccountSlug=slug, scopes=["read:instances"], **args)
    run(streams)
    close(streams)
    [token] = successes(streams)
    assert token[unique] == "the-one"
    assert statuses(streams)[409] == 999
    page = daemon.http().call("token.list", serviceAccountSlug=slug).body
    assert [t["id"] for t in page["items"]] == [token["id"]]


def test_one_of_many_revokes(daemon, slug):
    token = daemon.http().call("token.create", serviceAccountSlug=slug, name="t",
                               scopes=["read:instances"]).body
    streams = streams_of(daemon, CONNECTIONS)
    for s in streams:
        s.ask("token.revoke", serviceAccountSlug=slug, tokenSlug=token["slug"])
    run(streams)
    close(streams)
    found = statuses(streams)
    assert found[404] == CONNECTIONS - 1 and sum(found.values()) == CONNECTIONS, found


@pytest.mark.parametrize("grace,most", [(0, 1), (60, 2)])
def test_of_many_rotations_the_last_ones_live(daemon, slug, verifier, grace, most):
    token = daemon.http().call("token.create", serviceAccountSlug=slug, name="t",
                               scopes=["read:instances"]).body
    streams = streams_of(daemon, CONNECTIONS)
    for s in streams:
        s.ask("token.rotate", serviceAccountSlug=slug, tokenSlug=token["slug"],
              gracePeriodSeconds=grace)
    run(streams)
    close(streams)
    assert set(statuses(streams)) <= {200, 503}
    secrets = [b["token"] for b in successes(streams)] + [token["token"]]
    results = verifier.call("token.verifyMany", tokens=secrets).body["results"]
    live = [s for s, r in zip(secrets, results) if r["valid"]]
    assert len(live) == min(most, len(secrets)), (len(secrets), results)
    assert {r["tokenId"] for r in results if r["valid"]} == {token["id"]}
    assert daemon.http().call("token.revoke", serviceAccountSlug=slug,
                              tokenSlug=token["slug"]).ok
    results = verifier.call("token.verifyMany", tokens=secrets).body["results"]
    assert not any(r["valid"] for r in results)


def test_nothing_minted_survives_the_deletion_of_its_account(daemon, verifier):
    """Mints race with the deletion: each is refused, or dies with the account."""
    jwt, door = daemon.jwt(), daemon.http()
    minted = 0
    for turn in range(10):
        assert door.call("account.create", name="Doomed", slug="doomed").ok
        streams = streams_of(daemon, 16, jwt)
        for i, s in enumerate(streams):
            if i == 7:
                s.ask("account.delete", serviceAccountSlug="doomed")
                continue
            for k in range(3):
                s.ask("token.create", serviceAccountSlug="doomed", name=f"{i} {k}",
                      scopes=["read:instances"])
        run(streams)
        close(streams)
        assert set(statuses(streams)) <= {200, 201, 204, 404, 503}
        secrets = [b["token"] for b in successes(streams) if b]
        minted += len(secrets)
        results = verifier.call("token.verifyMany", tokens=secrets).body["results"]
        assert not any(r["valid"] for r in results)
        assert door.call("account.get", serviceAccountSlug="doomed").status == 404
    assert minted > 0


def test_a_slug_made_again_while_it_is_deleted_has_nothing_of_the_old(daemon, verifier):
    jwt, door = daemon.jwt(), daemon.http()
    for turn in range(10):
        door.call("account.create", name="Twice", slug="twice")
        old = door.call("token.create", serviceAccountSlug="twice", name="old",
                        scopes=["read:instances"]).body
        streams = streams_of(daemon, 8, jwt)
        for i, s in enumerate(streams):
            if i % 2:
                s.ask("account.delete", serviceAccountSlug="twice")
            else:
                s.ask("account.create", name="Twice", slug="twice")
        run(streams)
        close(streams)
        assert set(statuses(streams)) <= {200, 201, 204, 404, 409, 503}
        assert not verifier.call("token.verify", token=old["token"]).body["valid"]
        now = door.call("account.get", serviceAccountSlug="twice")
        if now.ok:
            assert now.body["tokens"] == []
            door.call("account.delete", serviceAccountSlug="twice")


def test_renames_at_once_leave_one_of_the_names(daemon, slug):
    streams = streams_of(daemon, CONNECTIONS)
    for i, s in enumerate(streams):
        s.ask("account.update", serviceAccountSlug=slug, name=f"name {i}")
    run(streams)
    close(streams)
    assert set(statuses(streams)) <= {200, 204, 503}
    name = daemon.http().call("account.get", serviceAccountSlug=slug).body["name"]
    assert re.fullmatch(r"name \d+", name)
