#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
# Builds every plugin that breaks a promise on purpose and shows that kaiten-plugin-check turns red
# at the case that is meant to notice, and that it refuses settings that no plugin ever sees.
#
# Environment: abs_top_srcdir, abs_top_builddir (with kaiten-plugin-check and config.h), CC, CFLAGS.
# Output is TAP; the last line is "N passed, N failed".
set -u
src=${abs_top_srcdir:?} build=${abs_top_builddir:?}
check=${KAITEN_PLUGIN_CHECK:-$build/tests/plugin/kaiten-plugin-check}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
number=0 failed=0

# report WHAT RESULT
report() {
    number=$((number + 1))
    if [ "$2" = 0 ]; then
        echo "ok $number - $1"
    else
        failed=$((failed + 1))
        sed 's/^/# /' "$work/out"
        echo "not ok $number - $1"
    fi
}

compile() {
    # shellcheck disable=SC2086
    ${CC:-cc} -std=gnu11 ${CFLAGS--O1 -g} -fPIC -shared -I"$build" -I"$src" \
        -Wl,--version-script="$src/plugins/plugin.map" -o "$work/$1.so" \
        "$src/tests/plugin/$1.c" >"$work/out" 2>&1
}

# goes_red PLUGIN PROMISE: the check ends with 1, and this case is among the failed ones.
goes_red() {
    if ! compile "broken-$1"; then
        report "broken-$1 is built" 1
        return
    fi
    "$check" -t 60 "$work/broken-$1.so" >"$work/out" 2>&1
    status=$?
    result=1
    if [ $status = 1 ] && grep -q "^not ok [0-9]* - $2" "$work/out"; then
        result=0
    fi
    report "broken-$1 is noticed: $2" $result
}

# refuses TEXT SETTING...: the check ends with 2 and names the reason.
refuses() {
    text=$1
    shift
    "$check" "$@" >"$work/out" 2>&1
    status=$?
    result=1
    if [ $status = 2 ] && grep -q "$text" "$work/out"; then
        result=0
    fi
    report "refused: $text" $result
}

goes_red conditions 'KAITEN_ABSENT: the key has no row'
goes_red failed 'failed: the index of the first condition that failed'
goes_red atomic 'All conditions hold and all writes happen, or nothing does'
goes_red stop 'A batch whose condition fails is skipped and says which; the others go on'
goes_red order 'scan: backward: greatest key first'
goes_red bound 'scan: from <= key < to'
goes_red kept 'kept: caps, or fewer'
goes_red revision 'Revisions never repeat, not even after a delete'
goes_red patience 'get: when the daemon wants no more, returns KAITEN_DONE at once'
goes_red durable 'What was DONE is there after close and open'
goes_red threads 'threads: readers beside a writer see whole rows'
goes_red crash 'KAITEN_DELETE: the key has no row'
goes_red backup 'backup: a copy of the store, as it was at one moment of the call'
goes_red backup 'verify: whether the directory is, byte for byte, what backup() has left'
goes_red changes 'changes: each row as it is now; a key whose row is gone comes with value.p NULL'
goes_red identify 'identify: garbage gets a listed verdict'
goes_red principal 'identify: what the sink refuses is never KAITEN_KNOWN'

refuses 'nonsense is no option of this plugin' "$work/broken-order.so" nonsense=1
refuses 'nonsense is not key=value' "$work/broken-order.so" nonsense
refuses 'must export kaiten_storage_plugin or kaiten_auth_plugin' "$(
    echo 'int nothing = 1;' >"$work/nothing.c"
    ${CC:-cc} -fPIC -shared -o "$work/nothing.so" "$work/nothing.c"
    echo "$work/nothing.so"
)"
refuses 'No such file' "$work/none.so"
refuses 'no case has "nonsense" in its name' -k nonsense "$work/broken-order.so"
refuses 'usage:' -x

echo "1..$number"
echo "$((number - failed)) passed, $failed failed"
[ $failed = 0 ]
