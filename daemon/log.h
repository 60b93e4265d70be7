/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The log of the daemon: one event, one line of key=value, one write(2). No secret comes here. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>

/* The numbers of syslog(3). */
enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

enum log_form {
    LOG_FORM_AUTO = 0, /* JOURNAL when stderr is the journal's stream, else PLAIN */
    LOG_FORM_PLAIN,    /* time=… level=… event=… */
    LOG_FORM_JOURNAL   /* <6>event=…: the reader stamps the time itself */
};

enum { LOG_LINE_MAX = 4096 }; /* bytes of a line with its newline; the rest is cut off */

struct log_options {
    enum log_level level; /* less important lines are dropped; 0: INFO */
    enum log_form form;
    const char *file;   /* append here (created 0640); NULL: stderr */
    const char *syslog; /* also send each line to syslog(3) under this name; NULL: do not */
};

/* Before this is called lines of INFO and above go to stderr. False: the file cannot be opened
 * (errno says why) and nothing has changed. Main thread, before other threads start. */
bool log_open(const struct log_options *);

/* Opens the file again under its name (after it was rotated); lines that are being written go to
 * one of the two files, none is lost. False: errno, and the old file stays. Not from a signal
 * handler; one thread at a time. */
bool log_reopen(void);

/* Back to stderr. When no other thread logs. */
void log_close(void);

/* Any thread. */
void log_set_level(enum log_level);
bool log_enabled(enum log_level);

/* "error", "warning", "notice", "info", "debug" -> level. False: another word. */
bool log_level_parse(const char *, enum log_level *ret);

/* One line. event: a lower-case word with dots that names what happened.
 *
 * fmt is a list like "request=%s peer=%s ms=%ld": the text of the format is kept as it is and every
 * converted value is quoted and escaped by itself when it has white space, quotes, control bytes or
 * bytes that are no UTF-8, so that no value can forge a key or a second line. When fmt does not
 * start with "word=", the whole formatted text becomes the quoted value of message=.
 *
 * Conversions: %s %.*s %.Ns %c %d %i %u %x (with l, ll, z, j), %f %.Nf %g %p %m %%. NULL for %s is
 * an empty value. Any thread; keeps errno. */
void log_line(enum log_level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* For who tells of many things at once: from the first call on the thread's lines are gathered, and
 * written together by the second one or when there are enough of them. */
void log_gather(void);
void log_release(void);

#endif
