/*
 * What a guest can write is read once.
 *
 * Another vCPU may write guest memory at any time. So a word that is read twice, to be checked and then to be used, may be two words: a
 * double fetch. A debug build notes which bytes of guest memory a call has read, by their machine addresses, so that other names of the
 * same bytes count, and says which are read again, and from where: common/fetch.c. tests/guests/run looks for that in each suite.
 *
 * A log lasts for one attempt at one thing that the guest asks for: a hypercall, an emulated instruction, what is done on the way out. A
 * call that gave way is another call when it is made again: all that it knows of the first attempt stands in the guest's own registers, or
 * in its multicall entry, whoever forges them gains nothing over a first call, and all arguments are read and checked again.
 * Operations of one call that do not build on each other (entries of a multicall, uses of grants) are parts of their own: fetch_mark(),
 * fetch_forget(). What was read before they began still counts.
 *
 * Copies from guests note themselves. A pointer of ours to memory that guests share is one to guest_shared; nobody follows it but by
 *
 *   read_shared(x)         notes it
 *   read_shared_again(x)   does not: a comment says what makes it right that this value may be another one than before
 *   write_shared(x, v)
 *   shared_raw(p)          for the bit operations of asm/atomic.h, on flags that both sides set and clear, each look at which stands for
 *                          itself; and for copies of bytes of which nothing is decided
 *
 * and the other atomic operations, which take such pointers as they are. tools/shared checks that, as a part of `make check`: a compiler
 * that knows an attribute for it takes everything else for an error, casts included that are not to guest_shared or shared_raw().
 *
 * Page tables and descriptor tables are not among it: while a frame has such a type no guest can write it, which is what types are for.
 */
#ifndef PVISOR_FETCH_H
#define PVISOR_FETCH_H

#include <asm/percpu.h>
#include <pvisor/types.h>

#ifdef CHECK_SHARED     /* nothing is compiled of it: so volatile says no more than that a cast must keep it */
#define guest_shared volatile __attribute__((noderef))
#define shared_int(x) \
    __typeof__(__builtin_choose_expr(sizeof(x) == 8, (u64)0, __builtin_choose_expr(sizeof(x) == 4, (u32)0, \
               __builtin_choose_expr(sizeof(x) == 2, (u16)0, (u8)0))))
#define shared_value(x) (*(shared_int(x) *)(u64)&(x))
#else
#define guest_shared
#define shared_value(x) (x)
#endif

#define read_shared(x) (fetch_note((u64)&(x), sizeof(x)), read_once(shared_value(x)))
#define read_shared_again(x) read_once(shared_value(x))
#define write_shared(x, v) write_once(shared_value(x), v)
#define shared_raw(p) ((void *)(u64)(p))

#ifdef DEBUG
/* A new attempt. syscall.asm does the same for hypercalls. */
static inline void fetch_begin(void) { cpu_info()->fetched = 1; }
/* Until the next one nothing is noted. */
static inline void fetch_end(void) { cpu_info()->fetched = 0; }
/* Tells what was read twice. Called by syscall.asm after each hypercall, when no lock is held: that of the console comes after most. */
void fetch_look(void);
/* The bytes at this linear address have been read, or are about to be. Nothing is noted of what is not mapped. */
void fetch_note(u64 va, size_t len);
/* What is noted from here on belongs to a part of what is asked for; fetch_forget(), which gets what this returned, ends the part. */
u32 fetch_mark(void);
void fetch_forget(u32 mark);
#else
static inline void fetch_begin(void) { }
static inline void fetch_end(void) { }
static inline void fetch_note(u64 va, size_t len) { (void)va, (void)len; }
static inline u32 fetch_mark(void) { return 0; }
static inline void fetch_forget(u32 mark) { (void)mark; }
#endif

#endif
