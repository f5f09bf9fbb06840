/* Text helpers that the host's C library lacks or has in another shape. */
#include <pvisor/lib.h>

size_t strlcpy(char *dst, const char *src, size_t size)
{
    size_t len = strlen(src);
    size_t n = min(len, size - 1);

    memcpy(dst, src, n);
    dst[n] = '\0';
    return len;
}

size_t strlcat(char *dst, const char *src, size_t size)
{
    size_t have = strnlen(dst, size);

    if (have == size)
        return size + strlen(src);
    return have + strlcpy(dst + have, src, size - have);
}

/* Value of a digit in bases up to 36; 36 for any other character. */
static unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
        return (c | 0x20) - 'a' + 10;
    return 36;
}

u64 strtoull(const char *s, const char **end, unsigned base)
{
    u64 v = 0;

    if ((base == 0 || base == 16) && s[0] == '0' && (s[1] | 0x20) == 'x' && digit_value(s[2]) < 16) {
        s += 2;
        base = 16;
    }
    if (base == 0)
        base = s[0] == '0' ? 8 : 10;
    for (; digit_value(*s) < base; s++)
        v = v > (UINT64_MAX - digit_value(*s)) / base ? UINT64_MAX : v * base + digit_value(*s);
    if (end)
        *end = s;
    return v;
}
