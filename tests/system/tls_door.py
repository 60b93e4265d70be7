# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A daemon whose HTTP door speaks TLS: certificates of an authority of the test, fixtures that start the
daemon, and clients of it."""

import contextlib
import datetime
import hmac
import ipaddress
import itertools
import re
import signal
import socket
import ssl

import pytest

from conftest import PATIENCE, Daemon, free_port, wait_for

x509 = pytest.importorskip("cryptography.x509", reason="python3-cryptography is missing")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: E402
from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: E402

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
DAY = datetime.timedelta(days=1)
SECOND = datetime.timedelta(seconds=1)
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


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
        self.heard = b""

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
        self.heard += data
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


def prf(secret, label, seed, n):
    """RFC 5246 section 5, with SHA-256."""
    data, a = b"", label + seed
    while len(data) < n:
        a = hmac.digest(secret, a, "sha256")
        data += hmac.digest(secret, a + label + seed, "sha256")
    return data[:n]


def hellos(w, keys, first):
    """Without end: records of the client of this handshake of TLS 1.2, each of which asks for a new
    one. keys: its key log; first: how many records it will have sent by then."""
    _, ours, master = next(line for line in keys.read_text().splitlines()
                           if line.startswith("CLIENT_RANDOM ")).split()
    theirs = w.heard[11:43]  # behind the headers of record and ServerHello, and the version
    block = prf(bytes.fromhex(master), b"key expansion", theirs + bytes.fromhex(ours), 40)
    seal, salt, head = AESGCM(block[:16]).encrypt, block[32:36], b"\x16\3\3\0"
    for i in itertools.count(first):
        number = i.to_bytes(8, "big")
        yield head + b"\x1c" + number + seal(salt + number, b"\1\0\0\0", number + head + b"\4")


# --- certificates that are exchanged --------------------------------------------------------------

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
