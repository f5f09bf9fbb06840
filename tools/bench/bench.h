/*
 * What the benchmark kernels share. Under QEMU's -icount shift=0, where the TSC counts instructions, a benchmark prints
 *     BENCH name cost
 * with the instructions of one operation, the guest's own few included and the loop's excluded: the least of some rounds,
 * so that a timer tick in one does not count.
 */
#ifndef BENCH_H
#define BENCH_H

#include "clock.h"
#include "grant.h"
#include "hypercall.h"
#include "mm.h"
#include "test.h"
#include <public/grant_table.h>

#define LOOPS 64
#define ROUNDS (endless ? ~0U : 8)    /* endless: for tools/bench/profile, which watches from outside */
#define BATCH 32

/* As kernels do it: arguments into registers, and a call into the hypercall page. */
#ifdef FORMAT_PT64
#define CALL(nr, a, b, c, d_) ({                                                                     \
    long rc_;                                                                                        \
    word a_ = (word)(a), b_ = (word)(b), c_ = (word)(c);                                             \
    register word r10_ __asm__("r10") = (word)(d_);                                                  \
    __asm__ volatile("call hypercall_page + %c[off]" : "=a"(rc_), "+D"(a_), "+S"(b_), "+d"(c_), "+r"(r10_) \
                     : [off] "i"((nr) * 32) : "rcx", "r11", "r8", "r9", "memory");                   \
    rc_; })
#else
#define CALL(nr, a, b, c, d_) ({                                                                     \
    long rc_;                                                                                        \
    word a_ = (word)(a), b_ = (word)(b), c_ = (word)(c), e_ = (word)(d_);                            \
    __asm__ volatile("call hypercall_page + %c[off]" : "=a"(rc_), "+b"(a_), "+c"(b_), "+d"(c_), "+S"(e_) \
                     : [off] "i"((nr) * 32) : "memory");                                             \
    rc_; })
#endif

static bool endless;

static inline u64 loop_cost(void)
{
    u64 best = ~0ULL;

    endless = cmdline_value("endless") != NULL;
    for (unsigned round = 0; round < 8; round++) {
        u64 t = rdtsc();
        for (unsigned i = 0; i < LOOPS; i++)
            __asm__ volatile("" : "+r"(i) : : "memory");
        t = rdtsc() - t;
        best = t < best ? t : best;
    }
    return best;
}

static inline void report(const char *name, u64 total, u64 operations)
{
    printf("BENCH %s %llu\n", name, (unsigned long long)((total + operations / 2) / operations));
}

/* Times the statement; each run of it is `per` operations. i is the loop's counter. */
#define BENCH(name, per, ...)                                           \
    do {                                                                \
        u64 best_ = ~0ULL, empty_ = loop_cost();                        \
        for (unsigned round_ = 0; round_ < ROUNDS; round_++) {          \
            u64 t_ = rdtsc();                                           \
            for (unsigned i = 0; i < LOOPS; i++) {                      \
                __asm__ volatile("" : "+r"(i) : : "memory");            \
                __VA_ARGS__;                                            \
            }                                                           \
            t_ = rdtsc() - t_;                                          \
            best_ = t_ < best_ ? t_ : best_;                            \
        }                                                               \
        report(name, best_ - empty_, (u64)LOOPS * (per));               \
    } while (0)

/* --- Grants, as a backend uses a frontend's --- */

static struct gnttab_map_grant_ref map_ops[BATCH];
static struct gnttab_unmap_grant_ref unmap_ops[BATCH];
static GUEST(gnttab_copy) copy_ops[BATCH];

static inline long grant_call(unsigned cmd, void *ops, unsigned n) { return CALL(__HYPERVISOR_grant_table_op, cmd, ops, n, 0); }

static inline void map_and_unmap(unsigned n)
{
    grant_call(GNTTABOP_map_grant_ref, map_ops, n);
    for (unsigned k = 0; k < n; k++)
        unmap_ops[k].handle = map_ops[k].handle;
    grant_call(GNTTABOP_unmap_grant_ref, unmap_ops, n);
}

static inline void copy_grants(void) { grant_call(GNTTABOP_copy, copy_ops, BATCH); }

/* Fills in the operations on a batch of grants, and makes each once: do they work? */
static inline bool prepare_grants(domid_t granter, const grant_ref_t ref[BATCH])
{
    bool okay = true;

    for (unsigned k = 0; k < BATCH; k++) {
        build_tables(window(k));
        map_ops[k] = (struct gnttab_map_grant_ref){
            .host_addr = P(window(k)), .flags = GNTMAP_host_map, .ref = ref[k], .dom = granter };
        unmap_ops[k] = (struct gnttab_unmap_grant_ref){ .host_addr = P(window(k)) };
        copy_ops[k].source.u = ref[k];
        copy_ops[k].source.domid = granter;
        copy_ops[k].dest.u = virt_to_mfn(page_alloc());
        copy_ops[k].dest.domid = DOMID_SELF;
        copy_ops[k].len = 4096;
        copy_ops[k].flags = GNTCOPY_source_gref;
    }
    map_and_unmap(BATCH);
    copy_grants();
    for (unsigned k = 0; k < BATCH; k++)
        okay &= map_ops[k].status == GNTST_okay && unmap_ops[k].status == GNTST_okay && copy_ops[k].status == GNTST_okay;
    return okay;
}

#endif
