/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/check.h"

#include <stdio.h>
#include <strings.h>

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR };

/* Days since 1970-01-01 of a date of the proleptic Gregorian calendar. March is the first month
 * here, so that the leap day is the last day of a year. */
static int64_t
days_of(int64_t year, int month, int day)
{
    if (month <= 2)
        year--;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static void
date_of(int64_t days, int *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2 ? 1 : 0));
}

static int
days_in(int year, int month)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

/* Exactly n digits. */
static bool
take_digits(struct kt_str *s, size_t n, int *ret)
{
    if (s->n < n)
        return false;
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        value = value * 10 + (s->p[i] - '0');
    }
    s->p += n;
    s->n -= n;
    *ret = value;
    return true;
}

static bool
take_char(struct kt_str *s, char lower, char upper)
{
    if (s->n == 0 || (s->p[0] != lower && s->p[0] != upper))
        return false;
    s->p++;
    s->n--;
    return true;
}

/* full-date, and its days since 1970. */
static bool
take_date(struct kt_str *s, int64_t *ret_days)
{
    int year, month, day;
    if (!take_digits(s, 4, &year) || !take_char(s, '-', '-') || !take_digits(s, 2, &month) ||
        !take_char(s, '-', '-') || !take_digits(s, 2, &day))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in(year, month))
        return false;
    *ret_days = days_of(year, month, day);
    return true;
}

/* time-secfrac: what is finer than a millisecond is cut off. */
static bool
take_fraction(struct kt_str *s, int *ret_ms)
{
    *ret_ms = 0;
    if (!take_char(s, '.', '.'))
        return true;
    int scale = 100;
    size_t n = 0;
    while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9') {
        *ret_ms += (s->p[n] - '0') * scale;
        scale /= 10;
        n++;
    }
    s->p += n;
    s->n -= n;
    return n >= 1;
}

/* time-offset, in milliseconds east of UTC. */
static bool
take_offset(struct kt_str *s, int64_t *ret)
{
    *ret = 0;
    if (take_char(s, 'z', 'Z'))
        return true;
    bool west = s->n > 0 && s->p[0] == '-';
    int hour, minute;
    if (!take_char(s, '+', '-') || !take_digits(s, 2, &hour) || !take_char(s, ':', ':') ||
        !take_digits(s, 2, &minute))
        return false;
    if (hour > 23 || minute > 59)
        return false;
    *ret = (west ? -1 : 1) * ((int64_t)hour * HOUR + (int64_t)minute * MINUTE);
    return true;
}

static bool
is_month_end(int64_t ms)
{
    int64_t days = (ms >= 0 ? ms : ms - (DAY - 1)) / DAY;
    int year, month, day;
    date_of(days, &year, &month, &day);
    return ms - days * DAY == (int64_t)DAY - 1 && day == days_in(year, month);
}

bool
kt_time_parse(struct kt_str s, struct kt_time *ret)
{
    int64_t days, offset;
    int hour, minute, second, fraction;
    if (!take_date(&s, &days) || !take_char(&s, 't', 'T') || !take_digits(&s, 2, &hour) ||
        !take_char(&s, ':', ':') || !take_digits(&s, 2, &minute) || !take_char(&s, ':', ':') ||
        !take_digits(&s, 2, &second) || !take_fraction(&s, &fraction) ||
        !take_offset(&s, &offset) || s.n != 0)
        return false;
    if (hour > 23 || minute > 59 || second > 60)
        return false;
    bool leap = second == 60;
    if (leap) {
        second = 59;
        fraction = 999;
    }
    int64_t ms = days * DAY + (int64_t)hour * HOUR + (int64_t)minute * MINUTE +
                 (int64_t)second * SECOND + fraction - offset;
    if (ms < KT_TIME_FIRST || ms > KT_TIME_LAST || (leap && !is_month_end(ms)))
        return false;
    ret->ms = ms;
    return true;
}

static void
put_digits(char *p, int n, int value)
{
    while (n-- > 0) {
        p[n] = (char)('0' + value % 10);
        value /= 10;
    }
}

size_t
kt_time_print(struct kt_time t, char buf[KT_TIME_MAX])
{
    buf[0] = '\0';
    if (t.ms < KT_TIME_FIRST || t.ms > KT_TIME_LAST)
        return 0;
    int64_t days = (t.ms >= 0 ? t.ms : t.ms - (DAY - 1)) / DAY;
    int of_day = (int)(t.ms - days * DAY), year, month, day;
    date_of(days, &year, &month, &day);

    memcpy(buf, "0000-00-00T00:00:00.000", 23);
    put_digits(buf, 4, year);
    put_digits(buf + 5, 2, month);
    put_digits(buf + 8, 2, day);
    put_digits(buf + 11, 2, of_day / HOUR);
    put_digits(buf + 14, 2, of_day / MINUTE % 60);
    put_digits(buf + 17, 2, of_day / SECOND % 60);
    put_digits(buf + 20, 3, of_day % SECOND);
    size_t n = 23;
    while (buf[n - 1] == '0' && n > 20)
        n--;
    if (buf[n - 1] == '.')
        n--;
    buf[n++] = 'Z';
    buf[n] = '\0';
    return n;
}

struct unit {
    char name[3];
    int64_t ms;
};

static const struct unit units[] = {
    { "w", 7 * (int64_t)DAY }, { "d", DAY },      { "h", HOUR },
    { "m", MINUTE },           { "s", SECOND },   { "ms", 1 },
};
enum { UNIT_COUNT = sizeof(units) / sizeof(units[0]) };

/* One or more digits, as many as there are. */
static bool
take_number(struct kt_str *s, int64_t *ret)
{
    int64_t value = 0;
    size_t n = 0;
    for (; n < s->n && s->p[n] >= '0' && s->p[n] <= '9'; n++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, s->p[n] - '0', &value))
            return false;
    }
    s->p += n;
    s->n -= n;
    *ret = value;
    return n > 0;
}

/* The unit at the start of s, at or after position from in the falling list; UNIT_COUNT: none. */
static size_t
take_unit(struct kt_str *s, size_t from)
{
    size_t n = 0;
    while (n < s->n && s->p[n] >= 'a' && s->p[n] <= 'z')
        n++;
    for (size_t i = from; i < UNIT_COUNT; i++) {
        if (kt_str_is((struct kt_str){ s->p, n }, units[i].name)) {
            s->p += n;
            s->n -= n;
            return i;
        }
    }
    return UNIT_COUNT;
}

bool
kt_duration_parse(struct kt_str s, int64_t *ret_ms)
{
    int64_t sum = 0;
    if (kt_str_is(s, "0")) {
        *ret_ms = 0;
        return true;
    }
    if (s.n == 0)
        return false;
    for (size_t next = 0; s.n > 0;) {
        int64_t value;
        if (!take_number(&s, &value))
            return false;
        size_t unit = take_unit(&s, next);
        if (unit == UNIT_COUNT || __builtin_mul_overflow(value, units[unit].ms, &value) ||
            __builtin_add_overflow(sum, value, &sum))
            return false;
        next = unit + 1;
    }
    *ret_ms = sum;
    return true;
}

size_t
kt_duration_print(int64_t ms, char buf[KT_DURATION_MAX])
{
    size_t unit = 1;
    while (units[unit].ms > ms || ms % units[unit].ms != 0) {
        if (++unit == UNIT_COUNT - 1)
            break;
    }
    int n = ms == 0 ? snprintf(buf, KT_DURATION_MAX, "0")
                    : snprintf(buf, KT_DURATION_MAX, "%jd%s", (intmax_t)(ms / units[unit].ms),
                               units[unit].name);
    return (size_t)n;
}

bool
kt_size_parse(struct kt_str s, int64_t *ret_bytes)
{
    static const char letters[] = "KMGT";
    int64_t value;
    if (!take_number(&s, &value) || s.n > 1)
        return false;
    if (s.n == 1) {
        const char *at = memchr(letters, s.p[0], sizeof(letters) - 1);
        if (at == NULL ||
            __builtin_mul_overflow(value, INT64_C(1) << (10 * (at - letters + 1)), &value))
            return false;
    }
    *ret_bytes = value;
    return true;
}

bool
kt_int_parse(struct kt_str s, int64_t *ret)
{
    bool minus = s.n > 0 && s.p[0] == '-';
    if (minus) {
        s.p++;
        s.n--;
    }
    if (s.n == 0 || (s.p[0] == '0' && (s.n > 1 || minus)))
        return false;
    int64_t value = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        /* Counted downwards: INT64_MIN has no positive counterpart. */
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, s.p[i] - '0', &value))
            return false;
    }
    if (!minus && value == INT64_MIN)
        return false;
    *ret = minus ? value : -value;
    return true;
}

static bool
is_lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool
kt_is_slug_chars(struct kt_str s)
{
    if (s.n < 2 || !is_lower_alnum(s.p[0]) || !is_lower_alnum(s.p[s.n - 1]))
        return false;
    for (size_t i = 1; i < s.n - 1; i++) {
        if (!is_lower_alnum(s.p[i]) && s.p[i] != '-')
            return false;
    }
    return true;
}

bool
kt_is_uuid(struct kt_str s)
{
    enum { PLAIN = 32, HYPHENS = 36, BRACES = 38, URN = 45 };
    if (s.n == URN && strncasecmp(s.p, "urn:uuid:", URN - HYPHENS) == 0)
        s = (struct kt_str){ s.p + (URN - HYPHENS), HYPHENS };
    if (s.n == BRACES && s.p[0] == '{' && s.p[BRACES - 1] == '}')
        s = (struct kt_str){ s.p + 1, HYPHENS };
    if (s.n != PLAIN && s.n != HYPHENS)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        bool hyphen = s.n == HYPHENS && (i == 8 || i == 13 || i == 18 || i == 23);
        char c = (char)(s.p[i] | 0x20);
        bool hex = (s.p[i] >= '0' && s.p[i] <= '9') || (c >= 'a' && c <= 'f');
        if (hyphen ? s.p[i] != '-' : !hex)
            return false;
    }
    return true;
}

size_t
kt_code_points(struct kt_str s)
{
    size_t count = 0;
    for (size_t i = 0; i < s.n; i++)
        count += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return count;
}

static const char b64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t
kt_b64url_encode(const void *bytes, size_t n, char *buf)
{
    const unsigned char *in = bytes;
    size_t out = 0;
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | in[i];
        for (have += 8; have >= 6; have -= 6)
            buf[out++] = b64url[bits >> (have - 6) & 63];
    }
    if (have > 0)
        buf[out++] = b64url[bits << (6 - have) & 63];
    buf[out] = '\0';
    return out;
}

static int
b64url_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '-')
        return 62;
    return c == '_' ? 63 : -1;
}

bool
kt_b64url_decode(struct kt_str s, void *buf, size_t cap, size_t *ret_n)
{
    unsigned char *to = buf;
    size_t n = s.n / 4 * 3 + (s.n % 4 == 0 ? 0 : s.n % 4 - 1);
    if (s.n % 4 == 1 || n > cap)
        return false;
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0, out = 0; i < s.n; i++) {
        int value = b64url_value(s.p[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            to[out++] = (unsigned char)(bits >> have & 255);
        }
    }
    if ((bits & ((1U << have) - 1)) != 0)
        return false;
    *ret_n = n;
    return true;
}
