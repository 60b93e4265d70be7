/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/plugin/check.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

/* One writer and some readers at the declared thread level. ROWS rows are rewritten again and
 * again with a counter in every byte pair, so that a torn row shows; rows between them are never
 * touched and must be in every scan; others come and go, so that pages split and empty. */

enum { READERS = 4, ROWS = 64, WRITES = 400, SECONDS = 30 };

struct load {
    struct check *c;
    struct kaiten_bytes keys[ROWS], still[ROWS];
    struct kaiten_range range;   /* all of them */
    _Atomic uint64_t done;       /* the last counter that apply() returned for */
    atomic_bool stop, failed;
    _Atomic uint64_t reads;
};

/* A value of some 3 KiB that holds nothing but the counter. */
static void
value_fill(uint64_t *words, size_t n, uint64_t counter)
{
    for (size_t i = 0; i < n; i++)
        words[i] = counter;
}

/* The counter in a value, or UINT64_MAX when it is not all the same. */
static uint64_t
value_counter(struct kaiten_bytes value)
{
    uint64_t first, word;
    if (value.n < sizeof first || value.n % sizeof first != 0)
        return UINT64_MAX;
    memcpy(&first, value.p, sizeof first);
    for (size_t i = 0; i < value.n; i += sizeof word) {
        memcpy(&word, (const char *)value.p + i, sizeof word);
        if (word != first)
            return UINT64_MAX;
    }
    return first;
}

static bool
read_rows(struct load *load)
{
    uint64_t before = atomic_load(&load->done);
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_get(load->c, load->keys, ROWS, &emit) == KAITEN_DONE);
    EXPECT(emit.n == ROWS);
    for (size_t i = 0; i < ROWS; i++) {
        EXPECT(check_compare(emit.rows[i].key, load->keys[i]) == 0);
        uint64_t counter = value_counter(emit.rows[i].value);
        EXPECT(counter != UINT64_MAX);
        EXPECT(counter >= before);
    }
    fake_emit_done(&emit);
    return true;
}

static bool
read_range(struct load *load, bool backward)
{
    uint64_t before = atomic_load(&load->done);
    struct kaiten_range range = load->range;
    range.backward = backward;
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_scan(load->c, &range, &emit) == KAITEN_DONE);
    size_t still = 0, moving = 0;
    for (size_t i = 0; i < emit.n; i++) {
        if (i > 0) {
            int order = check_compare(emit.rows[i - 1].key, emit.rows[i].key);
            EXPECT(backward ? order > 0 : order < 0);
        }
        size_t s = backward ? ROWS - 1 - still : still, m = backward ? ROWS - 1 - moving : moving;
        if (still < ROWS && check_compare(emit.rows[i].key, load->still[s]) == 0) {
            still++;
        } else if (moving < ROWS && check_compare(emit.rows[i].key, load->keys[m]) == 0) {
            moving++;
            uint64_t counter = value_counter(emit.rows[i].value);
            EXPECT(counter != UINT64_MAX && counter >= before);
        } else {
            EXPECT(value_counter(emit.rows[i].value) != UINT64_MAX);
        }
    }
    EXPECT(still == ROWS);
    EXPECT(moving == ROWS);
    fake_emit_done(&emit);
    return true;
}

static void *
reader_run(void *arg)
{
    struct load *load = arg;
    for (uint64_t i = 0; !atomic_load(&load->stop); i++) {
        bool good = i % 4 == 0 ? read_range(load, i % 8 == 0) : read_rows(load);
        if (!good) {
            atomic_store(&load->failed, true);
            return NULL;
        }
        atomic_fetch_add(&load->reads, 1);
    }
    return NULL;
}

/* Counter n: every row of keys[] in one batch, and in others a row that comes and one that goes. */
static bool
write_round(struct load *load, uint64_t n)
{
    struct check *c = load->c;
    uint64_t words[400];
    value_fill(words, sizeof words / sizeof *words, n);
    struct kaiten_bytes value = { words, (8 + n % 300) * sizeof *words };
    struct kaiten_batch batches[3];
    struct kaiten_outcome outcomes[3];
    struct kaiten_batch *all = check_batch(c), *comes = check_batch(c), *goes = check_batch(c);
    for (size_t i = 0; i < ROWS; i++)
        check_set(all, load->keys[i], value);
    check_set(comes, check_key_number(c, "z", n * 31 % 97), value);
    check_delete(goes, check_key_number(c, "z", n * 31 % 89));
    batches[0] = *all;
    batches[1] = *comes;
    batches[2] = *goes;
    EXPECT(check_apply(c, batches, 3, outcomes) == KAITEN_DONE);
    for (size_t i = 0; i < 3; i++)
        EXPECT(outcomes[i].status == KAITEN_DONE);
    atomic_store(&load->done, n);
    return true;
}

static bool
writer_run(struct load *load)
{
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (uint64_t n = 2; n < WRITES && !atomic_load(&load->failed); n++) {
        EXPECT(write_round(load, n));
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec - start.tv_sec > SECONDS && n >= 10)
            break; /* a slow machine or tool: this was enough */
    }
    EXPECT(atomic_load(&load->reads) > 0);
    return true;
}

static bool
load_threads(struct check *c)
{
    static struct load load;
    load = (struct load){ .c = c, .range = check_all(c) };
    for (uint64_t i = 0; i < ROWS; i++) {
        load.keys[i] = check_key_number(c, "k", i * 2);
        load.still[i] = check_key_number(c, "k", i * 2 + 1);
        EXPECT(check_put(c, load.still[i], check_text("8 bytes.")));
    }
    EXPECT(write_round(&load, 1));
    pthread_t threads[READERS];
    for (size_t i = 0; i < READERS; i++)
        EXPECT(pthread_create(&threads[i], NULL, reader_run, &load) == 0);
    while (atomic_load(&load.reads) == 0 && !atomic_load(&load.failed))
        nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    bool written = writer_run(&load);
    atomic_store(&load.stop, true);
    for (size_t i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    return written && !atomic_load(&load.failed);
}

const struct check_case cases_load[] = {
    { "threads: readers beside a writer see whole rows, and what was DONE before they asked",
      load_threads, NEED_STORE },
    { NULL, NULL, 0 },
};
