# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Service accounts: the rows of the behaviour table, each through both doors."""

import re
import uuid

import pytest

from conftest import done, places, refused

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,2}[1-9])?Z")
MEMBERS = ["id", "name", "slug", "externalId", "createdBy", "createdAt", "tokens"]
PATTERN = "expected string to match pattern ^[a-z0-9][a-z0-9-]*[a-z0-9]$"


def create(door, name="Build Farm", **args):
    return done(door, door.call("account.create", name=name, **args), 201)


def get(door, slug):
    return done(door, door.call("account.get", serviceAccountSlug=slug))


def mint(door, account, name, **args):
    args.setdefault("scopes", ["read:instances"])
    return done(door, door.call("token.create", serviceAccountSlug=account, name=name, **args), 201)


# --- create ---------------------------------------------------------------------------------------


def test_create_named_ci_cd(doors, org):
    door = doors.caller(org=org, sub="splinter", name="Master Splinter")
    a = create(door, "CI/CD")
    assert list(a) == MEMBERS
    assert a["name"] == "CI/CD"
    assert uuid.UUID(a["id"]).int and str(uuid.UUID(a["id"])) == a["id"]
    assert re.fullmatch(r"ci-cd-[0-9a-f]{6}", a["slug"])
    assert re.fullmatch(r"ksa_[0-9A-Za-z_-]{32}", a["externalId"])
    assert list(a["createdBy"]) == ["id", "name"] and a["createdBy"]["name"] == "Master Splinter"
    assert uuid.UUID(a["createdBy"]["id"]).version == 5
    assert TIME.fullmatch(a["createdAt"])


def test_create_answers_tokens_null_and_get_answers_an_empty_list(doors, org):
    door = doors.caller(org=org)
    a = create(door)
    assert a["tokens"] is None
    assert get(door, a["slug"]) == dict(a, tokens=[])


def test_create_same_slug_twice_is_a_conflict(doors, org):
    door = doors.caller(org=org)
    create(door, slug="twice")
    refused(door.call("account.create", name="Other", slug="twice"), 409,
            "CreateServiceAccount.SlugConflict",
            'Service account with slug "twice" already exists in this organization')


def test_create_same_slug_in_another_organization(doors, org):
    first, second = doors.caller(org=org), doors.caller(org=org + "-other")
    a, b = create(first, "A", slug="shared"), create(second, "B", slug="shared")
    assert a["id"] != b["id"] and a["externalId"] != b["externalId"]
    assert get(first, "shared")["name"] == "A"
    assert get(second, "shared")["name"] == "B"


def test_create_same_name_twice(doors, org):
    door = doors.caller(org=org)
    assert create(door, "Same")["slug"] != create(door, "Same")["slug"]


@pytest.mark.parametrize("slug", ["ab", "hello--world", "a" * 100, "0-9"])
def test_valid_slugs(doors, org, slug):
    assert create(doors.caller(org=org), slug=slug)["slug"] == slug


@pytest.mark.parametrize("slug,messages", [
    ("a", ["expected length >= 2", PATTERN]), ("", ["expected length >= 2", PATTERN]),
    ("A", ["expected length >= 2", PATTERN]), ("Hello-World", [PATTERN]), ("-hello", [PATTERN]),
    ("hello-", [PATTERN]), ("--", [PATTERN]), ("hello_world", [PATTERN]),
    ("hello.world", [PATTERN]), ("a" * 101, ["expected length <= 100"]), ("ab\n", [PATTERN]),
    ("caf\u00e9", [PATTERN])])
def test_invalid_slugs(door, slug, messages):
    errors = refused(door.call("account.create", name="x", slug=slug), 422, "UNPROCESSABLE",
                     "validation failed")
    assert [e["message"] for e in errors] == messages
    assert {e["location"] for e in errors} == {"body.slug"}
    assert {e["value"] for e in errors} == {slug}


@pytest.mark.parametrize("name,base", [
    ("Hello World", "hello-world"), ("Acme, Inc.", "acme-inc"), ("--Acme--", "acme"),
    ("Customer 42", "customer-42"), ("caf\u00e9", "cafe"), ("cafe\u0301", "cafe"),
    ("Soci\u00e9t\u00e9 G\u00e9n\u00e9rale", "societe-generale"),
    ("\u0152uvre Stra\u00dfe \u00d8resund", "oeuvre-strasse-oresund"), ("L'Or\u00e9al", "loreal"),
    ("Kevin\u2019s Shop", "kevins-shop"), ("v0.1.0", "v0-1-0"),
    ("\u682a\u5f0f\u4f1a\u793e", ""), ("a__b--c  d", "a-b-c-d"), ("foo/bar", "foo-bar"),
    ("!!!", ""), ("\u00c6\u00d0\u0110\u0131\u0141\u00de", "aeddilth")])
def test_derived_slugs(doors, org, name, base):
    door = doors.caller(org=org)
    first, second = create(door, name)["slug"], create(door, name)["slug"]
    for slug in (first, second):
        assert re.fullmatch(re.escape(base + "-" if base else "") + "[0-9a-f]{6}", slug)
    assert first != second


def test_derived_slug_of_a_long_name_is_not_cut(doors, org):
    door = doors.caller(org=org)
    slug = create(door, "Long " * 40)["slug"]
    assert len(slug) == 40 * 5 - 1 + 7
    assert get(door, slug)["slug"] == slug


def test_longest_derived_slugs_can_be_addressed(doors, org):
    """A name of 1024 letters, each of which becomes two: on an account and on its token."""
    door = doors.caller(org=org)
    account = create(door, "\u00fe" * 1024)["slug"]
    token = mint(door, account, "\u00df" * 1024)["slug"]
    assert len(account) == len(token) == 2048 + 7
    at = {"serviceAccountSlug": account, "tokenSlug": token}
    assert done(door, door.call("token.get", **at))["slug"] == token
    done(door, door.call("token.rotate", **at))
    done(door, door.call("token.revoke", **at), 204)
    page = done(door, door.call("token.list", serviceAccountSlug=account, limit=1, cursor="e30"))
    assert page["items"] == []
    done(door, door.call("account.delete", serviceAccountSlug=account), 204)


@pytest.mark.parametrize("args,errors", [
    ({}, [("body", "expected required property name to be present")]),
    ({"name": ""}, [("body.name", "expected length >= 1")]),
    ({"name": None}, [("body.name", "expected string")]),
    ({"name": 7}, [("body.name", "expected string")]),
    ({"name": "n" * 1025}, [("body.name", "expected length <= 1024")]),
    ({"name": "n", "slug": 1}, [("body.slug", "expected string")]),
    ({"name": "n", "nmae": 1}, [("body.nmae", "unexpected property")]),
    ({"name": "n", "createdBy": {}},
     [("body.createdBy", "expected required property id to be present")]),
    ({"name": "n", "createdAt": "now"},
     [("body.createdAt", "expected string to be RFC 3339 date-time")]),
    ({"slug": "A", "zzz": 1, "createdAt": 1},
     [("body.createdAt", "expected string"),
      ("body", "expected required property name to be present"),
      ("body.slug", "expected length >= 2"), ("body.slug", PATTERN),
      ("body.zzz", "unexpected property")])])
def test_create_violations_are_all_named_in_order(door, args, errors):
    got = refused(door.call("account.create", **args), 422, "UNPROCESSABLE", "validation failed")
    assert places(got) == errors


def test_create_ignores_read_only_members(doors, org):
    door = doors.caller(org=org)
    zero = "00000000-0000-0000-0000-000000000000"
    a = create(door, "Whole", id=zero, externalId="ksa_mine", createdAt="0001-01-01T00:00:00Z",
               createdBy={"id": zero}, tokens=None)
    assert a["id"] != zero and a["externalId"] != "ksa_mine"
    assert a["createdBy"]["id"] != zero and a["createdAt"] > "2020"


def test_create_slug_null_is_no_slug(doors, org):
    assert re.fullmatch("n-[0-9a-f]{6}", create(doors.caller(org=org), "n", slug=None)["slug"])


def test_names_are_text_of_any_kind(doors, org):
    door = doors.caller(org=org)
    for name in ("<script>&amp;</script>", "\u682a\u5f0f\u4f1a\u793e \U0001f422", "a\"b\\c\n\t",
                 " spaced ", "n" * 1024, "\u00e9" * 1024):
        a = create(door, name)
        assert a["name"] == name
        assert get(door, a["slug"])["name"] == name


# --- get ------------------------------------------------------------------------------------------


def test_get_fresh(doors, org):
    door = doors.caller(org=org)
    a = create(door)
    b = get(door, a["slug"])
    assert list(b) == MEMBERS
    assert b["tokens"] == []
    assert {k: b[k] for k in MEMBERS[:-1]} == {k: a[k] for k in MEMBERS[:-1]}


def test_get_of_another_organization_is_not_found(doors, org):
    slug = create(doors.caller(org=org))["slug"]
    other = doors.caller(org=org + "-other")
    refused(other.call("account.get", serviceAccountSlug=slug), 404, "ServiceAccount.NotFound",
            f"Service account with slug {slug} not found")


def test_get_with_two_tokens_newest_first(doors, org):
    door = doors.caller(org=org, name="Splinter")
    a = create(door)
    first = mint(door, a["slug"], "one", expiresAt="2099-01-02T03:04:05Z")
    second = mint(door, a["slug"], "two")
    tokens = get(door, a["slug"])["tokens"]
    assert [t["id"] for t in tokens] == [second["id"], first["id"]]
    assert "expiresAt" not in tokens[0] and tokens[1]["expiresAt"] == "2099-01-02T03:04:05Z"
    for t in tokens:
        assert t["serviceAccountId"] == a["id"]
        assert t["createdBy"] == a["createdBy"] and t["createdBy"]["name"] == "Splinter"
        assert "revokedBy" not in t and "revokedAt" not in t and "token" not in t


def test_get_embeds_revoked_tokens_with_who_and_when(doors, org):
    door = doors.caller(org=org, name="Splinter")
    slug = create(door)["slug"]
    t = mint(door, slug, "one")
    done(door, door.call("token.revoke", serviceAccountSlug=slug, tokenSlug=t["slug"]), 204)
    (seen,) = get(door, slug)["tokens"]
    assert list(seen) == ["id", "name", "slug", "scopes", "serviceAccountId", "createdAt",
                          "createdBy", "revokedAt", "revokedBy"]
    assert TIME.fullmatch(seen["revokedAt"]) and seen["revokedBy"] == seen["createdBy"]


def test_embedded_tokens_are_cut_and_it_is_said(own_daemon):
    daemon = own_daemon("storage-memory", daemon="embedded_tokens_max = 3").start()
    for door in (daemon.http(), daemon.rpc(daemon.jwt())):
        slug = create(door)["slug"]
        minted = [mint(door, slug, f"t{i}")["slug"] for i in range(3)]
        assert "tokensTruncated" not in get(door, slug)
        minted.append(mint(door, slug, "t3")["slug"])
        a = get(door, slug)
        assert a["tokensTruncated"] is True
        assert [t["slug"] for t in a["tokens"]] == minted[:0:-1]
        # What was read can be sent back.
        done(door, door.call("account.update", **dict(a, serviceAccountSlug=slug)), 204)
        door.close()


# --- list -----------------------------------------------------------------------------------------


def listed(door, **args):
    return done(door, door.call("account.list", **args))


def test_list_of_nothing(doors, org):
    assert listed(doors.caller(org=org)) == {"items": [], "hasMore": False}


def test_list_five_own_and_one_foreign(doors, org):
    door, other = doors.caller(org=org), doors.caller(org=org + "-other")
    made = [create(door, f"n{i}") for i in range(5)]
    foreign = create(other)
    page = listed(door)
    assert list(page) == ["items", "hasMore"] and page["hasMore"] is False
    assert page["items"] == [dict(a, tokens=[]) for a in reversed(made)]
    assert foreign["id"] not in {a["id"] for a in page["items"]}


def test_list_groups_tokens_by_account(doors, org):
    door = doors.caller(org=org)
    slugs = [create(door, f"n{i}")["slug"] for i in range(3)]
    for slug in slugs[:2]:
        mint(door, slug, "same name")
        mint(door, slug, "another")
    for a in listed(door)["items"]:
        names = [] if a["slug"] == slugs[2] else ["another", "same name"]
        assert [t["name"] for t in a["tokens"]] == names
        assert all(t["serviceAccountId"] == a["id"] for t in a["tokens"])


# --- update ---------------------------------------------------------------------------------------


def test_update_the_name(doors, org):
    door = doors.caller(org=org)
    a = create(door)
    done(door, door.call("account.update", serviceAccountSlug=a["slug"], name="New"), 204)
    assert get(door, a["slug"]) == dict(a, name="New", tokens=[])


def test_update_leaves_the_neighbour_with_the_same_slug_alone(doors, org):
    door, other = doors.caller(org=org), doors.caller(org=org + "-other")
    create(door, slug="same-slug")
    create(other, slug="same-slug")
    before = get(other, "same-slug")
    done(door, door.call("account.update", serviceAccountSlug="same-slug", name="New"), 204)
    assert get(other, "same-slug") == before
    assert get(door, "same-slug")["name"] == "New"


def test_update_with_the_whole_body_of_get(doors, org):
    door = doors.caller(org=org)
    slug = create(door)["slug"]
    mint(door, slug, "one", expiresAt="2099-01-01T00:00:00Z")
    t = mint(door, slug, "two")
    done(door, door.call("token.revoke", serviceAccountSlug=slug, tokenSlug=t["slug"]), 204)
    whole = get(door, slug)
    done(door, door.call("account.update", serviceAccountSlug=slug, **dict(whole, name="N")), 204)
    assert get(door, slug) == dict(whole, name="N")


def test_update_of_the_slug_is_refused_before_the_scope_is_looked_at(doors, org):
    door = doors.caller(org=org)
    slug = create(door)["slug"]
    for client in (door, doors.caller(org=org, scopes=[])):
        for target in (slug, "not-there"):
            refused(client.call("account.update", serviceAccountSlug=target, name="N",
                                slug="other-slug"), 422, "UpdateServiceAccount.SlugNotRenameable",
                    "the slug cannot be changed here; omit it or send the current one")
    done(door, door.call("account.update", serviceAccountSlug=slug, name="N", slug=slug), 204)
    done(door, door.call("account.update", serviceAccountSlug=slug, name="N", slug=None), 204)


@pytest.mark.parametrize("args,place", [({}, "body"), ({"name": ""}, "body.name"),
                                        ({"name": "n", "nmae": "n"}, "body.nmae")])
def test_update_violations(door, account, args, place):
    errors = refused(door.call("account.update", serviceAccountSlug=account, **args), 422,
                     "UNPROCESSABLE", "validation failed")
    assert [e["location"] for e in errors] == [place]


def test_update_and_delete_of_nothing(door):
    for operation, args in (("account.update", {"name": "n"}), ("account.delete", {})):
        refused(door.call(operation, serviceAccountSlug="not-there", **args), 404,
                "ServiceAccount.NotFound", "Service account with slug not-there not found")


# --- delete ---------------------------------------------------------------------------------------


def test_delete_twice(doors, org):
    door = doors.caller(org=org)
    slug = create(door)["slug"]
    done(door, door.call("account.delete", serviceAccountSlug=slug), 204)
    refused(door.call("account.delete", serviceAccountSlug=slug), 404, "ServiceAccount.NotFound")
    refused(door.call("account.get", serviceAccountSlug=slug), 404, "ServiceAccount.NotFound")
    assert listed(door)["items"] == []


def test_deleted_slug_can_be_had_again_and_starts_empty(doors, org):
    door = doors.caller(org=org)
    first = create(door, slug="phoenix")
    mint(door, "phoenix", "one", slug="first-token")
    done(door, door.call("account.delete", serviceAccountSlug="phoenix"), 204)
    second = create(door, slug="phoenix")
    assert second["id"] != first["id"] and second["externalId"] != first["externalId"]
    assert get(door, "phoenix")["tokens"] == []
    mint(door, "phoenix", "one", slug="first-token")
