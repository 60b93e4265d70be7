/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/log.h"

#include "client/proto/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64], contents[1 << 20];

static int
setup(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "/tmp/kaiten-log-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int
teardown(void **state)
{
    (void)state;
    log_close();
    return unlink(path);
}

static void
start(enum log_form form, enum log_level level)
{
    const struct log_options options = { .file = path, .form = form, .level = level };
    assert_int_equal(truncate(path, 0), 0);
    assert_true(log_open(&options));
}

static const char *
slurp(const char *file)
{
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    contents[fread(contents, 1, sizeof(contents) - 1, f)] = '\0';
    fclose(f);
    return contents;
}

/* The line that was just written, without its newline. */
#define SAYS(text)                                                                                \
    do {                                                                                          \
        assert_string_equal(slurp(path), "<6>event=x " text "\n");                                \
        assert_int_equal(truncate(path, 0), 0);                                                   \
    } while (0)

static void
test_values(void **state)
{
    (void)state;
    start(LOG_FORM_JOURNAL, LOG_LEVEL_INFO);
    log_line(LOG_LEVEL_INFO, "x", "a=%s b=%s", "plain", "two words");
    SAYS("a=plain b=\"two words\"");
    log_line(LOG_LEVEL_INFO, "x", "a=%s", "x admin=yes");
    SAYS("a=\"x admin=yes\"");
    log_line(LOG_LEVEL_INFO, "x", "a=%s", "x\n<0>event=forged");
    SAYS("a=\"x\\n<0>event=forged\"");
    log_line(LOG_LEVEL_INFO, "x", "a=%s", "say \"hi\"\\");
    SAYS("a=\"say \\\"hi\\\"\\\\\"");
    log_line(LOG_LEVEL_INFO, "x", "a=%s", "\t\r\033[31m\x7f");
    SAYS("a=\"\\t\\r\\x1b[31m\\x7f\"");
    const char *volatile absent = NULL;
    log_line(LOG_LEVEL_INFO, "x", "a=%s b=%s", "", absent);
    SAYS("a=\"\" b=\"\"");
    log_line(LOG_LEVEL_INFO, "x", "a=%s b=%s", "k=v", "\xc3\xa9");
    SAYS("a=\"k=v\" b=\xc3\xa9");
    log_line(LOG_LEVEL_INFO, "x", "a=%s b=%s", "\xff\xfe", "\xc2\x9b" "31m");
    SAYS("a=\"\\xff\\xfe\" b=\"\\xc2\\x9b" "31m\"");
    log_line(LOG_LEVEL_INFO, "x", "a=%.*s b=%.3s c=%c d=%c", 2, "abc", "abcdef", 'z', '\n');
    SAYS("a=ab b=abc c=z d=\"\\n\"");
}

static void
test_numbers(void **state)
{
    (void)state;
    start(LOG_FORM_JOURNAL, LOG_LEVEL_INFO);
    log_line(LOG_LEVEL_INFO, "x", "a=%d b=%u c=%x d=%ld e=%lu f=%lld g=%llu", -1, 4000000000U, 255,
             -2L, 3UL, -4LL, 5ULL);
    SAYS("a=-1 b=4000000000 c=ff d=-2 e=3 f=-4 g=5");
    log_line(LOG_LEVEL_INFO, "x", "a=%zu b=%zd c=%jd d=%ju e=%04o f=%05d", (size_t)1, (ssize_t)-2,
             (intmax_t)3, (uintmax_t)4, 0600, 42);
    SAYS("a=1 b=-2 c=3 d=4 e=0600 f=00042");
    log_line(LOG_LEVEL_INFO, "x", "a=%" PRId64 " b=%" PRIu64 " c=%" PRIx64, INT64_MIN, UINT64_MAX,
             UINT64_MAX);
    SAYS("a=-9223372036854775808 b=18446744073709551615 c=ffffffffffffffff");
    log_line(LOG_LEVEL_INFO, "x", "a=%.3f b=%f c=%g d=100%%", 1.5, 0.25, 2.5);
    SAYS("a=1.500 b=0.250000 c=2.5 d=100%");
    errno = ENOENT;
    log_line(LOG_LEVEL_INFO, "x", "error=%m");
    SAYS("error=\"No such file or directory\"");
    assert_int_equal(errno, ENOENT);
}

static void
test_messages(void **state)
{
    (void)state;
    start(LOG_FORM_JOURNAL, LOG_LEVEL_INFO);
    log_line(LOG_LEVEL_INFO, "x", "cannot open %s: %d", "a\nb", 5);
    SAYS("message=\"cannot open a\\nb: 5\"");
    log_line(LOG_LEVEL_INFO, "x", "%s", "a=b c=d");
    SAYS("message=\"a=b c=d\"");
    log_line(LOG_LEVEL_INFO, "x", "started");
    SAYS("message=started");
    errno = EACCES;
    log_line(LOG_LEVEL_INFO, "x", "no: %m");
    SAYS("message=\"no: Permission denied\"");
    log_line(LOG_LEVEL_INFO, "y", NULL);
    assert_string_equal(slurp(path), "<6>event=y\n");
}

static void
test_levels(void **state)
{
    (void)state;
    enum log_level level;
    start(LOG_FORM_JOURNAL, LOG_LEVEL_NOTICE);
    assert_true(log_enabled(LOG_LEVEL_ERROR) && log_enabled(LOG_LEVEL_NOTICE));
    assert_false(log_enabled(LOG_LEVEL_INFO));
    log_line(LOG_LEVEL_INFO, "a", NULL);
    log_line(LOG_LEVEL_NOTICE, "b", NULL);
    log_line(LOG_LEVEL_ERROR, "c", NULL);
    log_set_level(LOG_LEVEL_DEBUG);
    log_line(LOG_LEVEL_DEBUG, "d", NULL);
    assert_string_equal(slurp(path), "<5>event=b\n<3>event=c\n<7>event=d\n");

    assert_true(log_level_parse("error", &level) && level == LOG_LEVEL_ERROR);
    assert_true(log_level_parse("warning", &level) && level == LOG_LEVEL_WARNING);
    assert_true(log_level_parse("debug", &level) && level == LOG_LEVEL_DEBUG);
    assert_false(log_level_parse("loud", &level));
    assert_false(log_level_parse("emergency", &level));
}

static void
test_plain_form(void **state)
{
    (void)state;
    start(LOG_FORM_PLAIN, LOG_LEVEL_INFO);
    log_line(LOG_LEVEL_WARNING, "disk.full", "path=%s", "/var");
    const char *line = slurp(path);
    assert_memory_equal(line, "time=20", 7);
    assert_non_null(strstr(line, "Z level=warning event=disk.full path=/var\n"));
    /* A file is not the journal, whatever the environment says. */
    setenv("JOURNAL_STREAM", "1:1", 1);
    start(LOG_FORM_AUTO, LOG_LEVEL_INFO);
    log_line(LOG_LEVEL_WARNING, "x", NULL);
    assert_memory_equal(slurp(path), "time=", 5);
    unsetenv("JOURNAL_STREAM");
}

static void
test_journal_is_found_on_stderr(void **state)
{
    (void)state;
    struct stat st;
    char stream[64];
    int saved = dup(STDERR_FILENO), fd = open(path, O_RDWR | O_TRUNC | O_APPEND);
    const struct log_options options = { .form = LOG_FORM_AUTO };
    log_close();
    fstat(fd, &st);
    snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    dup2(fd, STDERR_FILENO);
    bool ok = log_open(&options);
    log_line(LOG_LEVEL_INFO, "x", NULL);
    dup2(saved, STDERR_FILENO);
    unsetenv("JOURNAL_STREAM");
    close(saved);
    close(fd);
    assert_true(ok);
    assert_string_equal(slurp(path), "<6>event=x\n");
}

static void
test_long_lines_are_cut(void **state)
{
    (void)state;
    static char value[2 * LOG_LINE_MAX];
    start(LOG_FORM_JOURNAL, LOG_LEVEL_INFO);
    for (size_t n = LOG_LINE_MAX - 64; n < LOG_LINE_MAX + 64; n++) {
        memset(value, 'v', n);
        value[n] = '\0';
        for (int round = 0; round < 3; round++) {
            if (round == 1)
                value[0] = '\n'; /* quoted now */
            if (round == 2)
                memcpy(value + n / 2, "\xc3\xa9", 2);
            assert_int_equal(truncate(path, 0), 0);
            log_line(LOG_LEVEL_INFO, "x", "a=%s b=%s", value, "two words");
            const char *line = slurp(path);
            size_t length = strlen(line);
            assert_true(length <= LOG_LINE_MAX);
            assert_ptr_equal(strchr(line, '\n'), line + length - 1);
            assert_true(kt_utf8_is_text(line, length));
            bool cut = strstr(line, "...") != NULL;
            assert_true(cut || strcmp(line + length - 15, " b=\"two words\"\n") == 0);
            if (n > LOG_LINE_MAX)
                assert_true(cut);
            if (n < LOG_LINE_MAX - 60)
                assert_false(cut);
            size_t quotes = 0;
            for (size_t i = 0; i < length; i++)
                quotes += line[i] == '"';
            assert_int_equal(quotes % 2, 0);
        }
    }
}

static void
test_reopen(void **state)
{
    (void)state;
    char old[80];
    snprintf(old, sizeof(old), "%s.1", path);
    start(LOG_FORM_JOURNAL, LOG_LEVEL_INFO);
    log_line(LOG_LEVEL_INFO, "a", NULL);
    assert_int_equal(rename(path, old), 0);
    log_line(LOG_LEVEL_INFO, "b", NULL);
    assert_true(log_reopen());
    log_line(LOG_LEVEL_INFO, "c", NULL);
    assert_string_equal(slurp(old), "<6>event=a\n<6>event=b\n");
    assert_string_equal(slurp(path), "<6>event=c\n");
    unlink(old);
}

static void
test_cannot_open(void **state)
{
    (void)state;
    const struct log_options options = { .file = "/tmp/kaiten-no-such-folder/log" };
    start(LOG_FORM_JOURNAL, LOG_LEVEL_INFO);
    assert_false(log_open(&options));
    assert_int_equal(errno, ENOENT);
    log_line(LOG_LEVEL_INFO, "still", NULL);
    assert_string_equal(slurp(path), "<6>event=still\n");
}

enum { THREADS = 4, LINES = 500 };

static void *
chatter(void *name)
{
    for (int i = 0; i < LINES; i++)
        log_line(LOG_LEVEL_INFO, "x", "who=%s i=%d", (const char *)name, i);
    return NULL;
}

static void
test_threads(void **state)
{
    (void)state;
    static const char *const names[] = { "a", "b", "c", "d" };
    pthread_t threads[THREADS];
    start(LOG_FORM_JOURNAL, LOG_LEVEL_INFO);
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, chatter, (void *)(uintptr_t)names[i]);
    for (int i = 0; i < 50; i++) {
        assert_true(log_reopen());
        log_set_level(LOG_LEVEL_INFO);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    int lines = 0, next[THREADS] = { 0 };
    slurp(path);
    for (char *line = strtok(contents, "\n"); line != NULL; line = strtok(NULL, "\n"), lines++) {
        char who;
        int i;
        assert_int_equal(sscanf(line, "<6>event=x who=%c i=%d", &who, &i), 2);
        assert_int_equal(i, next[who - 'a']++);
    }
    assert_int_equal(lines, THREADS * LINES);
}

/* Whole lines, in order, however many there are; another thread's come between, never inside. */
static void
test_gathered(void **state)
{
    (void)state;
    enum { MANY = 300 };
    char expected[64], long_value[LOG_LINE_MAX + 1];
    start(LOG_FORM_JOURNAL, LOG_LEVEL_INFO);
    log_gather();
    log_line(LOG_LEVEL_INFO, "x", "n=%d", 0);
    assert_string_equal(slurp(path), "");
    errno = EDOM;
    log_release();
    assert_int_equal(errno, EDOM);
    SAYS("n=0");
    log_line(LOG_LEVEL_INFO, "x", "n=%d", 1);
    SAYS("n=1");
    memset(long_value, 'a', sizeof(long_value) - 1);
    long_value[sizeof(long_value) - 1] = '\0';
    log_gather();
    for (int i = 0; i < MANY; i++) {
        log_line(LOG_LEVEL_INFO, "x", "n=%d", i);
        if (i == MANY / 2)
            log_line(LOG_LEVEL_INFO, "x", "long=%s", long_value);
    }
    log_release();
    const char *at = slurp(path);
    for (int i = 0; i < MANY; i++) {
        snprintf(expected, sizeof(expected), "<6>event=x n=%d\n", i);
        assert_memory_equal(at, expected, strlen(expected));
        at += strlen(expected);
        if (i == MANY / 2)
            at = strchr(at, '\n') + 1;
    }
    assert_string_equal(at, "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),      cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_messages),    cmocka_unit_test(test_levels),
        cmocka_unit_test(test_plain_form),  cmocka_unit_test(test_journal_is_found_on_stderr),
        cmocka_unit_test(test_long_lines_are_cut), cmocka_unit_test(test_reopen),
        cmocka_unit_test(test_cannot_open), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_gathered),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
