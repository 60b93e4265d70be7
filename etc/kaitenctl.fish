# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# Completion of kaitenctl(1) for fish. Verbs and options are read from its own help, so they are those
# of the version that is installed; no daemon is asked.

# The words before the cursor that are neither options nor what belongs to one.
function __kaitenctl_verb
    set -l flags (kaitenctl help 2>/dev/null | string match -rg '^  (-.|  ).? +(--[a-z-]+)  ')
    set -l skip false
    for word in (commandline -opc)[2..]
        if $skip
            set skip false
        else if string match -q -- '-*' $word
            string match -q -- '*=*' $word; or contains -- $word $flags; or set skip true
        else
            echo $word
        end
    end
end

function __kaitenctl
    set -l verb (__kaitenctl_verb)
    # What can be said can be asked about.
    test "$verb[1]" = help; and set -e verb[1]
    set -l help (kaitenctl help $verb[1..2] 2>/dev/null; or kaitenctl help $verb[1] 2>/dev/null)
    if contains -- (commandline -opc)[-1] -o --output
        printf '%s\n' table json ndjson yaml name
    else if string match -q -- '-*' (commandline -ct)
        string replace -rf '^  (?:-.,|   ) (--[a-z-]+)(?: [A-Z]+)? +' '$1\t' -- $help
    else if not set -q verb[1]
        string replace -rf '^  kaitenctl ([a-z-]+).*' '$1' -- $help | sort -u
    else if not set -q verb[2]
        set -l group (string escape --style=regex -- $verb[1])
        string replace -rf "^  kaitenctl $group ([a-z-]+)(?: [A-Z_]+| [a-z]+\|[a-z]+)* +" '$1\t' -- $help
    else if not set -q verb[3]
        string replace -rf '^usage: kaitenctl(?: [a-z-]+){2} ([a-z]+\|[a-z]+) .*' '$1' -- $help |
            string split '|'
    end
end

# Where nothing is known a file may be meant.
complete -c kaitenctl -n 'count (__kaitenctl) >/dev/null' -f -a '(__kaitenctl)'
