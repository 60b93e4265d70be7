/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What storage and auth plugins of kaitend have in common: bytes, statuses, options, and the
 * functions that the daemon lends them. kaiten-plugin(7) is the long form.
 *
 * A plugin is a shared object that exports one constant: kaiten_storage_plugin (see
 * kaiten-storage.h) or kaiten_auth_plugin (see kaiten-auth.h). It links nothing of the daemon.
 *
 * Every struct that crosses the border starts with its size. Members are only ever appended; the
 * reader copies min(size, its own sizeof) into zeroed memory, so what is not there is NULL or 0.
 * A change of any other kind is a new major ABI number, which the daemon refuses. */
#ifndef KAITEN_PLUGIN_H
#define KAITEN_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed for the call, never freed by the one who receives it. */
struct kaiten_bytes {
    const void *p;
    size_t n;
};

/* Closed set with explicit values; 0 is the only success. A number that is not listed here is
 * treated as KAITEN_FAILED. */
enum kaiten_status {
    KAITEN_DONE = 0,        /* happened; for a durable store: survives power loss             */
    KAITEN_CONFLICT = 1,    /* a condition of the batch did not hold; nothing was written     */
    KAITEN_RETRY = 2,       /* transient; the caller of the API sees "unavailable"            */
    KAITEN_FULL = 3,        /* no space; nothing was written                                  */
    KAITEN_CORRUPT = 4,     /* stored data is damaged; the daemon stops writing               */
    KAITEN_UNSUPPORTED = 5, /* the plugin does not do this                                    */
    KAITEN_FAILED = 6,      /* anything else; nothing was written                             */
    KAITEN_UNKNOWN = 7      /* the outcome cannot be known now (a commit whose answer is lost) */
};

/* How many threads may be inside one instance. Ordered: the daemon may pick a smaller one. The
 * daemon does the locking; the plugin only says the truth. */
enum kaiten_threads {
    KAITEN_THREADS_SERIAL = 1,  /* one call at a time                     */
    KAITEN_THREADS_READERS = 2, /* reads beside each other, writes alone  */
    KAITEN_THREADS_PARALLEL = 3 /* anything beside anything               */
};

enum kaiten_option_type {
    KAITEN_OPT_STRING = 1,
    KAITEN_OPT_PATH = 2,     /* a relative one is resolved from the configuration file's folder */
    KAITEN_OPT_INT = 3,
    KAITEN_OPT_SIZE = 4,     /* bytes; 64K, 8M, 2G */
    KAITEN_OPT_DURATION = 5, /* kept in milliseconds; 500ms, 10s, 5m, 1h, 30d */
    KAITEN_OPT_BOOL = 6,     /* yes/no, on/off, true/false */
    KAITEN_OPT_SECRET = 7,   /* path of a file that only its owner may read */
    KAITEN_OPT_LIST = 8      /* a string option that may be given many times, order kept */
};

enum kaiten_option_flag { KAITEN_OPT_REQUIRED = 1 };

/* One row of a plugin's option table. The daemon parses, checks and documents from it; a key that
 * is in no row stops the start with file, line and key. */
struct kaiten_option {
    const char *name;  /* NULL ends the table */
    enum kaiten_option_type type;
    unsigned flags;    /* enum kaiten_option_flag */
    const char *def;   /* default as it would stand in the file; NULL: none */
    int64_t min, max;  /* for INT, SIZE, DURATION; both 0: any */
    const char *doc;   /* one sentence */
};

struct kaiten_config; /* the plugin's own section, parsed and checked   */
struct kaiten_err;    /* filled through host->error()                    */
struct kaiten_emit;   /* sink for rows; filled through host->row()       */
struct kaiten_sink;   /* sink for a principal; filled through host->principal() */
struct kaiten_principal;

/* The same numbers as syslog(3). */
enum kaiten_level {
    KAITEN_LOG_ERROR = 3,
    KAITEN_LOG_WARNING = 4,
    KAITEN_LOG_NOTICE = 5,
    KAITEN_LOG_INFO = 6,
    KAITEN_LOG_DEBUG = 7
};

#define KAITEN_HOST_ABI 1

/* What the daemon offers. Valid from open() until close() returns. "Any thread" includes threads
 * that the plugin started. */
struct kaiten_host {
    uint32_t size; /* sizeof this struct in the daemon's build */
    uint16_t abi;  /* KAITEN_HOST_ABI */
    uint16_t reserved;

    /* One log line. Any thread. Never pass a secret. */
    void (*log)(enum kaiten_level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

    /* Says why a call failed, for the operator's log; the caller of the API never sees it. The
     * first text wins. Only the thread that was called, only during the call. err may be NULL. */
    void (*error)(struct kaiten_err *err, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

    /* Typed values of the plugin's options, defaults applied. Asking for a name that is not in the
     * option table, or with the wrong type, is a bug and stops the daemon. Strings live as long as
     * the instance. Only during open(). */
    const char *(*get_string)(const struct kaiten_config *, const char *name); /* NULL: not set */
    int64_t (*get_int)(const struct kaiten_config *, const char *name);  /* INT, SIZE, DURATION */
    bool (*get_bool)(const struct kaiten_config *, const char *name);
    size_t (*list_count)(const struct kaiten_config *, const char *name);
    const char *(*list_item)(const struct kaiten_config *, const char *name, size_t i);
    /* "file:line" of an option's i-th value, for messages; the section's line when not set. */
    const char *(*where)(const struct kaiten_config *, const char *name, size_t i);

    /* One row of get(), scan() or changes(). Copies; key and value are the plugin's again on
     * return. False: the daemon wants no more, the plugin returns KAITEN_DONE at once. Only during
     * the call. */
    bool (*row)(struct kaiten_emit *, struct kaiten_bytes key, struct kaiten_bytes value,
                uint64_t revision);

    /* The outcome of identify(). Copies. Only during the call. False: some text was longer than
     * the daemon takes; the plugin returns KAITEN_REFUSED. */
    bool (*principal)(struct kaiten_sink *, const struct kaiten_principal *);

    /* Looks up a token of this daemon in memory; never blocks. True: it is good, and the sink holds
     * its principal. False: refused for whatever reason. Only during identify(). */
    bool (*token)(struct kaiten_sink *, struct kaiten_bytes secret);

    /* Something changed in the store that this daemon did not write. A hint: look again at what
     * starts with prefix. Any thread. */
    void (*changed)(void *instance, struct kaiten_bytes prefix, uint64_t revision);

    /* Milliseconds that the current call may still take. Only the thread that was called. */
    int64_t (*deadline)(void);

    /* The daemon's time, milliseconds since 1970 UTC: the wall clock, but never behind what has
     * surely passed, so that what has expired stays so when the clock is set back. Any thread. */
    int64_t (*now)(void);

    /* n random bytes fit for keys. Any thread. */
    void (*random)(void *buf, size_t n);

    /* What the caller may hear about a refusal: a code (a string constant of the plugin) and one
     * sentence (copied) out of the public contract. Only for defects of form that reveal nothing
     * about keys or about other callers; the first one wins, and counts only when identify() then
     * returns KAITEN_REFUSED. Only during identify(). An older daemon has no such member: ask size
     * before calling. */
    void (*refuse)(struct kaiten_sink *, const char *code, const char *detail);

    /* Keys or rules have changed: verdicts that were given before are asked for anew, whoever kept
     * them, also one that identify() is still at work on. Any thread, also one of the plugin's own.
     * An older daemon has no such member: ask size before calling. */
    void (*forget)(void *instance);
};

#endif
