/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/export.h"

#include "daemon/log.h"
#include "daemon/model/endings.h"
#include "daemon/model/format.h"
#include "daemon/service.h"
#include "daemon/store.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum {
    TOGETHER = 256,             /* batches of one sync */
    BYTES = 4 * 1024 * 1024     /* and about so many bytes */
};

_Static_assert((int)TOGETHER <= (int)KAITEN_APPLY_BATCHES_MAX, "of one call");

static const struct kt_str begun = KT_LIT(FORMAT_IMPORT_KEY); /* there while records are written */

/* --- out ---------------------------------------------------------------------------------- */

struct writing {
    struct call *call;
    struct portable_out *out;
    struct export_result *result;
};

/* Only who runs the daemon asks for this, so the reason is told. */
static int
fail_write(struct writing *w)
{
    const int error = errno;
    const bool full = error == ENOSPC || error == EDQUOT;
    w->result->error = error;
    log_line(LOG_LEVEL_ERROR, "export.failed", "message=%s", strerror(error));
    return fail(w->call, KT_UNAVAILABLE, full ? "Storage.Full" : NULL,
                "the export cannot be written: %s", strerror(error));
}

static int
put_row(void *ctx, const struct store_row *row)
{
    struct writing *w = ctx;
    if (kt_str_eq(row->key, begun) || portable_put(w->out, row->key, row->stored))
        return KT_OK;
    return fail_write(w);
}

int
export_write(struct call *call, int fd, struct export_result *ret)
{
    struct call own = *call;
    struct writing w = { call, portable_begin(fd, call->svc->keys), ret };
    *ret = (struct export_result){ .records = 0 };
    int status = w.out ? KT_OK : fail_memory(call);
    own.deadline_ms = INT64_MAX;
    for (const char *space = STORE_SPACES; *space && status == KT_OK; space++) {
        const char end = (char)(*space + 1);
        const struct store_range range = { { space, 1 }, { &end, 1 }, false, 0 };
        status = store_scan(&own, call->svc->store, &range, put_row, &w);
    }
    if (status == KT_OK && !portable_end(w.out, &ret->records))
        return fail_write(&w);
    if (status != KT_OK)
        portable_abandon(w.out);
    return status;
}

/* --- in ----------------------------------------------------------------------------------- */

struct filling {
    struct call *call;
    struct batch *batches[TOGETHER];
    size_t n, bytes;
    size_t marks;   /* of revocation journals */
    size_t deleted; /* rows */
    bool newer;     /* it is of a format that nobody here knows */
    int status;
};

static int
apply(struct filling *f)
{
    struct kaiten_outcome outcomes[TOGETHER];
    char why[256] = "";
    enum kaiten_status status = KAITEN_DONE;
    for (size_t i = 0; i < f->n; i++)
        if (f->batches[i]->failed)
            return fail_memory(f->call);
    if (f->n != 0)
        status = store_apply(f->call->svc->store, f->batches, f->n, outcomes, why, sizeof why);
    for (size_t i = 0; i < f->n && status == KAITEN_DONE; i++)
        status = outcomes[i].status;
    f->n = f->bytes = 0;
    kt_arena_reset(f->call->arena);
    if (status == KAITEN_DONE)
        return KT_OK;
    return fail_cause(f->call, KT_UNAVAILABLE, NULL, "the store cannot be written: %s", why);
}

/* The batch that the next row goes into. NULL: f->status. */
static struct batch *
batch_for(struct filling *f, bool sealed)
{
    struct batch *last = f->n == 0 ? NULL : f->batches[f->n - 1];
    if (last && last->sealed == sealed && last->nwrites < BATCH_WRITES_MAX)
        return last;
    if (f->n == TOGETHER || f->bytes > BYTES)
        f->status = apply(f);
    if (f->status != KT_OK)
        return NULL;
    struct batch *b = batch_new(f->call->arena);
    if (!b) {
        f->status = fail_memory(f->call);
        return NULL;
    }
    b->sealed = sealed;
    f->batches[f->n++] = b;
    return b;
}

static bool
set_row(struct filling *f, bool sealed, struct kt_str key, struct kt_str value)
{
    struct batch *b = batch_for(f, sealed);
    if (!b)
        return false;
    batch_set(b, kt_arena_str(b->arena, key), kt_arena_str(b->arena, value));
    if (b->failed)
        f->status = fail_memory(f->call);
    f->bytes += key.n + value.n;
    return f->status == KT_OK;
}

static bool
check_row(void *ctx, struct kt_str key, struct kt_str value)
{
    struct filling *f = ctx;
    struct kt_str payload;
    bool good = !kt_str_eq(key, begun) &&
                memchr(STORE_SPACES, key.p[0], sizeof STORE_SPACES - 1) &&
                store_is_authentic(f->call->svc->store, key, value, &payload);
    f->newer = good && !format_is_known(key, payload);
    if (good && !f->newer)
        return true;
    f->status = KT_VALIDATION;
    return false;
}

/* Where several daemons write the store, the row of a journal's mark has another name. */
static bool
fill_mark(struct filling *f, struct kt_str key, struct kt_str value)
{
    char room[ENDINGS_MARK_NAME_MAX];
    struct kt_str payload, name;
    struct store *store = f->call->svc->store;
    f->marks++;
    if (!store_is_authentic(store, key, value, &payload) ||
        !endings_mark_name(store, payload, room, &name)) {
        f->status = KT_VALIDATION;
        return false;
    }
    if (f->marks == 1 || store_has_outsiders(store))
        return set_row(f, false, name, payload);
    /* With several marks none is ours: the operator decides when the daemon starts. */
    struct batch *b = batch_for(f, false);
    if (!b)
        return false;
    batch_delete(b, kt_arena_str(b->arena, name));
    if (b->failed)
        f->status = fail_memory(f->call);
    return f->status == KT_OK;
}

static bool
fill_row(void *ctx, struct kt_str key, struct kt_str value)
{
    struct filling *f = ctx;
    if (endings_is_mark(key))
        return fill_mark(f, key, value);
    return set_row(f, true, key, value);
}

/* --- the row that says so ----------------------------------------------------------------- */

static int
set_begun(struct call *call, bool is_begun)
{
    struct filling f = { .call = call };
    struct batch *b = batch_for(&f, false);
    if (!b)
        return f.status;
    if (is_begun)
        batch_set(b, begun, KT_LIT("1"));
    else
        batch_delete(b, begun);
    return apply(&f);
}

static int
is_unfinished(struct call *call, bool *ret)
{
    struct store_row row;
    int status = store_get(call, call->svc->store, &begun, 1, &row);
    *ret = status == KT_OK && row.value.p;
    return status;
}

static int
delete_row(void *ctx, const struct store_row *row)
{
    struct filling *f = ctx;
    struct batch *b = f->batches[f->n - 1];
    if (kt_str_eq(row->key, begun))
        return KT_OK;
    batch_delete(b, kt_arena_str(b->arena, row->key));
    f->deleted++;
    if (b->nwrites < BATCH_WRITES_MAX)
        return KT_OK;
    f->batches[f->n] = batch_new(f->call->arena);
    return f->batches[f->n++] ? KT_OK : fail_memory(f->call);
}

/* Everything but the row that says so. */
static int
empty(struct call *call)
{
    int status = KT_OK;
    for (const char *space = STORE_SPACES; *space && status == KT_OK;) {
        struct filling f = { .call = call, .n = 1 };
        const char end = (char)(*space + 1);
        const struct store_range range = { { space, 1 }, { &end, 1 }, false,
                                           (TOGETHER - 1) * BATCH_WRITES_MAX };
        kt_arena_reset(call->arena);
        f.batches[0] = batch_new(call->arena);
        if (!f.batches[0])
            return fail_memory(call);
        status = store_scan(call, call->svc->store, &range, delete_row, &f);
        if (status == KT_OK)
            status = apply(&f);
        space += f.deleted == 0;
    }
    return status;
}

/* --- both passes -------------------------------------------------------------------------- */

static ssize_t
read_file(void *ctx, void *bytes, size_t n)
{
    ssize_t got;
    do
        got = read(*(const int *)ctx, bytes, n);
    while (got < 0 && errno == EINTR);
    return got;
}

static int
check_stream(struct call *call, int fd, uint64_t *ret_records, char *err)
{
    const struct portable_source file = { read_file, &fd };
    struct filling f = { .call = call };
    if (portable_read(call->svc->keys, &file, check_row, &f, ret_records, err))
        return KT_OK;
    if (f.newer)
        snprintf(err, PORTABLE_ERROR_MAX, "its records have a format that this version does not "
                 "know");
    else if (f.status != KT_OK)
        snprintf(err, PORTABLE_ERROR_MAX, "record %llu does not authenticate: a key is missing "
                 "that was in force once, or it was changed", (unsigned long long)*ret_records);
    return KT_VALIDATION;
}

static int
check_store(struct call *call, char *err)
{
    bool is_empty, unfinished;
    int status = is_unfinished(call, &unfinished);
    if (status == KT_OK)
        status = store_is_empty(call, call->svc->store, &is_empty);
    snprintf(err, PORTABLE_ERROR_MAX, "the store cannot be read");
    if (status != KT_OK || is_empty)
        return status;
    if (unfinished)
        return empty(call);
    snprintf(err, PORTABLE_ERROR_MAX, "the store is not empty");
    return KT_CONFLICT;
}

static int
fill(struct call *call, int fd, char *err)
{
    const struct portable_source file = { read_file, &fd };
    struct filling f = { .call = call };
    uint64_t records;
    int status = set_begun(call, true);
    bool whole = status == KT_OK &&
                 portable_read(call->svc->keys, &file, fill_row, &f, &records, err);
    if (status == KT_OK)
        status = f.status;
    if (status == KT_OK)
        status = whole ? apply(&f) : KT_VALIDATION;
    return status == KT_OK ? set_begun(call, false) : status;
}

int
import_read(struct call *call, int fd, uint64_t *ret_records, char err[PORTABLE_ERROR_MAX])
{
    int status = check_store(call, err);
    if (status == KT_OK)
        status = check_stream(call, fd, ret_records, err);
    if (status != KT_OK)
        return status;
    snprintf(err, PORTABLE_ERROR_MAX, "the store cannot be written");
    status = lseek(fd, 0, SEEK_SET) == 0 ? fill(call, fd, err) : KT_UNAVAILABLE;
    if (status != KT_OK && empty(call) == KT_OK)
        (void)set_begun(call, false);
    return status;
}
