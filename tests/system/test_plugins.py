# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
"""Which plugins are loaded, and what is said of those that are not."""

import os
import shlex
import shutil
import subprocess

import pytest

from conftest import PLUGIN_DIR, SOURCE
from refusals import CONFIG, ROOT, kaitend, made, refuses, spoil  # noqa: F401


@pytest.fixture
def plugins(made, tmp_path):
    """A folder of our own for plugins, where the daemon looks first; the real ones are copied."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    for so in PLUGIN_DIR.glob("*.so"):
        shutil.copy(so.resolve(), folder / so.name)
        (folder / so.name).chmod(0o755)
    spoil(made, f"plugin_dir = {PLUGIN_DIR}", f"plugin_dir = {folder}")
    return folder


def compile_plugin(folder, name, text):
    command = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(command[0]) is None:
        pytest.skip("there is no compiler")
    source = folder / (name + ".c")
    source.write_text(text)
    subprocess.run([*command, "-shared", "-fPIC", f"-I{SOURCE}", "-o", folder / (name + ".so"),
                    source], check=True)
    (folder / (name + ".so")).chmod(0o755)


FOREIGN = """#include "plugins/kaiten-%(kind)s.h"
%(functions)s
__attribute__((visibility("default")))
const struct kaiten_%(kind)s kaiten_%(kind)s_plugin = { .size = %(size)s, .abi = %(abi)s,
    .threads = %(threads)s, .name = "foreign", %(members)s };
"""


def foreign(kind, abi="KAITEN_%s_ABI", size="sizeof(struct kaiten_%s)", threads="3", functions="",
            members=""):
    return FOREIGN % {"kind": kind, "abi": abi % kind.upper() if "%" in abi else abi,
                      "size": size % kind if "%" in size else size, "threads": threads,
                      "functions": functions, "members": members}


def test_plugin_that_is_missing(made, plugins):
    (plugins / "storage-memory.so").unlink()
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith('plugin "storage-memory": there is no storage-memory.so in '
                              f"{plugins}")


@pytest.mark.parametrize("name", ["../storage-memory", "/lib/x", "storage memory", ""])
def test_plugin_names_are_no_paths(made, name):
    made.conf.write_text(made.conf.read_text().replace("storage = storage-memory",
                                                       f"storage = {name}"))
    assert refuses(CONFIG, "-c", made.conf) == (
        f'plugin "{name}": a name has only a-z, 0-9, - and _')


@pytest.mark.parametrize("kind", ["storage", "auth"])
@pytest.mark.parametrize("change,words", [
    ({"abi": "99"}, ["ABI 99, this daemon speaks 1; rebuild the plugin"]),
    ({"abi": "0"}, ["ABI 0, this daemon speaks 1"]),
    ({"size": "16"}, ["its struct has 16 bytes, at least"]),
    ({"threads": "7"}, ["thread level 7 is none of 1, 2, 3"]),
    ({}, ["the required member open is NULL"])])
def test_plugin_of_another_kind_of_build(made, plugins, kind, change, words):
    compile_plugin(plugins, "foreign", foreign(kind, **change))
    if kind == "storage":
        spoil(made, "storage = storage-memory", "storage = foreign")
    else:
        made.conf.write_text(made.conf.read_text().replace("auth = auth-token", "auth = foreign"))
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith(f"{plugins}/foreign.so: ")
    assert all(w in message for w in words), message
    assert refuses(CONFIG, "--check", "-c", made.conf) == message


def test_library_that_is_no_plugin(made, plugins):
    compile_plugin(plugins, "foreign", "int nothing_of_ours;\n")
    spoil(made, "storage = storage-memory", "storage = foreign")
    assert refuses(CONFIG, "-c", made.conf) == (
        f"{plugins}/foreign.so: exports neither kaiten_storage_plugin nor kaiten_auth_plugin")


def test_file_that_is_no_library(made, plugins):
    (plugins / "foreign.so").write_text("#!/bin/sh\n")
    (plugins / "foreign.so").chmod(0o755)
    spoil(made, "storage = storage-memory", "storage = foreign")
    message = refuses(CONFIG, "-c", made.conf)
    assert message.startswith(f"{plugins}/foreign.so: ")


def test_plugin_in_the_wrong_place(made):
    made.conf.write_text(made.conf.read_text().replace("storage = storage-memory",
                                                       "storage = auth-token"))
    assert refuses(CONFIG, "-c", made.conf) == 'plugin "auth-token" is no storage plugin'
    made.write_conf()
    made.conf.write_text(made.conf.read_text().replace("auth = auth-token", "auth = storage-bdb"))
    assert refuses(CONFIG, "-c", made.conf) == 'plugin "storage-bdb" is no auth plugin'


def test_plugin_that_others_may_write(made, plugins):
    so = plugins / "storage-memory.so"
    for mode in (0o757, 0o775):
        so.chmod(mode)
        assert refuses(CONFIG, "-c", made.conf) == (
            f"{so}: mode {mode:04o} lets others write it; run chmod go-w {so}")
    so.chmod(0o755)
    plugins.chmod(0o777)
    assert refuses(CONFIG, "-c", made.conf).startswith(f"{plugins}: mode 0777 lets others write it")
    plugins.chmod(0o755)
    assert kaitend("--check", "-c", made.conf).returncode == 0


def test_plugin_behind_a_symbolic_link(made, plugins):
    so = plugins / "storage-memory.so"
    so.rename(plugins / "real.so")
    so.symlink_to("real.so")
    assert refuses(CONFIG, "-c", made.conf) == f"{so}: is a symbolic link"


@ROOT
def test_plugin_of_another_owner(made, plugins):
    so = plugins / "storage-memory.so"
    os.chown(so, 4001, 4001)
    assert refuses(CONFIG, "-c", made.conf).startswith(f"{so}: owned by uid 4001")
