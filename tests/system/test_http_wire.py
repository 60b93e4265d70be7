# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The HTTP door to its clients: challenges, content types, bodies, queries; gateways; time."""

import gzip
import re
import shutil
import socket
import subprocess
import time

import pytest

from conftest import PATIENCE, free_port, jwt_claims, prompt, wait_for
from wire import CHUNKED, HOST, NEXT, answers, ask, connect, problem, read_all, smuggle


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


@pytest.mark.parametrize("coding,status", [
    ("", 201), ("identity", 201), ("Identity", 201), ("gzip", 415), ("br", 415), ("aes128gcm", 415),
    ("identity, gzip", 415), ("gzip, identity", 415), ("*", 415)])
def test_content_encodings(http, coding, status):
    """What is said to be packed is not read as if it were not: a gateway would see another body."""
    plain = b'{"name":"a"}'
    for raw in [plain] if status == 201 else [plain, gzip.compress(plain)]:
        answer = http.request("POST", "/service-accounts", raw=raw,
                              headers={"Content-Encoding": coding})
        assert answer.status == status
    if status == 415:
        assert answer.body["detail"] == "validation failed"
        assert answer.body["errors"] == [{"message": "unknown content encoding: " + coding,
                                          "location": "body"}]
    # Where no body is read, nobody minds how it is packed.
    assert http.request("GET", "/whoami", headers={"Content-Encoding": coding}).status == 200


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
    process.wait(PATIENCE)


def test_nginx_asks_us(nginx, daemon, http, token):
    def through(credential):
        with socket.create_connection(("127.0.0.1", nginx), timeout=PATIENCE) as s:
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
    d = own_daemon("storage-memory", http="first_byte_timeout = 1s\nhead_timeout = 1s\n"
                   "body_timeout = 1s\nidle_timeout = 1s\n").start()
    beginnings = [b"", b"GET /healthz HTTP/1.1\r\nA: ", smuggle(b"Content-Length: 10", body=b"a"),
                  smuggle(CHUNKED, body=b"5\r\na"), NEXT]

    def begin(what):
        s = connect(d)
        s.sendall(what)
        return s

    slow = [prompt(lambda: begin(beginnings[i % 5]), 0.5) for i in range(200)]
    began = time.monotonic()
    worst = 0.0
    fast = d.http()
    while time.monotonic() - began < 0.3:
        start = time.monotonic()
        assert fast.request("GET", "/healthz").status == 200
        worst = max(worst, time.monotonic() - start)
    # Whoever waited for one of them after the other would wait for minutes.
    assert worst < 10
    seen = [[a[0] for a in answers(read_all(s))] for s in slow]
    assert time.monotonic() - began < PATIENCE
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
                          input=body, capture_output=True, timeout=PATIENCE)
    assert done.stdout == b"201 1"
