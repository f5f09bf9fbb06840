/*
 * Page tables as data. One canonical entry: 64 bits with the hardware's PAE/long-mode bit positions,
 * whatever the guest's format. pt_load() widens an entry, pt_store() narrows it; everything between sees only this form.
 */
#ifndef ASM_PT_FORMAT_H
#define ASM_PT_FORMAT_H

#include <asm/layout.h>
#include <pvisor/pt_format_id.h>
#include <pvisor/types.h>

#define PTE_P    (1UL << 0)
#define PTE_RW   (1UL << 1)
#define PTE_US   (1UL << 2)
#define PTE_PWT  (1UL << 3)
#define PTE_PCD  (1UL << 4)
#define PTE_A    (1UL << 5)
#define PTE_D    (1UL << 6)
#define PTE_PS   (1UL << 7)    /* level 2 and up: large page */
#define PTE_PAT  (1UL << 7)    /* level 1 */
#define PTE_PAT_LARGE (1UL << 12)   /* levels above */
#define PTE_G    (1UL << 8)
#define PTE_NX   (1UL << 63)
#define PTE_AVAIL_LOW  0xe00UL
#define PTE_AVAIL_HIGH (0x7ffUL << 52)
#define PTE_MFN_MASK   0x000ffffffffff000UL

static inline u64 pte_make(mfn_t m, u64 flags) { return m.v << PAGE_SHIFT | flags; }
/* The frame that an entry names: device memory's number is no mfn_t. */
static inline u64 pte_number(u64 e) { return (e & PTE_MFN_MASK) >> PAGE_SHIFT; }
static inline mfn_t pte_mfn(u64 e) { return mfn(pte_number(e)); }
/* pte_mfn() without a check, of an entry that holds a reference to a frame of RAM: each present one of an upper level does. */
static inline mfn_t pte_held_mfn(u64 e) { return mfn_kept(pte_number(e)); }

struct pt_level {
    u8 shift;             /* of the linear address */
    u16 nr_entries;
    u64 denied;           /* flag bits that a present entry may not have */
    u64 forced;           /* flag bits that we add to a present entry */
    u64 kept;             /* all bits but those flags that we then drop without complaint */
};

struct pt_format {
    const char *name;
    const char *capability;      /* in XENVER_capabilities */
    enum pt_format_id id;
    u8 levels;
    u8 pte_bytes;
    u8 word_bits;
    /* Linear range that belongs to the hypervisor, and the entries of one level that cover it. */
    u64 hv_start, hv_end;
    u8 hv_level;
    u16 hv_first, hv_last;
    struct pt_level level[5];    /* by level, 1 to levels */
};

extern const struct pt_format pt_formats[NR_PT_FORMATS];

static inline unsigned pt_index(const struct pt_format *f, unsigned level, u64 va)
{
    return va >> f->level[level].shift & (f->level[level].nr_entries - 1);
}

static inline u64 pt_load(const struct pt_format *f, const void *table, unsigned i)
{
    return f->pte_bytes == 8 ? read_once(((const u64 *)table)[i]) : read_once(((const u32 *)table)[i]);
}

#endif
