/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/check.h"
#include "daemon/backup.h"
#include "daemon/ops.h"
#include "daemon/ops/loose.h"
#include "daemon/service.h"
#include "daemon/store.h"

int
store_op_check(struct request *rq)
{
    int status = store_check(&rq->call, rq->call.svc->store);
    rq->out.health.status = KT_LIT("ok");
    return status;
}

static int
tell_made(struct request *rq, int status, const struct backup_made *made)
{
    struct kt_arena *arena = rq->call.arena;
    if (status != KT_OK)
        return status;
    struct kt_value *files = kt_arena_calloc(arena, made->n + 1, sizeof *files);
    struct kt_member *m = kt_arena_calloc(arena, 2 + 2 * made->n, sizeof *m);
    struct kt_str id = kt_arena_str(arena, kt_str(made->id));
    if (!files || !m || !id.p)
        return fail_memory(&rq->call);
    for (size_t i = 0; i < made->n; i++) {
        struct kt_member *of = m + 2 + 2 * i;
        of[0] = say("name", text(kt_str(made->files[i].name)));
        of[1] = say("size", number(made->files[i].size));
        files[i] = map(of, 2);
    }
    m[0] = say("backup", text(id));
    m[1] = say("files", array(files, made->n));
    return answer_value(rq, map(m, 2));
}

int
store_op_backup(struct request *rq)
{
    struct backup_made made = { .n = 0 };
    int status = backup_make(&rq->call, rq->call.svc->backup, &made);
    return tell_made(rq, status, &made);
}

int
store_op_export(struct request *rq)
{
    struct backup_made made = { .n = 0 };
    int status = backup_export(&rq->call, rq->call.svc->backup, &made);
    return tell_made(rq, status, &made);
}

int
store_op_read(struct request *rq)
{
    struct kt_str piece = { NULL, 0 };
    const struct kt_in_backup *in = &rq->in.backup;
    int status = backup_read(&rq->call, rq->call.svc->backup, in->backup, in->file, in->offset,
                             &piece);
    if (status != KT_OK)
        return status;
    char *coded = kt_arena_alloc(rq->call.arena, KT_B64URL_LEN(BACKUP_PIECE) + 1);
    struct kt_member *m = kt_arena_calloc(rq->call.arena, 1, sizeof *m);
    if (!coded || !m)
        return fail_memory(&rq->call);
    size_t n = kt_b64url_encode(piece.p, piece.n, coded);
    m[0] = say("data", text((struct kt_str){ coded, n }));
    return answer_value(rq, map(m, 1));
}

int
store_op_drop(struct request *rq)
{
    return backup_drop(&rq->call, rq->call.svc->backup, rq->in.backup.backup);
}
