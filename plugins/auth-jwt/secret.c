/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/secret.h"

#include "plugins/auth-jwt/key.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "plugins/auth-jwt/secret-table.h"

/* 32 random digits hold fewer than 5 different ones once in 10^9; random bytes hold 30 or so. */
enum { DISTINCT_MIN = 5 };

/* Secrets of tutorials and of generators of sample tokens that are long enough to pass for real
 * ones; compared without regard to letter case. */
static const char *const known[] = {
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-384-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
    "586E3272357538782F413F4428472B4B6250655368566B597033733676397924",
    "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b",
    "9a4f2c8d3b7a1e6f45c8a0b3f267d8b1d4e6f3c8a9d2b5f8e3a9c8b5f6v8a3d9",
    "======================BezKoder=Spring===========================",
    "my-32-character-ultra-secure-and-ultra-long-secret",
};

static int
compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* By its fingerprint, in lower case, so that the secrets of others do not stand in this code. */
static bool
is_published(const unsigned char *p, size_t n)
{
    unsigned char lower[KEY_SECRET_MAX], digest[SHA256_DIGEST_LENGTH];
    uint64_t print = 0;
    if (n > sizeof(lower))
        return false;
    for (size_t i = 0; i < n; i++)
        lower[i] = p[i] >= 'A' && p[i] <= 'Z' ? (unsigned char)(p[i] | 0x20) : p[i];
    bool digested = SHA256(lower, n, digest) != NULL;
    OPENSSL_cleanse(lower, n);
    for (size_t i = 0; i < sizeof(print); i++)
        print = print << 8 | digest[i];
    return digested && bsearch(&print, published, sizeof(published) / sizeof(published[0]),
                               sizeof(published[0]), compare);
}

static bool
is_known(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strlen(known[i]) == n && strncasecmp(known[i], (const char *)p, n) == 0)
            return true;
    return is_published(p, n);
}

static size_t
count_distinct(const unsigned char *p, size_t n)
{
    bool seen[256] = { false };
    size_t distinct = 0;
    for (size_t i = 0; i < n; i++) {
        distinct += !seen[p[i]];
        seen[p[i]] = true;
    }
    return distinct;
}

/* Is it a shorter piece over and over? The last one may be cut. */
static bool
repeats(const unsigned char *p, size_t n)
{
    for (size_t period = 1; period <= n / 2; period++)
        if (memcmp(p, p + period, n - period) == 0)
            return true;
    return false;
}

/* Do most bytes follow from the one before: the same one, its neighbour, or a fixed step? */
static bool
counts(const unsigned char *p, size_t n)
{
    size_t steps[256] = { 0 }, near = 0;
    for (size_t i = 1; i < n; i++) {
        unsigned char step = (unsigned char)(p[i] - p[i - 1]);
        steps[step]++;
        near += step <= 1 || step == 0xff;
        if (steps[step] * 2 > n)
            return true;
    }
    return near * 4 > n * 3;
}

bool
secret_is_weak(const unsigned char *p, size_t n, const char **ret_why)
{
    if (count_distinct(p, n) < DISTINCT_MIN)
        *ret_why = "it has fewer than 5 different bytes";
    else if (repeats(p, n))
        *ret_why = "it is a shorter piece, repeated";
    else if (counts(p, n))
        *ret_why = "its bytes follow one another";
    else if (is_known(p, n))
        *ret_why = "it is known from published examples";
    else
        return false;
    return true;
}
