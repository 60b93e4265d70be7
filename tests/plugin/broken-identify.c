/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* An auth plugin that knows everybody, answers with a number of its own, and logs credentials. */
#include "config.h"

#include "plugins/kaiten-auth.h"

static const struct kaiten_host *the_host;

static enum kaiten_status
broken_open(const struct kaiten_host *host, const struct kaiten_config *config,
            void **ret_instance, struct kaiten_err *err)
{
    (void)config;
    (void)err;
    the_host = host;
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
    (void)sink;
    (void)err;
    the_host->log(KAITEN_LOG_INFO, "credential %.*s", (int)caller->credential.n,
                  (const char *)caller->credential.p);
    return caller->credential.n % 2 ? KAITEN_KNOWN : (enum kaiten_verdict)1;
}

KAITEN_AUTH_SYMBOL(broken) = {
    .size = sizeof(struct kaiten_auth),
    .abi = KAITEN_AUTH_ABI,
    .threads = KAITEN_THREADS_PARALLEL,
    .name = "broken",
    .version = "0",
    .summary = "Breaks every promise on purpose",
    .open = broken_open,
    .close = broken_close,
    .identify = broken_identify,
};
