/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* UUIDs (RFC 9562): derived ones (version 5), time-ordered ones (version 7), and their text. */
#ifndef UUID_H
#define UUID_H

#include "client/proto/str.h"

struct uuid {
    unsigned char b[16];
};

enum {
    UUID_TEXT_MAX = 37,     /* 36 characters and a NUL */
    UUID_EXTERNAL_MAX = 37, /* ksa_, 32 characters and a NUL */
    UUID_TIME_BYTES = 6     /* of version 7: milliseconds since 1970, at the beginning */
};

/* The form 8-4-4-4-12, hexadecimal digits of either case, nothing else; any version. */
bool uuid_parse(struct kt_str, struct uuid *ret);

/* Lower case, NUL-terminated. */
void uuid_print(const struct uuid *, char buf[UUID_TEXT_MAX]);

/* memcmp order: < 0, 0, > 0. */
int uuid_compare(const struct uuid *, const struct uuid *);

/* Version 5 of name in the space ns (RFC 9562 section 5.5). False: no memory. */
bool uuid_v5(const struct uuid *ns, struct kt_str name, struct uuid *ret);

/* Version 7 (RFC 9562 section 6.2, method 2). now_ms: wall clock, milliseconds since 1970, below
 * 2^48. Ids made by one process rise strictly, also when the clock stands still or steps back, and
 * whichever threads make them. */
struct uuid uuid_v7(int64_t now_ms);

/* The ids that every node derives alike: of a person or workload from its subject, of an
 * organization from its external id. The caller has trimmed the text. False: no memory. */
bool uuid_of_user(struct kt_str subject, struct uuid *ret);
bool uuid_of_org(struct kt_str external_id, struct uuid *ret);

/* A fresh public id of a service account: ksa_ and 24 random bytes as base64url. */
void uuid_external_id(char buf[UUID_EXTERNAL_MAX]);

#endif
