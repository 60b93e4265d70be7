/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A core of its own for each test, and a call for what the test does itself. Include it instead of
 * core.h. */
#ifndef ONE_CORE_H
#define ONE_CORE_H

#include "tests/unit/core.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct core core;
static struct kt_arena arena; /* of the call */
static struct call call;

static inline void
open_one(const struct core_options *options)
{
    core_open(&core, options);
    core_call(&core, &arena, &call);
    atomic_store(&user_asked, 0);
}

/* For cmocka; nothing secret is left at the end. */
static inline int
setup(void **state)
{
    (void)state;
    open_one(NULL);
    return 0;
}

static inline int
teardown(void **state)
{
    (void)state;
    kt_arena_done(&arena);
    core_close(&core);
    assert_int_equal(kt_secret_count(), 0);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
