/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/unit/auth-host.h"

TEST_PLUGIN(token);

static const struct {
    const char *credential;
    bool good;
    enum kaiten_verdict want;
    size_t asked;
} rows[] = {
    { "ksh_0123456789abcdefghijklmnopqrstuv", true, KAITEN_KNOWN, 1 },
    { "ksh_0123456789abcdefghijklmnopqrstuv", false, KAITEN_REFUSED, 1 },
    { "ksh_", false, KAITEN_REFUSED, 1 },
    { "", true, KAITEN_NOT_MINE, 0 },
    { "ksh", true, KAITEN_NOT_MINE, 0 },
    { "kshx0123", true, KAITEN_NOT_MINE, 0 },
    { "KSH_0123", true, KAITEN_NOT_MINE, 0 },
    { " ksh_0123", true, KAITEN_NOT_MINE, 0 },
    { "a.b.c", true, KAITEN_NOT_MINE, 0 },
};

static void
only_the_host_decides(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        void *instance = NULL;
        fake_reset();
        fake.token_good = rows[i].good;
        assert_int_equal(plugin->open(&fake_host, &fake.config, &instance, &fake.err), KAITEN_DONE);
        struct kaiten_caller caller = { .size = sizeof(caller), .listener = KAITEN_LISTENER_HTTP };
        caller.credential = (struct kaiten_bytes){ rows[i].credential, strlen(rows[i].credential) };
        assert_int_equal(plugin->identify(instance, &caller, NULL, &fake.err), rows[i].want);
        assert_int_equal(fake.ntokens, rows[i].asked);
        assert_null(strstr(fake.err.text, "ksh_"));
        plugin->close(instance);
    }
}

static void
says_what_it_is(void **state)
{
    (void)state;
    fake_check_header(plugin, KAITEN_AUTH_INLINE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_host_decides),
        cmocka_unit_test(says_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
