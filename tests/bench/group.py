# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""One scheduling group for all that takes part in a run.

Where the kernel makes a group of each session (autogroup, sched(7)), the processor is shared between
sessions first. Each process of PostgreSQL is a session, the other servers and the generators are one
together: such a run measures the groups, and a group may go without a processor for a second while
others are busy. Who is in a control group of its own is in none of a session."""

import os

AUTOGROUP = "/proc/sys/kernel/sched_autogroup_enabled"


def is_grouped():
    try:
        with open(AUTOGROUP, encoding="ascii") as f:
            return f.read().strip() == "1"
    except OSError:
        return False


def controller():
    """Where control groups are made that share out the processor; None: nowhere."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split()[:3]
            path = before.split()[4]
            if kind == "cgroup" and "cpu" in options.split(","):
                return path
            if kind == "cgroup2" and hands_on(path):
                return path
    return None


def hands_on(path):
    """Whether groups below that one share out the processor, in the second version."""
    try:
        with open(f"{path}/cgroup.subtree_control", encoding="ascii") as f:
            return "cpu" in f.read().split()
    except OSError:
        return False


def move(path):
    with open(f"{path}/cgroup.procs", "w", encoding="ascii") as f:
        f.write(str(os.getpid()))


class Group:
    """The calling process, and whatever it starts, while this is entered."""

    def __init__(self, say):
        self.say, self.parent, self.path = say, None, None

    def __enter__(self):
        if not is_grouped():
            return self
        self.parent = controller()
        path = f"{self.parent}/kaiten-bench-{os.getpid()}"
        try:
            if not self.parent:
                raise OSError("no control groups that share out the processor")
            os.mkdir(path)
            self.path = path
            move(path)
        except OSError as e:
            self.say(f"sessions are scheduled in groups, and figures depend on it: {e}; "
                     f"to have none, as root: echo 0 >{AUTOGROUP}")  # fmt: skip
        return self

    def __exit__(self, *_):
        if self.path:
            move(self.parent)
            os.rmdir(self.path)
