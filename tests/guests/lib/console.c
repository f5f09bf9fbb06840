#include "console.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "string.h"

/* Layout of the page that a PV console driver and its backend share (public/io/console.h). */
struct console_ring {
    char in[1024];
    char out[2048];
    u32 in_cons, in_prod;
    u32 out_cons, out_prod;
};

static volatile struct console_ring *ring;
static char line[256];
static unsigned line_length;
static char *into, *into_end;   /* where snprintf() writes, while it runs */

void console_init(void)
{
    if (!is_dom0())
        ring = mfn_to_virt(start_info->console_mfn);
}

static void notify(void)
{
    send_port(start_info->console_evtchn);
}

/* A reader that never comes must not hang the tests: after some yields the rest is dropped. */
static void ring_putc(char c)
{
    for (unsigned tries = 0; ring->out_prod - ring->out_cons >= sizeof(ring->out); tries++) {
        if (tries > 100000)
            return;
        notify();
        sched_op(SCHEDOP_yield, NULL);
    }
    ring->out[ring->out_prod % sizeof(ring->out)] = c;
    barrier();
    ring->out_prod++;
}

static void flush(void)
{
    if (ring) {
        for (unsigned i = 0; i < line_length; i++) {
            if (line[i] == '\n')
                ring_putc('\r');
            ring_putc(line[i]);
        }
        notify();
    }
    console_io(CONSOLEIO_write, line_length, line);
    line_length = 0;
}

static void putc(char c)
{
    if (into) {
        if (into < into_end)
            *into++ = c;
        return;
    }
    line[line_length++] = c;
    if (c == '\n' || line_length == sizeof(line))
        flush();
}

static void put_number(u64 value, unsigned base, bool negative, unsigned width, char fill)
{
    char digits[24];
    unsigned n = 0;

    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative)
        digits[n++] = '-';
    for (unsigned i = n; i < width; i++)
        putc(fill);
    while (n)
        putc(digits[--n]);
}

static void put_string(const char *s, unsigned width)
{
    for (unsigned n = strlen(s); n < width; n++)
        putc(' ');
    while (*s)
        putc(*s++);
}

void vprintf(const char *f, __builtin_va_list args)
{
    for (; *f; f++) {
        unsigned longs = 0, width = 0;
        char fill = ' ';
        u64 value;

        if (*f != '%') {
            putc(*f);
            continue;
        }
        if (*++f == '0')
            fill = '0';
        for (; *f >= '0' && *f <= '9'; f++)
            width = width * 10 + (unsigned)(*f - '0');
        for (; *f == 'l'; f++)
            longs++;
        switch (*f) {
        case 's':
            put_string(__builtin_va_arg(args, const char *), width);
            continue;
        case 'c':
            putc((char)__builtin_va_arg(args, int));
            continue;
        case 'p':
            value = __builtin_va_arg(args, word);
            break;
        case 'd':
            value = longs == 2   ? (u64)__builtin_va_arg(args, long long)
                    : longs == 1 ? (u64)__builtin_va_arg(args, long)
                                 : (u64)__builtin_va_arg(args, int);
            put_number((s64)value < 0 ? -value : value, 10, (s64)value < 0, width, fill);
            continue;
        default:
            value = longs == 2   ? __builtin_va_arg(args, u64)
                    : longs == 1 ? __builtin_va_arg(args, word)
                                 : __builtin_va_arg(args, unsigned);
        }
        put_number(value, *f == 'u' ? 10 : 16, false, width, fill);
    }
}

void printf(const char *f, ...)
{
    __builtin_va_list args;

    __builtin_va_start(args, f);
    vprintf(f, args);
    __builtin_va_end(args);
}

void snprintf(char *out, size_t size, const char *f, ...)
{
    __builtin_va_list args;

    into = out;
    into_end = out + size - 1;
    __builtin_va_start(args, f);
    vprintf(f, args);
    __builtin_va_end(args);
    *into = '\0';
    into = NULL;
}
