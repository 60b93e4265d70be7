/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The map of meta data behind the arguments of a request on the socket: credential, deadline,
 * idempotency key. */
#ifndef SOCKET_META_H
#define SOCKET_META_H

struct kt_value;
struct request;

/* Texts stay views into meta. 0, or KT_VALIDATION with the refusal in the request. */
int socket_read_meta(struct request *, const struct kt_value *meta);

#endif
