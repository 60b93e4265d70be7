# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The tools that ask kaitend's own guard: is this token signed by that key, and is the key any good?
Keys and tokens are those of RFC 7520 and RFC 8037, as they were published."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import subprocess

import pytest

from conftest import BUILD, PATIENCE, SOURCE

CORPORA = pathlib.Path(os.environ.get("KAITEN_CORPORA") or SOURCE / "../shared/corpora")
COOKBOOK = CORPORA / "jose-cookbook"
VECTORS = {
    "RS256": "jws/4_1.rsa_v15_signature.json",
    "PS384": "jws/4_2.rsa-pss_signature.json",
    "ES512": "jws/4_3.ecdsa_signature.json",
    "HS256": "jws/4_4.hmac-sha2_integrity_protection.json",
    "EdDSA": "curve25519/jws.json",
}
SECRET = hashlib.sha512(b"any").digest()


def b64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def run(tool, *args, **kwargs):
    return subprocess.run([BUILD / "tests/tools" / tool, *map(str, args)], capture_output=True,
                          text=True, timeout=PATIENCE, **kwargs)


@pytest.fixture
def key_file(tmp_path):
    def write(key):
        path = tmp_path / "key.json"
        path.write_text(key if isinstance(key, str) else json.dumps(key))
        return path
    return write


@pytest.fixture
def is_good(key_file):
    """Asks jws-check; a refusal always has a reason."""
    def ask(key, token):
        done = run("jws-check", key_file(key), token)
        assert done.returncode in (0, 1), done.stderr
        assert done.stdout.startswith("yes: " if done.returncode == 0 else "no: ")
        return done.returncode == 0
    return ask


def vector(alg):
    path = COOKBOOK / VECTORS[alg]
    if not path.exists():
        pytest.skip(f"{path} is not there")
    v = json.loads(path.read_text())
    return v["input"]["key"], v["output"]["compact"]


@pytest.fixture(params=VECTORS)
def published(request):
    return (request.param, *vector(request.param))


def test_published_tokens_are_good(published, is_good):
    alg, key, token = published
    for change in ({}, {"alg": alg}, {"use": "sig"}, {"key_ops": ["sign", "verify"]}):
        changed = {k: v for k, v in dict(key, **change).items()
                   if not (k == "use" and "key_ops" in change)}
        assert is_good(changed, token), change
        assert is_good({"keys": [{"kty": "AKP"}, changed]}, token)
    without_kid = {k: v for k, v in key.items() if k != "kid"}
    assert is_good(without_kid, token)


def test_only_the_public_half_is_needed(published, is_good):
    _, key, token = published
    if key["kty"] != "oct":
        assert is_good({k: v for k, v in key.items() if k not in
                        ("d", "p", "q", "dp", "dq", "qi")}, token)


WRONG_ALGS = ["none", "None", "NONE", "", "HS256", "RS256", "RS384", "PS256", "PS384", "ES256",
              "ES384", "ES512", "EdDSA", "Ed25519", "Ed448", "rs256", "RS256 ", "RSA-OAEP", None, 256, ["RS256"]]


def test_the_keys_algorithm_decides(published, is_good):
    right, key, token = published
    curve = {right, key.get("crv")} if right == "EdDSA" else {right}  # RFC 9864
    for alg in WRONG_ALGS:
        assert is_good(dict(key, alg=alg), token) == (alg in curve if isinstance(alg, str)
                                                      else False), alg


def head(token, **changes):
    header, rest = token.split(".", 1)
    fields = dict(json.loads(unb64(header)), **changes)
    return b64(json.dumps({k: v for k, v in fields.items() if v != "-"}).encode()) + "." + rest


CHANGES = {
    "another payload": lambda t: t.replace(".", ".A", 1),
    "no signature": lambda t: t.rpartition(".")[0] + ".",
    "no third part": lambda t: t.rpartition(".")[0],
    "a fourth part": lambda t: t + ".AAAA",
    "a longer signature": lambda t: t + "AAAA",
    "a shorter signature": lambda t: t[:-4],
    "padding of the signature": lambda t: t + "=",
    "two of padding": lambda t: t + "==",
    "padding of the header": lambda t: t.replace(".", "=.", 1),
    "a space before": lambda t: " " + t,
    "a space behind": lambda t: t + " ",
    "a newline behind": lambda t: t + "\n",
    "a space inside": lambda t: t[:-3] + " " + t[-3:],
    "a tab after the dot": lambda t: t.replace(".", ".\t", 1),
    "the standard alphabet": lambda t: t[:-3] + "+/" + t[-1],
    "spare bits": lambda t: t[:-1] + {"A": "B", "Q": "R", "g": "h", "w": "x"}.get(t[-1], "!"),
    "alg none": lambda t: head(t, alg="none"),
    "alg none, unsigned": lambda t: head(t, alg="none").rpartition(".")[0] + ".",
    "alg NoNe, unsigned": lambda t: head(t, alg="NoNe").rpartition(".")[0] + ".",
    "no alg": lambda t: head(t, alg="-"),
    "another kid": lambda t: head(t, kid="another"),
    "crit": lambda t: head(t, crit=["exp"]),
    "a key of its own": lambda t: head(t, jwk={"kty": "oct", "k": b64(SECRET)}),
    "empty": lambda t: "",
    "dots": lambda t: "..",
    "zeros": lambda t: t.rpartition(".")[0] + "." + "A" * len(t.rpartition(".")[2]),
    "long": lambda t: t + "A" * 8192,
}


@pytest.mark.parametrize("what", CHANGES)
def test_changed_tokens_are_not(published, is_good, what):
    _, key, token = published
    assert not is_good(key, CHANGES[what](token))


def test_another_key_of_that_kind(published, is_good):
    _, key, token = published
    assert not is_good(dict(key, kid="another"), token) or "kid" not in json.loads(
        unb64(token.split(".")[0]))
    for name, place in (("n", 20), ("x", 5), ("k", 5)):
        if name in key:
            flipped = "A" if key[name][place] != "A" else "B"
            assert not is_good(dict(key, **{name: key[name][:place] + flipped
                                            + key[name][place + 1:]}), token)


def test_a_public_key_is_no_secret(is_good):
    """HS256 over what everybody has, with the key itself still being one for RSA."""
    key, token = vector("RS256")
    payload = token.split(".")[1]
    signed = b64(b'{"alg":"HS256"}') + "." + payload
    for secret in (b"", unb64(key["n"]), json.dumps(key).encode()):
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        assert not is_good(key, f"{signed}.{b64(mac)}")
        assert not is_good(dict(key, alg="HS256"), f"{signed}.{b64(mac)}")


@pytest.mark.parametrize("alg,least", [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_any_payload_and_the_floor_of_secrets(is_good, alg, least):
    for payload in (b"", b"not JSON", b"\0\xff", b"{}"):
        for n in (0, 1, least - 1, least, 64):
            key = {"kty": "oct", "alg": alg, "k": b64(SECRET[:n])}
            signed = b64(json.dumps({"alg": alg}).encode()) + "." + b64(payload)
            mac = hmac.new(SECRET[:n], signed.encode(), "sha" + alg[2:]).digest()
            assert is_good(key, f"{signed}.{b64(mac)}") == (n >= least)
            del key["alg"]
            assert is_good(key, f"{signed}.{b64(mac)}") == (n >= least)
            assert not is_good(key, f"{signed}.{b64(mac[:-1])}")


def test_token_from_standard_input(key_file):
    key, token = vector("HS256")
    assert run("jws-check", key_file(key), "-", input=token).returncode == 0
    assert run("jws-check", key_file(key), "-", input=token + "\n").returncode == 1
    assert run("jws-check", key_file(key), "-", input=token + "A" * 9000).returncode == 1


def test_wrong_usage(key_file):
    path = key_file({})
    for tool, args in (("jws-check", []), ("jws-check", [path]), ("jws-check", [path, "a", "b"]),
                       ("jws-check", ["--help", "x"]), ("jwk-check", []), ("jwk-check", ["-x", path]),
                       ("jwk-check", [path, path]), ("jwk-check", ["-m"])):
        done = run(tool, *args)
        assert done.returncode == 2 and "usage: " in done.stderr


# --- jwk-check ------------------------------------------------------------------------------------


@pytest.fixture
def takes(key_file):
    """Asks jwk-check; a refusal has a reason on standard error."""
    def ask(key, *args):
        done = run("jwk-check", *args, key_file(key))
        assert done.returncode in (0, 1)
        assert done.stdout.startswith("yes: ") == (done.returncode == 0)
        assert done.returncode == 0 or "no: " in done.stderr
        return done.returncode == 0
    return ask


def test_published_keys_are_taken(published, takes):
    alg, key, _ = published
    assert takes(dict(key, alg=alg))
    assert takes({"keys": [dict(key, alg=alg)]})


def test_keys_that_are_not_taken(takes):
    rsa, ec, oct_, okp = (vector(a)[0] for a in ("RS256", "ES512", "HS256", "EdDSA"))
    public = {k: v for k, v in ec.items() if k != "d"}
    for key in ({}, [], "", "x", {"keys": []}, {"keys": {}}, {"keys": [{}]}, {"kty": "AKP"},
                dict(oct_, alg="HS384"), dict(oct_, k=b64(SECRET[:31])), dict(oct_, k=b64(b"a" * 40)),
                dict(oct_, k=oct_["k"] + "="), dict(oct_, k=7),
                {k: v for k, v in oct_.items() if k != "alg"},
                dict(rsa, e="AQAC"), dict(rsa, e="Aw"), dict(rsa, e="AQ"), dict(rsa, n=rsa["n"][:150]),
                dict(rsa, use="enc"), dict(rsa, key_ops=["sign"]), dict(rsa, kty="rsa"),
                dict(rsa, kid=1), dict(rsa, d=rsa["d"][:-6] + "AAAAAA"), dict(rsa, n=rsa["n"] + "=="),
                dict(public, crv="P-256"), dict(public, crv="P-384"), dict(public, crv="secp256k1"),
                dict(public, alg="ES256"), dict(public, x=ec["y"], y=ec["x"]),
                dict(public, x=b64(unb64(ec["x"])[1:])), {k: v for k, v in public.items() if k != "y"},
                dict(ec, d=b64(b"\1" * 66)), dict(okp, x=okp["x"][:-2]), dict(okp, crv="X25519"),
                dict(okp, d=b64(b"\1" * 32)), {"keys": [rsa, dict(ec, kid=rsa["kid"])]},
                {"keys": [dict(rsa, use="enc"), {"kty": "oct", "k": b64(SECRET), "use": "sig"}]},
                {"keys": [rsa] * 2}, {"keys": [{}] * 300}, json.dumps(rsa)[:-1], json.dumps(rsa) + "x",
                json.dumps(rsa).replace("{", '{"kty":"RSA",', 1)):
        assert not takes(key), key


ED25519, ED448 = 2 ** 255 - 19, 2 ** 448 - 2 ** 224 - 1
ORDER8 = int.from_bytes(bytes.fromhex(
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little")
# Heights of points of order 1, 2, 4 and 8, those above the prime being other spellings of 0 and 1.
SMALL = ([("Ed25519", y) for y in (0, 1, ED25519 - 1, ED25519, ED25519 + 1, ORDER8, ED25519 - ORDER8)]
         + [("Ed448", y) for y in (0, 1, ED448 - 1, ED448, ED448 + 1)])


@pytest.mark.parametrize("crv,y", SMALL)
@pytest.mark.parametrize("sign", (0, 0x80))
def test_a_point_of_small_order_is_no_key(takes, is_good, crv, y, sign):
    """With the point of order 1, R = 1 and S = 0 sign everything."""
    size, top = (32, 31) if crv == "Ed25519" else (57, 56)
    x = bytearray(y.to_bytes(size, "little"))
    x[top] |= sign
    key = {"kty": "OKP", "crv": crv, "x": b64(x)}
    forged = b64(b"\1".ljust(2 * size, b"\0"))
    for payload in (b"{}", b"[]", b"0", b""):
        assert not is_good(key, b64(b'{"alg":"EdDSA"}') + "." + b64(payload) + "." + forged)
    assert not takes(key)
    assert not takes(dict(key, alg="EdDSA"))
    x[0] ^= 0x40  # no such point any more
    assert takes(dict(key, x=b64(x)))


def test_who_may_read_secrets(takes, key_file):
    path = key_file({"kty": "oct", "alg": "HS256", "k": b64(SECRET)})
    for mode, good in ((0o600, True), (0o640, False), (0o644, False)):
        path.chmod(mode)
        done = run("jwk-check", "-m", path)
        assert (done.returncode == 0) == good
        assert run("jwk-check", path).returncode == 0
