/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Asks kaitend's own reader about many documents. Standard input: each is its length, four bytes
 * with the lowest first, and its bytes. Standard output: a line for each: "y" and what was read, as
 * JSON; "g" when it is no JSON, "r" when it is JSON that a rule refuses, "l" when it is above a
 * limit. Exit status: 0, or 1 when the input ends inside of a document. */
#include "config.h"

#include "client/proto/json.h"

#include <stdio.h>
#include <stdlib.h>

enum { TEXT_MAX = 16 << 20, MEMORY_MAX = 64 << 20 };

static void
check(const char *text, size_t n)
{
    struct kt_arena arena;
    struct kt_value value;
    struct kt_json_error error;
    struct kt_buf out;
    kt_arena_init(&arena, MEMORY_MAX);
    kt_buf_init(&out, MEMORY_MAX);
    if (kt_json_read((struct kt_str){ text, n }, &arena, NULL, &value, &error) == 0) {
        kt_buf_putc(&out, 'y');
        kt_json_put_value(&out, &value);
    } else {
        kt_buf_putc(&out, error.fault == KT_JSON_LIMIT ? 'l' : error.grammar ? 'g' : 'r');
    }
    kt_buf_putc(&out, '\n');
    (void)fwrite(out.p, 1, out.n, stdout);
    kt_buf_done(&out);
    kt_arena_done(&arena);
}

int
main(void)
{
    unsigned char head[4];
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        size_t n = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        if (n > TEXT_MAX)
            return 1;
        /* Exactly that size, so that a read past its end is seen by the sanitizers. */
        char *text = malloc(n ? n : 1);
        if (!text || fread(text, 1, n, stdin) != n) {
            free(text);
            return 1;
        }
        check(text, n);
        free(text);
    }
    return 0;
}
