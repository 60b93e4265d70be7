# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A door with a small limit for bodies, and who may ask there."""

import pytest

from conftest import Daemon


MAX_BODY = 4096


@pytest.fixture(scope="module")
def door():
    d = Daemon("storage-memory", http=f"max_body = {MAX_BODY}", level="info").start()
    d.alice = d.jwt().encode()
    d.poor = d.jwt(scopes=[]).encode()
    yield d
    code = d.stop()
    d.remove()
    assert code == 0


def bearer(d):
    return b"Authorization: Bearer " + d.alice
