/*
 * What holds of frames and page tables between two operations. asm/pt.h has the rules that follow from it.
 *
 *   references   the count in each frame's reference word is that of its holders: its allocation, its pin, what is left of a table half
 *                way, each present entry of a table that names it, and who else says so by holds()
 *   typed        so is the count in its type word, and every such holder wants the type that it has. So no frame is written by a
 *                guest and trusted at once
 *   accounts     are of as many frames as the domain has
 *   entries      have no flags that the domain may not set; they name the domain's own frames, device memory that it may use (or might,
 *                before that was taken back), or what it has been granted
 *   views        in which other than by a grant its domain writes others' frames, are marked and counted (FR_OUTWARD)
 *   devices      reach a frame (where they are told so: asm/dma.h) exactly while it is dom0's and of type writable
 *   tables       of each level lead to the level below, or read-only to their own; the hypervisor's slots have the hypervisor's entries
 */
#include <asm/atomic.h>
#include <asm/dma.h>
#include <asm/pt.h>
#include <asm/spec.h>
#include <pvisor/invariant.h>
#include <pvisor/rangeset.h>
#include "internal.h"

static struct count { u32 refs, typed; } *counts;      /* by frame */

size_t frames_count_bytes(void) { return nr_frames * sizeof(*counts); }
void frames_count_in(void *memory) { counts = memory; }

/* Of a table, complete or not: 0 if the type is none of a table's. */
static unsigned level_of_type(u32 w)
{
    return fw_type(w) >= FT_L1 && fw_type(w) <= FT_L4 && w & (FW_COUNT_MASK | FW_PARTIAL) ? fw_type(w) - FT_L1 + 1u : 0;
}

static const char *type_name(enum frame_type t)
{
    static const char *const names[] = { "untyped", "writable", "L1 table", "L2 table", "L3 table", "L4 table", "descriptor table", "?" };

    return names[t];
}

/* --- Holders --- */

void holds_type(const char *who, mfn_t m, enum frame_type as)
{
    u32 w = frame_types[m.v];

    counts[m.v].typed++;
    (void)CLAUSE("type", fw_type(w) == as && w & FW_VALID, "%s uses frame %#lx of d%u as %s; its type word is %#x (%s)", who, m.v,
                 frame_owner_id(m), type_name(as), w, type_name(fw_type(w)));
}

/* Ours, for the control domain to read, or to write too: they stay what they are. */
static bool is_shown(mfn_t m, enum frame_type as)
{
    u32 w = frame_types[m.v];

    return frame_owner_id(m) == DOMID_XEN && (u32)frame_refs[m.v] &&
           (as == FT_NONE || (as == FT_WRITABLE && fw_type(w) == FT_WRITABLE && w & FW_COUNT_MASK));
}

void holds(const char *who, mfn_t m, enum frame_type as)
{
    u16 owner = frame_owner_id(m);

    if (is_shown(m, as))
        return;
    if (!CLAUSE("owner", owner < DOMID_FIRST_RESERVED, "%s names frame %#lx, which belongs to no domain (%#x)", who, m.v, owner))
        return;
    counts[m.v].refs++;
    if (as != FT_NONE)
        holds_type(who, m, as);
}

static void device_leaf(const struct domain *d, mfn_t table, unsigned i, u64 e)
{
    (void)CLAUSE("device", d->iomem_withdrawn || rangeset_contains(d->iomem, pte_number(e), pte_number(e)),
                 "d%u L1 %#lx[%u] = %#lx names device memory that is not the domain's", d->id, table.v, i, e);
}

static void look_at_leaf(struct domain *d, mfn_t table, unsigned i, u64 e)
{
    const struct pt_level *l = &d->arch.fmt->level[1];
    mfn_t m = pte_mfn(e);

    (void)CLAUSE("leaf flags", !denied_flags(d, l, e) && (e & l->forced) == l->forced && !(e & ~l->kept),
                 "d%u L1 %#lx[%u] = %#lx has flags that it may not have", d->id, table.v, i, e);
    if (!mfn_valid(m)) {
        device_leaf(d, table, i, e);
        return;
    }
    (void)CLAUSE("others' frames", frame_owner_id(m) == d->id || may_name_others(d, m),
                 "d%u L1 %#lx[%u] = %#lx names a frame of d%u's, which is not granted", d->id, table.v, i, e, frame_owner_id(m));
    (void)CLAUSE("views", !(e & PTE_RW) || frame_owner_id(m) == d->id || frame_refs[table.v] & FR_OUTWARD || grants_map(d, m),
                 "d%u L1 %#lx[%u] = %#lx lets it write d%u's frame, and the table is not marked so", d->id, table.v, i, e,
                 frame_owner_id(m));
    holds("an L1 entry", m, e & PTE_RW ? FT_WRITABLE : FT_NONE);
}

/* A table that another of its level names: read-only, and it names none itself. */
static void look_at_linear(const struct domain *d, mfn_t table, unsigned level, unsigned i, u64 e)
{
    mfn_t m = pte_mfn(e);

    (void)CLAUSE("linear", !(e & PTE_RW) && (mfn_eq(m, table) || (level >= d->arch.fmt->hv_level && frame_types[m.v] & FW_LINEAR &&
                                                                   !(frame_types[table.v] & FW_LINEAR))),
                 "d%u L%u %#lx[%u] = %#lx names a table of its own level (type words %#x, %#x)", d->id, level, table.v, i, e,
                 frame_types[table.v], frame_types[m.v]);
}

static void look_at_node(const struct domain *d, mfn_t table, unsigned level, unsigned i, u64 e)
{
    const struct pt_level *l = &d->arch.fmt->level[level];
    mfn_t m = pte_mfn(e);
    unsigned below = mfn_valid(m) ? level_of_type(frame_types[m.v]) : 0;
    bool hv = d->arch.fmt->id == PT32P && level == 3 && i == 3;

    (void)CLAUSE("node flags", !(e & l->denied) && (e & l->forced) == l->forced && !(e & ~l->kept),
                 "d%u L%u %#lx[%u] = %#lx has flags that it may not have", d->id, level, table.v, i, e);
    if (!CLAUSE("level", frame_owner_id(m) == d->id && (below == level || below == level - 1),
                "d%u L%u %#lx[%u] = %#lx leads to no table of the domain's of the level below", d->id, level, table.v, i, e))
        return;
    if (below == level)
        look_at_linear(d, table, level, i, e);
    else
        (void)CLAUSE("PAE", !(frame_types[m.v] & FW_HV) == !hv, "d%u L3 %#lx[%u] = %#lx, an L2 with type word %#x", d->id, table.v, i, e,
                     frame_types[m.v]);
    if (!mfn_eq(m, table))
        holds("an upper entry", m, (enum frame_type)(FT_L1 + below - 1));
}

/* --- Tables --- */

static void look_at_entry(struct domain *d, mfn_t table, unsigned level, unsigned i)
{
    u64 e = pt_load(d->arch.fmt, mfn_to_virt(table), i);

    if (!(e & PTE_P))
        (void)CLAUSE("absent", !l1tf_exposes(d, e), "d%u L%u %#lx[%u] = %#lx is not present and names memory", d->id, level, table.v, i, e);
    else if (level == 1)
        look_at_leaf(d, table, i, e);
    else
        look_at_node(d, table, level, i, e);
}

/* What is there instead of a guest's entry in slot i of a complete table. The M2P's first slot may be hidden from user space. */
static bool is_hv_entry(const struct domain *d, unsigned i, u64 e)
{
    const struct pt_format *f = d->arch.fmt;

    if (f->id == PT32)
        return !e;
    if (f->id == PT32P)
        return e == compat_m2p_l2e(i - f->hv_first);
    if (i == (PERDOMAIN_START >> 39 & 511))
        return (e & ~(PTE_A | PTE_D)) == (d->arch.perdomain_l3_mfn.v << PAGE_SHIFT | PTE_P | PTE_RW);
    return e == hyp_l4[i] || (!e && i == (M2P_RO_START >> 39 & 511));
}

static void look_at_hv_slots(const struct domain *d, mfn_t table)
{
    const struct pt_format *f = d->arch.fmt;

    for (unsigned i = f->hv_first; i <= f->hv_last; i++) {
        u64 e = pt_load(f, mfn_to_virt(table), i);

        (void)CLAUSE("hypervisor's slots", is_hv_entry(d, i, e), "d%u L%u %#lx[%u] = %#lx", d->id, f->hv_level, table.v, i, e);
    }
}

static void look_at_table(struct domain *d, mfn_t m, unsigned level, u32 w)
{
    const struct pt_format *f = d->arch.fmt;
    unsigned nr = w & FW_PARTIAL ? w & FW_COUNT_MASK : f->level[level].nr_entries;

    for (unsigned i = 0; i < nr; i++)
        if (!is_hv_slot(f, level, w, i))
            look_at_entry(d, m, level, i);
    if (w & FW_VALID && is_hv_slot(f, level, w, f->hv_first))
        look_at_hv_slots(d, m);
    if (f->id == PT32P && level == 3 && w & FW_VALID)
        (void)CLAUSE("PAE", pt_load(f, mfn_to_virt(m), 3) & PTE_P, "d%u L3 %#lx has no fourth entry", d->id, m.v);
}

/* --- A domain's frames --- */

/* A domain that is gone, but for frames that others have mapped, has no regions any more. */
static bool may_have_region(const struct domain *d, u64 m) { return !d->regions || domain_has_region(d, m); }

/* The first frame of d's from m on; nr_frames: none. */
static u64 next_frame(const struct domain *d, u64 m)
{
    for (; m < nr_frames; m++)
        if (!may_have_region(d, m))
            m |= 511;
        else if (frame_owner_id(mfn_kept(m)) == d->id)
            return m;
    return nr_frames;
}

/* What no state of a type word has between two operations. */
static bool is_settled(const struct domain *d, u32 w)
{
    bool table = level_of_type(w);

    if (w & FW_PARTIAL)
        return table && !(w & (FW_VALID | FW_PINNED));
    if (w & FW_COUNT_MASK && !(w & FW_VALID))
        return false;
    return (table && level_of_type(w) <= d->arch.fmt->levels) || !(w & (FW_PINNED | FW_HV | FW_LINEAR));
}

static void count_frame(struct domain *d, mfn_t m)
{
    u64 refs = frame_refs[m.v];
    u32 w = frame_types[m.v];
    unsigned level = level_of_type(w);

    (void)CLAUSE("settled", is_settled(d, w), "frame %#lx of d%u has type word %#x", m.v, d->id, w);
    if (refs & FR_ALLOCATED)
        holds("the allocation", m, FT_NONE);
    if (refs & FR_ALLOCATED && !(refs & FR_COUNTED))
        holds_type("the hypervisor", m, FT_WRITABLE);
    if (w & FW_PINNED)
        holds("the pin", m, fw_type(w));
    if (w & FW_PARTIAL)
        holds("a table half way", m, FT_NONE);
    if (level)
        look_at_table(d, m, level, w);
}

static void look_at_known(const struct domain *d, const struct known_table *known, bool mirrored)
{
    mfn_t m = known->mfn;

    if (!mfn_eq(m, INVALID_MFN))
        (void)CLAUSE("known table", frame_owner_id(m) == d->id && pt_live_level(frame_types[m.v]) == 1 && d->arch.mirrored == mirrored &&
                     known->page == mfn_to_virt(m), "d%u: frame %#lx, with type word %#x, is taken for an L1 table", d->id, m.v,
                     frame_types[m.v]);
}

static void look_at_orphans(const struct domain *d)
{
    for (unsigned i = 0; i < d->arch.nr_orphans; i++) {
        mfn_t m = d->arch.orphans[i];

        (void)CLAUSE("orphans", frame_owner_id(m) == d->id && frame_types[m.v] & FW_PARTIAL,
                     "d%u: frame %#lx, with type word %#x, waits for its demotion", d->id, m.v, frame_types[m.v]);
    }
}

static bool is_outward(const struct domain *d, u64 m)
{
    bool is = frame_refs[m] & FR_OUTWARD;

    (void)CLAUSE("views", !is || level_of_type(frame_types[m]) == 1,
                 "frame %#lx of d%u is marked as a level-1 table that lets it write others' frames; its type word is %#x", m, d->id,
                 frame_types[m]);
    return is;
}

void frames_count(struct domain *d)
{
    u64 tables = 0, outward = 0;

    for (u64 m = 0; (m = next_frame(d, m)) < nr_frames; m++) {
        tables += level_of_type(frame_types[m]) != 0;
        outward += is_outward(d, m);
        count_frame(d, mfn_kept(m));
    }
    (void)CLAUSE("number of tables", tables == d->arch.nr_tables, "d%u has %lu, counted are %lu", d->id, tables, d->arch.nr_tables);
    (void)CLAUSE("views", outward == d->arch.nr_outward, "d%u has %lu tables that let it write others' frames, counted are %lu", d->id,
                 d->arch.nr_outward, outward);
    look_at_known(d, &d->arch.known_l1, false);
    look_at_known(d, &d->arch.known_mirrored_l1, true);
    look_at_orphans(d);
}

static void compare(const struct domain *d, mfn_t m, struct count c)
{
    u32 refs = (u32)frame_refs[m.v], w = frame_types[m.v], typed = w & FW_PARTIAL ? 0 : w & FW_COUNT_MASK;

    (void)CLAUSE("references", refs == c.refs, "frame %#lx of d%u (type word %#x) counts %u, and %u are held", m.v, d->id, w, refs, c.refs);
    (void)CLAUSE("typed", typed == c.typed, "frame %#lx of d%u (%s) counts %u references of its type, and %u are held", m.v, d->id,
                 type_name(fw_type(w)), typed, c.typed);
}

void frames_compare(struct domain *d)
{
    u64 counted = 0, all = 0;

    for (u64 m = 0; (m = next_frame(d, m)) < nr_frames; m++, all++) {
        compare(d, mfn_kept(m), counts[m]);
        counts[m] = (struct count){ 0, 0 };
        counted += !!(frame_refs[m] & FR_COUNTED);
    }
    (void)CLAUSE("accounts", counted == d->tot_pages && all - counted == d->shared_frames,
                 "d%u has %lu frames and %lu shared ones, counted are %lu and %lu", d->id, counted, all - counted, d->tot_pages,
                 d->shared_frames);
}

static struct domain *owner_look(u16 id)
{
    struct domain *d = domain_get_owner(id);

    if (d)
        atomic_dec(&d->refs);   /* all stand still; and domain_put() would begin the end of one that is gone */
    return d;
}

/* The firmware's regions are no RAM. */
static void look_space(unsigned space, u64 first, u64 end)
{
    for (u64 m = first; m < end; m++) {
        u16 id = frame_owner_id(mfn_kept(m));

        (void)CLAUSE("devices", id == DOMID_IO || dma_is_right(space, m),
                     "frame %#lx of d%u, with type word %#x, is %s reach of devices in space %u", m, id, frame_types[m],
                     iommu_reaches(space, m) ? "within" : "out of", space);
    }
}

void frames_look_devices(u64 first, u64 end)
{
    for (unsigned space = 0; dma_exact && space < IOMMU_SPACES; space++)
        if (dma_is_exact(space))
            look_space(space, first, end);
}

void frames_look(void)
{
    struct domain *d = NULL;

    frames_look_devices(0, nr_frames);
    for (u64 m = 0; m < nr_frames; m++) {
        u16 id = frame_owner_id(mfn_kept(m));

        if (id >= DOMID_FIRST_RESERVED)
            continue;
        if (!d || d->id != id)
            d = owner_look(id);
        (void)CLAUSE("region", d && may_have_region(d, m), "frame %#lx is d%u's, which does not know of it", m, id);
    }
}
