/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/speech.h"

#include <stdlib.h>
#include <string.h>

/* HTTP/1.1 over connections that stay open. */

static char *
put_literal(char *at, const char *text)
{
    return put(at, text, strlen(text));
}

/* The value of Content-Length among a whole head. */
static size_t
length_of(const char *head, size_t n)
{
    static const char name[] = "\r\nContent-Length: ";
    const char *found = memmem(head, n, name, sizeof name - 1);
    if (!found)
        die("http: an answer without Content-Length");
    return strtoul(found + sizeof name - 1, NULL, 10);
}

/* Length of the whole answer, 0 while it is not there; -1: another status. */
static ssize_t
whole(const char *p, size_t n, const char *status)
{
    const char *end = memmem(p, n, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (memcmp(p, "HTTP/1.1 ", 9) != 0 || memcmp(p + 9, status, 3) != 0)
        return -1;
    size_t head = (size_t)(end - p) + 4, body = length_of(p, head);
    return n < head + body ? 0 : (ssize_t)(head + body);
}

/* --- /tokens/validate: keys are tokens ---------------------------------------------------- */

static size_t
ask_validate(struct talk *t, char *out)
{
    char *at = put_literal(out, "GET /tokens/validate HTTP/1.1\r\nHost: bench\r\n"
                                "Authorization: Bearer ");
    at = put(at, talk_key(t), t->key_width);
    at = put(at, "\r\n\r\n", 4);
    t->asked++;
    return (size_t)(at - out);
}

static ssize_t
hear_validated(struct talk *t, const char *p, size_t n)
{
    (void)t;
    static const char bearer[] = "\r\nAuthorization: Bearer ey";
    ssize_t len = whole(p, n, "200");
    if (len <= 0)
        return len;
    return memmem(p, (size_t)len, bearer, sizeof bearer - 1) ? len : -1;
}

const struct speech speech_http_validate = {
    .name = "http-validate",
    .ask = ask_validate,
    .hear = hear_validated,
};

/* --- POST …/tokens: keys are slugs of accounts -------------------------------------------- */

static size_t
ask_mint(struct talk *t, char *out)
{
    char name[2 + 16] = "t-", body[256];
    put_hex(name + 2, talk_number(t));
    int n = snprintf(body, sizeof body,
                     "{\"name\":\"%.18s\",\"slug\":\"%.18s\",\"scopes\":[\"read:instances\"]}", name,
                     name);
    char *at = put_literal(out, "POST /service-accounts/");
    at = put(at, talk_key(t), t->key_width);
    at = put_literal(at, "/tokens HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer ");
    at = put(at, t->bearer, t->bearer_n);
    at += sprintf(at, "\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", n);
    at = put(at, body, (size_t)n);
    t->asked++;
    return (size_t)(at - out);
}

static ssize_t
hear_minted(struct talk *t, const char *p, size_t n)
{
    (void)t;
    static const char token[] = "\"token\":\"ksh_";
    ssize_t len = whole(p, n, "201");
    if (len <= 0)
        return len;
    return memmem(p, (size_t)len, token, sizeof token - 1) ? len : -1;
}

const struct speech speech_http_mint = {
    .name = "http-mint",
    .ask = ask_mint,
    .hear = hear_minted,
};
