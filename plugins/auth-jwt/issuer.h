/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Who may sign for callers: each issuer with keys of its own, and what its tokens may say. */
#ifndef AUTH_JWT_ISSUER_H
#define AUTH_JWT_ISSUER_H

#include "plugins/auth-jwt/claims.h"
#include "plugins/auth-jwt/keyring.h"
#include "plugins/kaiten-rate.h"

enum { ISSUERS_MAX = 256 };

struct issuer {
    char *text;      /* its line, cut into words; other members point into it */
    const char *iss; /* NULL: the common one, for issuers without a line */
    struct keyring *ring;
    struct claims_policy policy;
    struct kaiten_rate rate; /* of each caller that it speaks for; zeros: not limited here */
};

/* Read-only after issuers_read(), but for the rings. */
struct issuers {
    struct issuer *v; /* those with keys of their own */
    size_t n;
    struct issuer common;
    struct claims_list organizations; /* all that stand on lines */
};

/* The arguments of open(). */
struct issuers_setup {
    const struct kaiten_host *host;
    const struct kaiten_config *config;
    struct kaiten_err *err;
    struct keyrings *rings;
};

/* Reads the options key, jwks, issuer, audience, org_claim, scope_ceiling, rate and those of times,
 * and every key file. ret starts from zeros and is to be given to issuers_done(), also on failure.
 * False: the error names file, line, option and defect. */
bool issuers_read(const struct issuers_setup *, struct issuers *ret);

/* The issuer that a token with that iss (NULL: none) is to be judged by, or NULL. */
struct issuer *issuers_find(struct issuers *, const char *iss);

void issuers_done(struct issuers *);

#endif
