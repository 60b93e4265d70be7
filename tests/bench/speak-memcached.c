/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/speech.h"

#include <string.h>

/* The text protocol; keys and values are those of redis. */

enum { KEY = 40, VALUE = 200 };

static size_t
ask_get(struct talk *t, char *out)
{
    char *at = put(put(put(out, "get ", 4), talk_key(t), KEY), "\r\n", 2);
    t->asked++;
    return (size_t)(at - out);
}

/* VALUE key 0 200, the value, END. */
static ssize_t
hear_value(struct talk *t, const char *p, size_t n)
{
    (void)t;
    enum { HEAD = 6 + KEY + 8, ALL = HEAD + VALUE + 2 + 5 };
    if (memcmp(p, "VALUE ", n < 6 ? n : 6) != 0)
        return -1;
    if (n < ALL)
        return 0;
    bool good = memcmp(p + 6 + KEY, " 0 200\r\n", 8) == 0 &&
                memcmp(p + ALL - 7, "\r\nEND\r\n", 7) == 0;
    return good ? ALL : -1;
}

const struct speech speech_memcached_get = {
    .name = "memcached-get",
    .ask = ask_get,
    .hear = hear_value,
};

static size_t
ask_set(struct talk *t, char *out)
{
    const char *key = talk_key(t);
    char *at = put(put(put(out, "set ", 4), key, KEY), " 0 0 200\r\n", 10);
    for (int i = 0; i < VALUE; i++)
        *at++ = key[i % KEY];
    at = put(at, "\r\n", 2);
    t->asked++;
    return (size_t)(at - out);
}

static ssize_t
hear_stored(struct talk *t, const char *p, size_t n)
{
    (void)t;
    if (memcmp(p, "STORED\r\n", n < 8 ? n : 8) != 0)
        return -1;
    return n < 8 ? 0 : 8;
}

const struct speech speech_memcached_set = {
    .name = "memcached-set",
    .ask = ask_set,
    .hear = hear_stored,
};
