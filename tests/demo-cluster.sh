#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# Three daemons on one PostgreSQL behind nginx: a token minted on one is good on all, revoked on
# another it is refused by all; then a daemon is killed, and the database restarted. Everything is
# in a temporary folder, ends by itself and leaves nothing behind. Run by `make demo-cluster`.
set -eu

top=${abs_top_builddir:-$(cd "$(dirname "$0")/.." && pwd)}
pg=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
PATH=$top/client/ctl:$top/daemon:$top/tests/tools:$PATH:$pg:/usr/sbin
export PATH
unset KAITEN_TOKEN KAITEN_TOKEN_FILE KAITEN_URL KAITEN_SOCKET

# shellcheck disable=SC2034  # of demo-lib.sh
name=demo-cluster
# shellcheck source=/dev/null
. "$(dirname "$0")/demo-lib.sh"

for program in initdb pg_ctl psql nginx; do
    command -v "$program" >/dev/null || die "$program is missing; ./autogen.sh --tests installs it"
done

dir=$(mktemp -d "${TMPDIR:-/tmp}/kaitend-cluster.XXXXXX")
pid1=
pid2=
pid3=

# shellcheck disable=SC2154  # status is set by the trap itself
clean_up() {
    status=$?
    trap - EXIT
    [ "$status" -eq 0 ] || tail -n 5 "$dir"/*.log "$dir"/pg/log >&2 2>/dev/null || true
    nginx=$(cat "$dir/nginx.pid" 2>/dev/null) || true
    for pid in $pid1 $pid2 $pid3 $nginx; do
        kill "$pid" 2>/dev/null || true
    done
    # What still runs could write into the folder while it is removed.
    for pid in $pid1 $pid2 $pid3; do
        wait "$pid" 2>/dev/null || true
    done
    tries=0
    while [ -n "$nginx" ] && kill -0 "$nginx" 2>/dev/null && [ "$tries" -lt 100 ]; do
        tries=$((tries + 1))
        sleep 0.05
    done
    database stop -m immediate >/dev/null 2>&1 || true
    rm -rf "$dir"
    exit "$status"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- a database ------------------------------------------------------------------------------

# PostgreSQL does not run as root.
as_owner() {
    if [ "$(id -u)" -eq 0 ]; then
        (cd "$dir/pg" && setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@")
    else
        "$@"
    fi
}

database() {
    as_owner pg_ctl -D "$dir/pg/data" -l "$dir/pg/log" -w "$@"
}

make_database() {
    mkdir "$dir/pg"
    if [ "$(id -u)" -eq 0 ]; then
        chmod 711 "$dir"
        chown nobody:nogroup "$dir/pg"
    fi
    as_owner initdb -D "$dir/pg/data" -U owner --auth=trust --no-locale -E UTF8 >/dev/null
    cat >>"$dir/pg/data/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$dir/pg'
END
    database start >/dev/null
    psql -q -h "$dir/pg" -U owner -d postgres -c "CREATE ROLE kaitend LOGIN" \
        -c "CREATE DATABASE kaiten"
}

# --- three daemons and nginx -----------------------------------------------------------------

copy_plugins "$top" "$dir"

# Runs kaitenctl with the n-th daemon.
ctl() {
    n=$1
    shift
    KAITEN_SOCKET=$dir/$n/rpc.sock kaitenctl "$@"
}

# nginx listens on the first port, the daemons on the three after it.
write_conf() {
    cat >"$dir/$1/kaitend.conf" <<END
[kaitend]
state_dir = $dir/$1
plugin_dir = $dir/plugins
storage = storage-postgres
request_timeout = 2s

[storage-postgres]
connection = host=$dir/pg dbname=kaiten user=kaitend
init_connection = host=$dir/pg dbname=kaiten user=owner

[socket]
path = $dir/$1/rpc.sock
auth = auth-token
auth = auth-peer

[http]
listen = 127.0.0.1:$((first + $1))
auth = auth-token
auth = auth-jwt

[auth-peer]
rule = uid=$(id -u) org=demo subject=$(id -un) scopes=read:*,write:* verify=any

[auth-jwt]
key = $dir/jwt-public.pem alg=RS256
END
}

write_nginx_conf() {
    cat >"$dir/nginx.conf" <<END
pid $dir/nginx.pid;
error_log $dir/nginx.log;
worker_processes 1;
events {}
http {
    access_log off;
    client_body_temp_path $dir/nginx;
    proxy_temp_path $dir/nginx;
    fastcgi_temp_path $dir/nginx;
    uwsgi_temp_path $dir/nginx;
    scgi_temp_path $dir/nginx;
    upstream kaiten {
        server 127.0.0.1:$((first + 1)) max_fails=1 fail_timeout=1s;
        server 127.0.0.1:$((first + 2)) max_fails=1 fail_timeout=1s;
        server 127.0.0.1:$((first + 3)) max_fails=1 fail_timeout=1s;
        keepalive 8;
    }
    server {
        listen 127.0.0.1:$first;
        location / {
            proxy_pass http://kaiten;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
}
END
}

# Starts the n-th daemon: ready, or its exit code.
start() {
    kaitend -c "$dir/$1/kaitend.conf" >>"$dir/$1.log" 2>&1 &
    pid=$!
    eval "pid$1=$pid"
    tries=0
    until ctl "$1" health >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null || { code=0; wait "$pid" || code=$?; return "$code"; }
        tries=$((tries + 1))
        [ "$tries" -lt 400 ] || die "daemon $1 does not answer"
        sleep 0.05
    done
}

# The keys are made by the first start of all and are the same everywhere.
make_daemons() {
    for n in 1 2 3; do
        mkdir -p "$dir/$n"
        write_conf "$n"
    done
    run "kaitend -c $dir/1/kaitend.conf --init-store"
    start 1 || return $?
    cp -p "$dir/1/digest.key" "$dir/1/signing.pem" "$dir/2"
    cp -p "$dir/1/digest.key" "$dir/1/signing.pem" "$dir/3"
    start 2 || return $?
    start 3
}

stop_daemons() {
    for pid in $pid1 $pid2 $pid3; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    pid1=
    pid2=
    pid3=
}

# Until a command succeeds; milliseconds it took.
wait_until() {
    begun=$(date +%s%3N)
    until eval "$1" >/dev/null 2>&1; do
        [ $(($(date +%s%3N) - begun)) -lt 30000 ] || die "not within 30 s: $1"
    done
    echo $(($(date +%s%3N) - begun))
}

status_of() {
    curl -sS -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $2" "$1"
}

# --- the demo --------------------------------------------------------------------------------

say "A PostgreSQL of its own, with a role that may read and write rows and nothing else."
make_database
echo "postgresql is up: $dir/pg"

say "Three daemons with the same keys, and nginx before them."
run "kaiten-jwt keygen --alg RS256 --private $dir/jwt-private.pem --public $dir/jwt-public.pem"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    first=$(random_port)
    code=0
    make_daemons || code=$?
    [ "$code" -ne 69 ] || { stop_daemons; continue; }
    [ "$code" -eq 0 ] || die "kaitend ended with exit code $code"
    mkdir -p "$dir/nginx"
    write_nginx_conf
    ! nginx -c "$dir/nginx.conf" -e "$dir/nginx.log" || break
    stop_daemons
done
[ -s "$dir/nginx.pid" ] || die "no free ports"
url=http://127.0.0.1:$first
echo "three times kaitend behind $url; ctl N is kaitenctl with the socket of the N-th"
# shellcheck disable=SC2034  # commands that are printed use it
KAITEN_JWT=$(kaiten-jwt sign --alg RS256 --key "$dir/jwt-private.pem" --ttl 3600 sub=demo-user \
    name='Demo User' kaiten_external_org_id=demo 'scopes=read:*,write:*')

say "A service account and a token, minted by whichever daemon nginx has chosen."
run "curl -sS -X POST $url/service-accounts -H \"Authorization: Bearer \$KAITEN_JWT\" \\
    -H 'Content-Type: application/json' -d '{\"name\": \"CI Bot\"}'"
account=$(field slug)
[ -n "$account" ] || die "no slug in the answer"
run "curl -sS -X POST $url/service-accounts/$account/tokens -H \"Authorization: Bearer \$KAITEN_JWT\" \\
    -H 'Content-Type: application/json' -d '{\"name\": \"deploy\", \"scopes\": [\"read:instances\"]}'"
token=$(field token)
slug=$(field slug)
[ -n "$token" ] || die "no token in the answer"

say "Good on all three."
for n in 1 2 3; do
    run "printf %s \"\$token\" | ctl $n verify"
    expect "$account"
done

say "Revoked on the second: refused by the others as soon as they have heard of it."
run "ctl 2 token revoke $account $slug --yes"
begun=$(date +%s%3N)
for n in 1 2 3; do
    wait_until "! printf %s \"\$token\" | ctl $n verify" >/dev/null
done
echo "refused by all, $(($(date +%s%3N) - begun)) ms later, most of it spent on starting kaitenctl"
for n in 1 2 3; do
    run_failing 10 "printf %s \"\$token\" | ctl $n verify"
    expect revoked
done

say "One daemon is killed: nginx goes on with the others."
kept=$(ctl 1 token create "$account" --name kept --scope read:instances -q 2>/dev/null)
run "kill -9 $pid1"
wait "$pid1" 2>/dev/null || true
for _ in 1 2 3 4 5 6; do
    [ "$(status_of "$url/tokens/validate" "$kept")" = 200 ] || die "refused by the others"
done
echo "six of six requests answered with 200"
start 1 || die "the first daemon does not start again"
run 'printf %s "$kept" | ctl 1 verify'
expect "$account"

say "The database is away for a moment: whoever asks is told so in time."
run "database stop -m immediate | tail -n 1"
run "curl -sS -m 10 -X POST $url/service-accounts -H \"Authorization: Bearer \$KAITEN_JWT\" \\
    -H 'Content-Type: application/json' -d '{\"name\": \"Too Early\"}'"
expect '"status":503'
run "database start | tail -n 1"
echo "good again on all three $(wait_until 'printf %s "$kept" | ctl 1 verify &&
    printf %s "$kept" | ctl 2 verify && printf %s "$kept" | ctl 3 verify') ms later"
echo "minted again $(wait_until "ctl 2 token create $account --name again-\$(date +%s%N) \
    --scope read:instances -q") ms later"

say "Stopped."
run "kill $pid1 $pid2 $pid3"
for pid in $pid1 $pid2 $pid3; do
    wait "$pid" || die "kaitend ended with exit code $?"
done
pid1=
pid2=
pid3=
printf 'demo-cluster: done; nothing was left behind\n'
