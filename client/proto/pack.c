/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/pack.h"
#include "client/proto/bigend.h"
#include "client/proto/utf8.h"

#include <string.h>

const struct kt_pack_limits kt_pack_request_limits = {
    .message = 64 * 1024,
    .depth = 8,
    .elements = 4096,
    .string = 64 * 1024,
};

enum kind { K_NIL, K_BOOL, K_INT, K_UINT, K_FLOAT, K_STR, K_BIN, K_EXT, K_ARRAY, K_MAP, K_BAD };

/* The first byte and its immediate number, before the body. */
struct token {
    enum kind kind;
    unsigned char first;
    size_t head;     /* bytes: the first one, the immediate number, the type of an ext */
    uint64_t number; /* a value, a length or a count */
};

/* Everything the scan and the reader have in common: how far, and what was announced. The message
 * itself is not in elements, nor is it ever pending. */
struct cursor {
    const char *p;
    size_t pos, n;
    size_t elements, pending;
    const struct kt_pack_limits *limits;
    const char *why;
};

/* First bytes 0xc0 to 0xdf; the size of the immediate number follows the kind. */
static const struct {
    unsigned char kind, size;
} shapes[32] = {
    { K_NIL, 0 },  { K_BAD, 0 },  { K_BOOL, 0 }, { K_BOOL, 0 }, { K_BIN, 1 },   { K_BIN, 2 },
    { K_BIN, 4 },  { K_EXT, 1 },  { K_EXT, 2 },  { K_EXT, 4 },  { K_FLOAT, 4 }, { K_FLOAT, 8 },
    { K_UINT, 1 }, { K_UINT, 2 }, { K_UINT, 4 }, { K_UINT, 8 }, { K_INT, 1 },   { K_INT, 2 },
    { K_INT, 4 },  { K_INT, 8 },  { K_EXT, 0 },  { K_EXT, 0 },  { K_EXT, 0 },   { K_EXT, 0 },
    { K_EXT, 0 },  { K_STR, 1 },  { K_STR, 2 },  { K_STR, 4 },  { K_ARRAY, 2 }, { K_ARRAY, 4 },
    { K_MAP, 2 },  { K_MAP, 4 },
};

static enum kt_frame
refuse(struct cursor *at, const char *why)
{
    at->why = why;
    return KT_FRAME_BAD;
}

/* Whether size bytes of a value are there. All that is pending needs at least a byte each, so what
 * cannot fit is known at once. */
static inline enum kt_frame
need(struct cursor *at, size_t size)
{
    size_t left = at->limits->message - at->pos;
    if (at->pending > left || size > left - at->pending)
        return refuse(at, "the message is longer than its limit");
    return size <= at->n - at->pos ? KT_FRAME_DONE : KT_FRAME_MORE;
}

static inline enum kt_frame
token_long(struct cursor *at, struct token *token)
{
    size_t size = shapes[token->first - 0xC0].size;
    token->kind = (enum kind)shapes[token->first - 0xC0].kind;
    if (token->kind == K_BAD)
        return refuse(at, "the byte c1 begins no value");
    token->head = 1 + size;
    enum kt_frame frame = need(at, token->head);
    if (frame != KT_FRAME_DONE)
        return frame;
    token->number = kt_get_be(at->p + at->pos + 1, size);
    if (token->first >= 0xD4 && token->first <= 0xD8)
        token->number = UINT64_C(1) << (token->first - 0xD4);
    return KT_FRAME_DONE;
}

/* What the value at the cursor is; the cursor does not move. */
static inline enum kt_frame
token_read(struct cursor *at, struct token *token)
{
    enum kt_frame frame = need(at, 1);
    if (frame != KT_FRAME_DONE)
        return frame;
    unsigned char first = (unsigned char)at->p[at->pos];
    *token = (struct token){ .first = first, .head = 1 };
    if (first >= 0xC0 && first < 0xE0)
        return token_long(at, token);
    if (first < 0x80 || first >= 0xE0) {
        token->kind = K_INT;
        token->number = (uint64_t)(int64_t)(int8_t)first;
        return KT_FRAME_DONE;
    }
    token->kind = first < 0x90 ? K_MAP : first < 0xA0 ? K_ARRAY : K_STR;
    token->number = first & (first < 0xA0 ? 0x0FU : 0x1FU);
    return KT_FRAME_DONE;
}

/* Refuses a str, bin or ext for its header, then asks for its body. */
static inline enum kt_frame
body_need(struct cursor *at, struct token *token)
{
    if (token->kind != K_EXT) {
        if (token->number > at->limits->string)
            return refuse(at, "a string is longer than its limit");
        return need(at, token->head + (size_t)token->number);
    }
    if (token->number != 4 && token->number != 8 && token->number != 12)
        return refuse(at, "an ext is not a timestamp");
    enum kt_frame frame = need(at, ++token->head);
    if (frame != KT_FRAME_DONE)
        return frame;
    if ((signed char)at->p[at->pos + token->head - 1] != -1)
        return refuse(at, "an ext is not a timestamp");
    return need(at, token->head + (size_t)token->number);
}

/* Announces the values of an array or map and passes its header. */
static inline enum kt_frame
container_enter(struct cursor *at, const struct token *token, size_t depth)
{
    uint64_t values = token->kind == K_MAP ? token->number * 2 : token->number;
    if (depth > at->limits->depth || depth > KT_PACK_DEPTH_MAX)
        return refuse(at, "arrays and maps are nested too deeply");
    if (at->limits->elements == 0 || values > at->limits->elements - 1 - at->elements)
        return refuse(at, "the message has too many elements");
    size_t left = at->limits->message - at->pos - token->head;
    if (at->pending > left || values > left - at->pending)
        return refuse(at, "the message is longer than its limit");
    at->elements += (size_t)values;
    at->pending += (size_t)values;
    at->pos += token->head;
    return KT_FRAME_DONE;
}

/* --- the scan ----------------------------------------------------------------------------- */

/* Passes one value, or the header of an array or map. */
static enum kt_frame
scan_step(struct cursor *at, struct kt_pack_scan *state)
{
    struct token token;
    enum kt_frame frame = token_read(at, &token);
    if (frame != KT_FRAME_DONE)
        return frame;
    bool is_key = state->depth && state->level[state->depth - 1].map &&
                  state->level[state->depth - 1].left % 2 == 0;
    if (is_key && token.kind != K_STR)
        return refuse(at, "a key is not a str");
    if (token.kind == K_ARRAY || token.kind == K_MAP) {
        frame = container_enter(at, &token, state->depth + 1);
        if (frame != KT_FRAME_DONE)
            return frame;
        state->level[state->depth].map = token.kind == K_MAP;
        state->level[state->depth++].left =
            (uint32_t)(token.kind == K_MAP ? token.number * 2 : token.number);
        return KT_FRAME_DONE;
    }
    bool has_body = token.kind == K_STR || token.kind == K_BIN || token.kind == K_EXT;
    frame = has_body ? body_need(at, &token) : KT_FRAME_DONE;
    if (frame == KT_FRAME_DONE)
        at->pos += token.head + (has_body ? (size_t)token.number : 0);
    return frame;
}

enum kt_frame
kt_pack_scan(struct kt_str bytes, const struct kt_pack_limits *limits, struct kt_pack_scan *state,
             size_t *ret_len, const char **ret_why)
{
    struct cursor at = { bytes.p,
                         state->pos,
                         bytes.n,
                         state->elements,
                         state->pending,
                         limits ? limits : &kt_pack_request_limits,
                         NULL };
    enum kt_frame frame;
    do {
        /* The value that is passed now is announced by the level that holds it. */
        while (state->depth && state->level[state->depth - 1].left == 0)
            state->depth--;
        if (state->depth == 0 && at.pos != 0) {
            *ret_len = at.pos;
            return KT_FRAME_DONE;
        }
        size_t holder = state->depth;
        at.pending -= holder ? 1 : 0;
        frame = scan_step(&at, state);
        if (frame != KT_FRAME_DONE)
            break;
        if (holder)
            state->level[holder - 1].left--;
        state->pos = at.pos;
        state->elements = at.elements;
        state->pending = at.pending;
    } while (true);
    if (frame == KT_FRAME_BAD)
        *ret_why = at.why;
    return frame;
}

/* --- the reader --------------------------------------------------------------------------- */

struct reader {
    struct cursor at;
    struct kt_arena *arena;
};

static enum kt_frame value_read(struct reader *, struct kt_value *out, size_t depth);

static enum kt_frame
str_read(struct reader *reader, struct token *token, struct kt_str *out)
{
    struct cursor *at = &reader->at;
    enum kt_frame frame = body_need(at, token);
    if (frame != KT_FRAME_DONE)
        return frame;
    *out = (struct kt_str){ at->p + at->pos + token->head, (size_t)token->number };
    if (token->kind == K_STR && !kt_utf8_is_text(out->p, out->n))
        return refuse(at, "a str is not UTF-8, or contains NUL");
    at->pos += token->head + out->n;
    return KT_FRAME_DONE;
}

static enum kt_frame
time_read(struct reader *reader, struct token *token, struct kt_time *out)
{
    struct cursor *at = &reader->at;
    enum kt_frame frame = body_need(at, token);
    if (frame != KT_FRAME_DONE)
        return frame;
    const char *p = at->p + at->pos + token->head;
    uint64_t last = kt_get_be(p + (token->number == 12 ? 4 : 0), token->number == 4 ? 4 : 8);
    uint64_t nano = token->number == 4 ? 0 : token->number == 8 ? last >> 34 : kt_get_be(p, 4);
    int64_t seconds = (int64_t)(token->number == 8 ? last & UINT64_C(0x3FFFFFFFF) : last);
    if (nano > 999999999)
        return refuse(at, "a timestamp has more than 999999999 nanoseconds");
    if (seconds >= INT64_MAX / 1000 || seconds <= INT64_MIN / 1000)
        return refuse(at, "a timestamp is too far away");
    out->ms = seconds * 1000 + (int64_t)(nano / 1000000);
    at->pos += token->head + (size_t)token->number;
    return KT_FRAME_DONE;
}

/* Memory for the values of a container whose header has just been passed. Each value takes at
 * least a byte, so fewer bytes than values means MORE, before any memory is taken. */
static enum kt_frame
container_memory(struct reader *reader, const struct token *token, size_t size, void **out)
{
    size_t values = (size_t)(token->kind == K_MAP ? token->number * 2 : token->number);
    if (values > reader->at.n - reader->at.pos)
        return KT_FRAME_MORE;
    *out = kt_arena_alloc(reader->arena, (size_t)token->number * size);
    if (!*out)
        return refuse(&reader->at, "the message needs more memory than a request may have");
    return KT_FRAME_DONE;
}

static enum kt_frame
array_read(struct reader *reader, const struct token *token, struct kt_value *out, size_t depth)
{
    void *memory = NULL;
    enum kt_frame frame = container_memory(reader, token, sizeof(struct kt_value), &memory);
    struct kt_value *v = memory;
    for (size_t i = 0; i < token->number && frame == KT_FRAME_DONE; i++) {
        reader->at.pending--;
        frame = value_read(reader, &v[i], depth);
    }
    out->type = KT_V_ARRAY;
    out->array.v = v;
    out->array.n = (size_t)token->number;
    return frame;
}

static enum kt_frame
member_read(struct reader *reader, struct kt_member *out, size_t depth)
{
    struct token token;
    reader->at.pending--;
    enum kt_frame frame = token_read(&reader->at, &token);
    if (frame != KT_FRAME_DONE)
        return frame;
    if (token.kind != K_STR)
        return refuse(&reader->at, "a key is not a str");
    frame = str_read(reader, &token, &out->name);
    if (frame != KT_FRAME_DONE)
        return frame;
    reader->at.pending--;
    return value_read(reader, &out->value, depth);
}

static int
name_compare(struct kt_str a, struct kt_str b)
{
    if (a.n != b.n)
        return a.n < b.n ? -1 : 1;
    return memcmp(a.p, b.p, a.n);
}

/* Moves the name at i down to its place in the heap of n names. */
static void
heap_sink(struct kt_str *names, size_t i, size_t n)
{
    struct kt_str name = names[i];
    size_t child;
    while ((child = 2 * i + 1) < n) {
        if (child + 1 < n && name_compare(names[child], names[child + 1]) < 0)
            child++;
        if (name_compare(name, names[child]) >= 0)
            break;
        names[i] = names[child];
        i = child;
    }
    names[i] = name;
}

/* A sort, because comparing each with each takes milliseconds for the largest map there can be,
 * and a heap, because nobody can choose keys that make it slow. */
static enum kt_frame
keys_check_many(struct reader *reader, const struct kt_member *v, size_t n)
{
    struct kt_str *names = kt_arena_alloc(reader->arena, n * sizeof *names);
    if (!names)
        return refuse(&reader->at, "the message needs more memory than a request may have");
    for (size_t i = 0; i < n; i++)
        names[i] = v[i].name;
    for (size_t i = n / 2; i-- > 0;)
        heap_sink(names, i, n);
    for (size_t last = n - 1; last > 0; last--) {
        struct kt_str largest = names[0];
        names[0] = names[last];
        heap_sink(names, 0, last);
        if (kt_str_eq(names[0], largest))
            return refuse(&reader->at, "a map has the same key twice");
    }
    return KT_FRAME_DONE;
}

static enum kt_frame
keys_check(struct reader *reader, const struct kt_member *v, size_t n)
{
    enum { FEW = 16 };
    if (n > FEW)
        return keys_check_many(reader, v, n);
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++)
            if (kt_str_eq(v[i].name, v[j].name))
                return refuse(&reader->at, "a map has the same key twice");
    return KT_FRAME_DONE;
}

static enum kt_frame
map_read(struct reader *reader, const struct token *token, struct kt_value *out, size_t depth)
{
    void *memory = NULL;
    enum kt_frame frame = container_memory(reader, token, sizeof(struct kt_member), &memory);
    struct kt_member *v = memory;
    for (size_t i = 0; i < token->number && frame == KT_FRAME_DONE; i++)
        frame = member_read(reader, &v[i], depth);
    out->type = KT_V_MAP;
    out->map.v = v;
    out->map.n = (size_t)token->number;
    return frame == KT_FRAME_DONE ? keys_check(reader, v, out->map.n) : frame;
}

static enum kt_frame
container_read(struct reader *reader, const struct token *token, struct kt_value *out, size_t depth)
{
    enum kt_frame frame = container_enter(&reader->at, token, depth + 1);
    if (frame != KT_FRAME_DONE)
        return frame;
    return token->kind == K_MAP ? map_read(reader, token, out, depth + 1)
                                : array_read(reader, token, out, depth + 1);
}

static struct kt_value
integer(const struct token *token)
{
    uint64_t number = token->number;
    if (token->kind == K_UINT && number > INT64_MAX)
        return (struct kt_value){ .type = KT_V_UINT, .u = number };
    /* The immediates of int 8, 16 and 32 want their sign. */
    if (token->kind == K_INT && token->head > 1) {
        unsigned unused = (unsigned)(9 - token->head) * 8;
        return (struct kt_value){ .type = KT_V_INT, .i = (int64_t)(number << unused) >> unused };
    }
    return (struct kt_value){ .type = KT_V_INT, .i = (int64_t)number };
}

static struct kt_value
floating(const struct token *token)
{
    struct kt_value value = { .type = KT_V_NUMBER };
    if (token->head == 9) {
        memcpy(&value.d, &token->number, sizeof value.d);
        return value;
    }
    uint32_t bits = (uint32_t)token->number;
    float single;
    memcpy(&single, &bits, sizeof single);
    value.d = (double)single;
    return value;
}

static struct kt_value
scalar(const struct token *token)
{
    switch (token->kind) {
    case K_NIL:
        return (struct kt_value){ .type = KT_V_NULL };
    case K_BOOL:
        return (struct kt_value){ .type = KT_V_BOOL, .b = token->first == 0xC3 };
    case K_FLOAT:
        return floating(token);
    default:
        return integer(token);
    }
}

static enum kt_frame
value_read(struct reader *reader, struct kt_value *out, size_t depth)
{
    struct token token;
    enum kt_frame frame = token_read(&reader->at, &token);
    if (frame != KT_FRAME_DONE)
        return frame;
    switch (token.kind) {
    case K_STR:
    case K_BIN:
        out->type = token.kind == K_STR ? KT_V_STR : KT_V_BIN;
        return str_read(reader, &token, &out->s);
    case K_EXT:
        out->type = KT_V_TIME;
        return time_read(reader, &token, &out->t);
    case K_ARRAY:
    case K_MAP:
        return container_read(reader, &token, out, depth);
    default:
        *out = scalar(&token);
        reader->at.pos += token.head;
        return KT_FRAME_DONE;
    }
}

enum kt_frame
kt_pack_read(struct kt_str bytes, const struct kt_pack_limits *limits, struct kt_arena *arena,
             struct kt_value *ret_value, size_t *ret_len, const char **ret_why)
{
    struct reader reader = {
        .at = { .p = bytes.p, .n = bytes.n, .limits = limits ? limits : &kt_pack_request_limits },
        .arena = arena,
    };
    struct kt_value value;
    enum kt_frame frame = value_read(&reader, &value, 0);
    if (frame == KT_FRAME_BAD)
        *ret_why = reader.at.why;
    /* The reader stops at the first count that has not arrived; what has arrived may already be
     * bad. */
    if (frame == KT_FRAME_MORE)
        return kt_pack_scan(bytes, limits, &(struct kt_pack_scan){ 0 }, ret_len, ret_why);
    if (frame != KT_FRAME_DONE)
        return frame;
    *ret_value = value;
    *ret_len = reader.at.pos;
    return KT_FRAME_DONE;
}
