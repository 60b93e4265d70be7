/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A program that works on the store of a configuration without a daemon, opened as the daemon does:
 * plugins, keys, the revocation journal. */
#ifndef SITE_H
#define SITE_H

#include "daemon/parts.h"

/* Says so and ends the process with 1. */
_Noreturn void die(const char *what, const char *why);

/* *parts: zeros, and an index_guard. Whatever fails ends the process. */
void site_open(struct parts *, const char *conf);
void site_close(struct parts *);

#endif
