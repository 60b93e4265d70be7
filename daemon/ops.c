/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/ops.h"

const struct op ops[KT_OP_COUNT] = {
    [KT_OP_ACCOUNT_CREATE] = { OP_WRITES | OP_MAKES, NULL, account_create },
    [KT_OP_ACCOUNT_LIST] = { 0, NULL, account_list },
    [KT_OP_ACCOUNT_GET] = { 0, NULL, account_get },
    [KT_OP_ACCOUNT_UPDATE] = { OP_WRITES, account_update_check, account_update },
    [KT_OP_ACCOUNT_DELETE] = { OP_WRITES | OP_ENDS, NULL, account_delete },
    [KT_OP_TOKEN_CREATE] = { OP_WRITES | OP_MAKES | OP_TRIES, token_create_check, token_create,
                             .again = token_create_again },
    [KT_OP_TOKEN_LIST] = { 0, NULL, token_list },
    [KT_OP_TOKEN_GET] = { 0, NULL, token_get },
    [KT_OP_TOKEN_ROTATE] = { OP_WRITES | OP_MAKES, NULL, token_rotate,
                             .again = token_rotate_again },
    [KT_OP_TOKEN_REVOKE] = { OP_WRITES | OP_ENDS, NULL, token_revoke },
    [KT_OP_TOKEN_REVOKE_ALL] = { OP_WRITES | OP_MAKES | OP_ENDS, NULL, token_revoke_all },
    [KT_OP_TOKEN_VALIDATE] = { OP_PUBLIC | OP_INLINE | OP_JUDGES, NULL, token_validate },
    [KT_OP_TOKEN_VERIFY] = { OP_INLINE | OP_JUDGES, NULL, token_verify, token_verify_ahead },
    [KT_OP_TOKEN_VERIFY_MANY] = { OP_INLINE | OP_JUDGES, NULL, token_verify_many },
    [KT_OP_WHOAMI] = { OP_INLINE, NULL, meta_whoami },
    [KT_OP_SCOPES] = { OP_INLINE, NULL, meta_scopes },
    [KT_OP_HEALTHZ] = { OP_PUBLIC | OP_INLINE, NULL, meta_healthz },
    [KT_OP_READYZ] = { OP_PUBLIC | OP_EARLY, NULL, meta_readyz },
    [KT_OP_METRICS] = { OP_PUBLIC | OP_INLINE | OP_METRICS, NULL, metrics_print },
    [KT_OP_JWKS] = { OP_PUBLIC | OP_INLINE, NULL, meta_jwks },
    [KT_OP_OPENAPI] = { OP_PUBLIC | OP_INLINE, NULL, document_openapi },
    [KT_OP_DOCS] = { OP_PUBLIC | OP_INLINE, NULL, document_docs },
    [KT_OP_DOCS_STYLE] = { OP_PUBLIC | OP_INLINE, NULL, document_style },
    [KT_OP_STORE_CHECK] = { OP_PUBLIC | OP_ADMIN, NULL, store_op_check },
    [KT_OP_STORE_BACKUP] = { OP_PUBLIC | OP_ADMIN, NULL, store_op_backup },
    [KT_OP_STORE_EXPORT] = { OP_PUBLIC | OP_ADMIN, NULL, store_op_export },
    [KT_OP_STORE_READ] = { OP_PUBLIC | OP_ADMIN, NULL, store_op_read },
    [KT_OP_STORE_DROP] = { OP_PUBLIC | OP_ADMIN, NULL, store_op_drop },
    [KT_OP_KEY_LIST] = { OP_PUBLIC | OP_ADMIN, NULL, key_list },
    [KT_OP_KEY_ROTATE] = { OP_PUBLIC | OP_ADMIN, NULL, key_rotate },
    [KT_OP_KEY_RETIRE] = { OP_PUBLIC | OP_ADMIN, NULL, key_retire },
    [KT_OP_PING] = { OP_PUBLIC | OP_INLINE, NULL, meta_ping },
    [KT_OP_HELLO] = { OP_PUBLIC | OP_INLINE, NULL, meta_hello },
    [KT_OP_DESCRIBE] = { OP_PUBLIC | OP_INLINE, NULL, meta_describe },
};
