/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What a door finds below it in a test that has no daemon. It defines functions of the daemon, which
 * are then not linked from its library: one program includes it in one file. */
#ifndef DOOR_H
#define DOOR_H

#include "daemon/authn.h"
#include "daemon/idempotency.h"
#include "daemon/pipeline.h"
#include "daemon/plugin.h"
#include "daemon/service.h"

static struct service door_service = { .request_ms = 30000 };

static void
door_random(void *p, size_t n)
{
    memset(p, 7, n);
}

const struct kaiten_host host_table = { .size = sizeof host_table, .random = door_random };

void
idempotency_end(struct request *rq)
{
    (void)rq;
}

const struct service *
authn_chain_service(const struct authn_chain *chain)
{
    (void)chain;
    return &door_service;
}

void
pipeline_tell(struct request *rq)
{
    (void)rq;
}

#endif
