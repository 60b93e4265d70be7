#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
# What only storage-bdb promises: which directories it refuses and in which words, what it does
# with damaged files, a failed sync and a full disk. Output is TAP.
#
# Environment: abs_top_srcdir, abs_top_builddir (with config.h, kaiten-plugin-check and the plugin),
# CC.
set -u
src=${abs_top_srcdir:?} build=${abs_top_builddir:?}
check=${KAITEN_PLUGIN_CHECK:-$build/tests/plugin/kaiten-plugin-check}
plugin=${KAITEN_STORAGE_BDB:-$build/plugins/.libs/storage-bdb.so}
work=$(mktemp -d) || exit 2
mounted=
trap '[ -z "$mounted" ] || umount "$work/small"; rm -rf "$work"' EXIT
store=$work/store
sanitized=$("${NM:-nm}" -D "$plugin" | grep -c '__[at]san_')
number=0 failed=0

report() { # what, 0 or not
    number=$((number + 1))
    if [ "$2" = 0 ]; then
        echo "ok $number - $1"
    else
        failed=$((failed + 1))
        sed 's/^/# /' "$work/out"
        echo "not ok $number - $1"
    fi
}

skip() { # what, why
    number=$((number + 1))
    echo "ok $number - $1 # SKIP $2"
}

# One case on the store; its output goes to $work/out.
try() { # case, setting...
    one=$1
    shift
    "$check" -v -k "$one" "$plugin" "path=$store" "$@" >"$work/out" 2>&1
}

# The case fails and says this.
says() { # what, text, case
    try "$3"
    if [ $? = 1 ] && grep -q "$2" "$work/out"; then
        report "$1" 0
    else
        report "$1" 1
    fi
}

works() { # what, case
    try "$2"
    report "$1" $?
}

# A store with some thousand rows, closed well.
fill() {
    rm -rf "$store"
    "$check" -k KAITEN_APPLY_BATCHES_MAX "$plugin" "path=$store" >"$work/out" 2>&1
}

scribble() { # file, page
    printf 'scribble' | dd of="$store/$1" bs=1 seek=$(($2 * 4096 + 300)) conv=notrunc 2>/dev/null
}

opens='open: opens or creates'
whole='scan: to is the first byte of the next space'

(umask 0777 && try "$opens")
report 'a store is made whatever the umask' $?
modes=$(stat -c %a "$store" "$store"/* | sort -u | tr '\n' ' ')
echo "$modes" >"$work/out"
[ "$modes" = '600 700 ' ]
report 'its directory has mode 0700, its files 0600' $?

chmod 750 "$store"
says 'a directory that others may enter is refused' 'has mode 0750' "$opens"
chmod 700 "$store"
if [ "$(id -u)" = 0 ]; then
    chown 65533 "$store"
    says 'a directory of somebody else is refused' 'belongs to uid 65533' "$opens"
    chown 0 "$store"
else
    skip 'a directory of somebody else is refused' 'needs root'
fi
echo 'set_cachesize 0 1 1' >"$store/DB_CONFIG"
says 'a file DB_CONFIG is refused' 'DB_CONFIG exists' "$opens"
rm "$store/DB_CONFIG"
echo 12345 >"$store/lock"
flock "$store/lock" "$check" -v -k "$opens" "$plugin" "path=$store" >"$work/out" 2>&1
grep -q "$store is in use by process 12345" "$work/out"
report 'a second opener hears which directory and which process' $?
works 'the lock ends with its holder' "$opens"

fill
scribble space-63.db 50
says 'a damaged page is reported, not returned' 'returned 4: .* is damaged' "$whole"
fill
scribble meta.db 1
says 'a damaged page at the start is reported' 'open returned 4: .* is damaged' "$opens"
fill
rm "$store/space-63.db"
says 'a missing database file is not an empty space' 'space-63.db is missing' "$opens"
fill
rm "$store/meta.db"
says 'a missing meta.db does not start revisions again' 'meta.db is missing' "$opens"
fill
rm "$store"/log.*
says 'missing logs are reported' 'open returned 4: .* is damaged' "$opens"

fill
for _ in 1 2 3 4 5 6; do
    try 'threads: readers' checkpoint_log=1M log_file_size=1M
done
logs=$(find "$store" -name 'log.*' | wc -l)
echo "$logs logs" >"$work/out"
[ "$logs" -le 4 ]
report 'logs that no start needs are removed' $?
first=$(find "$store" -name 'log.*' | sort | head -n 1)
try 'threads: readers' checkpoint_log=1M log_file_size=1M keep_logs=yes
[ -e "$first" ]
report 'keep_logs keeps them' $?

cat >"$work/shim.c" <<'END'
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
int
fdatasync(int fd)
{
    static int calls;
    int (*real)(int) = (int (*)(int))dlsym((void *)-1L, "fdatasync");
    if (++calls < atoi(getenv("SHIM_FAIL_AT")))
        return real(fd);
    errno = EIO;
    return -1;
}
END
if [ "$sanitized" != 0 ]; then
    skip 'a failed sync ends the process at once' 'a sanitizer wants to be loaded first'
elif ${CC:-cc} -shared -fPIC -o "$work/shim.so" "$work/shim.c" -ldl 2>"$work/out"; then
    fill
    # The first syncs are those of the open; the last one here is that of a commit.
    for at in 1 4 12; do
        SHIM_FAIL_AT=$at LD_PRELOAD="$work/shim.so" "$check" -v -k 'All conditions hold' \
            "$plugin" "path=$store" >"$work/out" 2>&1
        if grep -q 'sync: Input/output error; ending now' "$work/out" &&
            grep -q 'exit status 75' "$work/out"; then
            report "a failed sync (number $at) ends the process at once" 0
        else
            report "a failed sync (number $at) ends the process at once" 1
        fi
    done
    works 'the next process recovers' "$whole"
else
    skip 'a failed sync ends the process at once' 'missing: a compiler'
fi

split='one batch that cannot be written does not fail the others, the urgent one goes first'
if [ "$sanitized" != 0 ]; then
    skip "$split" 'a program without the sanitizer cannot load this plugin'
else
    ${CC:-cc} -std=gnu11 -I"$build" -I"$src" -o "$work/bdb-split" "$src/tests/plugin/bdb-split.c" \
        "$src/tests/plugin/fake-host.c" -ldl -lpthread >"$work/out" 2>&1 &&
        "$work/bdb-split" "$plugin" "$store" >"$work/out" 2>&1
    report "$split" $?
fi

# Too small for the rows of this case: it fills the disk in the middle.
mkdir "$work/small"
if mount -t tmpfs -o size=2M,mode=0700 tmpfs "$work/small" 2>"$work/out"; then
    mounted=1
    store=$work/small/store
    try 'scan: emits every row' checkpoint_log=1M log_file_size=1M
    grep -q 'apply returned 3: .*No space left' "$work/out" &&
        ! grep -q 'exit status\|signal' "$work/out"
    report 'a write on a full disk is KAITEN_FULL' $?
    says 'a start on a full disk says so' 'returned 3: no space left for .*nothing is lost' "$opens"
    mount -o remount,size=32M "$work/small"
    works 'with space again it starts' "$opens"
    works 'and has what was there' "$whole"
else
    skip 'a full disk' 'cannot mount a tmpfs'
fi

echo "1..$number"
echo "$((number - failed)) passed, $failed failed"
[ $failed = 0 ]
