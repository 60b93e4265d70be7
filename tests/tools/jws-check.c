/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Asks kaitend's own guard about one signed token, whatever its payload, or about a file of keys:
 *
 *     jws-check KEY.json TOKEN     is the token signed by that JWK or JWK Set? TOKEN - reads stdin.
 *     jws-check --keys FILE        would kaitend take this JWK or JWK Set?
 *
 * Exit status: 0 yes, 1 no, 2 wrong usage. */
#include "config.h"

#include "plugins/auth-jwt/jws.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void say(enum kaiten_level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
say(enum kaiten_level level, const char *fmt, ...)
{
    va_list ap;
    (void)level;
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
}

static int
no(const char *what, const char *why)
{
    (void)printf("no: %s: %s\n", what, why);
    return 1;
}

static int
check_keys(const char *path)
{
    struct key_set keys = { 0 };
    struct key_why why = { "" };
    if (!key_set_add_jwks(&keys, path, 0, say, &why)) {
        key_set_done(&keys);
        return no("keys", why.text);
    }
    (void)printf("yes: %zu usable\n", keys.n);
    for (size_t i = 0; i < keys.n; i++)
        (void)printf("%s %s\n", keys.v[i].alg->name, keys.v[i].kid ? keys.v[i].kid : "-");
    key_set_done(&keys);
    return 0;
}

static int
check_token(const struct key_set *keys, const char *text, size_t n)
{
    struct jws jws;
    const char *why = "";
    if (jws_parse(text, n, &jws, &why) != JWS_GOOD)
        return no("token", why);
    if (jws_verify(&jws, keys, &why) != JWS_GOOD)
        return no("token", why);
    unsigned char payload[BASE64URL_ROOM(JWS_TEXT_MAX)];
    size_t npayload;
    if (!jws_payload(&jws, payload, &npayload))
        return no("token", "the payload is not base64url");
    (void)printf("yes: %s, %zu bytes of payload\n", jws.alg->name, npayload);
    return 0;
}

static int
check_signature(const char *path, const char *token)
{
    static char input[JWS_TEXT_MAX + 2]; /* one byte more than allowed tells "too long" */
    size_t n = strlen(token);
    if (strcmp(token, "-") == 0) {
        n = fread(input, 1, sizeof(input) - 1, stdin);
        token = input;
    }
    struct key_set keys = { 0 };
    struct key_why why = { "" };
    int rc = key_set_add_jwks(&keys, path, KEY_ANY_MODE, say, &why) ? check_token(&keys, token, n)
                                                                    : no("key", why.text);
    key_set_done(&keys);
    return rc;
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--keys") == 0)
        return check_keys(argv[2]);
    if (argc == 3 && argv[1][0] != '-')
        return check_signature(argv[1], argv[2]);
    (void)fprintf(stderr, "usage: jws-check KEY.json TOKEN\n       jws-check --keys FILE\n");
    return 2;
}
