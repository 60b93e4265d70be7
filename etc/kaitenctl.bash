# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# Completion of kaitenctl(1) for bash. Verbs and options are read from its own help, so they are those
# of the version that is installed; no daemon is asked.

# Sets verb to the words before the cursor that are neither options nor what belongs to one.
_kaitenctl_verb() {
    local i flags
    flags=$(kaitenctl help 2>/dev/null | sed -nE 's/^  (-.|  ).? +(--[a-z-]+)  .*/ \1 \2 /p')
    verb=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -*=*) ;;
            -*) [[ $flags == *" ${COMP_WORDS[i]} "* ]] || ((i++)) ;;
            *) verb+=("${COMP_WORDS[i]}") ;;
        esac
    done
    # What can be said can be asked about.
    [[ ${verb[0]} != help ]] || verb=("${verb[@]:1}")
}

_kaitenctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} help words="" verb
    _kaitenctl_verb
    help=$(kaitenctl help "${verb[@]:0:2}" 2>/dev/null ||
        kaitenctl help "${verb[@]:0:1}" 2>/dev/null)
    if [[ $prev == -o || $prev == --output ]]; then
        words="table json ndjson yaml name"
    elif [[ $cur == -* ]]; then
        words=$(sed -nE 's/^  (-.,|   ) (--[a-z-]+).*/\2/p' <<<"$help")
    elif ((${#verb[@]} == 0)); then
        words=$(sed -nE 's/^  kaitenctl ([a-z-]+).*/\1/p' <<<"$help")
    elif ((${#verb[@]} == 1)); then
        words=$(sed -nE "s/^  kaitenctl ${verb[0]//[^a-z-]/} ([a-z-]+).*/\1/p" <<<"$help")
    elif ((${#verb[@]} == 2)); then
        words=$(sed -nE 's/^usage: kaitenctl( [a-z-]+){2} ([a-z]+)\|([a-z]+) .*/\2 \3/p' <<<"$help")
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur" | sort -u)
}

# Where nothing is known a file may be meant.
complete -o default -F _kaitenctl kaitenctl
