/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What a run costs: processor time and memory, of the load generator and of the server. */
#ifndef BENCH_COST_H
#define BENCH_COST_H

#include <sys/types.h>

/* Seconds on a processor of this process and all its threads so far. */
double cost_own_cpu(void);

/* The same of the server and its children: PostgreSQL has one for each connection. pid 0: none. */
double cost_server_cpu(pid_t pid);

/* Bytes of the server that are in memory. Ends the program when that cannot be found out. */
long cost_server_rss(pid_t pid);

#endif
