/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The index, filled from the store at start. */
#ifndef LOAD_H
#define LOAD_H

#include "daemon/call.h"
#include "daemon/index.h"

struct endings;

enum { LOAD_THREADS_MAX = 16 };

/* Fills the empty index: accounts, then digests, then when they were last used, these two by so
 * many threads (1 to LOAD_THREADS_MAX), each with a part of the space. Of a store that others
 * write, too, tokens are left out whose account is not there: it may just have been made. What is
 * revoked is noted in endings (NULL allowed), and what is alive although the journal has it dead,
 * or unknown to its token's row although that row's secret was replaced. Before anybody believes
 * the index. 0 or a kind; the log says why. */
int load_index(struct call *, struct index *, struct endings *, size_t threads)
    __attribute__((warn_unused_result));

#endif
