# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Pages of accounts and of tokens: one order, no gap, no overlap."""

import base64
import datetime
import json

import pytest

from conftest import done, places, refused

ZERO = "00000000-0000-0000-0000-000000000000"


class Listing:
    """One of the two lists, in an organization of its own."""

    def __init__(self, kind, door):
        self.kind, self.door = kind, door
        if kind == "token":
            self.home = done(door, door.call("account.create", name="Home"), 201)["slug"]

    def add(self, n):
        """Adds n items; returns their ids, newest first."""
        ids = []
        for i in range(n):
            if self.kind == "account":
                answer = self.door.call("account.create", name="same")
            else:
                answer = self.door.call("token.create", serviceAccountSlug=self.home,
                                        name=f"n{i}", scopes=[])
            ids.append(done(self.door, answer, 201)["id"])
        return ids[::-1]

    def ask(self, **args):
        if self.kind == "token":
            args["serviceAccountSlug"] = self.home
        return self.door.call(self.kind + ".list", **args)

    def page(self, **args):
        page = done(self.door, self.ask(**args))
        assert list(page) == ["items"] + ["nextCursor"] * page["hasMore"] + ["hasMore"]
        return page

    def walk(self, **args):
        """All pages: their ids, page by page."""
        pages = []
        page = self.page(**args)
        while True:
            pages.append([item["id"] for item in page["items"]])
            if not page["hasMore"]:
                return pages
            page = self.page(cursor=page["nextCursor"], **args)


@pytest.fixture(params=["account", "token"])
def listing(request, doors, org):
    return Listing(request.param, doors.caller(org=org))


def cursor(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def test_limit_2_of_3(listing):
    ids = listing.add(3)
    page = listing.page(limit=2)
    assert [i["id"] for i in page["items"]] == ids[:2] and page["hasMore"] is True
    last = listing.page(limit=2, cursor=page["nextCursor"])
    assert [i["id"] for i in last["items"]] == ids[2:] and last["hasMore"] is False


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7, 200])
def test_walk_without_overlap_or_gap(listing, limit):
    ids = listing.add(6)
    pages = listing.walk(limit=limit)
    assert [i for page in pages for i in page] == ids
    assert all(len(page) == limit for page in pages[:-1]) and pages[-1]


def test_limit_50_is_the_default(listing):
    ids = listing.add(51)
    assert listing.walk() == [ids[:50], ids[50:]]
    assert listing.walk(limit=200) == [ids]
    if listing.door.name == "http":
        assert len(listing.page(limit="")["items"]) == 50
    else:
        assert len(listing.page(limit=None, cursor=None)["items"]) == 50


def test_next_cursor_names_the_last_item_that_was_kept(listing):
    listing.add(3)
    page = listing.page(limit=2)
    text = page["nextCursor"]
    assert "=" not in text
    named = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    last = page["items"][-1]
    assert list(named) == ["createdAt", "id"]
    assert (named["createdAt"], named["id"]) == (last["createdAt"], last["id"])


def test_new_items_do_not_disturb_a_walk(listing):
    ids = listing.add(4)
    page = listing.page(limit=2)
    listing.door.call("account.create", name="while walking")
    if listing.kind == "token":
        listing.door.call("token.create", serviceAccountSlug=listing.home, name="new", scopes=[])
    rest = listing.page(limit=2, cursor=page["nextCursor"])
    assert [i["id"] for i in rest["items"]] == ids[2:] and not rest["hasMore"]


def test_a_cursor_outlives_its_item(listing):
    ids = listing.add(4)
    page = listing.page(limit=2)
    slug = page["items"][1]["slug"]
    if listing.kind == "account":
        done(listing.door, listing.door.call("account.delete", serviceAccountSlug=slug), 204)
    else:
        done(listing.door, listing.door.call("token.revoke", serviceAccountSlug=listing.home,
                                             tokenSlug=slug), 204)
    rest = listing.page(limit=2, cursor=page["nextCursor"])
    assert [i["id"] for i in rest["items"]] == ids[2:]


@pytest.mark.parametrize("bad", [
    "not-a-valid-cursor", "%%%", "e30=", "====", "bm9wZQ", cursor(b"[]"), cursor(b"{}x"),
    cursor(b"null"), cursor({"createdAt": "yesterday", "id": ZERO}),
    cursor({"createdAt": "2026-01-01T00:00:00Z", "id": "nope"}),
    cursor({"createdAt": 1, "id": ZERO}), cursor({"other": "x"}), cursor(b"\xff\xfe"),
    pytest.param("A" * 1000, id="long")])
def test_bad_cursor(listing, bad):
    code = "ServiceAccounts" if listing.kind == "account" else "ServiceAccountTokens"
    refused(listing.ask(cursor=bad), 400, code + ".InvalidCursor", "invalid cursor")


@pytest.mark.parametrize("early", ["e30", cursor({"createdAt": "0001-01-01T00:00:00Z"}),
                                   cursor({"id": ZERO}),
                                   cursor({"createdAt": "1970-01-01T00:00:00Z", "id": ZERO})])
def test_cursor_before_everything_is_an_empty_page(listing, early):
    listing.add(1)
    assert listing.page(cursor=early) == {"items": [], "hasMore": False}


def test_cursor_after_everything_is_the_first_page(listing):
    ids = listing.add(3)
    late = cursor({"createdAt": "2999-01-01T00:00:00Z", "id": ZERO})
    assert listing.walk(cursor=late)[0] == ids
    assert [i["id"] for i in listing.page(cursor="")["items"]] == ids


def test_cursor_of_another_organization_shows_nothing_of_it(listing, doors, org):
    listing.add(3)
    other = Listing(listing.kind, doors.caller(org=org + "-other"))
    ids = other.add(2)
    page = listing.page(limit=1)
    # A cursor is a position in time, and says nothing of whose it was.
    assert not set(ids) & {i["id"] for i in listing.page(cursor=other.page(limit=1)["nextCursor"])
                           ["items"]}
    assert other.page(cursor=page["nextCursor"])["items"] == []


@pytest.mark.parametrize("limit,message", [
    (0, "expected number >= 1"), (-1, "expected number >= 1"), (201, "expected number <= 200"),
    (10**30, "invalid integer"), ("abc", "invalid integer"), ("1.5", "invalid integer"),
    ("0x1", "invalid integer")])
def test_limits_that_are_refused(listing, limit, message):
    if listing.door.name == "socket":
        if isinstance(limit, int) and limit > 2**63:
            limit = 2**64 - 1
        if message == "invalid integer":
            message = "expected integer"
    errors = refused(listing.ask(limit=limit), 422, "UNPROCESSABLE", "validation failed")
    assert places(errors) == [("query.limit", message)]
    assert errors[0]["value"] == limit or str(errors[0]["value"]) == str(limit)


def test_unknown_query_parameters(listing):
    """Ignored by HTTP, as every proxy may add one; refused by the socket, which has no proxies."""
    answer = listing.ask(sort="name")
    if listing.door.name == "http":
        done(listing.door, answer)
    else:
        assert places(refused(answer, 422, "UNPROCESSABLE")) == [("body.sort",
                                                                  "unexpected property")]


def test_items_of_one_millisecond_keep_their_order(daemon, org):
    """Forty are sent before one is answered, so that many are made in the same millisecond."""
    rpc = daemon.rpc(daemon.jwt(org=org))
    for _ in range(40):
        rpc.send("account.create", {"name": "burst"}, {"token": rpc.token})
    ids = {rpc.receive()[3]["id"] for _ in range(40)}
    listing = Listing("account", rpc)
    pages = listing.walk(limit=3)
    flat = [i for page in pages for i in page]
    assert len(flat) == len(set(flat)) == 40 and set(flat) == ids
    items = listing.page(limit=200)["items"]
    assert [i["id"] for i in items] == flat
    rpc.close()
    keys = [(datetime.datetime.fromisoformat(i["createdAt"]), i["id"]) for i in items]
    assert keys == sorted(keys, reverse=True)
