/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* MessagePack-RPC over a connection: requests in, answers out as they are ready. */
#ifndef SOCKET_H
#define SOCKET_H

#include "daemon/transport/conn.h"

/* For conn_new(). */
extern const struct conn_ops socket_ops;

#endif
