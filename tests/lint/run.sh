#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# What no compiler checks, as TAP. Run by `make check` in the build tree.
set -u
top=${abs_top_srcdir:?run by make check}
build=${abs_top_builddir:?run by make check}
cd "$top" || exit 1

number=0
bad=0

ok() { # name, then what is wrong on stdin
    local wrong line
    wrong=$(cat)
    number=$((number + 1))
    if [ -z "$wrong" ]; then
        echo "ok $number - $1"
        return
    fi
    bad=1
    echo "not ok $number - $1"
    while read -r line; do
        echo "# $line"
    done <<<"$wrong"
}

skip() { # name, tool
    number=$((number + 1))
    echo "ok $number - $1 # SKIP $2 is missing"
}

have() {
    command -v "$1" >/dev/null
}

code() { # name patterns for find
    find client daemon plugins tests -type f \( -name '*.c' -o -name '*.h' \) "$@" | sort
}

product() {
    code ! -path 'tests/*'
}

# The files of the project, also where there is no git; corpora are data. What `make dist` unpacks, and
# what distcheck builds in there, is not the project.
text() {
    find . \( -name .git -o -name build-aux -o -name autom4te.cache -o -name corpus \
        -o -name 'build-*' -o -name 'kaitend-[0-9]*' -o -name _build -o -name _inst -o -path ./tests/log -o -path ./tests/sdk -o -path ./tests/lint -o -name .deps \
        -o -name .libs -o -name __pycache__ \) -prune -o -type f \
        \( -name '*.[ch137858]' -o -name '*.py' -o -name '*.sh' -o -name '*.md' -o -name '*.am' \
        -o -name '*.ac' -o -name '*.inc' -o -name '*.in' -o -name '*.conf' -o -name NEWS \
        -o -name run -o -name '*-deps' \) -print | grep -vE '^\./(Makefile|config\.h)\.in' | sort
}

scripts() {
    find . \( -name .git -o -name build-aux -o -name 'build-*' -o -name 'kaitend-[0-9]*' -o -name _build \
        -o -name _inst -o -path ./tests/sdk \) -prune \
        -o -type f \( -name '*.sh' -o -name run \) -print | sort
}

banned() { # what, extended regular expression, hint
    ok "no $1: $3" < <(product | xargs grep -nE "(^|[^A-Za-z0-9_])($2) *\(" /dev/null)
}

exported() { # shared object
    "${NM:-nm}" -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }'
}

only_exports() { # shared object, extended regular expression for each symbol
    ok "$(basename "$1") exports only $2" < <(
        [ -e "$1" ] || echo "$1 was not built"
        exported "$1" | grep -vE "^($2)$"
        [ -n "$(exported "$1")" ] || echo "$1 exports nothing")
}

lint_includes() {
    if [ -z "${PYTHON:-}" ]; then
        skip "who includes whom" python3
        return
    fi
    ok "who includes whom" < <("$PYTHON" tests/lint/includes.py . 2>&1)
}

lint_calls() {
    banned strcpy 'strcpy|strcat|stpcpy|sprintf|vsprintf|gets|strtok|strncpy' 'sizes are explicit'
    banned atoi 'atoi|atol|atoll|rand|srand|drand48' 'it cannot fail, or it can be guessed'
    banned jwt_decode 'jwt_decode|jwt_get_grant_int' 'libjwt decides nothing alone'
    banned cJSON_Parse 'cJSON_Parse|cJSON_GetObjectItem' 'both are too lenient'
    ok "no plain memset of a secret: use a wipe" < <(product | xargs grep -nE \
        'memset *\([^;]*(secret|passw|plain|privat|sealed)[^;]*, *0 *,' /dev/null)
    ok "no secret in a log line" < <(product | xargs grep -nE \
        'log_[a-z]+ *\([^;]*(secret->|secret_data|kt_secret_bytes)' /dev/null)
}

lint_symbols() {
    only_exports "$build/client/.libs/libkaiten.so" 'kaiten_[a-z0-9_]+|KAITEN_0'
}

lint_text() {
    ok "every C file begins with its licence" < <(code | while read -r f; do
        [ "$(head -n 2 "$f" | grep -cE 'SPDX-License-Identifier: Apache-2.0|Copyright the kaiten')" \
            -eq 2 ] || echo "$f"
    done)
    ok "nothing is left to do, and the project speaks of itself alone" < <(text | xargs grep -nE \
        '\b(TODO|FIXME|XXX|HACK)\b|/work/|/root/|/farm/|\b(house|settled|decisions|reliability|ecosystem|performance)\.md|\b[Ii]ssue #?[0-9]' \
        /dev/null)
    ok "no line is longer than 100 columns" < <(product | grep -v slug-table | xargs awk \
        'length > 100 { print FILENAME ":" FNR ": " length }')
    ok "no function is longer than 60 lines" < <(product | grep '\.c$' | xargs awk \
        'FNR == 1 { from = 0 } /^\{/ { from = FNR }
         /^\}/ { if (from && FNR - from > 60) print FILENAME ":" from ": " FNR - from; from = 0 }')
    ok "no white space at the end of a line" < <(text | xargs grep -nE '[[:space:]]+$' /dev/null)
}

lint_scripts() {
    if ! have shellcheck; then
        skip shellcheck shellcheck
        return
    fi
    ok shellcheck < <(scripts | xargs shellcheck -e SC2016 2>&1)
}

lint_manual() {
    local page
    if ! have mandoc; then
        skip "manual pages" mandoc
        return
    fi
    for page in etc/man/*.[1-8]; do
        [ -e "$page" ] || continue
        ok "mandoc $page" < <(mandoc -Tlint -Wwarning "$page" 2>&1)
    done
}

lint_options() {
    if [ -z "${PYTHON:-}" ]; then
        skip "options, the sample and kaitend.conf(5) say the same" python3
        return
    fi
    ok "options, the sample and kaitend.conf(5) say the same" < <("$PYTHON" tests/lint/check-conf.py 2>&1)
}

lint_hardening() {
    local file flags
    have readelf || { skip hardening readelf && return; }
    for file in daemon/kaitend client/ctl/kaitenctl client/.libs/libkaiten.so \
        plugins/.libs/storage-bdb.so plugins/.libs/auth-jwt.so; do
        [ -e "$build/$file" ] || continue
        flags=$(readelf -hldW "$build/$file" 2>&1)
        ok "hardening of $file" < <(
            grep -q 'Type:.*DYN' <<<"$flags" || echo "not position independent"
            grep -q GNU_RELRO <<<"$flags" || echo "no RELRO"
            grep -qE 'BIND_NOW|Flags:.*NOW' <<<"$flags" || echo "symbols are bound lazily"
            grep 'GNU_STACK.*E ' <<<"$flags")
    done
}

lint_includes
lint_calls
lint_symbols
lint_text
lint_scripts
lint_manual
lint_options
lint_hardening
echo "1..$number"
exit $bad
