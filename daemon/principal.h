/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Who is calling, as an auth plugin proved it. Counted and immutable: shared by the cache of
 * verified callers, connections and requests on any thread. */
#ifndef PRINCIPAL_H
#define PRINCIPAL_H

#include "client/proto/str.h"
#include "daemon/limiter.h"
#include "daemon/model/uuid.h"
#include "plugins/kaiten-auth.h"

#include <stdatomic.h>

struct principal {
    _Atomic uint32_t refs;
    struct uuid id;           /* user, or service account for a token caller */
    struct uuid org;
    struct kt_str subject, org_ext, name, email; /* NUL-terminated, inside this allocation */
    const struct kt_str *scopes;
    size_t nscopes;
    int64_t expires_ms;       /* 0: with its connection */
    int64_t max_lifetime_ms;  /* 0: as configured */
    enum kaiten_verify verify;
    const char *proof;        /* "peer", "jwt", "token"; inside this allocation, too */
    struct kaiten_rate asked_rate; /* of the plugin */
    struct limiter_rate rate; /* the one in force, set by limits_adopt(); zeros: no limit */
};

/* Copies everything; ids are derived from subject and organization. NULL with errno EINVAL: a text
 * is too long or not UTF-8; ENOMEM: no memory. */
struct principal *principal_new(const struct kaiten_principal *);

struct principal *principal_ref(struct principal *);
struct principal *principal_unref(struct principal *); /* NULL allowed; returns NULL */

#endif
