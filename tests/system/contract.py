# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""What tests of the contract ask for, again and again."""

import datetime
import re

import pytest

from conftest import done


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,2}[1-9])?Z")
MODULES = ("feature_flags instances licenses entitlements components customers deployment_zones "
           "metadata_fields releases users organizations tokens webhooks memberships "
           "notifications billing addons").split()


def create(door, name="Build Farm", **args):
    return done(door, door.call("account.create", name=name, **args), 201)


def mint(door, account, name="deploy", **args):
    args.setdefault("scopes", ["read:instances"])
    return done(door, door.call("token.create", serviceAccountSlug=account, name=name, **args), 201)


def try_mint(door, account, **args):
    args = dict({"name": "deploy", "scopes": []}, **args)
    return door.call("token.create", serviceAccountSlug=account, **args)


def utc(**delta):
    t = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**delta)
    return t.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def http(daemon, org):
    client = daemon.http(daemon.jwt(org=org))
    yield client
    client.close()
