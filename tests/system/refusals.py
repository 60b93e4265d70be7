# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A start that is refused: how it is tried, and what it says."""

import os
import re
import subprocess

import pytest

from conftest import KAITEND, PATIENCE

USAGE, UNAVAILABLE, CANTCREAT, TEMPFAIL, NOPERM, CONFIG = 64, 69, 73, 75, 77, 78
NOUSER = 67
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become others")


def kaitend(*args, **kwargs):
    # Where else plugins would be found is not what these tests are about.
    env = {name: value for name, value in os.environ.items() if name != "KAITEND_PLUGIN_DIR"}
    return subprocess.run([KAITEND, *map(str, args)], capture_output=True, text=True,
                          timeout=PATIENCE,
                          env=kwargs.pop("env", env), **kwargs)


def messages(text):
    """The messages of the log lines that say why there was no start."""
    found = re.findall(r'event=start\.failed message=("(?:[^"\\]|\\.)*"|\S+)', text)
    return [re.sub(r"\\(.)", r"\1", m.strip('"')) for m in found]


def refuses(code, *args, **kwargs):
    """Runs it; it must end with this code, and one message. Returns that."""
    ran = kaitend(*args, **kwargs)
    assert ran.returncode == code, ran
    assert ran.stdout == ""
    found = messages(ran.stderr)
    assert len(found) == 1, ran.stderr
    return found[0]


@pytest.fixture
def made(own_daemon):
    """A daemon that is not started, whose configuration a test spoils."""
    return own_daemon("storage-memory")


def spoil(daemon, old, new):
    """Replaces a line, or adds one behind it; returns the number of the last new line."""
    text = daemon.conf.read_text()
    assert text.count(old) == 1, (old, text)
    daemon.conf.write_text(text.replace(old, new))
    return text[:text.index(old)].count("\n") + new.count("\n") + 1
