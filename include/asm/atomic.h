/* Atomic and bit operations. All are full barriers on x86 (locked instructions). */
#ifndef ASM_ATOMIC_H
#define ASM_ATOMIC_H

#include <pvisor/types.h>

/* True and *p == new if *p was *old; otherwise *old is what *p was. */
#define try_cmpxchg(p, old, new) \
    __atomic_compare_exchange_n((p), (old), (new), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define xchg(p, v)            __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define atomic_add_return(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
#define atomic_inc(p)         ((void)__atomic_add_fetch((p), 1, __ATOMIC_SEQ_CST))
#define atomic_dec(p)         ((void)__atomic_sub_fetch((p), 1, __ATOMIC_SEQ_CST))
#define atomic_dec_and_test(p) (__atomic_sub_fetch((p), 1, __ATOMIC_SEQ_CST) == 0)
#define fetch_and(p, v)       __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define atomic_or(p, v)       ((void)__atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST))
#define atomic_and(p, v)      ((void)__atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST))
#define smp_mb()              __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define smp_rmb()             __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define smp_wmb()             __atomic_thread_fence(__ATOMIC_RELEASE)

/* Sixteen bytes at once, for who reads them so; p is a multiple of 16. The CPU must have CMPXCHG16B. */
static inline void write_once_16(volatile u64 *p, u64 low, u64 high)
{
    u64 old_low = p[0], old_high = p[1];
    bool done;

    do {
        __asm__ volatile("lock cmpxchg16b %1" : "=@ccz"(done), "+m"(*(volatile u64(*)[2])p), "+a"(old_low), "+d"(old_high)
                         : "b"(low), "c"(high) : "memory");
    } while (!done);
}

/* Bits of an array of 32-bit words: valid for both word sizes' bitmaps, which are little-endian. */
static inline bool test_bit(u64 n, const volatile void *map) { return read_once(((const volatile u32 *)map)[n / 32]) >> (n % 32) & 1; }
static inline bool test_and_set_bit(u64 n, volatile void *map)
{
    u32 m = 1u << (n % 32);
    return __atomic_fetch_or((volatile u32 *)map + n / 32, m, __ATOMIC_SEQ_CST) & m;
}
static inline bool test_and_clear_bit(u64 n, volatile void *map)
{
    u32 m = 1u << (n % 32);
    return __atomic_fetch_and((volatile u32 *)map + n / 32, ~m, __ATOMIC_SEQ_CST) & m;
}
static inline void set_bit(u64 n, volatile void *map) { (void)test_and_set_bit(n, map); }
static inline void clear_bit(u64 n, volatile void *map) { (void)test_and_clear_bit(n, map); }

#endif
