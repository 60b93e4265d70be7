# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What a gateway asks: ANY /tokens/validate, and the JWT that it hands on."""

import base64
import datetime
import hashlib
import json
import time

import pytest

from conftest import STORES, done, refused, short_life, wait_for

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


# --- the other end: verifies as any service behind the gateway would ------------------------------

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551
G = (0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296,
     0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5)


def add(a, b):
    """The sum of two points of P-256; None is the neutral one."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    if a == b:
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(n, point):
    out = None
    while n:
        out = add(out, point) if n & 1 else out
        point = add(point, point)
        n >>= 1
    return out


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verify_es256(text, jwk):
    """FIPS 186-5 section 6.4.2, over the signing input of RFC 7515."""
    signed, _, signature = text.rpartition(".")
    raw = decode(signature)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    if len(raw) != 64 or not (0 < r < N and 0 < s < N):
        return False
    e = int.from_bytes(hashlib.sha256(signed.encode()).digest(), "big")
    w = pow(s, -1, N)
    key = tuple(int.from_bytes(decode(jwk[c]), "big") for c in "xy")
    point = add(times(e * w % N, G), times(r * w % N, key))
    return point is not None and point[0] % N == r


def read_jwt(daemon, answer):
    """The claims that an answer carries, once its signature is found good."""
    scheme, _, text = answer.headers["Authorization"].partition(" ")
    assert scheme == "Bearer" and text.count(".") == 2
    head = json.loads(decode(text.split(".")[0]))
    nobody = daemon.http("")
    published = nobody.request("GET", "/api/.well-known/jwks.json")
    nobody.close()
    assert published.status == 200
    (jwk,) = [k for k in published.body["keys"] if k["kid"] == head["kid"]]
    assert (jwk["kty"], jwk["crv"], jwk["alg"], jwk["use"]) == ("EC", "P-256", "ES256", "sig")
    assert "d" not in jwk
    assert head["alg"] == "ES256" and head["typ"] == "JWT"
    assert verify_es256(text, jwk)
    forged = text[:-4] + ("AAAA" if text[-4:] != "AAAA" else "BBBB")
    assert not verify_es256(forged, jwk)
    return json.loads(decode(text.split(".")[1]))


def validate(daemon, token, method="GET", path="/api/tokens/validate", **kwargs):
    client = daemon.http(token)
    answer = client.request(method, path, **kwargs)
    client.close()
    return answer


@pytest.fixture
def owner(daemon, org):
    client = daemon.http(daemon.jwt(org=org))
    yield client
    client.close()


class Minted:
    def __init__(self, owner, **args):
        self.owner = owner
        self.account = done(owner, owner.call("account.create", name="Gate"), 201)
        args = dict({"name": "t", "scopes": ["read:instances", "write:licenses"]}, **args)
        self.token = done(owner, owner.call("token.create", serviceAccountSlug=self.slug, **args),
                          201)
        self.secret = self.token["token"]

    @property
    def slug(self):
        return self.account["slug"]

    @property
    def at(self):
        return {"serviceAccountSlug": self.slug, "tokenSlug": self.token["slug"]}


def utc(**delta):
    t = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**delta)
    return t.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- good tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_any_method_is_exactly_200(daemon, owner, org, method):
    m = Minted(owner)
    answer = validate(daemon, m.secret, method)
    assert answer.status == 200
    assert answer.body == (b"" if method == "HEAD" else b"OK")
    claims = read_jwt(daemon, answer)
    assert claims["sub"] == m.account["externalId"]


def test_claims(daemon, owner, org):
    m = Minted(owner)
    before = int(time.time())
    claims = read_jwt(daemon, validate(daemon, m.secret))
    assert claims["sub"] == m.account["externalId"]
    assert claims["kaiten_external_org_id"] == org
    assert claims["scopes"] == ["read:instances", "write:licenses"]
    assert claims["scope"] == "read:instances write:licenses"
    assert (claims["iss"], claims["aud"]) == ("kaitend", "kaiten")
    assert claims["jti"]
    assert before - 60 <= claims["iat"] <= time.time() + 1
    assert 3600 - 61 <= claims["exp"] - before <= 3601
    for name in ("kaiten_user_id", "kaiten_org_id", "org_id", "organization_id"):
        assert name not in claims
    assert m.token["id"] not in (claims["sub"], claims["kaiten_external_org_id"])


def test_no_scopes_is_a_good_token(daemon, owner):
    claims = read_jwt(daemon, validate(daemon, Minted(owner, scopes=[]).secret))
    assert claims["scopes"] == [] and claims["scope"] == ""


@pytest.mark.parametrize("lifetime,expected", [(None, 3600), (86400, 3600), (120, 120)])
def test_expiry_is_that_of_the_token_or_an_hour(daemon, owner, lifetime, expected):
    args = {} if lifetime is None else {"expiresAt": utc(seconds=lifetime)}
    m = Minted(owner, **args)
    claims = read_jwt(daemon, validate(daemon, m.secret))
    assert expected - 61 <= claims["exp"] - time.time() <= expected + 1
    if lifetime == 120:
        expires = datetime.datetime.fromisoformat(m.token["expiresAt"]).timestamp()
        assert claims["exp"] <= expires


def test_two_tokens_have_jwts_of_their_own(daemon, owner):
    a, b = Minted(owner), Minted(owner, scopes=["read:tokens"])
    first, second = (read_jwt(daemon, validate(daemon, m.secret)) for m in (a, b))
    assert first["sub"] == a.account["externalId"] and second["sub"] == b.account["externalId"]
    assert first["jti"] != second["jti"] and second["scopes"] == ["read:tokens"]


def test_body_query_and_content_type_are_not_looked_at(daemon, owner):
    m = Minted(owner)
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json"}):
        answer = validate(daemon, m.secret, "POST", "/tokens/validate?cursor=%00&limit=x",
                          headers=headers, raw=b"{no json")
        assert answer.status == 200


def test_credential_is_trimmed(daemon, owner):
    m = Minted(owner)
    answer = validate(daemon, "", headers={"Authorization": f"Bearer   {m.secret}  "})
    assert answer.status == 200


def test_no_other_header_tells_of_the_token(daemon, owner):
    answer = validate(daemon, Minted(owner).secret)
    assert set(answer.headers) <= {"Authorization", "Content-Type", "Content-Length", "Date",
                                   "Cache-Control", "X-Content-Type-Options", "Server",
                                   "Connection"}
    assert not [h for h in answer.headers if h.lower().startswith("x-auth")]


# --- refusals -------------------------------------------------------------------------------------


def body_of(answer):
    refused(answer, 401, "ValidateToken.Invalid", "invalid token", "/api/tokens/validate")
    assert "Authorization" not in answer.headers
    assert "error" not in answer.body
    return json.dumps(answer.body)


def test_every_refusal_is_the_same_body(daemon, owner, org):
    revoked, deleted, old = Minted(owner), Minted(owner), Minted(owner)
    expired = short_life(lambda end: owner.call(
        "token.create", serviceAccountSlug=Minted(owner).slug, name="short", scopes=[],
        expiresAt=end)).body["token"]
    for m in (revoked, deleted, old):
        assert validate(daemon, m.secret).status == 200
    done(owner, owner.call("token.revoke", **revoked.at), 204)
    done(owner, owner.call("account.delete", serviceAccountSlug=deleted.slug), 204)
    done(owner, owner.call("token.rotate", **old.at))
    wait_for(lambda: validate(daemon, expired).status == 401, "the token to expire")
    good = Minted(owner).secret
    flipped = good[:10] + ("a" if good[10] != "a" else "b") + good[11:]
    secrets = [revoked.secret, deleted.secret, old.secret, expired, flipped, good[:-1],
               good + "a", good.upper(), "ksm_" + good[4:], good[4:], "ksh-" + good[4:], "ksh_",
               "x", owner.token]
    assert len({body_of(validate(daemon, secret)) for secret in secrets}) == 1
    assert validate(daemon, good).status == 200


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer    ", "Basic eDp5",
                                    "bearer x", "BEARER x", "Token x"])
def test_missing_authorization(daemon, header):
    answer = validate(daemon, "", headers={} if header is None else {"Authorization": header})
    refused(answer, 401, "ValidateToken.MissingAuthorizationHeader",
            "missing valid Authorization header")
    assert "Authorization" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
def test_paths_below_are_not_found(daemon, owner, method):
    m = Minted(owner)
    for path in ("/tokens/validate/x", "/api/tokens/validate/x", "/api/tokens/validate/x/y",
                 "/api/tokens/validate//", "/api/tokens/validate/x/"):
        answer = validate(daemon, m.secret, method, path)
        assert answer.status == 404
        assert "Authorization" not in answer.headers
    # Without a credential nobody learns what is there.
    assert validate(daemon, "", method, "/api/tokens/validate/x").status == 401


def test_with_a_slash_it_is_the_same_for_known_callers_only(daemon, owner):
    """Gateways let the exact path through to everybody, and no other."""
    m = Minted(owner)
    for path in ("/tokens/validate/", "/api/tokens/validate/"):
        for method in METHODS:
            answer = validate(daemon, m.secret, method, path)
            assert answer.status == 200
            assert read_jwt(daemon, answer)["sub"] == m.account["externalId"]
        for header, code in ((None, "Auth.MissingAuthorizationHeader"),
                             ("Basic eDp5", "Auth.UnknownAuthorizationHeader"),
                             ("Bearer " + m.secret[:-1], "Auth.InvalidToken")):
            answer = validate(daemon, "", path=path,
                              headers={} if header is None else {"Authorization": header})
            refused(answer, 401, code, instance=path)
            assert "Authorization" not in answer.headers
        # A caller with a JWT is known, but has no token to exchange.
        refused(validate(daemon, owner.token, path=path), 401, "ValidateToken.Invalid")


@pytest.mark.parametrize("path", ["/api/tokens/validat", "/api/tokens", "/api/tokens/Validate"])
def test_paths_beside_are_not_found(daemon, owner, path):
    answer = validate(daemon, Minted(owner).secret, path=path)
    assert answer.status == 404 and "Authorization" not in answer.headers


# --- how long a verdict holds ---------------------------------------------------------------------


def test_a_verdict_does_not_outlive_its_token_on_one_connection(daemon, owner):
    """The first answer may be kept ready; the second is judged anew all the same."""
    for end in ("token.revoke", "token.rotate", "token.revokeAll", "account.delete"):
        m = Minted(owner)
        client = daemon.http(m.secret)
        for _ in range(3):
            assert client.call("token.validate").status == 200
        whole = end in ("token.revokeAll", "account.delete")
        args = {"serviceAccountSlug": m.slug} if whole else m.at
        assert owner.call(end, **args).ok
        body_of(client.call("token.validate"))
        client.close()


def test_rename_changes_nothing(daemon, owner):
    m = Minted(owner)
    done(owner, owner.call("account.update", serviceAccountSlug=m.slug, name="Other"), 204)
    claims = read_jwt(daemon, validate(daemon, m.secret))
    assert claims["sub"] == m.account["externalId"]


def test_issuer_audience_and_lifetime_are_options(own_daemon):
    daemon = own_daemon(STORES[-1], daemon="issuer = https://kaiten.example\naudience = ships\n"
                        "jwt_lifetime = 5m").start()
    owner = daemon.http()
    claims = read_jwt(daemon, validate(daemon, Minted(owner).secret))
    owner.close()
    assert (claims["iss"], claims["aud"]) == ("https://kaiten.example", "ships")
    assert 300 - 61 <= claims["exp"] - time.time() <= 301


def test_key_stays_over_a_restart(own_daemon):
    daemon = own_daemon(STORES[-1]).start()

    def keys():
        nobody = daemon.http("")
        body = nobody.request("GET", "/.well-known/jwks.json").body
        nobody.close()
        return body

    before = keys()
    assert daemon.stop() == 0
    daemon.start()
    assert keys() == before and len(before["keys"]) == 1


def test_the_jwt_is_no_caller_of_ours(daemon, owner):
    """What we hand out is for the services behind the gateway, not for this API."""
    jwt = validate(daemon, Minted(owner, scopes=["write:*"]).secret).headers["Authorization"]
    client = daemon.http(jwt.partition(" ")[2])
    refused(client.call("account.list"), 401, "Auth.InvalidToken")
    client.close()
