/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* An auth plugin whose principal has no organization, and which does not ask what the sink says. */
#include "config.h"

#include "plugins/kaiten-auth.h"

static struct kaiten_host the_host;

static enum kaiten_status
broken_open(const struct kaiten_host *host, const struct kaiten_config *config,
            void **ret_instance, struct kaiten_err *err)
{
    (void)config;
    (void)err;
    the_host = *host;
    *ret_instance = &the_host;
    return KAITEN_DONE;
}

static void
broken_close(void *instance)
{
    (void)instance;
}

static enum kaiten_verdict
broken_identify(void *instance, const struct kaiten_caller *caller, struct kaiten_sink *sink,
                struct kaiten_err *err)
{
    (void)instance;
    (void)err;
    if (!caller->has_peer)
        return KAITEN_NOT_MINE;
    struct kaiten_principal principal = { .size = sizeof principal, .subject = "somebody" };
    the_host.principal(sink, &principal);
    return KAITEN_KNOWN;
}

KAITEN_AUTH_SYMBOL(broken) = {
    .size = sizeof(struct kaiten_auth),
    .abi = KAITEN_AUTH_ABI,
    .threads = KAITEN_THREADS_PARALLEL,
    .name = "broken",
    .version = "0",
    .summary = "Breaks a promise on purpose",
    .open = broken_open,
    .close = broken_close,
    .identify = broken_identify,
};
