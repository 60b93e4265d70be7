/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the service manager hears. */
#include "config.h"

#include "daemon/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static int manager;
static char name[64];

/* An abstract address, as service managers may use. */
static int
listen_as_manager(void **state)
{
    (void)state;
    snprintf(name, sizeof name, "@kaiten-test-notify-%d", getpid());
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    memcpy(address.sun_path, name, strlen(name));
    address.sun_path[0] = '\0';
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    setenv("NOTIFY_SOCKET", name, 1);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    return bind(manager, (struct sockaddr *)&address, size);
}

static int
end(void **state)
{
    (void)state;
    notify_close();
    close(manager);
    unsetenv("NOTIFY_SOCKET");
    return 0;
}

static const char *
heard(void)
{
    static char text[2048];
    ssize_t n = recv(manager, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? text : "nothing";
}

static void
each_word_is_one_datagram(void **state)
{
    (void)state;
    assert_true(notify_open());
    assert_null(getenv("NOTIFY_SOCKET"));
    notify_ready("serving");
    assert_string_equal(heard(), "READY=1\nSTATUS=serving");
    notify_ready(NULL);
    assert_string_equal(heard(), "READY=1\n");
    notify_stopping("2 of\n3");
    assert_string_equal(heard(), "STOPPING=1\nSTATUS=2 of 3");
    notify_alive();
    assert_string_equal(heard(), "WATCHDOG=1");
    assert_string_equal(heard(), "nothing");
}

static void
a_manager_that_is_gone_is_no_error(void **state)
{
    (void)state;
    assert_true(notify_open());
    close(manager);
    notify_ready("serving");
    manager = -1;
}

static void
without_a_manager_nothing_is_said(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    assert_true(notify_open());
    notify_ready("serving");
    assert_string_equal(heard(), "nothing");
    static const char *const bad[] = { "relative", "@", "/nowhere/at/all" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv("NOTIFY_SOCKET", bad[i], 1);
        assert_false(notify_open());
        assert_null(getenv("NOTIFY_SOCKET"));
    }
}

static void
the_watchdog_is_fed_twice_as_often(void **state)
{
    (void)state;
    static const struct {
        const char *us, *pid;
        int64_t ms;
    } cases[] = {
        { "30000000", NULL, 15000 }, { "30000000", "self", 15000 }, { "30000000", "1", 0 },
        { "1000", NULL, 1 }, { "0", NULL, 0 }, { "soon", NULL, 0 }, { "-5", NULL, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char self[16];
        snprintf(self, sizeof self, "%d", getpid());
        setenv("WATCHDOG_USEC", cases[i].us, 1);
        if (cases[i].pid)
            setenv("WATCHDOG_PID", strcmp(cases[i].pid, "self") ? cases[i].pid : self, 1);
        assert_true(notify_open());
        assert_int_equal(notify_watchdog_ms(), cases[i].ms);
        assert_null(getenv("WATCHDOG_USEC"));
        notify_close();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_word_is_one_datagram, listen_as_manager, end),
        cmocka_unit_test_setup_teardown(a_manager_that_is_gone_is_no_error, listen_as_manager, end),
        cmocka_unit_test_setup_teardown(without_a_manager_nothing_is_said, listen_as_manager, end),
        cmocka_unit_test_setup_teardown(the_watchdog_is_fed_twice_as_often, listen_as_manager, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
