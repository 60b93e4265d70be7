/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the store makes of a value, so that nobody can write one without the digest key: a MAC over
 * key, key id and payload before it. */
#ifndef SEAL_H
#define SEAL_H

#include "client/proto/str.h"
#include "daemon/model/digest.h"

#include <stdbool.h>
#include <stdint.h>

struct kt_arena;

enum { SEAL_HEAD = 2 + DIGEST_MAC_BYTES }; /* bytes before the payload */

/* The payload as it is stored under this key, in the arena; NULL: no memory. Any thread. */
struct kt_str seal_make(const struct digest_keys *, struct kt_arena *, struct kt_str key,
                        struct kt_str payload);

/* The payload, a view into what is stored, and which of the keys has sealed it. False: none of
 * them has. Any thread. */
bool seal_open(const struct digest_keys *, struct kt_str key, struct kt_str sealed,
               struct kt_str *ret_payload, size_t *ret_key) __attribute__((warn_unused_result));

/* Records of which DIGEST_TOGETHER are looked at in one go: hold, until full, then look. One thread
 * has it; all zeros with the keys is empty. */
struct seal_held {
    char key[BLAKE2B_MESSAGE_MAX], stored[2 * BLAKE2B_MESSAGE_MAX];
    size_t key_n, stored_n;
    uint64_t revision;
    bool authentic; /* sealed with the current key; false says nothing: ask seal_open() */
};
struct seal_together {
    const struct digest_keys *keys;
    size_t n;
    struct seal_held rows[DIGEST_TOGETHER];
    struct blake2b_block blocks[DIGEST_TOGETHER];
};

/* Copies the record. False: it is none of those that can be looked at together. */
bool seal_hold(struct seal_together *, struct kt_str key, struct kt_str stored, uint64_t revision,
               bool *ret_full) __attribute__((warn_unused_result));

/* How many rows there were, which stay until the next one is held. Fewer than DIGEST_TOGETHER are
 * not worth it: none is authentic then. */
size_t seal_look(struct seal_together *);
struct kt_str seal_payload(const struct seal_held *);

#endif
