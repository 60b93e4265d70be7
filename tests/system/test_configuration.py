# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The command line and the configuration: what is refused is named with its line and what would be
accepted."""

import os
import re
import subprocess

import pytest

from conftest import KAITEND, PATIENCE, PLUGIN_DIR, SOURCE
from refusals import CONFIG, USAGE, kaitend, made, refuses, spoil  # noqa: F401

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


@pytest.mark.parametrize("option", ["--help", "--version", "--dump-options", "--dump-config",
                                    "--dump-plugin=auth-token"])
def test_what_is_printed_to_a_full_disk_is_missed(made, option):
    """The file of a configuration that was made so would be cut off."""
    with open("/dev/full", "w", encoding="ascii") as full:
        ran = subprocess.run([KAITEND, "-c", made.conf, option], stdout=full, text=True,
                             stderr=subprocess.PIPE, timeout=PATIENCE, check=False,
                             env=dict(os.environ, KAITEND_PLUGIN_DIR=str(PLUGIN_DIR)))
    assert ran.returncode == 74 and "standard output: No space left" in ran.stderr, ran


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


def test_a_service_manager_that_cannot_be_told_is_named(own_daemon):
    daemon = own_daemon("storage-memory")
    daemon.start(env=dict(os.environ, NOTIFY_SOCKET=str(daemon.dir / "nobody")))
    assert "notify.failed" in daemon.log.read_text()
    daemon.stop()


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
