/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What operations answer: a shape for each object that goes out. */
#include "config.h"

#include "client/proto/ops.h"

#include "client/proto/rules.h"

static const struct kt_field user_fields[] = {
    KT_FIELD(struct kt_user, id, "id", .flags = KT_REQUIRED, .doc = "UUID.",
             .example = "52f59945-dbb4-5107-a9f5-e5a9937d320c"),
    KT_FIELD(struct kt_user, name, "name", .flags = KT_OMIT_EMPTY, .doc = "Display name.",
             .example = "Alice"),
    KT_FIELD_END
};

#define TOKEN_FIELDS \
    KT_FIELD(struct kt_token, id, "id", .flags = KT_READONLY | KT_UUID, .doc = "UUID.", \
             .example = "019a7c8e-3b1f-7d24-9c55-0f6de1a2b3c4"), \
    KT_FIELD(struct kt_token, name, "name", .flags = KT_REQUIRED, KT_RANGE(0, KT_NAME_LEN_MAX), \
             .doc = "Display name, unique among the account's unrevoked tokens.", \
             .example = "Nightly"), \
    KT_FIELD(struct kt_token, slug, "slug", KT_SLUG, \
             .doc = "Unique within the service account; derived from the name when not given, " \
             "and longer than this if the name is very long.", .example = "nightly"), \
    KT_FIELD(struct kt_token, scopes, "scopes", .flags = KT_REQUIRED | KT_NULLABLE, \
             KT_RANGE(0, KT_SCOPES_MAX), .doc = "What the token may do: <action>:<module>; " \
             "null when it is minted: all that the caller may.", \
             .example = "[\"read:licenses\",\"write:releases\"]"), \
    KT_FIELD(struct kt_token, service_account_id, "serviceAccountId", \
             .flags = KT_READONLY | KT_UUID, .doc = "UUID of the service account.", \
             .example = "019a7c8d-90ab-7f11-8a3e-5d2c4b6a7980"), \
    KT_FIELD(struct kt_token, expires_at, "expiresAt", .doc = "When it ends; absent: never.", \
             .example = "2030-01-31T09:30:00Z"), \
    KT_FIELD(struct kt_token, created_at, "createdAt", .flags = KT_REQUIRED | KT_READONLY, \
             .doc = "When it was minted.", .example = "2029-11-01T12:00:00.25Z"), \
    KT_FIELD(struct kt_token, created_by, "createdBy", .flags = KT_REQUIRED | KT_READONLY, \
             .shape = &kt_shape_user, .doc = "Who minted it."), \
    KT_FIELD(struct kt_token, revoked_at, "revokedAt", .flags = KT_READONLY, \
             .doc = "When it was revoked; absent: it is not."), \
    KT_FIELD(struct kt_token, revoked_by, "revokedBy", .flags = KT_READONLY, \
             .shape = &kt_shape_user, .doc = "Who revoked it; absent: nobody did.")

/* Behind the members that other servers have, the secret included. */
#define LAST_USED \
    KT_FIELD(struct kt_token, last_used_at, "lastUsedAt", .flags = KT_READONLY, \
             .doc = "When it was last accepted, to the minute; absent: never.")

static const struct kt_field token_fields[] = { TOKEN_FIELDS, LAST_USED, KT_FIELD_END };

static const struct kt_field plain_token_fields[] = {
    TOKEN_FIELDS,
    KT_FIELD(struct kt_token, token, "token", .flags = KT_READONLY,
             .doc = "The secret, shown this once: ksh_ and 32 letters and digits.",
             .example = KT_SECRET_EXAMPLE),
    LAST_USED,
    KT_FIELD_END
};

static const struct kt_field account_fields[] = {
    KT_FIELD(struct kt_account, id, "id", .flags = KT_READONLY, .doc = "UUID.",
             .example = "019a7c8d-90ab-7f11-8a3e-5d2c4b6a7980"),
    KT_FIELD(struct kt_account, name, "name", .flags = KT_REQUIRED, KT_RANGE(1, KT_NAME_LEN_MAX),
             .doc = "Display name; need not be unique.", .example = "Build Farm"),
    KT_FIELD(struct kt_account, slug, "slug", KT_SLUG,
             .doc = "Unique within the organization; derived from the name when not given, "
                    "and longer than this if the name is very long.", .example = "build-farm"),
    KT_FIELD(struct kt_account, external_id, "externalId", .flags = KT_READONLY,
             .doc = "Subject of the tokens' JWTs: ksa_ and 32 characters.",
             .example = "ksa_0123456789abcdefghijklmnopqrstuv"),
    KT_FIELD(struct kt_account, created_by, "createdBy", .flags = KT_READONLY,
             .shape = &kt_shape_user, .doc = "Who created it.",
             .example = "{\"id\":\"52f59945-dbb4-5107-a9f5-e5a9937d320c\",\"name\":\"Alice\"}"),
    KT_FIELD(struct kt_account, created_at, "createdAt", .flags = KT_READONLY,
             .doc = "When it was created.", .example = "2029-10-31T08:15:00Z"),
    KT_FIELD(struct kt_account, tokens, "tokens", .flags = KT_REQUIRED | KT_READONLY | KT_NULLABLE,
             .shape = &kt_shape_token, .doc = "Its tokens, newest first, revoked ones included."),
    KT_FIELD(struct kt_account, tokens_truncated, "tokensTruncated",
             .flags = KT_READONLY | KT_OMIT_FALSE,
             .doc = "Said when there are more tokens than are embedded; list them instead."),
    KT_FIELD_END
};

static const struct kt_field revocation_fields[] = {
    KT_FIELD(struct kt_revocation, service_account_id, "serviceAccountId", .flags = KT_REQUIRED,
             .doc = "UUID of the service account.",
             .example = "019a7c8d-90ab-7f11-8a3e-5d2c4b6a7980"),
    KT_FIELD(struct kt_revocation, service_account_slug, "serviceAccountSlug",
             .flags = KT_REQUIRED, .doc = "Slug of the service account.",
             .example = "build-farm"),
    KT_FIELD(struct kt_revocation, revoked_at, "revokedAt", .flags = KT_REQUIRED,
             .doc = "When its tokens were revoked.", .example = "2029-11-01T12:00:00.25Z"),
    KT_FIELD(struct kt_revocation, revoked_by, "revokedBy", .flags = KT_REQUIRED,
             .shape = &kt_shape_user, .doc = "Who revoked them."),
    KT_FIELD_END
};

#define PAGE_FIELDS(item) \
    KT_FIELD(struct kt_page, items, "items", .flags = KT_REQUIRED, .shape = (item), \
             .doc = "Newest first."), \
    KT_FIELD(struct kt_page, next_cursor, "nextCursor", .doc = "Only when there is more.", \
             .example = "AZp8jjsffSScVQ9t4aKzxA"), \
    KT_FIELD(struct kt_page, has_more, "hasMore", .flags = KT_REQUIRED, \
             .doc = "Whether another page follows.", .example = "true")

static const struct kt_field account_page_fields[] = {
    PAGE_FIELDS(&kt_shape_account),
    KT_FIELD_END,
};

static const struct kt_field token_page_fields[] = {
    PAGE_FIELDS(&kt_shape_token),
    KT_FIELD_END,
};

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
    KT_FIELD_END
};

static const struct kt_field verdicts_fields[] = {
    KT_FIELD(struct kt_verdicts, results, "results", .flags = KT_REQUIRED,
             .shape = &kt_shape_verdict, .doc = "One for each token, in their order."),
    KT_FIELD_END
};

static const struct kt_field whoami_fields[] = {
    KT_FIELD(struct kt_whoami, subject, "subject", .doc = "As the credential says.",
             .example = "alice"),
    KT_FIELD(struct kt_whoami, name, "name", .doc = "Display name.", .example = "Alice"),
    KT_FIELD(struct kt_whoami, organization, "organization", .doc = "External id.",
             .example = "acme"),
    KT_FIELD(struct kt_whoami, organization_id, "organizationId", .doc = "UUID.",
             .example = "44dce9a2-ded1-5945-a886-f8b9fbfa135f"),
    KT_FIELD(struct kt_whoami, id, "id", .doc = "UUID under which createdBy names this caller.",
             .example = "52f59945-dbb4-5107-a9f5-e5a9937d320c"),
    KT_FIELD(struct kt_whoami, kind, "kind", .doc = "How it was proved: peer, jwt or token.",
             .example = "jwt"),
    KT_FIELD(struct kt_whoami, scopes, "scopes", .flags = KT_REQUIRED, .doc = "What it may do.",
             .example = "[\"read:*\",\"write:tokens\"]"),
    KT_FIELD(struct kt_whoami, expires_at, "expiresAt", .doc = "When the credential ends.",
             .example = "2029-11-01T13:00:00Z"),
    KT_FIELD_END
};

static const struct kt_field scopes_fields[] = {
    KT_FIELD(struct kt_scope_list, scopes, "scopes", .flags = KT_REQUIRED,
             .doc = "Every scope that a token can be given.",
             .example = "[\"read:licenses\",\"write:licenses\"]"),
    KT_FIELD(struct kt_scope_list, modules, "modules", .flags = KT_REQUIRED,
             .doc = "The modules, in the order of the configuration.",
             .example = "[\"licenses\"]"),
    KT_FIELD_END
};

static const struct kt_field health_fields[] = {
    KT_FIELD(struct kt_health, status, "status", .flags = KT_REQUIRED, .doc = "\"ok\".",
             .example = "ok"),
    KT_FIELD_END
};

static const struct kt_field readiness_fields[] = {
    KT_FIELD(struct kt_readiness, status, "status", .flags = KT_REQUIRED, .doc = "\"ok\".",
             .example = "ok"),
    KT_FIELD(struct kt_readiness, staleness_ms, "stalenessMs",
             .doc = "Of a store that several daemons write: everything that was written to it so "
                    "many milliseconds ago is known here.",
             .example = "12"),
    KT_FIELD(struct kt_readiness, max_staleness_ms, "maxStalenessMs",
             .doc = "From then on the store is asked about each token, and 503 is the answer when "
                    "it does not answer.",
             .example = "1000"),
    KT_FIELD_END
};

const struct kt_shape kt_shape_user = KT_SHAPE(struct kt_user, "User", user_fields);
const struct kt_shape kt_shape_token = KT_SHAPE(struct kt_token, "Token", token_fields);
const struct kt_shape kt_shape_plain_token =
    KT_SHAPE(struct kt_token, "PlainToken", plain_token_fields);
const struct kt_shape kt_shape_account =
    KT_SHAPE(struct kt_account, "ServiceAccount", account_fields);
const struct kt_shape kt_shape_revocation =
    KT_SHAPE(struct kt_revocation, "Revocation", revocation_fields);
const struct kt_shape kt_shape_account_page =
    KT_SHAPE(struct kt_page, "ServiceAccountPage", account_page_fields);
const struct kt_shape kt_shape_token_page =
    KT_SHAPE(struct kt_page, "TokenPage", token_page_fields);
const struct kt_shape kt_shape_verdict = KT_SHAPE(struct kt_verdict, "Verdict", verdict_fields);
const struct kt_shape kt_shape_verdicts = KT_SHAPE(struct kt_verdicts, "Verdicts", verdicts_fields);
const struct kt_shape kt_shape_whoami = KT_SHAPE(struct kt_whoami, "Caller", whoami_fields);
const struct kt_shape kt_shape_scopes = KT_SHAPE(struct kt_scope_list, "ScopeList", scopes_fields);
const struct kt_shape kt_shape_health = KT_SHAPE(struct kt_health, "Health", health_fields);
const struct kt_shape kt_shape_readiness =
    KT_SHAPE(struct kt_readiness, "Readiness", readiness_fields);
