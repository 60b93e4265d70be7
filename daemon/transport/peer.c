/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/peer.h"

#include "daemon/request.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* The groups come from the kernel: the directory behind getgrouplist(3) may make a loop wait. */
bool
peer_of_unix(int fd, struct peer *peer)
{
    struct ucred cred;
    socklen_t n = sizeof cred, ngroups = sizeof peer->groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &ngroups) != 0)
        return false;
    peer->caller.has_peer = true;
    peer->caller.uid = cred.uid;
    peer->caller.gid = cred.gid;
    peer->caller.pid = cred.pid;
    peer->caller.groups = peer->groups;
    peer->caller.ngroups = ngroups / sizeof peer->groups[0];
    peer->source = cred.uid;
    snprintf(peer->remote, sizeof peer->remote, "uid=%u pid=%d", cred.uid, cred.pid);
    return true;
}

static void
take_v4(in_addr_t address, in_port_t port, struct peer *peer)
{
    char text[INET_ADDRSTRLEN] = "?";
    inet_ntop(AF_INET, &address, text, sizeof text);
    peer->source = address;
    snprintf(peer->remote, sizeof peer->remote, "%s:%u", text, ntohs(port));
}

/* For IPv6 the network of 64 bits counts, since one host may have all of its addresses. A socket of
 * the service manager may be for both families; those who come by IPv4 are no network together. */
static void
take_v6(const struct sockaddr_in6 *in, struct peer *peer)
{
    char text[INET6_ADDRSTRLEN] = "?";
    if (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr)) {
        in_addr_t inner;
        memcpy(&inner, &in->sin6_addr.s6_addr[12], sizeof inner);
        take_v4(inner, in->sin6_port, peer);
        return;
    }
    inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof text);
    memcpy(&peer->source, &in->sin6_addr, sizeof peer->source);
    snprintf(peer->remote, sizeof peer->remote, "[%s]:%u", text, ntohs(in->sin6_port));
}

void
peer_of_tcp(const struct sockaddr_storage *from, struct peer *peer)
{
    const struct sockaddr_in *in = (const void *)from;
    if (from->ss_family == AF_INET)
        take_v4(in->sin_addr.s_addr, in->sin_port, peer);
    else if (from->ss_family == AF_INET6)
        take_v6((const void *)from, peer);
    peer->caller.remote = peer->remote;
}
