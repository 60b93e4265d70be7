/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The operation table: what every row must have, so that a forgotten half is found here. */
#include "config.h"

#include "client/proto/bind.h"
#include "client/proto/encode.h"
#include "client/proto/ops.h"
#include "daemon/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void
every_row_has_both_halves(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        const struct kt_op_spec *spec = &kt_op_specs[i];
        assert_non_null(spec->name);
        assert_non_null(spec->in);
        assert_non_null(spec->doc);
        assert_non_null(ops[i].run);
        assert_true(spec->socket || spec->http_method);
    }
}

static void
public_rows_are_those_that_are_meant_to_be(void **state)
{
    (void)state;
    static const char *const open[] = { "token.validate", "healthz",     "readyz",
                                        "metrics",        "jwks",        "openapi",
                                        "docs",           "docs.style",  "kaiten.ping",
                                        "kaiten.hello",   "kaiten.describe" };
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        bool listed = false;
        for (size_t k = 0; k < sizeof open / sizeof open[0]; k++)
            listed |= strcmp(kt_op_specs[i].name, open[k]) == 0;
        /* Those for admins ask the kernel, not the chain. */
        assert_int_equal(listed, (ops[i].flags & (OP_PUBLIC | OP_ADMIN)) == OP_PUBLIC);
        assert_false((ops[i].flags & OP_ADMIN) && kt_op_specs[i].http_path);
        assert_false((ops[i].flags & OP_PUBLIC) && kt_op_specs[i].scope);
    }
}

static void
rows_that_write_need_a_write_scope(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        if (!(ops[i].flags & OP_WRITES))
            continue;
        assert_non_null(kt_op_specs[i].scope);
        assert_memory_equal(kt_op_specs[i].scope, "write:", 6);
        assert_false(ops[i].flags & OP_INLINE);
    }
}

static void
names_are_unique_and_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++)
        assert_ptr_equal(kt_op_find(kt_str(kt_op_specs[i].name)), &kt_op_specs[i]);
    assert_null(kt_op_find(KT_LIT("token.creat")));
    assert_null(kt_op_find(KT_LIT("")));
}

static void
method_and_path_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++)
        for (size_t k = i + 1; k < KT_OP_COUNT; k++) {
            const struct kt_op_spec *a = &kt_op_specs[i], *b = &kt_op_specs[k];
            if (!a->http_path || !b->http_path || strcmp(a->http_path, b->http_path) != 0)
                continue;
            assert_string_not_equal(a->http_method, b->http_method);
        }
}

static void
path_fields_and_paths_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        const struct kt_op_spec *spec = &kt_op_specs[i];
        size_t fields = 0, braces = 0;
        for (const struct kt_field *f = spec->in->fields; f->name; f++) {
            if (f->place != KT_PATH)
                continue;
            char wanted[64];
            snprintf(wanted, sizeof wanted, "{%s}", f->name);
            assert_non_null(strstr(spec->http_path, wanted));
            fields++;
        }
        for (const char *p = spec->http_path; p && *p; p++)
            braces += *p == '{';
        assert_int_equal(fields, braces);
    }
}

static void
rows_on_http_can_be_described(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        const struct kt_op_spec *spec = &kt_op_specs[i];
        assert_int_equal(spec->id != NULL, spec->http_method != NULL);
        assert_false(spec->media && (spec->out || spec->loose || spec->socket));
        for (size_t k = 0; spec->id && k < i; k++)
            assert_true(!kt_op_specs[k].id || strcmp(kt_op_specs[k].id, spec->id) != 0);
        for (const struct kt_op_error *e = spec->errors; e && e->kind != KT_OK; e++)
            assert_true(e->kind < KT_KIND_COUNT);
    }
}

static void
check_shape(const struct kt_shape *shape)
{
    size_t n = 0;
    for (const struct kt_field *f = shape->fields; f->name; f++, n++) {
        assert_int_equal(f->name_len, strlen(f->name));
        assert_true(f->type >= KT_T_BOOL && f->type <= KT_T_ANY);
        assert_true(f->offset < shape->size || (f->flags & KT_READONLY));
        assert_non_null(f->doc);
        assert_true(!f->bounded || f->min <= f->max);
        assert_true(!f->valid == !f->expected);
        assert_int_equal(f->shape != NULL, f->type == KT_T_OBJECT || f->type == KT_T_LIST);
        for (const struct kt_field *g = f + 1; g->name; g++)
            assert_string_not_equal(f->name, g->name);
        if (f->shape && f->shape != shape)
            check_shape(f->shape);
    }
    assert_true(n <= 32); /* what a bind can sort */
}

static void
shapes_are_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        check_shape(kt_op_specs[i].in);
        assert_true(kt_op_specs[i].in->size <= sizeof(union kt_in));
        if (!kt_op_specs[i].out)
            continue;
        check_shape(kt_op_specs[i].out);
        assert_true(kt_op_specs[i].out->size <= sizeof(union kt_out));
    }
}

static void
only_minting_reveals(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        bool mints = i == KT_OP_TOKEN_CREATE || i == KT_OP_TOKEN_ROTATE;
        const struct kt_shape *out = kt_op_specs[i].out;
        assert_int_equal(out && kt_shape_reveals(out), mints);
    }
}

static void
kinds_have_statuses(void **state)
{
    (void)state;
    for (int k = KT_OK; k < KT_KIND_COUNT; k++) {
        const struct kt_kind_info *info = kt_kind_info((enum kt_kind)k);
        assert_non_null(info->code);
        assert_non_null(info->title);
        assert_true(k == KT_OK ? info->http == 200 : info->http >= 400 && info->http < 600);
        assert_true(info->pair == 0 || info->pair == 1);
        for (int other = KT_OK; other < k; other++) /* a status names one kind, in metrics too */
            assert_int_not_equal(info->http, kt_kind_info((enum kt_kind)other)->http);
    }
    assert_ptr_equal(kt_kind_info((enum kt_kind)999), kt_kind_info(KT_INTERNAL));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_both_halves),
        cmocka_unit_test(public_rows_are_those_that_are_meant_to_be),
        cmocka_unit_test(rows_that_write_need_a_write_scope),
        cmocka_unit_test(names_are_unique_and_found),
        cmocka_unit_test(method_and_path_are_unique),
        cmocka_unit_test(path_fields_and_paths_agree),
        cmocka_unit_test(rows_on_http_can_be_described),
        cmocka_unit_test(shapes_are_sound),
        cmocka_unit_test(only_minting_reveals),
        cmocka_unit_test(kinds_have_statuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
