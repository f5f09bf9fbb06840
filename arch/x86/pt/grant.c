/* Grant mappings: entries whose references are the grant's. */
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <public/grant_table.h>
#include <pvisor/gnttab.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>
#include "internal.h"

/* 2 MiB: what one L1 table maps in some formats, and half of it in others. */
#define REGION_SHIFT 21

/* What is found may be no L1 table even so: then the walk knows nothing. */
static __attribute__((noinline)) bool walk_to_region(struct pv_grant_walk *walk, u64 va)
{
    unsigned idx;

    walk->region = ~0UL;
    if (!pt_find_l1(current, va, &walk->table, &idx))
        return false;
    walk->region = va >> REGION_SHIFT;
    walk->plain = current->domain->arch.mirrored ? NULL : mfn_to_virt(walk->table);
    return true;
}

void pv_grant_begin(struct pv_grant_walk *walk, u64 first)
{
    struct domain *d = current->domain;

    pt_lock(d);
    walk->pte_flags = PTE_P | PTE_A | PTE_D | (d->arch.word == ABI_64 ? PTE_US : 0);
    (void)walk_to_region(walk, first);
}

void pv_grant_end(void)
{
    pt_unlock(current->domain);
}

/* pt_find_l1(); of a batch's addresses most are in one table, which stays what it is while the lock is held. */
static always_inline bool grant_find_l1(struct pv_grant_walk *walk, u64 va)
{
    return likely(short_way(va >> REGION_SHIFT == walk->region)) || walk_to_region(walk, va);
}

/*
 * Is m, any number of the guest's, a level-1 table of d's? Held for the look: a frame that nobody holds goes from domain to domain, and
 * could be the table of another when its type is read and d's when its owner is. A table of d's stays one while the lock is held.
 */
static bool is_own_l1(struct domain *d, mfn_t m)
{
    bool is;

    if (!frame_take(m, d))
        return false;
    is = pt_live_level(read_once(frame_types[m.v])) == 1;
    frame_drop(m);
    return is;
}

static bool grant_entry(struct domain *d, struct pv_grant_walk *walk, u64 host_addr, u32 flags, mfn_t *table, unsigned *idx)
{
    if (!(flags & GNTMAP_contains_pte)) {
        if (!grant_find_l1(walk, host_addr))
            return false;
        *table = walk->table;
        *idx = pt_index(d->arch.fmt, 1, host_addr);
        return true;
    }
    *table = mfn(host_addr >> PAGE_SHIFT);
    *idx = (unsigned)(host_addr & ~PAGE_MASK) / d->arch.fmt->pte_bytes;
    return !(host_addr & (d->arch.fmt->pte_bytes - 1)) && is_own_l1(d, *table);
}

/* grant_entry() for what most are: a linear address in the region, in a table of the hardware's. NULL: ask grant_entry(). */
static always_inline u64 *grant_plain_entry(const struct pv_grant_walk *walk, u64 host_addr, u32 flags)
{
    if (unlikely(!short_way(host_addr >> REGION_SHIFT == walk->region) || flags & GNTMAP_contains_pte || !walk->plain))
        return NULL;
    return walk->plain + (host_addr >> PAGE_SHIFT & 511);
}

static always_inline u64 grant_pte(const struct pv_grant_walk *walk, mfn_t m, u32 flags)
{
    u64 e = pte_make(m, walk->pte_flags);

    if (!(flags & GNTMAP_readonly))
        e |= PTE_RW;
    if (flags & GNTMAP_application_map)
        e |= PTE_US;
    e |= (u64)(flags >> _GNTMAP_guest_avail0 & 7) << 9;
    return e;
}

static __attribute__((noinline)) int grant_map_any(struct pv_grant_walk *walk, u64 host_addr, mfn_t m, u32 flags)
{
    struct domain *d = current->domain;
    mfn_t table;
    unsigned idx;

    if (d->arch.fmt->pte_bytes == 4 && m.v >> 20) {
        guest_log("granted frame %#lx is above the 4 GiB that a %s guest can map", m.v, d->arch.fmt->name);
        return GNTST_address_too_big;
    }
    if (!grant_entry(d, walk, host_addr, flags, &table, &idx) || pt_replace_leaf(d, table, idx, grant_pte(walk, m, flags)))
        return GNTST_general_error;
    return GNTST_okay;
}

int pv_grant_map(struct pv_grant_walk *walk, u64 host_addr, mfn_t m, u32 flags)
{
    u64 *p = grant_plain_entry(walk, host_addr, flags);

    /* Where there was no entry there is nothing to do but a store. */
    if (unlikely(!p || read_once(*p) & PTE_P))
        return grant_map_any(walk, host_addr, m, flags);
    (void)store_8(p, grant_pte(walk, m, flags), 0, 0);
    return GNTST_okay;
}

/* The references belong to the entry: it must be the one that the map call made. */
static always_inline bool is_granted_entry(u64 e, mfn_t m, u32 flags)
{
    return e & PTE_P && mfn_eq(pte_mfn(e), m) && !(e & PTE_RW) == !!(flags & GNTMAP_readonly);
}

static __attribute__((noinline)) int grant_unmap_any(struct pv_grant_walk *walk, u64 host_addr, mfn_t m, u64 new_addr, u32 flags)
{
    struct domain *d = current->domain;
    mfn_t table, new_table;
    unsigned idx, new_idx;
    u64 new_entry = 0;

    if (!grant_entry(d, walk, host_addr, flags, &table, &idx))
        return GNTST_bad_virt_addr;
    if (!is_granted_entry(pt_load(d->arch.fmt, mfn_to_virt(table), idx), m, flags))
        return GNTST_general_error;
    if (new_addr) {
        /* The same entry under two addresses would stay, and its reference would be dropped. */
        if (!pt_find_l1(current, new_addr, &new_table, &new_idx) ||
            (mfn_eq(new_table, table) && new_idx == idx))
            return GNTST_bad_virt_addr;
        new_entry = pt_load(d->arch.fmt, mfn_to_virt(new_table), new_idx);
        leaf_moves(d, table, new_entry);
        pt_store(d, new_table, 1, new_idx, 0);
    }
    pt_store(d, table, 1, idx, new_entry);
    return GNTST_okay;
}

int pv_grant_unmap(struct pv_grant_walk *walk, u64 host_addr, mfn_t m, u64 new_addr, u32 flags)
{
    u64 *p = grant_plain_entry(walk, host_addr, flags);

    if (unlikely(!p || new_addr || !is_granted_entry(read_once(*p), m, flags)))
        return grant_unmap_any(walk, host_addr, m, new_addr, flags);
    (void)store_8(p, 0, 0, 0);
    return GNTST_okay;
}

void pv_grant_flush(struct domain *d) { flush_tlb_mask(&d->arch.dirty_cpus); }
