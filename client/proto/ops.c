/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/ops.h"

#include "client/proto/rules.h"

static bool
is_error_form(struct kt_str s)
{
    return kt_str_is(s, "pair") || kt_str_is(s, "problem");
}

static bool
is_key_kind(struct kt_str s)
{
    return kt_str_is(s, "digest") || kt_str_is(s, "signing");
}

/* A member that clients send back because we gave it to them: checked, and dropped. */
#define IGNORED(wire, t, ...) \
    { .name = (wire), .name_len = sizeof(wire) - 1, .type = (t), .flags = KT_READONLY, \
      .doc = "Read-only.", __VA_ARGS__ }
#define IGNORED_UUID(wire) \
    { .name = (wire), .name_len = sizeof(wire) - 1, .type = KT_T_STR, \
      .flags = KT_READONLY | KT_UUID, .doc = "UUID. Read-only." }

#define ACCOUNT_IN_PATH(s) \
    KT_FIELD(s, account, "serviceAccountSlug", .place = KT_PATH, .flags = KT_REQUIRED, \
             .doc = "Slug of the service account.", .example = "build-farm")
#define TOKEN_IN_PATH(s) \
    KT_FIELD(s, token, "tokenSlug", .place = KT_PATH, .flags = KT_REQUIRED, \
             .doc = "Slug of the token, unique within its service account.", \
             .example = "nightly")
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
#define PAGE_QUERY(s) \
    KT_FIELD(s, cursor, "cursor", .place = KT_QUERY, \
             .doc = "Where to go on: nextCursor of the page before."), \
    KT_FIELD(s, limit, "limit", .place = KT_QUERY, KT_RANGE(1, KT_PAGE_MAX), \
             .doc = "Items on a page; " TEXT(KT_PAGE_DEFAULT) " when not given.", \
             .preset = TEXT(KT_PAGE_DEFAULT))

/* --- what goes in ------------------------------------------------------------------------- */

static const struct kt_field nothing[] = { KT_FIELD_END };

static const struct kt_field account_list_in[] = { PAGE_QUERY(struct kt_in_page), KT_FIELD_END };

static const struct kt_field token_list_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_page),
    PAGE_QUERY(struct kt_in_page),
    KT_FIELD_END
};

#define ACCOUNT_BODY(slug_doc) \
    IGNORED_UUID("id"), \
    KT_FIELD(struct kt_in_account, name, "name", .flags = KT_REQUIRED, \
             KT_RANGE(1, KT_NAME_LEN_MAX), \
             .doc = "Display name; need not be unique.", .example = "Build Farm"), \
    KT_FIELD(struct kt_in_account, slug, "slug", KT_SLUG, .doc = (slug_doc), \
             .example = "build-farm"), \
    IGNORED("externalId", KT_T_STR), \
    IGNORED("createdBy", KT_T_OBJECT, .shape = &kt_shape_user), \
    IGNORED("createdAt", KT_T_TIME), \
    IGNORED("tokens", KT_T_LIST, .shape = &kt_shape_token), \
    IGNORED("tokensTruncated", KT_T_BOOL)

static const struct kt_field account_create_in[] = {
    ACCOUNT_BODY("Unique within the organization; derived from the name when not given."),
    KT_FIELD_END
};

static const struct kt_field account_update_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_account),
    ACCOUNT_BODY("The same as in the path, or left out: it cannot be changed."),
    KT_FIELD_END
};

static const struct kt_field account_path_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_account),
    KT_FIELD_END,
};

static const struct kt_field token_create_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_token),
    IGNORED_UUID("id"),
    KT_FIELD(struct kt_in_token, name, "name", .flags = KT_REQUIRED, KT_RANGE(0, KT_NAME_LEN_MAX),
             .doc = "Display name, unique among the account's unrevoked tokens.",
             .example = "Nightly"),
    KT_FIELD(struct kt_in_token, slug, "slug", KT_SLUG,
             .doc = "Unique within the service account; derived from the name when not given.",
             .example = "nightly"),
    KT_FIELD(struct kt_in_token, scopes, "scopes", .flags = KT_REQUIRED | KT_NULLABLE,
             KT_RANGE(0, KT_SCOPES_MAX),
             .doc = "What it may do: <action>:<module>; null: all that the caller may.",
             .example = "[\"read:licenses\",\"write:releases\"]"),
    IGNORED_UUID("serviceAccountId"),
    KT_FIELD(struct kt_in_token, expires_at, "expiresAt", .doc = "When it ends; absent: never.",
             .example = "2030-01-31T09:30:00Z"),
    IGNORED("createdAt", KT_T_TIME),
    IGNORED("createdBy", KT_T_OBJECT, .shape = &kt_shape_user),
    IGNORED("revokedAt", KT_T_TIME),
    IGNORED("revokedBy", KT_T_OBJECT, .shape = &kt_shape_user),
    IGNORED("token", KT_T_SECRET_VIEW),
    IGNORED("lastUsedAt", KT_T_TIME),
    KT_FIELD_END
};

static const struct kt_field token_path_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_token),
    TOKEN_IN_PATH(struct kt_in_token),
    KT_FIELD_END
};

static const struct kt_field token_revoke_all_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_token),
    KT_FIELD_END
};

enum { GRACE_SECONDS_MAX = 30 * 24 * 3600 };

static const struct kt_field token_rotate_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_token),
    TOKEN_IN_PATH(struct kt_in_token),
    KT_FIELD(struct kt_in_token, grace_seconds, "gracePeriodSeconds",
             KT_RANGE(0, GRACE_SECONDS_MAX),
             .doc = "How long the old secret goes on working; 0 or absent: it dies now.",
             .preset = "0", .example = "3600"),
    KT_FIELD_END
};

static const struct kt_field verify_in[] = {
    KT_FIELD(struct kt_in_verify, token, "token", .flags = KT_REQUIRED, .doc = "The secret."),
    KT_FIELD(struct kt_in_verify, scope, "scope", .doc = "That the token must have."),
    KT_FIELD_END
};

enum { VERIFY_MANY_MAX = 1024 };

static const struct kt_field verify_many_in[] = {
    KT_FIELD(struct kt_in_verify_many, tokens, "tokens", .flags = KT_REQUIRED,
             KT_RANGE(0, VERIFY_MANY_MAX), .doc = "The secrets."),
    KT_FIELD(struct kt_in_verify_many, scope, "scope", .doc = "That each token must have."),
    KT_FIELD_END
};

static const struct kt_field hello_in[] = {
    KT_FIELD(struct kt_in_hello, client, "client", KT_RANGE(0, 255), .doc = "Name and version."),
    KT_FIELD(struct kt_in_hello, errors, "errors", .valid = is_error_form,
             .expected = "expected one of pair, problem",
             .doc = "\"pair\" ([number, text], the default) or \"problem\" (RFC 9457 as a map)."),
    KT_FIELD_END
};

#define BACKUP_ID \
    KT_FIELD(struct kt_in_backup, backup, "backup", .flags = KT_REQUIRED, \
             .doc = "Which copy: backup of the answer of store.backup.")

static const struct kt_field store_drop_in[] = { BACKUP_ID, KT_FIELD_END };

static const struct kt_field store_read_in[] = {
    BACKUP_ID,
    KT_FIELD(struct kt_in_backup, file, "file", .flags = KT_REQUIRED, KT_RANGE(0, 4095),
             .doc = "Which file of it, counted from 0."),
    KT_FIELD(struct kt_in_backup, offset, "offset", .flags = KT_REQUIRED,
             KT_RANGE(0, INT64_C(1) << 53), .doc = "From which byte on."),
    KT_FIELD_END
};

static const struct kt_field key_rotate_in[] = {
    KT_FIELD(struct kt_in_key, kind, "kind", .flags = KT_REQUIRED, .valid = is_key_kind,
             .expected = "expected one of digest, signing",
             .doc = "\"digest\": of tokens and records; \"signing\": of JWTs."),
    KT_FIELD_END
};

static const struct kt_field key_retire_in[] = {
    KT_FIELD(struct kt_in_key, key, "key", .flags = KT_REQUIRED, .doc = "Its id in key.list."),
    KT_FIELD_END
};

/* Bodies have the names of what they ask for: a ServiceAccount that was read can be sent back. */
static const struct kt_shape in_nothing = KT_SHAPE(union kt_in, "Nothing", nothing);
static const struct kt_shape in_account_list =
    KT_SHAPE(struct kt_in_page, "AccountList", account_list_in);
static const struct kt_shape in_token_list =
    KT_SHAPE(struct kt_in_page, "TokenList", token_list_in);
static const struct kt_shape in_account_create =
    KT_SHAPE(struct kt_in_account, "ServiceAccount", account_create_in);
static const struct kt_shape in_account_update =
    KT_SHAPE(struct kt_in_account, "ServiceAccount", account_update_in);
static const struct kt_shape in_account_path =
    KT_SHAPE(struct kt_in_account, "AccountPath", account_path_in);
static const struct kt_shape in_token_create =
    KT_SHAPE(struct kt_in_token, "PlainToken", token_create_in);
static const struct kt_shape in_token_path =
    KT_SHAPE(struct kt_in_token, "TokenPath", token_path_in);
static const struct kt_shape in_token_revoke_all =
    KT_SHAPE(struct kt_in_token, "TokenRevokeAll", token_revoke_all_in);
static const struct kt_shape in_token_rotate =
    KT_SHAPE(struct kt_in_token, "TokenRotate", token_rotate_in);
static const struct kt_shape in_verify = KT_SHAPE(struct kt_in_verify, "Verify", verify_in);
static const struct kt_shape in_verify_many =
    KT_SHAPE(struct kt_in_verify_many, "VerifyMany", verify_many_in);
static const struct kt_shape in_store_read =
    KT_SHAPE(struct kt_in_backup, "StoreRead", store_read_in);
static const struct kt_shape in_store_drop =
    KT_SHAPE(struct kt_in_backup, "StoreDrop", store_drop_in);
static const struct kt_shape in_key_rotate = KT_SHAPE(struct kt_in_key, "KeyRotate", key_rotate_in);
static const struct kt_shape in_key_retire = KT_SHAPE(struct kt_in_key, "KeyRetire", key_retire_in);
static const struct kt_shape in_hello = KT_SHAPE(struct kt_in_hello, "Hello", hello_in);

/* --- how it is refused -------------------------------------------------------------------- */

#define NO_ACCOUNT \
    { KT_NOT_FOUND, "ServiceAccount.NotFound", "Service account with slug build-farm not found" }
#define NO_TOKEN \
    { KT_NOT_FOUND, "Token.NotFound", "Token with slug nightly not found for service account " \
                                      "build-farm or already revoked" }
/* What the operation never answers, and clients that were made for the reference know. */
#define DECLARED(kind) { (kind), NULL, NULL }
#define LAST { KT_OK, NULL, NULL }

static const struct kt_op_error account_create_errors[] = {
    DECLARED(KT_NOT_FOUND),
    { KT_CONFLICT, "CreateServiceAccount.SlugConflict",
      "Service account with slug \"build-farm\" already exists in this organization" },
    LAST
};

static const struct kt_op_error account_list_errors[] = {
    { KT_VALIDATION, "ServiceAccounts.InvalidCursor", "invalid cursor" },
    DECLARED(KT_NOT_FOUND),
    LAST
};

static const struct kt_op_error account_get_errors[] = { NO_ACCOUNT, LAST };

static const struct kt_op_error account_update_errors[] = {
    NO_ACCOUNT,
    { KT_UNPROCESSABLE, "UpdateServiceAccount.SlugNotRenameable",
      "the slug cannot be changed here; omit it or send the current one" },
    LAST
};

static const struct kt_op_error token_create_errors[] = {
    { KT_VALIDATION, "Token.InvalidScopes", "invalid scopes" },
    { KT_FORBIDDEN, "CreateToken.ScopesExceedCaller", "the caller does not hold: write:licenses" },
    { KT_NOT_FOUND, "CreateToken.ServiceAccountNotFound",
      "Service account with slug \"build-farm\" not found" },
    { KT_CONFLICT, "CreateToken.SlugConflict",
      "Token with slug \"nightly\" already exists for this service account" },
    { KT_CONFLICT, "CreateToken.Conflict",
      "Token \"Nightly\" could not be created due to a conflicting record" },
    LAST
};

static const struct kt_op_error token_list_errors[] = {
    { KT_VALIDATION, "ServiceAccountTokens.InvalidCursor", "invalid cursor" },
    DECLARED(KT_NOT_FOUND),
    LAST
};

static const struct kt_op_error token_get_errors[] = { NO_TOKEN, LAST };

static const struct kt_op_error token_rotate_errors[] = {
    { KT_FORBIDDEN, "RotateToken.ScopesExceedCaller", "the caller does not hold: write:licenses" },
    { KT_FORBIDDEN, "RotateToken.LifetimeExceedsCaller",
      "the token lives longer than a token of this caller may" },
    NO_TOKEN,
    { KT_CONFLICT, "RotateToken.Expired",
      "the token has expired; rotation does not extend it, create a new one" },
    LAST
};

static const struct kt_op_error token_validate_errors[] = {
    { KT_UNAUTHORIZED, "ValidateToken.MissingAuthorizationHeader",
      "missing valid Authorization header" },
    { KT_UNAUTHORIZED, "ValidateToken.Invalid", "invalid token" },
    { KT_INTERNAL, "ValidateToken.Failed", NULL },
    { KT_UNAVAILABLE, "Server.Quarantined",
      "no token is accepted and nothing can be changed until the operator has accepted the state "
      "of the store" },
    LAST
};

#define KEY_FILE \
    { KT_UNAVAILABLE, "Key.File", "the file of the keys cannot be written, or was changed" }, \
    { KT_CONFLICT, "Key.TooMany", "the keys have changed 256 times since the start; restart first" }

static const struct kt_op_error key_rotate_errors[] = {
    KEY_FILE,
    { KT_CONFLICT, "Key.SharedStore",
      "the other daemons of this store would not know the fresh key" },
    LAST
};

static const struct kt_op_error key_retire_errors[] = {
    KEY_FILE,
    { KT_NOT_FOUND, "Key.NotFound", "there is no key 0123abcd" },
    { KT_CONFLICT, "Key.Current", "key 0123abcd is the current one; rotate first" },
    { KT_CONFLICT, "Key.InUse", "12 records are sealed with key 0123abcd" },
    LAST
};

static const struct kt_op_error token_verify_errors[] = {
    { KT_FORBIDDEN, "Auth.VerifyNotAllowed", "no rule lets this caller verify tokens" },
    LAST
};

static const struct kt_op_error readyz_errors[] = {
    { KT_UNAVAILABLE, "Server.NotReady", "not ready: draining" },
    { KT_UNAVAILABLE, "Server.Quarantined", "not ready: the revocation journal is missing" },
    LAST
};

/* --- the rows ----------------------------------------------------------------------------- */

#define ACCOUNTS "/service-accounts"
#define ACCOUNT ACCOUNTS "/{serviceAccountSlug}"
#define TOKENS ACCOUNT "/tokens"
#define TOKEN TOKENS "/{tokenSlug}"

const struct kt_op_spec kt_op_specs[KT_OP_COUNT] = {
    [KT_OP_ACCOUNT_CREATE] = {
        .name = "account.create", .id = "create-service-account",
        .http_method = "POST", .http_path = ACCOUNTS, .http_ok = 201,
        .socket = true, .scope = "write:tokens", .body = KT_BODY_REQUIRED,
        .in = &in_account_create, .out = &kt_shape_account, .errors = account_create_errors,
        .doc = "Create a service account.",
    },
    [KT_OP_ACCOUNT_LIST] = {
        .name = "account.list", .id = "get-service-accounts",
        .http_method = "GET", .http_path = ACCOUNTS, .http_ok = 200,
        .socket = true, .scope = "read:tokens",
        .in = &in_account_list, .out = &kt_shape_account_page, .errors = account_list_errors,
        .doc = "List the service accounts of the organization with their tokens, newest first.",
    },
    [KT_OP_ACCOUNT_GET] = {
        .name = "account.get", .id = "get-service-account",
        .http_method = "GET", .http_path = ACCOUNT, .http_ok = 200,
        .socket = true, .scope = "read:tokens",
        .in = &in_account_path, .out = &kt_shape_account, .errors = account_get_errors,
        .doc = "Get one service account with its tokens.",
    },
    [KT_OP_ACCOUNT_UPDATE] = {
        .name = "account.update", .id = "update-service-account",
        .http_method = "PUT", .http_path = ACCOUNT, .http_ok = 204,
        .socket = true, .scope = "write:tokens", .body = KT_BODY_REQUIRED,
        .in = &in_account_update, .errors = account_update_errors,
        .doc = "Rename a service account; its slug stays.",
    },
    [KT_OP_ACCOUNT_DELETE] = {
        .name = "account.delete", .id = "delete-service-account",
        .http_method = "DELETE", .http_path = ACCOUNT, .http_ok = 204,
        .socket = true, .scope = "write:tokens",
        .in = &in_account_path, .errors = account_get_errors,
        .doc = "Delete a service account; all of its tokens are revoked in the same moment.",
    },
    [KT_OP_TOKEN_CREATE] = {
        .name = "token.create", .id = "create-service-account-token",
        .http_method = "POST", .http_path = TOKENS, .http_ok = 201,
        .socket = true, .scope = "write:tokens", .body = KT_BODY_REQUIRED,
        .in = &in_token_create, .out = &kt_shape_plain_token, .errors = token_create_errors,
        .doc = "Mint a token for a service account; the secret is shown once.",
    },
    [KT_OP_TOKEN_LIST] = {
        .name = "token.list", .id = "get-service-account-tokens",
        .http_method = "GET", .http_path = TOKENS, .http_ok = 200,
        .socket = true, .scope = "read:tokens",
        .in = &in_token_list, .out = &kt_shape_token_page, .errors = token_list_errors,
        .doc = "List the tokens of a service account, newest first, revoked ones included.",
    },
    [KT_OP_TOKEN_GET] = {
        .name = "token.get", .id = "get-service-account-token",
        .http_method = "GET", .http_path = TOKEN, .http_ok = 200,
        .socket = true, .scope = "read:tokens",
        .in = &in_token_path, .out = &kt_shape_token, .errors = token_get_errors,
        .doc = "Get one token, without its secret.",
    },
    [KT_OP_TOKEN_ROTATE] = {
        .name = "token.rotate", .id = "rotate-service-account-token",
        .http_method = "POST", .http_path = TOKEN "/rotate", .http_ok = 200,
        .socket = true, .scope = "write:tokens", .body = KT_BODY_OPTIONAL,
        .in = &in_token_rotate, .out = &kt_shape_plain_token, .errors = token_rotate_errors,
        .doc = "Give a token a new secret; the old one dies now, or after the grace period.",
    },
    [KT_OP_TOKEN_REVOKE] = {
        .name = "token.revoke", .id = "delete-service-account-token",
        .http_method = "DELETE", .http_path = TOKEN, .http_ok = 204,
        .socket = true, .scope = "write:tokens",
        .in = &in_token_path, .errors = token_get_errors,
        .doc = "Revoke a token for good; a second call answers not found.",
    },
    [KT_OP_TOKEN_REVOKE_ALL] = {
        .name = "token.revokeAll", .id = "revoke-service-account-tokens",
        .http_method = "POST", .http_path = TOKENS "/revoke", .http_ok = 200,
        .socket = true, .scope = "write:tokens", .body = KT_BODY_OPTIONAL,
        .in = &in_token_revoke_all, .out = &kt_shape_revocation, .errors = account_get_errors,
        .doc = "Revoke every token that the service account has now; later ones are good.",
    },
    [KT_OP_TOKEN_VALIDATE] = {
        .name = "token.validate", .id = "validate-token",
        .http_method = "*", .http_path = "/tokens/validate", .http_ok = 200,
        .in = &in_nothing, .media = "text/plain; charset=utf-8", .errors = token_validate_errors,
        .doc = "Forward authentication: 200 and a signed JWT for a good token, else 401.",
    },
    [KT_OP_TOKEN_VERIFY] = {
        .name = "token.verify", .socket = true, .in = &in_verify, .out = &kt_shape_verdict,
        .errors = token_verify_errors,
        .doc = "Say whether a token is good, and whose it is.",
    },
    [KT_OP_TOKEN_VERIFY_MANY] = {
        .name = "token.verifyMany", .socket = true,
        .in = &in_verify_many, .out = &kt_shape_verdicts, .errors = token_verify_errors,
        .doc = "Say it of many tokens in one message.",
    },
    [KT_OP_WHOAMI] = {
        .name = "whoami", .id = "get-caller",
        .http_method = "GET", .http_path = "/whoami", .http_ok = 200,
        .socket = true, .in = &in_nothing, .out = &kt_shape_whoami,
        .doc = "Say who the caller is, and what it may do.",
    },
    [KT_OP_SCOPES] = {
        .name = "scopes", .id = "get-scopes",
        .http_method = "GET", .http_path = "/scopes", .http_ok = 200,
        .socket = true, .in = &in_nothing, .out = &kt_shape_scopes,
        .doc = "List every scope that a token can be given.",
    },
    [KT_OP_HEALTHZ] = {
        .name = "healthz", .id = "get-health",
        .http_method = "GET", .http_path = "/healthz", .http_ok = 200,
        .socket = true, .in = &in_nothing, .out = &kt_shape_health,
        .doc = "Say that the process is there.",
    },
    [KT_OP_READYZ] = {
        .name = "readyz", .id = "get-readiness",
        .http_method = "GET", .http_path = "/readyz", .http_ok = 200,
        .socket = true, .in = &in_nothing, .out = &kt_shape_readiness, .errors = readyz_errors,
        .doc = "Say whether requests would be served now: store, keys, not draining.",
    },
    [KT_OP_METRICS] = {
        .name = "metrics", .id = "get-metrics",
        .http_method = "GET", .http_path = "/metrics", .http_ok = 200,
        .in = &in_nothing, .media = "text/plain; version=0.0.4; charset=utf-8",
        .doc = "What the daemon counts, for Prometheus; each listener says who may read it.",
    },
    [KT_OP_JWKS] = {
        .name = "jwks", .id = "get-keys",
        .http_method = "GET", .http_path = "/.well-known/jwks.json", .http_ok = 200,
        .in = &in_nothing, .loose = true,
        .doc = "The public keys of the JWTs that token.validate signs (RFC 7517).",
    },
    [KT_OP_OPENAPI] = {
        .name = "openapi", .id = "get-openapi",
        .http_method = "GET", .http_path = "/openapi.json", .http_ok = 200,
        .in = &in_nothing, .media = "application/json",
        .doc = "This interface, as an OpenAPI 3.1 document.",
    },
    [KT_OP_DOCS] = {
        .name = "docs", .id = "get-docs",
        .http_method = "GET", .http_path = "/docs", .http_ok = 200,
        .in = &in_nothing, .media = "text/html; charset=utf-8",
        .doc = "This interface, as a page to read.",
    },
    [KT_OP_DOCS_STYLE] = {
        .name = "docs.style", .id = "get-docs-style",
        .http_method = "GET", .http_path = "/docs/style.css", .http_ok = 200,
        .in = &in_nothing, .media = "text/css; charset=utf-8",
        .doc = "The style sheet of that page.",
    },
    [KT_OP_STORE_CHECK] = {
        .name = "store.check", .socket = true, .in = &in_nothing, .out = &kt_shape_health,
        .doc = "Read all that is stored, and say whether it is whole; root and the daemon's user.",
    },
    [KT_OP_STORE_BACKUP] = {
        .name = "store.backup", .socket = true, .in = &in_nothing, .loose = true,
        .doc = "Make a copy of the store, to be fetched; root and the daemon's user.",
    },
    [KT_OP_STORE_EXPORT] = {
        .name = "store.export", .socket = true, .in = &in_nothing, .loose = true,
        .doc = "Make a copy for any storage plugin, to be fetched; root and the daemon's user.",
    },
    [KT_OP_STORE_READ] = {
        .name = "store.read", .socket = true, .in = &in_store_read, .loose = true,
        .doc = "Fetch a piece of that copy, as base64url; root and the daemon's user.",
    },
    [KT_OP_STORE_DROP] = {
        .name = "store.drop", .socket = true, .in = &in_store_drop,
        .doc = "Remove that copy; root and the daemon's user.",
    },
    [KT_OP_KEY_LIST] = {
        .name = "key.list", .socket = true, .in = &in_nothing, .loose = true,
        .doc = "The daemon's own keys, and what depends on them; root and the daemon's user.",
    },
    [KT_OP_KEY_ROTATE] = {
        .name = "key.rotate", .socket = true, .in = &in_key_rotate, .loose = true,
        .errors = key_rotate_errors,
        .doc = "Put a fresh key in force, retire the one before; root and the daemon's user.",
    },
    [KT_OP_KEY_RETIRE] = {
        .name = "key.retire", .socket = true, .in = &in_key_retire, .errors = key_retire_errors,
        .doc = "Take a retired key out, once nothing depends on it; root and the daemon's user.",
    },
    [KT_OP_PING] = {
        .name = "kaiten.ping", .socket = true, .in = &in_nothing, .out = &kt_shape_health,
        .doc = "Answer.",
    },
    [KT_OP_HELLO] = {
        .name = "kaiten.hello", .socket = true, .in = &in_hello, .loose = true,
        .doc = "Choose the form of errors; learn the server's version and limits.",
    },
    [KT_OP_DESCRIBE] = {
        .name = "kaiten.describe", .socket = true, .in = &in_nothing, .loose = true,
        .doc = "This table: methods, members, scopes.",
    },
};

const struct kt_op_spec *
kt_op_find(struct kt_str name)
{
    for (size_t i = 0; i < KT_OP_COUNT; i++)
        if (kt_str_is(name, kt_op_specs[i].name))
            return &kt_op_specs[i];
    return NULL;
}
