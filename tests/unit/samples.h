/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A group of tests of which most are rows of a table: each row is a test of its own, with its name. */
#ifndef SAMPLES_H
#define SAMPLES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct sample_group {
    const char *name;
    const void *samples; /* a row begins with its name, a const char * */
    size_t size, n;      /* of a row; how many */
    CMUnitTestFunction whole, split; /* *state is the row; split: NULL, or a second test of each */
    const struct CMUnitTest *others;
    size_t nothers;
};

/* Returns what main() returns. */
static inline int
run_samples(const struct sample_group *group)
{
    enum { NAME_MAX_BYTES = 96 };
    size_t each = group->split ? 2 : 1, ntests = each * group->n + group->nothers;
    struct CMUnitTest *tests = calloc(ntests, sizeof *tests);
    char (*names)[NAME_MAX_BYTES] = calloc(group->n, sizeof *names);
    if (!tests || !names)
        abort();
    for (size_t i = 0; i < group->n; i++) {
        void *row = (char *)(uintptr_t)group->samples + i * group->size;
        const char *name = *(const char **)row;
        tests[each * i] = (struct CMUnitTest){ name, group->whole, NULL, NULL, row };
        if (!group->split)
            continue;
        (void)snprintf(names[i], sizeof names[i], "%s, split", name);
        tests[each * i + 1] = (struct CMUnitTest){ names[i], group->split, NULL, NULL, row };
    }
    memcpy(tests + each * group->n, group->others, group->nothers * sizeof *tests);
    int failed = _cmocka_run_group_tests(group->name, tests, ntests, NULL, NULL);
    free(names);
    free(tests);
    return failed;
}

#endif
