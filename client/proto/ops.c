/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/ops.h"

#include "client/proto/check.h"

enum {
    NAME_LEN_MAX = 1024, /* code points */
    SCOPES_MAX = 256     /* of one token */
};

#define END { .name = NULL }
#define SLUG \
    KT_RANGE(2, 100), .valid = kt_is_slug_chars, \
    .expected = "expected string to match pattern ^[a-z0-9][a-z0-9-]*[a-z0-9]$"

static bool
is_error_form(struct kt_str s)
{
    return kt_str_is(s, "pair") || kt_str_is(s, "problem");
}

/* A member that clients send back because we gave it to them: checked, and dropped. */
#define IGNORED(wire, t, ...) \
    { .name = (wire), .type = (t), .flags = KT_READONLY, .doc = "Read-only.", __VA_ARGS__ }

#define ACCOUNT_IN_PATH(s) \
    KT_FIELD(s, account, "serviceAccountSlug", .place = KT_PATH, .flags = KT_REQUIRED, \
             .doc = "Slug of the service account.")
#define TOKEN_IN_PATH(s) \
    KT_FIELD(s, token, "tokenSlug", .place = KT_PATH, .flags = KT_REQUIRED, \
             .doc = "Slug of the token, unique within its service account.")
#define PAGE_QUERY(s) \
    KT_FIELD(s, cursor, "cursor", .place = KT_QUERY, \
             .doc = "Where to go on: nextCursor of the page before."), \
    KT_FIELD(s, limit, "limit", .place = KT_QUERY, KT_RANGE(1, 200), \
             .doc = "Items on a page; 50 when not given.")

/* --- what comes out ----------------------------------------------------------------------- */

static const struct kt_field user_fields[] = {
    KT_FIELD(struct kt_user, id, "id", .flags = KT_REQUIRED, .doc = "UUID."),
    KT_FIELD(struct kt_user, name, "name", .flags = KT_OMIT_EMPTY, .doc = "Display name."),
    END
};

#define TOKEN_FIELDS \
    KT_FIELD(struct kt_token, id, "id", .flags = KT_READONLY, .doc = "UUID."), \
    KT_FIELD(struct kt_token, name, "name", .flags = KT_REQUIRED, .doc = "Display name."), \
    KT_FIELD(struct kt_token, slug, "slug", SLUG, .doc = "Unique within the service account."), \
    KT_FIELD(struct kt_token, scopes, "scopes", .flags = KT_REQUIRED | KT_NULLABLE, \
             .doc = "What the token may do: <action>:<module>."), \
    KT_FIELD(struct kt_token, service_account_id, "serviceAccountId", .flags = KT_READONLY, \
             .doc = "UUID of the service account."), \
    KT_FIELD(struct kt_token, expires_at, "expiresAt", .doc = "When it ends; absent: never."), \
    KT_FIELD(struct kt_token, created_at, "createdAt", .flags = KT_READONLY, .doc = "When."), \
    KT_FIELD(struct kt_token, created_by, "createdBy", .flags = KT_READONLY, \
             .shape = &kt_shape_user, .doc = "Who minted it."), \
    KT_FIELD(struct kt_token, revoked_at, "revokedAt", .flags = KT_READONLY, \
             .doc = "When it was revoked; absent: it is not."), \
    KT_FIELD(struct kt_token, revoked_by, "revokedBy", .flags = KT_READONLY, \
             .shape = &kt_shape_user, .doc = "Who revoked it.")

static const struct kt_field token_fields[] = { TOKEN_FIELDS, END };

static const struct kt_field plain_token_fields[] = {
    TOKEN_FIELDS,
    KT_FIELD(struct kt_token, token, "token", .flags = KT_READONLY,
             .doc = "The secret, shown this once."),
    END
};

static const struct kt_field account_fields[] = {
    KT_FIELD(struct kt_account, id, "id", .flags = KT_READONLY, .doc = "UUID."),
    KT_FIELD(struct kt_account, name, "name", .flags = KT_REQUIRED, KT_RANGE(1, NAME_LEN_MAX),
             .doc = "Display name; need not be unique."),
    KT_FIELD(struct kt_account, slug, "slug", SLUG, .doc = "Unique within the organization."),
    KT_FIELD(struct kt_account, external_id, "externalId", .flags = KT_READONLY,
             .doc = "Subject of the tokens' JWTs: ksa_ and 32 characters."),
    KT_FIELD(struct kt_account, created_by, "createdBy", .flags = KT_READONLY,
             .shape = &kt_shape_user, .doc = "Who created it."),
    KT_FIELD(struct kt_account, created_at, "createdAt", .flags = KT_READONLY, .doc = "When."),
    KT_FIELD(struct kt_account, tokens, "tokens", .flags = KT_REQUIRED | KT_READONLY | KT_NULLABLE,
             .shape = &kt_shape_token, .doc = "Its tokens, newest first, revoked ones included."),
    KT_FIELD(struct kt_account, tokens_truncated, "tokensTruncated",
             .flags = KT_READONLY | KT_OMIT_FALSE,
             .doc = "Said when there are more tokens than are embedded; list them instead."),
    END
};

#define PAGE_FIELDS(item) \
    KT_FIELD(struct kt_page, items, "items", .flags = KT_REQUIRED, .shape = (item), \
             .doc = "Newest first."), \
    KT_FIELD(struct kt_page, next_cursor, "nextCursor", .doc = "Only when there is more."), \
    KT_FIELD(struct kt_page, has_more, "hasMore", .flags = KT_REQUIRED, \
             .doc = "Whether another page follows.")

static const struct kt_field account_page_fields[] = { PAGE_FIELDS(&kt_shape_account), END };
static const struct kt_field token_page_fields[] = { PAGE_FIELDS(&kt_shape_token), END };

static const struct kt_field verdict_fields[] = {
    KT_FIELD(struct kt_verdict, valid, "valid", .flags = KT_REQUIRED,
             .doc = "Whether the token is good now, and has the scope that was asked for."),
    KT_FIELD(struct kt_verdict, code, "code",
             .doc = "Why not: malformed, unknown, revoked, expired or scope."),
    KT_FIELD(struct kt_verdict, token_id, "tokenId", .doc = "UUID of the token."),
    KT_FIELD(struct kt_verdict, organization, "organization",
             .doc = "External id of the organization that the token belongs to."),
    KT_FIELD(struct kt_verdict, service_account, "serviceAccount",
             .doc = "Slug of the service account that the token belongs to."),
    KT_FIELD(struct kt_verdict, scopes, "scopes", .doc = "What the token may do."),
    KT_FIELD(struct kt_verdict, expires_at, "expiresAt", .doc = "When it ends; absent: never."),
    END
};

static const struct kt_field verdicts_fields[] = {
    KT_FIELD(struct kt_verdicts, results, "results", .flags = KT_REQUIRED,
             .shape = &kt_shape_verdict, .doc = "One for each token, in their order."),
    END
};

static const struct kt_field whoami_fields[] = {
    KT_FIELD(struct kt_whoami, subject, "subject", .doc = "As the credential says."),
    KT_FIELD(struct kt_whoami, name, "name", .doc = "Display name."),
    KT_FIELD(struct kt_whoami, organization, "organization", .doc = "External id."),
    KT_FIELD(struct kt_whoami, organization_id, "organizationId", .doc = "UUID."),
    KT_FIELD(struct kt_whoami, id, "id", .doc = "UUID under which createdBy names this caller."),
    KT_FIELD(struct kt_whoami, kind, "kind", .doc = "How it was proved: peer, jwt or token."),
    KT_FIELD(struct kt_whoami, scopes, "scopes", .flags = KT_REQUIRED, .doc = "What it may do."),
    KT_FIELD(struct kt_whoami, expires_at, "expiresAt", .doc = "When the credential ends."),
    END
};

static const struct kt_field scopes_fields[] = {
    KT_FIELD(struct kt_scope_list, scopes, "scopes", .flags = KT_REQUIRED,
             .doc = "Every scope that a token can be given."),
    KT_FIELD(struct kt_scope_list, modules, "modules", .flags = KT_REQUIRED,
             .doc = "The modules, in the order of the configuration."),
    END
};

static const struct kt_field health_fields[] = {
    KT_FIELD(struct kt_health, status, "status", .flags = KT_REQUIRED, .doc = "\"ok\"."),
    END
};

#define SHAPE(type, wire, list) { .name = (wire), .size = sizeof(type), .fields = (list) }

const struct kt_shape kt_shape_user = SHAPE(struct kt_user, "User", user_fields);
const struct kt_shape kt_shape_token = SHAPE(struct kt_token, "Token", token_fields);
const struct kt_shape kt_shape_plain_token =
    SHAPE(struct kt_token, "PlainToken", plain_token_fields);
const struct kt_shape kt_shape_account =
    SHAPE(struct kt_account, "ServiceAccount", account_fields);
const struct kt_shape kt_shape_account_page =
    SHAPE(struct kt_page, "ServiceAccountPage", account_page_fields);
const struct kt_shape kt_shape_token_page = SHAPE(struct kt_page, "TokenPage", token_page_fields);
const struct kt_shape kt_shape_verdict = SHAPE(struct kt_verdict, "Verdict", verdict_fields);
const struct kt_shape kt_shape_verdicts = SHAPE(struct kt_verdicts, "Verdicts", verdicts_fields);
const struct kt_shape kt_shape_whoami = SHAPE(struct kt_whoami, "Caller", whoami_fields);
const struct kt_shape kt_shape_scopes = SHAPE(struct kt_scope_list, "ScopeList", scopes_fields);
const struct kt_shape kt_shape_health = SHAPE(struct kt_health, "Health", health_fields);

/* --- what goes in ------------------------------------------------------------------------- */

static const struct kt_field nothing[] = { END };

static const struct kt_field account_list_in[] = { PAGE_QUERY(struct kt_in_page), END };

static const struct kt_field token_list_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_page),
    PAGE_QUERY(struct kt_in_page),
    END
};

#define ACCOUNT_BODY \
    IGNORED("id", KT_T_STR), \
    KT_FIELD(struct kt_in_account, name, "name", .flags = KT_REQUIRED, KT_RANGE(1, NAME_LEN_MAX), \
             .doc = "Display name; need not be unique."), \
    KT_FIELD(struct kt_in_account, slug, "slug", SLUG, \
             .doc = "Unique within the organization; derived from the name when not given."), \
    IGNORED("externalId", KT_T_STR), \
    IGNORED("createdBy", KT_T_OBJECT, .shape = &kt_shape_user), \
    IGNORED("createdAt", KT_T_TIME), \
    IGNORED("tokens", KT_T_LIST, .shape = &kt_shape_token), \
    IGNORED("tokensTruncated", KT_T_BOOL)

static const struct kt_field account_create_in[] = { ACCOUNT_BODY, END };

static const struct kt_field account_update_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_account),
    ACCOUNT_BODY,
    END
};

static const struct kt_field account_path_in[] = { ACCOUNT_IN_PATH(struct kt_in_account), END };

static const struct kt_field token_create_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_token),
    IGNORED("id", KT_T_STR),
    KT_FIELD(struct kt_in_token, name, "name", .flags = KT_REQUIRED, KT_RANGE(0, NAME_LEN_MAX),
             .doc = "Display name, unique among the account's unrevoked tokens."),
    KT_FIELD(struct kt_in_token, slug, "slug", SLUG,
             .doc = "Unique within the service account; derived from the name when not given."),
    KT_FIELD(struct kt_in_token, scopes, "scopes", .flags = KT_REQUIRED | KT_NULLABLE,
             KT_RANGE(0, SCOPES_MAX),
             .doc = "What it may do: <action>:<module>; null: all that the caller may."),
    IGNORED("serviceAccountId", KT_T_STR),
    KT_FIELD(struct kt_in_token, expires_at, "expiresAt", .doc = "When it ends; absent: never."),
    IGNORED("createdAt", KT_T_TIME),
    IGNORED("createdBy", KT_T_OBJECT, .shape = &kt_shape_user),
    IGNORED("revokedAt", KT_T_TIME),
    IGNORED("revokedBy", KT_T_OBJECT, .shape = &kt_shape_user),
    IGNORED("token", KT_T_SECRET_VIEW),
    END
};

static const struct kt_field token_path_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_token),
    TOKEN_IN_PATH(struct kt_in_token),
    END
};

enum { GRACE_SECONDS_MAX = 30 * 24 * 3600 };

static const struct kt_field token_rotate_in[] = {
    ACCOUNT_IN_PATH(struct kt_in_token),
    TOKEN_IN_PATH(struct kt_in_token),
    KT_FIELD(struct kt_in_token, grace_seconds, "gracePeriodSeconds",
             KT_RANGE(0, GRACE_SECONDS_MAX),
             .doc = "How long the old secret goes on working; 0 or absent: it dies now."),
    END
};

static const struct kt_field verify_in[] = {
    KT_FIELD(struct kt_in_verify, token, "token", .flags = KT_REQUIRED, .doc = "The secret."),
    KT_FIELD(struct kt_in_verify, scope, "scope", .doc = "That the token must have."),
    END
};

enum { VERIFY_MANY_MAX = 1024 };

static const struct kt_field verify_many_in[] = {
    KT_FIELD(struct kt_in_verify_many, tokens, "tokens", .flags = KT_REQUIRED,
             KT_RANGE(0, VERIFY_MANY_MAX), .doc = "The secrets."),
    KT_FIELD(struct kt_in_verify_many, scope, "scope", .doc = "That each token must have."),
    END
};

static const struct kt_field hello_in[] = {
    KT_FIELD(struct kt_in_hello, client, "client", KT_RANGE(0, 255), .doc = "Name and version."),
    KT_FIELD(struct kt_in_hello, errors, "errors", .valid = is_error_form,
             .expected = "expected one of pair, problem",
             .doc = "\"pair\" ([number, text], the default) or \"problem\" (RFC 9457 as a map)."),
    END
};

static const struct kt_shape in_nothing = SHAPE(union kt_in, "Nothing", nothing);
static const struct kt_shape in_account_list =
    SHAPE(struct kt_in_page, "AccountList", account_list_in);
static const struct kt_shape in_token_list = SHAPE(struct kt_in_page, "TokenList", token_list_in);
static const struct kt_shape in_account_create =
    SHAPE(struct kt_in_account, "AccountCreate", account_create_in);
static const struct kt_shape in_account_update =
    SHAPE(struct kt_in_account, "AccountUpdate", account_update_in);
static const struct kt_shape in_account_path =
    SHAPE(struct kt_in_account, "AccountPath", account_path_in);
static const struct kt_shape in_token_create =
    SHAPE(struct kt_in_token, "TokenCreate", token_create_in);
static const struct kt_shape in_token_path = SHAPE(struct kt_in_token, "TokenPath", token_path_in);
static const struct kt_shape in_token_rotate =
    SHAPE(struct kt_in_token, "TokenRotate", token_rotate_in);
static const struct kt_shape in_verify = SHAPE(struct kt_in_verify, "Verify", verify_in);
static const struct kt_shape in_verify_many =
    SHAPE(struct kt_in_verify_many, "VerifyMany", verify_many_in);
static const struct kt_shape in_hello = SHAPE(struct kt_in_hello, "Hello", hello_in);

/* --- the rows ----------------------------------------------------------------------------- */

#define ACCOUNTS "/service-accounts"
#define ACCOUNT ACCOUNTS "/{serviceAccountSlug}"
#define TOKENS ACCOUNT "/tokens"
#define TOKEN TOKENS "/{tokenSlug}"

const struct kt_op_spec kt_op_specs[KT_OP_COUNT] = {
    [KT_OP_ACCOUNT_CREATE] = {
        .name = "account.create", .http_method = "POST", .http_path = ACCOUNTS, .http_ok = 201,
        .socket = true, .scope = "write:tokens", .body = KT_BODY_REQUIRED,
        .in = &in_account_create, .out = &kt_shape_account,
        .doc = "Create a service account.",
    },
    [KT_OP_ACCOUNT_LIST] = {
        .name = "account.list", .http_method = "GET", .http_path = ACCOUNTS, .http_ok = 200,
        .socket = true, .scope = "read:tokens",
        .in = &in_account_list, .out = &kt_shape_account_page,
        .doc = "List the service accounts of the organization with their tokens, newest first.",
    },
    [KT_OP_ACCOUNT_GET] = {
        .name = "account.get", .http_method = "GET", .http_path = ACCOUNT, .http_ok = 200,
        .socket = true, .scope = "read:tokens",
        .in = &in_account_path, .out = &kt_shape_account,
        .doc = "Get one service account with its tokens.",
    },
    [KT_OP_ACCOUNT_UPDATE] = {
        .name = "account.update", .http_method = "PUT", .http_path = ACCOUNT, .http_ok = 204,
        .socket = true, .scope = "write:tokens", .body = KT_BODY_REQUIRED,
        .in = &in_account_update,
        .doc = "Rename a service account; its slug stays.",
    },
    [KT_OP_ACCOUNT_DELETE] = {
        .name = "account.delete", .http_method = "DELETE", .http_path = ACCOUNT, .http_ok = 204,
        .socket = true, .scope = "write:tokens",
        .in = &in_account_path,
        .doc = "Delete a service account; all of its tokens are revoked in the same moment.",
    },
    [KT_OP_TOKEN_CREATE] = {
        .name = "token.create", .http_method = "POST", .http_path = TOKENS, .http_ok = 201,
        .socket = true, .scope = "write:tokens", .body = KT_BODY_REQUIRED,
        .in = &in_token_create, .out = &kt_shape_plain_token,
        .doc = "Mint a token for a service account; the secret is shown once.",
    },
    [KT_OP_TOKEN_LIST] = {
        .name = "token.list", .http_method = "GET", .http_path = TOKENS, .http_ok = 200,
        .socket = true, .scope = "read:tokens",
        .in = &in_token_list, .out = &kt_shape_token_page,
        .doc = "List the tokens of a service account, newest first, revoked ones included.",
    },
    [KT_OP_TOKEN_GET] = {
        .name = "token.get", .http_method = "GET", .http_path = TOKEN, .http_ok = 200,
        .socket = true, .scope = "read:tokens",
        .in = &in_token_path, .out = &kt_shape_token,
        .doc = "Get one token, without its secret.",
    },
    [KT_OP_TOKEN_ROTATE] = {
        .name = "token.rotate", .http_method = "POST", .http_path = TOKEN "/rotate",
        .http_ok = 200, .socket = true, .scope = "write:tokens", .body = KT_BODY_OPTIONAL,
        .in = &in_token_rotate, .out = &kt_shape_plain_token,
        .doc = "Give a token a new secret; the old one dies now, or after the grace period.",
    },
    [KT_OP_TOKEN_REVOKE] = {
        .name = "token.revoke", .http_method = "DELETE", .http_path = TOKEN, .http_ok = 204,
        .socket = true, .scope = "write:tokens",
        .in = &in_token_path,
        .doc = "Revoke a token for good; a second call answers not found.",
    },
    [KT_OP_TOKEN_VALIDATE] = {
        .name = "token.validate", .http_method = "*", .http_path = "/tokens/validate",
        .http_ok = 200, .in = &in_nothing,
        .doc = "Forward authentication: 200 and a signed JWT for a good token, else 401.",
    },
    [KT_OP_TOKEN_VERIFY] = {
        .name = "token.verify", .socket = true, .in = &in_verify, .out = &kt_shape_verdict,
        .doc = "Say whether a token is good, and whose it is.",
    },
    [KT_OP_TOKEN_VERIFY_MANY] = {
        .name = "token.verifyMany", .socket = true,
        .in = &in_verify_many, .out = &kt_shape_verdicts,
        .doc = "Say it of many tokens in one message.",
    },
    [KT_OP_WHOAMI] = {
        .name = "whoami", .http_method = "GET", .http_path = "/whoami", .http_ok = 200,
        .socket = true, .in = &in_nothing, .out = &kt_shape_whoami,
        .doc = "Say who the caller is, and what it may do.",
    },
    [KT_OP_SCOPES] = {
        .name = "scopes", .http_method = "GET", .http_path = "/scopes", .http_ok = 200,
        .socket = true, .in = &in_nothing, .out = &kt_shape_scopes,
        .doc = "List every scope that a token can be given.",
    },
    [KT_OP_HEALTHZ] = {
        .name = "healthz", .http_method = "GET", .http_path = "/healthz", .http_ok = 200,
        .socket = true, .in = &in_nothing, .out = &kt_shape_health,
        .doc = "Say that the process is there.",
    },
    [KT_OP_READYZ] = {
        .name = "readyz", .http_method = "GET", .http_path = "/readyz", .http_ok = 200,
        .socket = true, .in = &in_nothing, .out = &kt_shape_health,
        .doc = "Say whether requests would be served now: store, keys, not draining.",
    },
    [KT_OP_JWKS] = {
        .name = "jwks", .http_method = "GET", .http_path = "/.well-known/jwks.json",
        .http_ok = 200, .in = &in_nothing, .loose = true,
        .doc = "The public keys of the JWTs that token.validate signs (RFC 7517).",
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
