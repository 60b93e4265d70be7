/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Keyed BLAKE2b (RFC 7693) of short messages under a key that is used again and again.
 *
 * The first of the two blocks that such a digest compresses holds the key alone. libsodium computes
 * it anew for each message and offers no state between the two, and this was a third of the time
 * of a pipelined verification: here it is computed once. The results are libsodium's: test-digest
 * compares them for every length, and whoever makes a key compares one.
 *
 * The MAC of a record is the same under another key, of a message in pieces: a start looks at one
 * for each token. */
#ifndef BLAKE2B_H
#define BLAKE2B_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BLAKE2B_BYTES = 32,
    BLAKE2B_KEY_BYTES = 32,
    BLAKE2B_MESSAGE_MAX = 128, /* one block */
    BLAKE2B_SHORT_MAX = 40,    /* a token: most words of its block are zero */
    BLAKE2B_LANES = 4
};

/* What is left of the key after its block: as secret as the key. */
struct blake2b_key {
    uint64_t h[8];
    size_t bytes; /* of a digest: part of what is computed, not only where it ends */
};

/* For digests of so many bytes, 1 to BLAKE2B_BYTES. Any thread. */
void blake2b_key_init(struct blake2b_key *, const unsigned char key[BLAKE2B_KEY_BYTES],
                      size_t bytes);

/* The digest of a message of 1 to BLAKE2B_MESSAGE_MAX bytes; ret: as many as the key is for. Its
 * time does not depend on what they are. Any thread. */
void blake2b_digest(const struct blake2b_key *, const void *message, size_t n,
                    unsigned char ret[BLAKE2B_BYTES]);

/* The same of four messages of n bytes each, 1 to BLAKE2B_SHORT_MAX. They and what they give may be
 * the same more than once. */
void blake2b_four(const struct blake2b_key *, const void *const messages[BLAKE2B_LANES], size_t n,
                  unsigned char *const ret[BLAKE2B_LANES]);

/* The same of four messages of up to one block, each with a length of its own. For what is no
 * secret: not all of it is wiped. */
struct blake2b_block {
    unsigned char message[BLAKE2B_MESSAGE_MAX]; /* zeros behind its end */
    size_t n;                                   /* 1 to BLAKE2B_MESSAGE_MAX */
};
void blake2b_blocks(const struct blake2b_key *, const struct blake2b_block[BLAKE2B_LANES],
                    unsigned char ret[BLAKE2B_LANES][BLAKE2B_BYTES]);

/* The same of a message in pieces, of at least one byte. */
struct blake2b_state {
    uint64_t h[8], n;
    unsigned char block[128];
    size_t have, bytes;
};
void blake2b_begin(struct blake2b_state *, const struct blake2b_key *);
void blake2b_more(struct blake2b_state *, const void *piece, size_t n);

/* Writes as many bytes as the key is for, and wipes the state. */
void blake2b_end(struct blake2b_state *, unsigned char *ret);

#endif
