# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""/metrics: the format, who may read it, and that the numbers are true."""

import secrets
import shutil
import subprocess

import pytest

from conftest import PATIENCE, Http, free_port, refused, wait_for
from metrics import scrape

OPEN = ""  # no token


@pytest.fixture
def own(own_daemon):
    return own_daemon("storage-memory", daemon="loops = 2").start()


def test_format_and_names(daemon):
    """The reader is strict; promtool is asked, too, where there is one."""
    client = daemon.http(OPEN)
    metrics = scrape(client)
    assert {"kaitend_build_info", "kaitend_requests_total", "kaitend_connections",
            "process_resident_memory_bytes", "kaitend_index_tokens"} <= set(metrics.families)
    assert metrics.get("kaitend_serving") == 1 and metrics.get("kaitend_quarantined") == 0
    assert client.request("GET", "/api/metrics").status == 200
    head = client.request("HEAD", "/metrics")
    assert (head.status, head.body) == (200, b"") and int(head.headers["Content-Length"]) > 1000
    if tool := shutil.which("promtool"):
        text = client.request("GET", "/metrics").body
        subprocess.run([tool, "check", "metrics"], input=text, check=True)


def test_each_answer_is_counted_once(own):
    """By door, operation and status: over several connections, and so over the loops."""
    before = scrape(own.http(OPEN))
    assert before.get("kaitend_requests_total", operation="whoami") == 0
    for _ in range(7):
        assert own.http().call("whoami").ok
    for _ in range(5):
        assert own.http("nonsense").call("whoami").status == 401
    for _ in range(3):
        rpc = own.rpc()
        assert rpc.call("whoami").ok and not rpc.call("no.such").ok
        rpc.close()
    assert own.http().call("account.create", name="a").ok
    assert own.http().request("GET", "/nothing").status == 404
    m = scrape(own.http(OPEN))
    http = dict(door="http", operation="whoami")
    assert m.get("kaitend_requests_total", status="200", **http) == 7
    assert m.get("kaitend_requests_total", status="401", **http) == 5
    assert m.get("kaitend_requests_total", door="socket", operation="whoami") == 3
    assert m.get("kaitend_requests_total", door="socket", operation="none", status="404") == 3
    assert m.get("kaitend_requests_total", door="http", operation="none") == 1
    assert m.get("kaitend_requests_total", operation="account.create", status="200") == 1
    name = "kaitend_request_duration_seconds"
    assert m.get(name, "_count", **http) == m.get(name, "_bucket", le="+Inf", **http) == 12
    assert m.get("kaitend_store_commits_total") >= 1 and m.get("kaitend_store_batches_total") >= 1


def test_refusals_of_the_framing_count_as_well(own):
    client = own.http(OPEN)
    assert client.request("GET", "/healthz", headers={"Expect": "a miracle"}).status == 417
    m = scrape(own.http(OPEN))
    assert m.get("kaitend_requests_total", operation="none", status="417") == 1


def test_connections_are_counted(own_daemon):
    own = own_daemon("storage-memory", sock="max_connections_per_peer = 3").start()
    sock = dict(listener=own.socket_path)
    reader = own.http(OPEN)
    before = scrape(reader).get("kaitend_connections_accepted_total", **sock)
    inside = [own.rpc() for _ in range(3)]
    with pytest.raises((EOFError, OSError)):
        own.rpc()
    m = scrape(reader)
    assert m.get("kaitend_connections", **sock) == 3
    assert m.get("kaitend_connections_accepted_total", **sock) == before + 3
    assert m.get("kaitend_connections_refused_total", reason="crowded", **sock) == 1
    assert m.get("kaitend_connections_refused_total", reason="full", **sock) == 0
    for rpc in inside:
        rpc.close()
    wait_for(lambda: scrape(reader).get("kaitend_connections", **sock) == 0, "none to be left")


def test_the_index_is_counted(own):
    client, reader = own.http(), own.http(OPEN)
    slug = client.call("account.create", name="Farm").body["slug"]
    for i in range(4):
        assert client.call("token.create", serviceAccountSlug=slug, name=f"t{i}",
                           scopes=["read:licenses"]).ok
    m = scrape(reader)
    assert m.get("kaitend_index_tokens") == 4 and m.get("kaitend_index_accounts") == 1


def test_nothing_is_named(own):
    """Not who calls, not what there is, not what was asked for: anybody may read this."""
    org, sub, name = (secrets.token_hex(8) for _ in range(3))
    client = own.http(own.jwt(org=org, sub=sub))
    slug = client.call("account.create", name=name).body["slug"]
    token = client.call("token.create", serviceAccountSlug=slug, name=name + "t",
                        scopes=["read:licenses"]).body["token"]
    assert own.http(token).call("whoami").ok
    assert client.request("GET", "/" + name).status == 404
    assert client.request("BREW", "/metrics").status == 405
    text = own.http(OPEN).request("GET", "/metrics").body.decode()
    for word in (org, sub, name, slug, token, token[4:], "BREW"):
        assert word not in text


def test_each_listener_says_who_may_read(own_daemon):
    """any, known and none at once; what is not there is said to known callers only, as always."""
    ports = {word: free_port() for word in ("any", "known", "none")}
    own = own_daemon("storage-memory", extra="".join(
        f"[http {word}]\nlisten = 127.0.0.1:{port}\nauth = auth-jwt\nmetrics = {word}\n"
        for word, port in ports.items())).start()
    jwt = own.jwt(scopes=())

    def ask(word, token, path="/metrics", method="GET"):
        return Http(ports[word], token).request(method, path)

    assert ask("any", OPEN).status == 200 and ask("any", "nonsense").status == 200
    refused(ask("known", OPEN), 401, "Auth.MissingAuthorizationHeader")
    refused(ask("known", "nonsense"), 401, "Auth.InvalidToken")
    assert ask("known", jwt).status == 200 and ask("known", jwt, "/api/metrics").status == 200
    for path in ("/metrics", "/api/metrics", "/metrics/"):
        refused(ask("none", OPEN, path), 401, "Auth.MissingAuthorizationHeader")
        for method in ("GET", "POST", "BREW"):
            answer = ask("none", jwt, path, method)
            refused(answer, 404, "NOT_FOUND", detail=f"no route for {method} {path}")
            assert "Allow" not in answer.headers
    refused(ask("any", OPEN, "/metrics/"), 401, "Auth.MissingAuthorizationHeader")
    # What one of them counts, all of them show.
    m = scrape(Http(ports["known"], jwt))
    assert m.get("kaitend_connections", listener=f"127.0.0.1:{ports['none']}") >= 0
    assert len(m.families["kaitend_connections"].samples) == 5


def test_a_wrong_word_refuses_the_start(own_daemon):
    own = own_daemon("storage-memory", http="metrics = some").spawn()
    assert own.process.wait(PATIENCE) == 78
    assert 'metrics: \\"some\\"; accepted: any, known, none' in own.tail()


def test_it_can_be_read_while_all_workers_are_busy(own_daemon):
    """What is asked for in trouble must not wait for what the trouble is."""
    own = own_daemon("storage-memory", daemon="workers = 1\nqueue_max = 1").start()
    clients = [own.rpc() for _ in range(16)]
    for i in range(50):
        for client in clients:
            client.send("account.list", {})
        assert scrape(own.http(OPEN)).get("kaitend_serving") == 1
        for client in clients:
            client.receive()
    m = scrape(own.http(OPEN))
    assert m.get("kaitend_requests_total", operation="account.list") == 50 * 16
    assert m.get("kaitend_requests_total", operation="metrics", status="200") >= 50
