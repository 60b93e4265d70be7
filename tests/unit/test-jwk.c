/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Keys as they are read: PEM, shared secrets, JWK sets; which are taken and which are refused. */
#include "config.h"

#include "plugins/auth-jwt/jwk.h"
#include "plugins/auth-jwt/secret.h"
#include "tests/unit/jwt-key.h"

static bool
takes_file(const char *path, const char *alg, const char *kid, char *ret_why)
{
    struct key_set set = { 0 };
    struct key_why why = { "" };
    bool good =
        key_set_add_file(&set, path, key_alg_find(alg, strlen(alg)), kid, 0, &why);
    strcpy(ret_why, why.text);
    assert_int_equal(set.n, good);
    key_set_done(&set);
    return good;
}

static void
expect_file(const char *path, const char *alg, const char *want)
{
    char why[KEY_WHY_MAX];
    bool good = takes_file(path, alg, NULL, why);
    if (good != (want == NULL) || (want && !strstr(why, want)) || (want && !strstr(why, path)))
        fail_msg("%s %s: %d \"%s\"", path, alg, good, why);
}

static void
pem_keys_are_judged_when_read(void **state)
{
    (void)state;
    expect_file(write_public("rsa", keys.rsa), "RS256", NULL);
    expect_file(write_public("rsa", keys.rsa), "PS512", NULL);
    expect_file(write_public("rsa", keys.rsa), "ES256", "elliptic");
    expect_file(write_public("rsa", keys.rsa), "EdDSA", "Ed25519");
    chmod(path_of("rsa"), 0600);
    expect_file(path_of("rsa"), "HS256", "PEM");
    expect_file(write_public("rsa", keys.rsa_1024), "RS256", "2048");
    expect_file(write_public("rsa", keys.rsa_e3), "RS256", "exponent");
    expect_file(write_public("ec", keys.p256), "ES256", NULL);
    expect_file(write_public("ec", keys.p256), "RS256", "RSA");
    expect_file(write_public("ec", keys.p384), "ES256", "P-256");
    expect_file(write_public("ec", keys.p256), "ES384", "P-384");
    expect_file(write_public("ec", keys.p384), "ES384", NULL);
    expect_file(write_public("ec", keys.p521), "ES512", NULL);
    expect_file(write_public("ec", keys.k1), "ES256", "P-256");
    expect_file(write_public("ed", keys.ed25519), "EdDSA", NULL);
    expect_file(write_public("ed", keys.ed448), "EdDSA", NULL);
    expect_file(write_public("ed", keys.ed448), "Ed448", NULL);
    expect_file(write_public("ed", keys.ed448), "Ed25519", "not an Ed25519 key");
    expect_file(write_public("ed", keys.ed25519), "Ed25519", NULL);
    expect_file(write_public("ed", keys.ed25519), "Ed448", "not an Ed448 key");
    expect_file(write_public("rsa", keys.rsa), "Ed25519", "not an Ed25519 key");
    expect_file(
        write_text("x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 0644),
        "RS256", "no public key");
    expect_file(write_text("x", "-----BEGIN PRIVATE KEY-----\n", 0600), "RS256", "private key");
    expect_file(write_text("x", "hello", 0644), "RS256", "no public key");
    expect_file(write_text("x", "", 0644), "RS256", "bytes");
    expect_file(path_of("absent"), "RS256", "No such file");
    expect_file(folder, "RS256", "regular");
    chmod(write_public("rsa", keys.rsa), 0666);
    expect_file(path_of("rsa"), "RS256", "everybody may write");
}

/* The modulus of keys.rsa under another exponent. */
static EVP_PKEY *
rsa_with_exponent(const char *hex)
{
    EVP_PKEY *pkey = NULL;
    BIGNUM *n = NULL, *e = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(keys.rsa, OSSL_PKEY_PARAM_RSA_N, &n), 1);
    assert_true(BN_hex2bn(&e, hex) > 0);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    assert_int_equal(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n), 1);
    assert_int_equal(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e), 1);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params), 1);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    BN_free(e);
    return pkey;
}

static void
exponents_are_judged_when_read(void **state)
{
    (void)state;
    static const struct {
        const char *e, *want;
    } rows[] = {
        { "10001", NULL },
        { "10003", NULL },
        { "FFFFFFFFFFFFFFFF", NULL },
        { "FFFF", "exponent" },
        { "10002", "exponent" },
        { "10000000000000001", "exponent" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        EVP_PKEY *pkey = rsa_with_exponent(rows[i].e);
        expect_file(write_public("rsa", pkey), "RS256", rows[i].want);
        EVP_PKEY_free(pkey);
    }
}

/* With parameters of its own a curve can have any point as its generator, CVE-2020-0601 of another
 * library. */
static void
curves_have_names(void **state)
{
    (void)state;
    EVP_PKEY *pkey = EVP_PKEY_dup(keys.p256);
    assert_int_equal(EVP_PKEY_set_utf8_string_param(pkey, OSSL_PKEY_PARAM_EC_ENCODING, "explicit"),
                     1);
    expect_file(write_public("ec", pkey), "ES256", "not named");
    EVP_PKEY_free(pkey);
    pkey = EVP_PKEY_dup(keys.rsa);
    struct key_why why;
    assert_false(key_check_pkey(pkey, key_alg_find("HS256", 5), &why));
    assert_non_null(strstr(why.text, "takes no public key"));
    EVP_PKEY_free(pkey);
}

/* Bytes that look random and are the same on every run. */
static void
fill(char *bytes, size_t n)
{
    unsigned x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1103515245u + 12345u;
        bytes[i] = (char)(x >> 16);
    }
}

static void
secrets_are_judged_when_read(void **state)
{
    char bytes[KEY_SECRET_MAX + 2];
    (void)state;
    fill(bytes, sizeof(bytes));
    static const struct {
        const char *alg;
        size_t least;
    } floors[] = { { "HS256", 32 }, { "HS384", 48 }, { "HS512", 64 } };
    for (size_t i = 0; i < COUNT(floors); i++) {
        expect_file(write_file("s", bytes, floors[i].least, 0600), floors[i].alg, NULL);
        expect_file(write_file("s", bytes, floors[i].least - 1, 0600), floors[i].alg, "this one");
        expect_file(write_file("s", bytes, 1, 0600), floors[i].alg, "has 1");
    }
    expect_file(write_file("s", bytes, KEY_SECRET_MAX, 0400), "HS512", NULL);
    expect_file(write_file("s", bytes, KEY_SECRET_MAX + 1, 0600), "HS512", "4096");
    static const mode_t open_modes[] = { 0640, 0604, 0620, 0610, 0644, 0666 };
    for (size_t i = 0; i < COUNT(open_modes); i++)
        expect_file(write_file("s", bytes, 32, open_modes[i]), "HS256",
                    open_modes[i] & 2 ? "everybody" : "chmod 600");
    /* A line end belongs to text, not to its secret; random bytes keep theirs. */
    expect_file(write_text("s", "3b1f9ac04d7e82665f0c1a9be47d2830\n", 0600), "HS256", NULL);
    expect_file(write_text("s", "3b1f9ac04d7e82665f0c1a9be47d283\n", 0600), "HS256", "has 31");
    expect_file(write_text("s", "3b1f9ac04d7e82665f0c1a9be47d2830\r\n", 0600), "HS256", NULL);
    bytes[31] = '\n';
    expect_file(write_file("s", bytes, 32, 0600), "HS256", NULL);
}

static X509 *
certificate_of(EVP_PKEY *pkey)
{
    X509 *cert = X509_new();
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), 3600));
    assert_int_equal(X509_set_pubkey(cert, pkey), 1);
    assert_true(X509_sign(cert, pkey, EVP_sha256()) > 0);
    return cert;
}

static void
certificates_are_keys_and_no_secrets(void **state)
{
    X509 *cert = certificate_of(keys.p256);
    BIO *pem = BIO_new(BIO_s_mem());
    unsigned char *der = NULL;
    char *p = NULL;
    (void)state;
    assert_int_equal(PEM_write_bio_X509(pem, cert), 1);
    long n = BIO_get_mem_data(pem, &p);
    expect_file(write_file("cert", p, (size_t)n, 0600), "ES256", NULL);
    expect_file(path_of("cert"), "ES384", "P-384");
    expect_file(path_of("cert"), "HS256", "a PEM file");
    expect_file(write_file("cert", p, (size_t)n / 2, 0600), "ES256", "no public key or certificate");
    n = i2d_X509(cert, &der);
    expect_file(write_file("cert", der, (size_t)n, 0600), "HS256", "certificate in DER");
    expect_file(path_of("cert"), "ES256", "no public key or certificate");
    OPENSSL_free(der);
    BIO_free(pem);
    X509_free(cert);
}

/* Who takes the file of a public key for that of a secret has one that everybody knows. */
static void
public_keys_are_no_secrets(void **state)
{
    EVP_PKEY *const pairs[] = { keys.rsa, keys.p256, keys.p521, keys.ed25519, keys.ed448 };
    (void)state;
    for (size_t i = 0; i < COUNT(pairs); i++) {
        unsigned char *der = NULL;
        int n = i2d_PUBKEY(pairs[i], &der);
        assert_true(n >= 32);
        expect_file(write_file("s", der, (size_t)n, 0600), "HS256", "in DER, not a secret");
        der[1] ^= 1; /* another length */
        expect_file(write_file("s", der, (size_t)n, 0600), "HS256", NULL);
        OPENSSL_free(der);
        char *pem = public_pem(pairs[i]), *jwk = jwk_of(pairs[i], "");
        expect_file(write_text("s", pem, 0600), "HS256", "a PEM file, not a secret");
        expect_file(write_text("s", jwk, 0600), "HS256", "a JWK, which jwks reads, not a secret");
        free(pem);
        free(jwk);
    }
    static const char oct[] = "{\"k\": \"q8Yt0m1Qx5sO2a9Gd7LwV3bnR6uKzJcE\", \"kty\": \"oct\"}";
    expect_file(write_text("s", oct, 0600), "HS256", "a JWK");
}

#define WORD8 "8fK2-xQz"

static const struct {
    const char *text, *want; /* NULL: good */
} secret_rows[] = {
    { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "different" },
    { "abcdabcdabdcabcdbacdabdcdabcabcdabcd", "different" },
    { WORD8 WORD8 WORD8 WORD8, "repeated" },
    { WORD8 WORD8 WORD8 WORD8 "8fK", "repeated" },
    { "0123456789abcdef0123456789abcdef", "repeated" },
    { "secretsecretsecretsecretsecretsecret", "repeated" },
    { "passwordpasswordpasswordpassword", "repeated" },
    { "12345678901234567890123456789012", "repeated" },
    { "abcdefghijklmnopqrstuvwxyz0123456789", "follow" },
    { "zyxwvutsrqponmlkjihgfedcba9876543210", "follow" },
    { "aabbccddeeffgghhiijjkkllmmnnooppqq", "follow" },
    { "acegikmoqsuwyACEGIKMOQSUWY02468!#%')", "follow" },
    { "a-string-secret-at-least-256-bits-long", "published" },
    { "A-String-Secret-At-Least-256-Bits-Long", "published" },
    { "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b", "published" },
    /* The fingerprint of an example of our own stands in the table, too. */
    { "the secret of an example in the documents of kaitend", "published" },
    { "THE secret of an example in the documents of KAITEND", "published" },
    { "the secret of an example in the documents of kaitenD ", NULL },
    /* What generators make: base64, hexadecimal, digits, a few words. */
    { "q8Yt0m1Qx5sO2a9Gd7LwV3bnR6uKzJcE", NULL },
    { "3b1f9ac04d7e82665f0c1a9be47d2830", NULL },
    { "58209974944592307816406286208998", NULL },
    { "correct horse battery staple, and a whale", NULL },
    { WORD8 WORD8 WORD8 "another-tail", NULL },
};

/* KAITEN_WEAK_SECRETS names lists, apart by colons, of which every line is to be refused. */
static void
listed_secrets_are_refused(void **state)
{
    (void)state;
    char *names = getenv("KAITEN_WEAK_SECRETS"), line[8192], *rest = names;
    if (!names)
        skip();
    for (char *name; (name = strtok_r(rest, ":", &rest));) {
        FILE *f = fopen(name, "re");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f)) {
            size_t n = strcspn(line, "\r\n");
            const char *why = NULL;
            if (n >= 32 && n <= KEY_SECRET_MAX)
                assert_true(secret_is_weak((const unsigned char *)line, n, &why));
        }
        fclose(f);
    }
}

static void
weak_secrets_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(secret_rows); i++)
        expect_file(write_text("s", secret_rows[i].text, 0600), "HS256", secret_rows[i].want);
    for (int step = 0; step < 256; step++) {
        char bytes[64];
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (char)((int)i * step + 7);
        char why[KEY_WHY_MAX];
        assert_false(takes_file(write_file("s", bytes, sizeof(bytes), 0600), "HS512", NULL, why));
        assert_non_null(strstr(why, "weak"));
    }
}

/* Writes {"keys":[a,b]} or a alone; free()s both. */
static void
expect_jwks(char *take_a, char *take_b, mode_t mode, size_t usable, const char *want)
{
    char *text = NULL;
    struct key_set set = { 0 };
    struct key_why why = { "" };
    assert_true((take_b ? asprintf(&text, "{\"keys\":[%s,%s]}", take_a, take_b)
                        : asprintf(&text, "%s", take_a)) >= 0);
    bool good = jwk_read_file(&set, write_text("jwks", text, mode), NULL, 0, fake_log, &why);
    if (good != (want == NULL) || (good && set.n != usable) || (want && !strstr(why.text, want)))
        fail_msg("%s: %d, %zu keys, \"%s\"", text, good, set.n, why.text);
    key_set_done(&set);
    free(text);
    free(take_a);
    free(take_b);
}

#define OCT(n, more) "{\"kty\":\"oct\",\"k\":\"" n "\"" more "}"
#define K32          "lBh7RzYbC0oS1qXyNf3mPdU8aKwJg5TtE2vZiQ4LxMc"
#define K31          "lBh7RzYbC0oS1qXyNf3mPdU8aKwJg5TtE2vZiQ4LxA"

static void
jwk_sets_are_judged_when_read(void **state)
{
    (void)state;
    expect_jwks(jwk_of(keys.rsa, ""), NULL, 0644, 1, NULL);
    expect_jwks(jwk_of(keys.rsa, ",\"alg\":\"PS256\",\"use\":\"sig\",\"kid\":\"k\""), NULL, 0644, 1,
                NULL);
    expect_jwks(jwk_of(keys.p256, ""), jwk_of(keys.ed25519, ""), 0644, 2, NULL);
    expect_jwks(jwk_of(keys.p384, ""), jwk_of(keys.p521, ""), 0644, 2, NULL);
    expect_jwks(jwk_of(keys.rsa, ",\"key_ops\":[\"verify\"]"),
                jwk_of(keys.rsa, ",\"key_ops\":[\"sign\"]"), 0644, 1, NULL);
    expect_jwks(jwk_of(keys.rsa, ",\"use\":\"enc\""), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(jwk_of(keys.rsa, ",\"key_ops\":[\"verify\",\"sign\"],\"use\":\"sig\""), NULL, 0644, 1,
                NULL);
    static const char *const wrong_ops[] = { "[]",
                                             "\"verify\"",
                                             "[\"Verify\"]",
                                             "[\"sign\"]",
                                             "[\"verify\",\"verify\"]",
                                             "[\"verify\",7]",
                                             "[\"verify\",\"encrypt\"]",
                                             "[\"wrapKey\",\"verify\"]",
                                             "null" };
    for (size_t i = 0; i < COUNT(wrong_ops); i++) {
        char more[128];
        (void)snprintf(more, sizeof(more), ",\"key_ops\":%s", wrong_ops[i]);
        expect_jwks(jwk_of(keys.rsa, more), NULL, 0644, 0, "key_ops");
    }
    expect_jwks(jwk_of(keys.ed448, ""), NULL, 0644, 1, NULL);
    expect_jwks(jwk_of(keys.ed448, ",\"alg\":\"EdDSA\""), NULL, 0644, 1, NULL);
    expect_jwks(jwk_of(keys.ed448, ",\"alg\":\"Ed448\""), NULL, 0644, 1, NULL);
    expect_jwks(jwk_of(keys.ed25519, ",\"alg\":\"Ed25519\""), NULL, 0644, 1, NULL);
    expect_jwks(jwk_of(keys.ed25519, ",\"alg\":\"Ed448\""), NULL, 0644, 0, "do not fit");
    expect_jwks(jwk_of(keys.rsa, ",\"alg\":\"Ed25519\""), NULL, 0644, 0, "do not fit");
    expect_jwks(strdup("{\"kty\":\"AKP\"}"), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(strdup("{\"kty\":\"EC\",\"crv\":\"P-1024\"}"), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(strdup("{\"kty\":7}"), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(strdup("7"), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(jwk_of(keys.rsa_1024, ""), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"HS256\"")), NULL, 0600, 1, NULL);
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"HS256\"")), NULL, 0640, 0, "chmod 600");
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"HS256\"")), jwk_of(keys.rsa, ""), 0644, 0, "chmod 600");
    expect_jwks(strdup(OCT(K31, ",\"alg\":\"HS256\"")), NULL, 0600, 0, "32");
    expect_jwks(strdup(OCT(K32, "")), NULL, 0600, 0, "alg");
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"HS384\"")), NULL, 0600, 0, "48");
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"HS512\"")), NULL, 0600, 0, "64");
    expect_jwks(strdup(OCT("YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE", ",\"alg\":\"HS256\"")), NULL,
                0600, 0, "weak");
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"RS256\"")), NULL, 0600, 0, "kty");
    expect_jwks(strdup(OCT(K32 "=", ",\"alg\":\"HS256\"")), NULL, 0600, 0, "member k");
    expect_jwks(jwk_of(keys.rsa, ",\"use\":\"enc\""), NULL, 0644, 0, "use");
    expect_jwks(jwk_of(keys.rsa, ",\"use\":\"enc\""), jwk_of(keys.rsa, ",\"use\":1"), 0644, 0,
                "no usable key");
    expect_jwks(jwk_of(keys.rsa, ",\"alg\":\"HS256\""), NULL, 0644, 0, "kty");
    expect_jwks(jwk_of(keys.rsa, ",\"alg\":\"none\""), NULL, 0644, 0, "alg");
    expect_jwks(jwk_of(keys.rsa, ",\"alg\":7"), NULL, 0644, 0, "alg");
    expect_jwks(jwk_of(keys.p256, ",\"alg\":\"ES384\""), NULL, 0644, 0, "crv");
    expect_jwks(jwk_of(keys.k1, ""), NULL, 0644, 0, "not a valid key");
    expect_jwks(jwk_of(keys.rsa_e3, ""), NULL, 0644, 0, "exponent");
    expect_jwks(jwk_of(keys.rsa, ",\"kid\":7"), NULL, 0644, 0, "kid");
    expect_jwks(jwk_of(keys.rsa, ",\"n\":\"AQ\""), NULL, 0644, 0, "JSON");
    expect_jwks(strdup("{\"keys\":[]}"), NULL, 0644, 0, "empty");
    expect_jwks(strdup("{\"keys\":{}}"), NULL, 0644, 0, "array");
    expect_jwks(strdup("[]"), NULL, 0644, 0, "JSON");
    expect_jwks(strdup("{}"), NULL, 0644, 0, "kty");
    expect_jwks(strdup("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" K32 "\",\"y\":\"" K32 "\"}"),
                NULL, 0644, 0, "key");
    expect_jwks(strdup("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" K31 "\",\"y\":\"" K32 "\"}"),
                NULL, 0644, 0, "32 bytes");
    expect_jwks(strdup("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" K31 "\"}"), NULL, 0644, 0,
                "32");
    expect_jwks(strdup("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                       "AAAAAAAAAAA\"}"), NULL, 0644, 0, "small order");
    expect_jwks(strdup("{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"" K32 "\"}"), NULL, 0644, 0,
                "alg");
}

static void
private_halves_of_jwks_are_not_for_everybody(void **state)
{
    (void)state;
    EVP_PKEY *const all[] = { keys.rsa, keys.p256, keys.p384, keys.p521, keys.ed25519, keys.ed448 };
    for (size_t i = 0; i < COUNT(all); i++) {
        size_t before = fake.nlogged;
        expect_jwks(jwk_private_of(all[i], all[i]), NULL, 0640, 1, NULL);
        assert_int_equal(fake.nlogged, before + 1);
        expect_jwks(jwk_private_of(all[i], all[i]), NULL, 0644, 0, "private");
        expect_jwks(jwk_private_of(all[i], all[i]), jwk_of(keys.rsa_other, ""), 0644, 0, "private");
        expect_jwks(jwk_of(keys.rsa_other, ""), jwk_private_of(all[i], all[i]), 0644, 0, "private");
        /* The halves of two keys. */
        EVP_PKEY *other = all[i] == keys.rsa ? keys.rsa_other : EVP_PKEY_dup(all[i]);
        expect_jwks(jwk_of(all[i], ",\"d\":\"AQ\""), NULL, 0600, 0, "does not belong");
        if (other == keys.rsa_other)
            expect_jwks(jwk_private_of(all[i], other), NULL, 0600, 0, "does not belong");
        else
            EVP_PKEY_free(other);
    }
    EVP_PKEY *stranger = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    expect_jwks(jwk_private_of(keys.p256, stranger), NULL, 0600, 0, "does not belong");
    EVP_PKEY_free(stranger);
    stranger = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    expect_jwks(jwk_private_of(keys.ed25519, stranger), NULL, 0600, 0, "does not belong");
    EVP_PKEY_free(stranger);
}

/* A set that two keys of one id stand in does not say which one is meant. */
static void
key_ids_stand_once(void **state)
{
    (void)state;
    expect_jwks(jwk_of(keys.rsa, ",\"kid\":\"a\""), jwk_of(keys.rsa_other, ",\"kid\":\"a\""), 0644,
                0, "\"a\" stands twice");
    expect_jwks(jwk_of(keys.rsa, ",\"kid\":\"a\""), jwk_of(keys.p256, ",\"kid\":\"a\""), 0644, 0,
                "stands twice");
    expect_jwks(jwk_of(keys.rsa, ",\"kid\":\"a\""), jwk_of(keys.p256, ",\"kid\":\"A\""), 0644, 2,
                NULL);
    expect_jwks(jwk_of(keys.rsa, ""), jwk_of(keys.p256, ""), 0644, 2, NULL);
    /* One that is for something else is not in the way. */
    expect_jwks(jwk_of(keys.rsa, ",\"kid\":\"a\",\"use\":\"enc\""),
                jwk_of(keys.rsa_other, ",\"kid\":\"a\""), 0644, 1, NULL);
    struct key_set set = { 0 }, other = { 0 };
    struct key_why why = { "" };
    const struct signer a = signer_of("RS256"), b = signer_of("ES256");
    add(&set, &a, "a");
    assert_false(key_set_add_file(&set, write_public("k", keys.p256), key_alg_find("ES256", 5), "a",
                                  0, &why));
    assert_non_null(strstr(why.text, "stands twice"));
    add(&other, &b, NULL);
    add(&other, &b, "a");
    assert_false(key_set_merge(&set, &other, &why));
    assert_int_equal(set.n, 1);
    key_set_done(&other);
    add(&other, &b, "b");
    assert_true(key_set_merge(&set, &other, &why));
    key_set_done(&other);
    assert_int_equal(set.n, 2);
    char *token = mint(&b, "{\"alg\":\"ES256\",\"kid\":\"b\"}", "{}");
    assert_int_equal(judge(&set, token), JWS_GOOD);
    free(token);
    key_set_done(&set);
}

/* What came over a network is known to others. */
static void
published_sets_hold_public_keys_only(void **state)
{
    (void)state;
    const struct jwk_origin origin = { .name = "address", .flags = KEY_PUBLIC };
    char *rows[] = { strdup(OCT(K32, ",\"alg\":\"HS256\"")), jwk_private_of(keys.rsa, keys.rsa),
                     jwk_private_of(keys.ed25519, keys.ed25519), jwk_of(keys.p256, "") };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct key_set set = { 0 };
        struct key_why why = { "" };
        assert_int_equal(jwk_read(&set, rows[i], strlen(rows[i]), &origin, &why), i == 3);
        assert_int_equal(set.n, i == 3);
        key_set_done(&set);
        free(rows[i]);
    }
}

static void
a_key_without_an_algorithm_gets_one(void **state)
{
    (void)state;
    static const struct {
        const char *alg, *want;
    } rows[] = { { NULL, "RS256" }, { "PS384", "PS384" }, { "ES256", "RS256" } };
    char *jwk = jwk_of(keys.rsa, "");
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct key_set set = { 0 };
        struct key_why why = { "" };
        struct jwk_origin origin = { .name = "x" };
        if (rows[i].alg)
            origin.alg = key_alg_find(rows[i].alg, strlen(rows[i].alg));
        assert_true(jwk_read(&set, jwk, strlen(jwk), &origin, &why));
        assert_int_equal(set.n, 1);
        assert_string_equal(set.v[0].alg->name, rows[i].want);
        key_set_done(&set);
    }
    struct key_set set = { 0 };
    struct key_why why = { "" };
    const struct jwk_origin any = { .name = "x", .flags = KEY_ANY_ALG };
    assert_true(jwk_read(&set, jwk, strlen(jwk), &any, &why));
    assert_int_equal(set.n, 6);
    key_set_done(&set);
    free(jwk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pem_keys_are_judged_when_read),
        cmocka_unit_test(exponents_are_judged_when_read),
        cmocka_unit_test(curves_have_names),
        cmocka_unit_test(secrets_are_judged_when_read),
        cmocka_unit_test(public_keys_are_no_secrets),
        cmocka_unit_test(certificates_are_keys_and_no_secrets),
        cmocka_unit_test(weak_secrets_are_refused),
        cmocka_unit_test(listed_secrets_are_refused),
        cmocka_unit_test(key_ids_stand_once),
        cmocka_unit_test(jwk_sets_are_judged_when_read),
        cmocka_unit_test(private_halves_of_jwks_are_not_for_everybody),
        cmocka_unit_test(published_sets_hold_public_keys_only),
        cmocka_unit_test(a_key_without_an_algorithm_gets_one),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
