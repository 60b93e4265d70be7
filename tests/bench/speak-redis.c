/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/speech.h"

#include <stdlib.h>
#include <string.h>

/* RESP; a value is as long as the answer to token.verify. */

enum { VALUE = 200 };

static char *
put_word(char *at, const char *p, size_t n)
{
    at += sprintf(at, "$%zu\r\n", n);
    at = put(at, p, n);
    return put(at, "\r\n", 2);
}

static size_t
ask_get(struct talk *t, char *out)
{
    /* The length is fixed, so it is not printed anew a million times. */
    char *at = put(out, "*2\r\n$3\r\nGET\r\n$40\r\n", 18);
    at = put(at, talk_key(t), 40);
    at = put(at, "\r\n", 2);
    t->asked++;
    return (size_t)(at - out);
}

static ssize_t
hear_value(struct talk *t, const char *p, size_t n)
{
    (void)t;
    static const char head[] = "$200\r\n";
    size_t known = sizeof head - 1;
    if (memcmp(p, head, n < known ? n : known) != 0)
        return -1;
    return n < known + VALUE + 2 ? 0 : (ssize_t)(known + VALUE + 2);
}

const struct speech speech_redis_get = {
    .name = "redis-get",
    .ask = ask_get,
    .hear = hear_value,
};

static size_t
ask_set(struct talk *t, char *out)
{
    char value[VALUE];
    const char *key = talk_key(t);
    for (size_t i = 0; i < VALUE; i++)
        value[i] = key[i % t->key_width];
    char *at = put(out, "*3\r\n$3\r\nSET\r\n", 13);
    at = put_word(at, key, t->key_width);
    at = put_word(at, value, sizeof value);
    t->asked++;
    return (size_t)(at - out);
}

static ssize_t
hear_ok(struct talk *t, const char *p, size_t n)
{
    (void)t;
    if (memcmp(p, "+OK\r\n", n < 5 ? n : 5) != 0)
        return -1;
    return n < 5 ? 0 : 5;
}

const struct speech speech_redis_set = {
    .name = "redis-set",
    .ask = ask_set,
    .hear = hear_ok,
};
