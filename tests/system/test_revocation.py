# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A revocation is seen by every loop and both doors: no request that starts after its answer is
accepted, with requests in flight on many connections."""

import itertools
import pathlib
import re
import socket
import threading
import time

import msgpack
import pytest

from conftest import PATIENCE, Daemon, wait_for
from journal import Journal, check

LOOPS = 4
CONNECTIONS = 12  # of each hammer


class SocketHammer:
    """token.verify and a ksh_ token as the caller, one question on each connection at a time."""

    def __init__(self, daemon):
        self.rpcs = [daemon.rpc() for _ in range(CONNECTIONS)]

    def ask(self, i, secret):
        rpc = self.rpcs[i]
        if i % 2:
            rpc.send("token.verify", {"token": secret})
        else:
            rpc.send("whoami", {}, {"token": secret})

    def verdict(self, i):
        _, _, error, result = self.rpcs[i].receive()
        if i % 2:
            assert error is None, error
            return result["valid"], result.get("code")
        assert error is None or error["status"] == 401, error
        return error is None, None

    def close(self):
        for rpc in self.rpcs:
            rpc.close()


class HttpHammer:
    """/tokens/validate and a ksh_ token as the caller."""

    def __init__(self, daemon):
        self.sockets = [socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE)
                        for _ in range(CONNECTIONS)]

    def ask(self, i, secret):
        path = ("/tokens/validate", "/whoami", "/api/tokens/validate")[i % 3]
        self.sockets[i].sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n"
                                f"Authorization: Bearer {secret}\r\n\r\n".encode())

    def verdict(self, i):
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.sockets[i].recv(65536)
            assert part, "closed by kaitend"
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"\r\nContent-Length: (\d+)", head)[1])
        while len(body) < length:
            body += self.sockets[i].recv(65536)
        status = int(head[9:12])
        assert status in (200, 401), data
        return status == 200, None

    def close(self):
        for s in self.sockets:
            s.close()


class Hammer(threading.Thread):
    """Verifies the current secret on all of its connections, round after round."""

    def __init__(self, fire, journal, kind):
        super().__init__(daemon=True)
        self.fire, self.journal, self.kind = fire, journal, kind
        self.rounds, self.broken = 0, None

    def run(self):
        hammer = None
        try:
            hammer = self.kind(self.fire.daemon)
            while not self.fire.over:
                self.round(hammer)
        except BaseException as e:
            self.broken = e
        finally:
            if hammer:
                hammer.close()

    def round(self, hammer):
        secrets, asked = self.fire.secrets, []
        for i, secret in zip(range(CONNECTIONS), itertools.cycle(secrets)):
            asked.append(self.journal.attempt("verify", secret=secret))
            hammer.ask(i, secret)
        for i, n in enumerate(asked):
            valid, code = hammer.verdict(i)
            self.journal.end(n, "acknowledged", valid=valid, code=code)
        self.rounds += 1


class Fire:
    """Hammers on both doors of one daemon."""

    def __init__(self, daemon, journal):
        self.daemon, self.over = daemon, False
        self.secrets = ["ksh_" + "A" * 32]
        self.hammers = [Hammer(self, journal, kind) for kind in (SocketHammer, HttpHammer)
                        for _ in range(2)]
        for h in self.hammers:
            h.start()
        self.rounds(2)

    def rounds(self, n):
        """Waits until each hammer has begun and ended at least n - 1 rounds from now on."""
        goal = [h.rounds + n for h in self.hammers]

        def reached():
            for h in self.hammers:
                if h.broken:
                    raise h.broken
            return all(h.rounds >= g for h, g in zip(self.hammers, goal))

        wait_for(reached, "the hammers")

    def stop(self):
        self.over = True
        for h in self.hammers:
            h.join(PATIENCE)
            if h.broken:
                raise h.broken


@pytest.fixture(scope="module")
def four_loops(store):
    # Verdicts on dead tokens are asked for as fast as they come, by thousands.
    d = Daemon(store, daemon=f"loops = {LOOPS}\nfailure_rate = none", level="notice").start()
    yield d
    code = d.stop()
    d.remove()
    assert code == 0


class Owner:
    """The one client that changes things, on a door of its own; everything is written down."""

    def __init__(self, daemon, journal, kind):
        self.journal = journal
        self.door = daemon.http() if kind == "http" else daemon.rpc(daemon.jwt())
        self.count = itertools.count(1)

    def call(self, operation, **args):
        answer = self.door.call(operation, **args)
        assert answer.ok, answer
        return answer.body

    def account(self):
        return self.call("account.create", name="Fire")["slug"]

    def mint(self, account):
        n, count = self.journal.attempt("mint", account=account), next(self.count)
        # A verdict on a token with an end of its own may be kept until then, if somebody errs.
        end = {"expiresAt": "2999-01-01T00:00:00Z"} if count % 2 else {}
        t = self.call("token.create", serviceAccountSlug=account, name=f"t{count}",
                      scopes=["read:instances"], **end)
        self.journal.end(n, "acknowledged", secret=t["token"], token=t["id"])
        return t

    def end(self, what, operation, facts, **args):
        n = self.journal.attempt(what, **facts)
        body = self.call(operation, **args)
        told = dict(secret=body["token"], token=body["id"]) if what == "rotate" else {}
        self.journal.end(n, "acknowledged", **told)
        return body


def thread_switches(pid):
    """Voluntary context switches of each event loop: how often it slept and woke."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("loop"):
            status = (task / "status").read_text()
            found[name] = int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", status)[1])
    return found


@pytest.mark.parametrize("kind", ["http", "socket"])
def test_no_verdict_that_starts_after_the_end_was_acknowledged_is_good(four_loops, kind):
    d, journal = four_loops, Journal()
    owner = Owner(d, journal, kind)
    account = owner.account()
    before = thread_switches(d.process.pid)
    fire = Fire(d, journal)
    began = time.monotonic()
    for i in range(100):  # through each door
        t = owner.mint(account)
        fire.secrets = [t["token"]]
        fire.rounds(1)
        owner.end("revoke", "token.revoke", dict(token=t["id"]), serviceAccountSlug=account,
                  tokenSlug=t["slug"])
        fire.rounds(2)
    for i in range(20):
        t = owner.mint(account)
        fire.secrets = [t["token"]]
        fire.rounds(1)
        r = owner.end("rotate", "token.rotate", dict(token=t["id"]), serviceAccountSlug=account,
                      tokenSlug=t["slug"])
        fire.secrets = [t["token"], r["token"]]
        fire.rounds(2)
    for i in range(20):
        doomed = owner.account()
        fire.secrets = [owner.mint(doomed)["token"] for _ in range(4)]
        fire.rounds(1)
        what, operation = (("delete", "account.delete"), ("revoke_all", "token.revokeAll"))[i % 2]
        owner.end(what, operation, dict(account=doomed), serviceAccountSlug=doomed)
        fire.rounds(2)
    fire.stop()
    print(f"{journal.count('verify')} verdicts in {time.monotonic() - began:.1f} s")
    after = thread_switches(d.process.pid)
    assert len(after) == LOOPS
    assert all(after[name] > before[name] for name in after), "a loop took no part"
    assert check(journal.lines) == []


def test_pipelined_revoke_and_verify_on_one_connection(four_loops):
    d = four_loops
    rpc = d.rpc()
    account = rpc.call("account.create", name="Pipe").body["slug"]
    for i in range(100):
        t = rpc.call("token.create", serviceAccountSlug=account, name=f"p{i}",
                     scopes=["read:instances"]).body
        rpc.socket.sendall(
            msgpack.packb([0, 1, "token.verify", [{"token": t["token"]}]])
            + msgpack.packb([0, 2, "token.revoke", [{"serviceAccountSlug": account,
                                                     "tokenSlug": t["slug"]}]])
            + msgpack.packb([0, 3, "token.verify", [{"token": t["token"]}]])
            + msgpack.packb([0, 4, "whoami", [{}, {"token": t["token"]}]]))
        replies = [rpc.receive() for _ in range(4)]
        assert [r[1] for r in replies] == [1, 2, 3, 4]
        assert replies[0][3]["valid"] is True
        assert replies[1][2] is None
        assert replies[2][3] == {"valid": False, "code": "revoked"}
        assert replies[3][2]["status"] == 401


def test_pipelined_revoke_and_validate_over_http(four_loops):
    d = four_loops
    door, jwt = d.http(), d.jwt()
    account = door.call("account.create", name="Pipe").body["slug"]
    with socket.create_connection(("127.0.0.1", d.port), timeout=PATIENCE) as s:
        stream = s.makefile("rb")

        def answer():
            status = int(stream.readline().split()[1])
            length = 0
            while (line := stream.readline()) != b"\r\n":
                if line.startswith(b"Content-Length: "):
                    length = int(line.split()[1])
            stream.read(length)
            return status

        for i in range(50):
            t = door.call("token.create", serviceAccountSlug=account, name=f"h{i}",
                          scopes=["read:instances"]).body
            validate = ("GET /tokens/validate HTTP/1.1\r\nHost: a\r\n"
                        f"Authorization: Bearer {t['token']}\r\n\r\n")
            revoke = (f"DELETE /service-accounts/{account}/tokens/{t['slug']} HTTP/1.1\r\nHost: a"
                      f"\r\nAuthorization: Bearer {jwt}\r\n\r\n")
            s.sendall((validate + revoke + validate).encode())
            assert [answer() for _ in range(3)] == [200, 204, 401]


def test_one_door_s_revocation_is_the_other_s(four_loops):
    """Alternating doors, with the verdict asked on connections that were open before."""
    d = four_loops
    http, rpc = d.http(), d.rpc()
    account = http.call("account.create", name="Both").body["slug"]
    for i, door in zip(range(40), itertools.cycle((http, rpc))):
        t = door.call("token.create", serviceAccountSlug=account, name=f"b{i}",
                      scopes=["read:instances"]).body
        caller = d.http(t["token"])
        assert caller.call("token.validate").ok and caller.call("whoami").ok
        assert door.call("token.revoke", serviceAccountSlug=account, tokenSlug=t["slug"]).ok
        assert caller.call("token.validate").status == 401
        assert caller.call("whoami").status == 401
        assert rpc.call("token.verify", token=t["token"]).body["code"] == "revoked"
        assert rpc.call("token.verifyMany", tokens=[t["token"]]).body == {
            "results": [{"valid": False, "code": "revoked"}]}
        caller.close()
