/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The checks of single values that server, library and command line must agree on: instants,
 * durations, sizes, slugs, base64url. Pure functions, any thread. */
#ifndef KT_CHECK_H
#define KT_CHECK_H

#include "client/proto/str.h"

enum {
    KT_TIME_MAX = 25,     /* 2026-08-10T12:00:00.123Z and a NUL */
    KT_DURATION_MAX = 24  /* what kt_duration_print needs */
};

#define KT_TIME_FIRST INT64_C(-62135596800000) /* 0001-01-01T00:00:00Z */
#define KT_TIME_LAST INT64_C(253402300799999)  /* 9999-12-31T23:59:59.999Z */

/* RFC 3339 section 5.6, strictly: "T" and "Z" in either case, a fraction of 1 to 9 digits (cut to
 * milliseconds), an offset up to 23:59 (converted to UTC), real dates only, and the result within
 * years 0001 to 9999 in UTC. A leap second is taken where one can be (23:59:60 UTC on the last day
 * of a month) and read as 23:59:59.999 of that day. False: anything else. */
bool kt_time_parse(struct kt_str, struct kt_time *ret);

/* UTC with "Z", milliseconds with their trailing zeros cut off, NUL-terminated. Returns the length
 * without the NUL; 0 and an empty string outside KT_TIME_FIRST..KT_TIME_LAST. */
size_t kt_time_print(struct kt_time, char buf[KT_TIME_MAX]);

/* 500ms, 10s, 5m, 1h, 30d, 2w, or several with falling units (1h30m); a bare 0 is 0. No sign, no
 * space, no fraction. False: anything else, or more than int64_t milliseconds. */
bool kt_duration_parse(struct kt_str, int64_t *ret_ms);

/* ms >= 0 in the largest unit up to days that divides it; NUL-terminated. Returns the length. */
size_t kt_duration_print(int64_t ms, char buf[KT_DURATION_MAX]);

/* Bytes: digits, then nothing or one of K M G T (powers of 1024). False: anything else. */
bool kt_size_parse(struct kt_str, int64_t *ret_bytes);

/* Decimal integer with an optional minus, no leading zeros, no "-0", no space. */
bool kt_int_parse(struct kt_str, int64_t *ret);

/* Whether s is ^[a-z0-9][a-z0-9-]*[a-z0-9]$, of whatever length. */
bool kt_is_slug_chars(struct kt_str);

/* Whether s is the text of a UUID: hexadecimal digits of either case, with hyphens (RFC 9562
 * section 4) or without; with them also in braces or behind "urn:uuid:". */
bool kt_is_uuid(struct kt_str s);

/* The value of a hexadecimal digit of either case; -1: it is none. */
static inline int
kt_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Code points of valid UTF-8; for other bytes the number of those that start a character. */
size_t kt_code_points(struct kt_str);

/* Characters of the unpadded base64url text of n bytes (RFC 4648 section 5). */
#define KT_B64URL_LEN(n) (((n) * 4 + 2) / 3)

/* Writes KT_B64URL_LEN(n) characters and a NUL to buf; returns the length without the NUL. */
size_t kt_b64url_encode(const void *bytes, size_t n, char *buf);

/* Strict: no padding, no white space, unused bits zero. False: malformed, or more than cap bytes;
 * nothing is said about the contents of buf then. */
bool kt_b64url_decode(struct kt_str, void *buf, size_t cap, size_t *ret_n);

#endif
