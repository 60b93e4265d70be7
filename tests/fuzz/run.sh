#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# run.sh FOLDER TARGET...   run by `make fuzz` in a build tree with libFuzzer
#
# Gives each target KAITEN_FUZZ_SECONDS (10), KAITEN_FUZZ_JOBS of them at a time (one per processor).
# What is found new is kept in FOLDER/corpus and is where the next run begins; an input that a target
# breaks on is kept in FOLDER/broken. Ends with "N passed, N failed".
set -u
: "${abs_top_srcdir:?run by make fuzz}"

folder=$1
shift
seconds=${KAITEN_FUZZ_SECONDS:-10}
dictionaries=${KAITEN_CORPORA:-$abs_top_srcdir/../shared/corpora}/dictionaries

# The largest input that a target says something new about, and the dictionary that helps it.
length_of() { # target
    case $1 in
    cursor | tokentext | rule) echo 600 ;;
    http_chunk | jwt | conf | record | bdb_log | bdb_manifest) echo 9000 ;;
    *) echo 70000 ;;
    esac
}

dictionary_of() { # target
    case $1 in
    http | http_head) echo http.dict ;;
    json | jwt | jwk) echo json.dict ;;
    pipeline) echo url.dict ;;
    *) echo utf8.dict ;;
    esac
}

number() { # name of a statistic, log
    sed -n "s/^stat::$1: *\([0-9][0-9]*\).*/\1/p" "$2" | tail -n 1
}

fuzz() { # target
    local name=$1 log=$folder/$1.log corpus=$folder/corpus/$1 dictionary
    mkdir -p "$corpus" "$folder/broken"
    dictionary=$dictionaries/$(dictionary_of "$name")
    "./tests/fuzz/fuzz-$name" -max_total_time="$seconds" -max_len="$(length_of "$name")" \
        -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$folder/broken/$name-" \
        ${dictionary:+$([ ! -f "$dictionary" ] || echo "-dict=$dictionary")} \
        "$corpus" "$abs_top_srcdir/tests/fuzz/corpus/$name" >"$log" 2>&1
    local status=$?
    if [ $status -ne 0 ]; then
        printf '  FAIL  fuzz-%s: exit status %d, input in %s, %s:\n' "$name" $status \
            "$folder/broken" "$log"
        grep -aE 'runtime error|ERROR|SUMMARY|^ *#[0-9]+ 0x' "$log" | head -n 40 | sed 's/^/        /'
        return 1
    fi
    printf '  ok    fuzz-%s: %s executions in %s s, %s/s, %s new inputs, peak %s MiB\n' "$name" \
        "$(number number_of_executed_units "$log")" "$seconds" \
        "$(number average_exec_per_sec "$log")" "$(number new_units_added "$log")" \
        "$(number peak_rss_mb "$log")"
}

export -f fuzz length_of dictionary_of number
export folder seconds dictionaries abs_top_srcdir
mkdir -p "$folder"
# shellcheck disable=SC2016 # each shell of its own expands $1
printf '%s\n' "$@" | xargs -P "${KAITEN_FUZZ_JOBS:-$(nproc)}" -I{} \
    bash -c 'fuzz "$1" || echo "$1" >>"$folder/failed.now"' fuzz {}

failed=0
[ ! -f "$folder/failed.now" ] || failed=$(wc -l <"$folder/failed.now")
rm -f "$folder/failed.now"
echo "$(($# - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
