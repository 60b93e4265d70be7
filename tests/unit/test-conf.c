/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/conf.h"
#include "tests/unit/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const struct kaiten_option table[] = {
    { "name", KAITEN_OPT_STRING, 0, "kaiten", 0, 0, "What it is called." },
    { "note", KAITEN_OPT_STRING, 0, NULL, 0, 0, "Anything." },
    { "folder", KAITEN_OPT_PATH, 0, "data", 0, 0, "Where it lives." },
    { "key_file", KAITEN_OPT_SECRET, 0, NULL, 0, 0, "The key." },
    { "threads", KAITEN_OPT_INT, 0, "2", 1, 64, "How many threads." },
    { "offset", KAITEN_OPT_INT, 0, NULL, 0, 0, "Any number." },
    { "cache", KAITEN_OPT_SIZE, 0, "64M", 4096, INT64_C(1) << 40, "How much memory." },
    { "timeout", KAITEN_OPT_DURATION, 0, "10s", 1, 3600000, "How long." },
    { "strict", KAITEN_OPT_BOOL, 0, "yes", 0, 0, "Whether." },
    { "listen", KAITEN_OPT_LIST, 0, NULL, 0, 0, "Where it listens." },
    { NULL, 0, 0, NULL, 0, 0, NULL },
};

static const struct kaiten_option demanding[] = {
    { "url", KAITEN_OPT_STRING, KAITEN_OPT_REQUIRED, NULL, 0, 0, "Whom to ask." },
    { NULL, 0, 0, NULL, 0, 0, NULL },
};

static struct conf *
parsed(const char *text)
{
    struct conf *conf;
    struct conf_error err;
    if (!conf_parse(text, strlen(text), "/etc/k/k.conf", &conf, &err))
        fail_msg("%s", err.text);
    return conf;
}

static struct conf_values *
applied(struct conf *conf, const char *kind, const char *name)
{
    struct conf_values *values;
    struct conf_error err;
    if (!conf_apply(conf, kind, name, table, &values, &err))
        fail_msg("%s", err.text);
    return values;
}

static void
test_all_types(void **state)
{
    (void)state;
    struct conf *conf = parsed("# comment\n"
                               "; comment\n"
                               "\n"
                               "[daemon]\r\n"
                               "name = a name # with all of it\n"
                               "  note=\"  q \\\"x\\\" \\\\ \"  \n"
                               "folder = ../data\n"
                               "key_file = /run/key\n"
                               "threads = 64\n"
                               "offset = -7\n"
                               "cache = 2G\n"
                               "timeout = 1h\n"
                               "strict = off\n"
                               "listen = a\n"
                               "listen = b\n"
                               "listen = a");
    struct conf_values *v = applied(conf, "daemon", NULL);
    struct conf_error err;
    assert_true(conf_unused(conf, &err));
    conf_free(conf);
    assert_string_equal(conf_str(v, "name"), "a name # with all of it");
    assert_string_equal(conf_str(v, "note"), "  q \"x\" \\ ");
    assert_string_equal(conf_str(v, "folder"), "/etc/k/../data");
    assert_string_equal(conf_str(v, "key_file"), "/run/key");
    assert_int_equal(conf_int(v, "threads"), 64);
    assert_int_equal(conf_int(v, "offset"), -7);
    assert_true(conf_int(v, "cache") == INT64_C(2) << 30);
    assert_int_equal(conf_int(v, "timeout"), 3600000);
    assert_false(conf_bool(v, "strict"));
    assert_int_equal(conf_list_count(v, "listen"), 3);
    assert_string_equal(conf_list_item(v, "listen", 0), "a");
    assert_string_equal(conf_list_item(v, "listen", 1), "b");
    assert_null(conf_list_item(v, "listen", 3));
    assert_string_equal(conf_where(v, "listen", 2), "/etc/k/k.conf:16");
    assert_string_equal(conf_where(v, "name", 0), "/etc/k/k.conf:5");
    conf_values_free(v);
}

static void
test_defaults(void **state)
{
    (void)state;
    struct conf *conf = parsed("[daemon]\n[other x]\nname =\n");
    struct conf_values *v = applied(conf, "daemon", NULL);
    assert_string_equal(conf_str(v, "name"), "kaiten");
    assert_null(conf_str(v, "note"));
    assert_string_equal(conf_str(v, "folder"), "/etc/k/data");
    assert_int_equal(conf_int(v, "threads"), 2);
    assert_int_equal(conf_int(v, "offset"), 0);
    assert_int_equal(conf_int(v, "timeout"), 10000);
    assert_true(conf_bool(v, "strict"));
    assert_int_equal(conf_list_count(v, "listen"), 0);
    assert_false(conf_is_set(v, "name"));
    assert_string_equal(conf_where(v, "name", 0), "/etc/k/k.conf:1");
    conf_values_free(v);

    v = applied(conf, "absent", NULL);
    assert_string_equal(conf_str(v, "name"), "kaiten");
    assert_string_equal(conf_where(v, "name", 0), "/etc/k/k.conf");
    conf_values_free(v);

    v = applied(conf, "other", "x");
    assert_string_equal(conf_str(v, "name"), "");
    assert_true(conf_is_set(v, "name"));
    conf_values_free(v);
    conf_free(conf);
}

/* What a reload asks: a value in another spelling, or the default written down, is the same. */
static void
test_is_same(void **state)
{
    (void)state;
    static const struct {
        const char *one, *other, *name;
        bool same;
    } rows[] = {
        { "threads = 8\n", "threads = 8\n", "threads", true },
        { "threads = 8\n", "threads = 9\n", "threads", false },
        { "threads = 2\n", "", "threads", true },
        { "cache = 1M\n", "cache = 1024K\n", "cache", true },
        { "strict = on\n", "strict = yes\n", "strict", true },
        { "strict = no\n", "", "strict", false },
        { "name = a\n", "name = \"a\"\n", "name", true },
        { "name = a\n", "name = b\n", "name", false },
        { "name = a\n", "", "name", false },
        { "", "", "note", true },
        { "note = x\n", "", "note", false },
        { "listen = a\nlisten = b\n", "listen = a\nlisten = b\n", "listen", true },
        { "listen = a\nlisten = b\n", "listen = b\nlisten = a\n", "listen", false },
        { "listen = a\nlisten = b\n", "listen = a\n", "listen", false },
        { "listen = a\n", "", "listen", false },
        { "", "", "listen", true },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[2][64];
        (void)snprintf(text[0], sizeof text[0], "[daemon]\n%s", rows[i].one);
        (void)snprintf(text[1], sizeof text[1], "[daemon]\n%s", rows[i].other);
        struct conf *conf[2] = { parsed(text[0]), parsed(text[1]) };
        struct conf_values *v[2] = { applied(conf[0], "daemon", NULL),
                                     applied(conf[1], "daemon", NULL) };
        for (int k = 0; k < 2; k++)
            if (conf_is_same(v[k], v[!k], rows[i].name) != rows[i].same)
                fail_msg("%s: \"%s\", \"%s\"", rows[i].name, rows[i].one, rows[i].other);
        for (int k = 0; k < 2; k++) {
            conf_values_free(v[k]);
            conf_free(conf[k]);
        }
    }
}

static void
test_sections(void **state)
{
    (void)state;
    struct conf *conf = parsed("[a]\n[a x]\nk = 1\nk = 2\n[ b \t y ]\n");
    struct conf_error err;
    struct conf_section *s = conf_section_at(conf, 1);
    assert_string_equal(conf_section_kind(s), "a");
    assert_string_equal(conf_section_name(s), "x");
    assert_string_equal(conf_section_where(s), "/etc/k/k.conf:2");
    assert_null(conf_section_name(conf_section_at(conf, 0)));
    assert_null(conf_section_at(conf, 3));
    assert_ptr_equal(conf_section_find(conf, "a", "x"), s);
    assert_ptr_equal(conf_section_find(conf, "b", "y"), conf_section_at(conf, 2));
    assert_null(conf_section_find(conf, "b", NULL));
    assert_false(conf_unused(conf, &err));
    assert_string_equal(err.text, "/etc/k/k.conf:1: [a]: nothing uses this section");
    conf_free(conf);
}

static const struct {
    const char *text, *message;
} unreadable[] = {
    { "name = x\n", ":1: name: stands before the first section" },
    { "[a\n", ":1: a section has no ]" },
    { "[\n", ":1: a section has no ]" },
    { "[]\n", ":1: malformed section" },
    { "[a b c]\n", ":1: malformed section" },
    { "[a/b]\n", ":1: malformed section" },
    { "[a] # x\n", ":1: a section has no ]" },
    { "[a]\n\n[a]\n", ":3: [a] again; it starts at line 1 already" },
    { "[a x]\n[a]\n[a x]\n", ":3: [a x] again; it starts at line 1 already" },
    { "[a]\nname\n", ":2: neither a section nor an option; accepted: key = value" },
    { "[a]\n= x\n", ":2: malformed key" },
    { "[a]\nna me = x\n", ":2: malformed key" },
    { "[a]\nname = \"x\n", ":2: a value has no closing quote" },
    { "[a]\nname = \"\n", ":2: a value has no closing quote" },
    { "[a]\nname = \"x\" y\"\n", ":2: text behind the closing quote" },
    { "[a]\nname = \"x\\\"\n", ":2: unknown escape in quotes" },
    { "[a]\nname = \"\\n\"\n", ":2: unknown escape in quotes" },
    { "[a]\nname = \xff\n", ":2: NUL or bytes that are no UTF-8" },
    { "\xc3\n", ":1: NUL or bytes that are no UTF-8" },
    { "[0123456789012345678901234567890123456789012345678901234567890123]\n"
      "[0123456789012345678901234567890123456789012345678901234567890123x]\n",
      ":2: malformed section" },
};

static void
test_unreadable(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(unreadable) / sizeof(unreadable[0]); i++) {
        struct conf *conf;
        struct conf_error err = { "" };
        const char *text = unreadable[i].text;
        if (conf_parse(text, strlen(text), "k.conf", &conf, &err) ||
            strncmp(err.text, "k.conf", 6) != 0 ||
            strncmp(err.text + 6, unreadable[i].message, strlen(unreadable[i].message)) != 0)
            fail_msg("%s-> %s", text, err.text);
    }
    struct conf *conf;
    struct conf_error err;
    assert_false(conf_parse("[a]\nb = c\0d\n", 12, "k.conf", &conf, &err));
    assert_non_null(strstr(err.text, "k.conf:2: NUL"));
}

static const struct {
    const char *text, *message;
} wrong[] = {
    { "nmae = x", ":2: [daemon] nmae: unknown option; did you mean name?" },
    { "thread = 2", ":2: [daemon] thread: unknown option; did you mean threads?" },
    { "Timeout = 1s", ":2: [daemon] Timeout: unknown option; did you mean timeout?" },
    { "completely_different = x", ":2: [daemon] completely_different: unknown option; accepted: "
                                  "name, note, folder, key_file, threads, offset, cache, timeout, "
                                  "strict, listen" },
    { "name = x\nname = y", ":3: [daemon] name: again; it stands at k.conf:2 already" },
    { "threads = many", ":2: [daemon] threads: \"many\" is malformed; accepted: a whole number "
                        "from 1 to 64" },
    { "threads = 0", ":2: [daemon] threads: 0 is out of range; accepted: a whole number from 1 to "
                     "64" },
    { "threads = 65", ":2: [daemon] threads: 65 is out of range" },
    { "threads =", ":2: [daemon] threads: \"\" is malformed" },
    { "offset = 1.5", ":2: [daemon] offset: \"1.5\" is malformed; accepted: a whole number" },
    { "cache = 4095", ":2: [daemon] cache: 4095 is out of range; accepted: a size such as 64K, 8M "
                      "or 2G from 4K to 1T" },
    { "cache = 8MB", ":2: [daemon] cache: \"8MB\" is malformed" },
    { "timeout = 0", ":2: [daemon] timeout: 0 is out of range; accepted: a duration such as 500ms, "
                     "10s, 5m, 1h or 30d from 1ms to 1h" },
    { "timeout = 3601s", ":2: [daemon] timeout: 3601s is out of range" },
    { "timeout = 5", ":2: [daemon] timeout: \"5\" is malformed" },
    { "strict = maybe", ":2: [daemon] strict: \"maybe\" is malformed; accepted: yes, no, on, off, "
                        "true or false" },
    { "strict = YES", ":2: [daemon] strict: \"YES\" is malformed" },
    { "folder =", ":2: [daemon] folder: empty; accepted: a path" },
    { "key_file = \"\"", ":2: [daemon] key_file: empty" },
};

static void
test_wrong_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char text[256];
        struct conf *conf;
        struct conf_values *values;
        struct conf_error err = { "" };
        int n = snprintf(text, sizeof(text), "[daemon]\n%s\n", wrong[i].text);
        assert_true(conf_parse(text, (size_t)n, "k.conf", &conf, &err));
        if (conf_apply(conf, "daemon", NULL, table, &values, &err) ||
            strncmp(err.text, "k.conf", 6) != 0 ||
            strncmp(err.text + 6, wrong[i].message, strlen(wrong[i].message)) != 0)
            fail_msg("%s -> %s", wrong[i].text, err.text);
        conf_free(conf);
    }
}

static void
test_required(void **state)
{
    (void)state;
    struct conf *conf = parsed("[store x]\n");
    struct conf_values *values;
    struct conf_error err;
    assert_false(conf_section_apply(conf_section_at(conf, 0), demanding, &values, &err));
    assert_string_equal(err.text, "/etc/k/k.conf:1: [store x] url: missing; accepted: text");
    assert_false(conf_apply(conf, "store", "y", demanding, &values, &err));
    assert_string_equal(err.text, "/etc/k/k.conf: [store y] url: missing; accepted: text");
    conf_free(conf);
}

static void
test_bool_words(void **state)
{
    (void)state;
    static const char *const words[] = { "no", "yes", "off", "on", "false", "true" };
    for (size_t i = 0; i < 6; i++) {
        char text[64];
        snprintf(text, sizeof(text), "[d]\nstrict = %s\n", words[i]);
        struct conf *conf = parsed(text);
        struct conf_values *v = applied(conf, "d", NULL);
        assert_int_equal(conf_bool(v, "strict"), i % 2 == 1);
        conf_values_free(v);
        conf_free(conf);
    }
}

/* Limits: one less, exactly, one more. */

static void
test_line_limit(void **state)
{
    (void)state;
    char text[CONF_LINE_MAX + 64];
    struct conf_error err;
    for (size_t n = CONF_LINE_MAX - 1; n <= CONF_LINE_MAX + 1; n++) {
        struct conf *conf;
        memset(text, 'x', sizeof(text));
        memcpy(text, "[a]\nname = ", 11);
        text[4 + n] = '\n';
        bool ok = conf_parse(text, 4 + n + 1, "k", &conf, &err);
        assert_int_equal(ok, n <= CONF_LINE_MAX);
        if (!ok)
            assert_string_equal(err.text, "k:2: 4097 bytes in a line; accepted: at most 4096");
        else
            conf_free(conf);
    }
}

static void
test_file_limit(void **state)
{
    (void)state;
    char *text = malloc(CONF_FILE_MAX + 1);
    struct conf *conf;
    struct conf_error err;
    memset(text, '\n', CONF_FILE_MAX + 1);
    assert_true(conf_parse(text, CONF_FILE_MAX - 1, "k", &conf, &err));
    conf_free(conf);
    assert_true(conf_parse(text, CONF_FILE_MAX, "k", &conf, &err));
    conf_free(conf);
    assert_false(conf_parse(text, CONF_FILE_MAX + 1, "k", &conf, &err));

    char path[] = "/tmp/kaiten-conf-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, text, CONF_FILE_MAX), CONF_FILE_MAX);
    assert_true(conf_read(path, &conf, &err));
    conf_free(conf);
    assert_int_equal(write(fd, text, 1), 1);
    assert_false(conf_read(path, &conf, &err));
    assert_non_null(strstr(err.text, "more than 1048576 bytes"));
    close(fd);
    unlink(path);
    assert_false(conf_read(path, &conf, &err));
    assert_non_null(strstr(err.text, "No such file"));
    free(text);
}

static void
test_count_limits(void **state)
{
    (void)state;
    char *text = malloc(64 * (CONF_SECTIONS_MAX + 1)), *p = text;
    struct conf *conf;
    struct conf_error err;
    for (int i = 0; i < CONF_SECTIONS_MAX; i++)
        p += sprintf(p, "[a %d]\n", i);
    assert_true(conf_parse(text, (size_t)(p - text), "k", &conf, &err));
    conf_free(conf);
    p += sprintf(p, "[b]\n");
    assert_false(conf_parse(text, (size_t)(p - text), "k", &conf, &err));
    assert_non_null(strstr(err.text, "k:1025: too many sections"));

    p = text + sprintf(text, "[a]\n");
    for (int i = 0; i < CONF_LIST_MAX; i++)
        p += sprintf(p, "listen = x\n");
    struct conf_values *values;
    assert_true(conf_parse(text, (size_t)(p - text), "k", &conf, &err));
    assert_true(conf_apply(conf, "a", NULL, table, &values, &err));
    conf_values_free(values);
    conf_free(conf);
    p += sprintf(p, "listen = x\n");
    assert_true(conf_parse(text, (size_t)(p - text), "k", &conf, &err));
    assert_false(conf_apply(conf, "a", NULL, table, &values, &err));
    assert_non_null(strstr(err.text, "k:1026: [a] listen: too many; accepted: at most 1024"));
    conf_free(conf);
    free(text);
}

static void
test_secret_files(void **state)
{
    (void)state;
    char path[] = "/tmp/kaiten-conf-XXXXXX", link[64], text[128];
    struct conf_error err = { "" };
    close(mkstemp(path));
    assert_true(conf_check_secret_file(path, &err));
    chmod(path, 0400);
    assert_true(conf_check_secret_file(path, &err));
    chmod(path, 0644);
    assert_false(conf_check_secret_file(path, &err));
    snprintf(text, sizeof(text),
             "%s: mode 0644 is open to others; accepted: 0600; run: chmod 600 %s", path, path);
    assert_string_equal(err.text, text);

    snprintf(text, sizeof(text), "[a]\nkey_file = %s\n", path);
    struct conf *conf = parsed(text);
    struct conf_values *v = applied(conf, "a", NULL);
    assert_false(conf_check_secrets(v, &err));
    assert_non_null(strstr(err.text, "/etc/k/k.conf:2: key_file: /tmp/kaiten-conf-"));
    chmod(path, 0600);
    assert_true(conf_check_secrets(v, &err));
    conf_values_free(v);
    conf_free(conf);

    snprintf(link, sizeof(link), "%s.link", path);
    assert_int_equal(symlink(path, link), 0);
    assert_false(conf_check_secret_file(link, &err));
    assert_non_null(strstr(err.text, "a symbolic link"));
    unlink(link);
    assert_false(conf_check_secret_file("/tmp", &err));
    assert_non_null(strstr(err.text, "not a regular file"));
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 12345, 12345), 0);
        assert_false(conf_check_secret_file(path, &err));
        assert_non_null(strstr(err.text, "owned by uid 12345; run kaitend as that user"));
    }
    unlink(path);
    assert_false(conf_check_secret_file(path, &err));
}

static void
test_documents(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    conf_print_option_doc(f, table + 4);
    fclose(f);
    assert_memory_equal(text, "# How many threads.\n"
                              "# Accepted: a whole number from 1 to 64. Default: 2.\n"
                              "#threads = 2\n\n", 86);
    free(text);
    f = open_memstream(&text, &n);
    conf_print_option_doc(f, demanding);
    fclose(f);
    assert_string_equal(text, "# Whom to ask.\n# Accepted: text. Required.\n#url = \n\n");
    free(text);
}

/* What is printed reads back as the same. */
static void
test_values_print(void **state)
{
    (void)state;
    struct conf *conf = parsed("[a]\nname = \" x\\\\\\\"\"\nnote =\n"
                               "listen = a\nlisten = \"\\\"b\"\n");
    struct conf_values *v = applied(conf, "a", NULL);
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    fputs("[a]\n", f);
    conf_print_values(f, v);
    fclose(f);
    struct conf *again = parsed(text);
    struct conf_values *w = applied(again, "a", NULL);
    assert_string_equal(conf_str(w, "name"), " x\\\"");
    assert_string_equal(conf_str(w, "note"), "");
    assert_string_equal(conf_list_item(w, "listen", 1), "\"b");
    assert_int_equal(conf_int(w, "threads"), 2);
    assert_string_equal(conf_str(w, "folder"), conf_str(v, "folder"));
    free(text);
    conf_values_free(v);
    conf_values_free(w);
    conf_free(conf);
    conf_free(again);
}

static void
test_paths_beside_a_relative_file(void **state)
{
    (void)state;
    static const char *const files[][2] = { { "k.conf", "data" },
                                            { "etc/k.conf", "etc/data" },
                                            { "/k.conf", "/data" } };
    for (size_t i = 0; i < 3; i++) {
        struct conf *conf;
        struct conf_values *v;
        struct conf_error err;
        assert_true(conf_parse("", 0, files[i][0], &conf, &err));
        assert_true(conf_apply(conf, "a", NULL, table, &v, &err));
        assert_string_equal(conf_str(v, "folder"), files[i][1]);
        conf_values_free(v);
        conf_free(conf);
    }
}

/* Each allocation fails in turn; the failure is reported, and (under ASan) nothing leaks. */
static void
test_without_memory(void **state)
{
    (void)state;
    char path[] = "/tmp/test-conf-XXXXXX";
    static const char text[] = "[a]\nname = \"x\"\nlisten = a\nlisten = b\n[b c]\nfolder = d\n"
                               "[d]\n[e]\n[f]\n[g]\n[h]\n[i]\n[j]\n";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    size_t failures = 0;
    for (bool ended = true; ended; failures += ended) {
        struct conf *conf = NULL;
        struct conf_values *a = NULL, *b = NULL;
        struct conf_error err = { "" };
        memory_end_after(failures);
        bool ok = conf_read(path, &conf, &err) && conf_apply(conf, "a", NULL, table, &a, &err) &&
                  conf_apply(conf, "b", "c", table, &b, &err);
        ended = memory_ended();
        assert_int_equal(ok, !ended);
        assert_string_equal(err.text, ok ? "" : "no memory for the configuration");
        conf_values_free(b);
        conf_values_free(a);
        conf_free(conf);
    }
    assert_true(failures > 40);
    unlink(path);
}

static void
test_only_sections_have_entries(void **state)
{
    (void)state;
    static const char *const early[] = { "a = b\n[x]\n", "\n# c\n\ta=\n" };
    for (size_t i = 0; i < 2; i++) {
        struct conf *conf;
        struct conf_error err;
        assert_false(conf_parse(early[i], strlen(early[i]), "k.conf", &conf, &err));
        assert_non_null(strstr(err.text, "a: stands before the first section"));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_types),     cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_sections),      cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_wrong_values),  cmocka_unit_test(test_required),
        cmocka_unit_test(test_bool_words),    cmocka_unit_test(test_line_limit),
        cmocka_unit_test(test_file_limit),    cmocka_unit_test(test_count_limits),
        cmocka_unit_test(test_secret_files),  cmocka_unit_test(test_documents),
        cmocka_unit_test(test_values_print),  cmocka_unit_test(test_paths_beside_a_relative_file),
        cmocka_unit_test(test_without_memory), cmocka_unit_test(test_only_sections_have_entries),
        cmocka_unit_test(test_is_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
