/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/socket_peek.h"

#include "client/proto/bigend.h"

/* Length of an array header and number of elements; 0: more bytes are needed; -1: no array of an
 * envelope. */
static int
peek_array(const unsigned char *p, size_t n, unsigned *ret_count)
{
    unsigned width = p[0] == 0xdc ? 2 : p[0] == 0xdd ? 4 : 0;
    if (width == 0 && (p[0] & 0xf0) != 0x90)
        return -1;
    if (n < 1 + width)
        return 0;
    uint32_t count = width == 0 ? p[0] & 0x0f : (uint32_t)kt_get_be(p + 1, width);
    if (count != 3 && count != 4)
        return -1;
    *ret_count = count;
    return (int)(1 + width);
}

/* A small unsigned number in any of its encodings; -1: more bytes needed; -2: something else. */
static int
peek_number(const unsigned char *p, size_t n)
{
    if (n == 0)
        return -1;
    if (p[0] <= 0x7f)
        return p[0];
    if (p[0] < 0xcc || p[0] > 0xd3)
        return -2;
    size_t width = (size_t)1 << ((p[0] - 0xcc) & 3);
    for (size_t i = 1; i < width && i < n; i++)
        if (p[i] != 0)
            return -2;
    if (n < 1 + width)
        return -1;
    return p[width] <= 0x7f ? p[width] : -2;
}

enum kt_frame
socket_peek_kind(struct kt_str bytes, int *ret_kind, const char **ret_why)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    unsigned count = 0;
    *ret_why = "no message of MessagePack-RPC";
    int head = peek_array(p, bytes.n, &count);
    if (head <= 0)
        return head < 0 ? KT_FRAME_BAD : KT_FRAME_MORE;
    int kind = peek_number(p + head, bytes.n - (size_t)head);
    if (kind == -1)
        return KT_FRAME_MORE;
    if (kind == RPC_RESPONSE)
        *ret_why = "a response, and nothing was asked";
    *ret_kind = kind;
    bool good = (kind == RPC_REQUEST && count == 4) || (kind == RPC_NOTIFICATION && count == 3);
    return good ? KT_FRAME_DONE : KT_FRAME_BAD;
}

struct kt_str
socket_peek_method(struct kt_str bytes)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    const struct kt_str none = { NULL, 0 };
    if (bytes.n < 4 || p[0] != 0x94 || p[1] != RPC_REQUEST)
        return none;
    bool wide = p[2] >= 0xcc && p[2] <= 0xcf; /* an id of 1, 2, 4 or 8 bytes behind its head */
    size_t at = 3 + (wide ? (size_t)1 << (p[2] - 0xcc) : 0);
    if (bytes.n < at + 2)
        return none;
    bool short_name = (p[at] & 0xe0) == 0xa0, long_name = p[at] == 0xd9 || p[at] == 0xc4;
    if ((p[2] > 0x7f && !wide) || (!short_name && !long_name))
        return none;
    size_t n = short_name ? p[at] & 0x1f : p[at + 1];
    at += short_name ? 1 : 2;
    return bytes.n - at < n ? none : (struct kt_str){ bytes.p + at, n };
}
