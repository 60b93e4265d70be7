# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The certificates of the HTTP door and of its clients: which are taken, and how they are exchanged."""

import datetime
import re
import signal
import ssl
import subprocess
import threading

import pytest

from conftest import KAITEND, PATIENCE, brief_life, free_port, wait_for
from tls_door import (  # noqa: F401
    DAY, SECOND, V12, V13, Authority, ask, authority, certificate, connect, context, door,
    log_lines, p256, pem, pem_of_key, put, reload, renew, serial, tls_daemon,
)

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa


# --- exchange of certificates ---------------------------------------------------------------------

def test_sighup_exchanges_the_certificate(tls_daemon, authority):
    d = tls_daemon()
    ctx = context(authority)
    first = serial(d, ctx)
    with connect(d, ctx) as old:
        assert ask(old)[0] == 200
        session = old.session
        second = renew(d, authority)
        assert serial(d, ctx) == first
        reload(d, "tls.renewed")
        assert serial(d, ctx) == second != first
        assert ask(old)[0] == 200
    with connect(d, ctx, session) as s:
        assert not s.session_reused


def test_sigusr1_exchanges_nothing(tls_daemon, authority):
    d = tls_daemon()
    first = serial(d, context(authority))
    renew(d, authority)
    d.process.send_signal(signal.SIGUSR1)
    assert ask(connect(d, context(authority)))[0] == 200
    assert serial(d, context(authority)) == first


def test_a_wrong_file_changes_nothing_and_the_log_says_why(tls_daemon, authority):
    d = tls_daemon()
    ctx = context(authority)
    first = serial(d, ctx)
    put(d.key, pem_of_key(p256()))
    assert "not the key of the certificate" in reload(d, "tls.kept")
    d.key.unlink()
    line = reload(d, "tls.kept")
    assert f"{d.conf}:" in line and "tls_key" in line and "No such file" in line
    renew(d, authority)
    d.cert.write_bytes(d.cert.read_bytes()[:300])
    assert "tls_certificate" in reload(d, "tls.kept")
    assert serial(d, ctx) == first
    second = renew(d, authority)
    reload(d, "tls.renewed")
    assert serial(d, ctx) == second


def test_all_doors_or_none(tls_daemon, authority):
    d = tls_daemon(start=False)
    port = free_port()
    cert, key = authority.issue("second")
    d.settings["extra"] += door(port, cert, key, name="second")
    d.write_conf()
    d.start()
    ctx = context(authority)
    first = serial(d, ctx)
    renew(d, authority)
    good = key.read_bytes()
    key.write_bytes(b"nothing")
    reload(d, "tls.kept")
    assert serial(d, ctx) == first
    key.write_bytes(good)
    reload(d, "tls.renewed", count=2)
    assert serial(d, ctx) != first


def test_no_request_fails_while_certificates_are_exchanged(tls_daemon, authority):
    d = tls_daemon(level="notice")
    ctx = context(authority)
    over = threading.Event()
    done, failed, seen = [], [], set()

    def fresh():
        while not over.is_set():
            with connect(d, ctx) as s:
                assert ask(s) == (200, b'{"status":"ok"}\n')
                seen.add(s.getpeercert()["serialNumber"])
                done.append(1)

    def kept():
        with connect(d, ctx) as s:
            while not over.is_set():
                assert ask(s) == (200, b'{"status":"ok"}\n')
                done.append(1)

    def watched(work):
        try:
            work()
        except Exception as e:  # noqa: BLE001
            failed.append(repr(e))

    threads = [threading.Thread(target=watched, args=(w,)) for w in [fresh] * 4 + [kept] * 4]
    for t in threads:
        t.start()
    keys = [None, rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()]
    for i in range(12):
        renew(d, authority, keys[i % 3])
        reload(d, "tls.renewed")
        n = len(done)
        wait_for(lambda: len(done) > n + 20 or failed, "requests")
    over.set()
    for t in threads:
        t.join()
    assert failed == []
    assert len(seen) > 3


# --- certificates of clients ----------------------------------------------------------------------

@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("verify", ["required", "optional"])
def test_certificates_of_clients(tls_daemon, authority, tmp_path, verify, version):
    clients = Authority(tmp_path, "Clients")
    d = tls_daemon(f"tls_client_ca = {clients.path}\ntls_client_verify = {verify}")
    good = clients.issue("good")
    wrong = {"foreign": Authority(tmp_path, "Foreign").issue("foreign"),
             "expired": clients.issue("expired", begin=-9 * DAY, end=-DAY)}

    def status(client):
        with connect(d, context(authority, version, client=client)) as s:
            return ask(s)[0]

    assert status(good) == 200
    for files in wrong.values():
        with pytest.raises((ssl.SSLError, ConnectionError)):
            status(files)
    if verify == "optional":
        assert status(None) == 200
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            status(None)
    assert any('client="/CN=good"' in line or "client=/CN=good" in line
               for line in log_lines(d, "tls.begun"))


def test_a_session_with_a_certificate_is_resumed_while_it_is_good(tls_daemon, authority, tmp_path):
    clients = Authority(tmp_path, "Clients")
    d = tls_daemon(f"tls_client_ca = {clients.path}")

    def resumed(end, over):
        left = datetime.datetime.fromisoformat(end) - datetime.datetime.now(datetime.timezone.utc)
        ctx = context(authority, V13, client=clients.issue("brief", end=left + SECOND))
        try:
            with connect(d, ctx) as s:
                assert ask(s)[0] == 200
                session = s.session
            with connect(d, ctx, session) as s:
                assert ask(s)[0] == 200 and s.session_reused
                return ctx, s.session
        except (OSError, AssertionError):
            if not over():
                raise

    ctx, session = brief_life(resumed, 3)

    def is_refused():
        try:
            with connect(d, ctx, session) as s:
                ask(s)
        except (ssl.SSLError, ConnectionError):
            return True

    wait_for(is_refused, "the end of the certificate")


# --- configuration --------------------------------------------------------------------------------

def check(d):
    return subprocess.run([KAITEND, "--check", "-c", d.conf], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=PATIENCE)


def with_key(d, key):
    put(d.cert, pem(certificate("x", key)))
    put(d.key, pem_of_key(key))


def without(d, option):
    d.settings["extra"] = "".join(line for line in d.settings["extra"].splitlines(True)
                                  if not line.startswith(option))
    d.write_conf()


def adding(d, text):
    d.settings["extra"] += text
    d.write_conf()


MISTAKES = {
    "another key": (lambda d: put(d.key, pem_of_key(p256())),
                    "tls_key", "not the key of the certificate"),
    "RSA with 1024 bits": (lambda d: with_key(d, rsa.generate_private_key(65537, 1024)),
                           "tls_certificate", "RSA with 1024 bits; accepted: 2048 or more"),
    "P-224": (lambda d: with_key(d, ec.generate_private_key(ec.SECP224R1())),
              "tls_certificate", "accepted: P-256, P-384 or P-521"),
    "secp256k1": (lambda d: with_key(d, ec.generate_private_key(ec.SECP256K1())),
                  "tls_certificate", "accepted: P-256, P-384 or P-521"),
    "a password": (lambda d: put(d.key, pem_of_key(p256(), b"secret")),
                   "tls_key", "no private key in PEM without a password"),
    "an open key": (lambda d: d.key.chmod(0o644), "tls_key", "chmod 600"),
    "no key file": (lambda d: d.key.unlink(), "tls_key", "No such file"),
    "no certificate file": (lambda d: d.cert.unlink(), "tls_certificate", "No such file"),
    "an empty file": (lambda d: put(d.cert, b""), "tls_certificate", "1 to 1048576 bytes"),
    "a folder": (lambda d: (d.cert.unlink(), d.cert.mkdir()), "tls_certificate", "regular file"),
    "no PEM": (lambda d: put(d.cert, b"hello\n"), "tls_certificate", "no certificate in PEM"),
    "broken PEM": (lambda d: put(d.cert, d.cert.read_bytes()[:-40]), "tls_certificate", ""),
    "a chain that breaks": (lambda d: put(d.cert, d.cert.read_bytes() + d.cert.read_bytes()[:99]),
                            "tls_certificate", "certificate 2"),
    "too many": (lambda d: put(d.cert, d.cert.read_bytes() * 17), "tls_certificate",
                 "at most 16 certificates"),
    "the key alone": (lambda d: without(d, "tls_certificate"), "tls_key", "it needs"),
    "the certificate alone": (lambda d: without(d, "tls_key"), "tls_certificate",
                              "it needs tls_key"),
    "a rule for clients without authorities": (
        lambda d: adding(d, "tls_client_verify = optional\n"), "tls_client_verify",
        "it needs tls_client_ca"),
    "another word": (lambda d: adding(d, "tls_client_verify = maybe\ntls_client_ca = x\n"),
                     "tls_client_verify", "accepted: optional, required"),
    "TLS 1.1": (lambda d: adding(d, "tls_min_version = 1.1\n"), "tls_min_version",
                "accepted: 1.2, 1.3"),
    "no authority": (lambda d: adding(d, f"tls_client_ca = {d.cert}\n"), "tls_client_ca",
                     "not that of an authority"),
    "no authorities' file": (lambda d: adding(d, "tls_client_ca = x\n"), "tls_client_ca",
                             "No such file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_before_anything_opens(tls_daemon, mistake):
    d = tls_daemon(start=False)
    assert check(d).returncode == 0
    change, option, text = MISTAKES[mistake]
    change(d)
    done = check(d)
    assert done.returncode == 78
    where = rf"{re.escape(str(d.conf))}:\d+: \[http\] {option}: "
    assert re.search(where, done.stderr), done.stderr
    assert text in done.stderr
    assert "BEGIN" not in done.stderr
    assert subprocess.run([KAITEND, "-c", d.conf], stderr=subprocess.DEVNULL,
                          timeout=PATIENCE).returncode == 78


# --- files that OpenSSL would ask a password for --------------------------------------------------

def sealed(text):
    """That PEM, with the header of an encrypted one."""
    first, rest = text.split(b"\n", 1)
    return (first + b"\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,"
            b"00112233445566778899AABBCCDDEEFF\n\n" + rest)


def jwt_key(d, text):
    d.write_conf(jwt=f"key = {put(d.dir / 'idp.pem', text)} alg=ES256")


ENCRYPTED = {
    "certificate": lambda d: put(d.cert, sealed(d.cert.read_bytes())),
    "second certificate": lambda d: put(d.cert, d.cert.read_bytes() + sealed(d.cert.read_bytes())),
    "key": lambda d: put(d.key, sealed(d.key.read_bytes())),
    "authority": lambda d: adding(d, f"tls_client_ca = {put(d.dir / 'ca.pem', d.sealed_root)}\n"),
    "issuer's certificate": lambda d: jwt_key(d, d.sealed_root),
    "issuer's key": lambda d: jwt_key(d, sealed(d.public)),
}


@pytest.mark.parametrize("what", ENCRYPTED)
def test_nobody_is_asked_for_the_password_of_a_file(tls_daemon, authority, what):
    """Without a terminal OpenSSL asks standard input, which never says anything here."""
    d = tls_daemon(start=False)
    d.sealed_root = sealed(pem(authority.root))
    d.public = authority.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    ENCRYPTED[what](d)
    for mode in (["--check"], []):
        process = subprocess.Popen([KAITEND, *mode, "-c", d.conf], stdin=subprocess.PIPE, text=True,
                                   stderr=subprocess.PIPE, start_new_session=True)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        said = process.communicate()[1]
        assert process.returncode == 78 and "pass phrase" not in said, said


@pytest.mark.parametrize("key", [
    p256, ed25519.Ed25519PrivateKey.generate, lambda: rsa.generate_private_key(65537, 2048),
    lambda: ec.generate_private_key(ec.SECP384R1()),
], ids=["p256", "ed25519", "rsa", "p384"])
def test_keys(tls_daemon, authority, key):
    d = tls_daemon(start=False)
    renew(d, authority, key())
    d.start()
    for version in (V12, V13):
        with connect(d, context(authority, version)) as s:
            assert ask(s)[0] == 200


@pytest.mark.parametrize("begin, end, message", [
    (-9, -1, "has expired"), (1, 9, "not valid yet"), (-9, 2, "expires soon"),
])
def test_the_times_of_a_certificate_are_a_warning(tls_daemon, authority, begin, end, message):
    d = tls_daemon(start=False)
    cert, key = authority.issue("server", begin=begin * DAY, end=end * DAY)
    put(d.cert, cert.read_bytes())
    put(d.key, key.read_bytes())
    d.start()
    assert message in log_lines(d, "tls.certificate")[0]
    assert "level=warning" in log_lines(d, "tls.certificate")[0]


def test_a_chain_is_sent_whole(tls_daemon, authority):
    d = tls_daemon(start=False)
    middle_key, key = p256(), p256()
    middle = certificate("Middle", middle_key, (authority.root, authority.key), ca=True)
    put(d.cert, pem(certificate("server", key, (middle, middle_key)), middle))
    put(d.key, pem_of_key(key))
    d.start()
    with connect(d, context(authority)) as s:
        assert ask(s)[0] == 200
