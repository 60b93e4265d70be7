/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/scope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define MODULES \
    "feature_flags, instances, licenses, entitlements, components, customers, deployment_zones, " \
    "metadata_fields, releases, users, organizations, tokens, webhooks, memberships, "            \
    "notifications, billing, addons"

/* A list written as words. */
struct list {
    struct kt_str v[8];
    size_t n;
};

static struct list
list(const char *words)
{
    struct list l = { .n = 0 };
    while (*words != '\0') {
        size_t n = strcspn(words, " ");
        l.v[l.n++] = (struct kt_str){ words, n };
        words += n + (words[n] == ' ');
    }
    return l;
}

static void
test_valid(void **state)
{
    (void)state;
    static const char *const good[] = { "read:*", "write:*", "delete:*", "delete:organizations",
                                        "read:feature_flags", "write:billing", "read:addons",
                                        "write:notifications" };
    static const char *const bad[] = { "", "readlicenses", "archive:licenses",
                                       "read:invalid_module", ":licenses", "read:",
                                       "read:licenses:extra", " :licenses", "read: ",
                                       " read:customers", "read:customers ", "read :customers",
                                       "read: customers", "Read:customers", "read:Customers", "*",
                                       "*:*", "*:customers", "read:**", "read", ":", "read:\n" };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!scope_is_valid(&scope_modules_default, kt_str(good[i])))
            fail_msg("refused: %s", good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (scope_is_valid(&scope_modules_default, kt_str(bad[i])))
            fail_msg("accepted: \"%s\"", bad[i]);
    }
    assert_false(scope_is_valid(&scope_modules_default, (struct kt_str){ "read:users\0", 11 }));
}

static void
test_configured_modules(void **state)
{
    (void)state;
    struct kt_str v[] = { KT_LIT("things") };
    struct scope_modules own = { v, 1 };
    assert_true(scope_is_valid(&own, KT_LIT("read:things")));
    assert_true(scope_is_valid(&own, KT_LIT("read:*")));
    assert_false(scope_is_valid(&own, KT_LIT("read:tokens")));

    char name[65];
    memset(name, 'a', sizeof(name));
    assert_true(scope_module_is_valid((struct kt_str){ name, 64 }));
    assert_false(scope_module_is_valid((struct kt_str){ name, 65 }));
    assert_true(scope_module_is_valid(KT_LIT("a_1")));
    assert_false(scope_module_is_valid(KT_LIT("")));
    assert_false(scope_module_is_valid(KT_LIT("1a")));
    assert_false(scope_module_is_valid(KT_LIT("*")));
    assert_false(scope_module_is_valid(KT_LIT("a:b")));
    assert_false(scope_module_is_valid(KT_LIT("A")));
}

static const struct {
    const char *held, *required;
    bool granted;
} grants[] = {
    { "read:tokens", "read:tokens", true },
    { "read:tokens", "write:tokens", false },
    { "read:tokens", "read:users", false },
    { "write:tokens", "read:tokens", true },
    { "write:tokens", "write:tokens", true },
    { "write:tokens", "delete:tokens", false },
    { "write:tokens", "read:users", false },
    { "write:tokens", "read:*", false },
    { "delete:tokens", "read:tokens", false },
    { "delete:tokens", "write:tokens", false },
    { "write:*", "read:tokens", true },
    { "write:*", "write:tokens", true },
    { "write:*", "delete:tokens", true },
    { "write:*", "delete:*", true },
    { "write:*", "read:*", true },
    { "write:*", "write:*", true },
    { "read:*", "read:tokens", true },
    { "read:*", "read:*", true },
    { "read:*", "write:tokens", false },
    { "read:*", "write:*", false },
    { "read:*", "delete:tokens", false },
    { "delete:*", "delete:*", true },
    { "delete:*", "delete:tokens", false },
    { "delete:*", "read:tokens", false },
    { "", "read:tokens", false },
    { "read:users write:tokens", "read:tokens", true },
    { "read:users delete:users", "write:users", false },
    { "read:token", "read:tokens", false },
    { "read:tokens2", "read:tokens", false },
    { "write:token", "read:tokens", false },
    { "strange", "strange", true },
    { "read:*", "strange", false },
};

static void
test_grants(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(grants) / sizeof(grants[0]); i++) {
        struct list held = list(grants[i].held);
        if (scope_grants(held.v, held.n, kt_str(grants[i].required)) != grants[i].granted)
            fail_msg("%s for %s", grants[i].held, grants[i].required);
    }
}

static void
test_covers(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena, 1 << 16);
    struct list held = list("write:tokens read:*");
    struct list inside = list("read:users write:tokens read:*");
    struct list outside = list("read:users delete:tokens write:tokens write:*");
    size_t missing = 42;
    assert_true(scope_list_covers(held.v, held.n, inside.v, inside.n, &missing));
    assert_int_equal(missing, 42);
    assert_true(scope_list_covers(NULL, 0, NULL, 0, NULL));
    assert_false(scope_list_covers(held.v, held.n, outside.v, outside.n, NULL));
    assert_false(scope_list_covers(held.v, held.n, outside.v, outside.n, &missing));
    assert_int_equal(missing, 1);

    struct kt_str text = scope_missing_text(&arena, held.v, held.n, outside.v, outside.n);
    assert_string_equal(text.p, "delete:tokens, write:*");
    assert_int_equal(text.n, strlen(text.p));
    text = scope_missing_text(&arena, held.v, held.n, inside.v, inside.n);
    assert_string_equal(text.p, "");
    kt_arena_done(&arena);
}

static void
test_message(void **state)
{
    (void)state;
    struct kt_arena arena;
    struct kt_str message = { NULL, 42 };
    kt_arena_init(&arena, 1 << 16);
    struct list good = list("read:tokens write:*");
    struct list bad = list("read:tokens archive:x read: write:*");
    assert_true(scope_list_check(&scope_modules_default, good.v, good.n, &arena, &message));
    assert_true(scope_list_check(&scope_modules_default, NULL, 0, &arena, &message));
    assert_int_equal(message.n, 42);
    assert_false(scope_list_check(&scope_modules_default, bad.v, bad.n, &arena, &message));
    assert_string_equal(message.p, "invalid scopes: [archive:x read:]. Valid format is "
                                   "<action>:<module> where action is [read, write, delete] and "
                                   "module is [" MODULES ", *]");
    assert_int_equal(message.n, strlen(message.p));
    kt_arena_done(&arena);

    char memory[16];
    kt_arena_init_with(&arena, memory, sizeof(memory), sizeof(memory));
    assert_false(scope_list_check(&scope_modules_default, bad.v, bad.n, &arena, &message));
    assert_null(message.p);
    kt_arena_done(&arena);
}

static void
test_published(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena, 1 << 16);
    struct kt_strlist l = scope_published(&arena, &scope_modules_default);
    assert_int_equal(l.has, KT_SET);
    assert_int_equal(l.n, 30);
    assert_string_equal(l.v[0].p, "read:addons");
    assert_string_equal(l.v[29].p, "write:webhooks");
    for (size_t i = 0; i < l.n; i++) {
        assert_true(scope_is_valid(&scope_modules_default, l.v[i]));
        assert_false(kt_str_is(l.v[i], "read:users") || kt_str_is(l.v[i], "write:memberships"));
        assert_true(i == 0 || strcmp(l.v[i - 1].p, l.v[i].p) < 0);
    }
    kt_arena_done(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),  cmocka_unit_test(test_configured_modules),
        cmocka_unit_test(test_grants), cmocka_unit_test(test_covers),
        cmocka_unit_test(test_message), cmocka_unit_test(test_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
