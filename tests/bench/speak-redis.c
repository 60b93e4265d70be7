/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/speech.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
ask_mget(struct talk *t, char *out)
{
    char *at = out + sprintf(out, "*%d\r\n$4\r\nMGET\r\n", 1 + SPEECH_MANY);
    for (int i = 0; i < SPEECH_MANY; i++) {
        at = put(at, "$40\r\n", 5);
        at = put(at, talk_key(t), 40);
        at = put(at, "\r\n", 2);
    }
    t->asked++;
    return (size_t)(at - out);
}

/* All are hits, so the length is known. */
static ssize_t
hear_values(struct talk *t, const char *p, size_t n)
{
    static const char head[] = "*64\r\n";
    size_t at = sizeof head - 1;
    _Static_assert(SPEECH_MANY == 64, "as the head says");
    if (memcmp(p, head, n < at ? n : at) != 0)
        return -1;
    if (n < at + SPEECH_MANY * (size_t)(6 + VALUE + 2))
        return 0;
    for (int i = 0; i < SPEECH_MANY; i++) {
        ssize_t len = hear_value(t, p + at, n - at);
        if (len <= 0)
            return -1;
        at += (size_t)len;
    }
    return (ssize_t)at;
}

const struct speech speech_redis_mget = {
    .name = "redis-mget",
    .ask = ask_mget,
    .hear = hear_values,
    .units = SPEECH_MANY,
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

/* --- minting: keys are slugs of accounts -------------------------------------------------- */

/* The same job as token.create, less its hardest part: secret and digest come from here, at no
 * cost. The account is there, and neither slug nor name nor digest is taken, or nothing is done. */
static const char script[] =
    "if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('no account') end "
    "if redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[5]) > 0 then "
    "return redis.error_reply('taken') end "
    "redis.call('SET', KEYS[2], ARGV[1], 'NX') redis.call('SET', KEYS[3], ARGV[1], 'NX') "
    "redis.call('SET', KEYS[4], ARGV[2], 'NX') redis.call('SET', KEYS[5], ARGV[3], 'NX') "
    "return redis.status_reply('OK')";

enum { SHA = 40, ROW = 300, VERDICT = 110 };

static char sha[SHA];

/* The account's key is set beforehand, once for all: the slug is part of the others alone. */
static void
greet(int fd)
{
    char buf[SPEECH_ASK_MAX];
    char *at = buf + sprintf(buf, "*3\r\n$3\r\nSET\r\n$7\r\naccount\r\n$1\r\n1\r\n"
                                  "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n");
    at = put_word(at, script, sizeof script - 1);
    if (send(fd, buf, (size_t)(at - buf), MSG_NOSIGNAL) != at - buf)
        die("redis: cannot send: %s", strerror(errno));
    size_t n = 0, all = 5 + 5 + SHA + 2;
    while (n < all) {
        ssize_t got = read(fd, buf + n, all - n);
        if (got <= 0)
            die("redis: the connection ended");
        n += (size_t)got;
    }
    if (memcmp(buf, "+OK\r\n$40\r\n", 10) != 0)
        die("redis: %.*s", (int)n, buf);
    memcpy(sha, buf + 10, SHA);
}

static char *
put_key(char *at, const char *prefix, const char *slug, size_t n, uint64_t number)
{
    char key[300];
    char *end = put(put(key, prefix, 2), slug, n);
    end = put_hex(end, number);
    return put_word(at, key, (size_t)(end - key));
}

static size_t
ask_mint(struct talk *t, char *out)
{
    static const char blank[ROW];
    uint64_t number = talk_number(t);
    const char *slug = talk_key(t);
    char *at = put(out, "*11\r\n$7\r\nEVALSHA\r\n", 18);
    at = put_word(at, sha, SHA);
    at = put(at, "$1\r\n5\r\n$7\r\naccount\r\n", 20);
    at = put_key(at, "s:", slug, t->key_width, number);
    at = put_key(at, "n:", slug, t->key_width, number);
    at = put_key(at, "t:", slug, t->key_width, number);
    /* Digests come in no order. */
    at = put_key(at, "h:", slug, 0, number * 0x9E3779B97F4A7C15);
    at = put_word(at, blank, 16);
    at = put_word(at, blank, ROW);
    at = put_word(at, blank, VERDICT);
    t->asked++;
    return (size_t)(at - out);
}

const struct speech speech_redis_mint = {
    .name = "redis-mint",
    .greet = greet,
    .ask = ask_mint,
    .hear = hear_ok,
};
