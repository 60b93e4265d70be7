# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The store as a stream: out of one storage plugin and into another, whole or not at all."""

import datetime
import os
import shutil
import subprocess

import postgres
import pytest

from conftest import KAITENCTL, KAITEND, STORES, done, refused, wait_for
from test_backup import kaitend, mint, says

pytestmark = pytest.mark.skipif("storage-bdb" not in STORES, reason="no durable store was built")

HEADER = 48
FULL = os.environ.get("KAITEN_FAULTS") == "full"


def site(own_daemon, store="storage-bdb"):
    d = own_daemon(store).start()
    rpc = d.rpc()
    assert rpc.call("account.create", name="farm", slug="farm").ok
    return d, rpc


def fill(rpc):
    tokens = {name: mint(rpc, name) for name in ("kept", "revoked", "rotated")}
    assert rpc.call("token.revoke", serviceAccountSlug="farm", tokenSlug="revoked").ok
    args = dict(serviceAccountSlug="farm", tokenSlug="rotated")
    tokens["fresh"] = done(rpc, rpc.call("token.rotate", **args))["token"]
    return tokens


EXPECTED = {"kept": "valid", "revoked": "revoked", "rotated": "revoked", "fresh": "valid"}


def said(d, tokens):
    return {name: says(d, token) for name, token in tokens.items()}


def bring(source, target, journal=True):
    """The files that go along with a stream."""
    for name in ["digest.key", "signing.pem"] + ["revocations.log"] * journal:
        shutil.copy(source.state / name, target.state / name)


def records(data):
    """Where each record begins, and where the trailer does."""
    at, found = HEADER, []
    while data[at:at + 2] != b"\0\0":
        found.append(at)
        at += 6 + int.from_bytes(data[at:at + 2], "big") + int.from_bytes(data[at + 2:at + 6], "big")
    return found, at


def test_a_stream_fills_another_store_and_every_token_is_as_before(own_daemon):
    d, rpc = site(own_daemon)
    tokens, stream = fill(rpc), d.dir / "stream"
    d.ctl("export", stream)
    assert stream.stat().st_mode & 0o777 == 0o600
    assert not (d.state / "backup").exists()
    data = stream.read_bytes()
    assert not any(t.encode() in data for t in tokens.values())
    ran = d.ctl("export", stream, check=False)
    assert ran.returncode == 1 and "exists" in ran.stderr, ran
    piped = subprocess.run([KAITENCTL, "--socket", d.socket_path, "export", "-"],
                           capture_output=True, timeout=60, check=True).stdout
    assert records(piped)[0]
    d.stop()
    # Offline it is the same; a running daemon holds its store.
    again = d.dir / "again"
    ran = kaitend(d, "--export", again)
    assert ran.returncode == 0 and records(again.read_bytes())[0], ran
    assert kaitend(d, "--export", again).returncode == 73
    other = own_daemon("storage-bdb")
    bring(d, other)
    ran = kaitend(other, "--import", stream)
    assert ran.returncode == 0 and "event=imported" in ran.stderr, ran
    other.start()
    assert said(other, tokens) == EXPECTED
    assert mint(other.rpc(), "later")
    # Not over what is there, and not while it is open.
    ran = kaitend(other, "--import", stream)
    assert ran.returncode == 75 and "in use" in ran.stderr, ran
    other.stop()
    ran = kaitend(other, "--import", stream)
    assert ran.returncode == 73 and "not empty" in ran.stderr, ran
    assert said(other.start(), tokens) == EXPECTED
    piped_to = own_daemon("storage-bdb")
    bring(d, piped_to)
    ran = subprocess.run([KAITEND, "-c", piped_to.conf, "--import", "-"], input=piped,
                         capture_output=True, timeout=60, check=False)
    assert ran.returncode == 0, ran
    assert said(piped_to.start(), tokens) == EXPECTED


def test_what_was_revoked_after_the_export_stays_so(own_daemon):
    d, rpc = site(own_daemon)
    tokens, stream = fill(rpc), d.dir / "stream"
    d.ctl("export", stream)
    assert rpc.call("token.revoke", serviceAccountSlug="farm", tokenSlug="kept").ok
    d.stop()
    for journal in (True, False):
        other = own_daemon("storage-bdb")
        bring(d, other, journal)
        assert kaitend(other, "--import", stream).returncode == 0
        if not journal:
            ran = kaitend(other, "--accept-rollback", "keep")
            assert ran.returncode == 0 and "event=rollback.accepted" in ran.stderr, ran
        assert said(other.start(), tokens) == dict(EXPECTED,
                                                   kept="revoked" if journal else "valid")


def test_what_a_store_in_memory_had_lives_on(own_daemon):
    d, rpc = site(own_daemon, "storage-memory")
    tokens, stream = fill(rpc), d.dir / "stream"
    d.ctl("export", stream)
    d.stop()
    other = own_daemon("storage-bdb")
    bring(d, other, journal=False)
    assert kaitend(other, "--import", stream).returncode == 0
    assert kaitend(other, "--accept-rollback", "keep").returncode == 0
    assert said(other.start(), tokens) == EXPECTED


@pytest.mark.skipif("storage-postgres" not in STORES or not postgres.programs(),
                    reason="storage-postgres is not tested")
def test_there_and_back_through_postgres(own_daemon):
    d, rpc = site(own_daemon)
    tokens, stream, back = fill(rpc), d.dir / "stream", d.dir / "back"
    d.ctl("export", stream)
    d.stop()
    there = own_daemon("storage-postgres")
    bring(d, there)
    assert kaitend(there, "--import", stream).returncode == 0
    assert said(there.start(), tokens) == EXPECTED
    refused(there.rpc().call("store.export"), 405, "Store.Unable")
    there.stop()
    assert kaitend(there, "--export", back).returncode == 0
    other = own_daemon("storage-bdb")
    bring(there, other)
    assert kaitend(other, "--import", back).returncode == 0
    assert said(other.start(), tokens) == EXPECTED


def test_a_store_that_forgets_is_neither_source_nor_target(own_daemon):
    """While no daemon serves it, it is empty: a stream of it would pass for the real one."""
    d, rpc = site(own_daemon)
    fill(rpc)
    stream = d.dir / "stream"
    d.ctl("export", stream)
    d.stop()
    other = own_daemon("storage-memory")
    bring(d, other, journal=False)
    for args in (("--export", other.dir / "none"), ("--export", "-"), ("--import", stream)):
        ran = kaitend(other, *args)
        assert ran.returncode == 64 and "does not survive" in ran.stderr and ran.stdout == "", ran
    assert not (other.dir / "none").exists()


def test_a_store_that_is_not_there_is_neither_exported_nor_begun(own_daemon):
    """With the new storage plugin named too early, the empty stream would be taken for the store, and
    what was begun here would be no target any more."""
    d, rpc = site(own_daemon)
    tokens, stream = fill(rpc), d.dir / "stream"
    d.ctl("export", stream)
    d.stop()
    other = own_daemon("storage-bdb")
    ran = kaitend(other, "--export", other.dir / "none")
    assert ran.returncode == 66 and "is empty" in ran.stderr, ran
    assert not (other.dir / "none").exists() and not (other.state / "digest.key").exists()
    ran = kaitend(other, "--import", stream)
    assert ran.returncode == 77 and "bring the key" in ran.stderr, ran
    bring(d, other)
    assert kaitend(other, "--export", other.dir / "none").returncode == 66
    assert kaitend(other, "--import", stream).returncode == 0
    assert said(other.start(), tokens) == EXPECTED


def test_an_export_to_a_full_disk_says_so(own_daemon):
    d, rpc = site(own_daemon)
    fill(rpc)
    d.stop()
    with open("/dev/full", "wb") as full:
        ran = subprocess.run([KAITEND, "-c", d.conf, "--export", "-"], stdout=full,
                             stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ran.returncode == 74 and "standard output: No space left" in ran.stderr, ran


def test_what_is_no_stream_is_named(own_daemon):
    d = own_daemon("storage-bdb").start()
    d.stop()
    shutil.rmtree(d.state / "db")
    ran = kaitend(d, "--import", d.dir)
    assert ran.returncode == 66 and "no regular file" in ran.stderr, ran
    folder = os.open(d.dir, os.O_RDONLY)
    ran = subprocess.run([KAITEND, "-c", d.conf, "--import", "-"], stdin=folder, text=True,
                         capture_output=True, timeout=60, check=False)
    os.close(folder)
    assert ran.returncode == 66 and "standard input: Is a directory" in ran.stderr, ran


def lives(rpc):
    """Tokens of each kind of life, and what is said of them."""
    tokens = fill(rpc)
    expected = dict(EXPECTED)

    def make(slug, account="farm", **args):
        return done(rpc, rpc.call("token.create", serviceAccountSlug=account, name=slug, slug=slug,
                                  scopes=["read:tokens"], **args))["token"]

    tokens["former"] = make("grace")
    tokens["latter"] = done(rpc, rpc.call("token.rotate", serviceAccountSlug="farm",
                                          tokenSlug="grace", gracePeriodSeconds=86400))["token"]
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    tokens["brief"] = make("brief", expiresAt=soon.isoformat())
    for account in ("emptied", "deleted"):
        assert rpc.call("account.create", name=account, slug=account).ok
        tokens[account] = make("only", account)
    assert rpc.call("token.revokeAll", serviceAccountSlug="emptied").ok
    tokens["filled"] = make("next", "emptied")
    assert rpc.call("account.delete", serviceAccountSlug="deleted").ok
    expected |= dict(former="valid", latter="valid", brief="expired", emptied="revoked",
                     deleted="revoked", filled="valid")
    return tokens, expected


def forget(d):
    """Its store, but not its journal."""
    if d.store == "storage-postgres":
        server = postgres.shared()
        d.write_conf(storage=f"connection = {server.connection(server.database())}\ntimeout = 20s")
    else:
        shutil.rmtree(d.state / "db")


@pytest.mark.parametrize("target", ["storage-bdb", "storage-postgres"])
@pytest.mark.parametrize("source", ["storage-bdb", "storage-memory", "storage-postgres"])
def test_from_each_storage_plugin_to_each(own_daemon, source, target):
    if not {source, target} <= set(STORES) or ("storage-postgres" in (source, target) and
                                               not postgres.programs()):
        pytest.skip("a storage plugin is not tested")
    d, rpc = site(own_daemon, source)
    tokens, expected = lives(rpc)
    wait_for(lambda: says(d, tokens["brief"]) == "expired", "an expiry")
    assert said(d, tokens) == expected
    stream = d.dir / "stream"
    if source != "storage-postgres":
        d.ctl("export", stream)
    rpc.close()
    d.stop()
    if source == "storage-postgres":
        assert kaitend(d, "--export", stream).returncode == 0
    other = own_daemon(target)
    bring(d, other, journal=source != "storage-memory")

    def take():
        assert kaitend(other, "--import", stream).returncode == 0
        if source == "storage-memory":  # which no journal knows
            assert kaitend(other, "--accept-rollback", "keep").returncode == 0

    take()
    assert said(other.start(), tokens) == expected
    # What ends now is in the journal there, so that the same stream does not revive it.
    rpc = other.rpc()
    assert rpc.call("token.revoke", serviceAccountSlug="farm", tokenSlug="kept").ok
    assert rpc.call("account.delete", serviceAccountSlug="emptied").ok
    rpc.close()
    other.stop()
    forget(other)
    take()
    now = said(other.start(), tokens)
    assert now["kept"] == "revoked" and now["fresh"] == now["former"] == "valid"
    assert now["filled"] != "valid" and now["emptied"] != "valid" and now["brief"] == "expired"


def is_empty(d):
    """A daemon finds nothing in it, and makes it its own."""
    rpc = d.start().rpc()
    accounts = rpc.call("account.list").body["items"]
    rpc.close()
    return accounts == []


def test_a_stream_that_is_not_whole_writes_nothing(own_daemon):
    d, rpc = site(own_daemon)
    fill(rpc)
    stream = d.dir / "stream"
    d.ctl("export", stream)
    d.stop()
    data = stream.read_bytes()
    starts, end = records(data)
    assert len(starts) > 10 and data[8:12] == b"\0\0\0\1"
    other = own_daemon("storage-bdb")
    bring(d, other, journal=False)
    bad = other.dir / "bad"

    def refuses(what, words):
        bad.write_bytes(what)
        ran = kaitend(other, "--import", bad)
        assert ran.returncode == 65 and words in ran.stderr, ran

    # Every byte of a small one is cut off and changed in tests/unit/test-portable.c.
    cuts = starts + [len(data) - 1] if FULL else [0, starts[len(starts) // 2], end, len(data) - 1]
    for at in cuts:
        refuses(data[:at], "cut off")
    for at in (starts[3] + 8, end - 1):
        changed = bytearray(data)
        changed[at] ^= 1
        refuses(bytes(changed), "")
    refuses(data + b"\0", "behind its end")
    refuses(data[:11] + b"\2" + data[12:], "of format 2")
    refuses(data[:starts[1]] + data[starts[2]:], "changed")  # one record left out
    refuses(data[:starts[1]] + data[starts[2]:starts[3]] + data[starts[1]:starts[2]]
            + data[starts[3]:], "not where it belongs")
    (other.state / "digest.key").unlink()
    ran = kaitend(other, "--import", stream)
    assert ran.returncode == 77, ran
    assert is_empty(other)  # with a key of its own
    other.stop()
    ran = kaitend(other, "--import", stream)
    assert ran.returncode == 73, ran
    third = own_daemon("storage-bdb")
    shutil.copy(other.state / "digest.key", third.state / "digest.key")
    ran = kaitend(third, "--import", stream)
    assert ran.returncode == 65 and "another digest key" in ran.stderr, ran
    assert is_empty(third)


@pytest.mark.parametrize("target", ["storage-bdb", "storage-postgres"])
def test_an_import_that_was_broken_off_is_begun_again(own_daemon, target):
    """A row that says so stands in the store meanwhile; whoever is killed leaves it there."""
    if target not in STORES or (target == "storage-postgres" and not postgres.programs()):
        pytest.skip(f"{target} is not tested")
    d, rpc = site(own_daemon)
    tokens = fill(rpc)
    for i in range(1000 if FULL else 300):
        mint(rpc, f"more{i}")
    stream = d.dir / "stream"
    d.ctl("export", stream)
    d.stop()
    killed = 0
    other = own_daemon(target)
    for delay in (0.02, 0.05, 0.1, 0.2, 0.4) if FULL else (0.05, 0.15):
        bring(d, other)
        p = subprocess.Popen([KAITEND, "-c", other.conf, "--import", stream],
                             stderr=subprocess.DEVNULL)
        try:
            p.wait(delay)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            killed += 1
        ran = kaitend(other, "--import", stream)
        assert ran.returncode == (0 if p.returncode else 73) or "not empty" in ran.stderr, ran
        assert said(other.start(), tokens) == EXPECTED
        other.stop()
        forget(other)
    assert killed or not FULL
