/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* TLS below a protocol that says everything twice, over sockets that hold next to nothing, so that
 * handshake, answers and farewell stop in the midst of what they say. */
#include "config.h"

#include "daemon/conf.h"
#include "daemon/settings.h"
#include "daemon/transport/conn.h"
#include "daemon/transport/tls.h"
#include "tests/unit/turn.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { CHAIN = 12, COMMENT = 4000, LARGE = 3 * 1024 * 1024, WHOLE = 16000, DEADLINE_MS = 300 };
enum { UPDATES = 4000, UPDATES_BORNE = 64 };
enum { CRUMBS = 16000, TURN_MAX = 48 * 1024 }; /* and what a turn may read of a connection */

static struct {
    struct loop **loops;
    struct tls *tls;
    struct conf *conf;
    struct conf_values *values;
    char folder[64], certificate[96], key[96];
} bench;

static const struct listen_limits patient = {
    .first_byte_ms = 60000, .head_ms = 60000, .body_ms = 60000, .write_ms = 60000,
    .idle_ms = 60000,
};
static const struct listen_limits hasty = {
    .first_byte_ms = DEADLINE_MS, .head_ms = 60000, .body_ms = 60000, .write_ms = 60000,
    .idle_ms = 60000,
};

/* --- the daemon's side -------------------------------------------------------------------- */

/* 'L': much; 'W': a message of WHOLE bytes; '.': the end; everything else: itself, twice. */
static size_t
readable(struct conn *conn, struct kt_str bytes)
{
    struct kt_buf *out = conn_out(conn);
    conn_enter(conn, CONN_IDLE);
    if (bytes.p[0] == 'W' && bytes.n < WHOLE)
        return 0;
    if (bytes.p[0] == 'L')
        for (size_t i = 0; i < LARGE; i++)
            kt_buf_putc(out, (char)('a' + i % 26));
    else if (bytes.p[0] != '.')
        kt_buf_put(out, bytes.p, 1), kt_buf_put(out, bytes.p, 1);
    if (bytes.p[0] == '.')
        conn_finish(conn);
    return bytes.p[0] == 'W' ? WHOLE : 1;
}

static const struct conn_ops twice = { .name = "twice", .readable = readable };

struct arrival {
    int fd;
    const struct listen_limits *limits;
};

static void
arrive(void *ctx)
{
    struct arrival *arrival = ctx;
    struct conn *conn = conn_new(bench.loops[0], arrival->fd, &twice, arrival->limits);
    assert_non_null(conn);
    assert_true(tls_begin(bench.tls, conn));
    snprintf(conn->peer.remote, sizeof conn->peer.remote, "here");
    conn_start(conn);
}

/* The peer's end, blocking; the daemon's takes a few hundred bytes at a time. */
static int
dial(const struct listen_limits *limits, int *ret_ours)
{
    int pair[2], least = 1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
    evutil_make_socket_nonblocking(pair[1]);
    turn_on(bench.loops[0], arrive, &(struct arrival){ pair[1], limits });
    *ret_ours = pair[1];
    return pair[0];
}

/* --- certificates ------------------------------------------------------------------------- */

/* With a comment that makes the first flight many times what the socket holds. */
static X509 *
make_certificate(EVP_PKEY *key, int number)
{
    char comment[COMMENT + 1];
    memset(comment, 'x', COMMENT);
    comment[COMMENT] = '\0';
    X509 *cert = X509_new();
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), number);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 30 * 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"here", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_netscape_comment, comment);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    return cert;
}

static void
write_files(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    umask(077);
    FILE *f = fopen(bench.key, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
    f = fopen(bench.certificate, "w");
    for (int i = 1; i <= CHAIN; i++) {
        X509 *cert = make_certificate(key, i);
        assert_int_equal(PEM_write_X509(f, cert), 1);
        X509_free(cert);
    }
    fclose(f);
    EVP_PKEY_free(key);
}

static int
setup(void **state)
{
    (void)state;
    struct conf_error err;
    char text[400];
    signal(SIGPIPE, SIG_IGN);
    snprintf(bench.folder, sizeof bench.folder, "/tmp/test-tls.XXXXXX");
    if (!mkdtemp(bench.folder))
        return -1;
    snprintf(bench.certificate, sizeof bench.certificate, "%s/cert", bench.folder);
    snprintf(bench.key, sizeof bench.key, "%s/key", bench.folder);
    write_files();
    snprintf(text, sizeof text,
             "[http]\nlisten = 127.0.0.1:0\nauth = a\ntls_certificate = %s\ntls_key = %s\n",
             bench.certificate, bench.key);
    if (!conf_parse(text, strlen(text), "test.conf", &bench.conf, &err) ||
        !conf_apply(bench.conf, "http", NULL, settings_http, &bench.values, &err))
        return -1;
    const struct tls_options options = { .values = bench.values,
                                         .certificate = bench.certificate,
                                         .key = bench.key,
                                         .version_min = TLS1_2_VERSION };
    bench.tls = tls_new(&options, &err);
    bench.loops = loops_new(1);
    return bench.tls && bench.loops && loops_start(bench.loops) == 0 ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    loops_stop(bench.loops);
    tls_free(bench.tls);
    conf_values_free(bench.values);
    conf_free(bench.conf);
    unlink(bench.certificate);
    unlink(bench.key);
    return rmdir(bench.folder);
}

/* --- the peer's side ---------------------------------------------------------------------- */

struct peer_end {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd, ours; /* the daemon's end is there while the connection is */
};

static struct peer_end
meet(const struct listen_limits *limits, int version)
{
    struct peer_end p = { .ctx = SSL_CTX_new(TLS_client_method()) };
    p.fd = dial(limits, &p.ours);
    SSL_CTX_set_min_proto_version(p.ctx, version);
    SSL_CTX_set_max_proto_version(p.ctx, version);
    p.ssl = SSL_new(p.ctx);
    SSL_set_fd(p.ssl, p.fd);
    assert_int_equal(SSL_connect(p.ssl), 1);
    return p;
}

static void
leave(struct peer_end *p)
{
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
    close(p->fd);
}

static void
hear(struct peer_end *p, char *text, size_t n)
{
    size_t got = 0, some;
    while (got < n) {
        assert_int_equal(SSL_read_ex(p->ssl, text + got, n - got, &some), 1);
        got += some;
    }
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

static void
test_a_flight_larger_than_the_socket(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct peer_end p = meet(&patient, versions[i]);
        char text[7] = "";
        assert_int_equal(SSL_write(p.ssl, "abc", 3), 3);
        hear(&p, text, 6);
        assert_string_equal(text, "aabbcc");
        leave(&p);
    }
}

/* Answers, farewell and end, all of them through the same narrow place. */
static void
test_much_then_the_end(void **state)
{
    (void)state;
    char *text = malloc(LARGE), rest;
    size_t n;
    for (size_t i = 0; i < 2; i++) {
        struct peer_end p = meet(&patient, versions[i]);
        assert_int_equal(SSL_write(p.ssl, "L.", 2), 2);
        hear(&p, text, LARGE);
        for (size_t k = 0; k < LARGE; k++)
            if (text[k] != (char)('a' + k % 26))
                fail_msg("byte %zu", k);
        assert_int_equal(SSL_read_ex(p.ssl, &rest, 1, &n), 0);
        assert_int_equal(SSL_get_error(p.ssl, 0), SSL_ERROR_ZERO_RETURN);
        leave(&p);
    }
    free(text);
}

/* One record, of which the first read takes a part: what is left of it the kernel has no more. */
static void
test_a_record_in_two_reads(void **state)
{
    (void)state;
    char said[WHOLE], heard[3] = "";
    memset(said, 'W', sizeof said);
    for (size_t i = 0; i < 2; i++) {
        struct peer_end p = meet(&patient, versions[i]);
        assert_int_equal(SSL_write(p.ssl, "xW", 2), 2);
        hear(&p, heard, 2);
        assert_int_equal(SSL_write(p.ssl, said, WHOLE - 1), WHOLE - 1);
        hear(&p, heard, 2);
        assert_string_equal(heard, "WW");
        leave(&p);
    }
}

static long
cpu_ms(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000
        + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

/* Who asks for a flight and does not read it costs nothing, and not for long. */
static void
test_a_flight_that_nobody_reads(void **state)
{
    (void)state;
    char hello[4096];
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    assert_int_equal(SSL_connect(ssl), -1);
    int n = BIO_read(SSL_get_wbio(ssl), hello, sizeof hello);
    assert_true(n > 0);
    int ours, fd = dial(&hasty, &ours);
    long before = cpu_ms();
    assert_int_equal(send(fd, hello, (size_t)n, MSG_NOSIGNAL), n);
    struct pollfd end = { .fd = fd, .events = POLLRDHUP };
    assert_int_equal(poll(&end, 1, 200 * DEADLINE_MS), 1);
    assert_true(cpu_ms() - before < DEADLINE_MS / 2);
    close(fd);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

/* Who says that a hello will be long is not waited for: there is no memory for so much of it. */
static void
ends_at(const void *bytes, size_t n, size_t step)
{
    int ours, fd = dial(&patient, &ours);
    for (size_t i = 0; i < n; i += step)
        assert_true(send(fd, (const char *)bytes + i, step, MSG_NOSIGNAL) > 0);
    struct pollfd end = { .fd = fd, .events = POLLRDHUP };
    assert_int_equal(poll(&end, 1, 10 * DEADLINE_MS), 1);
    close(fd);
}

static void
test_a_hollow_hello(void **state)
{
    (void)state;
    static const char whole[] = "\x16\3\1\0\4\1\0\x40\1";
    static const char parts[] = "\x16\3\1\0\1\1\x16\3\1\0\2\2\0\x16\3\1\0\1\0";
    ends_at(whole, sizeof whole - 1, sizeof whole - 1);
    ends_at(whole, sizeof whole - 1, 1);
    ends_at(parts, sizeof parts - 1, sizeof parts - 1);
}

/* The first one has no key of a group that is spoken here, so that a second one is asked for. */
static void
test_a_hollow_second_hello(void **state)
{
    (void)state;
    static const char hollow[] = "\x14\3\3\0\1\1\x16\3\3\0\4\1\2\0\0";
    char sent[4096];
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set1_groups_list(ctx, "X448:P-256");
    SSL *ssl = SSL_new(ctx);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    assert_int_equal(SSL_connect(ssl), -1);
    int n = BIO_read(SSL_get_wbio(ssl), sent, sizeof sent / 2);
    assert_true(n > 0);
    memcpy(sent + n, hollow, sizeof hollow - 1);
    ends_at(sent, (size_t)n + sizeof hollow - 1, (size_t)n + sizeof hollow - 1);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

/* Records that are nothing to be read. */
struct flood {
    struct loop_task task;
    sem_t done;
    int peer, ours;
    char *bytes;
    int n, left; /* of the bytes: what the loop has not read after one turn */
};

static void
flood_looked_at(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct flood *flood = (struct flood *)task;
    assert_int_equal(ioctl(flood->ours, FIONREAD, &flood->left), 0);
    sem_post(&flood->done);
}

static void
flood_sent(struct loop *loop, struct loop_task *task)
{
    struct flood *flood = (struct flood *)task;
    assert_int_equal(send(flood->peer, flood->bytes, (size_t)flood->n, MSG_NOSIGNAL), flood->n);
    task->run = flood_looked_at;
    loop_post(loop, task);
}

/* A byte in each record: OpenSSL would read on, and nobody else had a turn. */
static void
test_a_hello_in_crumbs(void **state)
{
    (void)state;
    static const char crumb[6] = "\x16\3\1\0\1";
    static const char header[4] = "\1\0\x3e\x80";
    struct flood flood = { .task.run = flood_sent, .n = CRUMBS * sizeof crumb };
    flood.peer = dial(&patient, &flood.ours);
    flood.bytes = malloc(CRUMBS * sizeof crumb);
    for (size_t i = 0; i < CRUMBS; i++) {
        memcpy(flood.bytes + i * sizeof crumb, crumb, sizeof crumb);
        flood.bytes[(i + 1) * sizeof crumb - 1] = i < sizeof header ? header[i] : 0;
    }
    sem_init(&flood.done, 0, 0);
    loop_post(bench.loops[0], &flood.task);
    while (sem_wait(&flood.done) != 0)
        ;
    assert_true(flood.left < flood.n && flood.n - flood.left <= TURN_MAX);
    sem_destroy(&flood.done);
    close(flood.peer);
    free(flood.bytes);
}

/* A few are anybody's right, after which the peer is heard as before; many are an attack. */
static void
test_updates_without_end(void **state)
{
    (void)state;
    char said[3] = "";
    struct peer_end p = meet(&patient, TLS1_3_VERSION);
    for (int i = 0; i < UPDATES; i++) {
        if (SSL_key_update(p.ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1 || SSL_do_handshake(p.ssl) != 1)
            break;
        if (i != UPDATES_BORNE - 1)
            continue;
        assert_int_equal(SSL_write(p.ssl, "e", 1), 1);
        hear(&p, said, 2);
        assert_string_equal(said, "ee");
    }
    struct pollfd end = { .fd = p.fd, .events = POLLRDHUP };
    assert_int_equal(poll(&end, 1, 10 * DEADLINE_MS), 1);
    leave(&p);
}

/* What is put aside is used when it is said, and a connection keeps what it began with. */
static void
test_renewal(void **state)
{
    (void)state;
    struct conf_error err;
    char text[3] = "";
    struct peer_end old = meet(&patient, TLS1_3_VERSION);
    tls_renew(bench.tls);
    assert_true(tls_reread(bench.tls, &err));
    tls_forget(bench.tls);
    tls_renew(bench.tls);
    assert_true(tls_reread(bench.tls, &err));
    tls_renew(bench.tls);
    struct peer_end fresh = meet(&patient, TLS1_3_VERSION);
    assert_int_equal(SSL_write(old.ssl, "o", 1), 1);
    hear(&old, text, 2);
    assert_string_equal(text, "oo");
    assert_int_equal(SSL_write(fresh.ssl, "f", 1), 1);
    hear(&fresh, text, 2);
    assert_string_equal(text, "ff");
    leave(&old);
    leave(&fresh);
    assert_int_equal(chmod(bench.key, 0640), 0);
    assert_false(tls_reread(bench.tls, &err));
    assert_non_null(strstr(err.text, "test.conf:5: [http] tls_key: "));
    assert_int_equal(chmod(bench.key, 0600), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flight_larger_than_the_socket),
        cmocka_unit_test(test_much_then_the_end),
        cmocka_unit_test(test_a_record_in_two_reads),
        cmocka_unit_test(test_a_flight_that_nobody_reads),
        cmocka_unit_test(test_a_hollow_hello),
        cmocka_unit_test(test_a_hollow_second_hello),
        cmocka_unit_test(test_a_hello_in_crumbs),
        cmocka_unit_test(test_updates_without_end),
        cmocka_unit_test(test_renewal),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
