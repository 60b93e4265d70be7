# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Guessing: slugs and ids of another organization, and tokens. Whoever guesses learns nothing from an
answer, is never let in, and costs the store nothing.

KAITEN_GUESSES=N     slugs and ids that are tried (2,000 when not set)
KAITEN_TOKENS=N      tokens that are tried in each form (4,000 when not set)
"""

import os
import secrets
import socket
import string
import uuid
import zlib

import pytest

from conftest import Daemon, short_life, wait_for
from metrics import scrape

GUESSES = int(os.environ.get("KAITEN_GUESSES", "2000"))
TOKENS = int(os.environ.get("KAITEN_TOKENS", "4000"))
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
MANY = 100


@pytest.fixture(scope="module")
def daemon(store):
    """Without the limit on failures: what is compared here are the answers that it would hold up."""
    d = Daemon(store, daemon="failure_rate = none").start()
    yield d
    code = d.stop()
    d.remove()
    assert code == 0


def checksum(text):
    n, out = zlib.crc32(text.encode()), ""
    for _ in range(6):
        n, digit = divmod(n, 62)
        out = BASE62[digit] + out
    return out


def lookalike(good):
    """A token that was never minted, with the right check characters or with wrong ones."""
    body = "ksh_" + "".join(secrets.choice(BASE62) for _ in range(26))
    right = checksum(body)
    if good:
        return body + right
    at = secrets.randbelow(6)
    wrong = secrets.choice(BASE62.replace(right[at], ""))
    return body + right[:at] + wrong + right[at + 1:]


def reads(d):
    m = scrape(d.http(""))
    return m.get("kaitend_store_gets_total") + m.get("kaitend_store_scans_total")


def costs_no_read(d, work):
    """The daemon reads now and then by itself; what is done three times does not hit that thrice."""
    for _ in range(3):
        before = reads(d)
        work()
        if reads(d) == before:
            return
    raise AssertionError("the store was read")


def is_shared(d):
    """Others write its store, so it asks there about tokens with the right check characters."""
    return d.store == "storage-postgres"


class Raw:
    """Requests as bytes, answers as bytes without their Date; sixteen at once."""

    DEPTH = 16

    def __init__(self, d):
        self.s = socket.create_connection(("127.0.0.1", d.port), timeout=60)
        self.data = b""

    def read_one(self):
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        length = int(next(h for h in lines if h.startswith(b"Content-Length: "))[16:])
        while len(self.data) < length:
            self.more()
        body, self.data = self.data[:length], self.data[length:]
        return b"\r\n".join(h for h in lines if not h.startswith(b"Date: ")), body

    def more(self):
        part = self.s.recv(65536)
        assert part
        self.data += part

    def ask(self, heads):
        for i in range(0, len(heads), self.DEPTH):
            some = heads[i:i + self.DEPTH]
            self.s.sendall(b"".join(some))
            for _ in some:
                yield self.read_one()


def get(path, token):
    return f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def test_slugs_and_ids_cannot_be_told_apart(daemon, org):
    """What is there, but another's, and what is not: the same bytes but for the name that was asked
    for, through every path that takes one, headers included."""
    owner, stranger = daemon.http(daemon.jwt(org=org)), daemon.jwt(org=org + "-x")
    there = []
    for i in range(20):
        slug = f"account-{secrets.token_hex(14)}"
        made = owner.call("account.create", name="n", slug=slug).body
        t = owner.call("token.create", serviceAccountSlug=slug, name="t", scopes=[],
                       slug=f"token-{secrets.token_hex(15)}").body
        there += [slug, made["id"], made["externalId"], t["slug"], t["id"]]
    assert {len(name) for name in there} == {36}

    def guess():
        return secrets.choice([f"account-{secrets.token_hex(14)}", str(uuid.uuid4()),
                               "ksa_" + "".join(secrets.choice(BASE62) for _ in range(32))])

    raw, seen = Raw(daemon), {}
    for path in ("/service-accounts/%s", "/api/service-accounts/%s/tokens",
                 "/service-accounts/%s/tokens/" + "t" * 36,
                 "/service-accounts/" + "a" * 36 + "/tokens/%s"):
        names = there + [guess() for _ in range(GUESSES // 4)]
        secrets.SystemRandom().shuffle(names)
        for name, (head, body) in zip(names, raw.ask([get(path % n, stranger) for n in names])):
            answer = (head, body.replace(name.encode(), b"NAME"))
            seen.setdefault(path, set()).add(answer)
        assert len(seen[path]) == 1, seen[path]
        (head, body), = seen[path]
        if path.endswith("%s/tokens"):  # as the reference has it: no account has no tokens
            assert body == b'{"items":[],"hasMore":false}\n'
        else:
            assert head.startswith(b"HTTP/1.1 404 ") and b"NotFound" in body


def test_guessed_tokens_are_never_taken(daemon, verifier):
    """By verify, hundreds of thousands of them if one likes: none is good, none is looked up in the
    store, those with wrong check characters are not even looked for."""
    found = {}

    def work(kinds):
        for good in kinds:
            for _ in range(0, TOKENS, MANY):
                answer = verifier.call("token.verifyMany",
                                       tokens=[lookalike(good) for _ in range(MANY)])
                for verdict in answer.body["results"]:
                    key = (good, verdict["valid"], verdict["code"])
                    found[key] = found.get(key, 0) + 1

    costs_no_read(daemon, lambda: work([False] if is_shared(daemon) else [False, True]))
    if is_shared(daemon):
        work([True])
    assert set(found) == {(False, False, "malformed"), (True, False, "unknown")}


@pytest.fixture(scope="module")
def dead_tokens(daemon):
    """One that was revoked, one that has expired, one of a deleted account."""
    client, made = daemon.http(daemon.jwt(org="guessed")), []
    for kind in ("revoked", "expired", "deleted"):
        slug = client.call("account.create", name=kind).body["slug"]

        def mint(end=None):
            return client.call("token.create", serviceAccountSlug=slug, name="t", scopes=[],
                               expiresAt=end)

        t = (short_life(mint) if kind == "expired" else mint()).body
        made.append(t["token"])
        if kind == "revoked":
            assert client.call("token.revoke", serviceAccountSlug=slug,
                               tokenSlug=t["slug"]).status == 204
        elif kind == "deleted":
            assert client.call("account.delete", serviceAccountSlug=slug).status == 204
    wait_for(lambda: daemon.http(made[1]).call("whoami").status == 401, "the end of a token")
    return made


@pytest.mark.parametrize("path", ["/tokens/validate", "/api/tokens/validate", "/whoami",
                                  "/service-accounts"])
def test_refusals_of_tokens_are_the_same_bytes(daemon, dead_tokens, path):
    """Wrong check characters, never minted, revoked, expired, of a deleted account: one answer."""
    unlikely = dead_tokens * 5 + [lookalike(False) for i in range(GUESSES // 8)]
    likely = [lookalike(True) for i in range(GUESSES // 8)]
    seen = set()

    def work(tokens):
        secrets.SystemRandom().shuffle(tokens)
        seen.update(Raw(daemon).ask([get(path, t) for t in tokens]))

    costs_no_read(daemon, lambda: work(unlikely if is_shared(daemon) else unlikely + likely))
    if is_shared(daemon):
        work(likely)
    assert len(seen) == 1, seen
    (head, body), = seen
    assert head.startswith(b"HTTP/1.1 401 ") and b"WWW-Authenticate: Bearer" in head
    for word in (b"revoked", b"expired", b"checksum", b"unknown"):
        assert word not in body.lower()
