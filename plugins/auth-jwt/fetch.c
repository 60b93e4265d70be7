/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/fetch.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

enum { URL_MAX_BYTES = 2048 };

/* --- addresses ---------------------------------------------------------------------------- */

static bool
is_loopback(const char *host)
{
    struct in_addr v4;
    if (strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

static bool
parts_fit(CURLU *u, const char *url, struct key_why *ret_why)
{
    char *scheme = NULL, *host = NULL, *fragment = NULL;
    bool good = curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    if (!good)
        key_refuse(ret_why, "not an address: https://HOST/PATH, without a user");
    else if (curl_url_get(u, CURLUPART_FRAGMENT, &fragment, 0) == CURLUE_OK)
        good = key_refuse(ret_why, "an address with a fragment (#)");
    else if (strcmp(scheme, "https") != 0)
        good = (strcmp(scheme, "http") == 0 && is_loopback(host)) ||
               key_refuse(ret_why, "keys come over https; http only from 127.0.0.1 or [::1]");
    curl_free(scheme);
    curl_free(host);
    curl_free(fragment);
    return good;
}

bool
fetch_url_is_allowed(const char *url, struct key_why *ret_why)
{
    if (strlen(url) > URL_MAX_BYTES)
        return key_refuse(ret_why, "an address has at most %d bytes", URL_MAX_BYTES);
    CURLU *u = curl_url();
    bool good = u ? parts_fit(u, url, ret_why) : key_refuse(ret_why, "no memory");
    curl_url_cleanup(u);
    return good;
}

/* --- getting ------------------------------------------------------------------------------ */

bool
fetch_init(void)
{
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

void
fetch_done(void)
{
    curl_global_cleanup();
}

/* What has come so far, in a buffer of KEY_FILE_MAX + 1 bytes. */
struct body {
    struct keyfile file;
    bool too_long;
};

static size_t
on_bytes(char *p, size_t size, size_t n, void *ctx)
{
    struct body *body = ctx;
    n *= size;
    body->too_long = n > KEY_FILE_MAX - body->file.n;
    if (body->too_long)
        return 0;
    memcpy(body->file.p + body->file.n, p, n);
    body->file.n += n;
    return n;
}

static int
on_progress(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
    const struct fetch *f = ctx;
    (void)total;
    (void)now;
    (void)up_total;
    (void)up_now;
    return f->stop && atomic_load(f->stop);
}

#define SET(option, value) (curl_easy_setopt(curl, (option), (value)) == CURLE_OK)

/* A name server that does not answer would hold up the end of the daemon. */
#if LIBCURL_VERSION_NUM >= 0x075700
static bool
leave_resolver(CURL *curl)
{
    return SET(CURLOPT_QUICK_EXIT, 1L);
}
#else
static bool
leave_resolver(CURL *curl)
{
    (void)curl;
    return true;
}
#endif

static bool
set_up(CURL *curl, const struct fetch *f, struct body *body)
{
    /* A proxy of the environment would turn loopback into somebody else's network. */
    bool plain = strncasecmp(f->url, "http:", 5) == 0;
    return SET(CURLOPT_URL, f->url) && SET(CURLOPT_FOLLOWLOCATION, 0L) &&
           SET(CURLOPT_SSL_VERIFYPEER, 1L) && SET(CURLOPT_SSL_VERIFYHOST, 2L) &&
           SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
           (!f->ca || (SET(CURLOPT_CAINFO, f->ca) && SET(CURLOPT_CAPATH, NULL))) &&
           (!plain || SET(CURLOPT_PROXY, "")) && SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) &&
           SET(CURLOPT_NOSIGNAL, 1L) && SET(CURLOPT_TIMEOUT_MS, (long)f->timeout_ms) &&
           SET(CURLOPT_MAXFILESIZE, (long)KEY_FILE_MAX) && SET(CURLOPT_WRITEFUNCTION, on_bytes) &&
           SET(CURLOPT_WRITEDATA, body) && SET(CURLOPT_NOPROGRESS, 0L) &&
           SET(CURLOPT_XFERINFOFUNCTION, on_progress) && SET(CURLOPT_XFERINFODATA, f) &&
           leave_resolver(curl) && SET(CURLOPT_USERAGENT, "kaitend/" PACKAGE_VERSION);
}

static bool
perform(CURL *curl, const struct fetch *f, struct body *body, struct key_why *ret_why)
{
    char text[CURL_ERROR_SIZE] = "";
    long status = 0;
    if (!set_up(curl, f, body) || !SET(CURLOPT_ERRORBUFFER, text))
        return key_refuse(ret_why, "libcurl cannot be set up");
    CURLcode rc = curl_easy_perform(curl);
    (void)SET(CURLOPT_ERRORBUFFER, NULL);
    if (body->too_long || rc == CURLE_FILESIZE_EXCEEDED)
        return key_refuse(ret_why, "more than %d bytes", KEY_FILE_MAX);
    if (rc != CURLE_OK)
        return key_refuse(ret_why, "%s", text[0] ? text : curl_easy_strerror(rc));
    if (curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status != 200)
        return key_refuse(ret_why, "status %ld; only 200 will do", status);
    return body->file.n > 0 || key_refuse(ret_why, "an empty answer");
}

bool
fetch_get(const struct fetch *f, struct keyfile *ret, struct key_why *ret_why)
{
    struct body body = { .file.p = calloc(1, KEY_FILE_MAX + 1) };
    CURL *curl = curl_easy_init();
    bool good = body.file.p && curl ? perform(curl, f, &body, ret_why)
                                    : key_refuse(ret_why, "no memory");
    curl_easy_cleanup(curl);
    if (good)
        *ret = body.file;
    else
        keyfile_done(&body.file);
    return good;
}
