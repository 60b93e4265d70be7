# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# What the demos have in common: commands are printed as they are run, and a step that does not do
# what it says ends the demo. Read by demo.sh and demo-cluster.sh; $name is the demo's.
# shellcheck shell=sh
: "${name:?the demo}"

say() {
    printf '\n# %s\n' "$*"
}

die() {
    printf '%s: %s\n' "$name" "$*" >&2
    exit 1
}

# Prints the command and runs it; its output is shown and kept in $out.
run() {
    printf '$ %s\n' "$1"
    out=$(eval "$1") || die "failed: $1"
    [ -z "$out" ] || printf '%s\n' "$out"
}

# The same for a command that has to fail with this exit code.
run_failing() {
    printf '$ %s\n' "$2"
    code=0
    out=$(eval "$2" 2>&1) || code=$?
    printf '%s\n' "$out"
    [ "$code" -eq "$1" ] || die "expected exit code $1, got $code: $2"
}

expect() {
    case $out in
    *"$1"*) ;;
    *) die "expected to read \"$1\"" ;;
    esac
}

field() {
    printf '%s' "$out" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"
}

# Below those that the kernel gives to clients.
random_port() {
    echo $((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))
}

# A daemon loads nothing that others could change, and a tree may be one that a group writes.
copy_plugins() { # from a tree, into a folder
    (
        umask 022
        mkdir -p "$2/plugins"
        for plugin in "$1"/plugins/.libs/*.so; do
            [ ! -e "$plugin" ] || cp --remove-destination "$plugin" "$2/plugins"
        done
    )
}
