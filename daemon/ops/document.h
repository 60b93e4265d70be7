/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the daemon publishes of its interface: an OpenAPI document, and a page to read. Both are
 * printed once from the operation table and never change afterwards. */
#ifndef DOCUMENT_H
#define DOCUMENT_H

#include "client/proto/buf.h"
#include "daemon/model/scope.h"

enum { DOCUMENT_MAX = 1024 * 1024 }; /* bytes of one of them */

struct documents;

/* modules: what tokens can have scopes for; not needed afterwards. NULL: no memory. Any thread. */
struct documents *documents_new(const struct scope_modules *modules);
void documents_free(struct documents *); /* NULL allowed */

/* The printers. Each appends the whole text; what fails is the buffer's (buf.h). Any thread. */

/* OpenAPI 3.1 (daemon/ops/openapi.c). scopes: those that people may choose from. */
void openapi_print(struct kt_buf *, const struct kt_strlist *scopes);

/* HTML, and its style sheet (daemon/ops/docs.c). up: what links begin with, "" or "../". */
void docs_print(struct kt_buf *, const char *up);
extern const char docs_style[];

#endif
