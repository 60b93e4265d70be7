/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Cursors: the text that callers send, and the JSON inside it. */
#include "config.h"

#include "client/proto/check.h"
#include "daemon/model/cursor.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted can be written, and reads back as the same. */
static void
check(struct kt_str text)
{
    struct cursor cursor, back;
    char buf[CURSOR_TEXT_MAX];
    if (!cursor_decode(text, &cursor))
        return;
    size_t n = cursor_encode(&cursor, buf);
    if (n >= CURSOR_TEXT_MAX || !cursor_decode((struct kt_str){ buf, n }, &back) ||
        back.created.ms != cursor.created.ms || uuid_compare(&back.id, &cursor.id) != 0)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char coded[KT_B64URL_LEN(CURSOR_IN_MAX) + 1];
    check((struct kt_str){ (const char *)data, size });
    if (size <= CURSOR_IN_MAX)
        check((struct kt_str){ coded, kt_b64url_encode(data, size, coded) });
    return 0;
}
