/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Who is at the other end of a connection, as far as the kernel tells. */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>

struct peer;
struct sockaddr_storage;

/* The process that connected: uid, gid, groups and pid. False: errno. Any thread; never waits. */
bool peer_of_unix(int fd, struct peer *);

/* The address that a connection came from. Any thread; never waits. */
void peer_of_tcp(const struct sockaddr_storage *from, struct peer *);

#endif
