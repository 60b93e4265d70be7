/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Asks kaitend's own reader of keys about a JWK or a JWK Set:
 *
 *     jwk-check [-m] FILE
 *
 * Would kaitend take what is in it? With -m, the file's mode counts too: kaitend refuses secrets and
 * private keys in a file that others may read. Says which keys are usable; what is left out or wrong
 * goes to standard error. Exit status: 0 yes, 1 no, 2 wrong usage. */
#include "config.h"

#include "plugins/auth-jwt/jwk.h"

#include "tests/tools/say.h"

#include <string.h>

int
main(int argc, char **argv)
{
    bool mode = argc == 3 && strcmp(argv[1], "-m") == 0;
    if (!mode && (argc != 2 || argv[1][0] == '-')) {
        (void)fprintf(stderr, "usage: jwk-check [-m] FILE\n");
        return 2;
    }
    struct key_set keys = { 0 };
    struct key_why why = { "" };
    if (!jwk_read_file(&keys, argv[argc - 1], NULL, mode ? 0 : KEY_ANY_MODE, say, &why)) {
        say(KAITEN_LOG_ERROR, "no: %s", why.text);
        return 1;
    }
    (void)printf("yes: %zu usable\n", keys.n);
    for (size_t i = 0; i < keys.n; i++)
        (void)printf("%s %s\n", keys.v[i].alg->name, keys.v[i].kid ? keys.v[i].kid : "-");
    key_set_done(&keys);
    return 0;
}
