/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Records as bytes: numbers and counted texts, one after the other. What there are millions of is
 * written short: numbers as they are large, seven bits a byte, lowest first. The reader never looks
 * past the end; after the first defect everything reads as zero and ok is false, so that one check
 * at the end is enough. */
#ifndef RECORD_H
#define RECORD_H

#include "client/proto/arena.h"
#include "client/proto/buf.h"
#include "daemon/model/uuid.h"

void record_put_u8(struct kt_buf *, uint8_t);
void record_put_u32(struct kt_buf *, uint32_t);
void record_put_i64(struct kt_buf *, int64_t);
void record_put_uuid(struct kt_buf *, const struct uuid *);
void record_put_bytes(struct kt_buf *, const void *p, size_t n); /* as they are, uncounted */
void record_put_str(struct kt_buf *, struct kt_str);             /* absent stays absent */

/* The short forms. */
void record_put_number(struct kt_buf *, uint64_t);
void record_put_text(struct kt_buf *, struct kt_str); /* absent stays absent */
void record_put_scopes(struct kt_buf *, const struct kt_str v[], size_t n); /* no bytes: absent */

/* What the buffer holds, moved to the arena; ends the buffer. p NULL: no memory, or a failure. */
struct kt_str record_finish(struct kt_arena *, struct kt_buf *);

struct record_in {
    const unsigned char *p, *end;
    bool ok;
};

void record_open(struct record_in *, struct kt_str bytes);
uint8_t record_u8(struct record_in *);
uint32_t record_u32(struct record_in *);
int64_t record_i64(struct record_in *);
struct uuid record_uuid(struct record_in *);
void record_bytes(struct record_in *, void *out, size_t n);
struct kt_str record_str(struct record_in *); /* a view into the bytes */

uint64_t record_number(struct record_in *);
struct kt_str record_text(struct record_in *); /* a view into the bytes */

/* At most max of them; the array is in the arena, the texts are views, or constants. */
const struct kt_str *record_scopes(struct record_in *, struct kt_arena *, size_t max,
                                   size_t *ret_n);

/* Whether everything was there and nothing is left over. */
bool record_done(const struct record_in *);

#endif
