# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""A test that hangs fails and says where; the others run all the same. Whoever imports the hooks has
the limit: the conftest, and the faults' plugin.

KAITEN_TEST_SECONDS=N   another limit for each test, fixtures included; 0: none
"""

import faulthandler
import os
import signal
import sys
import tempfile
import threading
import time

import pytest

SECONDS = float(os.environ.get("KAITEN_TEST_SECONDS", "300"))
AGAIN = 30    # for what swallowed it, and for the fixtures' ends
GRACE = 240   # then the whole run ends: nothing that Python can interrupt


class Watch:
    """What runs now and since when; a thread looks at it, since signals need the main one."""

    def __init__(self, fd):
        self.fd, self.name, self.end = fd, None, None
        threading.Thread(target=self.look, name="watch", daemon=True).start()

    def look(self):
        while True:
            time.sleep(5)
            end = self.end
            if end is not None and time.monotonic() > end:
                os.write(self.fd, f"\nERROR {self.name} - hangs, and cannot be interrupted\n"
                         .encode())
                faulthandler.dump_traceback(self.fd, all_threads=True)
                os._exit(1)


watch = None


def hangs(number, frame):
    with tempfile.TemporaryFile() as f:
        faulthandler.dump_traceback(f, all_threads=True)
        f.seek(0)
        sys.stderr.write(f.read().decode())
    pytest.fail(f"hangs: not over after {SECONDS:g} s")


def pytest_configure(config):
    """Now nothing is captured yet: what the watch says reaches the log."""
    global watch
    if SECONDS and watch is None:
        watch = Watch(os.dup(2))
        signal.signal(signal.SIGALRM, hangs)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    if not SECONDS:
        yield
        return
    watch.name, watch.end = item.nodeid, time.monotonic() + SECONDS + GRACE
    signal.setitimer(signal.ITIMER_REAL, SECONDS, AGAIN)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    watch.end = None
