/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Method and path, or method name -> operation: built from the table at start. */
#ifndef ROUTE_H
#define ROUTE_H

#include "daemon/request.h"

/* Once, before the first request; main thread. */
void route_init(void);

enum route_result {
    ROUTE_FOUND = 0,
    ROUTE_UNKNOWN,  /* no such path or name */
    ROUTE_METHOD,   /* the path is there, with other methods */
    ROUTE_BAD_PATH, /* percent-encoding or characters that no path may have */
    ROUTE_NO_MEMORY /* the arena is used up */
};

enum { ROUTE_PARAMS_MAX = 2 };

/* Where a method and a path lead. */
struct route {
    const struct kt_op_spec *spec;            /* ROUTE_FOUND */
    struct kt_param params[ROUTE_PARAMS_MAX]; /* the same: those of the path, decoded */
    size_t nparams;
    struct kt_str allow; /* ROUTE_METHOD: the methods of the path, as a list */
};

/* An HTTP request. Served with and without the prefix /api, and a slash at the end. arena NULL:
 * only the operation is asked for, and the other members stay as they are. */
enum route_result route_http(struct kt_str method, struct kt_str path, struct kt_arena *arena,
                             struct route *ret);

/* A name on the socket, or NULL. */
const struct kt_op_spec *route_name(struct kt_str name);

#endif
