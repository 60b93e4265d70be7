# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What clients saw, written down as it happens, and a checker of what they must never have seen.

A journal has one line per attempt and one for its end:

    attempt       a request is about to be sent
    acknowledged  it was answered with success
    refused       it was answered with an error: nothing happened, unless the status is 5xx and
                  the code another one than Server.Busy
    unread        the daemon promised not to have read it: nothing happened
    unknown       nobody can tell

Each secret is a register that goes from absent to live to dead and never back. Violations:

    lost         acknowledged and never revoked, and yet not valid
    resurrected  valid, in a request that began after the end of the secret was acknowledged or seen
    doubled      one key, two tokens
    mixed        the answer to somebody else's request
    unexplained  a status of 5xx that the test did not ask for
    ghost        refused or unread, and yet it happened
"""

import collections
import http.client
import itertools
import json
import random
import threading
import time

from conftest import PATIENCE, Answer

ENDS = ("acknowledged", "refused", "unread", "unknown")

Violation = collections.namedtuple("Violation", "kind text")


class Journal:
    """Append-only; any thread may write."""

    def __init__(self):
        self.lines = []
        self.numbers = itertools.count(1)

    def attempt(self, what, **facts):
        """what: mint, revoke, rotate, delete, verify, list or anything else; returns a number."""
        n = next(self.numbers)
        self.lines.append(dict(facts, n=n, line="attempt", what=what, at=time.monotonic()))
        return n

    def end(self, n, line, **facts):
        assert line in ENDS
        self.lines.append(dict(facts, n=n, line=line, at=time.monotonic()))

    def answered(self, n, answer, **facts):
        """An Answer of a door; facts are what a success says."""
        if answer.ok:
            self.end(n, "acknowledged", **facts)
        else:
            self.end(n, "refused", status=answer.status, code=answer.code)

    def count(self, what=None, line="acknowledged"):
        return sum(1 for c in calls(self.lines) if c.line == line and what in (None, c.what))

    def dump(self, path):
        with open(path, "w") as f:
            for line in self.lines:
                f.write(json.dumps(line, default=str) + "\n")


class Call:
    """An attempt with its end. end is infinite when there was none."""

    def __init__(self, attempt):
        self.what = attempt["what"]
        self.start = attempt["at"]
        self.end = float("inf")
        self.line = "unknown"
        self.facts = dict(attempt)

    def ended(self, line):
        self.line = line["line"]
        if self.line != "unknown":
            self.end = line["at"]
        self.facts.update((k, v) for k, v in line.items() if k not in ("n", "at", "line"))

    def __getattr__(self, name):
        return self.facts.get(name)

    @property
    def done(self):
        return self.line == "acknowledged"

    @property
    def maybe_done(self):
        return self.line == "unknown" or (self.line == "refused" and (self.status or 0) >= 500
                                          and self.code != "Server.Busy")


def calls(lines):
    found = {}
    for line in list(lines):
        if line["line"] == "attempt":
            found[line["n"]] = Call(line)
        else:
            found[line["n"]].ended(line)
    return list(found.values())


class Secret:
    def __init__(self, call, account):
        self.text, self.token, self.account = call.secret, call.token, account
        self.asked, self.born = call.start, call.end
        self.expires = call.expires  # wall clock, or None
        self.ends = []               # calls that end it, or may


def secrets_of(history):
    found = {}
    accounts = {}
    asked = {}  # of mints, by key: when they were first asked for
    for c in history:
        if c.what == "mint" and c.done:
            accounts[c.token] = c.account
        if c.what == "mint" and c.key is not None:
            asked.setdefault((c.account, c.key), c.start)
    for c in history:
        if c.what in ("mint", "rotate") and c.done:
            found[c.secret] = Secret(c, accounts.get(c.token))
            found[c.secret].asked = asked.get((c.account, c.key), c.start)
    by_token, by_account = collections.defaultdict(list), collections.defaultdict(list)
    for s in found.values():
        by_token[s.token].append(s)
        by_account[s.account].append(s)
    for c in history:
        if c.what == "revoke":
            ended = by_token[c.token]
        elif c.what in ("delete", "revoke_all"):
            ended = by_account[c.account]
        elif c.what == "rotate" and not c.grace:
            ended = [s for s in by_token[c.token] if s.text != c.secret]
        else:
            continue
        if c.done or c.maybe_done:
            for s in ended:
                s.ends.append(c)
    return found


def check_verify(c, s, dead, bound):
    """dead: when a refusal of the secret was first seen, as the time its answer came."""
    if c.valid:
        for e in s.ends:
            if e.done and s.born <= e.start and e.end + bound <= c.start:
                yield Violation("resurrected", f"{s.text} valid after {e.what} {e.facts['n']}")
                return
        # Who could not learn what became of it counts it as ended, ahead of the others.
        alone = bound > 0 and any(e.maybe_done for e in s.ends)
        if not alone and c.start > dead.get(s.text, float("inf")) + bound:
            yield Violation("resurrected", f"{s.text} valid after it had been refused")
        elif s.expires and c.wall and c.wall > s.expires:
            yield Violation("resurrected", f"{s.text} valid after its expiry")
        if c.answered_token and c.answered_token != s.token:
            yield Violation("mixed", f"{s.text} is {s.token}, answered {c.answered_token}")
        return
    if c.start < s.born:
        return
    explained = any(e.start < c.end and e.end > s.asked for e in s.ends)
    if not explained and not s.expires:
        yield Violation("lost", f"{s.text} of {s.account} refused: {c.code}")


def check_verifies(history, secrets, bound):
    verifies = sorted((c for c in history if c.what == "verify" and c.done), key=lambda c: c.end)
    dead = {}
    for c in verifies:
        if not c.valid and c.secret in secrets and c.start >= secrets[c.secret].born:
            dead.setdefault(c.secret, c.end)
    for c in verifies:
        if c.secret in secrets:
            yield from check_verify(c, secrets[c.secret], dead, bound)


def check_list(c, mints, revokes, ends):
    """c.tokens: slug -> (id, whether it is revoked), of one account, whole. mints by slug, revokes
    by token; ends are those of all tokens."""
    born = {m.token: m.end for asked in mints.values() for m in asked if m.done}
    # A mint may have happened long before its answer was read, and when it was asked for first, if
    # that answer was lost: what ended everything in between explains the end of its token.
    begun = {m.token: min(a.start for a in asked)
             for asked in mints.values() for m in asked if m.done}
    for slug in mints.keys() | c.tokens.keys():
        seen = c.tokens.get(slug)
        asked = mints.get(slug, ())
        for m in asked:
            if m.done and m.end <= c.start and (not seen or seen[0] != m.token):
                yield Violation("lost", f"{slug} of {c.account} is {seen} in the list")
        if seen and not any(m.done or m.maybe_done for m in asked):
            how = asked[0].line if asked else "never asked for"
            yield Violation("ghost", f"{slug} of {c.account} was {how}, and is there")
    for token, revoked in c.tokens.values():
        ended = revokes.get(token, []) + [e for e in ends if e.end > begun.get(token, 0)]
        if not revoked and any(r.done and r.end <= c.start and
                               (r.what == "revoke" or born.get(token, r.end) <= r.start)
                               for r in ended):
            yield Violation("resurrected", f"{token} is not revoked in the list")
        if revoked and ended and not any(r.done or r.maybe_done for r in ended):
            yield Violation("ghost", f"the revocation of {token} was {ended[0].line}, and happened")


def grouped(history, what, *keys):
    found = collections.defaultdict(list)
    for c in history:
        if c.what == what:
            found[tuple(c.facts.get(k) for k in keys)].append(c)
    return found


def check_lists(history):
    mints = collections.defaultdict(dict)
    for (account, key), asked in grouped(history, "mint", "account", "key").items():
        mints[account][key] = asked
    revokes = {token: asked for (token,), asked in grouped(history, "revoke", "token").items()}
    ends = grouped(history, "revoke_all", "account")
    for c in history:
        if c.what == "list" and c.done:
            yield from check_list(c, mints[c.account], revokes, ends[c.account,])


def check_keys(history):
    first = {}
    for c in history:
        if c.what != "mint" or not c.done or c.key is None:
            continue
        token = first.setdefault((c.account, c.key), c.token)
        if token != c.token:
            yield Violation("doubled", f"{c.key} of {c.account} is {token} and {c.token}")


def check_answers(history, excused):
    for c in history:
        if c.done and c.nonce is not None and c.nonce != c.answered:
            yield Violation("mixed", f"{c.what} asked {c.nonce}, answered {c.answered}")
        if c.line == "refused" and c.status >= 500 and c.code not in excused:
            yield Violation("unexplained", f"{c.what}: {c.status} {c.code}")


def check(lines, excused=(), bound=0.0):
    """All violations; excused are codes that a status of 5xx may have, bound is how many seconds
    later than the one that was asked other daemons on the same store may know of an end."""
    history = calls(lines)
    found = list(check_verifies(history, secrets_of(history), bound))
    found += check_lists(history)
    found += check_keys(history)
    found += check_answers(history, excused)
    return found


# --- clients that write down what they do ---------------------------------------------------------

LOST = (OSError, EOFError, http.client.HTTPException)


class Pool:
    """What the actors of a test share: who is served where, and secrets to be verified."""

    def __init__(self, daemon, journal, accounts):
        self.daemon, self.journal, self.accounts = daemon, journal, list(accounts)
        self.jwt = daemon.jwt(ttl=6 * 3600)
        self.secrets = []
        self.up = threading.Event()
        self.stop = threading.Event()

    def connect(self, kind):
        if kind == "http":
            door = self.daemon.http(self.jwt)
            door.retry = False
            return door
        return self.daemon.rpc()


class Actor(threading.Thread):
    """One client with one connection and a mixed load. Only it changes the tokens that it made,
    so that it knows in which order that happened."""

    WEIGHTS = {"mint": 40, "verify": 35, "revoke": 13, "rotate": 12, "revoke_all": 0.3}
    LOST_IS = "unknown"

    def __init__(self, pool, kind, name, seed):
        super().__init__(name=name, daemon=True)
        self.pool, self.kind = pool, kind
        self.random = random.Random(f"{seed} {name}")
        self.door = None
        self.mine = []  # [id, slug, account, secret]
        self.again = []  # (slug, account) of mints without an answer
        self.numbers = itertools.count(1)
        self.broken = None

    def run(self):
        try:
            while not self.pool.stop.is_set():
                if self.pool.up.wait(0.05):
                    self.turn()
        except BaseException as e:  # told by the thread that joins
            self.broken = e
        finally:
            if self.door:
                self.door.close()

    def turn(self):
        try:
            if self.door is None:
                self.door = self.pool.connect(self.kind)
            if self.again:
                self.retry()
            kind = self.random.choices(*zip(*self.WEIGHTS.items()))[0]
            getattr(self, kind)()
        except LOST:
            if self.door:
                self.door.close()
            self.door = None

    def ask(self, what, operation, args, facts, told, call=None):
        """told: what a success says, from the answer's body."""
        n = self.pool.journal.attempt(what, **facts)
        try:
            answer = call() if call else self.door.call(operation, **args)
        except LOST:
            self.pool.journal.end(n, self.LOST_IS)
            raise
        self.pool.journal.answered(n, answer, **(told(answer.body) if answer.ok else {}))
        return answer

    def mint(self):
        account = self.random.choice(self.pool.accounts)
        slug = f"{self.name}-{next(self.numbers)}"
        self.again.append((slug, account))
        self.retry()

    def retry(self):
        """Asks with the same key until there is an answer."""
        slug, account = self.again[0]
        body = dict(name=slug, slug=slug, scopes=["read:instances"])
        answer = self.ask("mint", None, None, dict(account=account, key=slug, nonce=slug),
                          lambda b: dict(secret=b["token"], token=b["id"], answered=b["slug"]),
                          lambda: self.keyed(account, slug, body))
        if answer.code == "Idempotency.InProgress":
            return
        assert answer.status != 409, f"{slug} was made without its key: {answer}"
        self.again.pop(0)
        if answer.ok:
            self.mine.append([answer.body["id"], slug, account, answer.body["token"]])
            self.pool.secrets.append(answer.body["token"])

    def keyed(self, account, key, body):
        if self.kind == "http":
            return self.door.request("POST", f"/api/service-accounts/{account}/tokens", body,
                                     {"Idempotency-Key": key})
        ident = self.door.send("token.create", dict(body, serviceAccountSlug=account),
                               {"idempotency_key": key})
        kind, answered, error, result = self.door.receive()
        assert (kind, answered) == (1, ident)
        return Answer(error["status"], error) if error else Answer(200, result)

    def verify(self):
        if not self.pool.secrets:
            return
        secret = self.random.choice(self.pool.secrets)
        n = self.pool.journal.attempt("verify", secret=secret)
        try:
            if self.kind == "http":
                head = {"Authorization": "Bearer " + secret}
                answer = self.door.request("GET", "/api/tokens/validate", headers=head)
            else:
                answer = self.door.call("token.verify", token=secret)
        except LOST:
            self.pool.journal.end(n, self.LOST_IS)
            raise
        self.verified(n, answer)

    def verified(self, n, answer):
        if self.kind == "http" and answer.status == 401:
            self.pool.journal.end(n, "acknowledged", valid=False, code=answer.code)
        elif self.kind == "http" or not answer.ok:
            self.pool.journal.answered(n, answer, valid=True)
        else:
            b = answer.body
            self.pool.journal.end(n, "acknowledged", valid=b["valid"], code=b.get("code"),
                                  answered_token=b.get("tokenId"))

    def pick(self):
        return self.random.choice(self.mine) if self.mine else None

    def revoke(self):
        t = self.pick()
        if t is None:
            return
        self.mine.remove(t)
        self.ask("revoke", "token.revoke", dict(serviceAccountSlug=t[2], tokenSlug=t[1]),
                 dict(token=t[0]), lambda b: {})

    def revoke_all(self):
        account = self.random.choice(self.pool.accounts)
        self.ask("revoke_all", "token.revokeAll", dict(serviceAccountSlug=account),
                 dict(account=account), lambda b: {})

    def rotate(self):
        t = self.pick()
        if t is None:
            return
        self.mine.remove(t)  # comes back when it is known what became of it
        answer = self.ask("rotate", "token.rotate", dict(serviceAccountSlug=t[2], tokenSlug=t[1]),
                          dict(token=t[0], nonce=t[1]),
                          lambda b: dict(secret=b["token"], answered=b["slug"]))
        if answer.ok:
            t[3] = answer.body["token"]
            self.mine.append(t)
            self.pool.secrets.append(t[3])


def patiently(rpc, method, **args):
    """Again while the daemon is unavailable: once it notices that its database has another history
    than before, it says nothing until it has read everything anew."""
    until = time.monotonic() + PATIENCE
    while not (answer := rpc.call(method, **args)).ok:
        assert answer.status == 503 and time.monotonic() < until, answer
        time.sleep(0.01)
    return answer


def sweep(rpc, journal, secrets):
    """Verifies each secret once, and writes it down."""
    for i in range(0, len(secrets), 500):
        part = secrets[i:i + 500]
        numbers = [journal.attempt("verify", secret=s) for s in part]
        answer = patiently(rpc, "token.verifyMany", tokens=part)
        for n, r in zip(numbers, answer.body["results"]):
            journal.end(n, "acknowledged", valid=r["valid"], code=r.get("code"),
                        answered_token=r.get("tokenId"))


def read_lists(rpc, journal, accounts):
    """Lists all tokens of each account, and writes it down."""
    for account in accounts:
        n = journal.attempt("list", account=account)
        tokens, args = {}, {}
        while True:
            page = rpc.call("token.list", serviceAccountSlug=account, limit=200, **args)
            assert page.ok, page
            for t in page.body["items"]:
                tokens[t["slug"]] = (t["id"], "revokedAt" in t)
            if not page.body["hasMore"]:
                break
            args = {"cursor": page.body["nextCursor"]}
        journal.end(n, "acknowledged", tokens=tokens)
