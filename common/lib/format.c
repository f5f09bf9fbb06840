/* Formatted text into a buffer: the printf subset that printk.h documents. */
#include <pvisor/lib.h>
#ifdef HOST_TEST /* the test program's own C library keeps its name */
#define vsnprintf pv_vsnprintf
#define snprintf pv_snprintf
#endif
#include <pvisor/printk.h>

struct out {
    char *buf;
    size_t size, len;   /* len counts what would be written, as vsnprintf returns it */
};

struct spec {
    bool zero, left, alt, plus, upper;
    int width, precision;   /* precision -1: none given */
    u8 bytes;               /* size of an integer argument */
};

static void put(struct out *o, char c)
{
    if (o->len + 1 < o->size)
        o->buf[o->len] = c;
    o->len++;
}

static void pad(struct out *o, char c, int n)
{
    while (n-- > 0)
        put(o, c);
}

static void put_text(struct out *o, const struct spec *f, const char *s, int len)
{
    if (!f->left)
        pad(o, ' ', f->width - len);
    for (int i = 0; i < len; i++)
        put(o, s[i]);
    if (f->left)
        pad(o, ' ', f->width - len);
}

/* prefix: sign or 0x, before any zero padding. */
static void put_number(struct out *o, const struct spec *f, u64 v, unsigned base, const char *prefix)
{
    const char *digits = f->upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char text[24];
    int n = 0, zeros, before;

    for (; v || (n == 0 && f->precision != 0); v /= base)
        text[n++] = digits[v % base];
    before = strlen(prefix);
    zeros = f->precision - n;
    if (f->precision < 0)
        zeros = f->zero && !f->left ? f->width - before - n : 0;
    zeros = max(zeros, 0);

    if (!f->left)
        pad(o, ' ', f->width - before - zeros - n);
    while (*prefix)
        put(o, *prefix++);
    pad(o, '0', zeros);
    for (int i = n; i--; )
        put(o, text[i]);
    if (f->left)
        pad(o, ' ', f->width - before - zeros - n);
}

static const char *parse_count(const char *p, int *n, va_list *args)
{
    if (*p == '*') {
        *n = va_arg(*args, int);
        return p + 1;
    }
    for (*n = 0; *p >= '0' && *p <= '9'; p++)
        if (*n < 10000)
            *n = *n * 10 + (*p - '0');
    return p;
}

static const char *parse_size(const char *p, struct spec *f)
{
    f->bytes = sizeof(int);
    if (*p == 'h') {
        f->bytes = p[1] == 'h' ? 1 : 2;
        return p + (p[1] == 'h' ? 2 : 1);
    }
    if (*p == 'l' && p[1] == 'l') {
        f->bytes = sizeof(long long);
        return p + 2;
    }
    if (*p == 'l' || *p == 'z') {   /* 4 bytes in the 32-bit loader */
        f->bytes = sizeof(long);
        return p + 1;
    }
    return p;
}

/* Everything between '%' and the conversion character. */
static const char *parse_spec(const char *p, struct spec *f, va_list *args)
{
    *f = (struct spec){ .precision = -1 };
    for (;; p++) {
        if (*p == '0')
            f->zero = true;
        else if (*p == '-')
            f->left = true;
        else if (*p == '#')
            f->alt = true;
        else if (*p == '+')
            f->plus = true;
        else if (*p != ' ')
            break;
    }
    p = parse_count(p, &f->width, args);
    if (f->width < 0) {
        f->left = true;
        f->width = -f->width;
    }
    if (*p == '.')
        p = parse_count(p + 1, &f->precision, args);
    return parse_size(p, f);
}

static void put_signed(struct out *o, const struct spec *f, va_list *args)
{
    s64 v = f->bytes == 8 ? va_arg(*args, s64) : va_arg(*args, int);

    if (f->bytes == 2)
        v = (s16)v;
    if (f->bytes == 1)
        v = (s8)v;
    put_number(o, f, v < 0 ? -(u64)v : (u64)v, 10, v < 0 ? "-" : f->plus ? "+" : "");
}

static void put_unsigned(struct out *o, const struct spec *f, unsigned base, va_list *args)
{
    u64 v = f->bytes == 8 ? va_arg(*args, u64) : va_arg(*args, unsigned int);

    if (f->bytes < 8)
        v &= ((u64)1 << (f->bytes * 8)) - 1;
    put_number(o, f, v, base, f->alt && base == 16 && v ? "0x" : "");
}

static void put_string(struct out *o, const struct spec *f, const char *s)
{
    if (!s)
        s = "(null)";
    put_text(o, f, s, f->precision < 0 ? strlen(s) : strnlen(s, f->precision));
}

static void convert(struct out *o, struct spec *f, char conversion, va_list *args)
{
    char c;

    switch (conversion) {
    case 'd': case 'i':
        put_signed(o, f, args);
        break;
    case 'u':
        put_unsigned(o, f, 10, args);
        break;
    case 'X':
        f->upper = true;
        put_unsigned(o, f, 16, args);
        break;
    case 'x':
        put_unsigned(o, f, 16, args);
        break;
    case 'p':
        f->precision = 2 * sizeof(void *);
        put_number(o, f, (u64)(size_t)va_arg(*args, void *), 16, "");
        break;
    case 's':
        put_string(o, f, va_arg(*args, const char *));
        break;
    case 'c':
        c = (char)va_arg(*args, int);
        put_text(o, f, &c, 1);
        break;
    default:
        put(o, '%');
        put(o, conversion);
        break;
    }
}

int vsnprintf(char *buf, size_t size, const char *fmt, va_list args)
{
    struct out o = { .buf = buf, .size = size };
    struct spec f;
    va_list ap;

    va_copy(ap, args);
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            put(&o, *fmt);
        } else if (fmt[1] == '%') {
            put(&o, *fmt++);
        } else {
            fmt = parse_spec(fmt + 1, &f, &ap);
            if (!*fmt)
                break;
            convert(&o, &f, *fmt, &ap);
        }
    }
    va_end(ap);
    if (size)
        buf[min(o.len, size - 1)] = '\0';
    return o.len;
}

int snprintf(char *buf, size_t size, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(buf, size, fmt, args);
    va_end(args);
    return n;
}
