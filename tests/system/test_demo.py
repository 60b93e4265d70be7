# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""The demos do what they print, to their end."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from conftest import BUILD, SOURCE


@pytest.mark.parametrize("name", ["demo", "demo-cluster"])
def test_a_demo_ends_by_itself_and_leaves_nothing_behind(name):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # short: sockets are made in it
        os.chmod(folder, 0o711)
        env = dict(os.environ, TMPDIR=folder, KEEP="")
        env.pop("KAITEN_DIR", None)
        done = subprocess.run([f"{SOURCE}/tests/{name}.sh"], env=env, timeout=300, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        left = os.listdir(folder)
    missing = "--tests installs it" in done.stdout
    if missing and os.environ.get("CI") != "1":
        pytest.skip(f"{done.stdout.strip()}: missing")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(f"{name}: done; nothing was left behind\n")
    assert "\ncode   revoked\n" in done.stdout
    assert not left


def test_a_demo_in_a_tree_that_a_group_may_write():
    """As with the umask of many systems, or from an archive that root has unpacked."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        tree = pathlib.Path(folder) / "tree"
        tree.mkdir()
        for name in ("client", "daemon", "tests"):
            (tree / name).symlink_to(BUILD / name)
        (tree / "plugins").mkdir()
        (tree / "plugins/.libs").mkdir()
        for plugin in (BUILD / "plugins/.libs").glob("*.so"):
            shutil.copy(plugin, tree / "plugins/.libs")
        for path in (tree, *(tree / "plugins").rglob("*"), tree / "plugins"):
            path.chmod(0o775)
        env = dict(os.environ, TMPDIR=folder, KEEP="", abs_top_builddir=str(tree))
        env.pop("KAITEN_DIR", None)
        done = subprocess.run([f"{SOURCE}/tests/demo.sh"], env=env, timeout=300, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout
        assert os.listdir(folder) == ["tree"]
