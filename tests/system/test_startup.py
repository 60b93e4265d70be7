# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What stops a start beside its configuration: keys, stores and addresses. Each says what is wrong, and
ends with the right code."""

import contextlib
import os
import pty
import re
import signal
import socket
import stat

import pytest

from conftest import KAITEND, PATIENCE, Process, done, reads_proc, wait_for
from refusals import (  # noqa: F401
    CANTCREAT, CONFIG, NOPERM, NOUSER, ROOT, TEMPFAIL, UNAVAILABLE, kaitend, made, refuses, spoil)

# --- keys and stores ------------------------------------------------------------------------------


@pytest.fixture
def filled(own_daemon):
    """A stopped daemon on Berkeley DB that has a token."""
    daemon = own_daemon("storage-bdb").start()
    http = daemon.http()
    slug = done(http, http.call("account.create", name="n"), 201)["slug"]
    token = http.call("token.create", serviceAccountSlug=slug, name="n", scopes=[])
    daemon.secret = done(http, token, 201)["token"]
    http.close()
    assert daemon.stop() == 0
    return daemon


def is_good(daemon):
    client = daemon.http(daemon.secret)
    answer = client.call("token.validate")
    client.close()
    return answer.status == 200


def test_keys_are_made_for_their_owner_alone(filled):
    for name in ("digest.key", "signing.pem"):
        assert stat.S_IMODE((filled.state / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((filled.state / "db").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["digest.key", "signing.pem"])
def test_key_file_that_others_can_read(filled, name):
    path = filled.state / name
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        message = refuses(NOPERM, "-c", filled.conf)
        assert message.startswith(f"{path}: mode {mode:04o}") and "chmod 600" in message, message
    path.chmod(0o600)
    assert is_good(filled.start())


def test_digest_key_is_missing_with_a_store_that_is_not_empty(filled):
    path = filled.state / "digest.key"
    path.rename(filled.state / "away")
    assert refuses(CONFIG, "-c", filled.conf) == (
        f"{path}: the digest key is missing, but the store is not empty; restore the key that the "
        "store was made with")
    assert not path.exists()
    (filled.state / "away").rename(path)
    assert is_good(filled.start())


def test_digest_key_of_another_store(filled, own_daemon):
    path = filled.state / "digest.key"
    mine = path.read_bytes()
    other = own_daemon("storage-memory").start()
    assert other.stop() == 0
    path.write_bytes((other.state / "digest.key").read_bytes())
    ran = kaitend("-c", filled.conf)
    assert ran.returncode == CONFIG, ran
    assert "the store was made with another digest key" in ran.stderr
    assert str(path) in ran.stderr
    path.write_bytes(mine)
    assert is_good(filled.start())


@pytest.mark.parametrize("data,words", [(b"", "empty; restore it"), (b"x\n", "not a key"),
                                        (b"kaiten-key-1 a b\n", "malformed key"),
                                        pytest.param(b"\0" * 100000, None, id="long")])
def test_digest_key_that_is_none(filled, data, words):
    path = filled.state / "digest.key"
    mine = path.read_bytes()
    path.write_bytes(data)
    message = refuses(NOPERM, "-c", filled.conf)
    assert message.startswith(str(path)) and (not words or words in message), message
    assert mine.decode().split()[-1] not in message
    path.write_bytes(mine)
    assert is_good(filled.start())


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE "
                                  b"KEY-----\n", "rsa"])
def test_signing_key_that_is_none(filled, data):
    path = filled.state / "signing.pem"
    path.write_bytes(filled.private.read_bytes() if data == "rsa" else data)
    message = refuses(NOPERM, "-c", filled.conf)
    assert message.startswith(str(path)), message


def test_nobody_is_asked_for_the_password_of_a_key(filled):
    """On a terminal OpenSSL would: the start would hang there."""
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    path = filled.state / "signing.pem"
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret")))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(KAITEND, [KAITEND, "-c", filled.conf])
    try:
        status = wait_for(lambda: os.waitpid(pid, os.WNOHANG)[1], "the end of the start")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == NOPERM


def test_store_locked_by_another_daemon(filled, own_daemon):
    filled.start()
    second = own_daemon("storage-bdb")
    second.conf.write_text(second.conf.read_text().replace(f"{second.state}/db",
                                                           f"{filled.state}/db"))
    assert refuses(TEMPFAIL, "-c", second.conf).endswith(
        f"{filled.state}/db is in use by process {filled.process.pid}")
    assert is_good(filled)
    assert filled.stop() == 0


def test_store_that_others_may_enter(filled):
    (filled.state / "db").chmod(0o750)
    message = refuses(TEMPFAIL, "-c", filled.conf)
    assert f"{filled.state}/db has mode 0750" in message and "0700" in message
    (filled.state / "db").chmod(0o700)
    assert is_good(filled.start())


@ROOT
def test_folder_that_cannot_be_written(own_daemon):
    """As a user who is not root: for root there is no such folder."""
    daemon = own_daemon("storage-memory")
    for path in daemon.state.iterdir():
        os.chown(path, 4001, 4001)
    locked = daemon.dir / "locked"
    locked.mkdir()
    locked.chmod(0o755)
    spoil(daemon, f"state_dir = {daemon.state}", f"state_dir = {locked}/state")
    daemon.state.chmod(0o755)
    message = refuses(CANTCREAT, "-c", daemon.conf, user=4001, group=4001, extra_groups=[])
    assert message == f"{locked}/state: Permission denied"
    spoil(daemon, f"state_dir = {locked}/state", f"state_dir = {locked}")
    message = refuses(CANTCREAT, "-c", daemon.conf, user=4001, group=4001, extra_groups=[])
    assert message.startswith(f"{locked}/digest.key") and "Permission denied" in message


def test_folder_that_is_none(own_daemon):
    daemon = own_daemon("storage-bdb")
    file = daemon.dir / "file"
    file.write_text("")
    spoil(daemon, f"path = {daemon.state}/db", f"path = {file}/db")
    assert f"{file}/db: Not a directory" in refuses(TEMPFAIL, "-c", daemon.conf)


def test_log_file_that_cannot_be_opened(made):
    spoil(made, "log_level = debug", f"log_file = {made.dir}/no/log")
    assert refuses(CANTCREAT, "-c", made.conf) == f"{made.dir}/no/log: No such file or directory"


@ROOT
def test_user_that_is_not_there(made):
    spoil(made, "log_level = debug", "user = no-such-user-here")
    assert refuses(NOUSER, "-c", made.conf).endswith(
        '[kaitend] user: "no-such-user-here": there is no such user')


# --- listeners ------------------------------------------------------------------------------------


def test_port_in_use(made):
    with socket.socket() as s:
        s.bind(("127.0.0.1", made.port))
        s.listen()
        message = refuses(UNAVAILABLE, "-c", made.conf)
    assert f"127.0.0.1:{made.port}" in message and "Address already in use" in message


def test_socket_path_in_use(own_daemon):
    first, second = own_daemon("storage-memory").start(), own_daemon("storage-memory")
    spoil(second, f"path = {second.socket_path}", f"path = {first.socket_path}")
    message = refuses(UNAVAILABLE, "-c", second.conf)
    assert first.socket_path in message, message
    rpc = first.rpc()
    assert rpc.call("kaiten.ping").ok
    rpc.close()


def test_socket_left_by_a_daemon_that_was_killed(own_daemon):
    daemon = own_daemon("storage-memory").start()
    daemon.kill()
    assert os.path.exists(daemon.socket_path)
    rpc = daemon.start().rpc()
    assert rpc.call("kaiten.ping").ok
    rpc.close()
    assert daemon.stop() == 0
    assert not os.path.exists(daemon.socket_path)


def test_socket_path_that_is_something_else(made):
    made.dir.joinpath("precious").write_text("precious")
    spoil(made, f"path = {made.socket_path}", f"path = {made.dir}/precious")
    message = refuses(UNAVAILABLE, "-c", made.conf)
    assert f"{made.dir}/precious" in message
    assert made.dir.joinpath("precious").read_text() == "precious"


def test_socket_path_that_cannot_be(made):
    for code, path in (UNAVAILABLE, f"{made.dir}/no/rpc.sock"), (CONFIG, f"{made.dir}/{'x' * 200}"):
        made.write_conf()
        line = spoil(made, f"path = {made.socket_path}", f"path = {path}")
        message = refuses(code, "-c", made.conf)
        assert message.startswith(f"{made.conf}:{line}: [socket] path: ") and path in message
        if code == CONFIG:
            assert refuses(CONFIG, "--check", "-c", made.conf) == message


@pytest.mark.parametrize("address", ["localhost:80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                     "127.0.0.1:4294967297", "127.0.0.1:-1", "1.2.3:80",
                                     "[::1:80", "127.0.0.1:80x", "", "192.0.2.1:8080"])
def test_address_that_is_none(made, address):
    line = spoil(made, f"listen = 127.0.0.1:{made.port}", f"listen = {address}")
    ours = address == "192.0.2.1:8080"  # an address indeed, but none of this machine
    message = refuses(UNAVAILABLE if ours else CONFIG, "-c", made.conf)
    assert message.startswith(f"{made.conf}:{line}: [http] listen: ") and address in message
    if not ours:
        assert refuses(CONFIG, "--check", "-c", made.conf) == message


def test_port_zero_takes_a_free_one(made):
    spoil(made, f"listen = 127.0.0.1:{made.port}", "listen = 127.0.0.1:0")
    made.spawn()
    found = wait_for(lambda: re.search(r"event=listening on=\S*127\.0\.0\.1:(\d+)",
                                       made.log.read_text()), "the port to be told")
    assert int(found.group(1)) > 0
    at = ("127.0.0.1", int(found.group(1)))
    with contextlib.closing(socket.create_connection(at, PATIENCE)) as s:
        s.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 200 ")
    assert made.stop() == 0


# --- closed standard files ------------------------------------------------------------------------


@reads_proc
def test_nothing_takes_the_place_of_closed_standard_files(own_daemon):
    """Else the first lines of the log would be written into the store."""
    daemon = own_daemon("storage-bdb")
    daemon.process = Process(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", KAITEND, "-c",
                              daemon.conf], daemon.log)

    def ready():
        with contextlib.suppress(OSError), contextlib.closing(daemon.http()) as http:
            return http.request("GET", "/readyz").ok

    wait_for(ready, "kaitend to be ready")
    held = [os.readlink(f"/proc/{daemon.process.pid}/fd/{n}") for n in range(3)]
    assert held == ["/dev/null"] * 3
    assert daemon.stop() == 0 and daemon.log.read_text() == ""


# --- what every start says ------------------------------------------------------------------------


def test_start_and_stop_are_told_in_order(made):
    made.start()
    assert made.stop() == 0
    events = re.findall(r"event=(\S+)", made.log.read_text())
    wanted = ["key.created", "listening", "listening", "index.loaded", "ready", "stopped"]
    assert [e for e in events if e in wanted] == wanted
    assert "level=error" not in made.log.read_text()


def test_memory_storage_warns_that_nothing_survives(made):
    made.start()
    assert "nothing that is written here survives the process" in made.log.read_text()
