/* String, memory and number helpers: the freestanding part of libc that we use. */
#ifndef PVISOR_LIB_H
#define PVISOR_LIB_H

#include <pvisor/types.h>

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
char *strstr(const char *hay, const char *needle);
/* Copies at most size - 1 bytes and always terminates (size > 0). Returns strlen(src). */
size_t strlcpy(char *dst, const char *src, size_t size);
size_t strlcat(char *dst, const char *src, size_t size);
/* Number in the given base (0: 0x and leading 0 are recognised). *end is the first byte not taken. */
u64 strtoull(const char *s, const char **end, unsigned base);

/* The compiler's own versions: small and constant sizes are expanded in place, others call the functions above. */
#define memcpy __builtin_memcpy
#define memmove __builtin_memmove
#define memset __builtin_memset
#define memcmp __builtin_memcmp
#define strlen __builtin_strlen

static inline unsigned find_first_set(u64 x) { return (unsigned)__builtin_ctzl(x); } /* x != 0 */
static inline unsigned ilog2(u64 x) { return 63 - (unsigned)__builtin_clzl(x); }     /* x != 0 */
static inline unsigned popcount64(u64 x)
{
    x -= (x >> 1) & 0x5555555555555555UL;
    x = (x & 0x3333333333333333UL) + ((x >> 2) & 0x3333333333333333UL);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fUL;
    return (unsigned)((x * 0x0101010101010101UL) >> 56);
}

#endif
