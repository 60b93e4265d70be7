/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/json_scan.h"
#include "client/proto/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
put_escaped(struct kt_buf *buf, unsigned char c)
{
    static const char short_form[0x20] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't',
    };
    static const char digits[] = "0123456789abcdef";
    char out[6] = { '\\', c < 0x20 ? short_form[c] : (char)c };
    if (out[1]) {
        kt_buf_put(buf, out, 2);
        return;
    }
    memcpy(out, "\\u00", 4);
    out[4] = digits[c >> 4];
    out[5] = digits[c & 15];
    kt_buf_put(buf, out, sizeof out);
}

/* Bytes at p that need no escape: whole characters above the control characters. */
static size_t
plain_run(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        unsigned char c = (unsigned char)p[i];
        size_t len = kt_json_is_plain(p[i]) ? 1 : c < 0x80 ? 0 : kt_utf8_char(p + i, n - i);
        if (len == 0)
            break;
        i += len;
    }
    return i;
}

void
kt_json_put_str(struct kt_buf *buf, struct kt_str s)
{
    if (!s.p) {
        kt_buf_puts(buf, "null");
        return;
    }
    kt_buf_putc(buf, '"');
    while (s.n) {
        size_t n = plain_run(s.p, s.n);
        kt_buf_put(buf, s.p, n);
        if (n < s.n && (unsigned char)s.p[n] < 0x80)
            put_escaped(buf, (unsigned char)s.p[n]);
        else if (n < s.n)
            kt_buf_puts(buf, "\xEF\xBF\xBD");
        n += n < s.n;
        s = (struct kt_str){ s.p + n, s.n - n };
    }
    kt_buf_putc(buf, '"');
}

static void
put_uint(struct kt_buf *buf, uint64_t u)
{
    char out[20];
    size_t i = sizeof out;
    do
        out[--i] = (char)('0' + u % 10);
    while (u /= 10);
    kt_buf_put(buf, out + i, sizeof out - i);
}

void
kt_json_put_int(struct kt_buf *buf, int64_t i)
{
    if (i < 0)
        kt_buf_putc(buf, '-');
    put_uint(buf, i < 0 ? 0 - (uint64_t)i : (uint64_t)i);
}

void
kt_json_put_bool(struct kt_buf *buf, bool b)
{
    kt_buf_puts(buf, b ? "true" : "false");
}

void
kt_json_put_double(struct kt_buf *buf, double d)
{
    char out[40];
    if (!isfinite(d)) {
        kt_buf_puts(buf, "null");
        return;
    }
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(out, sizeof out, "%.*g", precision, d);
        if (memcmp(&d, &(double){ strtod(out, NULL) }, sizeof d) == 0)
            break;
    }
    kt_buf_puts(buf, out);
    if (!strpbrk(out, ".e"))
        kt_buf_puts(buf, ".0");
}

static bool
is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* days: since 0000-01-01, in years 0 to 9999. */
static void
put_date(struct kt_buf *buf, int64_t days)
{
    static const int before[13] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365 };
    const int64_t cycle = 146097; /* days of 400 years */
    int64_t year = days / cycle * 400, month = 12;
    days %= cycle;
    while (days >= (is_leap(year) ? 366 : 365))
        days -= is_leap(year++) ? 366 : 365;
    bool leap = is_leap(year);
    while (days < before[month - 1] + (leap && month > 2))
        month--;
    kt_buf_printf(buf, "%04d-%02d-%02d", (int)year, (int)month,
                  (int)(days - before[month - 1] - (leap && month > 2)) + 1);
}

void
kt_json_put_time(struct kt_buf *buf, struct kt_time t)
{
    const int64_t day = 86400000, epoch = 719528, last = 3652425;
    int64_t days = t.ms / day, ms = t.ms % day;
    if (ms < 0) {
        ms += day;
        days--;
    }
    if (!kt_time_is_set(t) || days < -epoch || days >= last - epoch) {
        kt_buf_puts(buf, "null");
        return;
    }
    kt_buf_putc(buf, '"');
    put_date(buf, days + epoch);
    int second = (int)(ms / 1000);
    kt_buf_printf(buf, "T%02d:%02d:%02d.%03dZ\"", second / 3600, second / 60 % 60, second % 60,
                  (int)(ms % 1000));
}

static void
put_base64(struct kt_buf *buf, struct kt_str s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    kt_buf_putc(buf, '"');
    for (size_t i = 0; i < s.n; i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (i + k < s.n ? (unsigned char)s.p[i + k] : 0);
        char out[4] = { digits[bits >> 18], digits[bits >> 12 & 63], digits[bits >> 6 & 63],
                        digits[bits & 63] };
        if (s.n - i < 3)
            out[3] = '=';
        if (s.n - i < 2)
            out[2] = '=';
        kt_buf_put(buf, out, sizeof out);
    }
    kt_buf_putc(buf, '"');
}

static void
put_array(struct kt_buf *buf, const struct kt_value *value)
{
    kt_buf_putc(buf, '[');
    for (size_t i = 0; i < value->array.n; i++) {
        if (i)
            kt_buf_putc(buf, ',');
        kt_json_put_value(buf, &value->array.v[i]);
    }
    kt_buf_putc(buf, ']');
}

static void
put_map(struct kt_buf *buf, const struct kt_value *value)
{
    kt_buf_putc(buf, '{');
    for (size_t i = 0; i < value->map.n; i++) {
        if (i)
            kt_buf_putc(buf, ',');
        kt_json_put_str(buf, value->map.v[i].name);
        kt_buf_putc(buf, ':');
        kt_json_put_value(buf, &value->map.v[i].value);
    }
    kt_buf_putc(buf, '}');
}

void
kt_json_put_value(struct kt_buf *buf, const struct kt_value *value)
{
    switch (value->type) {
    case KT_V_NULL:
        kt_buf_puts(buf, "null");
        return;
    case KT_V_BOOL:
        kt_json_put_bool(buf, value->b);
        return;
    case KT_V_INT:
        kt_json_put_int(buf, value->i);
        return;
    case KT_V_UINT:
        put_uint(buf, value->u);
        return;
    case KT_V_NUMBER:
        kt_json_put_double(buf, value->d);
        return;
    case KT_V_STR:
        kt_json_put_str(buf, value->s);
        return;
    case KT_V_BIN:
        put_base64(buf, value->s);
        return;
    case KT_V_TIME:
        kt_json_put_time(buf, value->t);
        return;
    case KT_V_ARRAY:
        put_array(buf, value);
        return;
    case KT_V_MAP:
        put_map(buf, value);
        return;
    }
}
