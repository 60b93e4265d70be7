# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The reference's own Python SDK (kaitencloud, from PyPI), unmodified, against kaitend: all that it
does with service accounts, in both of its forms, and every error that it tells apart.

tests/sdk.sh fetches it."""

import asyncio
import contextlib
import datetime
import inspect
import os
import pathlib
import sys

import pytest

from conftest import BUILD, Daemon

SDK = pathlib.Path(os.environ.get("KAITEN_SDK", BUILD / "tests/sdk"))
sys.path[:0] = map(str, SDK.glob("lib/python3*/site-packages"))
kaitencloud = pytest.importorskip("kaitencloud", reason="the reference's Python SDK is missing, "
                                  "see tests/sdk.sh")

UTC = datetime.timezone.utc


class Sync:
    """One call of the client, whichever form it has."""

    def __init__(self, base_url, token, **how):
        self.client = kaitencloud.KaitenClient(token=token, base_url=base_url, **how)

    def __call__(self, method, *args, **kwargs):
        return getattr(self.client.service_accounts, method)(*args, **kwargs)

    def close(self):
        self.client.close()


class Async(Sync):
    def __init__(self, base_url, token, **how):
        self.loop = asyncio.new_event_loop()
        self.client = kaitencloud.AsyncKaitenClient(token=token, base_url=base_url, **how)

    def __call__(self, method, *args, **kwargs):
        answer = getattr(self.client.service_accounts, method)(*args, **kwargs)
        return self.loop.run_until_complete(answer) if inspect.isawaitable(answer) else answer

    def close(self):
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


@pytest.fixture(scope="module")
def served():
    d = Daemon("storage-memory").start()
    yield d
    code = d.stop()
    text = d.log.read_text(errors="replace")
    d.remove()
    assert code == 0, text[-2000:]


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def form(request):
    return request.param


@pytest.fixture
def sdk(served, form, org):
    """A caller of an organization of its own; the address is given as its users give it."""
    client = form(f"http://127.0.0.1:{served.port}", served.jwt(org=org))
    yield client
    client.close()


def refusal(kind, call, *args, **kwargs):
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    e = caught.value
    assert e.problem is not None and e.title and e.detail
    return e


def test_accounts(sdk):
    assert sdk("list") == []
    made = sdk("create", name="Build Farm", slug="build-farm")
    assert made.slug == "build-farm" and not made.tokens and made.id
    assert made.external_id.startswith("ksa_") and made.created_by.name
    assert made.created_at.tzinfo and abs(datetime.datetime.now(UTC) - made.created_at) < \
        datetime.timedelta(minutes=5)
    other = sdk("create", name="Other One")
    assert other.slug.startswith("other-one")
    assert sdk("get", "build-farm").external_id == made.external_id
    assert sdk("update", "build-farm", name="Farm") is None
    assert sdk("get", "build-farm").name == "Farm"
    assert [a.slug for a in sdk("list")] == [other.slug, "build-farm"]


def test_tokens(served, sdk, form):
    sdk("create", name="Farm", slug="farm")
    ends = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=2))).replace(
        microsecond=0) + datetime.timedelta(days=3)
    made = sdk("create_token", "farm", name="Nightly", scopes=["read:licenses", "write:releases"],
               slug="night", expires_at=ends)
    assert made.token.startswith("ksh_") and len(made.token) == 36
    assert made.expires_at == ends and made.slug == "night"
    assert made.scopes == ["read:licenses", "write:releases"]
    whole = sdk("create_token", "farm", name="All", slug="all", scopes=None)
    assert whole.scopes and whole.expires_at is None and whole.slug == "all"
    none = sdk("create_token", "farm", name="None", slug="none", scopes=[])
    assert none.scopes == []
    listed = sdk("list_tokens", "farm")
    assert [t.slug for t in listed] == ["none", "all", "night"]
    assert all(not hasattr(t, "token") or t.token is None for t in listed)
    assert [t.slug for t in sdk("get", "farm").tokens] == ["none", "all", "night"]
    own = form(f"http://127.0.0.1:{served.port}/api", whole.token)
    assert [a.slug for a in own("list")] == ["farm"]
    assert sdk("delete_token", "farm", "all") is None
    refusal(kaitencloud.AuthenticationError, own, "list")
    own.close()
    gone = next(t for t in sdk("list_tokens", "farm") if t.slug == "all")
    assert gone.revoked_at and gone.revoked_by.name


def test_every_page_is_walked(sdk):
    """The SDK asks for 200 at a time and believes nextCursor and hasMore."""
    slugs = [sdk("create", name=f"Farm {i}", slug=f"farm-{i}").slug for i in range(203)]
    assert [a.slug for a in sdk("list")] == slugs[::-1]
    for i in range(201):
        sdk("create_token", "farm-0", name=f"t{i}", scopes=["read:licenses"])
    assert len(sdk("list_tokens", "farm-0")) == 201


def test_each_error_is_the_class_it_should_be(served, sdk, form):
    sdk("create", name="Farm", slug="farm")
    sdk("create_token", "farm", name="Nightly", slug="nightly", scopes=["read:licenses"])
    e = refusal(kaitencloud.ConflictError, sdk, "create", name="x", slug="farm")
    assert (e.status_code, e.code) == (409, "CreateServiceAccount.SlugConflict")
    e = refusal(kaitencloud.ConflictError, sdk, "create_token", "farm", name="n", slug="nightly",
                scopes=["read:licenses"])
    assert e.code == "CreateToken.SlugConflict"
    e = refusal(kaitencloud.NotFoundError, sdk, "get", "none")
    assert e.code == "ServiceAccount.NotFound"
    e = refusal(kaitencloud.NotFoundError, sdk, "create_token", "none", name="n", scopes=[])
    assert e.code == "CreateToken.ServiceAccountNotFound"
    e = refusal(kaitencloud.NotFoundError, sdk, "delete_token", "farm", "none")
    assert e.code == "Token.NotFound"
    e = refusal(kaitencloud.BadRequestError, sdk, "create_token", "farm", name="n",
                scopes=["fly:licenses"])
    assert e.code == "Token.InvalidScopes"
    e = refusal(kaitencloud.UnprocessableEntityError, sdk, "create", name="")
    assert [x.location for x in e.errors] == ["body.name"]
    e = refusal(kaitencloud.UnprocessableEntityError, sdk, "create_token", "farm", name="n",
                scopes=[], expires_at=datetime.datetime(2001, 1, 1, tzinfo=UTC))
    assert [x.location for x in e.errors] == ["body.expiresAt"]
    reader = form(f"http://127.0.0.1:{served.port}", served.jwt(scopes=["read:tokens"]))
    e = refusal(kaitencloud.PermissionDeniedError, reader, "create", name="x")
    assert (e.status_code, e.code) == (403, "Auth.MissingScope")
    reader.close()
    stranger = form(f"http://127.0.0.1:{served.port}", "nonsense")
    e = refusal(kaitencloud.AuthenticationError, stranger, "list")
    assert e.status_code == 401
    stranger.close()


def test_slugs_with_everything_in_them_are_escaped_alike(sdk):
    for slug in ("a/b", "a b", "ä", "..", "a%2fb", "?x=1", "#", "a+b"):
        with pytest.raises((kaitencloud.NotFoundError, kaitencloud.BadRequestError)):
            sdk("get", slug)


def test_the_environment_is_enough(served, monkeypatch, org):
    monkeypatch.setenv("KAITEN_BASE_URL", f"http://127.0.0.1:{served.port}/api")
    monkeypatch.setenv("KAITEN_AUTH_TOKEN", served.jwt(org=org))
    with kaitencloud.KaitenClient() as client:
        assert client.service_accounts.list() == []


def test_a_restart_is_ridden_out(own_daemon, form):
    """Kept connections that the end of a daemon closed are opened again; nothing is asked twice."""
    d = own_daemon("storage-bdb").start()
    client = form(f"http://127.0.0.1:{d.port}", d.jwt())
    client("create", name="Farm", slug="farm")
    assert d.stop() == 0
    with contextlib.suppress(kaitencloud.APIConnectionError):
        client("list")
    d.start()
    assert [a.slug for a in client("list")] == ["farm"]
    client.close()
