# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Who a peer is, is what the kernel says: uids and groups against every method."""

import json
import os
import subprocess
import sys
import time

import pytest

from conftest import PATIENCE, Daemon, thousand, wait_for
from metrics import scrape

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

# Numbers without an account: nothing is looked up.
OWNER, READER, OTHER, CLERK, DENIED, STRANGER, CROWD = range(61001, 61008)
CLERKS, NOBODY = 62001, 65534

RULES = (
    'uid=0 org=acme subject=root scopes=read:*,write:* verify=any',
    f'uid={DENIED} deny',
    f'uid={OWNER} org=acme subject=owner scopes=read:*,write:* verify=any',
    f'uid={READER} org=acme subject=reader scopes=read:tokens verify=no',
    f'uid={OTHER} org=other subject=other scopes=read:*,write:* verify=own',
    f'gid={CLERKS} org=acme subject=clerk scopes=read:tokens,write:tokens verify=own',
    f'uid={CROWD} org=acme subject=crowd scopes=read:* verify=no',
)

CLIENT = r"""
import json, socket, sys
import msgpack
path, requests = json.load(sys.stdin)
s = socket.socket(socket.AF_UNIX)
s.connect(path)
s.settimeout(60)
unpacker = msgpack.Unpacker(raw=False)
for i, (method, args, meta) in enumerate(requests):
    s.sendall(msgpack.packb([0, i, method, [args, meta]]))
    reply = None
    while reply is None:
        data = s.recv(65536)
        assert data, "closed by kaitend"
        unpacker.feed(data)
        reply = next(iter(unpacker), None)
    assert reply[:2] == [1, i]
    print(json.dumps(reply[2:]))
"""


def ask_as(daemon, uid, requests, groups=(), gid=None):
    """Asks on one connection of a process with that uid; returns [error, result] for each."""
    hello = [["kaiten.hello", {"errors": "problem"}, {}]]
    requests = hello + [list(r) + [{}] * (3 - len(r)) for r in requests]
    done = subprocess.run([sys.executable, "-c", CLIENT], cwd="/", user=uid,
                          group=uid if gid is None else gid, extra_groups=list(groups),
                          input=json.dumps([daemon.socket_path, requests]), text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()][1:]


@pytest.fixture(scope="module")
def served(store):
    d = Daemon(store, rules=RULES, level="info").start()
    rpc = d.rpc()
    rpc.account = rpc.call("account.create", name="Peers", slug="peers").body["slug"]
    rpc.token = rpc.call("token.create", serviceAccountSlug="peers", name="t",
                         scopes=["read:tokens"]).body["token"]
    yield d, rpc
    code = d.stop()
    d.remove()
    assert code == 0


WHO = {  # name: (uid, supplementary groups, scopes, may verify)
    "owner": (OWNER, (), {"read", "write"}, "any"),
    "reader": (READER, (), {"read"}, "no"),
    "other": (OTHER, (), {"read", "write"}, "own"),
    "clerk by group": (CLERK, (4, CLERKS), {"read", "write"}, "own"),
    "clerk without": (CLERK, (4,), None, None),
    "denied": (DENIED, (), None, None),
    "denied in the group": (DENIED, (CLERKS,), None, None),
    "stranger": (STRANGER, (), None, None),
    "nobody": (NOBODY, (), None, None),
}
PUBLIC = {"kaiten.ping", "kaiten.hello", "kaiten.describe", "healthz", "readyz", "jwks"}


def expected(method, scope, scopes, verify):
    """The status that a method without arguments or with those of ARGS may have."""
    if method in PUBLIC:
        return "allow"
    if method.startswith(("store.", "key.")):
        return 403  # root's and the daemon's own, whatever the rules say
    if scopes is None:
        return 401
    if method.startswith("token.verify"):
        return 403 if verify == "no" else "allow"
    if scope and scope.split(":")[0] not in scopes:
        return 403
    return "allow"


ARGS = {
    "account.create": {"name": "x"},
    "account.get": {"serviceAccountSlug": "nope"},
    "account.update": {"serviceAccountSlug": "nope", "name": "x"},
    "account.delete": {"serviceAccountSlug": "nope"},
    "token.create": {"serviceAccountSlug": "nope", "name": "x", "scopes": ["read:tokens"]},
    "token.list": {"serviceAccountSlug": "nope"},
    "token.get": {"serviceAccountSlug": "nope", "tokenSlug": "nope"},
    "token.rotate": {"serviceAccountSlug": "nope", "tokenSlug": "nope"},
    "token.revoke": {"serviceAccountSlug": "nope", "tokenSlug": "nope"},
    "token.revokeAll": {"serviceAccountSlug": "nope"},
    "token.verify": {"token": "ksh_" + "A" * 32},
    "token.verifyMany": {"tokens": []},
    "store.read": {"backup": "x", "file": 0, "offset": 0},
    "store.drop": {"backup": "x"},
    "key.rotate": {"kind": "digest"},
    "key.retire": {"key": "x"},
}


@pytest.mark.parametrize("name", WHO)
def test_every_method_is_allowed_or_refused_as_the_rules_say(served, name):
    d, rpc = served
    uid, groups, scopes, verify = WHO[name]
    methods = rpc.call("kaiten.describe").body["methods"]
    assert {m["name"] for m in methods} >= set(ARGS)
    replies = ask_as(d, uid, [(m["name"], ARGS.get(m["name"], {})) for m in methods], groups)
    wrong = {}
    for m, (error, _) in zip(methods, replies):
        want = expected(m["name"], m["scope"], scopes, verify)
        got = error["status"] if error else 200
        if not (got == want or (want == "allow" and got not in (401, 403))):
            wrong[m["name"]] = (got, want)
    assert len(replies) == len(methods) and wrong == {}


def test_whoami_is_what_the_rule_says(served):
    d, _ = served
    for uid, groups, subject, organization in [(OWNER, (), "owner", "acme"),
                                               (OTHER, (), "other", "other"),
                                               (CLERK, (CLERKS,), "clerk", "acme")]:
        [[error, who]] = ask_as(d, uid, [("whoami", {})], groups)
        assert error is None
        assert (who["subject"], who["organization"], who["kind"]) == (subject, organization, "peer")


def test_the_primary_group_counts_as_well(served):
    [[error, who]] = ask_as(served[0], CLERK, [("whoami", {})], gid=CLERKS)
    assert error is None and who["subject"] == "clerk"


def test_another_organization_sees_nothing(served):
    d, rpc = served
    foreign, absent, listed, verdict, many = ask_as(d, OTHER, [
        ("account.get", {"serviceAccountSlug": "peers"}),
        ("account.get", {"serviceAccountSlug": "absent"}),
        ("token.list", {"serviceAccountSlug": "peers"}),
        ("token.verify", {"token": rpc.token}),
        ("token.verifyMany", {"tokens": [rpc.token]}),
    ])
    assert foreign[0]["status"] == absent[0]["status"] == 404
    strip = json.dumps(foreign[0]).replace("peers", "absent")
    assert json.loads(strip).items() >= {k: v for k, v in absent[0].items()
                                         if k not in ("traceId", "requestId")}.items()
    assert listed[1]["items"] == []
    assert verdict[1] == {"valid": False, "code": "unknown"}
    assert many[1]["results"] == [{"valid": False, "code": "unknown"}]


def test_nothing_that_a_peer_says_makes_it_somebody_else(served):
    d, rpc = served
    for meta in ({"uid": 0}, {"peer": {"uid": 0}}, {"pid": 1}, {"subject": "root"}):
        [[error, _]] = ask_as(d, STRANGER, [("whoami", {}, meta)])
        assert error["status"] == 401
    good, bad, after = ask_as(d, STRANGER, [("whoami", {}, {"token": rpc.token}),
                                            ("whoami", {}, {"token": "ksh_" + "A" * 32}),
                                            ("whoami", {})])
    assert good[1]["kind"] == "token"
    assert bad[0]["status"] == 401
    assert after[0]["status"] == 401, "the token of one request is not the next one's"


def test_a_bad_credential_does_not_fall_back_to_the_peer(served):
    d, _ = served
    for token in ("ksh_" + "A" * 32, "x.y.z", "garbage"):
        [[error, _]] = ask_as(d, OWNER, [("whoami", {}, {"token": token})])
        assert error["status"] == 401


CROWD_CLIENT = r"""
import socket, sys
path, n = sys.argv[1], int(sys.argv[2])
held = []
for _ in range(n):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)  # waits while the queue is full; not when there is a time-out
    s.settimeout(60)
    held.append(s)
import msgpack
ping = msgpack.packb([0, 1, "kaiten.ping", [{}]])
served = 0
for s in held:
    try:
        s.sendall(ping)
        served += bool(s.recv(65536))
    except OSError:
        pass
print(served, flush=True)
sys.stdin.read()
"""


def connections(d):
    door = d.http("")
    n = scrape(door).get("kaitend_connections", listener=d.socket_path)
    door.close()
    return n


@thousand
def test_one_uid_with_too_many_connections_disturbs_nobody(own_daemon):
    d = own_daemon("storage-memory", rules=RULES, sock="max_connections_per_peer = 1000",
                   level="info").start()
    rpc, started = d.rpc(), time.monotonic()
    crowd = subprocess.Popen([sys.executable, "-c", CROWD_CLIENT, d.socket_path, "1100"], cwd="/",
                             user=CROWD, group=CROWD, extra_groups=[], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    try:
        assert int(crowd.stdout.readline()) == 1000
        slowest = 0
        for _ in range(20):
            begun = time.monotonic()
            fresh = d.rpc()
            assert fresh.call("whoami").ok and rpc.call("whoami").ok
            fresh.close()
            slowest = max(slowest, time.monotonic() - begun)
        assert slowest < 10
        [[error, _]] = ask_as(d, OWNER, [("whoami", {})])
        assert error is None
        lines, held = d.log.read_text().count("listen.crowded"), time.monotonic() - started
    finally:
        crowd.communicate("", timeout=PATIENCE)
    wait_for(lambda: connections(d) < 1000, "some of them to be gone")
    [[error, _]] = ask_as(d, CROWD, [("whoami", {})])
    assert error is None, "the place of a closed connection is free again"
    assert lines <= 2 + held / 10


def test_a_socket_with_a_narrow_mode_keeps_others_out(own_daemon):
    d = own_daemon("storage-memory", rules=RULES, sock="mode = 0600").start()
    assert os.stat(d.socket_path).st_mode & 0o777 == 0o600
    with pytest.raises(AssertionError, match="PermissionError"):
        ask_as(d, OWNER, [("whoami", {})])
