/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A chunked body decodes to the same, or is refused for the same, in pieces of any size. */
#include "config.h"

#include "client/proto/buf.h"
#include "daemon/transport/http_chunk.h"

#include <stdlib.h>

enum { BODY_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

/* Adds the data to body; *ret_used counts up to the last event. */
static enum http_chunk_event
decode(struct kt_str bytes, size_t step, struct http_chunk *chunk, struct kt_buf *body,
       size_t *ret_used)
{
    enum http_chunk_event event = HTTP_CHUNK_MORE;
    size_t used = 0;
    while (used < bytes.n && (event == HTTP_CHUNK_MORE || event == HTTP_CHUNK_DATA)) {
        size_t n = bytes.n - used < step ? bytes.n - used : step, consumed = 0;
        struct kt_str data = { NULL, 0 };
        event = http_chunk_next(chunk, (struct kt_str){ bytes.p + used, n }, &consumed, &data);
        must(consumed <= n);
        must(event != HTTP_CHUNK_MORE || consumed == n);
        must(event != HTTP_CHUNK_DATA ||
             (data.n > 0 && data.p + data.n == bytes.p + used + consumed));
        kt_buf_put_str(body, data);
        used += consumed;
    }
    *ret_used = used;
    return event == HTTP_CHUNK_DATA ? HTTP_CHUNK_MORE : event;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kt_str bytes = { (const char *)data, size };
    struct http_chunk whole, pieces;
    struct kt_buf a, b;
    size_t used, used_pieces;
    http_chunk_init(&whole, BODY_MAX);
    http_chunk_init(&pieces, BODY_MAX);
    kt_buf_init(&a, BODY_MAX);
    kt_buf_init(&b, BODY_MAX);
    enum http_chunk_event event = decode(bytes, SIZE_MAX, &whole, &a, &used);
    must(decode(bytes, 1 + size % 5, &pieces, &b, &used_pieces) == event && used == used_pieces);
    must(!a.failed && kt_str_eq(kt_buf_str(&a), kt_buf_str(&b)));
    must(event != HTTP_CHUNK_BAD ||
         (whole.status == pieces.status && whole.why == pieces.why && whole.why));
    kt_buf_done(&a);
    kt_buf_done(&b);
    return 0;
}
