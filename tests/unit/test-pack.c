/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What is read as MessagePack and what is not, and at which limit; the scan and the reader agree. */
#include "config.h"

#include "client/proto/json.h"
#include "tests/unit/pack-samples.h"
#include "tests/unit/samples.h"

static enum kt_frame
scan_pieces(struct kt_str bytes, size_t cut, size_t step, size_t *ret_len, const char **ret_why)
{
    struct kt_pack_scan scan = { 0 };
    enum kt_frame frame = KT_FRAME_MORE;
    for (size_t n = cut; frame == KT_FRAME_MORE; n += step) {
        n = n > bytes.n ? bytes.n : n;
        /* In memory of its own, which ends there. */
        char *copy = malloc(n ? n : 1);
        memcpy(copy, bytes.p, n);
        frame = kt_pack_scan((struct kt_str){ copy, n }, NULL, &scan, ret_len, ret_why);
        free(copy);
        if (n == bytes.n)
            break;
    }
    return frame;
}

static enum kt_frame
read_prefix(struct kt_str bytes, size_t n, const char **ret_why)
{
    struct kt_arena arena;
    struct kt_value value;
    size_t len;
    kt_arena_init(&arena, ARENA_BYTES);
    char *copy = malloc(n ? n : 1);
    memcpy(copy, bytes.p, n);
    enum kt_frame frame =
        kt_pack_read((struct kt_str){ copy, n }, NULL, &arena, &value, &len, ret_why);
    free(copy);
    kt_arena_done(&arena);
    return frame;
}

static void
check_good(const struct sample *sample)
{
    struct kt_arena arena;
    struct kt_buf buf;
    kt_arena_init(&arena, ARENA_BYTES);
    kt_buf_init(&buf, ARENA_BYTES);
    struct kt_value value;
    size_t len = 0;
    const char *why = "";
    enum kt_frame frame = kt_pack_read(sample->bytes, NULL, &arena, &value, &len, &why);
    if (frame != KT_FRAME_DONE)
        fail_msg("%d %s", frame, why);
    assert_int_equal(len, sample->bytes.n);
    kt_json_put_value(&buf, &value);
    kt_buf_putc(&buf, '\0');
    assert_string_equal(buf.p, sample->printed);
    assert_int_equal(scan_pieces(sample->bytes, sample->bytes.n, 1, &len, &why), KT_FRAME_DONE);
    assert_int_equal(len, sample->bytes.n);
    kt_buf_done(&buf);
    kt_arena_done(&arena);
}

static void
test_sample(void **state)
{
    const struct sample *sample = *state;
    if (sample->printed) {
        check_good(sample);
        return;
    }
    const char *why = NULL;
    size_t len;
    assert_int_equal(read_prefix(sample->bytes, sample->bytes.n, &why), KT_FRAME_BAD);
    if (sample->why && !strstr(why, sample->why))
        fail_msg("%s", why);
    enum kt_frame frame = scan_pieces(sample->bytes, sample->bytes.n, 1, &len, &why);
    assert_int_equal(frame, sample->header ? KT_FRAME_BAD : KT_FRAME_DONE);
}

/* Wherever it is cut, the scan comes to the same end, and no beginning is taken for the whole. */
static void
test_split(void **state)
{
    const struct sample *sample = *state;
    enum kt_frame whole = sample->header ? KT_FRAME_BAD : KT_FRAME_DONE;
    for (size_t cut = 0; cut <= sample->bytes.n; cut++)
        for (size_t step = 1; step <= 3; step++) {
            size_t len = 0;
            const char *why;
            assert_int_equal(scan_pieces(sample->bytes, cut, step, &len, &why), whole);
            assert_true(whole == KT_FRAME_BAD || len == sample->bytes.n);
        }
    for (size_t n = 0; n < sample->bytes.n; n++) {
        const char *why;
        enum kt_frame frame = read_prefix(sample->bytes, n, &why);
        assert_int_not_equal(frame, KT_FRAME_DONE);
        assert_true(!sample->printed || frame == KT_FRAME_MORE);
    }
}

static void
test_bytes_behind_the_message_are_left(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        if (!samples[i].printed)
            continue;
        char bytes[128];
        memcpy(bytes, samples[i].bytes.p, samples[i].bytes.n);
        memset(bytes + samples[i].bytes.n, 0xC1, 8);
        struct kt_str text = { bytes, samples[i].bytes.n + 8 };
        struct kt_arena arena;
        struct kt_value value;
        size_t len = 0;
        const char *why;
        kt_arena_init(&arena, ARENA_BYTES);
        assert_int_equal(kt_pack_read(text, NULL, &arena, &value, &len, &why), KT_FRAME_DONE);
        assert_int_equal(len, samples[i].bytes.n);
        assert_int_equal(scan_pieces(text, text.n, 1, &len, &why), KT_FRAME_DONE);
        assert_int_equal(len, samples[i].bytes.n);
        kt_arena_done(&arena);
    }
}

/* Both readers on a buffer: they agree, and so what they say is returned. */
static enum kt_frame
both(const struct kt_buf *buf, const struct kt_pack_limits *limits)
{
    struct kt_arena arena;
    struct kt_value value;
    struct kt_pack_scan scan = { 0 };
    size_t read_len = 0, scan_len = 0;
    const char *why;
    assert_false(buf->failed);
    kt_arena_init(&arena, ARENA_BYTES);
    enum kt_frame frame = kt_pack_read(kt_buf_str(buf), limits, &arena, &value, &read_len, &why);
    assert_int_equal(kt_pack_scan(kt_buf_str(buf), limits, &scan, &scan_len, &why), frame);
    assert_int_equal(read_len, scan_len);
    kt_arena_done(&arena);
    return frame;
}

static void
test_limit_elements(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (size_t n = 4095; n <= 4096; n++) {
        kt_buf_reset(&buf);
        kt_pack_put_array(&buf, n);
        for (size_t i = 0; i < n; i++)
            kt_pack_put_nil(&buf);
        assert_int_equal(both(&buf, NULL), n == 4095 ? KT_FRAME_DONE : KT_FRAME_BAD);
    }
    /* 1 array + 2 maps of 2n values each */
    for (size_t n = 1023; n <= 1024; n++) {
        kt_buf_reset(&buf);
        kt_pack_put_array(&buf, 2);
        for (size_t i = 0; i < 2 * n; i++) {
            if (i % n == 0)
                kt_pack_put_map(&buf, n);
            char key[8];
            kt_pack_put_str(&buf,
                            (struct kt_str){ key, (size_t)snprintf(key, sizeof key, "%zu", i) });
            kt_pack_put_nil(&buf);
        }
        assert_int_equal(both(&buf, NULL), n == 1023 ? KT_FRAME_DONE : KT_FRAME_BAD);
    }
    kt_buf_done(&buf);
}

static void
test_limit_message(void **state)
{
    (void)state;
    static const char x[70000];
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (size_t n = 65536; n <= 65537; n++) {
        enum kt_frame frame = n == 65536 ? KT_FRAME_DONE : KT_FRAME_BAD;
        kt_buf_reset(&buf);
        kt_pack_put_bin(&buf, (struct kt_str){ x, n - 3 - (n - 3 > 65535 ? 2 : 0) });
        assert_int_equal(both(&buf, NULL), frame);
        kt_buf_reset(&buf);
        kt_pack_put_array(&buf, 2);
        kt_pack_put_bin(&buf, (struct kt_str){ x, n - 5 });
        kt_pack_put_nil(&buf);
        assert_int_equal(buf.n, n);
        assert_int_equal(both(&buf, NULL), frame);
        /* Refused on the header already: the nil cannot fit any more. */
        buf.n = 4;
        assert_int_equal(both(&buf, NULL), n == 65536 ? KT_FRAME_MORE : KT_FRAME_BAD);
    }
    kt_buf_done(&buf);
}

static void
test_limit_string_and_depth(void **state)
{
    (void)state;
    struct kt_pack_limits limits = kt_pack_request_limits;
    limits.string = 10;
    limits.depth = 100;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    kt_pack_put_str(&buf, KT_LIT("0123456789"));
    assert_int_equal(both(&buf, &limits), KT_FRAME_DONE);
    kt_buf_reset(&buf);
    kt_pack_put_bin(&buf, KT_LIT("01234567890"));
    assert_int_equal(both(&buf, &limits), KT_FRAME_BAD);
    for (size_t depth = KT_PACK_DEPTH_MAX; depth <= KT_PACK_DEPTH_MAX + 1; depth++) {
        kt_buf_reset(&buf);
        for (size_t i = 1; i < depth; i++)
            kt_pack_put_array(&buf, 1);
        kt_pack_put_array(&buf, 0);
        assert_int_equal(both(&buf, &limits),
                         depth == KT_PACK_DEPTH_MAX ? KT_FRAME_DONE : KT_FRAME_BAD);
    }
    kt_buf_done(&buf);
}

/* A header that announces what is not there yet must not take memory for it. */
static void
test_no_memory_for_what_is_not_there(void **state)
{
    (void)state;
    static const struct kt_str headers[] = { BYTES("\xDC\x0F\xFF"), BYTES("\xDE\x07\xFF"),
                                             BYTES("\xDC\x0F\xF0\xDC\x00\x0F") };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct kt_arena arena;
        struct kt_value value;
        size_t len;
        const char *why;
        kt_arena_init(&arena, ARENA_BYTES);
        assert_int_equal(kt_pack_read(headers[i], NULL, &arena, &value, &len, &why), KT_FRAME_MORE);
        assert_int_equal(arena.used, 0);
        kt_arena_done(&arena);
    }
}

static void
test_no_memory_is_bad(void **state)
{
    (void)state;
    static const struct kt_str bytes = BYTES("\x92\x81\xA1"
                                             "a\x01\x91\x02");
    enum kt_frame frame = KT_FRAME_BAD;
    for (size_t cap = 0; frame == KT_FRAME_BAD; cap++) {
        struct kt_arena arena;
        struct kt_value value = { .type = KT_V_TIME };
        size_t len;
        const char *why = NULL;
        kt_arena_init(&arena, cap);
        frame = kt_pack_read(bytes, NULL, &arena, &value, &len, &why);
        assert_true(frame == KT_FRAME_DONE || strstr(why, "memory"));
        assert_true(frame == KT_FRAME_DONE || value.type == KT_V_TIME);
        kt_arena_done(&arena);
    }
    assert_int_equal(frame, KT_FRAME_DONE);
}

/* Maps so large that keys are sorted: with all different, and with any two the same. */
static void
test_many_keys(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (unsigned n = 2; n < 60; n++)
        for (unsigned twin = 0; twin < n; twin++) {
            kt_buf_reset(&buf);
            kt_pack_put_map(&buf, n);
            for (unsigned i = 0; i < n; i++) {
                char key[16];
                unsigned k = (i == twin && twin > 0 ? twin / 2 : i) * 2654435761U % 4093;
                int len = snprintf(key, sizeof key, "%u", k);
                kt_pack_put_str(&buf, (struct kt_str){ key, (size_t)len });
                kt_pack_put_uint(&buf, i);
            }
            struct kt_arena arena;
            struct kt_value value;
            size_t len;
            const char *why = "";
            kt_arena_init(&arena, ARENA_BYTES);
            assert_int_equal(kt_pack_read(kt_buf_str(&buf), NULL, &arena, &value, &len, &why),
                             twin == 0 ? KT_FRAME_DONE : KT_FRAME_BAD);
            kt_arena_done(&arena);
        }
    kt_buf_done(&buf);
}

int
main(void)
{
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_bytes_behind_the_message_are_left),
        cmocka_unit_test(test_limit_elements),
        cmocka_unit_test(test_limit_message),
        cmocka_unit_test(test_limit_string_and_depth),
        cmocka_unit_test(test_no_memory_for_what_is_not_there),
        cmocka_unit_test(test_no_memory_is_bad),
        cmocka_unit_test(test_many_keys),
    };
    const struct sample_group group = {
        .name = "pack", .samples = samples, .size = sizeof samples[0],
        .n = sizeof samples / sizeof samples[0], .whole = test_sample, .split = test_split,
        .others = others, .nothers = sizeof others / sizeof others[0],
    };
    return run_samples(&group);
}
