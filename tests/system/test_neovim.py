# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Programs that speak MessagePack-RPC with encoders of their own: Neovim, and pynvim's session."""

import json
import os
import shutil
import subprocess

import pytest

from conftest import PATIENCE


def missing(what):
    """A tool that is not there is a failure in CI, and a skip for everybody else."""
    if os.environ.get("CI"):
        pytest.fail(what + " is missing")
    pytest.skip(what + " is missing")


def neovim(daemon, *statements):
    """Runs Vim script with g:ch connected to the daemon; returns what it appended to g:out."""
    program = shutil.which("nvim") or missing("nvim")
    result = daemon.dir / "nvim.json"
    lines = [f"let g:ch = sockconnect('pipe', '{daemon.socket_path}', {{'rpc': v:true}})",
             "let g:out = []", *statements,
             f"call writefile([json_encode(g:out)], '{result}')", "qall!"]
    script = daemon.dir / "test.vim"
    script.write_text("\n".join(lines) + "\n")
    done = subprocess.run([program, "--headless", "-u", "NONE", "-i", "NONE", "-n", "-S", script],
                          capture_output=True, text=True, timeout=PATIENCE,
                          env=dict(os.environ, HOME=str(daemon.dir), XDG_STATE_HOME=str(daemon.dir)))
    assert result.exists(), done.stderr
    out = json.loads(result.read_text())
    result.unlink()
    return out


def test_neovim_calls(daemon):
    out = neovim(daemon, "call add(g:out, rpcrequest(g:ch, 'kaiten.ping', {}))",
                 "call add(g:out, rpcrequest(g:ch, 'whoami', {}).organization)",
                 "call add(g:out, rpcrequest(g:ch, 'account.create', {'name': 'Vim'}).name)")
    assert out == [{"status": "ok"}, "acme", "Vim"]


def test_neovim_shows_errors_as_text(daemon):
    out = neovim(daemon,
                 "try | call rpcrequest(g:ch, 'account.get', {'serviceAccountSlug': 'no-such'})",
                 "catch | call add(g:out, v:exception) | endtry",
                 "try | call rpcrequest(g:ch, 'account.create', {'nome': 'x'})",
                 "catch | call add(g:out, v:exception) | endtry")
    assert "ServiceAccount.NotFound: Service account with slug no-such not found" in out[0]
    assert "UNPROCESSABLE: validation failed" in out[1]


def test_neovim_survives_an_unknown_method(daemon):
    out = neovim(daemon, "try | call rpcrequest(g:ch, 'nvim_set_client_info', 'x')",
                 "catch | call add(g:out, v:exception) | endtry",
                 "try | call rpcrequest(g:ch, 'no.such.method', {})",
                 "catch | call add(g:out, v:exception) | endtry",
                 "call add(g:out, rpcrequest(g:ch, 'kaiten.ping', {}))")
    assert len(out) == 3 and "Method.NotFound" in out[1]
    assert out[2] == {"status": "ok"}


SESSION = """
import sys
from pynvim.msgpack_rpc import socket_session
session = socket_session(sys.argv[1])
session.error_wrapper = lambda error: Exception(error[1])
print(session.request("kaiten.ping", {})["status"])
try:
    session.request("account.get", {"serviceAccountSlug": "no-such"})
except Exception as error:
    print(error)
try:
    session.request("no.such.method", {})
except Exception as error:
    print(error)
print(session.request("whoami", {})["subject"])
"""


def test_pynvim_session(daemon):
    python = "/usr/bin/python3"
    if subprocess.run([python, "-c", "import pynvim"], capture_output=True).returncode != 0:
        missing("pynvim")
    done = subprocess.run([python, "-c", SESSION, daemon.socket_path], capture_output=True,
                          text=True, timeout=PATIENCE)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "ok" and lines[3] == "root"
    assert lines[1].startswith("ServiceAccount.NotFound:")
    assert lines[2].startswith("Method.NotFound:")
