/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The plugins of this tree, linked into the daemon: a table that stands in for builtin_none.c. */
#include "config.h"

#include "daemon/plugin.h"

extern const struct kaiten_auth kaiten_auth_jwt;
extern const struct kaiten_auth kaiten_auth_peer;
extern const struct kaiten_auth kaiten_auth_token;
extern const struct kaiten_storage kaiten_storage_memory;
#ifdef WITH_BDB
extern const struct kaiten_storage kaiten_storage_bdb;
#endif
#ifdef WITH_POSTGRES
extern const struct kaiten_storage kaiten_storage_postgres;
#endif

const struct plugin_builtin plugin_builtins[] = {
    { .name = "auth-jwt", .auth = &kaiten_auth_jwt },
    { .name = "auth-peer", .auth = &kaiten_auth_peer },
    { .name = "auth-token", .auth = &kaiten_auth_token },
    { .name = "storage-memory", .storage = &kaiten_storage_memory },
#ifdef WITH_BDB
    { .name = "storage-bdb", .storage = &kaiten_storage_bdb },
#endif
#ifdef WITH_POSTGRES
    { .name = "storage-postgres", .storage = &kaiten_storage_postgres },
#endif
    { .name = NULL },
};
