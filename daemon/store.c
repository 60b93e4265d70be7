/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/store.h"

#include "daemon/log.h"
#include "daemon/model/digest.h"
#include "daemon/plugin.h"
#include "daemon/seal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* How long nobody is sent to a store that has failed so often in a row, before somebody tries. */
enum { GATE_MS = 250, GATE_FAILURES = 2 };

struct store {
    struct kaiten_storage plugin;
    void *instance;
    const struct digest_keys *_Atomic keys;
    unsigned threads; /* what the plugin can take */
    _Atomic uint64_t gets, scans, applies, batches;
    _Atomic int64_t closed_until_ms; /* monotonic; 0: it is not closed */
    _Atomic unsigned failed;         /* look-ups in a row */
    pthread_mutex_t checking;
    pthread_rwlock_t lock; /* below PARALLEL only: reads shared or not, writes alone */
    /* Of the one thread that applies. Not on its stack, which compilers are told to clear. */
    struct kaiten_batch list[KAITEN_APPLY_BATCHES_MAX];
    unsigned char ids[KAITEN_APPLY_BATCHES_MAX][sizeof(((struct kaiten_batch *)0)->id)];
};

struct store *
store_new(const struct kaiten_storage *plugin, void *take_instance, unsigned threads)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->plugin = *plugin;
    s->instance = take_instance;
    s->threads = threads < plugin->threads ? threads : plugin->threads;
    pthread_rwlock_init(&s->lock, NULL);
    pthread_mutex_init(&s->checking, NULL);
    return s;
}

void
store_set_keys(struct store *s, const struct digest_keys *keys)
{
    s->keys = keys;
}

const struct digest_keys *
store_keys(const struct store *s)
{
    return s->keys;
}

void
store_free(struct store *s)
{
    if (!s)
        return;
    s->plugin.close(s->instance);
    pthread_rwlock_destroy(&s->lock);
    pthread_mutex_destroy(&s->checking);
    free(s);
}

bool
store_is_durable(const struct store *s)
{
    return (s->plugin.caps & KAITEN_STORAGE_DURABLE) != 0;
}

uint64_t
store_kept(const struct store *s)
{
    return s->plugin.kept ? s->plugin.kept(s->instance) & s->plugin.caps : s->plugin.caps;
}

bool
store_has_outsiders(const struct store *s)
{
    return (s->plugin.caps & KAITEN_STORAGE_OUTSIDE_WRITERS) != 0;
}

static void
count(_Atomic uint64_t *counter, size_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

void
store_count(const struct store *s, struct store_counts *ret)
{
    *ret = (struct store_counts){ .gets = s->gets, .scans = s->scans, .applies = s->applies,
                                  .batches = s->batches };
}

static void
lock_read(struct store *s)
{
    if (s->threads == KAITEN_THREADS_READERS)
        pthread_rwlock_rdlock(&s->lock);
    else if (s->threads < KAITEN_THREADS_READERS)
        pthread_rwlock_wrlock(&s->lock);
}

static void
lock_write(struct store *s)
{
    if (s->threads < KAITEN_THREADS_PARALLEL)
        pthread_rwlock_wrlock(&s->lock);
}

static void
unlock(struct store *s)
{
    if (s->threads < KAITEN_THREADS_PARALLEL)
        pthread_rwlock_unlock(&s->lock);
}

/* --- sealing ------------------------------------------------------------------------------ */

/* False: no record of ours, or somebody changed it. One that was sealed with a key of a moment ago
 * is no reason to think so. */
static bool
unseal(const struct store *s, struct kt_str key, struct kt_str sealed, struct kt_str *ret_payload,
       size_t *ret_key)
{
    const struct digest_keys *keys = s->keys;
    while (!seal_open(keys, key, sealed, ret_payload, ret_key)) {
        const struct digest_keys *now = s->keys;
        if (now == keys)
            return false;
        keys = now;
    }
    return true;
}

bool
store_is_authentic(const struct store *s, struct kt_str key, struct kt_str stored,
                   struct kt_str *ret_payload)
{
    size_t sealed_by;
    return unseal(s, key, stored, ret_payload, &sealed_by);
}

/* --- reading ------------------------------------------------------------------------------ */

/* The plugin's status as one of our kinds. */
static int
refuse(struct call *call, enum kaiten_status status, const char *what, const char *why)
{
    if (status == KAITEN_RETRY || status == KAITEN_FULL)
        return fail_cause(call, KT_UNAVAILABLE, NULL, "storage %s: %s", what, why);
    return fail_cause(call, KT_INTERNAL, NULL, "storage %s failed (status %d): %s", what,
                      (int)status, why);
}

/* A store behind a network fails slowly: one that is down must not hold every worker for as long as
 * a time-out takes. False: it failed a moment ago, and it is not our turn to try it again. */
static bool
may_ask(struct store *s)
{
    int64_t until = atomic_load(&s->closed_until_ms);
    if (until == 0)
        return true;
    int64_t now = clock_mono_ms();
    return now >= until && atomic_compare_exchange_strong(&s->closed_until_ms, &until,
                                                          now + GATE_MS);
}

static void
note_get(struct store *s, enum kaiten_status status)
{
    if (!store_has_outsiders(s))
        return;
    if (status == KAITEN_RETRY) {
        if (atomic_fetch_add(&s->failed, 1) + 1 >= GATE_FAILURES)
            atomic_store(&s->closed_until_ms, clock_mono_ms() + GATE_MS);
        return;
    }
    if (atomic_load(&s->failed) != 0) {
        atomic_store(&s->failed, 0);
        atomic_store(&s->closed_until_ms, 0);
    }
}

static int
refuse_closed(struct call *call)
{
    return fail(call, KT_UNAVAILABLE, NULL, "temporarily unavailable, please retry");
}

static struct kt_str
as_str(struct kaiten_bytes b)
{
    return (struct kt_str){ b.p, b.n };
}

struct get_emit {
    struct kaiten_emit base;
    struct store *store;
    struct call *call;
    const struct kt_str *keys;
    struct store_row *rows;
    size_t n;
    int result;
};

static bool
get_row(struct kaiten_emit *base, struct kaiten_bytes key, struct kaiten_bytes value,
        uint64_t revision)
{
    struct get_emit *e = (struct get_emit *)base;
    struct kt_str k = as_str(key), payload;
    size_t sealed_by;
    for (size_t i = 0; i < e->n; i++) {
        if (e->rows[i].value.p || !kt_str_eq(k, e->keys[i]))
            continue;
        if (!unseal(e->store, k, as_str(value), &payload, &sealed_by)) {
            e->result = fail_cause(e->call, KT_INTERNAL, NULL,
                                   "a stored record of space '%c' does not authenticate", k.p[0]);
            return false;
        }
        e->rows[i].value = kt_arena_str(e->call->arena, payload);
        e->rows[i].revision = revision;
        e->rows[i].sealed_by = sealed_by;
        if (!e->rows[i].value.p) {
            e->result = fail_memory(e->call);
            return false;
        }
    }
    return true;
}

int
store_get(struct call *call, struct store *s, const struct kt_str keys[], size_t n,
          struct store_row rows[])
{
    struct kaiten_bytes asked[KAITEN_BATCH_WRITES_MAX];
    if (n > KAITEN_BATCH_WRITES_MAX)
        return fail_cause(call, KT_INTERNAL, NULL, "store_get of %zu keys", n);
    for (size_t i = 0; i < n; i++) {
        asked[i] = (struct kaiten_bytes){ keys[i].p, keys[i].n };
        rows[i] = (struct store_row){ .key = keys[i] };
    }
    if (!may_ask(s))
        return refuse_closed(call);
    struct get_emit emit = { { get_row }, s, call, keys, rows, n, KT_OK };
    struct kaiten_err err = { "" };
    host_set_deadline(call->deadline_ms);
    count(&s->gets, 1);
    lock_read(s);
    enum kaiten_status status = s->plugin.get(s->instance, asked, n, &emit.base, &err);
    unlock(s);
    host_set_deadline(0);
    note_get(s, status);
    if (emit.result != KT_OK)
        return emit.result;
    return status == KAITEN_DONE ? KT_OK : refuse(call, status, "get", err.text);
}

int
store_get_one(struct call *call, struct store *s, struct kt_str key, struct store_row *ret_row)
{
    if (!key.p)
        return fail_memory(call);
    struct store_row row;
    int status = store_get(call, s, &key, 1, &row);
    if (status != KT_OK)
        return status;
    if (!row.value.p)
        return KT_NOT_FOUND;
    *ret_row = row;
    return KT_OK;
}

struct row_emit {
    struct kaiten_emit base;
    struct store *store;
    struct call *call;
    int (*each)(void *ctx, const struct store_row *);
    void *ctx;
    int result;
};

static bool
scan_row(struct kaiten_emit *base, struct kaiten_bytes key, struct kaiten_bytes value,
         uint64_t revision)
{
    struct row_emit *e = (struct row_emit *)base;
    struct store_row row = { .key = as_str(key), .revision = revision, .stored = as_str(value) };
    if (unseal(e->store, row.key, as_str(value), &row.value, &row.sealed_by))
        e->result = e->each(e->ctx, &row);
    else
        e->result = fail_cause(e->call, KT_INTERNAL, NULL,
                               "a stored record of space '%c' does not authenticate",
                               row.key.p[0]);
    return e->result == KT_OK;
}

struct rows_emit {
    struct row_emit one;
    struct seal_together together;
};

static bool
give_held(struct rows_emit *e, const struct seal_held *r)
{
    struct row_emit *one = &e->one;
    if (!r->authentic)
        return scan_row(&one->base, (struct kaiten_bytes){ r->key, r->key_n },
                        (struct kaiten_bytes){ r->stored, r->stored_n }, r->revision);
    const struct store_row row = { .key = { r->key, r->key_n },
                                   .value = seal_payload(r),
                                   .revision = r->revision,
                                   .stored = { r->stored, r->stored_n } };
    one->result = one->each(one->ctx, &row);
    return one->result == KT_OK;
}

static bool
give_all_held(struct rows_emit *e)
{
    size_t n = seal_look(&e->together);
    bool more = true;
    for (size_t i = 0; i < n && more; i++)
        more = give_held(e, &e->together.rows[i]);
    return more;
}

/* Rows of a long scan wait for one another, so that a start pays less for each. */
static bool
scan_rows(struct kaiten_emit *base, struct kaiten_bytes key, struct kaiten_bytes value,
          uint64_t revision)
{
    struct rows_emit *e = (struct rows_emit *)base;
    bool full;
    if (seal_hold(&e->together, as_str(key), as_str(value), revision, &full))
        return !full || give_all_held(e);
    return give_all_held(e) && scan_row(base, key, value, revision);
}

static int
scan(struct call *call, struct store *s, const struct store_range *range, struct kaiten_emit *emit)
{
    const struct kaiten_range r = {
        .from = { range->from.p, range->from.n },
        .to = { range->to.p, range->to.n },
        .backward = range->backward,
        .limit = range->limit,
    };
    /* Whether it may be tried again is found out by look-ups, which take no time of their own. */
    if (atomic_load(&s->closed_until_ms) > clock_mono_ms())
        return refuse_closed(call);
    struct kaiten_err err = { "" };
    host_set_deadline(call->deadline_ms);
    count(&s->scans, 1);
    lock_read(s);
    enum kaiten_status status = s->plugin.scan(s->instance, &r, emit, &err);
    unlock(s);
    host_set_deadline(0);
    return status == KAITEN_DONE ? KT_OK : refuse(call, status, "scan", err.text);
}

int
store_scan(struct call *call, struct store *s, const struct store_range *range,
           int (*each)(void *, const struct store_row *), void *ctx)
{
    struct rows_emit emit = { .one = { { scan_rows }, s, call, each, ctx, KT_OK },
                              .together.keys = s->keys };
    int status = scan(call, s, range, &emit.one.base);
    if (emit.one.result == KT_OK && status == KT_OK)
        (void)give_all_held(&emit);
    return emit.one.result != KT_OK ? emit.one.result : status;
}

/* The follower says itself what it has to say: a store that is away would fill the log. */
static bool
change_row(struct kaiten_emit *base, struct kaiten_bytes key, struct kaiten_bytes value,
           uint64_t revision)
{
    struct row_emit *e = (struct row_emit *)base;
    struct store_row row = { .key = as_str(key), .revision = revision };
    if (!value.p || unseal(e->store, row.key, as_str(value), &row.value, &row.sealed_by))
        e->result = e->each(e->ctx, &row);
    else
        e->result = fail(e->call, KT_INTERNAL, NULL,
                         "a stored record of space '%c' does not authenticate", row.key.p[0]);
    return e->result == KT_OK;
}

int
store_changes(struct call *call, struct store *s, const struct store_news *news,
              int (*each)(void *, const struct store_row *), void *ctx,
              struct kaiten_position *ret_now)
{
    struct row_emit emit = { { change_row }, s, call, each, ctx, KT_OK };
    const struct kaiten_bytes spaces = { news->spaces, strlen(news->spaces) };
    struct kaiten_err err = { "" };
    host_set_deadline(call->deadline_ms);
    lock_read(s);
    enum kaiten_status status =
        s->plugin.changes(s->instance, news->since, spaces, &emit.base, ret_now, &err);
    unlock(s);
    host_set_deadline(0);
    if (emit.result != KT_OK)
        return emit.result;
    if (status == KAITEN_DONE)
        return KT_OK;
    if (status == KAITEN_CONFLICT)
        return KT_CONFLICT;
    return fail(call, KT_UNAVAILABLE, NULL, "storage changes: status %d: %s", (int)status,
                err.text);
}

struct seen_emit {
    struct kaiten_emit base;
    bool seen;
};

static bool
seen_row(struct kaiten_emit *base, struct kaiten_bytes key, struct kaiten_bytes value,
         uint64_t revision)
{
    (void)key;
    (void)value;
    (void)revision;
    ((struct seen_emit *)base)->seen = true;
    return false;
}

int
store_lacks(struct call *call, struct store *s, const char *spaces, bool *ret_lacks)
{
    /* Each space is a range of its own. */
    struct seen_emit emit = { { seen_row }, false };
    for (const char *p = spaces; *p && !emit.seen; p++) {
        char end = (char)(*p + 1);
        struct store_range range = { { p, 1 }, { &end, 1 }, false, 1 };
        int status = scan(call, s, &range, &emit.base);
        if (status != KT_OK)
            return status;
    }
    *ret_lacks = !emit.seen;
    return KT_OK;
}

int
store_is_empty(struct call *call, struct store *s, bool *ret_empty)
{
    return store_lacks(call, s, STORE_SPACES, ret_empty);
}

bool
store_is_healthy(struct store *s, char *reason, size_t n)
{
    if (!s->plugin.health)
        return true;
    struct kaiten_err err = { "" };
    lock_read(s);
    enum kaiten_status status = s->plugin.health(s->instance, &err);
    unlock(s);
    if (status == KAITEN_DONE)
        return true;
    snprintf(reason, n, "%s", err.text);
    return false;
}

static int
refuse_unable(struct call *call, const char *what)
{
    return fail(call, KT_METHOD, "Store.Unable", "this storage plugin cannot %s", what);
}

/* To who runs the daemon, and may know what is wrong with it. */
static int
refuse_operator(struct call *call, enum kaiten_status status, const char *what, const char *why)
{
    if (status == KAITEN_CORRUPT) {
        log_line(LOG_LEVEL_ERROR, "store.damaged", "asked=%s message=%s", what, why);
        return fail(call, KT_INTERNAL, "Store.Damaged", "%s", why);
    }
    const bool passes = status == KAITEN_RETRY || status == KAITEN_FULL;
    log_line(LOG_LEVEL_ERROR, "store.failed", "asked=%s status=%d message=%s", what, (int)status,
             why);
    return fail(call, passes ? KT_UNAVAILABLE : KT_INTERNAL,
                status == KAITEN_FULL ? "Storage.Full" : "Store.Failed", "%s", why);
}

int
store_backup(struct call *call, struct store *s, const char *dir)
{
    struct kaiten_err err = { "" };
    if (!(s->plugin.caps & KAITEN_STORAGE_BACKUP) || !s->plugin.backup)
        return refuse_unable(call, "be copied while it is in use");
    lock_read(s);
    enum kaiten_status status = s->plugin.backup(s->instance, dir, &err);
    unlock(s);
    return status == KAITEN_DONE ? KT_OK : refuse_operator(call, status, "backup", err.text);
}

int
store_check(struct call *call, struct store *s)
{
    struct kaiten_err err = { "" };
    if (!s->plugin.check)
        return refuse_unable(call, "be checked");
    if (pthread_mutex_trylock(&s->checking) != 0)
        return fail(call, KT_CONFLICT, "Store.Busy", "the store is being checked already");
    lock_read(s);
    enum kaiten_status status = s->plugin.check(s->instance, &err);
    unlock(s);
    pthread_mutex_unlock(&s->checking);
    return status == KAITEN_DONE ? KT_OK : refuse_operator(call, status, "check", err.text);
}

/* --- writing ------------------------------------------------------------------------------ */

bool
store_seal(struct store *s, struct batch *b)
{
    if (!b->keys)
        b->keys = s->keys;
    for (size_t i = 0; i < b->nwrites; i++) {
        struct kaiten_write *w = &b->writes[i];
        if (w->type != KAITEN_SET)
            continue;
        struct kt_str sealed = seal_make(b->keys, b->arena, as_str(w->key), as_str(w->value));
        if (!sealed.p)
            return false;
        w->value = (struct kaiten_bytes){ sealed.p, sealed.n };
    }
    b->sealed = true;
    return true;
}

enum kaiten_status
store_apply(struct store *s, struct batch *const batches[], size_t n,
            struct kaiten_outcome outcomes[], char *why, size_t nwhy)
{
    host_table.random(s->ids, n * sizeof s->ids[0]);
    for (size_t i = 0; i < n; i++) {
        struct batch *b = batches[i];
        if (!b->sealed && !store_seal(s, b)) {
            snprintf(why, nwhy, "no memory to seal records");
            return KAITEN_RETRY;
        }
        s->list[i] = (struct kaiten_batch){ .conds = b->conds,
                                            .nconds = b->nconds,
                                            .writes = b->writes,
                                            .nwrites = b->nwrites,
                                            .flags = b->urgent ? KAITEN_BATCH_URGENT : 0 };
        memcpy(s->list[i].id, s->ids[i], sizeof s->ids[i]);
        outcomes[i] = (struct kaiten_outcome){ .status = KAITEN_FAILED };
    }
    struct kaiten_err err = { "" };
    count(&s->applies, 1);
    count(&s->batches, n);
    lock_write(s);
    enum kaiten_status status = s->plugin.apply(s->instance, s->list, n, outcomes, &err);
    unlock(s);
    snprintf(why, nwhy, "%s", err.text);
    return status;
}

int
store_apply_one(struct call *call, struct store *s, struct batch *b)
{
    char why[256] = "";
    struct kaiten_outcome outcome;
    if (!b || b->failed)
        return fail_memory(call);
    enum kaiten_status status = store_apply(s, &b, 1, &outcome, why, sizeof why);
    if (status == KAITEN_DONE && outcome.status == KAITEN_DONE)
        return KT_OK;
    if (status == KAITEN_DONE && outcome.status == KAITEN_CONFLICT)
        return KT_CONFLICT;
    return fail_cause(call, KT_UNAVAILABLE, NULL, "the store cannot be written: %s", why);
}
