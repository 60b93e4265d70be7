/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Scopes: <action>:<module>. Which are well formed, and what holding some of them permits. Pure
 * functions, any thread. */
#ifndef SCOPE_H
#define SCOPE_H

#include "client/proto/arena.h"
#include "client/proto/str.h"

/* Known modules, in the order in which messages name them. */
struct scope_modules {
    const struct kt_str *v;
    size_t n;
};

extern const struct scope_modules scope_modules_default;

/* Whether a configured module may be one: 1 to 64 of a-z, 0-9 and _, starting with a letter. */
bool scope_module_is_valid(struct kt_str);

/* Exact match of read, write or delete, a colon, and a known module or *. White space is wrong. */
bool scope_is_valid(const struct scope_modules *, struct kt_str scope);

/* Whether the held scopes permit what required asks for: they have it, or write:* (everything), or
 * read:* (every read:), or write:X for read:X. delete:* permits itself only. */
bool scope_grants(const struct kt_str held[], size_t n, struct kt_str required);

/* Whether every wanted scope is granted. False: ret_missing (may be NULL) is the position of the
 * first one that is not. */
bool scope_list_covers(const struct kt_str held[], size_t nheld, const struct kt_str wanted[],
                       size_t nwanted, size_t *ret_missing);

/* The wanted scopes that are not granted, separated by ", ". p == NULL: no memory. */
struct kt_str scope_missing_text(struct kt_arena *, const struct kt_str held[], size_t nheld,
                                 const struct kt_str wanted[], size_t nwanted);

/* Whether all are well formed; false: ret_message is the text for the caller (Token.InvalidScopes),
 * which names the bad ones and what is accepted; its p is NULL when the arena is full. */
bool scope_list_check(const struct scope_modules *, const struct kt_str scopes[], size_t n,
                      struct kt_arena *, struct kt_str *ret_message);

/* read: and write: of every module but users and memberships, sorted: what the API publishes for
 * people to choose from. has == KT_ABSENT: no memory. */
struct kt_strlist scope_published(struct kt_arena *, const struct scope_modules *);

#endif
