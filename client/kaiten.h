/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* libkaiten: mint, verify, revoke and list tokens through kaitend's local socket.
 *
 * A handle is used by one thread at a time; different threads use different handles. The library
 * has no global state, starts no thread, changes no signal and raises none.
 *
 * Functions that return int return 0, or a number of enum kaiten_error; kaiten_error_code() and
 * kaiten_error_detail() then say more, until the next call on the handle. Parameters that begin
 * with ret_ are untouched on failure. What is returned as `struct x **` belongs to the caller, who
 * frees it with the matching x_free(); what is returned as `const struct x **` is borrowed from
 * the handle or the iterator until the next call on it. Strings are UTF-8 and end in NUL; an
 * absent one is NULL. Times are milliseconds since 1970-01-01T00:00:00Z. */
#ifndef KAITEN_H
#define KAITEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kaiten;

#define KAITEN_NO_TIME INT64_MIN /* absent: no expiry, not revoked */

enum {
    KAITEN_IN_FLIGHT_MAX = 64,     /* verifications sent and not yet received */
    KAITEN_VERIFY_MANY_MAX = 1024, /* tokens in one kaiten_token_verify_many() */
    KAITEN_CREDENTIAL_MAX = 8192   /* bytes of a token, to be checked or to say who asks */
};

/* Below 100: found on this side. From 100: the server's refusal, numbered like HTTP's statuses. */
enum kaiten_error {
    KAITEN_OK = 0,
    KAITEN_EUSAGE = 1,    /* the call itself is wrong; nothing was sent */
    KAITEN_EMEMORY = 2,
    KAITEN_ECONNECT = 3,  /* no server; the request was certainly not carried out */
    KAITEN_ETIMEOUT = 4,  /* no answer in time; the request may have been carried out */
    KAITEN_ELOST = 5,     /* the connection broke; the request may have been carried out */
    KAITEN_EPROTOCOL = 6, /* the server broke the protocol; the connection was closed */

    KAITEN_EVALIDATION = 400,
    KAITEN_EUNAUTHORIZED = 401,
    KAITEN_EFORBIDDEN = 403,
    KAITEN_ENOTFOUND = 404,
    KAITEN_EMETHOD = 405,
    KAITEN_EREQUESTTIMEOUT = 408,
    KAITEN_ECONFLICT = 409,
    KAITEN_ETOOLARGE = 413,
    KAITEN_EURITOOLONG = 414,
    KAITEN_EMEDIATYPE = 415,
    KAITEN_EEXPECTATION = 417,
    KAITEN_EUNPROCESSABLE = 422,
    KAITEN_ETOOMANYREQUESTS = 429,
    KAITEN_EHEADERS = 431,
    KAITEN_EINTERNAL = 500,
    KAITEN_ENOTIMPLEMENTED = 501,
    KAITEN_EUNAVAILABLE = 503,
    KAITEN_EVERSION = 505
};

/* --- the handle --------------------------------------------------------------------------- */

/* path: of the socket, "unix:" and "unix://" before it allowed; copied. NULL: $KAITEN_SOCKET, else
 * $XDG_RUNTIME_DIR/kaitend/rpc.sock when there is one, else /run/kaitend/rpc.sock, looked up at
 * each connect. Connects with the first call, and again after the connection was lost. NULL: no
 * memory. */
struct kaiten *kaiten_new(const char *path);

/* Closes the connection and wipes what the handle holds; NULL allowed. */
void kaiten_free(struct kaiten *);

/* Closes the connection; the next call opens another. Verifications in flight are forgotten.
 * A child must call it (or kaiten_free) after fork() and before anything else on the handle. */
void kaiten_close(struct kaiten *);

/* How long one call may take in all, connecting included; 5000 unless set. 0: no limit. */
void kaiten_set_timeout(struct kaiten *, unsigned milliseconds);

/* From now on each request is made with this token (n bytes, 1 to KAITEN_CREDENTIAL_MAX, copied)
 * instead of the identity of this process. NULL: the process again. KAITEN_EUSAGE,
 * KAITEN_EMEMORY. */
int kaiten_set_token(struct kaiten *, const char *token, size_t n);

/* The next kaiten_account_create(), kaiten_token_create(), _rotate(), _revoke_all() or
 * kaiten_call_json() carries this key: 1 to 255 visible ASCII characters, copied. The same call
 * with the same key gets the same answer once more, a secret included, for ten minutes: so a call
 * that ended in KAITEN_ETIMEOUT, KAITEN_ELOST or KAITEN_EUNAVAILABLE may be made again with the
 * key that it had, which is set anew. NULL: no key. KAITEN_EUSAGE. */
int kaiten_set_idempotency_key(struct kaiten *, const char *key);

/* Of the last failed call: "Token.NotFound", or "Client.Timeout" and the like for the numbers
 * below 100. "" when there was no failure. Borrowed until the next call. */
const char *kaiten_error_code(const struct kaiten *);

/* Of the last failed call: one sentence for people, "" when there is none. Borrowed as above. */
const char *kaiten_error_detail(const struct kaiten *);

/* Of the last failed call: the server's whole problem (RFC 9457) as JSON text, with the members
 * "errors" and "errorId" when it gave them. NULL when the failure was not the server's. */
const char *kaiten_error_problem(const struct kaiten *);

/* Of the last failed call: after how many seconds a caller who asked too often
 * (KAITEN_ETOOMANYREQUESTS) may ask again. 0: the server has not said. */
unsigned kaiten_error_retry_after(const struct kaiten *);

/* The name of a number, such as "not found"; never NULL, lives forever. Any thread. */
const char *kaiten_strerror(int error);

/* The library's version, such as "0.1.0". Any thread. */
const char *kaiten_version(void);

/* --- any operation ------------------------------------------------------------------------ */

/* Calls method ("token.create") with its arguments as a JSON object, NULL for none: the members
 * of the HTTP body, of the query and of the path. *ret_json is the answer as JSON text, "null" for
 * an operation that answers nothing; it may hold a secret. */
int kaiten_call_json(struct kaiten *, const char *method, const char *args, char **ret_json);

/* Wipes and frees; NULL allowed. */
void kaiten_json_free(char *json);

/* Whether a server answers. */
int kaiten_ping(struct kaiten *);

/* --- what answers look like --------------------------------------------------------------- */

/* Members are only ever appended to the structs below; never allocate them yourself. */

struct kaiten_user {
    const char *id; /* NULL: there is no such user, as in revoked_by of a live token */
    const char *name;
};

struct kaiten_token {
    const char *id, *name, *slug;
    const char *const *scopes; /* nscopes of them, then NULL */
    size_t nscopes;
    const char *service_account_id;
    int64_t expires_at, created_at, revoked_at; /* or KAITEN_NO_TIME */
    struct kaiten_user created_by, revoked_by;
    const char *secret; /* by kaiten_token_create and _rotate only, else NULL; in locked memory */
    size_t secret_len;
    int64_t last_used_at; /* to the minute; or KAITEN_NO_TIME */
};

struct kaiten_account {
    const char *id, *name, *slug, *external_id;
    struct kaiten_user created_by;
    int64_t created_at;
    const struct kaiten_token *const *tokens; /* newest first, revoked ones included */
    size_t ntokens;
    bool tokens_truncated; /* there are more: kaiten_token_list */
};

struct kaiten_account_page {
    const struct kaiten_account *const *items;
    size_t nitems;
    const char *next_cursor; /* NULL on the last page */
};

struct kaiten_token_page {
    const struct kaiten_token *const *items;
    size_t nitems;
    const char *next_cursor; /* NULL on the last page */
};

struct kaiten_verification {
    bool valid;
    const char *code; /* when not valid: "malformed", "unknown", "revoked", "expired", "scope" */
    const char *token_id, *organization, *service_account;
    const char *const *scopes; /* nscopes of them, then NULL */
    size_t nscopes;
    int64_t expires_at; /* or KAITEN_NO_TIME */
};

struct kaiten_caller {
    const char *subject, *name, *organization, *organization_id, *id, *kind;
    const char *const *scopes; /* nscopes of them, then NULL */
    size_t nscopes;
    int64_t expires_at; /* or KAITEN_NO_TIME */
};

/* Each wipes and frees; NULL allowed. */
void kaiten_token_free(struct kaiten_token *);
void kaiten_token_page_free(struct kaiten_token_page *);
void kaiten_account_free(struct kaiten_account *);
void kaiten_account_page_free(struct kaiten_account_page *);
void kaiten_caller_free(struct kaiten_caller *);

/* Who this process, or the token of kaiten_set_token, is to the server. */
int kaiten_whoami(struct kaiten *, struct kaiten_caller **ret_caller);

/* --- service accounts --------------------------------------------------------------------- */

/* slug NULL: derived from the name. */
int kaiten_account_create(struct kaiten *, const char *name, const char *slug,
                          struct kaiten_account **ret_account);
int kaiten_account_get(struct kaiten *, const char *slug, struct kaiten_account **ret_account);
int kaiten_account_rename(struct kaiten *, const char *slug, const char *name);

/* Its tokens are revoked in the same moment. */
int kaiten_account_delete(struct kaiten *, const char *slug);

/* One page. cursor: next_cursor of the page before, NULL for the first. limit: items, 1 to 200;
 * 0 for the server's default. */
int kaiten_account_list(struct kaiten *, const char *cursor, unsigned limit,
                        struct kaiten_account_page **ret_page);

/* --- tokens ------------------------------------------------------------------------------- */

/* What to mint; begin with KAITEN_TOKEN_REQUEST_INIT and set members by name. */
struct kaiten_token_request {
    size_t size; /* by KAITEN_TOKEN_REQUEST_INIT */
    const char *account; /* slug of the service account */
    const char *name;
    const char *slug; /* NULL: derived from the name */
    const char *const *scopes;
    size_t nscopes; /* 0: a token that may do nothing */
    bool all_scopes; /* all that the caller may, instead of scopes */
    int64_t expires_at; /* or KAITEN_NO_TIME */
};

#define KAITEN_TOKEN_REQUEST_INIT \
    { sizeof(struct kaiten_token_request), NULL, NULL, NULL, NULL, 0, false, KAITEN_NO_TIME }

/* The secret is in (*ret_token)->secret, now and never again. */
int kaiten_token_create(struct kaiten *, const struct kaiten_token_request *,
                        struct kaiten_token **ret_token);
int kaiten_token_get(struct kaiten *, const char *account, const char *slug,
                     struct kaiten_token **ret_token);

/* A new secret for the same token; the old one works for grace_seconds more (0 to 30 days). */
int kaiten_token_rotate(struct kaiten *, const char *account, const char *slug,
                        unsigned grace_seconds, struct kaiten_token **ret_token);

/* For good. KAITEN_ENOTFOUND when there is no such token or it is revoked already. */
int kaiten_token_revoke(struct kaiten *, const char *account, const char *slug);

/* Revokes every token that the account has now, however many they are; later ones are good. After
 * KAITEN_ELOST it may have happened or not; doing it again also ends what was minted since. */
int kaiten_token_revoke_all(struct kaiten *, const char *account);

/* One page, parameters as of kaiten_account_list. */
int kaiten_token_list(struct kaiten *, const char *account, const char *cursor, unsigned limit,
                      struct kaiten_token_page **ret_page);

/* --- walking lists ------------------------------------------------------------------------ */

/* An iterator fetches pages as it needs them; its handle must outlive it and may be used for other
 * calls meanwhile. NULL: no memory. next gives the next item, borrowed until the next call on the
 * iterator, or NULL at the end. free allows NULL. */
struct kaiten_account_iter;
struct kaiten_account_iter *kaiten_account_iter_new(struct kaiten *);
int kaiten_account_iter_next(struct kaiten_account_iter *,
                             const struct kaiten_account **ret_account);
void kaiten_account_iter_free(struct kaiten_account_iter *);

struct kaiten_token_iter;
struct kaiten_token_iter *kaiten_token_iter_new(struct kaiten *, const char *account);
int kaiten_token_iter_next(struct kaiten_token_iter *, const struct kaiten_token **ret_token);
void kaiten_token_iter_free(struct kaiten_token_iter *);

/* --- verification ------------------------------------------------------------------------- */

/* Is this token (n bytes, not NUL-terminated) good, and has it the scope (NULL: any)? A token that
 * is not good is an answer: 0 is returned, and (*ret_v)->valid is false. */
int kaiten_token_verify(struct kaiten *, const char *token, size_t n, const char *scope,
                        const struct kaiten_verification **ret_v);

struct kaiten_text {
    const char *p;
    size_t n;
};

/* Many at once, 0 to KAITEN_VERIFY_MANY_MAX; the answers are in the order of the tokens. All of
 * them together must fit in one message of 64 KiB. */
int kaiten_token_verify_many(struct kaiten *, const struct kaiten_text *tokens, size_t n,
                             const char *scope,
                             const struct kaiten_verification *const **ret_v);

/* Pipelined: up to KAITEN_IN_FLIGHT_MAX verifications on the way at once. tag is yours and comes
 * back with the answer. The request leaves with the next kaiten_verify_recv() at the latest.
 * KAITEN_EUSAGE when too many are in flight. */
int kaiten_verify_send(struct kaiten *, uint64_t tag, const char *token, size_t n,
                       const char *scope);

/* Any one of the answers, in any order. 0: *ret_tag and *ret_v are set. KAITEN_EUSAGE: nothing is
 * in flight. KAITEN_ETIMEOUT: none has come yet; they stay in flight, call again or kaiten_close().
 * Any other number: the verification named by *ret_tag (which is set) failed so; when the
 * connection was lost, every one in flight is reported like that, and may be sent again. */
int kaiten_verify_recv(struct kaiten *, uint64_t *ret_tag,
                       const struct kaiten_verification **ret_v);

/* How many verifications wait for kaiten_verify_recv(). */
size_t kaiten_in_flight(const struct kaiten *);

#ifdef __cplusplus
}
#endif

#endif
