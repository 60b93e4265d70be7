/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Keyed BLAKE2b-256 (RFC 7693) of short messages under a key that is used again and again.
 *
 * The first of the two blocks that such a digest compresses holds the key alone. libsodium computes
 * it anew for each message and offers no state between the two, and this was a third of the time
 * of a pipelined verification: here it is computed once. The results are libsodium's: test-digest
 * compares them for every length, and whoever makes a key compares one. */
#ifndef BLAKE2B_H
#define BLAKE2B_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BLAKE2B_BYTES = 32,
    BLAKE2B_KEY_BYTES = 32,
    BLAKE2B_MESSAGE_MAX = 128 /* one block */
};

/* What is left of the key after its block: as secret as the key. */
struct blake2b_key {
    uint64_t h[8];
};

/* Any thread. */
void blake2b_key_init(struct blake2b_key *, const unsigned char key[BLAKE2B_KEY_BYTES]);

/* The digest of a message of 1 to BLAKE2B_MESSAGE_MAX bytes. Its time does not depend on what they
 * are. Any thread. */
void blake2b_digest(const struct blake2b_key *, const void *message, size_t n,
                    unsigned char ret[BLAKE2B_BYTES]);

#endif
