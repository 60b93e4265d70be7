# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Callers who ask too often, or are wrong too often, are refused, are told for how long, and hold up
nobody but themselves; what ends tokens is never refused. What may be guessed under the limit tells
nothing.

KAITEN_GUESSES=N     slugs and ids that are tried under the limit (20,000 when not set)
"""

import concurrent.futures
import math
import os
import secrets
import socket
import statistics
import time
import uuid

import pytest

from conftest import done, refused
from metrics import scrape
from test_guessing import Raw, get, lookalike

GUESSES = int(os.environ.get("KAITEN_GUESSES", "20000"))
BURST = 5
# Two in a minute, so that nothing comes back while a test asks.
SLOW = f"2/m,burst={BURST}"
ME = f"uid={os.geteuid()} org=acme subject=me scopes=read:*,write:* verify=any"


def refusals(d, limit):
    door = d.http("")
    n = scrape(door).get("kaitend_limit_refusals_total", limit=limit)
    door.close()
    return n


def too_many(answer, most=60):
    """Checks a 429; returns the seconds to wait."""
    refused(answer, 429, "TOO_MANY_REQUESTS")
    seconds = answer.body["retryAfter"]
    assert isinstance(seconds, int) and 1 <= seconds <= most
    assert answer.body["detail"].endswith(f", please retry in {seconds} s")
    if answer.headers:
        assert answer.headers["Retry-After"] == str(seconds)
    return seconds


def callers(d, kind, **claims):
    """As many clients of one identity as one likes."""
    if kind == "socket":
        return lambda: d.rpc()
    token = d.jwt(**claims)
    return lambda: d.http(token)


@pytest.fixture(params=["socket", "http"])
def limited(request, own_daemon):
    """A daemon with two loops, on which everybody has SLOW, and a maker of clients of one caller."""
    d = own_daemon(rules=(ME,), daemon=f"caller_rate = {SLOW}\nloops = 2").start()
    yield d, callers(d, request.param)
    assert d.stop() == 0


def test_a_burst_is_admitted_and_one_more_refused(limited):
    """Over many connections, which the loops share among themselves, by many threads at once."""
    d, client = limited
    before, begun = refusals(d, "requests"), time.monotonic()

    def ask(_):
        one = client()
        answer = one.call("whoami")
        one.close()
        return answer

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    took = time.monotonic() - begun
    good = sum(a.ok for a in answers)
    assert BURST <= good <= BURST + took / 30
    for a in answers:
        if not a.ok:
            assert 29 - took <= too_many(a) <= 30
    assert refusals(d, "requests") - before == 40 - good
    # Told once, not thirty-five times.
    assert d.log.read_text().count("event=limit.reached") <= took / 10 + 2


def test_others_have_theirs(limited):
    d, client = limited
    one = client()
    while one.call("whoami").ok:
        pass
    for claims in ({"sub": "bob"}, {"org": "beta"}):
        other = d.http(d.jwt(**claims))
        assert sum(other.call("whoami").ok for _ in range(BURST + 3)) == BURST
    too_many(one.call("whoami"))
    # Who needs no caller is not counted.
    assert all(d.http("").call("healthz").ok for _ in range(3 * BURST))


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/nothing", 404), ("POST", "/nothing", 404), ("PATCH", "/whoami", 405)])
def test_what_is_not_there_counts_too(own_daemon, method, path, status):
    d = own_daemon("storage-memory", daemon=f"caller_rate = {SLOW}").start()
    client = d.http()
    body = b"{}" if method == "POST" else None
    asked = [client.request(method, path, raw=body) for _ in range(BURST + 3)]
    assert [a.status for a in asked[:BURST]] == [status] * BURST
    for answer in asked[BURST:]:
        too_many(answer)
    too_many(client.call("whoami"))
    assert d.stop() == 0


def test_what_ends_a_token_is_never_held_up(limited):
    d, client = limited
    one = client()
    slug = one.call("account.create", name="n").body["slug"]
    made = [one.call("token.create", serviceAccountSlug=slug, name=f"t{i}", scopes=[]).body
            for i in range(3)]
    while one.call("whoami").ok:
        pass
    too_many(one.call("token.rotate", serviceAccountSlug=slug, tokenSlug=made[0]["slug"]))
    done(one, one.call("token.revoke", serviceAccountSlug=slug, tokenSlug=made[0]["slug"]), 204)
    assert d.http(made[0]["token"]).call("whoami").status == 401
    assert d.http(made[1]["token"]).call("whoami").status == 200
    assert one.call("token.revokeAll", serviceAccountSlug=slug).ok
    assert d.http(made[1]["token"]).call("whoami").status == 401
    done(one, one.call("account.delete", serviceAccountSlug=slug), 204)
    too_many(one.call("whoami"))


def test_after_the_time_it_named_there_is_room(own_daemon):
    """And not long before: what a caller waits for in vain it asks for again, at once."""
    d = own_daemon(rules=(ME + " rate=1/s,burst=2",), jwt="rate = 1/s,burst=2").start()
    for kind in ("socket", "http"):
        client = callers(d, kind)()
        for _ in range(3):
            while (answer := client.call("whoami")).ok:
                pass
            time.sleep(too_many(answer, 1))
            assert client.call("whoami").ok
    d.stop()


def test_rates_of_rules_and_issuers_come_before_that_of_all(own_daemon):
    d = own_daemon(rules=(ME + " rate=none",), jwt="rate = 1/h,burst=2",
                   daemon=f"caller_rate = {SLOW}").start()
    peer, user = d.rpc(), d.http()
    assert all(peer.call("whoami").ok for _ in range(10 * BURST))
    assert sum(user.call("whoami").ok for _ in range(10)) == 2
    slug = peer.call("account.create", name="n").body["slug"]
    tokens = [peer.call("token.create", serviceAccountSlug=slug, name=n, scopes=[]).body["token"]
              for n in ("a", "b")]
    # A token has that of all, its account's other tokens the same bucket, through both doors.
    asked = [client.call("whoami").ok for t in tokens for client in (d.http(t), d.rpc(t))
             for _ in range(3)]
    assert asked == [True] * BURST + [False] * (12 - BURST)
    d.stop()


def test_a_pipelined_burst_is_counted_to_the_last(own_daemon):
    """Verifications that are taken together on the loop, some of them behind what stops them."""
    d = own_daemon(rules=(ME + " rate=1/h,burst=100",), sock="max_requests_in_flight = 2").start()
    client = d.rpc()
    for i in range(160):
        client.send("token.verify" if i % 7 else "account.list",
                    {"token": lookalike(True)} if i % 7 else {})
    answers = [client.receive() for _ in range(160)]
    errors = [error for _, _, error, _ in answers if error]
    # kaiten.hello is not counted: it needs no caller.
    assert len(answers) - len(errors) == 100 and {e["status"] for e in errors} == {429}
    d.stop()


def test_programs_hear_when_to_come_back(own_daemon):
    d = own_daemon(rules=(ME + " rate=1/h,burst=1",)).start()
    d.ctl("whoami")
    told = d.ctl("whoami", check=False)
    assert told.returncode == 5 and "please retry in 3" in told.stderr
    assert "never held up" in told.stderr
    d.stop()


# --- wrong ones -----------------------------------------------------------------------------------


def test_wrong_credentials_of_an_address_hold_up_no_good_one(own_daemon):
    d = own_daemon(rules=(ME,), daemon="failure_rate = 1/h,burst=20").start()
    peer = d.rpc()
    slug = peer.call("account.create", name="n").body["slug"]
    token = peer.call("token.create", serviceAccountSlug=slug, name="t", scopes=[]).body
    known = d.http()
    assert known.call("whoami").ok
    wrong = [lookalike(True), lookalike(False), "a.b.c", "nonsense", d.jwt()[:-8] + "AAAAAAAA"]
    seen = [d.http(wrong[i % len(wrong)]).call("whoami") for i in range(50)]
    assert [a.status for a in seen] == [401] * 20 + [429] * 30
    assert 3500 < too_many(seen[-1], 3600)
    assert refusals(d, "credentials") == 30
    # Good ones: of ours, verified before; what is not known yet has to wait, but not to revoke.
    assert d.http(token["token"]).call("whoami").ok and known.call("whoami").ok
    fresh = d.http(d.jwt(sub="fresh"))
    too_many(fresh.call("whoami"), 3600)
    done(fresh, fresh.call("token.revoke", serviceAccountSlug=slug, tokenSlug=token["slug"]), 204)
    # Without a credential nothing was guessed, gateways forward anything, the socket is elsewhere.
    assert d.http("").call("whoami").status == 401
    assert d.http(wrong[0]).call("token.validate").status == 401
    assert d.rpc(wrong[0]).call("whoami").status == 401 and peer.call("whoami").ok
    d.stop()


def test_look_ups_of_what_is_not_there(own_daemon):
    """Through every path that takes a name, also where the answer is an empty page."""
    d = own_daemon(rules=(ME,), daemon="failure_rate = 1/h,burst=20").start()
    for kind in ("socket", "http"):
        client = callers(d, kind, sub="guesser")()
        slug = client.call("account.create", name="n").body["slug"]

        def guess(i):
            name = str(uuid.uuid4())
            return (client.call("account.get", serviceAccountSlug=name),
                    client.call("token.list", serviceAccountSlug=name),
                    client.call("token.get", serviceAccountSlug=slug, tokenSlug=name),
                    client.call("token.create", serviceAccountSlug=name, name="t", scopes=[]))

        statuses = [a.status for i in range(5) for a in guess(i)]
        assert statuses == [404, 200, 404, 404] * 5
        too_many(client.call("account.get", serviceAccountSlug=slug), 3600)
        too_many(client.call("token.list", serviceAccountSlug=slug), 3600)
        assert client.call("whoami").ok
        assert d.http(d.jwt(sub="else")).call("account.get", serviceAccountSlug=slug).ok
        done(client, client.call("account.delete", serviceAccountSlug=slug), 204)
    assert refusals(d, "lookups") == 4
    d.stop()


def test_guesses_under_the_limit_tell_nothing(own_daemon):
    """With the limit that is there when nobody sets one: what is another organization's and what
    nobody has are refused alike, before the limit and beyond it, and those beyond are counted."""
    d = own_daemon().start()
    owner, stranger = d.http(d.jwt(org="owner")), d.jwt(org="stranger")
    there = []
    for _ in range(10):
        slug = f"account-{secrets.token_hex(14)}"
        made = owner.call("account.create", name="n", slug=slug).body
        there += [slug, made["id"]]
    beyond = begun = 0
    began, seen, raw = time.monotonic(), {}, Raw(d)
    while begun < GUESSES:
        names = there + [str(uuid.uuid4()) for _ in range(480)]
        secrets.SystemRandom().shuffle(names)
        heads = [get(f"/service-accounts/{n}", stranger) for n in names]
        for name, (head, body) in zip(names, raw.ask(heads)):
            status = head.split(b" ")[1]
            answer = (head, body.replace(name.encode(), b"NAME"))
            seen.setdefault((status, name in there), set()).add(answer)
            beyond += status == b"429"
        begun += len(names)
    took = time.monotonic() - began
    assert {status for status, _ in seen} == {b"404", b"429"}
    for status in (b"404", b"429"):
        assert len(seen[status, True]) == 1 and seen[status, True] == seen[status, False]
    assert refusals(d, "lookups") == beyond
    # No more were looked up than the limit allows, for as long as this took.
    assert begun - beyond <= 1000 + 100 * (took + 1)
    assert d.log.read_text(errors="replace").count("event=limit.reached") <= took / 10 + 2
    d.stop()


# --- time -----------------------------------------------------------------------------------------

BATCHES, BATCH = 250, 8
ANYBODY_S_GUESS = 4.5


class Clock:
    """Round trips over one connection, one at a time."""

    def __init__(self, d, token):
        self.s = socket.create_connection(("127.0.0.1", d.port), timeout=60)
        self.token = token

    def ask(self, name):
        head = get(f"/service-accounts/{name}", self.token)
        begun = time.perf_counter_ns()
        self.s.sendall(head)
        answer = self.s.recv(65536)
        took = time.perf_counter_ns() - begun
        assert answer.startswith(b"HTTP/1.1 404 ") and answer.endswith(b"}\n")
        return took


def welch(a, b):
    """Welch's t of two samples."""
    spread = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return (statistics.fmean(a) - statistics.fmean(b)) / math.sqrt(spread)


def compare(clock, there, absent, extra_us=0):
    """Both kinds in turns, so that whatever else the machine does hits both; of each few the least
    disturbed half, since a disturbance only ever adds. extra_us: a difference put in on purpose."""
    samples = ([], [])
    for i in range(BATCHES):
        batch = ([], [])
        for k in range(BATCH):
            for kind in (0, 1) if (i + k) % 2 else (1, 0):
                took = clock.ask(secrets.choice((there, absent)[kind]))
                batch[kind].append(took + (extra_us * 1000 if kind == 0 else 0))
        for kind in (0, 1):
            samples[kind].append(statistics.median(batch[kind]))
    # The slowest tenth of all, whichever kind it is, says how busy the machine was and no more.
    limit = sorted(samples[0] + samples[1])[int(1.8 * BATCHES)]
    return welch(*([s for s in one if s <= limit] for one in samples))


def test_what_is_there_takes_as_long_as_what_is_not(own_daemon):
    """Of another organization, or nowhere: no difference in three attempts out of three would be
    chance, so one without is enough. A difference of 50 microseconds is seen, at the least when the
    machine has nothing else to do; a larger one always."""
    d = own_daemon(daemon="failure_rate = none", level="warning").start()
    owner, stranger = d.http(d.jwt(org="owner")), d.jwt(org="stranger")
    there = [owner.call("account.create", name="n", slug=f"account-{secrets.token_hex(14)}")
             .body["slug"] for _ in range(200)]
    absent = [f"account-{secrets.token_hex(14)}" for _ in range(200)]
    clock = Clock(d, stranger)  # which may not be silent for long
    for name in there + absent:
        clock.ask(name)
    found = []
    while len(found) < 3 and not any(abs(t) < ANYBODY_S_GUESS for t in found):
        found.append(compare(clock, there, absent))
    assert any(abs(t) < ANYBODY_S_GUESS for t in found), found
    extra = 50
    while compare(clock, there, absent, extra) <= ANYBODY_S_GUESS:
        extra *= 2
        assert extra <= 3200, "a difference that was put in is not seen"
    print(f"a difference of {extra} us is seen")
    d.stop()
