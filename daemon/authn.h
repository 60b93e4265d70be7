/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Credentials -> principal: asks the auth plugins of a listener in order, and remembers callers
 * that were verified at some cost until they expire. */
#ifndef AUTHN_H
#define AUTHN_H

#include "client/proto/str.h"
#include "daemon/principal.h"

struct authn_chain;
struct kaiten_sink;
struct peer;
struct plugin;
struct request;
struct service;

enum { AUTHN_CHAIN_MAX = 8 };

/* An empty chain for one listener. NULL: no memory. */
struct authn_chain *authn_chain_new(const struct service *);

/* Call it after the listener and its connections are gone; NULL is allowed. The plugins' instances
 * stay open. */
void authn_chain_free(struct authn_chain *);

/* Appends a plugin's instance. False: the chain is full. */
bool authn_chain_add(struct authn_chain *, const struct plugin *, void *instance);

const struct service *authn_chain_service(const struct authn_chain *);

/* At accept, on a loop: sets peer->who when the chain knows the peer without a credential and
 * without blocking; NULL otherwise. */
void authn_peer(struct peer *);

/* The step. Without may_block it answers CALL_WOULD_BLOCK rather than wait, or CALL_ASKS when it is
 * the store that has to be asked about one of our own tokens. */
int authn_identify(struct request *, bool may_block);

/* The principal of one of our own tokens. NULL with errno EINVAL: it is not good now, or the sink
 * says why it is not known; ENOMEM: no memory. */
struct principal *authn_token_caller(struct kaiten_sink *, struct kt_secret_view);

#endif
