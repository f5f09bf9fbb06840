/* See mirrors.h. Told from what the comment in pt/mirror.c says of mirrors, not from its code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mirrors.h"

#define TABLE (PTE_P | PTE_RW | PTE_US | PTE_A)

mfn_t mirror_of(const struct domain *d, mfn_t m)
{
    const u32 *row = m.v >> 20 || !d->arch.mirror ? NULL : d->arch.mirror[m.v >> 10];

    return row && row[m.v & 1023] ? mfn(row[m.v & 1023]) : INVALID_MFN;
}

/* The frames of a mirror lie side by side: twin number i from a frame on. */
static u64 twin(mfn_t mirror, unsigned frame, unsigned i) { return frame_words(mirror)[frame * 512 + i]; }

/* Looked at by millions. */
static inline void expect_equal(u64 is, u64 expected)
{
    if (is != expected)
        assert_int_equal(is, expected);
}

static bool walked(u64 e) { return e & PTE_P && e & PTE_A; }

static void expect_leaf_twin(mfn_t mirror, unsigned i, u64 e)
{
    expect_equal(twin(mirror, 0, i), walked(e) ? e & ~(e & PTE_D ? 0 : PTE_RW) : 0);
}

static void expect_node_twins(const struct domain *d, mfn_t mirror, unsigned i, u64 e)
{
    mfn_t below = e & PTE_P ? mirror_of(d, pte_mfn(e)) : INVALID_MFN;
    u64 flags = e & (PTE_P | PTE_RW | PTE_US | PTE_PWT | PTE_PCD | PTE_A);

    for (unsigned half = 0; half < 2; half++)
        expect_equal(twin(mirror, MIRROR_L2, i * 2 + half), walked(e) ? pte_make(mfn_add(below, half), flags) : 0);
    expect_equal(twin(mirror, 0, i), e & PTE_P ? pte_make(pte_mfn(e), PTE_P | PTE_A | (e & PTE_US)) : 0);
}

/* The hypervisor's slots: the M2P in the first two, whatever the guest's table has there, and nothing in the others. */
static void expect_hole(const struct pt_format *f, mfn_t mirror)
{
    for (unsigned i = f->hv_first; i <= f->hv_last; i++) {
        expect_equal(twin(mirror, 0, i), 0);
        for (unsigned half = 0; half < 2; half++)
            expect_equal(twin(mirror, MIRROR_L2, i * 2 + half), i == f->hv_first ? compat_m2p_l2e(half) : 0);
    }
}

static void expect_l3(mfn_t mirror)
{
    for (unsigned i = 0; i < 512; i++)
        expect_equal(twin(mirror, MIRROR_L3, i), i < 4 ? pte_make(mfn_add(mirror, MIRROR_L2 + i), TABLE) : 0);
}

/* Of the first nr entries. */
static void expect_twins(const struct domain *d, mfn_t m, unsigned level, unsigned nr)
{
    const struct pt_format *f = d->arch.fmt;
    mfn_t mirror = mirror_of(d, m);

    for (unsigned i = 0; i < MIRROR_FRAMES(level); i++)
        assert_int_equal(frame_owner_id(mfn_add(mirror, i)), DOMID_XEN);
    for (unsigned i = 0; i < nr; i++) {
        u64 e = pt_load(f, frame_words(m), i);

        if (level == 1)
            expect_leaf_twin(mirror, i, e);
        else if (i < f->hv_first || i > f->hv_last)
            expect_node_twins(d, mirror, i, e);
    }
    if (level == 1)
        return;
    expect_l3(mirror);
    expect_hole(f, mirror);
}

static unsigned expect_mirror(const struct domain *d, mfn_t m)
{
    u32 w = fake_types[m.v];
    unsigned level = pt_live_level(w);

    if (!level && !(w & FW_PARTIAL)) {
        expect_equal(mirror_of(d, m).v, INVALID_MFN.v);
        return 0;
    }
    assert_int_not_equal(mirror_of(d, m).v, INVALID_MFN.v);
    if (level) {
        expect_twins(d, m, level, d->arch.fmt->level[level].nr_entries);
        return MIRROR_FRAMES(level);
    }
    level = fw_type(w) - FT_L1 + 1u;
    expect_twins(d, m, level, w & FW_COUNT_MASK);
    return MIRROR_FRAMES(level);
}

void expect_mirrors(const struct domain *d)
{
    u64 frames = 0;

    if (!d->arch.mirrored)
        return;
    for (u64 m = ARENA_FIRST; m < ARENA_END; m++)
        if (frame_owner_id(mfn(m)) == d->id)
            frames += expect_mirror(d, mfn(m));
        else
            expect_equal(mirror_of(d, mfn(m)).v, INVALID_MFN.v);
    assert_int_equal(d->arch.nr_mirror_frames, frames);
}
