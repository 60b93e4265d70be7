#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# The life of a token, from nothing: every command is printed as it is run, and every step that does
# not do what it says ends the demo with an error.
#
#   make demo                           in a temporary folder, ends by itself, leaves nothing behind
#   make demo KEEP=1                    leaves the daemon running, and says how to reach it
#   KAITEN_DIR=path make demo KEEP=1    the same in this folder, keeping what is in it
set -eu

top=${abs_top_builddir:-$(cd "$(dirname "$0")/.." && pwd)}
PATH=$top/client/ctl:$top/daemon:$top/tests/tools:$PATH
export PATH
unset KAITEN_TOKEN KAITEN_TOKEN_FILE KAITEN_URL

# shellcheck disable=SC2034  # of demo-lib.sh
name=demo
keep=${KEEP:-}
pid=

# shellcheck source=/dev/null
. "$(dirname "$0")/demo-lib.sh"

# shellcheck disable=SC2154  # status is set by the trap itself
clean_up() {
    status=$?
    trap - EXIT
    [ "$status" -eq 0 ] || [ ! -s "$dir/kaitend.log" ] || tail -n 5 "$dir/kaitend.log" >&2
    if [ -z "$keep" ] || [ "$status" -ne 0 ]; then
        [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
        [ -z "$pid" ] || wait "$pid" 2>/dev/null || true
    fi
    [ -z "$temporary" ] || rm -rf "$dir"
    exit "$status"
}

# --- a folder, keys, a configuration ---------------------------------------------------------

temporary=
if [ -n "${KAITEN_DIR:-}" ]; then
    mkdir -p "$KAITEN_DIR"
    chmod go-rwx "$KAITEN_DIR"
    dir=$(cd "$KAITEN_DIR" && pwd)
elif [ -n "$keep" ]; then
    dir=$(mktemp -d "${TMPDIR:-/tmp}/kaitend-demo.XXXXXX")
else
    dir=$(mktemp -d "${TMPDIR:-/tmp}/kaitend-demo.XXXXXX")
    temporary=yes
fi
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

KAITEN_CONF=$dir/kaitend.conf
KAITEN_SOCKET=$dir/rpc.sock
export KAITEN_SOCKET
copy_plugins "$top" "$dir"

write_conf() {
    cat >"$KAITEN_CONF" <<END
[kaitend]
state_dir = $dir
plugin_dir = $dir/plugins
storage = storage-bdb

[storage-bdb]
path = $dir/db

[socket]
path = $KAITEN_SOCKET
auth = auth-token
auth = auth-peer

[http]
listen = 127.0.0.1:$1
auth = auth-token
auth = auth-jwt

[auth-peer]
rule = uid=$(id -u) org=demo subject=$(id -un) scopes=read:*,write:* verify=any

[auth-jwt]
key = $dir/jwt-public.pem alg=RS256
END
}

# Ready, or ended: 0 or the daemon's exit code.
start() {
    kaitend -c "$KAITEN_CONF" >>"$dir/kaitend.log" 2>&1 &
    pid=$!
    tries=0
    until kaitenctl health >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null || { code=0; wait "$pid" || code=$?; pid=; return "$code"; }
        tries=$((tries + 1))
        [ "$tries" -lt 200 ] || die "kaitend does not answer"
        sleep 0.05
    done
}

# A port that is taken is tried again with another (exit code 69).
start_somewhere() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        write_conf "$(random_port)"
        code=0
        start || code=$?
        [ "$code" -eq 0 ] && return 0
        [ "$code" -eq 69 ] || die "kaitend ended with exit code $code"
    done
    die "no free port"
}

say "A key for JWTs, a configuration with Berkeley DB, and the daemon."
[ -s "$dir/jwt-private.pem" ] || run \
    "kaiten-jwt keygen --alg RS256 --private $dir/jwt-private.pem --public $dir/jwt-public.pem"
printf '$ kaitend -c %s &\n' "$KAITEN_CONF"
if [ -s "$KAITEN_CONF" ]; then
    start || die "kaitend does not start with the configuration that is in $dir"
else
    start_somewhere
fi
KAITEN_URL=http://$(sed -n 's/^listen = //p' "$KAITEN_CONF")
echo "kaitend is up: $KAITEN_SOCKET and $KAITEN_URL"

jwt() {
    kaiten-jwt sign --alg RS256 --key "$dir/jwt-private.pem" --ttl 43200 "$@"
}
KAITEN_JWT=$(jwt sub=demo-user name='Demo User' kaiten_external_org_id=demo 'scopes=read:*,write:*')

# --- the life of a token ---------------------------------------------------------------------

say "A service account, over the local socket: the kernel says who is calling."
run 'kaitenctl account create "CI Bot" -o json'
# shellcheck disable=SC2154  # set by run
account=$(printf '%s' "$out" | sed -n 's/.*"slug": *"\([^"]*\)".*/\1/p')
[ -n "$account" ] || die "no slug in the answer"

say "A token for it, over HTTP with a JWT. It is shown this once."
run "curl -sS -X POST \"$KAITEN_URL/service-accounts/$account/tokens\" \\
    -H \"Authorization: Bearer \$KAITEN_JWT\" \\
    -H \"Content-Type: application/json\" \\
    -d '{
    \"name\": \"string\",
    \"scopes\": [
      \"read:instances\"
    ]
  }'"
expect '"name":"string"'
token=$(field token)
slug=$(field slug)
case $token in
ksh_????????????????????????????????) ;;
*) die "this is no token: $token" ;;
esac

say "Verified over the socket, and used at the forward-authentication endpoint."
run 'printf %s "$token" | kaitenctl verify'
expect "$account"
run "curl -sS -i -H \"Authorization: Bearer \$token\" $KAITEN_URL/tokens/validate | grep -iE '^(HTTP|Authorization)'"
expect '200'
expect 'Bearer ey'

say "Listed, without the secret."
run "kaitenctl token list $account"
expect "$slug"
case $out in *"$token"*) die "the list shows the secret" ;; esac

say "The daemon is killed and started again: what it acknowledged is still there."
run "kill -9 $pid"
wait "$pid" 2>/dev/null || true
printf '$ kaitend -c %s &\n' "$KAITEN_CONF"
start || die "kaitend does not start again"
run 'printf %s "$token" | kaitenctl verify'
expect "$account"

say "Revoked: refused at once, at both doors."
run "kaitenctl token revoke $account $slug --yes"
run_failing 10 'printf %s "$token" | kaitenctl verify'
expect revoked
run "curl -sS -i -H \"Authorization: Bearer \$token\" $KAITEN_URL/tokens/validate | head -n 1"
expect 401

if [ -z "$keep" ]; then
    say "Stopped."
    run "kill $pid"
    wait "$pid" || die "kaitend ended with exit code $?"
    pid=
    printf 'demo: done; nothing was left behind\n'
    exit 0
fi

# --- left running ----------------------------------------------------------------------------

minted=$(kaitenctl token create "$account" --name kept --scope read:instances -q 2>/dev/null)
narrow=$(jwt sub=demo-reader name='Demo Reader' kaiten_external_org_id=demo scopes=read:tokens)
other=$(jwt sub=other-user name='Other User' kaiten_external_org_id=other 'scopes=read:*,write:*')
say "Left running; these lines can be evaluated by a shell."
cat <<END
KAITEN_URL=$KAITEN_URL
KAITEN_SOCKET=$KAITEN_SOCKET
KAITEN_CONF=$KAITEN_CONF
KAITEN_PID=$pid
KAITEN_JWT=$KAITEN_JWT
KAITEN_JWT_NARROW=$narrow
KAITEN_JWT_OTHER_ORG=$other
KAITEN_ACCOUNT=$account
KAITEN_MINTED=$minted
END
