# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The unit for systemd: what it forbids the daemon does without, and what it names is there."""

import contextlib
import os
import signal

import pytest

from conftest import BUILD, KAITEND, SANITIZED, SOURCE, Process, wait_for

WITHOUT = BUILD / "tests/tools/without"
# systemd.exec(5), SystemCallFilter=; systemd-analyze syscall-filter prints them.
CHOWN = {"chown", "fchown", "fchownat", "lchown"}
CLOCK = {"adjtimex", "clock_adjtime", "clock_settime", "settimeofday"}
GROUPS = {
    "@chown": CHOWN,
    "@privileged": CHOWN | CLOCK | {
        "acct", "bpf", "capset", "chroot", "fanotify_init", "open_by_handle_at", "pivot_root",
        "quotactl", "setdomainname", "setfsuid", "setgroups", "sethostname", "setresuid",
        "setreuid", "setuid", "vhangup"},
    "@resources": {
        "ioprio_set", "mbind", "migrate_pages", "move_pages", "sched_setaffinity",
        "sched_setattr", "sched_setparam", "sched_setscheduler", "set_mempolicy", "setpriority",
        "setrlimit"},
    "@system-service": set(),
}


@pytest.fixture(scope="module")
def unit():
    """Sections of (name, value) in the order of the file."""
    sections, now = {}, None
    for line in (SOURCE / "etc/kaitend.service.in").read_text().splitlines():
        if line.startswith("["):
            now = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            now.append(tuple(line.split("=", 1)))
    return sections


def values(unit, name, section="Service"):
    return [value for key, value in unit[section] if key == name]


def forbidden(unit):
    """The calls that the lines of the filter leave forbidden."""
    denied = set()
    for line in values(unit, "SystemCallFilter"):
        for word in line.lstrip("~").split():
            calls = GROUPS[word] if word.startswith("@") else {word}
            denied = denied | calls if line.startswith("~") else denied - calls
    return denied


def test_what_cannot_get_better_is_not_started_again(unit):
    """The exit codes of kaitend(8) that say that a restart does not help."""
    (codes,) = values(unit, "RestartPreventExitStatus")
    assert set(codes.split()) == {"64", "65", "78"}
    assert values(unit, "Restart") == ["on-failure"]
    assert values(unit, "StartLimitIntervalSec", "Unit") == ["0"], "75 may take an hour to pass"


def test_a_reload_is_checked_first(unit):
    start, (check, reload) = values(unit, "ExecStart"), values(unit, "ExecReload")
    assert check == start[0].replace(" -c ", " --check -c ") and reload.endswith("-HUP $MAINPID")


def test_what_the_guard_of_time_reads_can_be_read(unit):
    assert values(unit, "ProcSubset") == [], "/proc/sys/kernel/random/boot_id"


@pytest.mark.skipif(SANITIZED, reason="a sanitizer makes calls of its own")
def test_nothing_that_it_forbids_is_needed(own_daemon, unit, tmp_path):
    denied = forbidden(unit)
    assert {"setuid", "chroot", "sched_setscheduler"} <= denied
    daemon = own_daemon("storage-bdb", sock=f"group = {os.getgid()}", storage="base_log = 1M")
    daemon.process = Process([WITHOUT, ",".join(sorted(denied)), KAITEND, "-c", daemon.conf],
                             daemon.log)

    def ready():
        assert daemon.process.poll() is None, f"{daemon.process.returncode} {daemon.tail()}"
        with contextlib.suppress(OSError), contextlib.closing(daemon.http()) as http:
            return http.request("GET", "/readyz").ok

    wait_for(ready, "kaitend to be ready")
    daemon.ctl("account", "create", "Unit", "--slug", "unit")
    daemon.ctl("token", "create", "unit", "--name", "t", "-q")
    daemon.ctl("key", "rotate", "digest")
    daemon.ctl("backup", tmp_path / "copy")
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "event=config.loaded" in daemon.log.read_text(), "the reload")
    assert daemon.stop() == 0, daemon.tail()
