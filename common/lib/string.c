/*
 * Memory and string functions. They exist as real symbols too, because the compiler and the unpacking
 * libraries call them. Copies move a word at a time: `rep movsq` is fast on every CPU and under emulation.
 */
#pragma GCC optimize("no-tree-loop-distribute-patterns")
#include <pvisor/lib.h>

/* The loader for non-PAE kernels is built from this too, for 32 bits. */
#ifdef __x86_64__
#define WORD "q"
#else
#define WORD "l"
#endif

#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef strlen

/* Library code that was not built with our visibility refers to these by name. */
#define LIBC_SYMBOL __attribute__((used))

LIBC_SYMBOL void *memcpy(void *dst, const void *src, size_t n)
{
    void *d = dst;
    size_t words = n / sizeof(n), tail = n % sizeof(n);

    __asm__ volatile("rep movs" WORD : "+D"(d), "+S"(src), "+c"(words) :: "memory");
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(tail) :: "memory");
    return dst;
}

LIBC_SYMBOL void *memmove(void *dst, const void *src, size_t n)
{
    u8 *d = dst;
    const u8 *s = src;

    if (d <= s || d >= s + n)
        return memcpy(dst, src, n);
    while (n--)
        d[n] = s[n];
    return dst;
}

LIBC_SYMBOL void *memset(void *dst, int c, size_t n)
{
    void *d = dst;
    size_t pattern = (u8)c * (~(size_t)0 / 255), words = n / sizeof(n), tail = n % sizeof(n);

    __asm__ volatile("rep stos" WORD : "+D"(d), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(tail) : "a"(pattern) : "memory");
    return dst;
}

LIBC_SYMBOL int memcmp(const void *a, const void *b, size_t n)
{
    const u8 *x = a, *y = b;

    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

void *memchr(const void *s, int c, size_t n)
{
    const u8 *p = s;

    for (; n; n--, p++)
        if (*p == (u8)c)
            return (void *)p;
    return NULL;
}

LIBC_SYMBOL size_t strlen(const char *s)
{
    const char *p = s;

    while (*p)
        p++;
    return p - s;
}

size_t strnlen(const char *s, size_t max)
{
    size_t n = 0;

    while (n < max && s[n])
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    for (; *a && *a == *b; a++)
        b++;
    return (u8)*a - (u8)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++)
        if (*a != *b || !*a)
            return (u8)*a - (u8)*b;
    return 0;
}

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c)
            return (char *)s;
        if (!*s)
            return NULL;
    }
}

char *strstr(const char *hay, const char *needle)
{
    size_t n = strlen(needle);

    for (; *hay; hay++)
        if (!strncmp(hay, needle, n))
            return (char *)hay;
    return n ? NULL : (char *)hay;
}
