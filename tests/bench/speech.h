/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the load generator says to a server and hears from it; one struct speech for each kind. */
#ifndef BENCH_SPEECH_H
#define BENCH_SPEECH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum {
    SPEECH_ASK_MAX = 4096, /* bytes of one request */
    SPEECH_MANY = 64,      /* tokens or keys in one request of many */
    SPEECH_AHEAD = 16      /* keys that are drawn before they are asked for */
};

/* What a connection remembers from one answer to its next request. */
struct note {
    size_t n;
    char text[1024];
};

/* What all connections of a run share. */
struct talk {
    const char *keys; /* nkeys of key_width bytes each, one after the other */
    size_t nkeys, key_width;
    bool in_order;  /* each key once, from the first on; else at random */
    uint64_t asked; /* requests so far */
    uint64_t base;  /* differs from run to run */
    uint64_t random;
    const char *ahead[SPEECH_AHEAD]; /* a ring; drawn counts through it */
    size_t drawn;
    const char *bearer; /* the caller's credential on HTTP */
    size_t bearer_n;
    struct note *note; /* of the connection that asks or hears */
    FILE *save; /* where minted tokens go; NULL: nowhere */
};

/* Files, of which none is needed by every speech: NULL then. */
struct talk_options {
    const char *keys;   /* of key_width bytes each */
    size_t key_width;
    size_t distinct;    /* only so many of them; 0: all */
    bool in_order;
    const char *bearer; /* its first line is the credential */
    const char *save;
};

/* Reads what the options name; a failure ends the program. */
void talk_begin(struct talk *, const struct talk_options *);
void talk_end(struct talk *, const struct talk_options *);

struct speech {
    const char *name;
    /* Before anything is measured, on a blocking Unix socket; NULL: nothing to do. Ends the program when
     * it is refused. */
    void (*greet)(int fd);
    /* Writes one request of at most SPEECH_ASK_MAX bytes and returns its length. */
    size_t (*ask)(struct talk *, char *out);
    /* Length of the whole right answer at p, 0 when more bytes are needed, -1 when the answer is
     * not what was hoped for: a miss, a refusal, no message. */
    ssize_t (*hear)(struct talk *, const char *p, size_t n);
    unsigned units; /* that one answer counts for; 0: one */
    unsigned legs;  /* requests of one connection after the other that are measured as one; 0: one */
    bool once;      /* a connection for each request */
};

extern const struct speech speech_kaiten_verify, speech_kaiten_verify_many, speech_kaiten_judge,
    speech_kaiten_dead, speech_kaiten_mint, speech_kaiten_revoke_all;
extern const struct speech speech_redis_get, speech_redis_mget, speech_redis_set,
    speech_redis_mint;
extern const struct speech speech_postgres_mint, speech_memcached_get, speech_memcached_set;
extern const struct speech speech_http_validate, speech_http_mint, speech_munge;

/* The key of the next request. */
const char *talk_key(struct talk *);

/* A number that no other request has, of this run or of an earlier one on the same store. */
uint64_t talk_number(struct talk *);

/* Copies n bytes and returns the end. */
char *put(char *at, const void *p, size_t n);

/* 16 lower-case hexadecimal digits. */
char *put_hex(char *at, uint64_t);

/* Says why on standard error and ends the program. */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
