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
    ROUTE_METHOD,   /* the path is there, with other methods: *ret_allow lists them */
    ROUTE_BAD_PATH, /* percent-encoding or characters that no path may have */
    ROUTE_NO_MEMORY /* the arena is used up */
};

/* An HTTP request. Served with and without the prefix /api, and a slash at the end. Path parameters
 * are decoded into the arena when arena is not NULL. */
enum route_result route_http(struct kt_str method, struct kt_str path, struct kt_arena *arena,
                             const struct kt_op_spec **ret_spec, struct kt_param params[2],
                             size_t *ret_nparams, struct kt_str *ret_allow);

/* A name on the socket, or NULL. */
const struct kt_op_spec *route_name(struct kt_str name);

#endif
