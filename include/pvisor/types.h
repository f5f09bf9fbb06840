/*
 * Basic types. Addresses and frame numbers of different kinds are distinct
 * structure types, so that mixing them does not compile:
 *
 *   mfn_t    machine frame number: of RAM that the frame table covers, or INVALID_MFN
 *   maddr_t  machine address in bytes, of the hypervisor's own making
 *   pfn_t    a guest's pseudo-physical frame number (the M2P's values)
 *   gva_t    a guest's linear address, not yet checked
 *
 * An mfn_t indexes the frame table and becomes a pointer into the direct map, which no other number may: mfn() makes it, of any number
 * at all, a guest's included, and what is no frame of RAM becomes INVALID_MFN. With that, both lead to addresses of the hypervisor's
 * where nothing is. So what a guest says is an mfn_t, or it stays a plain number; a machine address of a guest's stays a u64.
 */
#ifndef PVISOR_TYPES_H
#define PVISOR_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define always_inline inline __attribute__((always_inline))

typedef struct { u64 v; } mfn_t;
typedef struct { u64 v; } maddr_t;
typedef struct { u64 v; } pfn_t;
typedef struct { u64 v; } gva_t;

#define PAGE_SHIFT 12
#define PAGE_SIZE  (1UL << PAGE_SHIFT)
#define PAGE_MASK  (~(PAGE_SIZE - 1))

#define INVALID_MFN ((mfn_t){ ~0UL })

extern u64 nr_frames;       /* the frame table's length: mm/frames.c */

static always_inline mfn_t mfn(u64 v)
{
    if (likely(v < nr_frames))
        return (mfn_t){ v };
    __asm__ volatile("");       /* a branch, then, which leads straight to where INVALID_MFN is refused, and no CMOV */
    return INVALID_MFN;
}
/* Of a number that the hypervisor itself has put away, from an mfn_t. */
static inline mfn_t mfn_kept(u64 v) { return (mfn_t){ v }; }
static inline pfn_t pfn(u64 v) { return (pfn_t){ v }; }
static inline maddr_t maddr(u64 v) { return (maddr_t){ v }; }
static inline gva_t gva(u64 v) { return (gva_t){ v }; }
static inline mfn_t mfn_add(mfn_t m, u64 n) { return mfn(m.v + n); }
static inline bool mfn_eq(mfn_t a, mfn_t b) { return a.v == b.v; }
static inline maddr_t mfn_to_maddr(mfn_t m) { return (maddr_t){ m.v << PAGE_SHIFT }; }
static inline mfn_t maddr_to_mfn(maddr_t a) { return mfn(a.v >> PAGE_SHIFT); }
static inline gva_t gva_add(gva_t a, u64 n) { return (gva_t){ a.v + n }; }

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define min(a, b) ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ < b_ ? a_ : b_; })
#define max(a, b) ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ > b_ ? a_ : b_; })
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
#define ROUND_UP(x, n)   (((x) + (n) - 1) / (n) * (n))
#define DIV_ROUND_UP(x, n) (((x) + (n) - 1) / (n))

#define noreturn_fn __attribute__((noreturn))
#define printf_like(f, a) __attribute__((format(printf, f, a)))
#define must_check  __attribute__((warn_unused_result))
/* Code and data used only until dom0 starts; the memory is freed then. */
#define __init      __attribute__((section(".init.text"), cold))
#define __initdata  __attribute__((section(".init.data")))
#define __initconst __attribute__((section(".init.rodata")))

/* One access, not torn, not repeated: the way to read anything that a guest or another CPU may write. */
#ifdef __SANITIZE_THREAD__   /* says that the race is meant; x86 orders loads and stores like this anyway */
#define read_once(x)     __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define write_once(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELEASE)
#else
#define read_once(x)     (*(const volatile __typeof__(x) *)&(x))
#define write_once(x, v) (*(volatile __typeof__(x) *)&(x) = (v))
#endif
#define barrier()        __asm__ volatile("" ::: "memory")

#endif
