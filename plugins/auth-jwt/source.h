/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Where keys come from: a key file, a file with a JWK Set, or the address of one. */
#ifndef AUTH_JWT_SOURCE_H
#define AUTH_JWT_SOURCE_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/stat.h>

#include "plugins/auth-jwt/jwk.h"

enum source_kind { SOURCE_KEY = 1, SOURCE_JWKS, SOURCE_URL };

/* Milliseconds. */
struct source_times {
    int64_t refresh;  /* an address is asked again that long after it has answered */
    int64_t max_age;  /* what it said last is trusted that long */
    int64_t cooldown; /* the least time between two attempts because of unknown key ids */
    int64_t timeout;  /* of one attempt */
};

/* One thread at a time, but for the members that say otherwise. */
struct source {
    enum source_kind kind;
    char *place;               /* path or address */
    char *ca;                  /* for SOURCE_URL; NULL: the system's */
    char *kid;                 /* for SOURCE_KEY; NULL: none */
    const struct key_alg *alg; /* its algorithm; for sets, of keys that name none, or NULL */

    struct key_set keys;       /* the last good ones */
    bool has_keys;             /* always, for files that were read once */
    unsigned char digest[32];  /* of what they were read from */
    mode_t mode;               /* of the file that was */
    struct stat seen;          /* the file as it was when it was read last */
    bool is_settled;           /* a change would show in it; false soon after the file's last one */
    atomic_bool again;         /* read it also when nothing has changed. Any thread */
    char complaint[KEY_WHY_MAX]; /* the last one, so that each is logged once; "": none */

    int64_t fetched_ms, tried_ms; /* 0: never. tried_ms: under the ring's lock */
    unsigned failures;            /* in a row */
    bool wanted, busy;            /* under the ring's lock: asked for, and being read */
};

enum source_news { SOURCE_SAME = 0x71, SOURCE_FRESH = 0x82, SOURCE_FAILED = 0x93 };

/* One look at a source. */
struct source_look {
    bool must;               /* read it also when nothing seems to have changed */
    int64_t timeout_ms;      /* of an attempt to ask an address */
    const atomic_bool *stop; /* ends such an attempt when it becomes true; NULL: nothing does */
    key_log *log;
};

/* Reads what there is into *ret_fresh, an empty set, when it is not what the source has already.
 * SOURCE_FAILED: *ret_why says why, with place. The source's own keys stay as they are. Blocks
 * while an address is asked. */
enum source_news source_read(struct source *, const struct source_look *,
                             struct key_set *ret_fresh, struct key_why *ret_why);

/* Makes a set that was read the source's own, at now_ms. Takes it. */
void source_keep(struct source *, struct key_set *take_fresh, int64_t now_ms);

/* When an address is to be asked next, given that nobody wants it sooner. */
int64_t source_next_ms(const struct source *, const struct source_times *);

void source_done(struct source *);

#endif
