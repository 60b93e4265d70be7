# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The HTTP door over TLS: versions, resumption, certificates of both sides and their exchange, and
everything that a peer may do to a handshake or to a connection."""

import contextlib
import datetime
import ipaddress
import json
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

from conftest import KAITEND, PATIENCE, brief_life, free_port, prompt, wait_for
from wire import read_all

x509 = pytest.importorskip("cryptography.x509", reason="python3-cryptography is missing")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
DAY = datetime.timedelta(days=1)
SECOND = datetime.timedelta(seconds=1)


# --- certificates ---------------------------------------------------------------------------------

def p256():
    return ec.generate_private_key(ec.SECP256R1())


def named(name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def certificate(name, key, issuer=None, begin=-DAY, end=30 * DAY, ca=False):
    """issuer: (certificate, key), or None for one that signs itself."""
    now = datetime.datetime.utcnow()
    parent, signer = issuer or (None, key)
    builder = (x509.CertificateBuilder().subject_name(named(name))
               .issuer_name(parent.subject if parent else named(name))
               .public_key(key.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(now + begin).not_valid_after(now + end)
               .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True))
    if not ca:
        names = [x509.DNSName("localhost"),
                 x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    plain = isinstance(signer, ed25519.Ed25519PrivateKey)
    return builder.sign(signer, None if plain else hashes.SHA256())


def pem_of_key(key, password=None):
    sealed = (serialization.BestAvailableEncryption(password) if password
              else serialization.NoEncryption())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)


def pem(*certificates):
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def put(path, data, mode=0o600):
    path.write_bytes(data)
    path.chmod(mode)
    return path


class Authority:
    """A root and what it signs, in files of one folder."""

    def __init__(self, folder, name="Root"):
        self.folder = folder
        self.key = p256()
        self.root = certificate(name, self.key, ca=True)
        self.path = put(folder / f"{name}.pem", pem(self.root))

    def issue(self, name, key=None, **times):
        """Writes NAME.pem and NAME.key; returns their paths."""
        key = key or p256()
        made = certificate(name, key, (self.root, self.key), **times)
        return (put(self.folder / f"{name}.pem", pem(made)),
                put(self.folder / f"{name}.key", pem_of_key(key)))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


# --- a daemon with a TLS door beside the plain one ------------------------------------------------

def door(port, cert, key, more="", name="tls"):
    return (f"[http {name}]\nlisten = 127.0.0.1:{port}\nauth = auth-token\nauth = auth-jwt\n"
            f"tls_certificate = {cert}\ntls_key = {key}\n{more}\n")


@pytest.fixture
def tls_daemon(own_daemon, authority):
    """A factory: a daemon whose TLS door is at .tls_port, with files of its own."""
    made = []

    def make(more="", start=True, **kwargs):
        d = own_daemon("storage-memory", **kwargs)
        made.append(d)
        d.tls_port = free_port()
        cert, key = authority.issue("server")
        d.cert = put(d.dir / "server.pem", cert.read_bytes())
        d.key = put(d.dir / "server.key", key.read_bytes())
        d.settings["extra"] = door(d.tls_port, d.cert, d.key, more)
        d.write_conf()
        return d.start() if start else d

    yield make
    for d in made:
        assert d.stop() in (0, None), d.tail()


@pytest.fixture(scope="module")
def shared(authority):
    """One daemon for what does not change it."""
    from conftest import Daemon
    d = Daemon("storage-memory")
    d.tls_port = free_port()
    cert, key = authority.issue("server")
    d.settings["extra"] = door(d.tls_port, cert, key)
    d.write_conf()
    d.start()
    yield d
    code = d.stop()
    text = d.log.read_text(errors="replace")
    d.remove()
    assert code == 0, text[-3000:]


def context(authority, version=None, ticket=True, client=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(authority.path)
    if version:
        c.minimum_version = c.maximum_version = version
    if not ticket:
        c.options |= ssl.OP_NO_TICKET
    if client:
        c.load_cert_chain(*client)
    return c


def connect(d, ctx, session=None, port=None):
    """What is cut off without a close_notify raises."""
    raw = socket.create_connection(("127.0.0.1", port or d.tls_port), timeout=PATIENCE)
    try:
        return ctx.wrap_socket(raw, server_hostname="localhost", session=session,
                               suppress_ragged_eofs=False)
    except BaseException:
        raw.close()
        raise


def read_answer(s, data=b""):
    """One answer; returns (status, body, what follows)."""
    while b"\r\n\r\n" not in data:
        part = s.recv(65536)
        assert part, data
        data += part
    head, _, data = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"\r\nContent-Length: (\d+)", head)[1])
    while len(data) < length:
        part = s.recv(65536)
        assert part, data
        data += part
    return int(head.split()[1]), data[:length], data[length:]


def ask(s, request=GET):
    s.sendall(request)
    status, body, rest = read_answer(s)
    assert rest == b""
    return status, body


class Wire:
    """TLS by hand: what goes over the wire, when, and in which pieces."""

    def __init__(self, d, ctx):
        self.raw = socket.create_connection(("127.0.0.1", d.tls_port), timeout=PATIENCE)
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = ctx.wrap_bio(self.into, self.out, server_hostname="localhost")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()

    def flush(self, piece=1 << 20):
        data = self.out.read()
        for i in range(0, len(data), piece):
            self.raw.sendall(data[i:i + piece])

    def pull(self):
        data = self.raw.recv(65536)
        self.into.write(data) if data else self.into.write_eof()

    def handshake(self, piece=1 << 20):
        while True:
            try:
                self.tls.do_handshake()
                return self.flush(piece)
            except ssl.SSLWantReadError:
                self.flush(piece)
                self.pull()

    def recv(self, n=65536):
        """b"" at the peer's close_notify; an end without one raises."""
        while True:
            try:
                return self.tls.read(n)
            except ssl.SSLWantReadError:
                self.pull()
            except ssl.SSLZeroReturnError:
                return b""

    def part(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()


# --- versions -------------------------------------------------------------------------------------

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("version", [V12, V13])
def test_both_versions_are_spoken(shared, authority, version):
    with connect(shared, context(authority, version)) as s:
        assert s.version() == version.name.replace("_", ".")
        assert ask(s) == (200, b'{"status":"ok"}\n')
        assert s.compression() is None


def test_tls_1_2_is_spoken_with_forward_secrecy_and_authenticated_encryption_only(shared,
                                                                                 authority):
    weak = context(authority, V12)
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA")
    with pytest.raises(ssl.SSLError):
        connect(shared, weak)
    with connect(shared, context(authority, V12)) as s:
        assert re.fullmatch(r"ECDHE-ECDSA-(AES\d+-GCM-SHA\d+|CHACHA20-POLY1305)", s.cipher()[0])


def test_tls_1_1_is_not_spoken(shared, authority):
    old = context(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        connect(shared, old)


def test_the_oldest_version_can_be_1_3(tls_daemon, authority):
    d = tls_daemon("tls_min_version = 1.3")
    with pytest.raises(ssl.SSLError, match="(?i)version"):
        connect(d, context(authority, V12))
    with connect(d, context(authority, V13)) as s:
        assert ask(s)[0] == 200


@pytest.mark.parametrize("offered, chosen", [
    (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), ([], None),
])
def test_alpn(shared, authority, offered, chosen):
    ctx = context(authority)
    if offered:
        ctx.set_alpn_protocols(offered)
    with connect(shared, ctx) as s:
        assert s.selected_alpn_protocol() == chosen
        assert ask(s)[0] == 200


def test_who_speaks_only_other_protocols_is_told(shared, authority):
    ctx = context(authority, V12)
    ctx.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match="(?i)application.protocol"):
        connect(shared, ctx)


def test_renegotiation_is_refused(shared):
    if not shutil.which("openssl"):
        pytest.skip("openssl is missing")
    client = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{shared.tls_port}", "-tls1_2"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    client.stdin.write(b"R\n")
    client.stdin.flush()
    try:
        # Its input stays open until then: at the end of that it leaves at once.
        assert any(b"no renegotiation" in line for line in client.stdout)
    finally:
        client.kill()
        client.communicate()


# --- resumption -----------------------------------------------------------------------------------

@pytest.mark.parametrize("version, ticket", [(V12, True), (V12, False), (V13, True)])
def test_sessions_are_resumed(shared, authority, version, ticket):
    ctx = context(authority, version, ticket)
    session = None
    for again in (False, True, True, True, True):
        with connect(shared, ctx, session) as s:
            assert ask(s)[0] == 200
            assert s.session_reused is again
            session = s.session
            s.sendall(LAST)
            read_all(s)


def test_another_door_does_not_resume(tls_daemon, authority):
    d = tls_daemon(start=False)
    other = free_port()
    d.settings["extra"] += door(other, d.cert, d.key, name="other")
    d.write_conf()
    d.start()
    ctx = context(authority, V12)
    with connect(d, ctx) as s:
        session = s.session
    with connect(d, ctx, session, port=other) as s:
        assert not s.session_reused
        assert ask(s)[0] == 200


# --- exchange of certificates ---------------------------------------------------------------------

def serial(d, ctx):
    with connect(d, ctx) as s:
        return int(s.getpeercert()["serialNumber"], 16)


def log_lines(d, event):
    return [line for line in d.log.read_text(errors="replace").splitlines()
            if f"event={event} " in line]


def reload(d, event, count=1):
    before = len(log_lines(d, event))
    d.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(log_lines(d, event)) >= before + count, event)
    return log_lines(d, event)[-1]


def renew(d, authority, key=None):
    cert, private = authority.issue("server", key)
    put(d.cert, cert.read_bytes())
    put(d.key, private.read_bytes())
    return x509.load_pem_x509_certificate(cert.read_bytes()).serial_number


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


# --- peers that do not behave ---------------------------------------------------------------------

def test_plain_http_is_told_that_this_is_https(shared):
    with socket.create_connection(("127.0.0.1", shared.tls_port), timeout=PATIENCE) as s:
        s.sendall(GET)
        head, _, body = read_all(s).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Content-Type: application/problem+json" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["detail"] == "this port speaks HTTPS only"


@pytest.mark.parametrize("data", [
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60000,
    b"SSH-2.0-x\r\n", b"\0" * 70000, b"\x80\x2e\x01\x03\x01",
    b"\x16\x03\x01\xff\xff" + b"x" * 70000,
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x17\x03\x03\x00\x10" + b"y" * 16,
], ids=["body", "ssh", "zeros", "sslv2", "length", "short hello", "alert", "data"])
def test_what_is_not_tls_ends_the_connection(shared, data):
    with socket.create_connection(("127.0.0.1", shared.tls_port), timeout=PATIENCE) as s:
        with contextlib.suppress(ConnectionError):
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            read_all(s)
    assert shared.http().request("GET", "/healthz").status == 200


def hello(authority):
    out = ssl.MemoryBIO()
    tls = context(authority).wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


@pytest.fixture(scope="module")
def hasty(authority):
    """One whose deadlines pass at once."""
    from conftest import Daemon
    d = Daemon("storage-memory")
    d.tls_port = free_port()
    cert, key = authority.issue("server")
    d.settings["extra"] = door(d.tls_port, cert, key, "first_byte_timeout = 1s\n"
                               "head_timeout = 1s\nidle_timeout = 1s\nbody_timeout = 1s")
    d.write_conf()
    d.start()
    yield d
    assert d.stop() == 0
    d.remove()


@pytest.mark.parametrize("pause", [PATIENCE, 0.02])
def test_a_slow_handshake_ends_at_its_deadline(hasty, authority, pause):
    """No byte moves the deadline."""
    data = hello(authority)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", hasty.tls_port), timeout=pause) as s:
        i = 0
        while time.monotonic() < began + PATIENCE:
            try:
                s.sendall(data[i:i + 1])
                i += 1
                if not s.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert 0.5 < time.monotonic() - began < PATIENCE


def begun_in_time(d, ctx, data=b""):
    """A connection whose handshake was over, and this sent, long before its first deadline."""
    def begin():
        with contextlib.suppress(OSError):
            s = connect(d, ctx)
            s.sendall(data)
            return s

    return prompt(begin, 0.6)


def test_silence_behind_the_handshake_ends_it_too(hasty, authority):
    ctx = context(authority)
    with begun_in_time(hasty, ctx) as s:
        began = time.monotonic()
        assert read_all(s) == b""
    assert 0.2 < time.monotonic() - began < PATIENCE


def test_the_other_deadlines_hold_over_tls(hasty, authority):
    ctx = context(authority)
    with begun_in_time(hasty, ctx, GET[:20]) as s:
        assert read_all(s).startswith(b"HTTP/1.1 408 ")
    with begun_in_time(hasty, ctx, GET) as s:
        status, _, rest = read_answer(s)
        assert (status, rest) == (200, b"")
        began = time.monotonic()
        assert read_all(s) == b""
        assert 0.4 < time.monotonic() - began < PATIENCE


def test_abrupt_ends(shared, authority):
    """At every stage, with FIN and with RST; the door serves on and forgets them."""
    ctx = context(authority)
    reset = struct.pack("ii", 1, 0)
    for rst in (False, True):
        for stage in range(6):
            with Wire(shared, ctx) as w:
                if rst:
                    w.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                if stage == 1:
                    w.raw.sendall(hello(authority)[:50])
                elif stage == 2:
                    w.raw.sendall(hello(authority))
                elif stage > 2:
                    w.handshake()
                if stage > 3:
                    w.tls.write(GET * 50)
                    data = w.out.read()
                    w.raw.sendall(data if stage == 5 else data[:-9])
    with connect(shared, ctx) as s:
        assert ask(s)[0] == 200


def test_a_forged_record_ends_the_connection_with_an_alert(shared, authority):
    with Wire(shared, context(authority)) as w:
        w.handshake()
        w.tls.write(GET)
        data = bytearray(w.out.read())
        data[-1] ^= 1
        w.raw.sendall(data)
        with pytest.raises(ssl.SSLError, match="(?i)bad.record.mac"):
            while w.recv():
                pass


# --- connections ----------------------------------------------------------------------------------

@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("version", [V12, V13])
def test_half_closed(shared, authority, version, fin):
    """What was asked before the peer's close_notify is answered behind it, and ours follows."""
    with Wire(shared, context(authority, version)) as w:
        w.handshake()
        w.tls.write(GET * 3)
        w.part()
        w.flush()
        if fin:
            w.raw.shutdown(socket.SHUT_WR)
        data = b""
        while part := w.recv():
            data += part
        assert data.count(b"HTTP/1.1 200 OK\r\n") == 3


@pytest.mark.parametrize("version", [V12, V13])
def test_an_end_is_said(shared, authority, version):
    with connect(shared, context(authority, version)) as s:
        s.sendall(LAST)
        assert read_all(s).startswith(b"HTTP/1.1 200 ")
    with connect(shared, context(authority, version)) as s:
        s.sendall(b"nonsense\r\n\r\n" + b"x" * 40000)
        assert read_all(s).startswith(b"HTTP/1.1 400 ")


def test_sixty_four_connections_at_once(shared, authority):
    ctx = context(authority)
    with contextlib.ExitStack() as stack:
        all_of_them = [stack.enter_context(connect(shared, ctx)) for _ in range(64)]
        for _ in range(10):
            for s in all_of_them:
                s.sendall(GET)
            for s in all_of_them:
                assert read_answer(s)[0] == 200


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_records_in_any_pieces(shared, authority, piece):
    with Wire(shared, context(authority)) as w:
        w.handshake(piece)
        for record in (GET, GET * 20, GET[:9], GET[9:] + LAST):
            w.tls.write(record)
        w.flush(piece)
        data = b""
        while part := w.recv():
            data += part
        assert data.count(b"HTTP/1.1 200 OK\r\n") == 23


def body_request(d, n, i):
    body = json.dumps({"name": f"Farm {i}"})[:-1].encode() + b" " * n + b"}"
    head = (f"POST /api/service-accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {d.jwt()}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    return head.encode() + body


def test_big_bodies_one_behind_the_other(shared, authority):
    """More than the daemon takes at a time, so that OpenSSL keeps what the kernel does not tell."""
    requests = [body_request(shared, n, i)
                for i, n in enumerate([100, 400000, 20, 70000, 16000, 900000, 1])]
    with connect(shared, context(authority)) as s:
        # One thread: Python's TLS sockets do not bear two, and the answers are small.
        s.sendall(b"".join(requests))
        rest, statuses = b"", []
        for _ in requests:
            status, body, rest = read_answer(s, rest)
            statuses.append(status)
        assert statuses == [201] * len(requests)
        assert rest == b"" and ask(s)[0] == 200


def test_the_drain_ends_connections_in_form(tls_daemon, authority):
    d = tls_daemon()
    with connect(d, context(authority)) as s, connect(d, context(authority)) as silent, \
            socket.create_connection(("127.0.0.1", d.tls_port), timeout=PATIENCE) as begun:
        assert ask(s)[0] == 200
        begun.sendall(hello(authority)[:30])
        d.process.send_signal(signal.SIGTERM)
        assert read_all(s) == b""
        assert read_all(silent) == b""
        assert begun.recv(1) == b""
    assert d.process.wait(PATIENCE) == 0


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
