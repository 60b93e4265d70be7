/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* One command, from its arguments to its exit code. */
#ifndef CTL_RUN_H
#define CTL_RUN_H

#include "client/ctl/args.h"

/* Does what the command line says; returns the exit code. */
int run(const struct args *);

#endif
