/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/seal.h"

#include "client/proto/arena.h"

#include <string.h>

/* A sealed value: format, tag of the key that sealed it, MAC over key, tag and payload, payload.
 * The tag tells which key to try, nothing depends on it; in format 1 it was longer. */
enum {
    SEAL_FORMAT = 2,
    SEAL_TAG = 1,
    SEAL_TAG_1 = 4,
    SEAL_HEAD_1 = 1 + SEAL_TAG_1 + DIGEST_MAC_BYTES
};

_Static_assert(SEAL_HEAD == 1 + SEAL_TAG + DIGEST_MAC_BYTES, "what stands before the payload");

/* The first digits of a key's public fingerprint tell which key sealed a record. */
static const char *
tag_of(const struct digest_keys *keys, size_t i)
{
    return digest_keys_fingerprint(keys, i);
}

static void
seal_mac(const struct digest_keys *keys, size_t i, size_t tag, struct kt_str key,
         struct kt_str payload, unsigned char mac[DIGEST_MAC_BYTES])
{
    const struct kt_str parts[] = { key, { tag_of(keys, i), tag }, payload };
    digest_record_mac(keys, i, parts, 3, mac);
}

struct kt_str
seal_make(const struct digest_keys *keys, struct kt_arena *arena, struct kt_str key,
          struct kt_str payload)
{
    unsigned char *p = kt_arena_alloc(arena, SEAL_HEAD + payload.n);
    if (!p)
        return (struct kt_str){ NULL, 0 };
    p[0] = SEAL_FORMAT;
    memcpy(p + 1, tag_of(keys, 0), SEAL_TAG);
    seal_mac(keys, 0, SEAL_TAG, key, payload, p + 1 + SEAL_TAG);
    memcpy(p + SEAL_HEAD, payload.p, payload.n);
    return (struct kt_str){ (const char *)p, SEAL_HEAD + payload.n };
}

bool
seal_open(const struct digest_keys *keys, struct kt_str key, struct kt_str sealed,
          struct kt_str *ret_payload, size_t *ret_key)
{
    const unsigned char *p = (const unsigned char *)sealed.p;
    bool old = sealed.n > 0 && p[0] == 1;
    size_t tag = old ? SEAL_TAG_1 : SEAL_TAG, head = old ? SEAL_HEAD_1 : SEAL_HEAD;
    if (sealed.n < head || (!old && p[0] != SEAL_FORMAT))
        return false;
    struct kt_str payload = { sealed.p + head, sealed.n - head };
    for (size_t i = 0; i < digest_keys_count(keys); i++) {
        if (memcmp(p + 1, tag_of(keys, i), tag) != 0)
            continue;
        unsigned char mac[DIGEST_MAC_BYTES];
        seal_mac(keys, i, tag, key, payload, mac);
        if (!digest_equal(mac, p + 1 + tag, sizeof mac))
            continue;
        *ret_payload = payload;
        *ret_key = i;
        return true;
    }
    return false;
}

/* --- several at once ---------------------------------------------------------------------- */

bool
seal_hold(struct seal_together *t, struct kt_str key, struct kt_str stored, uint64_t revision,
          bool *ret_full)
{
    const char *tag = tag_of(t->keys, 0);
    struct seal_held *r = &t->rows[t->n];
    if (stored.n < SEAL_HEAD || stored.p[0] != SEAL_FORMAT || stored.n > sizeof r->stored ||
        key.n > sizeof r->key || memcmp(stored.p + 1, tag, SEAL_TAG) != 0)
        return false;
    const struct kt_str parts[] = { key, { tag, SEAL_TAG },
                                    { stored.p + SEAL_HEAD, stored.n - SEAL_HEAD } };
    if (!digest_record_block(parts, 3, &t->blocks[t->n]))
        return false;
    memcpy(r->key, key.p, key.n);
    memcpy(r->stored, stored.p, stored.n);
    r->key_n = key.n;
    r->stored_n = stored.n;
    r->revision = revision;
    r->authentic = false;
    *ret_full = ++t->n == DIGEST_TOGETHER;
    return true;
}

size_t
seal_look(struct seal_together *t)
{
    unsigned char macs[DIGEST_TOGETHER][DIGEST_BYTES];
    size_t n = t->n;
    t->n = 0;
    if (n < DIGEST_TOGETHER)
        return n;
    digest_record_macs(t->keys, 0, t->blocks, macs);
    for (size_t i = 0; i < n; i++)
        t->rows[i].authentic = digest_equal(macs[i], t->rows[i].stored + 1 + SEAL_TAG,
                                            DIGEST_MAC_BYTES);
    return n;
}

struct kt_str
seal_payload(const struct seal_held *r)
{
    return (struct kt_str){ r->stored + SEAL_HEAD, r->stored_n - SEAL_HEAD };
}
