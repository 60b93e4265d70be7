/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/kaiten-auth.h"

#include <string.h>

/* There is no state of its own: the host is all that identify() needs. */
static enum kaiten_status
token_open(const struct kaiten_host *host, const struct kaiten_config *config, void **ret_instance,
           struct kaiten_err *err)
{
    (void)config;
    (void)err;
    *ret_instance = (void *)(uintptr_t)host;
    return KAITEN_DONE;
}

static void
token_close(void *instance)
{
    (void)instance;
}

static enum kaiten_verdict
token_identify(void *instance, const struct kaiten_caller *caller, struct kaiten_sink *sink,
               struct kaiten_err *err)
{
    const struct kaiten_host *host = instance;
    const struct kaiten_bytes *credential = &caller->credential;
    if (credential->n < 4 || memcmp(credential->p, "ksh_", 4) != 0)
        return KAITEN_NOT_MINE;
    if (host->token(sink, *credential))
        return KAITEN_KNOWN;
    host->error(err, "token refused");
    return KAITEN_REFUSED;
}

KAITEN_AUTH_SYMBOL(token) = {
    .size = sizeof(struct kaiten_auth),
    .abi = KAITEN_AUTH_ABI,
    .threads = KAITEN_THREADS_PARALLEL,
    .caps = KAITEN_AUTH_INLINE,
    .name = "auth-token",
    .version = PACKAGE_VERSION,
    .summary = "callers with a token of this daemon",
    .open = token_open,
    .close = token_close,
    .identify = token_identify,
};
