/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/tls_ticket.h"

#include "client/proto/wipe.h"
#include "daemon/call.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 16, IV_BYTES = 16, KEY_BYTES = 32 };

struct ticket_key {
    unsigned char name[NAME_BYTES], cipher[KEY_BYTES], mac[KEY_BYTES];
    int64_t made_ms; /* monotonic; 0: there is none */
};

/* All loops make and open tickets of one context. */
struct ring {
    pthread_mutex_t lock;
    struct ticket_key now, before;
};

static int ring_slot;
static pthread_once_t ring_once = PTHREAD_ONCE_INIT;

static void
ring_free(void *parent, void *value, CRYPTO_EX_DATA *data, int slot, long n, void *arg)
{
    (void)parent;
    (void)data;
    (void)slot;
    (void)n;
    (void)arg;
    struct ring *ring = value;
    if (!ring)
        return;
    pthread_mutex_destroy(&ring->lock);
    kt_wipe(ring, sizeof *ring);
    free(ring);
}

static void
ring_slot_make(void)
{
    ring_slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, ring_free);
}

static bool
key_make(struct ticket_key *key, int64_t now_ms)
{
    key->made_ms = now_ms;
    return RAND_bytes(key->name, sizeof key->name) == 1 &&
           RAND_priv_bytes(key->cipher, sizeof key->cipher) == 1 &&
           RAND_priv_bytes(key->mac, sizeof key->mac) == 1;
}

static bool
rotate_locked(struct ring *ring, int64_t now_ms)
{
    struct ticket_key fresh;
    if (now_ms - ring->now.made_ms < TLS_TICKET_KEY_MS)
        return true;
    if (!key_make(&fresh, now_ms))
        return false;
    ring->before = ring->now;
    ring->now = fresh;
    kt_wipe(&fresh, sizeof fresh);
    return true;
}

/* The key of that name, or the present one for NULL. */
static bool
ring_pick(struct ring *ring, const unsigned char *name, struct ticket_key *ret, bool *ret_present)
{
    const int64_t now_ms = clock_mono_ms();
    pthread_mutex_lock(&ring->lock);
    const struct ticket_key *found = rotate_locked(ring, now_ms) ? &ring->now : NULL;
    bool present = found && (!name || memcmp(found->name, name, NAME_BYTES) == 0);
    if (found && !present)
        found = ring->before.made_ms && now_ms - ring->before.made_ms < 2 * TLS_TICKET_KEY_MS &&
                        memcmp(ring->before.name, name, NAME_BYTES) == 0
                    ? &ring->before
                    : NULL;
    if (found)
        *ret = *found;
    pthread_mutex_unlock(&ring->lock);
    *ret_present = present;
    return found != NULL;
}

static bool
set_key(struct ticket_key *key, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
        int making)
{
    static char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, making) == 1 &&
           EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* 1: done, 2: done, and the client is to get a ticket under the present key; 0: a whole handshake;
 * -1: this handshake fails. */
static int
on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
          EVP_MAC_CTX *mac, int making)
{
    struct ring *ring = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ring_slot);
    struct ticket_key key;
    bool present;
    if (!ring_pick(ring, making ? NULL : name, &key, &present))
        return 0;
    if (making)
        memcpy(name, key.name, NAME_BYTES);
    bool ok = (!making || RAND_bytes(iv, IV_BYTES) == 1) && set_key(&key, iv, cipher, mac, making);
    kt_wipe(&key, sizeof key);
    return !ok ? -1 : present ? 1 : 2;
}

/* Resumption asks for no certificate, so the one from before must still be good. */
static bool
is_outlived(SSL_SESSION *session)
{
    X509 *client = session ? SSL_SESSION_get0_peer(session) : NULL;
    return client && X509_cmp_current_time(X509_get0_notAfter(client)) <= 0;
}

static SSL_TICKET_RETURN
on_opened(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t n,
          SSL_TICKET_STATUS status, void *arg)
{
    (void)ssl;
    (void)name;
    (void)n;
    (void)arg;
    switch (status) {
    case SSL_TICKET_EMPTY:
    case SSL_TICKET_NO_DECRYPT:
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    case SSL_TICKET_SUCCESS:
        return is_outlived(session) ? SSL_TICKET_RETURN_IGNORE_RENEW : SSL_TICKET_RETURN_USE;
    case SSL_TICKET_SUCCESS_RENEW:
        return is_outlived(session) ? SSL_TICKET_RETURN_IGNORE_RENEW : SSL_TICKET_RETURN_USE_RENEW;
    default:
        return SSL_TICKET_RETURN_ABORT;
    }
}

static bool
ring_attach(SSL_CTX *ctx)
{
    pthread_once(&ring_once, ring_slot_make);
    struct ring *ring = ring_slot < 0 ? NULL : calloc(1, sizeof *ring);
    if (!ring)
        return false;
    pthread_mutex_init(&ring->lock, NULL);
    if (key_make(&ring->now, clock_mono_ms()) && SSL_CTX_set_ex_data(ctx, ring_slot, ring) == 1)
        return true;
    ring_free(NULL, ring, NULL, 0, 0, NULL);
    return false;
}

bool
tls_ticket_use(SSL_CTX *ctx)
{
    static const unsigned char id[] = "kaitend";
    if (!ring_attach(ctx) || SSL_CTX_set_session_id_context(ctx, id, sizeof id - 1) != 1)
        return false;
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
    SSL_CTX_set_session_ticket_cb(ctx, NULL, on_opened, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER);
    SSL_CTX_sess_set_cache_size(ctx, TLS_SESSIONS_MAX);
    SSL_CTX_set_timeout(ctx, TLS_SESSION_SECONDS);
    return true;
}
