/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/args.h"
#include "client/ctl/confirm.h"
#include "client/ctl/run.h"
#include "client/proto/file.h"

#include <langinfo.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

/* Only for the width of characters; everything else speaks as the server does. */
static void
set_locale(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static int
print_help(const struct args *args)
{
    struct kt_buf buf;
    kt_buf_init(&buf, 64 * 1024);
    if (args->value[ARG_VERSION])
        kt_buf_puts(&buf, "kaitenctl " PACKAGE_VERSION "\n");
    else
        args_help(args, &buf);
    bool written = ctl_emit(STDOUT_FILENO, &buf);
    kt_buf_done(&buf);
    return written ? CTL_OK : ctl_cannot_write();
}

int
main(int argc, char **argv)
{
    if (!kt_stdio_hold())
        return CTL_OTHER;
    set_locale();
    confirm_catch_signals();
    struct args args;
    int code = args_refuse_secrets(argc, argv);
    if (code == 0)
        code = args_parse(argc, argv, &args);
    if (code != 0)
        return code;
    if (args.value[ARG_HELP] || args.value[ARG_VERSION])
        return print_help(&args);
    return run(&args);
}
