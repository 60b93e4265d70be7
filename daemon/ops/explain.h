/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the operation table says of an operation, for whoever prints documents of it: how it can be
 * refused, which objects it speaks of, and examples of all that. Pure functions, any thread. */
#ifndef EXPLAIN_H
#define EXPLAIN_H

#include "client/proto/buf.h"
#include "client/proto/ops.h"

enum {
    EXPLAIN_ERRORS_MAX = 32, /* of one operation */
    EXPLAIN_SHAPES_MAX = 32,
    EXPLAIN_DETAIL_MAX = 128 /* bytes of a text that has to be made */
};

/* Operations that are shown together: those whose names begin with prefix, or all others. */
struct explain_group {
    const char *prefix, *title, *doc;
};

enum { EXPLAIN_GROUPS = 3 };

extern const struct explain_group explain_groups[EXPLAIN_GROUPS];

const struct explain_group *explain_group(const struct kt_op_spec *);

/* The method that documents show: GET where any will do. HTTP rows only. */
const char *explain_method(const struct kt_op_spec *);

/* Whether it heeds a credential. */
bool explain_takes_caller(const struct kt_op_spec *);

/* Whether it heeds an idempotency key. */
bool explain_takes_key(const struct kt_op_spec *);

/* Whether its answer is a text that comes with a tag, so that it need not be sent twice. */
bool explain_has_tag(const struct kt_op_spec *);

/* Whether the operation has a parameter or member in that place that is not ignored. */
bool explain_has(const struct kt_op_spec *, enum kt_place);

/* Every refusal the operation may answer with, by status; returns their number. Codes are unique
 * within a status. */
size_t explain_errors(const struct kt_op_spec *, struct kt_op_error errors[EXPLAIN_ERRORS_MAX]);

/* What its detail may read like; text is room for those that have to be made. */
struct kt_str explain_detail(const struct kt_op_spec *, const struct kt_op_error *,
                             char text[EXPLAIN_DETAIL_MAX]);

/* Every object that rows take in a body or give, each once by its name; returns their number. What
 * is both is listed as it is given. socket: what is given on the socket only, too. */
size_t explain_shapes(const struct kt_shape *shapes[EXPLAIN_SHAPES_MAX], bool socket);

/* The value as JSON. */
void explain_put_example(struct kt_buf *, const struct kt_field *);

/* What the operation answers, as JSON. Only for rows with an out shape. */
void explain_put_result(struct kt_buf *, const struct kt_op_spec *);

/* What it takes, as a JSON object: the members of the body, or with flat all that there are, as on
 * the socket. "{}" when there are none. */
void explain_put_input(struct kt_buf *, const struct kt_op_spec *, bool flat);

/* Its path behind /api, each parameter with a value. */
void explain_put_path(struct kt_buf *, const struct kt_op_spec *);

/* The problem details of one of its refusals, as JSON. */
void explain_put_problem(struct kt_buf *, const struct kt_op_spec *, const struct kt_op_error *);

#endif
