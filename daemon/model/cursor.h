/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The position in a list that callers carry around: unpadded base64url of a small JSON object,
 * {"createdAt":"2026-08-10T12:00:00Z","id":"…"}. It is bound to nothing and grants nothing. */
#ifndef CURSOR_H
#define CURSOR_H

#include "daemon/model/uuid.h"

enum {
    CURSOR_TEXT_MAX = 160, /* what cursor_encode needs, with the NUL */
    CURSOR_IN_MAX = 512    /* characters that cursor_decode takes */
};

struct cursor {
    struct kt_time created;
    struct uuid id;
};

/* NUL-terminated; returns the length without the NUL. created: KT_TIME_FIRST..KT_TIME_LAST. */
size_t cursor_encode(const struct cursor *, char buf[CURSOR_TEXT_MAX]);

/* False: not of this form (400). A missing member is zero: 0001-01-01T00:00:00Z, or the zero id, so
 * that "{}" is a position before everything. */
bool cursor_decode(struct kt_str, struct cursor *ret);

#endif
