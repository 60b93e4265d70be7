#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# driver.sh KIND: NAME... [KIND: NAME...]...   run by `make check` in the build tree
#
# Runs every test, keeps its output in tests/log/, and ends with "N passed, N failed", where N
# counts test cases: TAP lines, what pytest reports, or one for a program that prints neither.
# What does not apply to a test's subject is a skip. So is a tool that is missing, and the reason
# then says "missing"; with CI=1 a missing tool is a failure.
#
# KAITEN_JOBS at a time, one more than there are processors if it says nothing, since tests wait now
# and then; but one after the other where all points are tried (KAITEN_FAULTS=full), since what is
# measured there takes the machine.
#
# Nothing hangs for ever: a program has KAITEN_PROGRAM_SECONDS, each test of pytest its own time limit
# (tests/system/timelimit.py) and all of them together KAITEN_PYTEST_SECONDS. Whoever has to be over
# at a certain time says so with KAITEN_CHECK_END, in seconds since 1970. PARTS: the kinds that are
# run, if not all.
set -u
: "${abs_top_srcdir:?run by make check}"

passed=0
failed=0
skipped=0
log=tests/log
mkdir -p "$log"

export CMOCKA_MESSAGE_OUTPUT=TAP
# Memory that was never written to must not look like zeroes.
export MALLOC_PERTURB_=$((RANDOM % 254 + 1))
export ASAN_OPTIONS=${ASAN_OPTIONS-detect_stack_use_after_return=1}
export LSAN_OPTIONS=${LSAN_OPTIONS-suppressions=$abs_top_srcdir/tests/system/lsan.supp:print_suppressions=0}
export TSAN_OPTIONS=${TSAN_OPTIONS-suppressions=$abs_top_srcdir/tests/system/tsan.supp}
export UBSAN_OPTIONS=${UBSAN_OPTIONS-print_stacktrace=1}

skip_line='^(not )?ok .*# [Ss][Kk][Ii][Pp]'
pytest_progress='^[.sxXFE]+ +\[ *[0-9]+%\]$'
culprits= # what failed, a line each, said once more at the end
most=${KAITEN_JOBS:-$(($(nproc) + 1))}
[ "${KAITEN_FAULTS:-}" != full ] || most=1

count() { # pattern, file
    grep -cE "$1" "$2" || true
}

report() { # name, passed, failed, skipped, log file
    passed=$((passed + $2))
    failed=$((failed + $3))
    skipped=$((skipped + $4))
    if [ "$3" -eq 0 ]; then
        printf '  ok    %s (%d)\n' "$1" "$2"
        [ "$4" -eq 0 ] || grep -iE '# skip.*missing|^SKIPPED' "$5" | sed 's/^/        /'
        grep '^figures ' "$5" | sed 's/^/        /'
        return
    fi
    printf '  FAIL  %s (%d of %d), %s:\n' "$1" "$3" $(($2 + $3)) "$5"
    if grep -qE '^not ok ' "$5"; then
        grep -E '^(not ok |#|==|SUMMARY|exit status|ERROR hangs)' "$5"
    else
        grep -vE "$pytest_progress" "$5"
    fi | tail -n 120 | sed 's/^/        /'
    grep '^figures ' "$5" | sed 's/^/        /'
    culprits=$culprits$(grep -E '^(not ok |FAILED |ERROR |SKIPPED .*missing|exit status)' "$5" |
        cut -c 1-200 | sed "s|^|  FAIL  $1: |")$'\n'
}

skip() { # name, what is missing
    if [ "${CI:-0}" = 1 ]; then
        failed=$((failed + 1))
        printf '  FAIL  %s: %s is missing\n' "$1" "$2"
        culprits="$culprits  FAIL  $1: $2 is missing"$'\n'
        return
    fi
    skipped=$((skipped + 1))
    printf '  skip  %s: %s is missing; ./autogen.sh --tests installs it\n' "$1" "$2"
}

# Runs a command with a time limit. What it ended is told in the log, where a report finds it.
limited() { # signal, seconds, log file, command...
    local signal=$1 most=$2 file=$3 left begun=$SECONDS status
    shift 3
    if [ -n "${KAITEN_CHECK_END:-}" ]; then
        left=$((KAITEN_CHECK_END - $(date +%s)))
        if [ $left -lt 1 ]; then
            echo 'ERROR not begun: the time was over' >"$file"
            return 124
        fi
        most=$((left < most ? left : most))
    fi
    timeout -s "$signal" -k 30 "$most" "$@" >"$file" 2>&1 </dev/null
    status=$?
    if [ $status -ne 0 ] && [ $((SECONDS - begun)) -ge "$most" ]; then
        echo "ERROR hangs: ended after $most s; the last line: $(tail -n 1 "$file")" >>"$file"
    fi
    return $status
}

# Called twice for each program: by those who run them, which takes what there is of them in order,
# and by those who judge, who wait for the one whose turn it is.
run() { # name, command...
    local name=$1 file=$log/${1//\//-}.log
    shift
    if [ $phase = judge ]; then
        until [ -e "$file.status" ]; do
            kill -0 "$runner" 2>/dev/null || [ -e "$file.status" ] || echo 125 >"$file.status"
            sleep 0.05
        done
        judge "$name" "$file" "$(<"$file.status")"
        return
    fi
    while [ "$(jobs -rp | wc -l)" -ge "$most" ]; do
        wait -n
    done
    {
        limited TERM "${KAITEN_PROGRAM_SECONDS:-900}" "$file" "$@"
        echo $? >"$file.ended"
        mv "$file.ended" "$file.status"
    } &
}

judge() { # name, log file, status
    local name=$1 file=$2 status=$3 good bad skips absent
    if [ "$status" -eq 77 ]; then
        skip "$name" "$(tail -n 1 "$file")"
        return
    fi
    # cmocka says "not ok" of what it skipped.
    skips=$(count "$skip_line" "$file")
    good=$(($(count '^ok ' "$file") - $(count '^ok .*# [Ss][Kk][Ii][Pp]' "$file")))
    bad=$(($(count '^not ok ' "$file") - $(count '^not ok .*# SKIP' "$file")))
    if [ $((good + skips)) -eq 0 ] && [ "$status" -eq 0 ]; then
        good=1
    fi
    if [ "$bad" -eq 0 ] && [ "$status" -ne 0 ]; then
        bad=1
        echo "exit status $status" >>"$file"
    fi
    absent=$(count "$skip_line.*missing" "$file")
    if [ "${CI:-0}" = 1 ]; then
        bad=$((bad + absent))
        skips=$((skips - absent))
    fi
    report "$name" "$good" "$bad" "$skips" "$file"
}

number() { # word, line of pytest's summary
    local n
    n=$(sed -n "s/.*[^0-9]\([0-9][0-9]*\) $1.*/\1/p" <<<" $2")
    echo "${n:-0}"
}

run_pytest() { # name, options and directory...
    local name=$1 file=$log/pytest-$1.log status line good bad skips absent
    shift
    [ $phase = judge ] || return 0
    if [ -z "${PYTHON:-}" ]; then
        skip "$name" "a Python with msgpack, pytest and xdist"
        return
    fi
    export PYTHONDONTWRITEBYTECODE=1
    limited INT "${KAITEN_PYTEST_SECONDS:-2400}" "$file" \
        "$PYTHON" -m pytest -p no:cacheprovider -q -rfEs --tb=short -n $((most > 1 ? most : 0)) \
        --dist loadfile "$@"
    status=$?
    line=$(grep -E '^(=+ )?([0-9]+ (passed|failed|skipped|error)|no tests ran)' "$file" | tail -n 1)
    good=$(number passed "$line")
    bad=$(($(number failed "$line") + $(number error "$line")))
    skips=$(number skipped "$line")
    # Status 5: no test was run, because all of a file was skipped.
    if [ "$bad" -eq 0 ] && [ $status -ne 0 ] && { [ $status -ne 5 ] || [ "$skips" -eq 0 ]; }; then
        bad=1
        echo "exit status $status" >>"$file"
    fi
    absent=$(sed -nE 's/^SKIPPED \[([0-9]+)\].*missing.*/\1/p' "$file" | paste -sd+ | sed 's/^$/0/')
    if [ "${CI:-0}" = 1 ]; then
        bad=$((bad + absent))
        skips=$((skips - absent))
    fi
    report "$name" "$good" "$bad" "$skips" "$file"
}

run_system() { # all, or the name of a file of tests
    if [ "$1" = all ]; then
        run_pytest system "$abs_top_srcdir/tests/system"
    else
        run_pytest "$1" "$abs_top_srcdir/tests/system/$1.py"
    fi
}

# What fails under the daemon: a plugin of pytest brings the daemon and the journal along.
pytest_faults() { # name, file or directory
    PYTHONPATH=$abs_top_srcdir/tests/faults:$abs_top_srcdir/tests/system \
        run_pytest "$1" -p faultlib "$2"
}

# In full it goes on for hours: a run for each file, so that what is over has its figures, whatever
# becomes of the rest. Those that try each point there is come last.
run_faults() { # all, or the name of a file of tests
    local folder=$abs_top_srcdir/tests/faults long=' test_notices test_postgres test_errors test_memory '
    local name names=()
    if [ "$1" = test_drain ]; then
        KAITEN_DRAIN_CYCLES=200 pytest_faults "$1" "$abs_top_srcdir/tests/system/$1.py"
    elif [ "$1" != all ]; then
        pytest_faults "$1" "$folder/$1.py"
    elif [ "${KAITEN_FAULTS:-}" != full ]; then
        pytest_faults faults "$folder"
    else
        for name in "$folder"/test_*.py; do
            name=$(basename "$name" .py)
            [[ $long = *" $name "* ]] || names+=("$name")
        done
        # shellcheck disable=SC2086
        for name in "${names[@]}" test_drain $long; do
            run_faults "$name"
        done
    fi
}

# Without a path the check makes a fresh store for each case and tries what needs one of its own.
run_plugin_check() { # plugin
    local check=(tests/plugin/kaiten-plugin-check "plugins/.libs/$1.so")
    if [ "$1" != storage-postgres ]; then
        run "plugin/$1" "${check[@]}"
    elif [ -z "${PYTHON:-}" ]; then
        [ $phase = run ] || skip "plugin/$1" "a Python with msgpack, pytest and xdist"
    else # the store has to be made first, and its server
        PYTHONDONTWRITEBYTECODE=1 run "plugin/$1" "$PYTHON" \
            "$abs_top_srcdir/tests/system/postgres.py" "${check[@]}"
    fi
}

# A wrapper is a command and its options: split it.
read -ra wrapper <<<"${KAITEN_WRAPPER:-}"

run_one() { # kind, name
    case $1 in
    unit) run "${2#tests/}" "${wrapper[@]}" "./$2" ;;
    fuzz) run "${2#tests/}" "${wrapper[@]}" "./$2" \
        "$abs_top_srcdir/tests/fuzz/corpus/${2#tests/fuzz/fuzz-}" ;;
    plugin) run_plugin_check "$2" ;;
    script) run "${2#tests/}" "$abs_top_srcdir/$2" ;;
    symbols) run symbols "$abs_top_srcdir/tests/abi/check-symbols.sh" plugins/.libs/*.so ;;
    lint) run lint "$abs_top_srcdir/tests/lint/run.sh" ;;
    system) run_system "$2" ;;
    faults) run_faults "$2" ;;
    esac
}

each() {
    local kind='' word
    for word; do
        case $word in
        missing:*) [ $phase = run ] || skip "$kind" "${word#missing:}" ;;
        *:) kind=${word%:} ;;
        *) case " ${PARTS:-$kind} " in *" $kind "*) run_one "$kind" "$word" ;; esac ;;
        esac
    done
}

rm -f "$log"/*.status
phase=run
{ each "$@"; wait; } &
runner=$!
trap 'kill "$runner" 2>/dev/null' EXIT
phase=judge
each "$@"
wait

printf %s "$culprits"
[ $skipped -eq 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
