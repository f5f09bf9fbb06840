/*
 * What holds of mirrors between two operations: they say what their tables say. Told from what the comment in mirror.c says of them, not from
 * its code.
 */
#include <asm/pt.h>
#include <pvisor/invariant.h>

#define L2_AT 2u        /* frames of a mirror */
#define L3_AT 6u
#define TABLE (PTE_P | PTE_RW | PTE_US | PTE_A)

mfn_t mirror_of(const struct domain *d, mfn_t m)
{
    const u32 *row = m.v >> 20 || !d->arch.mirror ? NULL : d->arch.mirror[m.v >> 10];

    return row && row[m.v & 1023] ? mfn(row[m.v & 1023]) : INVALID_MFN;
}

static unsigned nr_frames_of(unsigned level) { return level == 1 ? 2 : 8; }

/* The frames of a mirror lie side by side: twin number i from a frame on. */
static void twin(mfn_t mirror, unsigned frame, unsigned i, u64 expected)
{
    u64 e = ((const u64 *)mfn_to_virt(mfn_add(mirror, frame)))[i];

    (void)CLAUSE("mirror", e == expected, "frame %u of mirror %#lx, entry %u: %#lx, expected %#lx", frame, mirror.v, i, e, expected);
}

static bool walked(u64 e) { return e & PTE_P && e & PTE_A; }

static void leaf_twin(mfn_t mirror, unsigned i, u64 e)
{
    twin(mirror, 0, i, walked(e) ? e & ~(e & PTE_D ? 0 : PTE_RW) : 0);
}

static void node_twins(const struct domain *d, mfn_t mirror, unsigned i, u64 e)
{
    mfn_t below = e & PTE_P ? mirror_of(d, pte_mfn(e)) : INVALID_MFN;
    u64 flags = e & (PTE_P | PTE_RW | PTE_US | PTE_PWT | PTE_PCD | PTE_A);

    for (unsigned half = 0; half < 2; half++)
        twin(mirror, L2_AT, i * 2 + half, walked(e) ? pte_make(mfn_add(below, half), flags) : 0);
    twin(mirror, 0, i, e & PTE_P ? pte_make(pte_mfn(e), PTE_P | PTE_A | (e & PTE_US)) : 0);
}

/* The hypervisor's slots: the M2P in the first two, whatever the guest's table has there, and nothing in the others. */
static void hole(const struct pt_format *f, mfn_t mirror)
{
    for (unsigned i = f->hv_first; i <= f->hv_last; i++) {
        twin(mirror, 0, i, 0);
        for (unsigned half = 0; half < 2; half++)
            twin(mirror, L2_AT, i * 2 + half, i == f->hv_first ? compat_m2p_l2e(half) : 0);
    }
}

static void level_3(mfn_t mirror)
{
    for (unsigned i = 0; i < 512; i++)
        twin(mirror, L3_AT, i, i < 4 ? pte_make(mfn_add(mirror, L2_AT + i), TABLE) : 0);
}

/* Of the first nr entries. */
static void twins(const struct domain *d, mfn_t m, mfn_t mirror, unsigned level, unsigned nr)
{
    const struct pt_format *f = d->arch.fmt;

    for (unsigned i = 0; i < nr_frames_of(level); i++)
        (void)CLAUSE("mirror's owner", frame_owner_id(mfn_add(mirror, i)) == DOMID_XEN, "frame %#lx of a mirror is d%u's", mirror.v + i,
                     frame_owner_id(mfn_add(mirror, i)));
    for (unsigned i = 0; i < nr; i++) {
        u64 e = pt_load(f, mfn_to_virt(m), i);

        if (level == 1)
            leaf_twin(mirror, i, e);
        else if (i < f->hv_first || i > f->hv_last)
            node_twins(d, mirror, i, e);
    }
    if (level == 1)
        return;
    level_3(mirror);
    hole(f, mirror);
}

/* How many frames m's mirror has. */
static unsigned mirror_look(const struct domain *d, mfn_t m)
{
    u32 w = frame_types[m.v];
    unsigned level = pt_live_level(w), nr = level ? d->arch.fmt->level[level].nr_entries : w & FW_COUNT_MASK;
    mfn_t mirror = mirror_of(d, m);

    if (!level && w & FW_PARTIAL)
        level = fw_type(w) - FT_L1 + 1u;
    if (!CLAUSE("mirrored", mfn_eq(mirror, INVALID_MFN) == !level, "frame %#lx with type word %#x, mirror %#lx", m.v, w, mirror.v) || !level)
        return 0;
    twins(d, m, mirror, level, nr);
    return nr_frames_of(level);
}

void mirrors_look(const struct domain *d)
{
    u64 frames = 0;

    if (!d->arch.mirrored || !d->arch.mirror || !d->regions)
        return;
    for (u64 m = 0; m < min(nr_frames, 1UL << 20); m++) {
        if (!d->arch.mirror[m >> 10] && !(d->regions[m >> 15] >> (m >> 9 & 63) & 1))
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
