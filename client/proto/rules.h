/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Rules of members that input and output have in common: for ops.c and shapes.c. */
#ifndef KT_RULES_H
#define KT_RULES_H

#include "client/proto/check.h"
#include "client/proto/field.h"

enum {
    KT_NAME_LEN_MAX = 1024, /* code points */
    KT_SLUG_LEN_MAX = 100,
    KT_SCOPES_MAX = 256     /* of one token */
};

/* Its checksum is wrong, so that no scanner takes it for one. */
#define KT_SECRET_EXAMPLE "ksh_EXAMPLEexampleEXAMPLEexample0000"

#define KT_SLUG_PATTERN "^[a-z0-9][a-z0-9-]*[a-z0-9]$"
#define KT_SLUG \
    KT_RANGE(2, KT_SLUG_LEN_MAX), .valid = kt_is_slug_chars, .pattern = KT_SLUG_PATTERN, \
    .expected = "expected string to match pattern " KT_SLUG_PATTERN

#endif
