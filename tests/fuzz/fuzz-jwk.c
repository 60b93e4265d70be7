/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* JSON Web Keys and sets of them, of every origin that there is. */
#include "config.h"

#include "plugins/auth-jwt/jwk.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_key(const struct key *key, const struct jwk_origin *origin)
{
    struct key_why why;
    if (!key->alg || (key->kid && (!*key->kid || strlen(key->kid) > KEY_KID_MAX)))
        abort();
    if (key->alg->family != KEY_HMAC) {
        if (!key->pkey || key->secret || !key_check_pkey(key->pkey, key->alg, &why))
            abort();
        return;
    }
    if (key->pkey || key->nsecret < key->alg->secret_min || key->nsecret > KEY_SECRET_MAX)
        abort();
    if ((origin->flags & KEY_PUBLIC) || (origin->mode & 077))
        abort();
}

/* Key ids are unique, but where one key stands for several algorithms. */
static void
check_ids(const struct key_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        for (size_t k = 0; k < i; k++)
            if (set->v[i].kid && set->v[k].kid && strcmp(set->v[i].kid, set->v[k].kid) == 0)
                abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct jwk_origin origins[] = {
        { .name = "file", .mode = 0600 },
        { .name = "open file", .mode = 0644, .alg = key_alg_find("PS256", 5) },
        { .name = "tool", .flags = KEY_ANY_MODE | KEY_ANY_ALG },
        { .name = "address", .flags = KEY_PUBLIC },
    };
    for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++) {
        struct key_set set = { 0 };
        struct key_why why = { "" };
        bool good = jwk_read(&set, (const char *)data, n, &origins[i], &why);
        if (good != (set.n > 0) || (!good && !why.text[0]) || set.n > KEY_SET_MAX)
            abort();
        for (size_t k = 0; k < set.n; k++)
            check_key(&set.v[k], &origins[i]);
        if (!(origins[i].flags & KEY_ANY_ALG))
            check_ids(&set);
        key_set_done(&set);
    }
    return 0;
}
