/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* MessagePack that is read, MessagePack that is not, and why. */
#ifndef PACK_SAMPLES_H
#define PACK_SAMPLES_H

#include "client/proto/pack.h"

#define BYTES(s)                                                                                   \
    {                                                                                              \
        ("" s), sizeof(s) - 1                                                                      \
    }

enum { ARENA_BYTES = 1 << 20 };

/* printed: the value as kt_json_put_value prints it, NULL when it is refused: then why says so, and
 * header tells whether the scan, which does not look at what strings say, must see it as well. */
struct sample {
    const char *name;
    struct kt_str bytes;
    const char *printed;
    const char *why;
    bool header;
};

#define GOOD(name, bytes, printed)                                                                 \
    {                                                                                              \
        name, BYTES(bytes), printed, NULL, false                                                   \
    }
#define BAD(name, bytes, why)                                                                      \
    {                                                                                              \
        name, BYTES(bytes), NULL, why, true                                                        \
    }
#define BAD_BODY(name, bytes, why)                                                                 \
    {                                                                                              \
        name, BYTES(bytes), NULL, why, false                                                       \
    }

static const struct sample samples[] = {
    GOOD("nil", "\xC0", "null"),
    GOOD("false", "\xC2", "false"),
    GOOD("true", "\xC3", "true"),
    GOOD("fixint 0", "\x00", "0"),
    GOOD("fixint 127", "\x7F", "127"),
    GOOD("fixint -1", "\xFF", "-1"),
    GOOD("fixint -32", "\xE0", "-32"),
    GOOD("uint 8", "\xCC\xFF", "255"),
    GOOD("uint 16", "\xCD\xFF\xFE", "65534"),
    GOOD("uint 32", "\xCE\xFF\xFF\xFF\xFE", "4294967294"),
    GOOD("uint 64", "\xCF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "9223372036854775807"),
    GOOD("uint 64, largest", "\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "18446744073709551615"),
    GOOD("int 8", "\xD0\x80", "-128"),
    GOOD("int 8, positive", "\xD0\x7F", "127"),
    GOOD("int 16", "\xD1\x80\x00", "-32768"),
    GOOD("int 32", "\xD2\x80\x00\x00\x00", "-2147483648"),
    GOOD("int 64", "\xD3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
    GOOD("int 64, positive", "\xD3\x00\x00\x00\x00\x00\x00\x00\x01", "1"),
    GOOD("not the smallest encoding", "\xCF\x00\x00\x00\x00\x00\x00\x00\x01", "1"),
    GOOD("float 32", "\xCA\x3F\x00\x00\x00", "0.5"),
    GOOD("float 64", "\xCB\xBF\xF8\x00\x00\x00\x00\x00\x00", "-1.5"),
    GOOD("fixstr",
         "\xA3"
         "abc",
         "\"abc\""),
    GOOD("fixstr, empty", "\xA0", "\"\""),
    GOOD("str 8",
         "\xD9\x03"
         "abc",
         "\"abc\""),
    GOOD("str 16",
         "\xDA\x00\x03"
         "abc",
         "\"abc\""),
    GOOD("str 32",
         "\xDB\x00\x00\x00\x03"
         "abc",
         "\"abc\""),
    GOOD("str, UTF-8", "\xA4\xF0\x9F\x8D\xBA", "\"\xF0\x9F\x8D\xBA\""),
    GOOD("bin 8", "\xC4\x02\x00\xFF", "\"AP8=\""),
    GOOD("bin 16", "\xC5\x00\x02\x00\xFF", "\"AP8=\""),
    GOOD("bin 32", "\xC6\x00\x00\x00\x02\x00\xFF", "\"AP8=\""),
    GOOD("timestamp 32", "\xD6\xFF\x5A\x4A\xF6\xA5", "\"2018-01-02T03:04:05.000Z\""),
    GOOD("timestamp 64", "\xD7\xFF\xA1\xDC\xD7\xC8\x5A\x4A\xF6\xA5",
         "\"2018-01-02T03:04:05.678Z\""),
    GOOD("timestamp 96", "\xC7\x0C\xFF\x3B\x9A\xC9\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
         "\"1969-12-31T23:59:59.999Z\""),
    GOOD("fixarray", "\x93\x01\x90\xC0", "[1,[],null]"),
    GOOD("array 16", "\xDC\x00\x02\x01\x02", "[1,2]"),
    GOOD("array 32", "\xDD\x00\x00\x00\x02\x01\x02", "[1,2]"),
    GOOD("fixmap",
         "\x82\xA1"
         "a\x01\xA1"
         "b\x80",
         "{\"a\":1,\"b\":{}}"),
    GOOD("map 16",
         "\xDE\x00\x01\xA1"
         "a\x01",
         "{\"a\":1}"),
    GOOD("map 32",
         "\xDF\x00\x00\x00\x01\xA1"
         "a\x01",
         "{\"a\":1}"),
    GOOD("a request",
         "\x94\x00\x07\xAC"
         "token.verify\x91\x81\xA5token\xA3"
         "abc",
         "[0,7,\"token.verify\",[{\"token\":\"abc\"}]]"),
    GOOD("method as bin", "\x94\x00\x07\xC4\x02hi\x90", "[0,7,\"aGk=\",[]]"),
    GOOD("depth 8", "\x91\x91\x91\x91\x91\x91\x91\x90", "[[[[[[[[]]]]]]]]"),
    BAD("depth 9", "\x91\x91\x91\x91\x91\x91\x91\x91\x90", "nested too deeply"),
    BAD("depth 9 in maps", "\x81\xA0\x81\xA0\x81\xA0\x81\xA0\x81\xA0\x81\xA0\x81\xA0\x81\xA0\x80",
        "nested too deeply"),
    BAD("c1", "\xC1", "c1"),
    BAD("c1 further in", "\x92\x01\xC1", "c1"),
    BAD("ext 8 of another type",
        "\xC7\x04\x01"
        "abcd",
        "not a timestamp"),
    BAD("ext of a length no timestamp has",
        "\xC7\x03\xFF"
        "abc",
        "not a timestamp"),
    BAD("fixext 1", "\xD4\xFF\x10", "not a timestamp"),
    BAD("fixext 2", "\xD5\xFF\x10\x10", "not a timestamp"),
    BAD("fixext 4 of another type", "\xD6\x03\x01\x02\x03\x04", "not a timestamp"),
    BAD("fixext 8 of another type", "\xD7\x00", "not a timestamp"),
    BAD("fixext 16", "\xD8", "not a timestamp"),
    BAD("ext 16, on its header", "\xC8\xFF\xFF", "not a timestamp"),
    BAD("ext 32, on its header", "\xC9\xFF\xFF\xFF\xFF", "not a timestamp"),
    BAD_BODY("timestamp 64 with too many nanoseconds", "\xD7\xFF\xEE\x6B\x28\x00\x00\x00\x00\x00",
             "nanoseconds"),
    BAD_BODY("timestamp 96 with too many nanoseconds",
             "\xC7\x0C\xFF\x3B\x9A\xCA\x00\x00\x00\x00\x00\x00\x00\x00\x00", "nanoseconds"),
    BAD_BODY("timestamp 96 too far away",
             "\xC7\x0C\xFF\x00\x00\x00\x00\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "too far"),
    BAD_BODY("str with NUL",
             "\xA3"
             "a\0b",
             "UTF-8"),
    BAD_BODY("str, overlong", "\xA2\xC0\xAF", "UTF-8"),
    BAD_BODY("str, surrogate", "\xA3\xED\xA0\x80", "UTF-8"),
    BAD_BODY("str, cut", "\xA2\xE2\x82", "UTF-8"),
    BAD_BODY("key with NUL", "\x81\xA1\0\x01", "UTF-8"),
    BAD_BODY("key twice",
             "\x82\xA1"
             "a\x01\xA1"
             "a\x02",
             "same key twice"),
    BAD_BODY("key twice in two encodings",
             "\x82\xA1"
             "a\x01\xD9\x01"
             "a\x02",
             "same key twice"),
    BAD_BODY("empty key twice",
             "\x83\xA0\x01\xA1"
             "a\x02\xA0\x03",
             "same key twice"),
    GOOD("keys by case are two",
         "\x82\xA1"
         "a\x01\xA1"
         "A\x02",
         "{\"a\":1,\"A\":2}"),
    BAD("key is bin",
        "\x81\xC4\x01"
        "a\x01",
        "not a str"),
    BAD("key is an integer", "\x81\x01\x01", "not a str"),
    BAD("key is nil",
        "\x82\xA1"
        "a\x01\xC0\x01",
        "not a str"),
    BAD("key is a map", "\x81\x80\x01", "not a str"),
    BAD("array 32 of 83886080, on its header", "\xDD\x05\x00\x00\x00", "too many elements"),
    BAD("array 32, largest, on its header", "\xDD\xFF\xFF\xFF\xFF", "too many elements"),
    BAD("map 32 of 83886080, on its header", "\xDF\x05\x00\x00\x00", "too many elements"),
    BAD("map 32, largest, on its header", "\xDF\xFF\xFF\xFF\xFF", "too many elements"),
    BAD("map 16 of 2048, on its header", "\xDE\x08\x00", "too many elements"),
    BAD("str 32, largest, on its header", "\xDB\xFF\xFF\xFF\xFF", "longer than its limit"),
    BAD("str 32 of 65537, on its header", "\xDB\x00\x01\x00\x01", "longer than its limit"),
    BAD("str 32 of 65536, on its header", "\xDB\x00\x01\x00\x00", "longer than its limit"),
    BAD("bin 32, largest, on its header", "\xC6\xFF\xFF\xFF\xFF", "longer than its limit"),
    BAD("one budget for all arrays", "\x92\xDC\x08\x00\xDC\x08\x00", NULL),
};

#endif
