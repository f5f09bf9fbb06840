/*
 * What holds of mirrors between two operations: they say what their tables say. Told from what the comment in mirror.c says of them, not from
 * its code.
 */
#include <asm/dirty.h>
#include <asm/pt.h>
#include <pvisor/invariant.h>

#define L2_AT 2u        /* frames of a non-PAE table's mirror */
#define L3_AT 6u
#define TABLE (PTE_P | PTE_RW | PTE_US | PTE_A)
#define NODE  (PTE_P | PTE_RW | PTE_US | PTE_PWT | PTE_PCD | PTE_A | PTE_NX)

mfn_t mirror_of(const struct domain *d, mfn_t m)
{
    const u32 *row = m.v >> 10 >= d->arch.mirror_rows || !d->arch.mirror ? NULL : d->arch.mirror[m.v >> 10];

    return row && row[m.v & 1023] ? mfn(row[m.v & 1023]) : INVALID_MFN;
}

static unsigned nr_frames_of(const struct domain *d, unsigned level)
{
    if (d->arch.fmt->pte_bytes == 4)
        return level == 1 ? 2 : 8;
    return d->arch.fmt->id == PT32P && level == 3 ? 0 : level == 3 ? 4 : level;
}

/*
 * The frames of a mirror lie side by side: twin number i from a frame on. It may lack what hardware has set in the entry before it walked
 * mirrors, and what is not logged: it is one of these.
 */
static void twin(mfn_t mirror, unsigned frame, unsigned i, u64 expected, u64 or, u64 or_else)
{
    u64 e = ((const u64 *)mfn_to_virt(mfn_add(mirror, frame)))[i];

    (void)CLAUSE("mirror", e == expected || e == or || e == or_else, "frame %u of mirror %#lx, entry %u: %#lx, expected %#lx", frame,
                 mirror.v, i, e, expected);
}

static void exact_twin(mfn_t mirror, unsigned frame, unsigned i, u64 expected) { twin(mirror, frame, i, expected, expected, expected); }

static bool walked(u64 e) { return e & PTE_P && e & PTE_A; }

/* Whether twins were stored before the hardware walked them. */
static bool may_lack(const struct domain *d) { return d->arch.fmt->pte_bytes == 8; }

static bool is_logged(const struct domain *d, u64 e)
{
    mfn_t m = pte_mfn(e);

    return !d->arch.log_ready || d->arch.log_taken || !mfn_valid(m) || frame_owner_id(m) != d->id || dirty_log_has(d, m);
}

/* A report finds what it has to take back by notes. */
static void noted(const struct domain *d, mfn_t mirror, unsigned i)
{
    u64 e = ((const u64 *)mfn_to_virt(mirror))[i];
    bool permits = e & PTE_RW && mfn_valid(pte_mfn(e)) && frame_owner_id(pte_mfn(e)) == d->id;

    (void)CLAUSE("noted", !d->arch.log_ready || !permits || frame_notes[mirror.v], "mirror %#lx, entry %u: %#lx, and no note", mirror.v,
                 i, e);
}

static void leaf_twin(const struct domain *d, mfn_t mirror, unsigned i, u64 e)
{
    u64 all = !walked(e) ? 0 : e & PTE_D && is_logged(d, e) ? e : e & ~PTE_RW;

    noted(d, mirror, i);
    twin(mirror, 0, i, all, may_lack(d) ? 0 : all, may_lack(d) || d->arch.log ? all & ~PTE_RW : all);
}

/* The first frame of the view at level k of a block. */
static unsigned view_at(const struct domain *d, unsigned k) { return d->arch.fmt->pte_bytes == 8 ? k - 1 : k == 1 ? 0 : L2_AT; }

static void node_twin(const struct domain *d, mfn_t mirror, unsigned k, unsigned i, u64 e)
{
    mfn_t below = e & PTE_P ? mirror_of(d, pte_mfn(e)) : INVALID_MFN;
    unsigned halves = d->arch.fmt->pte_bytes == 4 ? 2 : 1;

    for (unsigned half = 0; half < halves; half++) {
        u64 all = walked(e) ? pte_make(mfn_add(below, view_at(d, k - 1) + half), e & NODE) : 0;

        twin(mirror, view_at(d, k), i * halves + half, all, may_lack(d) ? 0 : all, all);
    }
}

static void node_twins(const struct domain *d, mfn_t mirror, unsigned level, unsigned i, u64 e)
{
    for (unsigned k = 2; k <= level; k++)
        node_twin(d, mirror, k, i, e);
    exact_twin(mirror, 0, i, e & PTE_P ? pte_make(pte_mfn(e), PTE_P | PTE_A | (e & (PTE_US | PTE_NX))) : 0);
}

/* The hypervisor's slots: the M2P in the first two, whatever the guest's table has there, and nothing in the others. */
static void hole(const struct pt_format *f, mfn_t mirror)
{
    for (unsigned i = f->hv_first; i <= f->hv_last; i++) {
        exact_twin(mirror, 0, i, 0);
        for (unsigned half = 0; half < 2; half++)
            exact_twin(mirror, L2_AT, i * 2 + half, i == f->hv_first ? compat_m2p_l2e(half) : 0);
    }
}

/* ... of a table of which each entry has one twin: what the table has, in the view at its own level; nothing in lower ones. */
static void hypervisors_twin(const struct domain *d, mfn_t mirror, unsigned level, unsigned i, u64 e)
{
    for (unsigned k = 1; k < level; k++)
        exact_twin(mirror, view_at(d, k), i, 0);
    (void)CLAUSE("mirror", !((((const u64 *)mfn_to_virt(mfn_add(mirror, view_at(d, level))))[i] ^ e) & ~(PTE_A | PTE_D)),
                 "mirror %#lx, hypervisor's entry %u, expected %#lx", mirror.v, i, e);
}

static void level_3(mfn_t mirror)
{
    for (unsigned i = 0; i < 512; i++)
        exact_twin(mirror, L3_AT, i, i < 4 ? pte_make(mfn_add(mirror, L2_AT + i), TABLE) : 0);
}

/* Of the first nr entries. */
static void twins(const struct domain *d, mfn_t m, mfn_t mirror, unsigned level, unsigned nr)
{
    const struct pt_format *f = d->arch.fmt;
    u32 w = frame_types[m.v];
    bool ours = level == f->hv_level && (f->id != PT32P || w & FW_HV);

    for (unsigned i = 0; i < nr_frames_of(d, level); i++)
        (void)CLAUSE("mirror's owner", frame_owner_id(mfn_add(mirror, i)) == DOMID_XEN, "frame %#lx of a mirror is d%u's", mirror.v + i,
                     frame_owner_id(mfn_add(mirror, i)));
    for (unsigned i = 0; i < nr; i++) {
        u64 e = pt_load(f, mfn_to_virt(m), i);

        if (level == 1)
            leaf_twin(d, mirror, i, e);
        else if (!ours || i < f->hv_first || i > f->hv_last)
            node_twins(d, mirror, level, i, e);
        else if (f->pte_bytes == 8 && w & FW_VALID)
            hypervisors_twin(d, mirror, level, i, e);
    }
    if (level == 1 || f->pte_bytes == 8)
        return;
    level_3(mirror);
    hole(f, mirror);
}

/* It could not get one: it waits, of no entry yet, for the store to end (store.c). */
static bool waits_for_mirror(const struct domain *d, u32 w) { return d->arch.store_stops && w & FW_PARTIAL && !(w & FW_COUNT_MASK); }

/* How many frames m's mirror has. */
static unsigned mirror_look(const struct domain *d, mfn_t m)
{
    u32 w = frame_types[m.v];
    unsigned level = pt_live_level(w), nr = level ? d->arch.fmt->level[level].nr_entries : w & FW_COUNT_MASK;
    mfn_t mirror = mirror_of(d, m);

    if (!level && w & FW_PARTIAL)
        level = fw_type(w) - FT_L1 + 1u;
    if (level && !nr_frames_of(d, level))
        return 0;
    if (waits_for_mirror(d, w) && mfn_eq(mirror, INVALID_MFN))
        return 0;
    if (!CLAUSE("mirrored", mfn_eq(mirror, INVALID_MFN) == !level, "frame %#lx with type word %#x, mirror %#lx", m.v, w, mirror.v) || !level)
        return 0;
    twins(d, m, mirror, level, nr);
    return nr_frames_of(d, level);
}

/* While it begins or ends there are some mirrors, which nobody walks; once ready they must be right, though nobody does yet. */
void mirrors_look(const struct domain *d)
{
    u64 frames = 0, end = min(nr_frames, d->arch.mirror_rows << 10);

    (void)CLAUSE("for good", d->arch.for_good != FOR_GOOD_TAKEN || d->arch.mirror_walked,
                 "d%u's entries may name memory without being present, and the hardware walks them", d->id);
    (void)CLAUSE("mirrored", d->arch.fmt->pte_bytes == 8 || d->arch.store == STORE_IN_PLACE,
                 "d%u's entries of 4 bytes are always mirrored, and its store is in state %u", d->id, d->arch.store);
    if (!(d->arch.mirror_walked || d->arch.store == STORE_READY) || !d->arch.mirror || !d->regions)
        return;
    for (u64 m = 0; m < end; m++) {
        if (!d->arch.mirror[m >> 10] && !domain_has_region(d, m))
            m |= 511;
        else if (frame_owner_id(mfn_kept(m)) == d->id)
            frames += mirror_look(d, mfn_kept(m));
        else
            (void)CLAUSE("mirrored", mfn_eq(mirror_of(d, mfn_kept(m)), INVALID_MFN), "frame %#lx, of d%u's, has a mirror of d%u's", m,
                         frame_owner_id(mfn_kept(m)), d->id);
    }
    (void)CLAUSE("number of mirrors", frames == d->arch.nr_mirror_frames, "d%u has %lu frames of them, counted are %lu", d->id, frames,
                 d->arch.nr_mirror_frames);
}
