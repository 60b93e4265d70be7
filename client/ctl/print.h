/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Answers for people and for programs, into a buffer; everything from a server is escaped so that
 * it cannot move the cursor. */
#ifndef CTL_PRINT_H
#define CTL_PRINT_H

#include "client/ctl/ctl.h"
#include "client/proto/ops.h"

/* Text of others: control characters, those of the C1 block and those that turn the direction of
 * writing become \x1b, \u202e and the like. */
void print_text(struct kt_buf *, struct kt_str);

/* JSON on one line, without its end. */
void print_json_line(struct kt_buf *, const struct kt_value *);

/* One line for people, without its end: lists joined by commas, users by name, many objects by
 * their number; nothing for NULL. */
void print_cell(struct kt_buf *, const struct kt_value *);

/* One answer. spec may be NULL, and then there is nothing to know about its columns. */
void print_answer(struct kt_buf *, enum ctl_output, const struct kt_op_spec *spec,
                  const struct kt_value *answer);

/* A list that comes page by page: begin, items of each page, end. */
struct print_list {
    enum ctl_output output;
    const struct kt_op_spec *spec;
    size_t items;      /* so far */
    size_t width[8];   /* of the columns; never smaller than on a page before */
};
void print_list_begin(struct print_list *, enum ctl_output, const struct kt_op_spec *,
                      struct kt_buf *);
void print_list_items(struct print_list *, const struct kt_value *page, struct kt_buf *);
void print_list_end(struct print_list *, struct kt_buf *);

/* Display columns of UTF-8 text, after setlocale(). */
size_t print_width(struct kt_str);

#endif
