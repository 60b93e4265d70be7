#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
# What only storage-bdb promises: which directories it refuses and in which words, what it does
# with damaged files, a failed sync, a full disk and a process that is killed. Output is TAP.
#
# Environment: abs_top_builddir (with kaiten-plugin-check, bdb-tool and the plugin), CC.
# KAITEN_FAULTS=full: killed at every step instead of a sample.
set -u
build=${abs_top_builddir:?}
check=${KAITEN_PLUGIN_CHECK:-$build/tests/plugin/kaiten-plugin-check}
tool=${KAITEN_BDB_TOOL:-$build/tests/plugin/bdb-tool}
format=$build/tests/plugin/bdb-format
plugin=${KAITEN_STORAGE_BDB:-$build/plugins/.libs/storage-bdb.so}
work=$(mktemp -d) || exit 2
mounted=
trap '[ -z "$mounted" ] || umount "$work/small"; rm -rf "$work"' EXIT
trap 'exit 2' INT TERM
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

blank() { # file, page
    dd if=/dev/zero of="$store/$1" bs=4096 seek="$2" count=1 conv=notrunc 2>/dev/null
}

opens='open: opens or creates'

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

# --- a store with a base copy, and what happens to it ---

small='log_file_size=1M checkpoint_log=1M base_log=1M ballast=1M'
rows=9000

# Commands of bdb-tool on the store; its output goes to $work/out.
tool() {
    # shellcheck disable=SC2086
    timeout 900 "$tool" "$plugin" "$store" $small "$@" >"$work/out" 2>&1
}

# The store as it was made at first.
fresh() {
    rm -rf "$store"
    cp -a "$work/made" "$store"
}

whole() { # what
    tool "count=$rows"
    report "$1" $?
}

# Opening fails with KAITEN_CORRUPT and says this, the second time as well.
stays_down() { # what, text
    tool "count=$rows"
    first=$?
    tool "count=$rows"
    second=$?
    if [ $first = 3 ] && [ $second = 3 ] && grep -q "open: 4: .*$2" "$work/out"; then
        report "$1" 0
    else
        report "$1" 1
    fi
}

# Of what is not zero in a log, up to 15 bytes more.
end_of() { # file
    echo $((16 * $(od -An -v -tx1 -w16 "$1" | grep -n '[1-9a-f]' | tail -n 1 | cut -d : -f 1)))
}

rm -rf "$store"
tool fill=6000 base=1 fill=3000 count=$rows
report 'a base copy is made while rows are written' $?
[ -e "$store/base/manifest" ] && [ ! -e "$store/log.0000000001" ]
report 'logs from before the base copy are removed' $?
cp -a "$store" "$work/made"

# A scan of what nobody has written to reads the file past the library.
tool late=8000
report 'a scan has what was written after it began' $?
fresh
large=$(printf '%06000d' 7)
tool row=7801:01 "row=7802:$large" row=7803:03 && tool rows=x &&
    [ "$(grep -c "^row 780[13] 0[13]$\|^row 7802 $large$" "$work/out")" = 3 ]
report 'a scan has rows that are too large for a page, and those beside them' $?
fresh

scribble space-74.db 400
tool count=$rows
[ $? = 75 ] && grep -q 'checksum error: page 400.*ending now' "$work/out"
report 'a damaged page ends the process, it is not returned' $?
whole 'the next start repairs it from the base copy and the logs'
grep -q 'store is repaired' "$work/out"
report 'and says so' $?
# The process that repaired it may have lived long enough to make a base copy, too.
[ -e "$store/damaged/space-74.db" ] || [ ! -e "$store/repair" ]
report 'the damaged files are kept until there is a base copy' $?
if [ -e "$store/repair" ]; then tool base=1; fi && tool check=1 "count=$rows"
report 'a base copy of the repaired store is made at once' $?
[ ! -e "$store/damaged" ] && [ ! -e "$store/repair" ]
report 'then nothing is left of the repair' $?

fresh
scribble meta.db 1
whole 'a damaged page at the start is repaired'
fresh
rm "$store/space-74.db"
whole 'a missing database file is repaired'
fresh
rm "$store/meta.db" "$store/space-74.db"
whole 'all database files missing: repaired'
fresh
scribble space-74.db 300
tool check=1
grep -q 'check: 4: .* 1 of .* pages are damaged' "$work/out" &&
    grep -q 'space-74.db: page 300 is damaged' "$work/out"
report 'a check names the damaged page' $?
whole 'and the next start repairs it'

# A page of zeros is what the library takes for one that is still to come.
for ask in "count=$rows" "each=$rows" "drop=0"; do
    fresh
    blank space-74.db 400
    tool "$ask"
    [ $? = 75 ] && grep -q 'checksum error: page 400.*ending now' "$work/out"
    report "a page that was blanked out ends the process (${ask%=*})" $?
    whole 'and the next start repairs it'
done
fresh
blank space-74.db 400
tool check=1
grep -q 'space-74.db: page 400 is damaged' "$work/out" &&
    grep -q 'check: 4: .* 1 of .* pages are damaged' "$work/out"
report 'a check names the page that was blanked out' $?
whole 'and the next start repairs it'
fresh
blank meta.db 1
whole 'a page that is blank at the start is repaired'
for file in meta.db space-74.db; do
    fresh
    half=$(($(stat -c %s "$store/$file") / 8192)) # of its pages
    truncate -s $((half * 4096)) "$store/$file"
    whole "the end of $file is missing: repaired"
    grep -q "$file says that it has .* pages, and has" "$work/out"
    report 'and it is said what was missing' $?
    fresh
    truncate -s 0 "$store/$file"
    whole "nothing is left of $file: repaired"
done
for ask in "each=$rows" "drop=0"; do
    fresh
    tool cut=400 "$ask"
    [ $? = 75 ] && grep -q 'PAGE_NOTFOUND.*ending now' "$work/out" && [ -e "$store/repair" ]
    report "a file that is cut while it is open ends the process (${ask%=*})" $?
    whole 'and the next start repairs it'
done
fresh
tool cut=400 check=1
grep -q 'check: 4: .* pages are damaged' "$work/out"
report 'and a check counts what is missing' $?

# What a power cut leaves of a base copy that takes the place of the one before.
fresh
cp -a "$store/base" "$store/base.new"
mv "$store/base" "$store/base.old"
scribble meta.db 1
whole 'between the two renames of a base copy there is one to repair from'
[ -e "$store/base/manifest" ] && [ ! -e "$store/base.old" ] && [ ! -e "$store/base.new" ]
report 'and nothing is left of that' $?

fresh
rm "$store/meta.db" "$store/base/meta.db"
stays_down 'a damaged base copy is not repaired from' 'could not be repaired (.*restore a backup'
fresh
scribble space-74.db 400
tool count=$rows
middle=$(find "$store" -name 'log.*' | sort | tail -n 2 | head -n 1)
mv "$middle" "$work/log"
stays_down 'without a log that it needs a repair is refused' "$(basename "$middle") is missing"
mv "$work/log" "$middle"
rm "$store/repair"
tool "count=$rows"
whole 'when the log is there again and the note is gone, it is repaired'
fresh
rm "$store"/log.*
stays_down 'missing logs are reported' 'could not be repaired (.*restore a backup'
fresh
rm "$(find "$store" -name 'log.*' | sort | tail -n 1)"
stays_down 'without its last file the log is not taken for whole' \
    'the log ends at .*restore a backup'
fresh
last=$(find "$store" -name 'log.*' | sort | tail -n 1)
end=$(end_of "$last")
tool row=7401:01
truncate -s "$end" "$last"
stays_down 'nor is one that was cut before changes that went into pages which were there' \
    'the log ends at .* and a page was changed at .*restore a backup'
fresh
last=$(find "$store" -name 'log.*' | sort | tail -n 1)
printf scribble | dd of="$last" bs=1 seek=30000 conv=notrunc 2>"$work/out"
stays_down 'damage in the middle of the log is not taken for its end' \
    "$(basename "$last") is damaged at byte .*what was acknowledged follows"
fresh
end=$(end_of "$last")
printf scribble | dd of="$last" bs=1 seek=$((end - 200)) conv=notrunc 2>"$work/out"
tool check=1
report 'a write that was cut short is the end of the log' $?

# A log that was made and not written to yet: the one before is where the log ends.
after=$store/$(printf 'log.%010u' $(($(basename "$last" | sed "s/^log.0*//") + 1)))
for bytes in 0 1048575; do
    fresh
    truncate -s $bytes "$after"
    whole "behind the last log there may be one of $bytes bytes without records"
    fresh
    truncate -s $bytes "$after"
    scribble space-74.db 400
    tool "count=$rows"
    whole 'and a repair goes by that, too'
    fresh
    truncate -s $bytes "$after"
    printf scribble | dd of="$last" bs=1 seek=30000 conv=notrunc 2>"$work/out"
    stays_down 'what is damaged before that is not taken for the end of the log' \
        "$(basename "$last") is damaged at byte .*what was acknowledged follows"
    fresh
    end=$(end_of "$last")
    tool row=7401:01
    truncate -s "$end" "$last"
    truncate -s $bytes "$after"
    stays_down 'nor is what was cut' 'the log ends at .* and a page was changed at'
done

# Which was synced before there was a next one.
fresh
full=$(find "$store" -name 'log.*' | sort | tail -n 2 | head -n 1)
end=$(end_of "$full")
printf scribble | dd of="$full" bs=1 seek=$((end - 40)) conv=notrunc 2>"$work/out"
tool check=1
grep -q "check: 4: .*$(basename "$full") is missing or damaged" "$work/out"
report 'damage to the last record of a full log is found' $?
page() { scribble space-74.db 400 && ! tool check=1; }
page
stays_down 'and not taken for its end by a repair' "$(basename "$full") is damaged at byte"

# Between two numbers of logs there may be four thousand millions that none has.
for stray in log.4294967294 log.9999999999; do
    fresh
    : >"$store/$stray"
    stays_down "a log of another store ($stray) is named" 'none of this store'
    rm "$store/$stray" "$store/repair"
    whole 'without it the store is as it was'
done

# --- backups ---

fresh
mkdir "$work/backup"
tool "backup=$work/backup" "verify=$work/backup"
report 'a backup is made, and is what its manifest says' $?
modes=$(stat -c %a "$work/backup" "$work/backup"/* | sort -u | tr '\n' ' ')
[ "$modes" = '600 700 ' ]
report 'nobody else may read it' $?
tool "backup=$work/backup"
grep -q 'backup: 6: .*not empty' "$work/out"
report 'a directory that is not empty is refused' $?
mkdir "$work/both"
tool "both=$work/both"
report 'of two into one directory at the same time one is made, and is whole' $?
for file in "$work/backup"/*; do
    name=$(basename "$file")
    rm -rf "$store"
    cp -a "$work/backup" "$store"
    truncate -s -1 "$store/$name"
    tool
    grep -q 'open: 4: .*the copy is damaged' "$work/out"
    report "a backup whose $name was cut is refused" $?
    rm -rf "$store"
    cp -a "$work/backup" "$store"
    printf scribble | dd of="$store/$name" bs=1 seek=60 conv=notrunc 2>"$work/out"
    tool
    grep -q 'open: 4: .*the copy is damaged' "$work/out"
    report "a backup whose $name was changed is refused" $?
done

# What "rm store/*" leaves, and a note that "cp" has not written over.
for left in base repair; do
    rm -rf "$store"
    cp -a "$work/backup" "$store"
    cp -a "$work/made/base" "$store/base"
    [ "$left" = base ] || mv "$store/base/manifest" "$store/repair"
    [ "$left" = base ] || rm -rf "$store/base"
    tool
    grep -q "open: 4: .*$left is no part of it" "$work/out"
    report "a backup beside the $left of another store is refused" $?
    rm -rf "${store:?}/$left"
    whole 'without it, it is a store'
done

# A process was killed while it removed logs that were no longer needed.
fresh
rm -rf "$store/base"
tool base=1
cp -p "$(find "$store" -maxdepth 1 -name 'log.*' | sort | head -n 1)" "$store/log.0000000001"
mkdir "$work/gap"
tool "backup=$work/gap"
report 'a log that was left below a gap is no part of a backup' $?
rm -rf "$store/base"
tool base=1 && [ ! -e "$store/log.0000000001" ]
report 'nor of a base copy, and is removed then' $?

rm -rf "$store"
cp -a "$work/backup" "$store"
tool "count=$rows" base=1 fill=10
report 'a backup is a store' $?
scribble space-74.db 400
rows=$((rows + 10))
tool "count=$rows"
whole 'of which a damaged page is repaired'
rows=$((rows - 10))

# --- syncs, and processes that are killed ---

cat >"$work/shim.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
static int calls, syncs, writes, is_hungry;
static int
is_below(const char *part, int fd)
{
    char link[32], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return part && readlink(link, path, sizeof path - 2) > 0 && strstr(strcat(path, "/"), part);
}
static void
step(void)
{
    const char *at = getenv("SHIM_KILL_AT");
    if (at && ++calls == atoi(at))
        raise(SIGKILL);
}
static int
sync_now(const char *name, int fd)
{
    const char *at = getenv("SHIM_FAIL_AT");
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    step();
    static int bad;
    int fails = is_below(getenv("SHIM_SYNC_FAIL"), fd) && bad++ == 0; /* a kernel forgets it */
    if (!fails && (!at || ++syncs < atoi(at)))
        return real(fd);
    errno = EIO;
    return -1;
}
static int
write_fails(int fd)
{
    const char *at = getenv("SHIM_WRITE_FAIL_AT");
    static int full;
    step();
    if (is_below(getenv("SHIM_FULL"), fd) && full++ > 0) {
        errno = ENOSPC;
        return 1;
    }
    errno = EIO;
    return at && ++writes >= atoi(at); /* the library tries a hundred times */
}
ssize_t
read(int fd, void *p, size_t n)
{
    ssize_t (*real)(int, void *, size_t) = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    if (!is_below(getenv("SHIM_READ_FAIL"), fd))
        return real(fd, p, n);
    errno = EIO;
    return -1;
}
int
posix_fallocate(int fd, off_t from, off_t n)
{
    int (*real)(int, off_t, off_t) = (int (*)(int, off_t, off_t))dlsym(RTLD_NEXT, "posix_fallocate");
    return getenv("SHIM_NO_ROOM") ? ENOSPC : real(fd, from, n);
}
int
open(const char *path, int flags, ...)
{
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    const char *part = getenv("SHIM_OPEN_FAIL"), *at = getenv("SHIM_OPEN_FAIL_AT");
    static int opens;
    va_list args;
    va_start(args, flags);
    int mode = va_arg(args, int);
    va_end(args);
    const char *hungry = getenv("SHIM_HUNGRY"), *error = getenv("SHIM_OPEN_ERROR");
    if (hungry && strstr(path, hungry))
        is_hungry = 1;
    if (!part || !strstr(path, part) || ++opens < atoi(at))
        return real(path, flags, mode);
    errno = error ? atoi(error) : ENOMEM;
    return -1;
}
ssize_t
pread(int fd, void *p, size_t n, off_t at)
{
    ssize_t (*real)(int, void *, size_t, off_t) =
        (ssize_t (*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
    if (!is_below(getenv("SHIM_READ_FAIL"), fd))
        return real(fd, p, n, at);
    errno = EIO;
    return -1;
}
ssize_t
__pread_chk(int fd, void *p, size_t n, off_t at, size_t room)
{
    (void)room;
    return pread(fd, p, n, at);
}
void *__libc_malloc(size_t n);
void *
malloc(size_t n)
{
    static int mallocs;
    const char *at = is_hungry ? getenv("SHIM_NO_MEMORY_AT") : NULL;
    return at && ++mallocs == atoi(at) ? NULL : __libc_malloc(n);
}
int fdatasync(int fd) { return sync_now("fdatasync", fd); }
int fsync(int fd) { return sync_now("fsync", fd); }
#define STEP(type, name, parameters, ...) \
    type name parameters \
    { \
        type (*real) parameters = (type (*) parameters)dlsym(RTLD_NEXT, #name); \
        step(); \
        return real(__VA_ARGS__); \
    }
int
rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) =
        (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    const char *fails = getenv("SHIM_RENAME_FAIL");
    size_t n = strlen(from), end = fails ? strlen(fails) : n + 1;
    step();
    if (n < end || strcmp(from + n - end, fails) != 0)
        return real(from, to);
    errno = EIO;
    return -1;
}
STEP(int, link, (const char *a, const char *b), a, b)
STEP(int, unlink, (const char *a), a)
STEP(int, rmdir, (const char *a), a)
STEP(int, mkdir, (const char *a, mode_t b), a, b)
STEP(int, ftruncate, (int a, off_t b), a, b)
#define WRITE(name, parameters, ...) \
    ssize_t name parameters \
    { \
        ssize_t (*real) parameters = (ssize_t (*) parameters)dlsym(RTLD_NEXT, #name); \
        return a > 2 && write_fails(a) ? -1 : real(__VA_ARGS__); \
    }
WRITE(write, (int a, const void *b, size_t c), a, b, c)
WRITE(pwrite, (int a, const void *b, size_t c, off_t d), a, b, c, d)
WRITE(pwrite64, (int a, const void *b, size_t c, off64_t d), a, b, c, d)
END

# What is killed at a step of its own, then another one goes on. Until it is no longer killed.
killed() { # what, damage, command...
    what=$1 damage=$2
    shift 2
    at=1 deaths=0 losses=0
    while :; do
        fresh
        $damage
        # shellcheck disable=SC2086
        SHIM_KILL_AT=$at LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small "$@" \
            >"$work/killed" 2>&1
        [ $? = 137 ] || break
        deaths=$((deaths + 1))
        if ! tool "count=$rows" check=1 || [ -e "$store/base.new" ] || [ -e "$store/rebuilt" ]; then
            losses=$((losses + 1))
            echo "at $at" >>"$work/out"
            cat "$work/out" >>"$work/losses"
        fi
        if [ "${KAITEN_FAULTS:-}" = full ]; then
            at=$((at + 1))
        else
            at=$((at + at / 6 + 3))
        fi
    done
    { echo "killed $deaths times"; cat "$work/killed"; cat "$work/losses"; } >"$work/out" 2>/dev/null
    [ $deaths -gt 5 ] && [ $losses = 0 ]
    report "$what: nothing is lost when it is killed ($deaths times)" $?
    echo "figures  kill -9 in $what: $deaths steps, $losses losses"
    rm -f "$work/losses"
}
# Writes fail from one on, until one is past the last commit.
unwritable() {
    at=1 commits=0
    while :; do
        fresh
        # shellcheck disable=SC2086
        SHIM_WRITE_FAIL_AT=$at LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small \
            fill=500 >"$work/unwritable" 2>&1
        case $? in
        0) [ $commits -gt 0 ]; return ;;
        3) ;; # the open, or a repair that it took for needed
        75) grep -q 'commit: .*; ending now' "$work/unwritable" && commits=$((commits + 1)) ;;
        *) cp "$work/unwritable" "$work/out"; return 1 ;;
        esac
        tool count=0
        grep -q '^count: 9[0-9]*:' "$work/out" || return 1
        at=$((at + 5))
    done
}
due() { rm -rf "$store/base"; }
old() { "$format" "$store" 1 >>"$work/out" 2>&1; }

if [ "$sanitized" != 0 ]; then
    skip 'a failed sync ends the process at once' 'a sanitizer wants to be loaded first'
elif ${CC:-cc} -shared -fPIC -o "$work/shim.so" "$work/shim.c" -ldl 2>"$work/out"; then
    # The first syncs are those of the open, then come those of a commit, then those of a base copy.
    for at in 1 4 12 24; do
        fresh
        due
        # shellcheck disable=SC2086
        SHIM_FAIL_AT=$at LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small \
            fill=100 base=1 >"$work/out" 2>&1
        [ $? = 75 ] && grep -q 'sync.*: Input/output error; ending now' "$work/out"
        report "a failed sync (number $at) ends the process at once" $?
    done
    tool check=1
    report 'the next process recovers' $?
    unwritable
    report "so does a commit that cannot be written (at $commits of its writes)" $?
    fresh
    mkdir "$work/bad" "$work/good"
    # shellcheck disable=SC2086
    SHIM_READ_FAIL=$work/bad/log. LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small \
        "!backup=$work/bad" "backup=$work/good" fill=10 >"$work/out" 2>&1 &&
        grep -q 'backup: 6: .*Input/output error' "$work/out"
    report 'a backup whose log cannot be read is none; the next one is made, and rows are written' $?
    for file in '' log. space- manifest; do
        fresh
        rm -rf "$work/bad" "$work/good"
        mkdir "$work/bad" "$work/good"
        # shellcheck disable=SC2086
        SHIM_SYNC_FAIL=$work/bad/$file LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" \
            $small "!backup=$work/bad" "backup=$work/good" fill=10 >"$work/out" 2>&1 &&
            grep -q 'backup: 6: .*/bad: sync: Input/output error' "$work/out" && rmdir "$work/bad"
        report "a sync of a backup (bad/$file*) that fails is an error of that backup alone" $?
    done
    # shellcheck disable=SC2086
    SHIM_SYNC_FAIL=$work/good LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small \
        "verify=$work/good" >"$work/out" 2>&1
    report 'a backup is looked at where nothing can be synced' $?
    fresh
    truncate -s 512K "$store/ballast"
    # shellcheck disable=SC2086
    SHIM_NO_ROOM=1 LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small \
        "count=$rows" >"$work/out" 2>&1 && [ "$(stat -c %s "$store/ballast")" = 524288 ]
    report 'what there is of the ballast stays when it cannot be filled up' $?
    for error in 12 23 24 122; do # ENOMEM, ENFILE, EMFILE, EDQUOT
        at=0 failures=0
        while at=$((at + at / 3 + 1)); do
            rm -rf "$work/bad"
            mkdir "$work/bad"
            # shellcheck disable=SC2086
            SHIM_OPEN_FAIL=$work/bad/ SHIM_OPEN_FAIL_AT=$at SHIM_OPEN_ERROR=$error \
                LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small \
                "!backup=$work/bad" fill=0 >"$work/out" 2>&1
            [ ! -e "$store/repair" ] || break
            grep -q 'backup: [36]: ' "$work/out" || break
            failures=$((failures + 1))
        done
        [ $failures -gt 2 ] && grep -q 'backup: 0' "$work/out"
        report "a backup that cannot open a file (errno $error, $failures times) is no damage" $?
    done
    deaths=0
    for at in $(seq 12) 113 114 140; do # the library itself does not live through all of them
        rm -rf "$work/bad"
        mkdir "$work/bad"
        # shellcheck disable=SC2086
        SHIM_HUNGRY=/bad/log. SHIM_NO_MEMORY_AT=$at LD_PRELOAD="$work/shim.so" "$tool" "$plugin" \
            "$store" $small "!backup=$work/bad" fill=0 >"$work/out" 2>&1
        if [ $? -gt 1 ] || [ -e "$store/repair" ]; then
            deaths=$((deaths + 1))
            cp "$work/out" "$work/death"
        fi
    done
    [ $deaths = 0 ] || cp "$work/death" "$work/out"
    [ $deaths = 0 ]
    report "no memory for a moment while a backup is looked at does not end the process" $?
    # Nor is it when the disk has no room for what its recovery writes.
    for fails in SHIM_READ_FAIL=/base.new/space- SHIM_FULL=/base.new/meta.db; do
        fresh
        due
        # shellcheck disable=SC2086
        env "$fails" LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small wait=1 \
            >"$work/out" 2>&1 &
        waiting=$!
        for _ in $(seq 600); do
            grep -q 'base copy: ' "$work/out" && break
            sleep 0.1
        done
        kill -9 $waiting
        wait $waiting 2>/dev/null
        grep -q 'base copy: .*\(Input/output error\|No space left\)' "$work/out" &&
            [ ! -e "$store/repair" ]
        report "a base copy that cannot be looked at ($fails*) is no damage of the store" $?
    done
    killed 'a base copy' due base=1
    killed 'a repair' page
    for part in /rebuilt/log. /store/log. /base/space- /base/manifest; do
        fresh
        page
        # shellcheck disable=SC2086
        SHIM_READ_FAIL=$part LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small \
            "count=$rows" >"$work/out" 2>&1
        [ $? = 3 ] && grep -q 'open: 6: cannot repair .*Input/output error' "$work/out"
        report "a repair that cannot read $part* does not take it for damaged" $?
        whole 'and the next start repairs it'
    done
    fresh
    page
    for _ in $(seq 11); do
        # shellcheck disable=SC2086
        SHIM_READ_FAIL=/rebuilt/log. LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small \
            >"$work/out" 2>&1
    done
    stays_down 'the eleventh start that cannot gives up' '10 attempts came to no end.*restore a backup'
    fresh
    old # so that a base copy is due
    # shellcheck disable=SC2086
    SHIM_RENAME_FAIL=/base.new LD_PRELOAD="$work/shim.so" "$tool" "$plugin" "$store" $small \
        wait=1 >"$work/out" 2>&1 &
    waiting=$!
    for _ in $(seq 1200); do
        grep -q 'base copy: ' "$work/out" && break
        sleep 0.1
    done
    kill -9 $waiting
    wait $waiting 2>/dev/null
    grep -q 'base copy: Input/output error' "$work/out" && [ -e "$store/base/manifest" ]
    report 'a base copy that cannot take the place of the one before leaves that' $?
else
    skip 'a failed sync ends the process at once' 'missing: a compiler'
fi

# --- formats ---

fresh
"$format" "$store" 4 >"$work/out" 2>&1
tool
grep -q 'open: 6: .* has format 4, this version knows up to 3' "$work/out"
report 'a newer format is refused with both numbers' $?
[ ! -e "$store/repair" ]
report 'and is not taken for damage' $?
fresh
old
tool "count=$rows" base=1
grep -q 'from format 1 to 2' "$work/out"
report 'an older format is brought up to date' $?
tool "count=$rows"
! grep -q 'from format' "$work/out"
report 'once' $?
fresh
"$format" "$store" 2 >"$work/out" 2>&1
report 'rows with the revisions of format 2' $?
tool "count=$rows" &&
    grep -q 'from format 2 to 3' "$work/out"
report 'are read as they are' $?
if [ -e "$work/shim.so" ]; then
    killed 'a change of format' old base=1
fi

# --- groups, and a full disk ---

fresh
truncate -s 0 "$store/ballast"
truncate -s 1M "$store/ballast"
tool "count=$rows" && [ "$(stat -c %b "$store/ballast")" -ge 2048 ]
report 'a ballast without blocks is made anew' $?

fresh
tool split=1
report 'one batch that cannot be written does not fail the others, the urgent one goes first' $?

# How many rows there are.
rows_now() {
    tool "$@" count=0
    rows=$(sed -n 's/^count: \([0-9]*\):.*/\1/p' "$work/out")
}

# Two more files of another program than this one, until nothing more goes in.
occupy() {
    dd if=/dev/zero of="$work/small/other" bs=4k 2>"$work/out"
    ! echo more >"$work/small/more" 2>"$work/out"
}

mkdir "$work/small"
if mount -t tmpfs -o size=24M,mode=0700 tmpfs "$work/small" 2>"$work/out"; then
    mounted=1
    store=$work/small/store
    small=
    tool fill=1000000
    grep -q 'fill: 3, .* nearly full: nothing but revocations is written' "$work/out"
    report 'a disk that runs full: KAITEN_FULL, with the sizes as they are by default' $?
    free=$(df --output=avail -k "$work/small" | tail -n 1)
    echo "$free KiB" >"$work/out"
    [ "$free" -gt 2000 ]
    report 'before it is full' $?
    rows_now
    occupy
    tool end=7 mixed=8
    grep -q '^end: 0' "$work/out" && grep -q '^mixed: 0: 3 0 3' "$work/out"
    report 'on a full disk revocations are written, and nothing else, each batch of a group as it is' $?
    tool health=1
    grep -q 'health: 3: .*nearly full' "$work/out"
    report 'health says so' $?
    tool "count=$rows"
    report 'a start on a full disk has all that was there' $?
    [ "$(find "$store" -name ballast -size +0)" = '' ]
    report 'the ballast was given up' $?
    tool ends=100000
    ends=$(sed -n 's/^ends: 3, \([0-9]*\):.*No space left.*/\1/p' "$work/out")
    [ "${ends:-0}" -gt 1000 ]
    report "a ballast of 3 MiB is good for $ends of them, to its last byte" $?
    tool "count=$rows"
    report 'and then a start still has everything' $?
    # Whether a base copy found room, so that the log could end, is a matter of pace.
    rm "$work/small/other"
    mount -o remount,size=48M "$work/small"
    rows_now fill=10
    [ "$rows" != '' ] && grep -q '^fill: 0' "$work/out"
    report 'with space again everything is written' $?
    ballast() { [ "$(find "$store" -name ballast -size +0)" != '' ]; }
    "$tool" "$plugin" "$store" wait=1 >"$work/out" 2>&1 &
    waiting=$!
    for _ in $(seq 1200); do
        ballast && break
        sleep 0.1
    done
    ballast
    report 'and the ballast is there again' $?
    kill -9 $waiting
    wait $waiting 2>/dev/null
    umount "$work/small"
    mount -t tmpfs -o size=24M,mode=0700 tmpfs "$work/small" 2>"$work/out"
    tool fill=10
    occupy
    rm -f "$store/ballast"
    occupy
    tool end=1 || grep -q 'open: 3: no space left for .*nothing is lost' "$work/out"
    report 'without any space a start says so, or works' $?
    store=$work/store
    small='log_file_size=1M checkpoint_log=1M base_log=1M ballast=1M'
    for size in 1200k 2600k 3400k; do
        umount "$work/small"
        mount -t tmpfs -o size=$size,mode=0700 tmpfs "$work/small" 2>"$work/out"
        mkdir "$work/small/backup"
        fresh
        tool "!backup=$work/small/backup" health=1 check=1 fill=10 &&
            grep -q 'backup: 3: .*No space left' "$work/out" && rmdir "$work/small/backup"
        report "a disk of $size is too full for a backup, of which nothing stays" $?
    done
else
    skip 'a full disk' 'cannot mount a tmpfs'
fi

echo "1..$number"
echo "$((number - failed)) passed, $failed failed"
[ $failed = 0 ]
