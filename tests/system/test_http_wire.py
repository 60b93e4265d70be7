# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The HTTP door as bytes: what is refused, how answers are framed, what gateways rely on."""

import json
import re
import shutil
import socket
import subprocess
import time

import pytest

from conftest import free_port, jwt_claims, wait_for

HOST = b"Host: a\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"


def connect(daemon, timeout=10):
    s = socket.create_connection(("127.0.0.1", daemon.port), timeout=timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def read_all(s):
    data = b""
    while True:
        part = s.recv(65536)
        if not part:
            return data
        data += part


def answers(data, heads=()):
    """Cuts a stream at each answer's own length: a list of (status, headers, body)."""
    found = []
    while data:
        head, mark, data = data.partition(b"\r\n\r\n")
        assert mark and head.startswith(b"HTTP/1.1 "), head
        lines = head.decode().split("\r\n")
        status = int(lines[0].split()[1])
        headers = dict(line.split(": ", 1) for line in lines[1:])
        length = 0 if len(found) in heads else int(headers.get("Content-Length", 0))
        found.append((status, headers, data[:length]))
        data = data[length:]
    return found


def ask(daemon, data, half_close=True, heads=()):
    with connect(daemon) as s:
        s.sendall(data)
        if half_close:
            s.shutdown(socket.SHUT_WR)
        return answers(read_all(s), heads)


def problem(answer):
    status, headers, body = answer
    assert headers["Content-Type"] == "application/problem+json"
    assert body.endswith(b"}\n")
    parsed = json.loads(body)
    order = ["type", "title", "status", "detail", "instance", "code", "errorId", "errors"]
    assert list(parsed) == [m for m in order if m in parsed]
    assert parsed["status"] == status
    return parsed


def smuggle(*lines, body=NEXT, method=b"POST", version=b"1.1"):
    head = b"".join(line + b"\r\n" for line in lines)
    return method + b" /healthz HTTP/" + version + b"\r\n" + HOST + head + b"\r\n" + body


LENGTH = b"Content-Length: %d" % len(NEXT)
CHUNKED = b"Transfer-Encoding: chunked"

REFUSED = {
    "two lengths": smuggle(b"Content-Length: 0", LENGTH),
    "two equal lengths": smuggle(LENGTH, LENGTH),
    "list of lengths": smuggle(b"Content-Length: 3, 3"),
    "space before the colon": smuggle(LENGTH.replace(b":", b" :")),
    "tab before the colon": smuggle(LENGTH.replace(b":", b"\t:")),
    "plus": smuggle(LENGTH.replace(b": ", b": +")),
    "minus": smuggle(b"Content-Length: -0"),
    "hexadecimal": smuggle(b"Content-Length: 0x3"),
    "eleven digits": smuggle(b"Content-Length: 00000000003"),
    "NUL in a length": smuggle(b"Content-Length: 3\0 9"),
    "length and chunks": smuggle(LENGTH, CHUNKED, body=b"0\r\n\r\n" + NEXT),
    "chunks and length": smuggle(CHUNKED, LENGTH, body=b"0\r\n\r\n" + NEXT),
    "xchunked": smuggle(b"Transfer-Encoding: xchunked"),
    "identity": smuggle(b"Transfer-Encoding: identity"),
    "chunked twice": smuggle(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + NEXT),
    "two codings": smuggle(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + NEXT),
    "control before chunked": smuggle(b"Transfer-Encoding: \vchunked"),
    "chunked, spaced": smuggle(b"Transfer-Encoding : chunked", LENGTH),
    "chunked in 1.0": smuggle(CHUNKED, body=b"0\r\n\r\n" + NEXT, version=b"1.0"),
    "NUL at a line's begin": smuggle(b"\0"),
    "NUL in a name": smuggle(b"A\0: b"),
    "folded coding": smuggle(b"Transfer-Encoding:", b" chunked", LENGTH),
    "folded credential": smuggle(b"Authorization: Bearer", b" x"),
    "two credentials": smuggle(b"Authorization: Bearer a", b"Authorization: Bearer b"),
    "two hosts": smuggle(b"Host: b"),
    "no name": smuggle(b": b"),
    "control in a name": smuggle(b"A\x01: b"),
    "bare CR": smuggle(b"A: b\rContent-Length: 3"),
    "bare LF": smuggle(b"A: b\nContent-Length: 3"),
    "DEL in a value": smuggle(b"A: \x7f"),
    "chunk 0x3": smuggle(CHUNKED, body=b"0x3\r\nabc\r\n0\r\n\r\n" + NEXT),
    "chunk +3": smuggle(CHUNKED, body=b"+3\r\nabc\r\n0\r\n\r\n" + NEXT),
    "chunk with space": smuggle(CHUNKED, body=b"3 \r\nabc\r\n0\r\n\r\n" + NEXT),
    "chunk, junk behind": smuggle(CHUNKED, body=b"3 junk\r\nabc\r\n0\r\n\r\n" + NEXT),
    "chunk, bare LF": smuggle(CHUNKED, body=b"3\nabc\r\n0\r\n\r\n" + NEXT),
    "chunk without CRLF": smuggle(CHUNKED, body=b"3\r\nabc0\r\n\r\n" + NEXT),
    "chunk, empty size": smuggle(CHUNKED, body=b"\r\n" + NEXT),
    "chunk of 2^64": smuggle(CHUNKED, body=b"10000000000000000\r\n" + NEXT),
    "version 1.99": smuggle(version=b"1.99"),
    "version +1.1": smuggle(version=b"+1.1"),
    "version 0.9": smuggle(version=b"0.9"),
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n" + NEXT,
    "absolute form": b"GET http://a/healthz HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT,
    "authority form": b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT,
    "asterisk": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT,
    "space in the target": b"GET /health z HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT,
    "two spaces": b"GET  /healthz HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT,
    "tab for a space": b"GET\t/healthz HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT,
    "fragment": b"GET /healthz#a HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT,
    "line without version": b"GET /healthz\r\n" + NEXT,
    "two empty lines": b"\r\n\r\n" + NEXT + NEXT,
    "65 headers": smuggle(*[b"A%d: b" % i for i in range(65)]),
    "16 KiB of head": smuggle(b"A: " + b"a" * 17000),
    "other expectation": smuggle(b"Expect: magic", LENGTH),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_once_and_for_all(daemon, name):
    found = ask(daemon, REFUSED[name], half_close=False)
    assert len(found) == 1, found
    assert found[0][0] in (400, 414, 417, 431, 501, 505)
    assert found[0][1]["Connection"] == "close"
    problem(found[0])


# A method's name changes nothing about where its body ends.
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS",
                                    b"TRACE", b"BREW"])
def test_body_of_every_method_is_a_body(daemon, method):
    found = ask(daemon, smuggle(LENGTH, method=method) + NEXT)
    assert len(found) == 2
    assert found[1][0] == 200
    found = ask(daemon, smuggle(CHUNKED, method=method,
                                body=b"%x\r\n" % len(NEXT) + NEXT + b"\r\n0\r\n\r\n") + NEXT)
    assert len(found) == 2
    assert found[1][0] == 200


def test_body_of_head_is_a_body(daemon):
    found = ask(daemon, smuggle(LENGTH, method=b"HEAD") + NEXT, heads=(0,))
    assert [a[0] for a in found] == [200, 200]
    assert found[0][1]["Content-Length"] == found[1][1]["Content-Length"]
    assert found[0][2] == b""


def test_pipelined_in_order(daemon):
    paths = ["/healthz", "/nothing", "/readyz", "/service-accounts", "/scopes"] * 8
    token = daemon.jwt().encode()
    data = b"".join(b"GET %s HTTP/1.1\r\n" % p.encode() + HOST + b"Authorization: Bearer " + token
                    + b"\r\n\r\n" for p in paths)
    found = ask(daemon, data)
    assert [a[0] for a in found] == [200, 404, 200, 200, 200] * 8
    assert all(("items" in json.loads(a[2])) == (p == "/service-accounts")
               for a, p in zip(found, paths))


def test_one_byte_at_a_time(daemon):
    body = b'{"name":"slow"}'
    data = (b"POST /service-accounts HTTP/1.1\r\n" + HOST + b"Authorization: Bearer "
            + daemon.jwt(org="dribble").encode() + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body)
    with connect(daemon) as s:
        for i in range(len(data)):
            s.sendall(data[i:i + 1])
        s.shutdown(socket.SHUT_WR)
        found = answers(read_all(s))
    assert [a[0] for a in found] == [201]


def test_nothing_after_close(daemon):
    closing = NEXT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    found = ask(daemon, closing + NEXT, half_close=False)
    assert [a[0] for a in found] == [200]
    assert found[0][1]["Connection"] == "close"


def test_old_clients(daemon):
    old = b"GET /healthz HTTP/1.0\r\n\r\n"
    assert [a[0] for a in ask(daemon, old + old, half_close=False)] == [200]
    stays = b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    found = ask(daemon, stays + stays)
    assert [a[0] for a in found] == [200, 200]
    assert found[0][1]["Connection"] == "keep-alive"


def test_every_answer_is_framed_the_same(daemon):
    for path in (b"/healthz", b"/nothing"):
        (status, headers, body), = ask(daemon, NEXT.replace(b"/healthz", path))
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers and "Transfer-Encoding" not in headers
        assert int(headers["Content-Length"]) == len(body)
        stamp = time.strptime(headers["Date"], "%a, %d %b %Y %H:%M:%S GMT")
        assert stamp.tm_year >= 2024


def test_too_large_is_decided_from_the_head(daemon):
    (answer,) = ask(daemon, smuggle(b"Content-Length: 1048577", body=b""), half_close=False)
    p = problem(answer)
    assert (answer[0], p["code"]) == (413, "UNKNOWN")
    assert p["title"] == "Request Entity Too Large"
    assert p["detail"] == "request body is too large limit=1048576 bytes"
    assert answer[1]["Connection"] == "close"


def test_refusal_arrives_although_the_body_is_on_its_way(daemon):
    for _ in range(20):
        with connect(daemon) as s:
            s.sendall(smuggle(b"Content-Length: 2000000", body=b"x" * 40000))
            assert answers(read_all(s))[0][0] == 413


def test_expectation(daemon):
    token = daemon.jwt(org="expect").encode()
    head = (b"POST /service-accounts HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n"
            b"Content-Length: 12\r\n")
    with connect(daemon) as s:
        s.sendall(head + b"Authorization: Bearer " + token + b"\r\n\r\n")
        assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b'{"name":"a"}')
        assert s.recv(1000).startswith(b"HTTP/1.1 201 ")
    # Nobody asks a stranger for more bytes.
    (answer,) = ask(daemon, head + b"\r\n", half_close=False)
    assert answer[0] == 401
    assert answer[1]["Connection"] == "close"


@pytest.fixture
def http(daemon):
    client = daemon.http()
    yield client
    client.close()


def test_challenges(daemon, http):
    bare = http.request("GET", "/service-accounts", headers={"Authorization": ""})
    assert bare.status == 401
    anonymous = ask(daemon, NEXT.replace(b"/healthz", b"/service-accounts"))[0]
    assert anonymous[0] == 401
    assert anonymous[1]["WWW-Authenticate"] == 'Bearer realm="kaiten"'
    assert problem(anonymous)["code"] == "Auth.MissingAuthorizationHeader"
    basic = http.request("GET", "/service-accounts", headers={"Authorization": "Basic eDp5"})
    assert (basic.status, basic.code) == (401, "Auth.UnknownAuthorizationHeader")
    assert basic.headers["WWW-Authenticate"] == 'Bearer realm="kaiten"'
    wrong = http.request("GET", "/service-accounts", headers={"Authorization": "Bearer x"})
    assert wrong.status == 401
    assert wrong.headers["WWW-Authenticate"] == 'Bearer realm="kaiten", error="invalid_token"'
    reader = daemon.http(daemon.jwt(scopes=["read:*"]))
    poor = reader.request("POST", "/service-accounts", {"name": "a"})
    assert (poor.status, poor.code) == (403, "Auth.MissingScope")
    assert poor.headers["WWW-Authenticate"] == (
        'Bearer realm="kaiten", error="insufficient_scope", scope="write:tokens"')
    reader.close()


def test_method_not_allowed_says_what_is(http):
    answer = http.request("PATCH", "/api/service-accounts")
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert answer.body["instance"] == "/api/service-accounts"


@pytest.mark.parametrize("kind,status", [
    (None, 201), ("application/json", 201), ("Application/JSON; charset=utf-8", 201),
    ("application/vnd.x+json", 201), ("text/xml", 415), ("application/x-www-form-urlencoded", 415)])
def test_content_types(http, kind, status):
    headers = {} if kind is None else {"Content-Type": kind}
    answer = http.request("POST", "/service-accounts", headers=headers, raw=b'{"name":"a"}')
    assert answer.status == status
    if status == 415:
        assert answer.body["detail"] == "validation failed"
        assert answer.body["errors"] == [{"message": "unknown content type: " + kind,
                                          "location": "body"}]


def test_bodies(http):
    empty = http.request("POST", "/service-accounts", raw=b"")
    assert (empty.status, empty.code) == (400, "VALIDATION")
    assert empty.body["detail"] == "request body is required"
    broken = http.request("POST", "/service-accounts", raw=b'{"name":')
    assert (broken.status, broken.body["detail"]) == (400, "validation failed")
    assert broken.body["errors"][0]["message"] == "unexpected end of JSON input"
    assert broken.body["errors"][0]["location"] == "body"
    assert broken.body["errors"][0]["value"] == '{"name":'
    # A body that may hold a secret is not shown again.
    mint = http.request("POST", "/service-accounts/x/tokens", raw=b'{"token":"ksh_')
    assert mint.status == 400
    assert "value" not in mint.body["errors"][0]
    folded = http.request("POST", "/service-accounts", raw=b'{"NAME":"ann"}')
    assert (folded.status, folded.body["name"]) == (201, "ann")
    twice = http.request("POST", "/service-accounts", raw=b'{"NAME":"ann","name":"bob"}')
    assert twice.status == 400
    array = http.request("POST", "/service-accounts", raw=b"[]")
    assert (array.status, array.body["errors"][0]["message"]) == (422, "expected object")


def test_queries(http):
    assert http.request("GET", "/service-accounts?unknown=1&unknown=2").status == 200
    assert http.request("GET", "/service-accounts?limit=&cursor=").status == 200
    assert http.request("GET", "/service-accounts?limit=1").status == 200
    twice = http.request("GET", "/service-accounts?limit=1&limit=2")
    assert twice.status == 422
    assert twice.body["errors"][0]["location"] == "query.limit"
    assert http.request("GET", "/service-accounts?cursor=%00").status == 400


@pytest.mark.parametrize("path", ["%2e%2e", "a%2fb", "a%00b", "%c0%af", "%ff", "%zz", "%", ".."])
def test_paths_that_are_no_paths(http, path):
    assert http.request("GET", "/service-accounts/" + path).status == 400
    # Nobody learns what is a path here before it is known who asks.
    unknown = http.request("GET", "/service-accounts/" + path, headers={"Authorization": "Basic x"})
    assert unknown.status == 401


def test_percent_is_decoded_once(http):
    answer = http.request("GET", "/api/service-accounts/a%2525b")
    assert answer.status == 404
    assert answer.body["instance"] == "/api/service-accounts/a%2525b"
    assert '"a%25b"' in answer.body["detail"] or "a%25b" in answer.body["detail"]


# --- what gateways ask --------------------------------------------------------------------------


@pytest.fixture
def token(http):
    slug = http.call("account.create", name="gateway").body["slug"]
    return http.call("token.create", serviceAccountSlug=slug, name="a",
                     scopes=["read:instances"]).body


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_validate_any_method(daemon, token, method, prefix):
    client = daemon.http(token["token"])
    answer = client.request(method, prefix + "/tokens/validate?scope=x&limit=1&limit=2",
                            raw=b"not json" if method == "POST" else None,
                            headers={"Content-Type": "text/plain"})
    client.close()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body == (b"" if method == "HEAD" else b"OK")
    assert answer.headers["Content-Length"] == "2"
    scheme, jwt = answer.headers["Authorization"].split(" ")
    assert scheme == "Bearer"
    claims = jwt_claims(jwt)
    assert claims["scopes"] == ["read:instances"]
    assert claims["kaiten_external_org_id"] == "acme"


@pytest.mark.parametrize("credential,code", [
    (None, "ValidateToken.MissingAuthorizationHeader"),
    ("Basic eDp5", "ValidateToken.MissingAuthorizationHeader"),
    ("bearer ksh_x", "ValidateToken.MissingAuthorizationHeader"),
    ("Bearer ksm_" + "a" * 32, "ValidateToken.Invalid"),
    ("Bearer ksh-" + "a" * 32, "ValidateToken.Invalid"),
    ("Bearer ksh_" + "a" * 32, "ValidateToken.Invalid"),
    ("Bearer x", "ValidateToken.Invalid")])
def test_validate_refuses(daemon, credential, code):
    header = b"" if credential is None else b"Authorization: " + credential.encode() + b"\r\n"
    (answer,) = ask(daemon, b"GET /tokens/validate HTTP/1.1\r\n" + HOST + header + b"\r\n")
    assert answer[0] == 401
    assert "Authorization" not in answer[1]
    assert answer[1]["WWW-Authenticate"].startswith('Bearer realm="kaiten"')
    p = problem(answer)
    assert p["code"] == code
    assert p["detail"] == ("invalid token" if code.endswith("Invalid")
                           else "missing valid Authorization header")


def test_below_validate_is_nothing(daemon, token):
    client = daemon.http(token["token"])
    answer = client.request("GET", "/api/tokens/validate/x")
    client.close()
    assert answer.status == 404
    assert "Authorization" not in answer.headers


NGINX = """worker_processes 1; daemon off; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream kaitend {{ server 127.0.0.1:{kaitend}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      auth_request /validate;
      auth_request_set $swapped $upstream_http_authorization;
      try_files /nothing @ok;
    }}
    location @ok {{ add_header X-Swapped $swapped; return 200 "served"; }}
    location = /validate {{
      internal;
      proxy_pass http://kaitend/api/tokens/validate;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
    }}
  }}
}}
"""


@pytest.fixture
def nginx(daemon, tmp_path):
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is missing")
    port = free_port()
    conf = tmp_path / "nginx.conf"
    conf.write_text(NGINX.format(dir=tmp_path, kaitend=daemon.port, port=port))
    process = subprocess.Popen([program, "-e", tmp_path / "error.log", "-c", conf],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens():
        assert process.poll() is None, (tmp_path / "error.log").read_text()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    wait_for(listens, "nginx to listen")
    yield port
    process.terminate()
    process.wait(10)


def test_nginx_asks_us(nginx, daemon, http, token):
    def through(credential):
        with socket.create_connection(("127.0.0.1", nginx), timeout=10) as s:
            s.sendall(b"POST /x HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 3\r\n"
                      b"Authorization: Bearer " + credential.encode() + b"\r\n\r\nabc")
            return read_all(s).decode()

    good = through(token["token"])
    assert good.startswith("HTTP/1.1 200 ") and good.endswith("served")
    swapped = re.search(r"X-Swapped: Bearer (\S+)", good).group(1)
    assert jwt_claims(swapped)["scopes"] == ["read:instances"]
    assert through("ksh_" + "a" * 32).startswith("HTTP/1.1 401 ")
    revoked = http.call("token.revoke", tokenSlug=token["slug"],
                        serviceAccountSlug=http.call("account.list").body["items"][0]["slug"])
    assert revoked.status == 204
    assert through(token["token"]).startswith("HTTP/1.1 401 ")


# --- time ---------------------------------------------------------------------------------------


def test_slow_clients_are_cut_off_and_hurt_nobody(own_daemon):
    d = own_daemon("storage-memory", http="first_byte_timeout = 400ms\nhead_timeout = 400ms\n"
                   "body_timeout = 400ms\nidle_timeout = 400ms\n").start()
    beginnings = [b"", b"GET /healthz HTTP/1.1\r\nA: ", smuggle(b"Content-Length: 10", body=b"a"),
                  smuggle(CHUNKED, body=b"5\r\na"), NEXT]
    slow = [connect(d) for _ in range(200)]
    for i, s in enumerate(slow):
        s.sendall(beginnings[i % 5])
    began = time.monotonic()
    worst = 0.0
    fast = d.http()
    while time.monotonic() - began < 0.3:
        start = time.monotonic()
        assert fast.request("GET", "/healthz").status == 200
        worst = max(worst, time.monotonic() - start)
        for i, s in enumerate(slow[1:100:5]):
            try:
                s.sendall(b"a")
            except OSError:
                pass
    assert worst < 1.0
    seen = [[a[0] for a in answers(read_all(s))] for s in slow]
    assert time.monotonic() - began < 5
    assert seen[0::5] == [[]] * 40
    assert seen[1::5] == [[408]] * 40
    assert seen[2::5] == [[408]] * 40
    assert seen[3::5] == [[408]] * 40
    assert seen[4::5] == [[200]] * 40
    for s in slow:
        s.close()
    assert d.stop() == 0


def test_answers_at_work_survive_the_end(own_daemon):
    d = own_daemon("storage-memory").start()
    token = d.jwt()
    clients = [connect(d) for _ in range(20)]
    body = b'{"name":"a"}'
    for s in clients:
        s.sendall(b"POST /service-accounts HTTP/1.1\r\n" + HOST + b"Authorization: Bearer "
                  + token.encode() + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    code = d.stop()

    def answered(s):
        try:
            return [a[0] for a in answers(read_all(s))]
        except ConnectionResetError:
            return []  # the kernel's word for bytes that nobody has read

    seen = [answered(s) for s in clients]
    # What was read is answered in full; what was not was never begun.
    assert all(one in ([201], []) for one in seen)
    assert code == 0


def test_curl_with_a_large_body(daemon):
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is missing")
    body = b'{"name":"a"' + b" " * 100000 + b"}"
    done = subprocess.run([curl, "-s", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}",
                           "-H", "Expect: 100-continue", "-H", "Content-Type: application/json",
                           "-H", "Authorization: Bearer " + daemon.jwt(org="curl"),
                           "--data-binary", "@-",
                           f"http://127.0.0.1:{daemon.port}/api/service-accounts"],
                          input=body, capture_output=True, timeout=30)
    assert done.stdout == b"201 1"
