/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#define _GNU_SOURCE
#include "config.h"

#include "daemon/model/digest.h"
#include "daemon/model/portable.h"
#include "plugins/kaiten-storage.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { STREAM_MAX = 512 * 1024 };

static struct digest_keys *keys, *others;
static unsigned char stream[STREAM_MAX];
static size_t nstream;

static struct digest_keys *
make_keys(void)
{
    char folder[] = "/tmp/kaiten-portable-XXXXXX", path[64];
    struct digest_keys *made = NULL;
    struct digest_error err;
    if (!mkdtemp(folder))
        return NULL;
    snprintf(path, sizeof path, "%s/key", folder);
    (void)digest_keys_create(path, &made, &err);
    (void)unlink(path);
    (void)rmdir(folder);
    return made;
}

/* Two short records, the longest that there may be, and an empty value. */
static int
setup(void **state)
{
    (void)state;
    static char long_key[KAITEN_KEY_MAX], long_value[KAITEN_VALUE_MAX];
    uint64_t records;
    memset(long_key, 'b', sizeof long_key);
    keys = make_keys();
    others = make_keys();
    int fd = memfd_create("stream", MFD_CLOEXEC);
    struct portable_out *out = keys && others && fd >= 0 ? portable_begin(fd, keys) : NULL;
    bool ok = out && portable_put(out, KT_LIT("a"), KT_LIT("one")) &&
              portable_put(out, KT_LIT("ab"), KT_LIT("two")) &&
              portable_put(out, (struct kt_str){ long_key, sizeof long_key },
                           (struct kt_str){ long_value, sizeof long_value }) &&
              portable_put(out, KT_LIT("c"), KT_LIT(""));
    if (!ok || !portable_end(out, &records) || records != 4)
        return -1;
    nstream = (size_t)pread(fd, stream, sizeof stream, 0);
    return close(fd);
}

static int
teardown(void **state)
{
    (void)state;
    digest_keys_free(keys);
    digest_keys_free(others);
    return 0;
}

struct source {
    const unsigned char *p;
    size_t n, piece;
};

static ssize_t
read_source(void *ctx, void *bytes, size_t n)
{
    struct source *s = ctx;
    n = n > s->piece ? s->piece : n;
    n = n > s->n ? s->n : n;
    memcpy(bytes, s->p, n);
    s->p += n;
    s->n -= n;
    return (ssize_t)n;
}

static ssize_t
read_nothing(void *ctx, void *bytes, size_t n)
{
    (void)ctx;
    (void)bytes;
    (void)n;
    errno = EIO;
    return -1;
}

static bool
count(void *ctx, struct kt_str key, struct kt_str value)
{
    (void)key;
    (void)value;
    return --*(int *)ctx != 0;
}

static const char *
read_with(const struct digest_keys *with, const unsigned char *bytes, size_t n, size_t piece)
{
    static char err[PORTABLE_ERROR_MAX];
    struct source s = { bytes, n, piece };
    const struct portable_source from = { read_source, &s };
    uint64_t records;
    int most = 1000;
    bool good = portable_read(with, &from, count, &most, &records, err);
    assert_true(good == (err[0] == '\0'));
    assert_true(!good || records == 4);
    return err;
}

static void
a_stream_comes_in_pieces_of_any_size(void **state)
{
    (void)state;
    static const size_t pieces[] = { 1, 7, 4096, STREAM_MAX };
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
        assert_string_equal(read_with(keys, stream, nstream, pieces[i]), "");
}

static void
one_that_is_cut_off_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < nstream; n += n < 128 || n + 128 > nstream ? 1 : 97)
        assert_non_null(strstr(read_with(keys, stream, n, STREAM_MAX), "cut off"));
}

static void
one_that_was_changed_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < nstream; n += n < 128 || n + 128 > nstream ? 1 : 97) {
        stream[n] ^= 1;
        assert_string_not_equal(read_with(keys, stream, nstream, STREAM_MAX), "");
        stream[n] ^= 1;
    }
    assert_string_equal(read_with(keys, stream, nstream, STREAM_MAX), "");
    assert_non_null(strstr(read_with(keys, stream, nstream + 1, STREAM_MAX), "behind its end"));
}

static void
refusals_say_what_is_wrong(void **state)
{
    (void)state;
    char err[PORTABLE_ERROR_MAX];
    uint64_t records;
    int most = 2;
    struct source s = { stream, nstream, STREAM_MAX };
    const struct portable_source from = { read_source, &s }, broken = { read_nothing, NULL };
    assert_non_null(strstr(read_with(others, stream, nstream, 64), "another digest key"));
    stream[11] = 2;
    assert_non_null(strstr(read_with(keys, stream, nstream, 64), "of format 2; this version knows"));
    stream[11] = 1;
    assert_false(portable_read(keys, &broken, count, &most, &records, err));
    assert_non_null(strstr(err, "cannot be read"));
    /* The caller ended it, and knows why. */
    assert_false(portable_read(keys, &from, count, &most, &records, err));
    assert_string_equal(err, "");
    assert_int_equal(records, 2);
}

static void
what_cannot_be_written_is_said_at_the_end(void **state)
{
    (void)state;
    uint64_t records;
    struct portable_out *out = portable_begin(-1, keys);
    assert_non_null(out);
    assert_true(portable_put(out, KT_LIT("a"), KT_LIT("b")));
    assert_false(portable_end(out, &records));
    assert_int_equal(errno, EBADF);
    portable_abandon(portable_begin(-1, keys));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_comes_in_pieces_of_any_size),
        cmocka_unit_test(one_that_is_cut_off_is_refused),
        cmocka_unit_test(one_that_was_changed_is_refused),
        cmocka_unit_test(refusals_say_what_is_wrong),
        cmocka_unit_test(what_cannot_be_written_is_said_at_the_end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
