/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* THE TABLE: what each operation is, for every transport. Linked into libkaiten, kaitenctl and
 * kaitend; knows no socket and no store. */
#ifndef KT_OPS_H
#define KT_OPS_H

#include "client/proto/error.h"
#include "client/proto/field.h"

/* Items on a page of a list; plain numbers, since the documents have them in their texts. */
#define KT_PAGE_MAX 200
#define KT_PAGE_DEFAULT 50

struct kt_user {
    struct kt_str id, name;
};

/* A token as listed and, with the secret set, as answered once when it is minted. */
struct kt_token {
    struct kt_str id, name, slug;
    struct kt_strlist scopes;
    struct kt_str service_account_id;
    struct kt_time expires_at, created_at;
    const struct kt_user *created_by;
    struct kt_time revoked_at;
    const struct kt_user *revoked_by;
    struct kt_secret *token;
    struct kt_time last_used_at;
};

struct kt_account {
    struct kt_str id, name, slug, external_id;
    const struct kt_user *created_by;
    struct kt_time created_at;
    struct kt_list tokens; /* of struct kt_token */
    bool tokens_truncated;
};

/* What ended all tokens of an account that there were. */
struct kt_revocation {
    struct kt_str service_account_id, service_account_slug;
    struct kt_time revoked_at;
    const struct kt_user *revoked_by;
};

struct kt_page {
    struct kt_list items; /* of struct kt_account or struct kt_token */
    struct kt_str next_cursor;
    bool has_more;
};

/* Is this token good, and whose is it. */
struct kt_verdict {
    bool valid;
    struct kt_str code; /* when not valid: malformed, unknown, revoked, expired, scope */
    struct kt_str token_id, organization, service_account;
    struct kt_strlist scopes;
    struct kt_time expires_at;
};

struct kt_verdicts {
    struct kt_list results; /* of struct kt_verdict */
};

struct kt_whoami {
    struct kt_str subject, name, organization, organization_id, id, kind;
    struct kt_strlist scopes;
    struct kt_time expires_at;
};

struct kt_scope_list {
    struct kt_strlist scopes, modules;
};

struct kt_health {
    struct kt_str status;
};

/* The numbers only of a store that several daemons write. */
struct kt_readiness {
    struct kt_str status;
    int64_t staleness_ms, max_staleness_ms;
};

/* Input structs: path and query parameters first, then the body's members. */
struct kt_in_page {
    struct kt_str account; /* token.list only */
    struct kt_str cursor;
    int64_t limit;
};
struct kt_in_account {
    struct kt_str account; /* path; not for account.create */
    struct kt_str name, slug;
};
struct kt_in_token {
    struct kt_str account, token; /* path */
    struct kt_str name, slug;
    struct kt_strlist scopes;
    struct kt_time expires_at;
    int64_t grace_seconds; /* token.rotate */
};
struct kt_in_verify {
    struct kt_secret_view token;
    struct kt_str scope;
};
struct kt_in_verify_many {
    struct kt_secret_list tokens;
    struct kt_str scope;
};
struct kt_in_hello {
    struct kt_str client, errors;
};

struct kt_in_backup {
    struct kt_str backup;
    int64_t file, offset; /* store.read */
};

struct kt_in_key {
    struct kt_str kind; /* key.rotate: digest or signing */
    struct kt_str key;  /* key.retire: id of a digest key, or kid of a signing key */
};

union kt_in {
    struct kt_in_page page;
    struct kt_in_account account;
    struct kt_in_token token;
    struct kt_in_verify verify;
    struct kt_in_verify_many verify_many;
    struct kt_in_hello hello;
    struct kt_in_backup backup;
    struct kt_in_key key;
};

/* An answer that is sent as it is. */
struct kt_text {
    struct kt_str body;
    struct kt_str etag; /* RFC 9110 section 8.8.3, quotes included; absent: it must not be kept */
};

union kt_out {
    struct kt_account account;
    struct kt_token token;
    struct kt_revocation revocation;
    struct kt_page page;
    struct kt_verdict verdict;
    struct kt_verdicts verdicts;
    struct kt_whoami whoami;
    struct kt_scope_list scopes;
    struct kt_health health;
    struct kt_readiness readiness;
    struct kt_text text;           /* operations with a media type of their own */
    const struct kt_value *value; /* operations whose answer has no shape: kaiten.describe, JWKS */
};

enum kt_op_id {
    KT_OP_ACCOUNT_CREATE,
    KT_OP_ACCOUNT_LIST,
    KT_OP_ACCOUNT_GET,
    KT_OP_ACCOUNT_UPDATE,
    KT_OP_ACCOUNT_DELETE,
    KT_OP_TOKEN_CREATE,
    KT_OP_TOKEN_LIST,
    KT_OP_TOKEN_GET,
    KT_OP_TOKEN_ROTATE,
    KT_OP_TOKEN_REVOKE,
    KT_OP_TOKEN_REVOKE_ALL,
    KT_OP_TOKEN_VALIDATE,
    KT_OP_TOKEN_VERIFY,
    KT_OP_TOKEN_VERIFY_MANY,
    KT_OP_WHOAMI,
    KT_OP_SCOPES,
    KT_OP_HEALTHZ,
    KT_OP_READYZ,
    KT_OP_METRICS,
    KT_OP_JWKS,
    KT_OP_OPENAPI,
    KT_OP_DOCS,
    KT_OP_DOCS_STYLE,
    KT_OP_STORE_CHECK,
    KT_OP_STORE_BACKUP,
    KT_OP_STORE_EXPORT,
    KT_OP_STORE_READ,
    KT_OP_STORE_DROP,
    KT_OP_KEY_LIST,
    KT_OP_KEY_ROTATE,
    KT_OP_KEY_RETIRE,
    KT_OP_PING,
    KT_OP_HELLO,
    KT_OP_DESCRIBE,
    KT_OP_COUNT /* always last */
};

enum kt_body { KT_BODY_NONE = 0, KT_BODY_REQUIRED, KT_BODY_OPTIONAL };

/* One refusal that an operation may answer with, by itself or through what it calls. */
struct kt_op_error {
    enum kt_kind kind;  /* KT_OK ends a list */
    const char *code;   /* NULL: the kind's own */
    const char *detail; /* an example of it; NULL: this status is declared and nothing more */
};

struct kt_op_spec {
    const char *name;        /* socket method, log field, metric; both doors */
    const char *id;          /* operationId of documents; NULL: not on HTTP */
    const char *http_method; /* NULL: not on HTTP. "*": any method. */
    const char *http_path;
    int http_ok;             /* 204 = no body */
    bool socket;             /* on the socket too */
    const char *scope;       /* that the caller needs; NULL: none */
    const struct kt_shape *in;  /* never NULL */
    const struct kt_shape *out; /* NULL: no body, or, with `loose`, a value without a shape */
    bool loose;
    const char *media;       /* HTTP: Content-Type of an answer that is kt_out.text; else NULL */
    enum kt_body body;       /* HTTP: does it read one */
    const struct kt_op_error *errors; /* besides those that every operation of its kind has */
    const char *doc;         /* one sentence; manual page and --help */
};

extern const struct kt_op_spec kt_op_specs[KT_OP_COUNT];

extern const struct kt_shape kt_shape_user, kt_shape_token, kt_shape_plain_token, kt_shape_account,
    kt_shape_revocation, kt_shape_account_page, kt_shape_token_page, kt_shape_verdict,
    kt_shape_verdicts, kt_shape_whoami, kt_shape_scopes, kt_shape_health, kt_shape_readiness;

/* The row of a name, or NULL. */
const struct kt_op_spec *kt_op_find(struct kt_str name);

static inline enum kt_op_id
kt_op_id(const struct kt_op_spec *spec)
{
    return (enum kt_op_id)(spec - kt_op_specs);
}

#endif
