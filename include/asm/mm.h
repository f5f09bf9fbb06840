/* The machine layer's memory services: the hypervisor's own page tables and TLB flushing. */
#ifndef ASM_MM_H
#define ASM_MM_H

#include <asm/domain.h>
#include <asm/e820.h>
#include <asm/layout.h>
#include <asm/pt_format.h>
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
/* Where a place in our image can be written to, which is mapped without that right. For what is patched. */
static inline void *image_for_writing(const void *p) { return maddr_to_virt(virt_to_maddr(p)); }
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
/* The same in tables of another root, which are shared with nobody. */
int hyp_map_in(u64 *root, u64 va, maddr_t pa, u64 nr, u64 flags);
/* Boot only: each page of va's 512 GiB that is not mapped yet becomes the given one, for good; hyp_map() must not be asked there again. */
void hyp_map_holes(u64 va, maddr_t page, u64 flags);
void hyp_unmap(u64 va, u64 nr);
u64 hyp_lookup(u64 va);                   /* the leaf entry, large or not, that maps va; 0: none */
/* Where va, a guest's address or ours, leads in the tables that this CPU walks now (mm/linear.c); false: nowhere. */
bool linear_to_maddr(u64 va, maddr_t *at);
#define HYP_RW (PTE_P | PTE_RW | PTE_A | PTE_D | hyp_nx)
#define HYP_RO (PTE_P | PTE_A | PTE_D | hyp_nx)
#define HYP_RX (PTE_P | PTE_A | PTE_D)
#define HYP_UNCACHED (HYP_RW | PTE_PCD | PTE_PWT)
#define HYP_COMBINING (HYP_RW | PTE_PAT)     /* entry 4 of PAT_VALUE: write-combining */
extern u64 hyp_nx;                       /* PTE_NX if the CPU has it */

/* --- RAM found at boot (mm/boot_alloc.c) --- */
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

void frame_table_init(void);          /* mm/frame_table.c */

/* --- TLB (mm/flush.c) --- */
void flush_tlb_local(void);
/* On these CPUs, this one included if it is named; returns when all have. Not in interrupts. */
void flush_tlb_mask(const cpumask_t *m);
void flush_va_mask(const cpumask_t *m, u64 va);
/* A type change is safe only when no CPU can hold a translation from before: see asm/pt.h. */
void domain_flush_stale(struct domain *d);

/* --- The M2P of 32-bit guests (mm/compat_m2p.c) --- */
/* build: 0 or -ENOMEM. l2e: the entry for its nth 2 MiB. table: the frame that it names; INVALID_MFN before it is built. */
#define COMPAT_M2P_TABLES 8
extern bool compat_m2p_ready;
int compat_m2p_build(void);
void compat_m2p_set(u64 m, u64 gpfn);
u64 compat_m2p_l2e(unsigned nth);
mfn_t compat_m2p_table(u64 nth);

#endif
