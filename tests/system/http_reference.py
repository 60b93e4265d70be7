# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A second reader of HTTP/1.x requests, as strict as RFC 9110 and 9112 let a server be. It knows
nothing of kaitend's own but its limits, and says what tests/tools/http-check says."""

import re

HEAD, HEADERS, METHOD, TARGET = 16384, 64, 16, 4352
CHUNK_DIGITS, EXTENSIONS, TRAILERS, BODY = 8, 1024, 4096, 4096

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
VISIBLE = rb"[!-\"$-~]"  # what a target may hold: no space, no fragment
VALUE = rb"[\t -~\x80-\xff]"
REG_NAME = rb"[A-Za-z0-9._~!$&'()*+,;=%-]"
ONCE = (b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type",
        b"expect", b"idempotency-key")


class Bad(Exception):
    """Refused, whatever may follow; says the status."""


class More(Exception):
    """Nothing is wrong so far."""


def text(value):
    return "-" if value is None else value.hex()


class Reader:
    """Bytes, and how far they are read; at their end it is said whether more may come."""

    def __init__(self, data, full=False):
        self.data, self.at, self.full = data, 0, full

    def ended(self):
        raise Bad(431) if self.full else More

    def peek(self):
        if self.at == len(self.data):
            self.ended()
        return self.data[self.at:self.at + 1]

    def run(self, one, most, status):
        """As many bytes of a kind as there are; the byte behind them is there, too."""
        m = re.compile(one + rb"*").match(self.data, self.at)
        if len(m[0]) > most:
            raise Bad(status)
        self.at = m.end()
        self.peek()
        return m[0]

    def take(self, expected, status=400):
        for byte in expected:
            if self.peek() != bytes([byte]):
                raise Bad(status)
            self.at += 1


def read_version(r):
    known = b"HTTP/0.0"
    got = r.data[r.at:r.at + len(known)]
    if re.sub(rb"[0-9]", b"0", got) != known[:len(got)]:
        raise Bad(400)
    r.at += len(got)
    if len(got) < len(known):
        r.ended()
    r.take(b"\r\n")
    if got not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise Bad(505)
    return int(got[-1:])


def read_request_line(r):
    method = r.run(TOKEN, METHOD, 501)
    if not method:
        raise Bad(400)
    r.take(b" ")
    target = r.run(VISIBLE, TARGET, 414)
    if not target:
        raise Bad(400)
    r.take(b" ")
    if method == b"CONNECT" or not (target[:1] == b"/"
                                    or (target == b"*" and method == b"OPTIONS")):
        raise Bad(400)
    return method, target, read_version(r)


def check_coding(value):
    if value.lower() == b"chunked":
        return
    codings = [c.strip(b" \t").lower() for c in value.split(b",")]
    if codings[-1] == b"" and len(codings) > 1:
        codings.pop()  # nothing stands behind the last comma
    raise Bad(501 if codings[-1] == b"chunked" and codings.count(b"chunked") == 1 else 400)


def check_header(name, value, seen):
    if name in ONCE and name in seen:
        raise Bad(400)
    if name == b"host":
        literal = rb"\[(?:" + REG_NAME + rb"|:)+\]"
        if not re.fullmatch(rb"(?:" + literal + rb"|" + REG_NAME + rb"+)(?::[0-9]*)?", value):
            raise Bad(400)
    if name == b"content-length" and not re.fullmatch(rb"[0-9]{1,10}", value):
        raise Bad(400)
    if name == b"transfer-encoding":
        check_coding(value)
    if name == b"expect" and value.lower() != b"100-continue":
        raise Bad(417)


def read_headers(r):
    """The headers as they stand there, and by name in small letters the first value of each."""
    headers, seen, options = [], {}, []
    while r.peek() != b"\r":
        if len(headers) == HEADERS:
            raise Bad(431)
        name = r.run(TOKEN, HEAD, 431)
        if not name:
            raise Bad(400)
        r.take(b":")
        value = r.run(VALUE, HEAD, 431).strip(b" \t")
        r.take(b"\r\n")
        check_header(name.lower(), value, seen)
        headers.append((name, value))
        seen.setdefault(name.lower(), value)
        if name.lower() == b"connection":
            options += [o.strip(b" \t").lower() for o in value.split(b",")]
    r.take(b"\r\n")
    return headers, seen, options


def read_whole_head(r):
    if r.data[:1] == b"\r":
        r.take(b"\r\n")
    method, target, minor = read_request_line(r)
    headers, seen, options = read_headers(r)
    chunked, length = b"transfer-encoding" in seen, seen.get(b"content-length")
    if (minor == 1 and b"host" not in seen) or (chunked and (length is not None or minor == 0)):
        raise Bad(400)
    stays = b"close" not in options and (minor == 1 or b"keep-alive" in options)
    path, mark, query = target.partition(b"?")
    packed = [v for n, v in headers if n.lower() == b"content-encoding"
              and v.lower() not in (b"", b"identity")]
    known = [*map(seen.get, (b"host", b"authorization", b"content-type")),
             packed[-1] if packed else None, seen.get(b"idempotency-key")]
    texts = [method, path, query if mark else None, *known, *(t for h in headers for t in h)]
    flags = f"{chunked:d}{stays:d}{b'expect' in seen and minor == 1:d}"
    return " ".join([f"done {r.at} 1.{minor} {-1 if length is None else int(length)} {flags}",
                     *map(text, texts)])


def read_head(data):
    try:
        return read_whole_head(Reader(data[:HEAD], full=len(data) >= HEAD))
    except Bad as bad:
        return f"bad {bad.args[0]}"
    except More:
        return "more"


class Chunks(Reader):
    """A chunked body; what it holds is kept although its end may be bad."""

    def __init__(self, data):
        super().__init__(data)
        self.body, self.announced, self.extensions, self.trailers = b"", 0, 0, 0

    def line(self, used, most):
        """The rest of a line, of which so many bytes may be there in all lines together."""
        while self.peek() != b"\r":
            if not re.match(VALUE, self.peek()) or used == most:
                raise Bad(400)
            self.at, used = self.at + 1, used + 1
        self.take(b"\r\n")
        return used

    def size(self):
        digits = b""
        while re.match(rb"[0-9A-Fa-f]", self.peek()):
            if len(digits) == CHUNK_DIGITS:
                raise Bad(400)
            digits += self.peek()
            self.at += 1
        if not digits or self.peek() not in b";\r":
            raise Bad(400)
        if self.peek() == b";":
            self.at += 1
            self.extensions = self.line(self.extensions, EXTENSIONS)
        else:
            self.take(b"\r\n")
        return int(digits, 16)

    def trailer(self):
        begin = self.at
        while self.peek() != b":" or self.at == begin:
            if self.trailers == TRAILERS or not re.match(TOKEN, self.peek()):
                raise Bad(400)
            self.at, self.trailers = self.at + 1, self.trailers + 1
        if self.trailers == TRAILERS:
            raise Bad(400)
        self.at += 1
        self.trailers = self.line(self.trailers + 1, TRAILERS)

    def whole(self):
        while size := self.size():
            self.announced += size
            if self.announced > BODY:
                self.at -= 1  # the last byte of the line is what is refused
                raise Bad(413)
            data = self.data[self.at:self.at + size]
            self.body += data
            self.at += len(data)
            if len(data) < size:
                raise More
            self.take(b"\r\n")
        while self.peek() != b"\r":
            self.trailer()
        self.take(b"\r\n")


def read_chunks(data):
    r = Chunks(data)
    try:
        r.whole()
        said = "done"
    except Bad as bad:
        said = f"bad {bad.args[0]}"
    except More:
        said = "more"
    return f"{said} {r.at} {text(r.body)}"


def unescape(data, escape_refused=None):
    """None when it is refused."""
    if re.search(rb"%(?![0-9A-Fa-f]{2})", data):
        return None
    escapes = {int(e, 16) for e in re.findall(rb"%(..)", data)}
    data = re.sub(rb"%(..)", lambda m: bytes([int(m[1], 16)]), data)
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return None if b"\0" in data or escape_refused in escapes else data


def read_segment(data):
    decoded = unescape(data, ord("/"))
    return "bad 400" if decoded in (None, b".", b"..") else "done " + decoded.hex()


def read_query(data):
    said = "done"
    found = []
    for pair in data.split(b"&"):
        if not pair:
            continue
        name, mark, value = pair.partition(b"=")
        decoded = [unescape(t.replace(b"+", b" ")) for t in (name, value)]
        if None in decoded:
            said = "bad"
            break
        found += [decoded[0], decoded[1] if mark else None]
    return " ".join([said, *map(text, found)])


READERS = {"h": read_head, "c": read_chunks, "p": read_segment, "q": read_query}
