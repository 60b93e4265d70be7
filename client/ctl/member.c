/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/member.h"

#include "client/ctl/ctl.h"
#include "client/ctl/print.h"

#include <string.h>

/* Of the answer, or of each item of a page; NULL: it is not known before. */
static const struct kt_shape *
shape_of(const struct verb *verb)
{
    const struct kt_op_spec *spec = verb_spec(verb, false);
    const struct kt_shape *shape = spec ? spec->out : NULL;
    for (const struct kt_field *f = shape ? shape->fields : NULL; f && f->name; f++)
        if (strcmp(f->name, "items") == 0)
            return f->shape;
    return shape;
}

static bool
answers_nothing(const struct verb *verb)
{
    const struct kt_op_spec *spec = verb_spec(verb, false);
    return (verb->flags & (VERB_BACKUP | VERB_EXPORT)) || (spec && !spec->out && !spec->loose);
}

int
member_check(const struct verb *verb, const char *name)
{
    const struct kt_shape *shape = shape_of(verb);
    struct kt_buf members;
    if (answers_nothing(verb))
        return ctl_fail(CTL_USAGE, NULL, "--field means nothing to %s%s%s",
                        verb->group ? verb->group : "", verb->group ? " " : "", verb->name);
    if (!shape)
        return 0;
    kt_buf_init(&members, 4096);
    kt_buf_puts(&members, "its members:");
    for (const struct kt_field *f = shape->fields; f->name; f++) {
        if (strcmp(f->name, name) == 0) {
            kt_buf_done(&members);
            return 0;
        }
        kt_buf_printf(&members, " %s", f->name);
    }
    kt_buf_putc(&members, '\0');
    int rc = ctl_fail(CTL_USAGE, members.failed ? NULL : members.p,
                      "no such member of the answer: %s", name);
    kt_buf_done(&members);
    return rc;
}

void
member_print(struct kt_buf *buf, const struct kt_value *answer, const char *name)
{
    const struct kt_value *items = kt_value_get(answer, "items");
    bool is_page = items && items->type == KT_V_ARRAY;
    for (size_t i = 0; i < (is_page ? items->array.n : 1); i++) {
        print_cell(buf, kt_value_get(is_page ? &items->array.v[i] : answer, name));
        kt_buf_putc(buf, '\n');
    }
}
