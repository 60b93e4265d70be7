/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What msgpack-c and the published suite say of the same bytes. */
#include "config.h"

#include "client/proto/json.h"
#include "tests/unit/corpus.h"
#include "tests/unit/msgpack-same.h"
#include "tests/unit/pack-samples.h"

/* What is accepted, msgpack-c reads as the same; and written again it reads the same. */
static void
check_against_msgpack_c(struct kt_str bytes, const struct kt_value *value)
{
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t offset = 0;
    assert_int_equal(msgpack_unpack_next(&unpacked, bytes.p, bytes.n, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, bytes.n);
    assert_true(same(value, &unpacked.data));
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    kt_pack_put_value(&buf, value);
    assert_false(buf.failed);
    offset = 0;
    assert_int_equal(msgpack_unpack_next(&unpacked, buf.p, buf.n, &offset), MSGPACK_UNPACK_SUCCESS);
    assert_true(same(value, &unpacked.data));
    kt_buf_done(&buf);
    msgpack_unpacked_destroy(&unpacked);
}

static void
test_samples_against_msgpack_c(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        if (!samples[i].printed)
            continue;
        struct kt_arena arena;
        struct kt_value value;
        size_t len;
        const char *why;
        kt_arena_init(&arena, ARENA_BYTES);
        assert_int_equal(kt_pack_read(samples[i].bytes, NULL, &arena, &value, &len, &why),
                         KT_FRAME_DONE);
        check_against_msgpack_c(samples[i].bytes, &value);
        kt_arena_done(&arena);
    }
}

static double
number(const struct kt_value *v)
{
    return v->type == KT_V_NUMBER ? v->d : v->type == KT_V_UINT ? (double)v->u : (double)v->i;
}

static bool
is_number(const struct kt_value *v)
{
    return v->type == KT_V_INT || v->type == KT_V_UINT || v->type == KT_V_NUMBER;
}

static bool
alike(const struct kt_value *a, const struct kt_value *b)
{
    if (is_number(a) && is_number(b))
        return a->type == b->type && a->type == KT_V_INT ? a->i == b->i : number(a) == number(b);
    if (a->type != b->type)
        return false;
    bool equal = true;
    switch (a->type) {
    case KT_V_BOOL:
        return a->b == b->b;
    case KT_V_STR:
        return kt_str_eq(a->s, b->s);
    case KT_V_ARRAY:
        equal = a->array.n == b->array.n;
        for (size_t i = 0; equal && i < a->array.n; i++)
            equal = alike(&a->array.v[i], &b->array.v[i]);
        return equal;
    case KT_V_MAP:
        equal = a->map.n == b->map.n;
        for (size_t i = 0; equal && i < a->map.n; i++)
            equal = kt_str_eq(a->map.v[i].name, b->map.v[i].name) &&
                    alike(&a->map.v[i].value, &b->map.v[i].value);
        return equal;
    default:
        return a->type == KT_V_NULL;
    }
}

/* "a1-dc" as bytes; returns how many. */
static size_t
hex_bytes(struct kt_str text, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i + 1 < text.n; i += 3) {
        char digits[3] = { text.p[i], text.p[i + 1], '\0' };
        out[n++] = (char)strtoul(digits, NULL, 16);
    }
    return n;
}

static bool
value_is_expected(const struct kt_value *entry, const struct kt_value *value)
{
    const struct kt_value *want;
    char bytes[256];
    if ((want = kt_value_get(entry, "timestamp"))) {
        int64_t ms = want->array.v[0].i * 1000 + want->array.v[1].i / 1000000;
        return value->type == KT_V_TIME && value->t.ms == ms;
    }
    if ((want = kt_value_get(entry, "binary")))
        return value->type == KT_V_BIN && same_str(value->s, bytes, hex_bytes(want->s, bytes));
    if ((want = kt_value_get(entry, "bignum"))) {
        char text[32];
        snprintf(text, sizeof text, value->type == KT_V_UINT ? "%llu" : "%lld",
                 (unsigned long long)value->u);
        return value->type == KT_V_NUMBER ? value->d == strtod(want->s.p, NULL)
                                          : kt_str_is(want->s, text);
    }
    static const char *const plain[] = { "nil", "bool", "number", "string", "array", "map" };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if ((want = kt_value_get(entry, plain[i])))
            return alike(want, value);
    return false;
}

static unsigned
entry_check(const struct kt_value *entry, unsigned *refused)
{
    const struct kt_value *encodings = kt_value_get(entry, "msgpack");
    for (size_t i = 0; i < encodings->array.n; i++) {
        char bytes[512];
        struct kt_str text = encodings->array.v[i].s;
        struct kt_str message = { bytes, hex_bytes(text, bytes) };
        struct kt_arena arena;
        struct kt_value value;
        size_t len = 0;
        const char *why = "";
        kt_arena_init(&arena, ARENA_BYTES);
        enum kt_frame frame = kt_pack_read(message, NULL, &arena, &value, &len, &why);
        if (kt_value_get(entry, "ext")) {
            assert_int_equal(frame, KT_FRAME_BAD);
            assert_non_null(strstr(why, "not a timestamp"));
            ++*refused;
        } else {
            if (frame != KT_FRAME_DONE || !value_is_expected(entry, &value))
                fail_msg("%.*s: %d %s", KT_FMT(text), frame, why);
            assert_int_equal(len, message.n);
            check_against_msgpack_c(message, &value);
        }
        kt_arena_done(&arena);
    }
    return (unsigned)encodings->array.n;
}

static void
test_corpus(void **state)
{
    (void)state;
    static const struct kt_json_limits limits = { 16, 1000, 100000, 4096, 60 };
    const char *path = corpus_path("msgpack-test-suite/msgpack-test-suite.json");
    if (!path)
        skip();
    size_t n;
    char *text = corpus_read(path, &n);
    struct kt_arena arena;
    struct kt_value groups;
    struct kt_json_error error = { 0 };
    kt_arena_init(&arena, 16 << 20);
    if (kt_json_read((struct kt_str){ text, n }, &arena, &limits, &groups, &error) != 0)
        fail_msg("%zu: %s", error.offset, error.text);
    unsigned seen = 0, refused = 0;
    for (size_t i = 0; i < groups.map.n; i++) {
        const struct kt_value *group = &groups.map.v[i].value;
        for (size_t k = 0; k < group->array.n; k++)
            seen += entry_check(&group->array.v[k], &refused);
    }
    assert_true(seen > 200);
    assert_true(refused < seen / 10);
    kt_arena_done(&arena);
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples_against_msgpack_c),
        cmocka_unit_test(test_corpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
