/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/http_chunk.h"

#include "client/proto/check.h"

/* One byte moves the decoder from state to state, except in S_DATA, which takes what is there. */
enum {
    S_SIZE,      /* in the hex digits */
    S_EXTENSION, /* behind the ';' */
    S_SIZE_LF,   /* behind the CR of the size line */
    S_DATA,
    S_DATA_CR,
    S_DATA_LF,
    S_LINE, /* at the beginning of a trailer or of the last line */
    S_NAME,
    S_VALUE,
    S_TRAILER_LF,
    S_LAST_LF,
    S_END,
    S_BAD
};

void
http_chunk_init(struct http_chunk *chunk, uint64_t max)
{
    *chunk = (struct http_chunk){ .state = S_SIZE, .max = max };
}

static bool
bad(struct http_chunk *chunk, int status, const char *why)
{
    chunk->state = S_BAD;
    chunk->status = status;
    chunk->why = why;
    return false;
}

static bool
expect(struct http_chunk *chunk, char c, char wanted, int next, const char *why)
{
    if (c != wanted)
        return bad(chunk, 400, why);
    chunk->state = next;
    return true;
}

static bool
is_text(char c)
{
    return c == '\t' || ((unsigned char)c >= ' ' && c != 0x7F);
}

static bool
is_token(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool
size_end(struct http_chunk *chunk)
{
    if (chunk->left > chunk->max - chunk->total)
        return bad(chunk, 413, "the body is longer than its limit");
    chunk->total += chunk->left;
    chunk->state = chunk->left ? S_DATA : S_LINE;
    return true;
}

static bool
size_byte(struct http_chunk *chunk, char c)
{
    int digit = kt_hex_digit(c);
    if (digit < 0) {
        if (chunk->digits == 0 || (c != ';' && c != '\r'))
            return bad(chunk, 400, "a chunk size is not 1 to 8 hexadecimal digits");
        chunk->state = c == ';' ? S_EXTENSION : S_SIZE_LF;
        return true;
    }
    if (++chunk->digits > HTTP_CHUNK_DIGITS_MAX)
        return bad(chunk, 400, "a chunk size is not 1 to 8 hexadecimal digits");
    chunk->left = chunk->left << 4 | (uint32_t)digit;
    return true;
}

static bool
extension_byte(struct http_chunk *chunk, char c)
{
    if (c == '\r') {
        chunk->state = S_SIZE_LF;
        return true;
    }
    if (!is_text(c))
        return bad(chunk, 400, "a chunk extension has a control character or a bare LF");
    if (++chunk->extension > HTTP_CHUNK_EXTENSION_MAX)
        return bad(chunk, 400, "the chunk extensions are longer than 1024 bytes");
    return true;
}

static bool
trailer_byte(struct http_chunk *chunk, char c)
{
    if (c == '\r' && chunk->state != S_NAME) {
        chunk->state = chunk->state == S_LINE ? S_LAST_LF : S_TRAILER_LF;
        return true;
    }
    if (++chunk->trailer > HTTP_CHUNK_TRAILER_MAX)
        return bad(chunk, 400, "the trailers are longer than 4096 bytes");
    if (chunk->state == S_VALUE)
        return is_text(c) || bad(chunk, 400, "a trailer has a control character or a bare LF");
    if (chunk->state == S_NAME && c == ':') {
        chunk->state = S_VALUE;
        return true;
    }
    chunk->state = S_NAME;
    return is_token(c) || bad(chunk, 400, "a trailer does not begin with a name and a colon");
}

static bool
size_lf_byte(struct http_chunk *chunk, char c)
{
    return expect(chunk, c, '\n', S_DATA, "a CR without LF behind a chunk size") && size_end(chunk);
}

static bool
data_lf_byte(struct http_chunk *chunk, char c)
{
    chunk->digits = 0;
    return expect(chunk, c, '\n', S_SIZE, "the data of a chunk is not followed by CRLF");
}

static bool
byte(struct http_chunk *chunk, char c)
{
    switch (chunk->state) {
    case S_SIZE:
        return size_byte(chunk, c);
    case S_EXTENSION:
        return extension_byte(chunk, c);
    case S_SIZE_LF:
        return size_lf_byte(chunk, c);
    case S_DATA_CR:
        return expect(chunk, c, '\r', S_DATA_LF, "the data of a chunk is not followed by CRLF");
    case S_DATA_LF:
        return data_lf_byte(chunk, c);
    case S_TRAILER_LF:
        return expect(chunk, c, '\n', S_LINE, "a CR without LF in a trailer");
    case S_LAST_LF:
        return expect(chunk, c, '\n', S_END, "a CR without LF behind the trailers");
    default:
        return trailer_byte(chunk, c);
    }
}

enum http_chunk_event
http_chunk_next(struct http_chunk *chunk, struct kt_str bytes, size_t *ret_consumed,
                struct kt_str *ret_data)
{
    size_t i = 0;
    while (i < bytes.n && chunk->state != S_DATA && chunk->state < S_END)
        if (byte(chunk, bytes.p[i]))
            i++;
    *ret_consumed = i;
    if (chunk->state == S_BAD)
        return HTTP_CHUNK_BAD;
    if (chunk->state == S_END)
        return HTTP_CHUNK_END;
    if (i == bytes.n)
        return HTTP_CHUNK_MORE;
    size_t n = bytes.n - i < chunk->left ? bytes.n - i : chunk->left;
    chunk->left -= (uint32_t)n;
    if (chunk->left == 0)
        chunk->state = S_DATA_CR;
    *ret_data = (struct kt_str){ bytes.p + i, n };
    *ret_consumed = i + n;
    return HTTP_CHUNK_DATA;
}
