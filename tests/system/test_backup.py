# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Copies of the store: made while it is in use, fetched through the socket, put back."""

import contextlib
import itertools
import os
import shutil
import stat
import subprocess
import threading

import pytest

from conftest import KAITENCTL, KAITEND, PATIENCE, STORES, done, refused, wait_for

pytestmark = pytest.mark.skipif("storage-bdb" not in STORES, reason="no durable store was built")
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become others")


def kaitend(d, *args):
    return subprocess.run([KAITEND, "-c", d.conf, *map(str, args)], capture_output=True, text=True,
                          timeout=60, check=False)


def mint(rpc, slug):
    return done(rpc, rpc.call("token.create", serviceAccountSlug="farm", name=slug, slug=slug,
                              scopes=["read:tokens"]))["token"]


def says(d, token):
    rpc = d.rpc()
    body = rpc.call("token.verify", token=token).body
    rpc.close()
    return "valid" if body["valid"] else body["code"]


@pytest.fixture
def site(own_daemon):
    d = own_daemon("storage-bdb").start()
    rpc = d.rpc()
    assert rpc.call("account.create", name="farm", slug="farm").ok
    yield d, rpc
    rpc.close()


def test_a_copy_under_load_is_put_back_and_revives_nothing(site):
    d, rpc = site
    kept, revoked = mint(rpc, "kept"), mint(rpc, "revoked")
    acknowledged, stop = [], threading.Event()

    def load():
        own = d.rpc()
        while not stop.is_set():
            acknowledged.append(mint(own, f"load{len(acknowledged)}"))
        own.close()

    thread = threading.Thread(target=load)
    thread.start()
    try:
        wait_for(lambda: len(acknowledged) > 20, "some load")
        before = list(acknowledged)
        copy = d.dir / "copy"
        d.ctl("backup", copy)
    finally:
        stop.set()
        thread.join()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    files = list(copy.iterdir())
    assert files and all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in files)
    assert not (d.state / "backup").exists()  # the daemon's own copy is gone
    assert rpc.call("token.revoke", serviceAccountSlug="farm", tokenSlug="revoked").ok
    later = mint(rpc, "later")
    # Not while it is open, and not over what is there unless it is said.
    ran = kaitend(d, "--restore", copy, "--replace")
    assert ran.returncode == 75 and "in use" in ran.stderr, ran
    d.stop()
    ran = kaitend(d, "--restore", copy)
    assert ran.returncode == 73 and "--replace" in ran.stderr, ran
    ran = kaitend(d, "--restore", copy, "--replace")
    assert ran.returncode == 0, ran
    assert (d.state / "db.old").is_dir()
    d.start()
    assert says(d, kept) == "valid"
    assert says(d, revoked) == "revoked"
    assert says(d, later) == "unknown"
    assert {says(d, token) for token in before} == {"valid"}
    # What was kept aside is still the newer one.
    d.stop()
    ran = kaitend(d, "--restore", d.state / "db.old", "--replace")
    assert ran.returncode == 65, ran  # a store that was in use is no copy
    assert says(d.start(), kept) == "valid"


def test_what_is_kept_aside_is_replaced_with_its_base_copy(own_daemon):
    """Once the log has grown the store has a folder in it."""
    d = own_daemon("storage-bdb", storage="log_file_size = 1M\ncheckpoint_log = 1M\nbase_log = 1M")
    rpc = d.start().rpc()
    assert rpc.call("account.create", name="farm", slug="farm").ok
    token = mint(rpc, "kept")
    numbers = itertools.count()
    wait_for(lambda: mint(rpc, f"t{next(numbers)}") and (d.state / "db/base/manifest").exists(),
             "a base copy")
    copy = d.dir / "copy"
    d.ctl("backup", copy)
    rpc.close()
    d.stop()
    for left in ("db.old", "db.new"):  # the latter by somebody who was interrupted
        shutil.copytree(d.state / "db", d.state / left)
    ran = kaitend(d, "--restore", copy, "--replace")
    assert ran.returncode == 0, ran
    assert (d.state / "db.old/base/manifest").exists() and not (d.state / "db.new").exists()
    assert says(d.start(), token) == "valid"


@pytest.mark.parametrize("how", ["cut", "changed", "missing", "empty"])
def test_a_damaged_copy_is_refused(site, how):
    d, rpc = site
    token = mint(rpc, "kept")
    copy = d.dir / "copy"
    d.ctl("backup", copy)
    d.stop()
    largest = max(copy.iterdir(), key=lambda f: f.stat().st_size)
    data = bytearray(largest.read_bytes())
    if how == "cut":
        largest.write_bytes(data[:-1])
    elif how == "changed":
        data[len(data) // 2] ^= 1
        largest.write_bytes(data)
    else:
        for f in [largest] if how == "missing" else list(copy.iterdir()):
            f.unlink()
    ran = kaitend(d, "--restore", copy, "--replace")
    assert ran.returncode == 65, ran
    assert not (d.state / "db.old").exists() and not (d.state / "db.new").exists()
    assert says(d.start(), token) == "valid"


def test_what_is_no_folder_is_no_copy(site):
    d, _ = site
    d.ctl("export", d.dir / "stream")
    d.stop()
    ran = kaitend(d, "--restore", d.dir / "stream", "--replace")
    assert ran.returncode == 66 and "Not a directory; --import takes" in ran.stderr, ran


def test_a_copy_that_is_not_there_is_not_called_damaged(site):
    d, _ = site
    d.stop()
    ran = kaitend(d, "--restore", d.dir / "nope")
    assert ran.returncode == 66 and f"{d.dir}/nope: No such file or directory" in ran.stderr, ran


def test_a_copy_goes_into_a_new_folder_only(site):
    d, _ = site
    copy = d.dir / "copy"
    copy.mkdir()
    (copy / "mine").write_text("x")
    ran = d.ctl("backup", copy, check=False)
    assert ran.returncode == 1 and "exists" in ran.stderr, ran
    assert [f.name for f in copy.iterdir()] == ["mine"]
    for args in (["backup"], ["backup", copy, copy], ["--url", "http://127.0.0.1:1", "backup",
                                                       copy]):
        assert d.ctl(*args, check=False).returncode == 2


def test_who_wants_no_notes_hears_none(site):
    d, _ = site
    for verb in ("backup", "export"):
        assert "bytes" in d.ctl(verb, d.dir / verb).stderr
        ran = d.ctl("-q", verb, d.dir / f"{verb}.quiet")
        assert (ran.stdout, ran.stderr) == ("", "")


@ROOT
def test_who_asks_for_a_copy_is_told_that_the_disk_is_full(own_daemon, tmp_path):
    """And so is who asks for new keys; nothing is left of the copy."""
    d = own_daemon("storage-bdb")
    shutil.copytree(d.state, tmp_path / "kept")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "none", d.state],
                      capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        shutil.copytree(tmp_path / "kept", d.state, dirs_exist_ok=True)
        d.state.chmod(0o700)
        d.start()
        with contextlib.suppress(OSError), (d.state / "other").open("wb", buffering=0) as other:
            while other.write(bytes(4096)):
                pass
        for args, words in (("backup", d.dir / "copy"), "No space left on device"), \
                           (("export", d.dir / "copy"), "Storage.Full"), \
                           (("key", "rotate", "digest"), "put that right"):
            ran = d.ctl(*args, check=False)
            assert ran.returncode == 6 and words in ran.stderr, ran
            assert "temporarily unavailable" not in ran.stderr, ran
        assert not (d.state / "backup").exists() and not (d.dir / "copy").exists()
        d.stop()
    finally:
        if d.process and d.process.poll() is None:
            d.kill()
        subprocess.run(["umount", "-l", d.state], check=True)


def test_pieces_are_asked_for_by_number_alone(site):
    d, rpc = site
    made = done(rpc, rpc.call("store.backup"))
    one = made["files"][0]
    assert set(one) == {"name", "size"}
    piece = rpc.call("store.read", backup=made["backup"], file=0, offset=0)
    assert piece.ok and piece.body["data"] or one["size"] == 0
    assert rpc.call("store.read", backup=made["backup"], file=0,
                    offset=1 << 50).body["data"] == ""
    for wrong in ({"backup": "../../etc/passwd"}, {"backup": ""}, {"file": len(made["files"])}):
        args = dict({"backup": made["backup"], "file": 0, "offset": 0}, **wrong)
        refused(rpc.call("store.read", **args), 404, "Store.NoBackup")
    for wrong in ({"file": "/etc/passwd"}, {"file": -1}, {"offset": -1}):
        args = dict({"backup": made["backup"], "file": 0, "offset": 0}, **wrong)
        refused(rpc.call("store.read", **args), 422, "UNPROCESSABLE")
    again = done(rpc, rpc.call("store.backup"))
    refused(rpc.call("store.read", backup=made["backup"], file=0, offset=0), 404,
            "Store.NoBackup")
    done(rpc, rpc.call("store.drop", backup=again["backup"]))
    refused(rpc.call("store.drop", backup=again["backup"]), 404, "Store.NoBackup")
    assert not (d.state / "backup").exists()


def test_the_store_is_checked_while_it_serves(site):
    d, rpc = site
    mint(rpc, "kept")
    assert d.ctl("storage", "check").stdout.strip()
    d.stop()
    assert "event=index" in d.log.read_text()


def test_who_runs_the_daemon_is_told_what_is_damaged(site):
    """And that the next start puts it right, which it does."""
    d, rpc = site
    kept = mint(rpc, "kept")
    d.stop()  # all pages are in the files
    d.start()
    space = max((d.state / "db").glob("*.db"), key=lambda f: f.stat().st_size)
    with space.open("r+b") as f:
        f.seek(-2048, os.SEEK_END)
        f.write(os.urandom(512))
    ran = d.ctl("storage", "check", check=False)
    assert ran.returncode != 0 and "damaged" in ran.stderr and "Store.Damaged" in ran.stderr, ran
    assert "unexpected error" not in ran.stderr
    copy = d.ctl("backup", d.dir / "copy", check=False)
    assert copy.returncode != 0 and "Store.Damaged" in copy.stderr, copy
    d.kill()
    d.start()
    assert d.ctl("storage", "check").stdout.strip() and says(d, kept) == "valid"


def test_storage_memory_has_no_copies(own_daemon):
    d = own_daemon("storage-memory").start()
    ran = d.ctl("backup", d.dir / "copy", check=False)
    assert ran.returncode == 5 and "storage plugin cannot" in ran.stderr, ran
    assert not (d.dir / "copy").exists()
    d.stop()
    assert kaitend(d, "--restore", d.dir).returncode == 64


@ROOT
def test_only_root_and_its_own_user_may_have_it(own_daemon):
    """Whatever scopes a rule gives; a credential changes nothing either way."""
    rule = "uid=4711 org=acme subject=other scopes=read:*,write:*,delete:* verify=any"
    d = own_daemon("storage-bdb", rules=(rule,)).start()
    script = ("import os, sys; os.setresgid(4711, 4711, 4711); os.setresuid(4711, 4711, 4711); "
              "os.execv(sys.argv[1], sys.argv[1:])")
    for method, args in (("store.check", "{}"), ("store.backup", "{}"), ("store.export", "{}"),
                         ("store.drop", '{"backup":"x"}'), ("key.list", "{}"),
                         ("key.rotate", '{"kind":"digest"}'), ("key.retire", '{"key":"x"}')):
        ran = subprocess.run(["/usr/bin/python3", "-c", script, KAITENCTL, "--socket",
                              d.socket_path, "call", method, args], capture_output=True,
                             text=True, timeout=PATIENCE, check=False)
        assert ran.returncode == 3 and "Auth.AdminOnly" in ran.stderr + ran.stdout, ran
    # Root has no rule here, and needs none.
    rpc = d.rpc(d.jwt(scopes=[]))
    assert rpc.call("store.check").ok
    refused(rpc.call("account.list"), 403, "Auth.MissingScope")
    rpc.close()
    assert not d.http().request("POST", "/store/backup").ok


@ROOT
def test_the_number_of_all_strangers_is_not_the_daemon_s_own_user(own_daemon):
    """Everybody of a foreign user namespace has it."""
    d = own_daemon("storage-memory")
    for path in (d.state, *d.state.iterdir()):
        os.chown(path, 65534, 65534)
    d.dir.chmod(0o777)
    d.start(user=65534, group=65534, extra_groups=[])
    ran = subprocess.run([KAITENCTL, "--socket", d.socket_path, "key", "list"], user=65534,
                         capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 3 and "Auth.AdminOnly" in ran.stderr, ran
    assert d.ctl("key", "list").returncode == 0
    assert d.stop() == 0


@ROOT
@pytest.mark.parametrize("there", [True, False])
def test_root_puts_a_copy_back_for_the_daemon_s_user(own_daemon, there):
    """As the unit of systemd has it: the daemon has a user of its own, and the operator is root."""
    d, daemon_user = own_daemon("storage-bdb"), dict(user=4711, group=4711, extra_groups=[])
    for path in (d.state, *d.state.iterdir()):
        os.chown(path, 4711, 4711)
    d.dir.chmod(0o777)
    rpc = d.start(**daemon_user).rpc()
    assert rpc.call("account.create", name="farm", slug="farm").ok
    token, copy = mint(rpc, "kept"), d.dir / "copy"
    rpc.close()
    d.ctl("backup", copy)
    for owner in (0, 4711):
        for path in (copy, *copy.iterdir()):
            os.chown(path, owner, owner)
        d.stop()
        if not there:
            shutil.rmtree(d.state / "db")
        ran = kaitend(d, "--restore", copy, *["--replace"] * there)
        assert ran.returncode == 0, ran
        assert says(d.start(**daemon_user), token) == "valid"
