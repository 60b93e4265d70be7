# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The real daemon in a temporary folder, and both of its doors behind one interface."""

import atexit
import base64
import contextlib
import datetime
import functools
import http.client
import itertools
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

import msgpack
import postgres
import pytest

from timelimit import pytest_configure, pytest_runtest_protocol  # noqa: F401 (hooks)

SOURCE = pathlib.Path(os.environ.get("abs_top_srcdir", pathlib.Path(__file__).parents[2]))
BUILD = pathlib.Path(os.environ.get("abs_top_builddir", SOURCE))
KAITEND = BUILD / "daemon/kaitend"
KAITENCTL = BUILD / "client/ctl/kaitenctl"
KAITEN_JWT = BUILD / "tests/tools/kaiten-jwt"
PLUGIN_DIR = BUILD / "plugins/.libs"

# The daemon hides its memory, and with that the kernel tells of its descriptors to root alone.
reads_proc = pytest.mark.skipif(os.geteuid() != 0, reason="/proc tells this to root alone")

# A sanitizer keeps what was freed for a while, and who has touched what: in memory of the daemon.
SANITIZED = KAITEND.exists() and any(name in KAITEND.read_bytes()
                                     for name in (b"__asan_init", b"__tsan_init"))
STORES = os.environ.get("KAITEN_TEST_STORES", "storage-bdb storage-memory").split()
# Seconds after which what should have come at once is given up: the machine may be slow and busy.
PATIENCE = 60.0
# Descriptors, which programs of the tests inherit: some hold a thousand connections.
DESCRIPTORS = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)
if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < DESCRIPTORS:
    resource.setrlimit(resource.RLIMIT_NOFILE,
                       (DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
thousand = pytest.mark.skipif(DESCRIPTORS < 4096, reason="a thousand connections need more "
                              "descriptors than the limit here, see ulimit -Hn")
# LeakSanitizer stops a program that ends from a second one, which cannot be done now and then on a
# busy machine, and that is an exit status of 1. The units look for leaks, and so do daemons: class
# Process. Of the thousands of programs that run for a moment only the answers count.
os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"


def wait_for(condition, what, seconds=PATIENCE):
    """Waits for a condition with a deadline: no test sleeps to win a race."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("timed out waiting for " + what)


@functools.lru_cache(maxsize=None)
def rsa_pair():
    """A private and a public key in PEM; made once, since that takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        private, public = pathlib.Path(folder, "private"), pathlib.Path(folder, "public")
        subprocess.run([KAITEN_JWT, "keygen", "--alg", "RS256", "--private", private,
                        "--public", public], check=True)
        return private.read_bytes(), public.read_bytes()


class Process(subprocess.Popen):
    """A daemon; of its end counts what it says itself. None outlives the tests."""

    made = []

    def __init__(self, args, log, env=None, **kwargs):
        self.log = log
        env = dict(os.environ if env is None else env)
        env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=1"
        with open(log, "ab") as out:
            super().__init__(args, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env,
                             **kwargs)
        self.made.append(self)

    @property
    def returncode(self):
        tool = b"LeakSanitizer has encountered a fatal error"
        broken = self.code == 1 and self.log.exists() and tool in self.log.read_bytes()
        return 0 if broken else self.code

    @returncode.setter
    def returncode(self, code):
        self.code = code


@atexit.register
def end_all():
    for p in Process.made:
        if p.poll() is None:
            p.kill()
            p.wait()


def pytest_sessionfinish():
    end_all()
    postgres.remove_shared()


class Daemon:
    """One kaitend with its own folder; port and paths stay the same over restarts."""

    PEER_RULES = (f"uid={os.geteuid()} org=acme subject=root name=\"Root Peer\" "
                  "scopes=read:*,write:* verify=any",)

    def __init__(self, store="storage-bdb", rules=PEER_RULES, daemon="", http="", sock="",
                 jwt="", storage="", folder=None, extra="", level="debug"):
        self.store = store
        self.dir = pathlib.Path(folder or tempfile.mkdtemp(prefix="kaitend-test."))
        # Other uids of the tests come in here; what is inside has modes of its own.
        self.dir.chmod(0o755)
        self.state = self.dir / "state"
        self.state.mkdir(exist_ok=True)
        self.state.chmod(0o700)
        self.socket_path = str(self.dir / "rpc.sock")
        self.conf = self.dir / "kaitend.conf"
        self.log = self.dir / "kaitend.log"
        self.port = free_port()
        self.process = None
        self.private = self.state / "jwt-private.pem"
        self.public = self.state / "jwt-public.pem"
        if not self.private.exists():
            for path, data in zip((self.private, self.public), rsa_pair()):
                path.write_bytes(data)
                path.chmod(0o600)
        self.settings = dict(rules=rules, daemon=daemon, http=http, sock=sock, jwt=jwt,
                             storage=storage, extra=extra, level=level)
        self.write_conf()

    def write_conf(self, **changes):
        s = dict(self.settings, **changes)
        storage = s["storage"]
        if self.store == "storage-bdb":
            storage = f"path = {self.state}/db\n" + storage
            if "ballast" not in storage:
                storage += "\nballast = 1M"  # many daemons, perhaps in memory
        if self.store == "storage-postgres" and "connection =" not in storage:
            # A long time-out: the machine may be slow, and nothing is tested of an outage here.
            storage = f"connection = {postgres.store_of(self.dir)}\ntimeout = 20s\n" + storage
        self.conf.write_text(f"""[kaitend]
state_dir = {self.state}
plugin_dir = {PLUGIN_DIR}
storage = {self.store}
log_level = {s["level"]}
{s["daemon"]}
[{self.store}]
{storage}
[socket]
path = {self.socket_path}
auth = auth-token
auth = auth-jwt
auth = auth-peer
{s["sock"]}
[http]
listen = 127.0.0.1:{self.port}
auth = auth-token
auth = auth-jwt
{s["http"]}
[auth-peer]
""" + "".join(f"rule = {rule}\n" for rule in s["rules"]) + f"""
[auth-jwt]
key = {self.public} alg=RS256
{s["jwt"]}
{s["extra"]}
""")
        self.conf.chmod(0o644)  # other uids of the tests read it, whatever the umask

    def spawn(self, **kwargs):
        self.process = Process([KAITEND, "-c", self.conf], self.log, **kwargs)
        return self

    def wait_filled(self, seconds=PATIENCE):
        """Waits until the index is full, be the daemon ready or not; what /readyz says then."""

        def filled():
            assert self.process.poll() is None, self.tail()
            try:
                with contextlib.closing(self.http("")) as door:
                    answer = door.request("GET", "/readyz")
            except OSError:
                return None
            starting = answer.status == 503 and "starting" in answer.body["detail"]
            return None if starting else answer

        return wait_for(filled, "the index to be full", seconds)

    def start(self, seconds=PATIENCE, **kwargs):
        self.spawn(**kwargs)

        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"kaitend ended with {self.process.returncode}: "
                                     + self.tail())
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                with contextlib.closing(connection):
                    connection.request("GET", "/readyz")
                    return connection.getresponse().status == 200
            except OSError:
                return False

        try:
            wait_for(ready, "kaitend to be ready", seconds)
        except BaseException:  # nobody but us knows of it yet
            if self.process.poll() is None:
                self.kill()
            raise
        return self

    def tail(self, lines=20):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=PATIENCE):
        """SIGTERM; returns the exit code."""
        if self.process is None or self.process.poll() is not None:
            return None if self.process is None else self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def remove(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- callers ---------------------------------------------------------------------------

    def jwt(self, sub="alice", org="acme", scopes=("read:*", "write:*"), ttl=3600, **claims):
        args = [KAITEN_JWT, "sign", "--alg", "RS256", "--key", self.private, "--ttl", str(ttl),
                f"sub={sub}", f"kaiten_external_org_id={org}",
                "scopes:=" + json.dumps(list(scopes))]
        args += [f"{k}:={json.dumps(v)}" for k, v in claims.items()]
        return subprocess.run(args, check=True, capture_output=True, text=True).stdout.strip()

    def http(self, token=None):
        return Http(self.port, self.jwt() if token is None else token)

    def rpc(self, token=None):
        return Rpc(self.socket_path, token)

    def ctl(self, *args, stdin="", check=True, env=None):
        done = subprocess.run([KAITENCTL, "--socket", self.socket_path, *args], input=stdin,
                              capture_output=True, text=True, timeout=PATIENCE,
                              env=dict(os.environ, **(env or {})))
        if check:
            assert done.returncode == 0, done.stderr
        return done


claims = []  # held until this process ends


def ports():
    """Below those that the kernel gives to clients: a daemon that is down must find its port again,
    and who connects to it meanwhile must not connect to itself. Never the same one twice, nor one
    of another run of these tests: each takes some together, by a name that only one can have."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    blocks = list(range(10000, first - 99, 100) if first > 20000 else range(20000, 32700, 100))
    random.SystemRandom().shuffle(blocks)
    for block in blocks:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0kaiten-test-ports-{block}")
        except OSError:
            claim.close()
            continue
        claims.append(claim)
        yield from range(block, block + 100)


free_ports = ports()


def brief_life(attempt, seconds=1.0):
    """attempt(end, over) makes what ends at that time, RFC 3339 in UTC, and asks for it while it
    lives; over() says whether that is over by now. It returns nothing when it was too slow, and is
    called again with a longer life: nobody can say how slow this machine is."""
    while seconds < 100:
        end = time.time() + seconds
        text = datetime.datetime.fromtimestamp(end, datetime.timezone.utc)
        found = attempt(text.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), lambda: time.time() >= end)
        if found is not None:
            return found
        seconds *= 2
    raise AssertionError("everything takes too long here")


def short_life(make):
    """The answer to make(end), which makes what ends at that time, soon; asked again with a later
    one when that had passed before the daemon saw it."""
    def attempt(end, over):
        answer = make(end)
        return answer if answer.ok or not over() else None

    answer = brief_life(attempt)
    assert answer.ok, answer
    return answer


def prompt(step, seconds, tries=100):
    """What step() returns, or raises, when it took less than that: a deadline of the daemon may not
    pass while this process waits for its turn."""
    for _ in range(tries):
        begun, failed = time.monotonic(), None
        try:
            done = step()
        except Exception as e:  # noqa: BLE001
            failed = e
        if time.monotonic() - begun < seconds:
            if failed:
                raise failed
            return done
    raise AssertionError(f"not once within {seconds} s")


def free_port():
    for port in free_ports:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port))
            return port


def files_below(folder):
    """What they hold, by their names; a daemon that runs may take one away meanwhile."""
    found = {}
    for p in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if p.is_file() and not p.is_symlink():
                found[str(p)] = p.read_bytes()
    return found


class Answer:
    """What came back, the same for both doors: status, body (result or problem), headers."""

    def __init__(self, status, body, headers=None):
        self.status = status
        self.body = body
        self.headers = headers or {}

    @property
    def ok(self):
        return self.status < 400

    @property
    def code(self):
        return self.body.get("code") if isinstance(self.body, dict) else None

    def __repr__(self):
        return f"<{self.status} {self.body!r}>"


class Http:
    """The HTTP door: JSON over a connection that is kept alive."""

    name = "http"
    retry = True
    ROUTES = {
        "account.create": ("POST", "/service-accounts"),
        "account.list": ("GET", "/service-accounts"),
        "account.get": ("GET", "/service-accounts/{serviceAccountSlug}"),
        "account.update": ("PUT", "/service-accounts/{serviceAccountSlug}"),
        "account.delete": ("DELETE", "/service-accounts/{serviceAccountSlug}"),
        "token.create": ("POST", "/service-accounts/{serviceAccountSlug}/tokens"),
        "token.list": ("GET", "/service-accounts/{serviceAccountSlug}/tokens"),
        "token.get": ("GET", "/service-accounts/{serviceAccountSlug}/tokens/{tokenSlug}"),
        "token.rotate": ("POST",
                         "/service-accounts/{serviceAccountSlug}/tokens/{tokenSlug}/rotate"),
        "token.revoke": ("DELETE", "/service-accounts/{serviceAccountSlug}/tokens/{tokenSlug}"),
        "token.revokeAll": ("POST", "/service-accounts/{serviceAccountSlug}/tokens/revoke"),
        "token.validate": ("GET", "/tokens/validate"),
        "whoami": ("GET", "/whoami"),
        "scopes": ("GET", "/scopes"),
        "healthz": ("GET", "/healthz"),
        "readyz": ("GET", "/readyz"),
    }

    def __init__(self, port, token, prefix="/api"):
        self.port, self.token, self.prefix = port, token, prefix
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def close(self):
        self.connection.close()

    def request(self, method, path, body=None, headers=None, raw=None):
        """body: a value for JSON; raw: bytes as they are."""
        head = dict(headers or {})
        if self.token and "Authorization" not in head:
            head["Authorization"] = "Bearer " + self.token
        if body is not None:
            raw = json.dumps(body).encode()
            head.setdefault("Content-Type", "application/json")
        try:
            self.connection.request(method, path, raw, head)
            answer = self.connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if not self.retry:
                raise
            # The daemon may have closed an idle connection: once more on a fresh one.
            self.connection.close()
            self.connection.request(method, path, raw, head)
            answer = self.connection.getresponse()
        data = answer.read()
        kind = answer.headers.get("Content-Type", "")
        parsed = json.loads(data) if data and "json" in kind else data
        return Answer(answer.status, parsed, answer.headers)

    def call(self, operation, **args):
        method, path = self.ROUTES[operation]
        for name in re.findall(r"{(\w+)}", path):
            path = path.replace("{%s}" % name, urllib.parse.quote(str(args.pop(name)), safe=""))
        body = None
        if method in ("POST", "PUT"):
            body = args
        elif args:
            path += "?" + urllib.parse.urlencode(args)
        return self.request(method, self.prefix + path, body)


class Rpc:
    """The socket door: MessagePack-RPC with errors as problems."""

    name = "socket"

    def __init__(self, path, token=None, problems=True, timeout=PATIENCE):
        self.token = token
        self.socket = socket.socket(socket.AF_UNIX)
        # Before there is a time-out: with one, a full queue of the listener is an error, no wait.
        self.socket.connect(path)
        self.socket.settimeout(timeout)
        self.unpacker = msgpack.Unpacker(raw=False)
        self.ids = itertools.count(1)
        if problems:
            assert self.call("kaiten.hello", errors="problem").ok

    def close(self):
        self.socket.close()

    def send(self, method, args, meta=None, ident=None):
        ident = next(self.ids) if ident is None else ident
        params = [args] if meta is None else [args, meta]
        self.socket.sendall(msgpack.packb([0, ident, method, params]))
        return ident

    def receive(self):
        """One reply: [1, id, error, result]; EOFError when the daemon has closed."""
        while True:
            for message in self.unpacker:
                return message
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("closed by kaitend")
            self.unpacker.feed(data)

    def call(self, operation, **args):
        meta = {"token": self.token} if self.token else None
        ident = self.send(operation, args, meta)
        kind, answered, error, result = self.receive()
        assert (kind, answered) == (1, ident)
        if error is None:
            return Answer(200, result)
        return Answer(error["status"] if isinstance(error, dict) else 500, error)


class Doors:
    """One door of one daemon, with callers of any organization and scopes."""

    def __init__(self, daemon, kind):
        self.daemon, self.kind = daemon, kind
        self.open = []

    def caller(self, **claims):
        token = self.daemon.jwt(**claims)
        return self.with_token(token)

    def with_token(self, token):
        client = self.daemon.http(token) if self.kind == "http" else self.daemon.rpc(token)
        self.open.append(client)
        return client

    def close(self):
        for client in self.open:
            client.close()


@pytest.fixture(scope="session", params=STORES)
def store(request):
    if request.param == "storage-postgres" and not postgres.programs():
        pytest.skip(postgres.MISSING)
    return request.param


@pytest.fixture(scope="session")
def daemon(store):
    """One daemon for all tests that do not stop, kill or configure theirs."""
    d = Daemon(store).start()
    yield d
    code = d.stop()
    text = d.log.read_text(errors="replace")
    d.remove()
    assert code == 0, text[-2000:]


@pytest.fixture
def own_daemon():
    """A factory: daemons of a test's own, removed at its end."""
    made = []

    def make(*args, **kwargs):
        made.append(Daemon(*args, **kwargs))
        return made[-1]

    yield make
    for d in made:
        d.remove()


@pytest.fixture(params=["http", "socket"])
def doors(request, daemon):
    d = Doors(daemon, request.param)
    yield d
    d.close()


@pytest.fixture
def door(doors):
    """A caller of organization acme with read:* and write:*."""
    return doors.caller()


@pytest.fixture
def verifier(daemon):
    """A peer that may verify any token."""
    client = daemon.rpc()
    yield client
    client.close()


@pytest.fixture
def account(door):
    """The slug of a fresh account of acme."""
    answer = door.call("account.create", name="Build Farm")
    assert answer.ok, answer
    return answer.body["slug"]


def jwt_claims(text):
    """The claims of a compact JWT, unverified."""
    part = text.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


# --- what answers look like -----------------------------------------------------------------------

REASONS = {
    400: ("Bad Request", "https://tools.ietf.org/html/rfc7231#section-6.5.1"),
    401: ("Unauthorized", "https://tools.ietf.org/html/rfc7235#section-3.1"),
    403: ("Forbidden", "https://tools.ietf.org/html/rfc7231#section-6.5.3"),
    404: ("Not Found", "https://tools.ietf.org/html/rfc7231#section-6.5.4"),
    405: ("Method Not Allowed", "https://tools.ietf.org/html/rfc7231#section-6.6.1"),
    409: ("Conflict", "https://tools.ietf.org/html/rfc7231#section-6.5.8"),
    413: ("Request Entity Too Large", "https://tools.ietf.org/html/rfc7231#section-6.6.1"),
    415: ("Unsupported Media Type", "https://tools.ietf.org/html/rfc7231#section-6.6.1"),
    422: ("Unprocessable Entity", "https://tools.ietf.org/html/rfc4918#section-11.2"),
    429: ("Too Many Requests", "https://tools.ietf.org/html/rfc7231#section-6.6.1"),
    503: ("Service Unavailable", "https://tools.ietf.org/html/rfc7231#section-6.6.4"),
}
PROBLEM_MEMBERS = ["type", "title", "status", "detail", "instance", "code", "errorId", "errors",
                   "retryAfter"]


def done(client, answer, status=200):
    """Checks that it was done; returns the result. The socket knows no status but 200."""
    assert answer.status == (status if client.name == "http" else 200), answer
    if status == 204:
        assert answer.body == (b"" if client.name == "http" else None)
    elif client.name == "http":
        assert answer.headers["Content-Type"] == "application/json"
    return answer.body


def refused(answer, status, code, detail=None, instance=None):
    """Checks a refusal: the whole problem, in the contract's order. Returns its errors."""
    assert (answer.status, answer.code) == (status, code), answer
    p = answer.body
    if answer.headers:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert ("WWW-Authenticate" in answer.headers) == (status == 401
                                                          or code == "Auth.MissingScope")
    assert list(p) == [m for m in PROBLEM_MEMBERS if m in p]
    assert None not in p.values()
    assert (p["title"], p["type"]) == REASONS[status]
    assert p["status"] == status
    assert p["detail"] and p["instance"]
    assert detail is None or p["detail"] == detail
    assert instance is None or p["instance"] == instance
    assert ("errorId" in p) == (status == 500)
    for e in p.get("errors", []):
        assert list(e) == [m for m in ("message", "location", "value") if m in e]
    return p.get("errors", [])


def places(errors):
    """The violations of a problem as (location, message)."""
    return [(e.get("location"), e["message"]) for e in errors]


organizations = (f"org-{n}" for n in itertools.count(1))


@pytest.fixture
def org():
    """The external id of an organization that nobody else uses."""
    return next(organizations)
