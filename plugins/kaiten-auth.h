/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The auth plugin: who is calling. It sees credentials, never the operation or its body:
 * authentication must not depend on what is asked. */
#ifndef KAITEN_AUTH_H
#define KAITEN_AUTH_H

#include "kaiten-plugin.h"

#define KAITEN_AUTH_ABI 1

/* None of them 0 or 1, so that a forgotten assignment, zeroed memory or a flipped bit is never
 * KAITEN_KNOWN. */
enum kaiten_verdict {
    KAITEN_KNOWN = 0x4b31,    /* the sink holds the principal                                 */
    KAITEN_REFUSED = 0x4b52,  /* mine, and wrong: the chain stops, 401                        */
    KAITEN_NOT_MINE = 0x4b63, /* not a credential of this kind: the next plugin is asked      */
    KAITEN_BROKEN = 0x4b74    /* could not decide: the chain stops, 503, never a weaker method */
};

enum kaiten_listener {
    KAITEN_LISTENER_SOCKET = 1, /* local Unix socket */
    KAITEN_LISTENER_HTTP = 2
};

enum {
    KAITEN_GROUPS_MAX = 64,  /* more supplementary groups than this: the peer is refused */
    KAITEN_SCOPES_MAX = 256, /* of a principal */
    KAITEN_SCOPE_MAX = 128   /* bytes of one */
};

/* What the daemon knows about the caller; borrowed for the call. */
struct kaiten_caller {
    uint32_t size;
    enum kaiten_listener listener;

    /* Of the kernel, for KAITEN_LISTENER_SOCKET only. has_peer: false when it could not be read. */
    bool has_peer;
    uint32_t uid, gid;
    const uint32_t *groups; /* supplementary */
    size_t ngroups;
    int32_t pid;            /* for the log only; authorise nothing by it */

    /* The credential: for HTTP the text after "Bearer ", on the socket meta.token. n == 0: none.
     * A secret: neither logged nor kept. */
    struct kaiten_bytes credential;

    const char *remote;     /* numeric address of the HTTP client, for the log */
};

#define KAITEN_RATE_NONE UINT32_MAX

/* How often a caller may ask. kaiten-rate.h reads it from text. */
struct kaiten_rate {
    uint32_t requests;  /* in each period; 0: as the daemon's configuration says for all callers;
                           KAITEN_RATE_NONE: without a limit, whatever that says */
    uint32_t period_ms; /* 1 to 86400000 */
    uint32_t burst;     /* at once, after a silence; 0: as many as in a period */
};

/* Who the caller is. Strings are UTF-8, NUL-terminated, and copied by host->principal(), which
 * refuses what is longer than is said here. */
struct kaiten_principal {
    uint32_t size;
    const char *subject;      /* required, 1..255 bytes */
    const char *organization; /* external id, required, 1..255 bytes */
    const char *name;         /* display name, 0..4096 bytes; NULL: the subject */
    const char *email;        /* 0..255 bytes; NULL: unknown */
    const char *const *scopes; /* 1..KAITEN_SCOPE_MAX bytes each */
    size_t nscopes;           /* at most KAITEN_SCOPES_MAX */
    int64_t expires_at_ms;    /* the principal ends here; 0: with the connection */
    int64_t max_lifetime_ms;  /* the longest token that it may mint; 0: as configured */
    int verify;               /* enum kaiten_verify: whose tokens it may verify on the socket */
    const char *proof;        /* how it was proved: "peer", "jwt", "token"; for the log; 0..255
                                 bytes; NULL: "plugin" */
    struct kaiten_rate rate;  /* an older daemon does not read it, and limits nobody */
    /* New members go here, never above. */
};

enum kaiten_verify {
    KAITEN_VERIFY_NO = 0,
    KAITEN_VERIFY_OWN = 1, /* tokens of its organization; others are unknown to it */
    KAITEN_VERIFY_ANY = 2
};

enum {
    /* identify() never blocks and takes microseconds: the daemon may call it on an event loop. */
    KAITEN_AUTH_INLINE = 1 << 0,
    /* The credential alone decides: the verdict may be kept until the principal expires, keyed by
     * it, and identify() is not called for callers without one. */
    KAITEN_AUTH_CACHE = 1 << 1
};

struct kaiten_auth {
    uint32_t size;    /* sizeof this struct in the plugin's build */
    uint16_t abi;     /* KAITEN_AUTH_ABI */
    uint16_t threads; /* enum kaiten_threads */
    uint64_t caps;    /* KAITEN_AUTH_... */
    const char *name, *version, *summary;
    const struct kaiten_option *options; /* ends with a row whose name is NULL; NULL: no options */

    /* Reads keys and rules; every mistake in them is an error here, not at the first caller.
     * Required. */
    enum kaiten_status (*open)(const struct kaiten_host *, const struct kaiten_config *,
                               void **ret_instance, struct kaiten_err *);

    /* Ends the instance; no other call is running or follows. Required. */
    void (*close)(void *instance);

    /* Who is this. On KAITEN_KNOWN it has called host->principal() or host->token() once. The
     * reason of a refusal goes to host->error(); the caller hears none. Required. */
    enum kaiten_verdict (*identify)(void *instance, const struct kaiten_caller *,
                                    struct kaiten_sink *, struct kaiten_err *);

    /* The operator asks to read files again (SIGHUP). Returns at once and leaves the work to a
     * thread of the plugin; what cannot be read leaves things as they are, with a line in the log.
     * Beside any other call, after open() and before close(). Optional. */
    void (*reload)(void *instance);
    /* New members go here, never above. */
};

#ifdef KAITEN_STATIC_PLUGINS
#define KAITEN_AUTH_SYMBOL(plugin) const struct kaiten_auth kaiten_auth_##plugin
#else
#define KAITEN_AUTH_SYMBOL(plugin) \
    extern const struct kaiten_auth kaiten_auth_plugin; \
    __attribute__((visibility("default"))) const struct kaiten_auth kaiten_auth_plugin
#endif

#endif
