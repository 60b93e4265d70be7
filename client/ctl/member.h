/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* --field: one member of an answer alone. */
#ifndef CTL_MEMBER_H
#define CTL_MEMBER_H

#include "client/ctl/verb.h"
#include "client/proto/buf.h"
#include "client/proto/value.h"

/* Before anything is asked for: whether the verb's answer can have this member. 0, or CTL_USAGE and
 * it was said what is wrong. */
int member_check(const struct verb *, const char *name);

/* The member on a line of its own, of a page that of each item; empty lines where it is absent. */
void member_print(struct kt_buf *, const struct kt_value *answer, const char *name);

#endif
