/*
 * What long mode walks for 32-bit guests. CR3 is a level-4 table of ours for each vCPU; its upper half is the
 * hypervisor's, its slot 0 leads to the guest:
 *
 *   PAE       L4[0] -> L3: copies of the root's four entries -> the guest's own L2 and L1 tables
 *   non-PAE   L4[0] -> the root's mirror: L3 -> four L2 -> pairs of L1
 *
 * A non-PAE table of the guest (1024 entries of 4 bytes, never walked by hardware) has a block of frames of ours, its
 * mirror, for as long as it has its type; pt_store() keeps the two together:
 *
 *   frames 0-1   the table as a level-1 table: 1024 8-byte twins of its entries
 *   frames 2-5   (level 2) the table as four level-2 tables: two twins for each entry, naming frames 0 and 1 of the
 *                mirror of the table below
 *   frame  6     (level 2) a level-3 table over those four
 *
 * A level-2 table's frames 0-1 are what a linear (recursive) entry maps: the guest's tables, read-only. So a twin needs
 * no difference between a linear entry and any other.
 *
 * Hardware sets accessed and dirty bits in the twin, and the guest looks at its own entry. Hence a twin is not present
 * until the entry says accessed, and is read-only until it says dirty: mirror_fault() sets the bit in the entry and
 * stores the twin anew.
 *
 * A mirror that is given up may still be walked by a CPU that has not flushed since: it waits on the domain's list of
 * the dead until domain_flush_stale() has flushed. The list's links are the notes of its blocks' first frames: in an entry they would
 * be addresses, which some CPUs read through although it is not present (L1TF).
 */
#include <asm/atomic.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "internal.h"

#define TOP_FLAGS (PTE_P | PTE_RW | PTE_US | PTE_A)
#define L2_AT     2      /* first frame of a block's level-2 tables */
#define L3_AT     6
#define L1_ORDER  1
#define L2_ORDER  3
/* The format that is mirrored. */
#define ENTRY_BYTES 4
#define INDEX_BITS  10
#define DEAD_MAX  64     /* blocks */
#define DEAD_L2   1u     /* in a link: the block is of L2_ORDER */
#define MIN_LIMIT 1024   /* frames */
#define REACH     (1u << 20)    /* frames that an entry of 4 bytes can name: no table lies above */

static u64 entry_to(const void *page, u64 flags) { return virt_to_maddr(page).v | flags; }

/* --- The top levels of a vCPU --- */

int mirror_init_vcpu(struct vcpu *v)
{
    struct domain *d = v->domain;

    if (d->arch.fmt->id == PT64) {
        mirror_free_vcpu(v);
        return 0;
    }
    if (v->arch.monitor_l4)
        return 0;
    v->arch.monitor_l4 = alloc_pages(0);
    v->arch.monitor_l3 = alloc_pages(0);
    if (!v->arch.monitor_l4 || !v->arch.monitor_l3) {
        mirror_free_vcpu(v);
        return -ENOMEM;
    }
    pt_fill_top(d, v->arch.monitor_l4);
    pv_make_cr3(v);
    return 0;
}

void mirror_free_vcpu(struct vcpu *v)
{
    free_pages(v->arch.monitor_l4, 0);
    free_pages(v->arch.monitor_l3, 0);
    v->arch.monitor_l4 = v->arch.monitor_l3 = NULL;
}

void mirror_clear_root(struct vcpu *v)
{
    if (v->arch.monitor_l4)
        write_once(*(u64 *)v->arch.monitor_l4, 0);
}

/* What a PAE guest's level-3 entry is in long mode; the guest's own stays as it wrote it. */
static u64 l3_copy(u64 e) { return e & PTE_P ? (e & (PTE_MFN_MASK | PTE_PWT | PTE_PCD)) | TOP_FLAGS : 0; }

static char *block_of(const struct domain *d, mfn_t m)
{
    return mfn_to_virt(mfn_kept(d->arch.mirror[m.v >> 10][m.v & 1023]));
}

void mirror_set_root(struct vcpu *v)
{
    const struct domain *d = v->domain;
    mfn_t root = v->arch.root_kernel;
    u64 *l3 = v->arch.monitor_l3;

    /* Else another vCPU may change an entry between our look at it and our copy: mirror_root_changed(). */
    ASSERT(spin_is_held(&d->arch.pt_lock));
    if (d->arch.mirrored) {
        l3 = (u64 *)(block_of(d, root) + L3_AT * PAGE_SIZE);
    } else {
        const u64 *guests = mfn_to_virt(root);

#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++)
            write_once(l3[i], l3_copy(read_once(guests[i])));
    }
    write_once(*(u64 *)v->arch.monitor_l4, entry_to(l3, TOP_FLAGS));
}

void mirror_root_changed(struct domain *d, mfn_t root, unsigned idx, u64 e)
{
    bool used = false;
    struct vcpu *v;

    for_each_vcpu(d, v) {
        if (!mfn_eq(v->arch.root_kernel, root) || !v->arch.monitor_l3)
            continue;
        write_once(((u64 *)v->arch.monitor_l3)[idx], l3_copy(e));
        used = true;
    }
    /* PAE guests expect what a reload of CR3 does on hardware, where nothing else makes the CPU see these four. */
    if (used)
        flush_tlb_mask(&d->arch.dirty_cpus);
}

/* --- Mirrors --- */

int mirror_init_domain(struct domain *d)
{
    if (!d->arch.mirrored || d->arch.mirror)
        return 0;
    d->arch.mirror = xzalloc_array(u32 *, 1024);
    return d->arch.mirror ? 0 : -ENOMEM;
}

void mirror_free_domain(struct domain *d)
{
    if (!d->arch.mirror)
        return;
    mirror_free_dead(mirror_take_dead(d));
    for (unsigned i = 0; i < 1024; i++)
        free_pages(d->arch.mirror[i], 0);
    xfree(d->arch.mirror);
    d->arch.mirror = NULL;
}

static u32 *make_slot(struct domain *d, mfn_t m)
{
    u32 **row, *slots;

    if (m.v >= REACH)
        return NULL;
    row = &d->arch.mirror[m.v >> 10];
    slots = *row;
    if (!slots)
        slots = *row = alloc_pages(0);
    return slots ? &slots[m.v & 1023] : NULL;
}

/* Level 3 over the four level-2 tables, and the hole with the M2P in the last of these. */
static void init_l2_block(const struct pt_format *f, char *block)
{
    u64 *l2 = (u64 *)(block + L2_AT * PAGE_SIZE), *l3 = (u64 *)(block + L3_AT * PAGE_SIZE);

    for (unsigned i = 0; i < 4; i++)
        l3[i] = entry_to(l2 + i * 512, TOP_FLAGS);
    for (unsigned i = 0; i < 2; i++)
        l2[f->hv_first * 2 + i] = compat_m2p_l2e(i);
}

static unsigned block_order(unsigned level) { return level == 1 ? L1_ORDER : L2_ORDER; }

/* A table costs us more than the guest: so that it cannot eat up our memory, its mirrors get no bigger than itself. */
static bool within_limit(const struct domain *d, unsigned order)
{
    return d->arch.nr_mirror_frames + (1UL << order) <= max(read_once(d->tot_pages), (u64)MIN_LIMIT);
}

int mirror_alloc(struct domain *d, mfn_t m, unsigned level)
{
    u32 *slot = make_slot(d, m);
    unsigned order = block_order(level);
    mfn_t block;

    if (m.v >= REACH)
        return refuse(-EINVAL, "table frame %#lx: a %s guest's lie below 4 GiB", m.v, d->arch.fmt->name);
    if (slot && *slot)
        return 0;
    if (d->arch.table_limit && d->arch.nr_tables > d->arch.table_limit)
        return refuse(-E2BIG, "more than %lu page tables cannot be taken at once", d->arch.table_limit);
    if (!within_limit(d, order))
        return refuse(-ENOMEM, "mirrors of d%u's tables take %lu frames, no more for a domain of %lu", d->id,
                      d->arch.nr_mirror_frames, d->tot_pages);
    block = slot ? alloc_frames(order, 0) : INVALID_MFN;
    if (mfn_eq(block, INVALID_MFN))
        return refuse(-ENOMEM, "no memory of the hypervisor's for a mirror of an L%u table", level);
    if (level == 2)
        init_l2_block(d->arch.fmt, mfn_to_virt(block));
    *slot = (u32)block.v;
    d->arch.nr_mirror_frames += 1UL << order;
    return 0;
}

void mirror_free(struct domain *d, mfn_t m, unsigned level)
{
    u32 *row = m.v < REACH ? d->arch.mirror[m.v >> 10] : NULL;
    u32 block, link, head = read_once(d->arch.mirror_dead);

    if (!row || !row[m.v & 1023])
        return;
    block = row[m.v & 1023];
    link = block << 1 | (level == 2 ? DEAD_L2 : 0);
    do
        write_once(frame_notes[block], head);
    while (!try_cmpxchg(&d->arch.mirror_dead, &head, link));
    row[m.v & 1023] = 0;
    d->arch.nr_mirror_frames -= 1UL << block_order(level);
    note_stale(&d->arch);
    if (++d->arch.nr_mirror_dead >= DEAD_MAX) {
        d->arch.nr_mirror_dead = 0;
        domain_flush_stale(d);
    }
}

void mirror_free_dead(u32 link)
{
    while (link) {
        mfn_t block = mfn_kept(link >> 1);
        unsigned order = link & DEAD_L2 ? L2_ORDER : L1_ORDER;

        link = frame_notes[block.v];
        free_frames(block, order);
    }
}

/* --- Twins --- */

static u64 leaf_twin(u64 e)
{
    if ((e & (PTE_P | PTE_A)) != (PTE_P | PTE_A))
        return 0;
    return e & PTE_D ? e : e & ~PTE_RW;
}

static void store_node_twins(const struct domain *d, char *block, unsigned idx, u64 e)
{
    u64 *linear = (u64 *)block, *l2 = (u64 *)(block + L2_AT * PAGE_SIZE) + idx * 2, twin = 0;

    if ((e & (PTE_P | PTE_A)) == (PTE_P | PTE_A))
        twin = entry_to(block_of(d, pte_held_mfn(e)), e & (PTE_P | PTE_RW | PTE_US | PTE_PWT | PTE_PCD | PTE_A));
    write_once(l2[0], twin);
    write_once(l2[1], twin ? twin + PAGE_SIZE : 0);
    write_once(linear[idx], e & PTE_P ? (e & (PTE_MFN_MASK | PTE_P | PTE_US)) | PTE_A : 0);
}

void mirror_store(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e)
{
    char *block = block_of(d, m);

    if (likely(level == 1))
        write_once(((u64 *)block)[idx], leaf_twin(e));
    else
        store_node_twins(d, block, idx, e);
    write_once(((u32 *)mfn_to_virt(m))[idx], (u32)e);
}

/* --- Accessed and dirty --- */

/* (SMEP and SMAP are off while such a guest runs: pv_hw_cr4().) */
static bool permits(u64 e, u32 error)
{
    return e & PTE_P && (e & PTE_RW || !(error & PF_WRITE)) && (e & PTE_US || !(error & PF_USER));
}

/* What the CPU walks: in a level-2 table, the twin that a linear entry leads to. */
static u64 last_twin(const struct domain *d, mfn_t m, unsigned idx) { return read_once(((u64 *)block_of(d, m))[idx]); }

static void set_bits(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e, u64 bits)
{
    if ((e & bits) != bits)
        mirror_store(d, m, level, idx, e | bits);
}

bool mirror_fault(struct vcpu *v, u64 address, u32 error)
{
    struct domain *d = v->domain;
    mfn_t root = v->arch.root_kernel, l1;
    unsigned i2 = index_at(address, 2, INDEX_BITS), i1 = index_at(address, 1, INDEX_BITS);
    u64 e2, e1 = 0;
    bool ok;

    if (error & PF_RSVD || mfn_eq(root, INVALID_MFN))
        return false;
    pt_lock(d);
    e2 = load_entry(mfn_to_virt(root), ENTRY_BYTES, i2);
    l1 = pte_held_mfn(e2);      /* if it is present */
    if (e2 & PTE_P)
        e1 = load_entry(mfn_to_virt(l1), ENTRY_BYTES, i1);
    ok = permits(e2, error) && permits(e1, error);
    if (ok) {
        set_bits(d, root, 2, i2, e2, PTE_A);
        if (is_l1(l1))
            set_bits(d, l1, 1, i1, e1, PTE_A | (error & PF_WRITE ? PTE_D : 0));
        /* Else it would fault here again, for ever. */
        ok = permits(last_twin(d, l1, i1), error);
    }
    pt_unlock(d);
    return ok;
}
