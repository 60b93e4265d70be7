# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What stops a start: each says what is wrong and where, and ends with the right code."""

import contextlib
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess

import pytest

from conftest import KAITEND, PLUGIN_DIR, SOURCE, Process, done, reads_proc, wait_for

USAGE, UNAVAILABLE, CANTCREAT, TEMPFAIL, NOPERM, CONFIG = 64, 69, 73, 75, 77, 78
NOUSER = 67
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become others")


def kaitend(*args, **kwargs):
    # Where else plugins would be found is not what these tests are about.
    env = {name: value for name, value in os.environ.items() if name != "KAITEND_PLUGIN_DIR"}
    return subprocess.run([KAITEND, *map(str, args)], capture_output=True, text=True, timeout=30,
                          env=kwargs.pop("env", env), **kwargs)


def messages(text):
    """The messages of the log lines that say why there was no start."""
    found = re.findall(r'event=start\.failed message=("(?:[^"\\]|\\.)*"|\S+)', text)
    return [re.sub(r"\\(.)", r"\1", m.strip('"')) for m in found]


def refuses(code, *args, **kwargs):
    """Runs it; it must end with this code, and one message. Returns that."""
    ran = kaitend(*args, **kwargs)
    assert ran.returncode == code, ran
    assert ran.stdout == ""
    found = messages(ran.stderr)
    assert len(found) == 1, ran.stderr
    return found[0]


@pytest.fixture
def made(own_daemon):
    """A daemon that is not started, whose configuration a test spoils."""
    return own_daemon("storage-memory")


def spoil(daemon, old, new):
    """Replaces a line, or adds one behind it; returns the number of the last new line."""
    text = daemon.conf.read_text()
    assert text.count(old) == 1, (old, text)
    daemon.conf.write_text(text.replace(old, new))
    return text[:text.index(old)].count("\n") + new.count("\n") + 1


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["--no-such-option"], ["-x"], ["extra"], ["-c"],
                                  ["--check", "extra"], ["--dump-plugin"]])
def test_usage_errors(args):
    ran = kaitend(*args)
    assert (ran.returncode, ran.stdout) == (USAGE, "")
    assert "usage: kaitend" in ran.stderr


@pytest.mark.parametrize("args", [["--check", "--accept-rollback", "revoke"], ["--replace"],
                                  ["--restore", "d", "--accept-rollback", "keep"],
                                  ["--export", "-", "--import", "-"],
                                  ["--init-store", "--dump-config"]], ids=" ".join)
def test_of_two_things_none_is_left_out(args, made):
    ran = kaitend("-c", made.conf, *args)
    assert (ran.returncode, ran.stdout) == (USAGE, "") and "accepted: " in ran.stderr


def test_help_and_version():
    ran = kaitend("--help")
    assert (ran.returncode, ran.stderr) == (0, "") and ran.stdout.startswith("usage: kaitend")
    for option in ("--version", "-V"):
        ran = kaitend(option)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith("kaitend ")
        for word in ("plugin ABI: storage 1, auth 1", "libevent ", "libsodium ", "OpenSSL "):
            assert word in ran.stdout


def test_dump_options_is_a_configuration_of_comments(tmp_path):
    ran = kaitend("--dump-options")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [s for s in ran.stdout.splitlines() if s.startswith("[")] == ["[kaitend]", "[socket]",
                                                                          "[http]"]
    for option in ("state_dir", "max_token_lifetime", "path", "listen", "max_body"):
        assert re.search(rf"^#{option} =", ran.stdout, re.M)
    assert "Accepted: a whole number from 1 to 256. Default: 4." in ran.stdout
    bad = [s for s in ran.stdout.splitlines() if s and s[0] not in "#["]
    assert bad == []


@pytest.mark.parametrize("name", ["storage-bdb", "storage-memory", "auth-jwt", "auth-peer",
                                  "auth-token"])
def test_dump_plugin(name):
    ran = kaitend("--dump-plugin", name, env=dict(os.environ, KAITEND_PLUGIN_DIR=str(PLUGIN_DIR)))
    assert (ran.returncode, ran.stderr) == (0, "")
    kind = name.split("-")[0]
    assert ran.stdout.startswith(f"name = {name}\nkind = {kind}\nversion = ")
    assert f"\n[{name}]\n" in ran.stdout


def test_dump_plugin_that_is_not_there(tmp_path):
    env = dict(os.environ, KAITEND_PLUGIN_DIR=str(tmp_path))
    message = refuses(CONFIG, "--dump-plugin", "nope", env=env)
    assert message.startswith(f'plugin "nope": there is no nope.so in {tmp_path}')


def test_check_says_nothing_and_touches_nothing(own_daemon):
    daemon = own_daemon("storage-bdb")
    before = sorted(daemon.state.iterdir())
    for option in ("--check", "-t"):
        ran = kaitend(option, "-c", daemon.conf)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert sorted(daemon.state.iterdir()) == before
    assert not os.path.exists(daemon.socket_path)


def test_check_refuses_what_the_start_refuses(made):
    line = spoil(made, "log_level = debug", "loops = 1000")
    message = (f"{made.conf}:{line}: [kaitend] loops: 1000 is out of range; accepted: a whole "
               "number from 0 to 256")
    assert refuses(CONFIG, "--check", "-c", made.conf) == message
    assert refuses(CONFIG, "-c", made.conf) == message


def test_dump_config_can_be_read_again(made, tmp_path):
    """With the names of doors of one kind, which would be one section else."""
    made.write_conf(extra="[http inside]\nlisten = 127.0.0.1:1\nauth = auth-token\n"
                          f"[socket inside]\npath = {made.dir}/inside.sock\nauth = auth-peer\n")
    ran = kaitend("-c", made.conf, "--dump-config")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\nworkers = 4\n" in ran.stdout
    copy = tmp_path / "copy.conf"
    copy.write_text(ran.stdout)
    again = kaitend("-c", copy, "--dump-config")
    assert (again.returncode, again.stdout) == (0, ran.stdout)


def test_commented_configuration_is_valid(tmp_path):
    """What is shipped must pass our own check, up to what only an installation has."""
    text = (SOURCE / "etc/kaitend.conf").read_text()
    copy = tmp_path / "kaitend.conf"
    copy.write_text(text)
    ran = kaitend("--check", "-c", copy, env=dict(os.environ, KAITEND_PLUGIN_DIR=str(PLUGIN_DIR)))
    assert ran.returncode == 0, ran.stderr


# --- the configuration ----------------------------------------------------------------------------


def test_no_such_file(tmp_path):
    path = tmp_path / "nope.conf"
    assert refuses(CONFIG, "-c", path) == f"{path}: No such file or directory"


@pytest.mark.parametrize("text", ["", "# nothing\n\n", "[kaitend]\n"])
def test_empty_configuration(tmp_path, text):
    path = tmp_path / "empty.conf"
    path.write_text(text)
    assert refuses(CONFIG, "-c", path) == (
        f"{path}: there is no listener; accepted: a section [socket] or [http]")


UNKNOWN = [("log_level = debug", "log_levle = debug", "[kaitend] log_levle", "log_level"),
           ("log_level = debug", "log_level = debug\nworker = 3", "[kaitend] worker", "workers"),
           ("[auth-peer]", "[auth-peer]\nrules = x", "[auth-peer] rules", "rule"),
           ("[http]", "[http]\nmax_bdy = 1", "[http] max_bdy", "max_body")]


@pytest.mark.parametrize("old,new,where,near", UNKNOWN)
def test_unknown_key_and_the_nearest(made, old, new, where, near):
    line = spoil(made, old, new)
    assert refuses(CONFIG, "-c", made.conf) == (
        f"{made.conf}:{line}: {where}: unknown option; did you mean {near}?")


def test_unknown_key_near_nothing(made):
    line = spoil(made, "[auth-peer]", "[auth-peer]\nsomething_else = 1")
    assert refuses(CONFIG, "-c", made.conf) == (
        f"{made.conf}:{line}: [auth-peer] something_else: unknown option; accepted: rule")


@pytest.mark.parametrize("new,message", [
    ("workers = 0", "[kaitend] workers: 0 is out of range; accepted: a whole number from 1 to 256"),
    ("workers = many",
     '[kaitend] workers: "many" is malformed; accepted: a whole number from 1 to 256'),
    ("workers =", '[kaitend] workers: "" is malformed; accepted: a whole number from 1 to 256'),
    ("jwt_lifetime = 2d", "[kaitend] jwt_lifetime: 2d is out of range; accepted: a duration such "
     "as 500ms, 10s, 5m, 1h or 30d from 1s to 1d"),
    ("jwt_lifetime = 5", None), ("unbounded_scopes = maybe", '[kaitend] unbounded_scopes: "maybe" '
                                 "is malformed; accepted: yes, no, on, off, true or false"),
    ("module = Bad Name", '[kaitend] module: "Bad Name" is not a module; accepted: 1 to 64 of '
     "a-z, 0-9 and _, starting with a letter"),
    ("log_level = loud",
     '[kaitend] log_level: "loud"; accepted: error, warning, notice, info, debug')])
def test_wrong_value_and_what_is_accepted(made, new, message):
    line = spoil(made, "log_level = debug", new)
    got = refuses(CONFIG, "-c", made.conf)
    if message:
        assert got == f"{made.conf}:{line}: {message}"
    else:
        assert got.startswith(f"{made.conf}:{line}: ") and "accepted: " in got


@pytest.mark.parametrize("new,words", [
    ("mode = 0999", ["[socket] mode", '"0999"', "octal 0000 to 0777"]),
    ("group = no-such-group-here", ["[socket] group: there is no group no-such-group-here"]),
    ("max_connections = 0", ["[socket] max_connections", "from 1 to 1000000"])])
def test_wrong_value_of_a_listener(made, new, words):
    line = spoil(made, "[socket]", "[socket]\n" + new)
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith(f"{made.conf}:{line}: ")
    assert all(w in message for w in words)
    assert refuses(CONFIG, "--check", "-c", made.conf) == message


@pytest.mark.parametrize("line,message", [
    ("no equals sign", "neither a section nor an option; accepted: key = value"),
    ("[unclosed", "a section has no ]; accepted: [kind] or [kind name]"),
    ('issuer = "open', "a value has no closing quote"),
    ("bad key! = 1", "malformed key; accepted: 1 to 64 of letters, digits, _ - ."),
    ("issuer = \ufffd".replace("\ufffd", "\0"), "NUL or bytes that are no UTF-8; accepted: "
     "UTF-8 text")])
def test_malformed_line(made, line, message):
    number = spoil(made, "log_level = debug", line)
    assert refuses(CONFIG, "-c", made.conf) == f"{made.conf}:{number}: {message}"


@pytest.mark.parametrize("section,key", [("socket", "path"), ("http", "listen"),
                                         ("socket", "auth"), ("http", "auth")])
def test_missing_required(made, section, key):
    text = made.conf.read_text()
    head, mark, rest = text.partition(f"[{section}]\n")
    body, end, rest = rest.partition("\n[")
    body = re.sub(rf"(?m)^{key} = .*\n?", "", body)
    made.conf.write_text(head + mark + body + end + rest)
    line = head.count("\n") + 1
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith(f"{made.conf}:{line}: [{section}] {key}: missing; accepted: ")


def test_section_twice_and_option_twice(made):
    first = made.conf.read_text().split("[http]")[0].count("\n") + 1
    made.conf.write_text(made.conf.read_text() + "[http]\n")
    last = made.conf.read_text().count("\n")
    assert refuses(CONFIG, "-c", made.conf) == (
        f"{made.conf}:{last}: [http] again; it starts at line {first} already")
    made.write_conf()
    line = spoil(made, "log_level = debug", "workers = 1\nworkers = 2")
    assert refuses(CONFIG, "-c", made.conf) == (
        f"{made.conf}:{line}: [kaitend] workers: again; it stands at {made.conf}:{line - 1} "
        "already")


def test_section_that_nothing_uses(made):
    made.conf.write_text(made.conf.read_text() + "[auth-ldap]\nurl = x\n")
    line = made.conf.read_text().count("\n") - 1
    assert refuses(CONFIG, "-c", made.conf) == (
        f"{made.conf}:{line}: [auth-ldap]: nothing uses this section")


@pytest.mark.parametrize("rule,words", [
    ("uid=x org=acme", ["uid=x", "a number of 0 to 4294967294 is accepted"]),
    ("uid=1", ["org= is missing"]), ("org=acme", ["nobody is selected"]),
    ("uid=1 org=acme verify=all", ["verify=all: no, own or any is accepted"]),
    ("uid=1 org=acme scopes=tokens", ['scopes: "tokens"']),
    ("uid=1 org=acme colour=red", ['unknown word "colour="']),
    ("user=no-such-user-here org=acme", ["user=no-such-user-here", "no such user"])])
def test_wrong_peer_rule(made, rule, words):
    line = spoil(made, "[auth-peer]\n", f"[auth-peer]\nrule = {rule}\n") - 1
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith(f"auth-peer: {made.conf}:{line}: rule: "), message
    assert all(w in message for w in words)
    assert refuses(CONFIG, "--check", "-c", made.conf) == message


@pytest.mark.parametrize("value,words", [
    ("{state}/nope.pem alg=RS256", ["nope.pem", "No such file"]),
    ("{state}/jwt-public.pem", ["alg= is missing"]),
    ("{state}/jwt-public.pem alg=none", ["alg=none", "unknown algorithm", "RS256"]),
    ("{state}/jwt-public.pem alg=ES256", ["jwt-public.pem"]),
    ("{state}/jwt-public.pem alg=HS256", ["jwt-public.pem"]),
    ("{state}/short.key alg=HS256", ["short.key", "32"])])
def test_wrong_jwt_key(made, value, words):
    short = made.state / "short.key"
    short.write_bytes(b"short")
    short.chmod(0o600)
    line = spoil(made, "[auth-jwt]\n", f"[auth-jwt]\nkey = {value.format(state=made.state)}\n") - 1
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith(f"auth-jwt: {made.conf}:{line}: key: "), message
    assert all(w in message for w in words), message
    assert refuses(CONFIG, "--check", "-c", made.conf) == message


def test_jwt_without_keys(made):
    spoil(made, f"key = {made.public} alg=RS256\n", "")
    message = refuses(CONFIG, "-c", made.conf)
    assert "auth-jwt needs at least one key or jwks" in message


def test_jwt_secret_that_others_can_read(made):
    path = made.state / "hmac.key"
    path.write_bytes(os.urandom(48))
    path.chmod(0o640)
    line = spoil(made, "[auth-jwt]\n", f"[auth-jwt]\nkey = {path} alg=HS256\n") - 1
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith(f"auth-jwt: {made.conf}:{line}: key: {path}: "), message
    assert "others" in message and "chmod 600" in message


# --- plugins --------------------------------------------------------------------------------------


@pytest.fixture
def plugins(made, tmp_path):
    """A folder of our own for plugins, where the daemon looks first; the real ones are copied."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    for so in PLUGIN_DIR.glob("*.so"):
        shutil.copy(so.resolve(), folder / so.name)
        (folder / so.name).chmod(0o755)
    spoil(made, f"plugin_dir = {PLUGIN_DIR}", f"plugin_dir = {folder}")
    return folder


def compile_plugin(folder, name, text):
    command = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(command[0]) is None:
        pytest.skip("there is no compiler")
    source = folder / (name + ".c")
    source.write_text(text)
    subprocess.run([*command, "-shared", "-fPIC", f"-I{SOURCE}", "-o", folder / (name + ".so"),
                    source], check=True)
    (folder / (name + ".so")).chmod(0o755)


FOREIGN = """#include "plugins/kaiten-%(kind)s.h"
%(functions)s
__attribute__((visibility("default")))
const struct kaiten_%(kind)s kaiten_%(kind)s_plugin = { .size = %(size)s, .abi = %(abi)s,
    .threads = %(threads)s, .name = "foreign", %(members)s };
"""


def foreign(kind, abi="KAITEN_%s_ABI", size="sizeof(struct kaiten_%s)", threads="3", functions="",
            members=""):
    return FOREIGN % {"kind": kind, "abi": abi % kind.upper() if "%" in abi else abi,
                      "size": size % kind if "%" in size else size, "threads": threads,
                      "functions": functions, "members": members}


def test_plugin_that_is_missing(made, plugins):
    (plugins / "storage-memory.so").unlink()
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith('plugin "storage-memory": there is no storage-memory.so in '
                              f"{plugins}")


@pytest.mark.parametrize("name", ["../storage-memory", "/lib/x", "storage memory", ""])
def test_plugin_names_are_no_paths(made, name):
    made.conf.write_text(made.conf.read_text().replace("storage = storage-memory",
                                                       f"storage = {name}"))
    assert refuses(CONFIG, "-c", made.conf) == (
        f'plugin "{name}": a name has only a-z, 0-9, - and _')


@pytest.mark.parametrize("kind", ["storage", "auth"])
@pytest.mark.parametrize("change,words", [
    ({"abi": "99"}, ["ABI 99, this daemon speaks 1; rebuild the plugin"]),
    ({"abi": "0"}, ["ABI 0, this daemon speaks 1"]),
    ({"size": "16"}, ["its struct has 16 bytes, at least"]),
    ({"threads": "7"}, ["thread level 7 is none of 1, 2, 3"]),
    ({}, ["the required member open is NULL"])])
def test_plugin_of_another_kind_of_build(made, plugins, kind, change, words):
    compile_plugin(plugins, "foreign", foreign(kind, **change))
    if kind == "storage":
        spoil(made, "storage = storage-memory", "storage = foreign")
    else:
        made.conf.write_text(made.conf.read_text().replace("auth = auth-token", "auth = foreign"))
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith(f"{plugins}/foreign.so: ")
    assert all(w in message for w in words), message
    assert refuses(CONFIG, "--check", "-c", made.conf) == message


def test_library_that_is_no_plugin(made, plugins):
    compile_plugin(plugins, "foreign", "int nothing_of_ours;\n")
    spoil(made, "storage = storage-memory", "storage = foreign")
    assert refuses(CONFIG, "-c", made.conf) == (
        f"{plugins}/foreign.so: exports neither kaiten_storage_plugin nor kaiten_auth_plugin")


def test_file_that_is_no_library(made, plugins):
    (plugins / "foreign.so").write_text("#!/bin/sh\n")
    (plugins / "foreign.so").chmod(0o755)
    spoil(made, "storage = storage-memory", "storage = foreign")
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith(f"{plugins}/foreign.so: ")


def test_plugin_in_the_wrong_place(made):
    made.conf.write_text(made.conf.read_text().replace("storage = storage-memory",
                                                       "storage = auth-token"))
    assert refuses(CONFIG, "-c", made.conf) == 'plugin "auth-token" is no storage plugin'
    made.write_conf()
    made.conf.write_text(made.conf.read_text().replace("auth = auth-token", "auth = storage-bdb"))
    assert refuses(CONFIG, "-c", made.conf) == 'plugin "storage-bdb" is no auth plugin'


def test_plugin_that_others_may_write(made, plugins):
    so = plugins / "storage-memory.so"
    for mode in (0o757, 0o775):
        so.chmod(mode)
        assert refuses(CONFIG, "-c", made.conf) == (
            f"{so}: mode {mode:04o} lets others write it; run chmod go-w {so}")
    so.chmod(0o755)
    plugins.chmod(0o777)
    assert refuses(CONFIG, "-c", made.conf).startswith(f"{plugins}: mode 0777 lets others write it")
    plugins.chmod(0o755)
    assert kaitend("--check", "-c", made.conf).returncode == 0


def test_plugin_behind_a_symbolic_link(made, plugins):
    so = plugins / "storage-memory.so"
    so.rename(plugins / "real.so")
    so.symlink_to("real.so")
    assert refuses(CONFIG, "-c", made.conf) == f"{so}: is a symbolic link"


@ROOT
def test_plugin_of_another_owner(made, plugins):
    so = plugins / "storage-memory.so"
    os.chown(so, 4001, 4001)
    assert refuses(CONFIG, "-c", made.conf).startswith(f"{so}: owned by uid 4001")


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
        status = wait_for(lambda: os.waitpid(pid, os.WNOHANG)[1], "the end of the start", 20)
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
    with contextlib.closing(socket.create_connection(("127.0.0.1", int(found.group(1))), 5)) as s:
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
