# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The tools of `make bench`: a store that was made without a daemon is like one that was not, and
the generator takes no wrong answer for a right one."""

import json
import os
import subprocess

import pytest

from conftest import BUILD, done

FILL, LOAD = BUILD / "tests/bench/fill", BUILD / "tests/bench/load"
TOKENS, ACCOUNTS, SLUG = 600, 3, 11


@pytest.fixture(scope="module")
def filled():
    """A daemon on a store that fill made."""
    from conftest import Daemon
    rule = f"uid={os.geteuid()} org=bench subject=bench scopes=read:*,write:* verify=any"
    d = Daemon("storage-bdb", rules=(rule,))
    subprocess.run([FILL, d.conf, str(ACCOUNTS), str(TOKENS), d.dir / "slugs", d.dir / "tokens"],
                   check=True, capture_output=True)
    yield d.start()
    code = d.stop()
    d.remove()
    assert code == 0


def load(d, speech, *args):
    command = [LOAD, speech, "--to", d.socket_path, "--pid", str(d.process.pid), *map(str, args)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ran.returncode, json.loads(ran.stdout) if ran.stdout else ran.stderr


def test_what_fill_makes_is_what_a_mint_makes(filled):
    rpc = filled.rpc()
    slugs = (filled.dir / "slugs").read_text()
    tokens = (filled.dir / "tokens").read_text()
    assert (len(slugs), len(tokens)) == (ACCOUNTS * SLUG, TOKENS * 36)
    made = [tokens[i:i + 36] for i in range(0, len(tokens), 36)]
    results = done(rpc, rpc.call("token.verifyMany", tokens=made))["results"]
    assert all(r["valid"] and r["organization"] == "bench" for r in results)
    assert len({r["tokenId"] for r in results}) == TOKENS
    account = slugs[:SLUG]
    minted = done(rpc, rpc.call("token.create", serviceAccountSlug=account, name="by hand",
                                scopes=["read:instances"]))
    page = done(rpc, rpc.call("token.list", serviceAccountSlug=account, limit=200))["items"]
    assert page[0]["id"] == minted["id"] and len(page) > 100
    same = ("scopes", "serviceAccountId", "createdBy")
    assert all([t[m] for m in same] == [minted[m] for m in same] for t in page)
    # They were verified above, the other one never was.
    assert all(list(t) == [*page[0], "lastUsedAt"] and t["name"] == t["slug"] for t in page[1:])
    done(rpc, rpc.call("token.revokeAll", serviceAccountSlug=account))
    results = done(rpc, rpc.call("token.verifyMany", tokens=made))["results"]
    assert {r["valid"] for r in results if r.get("serviceAccount") == account} == set()
    assert 0 < sum(r["valid"] for r in results) < TOKENS
    rpc.close()


def test_the_generator_looks_at_every_answer(filled):
    rpc = filled.rpc()
    account = done(rpc, rpc.call("account.create", name="Load", slug="load-accoun"))["slug"]
    (filled.dir / "account").write_text(account)
    mints = ("--keys", filled.dir / "account", "--width", SLUG, "--connections", 4)
    code, said = load(filled, "kaiten-mint", *mints, "--count", 64, "--save", filled.dir / "mine")
    assert code == 0 and said["answers"] >= 64 and said["server_us"] > 0, said
    keys = ("--keys", filled.dir / "mine", "--width", 36, "--connections", 4)
    for speech, units in (("kaiten-verify", 1), ("kaiten-verify-many", 64), ("kaiten-judge", 1)):
        code, said = load(filled, speech, *keys, "--count", 200)
        assert code == 0, said
        assert round(said["per_second"] * said["seconds"] / said["answers"]) == units
    code, said = load(filled, "kaiten-verify", *keys, "--count", 50, "--once")
    assert code == 0 and said["answers"] >= 50, said
    code, said = load(filled, "kaiten-verify", *keys[:4], "--connections", 20, "--hold")
    assert code == 0 and said["connections"] == 20, said
    code, said = load(filled, "kaiten-dead", *keys, "--count", 200)
    assert code == 1 and "a wrong answer" in said
    code, said = load(filled, "kaiten-revoke-all", *mints[:4], "--count", 1)
    assert code == 0, said
    code, said = load(filled, "kaiten-dead", *keys, "--count", 200)
    assert code == 0, said
    for speech in ("kaiten-verify", "kaiten-verify-many"):
        code, said = load(filled, speech, *keys, "--count", 200)
        assert code == 1 and "a wrong answer" in said
    rpc.close()


def test_the_generator_over_http(filled):
    rpc = filled.rpc()
    account = done(rpc, rpc.call("account.create", name="Load", slug="http-accoun"))["slug"]
    t = done(rpc, rpc.call("token.create", serviceAccountSlug=account, name="t",
                           scopes=["read:instances"]))
    rpc.close()
    for name, text in (("one", t["token"]), ("http", account),
                       ("jwt", filled.jwt(org="bench") + "\n")):
        (filled.dir / name).write_text(text)
    to = f"127.0.0.1:{filled.port}"
    keys = ("--keys", filled.dir / "one", "--width", 36, "--count", 50, "--connections", 3)
    assert load(filled, "http-validate", "--to", to, *keys)[0] == 0
    mints = ("--keys", filled.dir / "http", "--width", SLUG, "--count", 20, "--bearer")
    assert load(filled, "http-mint", "--to", to, *mints, filled.dir / "jwt")[0] == 0
    assert load(filled, "kaiten-revoke-all", *mints[:4], "--count", 1)[0] == 0
    code, said = load(filled, "http-validate", "--to", to, *keys)
    assert code == 1 and "401" in said
