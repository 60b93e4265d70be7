/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A beginning of a head is never taken for a whole one, and never refused when the whole is good;
 * a head written again from what was read reads the same. */
#include "config.h"

#include "client/proto/buf.h"
#include "daemon/transport/http_head.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static void
check_cut(struct kt_str bytes, size_t cut, enum http_parse whole)
{
    static struct http_head head;
    size_t len;
    enum http_parse parse = http_head_read((struct kt_str){ bytes.p, cut }, &head, &len);
    must(parse != HTTP_DONE);
    must(parse == HTTP_MORE || whole == HTTP_BAD);
}

static void
check_within(struct kt_str bytes, struct kt_str view)
{
    must(!view.p || (view.p >= bytes.p && view.p + view.n <= bytes.p + bytes.n));
}

static void
check_decoding(const struct http_head *head)
{
    struct kt_arena arena;
    struct kt_str rest = head->query, name, value, text;
    kt_arena_init(&arena, 1 << 20);
    while (http_query_next(&arena, &rest, &name, &value) == 1)
        must(!memchr(name.p, '\0', name.n));
    if (http_percent_decode(&arena, head->path, &text) == 0)
        must(text.n <= head->path.n && !memchr(text.p, '\0', text.n));
    kt_arena_done(&arena);
}

static void
check_again(const struct http_head *head)
{
    static struct http_head again;
    struct kt_buf buf;
    size_t len = 0;
    kt_buf_init(&buf, 2 * HTTP_HEAD_MAX);
    kt_buf_printf(&buf, "%.*s %.*s HTTP/1.%d\r\n", KT_FMT(head->method), KT_FMT(head->target),
                  head->minor);
    for (size_t i = 0; i < head->nheaders; i++) {
        kt_buf_put_str(&buf, head->headers[i].name);
        kt_buf_putc(&buf, ':');
        kt_buf_put_str(&buf, head->headers[i].value);
        kt_buf_puts(&buf, "\r\n");
    }
    kt_buf_puts(&buf, "\r\n");
    must(http_head_read(kt_buf_str(&buf), &again, &len) == HTTP_DONE && len == buf.n);
    must(again.nheaders == head->nheaders && again.content_length == head->content_length);
    must(again.chunked == head->chunked && again.keep_alive == head->keep_alive);
    must(again.expect_continue == head->expect_continue && kt_str_eq(again.path, head->path));
    must(kt_str_eq(again.host, head->host));
    must(kt_str_eq(again.authorization, head->authorization));
    must(kt_str_eq(again.content_encoding, head->content_encoding));
    kt_buf_done(&buf);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_head head;
    struct kt_str bytes = { (const char *)data, size };
    size_t len = 0;
    enum http_parse parse = http_head_read(bytes, &head, &len);
    size_t end = parse == HTTP_DONE ? len : size;
    must(end <= size);
    for (size_t cut = 0; cut < end; cut += 1 + end / 16)
        check_cut(bytes, cut, parse);
    if (parse == HTTP_BAD)
        must(head.status >= 400 && head.status <= 505 && head.why);
    if (parse != HTTP_DONE)
        return 0;
    check_cut(bytes, len - 1, parse);
    must(len <= HTTP_HEAD_MAX && head.nheaders <= HTTP_HEADERS_MAX);
    must(!(head.chunked && head.content_length >= 0));
    check_within(bytes, head.target);
    for (size_t i = 0; i < head.nheaders; i++)
        check_within(bytes, head.headers[i].value);
    check_decoding(&head);
    check_again(&head);
    return 0;
}
