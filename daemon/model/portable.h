/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The store as a stream of bytes that any storage plugin can be filled from. Records stay sealed as
 * they are, so whoever reads the stream needs the same digest keys, and learns no more from it than
 * from the store.
 *
 * All numbers are big-endian.
 *   header:  magic 8, format 4, 0 4, fingerprint of the key of the MAC 32 (hexadecimal digits)
 *   record:  length of the key 2 (never 0), of the value 4, key, value; keys rise
 *   trailer: 0 2, number of records 8, MAC 32 over all before it, under a key derived from the
 *            digest key: nothing can be left out, added or put elsewhere unseen */
#ifndef PORTABLE_H
#define PORTABLE_H

#include "client/proto/str.h"

#include <sys/types.h>

struct digest_keys;

enum { PORTABLE_ERROR_MAX = 256 };

/* --- writing ------------------------------------------------------------------------------ */

struct portable_out;

/* Takes a descriptor that stays the caller's, and writes the header. Keys are borrowed. NULL:
 * errno. */
struct portable_out *portable_begin(int fd, const struct digest_keys *);

/* Keys must rise. False: errno; so it is from then on. */
bool portable_put(struct portable_out *, struct kt_str key, struct kt_str value);

/* The trailer, unless something failed before; frees. False: errno. */
bool portable_end(struct portable_out *, uint64_t *ret_records);

/* Frees without one. NULL allowed. */
void portable_abandon(struct portable_out *);

/* --- reading ------------------------------------------------------------------------------ */

/* Where the bytes come from: at most n of them, like read(2), which signals do not interrupt. */
struct portable_source {
    ssize_t (*read)(void *ctx, void *bytes, size_t n);
    void *ctx;
};

/* Reads to the end of the stream. each() gets every record, in order, before it is known whether
 * the whole stream is good; false from it ends the reading. True: it was whole, nothing was
 * changed, and each() took all. False: err; empty when each() ended it. Any thread. */
bool portable_read(const struct digest_keys *, const struct portable_source *,
                   bool (*each)(void *ctx, struct kt_str key, struct kt_str value), void *ctx,
                   uint64_t *ret_records, char err[PORTABLE_ERROR_MAX]);

#endif
