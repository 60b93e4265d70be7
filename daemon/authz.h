/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Principal and operation -> yes or no. */
#ifndef AUTHZ_H
#define AUTHZ_H

#include "daemon/request.h"

/* The step: the operation's scope must be among the principal's, by the rules of scope.h. An
 * operation without a scope is for every caller that is known. */
int authz_check(struct request *);

#endif
