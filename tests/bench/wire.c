/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/wire.h"

#include "tests/bench/speech.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bool
connect_to(int fd, const void *addr, socklen_t n)
{
    while (connect(fd, addr, n) != 0) {
        if (errno == EINTR)
            continue;
        close(fd);
        return false;
    }
    return true;
}

static int
dial_path(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof addr.sun_path)
        die("%s: too long for a socket", path);
    strcpy(addr.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    return connect_to(fd, &addr, sizeof addr) ? fd : -1;
}

static int
dial_port(const char *address)
{
    static const int on = 1;
    const char *port = strrchr(address, ':');
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    if (!port || strncmp(address, "127.0.0.1:", 10) != 0)
        die("%s: expected a path or 127.0.0.1:PORT", address);
    addr.sin_port = htons((uint16_t)atoi(port + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return connect_to(fd, &addr, sizeof addr) ? fd : -1;
}

static SSL *
shake_hands(int fd)
{
    static SSL_CTX *ctx;
    if (!ctx) {
        ctx = SSL_CTX_new(TLS_client_method());
        if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1)
            die("TLS cannot be had");
        SSL_CTX_set_mode(ctx,
                         SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    SSL *ssl = SSL_new(ctx);
    if (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1)
        die("the TLS handshake fails");
    return ssl;
}

bool
wire_open(struct wire *w, const char *address, bool tls)
{
    w->fd = strchr(address, '/') ? dial_path(address) : dial_port(address);
    if (w->fd < 0)
        return false;
    w->ssl = tls ? shake_hands(w->fd) : NULL;
    return true;
}

void
wire_unblock(struct wire *w)
{
    if (fcntl(w->fd, F_SETFL, O_NONBLOCK) != 0)
        die("fcntl: %s", strerror(errno));
}

static ssize_t
tls_result(const struct wire *w, int n)
{
    if (n > 0)
        return n;
    int why = SSL_get_error(w->ssl, n);
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return -1;
}

ssize_t
wire_read(struct wire *w, void *p, size_t n)
{
    return w->ssl ? tls_result(w, SSL_read(w->ssl, p, (int)n)) : read(w->fd, p, n);
}

ssize_t
wire_send(struct wire *w, const void *p, size_t n)
{
    return w->ssl ? tls_result(w, SSL_write(w->ssl, p, (int)n)) : send(w->fd, p, n, MSG_NOSIGNAL);
}

bool
wire_has_more(const struct wire *w)
{
    return w->ssl && SSL_pending(w->ssl) > 0;
}

void
wire_close(struct wire *w)
{
    SSL_free(w->ssl);
    close(w->fd);
}
