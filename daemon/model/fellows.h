/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the daemons of one store agree about, in rows of it:
 *   msigner  the key that all of them sign with
 *   mpurge   when the next pass of purging is due, by whichever of them */
#ifndef FELLOWS_H
#define FELLOWS_H

#include "daemon/call.h"
#include "daemon/store.h"

/* Whether this key (its RFC 7638 thumbprint) is the one; the first daemon decides, and so does one
 * that was told to (accept). *ret_other: the thumbprint of the one that the others have, in the
 * call's arena; p NULL: it is ours. Before the committer starts. 0 or a kind. */
int fellows_check_signer(struct call *, const char *kid, bool accept, struct kt_str *ret_other);

/* What makes the next pass ours, when it is due; *ret stays as it is when it is not. Whoever's
 * batch is committed may begin. 0 or a kind. */
int fellows_propose_pass(struct call *, int64_t interval_ms, struct batch **ret);

#endif
