# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Who is asking: JWTs of every kind of key, tokens of our own, and peers of the socket."""

import base64
import contextlib
import datetime
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import time

import pytest

from conftest import KAITEN_JWT, Daemon, Doors, brief_life, done, refused, wait_for

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become others")


def b64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def keygen(folder, name, alg):
    private, public = folder / (name + "-private.pem"), folder / (name + "-public.pem")
    subprocess.run([KAITEN_JWT, "keygen", "--alg", alg, "--private", private, "--public", public],
                   check=True)
    return private, public


def sign(alg, key, kid=None, ttl=600, **claims):
    claims = dict({"sub": "alice", "kaiten_external_org_id": "acme", "scopes": ["read:*"]},
                  **claims)
    args = [KAITEN_JWT, "sign", "--alg", alg, "--key", key, "--ttl", str(ttl)]
    args += ["--kid", kid] if kid else []
    args += [f"{k}:={json.dumps(v)}" for k, v in claims.items() if v is not None]
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout.strip()


def secret_file(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def ec_jwk(public, kid):
    """The JWK of a P-256 public key in PEM, whose point is the end of its DER."""
    der = base64.b64decode("".join(public.read_text().split("\n")[1:-2]))
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": kid, "x": b64(der[-64:-32]),
            "y": b64(der[-32:])}


class Keys:
    """One daemon that knows a key of every kind: files of PEM, of secrets, and a JWK Set."""

    def __init__(self):
        self.daemon = daemon = Daemon("storage-memory")
        folder = self.folder = daemon.state
        self.rsa = daemon.private
        self.rsa_public = daemon.public
        self.ec, ec_public = keygen(folder, "ec", "ES256")
        self.set_ec, set_public = keygen(folder, "set", "ES256")
        self.hmac = secret_file(folder, "hmac.key", secrets.token_bytes(48))
        self.set_hmac = secret_file(folder, "set-hmac.key", secrets.token_bytes(32))
        oct_jwk = {"kty": "oct", "alg": "HS256", "kid": "set-hmac",
                   "k": b64(self.set_hmac.read_bytes())}
        secret_file(folder, "set.jwks", json.dumps(
            {"keys": [ec_jwk(set_public, "set-ec"), oct_jwk]}).encode())
        daemon.settings["jwt"] = (f"key = {ec_public} alg=ES256 kid=the-ec\n"
                                  f"key = {self.hmac} alg=HS256 kid=the-hmac\n"
                                  f"jwks = {folder}/set.jwks\n")
        daemon.write_conf()
        daemon.start()


@pytest.fixture(scope="module")
def keys():
    k = Keys()
    yield k
    code = k.daemon.stop()
    k.daemon.remove()
    assert code == 0


@pytest.fixture(params=["http", "socket"])
def ask(request, keys):
    """Asks whoami with a credential, through one of the doors."""
    doors = Doors(keys.daemon, request.param)
    yield lambda token: doors.with_token(token).call("whoami")
    doors.close()


# --- JWT ------------------------------------------------------------------------------------------


def test_rs256_by_pem(keys, ask):
    assert ask(sign("RS256", keys.rsa)).body["subject"] == "alice"


def test_es256_by_pem(keys, ask):
    assert ask(sign("ES256", keys.ec)).ok
    assert ask(sign("ES256", keys.ec, kid="the-ec")).ok


def test_hs256_by_secret_file(keys, ask):
    assert ask(sign("HS256", keys.hmac)).ok
    assert ask(sign("HS256", keys.hmac, kid="the-hmac")).ok


def test_es256_and_hs256_by_jwk_set(keys, ask):
    assert ask(sign("ES256", keys.set_ec, kid="set-ec")).ok
    assert ask(sign("HS256", keys.set_hmac, kid="set-hmac")).ok


def test_key_id_of_another_key(keys, ask):
    refused(ask(sign("ES256", keys.ec, kid="set-ec")), 401, "Auth.InvalidToken")
    refused(ask(sign("HS256", keys.hmac, kid="set-hmac")), 401, "Auth.InvalidToken")


def test_unknown_key(keys, ask, tmp_path):
    for alg in ("RS256", "ES256"):
        stranger, _ = keygen(tmp_path, alg, alg)
        refused(ask(sign(alg, stranger)), 401, "Auth.InvalidToken")
    stranger = secret_file(tmp_path, "hmac", secrets.token_bytes(48))
    refused(ask(sign("HS256", stranger)), 401, "Auth.InvalidToken")


def test_public_key_as_a_secret(keys, ask):
    """The oldest trick: HS256 over the bytes of the RSA public key, which everybody has."""
    claims = {"sub": "mallory", "kaiten_external_org_id": "acme", "scopes": ["write:*"],
              "exp": int(time.time()) + 600}
    signed = b64(b'{"alg":"HS256","typ":"JWT"}') + "." + b64(json.dumps(claims).encode())
    for secret in (keys.rsa_public.read_bytes(), keys.rsa_public.read_bytes().strip(), b""):
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        refused(ask(signed + "." + b64(mac)), 401, "Auth.InvalidToken")


def forge(token, head=None, claims=None):
    """The token with members of its head or claims changed, and its signature kept."""
    parts = token.split(".")
    for i, changes in ((0, head), (1, claims)):
        if changes:
            data = json.loads(base64.urlsafe_b64decode(parts[i] + "=" * (-len(parts[i]) % 4)))
            data.update(changes)
            parts[i] = b64(json.dumps(data).encode())
    return ".".join(parts)


FORGERIES = {
    "alg none": lambda t: forge(t, {"alg": "none"}),
    "alg none without signature": lambda t: forge(t, {"alg": "none"}).rpartition(".")[0] + ".",
    "alg NONE": lambda t: forge(t, {"alg": "NONE"}).rpartition(".")[0] + ".",
    "no signature": lambda t: t.rpartition(".")[0] + ".",
    "two parts": lambda t: t.rpartition(".")[0],
    "another alg of the family": lambda t: forge(t, {"alg": "RS512"}),
    "another family": lambda t: forge(t, {"alg": "ES256"}),
    "alg empty": lambda t: forge(t, {"alg": ""}),
    "alg a number": lambda t: forge(t, {"alg": 256}),
    "more scopes": lambda t: forge(t, None, {"scopes": ["write:*"]}),
    "another organization": lambda t: forge(t, None, {"kaiten_external_org_id": "other"}),
    "critical extension": lambda t: forge(t, {"crit": ["x"], "x": 1}),
    "a key of its own": lambda t: forge(t, {"jwk": {"kty": "oct", "k": "AAAA"}}),
    "signature cut": lambda t: t[:-8],
    "signature longer": lambda t: t + "AAAA",
    "four parts": lambda t: t + ".AAAA",
    "padding": lambda t: t + "==",
    "space inside": lambda t: t.replace(".", ". ", 1),
    "long": lambda t: t + "A" * 9000,
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged(keys, ask, name):
    good = sign("RS256", keys.rsa)
    assert ask(good).ok
    answer = ask(FORGERIES[name](good))
    refused(answer, 401, "Auth.InvalidToken")
    # Never more than that it is no good.
    assert answer.body["detail"] in ("Invalid token", "Failed to parse JWT")


class In(int):
    """Seconds from the moment when the token is signed."""


@pytest.mark.parametrize("claims,good", [
    ({"ttl": -1}, False), ({"ttl": -86400}, False), ({"exp": "tomorrow"}, False),
    ({"exp": 1e300}, False), ({"exp": 0}, False), ({"ttl": 25 * 3600}, False),
    ({"nbf": In(3600)}, False), ({"nbf": In(5)}, True), ({"nbf": In(-5)}, True),
    ({"nbf": "now"}, False), ({"iat": In(3600)}, False), ({"ttl": 23 * 3600}, True)])
def test_times(keys, ask, claims, good):
    claims = {k: int(time.time()) + v if isinstance(v, In) else v for k, v in claims.items()}
    answer = ask(sign("RS256", keys.rsa, **claims))
    if good:
        assert answer.ok, answer
    else:
        refused(answer, 401, "Auth.InvalidToken", "Invalid token")


def test_exp_is_required(keys, ask):
    head = b64(b'{"alg":"HS256","typ":"JWT"}')
    claims = b64(b'{"sub":"a","kaiten_external_org_id":"acme","scopes":[]}')
    mac = hmac.new(keys.hmac.read_bytes(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
    refused(ask(f"{head}.{claims}.{b64(mac)}"), 401, "Auth.MissingClaims",
            "Missing required JWT claims (exp)")


def test_known_callers_are_forgotten_when_they_expire(keys):
    """A verified caller is kept ready, but not for longer than it may live."""
    def known(end, over):
        token = sign("RS256", keys.rsa, exp=int(datetime.datetime.fromisoformat(end).timestamp()))
        clients = [keys.daemon.http(token), keys.daemon.rpc(token)]
        good = [client.call("whoami").ok for client in clients * 2]
        if over():
            return None
        assert all(good)
        return clients

    for client in brief_life(known, 2):
        wait_for(lambda: client.call("whoami").status == 401, "the JWT to expire")
        client.close()


def test_issuer_audience_claim_and_ceiling_are_options(own_daemon):
    daemon = own_daemon("storage-memory", jwt="issuer = https://one\nissuer = https://two\n"
                        "audience = kaiten\norg_claim = tenant\nscope_ceiling = read:*\n"
                        "scope_ceiling = write:licenses\nmax_token_lifetime = 10m").start()

    def who(**changes):
        claims = dict({"iss": "https://two", "aud": ["x", "kaiten"], "tenant": "mine",
                       "kaiten_external_org_id": None, "scopes": ["write:*"]}, **changes)
        client = daemon.http(sign("RS256", daemon.private, **claims))
        answer = client.call("whoami")
        client.close()
        return answer

    good = who()
    assert good.body["organization"] == "mine"
    assert sorted(good.body["scopes"]) == ["read:*", "write:licenses"]
    assert who(scopes=["read:tokens", "write:tokens"]).body["scopes"] == ["read:tokens"]
    for changes in ({"iss": "https://three"}, {"iss": None}, {"aud": "other"}, {"aud": None},
                    {"aud": ["kaiten", 1]}, {"ttl": 700}):
        refused(who(**changes), 401, "Auth.InvalidToken", "Invalid token")
    refused(who(tenant=None, kaiten_external_org_id="acme"), 401, "Auth.MissingClaims",
            "Missing required JWT claims (tenant)")


# --- our own tokens -------------------------------------------------------------------------------


class Minted:
    def __init__(self, door, scopes, **args):
        self.account = done(door, door.call("account.create", name="Robot"), 201)
        self.token = done(door, door.call("token.create", name="t", scopes=scopes,
                                          serviceAccountSlug=self.account["slug"], **args), 201)
        self.secret = self.token["token"]
        self.at = {"serviceAccountSlug": self.account["slug"], "tokenSlug": self.token["slug"]}


def test_token_as_a_caller_within_its_scopes(doors, org):
    owner = doors.caller(org=org)
    m = Minted(owner, ["read:tokens", "read:instances"])
    robot = doors.with_token(m.secret)
    who = done(robot, robot.call("whoami"))
    assert (who["kind"], who["subject"]) == ("token", m.account["externalId"])
    assert (who["organization"], who["name"]) == (org, "Robot")
    assert who["id"] == m.account["id"]
    assert who["scopes"] == ["read:tokens", "read:instances"]
    assert [a["id"] for a in done(robot, robot.call("account.list"))["items"]] == [m.account["id"]]
    refused(robot.call("account.create", name="n"), 403, "Auth.MissingScope")
    refused(robot.call("token.revoke", **m.at), 403, "Auth.MissingScope")


def test_token_as_a_caller_creates_in_its_own_name(doors, org):
    m = Minted(doors.caller(org=org), ["write:tokens", "read:licenses"])
    robot = doors.with_token(m.secret)
    made = Minted(robot, ["read:licenses"])
    for thing in (made.account, made.token):
        assert thing["createdBy"] == {"id": m.account["id"], "name": "Robot"}
    refused(robot.call("token.create", name="more", scopes=["write:licenses"],
                       serviceAccountSlug=made.account["slug"]), 403,
            "CreateToken.ScopesExceedCaller")
    inherited = done(robot, robot.call("token.create", name="all", scopes=None,
                                       serviceAccountSlug=made.account["slug"]), 201)
    assert inherited["scopes"] == ["write:tokens", "read:licenses"]


def test_token_may_revoke_itself(doors, org):
    m = Minted(doors.caller(org=org), ["write:tokens"])
    robot = doors.with_token(m.secret)
    done(robot, robot.call("token.revoke", **m.at), 204)
    refused(robot.call("token.revoke", **m.at), 401, "Auth.InvalidToken", "Invalid token")


@pytest.mark.parametrize("end", ["token.revoke", "token.rotate", "token.revokeAll",
                                 "account.delete"])
def test_ended_token_is_refused_at_once_on_open_connections(daemon, org, end):
    owner = daemon.http(daemon.jwt(org=org))
    m = Minted(owner, ["read:*"])
    clients = [daemon.http(m.secret), daemon.rpc(m.secret), daemon.http(m.secret)]
    for client in clients:
        assert client.call("account.list").ok and client.call("whoami").ok
    args = dict(m.at)
    if end in ("account.delete", "token.revokeAll"):
        del args["tokenSlug"]
    assert owner.call(end, **args).ok
    for client in clients:
        for operation in ("whoami", "account.list"):
            refused(client.call(operation), 401, "Auth.InvalidToken", "Invalid token")
        client.close()
    owner.close()


def test_expired_token_is_no_caller(doors, org):
    owner = doors.caller(org=org)
    slug = done(owner, owner.call("account.create", name="Robot"), 201)["slug"]

    def expiring(end, over):
        minted = owner.call("token.create", serviceAccountSlug=slug, name=end, scopes=["read:*"],
                            expiresAt=end)
        robot = minted.ok and doors.with_token(minted.body["token"])
        answer = robot and robot.call("whoami")
        if over():
            return None
        assert answer and answer.ok, (minted, answer)
        return robot

    robot = brief_life(expiring)
    wait_for(lambda: robot.call("whoami").status == 401, "the token to expire")


def test_plugins_are_asked_only_where_they_are_configured(own_daemon):
    daemon = own_daemon("storage-memory")
    text = daemon.conf.read_text()
    before, _, http = text.partition("[http]")
    daemon.conf.write_text(before.replace("auth = auth-jwt\n", "") + "[http]"
                           + http.replace("auth = auth-token\n", ""))
    daemon.start()
    http, rpc = daemon.http(), daemon.rpc()
    m = Minted(http, ["read:*"])
    for client, credential in ((daemon.http(m.secret), False), (daemon.rpc(m.secret), True),
                               (daemon.rpc(daemon.jwt()), False), (http, True), (rpc, True)):
        answer = client.call("whoami")
        if credential:
            done(client, answer)
        else:
            refused(answer, 401, "Auth.InvalidToken", "Failed to parse JWT")
        client.close()


# --- peers ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def identity(uid, gid, groups=()):
    """Connections that are made inside are this user's: the kernel notes who connects."""
    before = os.getgroups()
    os.setgroups(list(groups))
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


ME = f"uid={os.geteuid()}"


def test_peer_rule_says_who_it_is(own_daemon):
    daemon = own_daemon("storage-memory", rules=[
        f'{ME} org=acme subject=build name="The Builder" scopes=write:tokens,read:licenses'])
    daemon.start()
    rpc = daemon.rpc()
    who = done(rpc, rpc.call("whoami"))
    assert (who["subject"], who["name"]) == ("build", "The Builder")
    assert (who["organization"], who["kind"]) == ("acme", "peer")
    assert who["scopes"] == ["write:tokens", "read:licenses"]
    m = Minted(rpc, ["read:licenses"])
    assert m.token["createdBy"] == {"id": who["id"], "name": "The Builder"}
    refused(rpc.call("token.create", serviceAccountSlug=m.account["slug"], name="x",
                     scopes=["write:licenses"]), 403, "CreateToken.ScopesExceedCaller")
    rpc.close()


@pytest.mark.parametrize("rules", [[], ["uid=4711 org=acme scopes=read:*"],
                                   [f"{ME} deny", f"{ME} org=acme scopes=read:*"],
                                   ["any deny", f"{ME} org=acme scopes=read:*"]])
def test_peer_without_a_rule_is_nobody(own_daemon, rules):
    daemon = own_daemon("storage-memory", rules=rules).start()
    rpc = daemon.rpc()
    for operation in ("whoami", "account.list", "token.verify"):
        args = {"token": "x"} if operation == "token.verify" else {}
        refused(rpc.call(operation, **args), 401, "Auth.PeerNotAllowed",
                f"no rule admits this peer (uid {os.geteuid()})", operation)
    # Public methods are for everybody, and a credential is as good as ever.
    assert rpc.call("kaiten.ping").ok and rpc.call("healthz").ok
    rpc.token = daemon.jwt()
    done(rpc, rpc.call("whoami"))
    rpc.close()


@pytest.mark.parametrize("verify,own,foreign", [("no", None, None), (None, None, None),
                                                ("own", True, False), ("any", True, True)])
def test_peer_rule_verify(own_daemon, verify, own, foreign):
    rule = f"{ME} org=acme scopes=read:*" + (f" verify={verify}" if verify else "")
    daemon = own_daemon("storage-memory", rules=[rule]).start()
    secrets_of = {}
    for org in ("acme", "other"):
        http = daemon.http(daemon.jwt(org=org))
        secrets_of[org] = Minted(http, ["read:licenses"]).secret
        http.close()
    rpc = daemon.rpc()
    for org, allowed in (("acme", own), ("other", foreign)):
        one = rpc.call("token.verify", token=secrets_of[org])
        many = rpc.call("token.verifyMany", tokens=[secrets_of[org]])
        if allowed is None:
            for answer in (one, many):
                refused(answer, 403, "Auth.VerifyNotAllowed")
        elif allowed:
            assert one.body["valid"] and one.body["organization"] == org
            assert many.body["results"] == [one.body]
        else:
            # As if there were no such token, also when it has ended.
            assert one.body == {"valid": False, "code": "unknown"}
            assert many.body["results"] == [one.body]
    rpc.close()


def test_other_callers_may_not_verify(own_daemon):
    """Only a rule gives that right: neither a JWT nor a token does."""
    daemon = own_daemon("storage-memory").start()
    owner = daemon.rpc(daemon.jwt())
    m = Minted(owner, ["write:*"])
    for credential in (owner.token, m.secret):
        rpc = daemon.rpc(credential)
        refused(rpc.call("token.verify", token=m.secret), 403, "Auth.VerifyNotAllowed")
        rpc.close()
    owner.close()


def test_peer_rule_maximum_lifetime(own_daemon):
    daemon = own_daemon("storage-memory", daemon="max_token_lifetime = 30d", rules=[
        f"{ME} org=acme scopes=write:* max_lifetime=1h"]).start()
    rpc = daemon.rpc()
    slug = done(rpc, rpc.call("account.create", name="n"))["slug"]

    def mint(**delta):
        t = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**delta)
        return rpc.call("token.create", serviceAccountSlug=slug, name=str(delta), scopes=[],
                        expiresAt=t.strftime("%Y-%m-%dT%H:%M:%SZ") if delta else None)

    done(rpc, mint(minutes=59))
    for answer in (mint(minutes=62), mint()):
        (error,) = refused(answer, 422, "UNPROCESSABLE")
        assert error["message"] == "expected a lifetime of at most 1h"
    # A new secret for a token that lives longer would be the same by another name.
    owner = daemon.rpc(daemon.jwt())
    for name, minutes in (("long", 62), ("short", 59)):
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
        done(owner, owner.call("token.create", serviceAccountSlug=slug, name=name, slug=name,
                               scopes=[], expiresAt=end.strftime("%Y-%m-%dT%H:%M:%SZ")))
    refused(rpc.call("token.rotate", serviceAccountSlug=slug, tokenSlug="long"), 403,
            "RotateToken.LifetimeExceedsCaller")
    done(rpc, rpc.call("token.rotate", serviceAccountSlug=slug, tokenSlug="short"))
    owner.close()
    rpc.close()


def test_an_empty_token_is_not_the_peer(own_daemon):
    """A program that passes on a token it was given never speaks for itself by mistake."""
    daemon = own_daemon("storage-memory").start()
    rpc = daemon.rpc()
    for token in ("", b""):
        ident = rpc.send("whoami", {}, {"token": token})
        kind, answered, error, result = rpc.receive()
        assert (answered, error["status"], result) == (ident, 400, None)
    assert rpc.call("whoami").ok
    rpc.close()


@ROOT
def test_three_uids_on_one_socket(own_daemon):
    daemon = own_daemon("storage-memory", rules=[
        "uid=4001 org=red subject=one scopes=read:*,write:* verify=own",
        "gid=5002 org=blue subject=two scopes=read:*,write:*",
        "uid=0 org=root scopes=read:* verify=any"]).start()

    def connect(uid, gid, groups=()):
        with identity(uid, gid, groups):
            return daemon.rpc()

    one, two, three = connect(4001, 4001), connect(4002, 4002, [77, 5002]), connect(4003, 4003)
    two_too = connect(4004, 5002)
    assert one.call("whoami").body["organization"] == "red"
    assert two.call("whoami").body["organization"] == "blue"
    assert two_too.call("whoami").body["organization"] == "blue"
    refused(three.call("whoami"), 401, "Auth.PeerNotAllowed", "no rule admits this peer (uid 4003)")
    red, blue = Minted(one, ["read:tokens"]), Minted(two, ["read:tokens"])
    assert one.call("token.verify", token=red.secret).body["valid"]
    assert one.call("token.verify", token=blue.secret).body["code"] == "unknown"
    refused(two.call("token.verify", token=blue.secret), 403, "Auth.VerifyNotAllowed")
    refused(one.call("account.get", serviceAccountSlug=blue.account["slug"]), 404,
            "ServiceAccount.NotFound")
    assert [a["id"] for a in two_too.call("account.list").body["items"]] == [blue.account["id"]]
    # What a peer says of itself counts for nothing.
    three.call("kaiten.hello", client="uid=4001", errors="problem")
    assert three.call("account.list").status == 401
    for client in (one, two, three, two_too):
        client.close()


@ROOT
def test_socket_mode_and_group_are_options(own_daemon):
    daemon = own_daemon("storage-memory", sock="mode = 0660\ngroup = daemon",
                        rules=["any org=acme scopes=read:*"]).start()
    mode = os.stat(daemon.socket_path)
    assert (mode.st_mode & 0o777, mode.st_gid) == (0o660, 1)
    with identity(4001, 4001), pytest.raises(PermissionError):
        daemon.rpc()
    with identity(4001, 1):
        rpc = daemon.rpc()
    assert rpc.call("whoami").ok
    rpc.close()
