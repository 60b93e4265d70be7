/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Published test data, which does not lie in the tree: KAITEN_CORPORA says where it is. */
#ifndef CORPUS_H
#define CORPUS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { CORPUS_FILE_MAX = 512 * 1024 };

/* The path of a file or folder of it, valid until the next call; NULL, and a message, when it is not
 * there: skip() then. */
static inline const char *
corpus_path(const char *name)
{
    static char path[1024];
    const char *corpora = getenv("KAITEN_CORPORA");
    (void)snprintf(path, sizeof path, "%s/%s", corpora && *corpora ? corpora : "../shared/corpora",
                   name);
    if (access(path, R_OK) == 0)
        return path;
    print_message("skipped: %s is not there\n", path);
    return NULL;
}

/* A whole file in memory of exactly its size, so that a sanitizer sees what is read beyond it. The
 * caller frees it. */
static inline char *
corpus_read(const char *path, size_t *ret_n)
{
    FILE *file = fopen(path, "rb");
    char *room = malloc(CORPUS_FILE_MAX);
    assert_non_null(file);
    assert_non_null(room);
    size_t n = fread(room, 1, CORPUS_FILE_MAX, file);
    assert_true(n < CORPUS_FILE_MAX);
    assert_int_equal(fclose(file), 0);
    char *text = malloc(n ? n : 1);
    assert_non_null(text);
    memcpy(text, room, n);
    free(room);
    *ret_n = n;
    return text;
}

#endif
