/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* How the socket answers: [1, id, error, result], of which one of the last two is nil. */
#ifndef SOCKET_REPLY_H
#define SOCKET_REPLY_H

#include <stdbool.h>
#include <stdint.h>

struct kt_buf;
struct request;

/* Appends the answer of a request that has ended. problem: a refusal goes out whole, as over HTTP;
 * otherwise as the pair of a number and a text that clients of MessagePack-RPC know. Without memory
 * the buffer has failed. */
void socket_put_reply(struct kt_buf *, struct request *, uint64_t id, bool problem);

#endif
