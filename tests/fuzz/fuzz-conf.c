/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The configuration file, through both phases, and what is printed reads back as the same. */
#include "config.h"

#include "daemon/conf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct kaiten_option table[] = {
    { "name", KAITEN_OPT_STRING, 0, "kaiten", 0, 0, "What it is called." },
    { "folder", KAITEN_OPT_PATH, 0, "data", 0, 0, "Where it lives." },
    { "key_file", KAITEN_OPT_SECRET, 0, NULL, 0, 0, "The key." },
    { "threads", KAITEN_OPT_INT, 0, "2", 1, 64, "How many threads." },
    { "cache", KAITEN_OPT_SIZE, 0, "64M", 4096, INT64_C(1) << 40, "How much memory." },
    { "timeout", KAITEN_OPT_DURATION, 0, "10s", 1, 3600000, "How long." },
    { "strict", KAITEN_OPT_BOOL, 0, "yes", 0, 0, "Whether." },
    { "listen", KAITEN_OPT_LIST, 0, NULL, 0, 0, "Where it listens." },
    { NULL, 0, 0, NULL, 0, 0, NULL },
};

/* The section [a] with these values in it. */
static char *
print(const struct conf_values *values, size_t *ret_n)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, ret_n);
    if (f == NULL)
        abort();
    fputs("[a]\n", f);
    conf_print_values(f, values);
    fclose(f);
    return text;
}

static void
check_printed(const struct conf_values *values)
{
    size_t n;
    char *text = print(values, &n);
    struct conf *conf;
    struct conf_values *again;
    struct conf_error err;
    /* A line may have grown past its limit through escapes. */
    if (conf_parse(text, n, "f/x.conf", &conf, &err)) {
        if (!conf_apply(conf, "a", NULL, table, &again, &err))
            abort();
        if (conf_list_count(again, "listen") != conf_list_count(values, "listen") ||
            strcmp(conf_str(again, "name"), conf_str(values, "name")) != 0 ||
            conf_int(again, "cache") != conf_int(values, "cache"))
            abort();
        conf_values_free(again);
        conf_free(conf);
    }
    free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf *conf;
    struct conf_error err = { "" };
    if (!conf_parse((const char *)data, size, "f/x.conf", &conf, &err)) {
        if (err.text[0] == '\0')
            abort();
        return 0;
    }
    for (size_t i = 0; conf_section_at(conf, i) != NULL; i++) {
        struct conf_values *values;
        if (!conf_section_apply(conf_section_at(conf, i), table, &values, &err))
            continue;
        check_printed(values);
        conf_values_free(values);
    }
    if (!conf_unused(conf, &err))
        abort();
    conf_free(conf);
    return 0;
}
