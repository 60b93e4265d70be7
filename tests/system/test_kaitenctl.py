# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""kaitenctl against the running daemon, through both of its doors."""

import contextlib
import itertools
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import threading
import time

import msgpack
import pytest

from conftest import KAITENCTL, PATIENCE, wait_for

SECRET = re.compile(r"ksh_[0-9A-Za-z]{32}\Z")
numbers = itertools.count(1)


class Ctl:
    """kaitenctl with the options of one door."""

    def __init__(self, daemon, kind, token=None):
        self.kind = kind
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("KAITEN_")}
        if kind == "http":
            self.options = ["--url", f"http://127.0.0.1:{daemon.port}"]
            self.env["KAITEN_TOKEN"] = token or daemon.jwt()
        else:
            self.options = ["--socket", daemon.socket_path]

    def run(self, *args, stdin="", **kwargs):
        kwargs.setdefault("stdout", subprocess.PIPE)
        return subprocess.run([KAITENCTL, *args, *self.options], input=stdin, env=self.env,
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE, **kwargs)

    def ok(self, *args, stdin=""):
        done = self.run(*args, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, code, *args, stdin=""):
        done = self.run(*args, stdin=stdin)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stderr


@pytest.fixture(params=["socket", "http"])
def ctl(request, daemon):
    return Ctl(daemon, request.param)


@pytest.fixture
def slug(ctl):
    return ctl.ok("account", "create", f"Ctl {next(numbers)}", "-q").strip()


def test_the_life_of_an_account(ctl):
    made = json.loads(ctl.ok("account", "create", "Büro 株式", "-o", "json"))
    slug = made["slug"]
    assert made["name"] == "Büro 株式"
    assert json.loads(ctl.ok("service-accounts", "get", slug, "-o", "json"))["id"] == made["id"]
    assert "updated" in ctl.run("account", "update", slug, "--name", "New").stderr
    assert "name        New\n" in ctl.ok("account", "get", slug)
    rows = ctl.ok("account", "list", "--all").splitlines()
    assert rows[0].split() == ["NAME", "SLUG", "ID", "TOKENS"]
    assert any(row.split()[1] == slug for row in rows[1:])
    assert "--yes" in ctl.fails(2, "account", "delete", slug)
    ctl.ok("account", "delete", slug, "--yes")
    assert "ServiceAccount.NotFound" in ctl.fails(4, "account", "get", slug)


def test_the_life_of_a_token(ctl, slug):
    done = ctl.run("token", "create", slug, "--name", "a", "--scope", "read:tokens",
                   "--expires-in", "1h", "-q")
    assert done.returncode == 0 and done.stderr == ""
    first = done.stdout.rstrip("\n")
    assert SECRET.match(first)
    token = ctl.ok("token", "list", slug, "-o", "name").strip()
    shown = json.loads(ctl.ok("token", "get", slug, token, "-o", "json"))
    assert shown["scopes"] == ["read:tokens"] and "expiresAt" in shown and "token" not in shown
    assert "valid" in ctl.ok("verify", stdin=first + "\n")
    second = ctl.ok("token", "rotate", slug, token, "--yes", "-q").strip()
    assert SECRET.match(second) and second != first
    ctl.fails(10, "verify", stdin=first)
    ctl.ok("verify", "-", stdin=second)
    ctl.ok("token", "revoke", slug, token, "--yes")
    ctl.fails(10, "verify", "-q", stdin=second)
    assert "revoked" in ctl.ok("token", "list", slug)
    ctl.fails(4, "service-accounts", "tokens", "delete", slug, token, "--yes")


def test_the_secret_is_shown_once_and_notes_go_to_stderr(ctl, slug):
    done = ctl.run("token", "create", slug, "--name", "n")
    secret = re.search(r"^token +(ksh_\S+)$", done.stdout, re.M)[1]
    assert "only time" in done.stderr and secret not in done.stderr
    for form in ("table", "json", "ndjson", "yaml", "name"):
        assert secret not in ctl.ok("token", "list", slug, "-o", form)


def test_pages(ctl, slug):
    names = [f"t{i}" for i in range(7)]
    for name in names:
        ctl.ok("token", "create", slug, "--name", name, "-q")
    newest_first = list(reversed(names))
    page = json.loads(ctl.ok("token", "list", slug, "--limit", "3", "-o", "json"))
    assert [t["name"] for t in page["items"]] == newest_first[:3] and page["hasMore"]
    rest = ctl.ok("token", "list", slug, "--cursor", page["nextCursor"], "-o", "ndjson")
    assert [json.loads(line)["name"] for line in rest.splitlines()] == newest_first[3:]
    every = json.loads(ctl.ok("token", "list", slug, "--limit", "2", "--all", "-o", "json"))
    assert [t["name"] for t in every["items"]] == newest_first and not every["hasMore"]
    done = ctl.run("token", "list", slug, "--limit", "2")
    assert len(done.stdout.splitlines()) == 3 and "--all" in done.stderr
    rows = ctl.ok("token", "list", slug, "--limit", "2", "--all").splitlines()
    assert [row.split()[0] for row in rows] == ["NAME"] + newest_first


def test_refusals(ctl, slug):
    assert "SlugConflict" in ctl.fails(5, "account", "create", "x", "--slug", slug)
    assert "body.scopes" in ctl.fails(5, "token", "create", slug, "--name", "x", "--scope", "bad")
    assert "query.limit" in ctl.fails(5, "account", "list", "--limit", "500")
    problem = json.loads(ctl.fails(4, "account", "get", "nobody", "-o", "json"))
    assert (problem["status"], problem["code"]) == (404, "ServiceAccount.NotFound")


def test_everything_else(ctl):
    assert "acme" in ctl.ok("whoami")
    assert "write:tokens" in ctl.ok("scopes", "-o", "name").split()
    assert "ok" in ctl.ok("health") and "ok" in ctl.ok("ping")
    assert json.loads(ctl.ok("call", "account.list", '{"limit":1}'))["items"]
    assert json.loads(ctl.ok("call", "account.list", "-", stdin='{"limit":1}'))["items"]


def test_a_secret_that_cannot_be_written_is_revoked(ctl, slug):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = ctl.run("token", "create", slug, "--name", "lost", "-q", stdout=full)
    assert done.returncode == 1 and "revoked again" in done.stderr
    assert json.loads(ctl.ok("token", "list", slug, "-o", "json"))["items"][0]["revokedAt"]


def test_a_secret_that_cannot_be_written_is_revoked_by_whichever_name(daemon):
    ctl = Ctl(daemon, "socket")
    slug = ctl.ok("account", "create", "Any name", "-q").strip()
    args = json.dumps({"serviceAccountSlug": slug, "name": "lost", "scopes": []})
    with open("/dev/full", "w", encoding="ascii") as full:
        done = ctl.run("call", "token.create", args, stdout=full)
    assert done.returncode == 1 and "revoked again" in done.stderr, done
    assert json.loads(ctl.ok("token", "list", slug, "-o", "json"))["items"][0]["revokedAt"]


def test_whatever_is_printed_to_a_full_disk_is_missed(daemon):
    ctl = Ctl(daemon, "socket")
    for args in (["help"], ["--version"], ["token", "create", "--help"], ["whoami"], ["describe"],
                 ["account", "list", "--all"], ["account", "list", "--all", "-o", "json"],
                 *[["export", "-"]] * (daemon.store != "storage-postgres")):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = ctl.run(*args, stdout=full)
        assert done.returncode == 1, (args, done)
        assert "standard output: No space left" in done.stderr, (args, done)


def test_closed_output_is_no_place_for_a_secret(ctl, slug):
    """What is opened next has its number: the connection to the daemon."""
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", KAITENCTL, "token", "create", slug,
                           "--name", "lost", "-q", *ctl.options], env=ctl.env, text=True,
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          timeout=PATIENCE)
    assert done.returncode == 1 and "revoked again" in done.stderr, done
    assert json.loads(ctl.ok("token", "list", slug, "-o", "json"))["items"][0]["revokedAt"]


def test_no_token_on_the_command_line(ctl, slug):
    secret = ctl.ok("token", "create", slug, "--name", "n", "-q").strip()
    for args in (["verify", secret], ["verify", "--token-file=" + secret],
                 ["call", "token.verify", json.dumps({"token": secret})]):
        said = ctl.fails(2, *args)
        assert "command line" in said and secret not in said


def test_scopes_are_asked_for_on_the_socket(daemon):
    ctl = Ctl(daemon, "socket")
    slug = ctl.ok("account", "create", "Scopes", "-q").strip()
    secret = ctl.ok("token", "create", slug, "--name", "n", "--scope", "read:tokens", "-q")
    ctl.ok("verify", "--scope", "read:tokens", stdin=secret)
    done = ctl.run("verify", "--scope", "write:tokens", "-o", "json", stdin=secret)
    assert done.returncode == 10
    assert json.loads(done.stdout) == {"valid": False, "code": "scope"}
    done = ctl.run("verify", stdin="garbage\n")
    assert done.returncode == 10 and "malformed" in done.stdout


def test_a_token_as_the_caller(ctl, slug, tmp_path):
    path = tmp_path / "token"
    path.write_text(ctl.ok("token", "create", slug, "--name", "n", "--scope", "read:tokens", "-q"))
    path.chmod(0o600)
    who = json.loads(ctl.ok("whoami", "--token-file", str(path), "-o", "json"))
    assert (who["kind"], who["scopes"]) == ("token", ["read:tokens"])
    said = ctl.fails(3, "account", "create", "x", "--token-file", str(path))
    assert "Auth.MissingScope" in said and "whoami" in said


def test_the_environment_chooses_no_door(daemon):
    ctl = Ctl(daemon, "socket")
    ctl.env |= {"KAITEN_URL": "http://127.0.0.1:1", "KAITEN_TOKEN": "not sent"}
    assert json.loads(ctl.ok("whoami", "-o", "json"))["kind"] == "peer"
    ctl.env["KAITEN_SOCKET"] = ctl.options.pop()
    ctl.options.pop()
    assert json.loads(ctl.ok("whoami", "-o", "json"))["kind"] == "peer"


def test_no_credential_over_http(daemon):
    ctl = Ctl(daemon, "http")
    del ctl.env["KAITEN_TOKEN"]
    assert "KAITEN_TOKEN" in ctl.fails(3, "whoami")
    ctl.env["KAITEN_TOKEN"] = "not.a.jwt"
    ctl.fails(3, "whoami")


def test_nobody_there(tmp_path):
    for option in (["--socket", str(tmp_path / "none.sock")], ["--url", "http://127.0.0.1:1"]):
        done = subprocess.run([KAITENCTL, "ping", *option], capture_output=True, text=True)
        assert done.returncode == 6 and len(done.stderr.splitlines()) == 2


@pytest.fixture
def silent_socket(tmp_path):
    path = str(tmp_path / "silent.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        yield path


def test_a_server_that_says_nothing(silent_socket):
    done = subprocess.run([KAITENCTL, "ping", "--socket", silent_socket, "--timeout", "100ms"],
                          capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 6 and "100 ms" in done.stderr


ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize("number", ENDS[:2])
def test_interrupted(silent_socket, number):
    process = subprocess.Popen([KAITENCTL, "ping", "--socket", silent_socket, "--timeout", "1m"])
    status = f"/proc/{process.pid}/status"
    bit = 1 << (number - 1)

    def catches():
        with open(status, encoding="ascii") as lines:
            return int(re.search(r"SigCgt:\s*(\w+)", lines.read())[1], 16) & bit

    wait_for(catches, "kaitenctl to catch signals")
    process.send_signal(number)
    assert process.wait(PATIENCE) == 130


@pytest.fixture
def half_server(tmp_path):
    """Tells of a copy with one file, gives the first piece of it, and then nothing more. Its path,
    and the methods that it was asked for."""
    path, asked = str(tmp_path / "half.sock"), []
    answers = {"kaiten.hello": {}, "store.read": {"data": "AAAA"}}
    for method in ("store.backup", "store.export"):
        answers[method] = {"backup": "x", "files": [{"name": "records", "size": 6}]}

    def serve(listener):
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            unpacker = msgpack.Unpacker(raw=False)
            while data := connection.recv(65536):
                unpacker.feed(data)
                for _, ident, method, _ in unpacker:
                    asked.append(method)
                    answer = (answers.pop if method == "store.read" else answers.get)(method, None)
                    if answer is not None:
                        connection.sendall(msgpack.packb([1, ident, None, answer]))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield path, asked


@pytest.mark.parametrize("verb,begun", [("backup", "copy/records"), ("export", "copy")])
@pytest.mark.parametrize("number", ENDS)
def test_half_of_a_copy_does_not_stay_when_interrupted(half_server, tmp_path, verb, begun, number):
    process = subprocess.Popen([KAITENCTL, verb, tmp_path / "copy", "--socket", half_server[0]],
                               preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    file = tmp_path / begun
    wait_for(lambda: file.exists() and file.stat().st_size == 3, "half of a copy")
    process.send_signal(number)
    assert process.wait(PATIENCE) == 130
    assert not (tmp_path / "copy").exists()


def test_who_is_told_to_outlive_the_terminal_goes_on_without_it(silent_socket):
    process = subprocess.Popen([KAITENCTL, "ping", "--socket", silent_socket, "--timeout", "300ms"],
                               preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE) == 6


@pytest.mark.parametrize("words,method,told", [
    (["token", "create", "farm", "--name", "n"], "token.create", True),
    (["key", "rotate", "digest"], "key.rotate", True),
    (["key", "retire", "k", "--yes"], "key.retire", True), (["key", "list"], "key.list", False),
    (["call", "newer.method"], "newer.method", True),
    (["account", "list"], "account.list", False)])
def test_who_interrupts_a_change_hears_that_it_may_be_made(half_server, words, method, told):
    """A token may be there now whose secret nobody has seen."""
    path, asked = half_server
    process = subprocess.Popen([KAITENCTL, *words, "--socket", path], stderr=subprocess.PIPE,
                               text=True)
    wait_for(lambda: method in asked, "the request")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130 and ("may have been made" in said) == told, said


def ended_child(pid):
    """(pid, status) once the child has ended, else None."""
    done = os.waitpid(pid, os.WNOHANG)
    return done if done[0] else None


def on_a_terminal(args, answer):
    """Runs kaitenctl on a terminal of its own; answers once it has asked."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(KAITENCTL, ["kaitenctl", *args])
    shown = b""
    asked = False
    ended = None
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        # The end of the program ends this too: a terminal does not always tell its other side.
        if not select.select([terminal], [], [], 0.05)[0]:
            if ended is None:
                done, status = os.waitpid(pid, os.WNOHANG)
                ended = status if done else None
                continue
            break
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
        if not asked and shown.rstrip().endswith((b"[y/N]", b"Token:")):
            asked = True
            os.write(terminal, answer)
    # Closing the terminal first would hang up on a program that is just ending.
    if ended is None:
        ended = wait_for(lambda: ended_child(pid), "kaitenctl to end")[1]
    os.close(terminal)
    return os.waitstatus_to_exitcode(ended), shown.decode()


def test_questions_on_a_terminal(daemon):
    ctl = Ctl(daemon, "socket")
    slug = ctl.ok("account", "create", "Terminal", "-q").strip()
    code, shown = on_a_terminal(["account", "delete", slug, *ctl.options], b"n\n")
    assert code == 1 and "nothing was changed" in shown
    ctl.ok("account", "get", slug)
    code, shown = on_a_terminal(["account", "delete", slug, *ctl.options], b"y\n")
    assert code == 0 and slug in shown
    ctl.fails(4, "account", "get", slug)


def test_an_export_is_nothing_for_a_terminal(daemon):
    code, shown = on_a_terminal(["export", "-", *Ctl(daemon, "socket").options], b"")
    assert code == 2 and "is a terminal" in shown and len(shown.splitlines()) == 2, shown


def test_a_token_typed_is_not_shown(daemon):
    ctl = Ctl(daemon, "socket")
    slug = ctl.ok("account", "create", "Typed", "-q").strip()
    secret = ctl.ok("token", "create", slug, "--name", "n", "-q")
    code, shown = on_a_terminal(["verify", *ctl.options], secret.encode())
    assert code == 0 and slug in shown and secret.strip() not in shown
    code, _ = on_a_terminal(["verify", *ctl.options], b"\x03")
    assert code == 130
