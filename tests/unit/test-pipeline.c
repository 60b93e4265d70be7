/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The path of a request: the order of checks, trials on the loop, and what faults below look like. */
#include "config.h"

#include "tests/unit/pipeline-core.h"

/* --- the order of checks ------------------------------------------------------------------ */

#define POST(t, p, b) { .token = (t), .method = "POST", .path = (p), .body = (b) }
#define PUT(t, p, b) { .token = (t), .method = "PUT", .path = (p), .body = (b) }
#define GET(t, p) { .token = (t), .method = "GET", .path = (p) }
#define PEER(m, b) { .door = DOOR_SOCKET, .method = (m), .body = (b) }
#define USER(t, m, b) { .door = DOOR_SOCKET, .token = (t), .method = (m), .body = (b) }
#define STRANGER(m, b) { .door = DOOR_SOCKET, .method = (m), .body = (b), .stranger = true }

struct expected {
    struct ask ask;
    int status;
    const char *code;
    const char *fields; /* NULL: not looked at */
};

static void
check_all(const struct expected cases[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct ask a = cases[i].ask;
        int status = core_ask(&core, &a);
        if (status != cases[i].status || strcmp(a.code, cases[i].code) != 0)
            fail_msg("case %zu, %s %s: %d %s %s", i, a.method, a.path ? a.path : "", status,
                     a.code, a.detail);
        if (cases[i].fields)
            assert_string_equal(a.fields, cases[i].fields);
        ask_done(&a);
    }
}

static void
callers_come_first_then_form_then_scope_then_rules(void **state)
{
    (void)state;
    static const char good[] = "{\"name\":\"n\",\"slug\":\"t-1\",\"scopes\":[\"read:tokens\"]}";
    static const char past[] =
        "{\"name\":\"n\",\"scopes\":[\"no\"],\"expiresAt\":\"2001-01-01T00:00:00Z\"}";
    static const char more[] = "{\"name\":\"n\",\"scopes\":[\"read:users\",\"write:users\"]}";
    static const struct expected cases[] = {
        { POST(NULL, TOKENS, "{"), 401, "Auth.MissingAuthorizationHeader", "" },
        { { .method = "POST", .path = TOKENS, .body = "{", .bad_scheme = true },
          401, "Auth.UnknownAuthorizationHeader", "" },
        { POST("nonsense", TOKENS, "{"), 401, "Auth.InvalidToken", "" },
        { POST("ksh_nonsense", TOKENS, "{"), 401, "Auth.InvalidToken", "" },
        { POST(NOBODY, TOKENS, "{"), 400, "VALIDATION", NULL },
        { POST(NOBODY, TOKENS, ""), 400, "VALIDATION", "" },
        { POST(NOBODY, TOKENS, "[]"), 422, "UNPROCESSABLE", NULL },
        { POST(NOBODY, TOKENS, "{\"name\":\"n\",\"scopes\":7,\"more\":1}"), 422, "UNPROCESSABLE",
          NULL },
        { POST(NOBODY, TOKENS, past), 422, "UNPROCESSABLE",
          "body.expiresAt: expected a time in the future" },
        { POST(NOBODY, TOKENS, good), 403, "Auth.MissingScope", "" },
        { POST(READER, TOKENS, good), 403, "Auth.MissingScope", "" },
        { POST(CORE_ANN, TOKENS, "{\"name\":\"n\",\"scopes\":[\"no\"]}"), 400,
          "Token.InvalidScopes", NULL },
        { POST("wri/acme/write:tokens", TOKENS, more), 403, "CreateToken.ScopesExceedCaller", "" },
        { POST(CORE_ANN, TOKENS, good), 404, "CreateToken.ServiceAccountNotFound", "" },
        { PUT(NOBODY, "/service-accounts/sa-1", "{\"name\":\"n\",\"slug\":\"other\"}"), 422,
          "UpdateServiceAccount.SlugNotRenameable", "" },
        { PUT(NOBODY, "/service-accounts/sa-1", "{\"name\":\"n\",\"slug\":\"sa-1\"}"), 403,
          "Auth.MissingScope", "" },
        { PUT(CORE_ANN, "/service-accounts/sa-1", "{\"name\":\"n\"}"), 404,
          "ServiceAccount.NotFound", "" },
        { GET(NOBODY, "/service-accounts?limit=0"), 422, "UNPROCESSABLE", NULL },
        { GET(NOBODY, "/service-accounts?limit=1"), 403, "Auth.MissingScope", "" },
        { GET(READER, "/service-accounts?cursor=x"), 400, "ServiceAccounts.InvalidCursor", "" },
        { GET(READER, "/service-accounts?limit=1"), 200, "", "" },
        /* The same through the other door. */
        { STRANGER("token.create", "{"), 401, "Auth.PeerNotAllowed", "" },
        { USER("nonsense", "token.create", "{"), 401, "Auth.InvalidToken", "" },
        { USER(NOBODY, "token.create", "{"), 400, "VALIDATION", "" },
        { USER(NOBODY, "token.create", "{\"name\":1}"), 422, "UNPROCESSABLE", NULL },
        { USER(NOBODY, "account.list", NULL), 403, "Auth.MissingScope", "" },
        { PEER("account.get", "{\"serviceAccountSlug\":\"sa-1\"}"), 404, "ServiceAccount.NotFound",
          "" },
        { PEER("account.list", NULL), 200, "", "" },
    };
    check_all(cases, CORE_COUNT(cases));
    assert_int_equal(atomic_load(&core.disk->applies), 0);
}

/* --- routes ------------------------------------------------------------------------------- */

static void
who_is_unknown_learns_nothing_of_the_paths(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        { GET(NULL, "/nowhere"), 401, "Auth.MissingAuthorizationHeader", "" },
        { GET("nonsense", "/nowhere"), 401, "Auth.InvalidToken", "" },
        { GET(NOBODY, "/nowhere"), 404, "NOT_FOUND", "" },
        { GET(NOBODY, "/api/nowhere"), 404, "NOT_FOUND", "" },
        { { .method = "PATCH", .path = "/service-accounts" }, 401,
          "Auth.MissingAuthorizationHeader", "" },
        { { .method = "PATCH", .path = "/service-accounts", .token = NOBODY }, 405,
          "UNKNOWN", "" },
        { GET(NULL, "/service-accounts/%zz"), 401, "Auth.MissingAuthorizationHeader", "" },
        { GET(NOBODY, "/service-accounts/%zz"), 400, "VALIDATION", "" },
        /* Open ones are open. */
        { GET(NULL, "/healthz"), 200, "", "" },
        { GET(NULL, "/api/healthz"), 200, "", "" },
        { GET(NULL, "/readyz"), 200, "", "" },
        { GET("nonsense", "/healthz"), 200, "", "" },
        { { .method = "HEAD", .path = "/healthz" }, 200, "", "" },
        { { .method = "HEAD", .path = "/service-accounts", .token = CORE_ANN }, 200, "", "" },
        { GET(NULL, "/tokens/validate"), 401, "ValidateToken.MissingAuthorizationHeader", "" },
        /* On the socket clients probe for methods. */
        { STRANGER("token.nonsense", NULL), 404, "Method.NotFound", "" },
        { PEER("token.nonsense", NULL), 404, "Method.NotFound", "" },
        { PEER("token.validate", NULL), 404, "Method.NotFound", "" }, /* of the other door */
        { STRANGER("kaiten.ping", NULL), 200, "", "" },
        { STRANGER("whoami", NULL), 401, "Auth.PeerNotAllowed", "" },
    };
    check_all(cases, CORE_COUNT(cases));
}

static void
a_method_that_is_not_allowed_names_those_that_are(void **state)
{
    (void)state;
    static const struct {
        const char *path, *allow;
    } cases[] = {
        { "/service-accounts", "POST, GET, HEAD" },
        { "/api/service-accounts", "POST, GET, HEAD" },
        { "/service-accounts/x", "GET, HEAD, PUT, DELETE" },
        { "/service-accounts/x/tokens/y/rotate", "POST" },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        struct ask a = { .token = NOBODY, .method = "PATCH", .path = cases[i].path };
        assert_int_equal(core_ask(&core, &a), 405);
        assert_string_equal(a.allow, cases[i].allow);
        ask_done(&a);
    }
}

/* --- trials on the loop ------------------------------------------------------------------- */

static enum pipe_result
try(struct ask *a)
{
    a->way = ASK_TRIAL;
    core_post(&core, a);
    core_wait(&core, a);
    return a->result;
}

static void
fill_path(const char *pattern, char path[128])
{
    path[0] = '\0';
    for (const char *p = pattern; *p; p++) {
        size_t used = strlen(path);
        snprintf(path + used, 128 - used, *p == '{' ? "x-1" : "%c", *p);
        if (*p == '{')
            p = strchr(p, '}');
    }
}

/* Whatever is asked, and by anyone: a trial that declines has changed nothing and asked nobody. */
static void
a_declined_trial_has_no_side_effects(void **state)
{
    (void)state;
    static const char *const callers[] = { NULL, CORE_ANN, NOBODY, "" };
    size_t declined = 0;
    for (size_t i = 0; i < KT_OP_COUNT; i++)
        for (size_t k = 0; k < 2 * CORE_COUNT(callers); k++) {
            char path[128];
            const struct kt_op_spec *spec = &kt_op_specs[i];
            bool http = k % 2 == 0;
            struct ask a = { .token = callers[k / 2], .method = spec->name, .door = DOOR_SOCKET,
                             .body = "{\"name\":\"n\",\"scopes\":null}", .key = "key" };
            if (http ? !spec->http_path : !spec->socket)
                continue;
            if (http) {
                fill_path(spec->http_path, path);
                a.door = DOOR_HTTP;
                a.path = path;
                a.method = *spec->http_method == '*' ? "GET" : spec->http_method;
            }
            enum pipe_result result = try(&a);
            declined += result == PIPE_DECLINED;
            if (!(ops[i].flags & OP_INLINE) && result != PIPE_DECLINED)
                assert_int_equal(a.status, 401);
            assert_int_equal(disk_touched(), 0);
            assert_int_equal(atomic_load(&user_asked), 0);
            assert_int_equal(workers_waiting(core.svc.workers), 0);
            ask_done(&a);
        }
    assert_true(declined > 20);
}

static void
who_costs_something_is_asked_on_a_worker_and_answered_at_home(void **state)
{
    (void)state;
    struct ask a = { .token = CORE_ANN, .method = "GET", .path = "/whoami" };
    assert_int_equal(try(&a), PIPE_DECLINED);
    assert_int_equal(atomic_load(&user_asked), 0);
    a.way = ASK_AS_SERVED;
    assert_int_equal(core_ask(&core, &a), 200);
    assert_int_equal(atomic_load(&user_asked), 1);
    assert_non_null(strstr(ask_json(&a), "\"subject\":\"ann\""));
    assert_true(a.decoded_at_home); /* what looks into the index runs there */
    /* From now on the answer is remembered. */
    assert_int_equal(try(&a), PIPE_ANSWERED);
    assert_int_equal(a.status, 200);
    assert_int_equal(atomic_load(&user_asked), 1);
    ask_done(&a);
}

static void
nothing_happens(struct request *rq)
{
    (void)rq;
}

static char doomed[64];

/* As the committer would, between the look ahead and the verdict. */
static void
revoke_now(struct request *rq)
{
    struct token_digest digest =
        token_digest(rq->call.svc, (struct kt_secret_view){ doomed, strlen(doomed) });
    assert_int_equal(index_revoke(core.svc.index, digest.bytes), INDEX_OK);
}

/* Looking ahead asks for memory; it decides nothing. */
static void
what_was_looked_at_ahead_is_judged_when_it_runs(void **state)
{
    (void)state;
    char good[64], ended[64];
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-1", "null", good), 201);
    assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-2", "null", ended), 201);
    assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-3", "null", doomed), 201);
    assert_int_equal(core_http(&core, CORE_ANN, "DELETE", "/service-accounts/sa-1/tokens/t-2",
                               NULL), 204);
    const struct {
        const char *token, *said;
        void (*ahead)(struct request *);
    } cases[] = {
        { good, "\"valid\":true", nothing_happens },
        { ended, "{\"valid\":false,\"code\":\"revoked\"}", nothing_happens },
        { "ksh_x", "{\"valid\":false,\"code\":\"malformed\"}", nothing_happens },
        { doomed, "{\"valid\":false,\"code\":\"revoked\"}", revoke_now },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"token\":\"%s\"}", cases[i].token);
        struct ask a = { .door = DOOR_SOCKET, .method = "token.verify", .body = body,
                         .ahead = cases[i].ahead };
        assert_int_equal(try(&a), PIPE_ANSWERED);
        assert_non_null(strstr(ask_json(&a), cases[i].said));
        ask_done(&a);
    }
    /* A refusal is said once, whoever met it first. */
    struct ask a = { .door = DOOR_SOCKET, .method = "token.verify", .body = "{}",
                     .ahead = nothing_happens };
    assert_int_equal(try(&a), PIPE_ANSWERED);
    assert_int_equal(a.status, 422);
    assert_string_equal(a.fields, "body: expected required property token to be present");
    ask_done(&a);
}

static void
what_may_block_runs_on_a_worker(void **state)
{
    (void)state;
    struct ask asks[] = {
        { .token = CORE_ANN, .method = "GET", .path = "/service-accounts" },
        { .door = DOOR_SOCKET, .method = "account.list" },
        { .door = DOOR_SOCKET, .method = "account.create", .body = "{\"name\":\"n\"}" },
    };
    for (size_t i = 0; i < CORE_COUNT(asks); i++) {
        asks[i].decoded_at_home = true;
        core_ask(&core, &asks[i]);
        assert_int_equal(asks[i].kind, KT_OK);
        assert_false(asks[i].decoded_at_home);
        ask_done(&asks[i]);
    }
}

static void
tokens_and_peers_are_answered_on_the_loop(void **state)
{
    (void)state;
    char secret[64];
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-1", "null", secret), 201);
    struct ask asks[] = {
        { .token = secret, .method = "GET", .path = "/whoami" },
        { .door = DOOR_SOCKET, .token = secret, .method = "whoami" },
        { .door = DOOR_SOCKET, .method = "whoami" },
        { .door = DOOR_SOCKET, .method = "token.verify", .body = "{\"token\":\"x\"}" },
        { .token = secret, .method = "GET", .path = "/tokens/validate" },
    };
    size_t touched = disk_touched();
    for (size_t i = 0; i < CORE_COUNT(asks); i++) {
        assert_int_equal(try(&asks[i]), PIPE_ANSWERED);
        assert_int_equal(asks[i].status, 200);
        ask_done(&asks[i]);
    }
    assert_int_equal(disk_touched(), touched);
}

static void
what_transports_ask_beforehand_is_what_the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        char path[128];
        const struct kt_op_spec *spec = &kt_op_specs[i];
        bool is_inline = ops[i].flags & OP_INLINE;
        assert_int_equal(pipeline_may_inline(kt_str(spec->name)), spec->socket && is_inline);
        assert_int_equal(pipeline_writes(kt_str(spec->name)),
                         spec->socket && (ops[i].flags & OP_WRITES));
        if (!spec->http_path)
            continue;
        fill_path(spec->http_path, path);
        struct kt_str method = *spec->http_method == '*' ? KT_LIT("PROPFIND")
                                                         : kt_str(spec->http_method);
        assert_int_equal(pipeline_may_inline_http(method, kt_str(path)), is_inline);
        assert_int_equal(pipeline_names_http(method, kt_str(path)),
                         strchr(spec->http_path, '{') != NULL);
    }
    assert_false(pipeline_may_inline(KT_LIT("nonsense")));
    assert_false(pipeline_writes(KT_LIT("")));
    assert_false(pipeline_may_inline_http(KT_LIT("GET"), KT_LIT("/nowhere")));
    assert_false(pipeline_may_inline_http(KT_LIT("POST"), KT_LIT("/whoami")));
    assert_false(pipeline_names_http(KT_LIT("GET"), KT_LIT("/service-accounts/a/b")));
}

/* --- faults ------------------------------------------------------------------------------- */

static void
faults_below_are_withheld(void **state)
{
    (void)state;
    static const struct {
        const char *method, *body;
        bool writes;
    } asks[] = {
        { "account.get", "{\"serviceAccountSlug\":\"sa-1\"}", false },
        { "account.list", NULL, false },
        { "token.list", "{\"serviceAccountSlug\":\"sa-1\"}", false },
        { "token.get", "{\"serviceAccountSlug\":\"sa-1\",\"tokenSlug\":\"t-1\"}", false },
        { "account.create", "{\"name\":\"n\"}", true },
        { "account.update", "{\"serviceAccountSlug\":\"sa-1\",\"name\":\"n\"}", true },
        { "token.create", "{\"serviceAccountSlug\":\"sa-1\",\"name\":\"n\",\"scopes\":null}",
          true },
        { "token.rotate", "{\"serviceAccountSlug\":\"sa-1\",\"tokenSlug\":\"t-1\"}", true },
        { "token.revoke", "{\"serviceAccountSlug\":\"sa-1\",\"tokenSlug\":\"t-1\"}", true },
        { "token.revokeAll", "{\"serviceAccountSlug\":\"sa-1\"}", true },
        { "account.delete", "{\"serviceAccountSlug\":\"sa-1\"}", true },
    };
    static const struct {
        int says, status;
    } faults[] = { { KAITEN_RETRY, 503 }, { KAITEN_FULL, 503 }, { KAITEN_CORRUPT, 500 },
                   { KAITEN_FAILED, 500 } };
    char secret[64];
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-1", "null", secret), 201);
    struct account_cache *accounts = core.svc.accounts;
    core.svc.accounts = NULL; /* so that minting reads, too */
    for (size_t i = 0; i < CORE_COUNT(asks); i++)
        for (size_t k = 0; k < 2 * CORE_COUNT(faults); k++) {
            bool reading = k % 2 == 0;
            int says = faults[k / 2].says;
            if (!reading && !asks[i].writes)
                continue;
            if (reading && strcmp(asks[i].method, "account.create") == 0)
                continue; /* reads nothing */
            struct ask a = { .door = DOOR_SOCKET, .method = asks[i].method, .body = asks[i].body };
            atomic_store(&core.disk->get_says, reading ? says : KAITEN_DONE);
            atomic_store(&core.disk->scan_says, reading ? says : KAITEN_DONE);
            disk_fail(core.disk, KAITEN_DONE, reading ? KAITEN_DONE : says, 0, 1);
            int status = core_ask(&core, &a);
            if (status != faults[k / 2].status)
                fail_msg("%s, %s fails with %d: %d", a.method, reading ? "reading" : "writing",
                         says, status);
            assert_int_equal(strlen(a.id), 36);
            assert_null(strstr(a.detail, "told"));
            assert_string_equal(a.secret, "");
            ask_done(&a);
        }
    disk_mend(core.disk);
    core.svc.accounts = accounts;
    assert_int_equal(core_judge(&core, secret), TOKEN_LIVE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(callers_come_first_then_form_then_scope_then_rules),
        TEST(who_is_unknown_learns_nothing_of_the_paths),
        TEST(a_method_that_is_not_allowed_names_those_that_are),
        TEST(a_declined_trial_has_no_side_effects),
        TEST(who_costs_something_is_asked_on_a_worker_and_answered_at_home),
        TEST(what_was_looked_at_ahead_is_judged_when_it_runs),
        TEST(what_may_block_runs_on_a_worker),
        TEST(tokens_and_peers_are_answered_on_the_loop),
        TEST(what_transports_ask_beforehand_is_what_the_table_says),
        TEST(faults_below_are_withheld),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
