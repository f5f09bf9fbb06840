/*
 * Memory: frames, the kernel's own page tables, and space to map things. One description of a format serves all
 * three; entries are u64 in C whatever their size in memory.
 *
 * The kernel's memory is linear: frame pfn lies at VIRT_BASE + pfn * 4096, for the first arena_end frames. A few
 * hundred pages of virtual space, the window, have tables and no mappings; tests map there.
 */
#ifndef GUEST_MM_H
#define GUEST_MM_H

#include "abi.h"

#define PTE_P   (1ULL << 0)
#define PTE_RW  (1ULL << 1)
#define PTE_US  (1ULL << 2)
#define PTE_PWT (1ULL << 3)
#define PTE_PCD (1ULL << 4)
#define PTE_A   (1ULL << 5)
#define PTE_D   (1ULL << 6)
#define PTE_PSE (1ULL << 7)
#define PTE_G   (1ULL << 8)
#define PTE_NX  (1ULL << 63)
#define PTE_DATA     (PTE_P | PTE_RW | PTE_A | PTE_D)
#define PTE_READ     (PTE_P | PTE_A | PTE_D)
#define PTE_TABLE    (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)

struct pt_level {
    u8 shift, bits;   /* of the linear address */
    u64 table_flags;  /* of entries that point at a table below */
};

struct pt_format {
    unsigned levels, pte_bytes;
    u64 frame_mask;
    word hv_start;             /* first address that belongs to the hypervisor */
    word m2p_start;            /* where the machine-to-physical table is, unless the hypervisor says otherwise */
    struct pt_level level[5];  /* from 1 */
};
extern const struct pt_format format;

#ifdef FORMAT_PT32
typedef u32 pte_raw;
#else
typedef u64 pte_raw;
#endif

#ifdef FORMAT_PT64
#define VIRT_BASE 0xffffffff80000000UL
#else
#define VIRT_BASE 0xc0000000UL
#endif

#define WINDOW_PAGES 256
#define USER_BASE 0x400000UL   /* page-sized slots for user code and data from here */
#define USER_PAGES 256

extern GUEST(start_info) *start_info;
extern word *p2m;
extern word arena_end;   /* frames that the linear mapping covers */

void mm_init(GUEST(start_info) *si, word entry_sp);
bool is_dom0(void);
void mm_before_suspend(void);
void mm_after_suspend(void);

/* ---- Frame numbers ---- */
#define BAD_FRAME (~0UL)
word mfn_to_pfn(word mfn);           /* M2P: BAD_FRAME if unreadable or invalid */
word m2p_raw(word mfn);              /* M2P as it stands; faults where it is not mapped */
word m2p_limit(void);                /* first mfn that the M2P does not cover */
void *pfn_to_virt(word pfn);
word virt_to_pfn(const void *va);    /* linear mapping */
word virt_to_mfn(const void *va);
u64 virt_to_maddr(const void *va);
void *mfn_to_virt(word mfn);         /* of a frame of ours in the linear mapping */
/* A frame of RAM that is not ours: the hypervisor's, a free one or another domain's. BAD_FRAME: none found. */
word foreign_frame(unsigned nth);

/* ---- Pages ---- */
void *page_alloc(void);              /* zeroed, mapped writable */
void page_free(void *page);
word spare_pfn(unsigned nth);        /* the nth frame from the end of our memory: nothing maps it */

/* ---- Entries ---- */
static inline u64 pte_make(word mfn, u64 flags) { return (u64)mfn << 12 | flags; }
static inline word pte_mfn(u64 pte) { return (word)((pte & format.frame_mask) >> 12); }
static inline u64 pte_get(const void *table, unsigned i) { return ((const volatile pte_raw *)table)[i]; }
static inline void *pte_at(const void *table, unsigned i) { return (u8 *)table + i * format.pte_bytes; }
static inline unsigned pte_count(unsigned level) { return 1u << format.level[level].bits; }
unsigned pte_index(const volatile void *va, unsigned level);
word current_base(void);             /* mfn of the table that start_info names or mm_set_base() was told */
void mm_set_base(word mfn);
/* The table at this level that maps va, in the linear mapping; NULL if absent. */
void *table_of(const volatile void *va, unsigned level);
/* va's entry at this level; 0 if a table above is missing. */
u64 entry_of(const volatile void *va, unsigned level);
/* The frame that va is mapped to, or BAD_FRAME. */
word frame_at(const volatile void *va);

/* mmu_update of one entry, whose address is one in the linear mapping. cmd: MMU_*. */
long pte_update(const void *entry, u64 value, unsigned cmd);
long pte_set(const void *entry, u64 value);

/* ---- Mappings ---- */
void *window(unsigned page);
void *user_page(unsigned page);
long map_at(const volatile void *va, word mfn, u64 flags);
long unmap_at(const volatile void *va);
void make_readonly(const void *page); /* the linear mapping of a page of ours */
void make_writable(const void *page);
long map_writable(const void *page);  /* the same, as an attempt */
/* Missing tables for va, down to level 1. */
void build_tables(const volatile void *va);

/* ---- Tables ---- */
void *table_alloc(void);              /* zeroed page, mapped read-only: fit to become a table */
void table_free(void *table);         /* must not be a table any more */
long pin(const void *table, unsigned level);
long unpin(const void *table);
/* A copy of the top level that shares all below it (as far as the format can), not pinned. */
void *copy_top(void);
void free_top(void *top);
unsigned top_level(void);
/* A slot of the top level that nothing uses. */
unsigned free_top_slot(void);
/* An entry, in one of our tables, that belongs to the hypervisor. */
void *hypervisor_entry(void);
/* True if entry i of the table at this level that maps va is the hypervisor's. */
bool is_hypervisor_slot(const volatile void *va, unsigned level, unsigned i);

#endif
