/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Method and path, or a name -> operation. */
#include "config.h"

#include "daemon/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct kt_arena arena;

static int
setup(void **state)
{
    (void)state;
    kt_arena_init(&arena, 1 << 20);
    route_init();
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    kt_arena_done(&arena);
    return 0;
}

struct routed {
    enum route_result result;
    struct route to;
};

static struct routed
route(const char *method, const char *path)
{
    struct routed r = { .result = ROUTE_UNKNOWN };
    r.result = route_http(kt_str(method), kt_str(path), &arena, &r.to);
    return r;
}

static void
every_operation_is_found_under_both_prefixes(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        const struct kt_op_spec *spec = &kt_op_specs[i];
        char path[256], prefixed[300];
        size_t used = 0;
        if (!spec->http_path)
            continue;
        for (const char *p = spec->http_path; *p; p++) {
            used += (size_t)snprintf(path + used, sizeof path - used, *p == '{' ? "v%%20-1" : "%c",
                                     *p);
            if (*p == '{')
                p = strchr(p, '}');
        }
        snprintf(prefixed, sizeof prefixed, "/api%s", path);
        const char *method = *spec->http_method == '*' ? "REPORT" : spec->http_method;
        for (int k = 0; k < 2; k++) {
            struct routed r = route(method, k ? prefixed : path);
            assert_int_equal(r.result, ROUTE_FOUND);
            assert_ptr_equal(r.to.spec, spec);
            for (size_t m = 0; m < r.to.nparams; m++) {
                assert_true(kt_str_is(r.to.params[m].value, "v -1"));
                assert_non_null(strstr(spec->http_path, r.to.params[m].name.p));
            }
        }
        if (strcmp(spec->http_method, "GET") == 0)
            assert_ptr_equal(route("HEAD", path).to.spec, spec);
    }
}

/* What was found last is kept, and must not be taken for something else. */
static void
the_last_one_is_no_other(void **state)
{
    (void)state;
    for (int again = 0; again < 3; again++) {
        assert_string_equal(route("GET", "/service-accounts").to.spec->name, "account.list");
        assert_string_equal(route("POST", "/service-accounts").to.spec->name, "account.create");
        assert_int_equal(route("PUT", "/service-accounts").result, ROUTE_METHOD);
        assert_string_equal(route("GET", "/tokens/validate").to.spec->name, "token.validate");
        assert_string_equal(route("VERSION-CONTROL", "/api/tokens/validate/").to.spec->name,
                            "token.validate");
        assert_int_equal(route("GET", "/tokens/validat").result, ROUTE_UNKNOWN);
        assert_int_equal(route("GET", "/tokens/validates").result, ROUTE_UNKNOWN);
    }
    for (size_t i = 0; i < KT_OP_COUNT; i++) { /* as it stands in the table, braces and all */
        const struct kt_op_spec *spec = &kt_op_specs[i];
        const char *method = spec->http_path && *spec->http_method != '*' ? spec->http_method
                                                                          : "GET";
        struct routed first, second;
        if (!spec->http_path)
            continue;
        first = route(method, spec->http_path);
        second = route(method, spec->http_path);
        assert_ptr_equal(first.to.spec, spec);
        assert_ptr_equal(second.to.spec, spec);
        assert_int_equal(first.to.nparams, second.to.nparams);
        for (size_t k = 0; k < first.to.nparams; k++)
            assert_true(kt_str_eq(first.to.params[k].value, second.to.params[k].value));
    }
}

static void
paths_and_methods(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path;
        enum route_result result;
        const char *name, *first, *second; /* operation and its parameters */
    } cases[] = {
        { "GET", "/service-accounts", ROUTE_FOUND, "account.list", NULL, NULL },
        { "GET", "/service-accounts/a-b", ROUTE_FOUND, "account.get", "a-b", NULL },
        { "DELETE", "/service-accounts/a/tokens/b", ROUTE_FOUND, "token.revoke", "a", "b" },
        { "POST", "/service-accounts/a/tokens/revoke", ROUTE_FOUND, "token.revokeAll", "a", NULL },
        { "DELETE", "/service-accounts/a/tokens/revoke", ROUTE_FOUND, "token.revoke", "a",
          "revoke" },
        { "POST", "/api/service-accounts/a/tokens/b/rotate", ROUTE_FOUND, "token.rotate", "a",
          "b" },
        { "GET", "/service-accounts/K%c3%b6ln", ROUTE_FOUND, "account.get", "K\xc3\xb6ln", NULL },
        { "GET", "/service-accounts/tokens", ROUTE_FOUND, "account.get", "tokens", NULL },
        { "GET", "/tokens/validate", ROUTE_FOUND, "token.validate", NULL, NULL },
        { "BREW", "/tokens/validate", ROUTE_FOUND, "token.validate", NULL, NULL },
        { "GET", "/service-accounts/", ROUTE_FOUND, "account.list", NULL, NULL },
        { "GET", "/api/service-accounts/a/tokens/", ROUTE_FOUND, "token.list", "a", NULL },
        { "DELETE", "/service-accounts/a/", ROUTE_FOUND, "account.delete", "a", NULL },
        { "GET", "/tokens/validate/", ROUTE_FOUND, "token.validate", NULL, NULL },
        { "DELETE", "/service-accounts/a/tokens/", ROUTE_METHOD, NULL, NULL, NULL },
        { "PUT", "/service-accounts", ROUTE_METHOD, NULL, NULL, NULL },
        { "get", "/service-accounts", ROUTE_METHOD, NULL, NULL, NULL },
        { "HEAD", "/service-accounts/a/tokens/b/rotate", ROUTE_METHOD, NULL, NULL, NULL },
        { "", "/service-accounts", ROUTE_METHOD, NULL, NULL, NULL },
        { "GET", "/", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "OPTIONS", "*", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/api", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/api/", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/api/api/service-accounts", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/apiservice-accounts", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "//service-accounts", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/Service-Accounts", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/service%2daccounts", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/service-accounts//", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/api//", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "//", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/service-accounts//tokens", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/service-accounts/a/tokens//", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/service-accounts/a//tokens", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/service-accounts/a/tokens/b/c", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/a/b/c/d/e/f/g/h", ROUTE_UNKNOWN, NULL, NULL, NULL },
        { "GET", "/service-accounts/%", ROUTE_BAD_PATH, NULL, NULL, NULL },
        { "GET", "/service-accounts/%00", ROUTE_BAD_PATH, NULL, NULL, NULL },
        { "GET", "/service-accounts/a%2fb", ROUTE_BAD_PATH, NULL, NULL, NULL },
        { "GET", "/service-accounts/..", ROUTE_BAD_PATH, NULL, NULL, NULL },
        { "GET", "/service-accounts/%2e%2E", ROUTE_BAD_PATH, NULL, NULL, NULL },
        { "GET", "/service-accounts/\xff", ROUTE_BAD_PATH, NULL, NULL, NULL },
        { "DELETE", "/service-accounts/a/tokens/%ff", ROUTE_BAD_PATH, NULL, NULL, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct routed r = route(cases[i].method, cases[i].path);
        if (r.result != cases[i].result)
            fail_msg("%s %s: %d", cases[i].method, cases[i].path, (int)r.result);
        if (r.result != ROUTE_FOUND) {
            assert_null(r.to.spec);
            continue;
        }
        assert_string_equal(r.to.spec->name, cases[i].name);
        assert_int_equal(r.to.nparams,
                         (size_t)(cases[i].first != NULL) + (cases[i].second != NULL));
        assert_true(!cases[i].first || kt_str_is(r.to.params[0].value, cases[i].first));
        assert_true(!cases[i].second || kt_str_is(r.to.params[1].value, cases[i].second));
    }
}

static void
a_look_without_an_arena_says_the_same(void **state)
{
    (void)state;
    struct route to = { .nparams = 7 };
    assert_int_equal(route_http(KT_LIT("GET"), KT_LIT("/service-accounts/%zz"), NULL, &to),
                     ROUTE_FOUND); /* parameters are not looked at */
    assert_string_equal(to.spec->name, "account.get");
    assert_int_equal(to.nparams, 7);
    assert_int_equal(route_http(KT_LIT("PATCH"), KT_LIT("/whoami"), NULL, &to), ROUTE_METHOD);
    assert_null(to.allow.p);
}

static void
a_path_without_memory_is_not_a_bad_one(void **state)
{
    (void)state;
    struct route to = { .spec = NULL };
    struct kt_arena none;
    kt_arena_init(&none, 0);
    assert_int_equal(route_http(KT_LIT("GET"), KT_LIT("/service-accounts/a%20b"), &none, &to),
                     ROUTE_NO_MEMORY);
    assert_null(to.spec);
    assert_int_equal(route_http(KT_LIT("GET"), KT_LIT("/service-accounts/ab"), &none, &to),
                     ROUTE_FOUND); /* nothing has to be decoded */
    kt_arena_done(&none);
}

static void
names_of_the_socket(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        const struct kt_op_spec *spec = &kt_op_specs[i];
        char more[80], other[80];
        assert_ptr_equal(route_name(kt_str(spec->name)), spec->socket ? spec : NULL);
        snprintf(more, sizeof more, "%s ", spec->name);
        assert_null(route_name(kt_str(more)));
        snprintf(other, sizeof other, "%s", spec->name);
        other[0] = (char)(other[0] - 'a' + 'A');
        assert_null(route_name(kt_str(other)));
        assert_null(route_name((struct kt_str){ spec->name, strlen(spec->name) - 1 }));
    }
    assert_null(route_name(KT_LIT("")));
    assert_null(route_name((struct kt_str){ NULL, 0 }));
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_operation_is_found_under_both_prefixes),
        TEST(the_last_one_is_no_other),
        TEST(paths_and_methods),
        TEST(a_look_without_an_arena_says_the_same),
        TEST(a_path_without_memory_is_not_a_bad_one),
        TEST(names_of_the_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
