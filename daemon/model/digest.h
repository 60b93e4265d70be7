/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The digest key (pepper): its file, the keys derived from it, and what is made with them. The
 * plaintext of a token is compared with nothing but its keyed digest.
 *
 * The file has one line per key, "kaiten-key-1 <id> <43 characters of base64url>": the first is the
 * current one, the others are retired and only recognise old tokens and records. */
#ifndef DIGEST_H
#define DIGEST_H

#include "client/proto/str.h"
#include "daemon/model/blake2b.h"

enum {
    DIGEST_BYTES = 32,
    DIGEST_MAC_BYTES = 16,
    DIGEST_KEYS_MAX = 8,         /* keys in a file */
    DIGEST_ID_MAX = 16,          /* characters of a key's id: a-z 0-9 */
    DIGEST_FINGERPRINT_MAX = 33, /* 32 hexadecimal digits and a NUL */
    DIGEST_ERROR_MAX = 512,
    DIGEST_PARTS_MAX = 16        /* parts of one record_mac */
};

struct digest_error {
    char text[DIGEST_ERROR_MAX];
};

/* Immutable once opened, in locked memory; any thread. */
struct digest_keys;

/* Reads the file. It must be regular, ours or root's, closed to group and others, and well formed.
 * False: err says what is wrong and what would be right, never any part of a key. ret_missing (may
 * be NULL) tells "there is no such file" apart. The caller frees. */
bool digest_keys_read(const char *path, struct digest_keys **ret, bool *ret_missing,
                      struct digest_error *err);

/* Makes the file with one fresh key (0600, never over an existing file), synced with its folder,
 * then reads it back. Only for an empty store: another key would silently kill every token. */
bool digest_keys_create(const char *path, struct digest_keys **ret, struct digest_error *err);

/* Writes the file anew with a fresh key before those that are in force, which retire by that; then
 * reads it back. False also when the file says something else than these keys, and when there are
 * DIGEST_KEYS_MAX already. The file is whole and synced at every instant. */
bool digest_keys_rotate(const char *path, const struct digest_keys *, struct digest_keys **ret,
                        struct digest_error *err);

/* The same without the retired key i, which is not 0. */
bool digest_keys_retire(const char *path, const struct digest_keys *, size_t i,
                        struct digest_keys **ret, struct digest_error *err);

/* Wipes. NULL allowed. */
void digest_keys_free(struct digest_keys *);

/* Whether the keys' memory could be locked. */
bool digest_keys_locked(const struct digest_keys *);

/* Key 0 is the current one. */
size_t digest_keys_count(const struct digest_keys *);
const char *digest_keys_id(const struct digest_keys *, size_t i);

/* The position of the key with this id. False: there is none. */
bool digest_keys_find(const struct digest_keys *, struct kt_str id, size_t *ret);

/* Public name of a key's value, safe to store and to log; hexadecimal. */
const char *digest_keys_fingerprint(const struct digest_keys *, size_t i);

/* The beginning of that as a number, for rows that say which key their digest was made with. Never
 * 0, which stands for "not known". */
uint32_t digest_keys_tag(const struct digest_keys *, size_t i);

/* Keyed BLAKE2b-256 of a token with the current key, or with key i (i below the count). */
void digest_token(const struct digest_keys *, struct kt_secret_view,
                  unsigned char ret[DIGEST_BYTES]);
void digest_token_with(const struct digest_keys *, size_t i, struct kt_secret_view,
                       unsigned char ret[DIGEST_BYTES]);

/* Of n tokens of one length, which is not 0, with the current key: several of them at once. ret[i]:
 * DIGEST_BYTES. */
void digest_tokens(const struct digest_keys *, const struct kt_secret_view tokens[], size_t n,
                   unsigned char *const ret[]);

/* Keyed BLAKE2b-128 over n parts (at most DIGEST_PARTS_MAX) and their lengths, so that no two
 * different lists of parts give the same input. */
void digest_record_mac(const struct digest_keys *, size_t i, const struct kt_str parts[], size_t n,
                       unsigned char ret[DIGEST_MAC_BYTES]);

/* The same of DIGEST_TOGETHER records at once, for less than twice the price of one. Of each the
 * message is put together first; false: it is too long for this. */
enum { DIGEST_TOGETHER = BLAKE2B_LANES };
bool digest_record_block(const struct kt_str parts[], size_t n, struct blake2b_block *ret);
void digest_record_macs(const struct digest_keys *, size_t i,
                        const struct blake2b_block[DIGEST_TOGETHER],
                        unsigned char ret[DIGEST_TOGETHER][DIGEST_BYTES]);

/* Further keys derived from key i, one per use. */
enum digest_use { DIGEST_USE_JOURNAL = 3, DIGEST_USE_IDEMPOTENCY = 4, DIGEST_USE_EXPORT = 6 };
void digest_subkey(const struct digest_keys *, size_t i, enum digest_use,
                   unsigned char ret[DIGEST_BYTES]);

/* In constant time. */
bool digest_equal(const void *a, const void *b, size_t n);

#endif
