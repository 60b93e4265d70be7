/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/speech.h"

#include <string.h>

/* MessagePack-RPC, by hand: the generator shares the processors with what it measures. */

static uint64_t
big_endian(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

/* What one header says: bytes up to the next value, and how many values are inside this one. */
struct head {
    size_t bytes;
    uint64_t values;
};

static struct head
sized(const unsigned char *p, size_t n, size_t width, size_t more)
{
    if (n < 1 + width)
        return (struct head){ SIZE_MAX, 0 };
    return (struct head){ 1 + width + more + (size_t)big_endian(p + 1, width), 0 };
}

static struct head
counted(const unsigned char *p, size_t n, size_t width, unsigned times)
{
    if (n < 1 + width)
        return (struct head){ SIZE_MAX, 0 };
    return (struct head){ 1 + width, times * big_endian(p + 1, width) };
}

static struct head
head(const unsigned char *p, size_t n)
{
    static const unsigned char fixed[] = { 5, 9, 2, 3, 5, 9, 2, 3, 5, 9, 3, 4, 6, 10, 18 };
    unsigned char c = p[0];
    if (c <= 0x7f || c >= 0xe0)
        return (struct head){ 1, 0 };
    if (c <= 0x8f)
        return (struct head){ 1, 2 * (c & 15u) };
    if (c <= 0x9f)
        return (struct head){ 1, c & 15u };
    if (c <= 0xbf)
        return (struct head){ 1 + (c & 31u), 0 };
    if (c <= 0xc3)
        return (struct head){ 1, 0 };
    if (c <= 0xc6)
        return sized(p, n, (size_t)1 << (c - 0xc4), 0);
    if (c <= 0xc9)
        return sized(p, n, (size_t)1 << (c - 0xc7), 1);
    if (c <= 0xd8)
        return (struct head){ fixed[c - 0xca], 0 };
    if (c <= 0xdb)
        return sized(p, n, (size_t)1 << (c - 0xd9), 0);
    return counted(p, n, c & 1 ? 4 : 2, c >= 0xde ? 2 : 1);
}

/* Length of the value at p; 0: it is not whole. */
static size_t
skip(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t at = 0;
    for (uint64_t left = 1; left > 0; left--) {
        if (at >= n)
            return 0;
        struct head h = head(p + at, n - at);
        if (h.bytes > n - at)
            return 0;
        at += h.bytes;
        left += h.values;
    }
    return at;
}

/* Where the result of a good answer begins; 0: it is a refusal, or no answer. */
static size_t
result_of(const char *p, size_t n)
{
    if (n < 5 || memcmp(p, "\x94\x01", 2) != 0)
        return 0;
    size_t id = skip(p + 2, n - 2);
    return id != 0 && p[2 + id] == '\xc0' ? 2 + id + 1 : 0;
}

static char *
put_request(struct talk *t, char *at, const char *method)
{
    size_t n = strlen(method);
    uint32_t id = (uint32_t)t->asked++;
    at = put(at, "\x94\x00\xce", 3);
    for (int shift = 24; shift >= 0; shift -= 8)
        *at++ = (char)(id >> shift);
    *at++ = (char)(0xa0 | n);
    at = put(at, method, n);
    return put(at, "\x91", 1);
}

static char *
put_text(char *at, const char *p, size_t n)
{
    *at++ = '\xd9';
    *at++ = (char)n;
    return put(at, p, n);
}

static char *
put_member(char *at, const char *name)
{
    size_t n = strlen(name);
    *at++ = (char)(0xa0 | n);
    return put(at, name, n);
}

/* --- token.verify ------------------------------------------------------------------------- */

static size_t
ask_verify(struct talk *t, char *out)
{
    char *at = put_request(t, out, "token.verify");
    at = put(at, "\x81", 1);
    at = put_member(at, "token");
    at = put_text(at, talk_key(t), t->key_width);
    return (size_t)(at - out);
}

static ssize_t
hear_verdict(struct talk *t, const char *p, size_t n)
{
    (void)t;
    static const char valid[] = "\xa5valid\xc3";
    size_t len = skip(p, n);
    if (len == 0)
        return 0;
    size_t at = result_of(p, len);
    return at != 0 && memmem(p + at, len - at, valid, sizeof valid - 1) ? (ssize_t)len : -1;
}

const struct speech speech_kaiten_verify = {
    .name = "kaiten-verify",
    .ask = ask_verify,
    .hear = hear_verdict,
};

/* Any verdict is an answer: for a load beside which tokens die. */
static ssize_t
hear_any(struct talk *t, const char *p, size_t n)
{
    (void)t;
    size_t len = skip(p, n);
    return len != 0 && result_of(p, len) == 0 ? -1 : (ssize_t)len;
}

const struct speech speech_kaiten_judge = {
    .name = "kaiten-judge",
    .ask = ask_verify,
    .hear = hear_any,
};

static ssize_t
hear_revoked(struct talk *t, const char *p, size_t n)
{
    (void)t;
    static const char revoked[] = "\xa7revoked";
    size_t len = skip(p, n);
    return len == 0 || memmem(p, len, revoked, sizeof revoked - 1) ? (ssize_t)len : -1;
}

const struct speech speech_kaiten_dead = {
    .name = "kaiten-dead",
    .ask = ask_verify,
    .hear = hear_revoked,
};

/* --- token.verifyMany --------------------------------------------------------------------- */

static size_t
ask_verify_many(struct talk *t, char *out)
{
    char *at = put_request(t, out, "token.verifyMany");
    at = put(at, "\x81", 1);
    at = put_member(at, "tokens");
    *at++ = '\xdc';
    *at++ = 0;
    *at++ = SPEECH_MANY;
    for (int i = 0; i < SPEECH_MANY; i++)
        at = put_text(at, talk_key(t), t->key_width);
    return (size_t)(at - out);
}

static ssize_t
hear_verdicts(struct talk *t, const char *p, size_t n)
{
    (void)t;
    static const char valid[] = "\xa5valid\xc3";
    size_t len = skip(p, n), good = 0;
    const char *at = p;
    while (len != 0 && (at = memmem(at, len - (size_t)(at - p), valid, sizeof valid - 1))) {
        at += sizeof valid - 1;
        good++;
    }
    return len == 0 || good == SPEECH_MANY ? (ssize_t)len : -1;
}

const struct speech speech_kaiten_verify_many = {
    .name = "kaiten-verify-many",
    .ask = ask_verify_many,
    .hear = hear_verdicts,
    .units = SPEECH_MANY,
};

/* --- token.revokeAll: keys are slugs of accounts ------------------------------------------ */

static size_t
ask_revoke_all(struct talk *t, char *out)
{
    char *at = put_request(t, out, "token.revokeAll");
    at = put(at, "\x81", 1);
    at = put_member(at, "serviceAccountSlug");
    at = put_text(at, talk_key(t), t->key_width);
    return (size_t)(at - out);
}

const struct speech speech_kaiten_revoke_all = {
    .name = "kaiten-revoke-all",
    .ask = ask_revoke_all,
    .hear = hear_any,
};

/* --- token.create: keys are slugs of accounts --------------------------------------------- */

static size_t
ask_mint(struct talk *t, char *out)
{
    char name[2 + 16] = "t-";
    put_hex(name + 2, talk_number(t));
    char *at = put_request(t, out, "token.create");
    at = put(at, "\x84", 1);
    at = put_member(at, "serviceAccountSlug");
    at = put_text(at, talk_key(t), t->key_width);
    at = put_member(at, "name");
    at = put_text(at, name, sizeof name);
    at = put_member(at, "slug");
    at = put_text(at, name, sizeof name);
    at = put_member(at, "scopes");
    at = put(at, "\x91", 1);
    at = put_text(at, "read:instances", 14);
    return (size_t)(at - out);
}

static ssize_t
hear_secret(struct talk *t, const char *p, size_t n)
{
    static const char token[] = "\xa5token\xd9\x24ksh_";
    size_t len = skip(p, n);
    if (len == 0)
        return 0;
    size_t at = result_of(p, len);
    const char *found = at != 0 ? memmem(p + at, len - at, token, sizeof token - 1) : NULL;
    if (!found)
        return -1;
    if (t->save && fwrite(found + 8, 36, 1, t->save) != 1)
        die("cannot save the tokens");
    return (ssize_t)len;
}

const struct speech speech_kaiten_mint = {
    .name = "kaiten-mint",
    .ask = ask_mint,
    .hear = hear_secret,
};
