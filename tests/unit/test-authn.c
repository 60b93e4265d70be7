/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Credentials -> principal: chains, verdicts, what is remembered, our own tokens as callers. */
#include "config.h"

#include "tests/unit/core-ask.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A plugin that says what the test wants. */
struct script {
    int verdict;
    const char *subject;     /* NULL: names nobody */
    int64_t lives_ms;        /* 0: without an expiry */
    const char *code, *said; /* for the caller, and for the log */
    _Atomic int asked, inside, most;
    bool slow;
    bool forgets;            /* takes its verdicts back while it gives one */
};

static enum kaiten_verdict
script_identify(void *instance, const struct kaiten_caller *caller, struct kaiten_sink *sink,
                struct kaiten_err *err)
{
    (void)caller;
    struct script *s = instance;
    const struct timespec moment = { 0, 200 * 1000 };
    int now = atomic_fetch_add(&s->inside, 1) + 1;
    if (now > atomic_load(&s->most))
        atomic_store(&s->most, now);
    atomic_fetch_add(&s->asked, 1);
    if (s->slow)
        nanosleep(&moment, NULL);
    if (s->forgets)
        host_table.forget(instance);
    if (s->said)
        host_table.error(err, "%s", s->said);
    if (s->code)
        host_table.refuse(sink, s->code, "because of its form");
    const struct kaiten_principal p = {
        .size = sizeof p, .subject = s->subject, .organization = "acme", .proof = "script",
        .expires_at_ms = s->lives_ms ? clock_wall_ms() + s->lives_ms : 0,
    };
    if (s->subject)
        core_must(host_table.principal(sink, &p));
    atomic_fetch_sub(&s->inside, 1);
    return (enum kaiten_verdict)s->verdict;
}

enum { LINKS = 3, INLINE = KAITEN_AUTH_INLINE, CACHE = KAITEN_AUTH_CACHE };

static struct core core;
static struct kt_arena arena;
static struct request rq;
static struct script scripts[LINKS];
static pthread_mutex_t calls[LINKS];
static struct plugin plugins[LINKS];
static struct authn_chain *chain;
static struct peer peer;

static struct authn_chain *
make_chain(size_t n)
{
    struct authn_chain *made = authn_chain_new(&core.svc);
    assert_non_null(made);
    for (size_t i = 0; i < n; i++)
        assert_true(authn_chain_add(made, &plugins[i], &scripts[i]));
    return made;
}

static void
set_plugin(size_t i, unsigned threads, uint64_t caps)
{
    plugins[i] = (struct plugin){
        .kind = PLUGIN_AUTH, .name = "script", .calls = &calls[i],
        .auth = { .size = sizeof(struct kaiten_auth), .abi = KAITEN_AUTH_ABI,
                  .threads = (uint16_t)threads, .caps = caps, .name = "script",
                  .identify = script_identify },
    };
}

static void
begin(enum door door, const char *credential)
{
    memset(&rq, 0, sizeof rq);
    kt_arena_reset(&arena);
    peer = door == DOOR_HTTP ? core.http : core.socket;
    peer.chain = chain;
    rq.call = (struct call){ .svc = &core.svc, .arena = &arena, .now_ms = clock_wall_ms(),
                             .deadline_ms = clock_mono_ms() + 60000 };
    rq.transport = door == DOOR_HTTP ? &ask_http : &ask_socket;
    rq.peer = &peer;
    rq.credential = (struct kt_secret_view){ credential, credential ? strlen(credential) : 0 };
}

static void
finish(void)
{
    rq.call.who = principal_unref(rq.call.who);
}

static int
identify(enum door door, const char *credential)
{
    begin(door, credential);
    return authn_identify(&rq, true);
}

static int
setup(void **state)
{
    (void)state;
    core_open(&core, NULL);
    kt_arena_init(&arena, 64 * 1024);
    memset(scripts, 0, sizeof scripts);
    for (size_t i = 0; i < LINKS; i++) {
        pthread_mutex_init(&calls[i], NULL);
        set_plugin(i, KAITEN_THREADS_PARALLEL, 0);
        scripts[i].verdict = KAITEN_NOT_MINE;
    }
    chain = make_chain(LINKS);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    finish();
    authn_chain_free(chain);
    kt_arena_done(&arena);
    core_close(&core);
    return 0;
}

/* --- chains ------------------------------------------------------------------------------- */

struct link_says {
    int verdict;
    const char *subject, *code;
};

static void
the_first_answer_decides(void **state)
{
    (void)state;
#define SAYS(...) { __VA_ARGS__ }
#define NOT_MINE { KAITEN_NOT_MINE, NULL, NULL }
    static const struct {
        const char *what;
        struct link_says says[LINKS];
        size_t asked;
        enum kt_kind kind;
        const char *code, *subject;
    } cases[] = {
        { "nobody's", { NOT_MINE, NOT_MINE, NOT_MINE }, 3, KT_UNAUTHORIZED, "Auth.InvalidToken",
          NULL },
        { "the first", { SAYS(KAITEN_KNOWN, "a", NULL), SAYS(KAITEN_KNOWN, "b", NULL) }, 1, KT_OK,
          NULL, "a" },
        { "the second", { NOT_MINE, SAYS(KAITEN_KNOWN, "b", NULL), SAYS(KAITEN_REFUSED, NULL,
          NULL) }, 2, KT_OK, NULL, "b" },
        { "refused", { SAYS(KAITEN_REFUSED, NULL, NULL), SAYS(KAITEN_KNOWN, "b", NULL) }, 1,
          KT_UNAUTHORIZED, "Auth.InvalidToken", NULL },
        { "refused, named all the same", { SAYS(KAITEN_REFUSED, "a", NULL) }, 1, KT_UNAUTHORIZED,
          "Auth.InvalidToken", NULL },
        { "refused in words", { SAYS(KAITEN_REFUSED, NULL, "Auth.Form") }, 1, KT_UNAUTHORIZED,
          "Auth.Form", NULL },
        { "broken", { SAYS(KAITEN_BROKEN, NULL, NULL), SAYS(KAITEN_KNOWN, "b", NULL) }, 1,
          KT_UNAVAILABLE, NULL, NULL },
        { "broken, named", { SAYS(KAITEN_BROKEN, "a", NULL) }, 1, KT_UNAVAILABLE, NULL, NULL },
        { "broken, in words", { SAYS(KAITEN_BROKEN, NULL, "Auth.Form") }, 1, KT_UNAVAILABLE, NULL,
          NULL },
        { "known, and nobody named", { SAYS(KAITEN_KNOWN, NULL, NULL), SAYS(KAITEN_KNOWN, "b",
          NULL) }, 1, KT_UNAVAILABLE, NULL, NULL },
        { "known, with words", { SAYS(KAITEN_KNOWN, "a", "Auth.Form") }, 1, KT_OK, NULL, "a" },
        /* What a plugin says about a credential that is not its own is told to nobody. */
        { "a name of another", { SAYS(KAITEN_NOT_MINE, "a", NULL), SAYS(KAITEN_KNOWN, NULL,
          NULL) }, 2, KT_UNAVAILABLE, NULL, NULL },
        { "words of another", { SAYS(KAITEN_NOT_MINE, NULL, "Auth.Other"), SAYS(KAITEN_REFUSED,
          NULL, NULL) }, 2, KT_UNAUTHORIZED, "Auth.InvalidToken", NULL },
        { "a name, then nobody's", { SAYS(KAITEN_NOT_MINE, "a", NULL), NOT_MINE, NOT_MINE }, 3,
          KT_UNAUTHORIZED, "Auth.InvalidToken", NULL },
        /* No number but the four. */
        { "zero", { SAYS(0, "a", NULL), SAYS(KAITEN_KNOWN, "b", NULL) }, 1, KT_UNAVAILABLE, NULL,
          NULL },
        { "one", { SAYS(1, "a", NULL) }, 1, KT_UNAVAILABLE, NULL, NULL },
        { "minus one", { SAYS(-1, "a", NULL) }, 1, KT_UNAVAILABLE, NULL, NULL },
        { "a bit off known", { SAYS(KAITEN_KNOWN ^ 1, "a", NULL) }, 1, KT_UNAVAILABLE, NULL, NULL },
        { "another bit off", { SAYS(KAITEN_KNOWN ^ 0x4000, "a", NULL) }, 1, KT_UNAVAILABLE, NULL,
          NULL },
        { "the daemon's own number", { SAYS(0x4b85, "a", NULL) }, 1, KT_UNAVAILABLE, NULL, NULL },
          };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        size_t asked = 0;
        for (size_t k = 0; k < LINKS; k++) {
            const struct link_says *l = &cases[i].says[k];
            scripts[k].verdict = l->verdict;
            scripts[k].subject = l->subject;
            scripts[k].code = l->code;
            scripts[k].said = "the key is in /secret/place";
            atomic_store(&scripts[k].asked, 0);
        }
        int kind = identify(DOOR_HTTP, "credential");
        for (size_t k = 0; k < LINKS; k++)
            asked += (size_t)atomic_load(&scripts[k].asked);
        if (kind != (int)cases[i].kind || asked != cases[i].asked)
            fail_msg("%s: kind %d, asked %zu", cases[i].what, kind, asked);
        assert_int_equal(rq.call.who != NULL, kind == KT_OK);
        if (kind == KT_OK)
            assert_true(kt_str_is(rq.call.who->subject, cases[i].subject));
        if (cases[i].code && strcmp(rq.call.err.code, cases[i].code) != 0)
            fail_msg("%s: %s", cases[i].what, rq.call.err.code);
        assert_null(memmem(rq.call.err.detail.p ? rq.call.err.detail.p : "", rq.call.err.detail.n,
                           "secret", 6));
        finish();
    }
}

static void
a_chain_is_bounded(void **state)
{
    (void)state;
    struct authn_chain *full = make_chain(LINKS);
    for (size_t i = LINKS; i < AUTHN_CHAIN_MAX; i++)
        assert_true(authn_chain_add(full, &plugins[0], &scripts[0]));
    assert_false(authn_chain_add(full, &plugins[0], &scripts[0]));
    assert_ptr_equal(authn_chain_service(full), &core.svc);
    authn_chain_free(full);
    authn_chain_free(NULL);
}

static void
without_a_credential(void **state)
{
    (void)state;
    scripts[0].verdict = KAITEN_KNOWN;
    scripts[0].subject = "a";
    assert_int_equal(identify(DOOR_HTTP, NULL), KT_UNAUTHORIZED);
    assert_string_equal(rq.call.err.code, "Auth.MissingAuthorizationHeader");
    begin(DOOR_HTTP, NULL);
    rq.bad_scheme = true;
    assert_int_equal(authn_identify(&rq, true), KT_UNAUTHORIZED);
    assert_string_equal(rq.call.err.code, "Auth.UnknownAuthorizationHeader");
    begin(DOOR_SOCKET, NULL);
    peer.who = NULL;
    assert_int_equal(authn_identify(&rq, true), KT_UNAUTHORIZED);
    assert_string_equal(rq.call.err.code, "Auth.PeerNotAllowed");
    assert_int_equal(identify(DOOR_SOCKET, NULL), KT_OK);
    assert_ptr_equal(rq.call.who, core.socket.who);
    assert_int_equal(atomic_load(&scripts[0].asked), 0);
}

static void
a_peer_ends_when_its_time_is_over(void **state)
{
    (void)state;
    const struct kaiten_principal p = { .size = sizeof p, .subject = "a", .organization = "acme",
                                        .expires_at_ms = 1000 };
    struct principal *who = principal_new(&p);
    static const struct {
        int64_t now_ms;
        enum kt_kind kind;
    } cases[] = { { 999, KT_OK }, { 1000, KT_UNAUTHORIZED }, { 1001, KT_UNAUTHORIZED } };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        begin(DOOR_SOCKET, NULL);
        peer.who = who;
        rq.call.now_ms = cases[i].now_ms;
        assert_int_equal(authn_identify(&rq, true), cases[i].kind);
        finish();
    }
    principal_unref(who);
}

/* What a plugin names is copied, and bounded. */
static void
a_principal_is_all_its_own(void **state)
{
    (void)state;
    char scope[KAITEN_SCOPE_MAX + 2], proof[257], subject[] = "ann";
    const char *const scopes[] = { scope };
    struct kaiten_principal p = { .size = sizeof p, .subject = subject, .organization = "acme",
                                  .proof = proof, .scopes = scopes, .nscopes = 1 };
    strcpy(scope, "read:*");
    strcpy(proof, "script");
    struct principal *who = principal_new(&p);
    memset(subject, 'x', 3);
    memset(scope, 's', sizeof scope - 1);
    memset(proof, 'p', sizeof proof - 1);
    scope[sizeof scope - 1] = proof[sizeof proof - 1] = '\0';
    assert_true(kt_str_is(who->subject, "ann"));
    assert_true(kt_str_is(who->scopes[0], "read:*"));
    assert_string_equal(who->proof, "script");
    principal_unref(who);

    assert_null(principal_new(&p)); /* both are too long by one byte */
    proof[255] = '\0';
    assert_null(principal_new(&p));
    scope[KAITEN_SCOPE_MAX] = '\0';
    principal_unref(who = principal_new(&p));
    assert_non_null(who);
    proof[255] = 'p';
    assert_null(principal_new(&p));
}

/* --- on the loop -------------------------------------------------------------------------- */

static void
who_may_block_is_not_asked_on_the_loop(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint64_t caps[LINKS];
        int verdicts[LINKS];
        int result;
        int asked;
    } cases[] = {
        { "the first may block", { 0, INLINE, INLINE },
          { KAITEN_KNOWN, KAITEN_KNOWN, KAITEN_KNOWN }, CALL_WOULD_BLOCK, 0 },
        { "the first decides", { INLINE, 0, 0 }, { KAITEN_KNOWN, KAITEN_KNOWN, KAITEN_KNOWN },
          KT_OK, 1 },
        { "the first refuses", { INLINE, 0, 0 }, { KAITEN_REFUSED, KAITEN_KNOWN, KAITEN_KNOWN },
          KT_UNAUTHORIZED, 1 },
        { "the second may block", { INLINE, CACHE, 0 },
          { KAITEN_NOT_MINE, KAITEN_KNOWN, KAITEN_KNOWN }, CALL_WOULD_BLOCK, 1 },
        { "nobody's", { INLINE, INLINE, INLINE },
          { KAITEN_NOT_MINE, KAITEN_NOT_MINE, KAITEN_NOT_MINE }, KT_UNAUTHORIZED, 3 },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        int asked = 0;
        for (size_t k = 0; k < LINKS; k++) {
            set_plugin(k, KAITEN_THREADS_PARALLEL, cases[i].caps[k]);
            scripts[k].verdict = cases[i].verdicts[k];
            scripts[k].subject = cases[i].verdicts[k] == KAITEN_KNOWN ? "a" : NULL;
            atomic_store(&scripts[k].asked, 0);
        }
        begin(DOOR_HTTP, "credential");
        int result = authn_identify(&rq, false);
        for (size_t k = 0; k < LINKS; k++)
            asked += atomic_load(&scripts[k].asked);
        if (result != cases[i].result || asked != cases[i].asked)
            fail_msg("%s: %d, asked %d", cases[i].what, result, asked);
        if (result == CALL_WOULD_BLOCK)
            assert_int_equal(rq.call.err.kind, KT_OK);
        finish();
    }
}

static void
at_accept_only_those_who_need_no_credential_are_asked(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint64_t caps;
        int verdict;
        bool asked, known;
    } cases[] = {
        { "knows peers", INLINE, KAITEN_KNOWN, true, true },
        { "refuses it", INLINE, KAITEN_REFUSED, true, false },
        { "is broken", INLINE, KAITEN_BROKEN, true, false },
        { "says nonsense", INLINE, 1, true, false },
        { "knows credentials only", INLINE | CACHE, KAITEN_KNOWN, false, false },
        { "may block", 0, KAITEN_KNOWN, false, false },
        { "may block, knows credentials only", CACHE, KAITEN_KNOWN, false, false },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        set_plugin(0, KAITEN_THREADS_PARALLEL, cases[i].caps);
        scripts[0].verdict = cases[i].verdict;
        scripts[0].subject = "a";
        atomic_store(&scripts[0].asked, 0);
        begin(DOOR_SOCKET, NULL);
        peer.who = NULL;
        authn_peer(&peer);
        if ((peer.who != NULL) != cases[i].known ||
            (atomic_load(&scripts[0].asked) != 0) != cases[i].asked)
            fail_msg("%s", cases[i].what);
        principal_unref(peer.who);
    }
}

/* --- what is remembered ------------------------------------------------------------------- */

static void
who_was_verified_at_some_cost_is_remembered(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint64_t caps;
        int64_t lives_ms;
        int verdict;
        int asked; /* of three times */
    } cases[] = {
        { "cached", CACHE, CORE_HOUR, KAITEN_KNOWN, 1 },
        { "without an expiry", CACHE, 0, KAITEN_KNOWN, 3 },
        { "expired", CACHE, -1, KAITEN_KNOWN, 3 },
        { "not to be kept", 0, CORE_HOUR, KAITEN_KNOWN, 3 },
        { "not to be kept, quick", INLINE, CORE_HOUR, KAITEN_KNOWN, 3 },
        { "refused", CACHE, CORE_HOUR, KAITEN_REFUSED, 3 },
        { "broken", CACHE, CORE_HOUR, KAITEN_BROKEN, 3 },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        char credential[32];
        snprintf(credential, sizeof credential, "credential %zu", i);
        set_plugin(0, KAITEN_THREADS_PARALLEL, cases[i].caps);
        scripts[0].verdict = cases[i].verdict;
        scripts[0].subject = "a";
        scripts[0].lives_ms = cases[i].lives_ms;
        atomic_store(&scripts[0].asked, 0);
        for (int k = 0; k < 3; k++) {
            identify(DOOR_HTTP, credential);
            finish();
        }
        if (atomic_load(&scripts[0].asked) != cases[i].asked)
            fail_msg("%s: asked %d times", cases[i].what, atomic_load(&scripts[0].asked));
    }
}

/* Also the verdict that was being given meanwhile. */
static void
verdicts_that_are_taken_back_are_asked_for_anew(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        bool between, inside;
        int asked; /* of three times */
    } cases[] = {
        { "kept", false, false, 1 },
        { "between", true, false, 3 },
        { "inside", false, true, 3 },
    };
    set_plugin(0, KAITEN_THREADS_PARALLEL, CACHE);
    scripts[0].verdict = KAITEN_KNOWN;
    scripts[0].subject = "a";
    scripts[0].lives_ms = CORE_HOUR;
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        scripts[0].forgets = cases[i].inside;
        atomic_store(&scripts[0].asked, 0);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(identify(DOOR_HTTP, cases[i].what), KT_OK);
            finish();
            if (cases[i].between)
                host_table.forget(&scripts[0]);
        }
        if (atomic_load(&scripts[0].asked) != cases[i].asked)
            fail_msg("%s: asked %d times", cases[i].what, atomic_load(&scripts[0].asked));
    }
}

/* Two listeners may know the same credential as different callers. */
static void
each_chain_remembers_for_itself(void **state)
{
    (void)state;
    struct authn_chain *first = chain, *other = make_chain(1);
    set_plugin(0, KAITEN_THREADS_PARALLEL, CACHE);
    scripts[0].verdict = KAITEN_KNOWN;
    scripts[0].lives_ms = CORE_HOUR;
    scripts[0].subject = "a";
    assert_int_equal(identify(DOOR_HTTP, "credential"), KT_OK);
    finish();
    chain = other;
    scripts[0].subject = "b";
    assert_int_equal(identify(DOOR_HTTP, "credential"), KT_OK);
    assert_true(kt_str_is(rq.call.who->subject, "b"));
    finish();
    chain = first;
    assert_int_equal(identify(DOOR_HTTP, "credential"), KT_OK);
    assert_true(kt_str_is(rq.call.who->subject, "a"));
    finish();
    authn_chain_free(other);
}

/* A credential that begins with another is not that other. */
static void
what_is_remembered_is_the_whole_credential(void **state)
{
    (void)state;
    set_plugin(0, KAITEN_THREADS_PARALLEL, CACHE);
    scripts[0].verdict = KAITEN_KNOWN;
    scripts[0].lives_ms = CORE_HOUR;
    scripts[0].subject = "a";
    static const char *const credentials[] = { "abc", "ab", "abcd", "Abc", "" };
    for (size_t i = 0; i < CORE_COUNT(credentials); i++) {
        identify(DOOR_HTTP, credentials[i]);
        finish();
    }
    assert_int_equal(atomic_load(&scripts[0].asked), 4); /* without one it has nothing to say */
}

/* --- threads ------------------------------------------------------------------------------ */

static void *
keep_asking(void *arg)
{
    struct request mine = { 0 };
    struct kt_arena memory;
    struct peer from = core.http;
    from.chain = arg;
    kt_arena_init(&memory, 64 * 1024);
    for (int i = 0; i < 50; i++) {
        mine.call = (struct call){ .svc = &core.svc, .arena = &memory,
                                   .deadline_ms = clock_mono_ms() + 60000 };
        mine.transport = &ask_http;
        mine.peer = &from;
        mine.credential = (struct kt_secret_view){ "credential", 10 };
        core_must(authn_identify(&mine, true) == KT_OK);
        mine.call.who = principal_unref(mine.call.who);
    }
    kt_arena_done(&memory);
    return NULL;
}

/* Listeners share the instances of their plugins. */
static void
nobody_is_inside_beyond_the_level(void **state)
{
    (void)state;
    static const unsigned levels[] = { KAITEN_THREADS_SERIAL, KAITEN_THREADS_READERS,
                                       KAITEN_THREADS_PARALLEL };
    for (size_t i = 0; i < CORE_COUNT(levels); i++) {
        struct authn_chain *other = make_chain(1);
        pthread_t threads[4];
        set_plugin(0, levels[i], 0);
        scripts[0] = (struct script){ .verdict = KAITEN_KNOWN, .subject = "a", .slow = true };
        for (size_t k = 0; k < CORE_COUNT(threads); k++)
            pthread_create(&threads[k], NULL, keep_asking, k % 2 ? chain : other);
        for (size_t k = 0; k < CORE_COUNT(threads); k++)
            pthread_join(threads[k], NULL);
        assert_int_equal(atomic_load(&scripts[0].asked), 200);
        if (levels[i] != KAITEN_THREADS_PARALLEL)
            assert_int_equal(atomic_load(&scripts[0].most), 1);
        else
            assert_true(atomic_load(&scripts[0].most) > 1);
        authn_chain_free(other);
    }
}

/* --- our own tokens ----------------------------------------------------------------------- */

static void
a_token_calls_as_its_account(void **state)
{
    (void)state;
    char secret[64];
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-1", "[\"read:tokens\",\"read:users\"]",
                               secret),
                     201);
    chain = (authn_chain_free(chain), make_chain(0));
    const struct kt_secret_view view = { secret, strlen(secret) };
    for (int on_loop = 0; on_loop < 2; on_loop++) {
        struct kaiten_sink sink = { .svc = &core.svc, .on_loop = on_loop };
        struct principal *who = authn_token_caller(&sink, view);
        assert_non_null(who);
        assert_int_equal(who->nscopes, 2);
        assert_true(kt_str_is(who->scopes[0], "read:tokens"));
        assert_true(kt_str_is(who->scopes[1], "read:users"));
        assert_true(kt_str_is(who->org_ext, "acme"));
        assert_true(kt_str_is(who->name, "sa-1"));
        assert_memory_equal(who->subject.p, "ksa_", 4);
        assert_string_equal(who->proof, "token");
        assert_int_equal(who->verify, KAITEN_VERIFY_NO);
        struct uuid org;
        assert_true(uuid_of_org(KT_LIT("acme"), &org));
        assert_memory_equal(&who->org, &org, sizeof org);
        principal_unref(who);
    }
    static const char *const not_good[] = { "", "ksh_", "ksh_0000000000000000000000000000000000" };
    struct kaiten_sink sink = { .svc = &core.svc, .on_loop = true };
    for (size_t i = 0; i < CORE_COUNT(not_good); i++)
        assert_null(authn_token_caller(
            &sink, (struct kt_secret_view){ not_good[i], strlen(not_good[i]) }));
}

/* However often it has called: a token that was revoked is refused at once, on both doors. */
static void
token_callers_are_never_remembered(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path;
        int status;
    } ends[] = {
        { "DELETE", "/service-accounts/sa-1/tokens/t-0", 204 },
        { "POST", "/service-accounts/sa-1/tokens/t-1/rotate", 200 },
        { "DELETE", "/service-accounts/sa-1", 204 },
    };
    char secrets[CORE_COUNT(ends)][64];
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    for (size_t i = 0; i < CORE_COUNT(ends); i++) {
        char slug[8];
        snprintf(slug, sizeof slug, "t-%zu", i);
        assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", slug, "null", secrets[i]), 201);
    }
    for (size_t i = 0; i < CORE_COUNT(ends); i++) {
        struct ask a = { .door = DOOR_SOCKET, .token = secrets[i], .method = "whoami" };
        for (int k = 0; k < 3; k++) {
            assert_int_equal(core_http(&core, secrets[i], "GET", "/service-accounts", NULL), 200);
            assert_int_equal(core_ask(&core, &a), 200);
        }
        assert_int_equal(core_http(&core, CORE_ANN, ends[i].method, ends[i].path, NULL),
                         ends[i].status);
        assert_int_equal(core_http(&core, secrets[i], "GET", "/service-accounts", NULL), 401);
        assert_int_equal(core_http(&core, secrets[i], "GET", "/whoami", NULL), 401);
        assert_int_equal(core_ask(&core, &a), 401);
        ask_done(&a);
    }
}

/* A token with as many and as long scopes as one can have. */
static void
the_largest_token_is_a_caller_too(void **state)
{
    (void)state;
    enum { SCOPES = 256 };
    static char names[SCOPES][65], list[SCOPES * 80], body[sizeof list + 100];
    static struct kt_str modules[SCOPES];
    size_t used = 0;
    for (size_t i = 0; i < SCOPES; i++) {
        memset(names[i], 'm', 64);
        names[i][61] = (char)('a' + i / 26);
        names[i][62] = (char)('a' + i % 26);
        modules[i] = kt_str(names[i]);
        used += (size_t)snprintf(list + used, sizeof list - used, "%s\"delete:%s\"",
                                 i ? "," : "", names[i]);
    }
    core.svc.modules = (struct scope_modules){ modules, SCOPES };
    core.svc.scopes_unbounded = true;
    snprintf(body, sizeof body, "{\"name\":\"n\",\"slug\":\"t-1\",\"scopes\":[%s]}", list);
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    struct ask a = { .token = CORE_ANN, .method = "POST", .path = "/service-accounts/sa-1/tokens",
                     .body = body };
    assert_int_equal(core_ask(&core, &a), 201);
    assert_int_equal(core_http(&core, a.secret, "GET", "/whoami", NULL), 200);
    ask_done(&a);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_first_answer_decides),
        TEST(a_chain_is_bounded),
        TEST(without_a_credential),
        TEST(a_peer_ends_when_its_time_is_over),
        TEST(a_principal_is_all_its_own),
        TEST(who_may_block_is_not_asked_on_the_loop),
        TEST(at_accept_only_those_who_need_no_credential_are_asked),
        TEST(who_was_verified_at_some_cost_is_remembered),
        TEST(verdicts_that_are_taken_back_are_asked_for_anew),
        TEST(each_chain_remembers_for_itself),
        TEST(what_is_remembered_is_the_whole_credential),
        TEST(nobody_is_inside_beyond_the_level),
        TEST(a_token_calls_as_its_account),
        TEST(token_callers_are_never_remembered),
        TEST(the_largest_token_is_a_caller_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
