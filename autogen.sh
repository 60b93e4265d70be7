#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# Makes ./configure and runs it. On Debian it first installs the packages that are missing.
set -eu
cd "$(dirname "$0")"

usage() {
    cat <<'EOT'
usage: ./autogen.sh [--tests] [--bench] [--fuzz] [--no-install] [argument of configure ...]
  --tests        also what `make check` needs     (etc/packaging/test-deps)
  --bench        also what `make bench` needs     (etc/packaging/bench-deps)
  --fuzz         also what `make fuzz` needs      (etc/packaging/fuzz-deps)
  --no-install   print what is missing and stop; so does KAITEND_NO_INSTALL=1
Environment: NOCONFIGURE=1 makes ./configure and does not run it.
EOT
}

say() {
    echo "autogen.sh: $*"
}

wanted() {
    sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$@"
}

missing() {
    wanted "$@" | while read -r package; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
        [ "$status" = installed ] || echo "$package"
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# RUNLEVEL=1 keeps invoke-rc.d from starting the daemons that come with a package.
apt() {
    as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -q "$@" \
        >>build-aux/apt.log 2>&1 </dev/null && return
    tail -n 20 build-aux/apt.log >&2
    say "apt-get $1 failed; all of its output is in build-aux/apt.log" >&2
    exit 1
}

install_missing() {
    packages=$(missing "$@" | tr '\n' ' ')
    packages=${packages% }
    [ -n "$packages" ] || return 0

    say "missing packages: $packages"
    command="apt-get install -y --no-install-recommends $packages"
    if [ "$no_install" = 1 ]; then
        say "install them with: $command"
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        say "neither root nor sudo here; as root, run: $command"
        exit 1
    fi

    began=$(date +%s)
    say "installing them with apt-get (build-aux/apt.log) ..."
    : >build-aux/apt.log
    # The password prompt, if there is one, must not end up in the log.
    [ "$(id -u)" -eq 0 ] || sudo -v
    apt update
    # shellcheck disable=SC2086 # one word per package
    apt install -y --no-install-recommends $packages
    say "installed in $(($(date +%s) - began)) s"
}

no_install=${KAITEND_NO_INSTALL:-0}
lists=etc/packaging/build-deps
for arg; do
    shift
    case $arg in
    --tests) lists="$lists etc/packaging/test-deps" ;;
    --bench) lists="$lists etc/packaging/bench-deps" ;;
    --fuzz) lists="$lists etc/packaging/fuzz-deps" ;;
    --no-install) no_install=1 ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) set -- "$@" "$arg" ;;
    esac
done

mkdir -p build-aux
if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086 # one word per list
    install_missing $lists
else
    say "not a Debian system; configure will look for: libevent_core libcrypto msgpack libcjson" \
        "libjwt libsodium libcurl cmocka (pkg-config names), and Berkeley DB 5.3"
fi

if ! autoreconf -fi >build-aux/autoreconf.log 2>&1; then
    cat build-aux/autoreconf.log >&2
    exit 1
fi
[ -z "${NOCONFIGURE:-}" ] || exit 0
./configure --quiet "$@"
