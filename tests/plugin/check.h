/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the cases of kaiten-plugin-check share: one environment per case, calls that keep to the
 * declared thread level, and builders for keys and batches. */
#ifndef CHECK_H
#define CHECK_H

#include "plugins/kaiten-auth.h"
#include "plugins/kaiten-storage.h"

#include "tests/plugin/fake-host.h"

#include <pthread.h>
#include <stdio.h>

/* What a case needs; one that cannot have it is skipped, with the reason. */
enum check_need {
    NEED_STORE = 1 << 0,     /* opened before, closed after the case */
    NEED_DIRECTORY = 1 << 1, /* a store of its own: the path is required and was not given */
    NEED_DURABLE = 1 << 2,
    NEED_HEALTH = 1 << 3,
    NEED_REVISION = 1 << 4,
    NEED_BACKUP = 1 << 5,
    NEED_AUTH = 1 << 6,      /* identify() is reachable: all required options were given */
    NEED_CHECK = 1 << 7,
    NEED_CHANGES = 1 << 8,
    NEED_NOTICES = 1 << 9
};

/* The environment of one case. It runs in a process of its own. */
struct check {
    struct kaiten_storage storage; /* zero beyond the plugin's size; size is 0 for an auth plugin */
    struct kaiten_auth auth;
    uint32_t size;                 /* as the plugin says */
    const char *option_problem;    /* NULL: all required options are there */
    struct kaiten_config *config;
    char *directory;               /* empty at the start, removed after the case; NULL: none */
    void *store;                   /* the instance, with NEED_STORE */
    unsigned char prefix[9];       /* of this case's keys: a space, then random bytes */
    pthread_rwlock_t lock;         /* what the daemon would do for a lower thread level */
    struct chunk *memory;
};

struct check_case {
    const char *promise; /* a sentence of the header */
    bool (*run)(struct check *);
    unsigned needs;      /* enum check_need */
};

/* Each ends with a row whose promise is NULL. */
extern const struct check_case cases_head[];
extern const struct check_case cases_life[];
extern const struct check_case cases_backup[];
extern const struct check_case cases_map[];
extern const struct check_case cases_apply[];
extern const struct check_case cases_crash[];
extern const struct check_case cases_changes[];
extern const struct check_case cases_load[];
extern const struct check_case cases_auth[];

/* Says why the case fails; returns false. Any thread. */
bool check_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define EXPECT(what) \
    do { \
        if (!(what)) \
            return check_fail("%s:%d: not so: %s", __FILE__, __LINE__, #what); \
    } while (0)

/* Memory that lives as long as the case. Never fails. One thread for each struct. */
void *check_alloc(struct check *, size_t n);

/* Frees it, which is done for the struct that a case is called with. */
void check_free(struct check *);

/* Sets where the store lies. Cases with NEED_DIRECTORY. */
void check_path(struct check *, const char *path);

/* Opens and closes c->store, or says why not. */
bool check_open(struct check *);
void check_close(struct check *);

/* The plugin's calls, under the lock that the declared thread level asks for. An error text is
 * checked for and shown when the status is not KAITEN_DONE. */
enum kaiten_status check_get(struct check *, const struct kaiten_bytes *keys, size_t n,
                             struct kaiten_emit *);
enum kaiten_status check_scan(struct check *, const struct kaiten_range *, struct kaiten_emit *);
enum kaiten_status check_apply(struct check *, const struct kaiten_batch *, size_t n,
                               struct kaiten_outcome *);

/* A key of this case: its prefix, then the bytes of name. */
struct kaiten_bytes check_key(struct check *, const char *name);
struct kaiten_bytes check_key_bytes(struct check *, const void *p, size_t n);
struct kaiten_bytes check_key_number(struct check *, const char *name, uint64_t number);

struct kaiten_bytes check_text(const char *text);

/* n bytes, each of them byte. */
struct kaiten_bytes check_filled(struct check *, int byte, size_t n);

/* An empty batch with room for everything. */
struct kaiten_batch *check_batch(struct check *);
void check_cond(struct kaiten_batch *, enum kaiten_cond_type, struct kaiten_bytes key,
                uint64_t revision);
void check_set(struct kaiten_batch *, struct kaiten_bytes key, struct kaiten_bytes value);
void check_delete(struct kaiten_batch *, struct kaiten_bytes key);

/* Applies one batch; what became of it, also when the whole call failed. */
struct kaiten_outcome check_apply_one(struct check *, const struct kaiten_batch *);

/* Sets one row without conditions. */
bool check_put(struct check *, struct kaiten_bytes key, struct kaiten_bytes value);

/* The row of one key in ret_emit (to be freed by fake_emit_done). */
bool check_read(struct check *, struct kaiten_bytes key, struct kaiten_emit *ret_emit);

/* True when the key's row has this value; NULL text: when it has no row. */
bool check_is(struct check *, struct kaiten_bytes key, const char *text);

/* All keys of this case. */
struct kaiten_range check_all(struct check *);

int check_compare(struct kaiten_bytes a, struct kaiten_bytes b);

uint64_t check_random(void);

#endif
