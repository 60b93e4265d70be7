/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The keys of each issuer, kept as their sources have them now: threads of our own look at files
 * and ask addresses; whoever verifies sees a whole set, that before a change or that after it. */
#ifndef AUTH_JWT_KEYRING_H
#define AUTH_JWT_KEYRING_H

#include "plugins/auth-jwt/jws.h"
#include "plugins/auth-jwt/source.h"

enum { KEYRING_SOURCES_MAX = 64 }; /* of all rings; each address has a thread of its own */

struct keyring;  /* the keys of one issuer */
struct keyrings; /* those of all, and the threads */

struct keyrings_options {
    struct source_times times;
    key_log *log;
    void (*changed)(void *ctx); /* after any key was exchanged; on a thread of the rings */
    void *ctx;
};

/* NULL: no memory. The options are copied. */
struct keyrings *keyrings_new(const struct keyrings_options *);

/* Ends the threads, an attempt to fetch too, and frees all rings. NULL is allowed. */
void keyrings_free(struct keyrings *);

/* A ring without sources; it belongs to the rings. NULL: no memory. Before keyrings_start(). */
struct keyring *keyring_new(struct keyrings *);

/* What a ring gets its keys from; strings are copied. */
struct keyring_source {
    enum source_kind kind;
    const char *place, *kid, *ca;
    const struct key_alg *alg;
};

/* Files are read here and must be good; addresses are only judged by their form. False: *ret_why
 * says why. Before keyrings_start(). */
bool keyring_add(struct keyring *, const struct keyring_source *, struct key_why *ret_why);

bool keyring_has_sources(const struct keyring *);

/* Starts the threads, and gives addresses a moment of at most wait_ms to answer for the first time.
 * False: no thread could be started. */
bool keyrings_start(struct keyrings *, int64_t wait_ms);

/* Reads everything again soon, changed or not. Returns at once. Any thread. */
void keyrings_reload(struct keyrings *);

/* jws_verify() with the ring's keys of this moment. JWS_BROKEN also when the key may be one that an
 * address has and we do not: it has not answered yet, or not for too long, or is being asked
 * because of this key id. Any thread; never waits for a source. */
enum jws_outcome keyring_verify(struct keyring *, const struct jws *, const char **ret_why);

#endif
