/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The row of a digest: all that a verdict needs and no more, so that the index is filled from these
 * rows alone. */
#ifndef VERDICT_H
#define VERDICT_H

#include "client/proto/arena.h"
#include "daemon/model/uuid.h"

struct verdict_record {
    struct uuid org, account, token;
    int64_t expires_ms; /* 0: never */
    uint32_t epoch;
    bool revoked;
    uint32_t key; /* digest_keys_tag() of what the digest was made with; 0: not known */
    const struct kt_str *scopes;
    size_t nscopes;
};

/* p NULL: no memory. */
struct kt_str verdict_encode(struct kt_arena *, const struct verdict_record *);

/* Texts are views into value, the list of them is in the arena. False: another form. */
bool verdict_decode(struct kt_arena *, struct kt_str value, struct verdict_record *ret);

#endif
