/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Views: pointer and length, never owned, not NUL-terminated. Absence is part of each type. */
#ifndef KT_STR_H
#define KT_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* p == NULL means absent; p != NULL with n == 0 is the empty string. */
struct kt_str {
    const char *p;
    size_t n;
};

/* The bytes of somebody else's secret, borrowed for the call. A type of its own, so that a field
 * that holds one is never logged, never echoed and never taken for a plain string. */
struct kt_secret_view {
    const char *p;
    size_t n;
};

enum kt_presence { KT_ABSENT = 0, KT_NULL = 1, KT_SET = 2 };

struct kt_strlist {
    const struct kt_str *v;
    size_t n;
    enum kt_presence has; /* absent, null and [] are three different things */
};

/* The same, of secrets that somebody sent us. */
struct kt_secret_list {
    const struct kt_secret_view *v;
    size_t n;
    enum kt_presence has;
};

/* Array of structs; the element type is named by the field's shape. */
struct kt_list {
    const void *v;
    size_t n;
    enum kt_presence has;
};

/* Milliseconds since 1970-01-01T00:00:00Z. */
struct kt_time {
    int64_t ms;
};

#define KT_NO_INT INT64_MIN /* an optional integer that is absent */
#define KT_NO_TIME ((struct kt_time){ INT64_MIN })
#define KT_LIT(s) ((struct kt_str){ ("" s), sizeof(s) - 1 })

static inline bool
kt_time_is_set(struct kt_time t)
{
    return t.ms != INT64_MIN;
}

static inline struct kt_str
kt_str(const char *s)
{
    return (struct kt_str){ s, s ? strlen(s) : 0 };
}

static inline bool
kt_str_eq(struct kt_str a, struct kt_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool
kt_str_is(struct kt_str a, const char *s)
{
    return kt_str_eq(a, kt_str(s));
}

/* For printf("%.*s"). */
#define KT_FMT(s) (int)(s).n, (s).p ? (s).p : ""

#endif
