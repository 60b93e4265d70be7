/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The two ways to a kaitend, with one face: a method and a map go in, an answer comes out. */
#ifndef CTL_DOOR_H
#define CTL_DOOR_H

#include "client/ctl/secret_in.h"
#include "client/kaiten.h"
#include "client/proto/arena.h"
#include "client/proto/ops.h"

enum { DOOR_ANSWER_MAX = 16 * 1024 * 1024 };

struct answer {
    int error; /* 0 or an enum kaiten_error */
    struct kt_value value;   /* what was answered; null when nothing was */
    struct kt_value problem; /* the server's refusal as a map; null when it was not the server */
    char code[96], detail[1024];
    struct kt_arena arena; /* of all of the above */
};

struct door {
    bool http;
    int (*call)(struct door *, const char *method, const struct kt_value *args, struct answer *);
    void (*close)(struct door *);
};

/* path NULL: as kaiten_new. credential: borrowed until close; empty: none. NULL: no memory. */
struct door *door_socket(const char *path, unsigned timeout_ms, const struct secret_in *credential);

/* url: of the service, with or without /api. NULL after it said why: no address, no memory. */
struct door *door_http(const char *url, unsigned timeout_ms, const struct secret_in *credential);

/* Calls method with a map. Returns ret->error; ret must be released either way. */
int door_call(struct door *, const char *method, const struct kt_value *args, struct answer *ret);
void answer_release(struct answer *);

/* For the doors: reads JSON text into *ret; false: it is none, or there is too much of it. */
bool answer_read(struct answer *, struct kt_str json, struct kt_value *ret);

/* For the doors: fills in a failure and returns it. */
int answer_fail(struct answer *, int error, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* For the doors: takes code and detail out of a->problem, and returns error. */
int answer_refused(struct answer *, int error);

/* The exit code of an enum kaiten_error. */
int door_exit(int error);

/* Says on stderr what went wrong, and what to do about it where that is known: two lines for
 * people, or JSON. Returns the exit code. */
int door_complain(const struct door *, const struct answer *, bool json);

#endif
