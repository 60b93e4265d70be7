/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/limits.h"

#include "daemon/log.h"
#include "daemon/service.h"

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A refill would take hours: no test is that slow. */
static const struct kaiten_rate three = { 1, 3600 * 1000, 3 };
static const struct kaiten_rate none = { KAITEN_RATE_NONE, 0, 0 };

static struct service svc;
static struct kt_arena arena;

static const struct transport socket_door = { .door = DOOR_SOCKET };
static const struct transport http_door = { .door = DOOR_HTTP };

static void
begin(struct kaiten_rate requests, struct kaiten_rate failures)
{
    const struct limits_options options = { requests, failures };
    svc.limits = limits_new(&options);
    assert_non_null(svc.limits);
    kt_arena_init(&arena, REQUEST_ARENA_MAX);
}

static void
end(void)
{
    limits_free(svc.limits);
    kt_arena_done(&arena);
}

static struct principal *
caller(const char *subject, const char *organization, struct kaiten_rate rate)
{
    const struct kaiten_principal p = { .size = sizeof p, .subject = subject,
                                        .organization = organization, .rate = rate };
    struct principal *who = principal_new(&p);
    assert_non_null(who);
    limits_adopt(svc.limits, who);
    return who;
}

static struct peer
peer_of(uint32_t uid, uint64_t source)
{
    return (struct peer){ .caller = { .has_peer = true, .uid = uid }, .source = source,
                          .remote = "somebody" };
}

struct asked {
    struct peer peer;
    enum kt_op_id op;
    const char *credential;
    const struct transport *transport;
    struct principal *who;
};

static struct request
request_of(struct asked *a)
{
    struct request rq = { .call = { .svc = &svc, .arena = &arena, .who = a->who },
                          .transport = a->transport ? a->transport : &socket_door,
                          .peer = &a->peer, .op = &ops[a->op] };
    if (a->credential)
        rq.credential = (struct kt_secret_view){ a->credential, strlen(a->credential) };
    return rq;
}

static int
ask(struct asked *a)
{
    struct request rq = request_of(a);
    int status = limits_check(&rq);
    assert_int_equal(status, rq.call.err.kind);
    if (status != KT_OK)
        assert_true(rq.call.err.retry_after_s >= 3590 && rq.call.err.retry_after_s <= 3600);
    return status;
}

/* How many of ten are admitted. */
static int
admitted(struct asked *a)
{
    int n = 0;
    for (int i = 0; i < 10; i++)
        n += ask(a) == KT_OK;
    return n;
}

static void
whose_bucket_it_is(void **state)
{
    (void)state;
    begin(none, none);
    struct principal *ann = caller("ann", "acme", three), *bob = caller("bob", "acme", three);
    struct principal *other = caller("ann", "emca", three), *free = caller("eve", "acme", none);
    struct asked by[] = {
        { .peer = peer_of(1, 1), .who = ann },
        { .peer = peer_of(2, 2), .who = ann },   /* another user through the same rule */
        { .peer = peer_of(1, 1), .who = bob },   /* another identity of the same user */
        { .peer = peer_of(1, 1), .who = other }, /* of another organization */
        { .peer = peer_of(1, 1), .who = ann, .credential = "a.b.c" }, /* proved in another way */
    };
    for (size_t i = 0; i < COUNT(by); i++) {
        by[i].op = KT_OP_WHOAMI;
        assert_int_equal(admitted(&by[i]), 3);
    }
    struct asked same[] = {
        { .peer = peer_of(1, 7), .who = ann }, /* on another connection */
        /* Who brings a credential is who it says, under whichever uid, through whichever door. */
        { .peer = peer_of(9, 9), .who = ann, .credential = "d.e.f" },
        { .peer = peer_of(0, 5), .who = ann, .credential = "a.b.c", .transport = &http_door },
    };
    for (size_t i = 0; i < COUNT(same); i++)
        for (int op = 0; op < KT_OP_COUNT; op++) {
            same[i].op = (enum kt_op_id)op;
            assert_int_equal(admitted(&same[i]), ops[op].flags & OP_ENDS ? 10 : 0);
        }
    struct asked freely = { .peer = peer_of(1, 1), .who = free, .op = KT_OP_TOKEN_GET };
    assert_int_equal(admitted(&freely), 10);
    struct limits_stats stats;
    limits_stats(svc.limits, &stats);
    assert_int_equal(stats.refused[LIMITS_REQUESTS],
                     COUNT(by) * 7 + COUNT(same) * 10 * (KT_OP_COUNT - 3));
    principal_unref(ann);
    principal_unref(bob);
    principal_unref(other);
    principal_unref(free);
    end();
}

static void
the_rate_of_all_is_for_who_has_none(void **state)
{
    (void)state;
    static const struct {
        struct kaiten_rate own;
        int admitted;
    } cases[] = { { { 0, 0, 0 }, 3 },
                  { { KAITEN_RATE_NONE, 0, 0 }, 10 },
                  { { 1, 3600 * 1000, 5 }, 5 },
                  { { 2, 3600 * 1000, 0 }, 2 } };
    for (size_t i = 0; i < COUNT(cases); i++) {
        begin(three, none);
        struct principal *who = caller("ann", "acme", cases[i].own);
        struct asked a = { .peer = peer_of(1, 1), .who = who, .op = KT_OP_WHOAMI };
        int n = 0;
        for (int k = 0; k < 10; k++) {
            struct request rq = request_of(&a);
            n += limits_check(&rq) == KT_OK;
        }
        assert_int_equal(n, cases[i].admitted);
        principal_unref(who);
        end();
    }
}

static void
a_request_counts_once_or_not_at_all(void **state)
{
    (void)state;
    begin(none, none);
    struct principal *ann = caller("ann", "acme", three);
    struct asked a = { .peer = peer_of(1, 1), .who = ann, .op = KT_OP_TOKEN_VERIFY };
    struct request rq = request_of(&a);
    for (int i = 0; i < 10; i++)
        assert_int_equal(limits_check(&rq), KT_OK);
    for (int i = 0; i < 10; i++) {
        struct request ahead = request_of(&a);
        assert_int_equal(limits_check(&ahead), KT_OK);
        limits_forget(&ahead);
        limits_forget(&ahead);
    }
    assert_int_equal(admitted(&a), 2);
    principal_unref(ann);
    end();
}

static void
look_ups_of_what_is_not_there(void **state)
{
    (void)state;
    begin(none, three);
    struct principal *ann = caller("ann", "acme", none), *bob = caller("bob", "acme", none);
    struct asked a = { .peer = peer_of(1, 1), .who = ann, .op = KT_OP_TOKEN_GET };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(admitted(&a), 10); /* what is there costs nothing */
        struct request rq = request_of(&a);
        limits_missed(&rq);
    }
    assert_int_equal(admitted(&a), 0);
    static const enum kt_op_id free[] = { KT_OP_TOKEN_VERIFY, KT_OP_WHOAMI, KT_OP_TOKEN_REVOKE,
                                          KT_OP_TOKEN_REVOKE_ALL, KT_OP_ACCOUNT_DELETE };
    for (size_t i = 0; i < COUNT(free); i++) {
        a.op = free[i];
        assert_int_equal(admitted(&a), 10);
    }
    struct asked b = { .peer = peer_of(1, 1), .who = bob, .op = KT_OP_TOKEN_GET };
    assert_int_equal(admitted(&b), 10);
    struct limits_stats stats;
    limits_stats(svc.limits, &stats);
    assert_int_equal(stats.refused[LIMITS_LOOKUPS], 10);
    principal_unref(ann);
    principal_unref(bob);
    end();
}

/* One bucket each: neither pays for the other. */
static void
requests_and_look_ups_are_counted_apart(void **state)
{
    (void)state;
    begin(none, three);
    struct principal *ann = caller("ann", "acme", three);
    struct asked a = { .peer = peer_of(1, 1), .who = ann, .op = KT_OP_TOKEN_GET };
    for (int i = 0; i < 2; i++) {
        struct request rq = request_of(&a);
        limits_missed(&rq);
    }
    assert_int_equal(admitted(&a), 3);
    struct request rq = request_of(&a);
    limits_missed(&rq);
    struct limits_stats stats;
    limits_stats(svc.limits, &stats);
    assert_int_equal(stats.refused[LIMITS_LOOKUPS], 0);
    assert_int_equal(stats.refused[LIMITS_REQUESTS], 7);
    principal_unref(ann);
    end();
}

static void
wrong_credentials(void **state)
{
    (void)state;
    begin(none, three);
    struct asked a = { .peer = peer_of(1, 77), .op = KT_OP_TOKEN_GET, .credential = "x" };
    struct asked door = a, neighbour = a, revoker = a;
    door.transport = &http_door;
    neighbour.peer.source = 78;
    revoker.op = KT_OP_TOKEN_REVOKE;
    for (int i = 0; i < 10; i++) {
        struct request rq = request_of(&a);
        int before = limits_stranger(&rq);
        assert_int_equal(before, i < 3 ? KT_OK : KT_TOO_MANY_REQUESTS);
        struct request wrong = request_of(&a);
        assert_int_equal(limits_failed(&wrong), before);
    }
    struct request other = request_of(&neighbour), http = request_of(&door);
    struct request ends = request_of(&revoker), lost = request_of(&a);
    assert_int_equal(limits_stranger(&other), KT_OK);
    assert_int_equal(limits_stranger(&http), KT_OK);
    assert_int_equal(limits_stranger(&ends), KT_OK);
    lost.op = NULL; /* a path that there is not */
    assert_int_equal(limits_stranger(&lost), KT_TOO_MANY_REQUESTS);
    end();
}

static void
without_limits_there_are_none(void **state)
{
    (void)state;
    kt_arena_init(&arena, REQUEST_ARENA_MAX);
    svc.limits = NULL;
    for (int off = 0; off < 2; off++) {
        if (off)
            begin(none, none);
        struct principal *ann = caller("ann", "acme", (struct kaiten_rate){ 0 });
        struct asked a = { .peer = peer_of(1, 1), .who = ann, .op = KT_OP_TOKEN_GET,
                           .credential = "x" };
        for (int i = 0; i < 5000; i++) {
            struct request rq = request_of(&a);
            limits_missed(&rq);
            assert_int_equal(limits_check(&rq), KT_OK);
            assert_int_equal(limits_stranger(&rq), KT_OK);
            assert_int_equal(limits_failed(&rq), KT_OK);
        }
        principal_unref(ann);
    }
    end();
}

/* A plugin of the first header ends its principal before the rate. */
static void
an_older_principal_has_no_rate(void **state)
{
    (void)state;
    begin(none, none);
    struct kaiten_principal p = { .size = offsetof(struct kaiten_principal, rate),
                                  .subject = "ann", .organization = "acme", .rate = three };
    struct principal *who = principal_new(&p);
    assert_non_null(who);
    limits_adopt(svc.limits, who);
    assert_int_equal(who->rate.interval_ns, 0);
    principal_unref(who);
    p.size = 8;
    assert_null(principal_new(&p));
    end();
}

static int
setup(void **state)
{
    (void)state;
    log_set_level((enum log_level)0);
    return sodium_init() < 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whose_bucket_it_is),
        cmocka_unit_test(the_rate_of_all_is_for_who_has_none),
        cmocka_unit_test(a_request_counts_once_or_not_at_all),
        cmocka_unit_test(look_ups_of_what_is_not_there),
        cmocka_unit_test(requests_and_look_ups_are_counted_apart),
        cmocka_unit_test(wrong_credentials),
        cmocka_unit_test(without_limits_there_are_none),
        cmocka_unit_test(an_older_principal_has_no_rate),
    };
    return cmocka_run_group_tests_name("limits", tests, setup, NULL);
}
