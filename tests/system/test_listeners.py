# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""One daemon, four HTTP listeners and two sockets, each with limits, certificates, demands on
clients and a chain of auth plugins of its own: nothing of one holds for another."""

import collections
import contextlib
import http.client
import pathlib
import re
import signal
import socket
import ssl

import pytest

from conftest import (KAITEND, PATIENCE, Daemon, Http, Process, Rpc, free_port, reads_proc,
                      refused, wait_for)
from metrics import scrape
from tls_door import V12, V13, Authority, ask, connect, context, log_lines, put, reload

BIG = {"name": "n" * 1000, "slug": "s" * 3000}  # no slug, but a body of 4 KB


class House:
    """The daemon, and what its callers need."""

    def __init__(self, folder):
        self.servers, self.clients = Authority(folder, "Servers"), Authority(folder, "Clients")
        self.d = d = Daemon("storage-memory", daemon="loops = 3", http="max_body = 64K")
        self.ports = {name: free_port() for name in ("tight", "tls", "mutual")}
        self.certs = {}
        for name in ("tls", "mutual"):
            cert, key = self.servers.issue(name)
            self.certs[name] = (put(d.dir / f"{name}.pem", cert.read_bytes()),
                                put(d.dir / f"{name}.key", key.read_bytes()))
        self.second_socket = str(d.dir / "second.sock")
        d.settings["extra"] = f"""
[http tight]
listen = 127.0.0.1:{self.ports["tight"]}
auth = auth-token
max_body = 2K
max_connections_per_peer = 2
first_byte_timeout = 300ms
metrics = none
[http tls]
listen = 127.0.0.1:{self.ports["tls"]}
auth = auth-jwt
tls_certificate = {self.certs["tls"][0]}
tls_key = {self.certs["tls"][1]}
max_body = 8K
[http mutual]
listen = 127.0.0.1:{self.ports["mutual"]}
auth = auth-jwt
auth = auth-token
tls_certificate = {self.certs["mutual"][0]}
tls_key = {self.certs["mutual"][1]}
tls_client_ca = {self.clients.path}
tls_min_version = 1.3
[socket second]
path = {self.second_socket}
mode = 0600
auth = auth-token
max_connections_per_peer = 1
max_requests_in_flight = 2
"""
        d.write_conf()
        d.start()
        caller = d.http()
        slug = caller.call("account.create", name="Farm").body["slug"]
        self.token = caller.call("token.create", serviceAccountSlug=slug, name="t",
                                 scopes=["read:tokens"]).body["token"]
        self.jwt = d.jwt()
        caller.close()

    def plain(self, name, token):
        return Http(self.ports[name], token)

    def tls(self, name, token, **how):
        client = Http(self.ports[name], token)
        client.connection.sock = connect(self.d, context(self.servers, **how),
                                         port=self.ports[name])
        return client


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    h = House(tmp_path_factory.mktemp("house"))
    yield h
    code = h.d.stop()
    text = h.d.log.read_text(errors="replace")
    h.d.remove()
    assert code == 0, text[-2000:]


def test_each_has_its_own_chain(house):
    good = house.clients.issue("good")
    mutual = dict(client=good)
    for name, client, known in (
            ("tight, token", house.plain("tight", house.token), True),
            ("tight, jwt", house.plain("tight", house.jwt), False),
            ("tls, token", house.tls("tls", house.token), False),
            ("tls, jwt", house.tls("tls", house.jwt), True),
            ("mutual, token", house.tls("mutual", house.token, **mutual), True),
            ("mutual, jwt", house.tls("mutual", house.jwt, **mutual), True)):
        answer = client.request("GET", "/whoami")
        assert answer.status == (200 if known else 401), name
        client.close()
    peer, second = Rpc(house.d.socket_path), Rpc(house.second_socket)
    assert peer.call("whoami").body["kind"] == "peer"
    refused(second.call("whoami"), 401, "Auth.PeerNotAllowed")
    second.token = house.token
    assert second.call("whoami").body["kind"] == "token"
    second.token = house.jwt
    assert second.call("whoami").status == 401
    peer.close()
    second.close()


def test_each_has_its_own_limit_of_bodies(house):
    path = "/service-accounts"
    tight, tls = house.plain("tight", house.token), house.tls("tls", house.jwt)
    answer = tight.request("POST", path, BIG)
    assert answer.status == 413 and "limit=2048 bytes" in answer.body["detail"]
    assert tls.request("POST", path, BIG).status == 422
    assert house.d.http(house.jwt).request("POST", path, BIG).status == 422
    assert tls.request("POST", path, {"name": "n" * 9000}).status == 413
    tight.close()
    tls.close()


def test_each_has_its_own_certificate_and_demands(house):
    serials = {}
    good = house.clients.issue("good")
    for name, how in (("tls", {}), ("mutual", dict(client=good))):
        with connect(house.d, context(house.servers, **how), port=house.ports[name]) as s:
            serials[name] = s.getpeercert()["serialNumber"]
            assert ask(s)[0] == 200
    assert serials["tls"] != serials["mutual"]
    with connect(house.d, context(house.servers, V12), port=house.ports["tls"]) as s:
        assert ask(s)[0] == 200
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(house.d, context(house.servers, V12, client=good), port=house.ports["mutual"])
    for wrong in (None, Authority(house.d.dir, "Foreign").issue("foreign")):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with connect(house.d, context(house.servers, V13, client=wrong),
                         port=house.ports["mutual"]) as s:
                ask(s)
        # What the other door does not ask for, it does not look at either.
        with connect(house.d, context(house.servers, V13, client=wrong),
                     port=house.ports["tls"]) as s:
            assert ask(s)[0] == 200


def test_a_session_of_one_is_none_of_another(house):
    """Least of all where the other one asks for a certificate."""
    ctx = context(house.servers, V13)
    with connect(house.d, ctx, port=house.ports["tls"]) as s:
        assert ask(s)[0] == 200
        session = s.session
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with connect(house.d, ctx, session, port=house.ports["mutual"]) as s:
            ask(s)
    with connect(house.d, ctx, session, port=house.ports["tls"]) as s:
        assert ask(s)[0] == 200 and s.session_reused


def let_in(path):
    with contextlib.suppress(EOFError, OSError):
        return Rpc(path)


def test_each_counts_its_own_connections(house):
    """One that is full is full for itself."""
    inside = [socket.create_connection(("127.0.0.1", house.ports["tight"])) for _ in range(2)]
    with socket.create_connection(("127.0.0.1", house.ports["tight"]), timeout=PATIENCE) as third:
        assert third.recv(1) == b""
    only = wait_for(lambda: let_in(house.second_socket), "whoever was there before to be gone")
    with pytest.raises((EOFError, OSError)):
        Rpc(house.second_socket)
    assert house.d.http(house.jwt).call("whoami").ok
    tls = house.tls("tls", house.jwt)
    assert tls.request("GET", "/whoami").status == 200
    first = Rpc(house.d.socket_path)
    assert first.call("whoami").ok and only.call("kaiten.ping").ok
    for s in inside:  # and this one alone has no patience with silence
        s.settimeout(PATIENCE)
        assert s.recv(1) == b""
        s.close()
    assert tls.request("GET", "/whoami").status == 200
    for client in (only, first, tls):
        client.close()


def test_the_sockets_have_modes_of_their_own(house):
    modes = {p: pathlib.Path(p).stat().st_mode & 0o777
             for p in (house.d.socket_path, house.second_socket)}
    assert list(modes.values()) == [0o666, 0o600]


def test_a_certificate_of_one_is_exchanged_and_the_others_go_on(house):
    """All are read again; the one that changed serves the new one, and both still what they ask."""
    good = dict(client=house.clients.issue("good"))

    def serial(name, **how):
        with connect(house.d, context(house.servers, **how), port=house.ports[name]) as s:
            assert ask(s)[0] == 200
            return s.getpeercert()["serialNumber"]

    before = {"tls": serial("tls"), "mutual": serial("mutual", **good)}
    kept = house.tls("mutual", house.token, **good)
    cert, key = house.servers.issue("tls")
    put(house.certs["tls"][0], cert.read_bytes())
    put(house.certs["tls"][1], key.read_bytes())
    reload(house.d, "tls.renewed", count=2)
    assert serial("tls") != before["tls"] and serial("mutual", **good) == before["mutual"]
    assert kept.request("GET", "/whoami").status == 200
    with pytest.raises((ssl.SSLError, ConnectionError)):
        serial("mutual")
    kept.close()


@pytest.mark.parametrize("version", [V12, V13])
def test_every_loop_resumes_what_another_began(house, version):
    """Keys of tickets belong to the listener, not to a loop: whichever loop takes a connection, it
    is resumed, until each of them was awake for some."""
    tasks = [t for t in pathlib.Path(f"/proc/{house.d.process.pid}/task").iterdir()
             if "loop" in (t / "comm").read_text()]
    assert len(tasks) == 3

    def turns():
        return [sum(int(line.split()[1]) for line in (t / "status").read_text().splitlines()
                    if "ctxt_switches" in line) for t in tasks]

    ctx = context(house.servers, version)
    with connect(house.d, ctx, port=house.ports["tls"]) as s:
        assert ask(s)[0] == 200
        session = s.session
    before, held = turns(), []

    def round_of_clients():
        for _ in range(12):
            held.append(connect(house.d, ctx, session, port=house.ports["tls"]))
            assert ask(held[-1])[0] == 200 and held[-1].session_reused
        return all(b > a + 4 for a, b in zip(before, turns()))

    wait_for(round_of_clients, "every loop to have served")
    for s in held:
        s.close()


def connections_of_each_loop(d):
    """By what the epoll of each looks at: connected Unix sockets."""
    proc, counts = pathlib.Path(f"/proc/{d.process.pid}"), collections.Counter()
    connected = {f"socket:[{line.split()[6]}]"
                 for line in pathlib.Path("/proc/net/unix").read_text().splitlines()
                 if line.split()[5] == "03"}
    with contextlib.suppress(FileNotFoundError):  # one is closed just now
        for info in (proc / "fdinfo").iterdir():
            for line in info.read_text().splitlines():
                if line.startswith("tfd:"):
                    fd = proc / "fd" / line.split()[1]
                    counts[info.name] += str(fd.readlink()) in connected
        return sorted(n for n in counts.values() if n)
    return []


@reads_proc
def test_a_connection_goes_where_the_fewest_are(own_daemon):
    """However many come at once, and whoever is awake: no loop has more than its share."""
    d = own_daemon("storage-memory", daemon="loops = 3").start()
    reader, sock = d.http(""), dict(listener=d.socket_path)

    def are_even(each):
        wait_for(lambda: connections_of_each_loop(d) == [each] * 3, f"{each} on each loop")

    held = []
    for _ in range(30):
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].connect(d.socket_path)
    # One after the other they make up for loops that looked at the same moment.
    clients = [Rpc(d.socket_path) for _ in range(9)]
    are_even(13)
    for s in held[:20]:  # whichever loops they were on
        s.close()
    wait_for(lambda: scrape(reader).get("kaitend_connections", **sock) == 19, "them to be gone")
    clients += [Rpc(d.socket_path) for _ in range(20)]
    are_even(13)
    for client in clients:
        assert client.call("whoami").ok
        client.close()


def test_the_log_names_all_of_them(house):
    lines = log_lines(house.d, "listening")
    assert len(lines) == 6
    for name in [f"127.0.0.1:{p}" for p in (house.d.port, *house.ports.values())] + [
            house.d.socket_path, house.second_socket]:
        assert any(name in line for line in lines), name


def test_each_is_named_when_something_is_wrong_with_it(own_daemon):
    """Two doors of one kind: the line of the file tells which."""
    d = own_daemon("storage-memory")
    d.settings["extra"] = (f"[http one]\nlisten = 127.0.0.1:{free_port()}\nauth = auth-token\n"
                           f"[http two]\nlisten = 127.0.0.1:{free_port()}\nauth = auth-token\n"
                           "tls_min_version = 1.3\n")
    d.write_conf()
    d.spawn()
    assert d.process.wait(PATIENCE) == 78
    line = next(n for n, text in enumerate(d.conf.read_text().splitlines(), 1)
                if "tls_min_version" in text)
    assert f"{d.conf}:{line}: [http] tls_min_version: it needs tls_certificate" in d.tail()


def test_two_doors_with_one_address_do_not_start(own_daemon):
    d = own_daemon("storage-memory")
    d.settings["extra"] = f"[http again]\nlisten = 127.0.0.1:{d.port}\nauth = auth-token\n"
    d.write_conf()
    d.spawn()
    assert d.process.wait(PATIENCE) == 69
    assert f"127.0.0.1:{d.port}" in d.tail()


def wrong_from(port, source, family=socket.AF_INET):
    """The status for a wrong credential from that address."""
    connection = http.client.HTTPConnection("::1" if family == socket.AF_INET6 else "127.0.0.1",
                                            port, PATIENCE, source_address=(source, 0))
    with contextlib.closing(connection):
        connection.request("GET", "/whoami", headers={"Authorization": "Bearer nonsense"})
        return connection.getresponse().status


def test_who_comes_by_ipv4_to_a_socket_of_both_families_is_told_apart(own_daemon):
    """As the service manager makes it for ListenStream=PORT."""
    port = free_port()
    d = own_daemon("storage-memory", daemon="failure_rate = 3/h",
                   extra=f"[http both]\nlisten = [::]:{port}\nauth = auth-jwt\n")
    with socket.socket(socket.AF_INET6) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            s.bind(("::", port))
        except OSError as e:
            pytest.skip(f"no IPv6 here: {e}")
        s.listen()
        script = f'exec 3<&{s.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        d.process = Process(["bash", "-c", script, "bash", KAITEND, "-c", d.conf], d.log,
                            pass_fds=(s.fileno(),))
        wait_for(lambda: "event=ready" in d.log.read_text(), "kaitend to be ready")
    assert [wrong_from(port, "127.0.0.1") for _ in range(5)] == [401] * 3 + [429] * 2
    assert wrong_from(port, "127.0.0.2") == 401, "another address"
    assert wrong_from(port, "::1", socket.AF_INET6) == 401
    assert wrong_from(port, "127.0.0.1") == 429
    assert re.search(r"event=caller.refused .*peer=127\.0\.0\.2:\d+", d.log.read_text())
    assert d.stop() == 0


def test_all_of_them_drain(own_daemon, tmp_path):
    """SIGTERM with a connection on each: each ends, the exit is 0."""
    h = House(tmp_path)
    open_ones = [h.plain("tight", h.token), h.tls("tls", h.jwt),
                 h.tls("mutual", h.token, client=h.clients.issue("good")), h.d.http(h.jwt)]
    for client in open_ones:
        assert client.request("GET", "/whoami").status == 200
    rpcs = [Rpc(h.d.socket_path), Rpc(h.second_socket)]
    try:
        h.d.process.send_signal(signal.SIGTERM)
        assert h.d.process.wait(PATIENCE) == 0
        for rpc in rpcs:
            with pytest.raises((EOFError, OSError)):
                rpc.call("kaiten.ping")
    finally:
        h.d.remove()
