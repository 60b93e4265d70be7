/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Feeds a fuzz target its corpus, for builds without libFuzzer: each file named, or each file of
 * a folder named, then cut short at every length and with some of its bits turned. A target whose
 * runs are slow asks for a part of that: one in fuzz_sample. So does whoever runs all of them slowly,
 * under valgrind: one of those in KAITEN_FUZZ_SAMPLE. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    INPUT_MAX = 1 << 20,
    CUT_MAX = 2048, /* longer inputs are not cut at every length: the work grows with the square */
    FLIPS = 256
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern unsigned fuzz_sample;
unsigned __attribute__((weak)) fuzz_sample = 1;

static size_t runs;
static unsigned sample;

/* A copy of exactly that size, so that a read past its end is seen by the sanitizers. */
static void
feed(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    runs++;
}

static void
feed_variants(uint8_t *data, size_t size)
{
    feed(data, size);
    for (size_t n = 0; size <= CUT_MAX && n < size; n += sample)
        feed(data, n);

    uint64_t x = 88172645463325252u; /* the same bits on every run */
    for (unsigned i = 0; size > 0 && i < FLIPS; i += sample) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        uint8_t *byte = &data[(x >> 8) % size];
        uint8_t bit = (uint8_t)(1u << (x & 7));
        *byte ^= bit;
        feed(data, size);
        *byte ^= bit;
    }
}

static void
feed_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(INPUT_MAX);
    if (file == NULL || data == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
    size_t size = fread(data, 1, INPUT_MAX, file);
    fclose(file);
    feed_variants(data, size);
    free(data);
}

static int
feed_folder(const char *path)
{
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);
    if (n < 0)
        return errno;

    for (int i = 0; i < n; i++) {
        char *name;
        if (asprintf(&name, "%s/%s", path, names[i]->d_name) < 0)
            abort();
        struct stat st;
        if (stat(name, &st) == 0 && S_ISREG(st.st_mode))
            feed_file(name);
        free(name);
        free(names[i]);
    }
    free(names);
    return 0;
}

static unsigned
sample_of(const char *text)
{
    unsigned long n = text != NULL ? strtoul(text, NULL, 10) : 1;
    return fuzz_sample * (n >= 1 && n <= FLIPS ? (unsigned)n : 1);
}

int
main(int argc, char **argv)
{
    sample = sample_of(getenv("KAITEN_FUZZ_SAMPLE"));
    for (int i = 1; i < argc; i++) {
        int error = feed_folder(argv[i]);
        if (error == ENOTDIR) {
            feed_file(argv[i]);
        } else if (error != 0) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(error));
            return 1;
        }
    }
    printf("%zu runs\n", runs);
    /* A target without a corpus tests nothing. */
    return runs > 0 ? 0 : 1;
}
