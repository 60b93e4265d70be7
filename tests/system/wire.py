# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Both doors as bytes, and the answers of HTTP cut out of what comes back."""

import json
import socket

HOST = b"Host: a\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
LENGTH = b"Content-Length: %d" % len(NEXT)
CHUNKED = b"Transfer-Encoding: chunked"


def connect(daemon, timeout=60):
    s = socket.create_connection(("127.0.0.1", daemon.port), timeout=timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def connect_to(daemon, kind, timeout=60):
    """A connection to one of the doors."""
    if kind == "http":
        return connect(daemon, timeout)
    s = socket.socket(socket.AF_UNIX)
    # Before there is a time-out: with one, a full queue of the listener is an error, no wait.
    s.connect(daemon.socket_path)
    s.settimeout(timeout)
    return s


def read_all(s):
    """What comes until the other side closes; a reset raises."""
    data = b""
    while True:
        part = s.recv(65536)
        if not part:
            return data
        data += part


def read_to_the_end(s):
    """What comes until the other side is gone, be it by a reset."""
    data = b""
    try:
        while part := s.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


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


def ask(daemon, *pieces, half_close=True, heads=()):
    """All answers to what is sent, in these pieces; without half_close the daemon has to end it."""
    with connect(daemon) as s:
        for piece in pieces:
            s.sendall(piece)
        if half_close:
            s.shutdown(socket.SHUT_WR)
        return answers(read_all(s), heads)


def statuses(daemon, *pieces, **how):
    return [a[0] for a in ask(daemon, *pieces, **how)]


def problem(answer):
    status, headers, body = answer
    assert headers["Content-Type"] == "application/problem+json"
    assert body.endswith(b"}\n")
    parsed = json.loads(body)
    order = ["type", "title", "status", "detail", "instance", "code", "errorId", "errors"]
    assert list(parsed) == [m for m in order if m in parsed]
    assert parsed["status"] == status
    return parsed


def bare_problem(answer):
    """What a HEAD is answered that is refused: a problem's headers (RFC 9110 section 9.3.2)."""
    _, headers, body = answer
    assert headers["Content-Type"] == "application/problem+json"
    assert int(headers["Content-Length"]) > 0 and body == b""


def refusal(daemon, data, *allowed):
    """The status of the one answer, behind which nothing more is read."""
    bare = data.startswith(b"HEAD ")
    found = ask(daemon, data, half_close=False, heads=(0,) if bare else ())
    assert len(found) == 1, found
    status, headers, _ = found[0]
    assert headers["Connection"] == "close"
    (bare_problem if bare else problem)(found[0])
    assert status in (allowed or (400,)), (status, found[0][2])
    return status


def head(*lines, method=b"GET", target=b"/healthz", version=b"1.1", host=HOST):
    """A head: the request line, Host, and these lines."""
    return (method + b" " + target + b" HTTP/" + version + b"\r\n" + host
            + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


def smuggle(*lines, body=NEXT, method=b"POST", version=b"1.1"):
    return head(*lines, method=method, version=version) + body


def chunk(data):
    return b"%x\r\n" % len(data) + data + b"\r\n"
