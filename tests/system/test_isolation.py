# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Organizations cannot see or touch each other, whatever they ask for."""

import json
import os
import random

import pytest

from conftest import done, refused

STEPS = int(os.environ.get("KAITEN_TEST_WALK", "3000"))
SEED = int(os.environ.get("KAITEN_TEST_SEED", "0")) or random.randrange(1, 2**32)


# --- every operation with everything that belongs to the other ------------------------------------


def everything(door):
    """All that an organization can see of itself, as bytes."""
    accounts = done(door, door.call("account.list", limit=200))
    tokens = [done(door, door.call("token.list", serviceAccountSlug=a["slug"], limit=200))
              for a in accounts["items"]]
    return json.dumps([accounts, tokens])


@pytest.fixture(params=["jwt", "token", "peer"])
def intruder(request, doors, org, daemon):
    """A caller of another organization with all scopes, proved in one of the three ways."""
    outsider = doors.caller(org=org + "-intruder")
    if request.param == "jwt":
        return outsider
    if request.param == "token":
        slug = done(outsider, outsider.call("account.create", name="n"), 201)["slug"]
        token = done(outsider, outsider.call("token.create", serviceAccountSlug=slug, name="n",
                                             scopes=["write:*", "read:*"]), 201)
        return doors.with_token(token["token"])
    peer = daemon.rpc()
    doors.open.append(peer)
    return peer


def test_nothing_of_another_organization_can_be_reached(doors, org, intruder, daemon):
    owner = doors.caller(org=org)
    account = done(owner, owner.call("account.create", name="Mine", slug=org + "-mine"), 201)
    minted = done(owner, owner.call("token.create", serviceAccountSlug=account["slug"],
                                    name="mine", scopes=["read:tokens"]), 201)
    before = everything(owner)
    theirs = everything(intruder)
    for slug in (account["slug"], account["id"], account["externalId"], account["slug"] + "/",
                 account["slug"].upper()):
        refused(intruder.call("account.get", serviceAccountSlug=slug),
                *(404, "ServiceAccount.NotFound") if not slug.endswith("/")
                or intruder.name == "socket" else (400, "VALIDATION"))
        if slug.endswith("/"):
            continue
        refused(intruder.call("account.update", serviceAccountSlug=slug, name="Stolen"), 404,
                "ServiceAccount.NotFound")
        for operation in ("account.delete", "token.revokeAll"):
            refused(intruder.call(operation, serviceAccountSlug=slug), 404,
                    "ServiceAccount.NotFound")
        refused(intruder.call("token.create", serviceAccountSlug=slug, name="spy", scopes=[]), 404,
                "CreateToken.ServiceAccountNotFound")
        page = done(intruder, intruder.call("token.list", serviceAccountSlug=slug))
        assert page == {"items": [], "hasMore": False}
        for token in (minted["slug"], minted["id"]):
            for operation in ("token.get", "token.rotate", "token.revoke"):
                refused(intruder.call(operation, serviceAccountSlug=slug, tokenSlug=token), 404,
                        "Token.NotFound")
    assert everything(owner) == before
    assert everything(intruder) == theirs
    for secret in (account["id"], account["externalId"], minted["id"], org + "-mine"):
        assert secret not in theirs
    client = daemon.http(minted["token"])
    assert client.call("token.validate").status == 200
    client.close()


def test_same_slugs_and_names_are_other_things(doors, org):
    """Two organizations with the same names for everything; each ends only what is its own."""
    clients = [doors.caller(org=org + "-" + n) for n in "ab"]
    made = []
    for c in clients:
        account = done(c, c.call("account.create", name="Same", slug="same-slug"), 201)
        made.append(done(c, c.call("token.create", serviceAccountSlug="same-slug", name="same",
                                   slug="same-token", scopes=["read:tokens"]), 201))
        assert made[-1]["serviceAccountId"] == account["id"]
    at = {"serviceAccountSlug": "same-slug", "tokenSlug": "same-token"}
    robots = [doors.with_token(t["token"]) for t in made]
    assert [r.call("whoami").body["organization"] for r in robots] == [org + "-a", org + "-b"]
    done(clients[0], clients[0].call("token.revoke", **at), 204)
    assert [r.call("whoami").status for r in robots] == [401, 200]
    done(clients[0], clients[0].call("account.delete", serviceAccountSlug="same-slug"), 204)
    assert done(clients[1], clients[1].call("token.get", **at))["id"] == made[1]["id"]
    assert robots[1].call("whoami").ok


@pytest.mark.parametrize("names", [("a", "A"), ("a", "a/"), ("org", "org\u0301"), ("a.b", "a-b"),
                                   ("x" * 200, "x" * 199 + "y"), ("a%2fb", "a/b")])
def test_organizations_with_names_alike(doors, org, names):
    clients = [doors.caller(org=org + n) for n in names]
    for c in clients:
        done(c, c.call("account.create", name="n", slug="alike"), 201)
    ids = [done(c, c.call("whoami"))["organizationId"] for c in clients]
    assert ids[0] != ids[1]
    for c in clients:
        assert len(done(c, c.call("account.list"))["items"]) == 1


# --- a random walk against a model ----------------------------------------------------------------


class Token:
    def __init__(self, account, view):
        self.account, self.view = account, view
        self.revoked = False
        self.secrets = []


class Account:
    def __init__(self, org, view):
        self.org, self.view = org, view
        self.tokens = []  # newest first
        self.dead = False

    def token(self, slug):
        return next((t for t in self.tokens if t.view["slug"] == slug), None)


class Walker:
    """Does one random operation after another, and knows what each must answer."""

    SLUGS = ["aa", "bb", "cc", "dd"]
    TOKENS = ["t1", "t2", "t3", "t4"]
    NAMES = ["one", "two", "three"]
    SCOPES = ["read:tokens", "write:licenses", "read:*"]

    def __init__(self, rng, clients, verifier):
        self.rng, self.clients, self.verifier = rng, clients, verifier
        self.accounts = {org: [] for org in clients}  # newest first
        self.secrets = {}  # every secret that there ever was: its token
        self.seen = {}

    def find(self, org, slug):
        return next((a for a in self.accounts[org] if a.view["slug"] == slug), None)

    def step(self):
        self.org = self.rng.choice(list(self.clients))
        self.client = self.rng.choice(self.clients[self.org])
        name = self.rng.choices(*zip(*self.WEIGHTS))[0]
        outcome = getattr(self, name)()
        self.seen[name, outcome] = self.seen.get((name, outcome), 0) + 1

    def call(self, operation, **args):
        return self.client.call(operation, **args)

    # Each returns what happened, so that a walk can be asked whether it has been everywhere.

    def create_account(self):
        slug, name = self.rng.choice(self.SLUGS), self.rng.choice(self.NAMES)
        answer = self.call("account.create", name=name, slug=slug)
        if self.find(self.org, slug):
            refused(answer, 409, "CreateServiceAccount.SlugConflict")
            return "conflict"
        view = done(self.client, answer, 201)
        assert (view["name"], view["slug"], view["tokens"]) == (name, slug, None)
        self.accounts[self.org].insert(0, Account(self.org, dict(view, tokens=[])))
        return "done"

    def pick(self):
        slug = self.rng.choice(self.SLUGS)
        return slug, self.find(self.org, slug)

    def get_account(self):
        slug, account = self.pick()
        answer = self.call("account.get", serviceAccountSlug=slug)
        if not account:
            refused(answer, 404, "ServiceAccount.NotFound")
            return "absent"
        self.compare(account, done(self.client, answer))
        return "done"

    def update_account(self):
        slug, account = self.pick()
        name = self.rng.choice(self.NAMES)
        answer = self.call("account.update", serviceAccountSlug=slug, name=name)
        if not account:
            refused(answer, 404, "ServiceAccount.NotFound")
            return "absent"
        done(self.client, answer, 204)
        account.view["name"] = name
        return "done"

    def delete_account(self):
        slug, account = self.pick()
        answer = self.call("account.delete", serviceAccountSlug=slug)
        if not account:
            refused(answer, 404, "ServiceAccount.NotFound")
            return "absent"
        done(self.client, answer, 204)
        self.accounts[self.org].remove(account)
        account.dead = True
        return "done"

    def list_accounts(self):
        page = done(self.client, self.call("account.list", limit=200))
        assert len(page["items"]) == len(self.accounts[self.org]) and not page["hasMore"]
        for account, view in zip(self.accounts[self.org], page["items"]):
            self.compare(account, view)
        return "done"

    def create_token(self):
        slug, account = self.pick()
        args = {"name": self.rng.choice(self.NAMES), "slug": self.rng.choice(self.TOKENS),
                "scopes": self.rng.sample(self.SCOPES, self.rng.randrange(3))}
        if self.rng.random() < 0.5:
            args["expiresAt"] = "2099-01-01T00:00:00Z"
        answer = self.call("token.create", serviceAccountSlug=slug, **args)
        if not account:
            refused(answer, 404, "CreateToken.ServiceAccountNotFound")
            return "absent"
        if account.token(args["slug"]):
            refused(answer, 409, "CreateToken.SlugConflict")
            return "slug conflict"
        if any(t.view["name"] == args["name"] and not t.revoked for t in account.tokens):
            refused(answer, 409, "CreateToken.Conflict")
            return "name conflict"
        view = done(self.client, answer, 201)
        assert {k: view[k] for k in args} == args
        assert view["serviceAccountId"] == account.view["id"]
        token = Token(account, view)
        account.tokens.insert(0, token)
        self.keep(token, view.pop("token"))
        return "done"

    def keep(self, token, secret):
        assert secret not in self.secrets
        self.secrets[secret] = token
        token.secrets = [secret] + token.secrets

    def pick_token(self):
        slug, account = self.pick()
        token = self.rng.choice(self.TOKENS)
        return ({"serviceAccountSlug": slug, "tokenSlug": token},
                account.token(token) if account else None)

    def get_token(self):
        at, token = self.pick_token()
        answer = self.call("token.get", **at)
        if not token:
            refused(answer, 404, "Token.NotFound")
            return "absent"
        self.compare_token(token, done(self.client, answer))
        return "revoked" if token.revoked else "done"

    def list_tokens(self):
        slug, account = self.pick()
        page = done(self.client, self.call("token.list", serviceAccountSlug=slug))
        tokens = account.tokens if account else []
        assert len(page["items"]) == len(tokens)
        for token, view in zip(tokens, page["items"]):
            self.compare_token(token, view)
        return "done" if account else "absent"

    def rotate_token(self):
        at, token = self.pick_token()
        grace = self.rng.choice([0, 3600])
        answer = self.call("token.rotate", gracePeriodSeconds=grace, **at)
        if not token or token.revoked:
            refused(answer, 404, "Token.NotFound")
            return "absent"
        view = done(self.client, answer)
        secret = view.pop("token")
        self.compare_token(token, view)
        token.secrets = token.secrets[:1] if grace else []
        self.keep(token, secret)
        return "grace" if grace else "done"

    def revoke_token(self):
        at, token = self.pick_token()
        answer = self.call("token.revoke", **at)
        if not token or token.revoked:
            refused(answer, 404, "Token.NotFound")
            return "absent"
        done(self.client, answer, 204)
        token.revoked = True
        return "done"

    def revoke_all(self):
        slug, account = self.pick()
        answer = self.call("token.revokeAll", serviceAccountSlug=slug)
        if not account:
            refused(answer, 404, "ServiceAccount.NotFound")
            return "absent"
        assert done(self.client, answer)["serviceAccountId"] == account.view["id"]
        for token in account.tokens:
            token.revoked = True
        return "done"

    def verify(self):
        if not self.secrets:
            return "none"
        # The newest are the likelier ones to be alive.
        recent = list(self.secrets)[-20:]
        secret = self.rng.choice(recent if self.rng.random() < 0.8 else list(self.secrets))
        expected = self.verdict(secret)
        assert self.verifier.call("token.verify", token=secret).body == expected
        return "done" if expected["valid"] else "revoked"

    def verdict(self, secret):
        token = self.secrets[secret]
        if token.revoked or token.account.dead or secret not in token.secrets:
            return {"valid": False, "code": "revoked"}
        view = token.view
        verdict = {"valid": True, "tokenId": view["id"], "organization": token.account.org,
                   "serviceAccount": token.account.view["slug"], "scopes": view["scopes"]}
        if "expiresAt" in view and secret == token.secrets[0]:
            verdict["expiresAt"] = view["expiresAt"]
        elif secret != token.secrets[0]:
            # In its grace: until when is the clock's affair.
            verdict["expiresAt"] = self.verifier.call("token.verify",
                                                      token=secret).body["expiresAt"]
            assert verdict["expiresAt"] < "2099"
        return verdict

    def compare_token(self, token, view):
        view = dict(view)
        view.pop("lastUsedAt", None)
        if token.revoked:
            assert view.pop("revokedAt") and view.pop("revokedBy")
        assert view == token.view

    def compare(self, account, view):
        view = dict(view)
        tokens = view.pop("tokens")
        assert len(tokens) == len(account.tokens)
        for token, seen in zip(account.tokens, tokens):
            self.compare_token(token, seen)
        assert dict(view, tokens=[]) == account.view

    def everything(self):
        """All that there is, seen by both organizations through both doors."""
        for self.org, clients in self.clients.items():
            for self.client in clients:
                self.list_accounts()
        secrets = list(self.secrets)
        for i in range(0, len(secrets), 500):
            some = secrets[i:i + 500]
            verdicts = self.verifier.call("token.verifyMany", tokens=some).body["results"]
            for secret, verdict in zip(some, verdicts):
                assert verdict["valid"] == self.verdict(secret)["valid"]
                assert not verdict["valid"] or verdict == self.verdict(secret)

    WEIGHTS = [("create_account", 8), ("get_account", 6), ("update_account", 4),
               ("delete_account", 2), ("list_accounts", 4), ("create_token", 25),
               ("get_token", 8), ("list_tokens", 6), ("rotate_token", 8), ("revoke_token", 9),
               ("revoke_all", 2), ("verify", 20)]


def test_random_walk_of_two_organizations(daemon, org, verifier):
    names = [org + "-a", org + "-b"]
    clients = {name: [daemon.http(daemon.jwt(org=name)), daemon.rpc(daemon.jwt(org=name))]
               for name in names}
    walker = Walker(random.Random(SEED), clients, verifier)
    done_steps = 0
    try:
        for done_steps in range(STEPS):
            walker.step()
            if done_steps % 250 == 249:
                walker.everything()
        walker.everything()
    except Exception as e:
        raise AssertionError(f"step {done_steps} of the walk KAITEN_TEST_SEED={SEED}: {e}") from e
    finally:
        for client in sum(clients.values(), []):
            client.close()
    # A walk that never got anywhere would have shown nothing.
    if STEPS >= 1500:
        for name, _ in walker.WEIGHTS:
            assert walker.seen.get((name, "done"), 0) > 5, walker.seen
        for outcome in (("create_token", "slug conflict"), ("create_token", "name conflict"),
                        ("create_account", "conflict"), ("rotate_token", "grace"),
                        ("verify", "revoked"), ("get_token", "revoked")):
            assert walker.seen.get(outcome, 0) > 5, walker.seen
