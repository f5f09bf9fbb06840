/*
 * What the compiler calls in 32-bit code to divide 64-bit numbers. Its own library with these functions is in Debian's
 * gcc-multilib, which nothing else here needs. Names and meaning: GCC Internals, "Routines for integer arithmetic".
 */
#include <pvisor/types.h>

u64 __udivmoddi4(u64 n, u64 d, u64 *rest);
u64 __udivdi3(u64 n, u64 d);
u64 __umoddi3(u64 n, u64 d);
s64 __divdi3(s64 n, s64 d);
s64 __moddi3(s64 n, s64 d);

/* high:low by d, which is more than high: so the quotient has one word. */
static u32 divide_words(u32 high, u32 low, u32 d, u32 *rest)
{
    u32 quotient;

    asm("divl %4" : "=a"(quotient), "=d"(*rest) : "0"(low), "1"(high), "r"(d) : "cc");
    return quotient;
}

/* d has two words, so the quotient has one: long division, a bit at a time. */
static u32 divide_long(u64 n, u64 d, u64 *rest)
{
    u64 r = n >> 32;
    u32 quotient = 0;

    for (unsigned bit = 32; bit--; ) {
        bool fits;

        r = r << 1 | (n >> bit & 1);
        fits = r >= d;
        r -= fits ? d : 0;
        quotient = quotient << 1 | fits;
    }
    *rest = r;
    return quotient;
}

u64 __udivmoddi4(u64 n, u64 d, u64 *rest)
{
    u32 high = n >> 32, r, small = d;
    u64 quotient, r64;

    if (d >> 32) {
        quotient = divide_long(n, d, &r64);
    } else {
        quotient = (u64)(high / small) << 32;
        quotient |= divide_words(high % small, n, small, &r);
        r64 = r;
    }
    if (rest)
        *rest = r64;
    return quotient;
}

u64 __udivdi3(u64 n, u64 d)
{
    return __udivmoddi4(n, d, NULL);
}

u64 __umoddi3(u64 n, u64 d)
{
    u64 rest;

    __udivmoddi4(n, d, &rest);
    return rest;
}

static u64 magnitude(s64 x)
{
    return x < 0 ? -(u64)x : (u64)x;
}

s64 __divdi3(s64 n, s64 d)
{
    u64 quotient = __udivdi3(magnitude(n), magnitude(d));

    return (n < 0) != (d < 0) ? -quotient : quotient;
}

s64 __moddi3(s64 n, s64 d)
{
    u64 rest = __umoddi3(magnitude(n), magnitude(d));

    return n < 0 ? -rest : rest;
}
