/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* One small document from an address, over verified TLS: bounded in bytes and time, no redirects,
 * no credentials, no cookies. Blocks: only for a thread that nobody waits for. */
#ifndef AUTH_JWT_FETCH_H
#define AUTH_JWT_FETCH_H

#include <stdatomic.h>
#include <stdint.h>

#include "plugins/auth-jwt/keyfile.h"

struct fetch {
    const char *url;
    const char *ca;          /* PEM file with the only authorities to trust; NULL: the system's */
    int64_t timeout_ms;      /* for the whole of it */
    const atomic_bool *stop; /* true: gives up within about a second */
};

/* Is this an address that keys may come from: https, or http on a loopback address that is spelled
 * in numbers, since nobody else can then put in a word; no user, no fragment. Any thread. */
bool fetch_url_is_allowed(const char *url, struct key_why *ret_why);

/* Once before and once after all others, on one thread. False: no memory. */
bool fetch_init(void);
void fetch_done(void);

/* Gets 1 to KEY_FILE_MAX bytes with status 200. *ret is yours: keyfile_done(); its mode is 0.
 * False: *ret_why says why, without the address. Any thread. */
bool fetch_get(const struct fetch *, struct keyfile *ret, struct key_why *ret_why);

#endif
