#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
# check-symbols.sh PLUGIN.so...: each exports exactly one symbol, kaiten_storage_plugin or
# kaiten_auth_plugin, as constant data, and needs none of the daemon's. Output is TAP.
set -u
number=0 failed=0

report() { # what, problem
    number=$((number + 1))
    if [ -z "$2" ]; then
        echo "ok $number - $1"
    else
        failed=$((failed + 1))
        echo "# $2"
        echo "not ok $number - $1"
    fi
}

# Versions that the linker or a sanitizer puts there are no business of the plugin's author; and
# __ham_func4 is a function of Berkeley DB that storage-bdb has a faster one for.
exported() {
    "${NM:-nm}" -D --defined-only "$1" |
        awk '$2 != "A" && $3 !~ /^__((asan|odr_asan|tsan)_|ham_func4$)/ { print $2, $3 }'
}

[ $# -gt 0 ] || {
    echo "usage: check-symbols.sh plugin.so ..." >&2
    exit 2
}
for plugin; do
    name=$(basename "$plugin")
    symbols=$(exported "$plugin")
    problem=
    case $symbols in
    [RD]' kaiten_storage_plugin' | [RD]' kaiten_auth_plugin') ;;
    *) problem="it exports: $(echo "$symbols" | tr '\n' ' ')" ;;
    esac
    report "$name exports one symbol" "$problem"
    needed=$("${NM:-nm}" -D --undefined-only "$plugin" |
        awk '$2 ~ /^(kaiten|kt)_/ { print $2 }' | tr '\n' ' ')
    report "$name needs nothing of the daemon" "${needed:+it needs: $needed}"
done
echo "1..$number"
echo "$((number - failed)) passed, $failed failed"
[ $failed = 0 ]
