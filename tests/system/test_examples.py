# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What README.md and the manual pages show is run as it stands there."""

import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, KAITENCTL, PATIENCE, PLUGIN_DIR, SANITIZED, SOURCE
from refusals import kaitend, messages
from schema import operations
from test_document import Page

CC = os.environ.get("CC", "cc").split()
compiled = pytest.mark.skipif(SANITIZED or not shutil.which(CC[-1]),
                              reason="a program is made that knows nothing of sanitizers")
TROFF = {r"\e": "\\", r"\(dq": '"', r"\&": "", r"\-": "-"}


def blocks(page):
    """The literal blocks of a manual page, as they are shown."""
    text = (SOURCE / "etc/man" / page).read_text()
    found = re.findall(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed$", text, re.M)
    return [re.sub(r"\\(?:\(dq|[e&-])", lambda m: TROFF[m[0]], b) for b in found]


def having(page, *words):
    """Those of a page's blocks that have all of these words."""
    found = [b for b in blocks(page) if all(word in b for word in words)]
    assert found, (page, words)
    return found


def shell(daemon, folder, script, **env):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KAITEN_")}
    env = dict(clean, PATH=f"{KAITENCTL.parent}:{os.environ['PATH']}",
               KAITEN_SOCKET=daemon.socket_path, **env)
    ran = subprocess.run(["sh", "-euc", script], cwd=folder, env=env, capture_output=True,
                         text=True, timeout=PATIENCE)
    assert ran.returncode == 0, (script, ran)
    return ran.stdout


@pytest.fixture
def one(own_daemon):
    return own_daemon("storage-memory").start()


def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not there")


# --- README.md ------------------------------------------------------------------------------------


def test_examples_of_the_readme(one, tmp_path):
    """All five, one after the other in one shell; the last of them ends the daemon."""
    needs("curl")
    text = (SOURCE / "README.md").read_text().partition("## Five examples")[2]
    steps = re.findall(r"^   ```sh\n((?:.*\n)*?)   ```$", text, re.M)
    assert len(steps) == 5
    out = shell(one, tmp_path, "\necho ----\n".join(steps), KAITEN_JWT=one.jwt(),
                KAITEN_URL=f"http://127.0.0.1:{one.port}", KAITEN_PID=str(one.process.pid))
    made, verified, listed, validated, ended = out.split("----\n")
    assert made == "" and "read:instances" in verified and '"items":[{' in listed
    assert validated.startswith("HTTP/1.1 200 OK") and "Authorization: Bearer ey" in validated
    assert re.search("ksh_[0-9A-Za-z]{32}", ended)
    assert one.process.wait(PATIENCE) == 0


# --- commands -------------------------------------------------------------------------------------


def test_examples_of_kaitenctl(one, tmp_path):
    needs("jq")
    steps = blocks("kaitenctl.1")[-7:]
    assert "account create" in steps[0] and "--url" in steps[-1]
    (tmp_path / "admin.jwt").write_text(one.jwt())
    url = f"http://127.0.0.1:{one.port}"
    steps[-1] = steps[-1].replace("https://tokens.example.org", url)
    out = [shell(one, tmp_path, step) for step in steps]
    assert "good\n" in out[2] and out[3].startswith("build\n{") and '"nightly"' in out[3]
    assert "alice" in out[-1]
    for name in ("nightly.token", "nightly.new"):
        path = tmp_path / name
        assert re.fullmatch("ksh_[0-9A-Za-z]{32}\n", path.read_text())
        assert path.stat().st_mode & 0o777 == 0o600


def test_examples_of_kaitend(one, tmp_path):
    (life,) = having("kaitend.8", "account create", "token revoke")
    shell(one, tmp_path, life)
    assert (tmp_path / "deploy.token").read_text().startswith("ksh_")


# --- /docs ----------------------------------------------------------------------------------------

LIFE = ("create-service-account get-service-accounts get-service-account update-service-account "
        "create-service-account-token get-service-account-tokens get-service-account-token "
        "rotate-service-account-token delete-service-account-token revoke-service-account-tokens "
        "delete-service-account").split()


def commands(text):
    """The command for each door that an operation's part of the page shows; None: not there."""
    curl = re.search(r"^curl (?:.*\\\n)*.*$", text, re.M)
    ctl = re.search(r"^kaitenctl call .*$", text, re.M)
    return [found and found[0] for found in (curl, ctl)]


def test_commands_of_the_page(one, tmp_path):
    """All of them, pasted: the life of an account and its token at each door, then what is left."""
    needs("curl")
    http = one.http()
    document, text = http.request("GET", "/openapi.json").body, Page(
        http.request("GET", "/docs").body.decode()).text
    slug = http.call("account.create", name="n").body["slug"]
    secret = http.call("token.create", serviceAccountSlug=slug, name="n", scopes=[]).body["token"]
    http.close()
    told = "curl() { command curl -sS -o /dev/null -w '%{http_code}' \"$@\"; }\n"
    everything = operations(document)
    assert set(LIFE) <= set(everything)
    for door in (0, 1):
        for ident in LIFE + sorted(set(everything) - set(LIFE)):
            command = commands(text[ident])[door]
            if not command:
                assert door == 1 and ident not in LIFE, ident
                continue
            token = secret if ident == "validate-token" else one.jwt(org="page")
            out = shell(one, tmp_path, told + command, KAITEN_URL=f"http://127.0.0.1:{one.port}",
                        KAITEN_TOKEN=token)
            good = [s for s in everything[ident][2]["responses"] if s[0] == "2"]
            assert door == 1 or [out] == good, (command, out)


# --- programs -------------------------------------------------------------------------------------


def build(folder, source, *args):
    (folder / "example.c").write_text(source)
    out = folder / "example"
    subprocess.run([*CC, "-std=c11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-o",
                    out, folder / "example.c", *args], check=True)
    return out


@compiled
def test_programs_of_the_library(one, tmp_path):
    library = BUILD / "client/.libs"
    if not (library / "libkaiten.so").exists():
        pytest.skip("no shared library was built")
    verify, mint, walk = having("kaiten.3", "int\nmain")

    def run(source, *args, stdin=""):
        program = build(tmp_path, source, f"-I{SOURCE}/client", f"-L{library}", "-lkaiten")
        env = dict(os.environ, KAITEN_SOCKET=one.socket_path, LD_LIBRARY_PATH=str(library))
        return subprocess.run([program, *args], env=env, input=stdin, capture_output=True,
                              text=True, check=True, timeout=PATIENCE).stdout

    one.ctl("account", "create", "Build", "--slug", "build")
    secret = run(mint)
    assert re.fullmatch("ksh_[0-9A-Za-z]{32}\n", secret)
    assert run(verify, stdin=secret) == "good, of build\n"
    assert run(verify, stdin="ksh_x\n").startswith("not good: ")
    slug = run(walk, "build").strip()
    one.ctl("token", "revoke", "build", slug, "--yes")
    assert run(walk, "build") == slug + " revoked\n"
    assert run(verify, stdin=secret) == "not good: revoked\n"


@compiled
def test_plugin_of_the_page(tmp_path):
    (source,) = having("kaiten-plugin.7", "KAITEN_STORAGE_SYMBOL(void)")
    (tmp_path / "include").mkdir()
    (tmp_path / "include/kaiten").symlink_to(SOURCE / "plugins")
    built = build(tmp_path, source, "-fPIC", "-shared", "-fvisibility=hidden",
                  f"-I{tmp_path}/include")
    built.rename(tmp_path / "storage-void.so")
    ran = kaitend("--dump-plugin", "storage-void",
                  env=dict(os.environ, KAITEND_PLUGIN_DIR=str(tmp_path)))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("name = storage-void\nkind = storage\n")


# --- configurations -------------------------------------------------------------------------------

ES256 = {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "one",
         "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
         "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}  # RFC 7515, appendix A.3
CONFIGURATIONS = {page: having(page, "\n[" if page == "kaitend.conf.5" else "[") for page in (
    "kaitend.conf.5", "kaitend.8", "kaiten-auth-jwt.7", "kaiten-auth-peer.7",
    "kaiten-storage-bdb.7", "kaiten-storage-memory.7", "kaiten-storage-postgres.7")}


def sections(text):
    """name: its lines, in order."""
    found = {}
    for line in filter(None, text.splitlines()):
        if line.startswith("["):
            lines = found.setdefault(line, [])
        else:
            lines.append(line)
    return found


def settle(daemon, text):
    """What an example names is there: paths, keys, a user and a group."""
    (daemon.dir / "idp.json").write_text(json.dumps({"keys": [ES256]}))
    for name in ("ci.pem", "issuer.pem"):
        (daemon.dir / name).write_bytes(daemon.public.read_bytes())
    for name in ("password", "owner-password"):
        (daemon.dir / name).write_text("secret\n")
        (daemon.dir / name).chmod(0o600)
    for said, here in (("/var/lib/kaitend", str(daemon.state)), ("/run/kaitend", str(daemon.dir)),
                       ("/etc/kaitend", str(daemon.dir)), ("user=www-data", "user=daemon"),
                       ("group=operators", "group=daemon"),
                       ("jwks=https://id.acme.example/keys", "jwks=idp.json"),
                       ("key=ci.pem alg=ES256", "key=ci.pem alg=RS256")):
        text = text.replace(said, here)
    return text


@pytest.mark.parametrize("page,n", [(page, n) for page, found in CONFIGURATIONS.items()
                                    for n in range(len(found))])
def test_configurations_are_accepted(own_daemon, page, n):
    """Beside what has to be said of every daemon, or alone where the example is a whole one."""
    daemon = own_daemon("storage-memory")
    example = sections(settle(daemon, CONFIGURATIONS[page][n]))
    whole = page == "kaitend.conf.5"
    conf = {} if whole else sections(daemon.conf.read_text())
    conf.update((name, lines) for name, lines in example.items() if name != "[kaitend]")
    said = dict(line.split(" = ", 1) for line in conf.get("[kaitend]", []))
    said.update(line.split(" = ", 1) for line in example.get("[kaitend]", []))
    said.update(state_dir=daemon.state, plugin_dir=PLUGIN_DIR)
    stores = [name[1:-1] for name in example if name.startswith("[storage-")]
    if stores:  # in the place of the daemon's own
        conf.pop("[storage-memory]", None)
        said["storage"] = stores[0]
    conf["[kaitend]"] = [f"{name} = {value}" for name, value in said.items()]
    if not (PLUGIN_DIR / f"{said['storage']}.so").exists():
        pytest.skip("this plugin was not built")
    daemon.conf.write_text("\n".join(f"{name}\n" + "\n".join(lines)
                                     for name, lines in conf.items()))
    ran = kaitend("--check", "-c", daemon.conf)
    assert (ran.returncode, messages(ran.stderr)) == (0, []), ran.stderr
