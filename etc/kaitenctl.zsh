#compdef kaitenctl
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# Completion of kaitenctl(1) for zsh. Verbs and options are read from its own help, so they are those
# of the version that is installed; no daemon is asked.

# Sets verb to the words before the cursor that are neither options nor what belongs to one.
_kaitenctl_verb() {
    local i flags
    flags=$(kaitenctl help 2>/dev/null | sed -nE 's/^  (-.|  ).? +(--[a-z-]+)  .*/ \1 \2 /p')
    verb=()
    for ((i = 2; i < CURRENT; i++)); do
        case $words[i] in
            -*=*) ;;
            -*) [[ $flags == *" $words[i] "* ]] || ((i++)) ;;
            *) verb+=($words[i]) ;;
        esac
    done
    # What can be said can be asked about.
    [[ $verb[1] != help ]] || shift verb
}

_kaitenctl() {
    local help
    local -a verb found
    _kaitenctl_verb
    help=$(kaitenctl help $verb[1,2] 2>/dev/null || kaitenctl help $verb[1] 2>/dev/null)
    if [[ $words[CURRENT-1] == (-o|--output) ]]; then
        found=(table json ndjson yaml name)
    elif [[ $words[CURRENT] == -* ]]; then
        found=(${(f)"$(sed -nE 's/^  (-.,|   ) (--[a-z-]+)( [A-Z]+)? +/\2:/p' <<<$help)"})
    elif (($#verb == 0)); then
        found=(${(uf)"$(sed -nE 's/^  kaitenctl ([a-z-]+).*/\1/p' <<<$help)"})
    elif (($#verb == 1)); then
        local left="${verb[1]//[^a-z-]/} ([a-z-]+)( [A-Z_]+| [a-z]+\|[a-z]+)*"
        found=(${(f)"$(sed -nE "s/^  kaitenctl $left +/\1:/p" <<<$help)"})
    elif (($#verb == 2)); then
        found=($(sed -nE 's/^usage: kaitenctl( [a-z-]+){2} ([a-z]+)\|([a-z]+) .*/\2 \3/p' <<<$help))
    fi
    # Where nothing is known a file may be meant.
    if (($#found)); then
        _describe kaitenctl found
    else
        _files
    fi
}

_kaitenctl "$@"
