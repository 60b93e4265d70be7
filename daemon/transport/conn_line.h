/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Who has to go when a listener is full. Connections that nobody known has spoken on stand in a
 * line, oldest first, one line for each listener and loop; so a crowd that says nothing, or says it
 * slowly, makes room for whoever comes next instead of keeping them out. On the loop only. */
#ifndef CONN_LINE_H
#define CONN_LINE_H

#include <stdbool.h>

struct conn;
struct listener;
struct loop;

struct conn_line {
    struct conn *oldest, *newest;
};

/* A new connection, whose callers are strangers so far. */
void conn_line_join(struct conn_line *, struct conn *);

/* It has gone, or a known caller has spoken on it: nothing happens when it stands in no line. */
void conn_line_leave(struct conn *);

/* Closes one connection of the listener on this loop: the oldest of the line that has no request at
 * work; else the one of a known caller that has been idle longest, and for idle_kept_ms of the
 * listener's limits at least. False: there is none, or there was none a moment ago. */
bool conn_line_make_room(struct conn_line *, struct loop *, const struct listener *);

#endif
