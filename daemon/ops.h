/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The daemon's half of the operation table: who may, and what runs. */
#ifndef OPS_H
#define OPS_H

#include "daemon/request.h"

enum op_flag {
    OP_PUBLIC = 1 << 0,  /* needs no caller */
    OP_INLINE = 1 << 1,  /* run() never blocks: it may be called on an event loop */
    OP_WRITES = 1 << 2,  /* proposes a batch */
    OP_ONCE = 1 << 3,    /* twice is not the same as once: an idempotency key is heeded */
    OP_JUDGES = 1 << 4,  /* says whether a token is good */
    OP_ADMIN = 1 << 5,   /* for local peers that are root or the daemon's own user */
    OP_METRICS = 1 << 6, /* the listener says whether it is there, and for whom */
    OP_TRIES = 1 << 7,   /* run() is tried on the loop first: see struct call, on_loop */
    OP_ENDS = 1 << 8,    /* ends tokens and makes none: no limit stands before it */
    OP_EARLY = 1 << 9    /* not inline, but also answered while the index is still being filled */
};

struct op {
    unsigned flags;
    /* Between bind and authorize, for what the contract checks before the scope; NULL: nothing. */
    int (*check)(struct request *);
    /* Reads, fills rq->out, proposes rq->batch; writes nothing. With OP_WRITES it may be called
     * again for the same request when the world changed under it. */
    int (*run)(struct request *);
    /* For inline operations that several requests on one loop ask for at once, at most LOOP_GROUP:
     * called before the first of them runs. Asks for memory that run() would wait for, and may
     * leave in rq->ahead what it need not find out again. NULL: nothing. */
    void (*ahead)(struct request *const list[], size_t n);
    /* After the answer to an earlier request with this idempotency key was put into rq->out:
     * whether this caller may have it now. NULL: whoever the answer was for may. */
    int (*again)(struct request *);
};

extern const struct op ops[KT_OP_COUNT];

/* daemon/ops/account.c */
int account_create(struct request *);
int account_list(struct request *);
int account_get(struct request *);
int account_update_check(struct request *);
int account_update(struct request *);
int account_delete(struct request *);

/* daemon/ops/token.c */
int token_create_check(struct request *);
int token_create(struct request *);
int token_create_again(struct request *);
int token_list(struct request *);
int token_get(struct request *);
int token_rotate_check(struct request *);
int token_rotate(struct request *);
int token_rotate_again(struct request *);
int token_revoke(struct request *);
int token_revoke_all(struct request *);

/* daemon/ops/validate.c */
int token_validate(struct request *);
int token_verify(struct request *);
void token_verify_ahead(struct request *const list[], size_t n);
int token_verify_many(struct request *);

/* daemon/ops/meta.c */
int meta_whoami(struct request *);
int meta_scopes(struct request *);
int meta_healthz(struct request *);
int meta_readyz(struct request *);
int meta_jwks(struct request *);
int meta_ping(struct request *);
int meta_hello(struct request *);
int meta_describe(struct request *);

/* daemon/ops/admin.c */
int store_op_check(struct request *);
int store_op_backup(struct request *);
int store_op_export(struct request *);
int store_op_read(struct request *);
int store_op_drop(struct request *);

/* daemon/ops/metrics.c */
int metrics_print(struct request *);

/* daemon/ops/key.c */
int key_list(struct request *);
int key_rotate(struct request *);
int key_retire(struct request *);

/* daemon/ops/document.c */
int document_openapi(struct request *);
int document_docs(struct request *);
int document_style(struct request *);

#endif
