/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Rows of tokens as the store's format 1 had them, in both its forms: the keyed one knows the key
 * that a digest was made with, the one before it does not. In the arena; p NULL: no memory. */
#ifndef FORMAT1_H
#define FORMAT1_H

#include "daemon/model/token.h"
#include "daemon/model/verdict.h"

struct kt_str format1_token(struct kt_arena *, const struct token_record *, bool keyed);
struct kt_str format1_verdict(struct kt_arena *, const struct verdict_record *, bool keyed);

/* The key under which the token held its slug ('s') or its name ('n'). */
struct kt_str format1_claim(struct kt_arena *, const struct uuid *org, const struct token_record *,
                            char kind);

#endif
