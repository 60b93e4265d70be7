/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* How many threads the store lets into a plugin at once, by the level that the plugin declares. */
#include "config.h"

#include "tests/unit/store-core.h"

/* Counts who is inside. Until two have met, each waits a moment for somebody to join. */
static struct {
    _Atomic int readers, writers, most_readers, beside_writer;
    int patience; /* milliseconds */
} inside;

static void
linger(void)
{
    const struct timespec tick = { 0, 1000 * 1000 };
    for (int i = 0; i < inside.patience; i++) {
        if (atomic_load(&inside.most_readers) > 1)
            return;
        nanosleep(&tick, NULL);
    }
}

static void
read_inside(void)
{
    int now = atomic_fetch_add(&inside.readers, 1) + 1;
    if (now > atomic_load(&inside.most_readers))
        atomic_store(&inside.most_readers, now);
    if (atomic_load(&inside.writers))
        atomic_fetch_add(&inside.beside_writer, 1);
    linger();
    atomic_fetch_sub(&inside.readers, 1);
}

static enum kaiten_status
inside_get(void *instance, const struct kaiten_bytes *keys, size_t n, struct kaiten_emit *emit,
           struct kaiten_err *err)
{
    (void)instance, (void)keys, (void)n, (void)emit, (void)err;
    read_inside();
    return KAITEN_DONE;
}

static enum kaiten_status
inside_scan(void *instance, const struct kaiten_range *range, struct kaiten_emit *emit,
            struct kaiten_err *err)
{
    (void)instance, (void)range, (void)emit, (void)err;
    read_inside();
    return KAITEN_DONE;
}

static enum kaiten_status
inside_health(void *instance, struct kaiten_err *err)
{
    (void)instance, (void)err;
    read_inside();
    return KAITEN_DONE;
}

static enum kaiten_status
inside_apply(void *instance, const struct kaiten_batch *batches, size_t n,
             struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    (void)instance, (void)batches, (void)err;
    int others = atomic_fetch_add(&inside.writers, 1);
    if (others || atomic_load(&inside.readers))
        atomic_fetch_add(&inside.beside_writer, 1);
    for (size_t i = 0; i < n; i++)
        outcomes[i].status = KAITEN_DONE;
    linger();
    atomic_fetch_sub(&inside.writers, 1);
    return KAITEN_DONE;
}

static void
inside_close(void *instance)
{
    (void)instance;
}

struct reading {
    struct store *store;
    int what;
};

enum { TURNS = 60 };

static void *
keep_reading(void *arg)
{
    const struct reading *r = arg;
    struct kt_arena memory;
    struct call mine;
    char why[64];
    core_call(&core, &memory, &mine);
    for (int i = 0; i < TURNS; i++) {
        struct store_row row;
        const struct kt_str key = KT_LIT("aone");
        const struct store_range range = { KT_LIT("a"), KT_LIT("b"), false, 0 };
        size_t n = 0;
        if (r->what == 0)
            core_must(store_get(&mine, r->store, &key, 1, &row) == KT_OK);
        else if (r->what == 1)
            core_must(store_scan(&mine, r->store, &range, count_row, &n) == KT_OK);
        else
            core_must(store_is_healthy(r->store, why, sizeof why));
    }
    kt_arena_done(&memory);
    return NULL;
}

static void
keep_writing(struct store *store)
{
    for (int i = 0; i < TURNS; i++) {
        assert_int_equal(set(store, "aone", KT_LIT("1")), KAITEN_DONE);
        kt_arena_reset(&arena);
    }
}

static void
nobody_is_inside_beyond_the_level(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        unsigned plugin, daemon;
        bool readers_meet, writer_meets;
    } cases[] = {
        { "serial", KAITEN_THREADS_SERIAL, KAITEN_THREADS_PARALLEL, false, false },
        { "readers", KAITEN_THREADS_READERS, KAITEN_THREADS_PARALLEL, true, false },
        { "parallel", KAITEN_THREADS_PARALLEL, KAITEN_THREADS_PARALLEL, true, true },
        { "lowered by the daemon", KAITEN_THREADS_PARALLEL, KAITEN_THREADS_SERIAL, false, false },
        { "lowered to readers", KAITEN_THREADS_PARALLEL, KAITEN_THREADS_READERS, true, false },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        const struct kaiten_storage plugin = {
            .size = sizeof plugin, .abi = KAITEN_STORAGE_ABI,
            .threads = (uint16_t)cases[i].plugin, .name = "inside", .close = inside_close,
            .get = inside_get, .scan = inside_scan, .apply = inside_apply,
            .health = inside_health,
        };
        struct store *store = store_new(&plugin, NULL, cases[i].daemon);
        store_set_keys(store, core.svc.keys);
        atomic_store(&inside.most_readers, 0);
        atomic_store(&inside.beside_writer, 0);
        inside.patience = cases[i].readers_meet ? 100 : 3;
        pthread_t threads[3];
        struct reading r[3];
        for (int k = 0; k < 3; k++) {
            r[k] = (struct reading){ store, k };
            pthread_create(&threads[k], NULL, keep_reading, &r[k]);
        }
        keep_writing(store);
        for (int k = 0; k < 3; k++)
            pthread_join(threads[k], NULL);
        store_free(store);
        if ((atomic_load(&inside.most_readers) > 1) != cases[i].readers_meet)
            fail_msg("%s: %d readers", cases[i].what, atomic_load(&inside.most_readers));
        if (!cases[i].writer_meets && atomic_load(&inside.beside_writer))
            fail_msg("%s: somebody is inside beside a writer", cases[i].what);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nobody_is_inside_beyond_the_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
