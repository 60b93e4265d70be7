/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/secret.h"
#include "daemon/model/token.h"
#include "daemon/parts.h"
#include "daemon/principal.h"

#include "tests/tools/site.h"

#include <errno.h>
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes a store of many tokens without a daemon: the same steps open it, the same code proposes each
 * account and token, and the same plugin applies the batches. Only the wire and the clients that wait
 * are left out. One thread prepares groups, the other one applies them. */

enum { GROUP = 512, QUEUE = 4, ARENA_MAX = 16 << 20, TOKEN_CHARS = 36, ACCOUNTS_MAX = 100000 };

struct group {
    struct kt_arena arena;
    struct batch *batches[GROUP];
    struct kaiten_outcome outcomes[GROUP];
    char tokens[GROUP * TOKEN_CHARS];
    size_t n;
};

struct account {
    struct account_record record;
    struct store_row row;
};

struct fill {
    struct parts *parts;
    struct principal *who;
    struct kt_arena arena; /* of the accounts */
    struct account *accounts;
    size_t naccounts;
    uint64_t ntokens;
    struct group groups[QUEUE];
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t made, applied; /* groups, under lock */
};

static struct call
begin_call(const struct fill *f, struct kt_arena *arena)
{
    return (struct call){ .svc = &f->parts->svc, .arena = arena, .who = f->who,
                          .now_ms = clock_wall_ms(), .deadline_ms = INT64_MAX };
}

static void
apply(struct fill *f, struct batch *const batches[], struct kaiten_outcome outcomes[], size_t n)
{
    char why[512] = "";
    if (store_apply(f->parts->svc.store, batches, n, outcomes, why, sizeof why) != KAITEN_DONE)
        die("storage", why);
    for (size_t i = 0; i < n; i++)
        if (outcomes[i].status != KAITEN_DONE)
            die("storage", "a batch was refused");
}

/* --- accounts ----------------------------------------------------------------------------- */

static void
make_account(struct fill *f, size_t i)
{
    char slug[32];
    struct account_record made;
    struct batch *b;
    struct kaiten_outcome outcome;
    struct account *a = &f->accounts[i];
    struct call call = begin_call(f, &f->arena);
    snprintf(slug, sizeof slug, "bench-%05zu", i);
    struct kt_str name = kt_arena_str(&f->arena, kt_str(slug));
    if (account_propose_create(&call, name, name, &b, &made) != KT_OK)
        die("account", call.err.detail.p ? call.err.detail.p : "refused");
    apply(f, &b, &outcome, 1);
    if (account_load(&call, &f->who->org, name, &a->record, &a->row) != KT_OK)
        die("account", "is not there");
}

/* --- tokens ------------------------------------------------------------------------------- */

static void
make_token(struct fill *f, struct group *g, uint64_t number)
{
    static const struct kt_str scope = KT_LIT("read:instances");
    char name[2 + 16 + 1];
    struct token_made made;
    struct call call = begin_call(f, &g->arena);
    /* In no order, like the accounts of a busy day. */
    const struct account *a = &f->accounts[number * 0x9E3779B97F4A7C15 % f->naccounts];
    snprintf(name, sizeof name, "t-%016llx", (unsigned long long)number);
    struct kt_str text = kt_arena_str(&g->arena, kt_str(name));
    const struct token_wish wish = { .name = text, .slug = text, .scopes = &scope, .nscopes = 1 };
    if (token_propose_create(&call, &a->record, &a->row, &wish, &made) != KT_OK ||
        !store_seal(f->parts->svc.store, made.batch))
        die("token", "was refused");
    g->batches[g->n] = made.batch;
    memcpy(g->tokens + g->n * TOKEN_CHARS, kt_secret_view(made.secret).p, TOKEN_CHARS);
    kt_secret_free(made.secret);
    g->n++;
}

static struct group *
wait_for_group(struct fill *f, bool free, uint64_t at)
{
    pthread_mutex_lock(&f->lock);
    while (free ? at >= f->applied + QUEUE : at >= f->made)
        pthread_cond_wait(&f->moved, &f->lock);
    pthread_mutex_unlock(&f->lock);
    return &f->groups[at % QUEUE];
}

static void
hand_on(struct fill *f, uint64_t *counter)
{
    pthread_mutex_lock(&f->lock);
    ++*counter;
    pthread_cond_broadcast(&f->moved);
    pthread_mutex_unlock(&f->lock);
}

static void *
make_groups(void *arg)
{
    struct fill *f = arg;
    for (uint64_t number = 0, at = 0; number < f->ntokens; at++) {
        struct group *g = wait_for_group(f, true, at);
        kt_arena_reset(&g->arena);
        for (g->n = 0; g->n < GROUP && number < f->ntokens; number++)
            make_token(f, g, number);
        hand_on(f, &f->made);
    }
    return NULL;
}

static void
apply_groups(struct fill *f, FILE *out)
{
    uint64_t left = f->ntokens;
    for (uint64_t at = 0; left > 0; at++) {
        struct group *g = wait_for_group(f, false, at);
        apply(f, g->batches, g->outcomes, g->n);
        if (fwrite(g->tokens, TOKEN_CHARS, g->n, out) != g->n)
            die("tokens", strerror(errno));
        left -= g->n;
        hand_on(f, &f->applied);
    }
}

static void
fill(struct fill *f, FILE *slugs, FILE *tokens)
{
    pthread_t maker;
    kt_arena_init(&f->arena, SIZE_MAX / 2);
    for (size_t i = 0; i < QUEUE; i++)
        kt_arena_init(&f->groups[i].arena, ARENA_MAX);
    f->accounts = kt_arena_calloc(&f->arena, f->naccounts, sizeof *f->accounts);
    if (!f->accounts)
        die("accounts", "no memory");
    for (size_t i = 0; i < f->naccounts; i++) {
        make_account(f, i);
        fprintf(slugs, "%.*s", KT_FMT(f->accounts[i].record.slug));
    }
    if ((errno = pthread_create(&maker, NULL, make_groups, f)) != 0)
        die("thread", strerror(errno));
    apply_groups(f, tokens);
    pthread_join(maker, NULL);
    for (size_t i = 0; i < QUEUE; i++)
        kt_arena_done(&f->groups[i].arena);
    kt_arena_done(&f->arena);
}

/* --- the rest ----------------------------------------------------------------------------- */

static struct principal *
bench_principal(void)
{
    const char *scopes[] = { "read:*", "write:*" };
    const struct kaiten_principal p = { .size = sizeof p, .subject = "bench",
                                        .organization = "bench", .scopes = scopes, .nscopes = 2,
                                        .proof = "peer" };
    struct principal *who = principal_new(&p);
    if (!who)
        die("caller", "no memory");
    return who;
}

static FILE *
create(const char *path)
{
    FILE *f = fopen(path, "wxe");
    if (!f)
        die(path, strerror(errno));
    return f;
}

int
main(int argc, char *argv[])
{
    static struct parts parts = { .index_guard = PTHREAD_RWLOCK_INITIALIZER };
    static struct fill f = { .parts = &parts, .lock = PTHREAD_MUTEX_INITIALIZER,
                             .moved = PTHREAD_COND_INITIALIZER };
    if (argc == 6) {
        f.naccounts = strtoull(argv[2], NULL, 10);
        f.ntokens = strtoull(argv[3], NULL, 10);
    }
    if (f.naccounts == 0 || f.naccounts > ACCOUNTS_MAX) {
        fprintf(stderr, "usage: fill CONFIGURATION ACCOUNTS TOKENS SLUGS-FILE TOKENS-FILE\n"
                        "Makes so many of both in the store that the configuration names.\n");
        return 2;
    }
    if (sodium_init() < 0)
        die("libsodium", "cannot be initialized");
    site_open(&parts, argv[1]);
    f.who = bench_principal();
    FILE *slugs = create(argv[4]), *tokens = create(argv[5]);
    fill(&f, slugs, tokens);
    principal_unref(f.who);
    site_close(&parts);
    return fclose(slugs) == 0 && fclose(tokens) == 0 ? 0 : 1;
}
