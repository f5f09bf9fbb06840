/*
 * What long mode walks in place of, or above, a guest's own tables.
 *
 * For 32-bit guests CR3 is a level-4 table of ours for each vCPU; its upper half is the hypervisor's, its slot 0 leads to the guest:
 *
 *   PAE       L4[0] -> L3: copies of the root's four entries -> the guest's L2 and L1 tables, or their mirrors
 *   non-PAE   L4[0] -> the root's mirror: L3 -> four L2 -> pairs of L1
 *
 * A domain is mirrored if each of its tables has a block of frames of ours, its mirror, for as long as it has its type; all stores keep the
 * two together. With entries of 4 bytes it always is: no hardware walks these. With entries of 8 it is while somebody wants it, which
 * pt/store.c begins and ends; from then on the hardware walks mirrors alone.
 *
 * A linear entry makes of a table one of a lower level: one of level n is walked at each level k from n down to 1. So its mirror has a view
 * for each, whose entries lead to the next lower views of what its entries name; at level 1 they map these tables themselves, read-only,
 * so that the guest sees its own. What there is of a block:
 *
 *   entries of 8 bytes   frame k - 1   the view at level k
 *   entries of 4 bytes   frames 0-1    the view at level 1: 1024 8-byte twins of its entries
 *                        frames 2-5    (level 2) the view at level 2, four tables: two twins for each entry, naming frames 0 and 1 of
 *                                      the mirror of the table below
 *                        frame  6      (level 2) a level-3 table over those four
 *
 * A PAE guest's table of level 3 has none: its four entries are copied.
 *
 * Hardware sets accessed and dirty bits in the twin, and the guest looks at its own entry. Hence a twin is not present
 * until the entry says accessed, and is read-only until it says dirty, and, while the domain's writes are logged (pt/dirty.c), until the
 * frame is in the log: mirror_fault() sees to it that they are, and stores the twin anew. It may lack what the entry has had from the
 * hardware before mirrors were walked, and what the log has taken back; it never has more.
 *
 * A mirror that is given up may still be walked by a CPU that has not flushed since: it waits on the domain's list of
 * the dead until domain_flush_stale() has flushed. The list's links are the notes of its blocks' first frames: in an entry they would
 * be addresses, which some CPUs read through although it is not present (L1TF). While a mirror is in use that note says whether a report
 * of the log has to look at it: a twin was stored there, since the last one, that permits writes because its frame is in the log.
 */
#include <asm/atomic.h>
#include <asm/isolation.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>
#include "internal.h"

#define TOP_FLAGS (PTE_P | PTE_RW | PTE_US | PTE_A)
#define NODE_TWIN (PTE_P | PTE_RW | PTE_US | PTE_PWT | PTE_PCD | PTE_A | PTE_NX)    /* what it has from the entry */
/* A block of entries of 4 bytes: the first frames of its level-2 tables, and of level 3. */
#define L2_AT     2
#define L3_AT     6
#define DEAD_MAX  64     /* blocks */
#define MIN_LIMIT 1024   /* frames */
#define REACH     (1u << 20)    /* frames that an entry of 4 bytes can name: no table lies above */
/* A link in the list of the dead: a block, and its order. */
#define LINK_BITS     2
#define LINK_BLOCKS   (1u << (32 - LINK_BITS))

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

static u32 *slot_of(const struct domain *d, mfn_t m)
{
    u64 i = m.v >> 10;
    u32 *row = i < d->arch.mirror_rows ? d->arch.mirror[i] : NULL;

    return row && row[m.v & 1023] ? &row[m.v & 1023] : NULL;
}

/* Of what is being mirrored, a table may have none yet. */
static bool has_block(const struct domain *d, mfn_t m) { return slot_of(d, m); }

/* Of a table that has one: its first frame's number, and where it is. */
static u32 block_number(const struct domain *d, mfn_t m) { return d->arch.mirror[m.v >> 10][m.v & 1023]; }
static char *block_at(u32 block) { return mfn_to_virt(mfn_kept(block)); }
static char *block_of(const struct domain *d, mfn_t m) { return block_at(block_number(d, m)); }

/* A block's note, in the word of its first frame: it permits writes that no report has taken out of the log since. */
static inline void note_permits(u32 block, bool it_does) { write_once(frame_notes[block], it_does); }

/* A block's first frame of the view at level k. */
static char *view_at(const struct pt_format *f, char *block, unsigned k)
{
    return block + (f->pte_bytes == 8 ? k - 1 : k == 1 ? 0 : L2_AT) * PAGE_SIZE;
}

u64 mirror_walked_root(const struct domain *d, mfn_t root)
{
    if (mfn_eq(root, INVALID_MFN))
        return root.v << PAGE_SHIFT;
    return virt_to_maddr(view_at(d->arch.fmt, block_of(d, root), d->arch.fmt->levels)).v;
}

void mirror_show_m2p(const struct domain *d, mfn_t root, u64 e)
{
    if (has_block(d, root))
        write_once(((u64 *)view_at(d->arch.fmt, block_of(d, root), 4))[M2P_RO_START >> 39 & 511], e);
}

/* What a PAE guest's level-3 entry is in long mode; the guest's own stays as it wrote it. */
u64 mirror_pae_top(const struct domain *d, u64 e)
{
    u64 table = e & PTE_MFN_MASK;

    if (!(e & PTE_P))
        return 0;
    if (unlikely(d->arch.mirror_walked))
        table = virt_to_maddr(view_at(d->arch.fmt, block_of(d, pte_held_mfn(e)), 2)).v;
    return table | (e & (PTE_PWT | PTE_PCD)) | TOP_FLAGS;
}

void mirror_set_root(struct vcpu *v)
{
    const struct domain *d = v->domain;
    mfn_t root = v->arch.root_kernel;
    u64 *l3 = v->arch.monitor_l3;

    /* Else another vCPU may change an entry between our look at it and our copy: mirror_root_changed(). */
    ASSERT(spin_is_held(&d->arch.pt_lock));
    if (d->arch.fmt->id == PT32) {
        l3 = (u64 *)(block_of(d, root) + L3_AT * PAGE_SIZE);
    } else {
        const u64 *guests = mfn_to_virt(root);

#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++)
            write_once(l3[i], mirror_pae_top(d, read_once(guests[i])));
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
        write_once(((u64 *)v->arch.monitor_l3)[idx], mirror_pae_top(d, e));
        used = true;
    }
    /* PAE guests expect what a reload of CR3 does on hardware, where nothing else makes the CPU see these four. */
    if (used)
        flush_tlb_mask(&d->arch.dirty_cpus);
}

/* --- Mirrors --- */

int mirror_init_domain(struct domain *d)
{
    u64 rows = d->arch.fmt->pte_bytes == 4 ? REACH >> 10 : (nr_frames + 1023) >> 10;

    /* Of a format that it has left, or not come to after all: it reaches as far as that one's entries. */
    if (!d->arch.mirrored && d->arch.mirror) {
        domain_flush_stale(d);
        mirror_free_domain(d);
    }
    if (!d->arch.mirrored || d->arch.mirror)
        return 0;
    d->arch.mirror = xzalloc_array(u32 *, rows);
    if (!d->arch.mirror)
        return -ENOMEM;
    d->arch.mirror_rows = rows;
    return 0;
}

void mirror_free_domain(struct domain *d)
{
    if (!d->arch.mirror)
        return;
    mirror_free_dead(mirror_take_dead(d));
    for (u64 i = 0; i < d->arch.mirror_rows; i++)
        free_pages(d->arch.mirror[i], 0);
    xfree(d->arch.mirror);
    d->arch.mirror = NULL;
    d->arch.mirror_rows = 0;
}

static u32 *make_slot(struct domain *d, mfn_t m)
{
    u32 **row, *slots;

    if (m.v >> 10 >= d->arch.mirror_rows)
        return NULL;
    row = &d->arch.mirror[m.v >> 10];
    slots = *row;
    if (!slots)
        slots = *row = alloc_pages(0);
    return slots ? &slots[m.v & 1023] : NULL;
}

static unsigned block_order(const struct pt_format *f, unsigned level)
{
    if (f->pte_bytes == 4)
        return level == 1 ? 1 : 3;
    return level == 4 ? 2 : level - 1;
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

/* The hypervisor's slots, where table m is to have them: in the view that is walked at its own level. */
static void init_block(struct domain *d, mfn_t m, unsigned level, char *block)
{
    const struct pt_format *f = d->arch.fmt;

    if (level != f->hv_level)
        return;
    if (f->id == PT32)
        init_l2_block(f, block);
    else if (f->id == PT64 || frame_types[m.v] & FW_HV)
        pt_fill_hv_slots(d, (u64 *)view_at(f, block, level));
}

/* A table costs us more than the guest: so that it cannot eat up our memory, its mirrors get no bigger than itself. */
static bool within_limit(const struct domain *d, unsigned order)
{
    return d->arch.nr_mirror_frames + (1UL << order) <= max(read_once(d->tot_pages), (u64)MIN_LIMIT);
}

int mirror_alloc(struct domain *d, mfn_t m, unsigned level)
{
    const struct pt_format *f = d->arch.fmt;
    unsigned order = block_order(f, level);
    u32 *slot;
    mfn_t block;

    if (f->id == PT32P && level == 3)
        return 0;
    if (f->pte_bytes == 4 && m.v >= REACH)
        return refuse(-EINVAL, "table frame %#lx: a %s guest's lie below 4 GiB", m.v, f->name);
    slot = make_slot(d, m);
    if (slot && *slot)
        return 0;
    if (d->arch.table_limit && d->arch.nr_tables > d->arch.table_limit)
        return refuse(-E2BIG, "more than %lu page tables cannot be taken at once", d->arch.table_limit);
    if (!within_limit(d, order))
        return refuse(-ENOMEM, "mirrors of d%u's tables take %lu frames, no more for a domain of %lu", d->id,
                      d->arch.nr_mirror_frames, d->tot_pages);
    block = slot && nr_frames <= LINK_BLOCKS ? alloc_frames(order, 0) : INVALID_MFN;
    if (mfn_eq(block, INVALID_MFN))
        return refuse(-ENOMEM, "no memory of the hypervisor's for a mirror of an L%u table", level);
    init_block(d, m, level, mfn_to_virt(block));
    *slot = (u32)block.v;
    d->arch.nr_mirror_frames += 1UL << order;
    return 0;
}

void mirror_free(struct domain *d, mfn_t m, unsigned level)
{
    unsigned order = block_order(d->arch.fmt, level);
    u32 *slot = slot_of(d, m);
    u32 block, link, head = read_once(d->arch.mirror_dead);

    if (!slot)
        return;
    block = *slot;
    link = block << LINK_BITS | order;
    do
        write_once(frame_notes[block], head);
    while (!try_cmpxchg(&d->arch.mirror_dead, &head, link));
    *slot = 0;
    d->arch.nr_mirror_frames -= 1UL << order;
    note_stale(&d->arch);
    if (++d->arch.nr_mirror_dead >= DEAD_MAX) {
        d->arch.nr_mirror_dead = 0;
        domain_flush_stale(d);
    }
}

void mirror_free_dead(u32 link)
{
    while (link) {
        mfn_t block = mfn_kept(link >> LINK_BITS);
        unsigned order = link & ((1u << LINK_BITS) - 1);

        link = frame_notes[block.v];
        free_frames(block, order);
    }
}

/* --- Twins --- */

static bool is_walked(u64 e) { return (e & (PTE_P | PTE_A)) == (PTE_P | PTE_A); }

void mirror_note_permits(const struct domain *d, mfn_t m) { note_permits(block_number(d, m), true); }

static u64 leaf_twin(const struct domain *d, mfn_t m, u64 e)
{
    if (!is_walked(e))
        return 0;
    return e & PTE_D && may_write_unlogged(d, m, e) ? e : e & ~PTE_RW;
}

static u64 node_twin(const struct domain *d, u64 e, unsigned k)
{
    if (!is_walked(e) || !has_block(d, pte_held_mfn(e)))
        return 0;
    return entry_to(view_at(d->arch.fmt, block_of(d, pte_held_mfn(e)), k - 1), e & NODE_TWIN);
}

static void store_node_twin(const struct pt_format *f, u64 *view, unsigned idx, u64 twin)
{
    if (f->pte_bytes == 8) {
        write_once(view[idx], twin);
        return;
    }
    write_once(view[idx * 2], twin);
    write_once(view[idx * 2 + 1], twin ? twin + PAGE_SIZE : 0);
}

void mirror_twins(const struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e)
{
    char *block;

    if (unlikely(!has_block(d, m)))
        return;
    block = block_of(d, m);
    write_once(((u64 *)block)[idx],
               level == 1 ? leaf_twin(d, m, e) : e & PTE_P ? (e & (PTE_MFN_MASK | PTE_P | PTE_US | PTE_NX)) | PTE_A : 0);
    for (unsigned k = 2; k <= level; k++)
        store_node_twin(d->arch.fmt, (u64 *)view_at(d->arch.fmt, block, k), idx, node_twin(d, e, k));
}

void mirror_store(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e)
{
    mirror_twins(d, m, level, idx, e);
    if (d->arch.fmt->pte_bytes == 4)
        write_once(((u32 *)mfn_to_virt(m))[idx], (u32)e);
    else
        write_once(((u64 *)mfn_to_virt(m))[idx], e);
    log_dirty(d, m);
}

/* --- What the log has permitted --- */

#define ROW_SLOTS  1024u
#define LINE_SLOTS ((unsigned)(CACHE_LINE / sizeof(u32)))

u64 *mirror_take_leaves(const struct domain *d, mfn_t m)
{
    u32 block;

    if (fw_type(frame_types[m.v]) != FT_L1 || !has_block(d, m))
        return NULL;
    block = block_number(d, m);
    note_permits(block, false);
    return (u64 *)block_at(block);
}

/* Of a row's slots from i on. Most are empty, and most lines of them. */
static unsigned next_noted(const u32 *row, unsigned i)
{
    while (i < ROW_SLOTS)
        if (!(i % LINE_SLOTS) && line_is_empty(row, sizeof(*row), i))
            i += LINE_SLOTS;
        else if (row[i] && read_once(frame_notes[row[i]]))
            break;
        else
            i++;
    return i;
}

/* A look takes the note away, so that it is not met again. */
int mirror_for_each_noted(struct domain *d, int (*look)(struct domain *d, mfn_t m))
{
    u64 m = d->arch.store_at, end = d->arch.mirror_rows << 10;

    while (m < end) {
        u32 *row = d->arch.mirror[m >> 10];
        unsigned i = row ? next_noted(row, m & 1023) : ROW_SLOTS;

        steps_add(row ? ROW_SLOTS / LINE_SLOTS : 1);
        if (i < ROW_SLOTS)
            (void)look(d, mfn_kept((m & ~1023UL) + i));
        d->arch.store_at = m = (m & ~1023UL) + i + (i < ROW_SLOTS);
        if (preempt_needed())
            return -RESTART;
    }
    d->arch.store_at = 0;
    return 0;
}

/* --- Accessed and dirty --- */

/* (SMEP and SMAP are off while a 32-bit guest runs: pv_hw_cr4(). All that a 64-bit guest maps is user space's.) */
static bool permits(u64 e, u32 error)
{
    return e & PTE_P && (e & PTE_RW || !(error & PF_WRITE)) && (e & PTE_US || !(error & PF_USER)) && !(e & PTE_NX && error & PF_INSTR);
}

/* As the hardware would see it by the guest's entry. Nothing leads on from the hypervisor's; a PAE guest's top only says where to go on. */
static bool entry_permits(const struct domain *d, mfn_t m, unsigned k, unsigned idx, u64 e, u32 error)
{
    u32 w = frame_types[m.v];
    unsigned level = pt_live_level(w);

    if (level < k || is_hv_slot(d->arch.fmt, level, w, idx))
        return false;
    return d->arch.fmt->id == PT32P && k == 3 ? e & PTE_P : permits(e, error);
}

/* The way down: the table that is walked at each level. */
struct way { mfn_t table[5]; };

static bool find_way(const struct domain *d, mfn_t root, u64 address, u32 error, struct way *way)
{
    const struct pt_format *f = d->arch.fmt;
    mfn_t m = root;

    for (unsigned k = f->levels; k; k--) {
        unsigned idx = pt_index(f, k, address);
        u64 e = pt_load(f, mfn_to_virt(m), idx);

        way->table[k] = m;
        if (!entry_permits(d, m, k, idx, e, error))
            return false;
        if (k > 1)
            m = pte_held_mfn(e);
    }
    return true;
}

/* Sets what the access would have set in the entry that was walked at level k, and makes its twin say what it says: does that permit it? */
static bool take_step(struct domain *d, const struct way *way, unsigned k, u64 address, u32 error)
{
    const struct pt_format *f = d->arch.fmt;
    mfn_t m = way->table[k];
    unsigned idx = pt_index(f, k, address), level = pt_live_level(frame_types[m.v]);
    u64 e = pt_load(f, mfn_to_virt(m), idx), bits = k > 1 ? PTE_A : level > 1 ? 0 : PTE_A | (error & PF_WRITE ? PTE_D : 0);
    const char *view;

    if (level == 1 && error & PF_WRITE)
        log_dirty_leaf(d, e);
    if ((e & bits) != bits)
        mirror_store(d, m, level, idx, e | bits);
    else
        mirror_twins(d, m, level, idx, e);
    /* Else a copy that lacks the entry is walked again, and faults for ever. */
    if (level == 4 && !(error & PF_PRESENT))
        isolation_forget(d, m);
    /* A report, which takes no lock, may have taken the frame out of the log just now: then the access faults once more. */
    if (level == 1 && dirty_log_is_kept(d))
        error &= ~PF_WRITE;
    view = view_at(f, block_of(d, m), k);
    return permits(read_once(((const u64 *)view)[f->pte_bytes == 4 && k == 2 ? idx * 2 : idx]), error);
}

static bool mend(struct domain *d, mfn_t root, u64 address, u32 error)
{
    unsigned top = d->arch.fmt->id == PT32P ? 2 : d->arch.fmt->levels;
    struct way way = { { mfn(0) } };
    bool ok = find_way(d, root, address, error, &way);

    /* If a twin does not permit it even so, it would fault here again, for ever. */
    for (unsigned k = top; ok && k; k--)
        ok = take_step(d, &way, k, address, error);
    return ok;
}

/*
 * --- What faults most ---
 *
 * To level 1, in each format: the last entry, e, is number idx of the table; all has what each one above has (a PAE guest's top only says
 * where to go on). False: one above is not there. A linear entry may lead to a table of a higher level.
 */
struct leaf { mfn_t table; unsigned idx; u64 e, all; };

static always_inline bool way_down(struct leaf *l, u64 address, unsigned levels, unsigned bytes, unsigned bits)
{
#pragma GCC unroll 4
    for (unsigned k = levels; k > 1; k--) {
        u64 e = load_entry(mfn_to_virt(l->table), bytes, index_at(address, k, bits));

        if (unlikely((e & (k == 2 ? PTE_P | PTE_PS : PTE_P)) != PTE_P))
            return false;
        l->all &= levels == 3 && k == 3 ? ~0UL : e;
        l->table = pte_held_mfn(e);
    }
    l->idx = index_at(address, 1, bits);
    l->e = load_entry(mfn_to_virt(l->table), bytes, l->idx);
    return true;
}

static always_inline bool way_to_leaf(const struct domain *d, struct leaf *l, u64 address)
{
    if (likely(d->arch.fmt->id == PT64))
        return way_down(l, address, 4, 8, 9);
    return d->arch.fmt->id == PT32P ? way_down(l, address, 3, 8, 9) : way_down(l, address, 2, 4, 10);
}

/* e: the last entry on the way to what an access faulted at. */
static always_inline bool is_guests_own(u64 e, u32 error)
{
    return error & PF_PRESENT ? error & PF_WRITE && !(e & PTE_RW) : !(e & PTE_P);
}

/* The first write to a page since a report has taken it out of the log; nothing else is missing. */
static always_inline bool is_first_write(const struct domain *d, const struct leaf *l, u32 error)
{
    u64 needed = PTE_P | PTE_RW | PTE_A | (error & PF_USER ? PTE_US : 0);

    return (error & ~PF_USER) == (PF_PRESENT | PF_WRITE) && dirty_log_is_kept(d) && (l->all & l->e & needed) == needed &&
           l->e & PTE_D && own_level(d, l->table) == 1 && is_own(d, pte_mfn(l->e));
}

/* A report that takes the frame out of the log just now, without the lock, finds the note once it has the lock, and takes this back. */
static always_inline void permit_write(const struct domain *d, mfn_t m, unsigned idx, u64 e)
{
    u32 block = block_number(d, m);

    write_once(((u64 *)block_at(block))[idx], e);
    note_permits(block, true);
}

/* mirror_fault() of what needs no more than a look; false: it needs more. */
static always_inline bool look_first(struct domain *d, mfn_t root, u64 address, u32 error, bool *mended)
{
    struct leaf l = { .table = root, .all = ~0UL };

    *mended = false;
    if (!short_way(true))
        return false;
    if (!way_to_leaf(d, &l, address) || is_guests_own(l.e, error))
        return true;
    if (!is_first_write(d, &l, error))
        return false;
    log_first_write(d, pte_mfn(l.e));
    permit_write(d, l.table, l.idx, l.e);
    *mended = true;
    return true;
}

/*
 * What the guest's tables have but do not permit is to fault as what is present: so the way there is mended if a twin was not, and the access
 * faults once more. (Kernels' writes to their page tables are known by that.)
 */
bool mirror_fault(struct vcpu *v, mfn_t root, u64 address, u32 error)
{
    struct domain *d = v->domain;
    bool ok;

    if (error & ~(PF_PRESENT | PF_WRITE | PF_USER | PF_INSTR) || mfn_eq(root, INVALID_MFN))
        return false;
    pt_lock(d);
    if (!look_first(d, root, address, error, &ok))
        ok = mend(d, root, address, error) || (!(error & PF_PRESENT) && error && mend(d, root, address, 0));
    pt_unlock(d);
    return ok;
}
