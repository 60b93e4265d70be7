/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/log.h"

#include "client/proto/check.h"
#include "client/proto/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum {
    TAIL = 8,       /* kept free for dots, a quote and the newline */
    NUMBER_MAX = 64 /* characters of one number */
};

/* The log: the one global state that any thread may use. fd and level are all that a line needs;
 * the rest is the main thread's. */
static struct {
    atomic_int fd;
    atomic_int level;
    atomic_bool journal, syslog;
    char *file, *ident;
} logger = { STDERR_FILENO, LOG_LEVEL_INFO, false, false, NULL, NULL };

/* Lines of one thread that wait to be written together: never more than a pipe takes whole, so that
 * those of other threads cannot get between. */
static _Thread_local struct {
    bool on;
    size_t n;
    char p[PIPE_BUF];
} gathered;

/* A line being built. Once it is cut nothing more is added. */
struct line {
    char p[LOG_LINE_MAX];
    size_t n, limit;
    bool cut, cut_in_quotes;
};

static void
line_add(struct line *l, const char *p, size_t n)
{
    if (l->cut || n > l->limit - l->n) {
        l->cut = true;
        return;
    }
    memcpy(l->p + l->n, p, n);
    l->n += n;
}

static void
line_add_text(struct line *l, const char *s)
{
    line_add(l, s, strlen(s));
}

/* Characters that a value may have without quotes. */
static bool
is_plain(const char *p, size_t n)
{
    for (size_t i = 0, length; i < n; i += length) {
        unsigned char c = (unsigned char)p[i];
        length = kt_utf8_char(p + i, n - i);
        if (length == 0 || c <= ' ' || c == '"' || c == '\\' || c == '=' || c == 0x7f)
            return false;
        /* C1 controls: some terminals act on them. */
        if (c == 0xc2 && (unsigned char)p[i + 1] < 0xa0)
            return false;
    }
    return n > 0;
}

static void
line_add_hex(struct line *l, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char text[4] = { '\\', 'x', hex[c >> 4], hex[c & 15] };
    line_add(l, text, sizeof(text));
}

/* One character; returns how many bytes it had. */
static size_t
line_add_escaped(struct line *l, const char *p, size_t n)
{
    unsigned char c = (unsigned char)p[0];
    size_t length = kt_utf8_char(p, n);
    if (length == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0)
        length = 0;
    if (c == '"' || c == '\\')
        line_add(l, (const char[]){ '\\', (char)c }, 2);
    else if (c == '\n')
        line_add(l, "\\n", 2);
    else if (c == '\r')
        line_add(l, "\\r", 2);
    else if (c == '\t')
        line_add(l, "\\t", 2);
    else if (length == 0 || c < ' ' || c == 0x7f)
        line_add_hex(l, c);
    else
        line_add(l, p, length);
    return length == 0 ? 1 : length;
}

static void
line_add_quoted(struct line *l, const char *p, size_t n)
{
    line_add(l, "\"", 1);
    if (l->cut)
        return;
    for (size_t i = 0; i < n && !l->cut;)
        i += line_add_escaped(l, p + i, n - i);
    line_add(l, "\"", 1);
    l->cut_in_quotes = l->cut;
}

/* Characters that are kept free behind the limit. */
static void
line_finish(struct line *l)
{
    if (l->cut) {
        memcpy(l->p + l->n, "...", 3);
        l->n += 3;
    }
    if (l->cut_in_quotes)
        l->p[l->n++] = '"';
    l->p[l->n++] = '\n';
}

static void
line_add_value(struct line *l, const char *p, size_t n)
{
    if (is_plain(p, n))
        line_add(l, p, n);
    else
        line_add_quoted(l, p, n);
}

/* One conversion of a format string. */
struct spec {
    int width, precision; /* -1: none */
    bool zero;
    char length; /* 0, l, L (ll), z, j */
    char kind;
};

static const char *
read_number(const char *f, int *ret)
{
    int value = 0;
    while (*f >= '0' && *f <= '9' && value < 10000)
        value = value * 10 + (*f++ - '0');
    *ret = value;
    return f;
}

/* f stands behind the percent sign; returns what stands behind the conversion. The two flags and
 * the widths that a log line may want; star_precision says that the precision is an argument. */
static const char *
read_spec(const char *f, struct spec *s, bool *star_precision)
{
    *s = (struct spec){ .width = -1, .precision = -1 };
    *star_precision = false;
    if (*f == '0') {
        s->zero = true;
        f++;
    }
    if (*f >= '1' && *f <= '9')
        f = read_number(f, &s->width);
    if (*f == '.' && f[1] == '*') {
        *star_precision = true;
        f += 2;
    } else if (*f == '.') {
        f = read_number(f + 1, &s->precision);
    }
    while (*f == 'l' || *f == 'z' || *f == 'j' || *f == 'h') {
        s->length = *f == 'l' && s->length == 'l' ? 'L' : *f;
        f++;
    }
    s->kind = *f;
    return *f == '\0' ? f : f + 1;
}

/* A va_list in a struct, so that it can be handed on by reference everywhere. */
struct args {
    va_list ap;
};

static intmax_t
take_signed(struct args *a, char length)
{
    switch (length) {
    case 'l':
        return va_arg(a->ap, long);
    case 'L':
        return va_arg(a->ap, long long);
    case 'z':
        return va_arg(a->ap, ssize_t);
    case 'j':
        return va_arg(a->ap, intmax_t);
    default:
        return va_arg(a->ap, int);
    }
}

static uintmax_t
take_unsigned(struct args *a, char length)
{
    switch (length) {
    case 'l':
        return va_arg(a->ap, unsigned long);
    case 'L':
        return va_arg(a->ap, unsigned long long);
    case 'z':
        return va_arg(a->ap, size_t);
    case 'j':
        return va_arg(a->ap, uintmax_t);
    default:
        return va_arg(a->ap, unsigned);
    }
}

static size_t
format_number(char out[NUMBER_MAX], const struct spec *s, struct args *a)
{
    int width = s->width < 0 ? 0 : s->width, digits = s->precision < 0 ? 6 : s->precision, n;
    if (s->kind == 'd' || s->kind == 'i')
        n = s->zero ? snprintf(out, NUMBER_MAX, "%0*jd", width, take_signed(a, s->length))
                    : snprintf(out, NUMBER_MAX, "%*jd", width, take_signed(a, s->length));
    else if (s->kind == 'u')
        n = s->zero ? snprintf(out, NUMBER_MAX, "%0*ju", width, take_unsigned(a, s->length))
                    : snprintf(out, NUMBER_MAX, "%*ju", width, take_unsigned(a, s->length));
    else if (s->kind == 'x' || s->kind == 'X')
        n = snprintf(out, NUMBER_MAX, "%0*jx", width, take_unsigned(a, s->length));
    else if (s->kind == 'o')
        n = snprintf(out, NUMBER_MAX, "%0*jo", width, take_unsigned(a, s->length));
    else if (s->kind == 'f')
        n = snprintf(out, NUMBER_MAX, "%.*f", digits, va_arg(a->ap, double));
    else if (s->kind == 'p')
        n = snprintf(out, NUMBER_MAX, "%p", va_arg(a->ap, void *));
    else
        n = snprintf(out, NUMBER_MAX, "%.*g", digits, va_arg(a->ap, double));
    return n < 0 ? 0 : (size_t)n < NUMBER_MAX ? (size_t)n : NUMBER_MAX - 1;
}

static void
add_conversion(struct line *l, const struct spec *s, struct args *a, int error)
{
    char buf[NUMBER_MAX];
    const char *text = "";
    switch (s->kind) {
    case '%':
        line_add(l, "%", 1);
        return;
    case 'c':
        buf[0] = (char)va_arg(a->ap, int);
        line_add_value(l, buf, 1);
        return;
    case 'm':
        text = strerrordesc_np(error);
        text = text == NULL ? "unknown error" : text;
        break;
    case 's':
        text = va_arg(a->ap, const char *);
        text = text == NULL ? "" : text;
        break;
    default:
        line_add_value(l, buf, format_number(buf, s, a));
        return;
    }
    size_t n = s->precision >= 0 ? strnlen(text, (size_t)s->precision) : strlen(text);
    line_add_value(l, text, n);
}

static void
add_pairs(struct line *l, const char *f, struct args *a, int error)
{
    while (*f != '\0' && !l->cut) {
        size_t n = strcspn(f, "%");
        for (size_t i = 0; i < n; i++)
            line_add(l, (unsigned char)f[i] < ' ' ? " " : f + i, 1);
        f += n;
        if (*f == '\0')
            break;
        struct spec spec;
        bool star;
        f = read_spec(f + 1, &spec, &star);
        if (star)
            spec.precision = va_arg(a->ap, int);
        add_conversion(l, &spec, a, error);
    }
}

/* Whether the format starts with key=, and so speaks the language of the log itself. */
static bool
is_pairs(const char *f)
{
    size_t n = strspn(f, "abcdefghijklmnopqrstuvwxyz0123456789_.");
    return n > 0 && f[n] == '=';
}

static void __attribute__((format(printf, 2, 0)))
add_message(struct line *l, const char *fmt, va_list ap)
{
    char text[LOG_LINE_MAX];
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    if (n < 0)
        return;
    line_add_text(l, "message=");
    line_add_value(l, text, strnlen(text, sizeof(text)));
}

static const char *
level_name(enum log_level level)
{
    static const char *const names[] = { "emergency", "alert",  "critical", "error",
                                         "warning",   "notice", "info",     "debug" };
    return names[(unsigned)level & 7];
}

static void
add_head(struct line *l, enum log_level level)
{
    if (atomic_load_explicit(&logger.journal, memory_order_relaxed)) {
        line_add(l, (const char[]){ '<', (char)('0' + ((unsigned)level & 7)), '>' }, 3);
        return;
    }
    struct timespec now;
    char text[KT_TIME_MAX];
    clock_gettime(CLOCK_REALTIME, &now);
    kt_time_print((struct kt_time){ (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 }, text);
    line_add_text(l, "time=");
    line_add_text(l, text);
    line_add_text(l, " level=");
    line_add_text(l, level_name(level));
    line_add(l, " ", 1);
}

static void
send_bytes(const char *p, size_t n)
{
    int fd = atomic_load_explicit(&logger.fd, memory_order_acquire);
    ssize_t done;
    do
        done = write(fd, p, n);
    while (done < 0 && errno == EINTR);
}

static void
send_gathered(void)
{
    if (gathered.n)
        send_bytes(gathered.p, gathered.n);
    gathered.n = 0;
}

static void
send_line(const struct line *l, size_t head, enum log_level level)
{
    if (l->n > sizeof gathered.p - gathered.n)
        send_gathered();
    if (gathered.on && l->n <= sizeof gathered.p) {
        memcpy(gathered.p + gathered.n, l->p, l->n);
        gathered.n += l->n;
    } else {
        send_bytes(l->p, l->n);
    }
    if (atomic_load_explicit(&logger.syslog, memory_order_relaxed))
        syslog((int)level, "%.*s", (int)(l->n - 1 - head), l->p + head);
}

static void __attribute__((format(printf, 3, 0)))
vline(enum log_level level, const char *event, const char *fmt, va_list ap)
{
    if (!log_enabled(level))
        return;
    int saved = errno;
    struct line l;
    l.n = 0;
    l.limit = LOG_LINE_MAX - TAIL;
    l.cut = l.cut_in_quotes = false;
    add_head(&l, level);
    size_t head = l.n;
    line_add_text(&l, "event=");
    line_add_value(&l, event, strlen(event));
    if (fmt != NULL && fmt[0] != '\0') {
        line_add(&l, " ", 1);
        struct args args;
        va_copy(args.ap, ap);
        errno = saved; /* for %m */
        if (is_pairs(fmt))
            add_pairs(&l, fmt, &args, saved);
        else
            add_message(&l, fmt, args.ap);
        va_end(args.ap);
    }
    line_finish(&l);
    send_line(&l, head, level);
    errno = saved;
}

void
log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vline(level, event, fmt, ap);
    va_end(ap);
}

void
log_gather(void)
{
    gathered.on = true;
}

void
log_release(void)
{
    int saved = errno;
    gathered.on = false;
    send_gathered();
    errno = saved;
}

/* systemd names the stream that it reads by device and inode, so that a redirected stderr is not
 * taken for the journal. */
static bool
stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

static int
open_file(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
}

bool
log_open(const struct log_options *options)
{
    int fd = STDERR_FILENO;
    char *file = NULL, *ident = NULL;
    if (options->file != NULL && (fd = open_file(options->file)) < 0)
        return false;
    if ((options->file != NULL && (file = strdup(options->file)) == NULL) ||
        (options->syslog != NULL && (ident = strdup(options->syslog)) == NULL)) {
        free(file);
        if (fd != STDERR_FILENO)
            close(fd);
        errno = ENOMEM;
        return false;
    }
    log_close();
    logger.file = file;
    logger.ident = ident;
    if (ident != NULL)
        openlog(ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
    atomic_store(&logger.syslog, ident != NULL);
    atomic_store(&logger.journal,
                 options->form == LOG_FORM_JOURNAL ||
                     (options->form == LOG_FORM_AUTO && file == NULL && stderr_is_journal()));
    log_set_level(options->level == 0 ? LOG_LEVEL_INFO : options->level);
    atomic_store_explicit(&logger.fd, fd, memory_order_release);
    return true;
}

bool
log_reopen(void)
{
    if (logger.file == NULL)
        return true;
    int fresh = open_file(logger.file);
    if (fresh < 0)
        return false;
    /* The number stays: a thread between load and write hits the old or the new file. */
    bool ok = dup3(fresh, atomic_load(&logger.fd), O_CLOEXEC) >= 0;
    int saved = errno;
    close(fresh);
    errno = saved;
    return ok;
}

void
log_close(void)
{
    int fd = atomic_exchange(&logger.fd, STDERR_FILENO);
    if (fd != STDERR_FILENO)
        close(fd);
    if (atomic_exchange(&logger.syslog, false))
        closelog();
    free(logger.file);
    free(logger.ident);
    logger.file = logger.ident = NULL;
    atomic_store(&logger.journal, false);
}

void
log_set_level(enum log_level level)
{
    atomic_store_explicit(&logger.level, (int)level, memory_order_relaxed);
}

bool
log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&logger.level, memory_order_relaxed);
}

bool
log_level_parse(const char *word, enum log_level *ret)
{
    for (enum log_level level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
        if (strcmp(word, level_name(level)) == 0) {
            *ret = level;
            return true;
        }
    }
    return false;
}
