# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Issuers of JWTs: each with keys, organizations, audiences and scopes of its own; keys that change in
files and at addresses while kaitend runs."""

import base64
import contextlib
import gzip
import http.server
import ipaddress
import json
import datetime
import signal
import ssl
import threading
import time

import pytest

from conftest import PATIENCE, free_port, refused, wait_for

x509 = pytest.importorskip("cryptography.x509", reason="python3-cryptography is missing")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: E402


def b64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    """An Ed25519 key pair: made in no time, and signed here, without a tool."""

    def __init__(self, kid=None):
        self.kid = kid
        self.private = ed25519.Ed25519PrivateKey.generate()
        raw = self.private.public_key().public_bytes(serialization.Encoding.Raw,
                                                     serialization.PublicFormat.Raw)
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}
        if kid:
            self.jwk["kid"] = kid

    def sign(self, iss=None, org="acme", kid=None, **claims):
        head = {"alg": "EdDSA", "typ": "JWT"}
        if kid or self.kid:
            head["kid"] = kid or self.kid
        claims = dict({"sub": "alice", "kaiten_external_org_id": org, "scopes": ["read:*"],
                       "exp": int(time.time()) + 600, "iss": iss}, **claims)
        text = ".".join(b64(json.dumps(part).encode()) for part in
                        (head, {k: v for k, v in claims.items() if v is not None}))
        return text + "." + b64(self.private.sign(text.encode()))


def jwks(*keys):
    return json.dumps({"keys": [k.jwk for k in keys]})


def status(daemon, token):
    client = daemon.http(token)
    answer = client.call("whoami")
    client.close()
    if answer.status == 401:
        refused(answer, 401, "Auth.InvalidToken", "Invalid token")
    return answer.status


def becomes(daemon, token, want):
    wait_for(lambda: status(daemon, token) == want, f"status {want}: " + daemon.tail(5))


def replace(path, text):
    """As a program that knows how: the file is there all the time, the old one or the new one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


# --- who may say what -----------------------------------------------------------------------------


def test_issuers_times_keys_times_organizations(own_daemon):
    """A token is good when its issuer signed it and speaks for its organization, and only then."""
    daemon = own_daemon("storage-memory")
    keys = {"a": Key("same"), "b": Key("same"), "c": Key("c")}
    for name, key in keys.items():
        (daemon.state / f"{name}.jwks").write_text(jwks(key))
    speaks = {"https://a": ["org-a", "shared"], "https://b": ["org-b", "shared"],
              "https://c": ["free"]}
    daemon.write_conf(jwt=f"""
issuer = https://a jwks={daemon.state}/a.jwks org=org-a org=shared
issuer = https://b jwks={daemon.state}/b.jwks org=org-b org=shared
issuer = https://c jwks={daemon.state}/c.jwks org=*
""")
    daemon.start()
    client = daemon.http("")
    wrong = []
    for iss in [*speaks, "https://d", "https://a/", None]:
        for name, key in keys.items():
            for org in ("org-a", "org-b", "shared", "free", "ORG-A", "org-a/"):
                good = iss == "https://" + name and (
                    org in speaks[iss] or (name == "c" and org in ("free", "ORG-A", "org-a/")))
                client.token = key.sign(iss, org=org)
                answer = client.call("whoami")
                if answer.status != (200 if good else 401):
                    wrong.append((iss, name, org, answer))
    assert not wrong
    # The daemon's own key is for whoever has no line; organizations on lines are not its to give.
    for iss, org, good in ((None, "acme", True), ("https://x", "acme", True),
                           ("https://a", "org-a", False), ("https://a", "acme", False),
                           (None, "org-a", False), (None, "shared", False)):
        claims = {"iss": iss} if iss else {}
        client.token = daemon.jwt(org=org, **claims)
        assert client.call("whoami").status == (200 if good else 401), (iss, org)
    client.close()


def test_audience_and_scopes_of_an_issuer(own_daemon):
    daemon = own_daemon("storage-memory")
    one, two = Key("1"), Key("2")
    (daemon.state / "one.jwks").write_text(jwks(one))
    (daemon.state / "two.jwks").write_text(jwks(two))
    daemon.write_conf(jwt=f"""
audience = kaiten
scope_ceiling = read:*
issuer = one jwks={daemon.state}/one.jwks org=*
issuer = two jwks={daemon.state}/two.jwks org=* audience=x audience=y scopes=read:tokens,write:licenses
""")
    daemon.start()

    def scopes(token):
        client = daemon.http(token)
        answer = client.call("whoami")
        client.close()
        return answer.status if answer.status != 200 else sorted(answer.body["scopes"])

    everything = {"scopes": ["write:*"]}
    assert scopes(one.sign("one", aud="kaiten", **everything)) == ["read:*"]
    assert scopes(one.sign("one", aud="x", **everything)) == 401
    assert scopes(two.sign("two", aud=["z", "y"], **everything)) == ["read:tokens",
                                                                      "write:licenses"]
    assert scopes(two.sign("two", aud="kaiten", **everything)) == 401
    assert scopes(two.sign("two", aud="x", scopes=["read:tokens", "read:licenses", "delete:x"])) == [
        "read:licenses", "read:tokens"]


# --- files ----------------------------------------------------------------------------------------


def test_keys_rotate_in_a_file_without_a_restart(own_daemon):
    daemon = own_daemon("storage-memory")
    old, new = Key("old"), Key("new")
    path = daemon.state / "idp.jwks"
    path.write_text(jwks(old))
    daemon.write_conf(jwt=f"issuer = idp jwks={path} org=*")
    daemon.start()
    tokens = {k: k.sign("idp") for k in (old, new)}
    door = daemon.rpc(tokens[old])
    assert door.call("whoami").ok and status(daemon, tokens[old]) == 200
    assert status(daemon, tokens[new]) == 401
    replace(path, jwks(old, new))
    becomes(daemon, tokens[new], 200)
    assert status(daemon, tokens[old]) == 200
    # A caller that is known already ends with its key, on an open connection too.
    replace(path, jwks(new))
    becomes(daemon, tokens[old], 401)
    assert door.call("whoami").status == 401 and status(daemon, tokens[new]) == 200
    door.close()
    # What is no set changes nothing, and the log says why.
    for text, why in (("", "bytes"), ("{", "no JSON object"), ('{"keys":[]}', "set is empty"),
                      (jwks(old, old), "stands twice"), ('{"keys":[{"kty":"AKP"}]}', "no usable key")):
        before = len(daemon.log.read_text())
        replace(path, text)
        wait_for(lambda: why in daemon.log.read_text()[before:], why)
        assert "keys stay as they are" in daemon.log.read_text()[before:]
        assert status(daemon, tokens[new]) == 200
    path.unlink()
    wait_for(lambda: "No such file" in daemon.log.read_text(), "the log to say it")
    assert status(daemon, tokens[new]) == 200
    replace(path, jwks(old))
    becomes(daemon, tokens[old], 200)
    assert status(daemon, tokens[new]) == 401


def test_a_key_that_moves_from_one_file_to_another(own_daemon):
    """While it stands in both, the second file is not taken; it is as soon as that is over, long
    after its own last change, and what it does not have any more ends then."""
    daemon = own_daemon("storage-memory")
    moved, stays, ends = Key("moved"), Key("stays"), Key("ends")
    first, second = daemon.state / "first.jwks", daemon.state / "second.jwks"
    first.write_text(jwks(moved, stays))
    second.write_text(jwks(ends))
    daemon.write_conf(jwt=f"issuer = idp jwks={second} jwks={first} org=*")
    daemon.start()
    tokens = [k.sign("idp") for k in (moved, stays, ends)]
    assert [status(daemon, t) for t in tokens] == [200, 200, 200]
    replace(second, jwks(moved))
    wait_for(lambda: "stands twice" in daemon.log.read_text(), "the log to say it")
    time.sleep(4)  # from now on nobody reads the file again unless it changes
    assert [status(daemon, t) for t in tokens] == [200, 200, 200]
    replace(first, jwks(stays))
    becomes(daemon, tokens[2], 401)
    becomes(daemon, tokens[0], 200)
    assert status(daemon, tokens[1]) == 200


def test_sighup_reads_key_files_too(own_daemon):
    daemon = own_daemon("storage-memory")
    first, second = Key(), Key()
    path = daemon.state / "idp.pem"

    def pem(key):
        return key.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    path.write_text(pem(first))
    daemon.write_conf(jwt=f"issuer = idp key={path} alg=EdDSA org=*")
    daemon.start()
    assert status(daemon, first.sign("idp")) == 200
    replace(path, pem(second))
    daemon.process.send_signal(signal.SIGHUP)
    token = first.sign("idp")
    becomes(daemon, token, 401)
    assert status(daemon, second.sign("idp")) == 200


def test_sighup_asks_addresses(own_daemon, source):
    daemon = own_daemon("storage-memory")
    old, new = Key("old"), Key("new")
    source.text = jwks(old, new)
    daemon.write_conf(jwt=f"{CALM}issuer = idp jwks={source.url} org=*")
    daemon.start()
    token = old.sign("idp")
    becomes(daemon, token, 200)
    source.text = jwks(new)
    assert status(daemon, token) == 200
    daemon.process.send_signal(signal.SIGHUP)
    becomes(daemon, token, 401)
    assert status(daemon, new.sign("idp")) == 200 and daemon.process.poll() is None


@pytest.mark.parametrize("line,why", [
    ("issuer = idp jwks={0}/one", "org= is missing"),
    ("issuer = idp jwks=http://keys.example/ org=a", "https"),
    ("jwks_refresh = 1h\njwks_max_age = 1m", "jwks_max_age is shorter"),
    ("jwks_timeout = 2m", "jwks_timeout"),
])
def test_mistakes_stop_the_start(own_daemon, line, why):
    daemon = own_daemon("storage-memory")
    (daemon.state / "one").write_text(jwks(Key("k")))
    daemon.write_conf(jwt=line.format(daemon.state))
    daemon.spawn()
    assert daemon.process.wait(PATIENCE) == 78, daemon.tail()
    assert why in daemon.tail() and "kaitend.conf:" in daemon.tail(), daemon.tail()


# --- addresses ------------------------------------------------------------------------------------


STATUSES = {"failing": 500, "missing": 404, "partial": 206, "no content": 204, "not modified": 304,
            "moved": 301, "redirect": 302, "see other": 303, "to a name": 307, "to a file": 308}
ENDLESS = {"endless": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                       b"1000\r\n" + b" " * 4096 + b"\r\n"),
           "headers": (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 4096 + b"\r\n"),
           "interim": (b"", b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * 4096 + b"\r\n\r\n")}


class Source:
    """A server of key sets that does as it is told."""

    def __init__(self, tls=None, port=0):
        source = self
        self.text, self.mode, self.asked, self.let_go = "", "good", 0, threading.Event()
        self.moved = "/moved"  # where redirects lead

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                source.asked += 1
                with contextlib.suppress(OSError):
                    source.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_port}/keys.json"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def answer(self, request):
        code = 200 if request.path == "/moved" else STATUSES.get(self.mode, 200)
        if self.mode in ENDLESS:
            self.answer_for_ever(request, *ENDLESS[self.mode])
        elif 300 < code < 400 and code != 304:
            request.send_response(code)
            request.send_header("Location", self.moved)
            request.send_header("Content-Length", "0")
            request.end_headers()
        else:
            self.answer_with(request, code, self.text.encode())

    def answer_with(self, request, code, body):
        if self.mode == "large":
            body = b" " * (256 * 1024 + 1 - len(body)) + body
        request.send_response(code)
        if self.mode == "packed":
            body = gzip.compress(body)
            request.send_header("Content-Encoding", "gzip")
        if self.mode != "large":
            length = {"cut": len(body) + 1, "short": len(body) - 1, "negative": -1}
            request.send_header("Content-Length", str(length.get(self.mode, len(body))))
        request.end_headers()
        if self.mode == "slow":
            self.let_go.wait(PATIENCE)
        if code not in (204, 304):
            request.wfile.write(body)

    def answer_for_ever(self, request, head, piece):
        """Until the other side has had enough."""
        body = self.text.encode()
        request.wfile.write(head + b"%x\r\n%s\r\n" % (len(body), body) * (b"chunked" in head))
        while not self.let_go.is_set():
            request.wfile.write(piece)

    def close(self):
        self.let_go.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def source():
    s = Source()
    yield s
    s.close()


QUICK = "jwks_cooldown = 100ms\njwks_refresh = 100ms\njwks_timeout = 20s\n"
CALM = "jwks_cooldown = 100ms\njwks_refresh = 1h\njwks_timeout = 20s\n"


def test_a_set_from_an_address(own_daemon, source):
    daemon = own_daemon("storage-memory")
    key = Key("k")
    source.text = jwks(key)
    daemon.write_conf(jwt=f"{CALM}issuer = idp jwks={source.url} org=*")
    daemon.start()
    becomes(daemon, key.sign("idp"), 200)
    assert status(daemon, Key("k").sign("idp")) == 401
    assert source.asked == 1
    door = daemon.rpc(key.sign("idp", sub="bob"))
    assert door.call("whoami").body["subject"] == "bob"
    door.close()


def test_a_source_that_is_down_at_the_start(own_daemon):
    """503 for its callers until it answers: nothing is known of them. Others are served."""
    daemon = own_daemon("storage-memory")
    port, key = free_port(), Key("k")
    daemon.write_conf(jwt=f"{QUICK}issuer = idp jwks=http://127.0.0.1:{port}/keys.json org=*")
    daemon.start()
    assert status(daemon, key.sign("idp")) == 503
    assert status(daemon, daemon.jwt()) == 200
    source = Source(port=port)
    source.text = jwks(key)
    token = key.sign("idp")
    becomes(daemon, token, 200)
    source.close()
    assert status(daemon, token) == 200


def test_an_unknown_key_id_asks_again(own_daemon, source):
    daemon = own_daemon("storage-memory")
    old, new = Key("old"), Key("new")
    source.text = jwks(old)
    daemon.write_conf(jwt=f"{CALM}issuer = idp jwks={source.url} org=*")
    daemon.start()
    becomes(daemon, old.sign("idp"), 200)
    source.text = jwks(old, new)
    token = new.sign("idp")
    becomes(daemon, token, 200)
    assert status(daemon, old.sign("idp")) == 200


def test_unknown_key_ids_do_not_flood_the_source(own_daemon, source):
    daemon = own_daemon("storage-memory")
    key = Key("k")
    source.text = jwks(key)
    daemon.write_conf(jwt=f"jwks_cooldown = 1h\nissuer = idp jwks={source.url} org=*")
    daemon.start()
    becomes(daemon, key.sign("idp"), 200)
    for i in range(50):
        assert status(daemon, key.sign("idp", kid=f"unknown-{i}")) == 401
    assert status(daemon, key.sign("idp")) == 200
    assert source.asked == 1


def test_a_key_that_is_gone_ends_its_callers(own_daemon, source):
    daemon = own_daemon("storage-memory")
    old, new = Key("old"), Key("new")
    source.text = jwks(old, new)
    daemon.write_conf(jwt=f"{QUICK}issuer = idp jwks={source.url} org=*")
    daemon.start()
    token = old.sign("idp")
    becomes(daemon, token, 200)
    source.text = jwks(new)
    # Its key id is unknown now, so for moments it is asked for again.
    becomes(daemon, token, 401)
    assert status(daemon, new.sign("idp")) == 200


BAD_ANSWERS = {
    "failing": "status 500", "missing": "status 404", "partial": "status 206",
    "redirect": "status 302", "large": "more than 262144 bytes", "slow": "imed out",
    "cut": "", "empty": "an empty answer", "no JSON": "no JSON object",
    "moved": "status 301", "see other": "status 303", "to a name": "status 307",
    "to a file": "status 308", "no content": "status 204", "not modified": "status 304",
    "short": "no JSON object", "negative": "", "packed": "no JSON object",
    "endless": "more than 262144 bytes", "headers": "", "interim": "",
    "secret": "no place in a published set", "private": "no place in a published set",
}


def test_a_bad_answer_changes_nothing(own_daemon, source):
    daemon = own_daemon("storage-memory")
    key = Key("k")
    source.text = jwks(key)
    daemon.write_conf(jwt=f"{QUICK.replace('20s', '500ms')}issuer = idp jwks={source.url} org=*")
    daemon.start()
    token = key.sign("idp")
    becomes(daemon, token, 200)
    for mode, why in BAD_ANSWERS.items():
        other = Key("k")
        raw = other.private.private_bytes(serialization.Encoding.Raw,
                                          serialization.PrivateFormat.Raw,
                                          serialization.NoEncryption())
        bad = {"empty": "", "no JSON": "<html>", "private": json.dumps(dict(other.jwk, d=b64(raw))),
               "secret": json.dumps({"kty": "oct", "alg": "HS256", "k": b64(raw)})}
        (daemon.state / "moved.jwks").write_text(jwks(other))
        source.moved = {"to a name": source.url.replace("127.0.0.1", "localhost")
                        .replace("keys.json", "moved"),
                        "to a file": f"file://{daemon.state}/moved.jwks"}.get(mode, "/moved")
        before = len(daemon.log.read_text())
        source.mode, source.text = mode, bad.get(mode, jwks(other))
        wait_for(lambda: f"keys stay as they are: {source.url}: " in (
            lines := daemon.log.read_text()[before:]) and why in lines, mode)
        assert status(daemon, token) == 200 and status(daemon, other.sign("idp")) == 401
        # And a good one ends the trouble.
        token = other.sign("idp")
        source.mode, source.text = "good", jwks(other)
        becomes(daemon, token, 200)


def test_keys_that_are_too_old_are_not_trusted(own_daemon, source):
    daemon = own_daemon("storage-memory")
    key = Key("k")
    source.text = jwks(key)
    daemon.write_conf(jwt=f"{QUICK}jwks_max_age = 1s\nissuer = idp jwks={source.url} org=*")
    daemon.start()
    token = key.sign("idp")
    becomes(daemon, token, 200)
    source.mode = "failing"
    becomes(daemon, token, 503)
    assert "not trusted any more" in daemon.log.read_text()
    assert status(daemon, daemon.jwt()) == 200
    source.mode = "good"
    becomes(daemon, token, 200)


def test_a_slow_source_is_not_trusted_for_longer(own_daemon, source):
    """Nor does it take those down whose keys come from elsewhere, while it is waited for."""
    other, daemon = Source(), own_daemon("storage-memory")
    slow, good = Key("slow"), Key("good")
    source.text, other.text = jwks(slow), jwks(good)
    daemon.write_conf(jwt=f"jwks_refresh = 100ms\njwks_max_age = 3s\njwks_timeout = 60s\n"
                          f"jwks = {source.url}\njwks = {other.url}\n")
    daemon.start()
    known = slow.sign()
    becomes(daemon, known, 200)
    becomes(daemon, good.sign(), 200)
    source.mode = "slow"
    wait_for(lambda: status(daemon, known) == 503, "the end of its callers", PATIENCE / 2)
    wait_for(lambda: status(daemon, good.sign(jti="new")) == 200, "the others", PATIENCE / 2)
    source.let_go.set()
    source.mode = "good"
    becomes(daemon, known, 200)
    assert daemon.stop() == 0
    other.close()


def test_a_slow_source_delays_neither_files_nor_the_end(own_daemon, source):
    daemon = own_daemon("storage-memory")
    first, second = Key("1"), Key("2")
    path = daemon.state / "file.jwks"
    path.write_text(jwks(first))
    source.mode = "slow"
    daemon.write_conf(jwt=f"jwks_timeout = 60s\nissuer = slow jwks={source.url} org=*\n"
                          f"issuer = file jwks={path} org=*")
    daemon.start()
    assert status(daemon, first.sign("slow")) == 503
    replace(path, jwks(second))
    becomes(daemon, second.sign("file"), 200)
    assert daemon.stop() == 0


def authority():
    """A certificate for 127.0.0.1 that signs itself, and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "keys")])
    now, day = datetime.datetime.utcnow(), datetime.timedelta(days=1)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - day).not_valid_after(now + day)
            .add_extension(x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256()))
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def test_tls_is_verified(own_daemon, tmp_path):
    daemon = own_daemon("storage-memory")
    certificate, private = authority()
    (tmp_path / "server.pem").write_bytes(certificate + private)
    (daemon.state / "ca.pem").write_bytes(certificate)
    (daemon.state / "other.pem").write_bytes(authority()[0])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    source = Source(tls)
    key = Key("k")
    source.text = jwks(key)
    wrong_name = source.url.replace("127.0.0.1", "localhost")
    daemon.write_conf(jwt=f"""{QUICK}
issuer = good jwks={source.url} ca={daemon.state}/ca.pem org=*
issuer = system jwks={source.url} org=*
issuer = other jwks={source.url} ca={daemon.state}/other.pem org=*
issuer = name jwks={wrong_name} ca={daemon.state}/ca.pem org=*
""")
    daemon.start()
    becomes(daemon, key.sign("good"), 200)
    for iss in ("system", "other", "name"):
        assert status(daemon, key.sign(iss)) == 503
    # Nor is it given up for an address without.
    plain, other = Source(), Key("k")
    plain.text = jwks(other)
    source.moved, source.mode = plain.url, "redirect"
    wait_for(lambda: f"keys stay as they are: {source.url}: status 302" in daemon.log.read_text(),
             "the log to say it")
    assert status(daemon, other.sign("good")) == 401 and status(daemon, key.sign("good")) == 200
    assert plain.asked == 0
    plain.close()
    source.close()
