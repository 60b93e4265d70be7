/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The verbs: rows that put words of a command line before rows of the operation table. */
#ifndef CTL_VERB_H
#define CTL_VERB_H

#include "client/proto/ops.h"

enum verb_flag {
    VERB_PAGES = 1 << 0,  /* answers in pages: --all */
    VERB_VERIFY = 1 << 1, /* takes a token to be checked, and exits 10 when it is not good */
    VERB_CALL = 1 << 2,   /* any method, by name */
    VERB_RAW = 1 << 3,    /* JSON unless another form is asked for */
    VERB_BACKUP = 1 << 4, /* fetches a copy of the store into a folder */
    VERB_LONG = 1 << 5,   /* takes as long as the store is large */
    VERB_EXPORT = 1 << 6  /* fetches a portable copy of the store into a file */
};

enum { VERB_WORDS_MAX = 2 };

struct verb {
    const char *group, *name; /* "account" "create"; group NULL: one word */
    int op;                   /* enum kt_op_id; -1 with VERB_CALL */
    int http_op;              /* what stands for it over HTTP; -1: nothing */
    unsigned flags;
    const char *words[VERB_WORDS_MAX]; /* members that are given without an option, in order */
    const char *confirm; /* question before something is destroyed, %s each word; NULL: none */
    const char *done;    /* what to say when the answer is empty */
    const char *doc;     /* one sentence; NULL: that of the operation */
    const char *example; /* for its help, without the program's name; NULL: none */
};

extern const struct verb verbs[];
extern const size_t verb_count;

/* How a member is called on the command line: SLUG for "serviceAccountSlug" and the like. */
const char *verb_word_label(const struct verb *, size_t word);

/* The verb that words begin with, aliases included; *ret_used says how many of them name it. NULL:
 * none, and *ret_group is the group if at least that was one. */
const struct verb *verb_find(char *const *words, size_t n, size_t *ret_used,
                             const char **ret_group);

/* What somebody may have meant by a word that is no verb: a verb of the group, or with NULL a group
 * or a verb that stands alone. NULL: nothing is like it. */
const char *verb_nearest(const char *group, const char *word);

/* The row of the table, NULL with VERB_CALL or, for http, when there is none. */
const struct kt_op_spec *verb_spec(const struct verb *, bool http);

/* One sentence. */
const char *verb_doc(const struct verb *);

#endif
