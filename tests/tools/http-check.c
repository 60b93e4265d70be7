/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Asks kaitend's own readers of HTTP about many cases. Standard input: each is its length, four
 * bytes with the lowest first, and its bytes: which reader, how many bytes a piece has at most (0:
 * all at once), and what is to be read. Standard output: a line for each, of words; texts are in
 * hexadecimal, "-" is one that was not there at all.
 *   h  a head: "more", "bad" and the status, or "done" and all that was read of it
 *   c  a chunked body of at most BODY_MAX bytes: "more", "bad" and the status, or "done"; the bytes
 *      that were used and the data
 *   p  a segment of a path: "bad" and the status, or "done" and the text
 *   q  a query: "bad" or "done", and the pairs
 * Exit status: 0, or 1 when the input ends inside of a case or a reader contradicts itself. */
#include "config.h"

#include "client/proto/buf.h"
#include "daemon/transport/http_chunk.h"
#include "daemon/transport/http_head.h"

#include <stdio.h>
#include <stdlib.h>

enum { CASE_MAX = 1 << 20, LINE_MAX = 8 << 20, BODY_MAX = 4096 };

static void
put_text(struct kt_buf *out, struct kt_str text)
{
    if (!text.p)
        kt_buf_puts(out, " -");
    else
        kt_buf_putc(out, ' ');
    for (size_t i = 0; i < text.n; i++)
        kt_buf_printf(out, "%02x", (unsigned char)text.p[i]);
}

static void
put_head(struct kt_buf *out, const struct http_head *head, size_t len)
{
    kt_buf_printf(out, "done %zu 1.%d %lld %d%d%d", len, head->minor,
                  (long long)head->content_length, head->chunked, head->keep_alive,
                  head->expect_continue);
    put_text(out, head->method);
    put_text(out, head->path);
    put_text(out, head->query);
    put_text(out, head->host);
    put_text(out, head->authorization);
    put_text(out, head->content_type);
    put_text(out, head->content_encoding);
    put_text(out, head->idempotency_key);
    for (size_t i = 0; i < head->nheaders; i++) {
        put_text(out, head->headers[i].name);
        put_text(out, head->headers[i].value);
    }
}

/* As a connection does: more bytes each time, from the same beginning. */
static void
check_head(struct kt_buf *out, struct kt_str text, size_t piece)
{
    static struct http_head head;
    size_t len = 0, n = 0;
    enum http_parse parse = HTTP_MORE;
    while (parse == HTTP_MORE && n < text.n) {
        n = piece && text.n - n > piece ? n + piece : text.n;
        parse = http_head_read((struct kt_str){ text.p, n }, &head, &len);
    }
    if (parse == HTTP_DONE)
        put_head(out, &head, len);
    else if (parse == HTTP_BAD)
        kt_buf_printf(out, "bad %d", head.status);
    else
        kt_buf_puts(out, "more");
}

static void
check_chunks(struct kt_buf *out, struct kt_str text, size_t piece)
{
    struct http_chunk chunk;
    struct kt_buf body;
    enum http_chunk_event event = HTTP_CHUNK_MORE;
    size_t used = 0;
    http_chunk_init(&chunk, BODY_MAX);
    kt_buf_init(&body, BODY_MAX);
    while (used < text.n && (event == HTTP_CHUNK_MORE || event == HTTP_CHUNK_DATA)) {
        size_t n = piece && text.n - used > piece ? piece : text.n - used, consumed = 0;
        struct kt_str data = { NULL, 0 };
        event = http_chunk_next(&chunk, (struct kt_str){ text.p + used, n }, &consumed, &data);
        kt_buf_put_str(&body, data);
        used += consumed;
    }
    if (event == HTTP_CHUNK_BAD)
        kt_buf_printf(out, "bad %d", chunk.status);
    else
        kt_buf_puts(out, event == HTTP_CHUNK_END ? "done" : "more");
    kt_buf_printf(out, " %zu", used);
    put_text(out, kt_buf_str(&body));
    if (body.failed)
        exit(1);
    kt_buf_done(&body);
}

static void
check_segment(struct kt_buf *out, struct kt_arena *arena, struct kt_str text)
{
    struct kt_str decoded;
    int status = http_percent_decode(arena, text, &decoded);
    if (status)
        kt_buf_printf(out, "bad %d", status);
    else
        kt_buf_puts(out, "done");
    if (!status)
        put_text(out, decoded);
}

static void
check_query(struct kt_buf *out, struct kt_arena *arena, struct kt_str text)
{
    struct kt_buf pairs;
    struct kt_str rest = text, name, value;
    int more;
    kt_buf_init(&pairs, LINE_MAX);
    while ((more = http_query_next(arena, &rest, &name, &value)) > 0) {
        put_text(&pairs, name);
        put_text(&pairs, value);
    }
    kt_buf_puts(out, more == 0 ? "done" : "bad");
    kt_buf_put_str(out, kt_buf_str(&pairs));
    kt_buf_done(&pairs);
}

static void
check(char reader, size_t piece, struct kt_str text)
{
    struct kt_arena arena;
    struct kt_buf out;
    kt_arena_init(&arena, 2 * CASE_MAX);
    kt_buf_init(&out, LINE_MAX);
    switch (reader) {
    case 'h': check_head(&out, text, piece); break;
    case 'c': check_chunks(&out, text, piece); break;
    case 'p': check_segment(&out, &arena, text); break;
    case 'q': check_query(&out, &arena, text); break;
    default: exit(1);
    }
    kt_buf_putc(&out, '\n');
    (void)fwrite(out.p, 1, out.n, stdout);
    kt_buf_done(&out);
    kt_arena_done(&arena);
}

int
main(void)
{
    unsigned char head[6];
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        size_t n = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        if (n < 2 || n > CASE_MAX)
            return 1;
        n -= 2;
        /* Exactly that size, so that a read past its end is seen by the sanitizers. */
        char *text = malloc(n ? n : 1);
        if (!text || fread(text, 1, n, stdin) != n) {
            free(text);
            return 1;
        }
        check((char)head[4], head[5], (struct kt_str){ text, n });
        free(text);
    }
    return 0;
}
