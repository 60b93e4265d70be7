/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What was released of the plugin ABI stays where it is: a plugin that was built against an older
 * header must find each member at its old place. A line is added here with each release; none is
 * ever changed or taken away. The offsets are those of 64-bit systems. */
#include "config.h"

#include "plugins/kaiten-auth.h"
#include "plugins/kaiten-storage.h"

#include <stdio.h>

#if UINTPTR_MAX == UINT64_MAX

#define AT(type, member, offset) \
    _Static_assert(offsetof(struct type, member) == (offset), #type "." #member " has moved")
#define WIDE(type, size) _Static_assert(sizeof(struct type) == (size), #type " has another size")
#define IS(constant, value) _Static_assert((constant) == (value), #constant " has another value")

IS(KAITEN_HOST_ABI, 1);
IS(KAITEN_STORAGE_ABI, 1);
IS(KAITEN_AUTH_ABI, 1);

/* Passed by value or in arrays, so these can never grow. */
WIDE(kaiten_bytes, 16);
AT(kaiten_bytes, p, 0);
AT(kaiten_bytes, n, 8);

WIDE(kaiten_option, 48);
AT(kaiten_option, name, 0);
AT(kaiten_option, type, 8);
AT(kaiten_option, flags, 12);
AT(kaiten_option, def, 16);
AT(kaiten_option, min, 24);
AT(kaiten_option, max, 32);
AT(kaiten_option, doc, 40);

WIDE(kaiten_range, 48);
AT(kaiten_range, from, 0);
AT(kaiten_range, to, 16);
AT(kaiten_range, backward, 32);
AT(kaiten_range, limit, 40);

WIDE(kaiten_cond, 32);
AT(kaiten_cond, type, 0);
AT(kaiten_cond, key, 8);
AT(kaiten_cond, revision, 24);

WIDE(kaiten_write, 40);
AT(kaiten_write, type, 0);
AT(kaiten_write, key, 8);
AT(kaiten_write, value, 24);

WIDE(kaiten_batch, 56);
AT(kaiten_batch, conds, 0);
AT(kaiten_batch, nconds, 8);
AT(kaiten_batch, writes, 16);
AT(kaiten_batch, nwrites, 24);
AT(kaiten_batch, id, 32);
AT(kaiten_batch, flags, 48);

WIDE(kaiten_outcome, 24);
AT(kaiten_outcome, status, 0);
AT(kaiten_outcome, failed, 8);
AT(kaiten_outcome, revision, 16);

/* Sized: only appended to. */
AT(kaiten_host, size, 0);
AT(kaiten_host, abi, 4);
AT(kaiten_host, log, 8);
AT(kaiten_host, error, 16);
AT(kaiten_host, get_string, 24);
AT(kaiten_host, get_int, 32);
AT(kaiten_host, get_bool, 40);
AT(kaiten_host, list_count, 48);
AT(kaiten_host, list_item, 56);
AT(kaiten_host, where, 64);
AT(kaiten_host, row, 72);
AT(kaiten_host, principal, 80);
AT(kaiten_host, token, 88);
AT(kaiten_host, changed, 96);
AT(kaiten_host, deadline, 104);
AT(kaiten_host, now, 112);
AT(kaiten_host, random, 120);
AT(kaiten_host, refuse, 128);
AT(kaiten_host, forget, 136);

AT(kaiten_storage, size, 0);
AT(kaiten_storage, abi, 4);
AT(kaiten_storage, threads, 6);
AT(kaiten_storage, caps, 8);
AT(kaiten_storage, name, 16);
AT(kaiten_storage, version, 24);
AT(kaiten_storage, summary, 32);
AT(kaiten_storage, options, 40);
AT(kaiten_storage, open, 48);
AT(kaiten_storage, close, 56);
AT(kaiten_storage, get, 64);
AT(kaiten_storage, scan, 72);
AT(kaiten_storage, apply, 80);
AT(kaiten_storage, revision, 88);
AT(kaiten_storage, health, 96);
AT(kaiten_storage, backup, 104);
AT(kaiten_storage, check, 112);
AT(kaiten_storage, verify, 120);

AT(kaiten_caller, size, 0);
AT(kaiten_caller, listener, 4);
AT(kaiten_caller, has_peer, 8);
AT(kaiten_caller, uid, 12);
AT(kaiten_caller, gid, 16);
AT(kaiten_caller, groups, 24);
AT(kaiten_caller, ngroups, 32);
AT(kaiten_caller, pid, 40);
AT(kaiten_caller, credential, 48);
AT(kaiten_caller, remote, 64);

AT(kaiten_principal, size, 0);
AT(kaiten_principal, subject, 8);
AT(kaiten_principal, organization, 16);
AT(kaiten_principal, name, 24);
AT(kaiten_principal, email, 32);
AT(kaiten_principal, scopes, 40);
AT(kaiten_principal, nscopes, 48);
AT(kaiten_principal, expires_at_ms, 56);
AT(kaiten_principal, max_lifetime_ms, 64);
AT(kaiten_principal, verify, 72);
AT(kaiten_principal, proof, 80);

AT(kaiten_auth, size, 0);
AT(kaiten_auth, abi, 4);
AT(kaiten_auth, threads, 6);
AT(kaiten_auth, caps, 8);
AT(kaiten_auth, name, 16);
AT(kaiten_auth, version, 24);
AT(kaiten_auth, summary, 32);
AT(kaiten_auth, options, 40);
AT(kaiten_auth, open, 48);
AT(kaiten_auth, close, 56);
AT(kaiten_auth, identify, 64);
AT(kaiten_auth, reload, 72);

#endif

#define VALUE(constant, value) \
    _Static_assert((int)(constant) == (value), #constant " has another value")

VALUE(KAITEN_DONE, 0);
VALUE(KAITEN_CONFLICT, 1);
VALUE(KAITEN_RETRY, 2);
VALUE(KAITEN_FULL, 3);
VALUE(KAITEN_CORRUPT, 4);
VALUE(KAITEN_UNSUPPORTED, 5);
VALUE(KAITEN_FAILED, 6);
VALUE(KAITEN_UNKNOWN, 7);
VALUE(KAITEN_THREADS_SERIAL, 1);
VALUE(KAITEN_THREADS_READERS, 2);
VALUE(KAITEN_THREADS_PARALLEL, 3);
VALUE(KAITEN_OPT_STRING, 1);
VALUE(KAITEN_OPT_PATH, 2);
VALUE(KAITEN_OPT_INT, 3);
VALUE(KAITEN_OPT_SIZE, 4);
VALUE(KAITEN_OPT_DURATION, 5);
VALUE(KAITEN_OPT_BOOL, 6);
VALUE(KAITEN_OPT_SECRET, 7);
VALUE(KAITEN_OPT_LIST, 8);
VALUE(KAITEN_OPT_REQUIRED, 1);
VALUE(KAITEN_LOG_ERROR, 3);
VALUE(KAITEN_LOG_DEBUG, 7);
VALUE(KAITEN_KEY_MAX, 512);
VALUE(KAITEN_VALUE_MAX, 65536);
VALUE(KAITEN_BATCH_CONDS_MAX, 16);
VALUE(KAITEN_BATCH_WRITES_MAX, 64);
VALUE(KAITEN_APPLY_BATCHES_MAX, 1024);
VALUE(KAITEN_STORAGE_DURABLE, 1);
VALUE(KAITEN_STORAGE_NOTICES, 2);
VALUE(KAITEN_STORAGE_OUTSIDE_WRITERS, 4);
VALUE(KAITEN_STORAGE_BACKUP, 8);
VALUE(KAITEN_ABSENT, 1);
VALUE(KAITEN_PRESENT, 2);
VALUE(KAITEN_AT, 3);
VALUE(KAITEN_SET, 1);
VALUE(KAITEN_DELETE, 2);
VALUE(KAITEN_BATCH_URGENT, 1);
VALUE(KAITEN_KNOWN, 0x4b31);
VALUE(KAITEN_REFUSED, 0x4b52);
VALUE(KAITEN_NOT_MINE, 0x4b63);
VALUE(KAITEN_BROKEN, 0x4b74);
VALUE(KAITEN_LISTENER_SOCKET, 1);
VALUE(KAITEN_LISTENER_HTTP, 2);
VALUE(KAITEN_GROUPS_MAX, 64);
VALUE(KAITEN_VERIFY_NO, 0);
VALUE(KAITEN_VERIFY_OWN, 1);
VALUE(KAITEN_VERIFY_ANY, 2);
VALUE(KAITEN_AUTH_INLINE, 1);
VALUE(KAITEN_AUTH_CACHE, 2);

/* Everything was decided by the compiler. */
int
main(void)
{
    printf("ok 1 - released members and numbers of the plugin ABI are where they were\n1..1\n");
    return 0;
}
