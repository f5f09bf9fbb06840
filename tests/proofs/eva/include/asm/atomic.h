/*
 * asm/atomic.h in plain C, for Eva, which knows no __atomic built-ins. What is read of memory that other CPUs write is any value at all
 * (read_once() reads volatile), so a step that is atomic on the machine may be several here: whatever others do between them, the
 * value that it meets is among those looked at. Bit operations are atomic.h's own.
 */
#ifndef ASM_ATOMIC_H
#define ASM_ATOMIC_H

#include <pvisor/types.h>

#define try_cmpxchg(p, old, new) ({                                     \
    __typeof__(p) p_ = (p);                                             \
    __typeof__(*(p)) was_ = read_once(*p_);                             \
    bool same_ = was_ == *(old);                                        \
    if (same_)                                                          \
        write_once(*p_, (new));                                         \
    else                                                                \
        *(old) = was_;                                                  \
    same_; })
#define xchg(p, v)              ({ __typeof__(p) p_ = (p); __typeof__(*(p)) was_ = read_once(*p_); write_once(*p_, (v)); was_; })
#define fetch_and(p, v)         ({ __typeof__(p) p_ = (p); __typeof__(*(p)) was_ = read_once(*p_); write_once(*p_, was_ & (v)); was_; })
#define atomic_add_return(p, v) ({ __typeof__(p) p_ = (p); write_once(*p_, read_once(*p_) + (v)); read_once(*p_); })
#define atomic_inc(p)           ((void)atomic_add_return(p, 1))
#define atomic_dec(p)           ((void)atomic_add_return(p, -1))
#define atomic_dec_and_test(p)  (atomic_add_return(p, -1) == 0)
#define atomic_or(p, v)         ({ __typeof__(p) p_ = (p); write_once(*p_, read_once(*p_) | (v)); })
#define atomic_and(p, v)        ({ __typeof__(p) p_ = (p); write_once(*p_, read_once(*p_) & (v)); })
#define smp_mb()                ((void)0)
#define smp_rmb()               ((void)0)
#define smp_wmb()               ((void)0)

static inline bool test_bit(u64 n, const volatile void *map) { return ((const volatile u32 *)map)[n / 32] >> (n % 32) & 1; }
static inline bool test_and_set_bit(u64 n, volatile void *map)
{
    volatile u32 *w = (volatile u32 *)map + n / 32;
    u32 was = *w;

    *w = was | 1u << (n % 32);
    return was >> (n % 32) & 1;
}
static inline bool test_and_clear_bit(u64 n, volatile void *map)
{
    volatile u32 *w = (volatile u32 *)map + n / 32;
    u32 was = *w;

    *w = was & ~(1u << (n % 32));
    return was >> (n % 32) & 1;
}
static inline void set_bit(u64 n, volatile void *map) { (void)test_and_set_bit(n, map); }
static inline void clear_bit(u64 n, volatile void *map) { (void)test_and_clear_bit(n, map); }

#endif
