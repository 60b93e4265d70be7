/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Asks kaitend's own guard about the signature of one token, whatever its payload:
 *
 *     jws-check KEY.json TOKEN
 *
 * Is the token signed by that JWK, or by one of that JWK Set? TOKEN - reads standard input. A key
 * that names no algorithm stands for each one of its type here; kaitend itself gives it one. Exit
 * status: 0 yes, 1 no, 2 wrong usage. */
#include "config.h"

#include "plugins/auth-jwt/jwk.h"
#include "plugins/auth-jwt/jws.h"

#include "tests/tools/say.h"

#include <string.h>

static int
no(const char *what, const char *why)
{
    (void)printf("no: %s: %s\n", what, why);
    return 1;
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

int
main(int argc, char **argv)
{
    static char input[JWS_TEXT_MAX + 2]; /* one byte more than allowed tells "too long" */
    if (argc != 3 || (argv[1][0] == '-' && argv[1][1])) {
        (void)fprintf(stderr, "usage: jws-check KEY.json TOKEN\n");
        return 2;
    }
    const char *token = argv[2];
    size_t n = strlen(token);
    if (strcmp(token, "-") == 0) {
        n = fread(input, 1, sizeof(input) - 1, stdin);
        token = input;
    }
    struct key_set keys = { 0 };
    struct key_why why = { "" };
    int rc = jwk_read_file(&keys, argv[1], NULL, KEY_ANY_MODE | KEY_ANY_ALG, say, &why)
                 ? check_token(&keys, token, n)
                 : no("key", why.text);
    key_set_done(&keys);
    return rc;
}
