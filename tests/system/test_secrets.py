# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Secrets are shown once and are nowhere else; the process and its files are closed to others."""

import base64
import json
import os
import pathlib
import re
import stat
import subprocess
import sys

import msgpack
import pytest

from conftest import KAITEND, Rpc, files_below, wait_for


def spellings(secret):
    """The secret as it would look raw, in hex and inside of base64, whatever stands before it."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw)
        core = whole[4 if shift else 0:len(whole) - 4]  # what its neighbours do not change
        found |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def hits(secrets, places):
    """places: name -> bytes. Where a secret was found."""
    needles = [(s, n) for s in secrets for n in spellings(s)]
    return [(name, s) for name, data in places.items() for s, n in needles if n in data]


def test_the_search_finds_what_it_looks_for():
    secret = "ksh_0123456789abcdefghijABCDEFGHIJ01"
    for text in (secret, secret.encode().hex(), base64.b64encode(secret.encode()).decode(),
                 base64.b64encode(b"Bearer " + secret.encode()).decode(),
                 base64.urlsafe_b64encode(b"x" + secret.encode() + b"yy").decode()):
        assert hits([secret], {"log": b"before " + text.encode() + b" behind"})
    assert not hits([secret], {"log": secret[:-1].encode()})


def exercise(d):
    """Does everything that has to do with secrets, right and wrong, through both doors. Returns
    secrets, JWTs, and the bodies of all refusals."""
    secrets, jwts, bodies = [], [d.jwt(), d.jwt(sub="bob", org="other")], []
    for kind in ("http", "socket"):
        door = d.http(jwts[0]) if kind == "http" else d.rpc(jwts[0])
        slug = door.call("account.create", name=f"Secret {kind}").body["slug"]
        for i in range(10):
            t = door.call("token.create", serviceAccountSlug=slug, name=f"t{i}",
                          scopes=["read:tokens"]).body
            secrets.append(t["token"])
            if i % 3 == 0:
                r = door.call("token.rotate", serviceAccountSlug=slug, tokenSlug=t["slug"],
                              gracePeriodSeconds=60 * (i % 2))
                secrets.append(r.body["token"])
            if i % 4 == 0:
                assert door.call("token.revoke", serviceAccountSlug=slug, tokenSlug=t["slug"]).ok
        bodies += refusals(door, slug, secrets[-1], jwts)
    verifier = d.rpc()
    verifier.call("token.verifyMany", tokens=secrets)
    for secret in secrets:
        verifier.call("token.verify", token=secret)
        for door in (d.http(secret), d.rpc(secret)):
            door.call("whoami")
            bodies.append(door.call("account.create", name="x").body)
        validated = d.http(secret).call("token.validate")
        if validated.ok:
            jwts.append(validated.headers["Authorization"].removeprefix("Bearer "))
    bodies += misplaced(d, secrets[-1], jwts[0])
    return secrets, jwts, bodies


def refusals(door, slug, secret, jwts):
    """Requests that are refused, with a secret where it may stand."""
    wrong = [
        door.call("token.create", serviceAccountSlug=slug, name="t1", scopes=[], token=secret),
        door.call("token.create", serviceAccountSlug=slug, name=7, scopes=[], token=secret),
        door.call("account.create", name="x", slug="--bad--"),
        door.call("account.create", name="x", slug=secret),
        door.call("account.create", name="x", secret=secret),
        door.call("account.create", name=[{"a": secret}]),
        door.call("token.create", serviceAccountSlug=slug, name="x", scopes=[], expiresAt=secret),
        door.call("token.create", serviceAccountSlug=slug, name="x", scopes=[secret]),
        door.call("token.create", serviceAccountSlug=secret, name="x", scopes=[]),
        door.call("token.get", serviceAccountSlug=slug, tokenSlug=secret),
        door.call("account.get", serviceAccountSlug=secret),
        door.call("account.create", **{"name": "x", secret: 1}),
        door.call("account.create", name="x", createdBy={secret: secret}),
        door.call("account.list", limit=secret),
        door.call("account.list", cursor=secret),
    ]
    if door.name == "http":
        wrong += [
            door.request("GET", "/nope/" + secret),
            door.request("PATCH", "/service-accounts/" + secret),
            door.request("POST", "/service-accounts", raw=b"{}", headers={"Content-Type": secret}),
            door.request("POST", "/service-accounts", {"name": "x"},
                         headers={"Idempotency-Key": "a " + secret}),
        ]
    else:
        wrong += [
            door.call(secret),
            door.call("token.verify", token=secret, scope=5),
            door.call("token.verify", token=[secret]),
            door.call("token.verifyMany", tokens=[secret, 5]),
            door.call("token.verifyMany", tokens=secret),
        ]
    assert all(not w.ok for w in wrong), wrong
    return [w.body for w in wrong]


def misplaced(d, secret, jwt):
    """Credentials in broken requests."""
    bodies = []
    http = d.http("")
    for value in (secret, "bearer " + secret, "Bearer " + secret + "x", "Bearer  " + secret[:-1],
                  "Basic " + base64.b64encode(secret.encode()).decode(), "Bearer " + jwt + "x",
                  "Bearer " + jwt[:-5], "Bearer " + jwt.replace(".", ".."), "Token " + jwt):
        for path in ("/whoami", "/tokens/validate", "/nope", "/api/service-accounts"):
            answer = http.request("GET", path, headers={"Authorization": value})
            assert answer.status in (401, 404), answer
            bodies.append(answer.body)
    for raw in (b'{"name": "x", "token": "' + secret.encode() + b'"',
                b'{"token": "' + secret.encode() + b'", "token": 1}'):
        answer = http.request("POST", "/service-accounts", raw=raw,
                              headers={"Authorization": "Bearer " + jwt,
                                       "Content-Type": "application/json"})
        assert answer.status in (400, 422), answer
        bodies.append(answer.body)
    rpc = d.rpc()
    for meta in ({"token": secret + "x"}, {"token": [secret]}, {"token": jwt[:-3]},
                 {"token": jwt, "!x": secret}):
        rpc.send("whoami", {}, meta)
        bodies.append(rpc.receive()[2])
    pair = Rpc(d.socket_path, jwt, problems=False)
    bodies += [pair.call(secret).body, pair.call("account.get", serviceAccountSlug=secret).body,
               pair.call("account.create", name="x", **{secret: 1}).body]
    assert {type(b) for b in bodies[-3:]} == {list}
    broken = d.rpc()
    broken.socket.sendall(msgpack.packb([0, 1, "token.verify", [{"token": secret}], 5]))
    with pytest.raises(EOFError):
        broken.receive()
    assert all(bodies)
    return bodies


@pytest.mark.parametrize("end", ["running", "stopped", "killed"])
def test_no_secret_is_anywhere(own_daemon, store, end):
    small = "log_file_size = 1M" if store == "storage-bdb" else ""
    d = own_daemon(store, storage=small)
    environment = dict(os.environ, KAITEN_TEST="1")
    d.start(env=environment)
    secrets, jwts, bodies = exercise(d)
    assert len(secrets) >= 28 and len(jwts) > 10
    proc = pathlib.Path(f"/proc/{d.process.pid}")
    places = {"cmdline": (proc / "cmdline").read_bytes()}
    try:
        places["environ"] = (proc / "environ").read_bytes()
        assert b"KAITEN_TEST" in places["environ"]
    except PermissionError:
        assert os.geteuid() != 0  # not even its own user may look
    if end == "stopped":
        assert d.stop() == 0
    elif end == "killed":
        d.kill()
    places.update(files_below(d.dir))
    places["bodies"] = json.dumps(bodies).encode()
    log = places[str(d.log)]
    assert log.count(b"\n") > 100 and b"level=debug" in log
    signatures = [jwt.rpartition(".")[2] for jwt in jwts]
    assert hits(secrets + jwts + signatures, places) == []


def test_every_event_is_one_line_of_printable_text(own_daemon):
    d = own_daemon("storage-memory").start()
    evil = "a\n time=x level=error event=forged \r\x1b[31m\u2028\u0085b"
    http, rpc = d.http(), d.rpc()
    http.call("account.create", name=evil)
    rpc.call("account.create", name=evil)
    rpc.call(evil)
    d.http(d.jwt(sub=evil)).call("whoami")
    d.http(d.jwt(sub=evil, org=evil)).call("account.create", name="x")
    for value in ("Bearer " + "\t" + "x", "Bearer \xff\xfe"):
        http.request("GET", "/whoami", headers={"Authorization": value.encode("latin-1")})
    http.request("GET", "/%0a%1b[31m?x=%0a")
    assert d.stop() == 0
    for line in d.log.read_bytes().split(b"\n")[:-1]:
        assert line.startswith(b"time="), line
        assert not re.search(rb"[\x00-\x1f\x7f]|\xe2\x80[\xa8\xa9]|\xc2[\x80-\x9f]", line), line
    assert d.log.read_bytes().count(b"\nevent=forged") == 0


def test_files_are_ours_alone_whatever_the_umask(own_daemon, store):
    d = own_daemon(store)
    given = set(d.dir.rglob("*"))
    d.start(umask=0)
    exercise(d)
    d.kill()
    made = [p for p in d.dir.rglob("*") if p not in given and p != d.log]
    assert len(made) >= 3
    wrong = {}
    for p in made:
        st = p.lstat()
        want = 0o700 if stat.S_ISDIR(st.st_mode) else 0o666 if stat.S_ISSOCK(st.st_mode) else 0o600
        if stat.S_IMODE(st.st_mode) != want:
            wrong[str(p)] = oct(st.st_mode)
    assert wrong == {}


# Tries to attach to a process and to read it; prints the errors.
PROBE = """
import ctypes, errno, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, pid, None, None), errno.errorcode.get(ctypes.get_errno()))
for name in ("environ", "mem", "maps"):
    try:
        open(f"/proc/{pid}/{name}", "rb").read(1)
        print("open", name)
    except OSError as e:
        print(errno.errorcode[e.errno])
"""


def test_the_process_cannot_be_looked_into(own_daemon):
    """Not even by its own user, and it leaves no core."""
    d = own_daemon("storage-memory")
    options = {}
    if os.geteuid() == 0:  # root may look into everything: let it be somebody else
        options = dict(user=61000, group=61000, extra_groups=[])
        for p in [d.dir, *d.dir.rglob("*")]:
            os.chown(p, 61000, 61000)
    log = open(d.log, "ab")
    try:
        d.process = subprocess.Popen([KAITEND, "-c", d.conf], stdout=log, stderr=log, cwd="/",
                                     **options)
    except PermissionError:
        pytest.skip("the build tree is closed to other users")
    wait_for(lambda: "event=ready" in d.log.read_text(), "kaitend to be ready")
    pid = d.process.pid
    done = subprocess.run([sys.executable, "-c", PROBE, str(pid)], cwd="/", text=True,
                          capture_output=True, check=True, **options)
    assert done.stdout.split("\n") == ["-1 EPERM", "EACCES", "EACCES", "EACCES", ""]
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size\s+0\s+0\s", limits)
    assert "TracerPid:\t0\n" in pathlib.Path(f"/proc/{pid}/status").read_text()
    assert d.stop() == 0
