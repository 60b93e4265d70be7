# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""kaitenctl as a contract: spellings, forms of output, exit codes, credentials, row by row."""

import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import KAITENCTL, PATIENCE, SOURCE, Daemon, done

OK, OTHER, USAGE, AUTH, ABSENT, REFUSED, SERVER, INVALID = 0, 1, 2, 3, 4, 5, 6, 10
DANGEROUS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("KAITEN_")}


def kaitenctl(*args, stdin="", env=None, **kwargs):
    return subprocess.run([KAITENCTL, *map(str, args)], input=stdin, capture_output=True,
                          text=True, timeout=PATIENCE, env=dict(CLEAN, **(env or {})), **kwargs)


@pytest.fixture(scope="module")
def daemon():
    """One for all of these: a command line has nothing to do with how things are stored."""
    d = Daemon("storage-memory").start()
    yield d
    code = d.stop()
    d.remove()
    assert code == 0


class Ctl:
    """kaitenctl through one door, in an organization that only its test uses."""

    def __init__(self, daemon, kind, token):
        self.kind, self.daemon, self.token = kind, daemon, token
        self.door = daemon.rpc(token)

    def run(self, *args, env=None, token=None, **kwargs):
        token = self.token if token is None else token
        if self.kind == "http":
            return kaitenctl("--url", f"http://127.0.0.1:{self.daemon.port}", *args,
                             env=dict({"KAITEN_TOKEN": token}, **(env or {})), **kwargs)
        # The socket takes a credential from a file or a descriptor only.
        read, write = os.pipe()
        os.write(write, token.encode())
        os.close(write)
        try:
            return kaitenctl("--socket", self.daemon.socket_path, "--token-fd", read, *args,
                             pass_fds=(read,), env=env, **kwargs)
        finally:
            os.close(read)

    def ok(self, *args, **kwargs):
        ran = self.run(*args, **kwargs)
        assert ran.returncode == OK, ran
        return ran.stdout

    def json(self, *args):
        return json.loads(self.ok(*args, "-o", "json"))


@pytest.fixture(params=["socket", "http"])
def ctl(request, daemon, org):
    c = Ctl(daemon, request.param, daemon.jwt(org=org))
    yield c
    c.door.close()


@pytest.fixture
def farm(ctl):
    """An account farm with the token deploy, of the test's own organization."""
    ctl.ok("account", "create", "Build Farm", "--slug", "farm")
    ctl.ok("token", "create", "farm", "--name", "deploy", "--slug", "deploy",
           "--scope", "read:instances", "--scope", "write:licenses")
    return ctl


# --- spellings ------------------------------------------------------------------------------------

ALIASES = [(["account", "list"], [["accounts", "list"], ["service-accounts", "list"],
                                  ["service-account", "ls"], ["account", "ls"]]),
           (["account", "get", "farm"], [["service-accounts", "get", "farm"],
                                         ["account", "show", "farm"]]),
           (["token", "list", "farm"], [["tokens", "list", "farm"],
                                        ["service-accounts", "tokens", "list", "farm"],
                                        ["tokens", "ls", "farm"]]),
           (["token", "get", "farm", "deploy"], [["tokens", "show", "farm", "deploy"]])]


@pytest.mark.parametrize("row", range(len(ALIASES)))
def test_alias_gives_the_same(farm, row):
    verb, aliases = ALIASES[row]
    expected = farm.ok(*verb, "-o", "json")
    for alias in aliases:
        assert farm.ok(*alias, "-o", "json") == expected


def test_kaiten_s_own_spellings_of_what_changes(ctl):
    made = json.loads(ctl.ok("service-accounts", "create", "--name", "Farm", "--slug", "farm",
                             "-o", "json"))
    assert made["name"] == "Farm"
    ctl.ok("service-accounts", "update", "farm", "--name", "New")
    assert ctl.json("account", "get", "farm")["name"] == "New"
    secret = ctl.ok("service-accounts", "tokens", "create", "farm", "--name", "t", "--slug", "tt",
                    "--scope", "read:tokens", "--expires-at", "2099-01-01T00:00:00Z", "-q")
    assert re.fullmatch(r"ksh_[0-9A-Za-z]{32}\n", secret)
    ran = ctl.run("service-accounts", "tokens", "delete", "farm", "tt", "--yes")
    assert (ran.returncode, ran.stdout) == (OK, "") and "token revoked" in ran.stderr
    assert ctl.json("token", "get", "farm", "tt")["revokedAt"]


def test_all_tokens_of_an_account_end(farm):
    receipt = json.loads(farm.ok("token", "revoke-all", "farm", "--yes", "-o", "json"))
    assert receipt["serviceAccountSlug"] == "farm" and receipt["revokedBy"]["id"]
    assert all(t["revokedAt"] for t in farm.json("token", "list", "farm")["items"])
    table = farm.ok("token", "revoke-all", "farm", "--yes")
    assert receipt["serviceAccountId"] in table and "revokedAt" in table
    assert farm.ok("token", "revoke-all", "farm", "--yes", "-q") == ""


def test_options_stand_anywhere(farm):
    expected = farm.ok("token", "list", "farm", "-o", "json")
    for args in ("-o json token list farm", "token --output=json list farm",
                 "token list -ojson farm", "token list -o json -- farm"):
        assert farm.ok(*args.split()) == expected
    assert farm.ok("token", "list", "farm", env={"KAITEN_OUTPUT": "json"}) == expected


def test_help_is_for_every_verb():
    ran = kaitenctl("--help")
    assert (ran.returncode, ran.stderr) == (OK, "")
    verbs = re.findall(r"^  kaitenctl ((?:account|token|storage|key) [\w-]+|\w+)", ran.stdout, re.M)
    assert len(verbs) >= 17
    for verb in verbs:
        one = kaitenctl(*verb.split(), "--help")
        assert (one.returncode, one.stderr) == (OK, "")
        assert one.stdout.startswith(f"usage: kaitenctl {verb}")
        assert kaitenctl("help", *verb.split()).stdout == one.stdout
    assert kaitenctl("help").stdout == ran.stdout
    assert kaitenctl("help", "token").stdout == kaitenctl("token", "--help").stdout
    for words in (["help", "nonsense"], ["nonsense", "--help"]):
        one = kaitenctl(*words)
        assert (one.returncode, one.stdout) == (USAGE, "") and "nonsense" in one.stderr
    assert kaitenctl("--version").stdout.startswith("kaitenctl ")
    assert kaitenctl("version").stdout == kaitenctl("--version").stdout


def test_help_names_what_must_be_given():
    assert kaitenctl("help", "token", "create").stdout.splitlines()[0] == (
        "usage: kaitenctl token create ACCOUNT --name NAME [options]")
    assert kaitenctl("help", "account", "create").stdout.splitlines()[0] == (
        "usage: kaitenctl account create NAME [options]")


COMPLETIONS = {
    "bash": 'source "$1"; shift 2; COMP_WORDS=(kaitenctl "$@"); COMP_CWORD=$#; _kaitenctl; '
            'printf "%s\\n" "${COMPREPLY[@]}"',
    "zsh": 'file=$1; shift 2; words=(kaitenctl "$@"); CURRENT=$#words; _files() { }; '
           '_describe() { local -a n=(${${(P)2}%%:*}); print -rl -- ${(M)n:#$words[CURRENT]*} }; '
           'source $file',
    "fish": 'source $argv[2]; complete -C "kaitenctl $argv[3]" | cut -f 1'}


@pytest.mark.parametrize("shell", COMPLETIONS)
@pytest.mark.parametrize("line,words", [
    ("", {"account", "token", "verify", "health", "backup", "key"}), ("acc", {"account"}),
    ("token ", {"create", "list", "get", "rotate", "revoke", "revoke-all"}),
    ("-q --timeout 1s token rev", {"revoke", "revoke-all"}),
    ("token create build --exp", {"--expires-at", "--expires-in"}), ("-o nd", {"ndjson"}),
    ("account list --all -o ", {"table", "json", "ndjson", "yaml", "name"}), ("nonsense ", set()),
    ("help tok", {"token"}), ("help token rev", {"revoke", "revoke-all"}),
    ("key rotate ", {"digest", "signing"}), ("token list ", set())])
def test_completion(shell, line, words, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is missing")
    typed = line.split() + ([""] if not line or line.endswith(" ") else [])
    ran = subprocess.run([shell, "-c", COMPLETIONS[shell], shell,
                          SOURCE / f"etc/kaitenctl.{shell}", line, *typed],
                         capture_output=True, text=True, timeout=PATIENCE, check=True, cwd=tmp_path,
                         env=dict(CLEAN, PATH=f"{KAITENCTL.parent}:{CLEAN['PATH']}"))
    assert ran.stderr == ""
    found = set(ran.stdout.split())
    assert words == found if line else words <= found


# --- wrong usage ----------------------------------------------------------------------------------

WRONG = [[], ["nope"], ["account"], ["account", "nope"], ["account", "get"],
         ["account", "get", "a", "b"], ["account", "create"], ["account", "list", "word"],
         ["account", "list", "--scope", "x"], ["account", "list", "--no-such-option"],
         ["account", "list", "-z"], ["account", "list", "-o", "xml"], ["account", "list", "-o"],
         ["account", "list", "--limit", "many"], ["account", "list", "--timeout", "5"],
         ["account", "list", "--token-fd", "x"], ["account", "update", "a", "--slug"],
         ["token", "create", "a", "--name", "n", "--expires-in", "soon"],
         ["token", "create", "a", "--name", "n", "--expires-in", "1h", "--expires-at",
          "2099-01-01T00:00:00Z"],
         ["token", "create", "a", "--name", "n", "--scope", "read:*", "--all-scopes"],
         ["token", "rotate", "a", "b", "--yes", "--grace", "x"],
         ["call"], ["call", "account.list", "[]"], ["call", "account.list", "{"],
         ["call", "account.list", "{}", "more"], ["verify", "word"],
         ["account", "list", "--token-file", "/dev/null", "--token-fd", "0"]]


@pytest.mark.parametrize("args", WRONG, ids=" ".join)
def test_wrong_usage(args, tmp_path):
    """Told before anything is asked for: nobody listens at that socket."""
    ran = kaitenctl(*args, "--socket", tmp_path / "nobody.sock")
    assert (ran.returncode, ran.stdout) == (USAGE, ""), ran
    lines = ran.stderr.splitlines()
    assert lines[0].startswith("kaitenctl: ") and len(lines) <= 2, ran


def test_two_doors_exclude_each_other(tmp_path):
    ran = kaitenctl("whoami", "--socket", tmp_path / "s", "--url", "http://127.0.0.1:1")
    assert ran.returncode == USAGE


@pytest.mark.parametrize("url", ["", "127.0.0.1:1", "ftp://127.0.0.1", "http://", "https:///x",
                                 "http://:80", "http", "file:///etc", "xhttp://a"])
def test_url_that_is_none(url):
    ran = kaitenctl("whoami", "--url", url)
    assert ran.returncode == USAGE and ran.stdout == "", ran


# --- exit codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code,args", [
    (OK, ["account", "list"]), (OK, ["whoami"]), (OK, ["health"]),
    (ABSENT, ["account", "get", "nobody"]), (ABSENT, ["token", "get", "farm", "nothing"]),
    (ABSENT, ["account", "delete", "nobody", "--yes"]),
    (ABSENT, ["token", "revoke", "farm", "nothing", "--yes"]),
    (REFUSED, ["account", "create", "x", "--slug", "farm"]),
    (REFUSED, ["account", "create", "x", "--slug", "Bad"]),
    (REFUSED, ["token", "create", "farm", "--name", "deploy"]),
    (REFUSED, ["token", "create", "farm", "--name", "x", "--scope", "bad"]),
    (REFUSED, ["token", "create", "farm", "--name", "x", "--expires-at", "2001-01-01T00:00:00Z"]),
    (REFUSED, ["account", "list", "--limit", "201"]),
    (REFUSED, ["account", "list", "--cursor", "nonsense"])])
def test_exit_code(farm, code, args):
    ran = farm.run(*args)
    assert ran.returncode == code, ran
    if code != OK:
        assert ran.stdout == "" and ran.stderr.startswith("kaitenctl: ")
        problem = farm.run(*args, "-o", "json")
        assert problem.returncode == code and problem.stdout == ""
        statuses = [404] if code == ABSENT else [400, 409, 422]
        assert json.loads(problem.stderr)["status"] in statuses


def test_exit_code_of_callers_without_rights(farm):
    narrow = farm.daemon.jwt(scopes=["read:tokens"])
    for token, code in ((narrow, "Auth.MissingScope"), ("x.y.z", "Auth.InvalidToken")):
        ran = farm.run("account", "create", "x", token=token)
        assert ran.returncode == AUTH and code in ran.stderr and ran.stdout == ""


@pytest.mark.parametrize("door", [["--socket", "{dir}/none.sock"], ["--url", "http://127.0.0.1:1"]])
def test_exit_code_when_nobody_is_there(tmp_path, door):
    ran = kaitenctl("whoami", *[d.format(dir=tmp_path) for d in door], "--timeout", "2s")
    assert ran.returncode == SERVER and "is kaitend running" in ran.stderr


def test_exit_code_of_a_file_that_is_not_there(daemon):
    ran = kaitenctl("whoami", "--socket", daemon.socket_path, "--token-file", "/no/such/file")
    assert ran.returncode == OTHER and "/no/such/file: No such file" in ran.stderr


def test_exit_code_of_verify(daemon, org):
    """On the socket the peer asks, over HTTP the token is the credential."""
    owner = daemon.rpc(daemon.jwt(org=org))
    slug = done(owner, owner.call("account.create", name="n"))["slug"]
    made = done(owner, owner.call("token.create", serviceAccountSlug=slug, name="n",
                                  scopes=["read:licenses"]))
    doors = (["--socket", daemon.socket_path], ["--url", f"http://127.0.0.1:{daemon.port}"])
    for door in doors:
        ran = kaitenctl("verify", *door, "-o", "json", stdin=made["token"] + "\n")
        assert ran.returncode == OK and json.loads(ran.stdout)["valid"] is True
        quiet = kaitenctl("verify", "-q", *door, stdin=made["token"])
        assert (quiet.returncode, quiet.stdout, quiet.stderr) == (OK, "", "")
        assert kaitenctl("verify", *door, stdin="").returncode == USAGE
    ran = kaitenctl("verify", *doors[0], "-o", "json", stdin=made["token"])
    assert json.loads(ran.stdout)["organization"] == org
    assert owner.call("token.revoke", serviceAccountSlug=slug, tokenSlug=made["slug"]).ok
    for door in doors:
        for secret in (made["token"], "ksh_" + "a" * 32, "nonsense"):
            ran = kaitenctl("verify", *door, "-o", "json", stdin=secret)
            assert ran.returncode == INVALID and json.loads(ran.stdout)["valid"] is False
            assert secret not in ran.stdout + ran.stderr
    owner.close()


# --- forms of output ------------------------------------------------------------------------------

READERS = [["account", "list"], ["account", "get", "farm"], ["token", "list", "farm"],
           ["token", "get", "farm", "deploy"], ["whoami"], ["scopes"], ["health"]]
OPERATIONS = {"account list": ("account.list", {}),
              "account get farm": ("account.get", {"serviceAccountSlug": "farm"}),
              "token list farm": ("token.list", {"serviceAccountSlug": "farm"}),
              "token get farm deploy": ("token.get", {"serviceAccountSlug": "farm",
                                                      "tokenSlug": "deploy"}),
              "whoami": ("whoami", {}), "scopes": ("scopes", {}), "health": ("readyz", {})}


@pytest.mark.parametrize("verb", READERS, ids=" ".join)
def test_json_is_what_the_daemon_said(farm, verb):
    operation, args = OPERATIONS[" ".join(verb)]
    said = done(farm.door, farm.door.call(operation, **args))
    text = farm.ok(*verb, "-o", "json")
    assert json.loads(text) == said and list(json.loads(text)) == list(said)
    assert text.endswith("}\n")
    lines = farm.ok(*verb, "-o", "ndjson").splitlines()
    items = said["items"] if "items" in said else [said]
    assert [json.loads(line) for line in lines] == items
    assert farm.ok("call", operation, json.dumps(args)) == text


def plain_yaml(text):
    """Reads what we print of YAML: maps, lists and scalars, two spaces a level."""
    lines = [(len(s) - len(s.lstrip()), s.strip()) for s in text.splitlines()]

    def scalar(s):
        if s[:1] in '"[{' or s in ("true", "false", "null") or re.fullmatch(r"-?\d+", s):
            return json.loads(s)
        return s

    def block(i, indent):
        out = None
        while i < len(lines) and lines[i][0] == indent:
            text = lines[i][1]
            if text.startswith("- "):
                out = [] if out is None else out
                rest = text[2:]
                if re.match(r"[A-Za-z]\w*:( |$)", rest):
                    lines[i] = (indent + 2, rest)
                    value, i = block(i, indent + 2)
                else:
                    value, i = scalar(rest), i + 1
                out.append(value)
                continue
            if out is not None and isinstance(out, list):
                break
            out = {} if out is None else out
            name, _, rest = text.partition(":")
            rest = rest.strip()
            if rest:
                out[name], i = scalar(rest), i + 1
            else:
                deeper = lines[i + 1][0] if not lines[i + 1][1].startswith("- ") else indent
                out[name], i = block(i + 1, max(deeper, indent))
        return out, i

    return block(0, 0)[0]


@pytest.mark.parametrize("verb", READERS, ids=" ".join)
def test_yaml_says_the_same_as_json(farm, verb):
    assert plain_yaml(farm.ok(*verb, "-o", "yaml")) == farm.json(*verb)


def test_name_is_what_other_commands_take(farm):
    assert farm.ok("account", "list", "-o", "name") == "farm\n"
    assert farm.ok("token", "list", "farm", "-o", "name") == "deploy\n"
    assert farm.ok("account", "create", "x", "--slug", "second", "-q") == "second\n"
    assert farm.ok("account", "list", "-q").split() == ["second", "farm"]


def test_one_member_alone(farm):
    account = farm.json("account", "get", "farm")
    assert farm.ok("account", "get", "farm", "--field", "id") == account["id"] + "\n"
    made = farm.run("token", "create", "farm", "--name", "x", "--slug", "xx", "--field", "token")
    assert re.fullmatch(r"ksh_[0-9A-Za-z]{32}\n", made.stdout) and made.stderr == ""
    assert farm.ok("account", "list", "--field", "name") == "Build Farm\n"
    names = farm.ok("token", "list", "farm", "--all", "--limit", "1", "--field", "name")
    assert names.split() == ["x", "deploy"]
    # Absent is an empty line, so that lists stay in step.
    assert farm.ok("token", "list", "farm", "--field", "expiresAt") == "\n\n"
    assert farm.ok("call", "account.get", '{"serviceAccountSlug":"farm"}',
                   "--field", "id") == account["id"] + "\n"


def test_a_member_that_is_none_is_told_before_anything_is_made(farm):
    ran = farm.run("token", "create", "farm", "--name", "x", "--field", "secret")
    assert (ran.returncode, ran.stdout) == (USAGE, "") and " token" in ran.stderr
    assert farm.ok("token", "list", "farm", "-q") == "deploy\n"


def test_a_reader_that_has_enough_hears_no_complaint(farm):
    read, write = os.pipe()
    os.close(read)
    for verb in (["token", "list", "farm"], ["token", "list", "farm", "--all"]):
        ran = subprocess.run([KAITENCTL, *verb, "--socket", farm.daemon.socket_path,
                              "--token-file", "-"], input=farm.token, stdout=write,
                             stderr=subprocess.PIPE, env=CLEAN, text=True, timeout=30)
        assert (ran.returncode, ran.stderr) == (OTHER, "")
    os.close(write)


def test_tables_are_kaiten_s(farm):
    head, row = farm.ok("account", "list").splitlines()
    assert head.split("  ")[0] == "NAME" and "SLUG" in head and "ID" in head
    assert row.split()[:3] == ["Build", "Farm", "farm"]
    head, row = farm.ok("token", "list", "farm").splitlines()
    assert head.split() == ["NAME", "SLUG", "STATE", "EXPIRES", "AT", "SCOPES"]
    assert row.split() == ["deploy", "deploy", "live", "-", "read:instances,write:licenses"]


def test_nothing_of_a_name_reaches_the_terminal_as_a_command(ctl):
    name = "\x1b[2J\x1b]0;pwned\x07 \u202egnp \x9b31m\r\n\ttab"
    slug = done(ctl.door, ctl.door.call("account.create", name=name))["slug"]
    for form in ("table", "yaml", "json", "ndjson", "name"):
        for verb in (["account", "list"], ["account", "get", slug]):
            text = ctl.ok(*verb, "-o", form)
            assert not DANGEROUS.search(text), repr(text)
    assert ctl.json("account", "get", slug)["name"] == name
    # What a refusal repeats is of others, too.
    for form in ("table", "json"):
        ran = ctl.run("account", "get", name.replace("\r", "").replace("\n", ""), "-o", form)
        assert ran.returncode == ABSENT and not DANGEROUS.search(ran.stderr), repr(ran.stderr)


@pytest.mark.parametrize("host,local", [
    ("127.0.0.1:1", True), ("localhost:1", True), ("LOCALHOST:1", True), ("[::1]:1", True),
    ("localhost.example.invalid:1", False), ("127.0.0.1.example.invalid:1", False),
    ("localhost@192.0.2.1:1", False), ("127.0.0.1:x@192.0.2.1:1", False), ("192.0.2.1:1", False)])
def test_token_in_the_clear_is_noted(host, local):
    """Time for no answer: the note comes before anything is sent."""
    ran = kaitenctl("whoami", "--url", "http://" + host, "--timeout", "20ms",
                    env={"KAITEN_TOKEN": "x"})
    assert ran.returncode == SERVER
    assert ("in the clear" in ran.stderr) is not local


# --- what destroys is asked for -------------------------------------------------------------------


@pytest.mark.parametrize("command", ["account delete farm", "token rotate farm deploy",
                                     "token revoke farm deploy", "token revoke-all farm"])
def test_without_a_terminal_yes_is_needed(farm, command):
    verb = command.split()
    before = farm.json("account", "list")
    for stdin in ("", "y\n", "yes\n"):
        ran = farm.run(*verb, stdin=stdin)
        assert (ran.returncode, ran.stdout) == (USAGE, "") and "--yes" in ran.stderr
    assert farm.json("account", "list") == before
    assert farm.run(*verb, "--yes").returncode == OK
    again = OK if verb[1] in ("rotate", "revoke-all") else ABSENT
    assert farm.run(*verb, "-y").returncode == again


# --- minting --------------------------------------------------------------------------------------


def test_quiet_prints_the_secret_alone(farm):
    ran = farm.run("token", "create", "farm", "--name", "q", "--scope", "read:tokens", "-q")
    assert re.fullmatch(r"ksh_[0-9A-Za-z]{32}\n", ran.stdout) and ran.stderr == ""
    ran = farm.run("token", "rotate", "farm", "deploy", "-y", "-q")
    assert re.fullmatch(r"ksh_[0-9A-Za-z]{32}\n", ran.stdout) and ran.stderr == ""


def test_scopes_of_a_mint(farm):
    farm.ok("token", "create", "farm", "--name", "none", "--slug", "none")
    assert farm.json("token", "get", "farm", "none")["scopes"] == []
    farm.ok("token", "create", "farm", "--name", "all", "--slug", "all", "--all-scopes")
    assert farm.json("token", "get", "farm", "all")["scopes"] == ["read:*", "write:*"]


def test_expiry_of_a_mint(farm):
    for args in (["--expires-in", "1h"], ["--expires-at", "2099-01-01T01:00:00+01:00"]):
        farm.ok("token", "create", "farm", "--name", args[0], "--slug", args[0].strip("-"), *args)
    assert farm.json("token", "get", "farm", "expires-at")["expiresAt"] == "2099-01-01T00:00:00Z"
    assert farm.json("token", "get", "farm", "expires-in")["expiresAt"] < "2099"


# --- credentials ----------------------------------------------------------------------------------


def test_credential_comes_from_file_descriptor_or_environment(daemon, org, tmp_path):
    url = ["--url", f"http://127.0.0.1:{daemon.port}"]
    good, path, other = daemon.jwt(org=org), tmp_path / "good", tmp_path / "other"
    path.write_text(good + "\n")
    other.write_text(daemon.jwt(org=org + "-other") + "\r\n")
    for file in (path, other):
        file.chmod(0o600)

    def who(*args, **kwargs):
        ran = kaitenctl("whoami", "-o", "json", *url, *args, **kwargs)
        assert ran.returncode == OK and ran.stderr == "", ran
        return json.loads(ran.stdout)["organization"]

    assert who(env={"KAITEN_TOKEN": good}) == org
    assert who(env={"KAITEN_TOKEN_FILE": str(path)}) == org
    assert who(env={"KAITEN_TOKEN": good, "KAITEN_TOKEN_FILE": str(other)}) == org
    assert who("--token-file", other, env={"KAITEN_TOKEN": good}) == org + "-other"
    assert who("--token-file", "-", stdin=good) == org
    with open(other, "rb") as f:
        assert who("--token-fd", f.fileno(), pass_fds=(f.fileno(),)) == org + "-other"


def test_credential_file_that_others_can_read_is_noted(daemon, tmp_path):
    path = tmp_path / "token"
    path.write_text(daemon.jwt())
    path.chmod(0o644)
    ran = kaitenctl("whoami", "--socket", daemon.socket_path, "--token-file", path)
    assert ran.returncode == OK and f"others can read {path}" in ran.stderr


def test_environment_s_token_is_not_sent_on_the_socket(daemon):
    env = {"KAITEN_TOKEN": "x.y.z", "KAITEN_TOKEN_FILE": "/no/such/file"}
    ran = kaitenctl("whoami", "-o", "json", "--socket", daemon.socket_path, env=env)
    assert ran.returncode == OK and json.loads(ran.stdout)["kind"] == "peer"


@pytest.mark.parametrize("args", [["verify", "{}"], ["whoami", "{}"], ["account", "get", "{}"],
                                  ["account", "list", "--token-file", "{}"],
                                  ["account", "list", "--cursor={}"],
                                  ["call", "token.verify", '{{"token":"{}"}}'],
                                  ["account", "list", "--url", "http://{}@127.0.0.1:1"]])
def test_token_in_argv_is_refused_and_not_repeated(args, tmp_path):
    secret = "ksh_" + "Ab1" * 10 + "xy"
    ran = kaitenctl(*[a.format(secret) for a in args], "--socket", tmp_path / "nobody.sock")
    assert (ran.returncode, ran.stdout) == (USAGE, "")
    assert "command line" in ran.stderr and secret not in ran.stderr
