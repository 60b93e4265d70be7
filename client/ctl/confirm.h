/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Questions to the person at the terminal. */
#ifndef CTL_CONFIRM_H
#define CTL_CONFIRM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Exits with 130 on SIGINT, SIGTERM, SIGQUIT and, unless that is ignored, SIGHUP, with the terminal
 * as it was. Call once, at the start. */
void confirm_catch_signals(void);

/* What a signal has to undo or to say before that, by calls that are safe in a handler; NULL:
 * nothing. */
void confirm_undo(void (*undo)(void));

/* 0 to go on: yes was given, or the person at the terminal says so. Else CTL_USAGE (nobody there
 * to ask) or CTL_OTHER (no). */
int confirm_ask(const char *question, bool yes);

/* Reads a line without echo into p (n bytes, not NUL-terminated). Its length, or -1. */
ssize_t confirm_hidden(const char *prompt, char *p, size_t n);

#endif
