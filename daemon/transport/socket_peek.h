/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What stands at the beginning of a message of MessagePack-RPC, found without reading the rest. It
 * is a hint, until the message as a whole has been read. */
#ifndef SOCKET_PEEK_H
#define SOCKET_PEEK_H

#include "client/proto/pack.h"

/* The first element of a message. */
enum { RPC_REQUEST = 0, RPC_RESPONSE = 1, RPC_NOTIFICATION = 2 };

/* The kind of a message whose beginning this is. Only what a client may send is decoded at all, so
 * it is looked at before anything else. KT_FRAME_MORE: more bytes are needed; KT_FRAME_BAD: no
 * client sends such a message, and *ret_why says what it is. bytes.n > 0. */
enum kt_frame socket_peek_kind(struct kt_str bytes, int *ret_kind, const char **ret_why);

/* The name of the method of a request in the usual encoding of an envelope; p NULL: it does not
 * stand there. */
struct kt_str socket_peek_method(struct kt_str bytes);

#endif
