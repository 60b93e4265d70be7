# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""/openapi.json and /docs: both printed from the operation table, and true of what is served."""

import html.parser
import re

import pytest

from conftest import Http

WIRE_ORDER = {
    "ServiceAccount": ["id", "name", "slug", "externalId", "createdBy", "createdAt", "tokens"],
    "Token": ["id", "name", "slug", "scopes", "serviceAccountId", "expiresAt", "createdAt",
              "createdBy", "revokedAt", "revokedBy"],
    "Problem": ["type", "title", "status", "detail", "instance", "code", "errorId", "errors"],
    "ErrorDetail": ["message", "location", "value"],
}


@pytest.fixture(scope="module")
def document(daemon):
    answer = daemon.http().request("GET", "/openapi.json", headers={"Authorization": ""})
    assert answer.status == 200
    return answer.body


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if isinstance(operation, dict) and "responses" in operation:
                yield method.upper(), path, operation


def test_version_and_no_dialect(document):
    assert document["openapi"].startswith("3.1")
    assert "jsonSchemaDialect" not in document


def test_every_route_is_described(document):
    described = {(method, path) for method, path, _ in operations(document)}
    for name, (method, path) in Http.ROUTES.items():
        assert (method, path) in described, name


def test_operation_ids_are_unique(document):
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert "create-service-account-token" in ids


@pytest.mark.parametrize("name", WIRE_ORDER)
def test_members_stand_in_the_order_of_the_wire(document, name):
    members = list(document["components"]["schemas"][name]["properties"])
    assert [m for m in members if m in WIRE_ORDER[name]] == WIRE_ORDER[name]


def test_references_lead_somewhere(document):
    text = str(document)
    for name in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert name in document["components"]["schemas"]


def test_what_needs_a_caller_says_so(document, daemon):
    client = daemon.http()
    for method, path, operation in operations(document):
        if method != "GET" or "{" in path or path == "/tokens/validate":
            continue
        open_to_all = operation.get("security") == []
        answer = client.request("GET", path, headers={"Authorization": ""})
        assert (answer.status == 401) != open_to_all, path


def test_unchanged_documents_are_not_sent_again(daemon):
    client = daemon.http()
    first = client.request("GET", "/openapi.json")
    again = client.request("GET", "/api/openapi.json",
                           headers={"If-None-Match": first.headers["ETag"]})
    assert again.status in (200, 304)
    assert again.headers["ETag"] == first.headers["ETag"]


class Page(html.parser.HTMLParser):
    VOID = {"meta", "link", "br", "hr", "img", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], set(), ""

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_data(self, data):
        self.text += data

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_has_no_script(daemon, document):
    answer = daemon.http().request("GET", "/docs")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src" not in policy
    page = Page()
    page.feed(answer.body.decode())
    assert not page.open and "script" not in page.seen
    for _, path, _ in operations(document):
        assert path in page.text, path
    style = daemon.http().request("GET", "/docs/style.css")
    assert style.status == 200 and style.headers["Content-Type"].startswith("text/css")
