/*
 * Bounds-check bypass (Spectre variant 1, CVE-2017-5753): a CPU that expects a check to pass goes on before it knows, with a number that the
 * check is about to refuse. Used as an index, the number reads whatever lies behind the array; used as a pointer then, what was read
 * leaves its trace in the cache. So a guest's number is cut to the array by arithmetic, which a CPU does not predict, after the check.
 */
#ifndef ASM_NOSPEC_H
#define ASM_NOSPEC_H

#include <pvisor/types.h>

/* i if it is below n, else 0. */
static always_inline u64 index_nospec(u64 i, u64 n)
{
    u64 mask;

    __asm__ volatile("cmp %2, %1\n\tsbb %0, %0" : "=r"(mask) : "r"(i), "re"(n) : "cc");
    return i & mask;
}

/* array[i], its length being known when compiling. */
#define array_nospec(array, i) ((array)[index_nospec((i), ARRAY_SIZE(array))])

#endif
