/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Keys and signatures for the tests of auth-jwt: whatever an issuer, or somebody who would like to
 * be one, can produce. Needs a folder of its own for key files. */
#ifndef AUTH_SIGN_H
#define AUTH_SIGN_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

static char folder[] = "/tmp/kaiten-test-XXXXXX";
static const char secret[] =
    "an HMAC secret of more than 64 bytes, which is what HS512 asks of its keys";

static struct {
    EVP_PKEY *rsa, *rsa_other, *rsa_1024, *rsa_e3, *p256, *p384, *p521, *k1, *ed25519, *ed448;
} keys;

static inline EVP_PKEY *
make_rsa(unsigned bits, unsigned long e)
{
    EVP_PKEY *pkey = NULL;
    BIGNUM *exponent = BN_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    assert_true(BN_set_word(exponent, e));
    assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)bits), 1);
    assert_int_equal(EVP_PKEY_CTX_set1_rsa_keygen_pubexp(ctx, exponent), 1);
    assert_int_equal(EVP_PKEY_generate(ctx, &pkey), 1);
    EVP_PKEY_CTX_free(ctx);
    BN_free(exponent);
    return pkey;
}

static inline int
make_keys(void **state)
{
    (void)state;
    keys.rsa = make_rsa(2048, 65537);
    keys.rsa_other = make_rsa(2048, 65537);
    keys.rsa_1024 = make_rsa(1024, 65537);
    keys.rsa_e3 = make_rsa(2048, 3);
    keys.p256 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    keys.p384 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    keys.p521 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521");
    keys.k1 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "secp256k1");
    keys.ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    keys.ed448 = EVP_PKEY_Q_keygen(NULL, NULL, "ED448");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int
drop_keys(void **state)
{
    char command[128];
    (void)state;
    EVP_PKEY *const all[] = { keys.rsa,  keys.rsa_other, keys.rsa_1024, keys.rsa_e3,  keys.p256,
                              keys.p384, keys.p521,      keys.k1,       keys.ed25519, keys.ed448 };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        EVP_PKEY_free(all[i]);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

/* The path of a file in the folder; one of a few static buffers. */
static inline const char *
path_of(const char *name)
{
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static inline const char *
write_file(const char *name, const void *p, size_t n, mode_t mode)
{
    const char *path = path_of(name);
    (void)unlink(path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
    return path;
}

static inline const char *
write_text(const char *name, const char *text, mode_t mode)
{
    return write_file(name, text, strlen(text), mode);
}

/* The public half in PEM; free() it. */
static inline char *
public_pem(EVP_PKEY *pkey)
{
    char *p = NULL, *copy;
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PUBKEY(bio, pkey), 1);
    long n = BIO_get_mem_data(bio, &p);
    copy = strndup(p, (size_t)n);
    BIO_free(bio);
    return copy;
}

static inline const char *
write_public(const char *name, EVP_PKEY *pkey)
{
    char *pem = public_pem(pkey);
    const char *path = write_text(name, pem, 0644);
    free(pem);
    return path;
}

/* Unpadded base64url; free() it. */
static inline char *
b64(const void *p, size_t n)
{
    unsigned char *out = malloc(n * 4 / 3 + 8);
    int len = EVP_EncodeBlock(out, p, (int)n);
    for (int i = 0; i < len; i++) {
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
        if (out[i] == '=')
            out[i] = 0;
    }
    return (char *)out;
}

/* What signs: a private key, or bytes for an HMAC. alg says how; NULL: with nothing. */
struct signer {
    const char *alg;
    EVP_PKEY *pkey;
    const void *secret;
    size_t nsecret;
};

/* What signs with that algorithm. */
static inline struct signer
signer_of(const char *alg)
{
    struct signer s = { .alg = alg };
    if (alg[0] == 'H') {
        s.secret = secret;
        s.nsecret = strlen(secret);
        return s;
    }
    s.pkey = strcmp(alg, "ES256") == 0 ? keys.p256
        : strcmp(alg, "ES384") == 0    ? keys.p384
        : strcmp(alg, "ES512") == 0    ? keys.p521
        : alg[0] == 'E'                ? keys.ed25519
                                       : keys.rsa;
    return s;
}

static inline const EVP_MD *
digest_of(const char *alg)
{
    if (strncmp(alg, "Ed", 2) == 0)
        return NULL;
    return strstr(alg, "512") ? EVP_sha512() : strstr(alg, "384") ? EVP_sha384() : EVP_sha256();
}

static inline size_t
raw_ecdsa(const unsigned char *der, size_t n, size_t field, unsigned char *out)
{
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &der, (long)n);
    assert_true(BN_bn2binpad(ECDSA_SIG_get0_r(pair), out, (int)field) > 0);
    assert_true(BN_bn2binpad(ECDSA_SIG_get0_s(pair), out + field, (int)field) > 0);
    ECDSA_SIG_free(pair);
    return 2 * field;
}

static inline size_t
sign_evp(const struct signer *s, const char *text, unsigned char *out, size_t room)
{
    unsigned char sig[1024];
    size_t n = sizeof(sig);
    EVP_PKEY_CTX *pctx = NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, &pctx, digest_of(s->alg), NULL, s->pkey), 1);
    if (s->alg[0] == 'P') {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST), 1);
    }
    assert_int_equal(EVP_DigestSign(ctx, sig, &n, (const unsigned char *)text, strlen(text)), 1);
    EVP_MD_CTX_free(ctx);
    if (EVP_PKEY_get_base_id(s->pkey) == EVP_PKEY_EC)
        return raw_ecdsa(sig, n, (size_t)(EVP_PKEY_get_bits(s->pkey) + 7) / 8, out);
    assert_true(n <= room);
    memcpy(out, sig, n);
    return n;
}

static inline size_t
sign_text(const struct signer *s, const char *text, unsigned char *out, size_t room)
{
    unsigned n = 0;
    if (!s->alg)
        return 0;
    if (s->pkey)
        return sign_evp(s, text, out, room);
    assert_non_null(HMAC(digest_of(s->alg), s->secret, (int)s->nsecret, (const unsigned char *)text,
                         strlen(text), out, &n));
    return n;
}

/* Three parts that are already encoded, signed as they stand; free() the token. */
static inline char *
mint_parts(const struct signer *s, const char *header, const char *payload)
{
    unsigned char sig[1024];
    char *text = NULL, *token = NULL;
    assert_true(asprintf(&text, "%s.%s", header, payload) > 0);
    size_t n = sign_text(s, text, sig, sizeof(sig));
    char *tail = b64(sig, n);
    assert_true(asprintf(&token, "%s.%s", text, tail) > 0);
    free(tail);
    free(text);
    return token;
}

static inline char *
mint_bytes(const struct signer *s, const void *header, size_t nheader, const void *payload,
           size_t npayload)
{
    char *h = b64(header, nheader), *p = b64(payload, npayload);
    char *token = mint_parts(s, h, p);
    free(h);
    free(p);
    return token;
}

static inline char *
mint(const struct signer *s, const char *header, const char *payload)
{
    return mint_bytes(s, header, strlen(header), payload, strlen(payload));
}

/* {"kty":...,"n"/"x":...} of a public key, with more members put in; free() it. */
static inline char *
jwk_of(EVP_PKEY *pkey, const char *more)
{
    char *jwk = NULL;
    unsigned char a[1024];
    size_t n = 0;
    if (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA) {
        BIGNUM *bn = NULL, *be = NULL;
        assert_int_equal(EVP_PKEY_get_bn_param(pkey, "n", &bn), 1);
        assert_int_equal(EVP_PKEY_get_bn_param(pkey, "e", &be), 1);
        char *tn = b64(a, (size_t)BN_bn2bin(bn, a)), *te = b64(a, (size_t)BN_bn2bin(be, a));
        assert_true(asprintf(&jwk, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s}", tn, te, more) >
                    0);
        BN_free(bn);
        BN_free(be);
        free(tn);
        free(te);
        return jwk;
    }
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_EC) {
        n = sizeof(a);
        assert_int_equal(EVP_PKEY_get_raw_public_key(pkey, a, &n), 1);
        char *tx = b64(a, n);
        const char *crv = n == 32 ? "Ed25519" : "Ed448";
        assert_true(asprintf(&jwk, "{\"kty\":\"OKP\",\"crv\":\"%s\",\"x\":\"%s\"%s}", crv, tx,
                             more) > 0);
        free(tx);
        return jwk;
    }
    int bits = EVP_PKEY_get_bits(pkey);
    assert_int_equal(
        EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, a, sizeof(a), &n), 1);
    char *tx = b64(a + 1, (n - 1) / 2), *ty = b64(a + 1 + (n - 1) / 2, (n - 1) / 2);
    assert_true(asprintf(&jwk, "{\"kty\":\"EC\",\"crv\":\"P-%d\",\"x\":\"%s\",\"y\":\"%s\"%s}",
                         bits, tx, ty, more) > 0);
    free(tx);
    free(ty);
    return jwk;
}

/* The same with the private half of another key, or of the same; free() it. */
static inline char *
jwk_private_of(EVP_PKEY *pkey, EVP_PKEY *private)
{
    unsigned char a[1024];
    size_t n = sizeof(a);
    char *more = NULL;
    BIGNUM *bn = NULL;
    int type = EVP_PKEY_get_base_id(private);
    if (type == EVP_PKEY_RSA || type == EVP_PKEY_EC) {
        assert_int_equal(EVP_PKEY_get_bn_param(private, type == EVP_PKEY_RSA ? "d" : "priv", &bn),
                         1);
        n = (size_t)BN_bn2bin(bn, a);
        BN_free(bn);
    } else {
        assert_int_equal(EVP_PKEY_get_raw_private_key(private, a, &n), 1);
    }
    char *d = b64(a, n);
    assert_true(asprintf(&more, ",\"d\":\"%s\"", d) > 0);
    char *jwk = jwk_of(pkey, more);
    free(more);
    free(d);
    return jwk;
}

#endif
