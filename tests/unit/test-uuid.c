/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/uuid.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct uuid
parsed(const char *text)
{
    struct uuid id;
    assert_true(uuid_parse(kt_str(text), &id));
    return id;
}

static void
assert_uuid(struct uuid id, const char *text)
{
    char buf[UUID_TEXT_MAX];
    uuid_print(&id, buf);
    assert_string_equal(buf, text);
}

static void
test_text(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "eb025416-6f74-4684-97e9-83e99784aaa", "eb025416-6f74-4684-97e9-83e99784aaa55",
        "eb0254166f74468497e983e99784aaa5", "{eb025416-6f74-4684-97e9-83e99784aaa5}",
        "eb025416-6f74-4684-97e9_83e99784aaa5", "eb025416-6f74-4684-97e9-83e99784aaag",
        "eb02541-66f74-4684-97e9-83e99784aaa5", "urn:uuid:eb025416-6f74-4684-97e9-83e",
        "eb025416-6f74-4684-97e9-83e99784aa\xc3\xa9", " b025416-6f74-4684-97e9-83e99784aaa5",
    };
    assert_uuid(parsed("eb025416-6f74-4684-97e9-83e99784aaa5"),
                "eb025416-6f74-4684-97e9-83e99784aaa5");
    assert_uuid(parsed("EB025416-6F74-4684-97E9-83E99784AAA5"),
                "eb025416-6f74-4684-97e9-83e99784aaa5");
    assert_uuid(parsed("00000000-0000-0000-0000-000000000000"),
                "00000000-0000-0000-0000-000000000000");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct uuid id = { { 42 } };
        if (uuid_parse(kt_str(bad[i]), &id) || id.b[0] != 42)
            fail_msg("accepted: %s", bad[i]);
    }
}

static void
test_compare(void **state)
{
    (void)state;
    struct uuid zero = { { 0 } }, a = parsed("00000000-0000-0000-0000-000000000001");
    struct uuid b = parsed("80000000-0000-0000-0000-000000000000");
    assert_true(uuid_compare(&zero, &a) < 0 && uuid_compare(&a, &b) < 0);
    assert_true(uuid_compare(&b, &a) > 0 && uuid_compare(&b, &b) == 0);
}

static void
test_derived(void **state)
{
    (void)state;
    struct uuid id;
    /* RFC 9562 appendix A.4 */
    struct uuid dns = parsed("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    assert_true(uuid_v5(&dns, KT_LIT("www.example.com"), &id));
    assert_uuid(id, "2ed6657d-e927-568b-95e1-2665a8aea6a2");

    struct uuid root = parsed("eb025416-6f74-4684-97e9-83e99784aaa5");
    assert_true(uuid_v5(&root, KT_LIT("user"), &id));
    assert_uuid(id, "6b649446-09b9-5a94-bd05-8980c0423c7a");
    assert_true(uuid_v5(&root, KT_LIT("organization"), &id));
    assert_uuid(id, "56d5ed37-b36f-57d9-a243-528b92587a56");
    assert_true(uuid_of_user(KT_LIT("user_splinter"), &id));
    assert_uuid(id, "52f59945-dbb4-5107-a9f5-e5a9937d320c");
    assert_true(uuid_of_org(KT_LIT("org_tmnt_hq"), &id));
    assert_uuid(id, "44dce9a2-ded1-5945-a886-f8b9fbfa135f");
}

static void
assert_derived(struct kt_str name)
{
    const struct uuid users = parsed("6b649446-09b9-5a94-bd05-8980c0423c7a");
    const struct uuid orgs = parsed("56d5ed37-b36f-57d9-a243-528b92587a56");
    struct uuid id, want;
    assert_true(uuid_of_user(name, &id) && uuid_v5(&users, name, &want));
    assert_int_equal(uuid_compare(&id, &want), 0);
    assert_true(uuid_of_org(name, &id) && uuid_v5(&orgs, name, &want));
    assert_int_equal(uuid_compare(&id, &want), 0);
}

/* What is kept of earlier derivations is never another's: names that differ in one character, in
 * their length, or in the space only, one right after the other, around the longest that is kept. */
static void
test_derived_by_turns(void **state)
{
    (void)state;
    char text[70];
    for (size_t n = 0; n < sizeof(text); n++) {
        memset(text, 'x', sizeof(text));
        assert_derived((struct kt_str){ text, n });
        for (size_t at = 0; at < n; at++) {
            text[at] = 'y';
            assert_derived((struct kt_str){ text, n });
            assert_derived((struct kt_str){ text, n });
            text[at] = 'x';
        }
        for (size_t less = 0; less < n; less++)
            assert_derived((struct kt_str){ text, less });
    }
}

static int64_t
ms_of(struct uuid id)
{
    int64_t ms = 0;
    for (size_t i = 0; i < 6; i++)
        ms = ms << 8 | id.b[i];
    return ms;
}

static void
test_v7_form(void **state)
{
    (void)state;
    /* The instant of RFC 9562 appendix A.6. */
    struct uuid id = uuid_v7(0x017F22E279B0);
    assert_true(ms_of(id) == 0x017F22E279B0);
    assert_int_equal(id.b[6] >> 4, 7);
    assert_int_equal(id.b[8] >> 6, 2);
}

static void
test_v7_rises(void **state)
{
    (void)state;
    static const int64_t clocks[] = { 2000000000000, 2000000000000, 2000000000001, 1999999999999,
                                      0, -1, 2000000000001, 2000000000002 };
    struct uuid last = uuid_v7(1999999999998);
    for (size_t i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++) {
        for (size_t k = 0; k < 1000; k++) {
            struct uuid id = uuid_v7(clocks[i]);
            assert_true(uuid_compare(&last, &id) < 0);
            assert_int_equal(id.b[6] >> 4, 7);
            assert_int_equal(id.b[8] >> 6, 2);
            last = id;
        }
    }
    assert_true(ms_of(last) == 2000000000002);
}

enum { THREADS = 4, PER_THREAD = 5000 };
static struct uuid made[THREADS][PER_THREAD];

static void *
make_many(void *of)
{
    struct uuid *ids = of;
    for (size_t i = 0; i < PER_THREAD; i++)
        ids[i] = uuid_v7(2100000000000 + (int64_t)(i / 1000));
    return NULL;
}

static int
compare(const void *a, const void *b)
{
    return uuid_compare(a, b);
}

static void
test_v7_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_many, made[i]), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < THREADS; i++) {
        for (size_t k = 1; k < PER_THREAD; k++)
            assert_true(uuid_compare(&made[i][k - 1], &made[i][k]) < 0);
    }
    qsort(made, THREADS * PER_THREAD, sizeof(struct uuid), compare);
    for (size_t i = 1; i < THREADS * PER_THREAD; i++)
        assert_true(uuid_compare(&made[0][0] + i - 1, &made[0][0] + i) < 0);
}

static void
test_external_id(void **state)
{
    (void)state;
    char a[UUID_EXTERNAL_MAX], b[UUID_EXTERNAL_MAX];
    uuid_external_id(a);
    uuid_external_id(b);
    assert_memory_equal(a, "ksa_", 4);
    assert_int_equal(strlen(a), 36);
    assert_string_not_equal(a, b);
    assert_int_equal(strspn(a, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
                     36);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_derived),
        cmocka_unit_test(test_derived_by_turns),
        cmocka_unit_test(test_v7_form),
        cmocka_unit_test(test_v7_rises),
        cmocka_unit_test(test_v7_threads),
        cmocka_unit_test(test_external_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
