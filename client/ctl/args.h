/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The command line: options from one table, words, and what they make of an operation's input. */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include "client/ctl/ctl.h"
#include "client/ctl/verb.h"

enum { ARGS_WORDS_MAX = 8, ARGS_SCOPES_MAX = 128 };

enum args_option {
    ARG_SOCKET = 0,
    ARG_URL,
    ARG_TIMEOUT,
    ARG_OUTPUT,
    ARG_FIELD,
    ARG_QUIET,
    ARG_YES,
    ARG_TOKEN_FILE,
    ARG_TOKEN_FD,
    ARG_HELP,
    ARG_VERSION,
    ARG_NAME,
    ARG_SLUG,
    ARG_SCOPE,
    ARG_ALL_SCOPES,
    ARG_EXPIRES_AT,
    ARG_EXPIRES_IN,
    ARG_GRACE,
    ARG_LIMIT,
    ARG_CURSOR,
    ARG_ALL,
    ARG_COUNT
};

struct args {
    const char *value[ARG_COUNT]; /* as given; "" for an option without a value; NULL: not given */
    const char *scopes[ARGS_SCOPES_MAX];
    size_t nscopes;
    char *words[ARGS_WORDS_MAX]; /* all of them; those behind the verb begin at words[used] */
    size_t nwords, used;
    const struct verb *verb;
    const char *group; /* when only a group was named */
    enum ctl_output output;
    bool output_set;
    unsigned timeout_ms;
    int token_fd; /* -1: not given */
};

/* Refuses a command line in which a secret stands, and overwrites it. 0 or CTL_USAGE. */
int args_refuse_secrets(int argc, char **argv);

/* Reads argv, and KAITEN_OUTPUT; says what is wrong. *ret points into argv. 0 or CTL_USAGE. */
int args_parse(int argc, char **argv, struct args *ret);

/* The input of the verb's operation as a map in the arena; now_ms: since 1970, for --expires-in.
 * 0, CTL_USAGE, or CTL_OTHER when there is no memory. */
int args_input(const struct args *, int64_t now_ms, struct kt_arena *, struct kt_value *ret_map);

/* For --help: of the verb, of its group, or of everything. */
void args_help(const struct args *, struct kt_buf *);

#endif
