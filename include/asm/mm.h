/* The machine layer's memory services: the hypervisor's own page tables, TLB flushing, typed frames. */
#ifndef ASM_MM_H
#define ASM_MM_H

#include <asm/domain.h>
#include <asm/e820.h>
#include <asm/layout.h>
#include <asm/pt.h>
#include <pvisor/cpumask.h>
#include <pvisor/frame.h>
#include <pvisor/printk.h>
#include <pvisor/types.h>

struct domain;
struct vcpu;

#ifdef HOST_TEST   /* memory and frame table are the test program's: tests/unit/fake/frames.c */
extern u64 fake_direct_map, fake_refs[], fake_m2p[];
extern u32 fake_types[];
#undef DIRECTMAP_START
#undef FRAME_REF_START
#undef FRAME_TYPE_START
#undef M2P_RW_START
#define DIRECTMAP_START fake_direct_map
#define FRAME_REF_START fake_refs
#define FRAME_TYPE_START fake_types
#define M2P_RW_START fake_m2p
#endif

static inline void *maddr_to_virt(maddr_t a)
{
    BUG_ON(a.v >= DIRECTMAP_SIZE);
    return (void *)(DIRECTMAP_START + a.v);
}
static inline maddr_t virt_to_maddr(const void *p)
{
    u64 v = (u64)p;
    return maddr(v >= DIRECTMAP_START ? v - DIRECTMAP_START : v - IMAGE_START);
}
static inline void *mfn_to_virt(mfn_t m)
{
    ASSERT(m.v < nr_frames);
    return (void *)(DIRECTMAP_START + mfn_to_maddr(m).v);
}

/* --- The hypervisor's own tables (mm/hyp_map.c) --- */
extern u64 *hyp_l4;                      /* template: slots 256..271 go into every address space */
extern u64 boot_l4[512];
void hyp_map_init(void);
extern const char zero_page[];           /* PAGE_SIZE bytes that stay 0 */
void percpu_release(unsigned nr);         /* per-CPU data of all but the first nr CPUs */
void hyp_release_init(void);             /* boot is over: nothing __init may run or be read any more */
/* Maps nr 4 KiB pages at va; uses 2 MiB pages where alignment allows. Tables come from the frame allocator. */
int hyp_map(u64 va, maddr_t pa, u64 nr, u64 flags);
void hyp_unmap(u64 va, u64 nr);
u64 hyp_lookup(u64 va);                   /* the leaf entry, large or not, that maps va; 0: none */
#define HYP_RW (PTE_P | PTE_RW | PTE_A | PTE_D | hyp_nx)
#define HYP_RO (PTE_P | PTE_A | PTE_D | hyp_nx)
#define HYP_RX (PTE_P | PTE_A | PTE_D)
#define HYP_UNCACHED (HYP_RW | PTE_PCD | PTE_PWT)
extern u64 hyp_nx;                       /* PTE_NX if the CPU has it */

/* --- RAM found at boot (boot/memory.c) --- */
/*
 * What lies below is the machine's, RAM or not: firmware keeps tables and data there, and its bugs write there. So it is nobody's
 * memory. It is device memory, which the hardware domain may map; CPUs start in a page of it (cpu/smp.c).
 */
#define FIRST_MIB (1UL << 20)
/* Before the heap, from the highest place; stops the machine when there is no room. */
maddr_t boot_alloc_aligned(u64 nr_pages, u64 align);
maddr_t boot_alloc(u64 nr_pages);
void boot_alloc_from_all(void);          /* the direct map is there: no longer only below 4 GiB */
void heap_init_region(mfn_t first, u64 nr);

/* --- Frame words (mm/frame.c) --- */
#define FR_COUNT_MASK  0xffffffffUL
#define FR_OWNER_SHIFT 32
#define FR_ALLOCATED   (1UL << 48)
#define FR_COUNTED     (1UL << 49)
#define FW_TYPE_SHIFT 29
static inline enum frame_type fw_type(u32 w) { return (enum frame_type)(w >> FW_TYPE_SHIFT); }
#define frame_refs  ((u64 *)FRAME_REF_START)
#define frame_types ((u32 *)FRAME_TYPE_START)

#define FW_TYPE(t)    ((u32)(t) << FW_TYPE_SHIFT)
#define FW_FREE       7u                 /* type value of a block on the heap's lists */
#define FW_PINNED     (1u << 28)
#define FW_VALID      (1u << 27)
#define FW_PARTIAL    (1u << 26)         /* entries below the count field's value hold references */
#define FW_HV         (1u << 25)         /* PAE: the L2 that has the hypervisor's entries */
#define FW_LINEAR     (1u << 24)         /* another table of its level names it */
#define FW_COUNT_MASK ((1u << 24) - 1)
#define FW_LINK_MASK  0xffffffffu        /* type word of a frame that waits for a flush */

void frame_table_init(void);
void frame_final_put(mfn_t m, u64 ref_word);
/*
 * A page-table entry of d's gave up its reference of another domain's frame: dropped once d's CPUs are flushed, on the
 * way out of the hypervisor at the latest.
 */
void frame_put_foreign(const struct domain *d, mfn_t m, bool writable);
void frames_drain_pending(void);         /* SOFTIRQ: flush, then drop what waited for it and free frames */

/* --- TLB (mm/flush.c) --- */
void flush_tlb_local(void);
/* On these CPUs, this one included if it is named; returns when all have. Not in interrupts. */
void flush_tlb_mask(const cpumask_t *m);
void flush_va_mask(const cpumask_t *m, u64 va);
/* A type change is safe only when no CPU can hold a translation from before: see mm/ptype.c. */
void domain_flush_stale(struct domain *d);

/* --- Typed page tables (mm/ptype.c); d's pt_lock is held --- */
int pt_get_table(struct domain *d, mfn_t m, unsigned level);
int pt_put_table(struct domain *d, mfn_t m);
int pt_pin(struct domain *d, mfn_t m, unsigned level);
int pt_unpin(struct domain *d, mfn_t m);
int pt_drain_orphans(struct domain *d);
#define PT_PRESERVE_AD (1u << 0)
/* Replaces entry idx of table m (type level, valid), which lies in the page. owner: whose frames a leaf entry may map. */
int pt_update_leaf(struct domain *d, mfn_t m, unsigned idx, u64 e, const struct domain *owner, unsigned flags);
/*
 * Whether ma, a machine address of a guest's and any number at all, lies in a table of d's that is known to be a level-1 table which
 * the hardware walks; then *p is the place. It was found so under the lock; only whoever drops a table's last typed reference, which
 * takes the lock too, can end that, and then forgets it. So nothing of it needs a look, nor a reference. pt_know_l1(): the caller has
 * found it so. There being none is a number that no address has, with a page that says nothing to a CPU that reads ahead of the
 * comparison; and what is not that table's is no pointer.
 */
extern const struct known_table no_known_table;
#define pt_in_known_l1(d, ma, p) pt_in_known(&(d)->arch.known_l1, ma, (void **)(p))
/* The same of a mirrored table. */
#define pt_in_known_mirrored_l1(d, ma, p) pt_in_known(&(d)->arch.known_mirrored_l1, ma, (void **)(p))
static always_inline bool pt_in_known(const struct known_table *known, u64 ma, void **p)
{
    if (unlikely(ma >> PAGE_SHIFT != known->mfn.v))
        return false;
    /* Not by the guest's number: should the CPU have expected another answer (asm/nospec.h), it is in that table still. */
    *p = (void *)(known->page + (ma & ~PAGE_MASK));
    return true;
}
void pt_know_l1(struct domain *d, mfn_t m);
/* pt_update_leaf() of the entry at p, in such a table, for d's own frames. */
int pt_update_known(struct domain *d, u64 *p, u64 e);
int pt_update_known_ad(struct domain *d, u64 *p, u64 e);      /* PT_PRESERVE_AD */
int pt_update_known_mirrored(struct domain *d, u32 *p, u32 e);  /* of a mirrored table that is known */
/* The same for the entry that maps va in v's current tables; -EINVAL, with a word in the log, if there is no such table. */
int pt_update_va(const struct vcpu *v, u64 va, u64 e, const struct domain *owner);
/*
 * A write of e to va by v's 64-bit kernel, which maps one of its level-1 tables there, read-only: 0 with what was there. -ENOENT: it
 * is none. -EAGAIN, only if it exchanges: the entry changed meanwhile. Other errors: it may not have that entry.
 */
int pt_write_va(const struct vcpu *v, u64 va, u64 e, bool exchanges, u64 *was);
/* The same by v's PAE kernel, of an entry that must be expected: 0 too, with what was there, if it is another. It is aligned. */
int pt_compare_write_va_pae(const struct vcpu *v, u64 va, u64 expected, u64 e, u64 *was);
/* The same by v's non-PAE kernel, without a comparison: nobody else changes such entries. va is aligned. */
int pt_write_va_mirrored(const struct vcpu *v, u64 va, u32 e, u32 *was);
int pt_update_node(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e, unsigned flags);
/*
 * For emulated writes, which must be atomic to hardware that sets accessed and dirty bits: the same for a leaf of d's
 * own, if it still is old; -EAGAIN if not.
 */
int pt_compare_update_leaf(struct domain *d, mfn_t m, unsigned idx, u64 old, u64 e);
/* The L1 entry that maps va in v's current tables: its table frame and index; false if there is no L1 table. */
bool pt_find_l1(const struct vcpu *v, u64 va, mfn_t *table, unsigned *idx);
bool pt_find_l1_below(const struct domain *d, mfn_t root, u64 va, mfn_t *table, unsigned *idx);
/* Raw store of an entry that stands for references the caller accounts for. */
void pt_store(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e);
#define pt_lock(d)   spin_lock(&(d)->arch.pt_lock)
#define pt_unlock(d) spin_unlock(&(d)->arch.pt_lock)
/* Mirrored formats (mm/mirror.c): the tables that the hardware walks in place of the guest's. */
int mirror_init_domain(struct domain *d);      /* once d has a mirrored format; 0 or -ENOMEM */
void mirror_free_domain(struct domain *d);
int mirror_alloc(struct domain *d, mfn_t m, unsigned level);   /* no effect if there is one; 0, -ENOMEM, -EINVAL */
void mirror_free(struct domain *d, mfn_t m, unsigned level);   /* no effect if there is none */
/* Mirrors that were given up: taken before a flush, freed after it. */
#define mirror_take_dead(d) (read_once((d)->arch.mirror_dead) ? xchg(&(d)->arch.mirror_dead, 0) : 0)
void mirror_free_dead(u64 list);
/*
 * 32-bit formats: the top levels that are ours. init makes them for v's present format (64-bit: frees them). set_root takes
 * v's root; clear_root leaves only the hypervisor's half.
 */
int mirror_init_vcpu(struct vcpu *v);
void mirror_free_vcpu(struct vcpu *v);
void mirror_set_root(struct vcpu *v);
void mirror_clear_root(struct vcpu *v);
/* PAE: entry idx of a level-3 table changed, which vCPUs may have as their root. */
void mirror_root_changed(struct domain *d, mfn_t root, unsigned idx, u64 e);
/* The M2P of 32-bit guests (mm/compat_m2p.c). build: 0 or -ENOMEM. l2e: the entry for its nth 2 MiB. */
extern bool compat_m2p_ready;
int compat_m2p_build(void);
void compat_m2p_set(u64 m, u64 gpfn);
u64 compat_m2p_l2e(unsigned nth);
void mirror_store(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e);
/* Grants: replaces a leaf entry of d by one whose references the caller holds; the old entry's are dropped. 0 or -errno. */
int pt_replace_leaf(struct domain *d, mfn_t table, unsigned idx, u64 e);
/* Frames typed as segment descriptors. */
int frame_get_segdesc(struct domain *d, mfn_t m, bool (*check)(const struct domain *d, void *page));
void frame_put_segdesc(struct domain *d, mfn_t m);
int pt_relinquish(struct domain *d);
void pt_walk_dump(const struct vcpu *v, u64 va);
void pt_fill_hv_slots(struct domain *d, u64 *root);
void pt_fill_top(const struct domain *d, u64 *l4);   /* the hypervisor's slots of a level-4 table */

#endif
