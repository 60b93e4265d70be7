/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* libkaiten: mint, verify, revoke and list tokens through kaitend's local socket.
 *
 * Threads: one thread at a time uses a handle; different threads use different handles. Functions
 * that take no handle may be called by any thread. The library has no global state, starts no
 * thread, changes no signal and raises none.
 *
 * Errors: functions that return int return 0, or a number of enum kaiten_error, and then
 * kaiten_error_code(), _detail() and the like say more, until the next call on the handle. What
 * begins with ret_ is untouched on failure, unless its function says otherwise.
 *
 * Ownership: arguments are copied or used up before a function returns. What comes back as
 * `struct x **` is yours; free it with x_free(), also after the handle is gone. What comes back as
 * `const struct x **` is borrowed from the handle or the iterator until the next call on it.
 *
 * Text is UTF-8 and ends in NUL; an absent one is NULL. Times are milliseconds since
 * 1970-01-01T00:00:00Z. Never allocate the structs that come back yourself, and do not depend on
 * their size: members are appended to them. */
#ifndef KAITEN_H
#define KAITEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kaiten;

#define KAITEN_NO_TIME INT64_MIN /* absent: no expiry, not revoked, never used */

enum {
    KAITEN_IN_FLIGHT_MAX = 64,     /* verifications sent and not yet received */
    KAITEN_VERIFY_MANY_MAX = 1024, /* tokens in one kaiten_token_verify_many() */
    KAITEN_CREDENTIAL_MAX = 8192   /* bytes of a token, to be checked or to say who asks */
};

/* Below 100: found on this side. From 100: the server's refusal, numbered like HTTP's statuses. */
enum kaiten_error {
    KAITEN_OK = 0,
    KAITEN_EUSAGE = 1,    /* the call itself is wrong; nothing was sent */
    KAITEN_EMEMORY = 2,   /* no memory, maybe only for the answer: it may have been carried out */
    KAITEN_ECONNECT = 3,  /* no server; the request was certainly not carried out */
    KAITEN_ETIMEOUT = 4,  /* no answer in time; the request may have been carried out */
    KAITEN_ELOST = 5,     /* the connection broke; the request may have been carried out */
    KAITEN_EPROTOCOL = 6, /* the server broke the protocol; the connection was closed, and the
                           * request may have been carried out */

    KAITEN_EVALIDATION = 400,
    KAITEN_EUNAUTHORIZED = 401, /* the server does not know the caller */
    KAITEN_EFORBIDDEN = 403,    /* the caller may not do this */
    KAITEN_ENOTFOUND = 404,     /* there is no such account, token or method */
    KAITEN_EMETHOD = 405,
    KAITEN_EREQUESTTIMEOUT = 408,
    KAITEN_ECONFLICT = 409, /* it is taken: a slug, or the name of a token */
    KAITEN_ETOOLARGE = 413,
    KAITEN_EURITOOLONG = 414,
    KAITEN_EMEDIATYPE = 415,
    KAITEN_EEXPECTATION = 417,
    KAITEN_EUNPROCESSABLE = 422,   /* an argument is refused: kaiten_error_problem() says which */
    KAITEN_ETOOMANYREQUESTS = 429, /* kaiten_error_retry_after() */
    KAITEN_EHEADERS = 431,
    KAITEN_EINTERNAL = 500,
    KAITEN_ENOTIMPLEMENTED = 501,
    KAITEN_EUNAVAILABLE = 503, /* not now: try again. With the code "Storage.Unknown" the request
                                * may have been carried out */
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

/* How long one call may take in all, connecting included, in milliseconds; 5000 unless set. 0: no
 * limit. */
void kaiten_set_timeout(struct kaiten *, unsigned milliseconds);

/* From now on each request is made with this token (n bytes, 1 to KAITEN_CREDENTIAL_MAX, copied)
 * instead of the identity of this process. NULL: the process again. KAITEN_EUSAGE,
 * KAITEN_EMEMORY. */
int kaiten_set_token(struct kaiten *, const char *token, size_t n);

/* The next call that changes something carries this key: 1 to 255 visible ASCII characters,
 * copied; NULL: none. If it makes something (kaiten_account_create, kaiten_token_create, _rotate,
 * _revoke_all, and these by kaiten_call_json), the same call with the same key gets the same answer
 * once more, a secret included, for ten minutes: after KAITEN_ETIMEOUT, KAITEN_ELOST or
 * KAITEN_EUNAVAILABLE set the key again, and call again. KAITEN_EUSAGE. */
int kaiten_set_idempotency_key(struct kaiten *, const char *key);

/* Of the last failed call: "Token.NotFound", or "Client.Timeout" and the like for the numbers
 * below 100. "" when there was no failure. Borrowed until the next call. */
const char *kaiten_error_code(const struct kaiten *);

/* Of the last failed call: one sentence for people, "" when there is none. Borrowed as above. */
const char *kaiten_error_detail(const struct kaiten *);

/* Of the last failed call: the server's whole problem (RFC 9457) as JSON text, with the members
 * "errors" and "errorId" when it gave them. NULL when the failure was not the server's. Borrowed as
 * above. */
const char *kaiten_error_problem(const struct kaiten *);

/* Of the last failed call: after how many seconds a caller who asked too often
 * (KAITEN_ETOOMANYREQUESTS) may ask again. 0: the server has not said. */
unsigned kaiten_error_retry_after(const struct kaiten *);

/* The name of a number, such as "no answer in time"; never NULL, lives forever. */
const char *kaiten_strerror(int error);

/* The library's version, such as "0.1.0"; lives forever. */
const char *kaiten_version(void);

/* --- any operation ------------------------------------------------------------------------ */

/* Calls method ("token.create") with its arguments as a JSON object, NULL for none: the members
 * of the HTTP body, of the query and of the path. *ret_json is the answer as JSON text, "null" for
 * an operation that answers nothing; it may hold a secret. Yours: kaiten_json_free(). KAITEN_EUSAGE
 * when the arguments are no JSON object, or more than 64 KiB. */
int kaiten_call_json(struct kaiten *, const char *method, const char *args, char **ret_json);

/* Wipes and frees; NULL allowed. */
void kaiten_json_free(char *json);

/* 0: a server answers. */
int kaiten_ping(struct kaiten *);

/* --- what answers look like --------------------------------------------------------------- */

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
    const struct kaiten_account *const *items; /* newest first */
    size_t nitems;
    const char *next_cursor; /* NULL on the last page */
};

struct kaiten_token_page {
    const struct kaiten_token *const *items; /* newest first, revoked ones included */
    size_t nitems;
    const char *next_cursor; /* NULL on the last page */
};

struct kaiten_verification {
    bool valid;
    const char *code; /* when not valid: "malformed", "unknown", "revoked", "expired", "scope" */
    const char *token_id, *organization, *service_account; /* NULL when the server does not say */
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

/* name: 1 to 1024 characters. slug: 2 to 100 of a-z, 0-9 and "-", with no "-" at an end; NULL: made
 * from the name and a few random characters. KAITEN_ECONFLICT: the slug is taken. */
int kaiten_account_create(struct kaiten *, const char *name, const char *slug,
                          struct kaiten_account **ret_account);

/* KAITEN_ENOTFOUND: there is none, as of every function below that takes the slug of an account or
 * a token, but the lists: an account that does not exist has no tokens. */
int kaiten_account_get(struct kaiten *, const char *slug, struct kaiten_account **ret_account);

/* Its slug stays. */
int kaiten_account_rename(struct kaiten *, const char *slug, const char *name);

/* For good; its tokens are revoked in the same moment. */
int kaiten_account_delete(struct kaiten *, const char *slug);

/* One page. cursor: next_cursor of the page before, NULL for the first. limit: items, 1 to 200;
 * 0 for the server's default of 50. */
int kaiten_account_list(struct kaiten *, const char *cursor, unsigned limit,
                        struct kaiten_account_page **ret_page);

/* --- tokens ------------------------------------------------------------------------------- */

/* What to mint; begin with KAITEN_TOKEN_REQUEST_INIT and set members by name. */
struct kaiten_token_request {
    size_t size; /* by KAITEN_TOKEN_REQUEST_INIT */
    const char *account; /* slug of the service account */
    const char *name; /* at most 1024 characters */
    const char *slug; /* as of kaiten_account_create */
    const char *const *scopes; /* such as "read:releases" */
    size_t nscopes; /* 0: a token that may do nothing */
    bool all_scopes; /* all that the caller may, instead of scopes */
    int64_t expires_at; /* or KAITEN_NO_TIME */
};

#define KAITEN_TOKEN_REQUEST_INIT \
    { sizeof(struct kaiten_token_request), NULL, NULL, NULL, NULL, 0, false, KAITEN_NO_TIME }

/* The secret is in (*ret_token)->secret, now and never again. KAITEN_ECONFLICT: the slug or the
 * name is taken. KAITEN_EFORBIDDEN also for scopes that the caller does not have. */
int kaiten_token_create(struct kaiten *, const struct kaiten_token_request *,
                        struct kaiten_token **ret_token);
int kaiten_token_get(struct kaiten *, const char *account, const char *slug,
                     struct kaiten_token **ret_token);

/* A new secret for the same token; the old one works for grace_seconds more, 0 to 2592000 (30
 * days). The secret is in (*ret_token)->secret, now and never again. */
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

/* An iterator fetches pages as it needs them. Its handle must outlive it, may be used for other
 * calls meanwhile, and has the errors of its calls. new returns NULL when there is no memory;
 * account is copied. next gives the next item, borrowed until the next call on the iterator, or
 * NULL at the end; after a failure it may be called again and goes on where it was. free allows
 * NULL. */
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

/* Is this token good, and has it the scope (NULL: any)? token: n bytes, 0 to KAITEN_CREDENTIAL_MAX,
 * not NUL-terminated. A token that is not good is an answer: 0 is returned, and (*ret_v)->valid is
 * false. Any other number: nothing is known of the token; do not let it pass. */
int kaiten_token_verify(struct kaiten *, const char *token, size_t n, const char *scope,
                        const struct kaiten_verification **ret_v);

struct kaiten_text {
    const char *p;
    size_t n;
};

/* Many at once, 0 to KAITEN_VERIFY_MANY_MAX; (*ret_v)[i] is the answer about tokens[i]. All of
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
