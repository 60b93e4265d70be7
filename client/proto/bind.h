/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* From what came over the wire to a typed struct, by the field table; all violations are
 * collected. */
#ifndef KT_BIND_H
#define KT_BIND_H

#include "client/proto/error.h"
#include "client/proto/field.h"

/* A path or query parameter, decoded. */
struct kt_param {
    struct kt_str name, value;
};

struct kt_params {
    const struct kt_value *body; /* the object; NULL when there is none */
    const struct kt_param *path, *query;
    size_t npath, nquery;
    struct kt_str text; /* HTTP: the body as it came; p NULL: it may not be shown again */
    bool flat; /* socket: path and query parameters are members of the body too */
};

/* Fills *out (shape->size bytes) from params. Violations are collected in the order of the
 * contract: parameters first, then members by name, then what was not expected. Views point into
 * params. 0, or KT_UNPROCESSABLE with err filled (kind, detail, fields). Any thread. */
int kt_bind(const struct kt_shape *shape, const struct kt_params *params, struct kt_arena *,
            void *out, struct kt_error *err) __attribute__((warn_unused_result));

/* The other direction, for clients: fills *out from an answer. Members that the shape does not
 * know are ignored, absent ones are absent. Secrets become counted blobs that the caller unrefs.
 * False: some member has another type than the table says. */
bool kt_bind_answer(const struct kt_shape *shape, const struct kt_value *answer, struct kt_arena *,
                    void *out);

#endif
