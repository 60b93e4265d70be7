/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Session tickets over hours that pass at the test's word: which key made them, which one still
 * opens them, and who gets a new one. Handshakes go through memory. */
#include "config.h"

#include "daemon/call.h"
#include "daemon/transport/tls_ticket.h"

#include <openssl/x509.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MINUTE = 60 * 1000, HOUR = 60 * MINUTE, THREADS = 4, ROUNDS = 25 };

static _Atomic int64_t now_ms = 1000;

int64_t
clock_mono_ms(void)
{
    return now_ms;
}

static SSL_CTX *server, *client;
static SSL_SESSION *ticket; /* the last one that the client was given */
static bool keep_ticket;

static int
on_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    if (!keep_ticket)
        return 0;
    SSL_SESSION_free(ticket);
    ticket = session;
    return 1;
}

static SSL_CTX *
server_new(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_sign(cert, key, EVP_sha256());
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    assert_true(tls_ticket_use(ctx));
    X509_free(cert);
    EVP_PKEY_free(key);
    return ctx;
}

static void
begin(int version)
{
    now_ms = 1000;
    keep_ticket = true;
    server = server_new();
    client = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(client, version);
    SSL_CTX_set_max_proto_version(client, version);
    SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client, on_session);
}

static void
end(void)
{
    SSL_SESSION_free(ticket);
    ticket = NULL;
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

/* A handshake and a byte each way, which brings the tickets of TLS 1.3. Whether it was resumed; -1:
 * there was none. */
static int
meet(SSL_CTX *with, SSL_SESSION *session)
{
    char byte = 'x';
    SSL *c = SSL_new(client), *s = SSL_new(with);
    BIO *to_server, *to_client;
    BIO_new_bio_pair(&to_server, 1 << 16, &to_client, 1 << 16);
    SSL_set_bio(c, to_server, to_server);
    SSL_set_bio(s, to_client, to_client);
    SSL_set_connect_state(c);
    SSL_set_accept_state(s);
    SSL_SESSION *own = session ? SSL_SESSION_dup(session) : NULL; /* a client uses it once */
    if (own)
        assert_int_equal(SSL_set_session(c, own), 1);
    for (int i = 0; i < 10 && !(SSL_is_init_finished(c) && SSL_is_init_finished(s)); i++) {
        SSL_do_handshake(c);
        SSL_do_handshake(s);
    }
    bool met = SSL_write(s, &byte, 1) == 1 && SSL_read(c, &byte, 1) == 1;
    int resumed = !met ? -1 : SSL_session_reused(c);
    if (SSL_version(c) == TLS1_2_VERSION && keep_ticket)
        on_session(c, SSL_get1_session(c));
    /* Said on both sides, or the session counts as broken. */
    SSL_shutdown(s);
    SSL_shutdown(c);
    SSL_free(c);
    SSL_free(s);
    SSL_SESSION_free(own);
    return resumed;
}

static SSL_SESSION *
take_ticket(void)
{
    SSL_SESSION *taken = ticket;
    assert_non_null(taken);
    ticket = NULL;
    return taken;
}

static void
keys_change_by_the_hour(int version)
{
    begin(version);
    assert_int_equal(meet(server, NULL), 0);
    SSL_SESSION *first = take_ticket();
    now_ms += 59 * MINUTE;
    assert_int_equal(meet(server, first), 1);
    now_ms += 2 * MINUTE; /* the key before opens it, and the client gets one of the present key */
    assert_int_equal(meet(server, first), 1);
    SSL_SESSION *second = take_ticket();
    now_ms += 61 * MINUTE; /* two keys later it is opened no more: all is asked anew, none is refused */
    assert_int_equal(meet(server, first), 0);
    assert_int_equal(meet(server, second), 1);
    SSL_SESSION_free(first);
    SSL_SESSION_free(second);
    end();
}

static void
keys_change_by_the_hour_1_2(void **state)
{
    (void)state;
    keys_change_by_the_hour(TLS1_2_VERSION);
}

static void
keys_change_by_the_hour_1_3(void **state)
{
    (void)state;
    keys_change_by_the_hour(TLS1_3_VERSION);
}

/* Nobody came for so long that the key before is as old as the one before it would be. */
static void
a_key_is_not_kept_by_silence(void **state)
{
    (void)state;
    begin(TLS1_2_VERSION);
    assert_int_equal(meet(server, NULL), 0);
    SSL_SESSION *first = take_ticket();
    now_ms += 2 * HOUR - 1;
    assert_int_equal(meet(server, first), 1);
    now_ms = 1000 + 2 * HOUR;
    assert_int_equal(meet(server, first), 0);
    SSL_SESSION_free(first);
    end();
}

/* What another context made, as after an exchange of certificates, is not opened and not refused. */
static void
each_context_has_its_own_keys(void **state)
{
    (void)state;
    static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
    for (size_t i = 0; i < 2; i++) {
        begin(versions[i]);
        SSL_CTX *other = server_new();
        assert_int_equal(meet(server, NULL), 0);
        SSL_SESSION *first = take_ticket();
        assert_int_equal(meet(other, first), 0);
        assert_int_equal(meet(server, first), 1);
        SSL_SESSION_free(first);
        SSL_CTX_free(other);
        end();
    }
}

/* A ticket that was touched is opened by nobody; the handshake is a whole one. */
static void
a_forged_ticket_is_not_opened(void **state)
{
    (void)state;
    begin(TLS1_2_VERSION);
    assert_int_equal(meet(server, NULL), 0);
    SSL_SESSION *first = take_ticket();
    const unsigned char *made;
    size_t n;
    SSL_SESSION_get0_ticket(first, &made, &n);
    for (size_t at = 0; at < n; at += at < 40 ? 1 : 13) {
        unsigned char *bytes = (unsigned char *)(uintptr_t)made;
        bytes[at] ^= 1;
        assert_int_equal(meet(server, first), 0);
        bytes[at] ^= 1;
    }
    assert_int_equal(meet(server, first), 1);
    SSL_SESSION_free(first);
    end();
}

/* Every loop has a thread, and all of them make and open tickets under keys that change meanwhile:
 * what one made, the others open. */
static SSL_SESSION *passed;
static _Atomic int resumed;

static void *
open_tickets(void *ctx)
{
    (void)ctx;
    for (int i = 0; i < ROUNDS; i++) {
        if (meet(server, passed) == 1)
            resumed++;
        now_ms += 20; /* one of them finds that the hour is over */
    }
    return NULL;
}

static void
threads_share_the_keys(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    begin(TLS1_2_VERSION);
    assert_int_equal(meet(server, NULL), 0);
    passed = take_ticket();
    keep_ticket = false; /* it is not the threads' to share */
    now_ms += HOUR - ROUNDS * THREADS * 20 / 2;
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_tickets, NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(resumed, THREADS * ROUNDS);
    SSL_SESSION_free(passed);
    end();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_change_by_the_hour_1_2),
        cmocka_unit_test(keys_change_by_the_hour_1_3),
        cmocka_unit_test(a_key_is_not_kept_by_silence),
        cmocka_unit_test(each_context_has_its_own_keys),
        cmocka_unit_test(a_forged_ticket_is_not_opened),
        cmocka_unit_test(threads_share_the_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
