/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The claims of a token whose signature is known to be good, RFC 7519 section 4: judged strictly
 * and turned into what a principal is made of. */
#ifndef AUTH_JWT_CLAIMS_H
#define AUTH_JWT_CLAIMS_H

#include "plugins/kaiten-auth.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

enum {
    CLAIMS_TEXT_MAX = 255,  /* bytes of subject and organization */
    CLAIMS_ISS_MAX = 1024,
    CLAIMS_DETAIL_MAX = 128
};

/* Strings of the configuration; borrowed. */
struct claims_list {
    const char **v;
    size_t n;
};

/* What the operator demands. Times in milliseconds. */
struct claims_policy {
    struct claims_list issuers;    /* none: any issuer, or no iss at all */
    struct claims_list audiences;  /* none: aud is not looked at */
    struct claims_list organizations; /* none: any but those of reserved */
    struct claims_list reserved;   /* organizations that others speak for */
    struct claims_list org_claims; /* names, the first one that is there counts; at least one */
    struct claims_list ceiling;    /* scopes; none: no ceiling */
    const char **ceiling_reads;    /* one for each of ceiling: "read:X" for "write:X", or NULL */
    int64_t leeway_ms;
    int64_t max_lifetime_ms;       /* exp may be that far ahead; 0: any time ahead */
};

/* Strings lie in json and live until claims_done(). */
struct claims {
    cJSON *json;
    const char *subject, *organization;
    const char *name, *email; /* NULL: unknown */
    const char *scopes[KAITEN_SCOPES_MAX];
    size_t nscopes;
    int64_t expires_at_ms;
};

/* Why claims were refused. */
struct claims_defect {
    const char *code;   /* a code of the public contract */
    char detail[CLAIMS_DETAIL_MAX]; /* for the caller: one sentence */
    const char *why;    /* for the log, fixed words */
};

enum claims_outcome {
    CLAIMS_GOOD = 0x6331,
    CLAIMS_REFUSED = 0x6342,
    CLAIMS_NO_MEMORY = 0x6353
};

/* Judges the n bytes of a payload at now_ms, in this order: strict JSON object; exp there, an
 * integer, ahead; nbf and iat not ahead of the leeway; lifetime; iss; aud; sub, organization and
 * scopes. CLAIMS_GOOD fills *ret_claims, to be given to claims_done(); otherwise *ret_defect says
 * why. Any thread. */
enum claims_outcome claims_read(const struct claims_policy *, const char *payload, size_t n,
                                int64_t now_ms, struct claims *ret_claims,
                                struct claims_defect *ret_defect);

/* The iss of a payload whose signature was not verified yet, to choose the keys for that: copied
 * into out, which has CLAIMS_ISS_MAX + 1 bytes. False: it is not a strict object with an iss of 1
 * to CLAIMS_ISS_MAX bytes. Any thread. */
bool claims_peek_issuer(const char *payload, size_t n, char *out);

/* Wipes and frees. */
void claims_done(struct claims *);

/* Do the held scopes grant the wanted one? Exact match; write:* grants everything; read:* grants
 * what starts with read:; write:X grants read:X. */
bool claims_scope_covers(const char *const *held, size_t n, const char *wanted);

#endif
