/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Scan and reader agree about a message, wherever it is cut; what they accept, msgpack-c reads as
 * the same value; and written again it reads the same. */
#include "config.h"

#include "client/proto/pack.h"
#include "tests/unit/msgpack-same.h"

#include <stdlib.h>

enum { BYTES_MAX = 8 * 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static enum kt_frame
scan_pieces(struct kt_str bytes, size_t step, size_t *ret_len)
{
    struct kt_pack_scan scan = { 0 };
    const char *why = NULL;
    enum kt_frame frame = KT_FRAME_MORE;
    for (size_t n = 0; frame == KT_FRAME_MORE; n = bytes.n - n < step ? bytes.n : n + step) {
        frame = kt_pack_scan((struct kt_str){ bytes.p, n }, NULL, &scan, ret_len, &why);
        if (n == bytes.n)
            break;
    }
    must(frame != KT_FRAME_BAD || why);
    return frame;
}

static void
check_accepted(struct kt_str frame, const struct kt_value *value)
{
    msgpack_unpacked unpacked;
    size_t offset = 0;
    msgpack_unpacked_init(&unpacked);
    must(msgpack_unpack_next(&unpacked, frame.p, frame.n, &offset) == MSGPACK_UNPACK_SUCCESS);
    must(offset == frame.n && same(value, &unpacked.data));

    struct kt_buf buf;
    kt_buf_init(&buf, BYTES_MAX);
    kt_pack_put_value(&buf, value);
    must(!buf.failed);
    offset = 0;
    must(msgpack_unpack_next(&unpacked, buf.p, buf.n, &offset) == MSGPACK_UNPACK_SUCCESS);
    must(offset == buf.n && same(value, &unpacked.data));
    kt_buf_done(&buf);
    msgpack_unpacked_destroy(&unpacked);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kt_str bytes = { (const char *)data, size };
    struct kt_arena arena;
    struct kt_value value;
    size_t read_len = 0, scan_len = 0, pieces_len = 0;
    const char *why = NULL;
    struct kt_pack_scan scan = { 0 };
    kt_arena_init(&arena, BYTES_MAX);
    enum kt_frame read = kt_pack_read(bytes, NULL, &arena, &value, &read_len, &why);
    must(read != KT_FRAME_BAD || why);
    enum kt_frame scanned = kt_pack_scan(bytes, NULL, &scan, &scan_len, &why);
    must(scan_pieces(bytes, 1 + size % 7, &pieces_len) == scanned && pieces_len == scan_len);
    /* The reader alone looks into strings: what it refuses, the scan may pass. */
    must(read == scanned || read == KT_FRAME_BAD);
    must(read != KT_FRAME_DONE || read_len == scan_len);
    must(scan_len <= size);
    if (read == KT_FRAME_DONE)
        check_accepted((struct kt_str){ bytes.p, read_len }, &value);
    kt_arena_done(&arena);
    return 0;
}
