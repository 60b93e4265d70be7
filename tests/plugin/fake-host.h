/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A daemon's side of the plugin ABI, without the daemon: for tests of plugins. It ends the process
 * with a message when a plugin uses it as the ABI forbids. */
#ifndef FAKE_HOST_H
#define FAKE_HOST_H

#include "plugins/kaiten-auth.h"
#include "plugins/kaiten-plugin.h"

#include <pthread.h>

struct kaiten_err {
    char text[1024];
    pthread_t owner;
};

struct fake_row {
    struct kaiten_bytes key, value; /* own copies */
    uint64_t revision;
};

/* Collects rows. */
struct kaiten_emit {
    struct fake_row *rows;
    size_t n, room;
    size_t stop_at;   /* the row that is answered with "no more"; 0: never */
    bool count_only;  /* rows are counted and only the last one is kept */
    bool stopped;
    size_t late;      /* rows that came after "no more" */
    pthread_t owner;
};

struct kaiten_sink {
    bool refuse;      /* principal() and token() answer false */
    unsigned principals, tokens; /* accepted calls */
    unsigned asked;   /* calls of token() */
    char problem[128]; /* what was wrong with the principal */
    pthread_t owner;
};

/* Options as given, by row of the plugin's table. */
struct fake_value {
    char **items;
    size_t n;
};

struct kaiten_config {
    const struct kaiten_option *options; /* borrowed */
    size_t n;
    struct fake_value *values;
};

/* The host. Valid for ever. */
const struct kaiten_host *fake_host(void);

/* Shows log lines on stdout as TAP comments. */
void fake_host_verbose(bool);

/* True while the getters of the configuration may be called. */
void fake_host_in_open(bool);

/* The secret that host->token() takes for good; NULL: none. Borrowed. */
void fake_host_token(const char *secret);

/* Whether any log line so far had these bytes in it. */
bool fake_host_logged(const void *p, size_t n);

/* Calls of host->changed() so far. */
unsigned fake_host_changes(void);

/* Ready to use; belongs to the calling thread. */
void fake_err_init(struct kaiten_err *);
void fake_emit_init(struct kaiten_emit *);
void fake_sink_init(struct kaiten_sink *);

/* Frees the rows. */
void fake_emit_done(struct kaiten_emit *);

/* Nothing set yet. options may be NULL. Free with fake_config_free (NULL allowed). */
struct kaiten_config *fake_config_new(const struct kaiten_option *options);
struct kaiten_config *fake_config_free(struct kaiten_config *);

/* Takes one "key=value"; false with a message in problem (n bytes) when the table does not know
 * the key, or the value is not of its type or out of its range. */
bool fake_config_add(struct kaiten_config *, const char *setting, char *problem, size_t n);

/* Replaces what was set. The name is in the table. */
void fake_config_set(struct kaiten_config *, const char *name, const char *value);

bool fake_config_has(const struct kaiten_config *, const char *name);

/* The first required option without a value, or NULL. */
const char *fake_config_missing(const struct kaiten_config *);

/* What is wrong with one row of an option table, or NULL. */
const char *fake_option_problem(const struct kaiten_option *);

#endif
