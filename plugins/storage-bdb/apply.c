/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* No child transactions: a batch looks at its conditions, through the transaction of its group,
 * before it writes over anything, so that a failed one has nothing to undo but rows that were not
 * there before. Any other failure undoes the whole group, and then each batch gets a transaction of
 * its own.
 *
 * A key that must be absent is written by the same batch, as a rule: the insert is the condition,
 * and the tree is searched once for both. */

/* Deadlocks. The writer's priority lets it win against one reader. When several readers hold the
 * page that it wants, undoing one of them would not free it, and the library undoes the writer.
 * Then it closes the gate, which waits for the readers inside, and writes with nobody in its way.
 * The gate opens before the commit: a sync is long, and a transaction that only commits asks for
 * no more locks. */

enum {
    TRIES = 5,                 /* of a transaction that lost a deadlock; the second one should do */
    WRITER_PRIORITY = 1 << 20, /* the library's default is 100: readers lose deadlocks, we do not */
    RESERVE = 1 << 20,         /* revisions that a restart skips at most */
    LOOK_EVERY_US = 20000,     /* at the free space */
    LOOK_BYTES = 256 * 1024    /* written by then */
};

/* What is written together: the batches of a call, or some of them, and what comes of each. */
struct group {
    const struct kaiten_batch *batches;
    struct kaiten_outcome *outcomes;
    size_t n;
};

static const struct kaiten_bytes revision_key = { "revision", 8 };

int
bdb_apply_open(struct bdb *bdb)
{
    unsigned char stored[BDB_REVISION];
    DBT key = bdb_key(revision_key);
    DBT data = bdb_buffer(stored, sizeof stored);
    int error = bdb->meta->get(bdb->meta, NULL, &key, &data, 0);
    if (error == DB_NOTFOUND)
        return 0;
    if (!error && data.size != BDB_REVISION)
        error = DB_VERIFY_BAD;
    if (!error)
        bdb->revision = bdb->reserved = bdb_revision_get(stored);
    return error;
}

/* Makes sure that n more revisions are never given out again, once the transaction has
 * committed. */
static int
revisions_reserve(struct bdb *bdb, DB_TXN *txn, size_t n, uint64_t *ret_reserved)
{
    *ret_reserved = bdb->reserved;
    if (bdb->revision + n <= bdb->reserved)
        return 0;
    unsigned char stored[BDB_REVISION];
    uint64_t reserved = bdb->revision + n + RESERVE;
    bdb_revision_put(stored, reserved);
    DBT key = bdb_key(revision_key);
    DBT data = { .data = stored, .size = sizeof stored };
    int error = bdb->meta->put(bdb->meta, txn, &key, &data, 0);
    if (!error)
        *ret_reserved = reserved;
    return error;
}

static int
condition_check(struct bdb *bdb, DB_TXN *txn, const struct kaiten_cond *cond, bool *ret_holds)
{
    DB *db = bdb_space(bdb, cond->key);
    unsigned char head[BDB_REVISION];
    uint64_t revision = 0;
    if (cond->type == KAITEN_AT && bdb_known_get(bdb, cond->key, &revision)) {
        *ret_holds = revision == cond->revision;
        return 0;
    }
    DBT key = bdb_key(cond->key);
    DBT data = bdb_buffer(head, sizeof head);
    data.flags |= DB_DBT_PARTIAL;
    data.dlen = sizeof head;
    /* The page is about to be written: asking for the write lock at once saves the second one. */
    int error = db ? db->get(db, txn, &key, &data, DB_RMW) : DB_NOTFOUND;
    if (error && error != DB_NOTFOUND)
        return error;
    bool present = !error;
    if (present && bdb_head_get(head, data.size, &revision) == 0)
        return DB_VERIFY_BAD;
    switch (cond->type) {
    case KAITEN_ABSENT:
        *ret_holds = !present;
        return 0;
    case KAITEN_PRESENT:
        *ret_holds = present;
        return 0;
    case KAITEN_AT:
        *ret_holds = present && revision == cond->revision;
        if (present)
            bdb_known_put(bdb, cond->key, revision);
        return 0;
    }
    return EINVAL;
}

/* flags: DB_NOOVERWRITE, or 0. */
static int
write_run(struct bdb *bdb, DB_TXN *txn, const struct kaiten_write *write, u_int32_t flags)
{
    DB *db = bdb_space(bdb, write->key);
    DBT key = bdb_key(write->key);
    bdb_known_forget(bdb, write->key);
    atomic_store(&bdb->written[*(const unsigned char *)write->key.p], true);
    if (write->type == KAITEN_DELETE) {
        int error = db ? db->del(db, txn, &key, 0) : 0;
        return error == DB_NOTFOUND ? 0 : error;
    }
    if (write->type != KAITEN_SET || write->value.n > KAITEN_VALUE_MAX)
        return EINVAL;
    size_t head = bdb_head_put(bdb->row, bdb->revision);
    if (write->value.n > 0)
        memcpy(bdb->row + head, write->value.p, write->value.n);
    DBT data = { .data = bdb->row, .size = (u_int32_t)(head + write->value.n) };
    return db->put(db, txn, &key, &data, flags);
}

static bool
is_key(struct kaiten_bytes a, struct kaiten_bytes b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

/* The write whose insert is this condition, or -1. When a key is written more than once, only the
 * last write counts, and the condition is looked at by itself. */
static int
insert_of(const struct kaiten_batch *batch, const struct kaiten_cond *cond)
{
    int found = -1;
    for (size_t i = 0; cond->type == KAITEN_ABSENT && i < batch->nwrites; i++) {
        if (!is_key(batch->writes[i].key, cond->key))
            continue;
        if (found >= 0 || batch->writes[i].type != KAITEN_SET)
            return -1;
        found = (int)i;
    }
    return found;
}

/* The first condition that does not hold, in order; batch->nconds: all hold. */
static int
first_failure(struct bdb *bdb, DB_TXN *txn, const struct kaiten_batch *batch, size_t *ret)
{
    bool holds = true;
    for (*ret = 0; *ret < batch->nconds; ++*ret) {
        int error = condition_check(bdb, txn, &batch->conds[*ret], &holds);
        if (error)
            return error;
        if (!holds)
            break;
    }
    return 0;
}

/* The conditions of one batch and how far they have come. */
struct claim {
    bool inserted[KAITEN_BATCH_WRITES_MAX];
    bool failed;
};

static int
claim_run(struct bdb *bdb, DB_TXN *txn, const struct kaiten_batch *batch, struct claim *claim)
{
    int insert[KAITEN_BATCH_CONDS_MAX], error = 0;
    bool holds = true;
    for (size_t i = 0; i < batch->nconds && holds && !error; i++) {
        insert[i] = insert_of(batch, &batch->conds[i]);
        if (insert[i] < 0)
            error = condition_check(bdb, txn, &batch->conds[i], &holds);
    }
    for (size_t i = 0; i < batch->nconds && holds && !error; i++) {
        if (insert[i] < 0 || claim->inserted[insert[i]])
            continue;
        error = write_run(bdb, txn, &batch->writes[insert[i]], DB_NOOVERWRITE);
        holds = error != DB_KEYEXIST;
        claim->inserted[insert[i]] = !error;
    }
    claim->failed = !holds;
    return error == DB_KEYEXIST ? 0 : error;
}

/* Takes back what was inserted, and says what stands in the way. */
static int
claim_undo(struct bdb *bdb, DB_TXN *txn, const struct kaiten_batch *batch,
           const struct claim *claim, struct kaiten_outcome *ret_outcome)
{
    for (size_t i = 0; i < batch->nwrites; i++) {
        if (!claim->inserted[i])
            continue;
        DBT key = bdb_key(batch->writes[i].key);
        DB *db = bdb_space(bdb, batch->writes[i].key);
        int error = db->del(db, txn, &key, 0);
        if (error)
            return error;
    }
    ret_outcome->status = KAITEN_CONFLICT;
    int error = first_failure(bdb, txn, batch, &ret_outcome->failed);
    return error || ret_outcome->failed < batch->nconds ? error : DB_VERIFY_BAD;
}

static int
batch_run(struct bdb *bdb, DB_TXN *txn, const struct kaiten_batch *batch,
          struct kaiten_outcome *ret_outcome)
{
    struct claim claim = { .failed = false };
    bdb->revision++;
    *ret_outcome = (struct kaiten_outcome){ .status = KAITEN_DONE, .revision = bdb->revision };
    int error = claim_run(bdb, txn, batch, &claim);
    if (!error && claim.failed)
        return claim_undo(bdb, txn, batch, &claim, ret_outcome);
    for (size_t i = 0; i < batch->nwrites && !error; i++)
        error = claim.inserted[i] ? 0 : write_run(bdb, txn, &batch->writes[i], 0);
    return error;
}

/* Files of new spaces are made beforehand, in transactions of the library's own. */
static int
spaces_prepare(struct bdb *bdb, const struct group *g)
{
    for (size_t i = 0; i < g->n; i++) {
        for (size_t w = 0; w < g->batches[i].nwrites; w++) {
            const struct kaiten_write *write = &g->batches[i].writes[w];
            if (write->type != KAITEN_SET || bdb_space(bdb, write->key))
                continue;
            int error = bdb_space_create(bdb, write->key);
            if (error)
                return error;
        }
    }
    return 0;
}

/* alone: with no reader inside. */
static int
group_run(struct bdb *bdb, DB_TXN *txn, const struct group *g, bool alone, uint64_t *ret_reserved)
{
    if (alone)
        pthread_rwlock_wrlock(&bdb->gate);
    bdb_holes_watch(true);
    int error = txn->set_priority(txn, WRITER_PRIORITY);
    if (!error)
        error = revisions_reserve(bdb, txn, g->n, ret_reserved);
    for (size_t i = 0; i < g->n && !error; i++)
        error = batch_run(bdb, txn, &g->batches[i], &g->outcomes[i]);
    bdb_holes_watch(false);
    if (alone)
        pthread_rwlock_unlock(&bdb->gate);
    return error;
}

/* One transaction, one sync. KAITEN_RETRY: it lost a deadlock. */
static enum kaiten_status
group_try(struct bdb *bdb, const struct group *g, bool alone, struct kaiten_err *err)
{
    DB_TXN *txn = NULL;
    uint64_t reserved = 0;
    int error = spaces_prepare(bdb, g);
    if (!error)
        error = bdb->env->txn_begin(bdb->env, NULL, &txn, 0);
    if (error)
        return bdb_fail(bdb, err, error, "cannot start to write");

    error = group_run(bdb, txn, g, alone, &reserved);
    if (error) {
        txn->abort(txn);
        return bdb_is_deadlock(error) ? KAITEN_RETRY : bdb_fail(bdb, err, error, "cannot write");
    }
    error = txn->commit(txn, DB_TXN_SYNC);
    if (!error) {
        bdb->reserved = reserved;
        return KAITEN_DONE;
    }
    /* On a full disk the library takes the commit back. After another failure nobody can say what
     * the disk has, and what is told now may be untrue after a restart: the restart is now. */
    if (bdb_status(bdb, error) != KAITEN_FULL)
        bdb_lost(bdb, "commit", error);
    return bdb_fail(bdb, err, error, "cannot commit");
}

static enum kaiten_status
group_apply(struct bdb *bdb, const struct group *g, struct kaiten_err *err)
{
    enum kaiten_status status = KAITEN_RETRY;
    pthread_rwlock_wrlock(&bdb->turn);
    for (int i = 0; i < TRIES && status == KAITEN_RETRY; i++) {
        if (i > 0)
            bdb_known_forget_all(bdb);
        status = group_try(bdb, g, i > 0, err);
    }
    pthread_rwlock_unlock(&bdb->turn);
    if (status != KAITEN_DONE)
        bdb_known_forget_all(bdb);
    if (status == KAITEN_RETRY)
        bdb->host.error(err, "cannot write: lost %d deadlocks", TRIES);
    return status;
}

/* --- when there is no space --------------------------------------------------------------- */

static bool
is_urgent(const struct kaiten_batch *batch)
{
    return (batch->flags & KAITEN_BATCH_URGENT) != 0;
}

/* What ends a secret is written as long as there is a piece of the ballast to give for it. */
static enum kaiten_status
urgent_apply(struct bdb *bdb, const struct group *g, struct kaiten_err *err)
{
    enum kaiten_status status;
    do {
        status = group_apply(bdb, g, err);
    } while (status == KAITEN_FULL && bdb_room_give(bdb));
    return status;
}

/* A look costs a system call, so not every group has one. */
static bool
is_roomy(struct bdb *bdb, const struct group *g)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t now = t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
    for (size_t i = 0; i < g->n; i++) {
        const struct kaiten_batch *batch = &g->batches[i];
        for (size_t w = 0; w < batch->nwrites; w++)
            bdb->unlooked += batch->writes[w].key.n + batch->writes[w].value.n;
    }
    if (now - bdb->looked < LOOK_EVERY_US && bdb->unlooked < LOOK_BYTES)
        return bdb->roomy;
    bdb->looked = now;
    bdb->unlooked = 0;
    bdb->roomy = bdb_room_is_there(bdb);
    return bdb->roomy;
}

/* --- the call ----------------------------------------------------------------------------- */

static void
each_apply(struct bdb *bdb, const struct group *g, bool urgent, struct kaiten_err *err)
{
    for (size_t i = 0; i < g->n; i++) {
        const struct group one = { &g->batches[i], &g->outcomes[i], 1 };
        if (is_urgent(one.batches) != urgent)
            continue;
        enum kaiten_status status =
            urgent ? urgent_apply(bdb, &one, err) : group_apply(bdb, &one, err);
        if (status != KAITEN_DONE)
            *one.outcomes = (struct kaiten_outcome){ .status = status };
    }
}

/* One batch that cannot be written must not fail the others, least of all a revocation. */
static enum kaiten_status
split_apply(struct bdb *bdb, const struct group *g, struct kaiten_err *err)
{
    enum kaiten_status status = group_apply(bdb, g, err);
    if (status == KAITEN_FULL && g->n == 1 && is_urgent(g->batches))
        return urgent_apply(bdb, g, err);
    if (status == KAITEN_DONE || status == KAITEN_UNKNOWN || status == KAITEN_CORRUPT || g->n == 1)
        return status;
    each_apply(bdb, g, true, err);
    each_apply(bdb, g, false, err);
    return KAITEN_DONE;
}

/* The urgent ones of a group, as a group; the others are refused. */
static enum kaiten_status
urgent_only(struct bdb *bdb, const struct group *g, struct kaiten_err *err)
{
    struct group urgent = { bdb->part, bdb->part_outcomes, 0 };
    for (size_t i = 0; i < g->n; i++) {
        if (is_urgent(&g->batches[i]))
            bdb->part[urgent.n++] = g->batches[i];
    }
    if (urgent.n == g->n)
        return split_apply(bdb, g, err);
    if (urgent.n == 0)
        return bdb_room_refuse(bdb, err);
    enum kaiten_status status = split_apply(bdb, &urgent, err);
    bdb_room_refuse(bdb, err);
    for (size_t i = 0, u = 0; i < g->n; i++) {
        struct kaiten_outcome *outcome = &g->outcomes[i];
        *outcome = (struct kaiten_outcome){ .status = KAITEN_FULL };
        if (!is_urgent(&g->batches[i]))
            continue;
        *outcome = urgent.outcomes[u++];
        if (status != KAITEN_DONE)
            *outcome = (struct kaiten_outcome){ .status = status };
    }
    return KAITEN_DONE;
}

enum kaiten_status
bdb_apply(void *instance, const struct kaiten_batch *batches, size_t n,
          struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    struct bdb *bdb = instance;
    const struct group g = { batches, outcomes, n };
    return is_roomy(bdb, &g) ? split_apply(bdb, &g, err) : urgent_only(bdb, &g, err);
}
