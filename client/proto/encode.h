/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* From a typed struct to bytes, by the field table. */
#ifndef KT_ENCODE_H
#define KT_ENCODE_H

#include "client/proto/buf.h"
#include "client/proto/field.h"

/* Appends the struct at p as a JSON object, members in table order, absent ones left out. */
void kt_encode_json(struct kt_buf *, const struct kt_shape *shape, const void *p);

/* The same as a MessagePack map. */
void kt_encode_pack(struct kt_buf *, const struct kt_shape *shape, const void *p);

/* True when the shape has a secret among its fields: what was encoded must be wiped once sent. */
bool kt_shape_reveals(const struct kt_shape *shape);

#endif
