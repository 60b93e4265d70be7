/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Makes keys and JSON Web Tokens for the demonstration and the tests:
 *
 *     kaiten-jwt keygen --alg RS256|ES256 --private FILE --public FILE
 *     kaiten-jwt sign --alg ALG --key FILE [--kid ID] [--ttl SECONDS] CLAIM...
 *
 * A CLAIM is name=text, scopes=a,b (an array) or name:=JSON. iat and exp (now plus ttl, 3600 unless
 * given, negative allowed) are added when they are not among the claims. Keys are files, never
 * arguments. Exit status: 0, 1 failed, 2 wrong usage. */
#include "config.h"

#include "plugins/auth-jwt/key.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <jwt.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>

static int
usage(void)
{
    (void)fprintf(
        stderr, "usage: kaiten-jwt keygen --alg RS256|ES256 --private FILE --public FILE\n"
                "       kaiten-jwt sign --alg ALG --key FILE [--kid ID] [--ttl SECONDS] CLAIM...\n"
                "CLAIM: name=text, scopes=a,b or name:=JSON\n");
    return 2;
}

static int
fail(const char *what, const char *why)
{
    (void)fprintf(stderr, "kaiten-jwt: %s: %s\n", what, why);
    return 1;
}

struct arguments {
    const char *alg, *key, *kid, *private, *public, *ttl;
};

static bool
parse(int argc, char **argv, struct arguments *args)
{
    static const struct option options[] = {
        { "alg", required_argument, NULL, 'a' },
        { "key", required_argument, NULL, 'k' },
        { "kid", required_argument, NULL, 'i' },
        { "private", required_argument, NULL, 'p' },
        { "public", required_argument, NULL, 'u' },
        { "ttl", required_argument, NULL, 't' },
        { NULL, 0, NULL, 0 },
    };
    const char **const to[] = { ['a'] = &args->alg,     ['k'] = &args->key,    ['i'] = &args->kid,
                                ['p'] = &args->private, ['u'] = &args->public, ['t'] = &args->ttl };
    for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
        if (c == '?')
            return false;
        *to[c] = optarg;
    }
    return args->alg != NULL;
}

/* A new file; an existing one is somebody's key. */
static FILE *
create(const char *path, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f && fd >= 0)
        close(fd);
    return f;
}

static bool
write_private(const char *path, EVP_PKEY *pkey)
{
    FILE *f = create(path, 0600);
    if (!f)
        return false;
    bool good = PEM_write_PrivateKey(f, pkey, NULL, NULL, 0, NULL, NULL) == 1;
    return fclose(f) == 0 && good;
}

static bool
write_public(const char *path, EVP_PKEY *pkey)
{
    FILE *f = create(path, 0644);
    if (!f)
        return false;
    bool good = PEM_write_PUBKEY(f, pkey) == 1;
    return fclose(f) == 0 && good;
}

static EVP_PKEY *
generate(const char *alg)
{
    if (strcmp(alg, "RS256") == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    if (strcmp(alg, "ES256") == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    return NULL;
}

static int
keygen(int argc, char **argv)
{
    struct arguments args = { 0 };
    if (!parse(argc, argv, &args) || !args.private || !args.public || optind != argc)
        return usage();
    EVP_PKEY *pkey = generate(args.alg);
    if (!pkey)
        return fail(args.alg, "no key; RS256 and ES256 are known");
    int rc = 0;
    errno = 0;
    if (!write_private(args.private, pkey))
        rc = fail(args.private, strerror(errno));
    else if (!write_public(args.public, pkey))
        rc = fail(args.public, strerror(errno));
    EVP_PKEY_free(pkey);
    return rc;
}

static cJSON *
split(char *text)
{
    cJSON *array = cJSON_CreateArray();
    for (char *item; *text && (item = strsep(&text, ",")) != NULL;) {
        cJSON_AddItemToArray(array, cJSON_CreateString(item));
        if (!text)
            break;
    }
    return array;
}

static bool
add_claim(cJSON *claims, char *argument)
{
    char *equals = strchr(argument, '=');
    if (!equals || equals == argument || equals == argument + (argument[0] == ':'))
        return false;
    bool raw = equals[-1] == ':';
    equals[raw ? -1 : 0] = 0;
    cJSON *value = raw                               ? cJSON_CreateRaw(equals + 1)
                   : strcmp(argument, "scopes") == 0 ? split(equals + 1)
                                                     : cJSON_CreateString(equals + 1);
    return cJSON_AddItemToObject(claims, argument, value);
}

static bool
add_time(cJSON *claims, const char *name, long long when)
{
    char text[32];
    if (cJSON_GetObjectItemCaseSensitive(claims, name))
        return true;
    (void)snprintf(text, sizeof(text), "%lld", when);
    return cJSON_AddItemToObject(claims, name, cJSON_CreateRaw(text));
}

/* The key as libjwt wants it: PEM with its NUL byte not counted, or the secret. */
static unsigned char *
read_key(const struct arguments *args, size_t *ret_n)
{
    const struct key_alg *alg = key_alg_find(args->alg, strlen(args->alg));
    struct key_set set = { 0 };
    struct key_why why = { "" };
    unsigned char *key = calloc(1, KEY_FILE_MAX);
    if (key && alg && alg->family == KEY_HMAC) {
        /* The daemon's reader, so that both sides mean the same bytes. */
        if (key_set_add_file(&set, args->key, alg, NULL, 0, &why))
            memcpy(key, set.v[0].secret, *ret_n = set.v[0].nsecret);
        else
            (void)fail(args->key, why.text);
        key_set_done(&set);
        return key;
    }
    FILE *f = key ? fopen(args->key, "re") : NULL;
    if (f)
        *ret_n = fread(key, 1, KEY_FILE_MAX - 1, f);
    else
        (void)fail(args->key, strerror(errno));
    if (f)
        (void)fclose(f);
    return key;
}

static int
encode(const struct arguments *args, const char *claims, const unsigned char *key, size_t nkey)
{
    jwt_t *jwt = NULL;
    jwt_alg_t alg = jwt_str_alg(args->alg);
    if (alg == JWT_ALG_INVAL || alg == JWT_ALG_NONE)
        return fail(args->alg, "cannot be signed with; HS, RS and ES algorithms can");
    if (jwt_new(&jwt) != 0)
        return fail("jwt", "no memory");
    int rc = 0;
    if (jwt_add_grants_json(jwt, claims) != 0)
        rc = fail("claims", "not JSON, or a claim twice");
    else if (args->kid && jwt_add_header(jwt, "kid", args->kid) != 0)
        rc = fail("kid", "not accepted");
    else if (jwt_set_alg(jwt, alg, key, (int)nkey) != 0)
        rc = fail(args->key, "no key for that algorithm");
    char *token = rc == 0 ? jwt_encode_str(jwt) : NULL;
    if (rc == 0 && !token)
        rc = fail(args->key, "cannot sign");
    if (token && (puts(token) == EOF || fflush(stdout) == EOF))
        rc = fail("standard output", strerror(errno));
    free(token);
    jwt_free(jwt);
    return rc;
}

static int
sign_claims(const struct arguments *args, const cJSON *claims)
{
    size_t nkey = 0;
    char *text = cJSON_PrintUnformatted(claims);
    unsigned char *key = read_key(args, &nkey);
    int rc = text && key && nkey > 0 ? encode(args, text, key, nkey) : 1;
    if (key)
        OPENSSL_cleanse(key, KEY_FILE_MAX);
    free(key);
    cJSON_free(text);
    return rc;
}

static int
sign(int argc, char **argv)
{
    struct arguments args = { 0 };
    char none = 0, *end = &none;
    if (!parse(argc, argv, &args) || !args.key)
        return usage();
    long long now = time(NULL), ttl = args.ttl ? strtoll(args.ttl, &end, 10) : 3600;
    cJSON *claims = cJSON_CreateObject();
    bool good = claims && !*end;
    for (int i = optind; good && i < argc; i++)
        good = add_claim(claims, argv[i]);
    good = good && add_time(claims, "iat", now) && add_time(claims, "exp", now + ttl);
    int rc = good ? sign_claims(&args, claims) : usage();
    cJSON_Delete(claims);
    return rc;
}

int
main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "keygen") == 0)
        return keygen(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "sign") == 0)
        return sign(argc - 1, argv + 1);
    return usage();
}
