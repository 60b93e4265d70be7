/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The text of a token: ksh_, 26 random base62 characters, and 6 base62 characters of the CRC-32 of
 * all before them, so that a scanner can tell a real one from a lookalike offline. */
#ifndef TOKENTEXT_H
#define TOKENTEXT_H

#include "client/proto/secret.h"

enum {
    TOKEN_TEXT_PREFIX = 4,  /* ksh_ */
    TOKEN_TEXT_RANDOM = 26, /* 154 bits */
    TOKEN_TEXT_CHECK = 6,
    TOKEN_TEXT_LEN = TOKEN_TEXT_PREFIX + TOKEN_TEXT_RANDOM + TOKEN_TEXT_CHECK
};

/* A fresh token; the caller owns it. random fills n bytes; NULL: the system's generator. NULL: the
 * pool of secrets is full. Any thread. */
struct kt_secret *token_text_make(void (*random)(void *buf, size_t n));

/* Prefix, length, alphabet and check characters. Says nothing about whether the token exists. */
bool token_text_check(struct kt_secret_view);

/* The same without the check characters: enough where a token that exists is told by its digest. */
bool token_text_has_form(struct kt_secret_view);

#endif
