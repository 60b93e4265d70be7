# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Options, sample configuration and manual must say the same: every option of the daemon and of each
plugin stands in etc/kaitend.conf with its sentence, and in kaitend.conf(5) with what it accepts and its
default."""

import os
import pathlib
import re
import subprocess
import sys

SOURCE = pathlib.Path(os.environ.get("abs_top_srcdir", pathlib.Path(__file__).parents[2]))
BUILD = pathlib.Path(os.environ.get("abs_top_builddir", SOURCE))
PLUGINS = ["storage-bdb", "storage-memory", "storage-postgres",
           "auth-jwt", "auth-peer", "auth-token"]


def dump(*args):
    env = dict(os.environ, KAITEND_PLUGIN_DIR=str(BUILD / "plugins/.libs"))
    done = subprocess.run([BUILD / "daemon/kaitend", *args], capture_output=True, text=True, env=env)
    if done.returncode != 0:
        sys.exit(f"check-conf: {' '.join(args)} failed: {done.stderr}")
    return done.stdout


def options(text):
    """(section, name, sentence, what is accepted) of every option in a dump."""
    section, comment = None, []
    for line in text.splitlines():
        option = re.match(r"#(\w+) =", line)
        if option:
            yield section, option[1], " ".join(comment[:-1]), comment[-1]
            comment = []
        elif line.startswith("# "):
            comment.append(line[2:])
        elif line.startswith("["):
            section = line.strip("[]")


def described(manual):
    """What stands under each option of each section, as one line."""
    found = {}
    for section, text in re.findall(r"^\.Ss \[([\w-]+)\](.*?)(?=^\.S[sh] )", manual, re.M | re.S):
        for name, item in re.findall(r"^\.It Cm (\w+)\n(.*?)(?=^\.It |^\.El)", text, re.M | re.S):
            found[section, name] = " ".join(item.split())
    return found


def main():
    sample = (SOURCE / "etc/kaitend.conf").read_text()
    manual = described((SOURCE / "etc/man/kaitend.conf.5").read_text())
    missing = []
    for text in [dump("--dump-options")] + [dump("--dump-plugin", p) for p in PLUGINS]:
        for section, name, sentence, accepted in options(text):
            if sentence not in sample:
                missing.append(f"etc/kaitend.conf lacks the sentence of {name}: {sentence}")
            if not re.search(rf"^#*\s*{name} =", sample, re.M):
                missing.append(f"etc/kaitend.conf lacks {name}")
            if accepted not in manual.get((section, name), ""):
                missing.append(f"kaitend.conf.5, [{section}] {name}, lacks: {accepted}")
    print("\n".join(missing))
    return 1 if missing else 0


sys.exit(main())
