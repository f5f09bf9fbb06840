#include "string.h"

void *memcpy(void *dst, const void *src, size_t n)
{
    u8 *d = dst;

    for (const u8 *s = src; n; n--)
        *d++ = *s++;
    return dst;
}

void *memset(void *dst, int c, size_t n)
{
    for (u8 *d = dst; n; n--)
        *d++ = (u8)c;
    return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const u8 *x = a, *y = b;

    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++)
        if (*a != *b || !*a)
            return (u8)*a - (u8)*b;
    return 0;
}

const char *strstr(const char *hay, const char *needle)
{
    for (size_t n = strlen(needle); *hay; hay++)
        if (!strncmp(hay, needle, n))
            return hay;
    return NULL;
}

u64 parse_number(const char *s)
{
    u64 value = 0;

    for (; *s >= '0' && *s <= '9'; s++)
        value = value * 10 + (u64)(*s - '0');
    return value;
}
