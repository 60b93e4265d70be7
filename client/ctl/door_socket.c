/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/door.h"

#include "client/proto/json.h"

#include <stdlib.h>

enum { ARGUMENTS_MAX = 1024 * 1024 };

struct socket_door {
    struct door pub;
    struct kaiten *k;
};

static int
refused(struct answer *a, const struct kaiten *k, int error)
{
    const char *problem = kaiten_error_problem(k);
    if (problem)
        (void)answer_read(a, kt_str(problem), &a->problem);
    return answer_fail(a, error, kaiten_error_code(k), "%s", kaiten_error_detail(k));
}

static int
socket_call(struct door *door, const char *method, const struct kt_value *args, struct answer *a)
{
    struct kaiten *k = ((struct socket_door *)door)->k;
    struct kt_buf text;
    kt_buf_init(&text, ARGUMENTS_MAX);
    kt_json_put_value(&text, args);
    kt_buf_putc(&text, '\0');
    char *json;
    int error = text.failed
                    ? answer_fail(a, KAITEN_EUSAGE, "Client.Usage", "the arguments are too long")
                    : kaiten_call_json(k, method, text.p, &json);
    if (error && !text.failed)
        refused(a, k, error);
    kt_buf_done(&text);
    if (error)
        return error;
    if (!answer_read(a, kt_str(json), &a->value))
        error = answer_fail(a, KAITEN_EPROTOCOL, "Client.Protocol", "the answer is too large");
    kaiten_json_free(json);
    return error;
}

static void
socket_close(struct door *door)
{
    struct socket_door *d = (struct socket_door *)door;
    kaiten_free(d->k);
    free(d);
}

struct door *
door_socket(const char *path, unsigned timeout_ms, const struct secret_in *credential)
{
    struct socket_door *d = calloc(1, sizeof *d);
    struct kaiten *k = kaiten_new(path);
    if (!d || !k ||
        (credential->n && kaiten_set_token(k, credential->p, credential->n) != 0)) {
        kaiten_free(k);
        free(d);
        return NULL;
    }
    kaiten_set_timeout(k, timeout_ms);
    d->pub = (struct door){ false, socket_call, socket_close };
    d->k = k;
    return &d->pub;
}
