/*
 * Typed page tables over fake memory. After every step all references are counted again from what the tables say, so
 * that a lost or a dropped one shows at once; and no frame has a new use while a TLB may know its old one. What hardware walks in place of
 * non-PAE tables says what these say (more of that is in test_mirror.c).
 */
// SOURCES: arch/x86/pt/dma.c
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/frames.c common/abi.c arch/x86/mm/heap.c
// SOURCES: arch/x86/mm/frames.c arch/x86/pt/frame.c arch/x86/pt/format.c arch/x86/pt/table.c arch/x86/pt/entry.c arch/x86/pt/walk.c
// SOURCES: arch/x86/pt/quick.c arch/x86/pt/mirror.c
// SOURCES: tests/unit/fake/invariant.c tests/unit/fake/clause.c arch/x86/pt/invariant.c arch/x86/pt/mirror_invariant.c
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <public/errno.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include "fake/fake.h"
#include "fake/frames.h"
#include "fake/invariant.h"
#include "fake/mirrors.h"

#define AGAIN (-ERESTART_HYPERCALL)
#define RO (PTE_P | PTE_US)
#define RW (PTE_P | PTE_US | PTE_RW)

static enum pt_format_id formats[] = { PT64, PT32P, PT32 };
static struct domain *dom, *other;
static const struct pt_format *fmt;
static unsigned top;

/* References that the test itself holds, as a root register or a mapping of the hypervisor's would. */
#define MAX_HELD 8
static mfn_t roots[MAX_HELD], writables[MAX_HELD], segdescs[MAX_HELD];
static unsigned nr_roots, nr_writables, nr_segdescs;

/* By domain: frames that its entries mapped writable, or that were its tables, at some time since its last flush. */
static bool tlb_writable[3][ARENA_NR], tlb_table[3][ARENA_NR];

/* dom's alone: frames of mirrors that CPUs may walk, by the table that each stands for. */
static u64 tlb_mirror[ARENA_NR];

static void forget_tlb(u16 id)
{
    if (id == dom->id)
        memset(tlb_mirror, 0, sizeof(tlb_mirror));
    memset(tlb_writable[id], 0, sizeof(tlb_writable[id]));
    memset(tlb_table[id], 0, sizeof(tlb_table[id]));
}

/* Copies of complete roots, which CPUs use until they hear that one is out of date. */
static struct { bool there; u64 entry[512]; } copies[ARENA_NR];

static void forget_copy(mfn_t root) { copies[root.v - ARENA_FIRST].there = false; }

static int setup(void **state)
{
    enum pt_format_id id = *(enum pt_format_id *)*state;

    frames_reset();
    dom = frames_domain(1, id);
    other = frames_domain(2, id);
    fake_invariant_reset();
    fmt = &pt_formats[id];
    top = fmt->levels;
    nr_roots = nr_writables = nr_segdescs = 0;
    on_flush = forget_tlb;
    on_root_change = forget_copy;
    memset(copies, 0, sizeof(copies));
    forget_tlb(1);
    forget_tlb(2);
    return 0;
}

/* Entries, in dom's format; put(): as a guest writes a frame that is no table yet. */
static u64 entry(mfn_t m, unsigned i) { return pt_load(fmt, frame_words(m), i); }

static void put(mfn_t m, unsigned i, u64 e)
{
    if (fmt->pte_bytes == 8)
        frame_words(m)[i] = e;
    else
        ((u32 *)frame_words(m))[i] = (u32)e;
}

/* Accessed and dirty bits: the hardware's, or mirror_fault()'s. */
static void set_bits(mfn_t m, unsigned i, u64 bits)
{
    if (fmt->id == PT32)
        mirror_store(dom, m, 1, i, entry(m, i) | bits);
    else
        put(m, i, entry(m, i) | bits);
}

static u32 type_word(mfn_t m) { return fake_types[m.v]; }
static bool is_table(mfn_t m) { return fw_type(type_word(m)) >= FT_L1 && fw_type(type_word(m)) <= FT_L4; }
static unsigned level_of(mfn_t m) { return fw_type(type_word(m)) - FT_L1 + 1; }
static u32 refs(mfn_t m) { return (u32)fake_refs[m.v]; }

/* --- The invariant -------------------------------------------------------------------------------------- */

static void say_held(void)
{
    for (unsigned i = 0; i < nr_roots; i++)
        holds("a root register", roots[i], (enum frame_type)(FT_L1 + top - 1));
    for (unsigned i = 0; i < nr_writables; i++)
        holds("a mapping of ours", writables[i], FT_WRITABLE);
    for (unsigned i = 0; i < nr_segdescs; i++)
        holds("a descriptor table", segdescs[i], FT_SEGDESC);
}

static bool owned(mfn_t m) { return frame_owner_id(m) == dom->id || frame_owner_id(m) == other->id; }

/* Everything that holds references is looked at, and nothing else may have any. */
static void check_counts(void)
{
    leave_hypervisor();
    say_held();
    frames_count(dom);
    frames_count(other);
    frames_compare(dom);
    frames_compare(other);
    frames_look_devices(ARENA_FIRST, ARENA_END);
    assert_int_equal(dom->refs, 1);
}

/* --- What TLBs may hold ----------------------------------------------------------------------------------- */

static void fill_tlb(struct domain *d)
{
    for (u64 i = ARENA_FIRST; i < ARENA_END; i++) {
        mfn_t m = mfn(i);

        if (frame_owner_id(m) != d->id || !is_table(m) || !(type_word(m) & FW_VALID))
            continue;
        tlb_table[d->id][i - ARENA_FIRST] = true;
        for (unsigned j = 0; d == dom && fmt->id == PT32 && j < MIRROR_FRAMES(level_of(m)); j++)
            tlb_mirror[mirror_of(d, m).v + j - ARENA_FIRST] = i;
        if (level_of(m) > 1)
            continue;
        for (unsigned j = 0; j < fmt->level[1].nr_entries; j++)
            if ((entry(m, j) & RW) == RW && pte_mfn(entry(m, j)).v != DEVICE_MFN)
                tlb_writable[d->id][pte_mfn(entry(m, j)).v - ARENA_FIRST] = true;
    }
}

/* What a CPU may still walk is a mirror, and none of another table. */
static void check_walked_mirrors(void)
{
    if (!dom->arch.mirrored)
        return;
    for (u64 i = 0; i < ARENA_NR; i++)
        if (tlb_mirror[i])
            assert_int_equal(frame_owner_id(mfn(ARENA_FIRST + i)), DOMID_XEN);
    for (u64 m = ARENA_FIRST; m < ARENA_END; m++) {
        mfn_t mirror = mirror_of(dom, mfn(m));

        if (!mfn_eq(mirror, INVALID_MFN) && tlb_mirror[mirror.v - ARENA_FIRST])
            assert_int_equal(tlb_mirror[mirror.v - ARENA_FIRST], m);
    }
}

static void check_tlb(void)
{
    check_walked_mirrors();
    for (u64 i = 0; i < ARENA_NR; i++) {
        mfn_t m = mfn(ARENA_FIRST + i);
        u32 w = type_word(m);
        bool written = fw_type(w) == FT_WRITABLE && w & FW_COUNT_MASK;
        bool trusted = owned(m) && fw_type(w) >= FT_L1 && w & FW_VALID;

        for (unsigned id = 1; id <= 2; id++) {
            assert_false(tlb_writable[id][i] && trusted);
            assert_false(tlb_writable[id][i] && frame_owner_id(m) == DOMID_XEN);
            assert_false(tlb_table[id][i] && owned(m) && written);
        }
    }
    fill_tlb(dom);
    fill_tlb(other);
}

static void check_copies(void)
{
    for (unsigned i = 0; i < ARENA_NR; i++) {
        mfn_t m = mfn(ARENA_FIRST + i);
        bool complete = fw_type(type_word(m)) == FT_L4 && type_word(m) & FW_VALID && type_word(m) & FW_COUNT_MASK;

        if (copies[i].there) {
            assert_true(complete);
            assert_memory_equal(copies[i].entry, frame_words(m), PAGE_SIZE);
        } else if (complete) {
            copies[i].there = true;
            memcpy(copies[i].entry, frame_words(m), PAGE_SIZE);
        }
    }
}

static void check(void)
{
    check_counts();
    check_tlb();
    check_copies();
    mirrors_look(dom);
}

/* --- Operations, made again as often as they give way -------------------------------------------------------- */

static int pt_update_entry(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e, const struct domain *owner,
                           unsigned flags)
{
    return level == 1 ? pt_update_leaf(d, m, idx, e, owner, flags) : pt_update_node(d, m, level, idx, e, flags);
}

static void *place(mfn_t m, unsigned idx) { return (char *)frame_words(m) + idx * fmt->pte_bytes; }

static int update_known(void *p, u64 e)
{
    return fmt->pte_bytes == 8 ? pt_update_known(dom, p, e) : pt_update_known_mirrored(dom, p, (u32)e);
}

enum op { PIN, UNPIN, UPDATE };

static int once(enum op op, mfn_t m, unsigned a, unsigned idx, u64 e)
{
    int rc = pt_drain_orphans(dom);

    if (rc)
        return rc;
    if (op == PIN)
        return pt_pin(dom, m, a);
    if (op == UPDATE)
        return pt_update_entry(dom, m, a, idx, e, dom, 0);
    return pt_unpin(dom, m);
}

static void drain(void)
{
    while (pt_drain_orphans(dom))
        preempt_at(0, false);
}

static int repeat(enum op op, mfn_t m, unsigned a, unsigned idx, u64 e)
{
    int rc;

    for (;;) {
        rc = once(op, m, a, idx, e);
        check_counts();
        if (rc != AGAIN)
            break;
        preempt_at(0, false);
    }
    drain();
    check_counts();
    return rc;
}

static int pin(mfn_t m, unsigned level) { return repeat(PIN, m, level, 0, 0); }
static int unpin(mfn_t m) { return repeat(UNPIN, m, 0, 0, 0); }
static int update(mfn_t m, unsigned idx, u64 e) { return repeat(UPDATE, m, level_of(m), idx, e); }

static void relinquish(void)
{
    drain();
    while (nr_roots)
        (void)pt_put_table(dom, roots[--nr_roots]);
    while (nr_writables)
        frame_put_writable(writables[--nr_writables]);
    while (nr_segdescs)
        frame_put_segdesc(dom, segdescs[--nr_segdescs]);
    while (pt_relinquish(dom))
        preempt_at(0, false);
    leave_hypervisor();
}

static void expect_nothing_left(void)
{
    assert_int_equal(dom->tot_pages, 0);
    frames_count(dom);      /* its own numbers, of tables and of those with views of others' frames */
    assert_int_equal(dom->arch.nr_orphans, 0);
    assert_int_equal(dom->arch.nr_mirror_frames, 0);
    assert_int_equal(dom->refs, 1);
    mirror_free_domain(dom);
    assert_int_equal(heap_free_frames() + other->tot_pages + other->shared_frames, ARENA_NR);
}

/* --- A small tree ----------------------------------------------------------------------------------------------- */

struct tree { mfn_t table[5], l2_hv, data[4]; };

/* One table a level. PAE: two L2s, of which one carries the hypervisor's entries. data[0] and [1] are writable. */
static struct tree make_tree(void)
{
    struct tree t;

    for (unsigned i = 0; i < 4; i++) {
        t.data[i] = frames_new(dom);
        put(t.data[i], 0, i << 1);
    }
    for (unsigned level = 1; level <= top; level++)
        t.table[level] = frames_new(dom);
    t.l2_hv = fmt->id == PT32P ? frames_new(dom) : INVALID_MFN;
    put(t.table[1], 0, pte_make(t.data[0], RW));
    put(t.table[1], 7, pte_make(t.data[1], RW | PTE_A | PTE_D));
    put(t.table[1], 8, pte_make(t.data[1], fmt->pte_bytes == 8 ? RO | PTE_NX : RO));
    put(t.table[1], 511, pte_make(t.data[2], RO));
    for (unsigned level = 2; level <= top; level++)
        put(t.table[level], level == 3 && top == 3 ? 0 : 5,
            pte_make(t.table[level - 1], level == 3 && top == 3 ? PTE_P : RW));
    if (fmt->id == PT32P) {
        put(t.l2_hv, 3, pte_make(t.table[1], RW));
        put(t.table[3], 3, pte_make(t.l2_hv, PTE_P));
    }
    return t;
}

static void builds_and_takes_apart(void **state)
{
    struct tree t = make_tree();

    (void)state;
    assert_int_equal(pin(t.table[top], top), 0);
    check();
    assert_int_equal(refs(t.data[0]), 2);
    assert_int_equal(refs(t.data[1]), 3);
    assert_int_equal(type_word(t.data[1]), FW_TYPE(FT_WRITABLE) | FW_VALID | 1);
    assert_int_equal(frame_get_writable(t.table[1], dom), -EBUSY);
    for (unsigned level = 1; level <= top; level++)
        assert_int_equal(level_of(t.table[level]), level);
    assert_int_equal(dom->arch.nr_tables, fmt->id == PT32 ? 2 : 4);
    if (fmt->id == PT64)
        assert_int_equal(pte_mfn(entry(t.table[top], fmt->hv_first)).v, 0x77);
    assert_int_equal(unpin(t.table[top]), 0);
    check();
    assert_int_equal(dom->arch.nr_tables, 0);
    relinquish();
    expect_nothing_left();
}

/* The hardware sets nothing in tables that are mirrored: whoever has the lock knows what is there. */
static void expect_too_late(mfn_t m, unsigned idx, u64 old, u64 e)
{
    if (fmt->id != PT32)
        assert_int_equal(pt_compare_update_leaf(dom, m, idx, old, e), -EAGAIN);
}

/* It stays mapped, and cannot be had anew. */
static void device_memory_is_withdrawn(mfn_t l1)
{
    struct rangeset *before = dom->iomem;
    u64 e = pte_make(mfn(DEVICE_MFN), RW);

    assert_int_equal(update(l1, 2, e), 0);
    dom->iomem = (struct rangeset *)other;      /* another's rights: no such memory */
    dom->iomem_withdrawn = true;
    check();
    assert_int_equal(update(l1, 3, e), -EINVAL);
    assert_int_equal(update(l1, 2, 0), 0);
    assert_int_equal(update(l1, 2, e), -EINVAL);
    dom->iomem = before;
    dom->iomem_withdrawn = false;
}

static void changes_entries(void **state)
{
    struct tree t = make_tree();
    mfn_t spare = frames_new(dom);

    (void)state;
    assert_int_equal(pin(t.table[top], top), 0);
    assert_int_equal(update(t.table[1], 1, pte_make(t.data[3], RW)), 0);
    assert_int_equal(refs(t.data[3]), 2);
    assert_int_equal(update(t.table[1], 1, pte_make(t.data[3], RW | PTE_D)), 0);    /* flags only */
    assert_int_equal(refs(t.data[3]), 2);
    assert_int_equal(update(t.table[1], 1, pte_make(t.data[3], RO)), 0);
    assert_int_equal(type_word(t.data[3]) & FW_COUNT_MASK, 0);
    check();
    /* Unmapped writable, it may become a table. The flush in between is checked. */
    assert_int_equal(update(t.table[2], 9, pte_make(t.data[3], RW)), 0);
    check();
    assert_int_equal(level_of(t.data[3]), 1);
    /* And back: the table's entry goes, then it may be written. */
    assert_int_equal(update(t.table[2], 9, 0), 0);
    assert_int_equal(update(t.table[1], 1, pte_make(t.data[3], RW)), 0);
    check();
    /* The processor set the dirty bit behind an emulated write's back. */
    set_bits(t.table[1], 1, PTE_D);
    expect_too_late(t.table[1], 1, pte_make(t.data[3], RW), 0);
    expect_too_late(t.table[1], 1, pte_make(t.data[3], RW), pte_make(spare, RW));
    check();
    assert_int_equal(pt_compare_update_leaf(dom, t.table[1], 1, pte_make(t.data[3], RW | PTE_D), pte_make(spare, RW)), 0);
    check();
    assert_int_equal(update(t.table[1], 2, pte_make(mfn(DEVICE_MFN), RW)), 0);
    assert_int_equal(update(t.table[1], 2, pte_make(spare, RW)), 0);
    check();
    device_memory_is_withdrawn(t.table[1]);
    assert_int_equal(update(t.table[1], 2, 0), 0);
    check();
    relinquish();
    expect_nothing_left();
}

/* A refused update leaves everything as it was. */
static void expect_refused(mfn_t m, unsigned idx, u64 e)
{
    u64 was = entry(m, idx);

    assert_int_equal(update(m, idx, e), -EINVAL);
    assert_int_equal(entry(m, idx), was);
    check();
}

static void refuses_entries(void **state)
{
    struct tree t = make_tree();
    mfn_t theirs = frames_new(other), mine = frames_new(dom);

    (void)state;
    assert_int_equal(pin(t.table[top], top), 0);
    expect_refused(t.table[1], 20, pte_make(t.table[1], RW));
    expect_refused(t.table[1], 20, pte_make(t.table[top], RW));
    expect_refused(t.table[1], 20, pte_make(theirs, RO));
    expect_refused(t.table[1], 20, pte_make(theirs, RW));
    expect_refused(t.table[1], 20, pte_make(mfn(DEVICE_MFN + 1), RO));
    expect_refused(t.table[1], 20, pte_make(mfn(ARENA_END), RO));
    expect_refused(t.table[1], 20, pte_make(mfn(ARENA_END - 1), RO));       /* free */
    expect_refused(t.table[1], 20, pte_make(mfn(0xffffffffffUL), RO));
    expect_refused(t.table[2], 20, pte_make(t.data[0], RW));                /* mapped writable */
    expect_refused(t.table[2], 20, pte_make(t.table[3], RO));               /* wrong level */
    expect_refused(t.table[2], 20, pte_make(theirs, RO));
    expect_refused(t.table[2], 20, pte_make(mine, RO | PTE_PS));
    expect_refused(t.table[2], 20, pte_make(mfn(DEVICE_MFN), RO));
    assert_int_equal(update(t.table[1], 20, pte_make(t.table[top], RO)), 0); /* to read one's tables is fine */
    put(mine, 17, pte_make(theirs, RO));
    expect_refused(t.table[2], 20, pte_make(mine, RO));                     /* one bad entry in it */
    assert_int_equal(type_word(mine) & (FW_VALID | FW_PARTIAL | FW_COUNT_MASK), 0);
    assert_int_equal(pin(t.table[top], top), -EINVAL);
    assert_int_equal(pin(t.table[1], 2), -EINVAL);
    assert_int_equal(pin(theirs, 1), -EINVAL);
    assert_int_equal(pin(mfn(ARENA_END + 5), 1), -EINVAL);
    assert_int_equal(pin(mfn(DEVICE_MFN), 1), -EINVAL);
    assert_int_equal(unpin(t.table[1]), -EINVAL);
    assert_int_equal(unpin(theirs), -EINVAL);
    check();
    relinquish();
    expect_nothing_left();
}

/* A CPU with L1TF speculates with what is not present. */
static void nothing_absent_names_memory(void **state)
{
    static const u64 fine[] = { 0, PTE_RW, PTE_NX, 0xffe, 1UL << 32, 3UL << 32, 5UL << 32, 1UL << 39, 0xfffffffffffff0UL & ~PTE_P };
    struct tree t = make_tree();
    mfn_t mine = frames_new(dom);
    u64 old, nx = fmt->pte_bytes == 8 ? PTE_NX : 0;

    (void)state;
    dom->arch.l1tf_span = (5UL << 32) - PAGE_SIZE;
    assert_int_equal(pin(t.table[top], top), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(fine); i++) {
        if (fmt->pte_bytes == 4 && fine[i] >> 32)
            continue;
        assert_int_equal(update(t.table[1], 20, fine[i]), 0);
        assert_int_equal(update(t.table[2], 20, fine[i]), 0);
    }
    for (u64 bad = PAGE_SIZE; bad < (fmt->pte_bytes == 4 ? 1UL : 5UL) << 32; bad += bad + PAGE_SIZE) {
        expect_refused(t.table[1], 20, bad);
        expect_refused(t.table[1], 7, bad | PTE_RW | nx);               /* in the place of one that is present */
        expect_refused(t.table[2], 20, bad | PTE_PS);
        if (fmt->pte_bytes == 8)
            expect_refused(t.table[1], 20, bad | 1UL << 40);                /* the cache does not look so far */
    }
    old = entry(t.table[1], 7);
    assert_int_equal(pt_compare_update_leaf(dom, t.table[1], 7, old, old & ~PTE_P), -EINVAL);
    assert_int_equal(update_known(place(t.table[1], 7), old & ~PTE_P), -EINVAL);
    check();
    /* Nor does a frame with such an entry become a table. */
    put(mine, 17, pte_make(t.data[3], RO));
    put(mine, 18, pte_make(t.data[3], RO & ~PTE_P));
    assert_int_equal(pin(mine, 1), -EINVAL);
    check();
    dom->arch.l1tf_span = 0;
    assert_int_equal(pin(mine, 1), 0);
    assert_int_equal(update(mine, 17, pte_make(t.data[3], RO & ~PTE_P)), 0);
    check();
    relinquish();
    expect_nothing_left();
}

static void caches_are_not_bypassed(void **state)
{
    static const u64 flags[] = { PTE_PWT, PTE_PCD, PTE_PAT };
    struct tree t = make_tree();

    (void)state;
    assert_int_equal(pin(t.table[top], top), 0);
    for (unsigned i = 0; i < 3; i++) {
        expect_refused(t.table[1], 20, pte_make(t.data[3], RW | flags[i]));
        expect_refused(t.table[1], 7, entry(t.table[1], 7) | flags[i]);
        assert_int_equal(update(t.table[1], 21, pte_make(mfn(DEVICE_MFN), RW | flags[i])), 0);
    }
    dom->is_hardware = true;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(update(t.table[1], 20, pte_make(t.data[3], RW | flags[i])), 0);
    check();
    relinquish();
    expect_nothing_left();
}

static void keeps_the_hypervisors_entries(void **state)
{
    struct tree t = make_tree();
    mfn_t m = fmt->id == PT32P ? t.l2_hv : t.table[top];

    (void)state;
    /* Whatever stands there before is not looked at. */
    put(m, fmt->hv_first, pte_make(mfn(5), RW | PTE_PS));
    assert_int_equal(pin(t.table[top], top), 0);
    /* Of a mirrored table it is the mirror's, and nothing is in the table. */
    assert_int_equal(fmt->id == PT32 ? entry(m, fmt->hv_first) : pte_mfn(entry(m, fmt->hv_first)).v, fmt->id == PT32 ? 0 : 0x77);
    check();
    expect_refused(m, fmt->hv_first, 0);
    expect_refused(m, fmt->hv_last, pte_make(t.table[1], RO));
    if (fmt->id == PT32P) {
        expect_refused(t.table[3], 3, 0);
        expect_refused(t.table[3], 0, pte_make(t.l2_hv, PTE_P));
        expect_refused(t.table[3], 3, pte_make(t.table[2], PTE_P));
        assert_int_equal(repeat(UPDATE, t.table[3], 3, 4, pte_make(t.table[2], PTE_P)), -EINVAL);
        assert_int_equal(update(t.table[2], fmt->hv_first, pte_make(t.table[1], RO)), 0);
    }
    relinquish();
    expect_nothing_left();
}

static void pae_needs_its_fourth_table(void **state)
{
    struct tree t = make_tree();

    (void)state;
    if (fmt->id != PT32P)
        return;
    put(t.table[3], 3, 0);
    assert_int_equal(pin(t.table[3], 3), -EINVAL);
    check();
    assert_int_equal(dom->arch.nr_tables, 0);
    relinquish();
    expect_nothing_left();
}

/* --- Linear mappings --------------------------------------------------------------------------------------------- */

static void linear_mappings(void **state)
{
    struct tree a = make_tree(), b = make_tree(), c = make_tree();
    unsigned level = fmt->hv_level;

    (void)state;
    assert_int_equal(pin(a.table[top], top), 0);
    assert_int_equal(pin(b.table[top], top), 0);
    assert_int_equal(pin(c.table[top], top), 0);
    assert_int_equal(update(a.table[level], 100, pte_make(a.table[level], RO)), 0);
    expect_refused(a.table[level], 101, pte_make(a.table[level], RW));
    assert_int_equal(update(a.table[level], 102, pte_make(b.table[level], RO)), 0);
    expect_refused(a.table[level], 103, pte_make(b.table[level], RW));
    expect_refused(a.table[level], 102, pte_make(b.table[level], RW));
    /* No chains, or taking them apart would have no bottom. */
    expect_refused(b.table[level], 102, pte_make(a.table[level], RO));
    expect_refused(b.table[level], 102, pte_make(c.table[level], RO));
    expect_refused(c.table[level], 102, pte_make(a.table[level], RO));
    assert_int_equal(update(c.table[level], 102, pte_make(b.table[level], RO)), 0);
    /* An L3 of a PAE guest has four entries: as a page of L2 entries it would hold unchecked ones. */
    if (fmt->id == PT32P) {
        expect_refused(a.table[3], 1, pte_make(a.table[3], PTE_P));
        expect_refused(a.table[3], 1, pte_make(b.table[3], PTE_P));
    }
    check();
    assert_int_equal(unpin(b.table[top]), 0);
    assert_true(type_word(b.table[level]) & FW_VALID);
    assert_int_equal(unpin(a.table[top]), 0);
    assert_int_equal(unpin(c.table[top]), 0);
    assert_int_equal(dom->arch.nr_tables, 0);
    check();
    relinquish();
    expect_nothing_left();
}

/* Isolation has room for one other table: in any slots, and for another in its place. */
static void linear_mappings_under_isolation(void **state)
{
    struct tree a = make_tree(), b = make_tree(), c = make_tree();

    (void)state;
    if (top < 4)
        return;
    isolation_any = false;
    assert_int_equal(pin(a.table[4], 4), 0);
    assert_int_equal(pin(b.table[4], 4), 0);
    assert_false(dom->arch.names_roots);
    assert_int_equal(update(a.table[4], 100, pte_make(b.table[4], RO)), 0);
    assert_true(dom->arch.names_roots);
    assert_int_equal(update(a.table[4], 101, pte_make(b.table[4], RO)), 0);
    assert_int_equal(update(a.table[4], 102, pte_make(a.table[4], RO)), 0);
    assert_int_equal(update(a.table[4], 103, pte_make(a.table[4], RO)), 0);
    assert_int_equal(pin(c.table[4], 4), 0);
    expect_refused(a.table[4], 104, pte_make(c.table[4], RO));
    expect_refused(a.table[4], 101, pte_make(c.table[4], RO));
    assert_int_equal(update(a.table[4], 100, 0), 0);
    assert_int_equal(update(a.table[4], 101, pte_make(c.table[4], RO)), 0);
    check();
    assert_int_equal(unpin(a.table[4]), 0);
    /* In a table that becomes one, too. */
    put(a.table[4], 100, pte_make(b.table[4], RO));
    assert_int_equal(pin(a.table[4], 4), -EINVAL);
    put(a.table[4], 100, 0);
    assert_int_equal(pin(a.table[4], 4), 0);
    assert_int_equal(unpin(a.table[4]), 0);
    assert_int_equal(unpin(b.table[4]), 0);
    assert_int_equal(unpin(c.table[4]), 0);
    relinquish();
    expect_nothing_left();
}

/* Tables are RAM: who has no devices has no entry by which a CPU reads them past its caches. */
static void cache_flags_of_upper_entries(void **state)
{
    static const u64 flags[] = { PTE_PWT, PTE_PCD, PTE_PWT | PTE_PCD };
    struct tree t = make_tree();

    (void)state;
    assert_int_equal(pin(t.table[top], top), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
        for (unsigned level = 2; level <= top; level++) {
            unsigned idx = level == 3 && top == 3 ? 0 : 5;
            u64 e = entry(t.table[level], idx);

            expect_refused(t.table[level], idx, e | flags[i]);
            dom->is_hardware = true;
            assert_int_equal(update(t.table[level], idx, e | flags[i]), 0);
            assert_int_equal(update(t.table[level], idx, e), 0);
            dom->is_hardware = false;
        }
    assert_int_equal(unpin(t.table[top]), 0);
    put(t.table[2], 5, entry(t.table[2], 5) | PTE_PCD);
    assert_int_equal(pin(t.table[top], top), -EINVAL);
    check();
}

/* --- Giving way everywhere --------------------------------------------------------------------------------------- */

static u64 image_refs[ARENA_NR];
static u32 image_types[ARENA_NR];

static void take_image(void)
{
    check_counts();
    memcpy(image_refs, &fake_refs[ARENA_FIRST], sizeof(image_refs));
    memcpy(image_types, &fake_types[ARENA_FIRST], sizeof(image_types));
}

static void compare_image(void)
{
    check_counts();
    assert_memory_equal(image_refs, &fake_refs[ARENA_FIRST], sizeof(image_refs));
    assert_memory_equal(image_types, &fake_types[ARENA_FIRST], sizeof(image_types));
}

/* A wider tree: three tables below each of the upper ones, some shared; bad: the last entry cannot be had. */
static mfn_t wide_tree(bool bad)
{
    struct tree t = make_tree();

    for (unsigned level = 2; level <= top; level++)
        for (unsigned i = 1; i < 3; i++) {
            mfn_t m = frames_new(dom);
            bool pae_top = level == 3 && top == 3;

            memcpy(frame_words(m), frame_words(t.table[level - 1]), PAGE_SIZE);
            put(t.table[level], pae_top ? i : 40 * i, pte_make(m, pae_top ? PTE_P : RW));
            if (bad && level == top && i == 2)
                put(m, 410, pte_make(t.data[0], RW));
        }
    return t.table[top];
}



static mfn_t start_root;
static int run_pin(void) { return pin(start_root, top); }
static int run_unpin(void) { return unpin(start_root); }
static int run_repin(void) { return unpin(start_root) | pin(start_root, top); }
static int run_as_lower_level(void) { return unpin(start_root) | pin(start_root, 1); }

static int run_relinquish(void)
{
    relinquish();
    expect_nothing_left();
    return 0;
}

static void prepare(void **state, bool bad, bool pinned)
{
    setup(state);
    start_root = wide_tree(bad);
    if (pinned)
        assert_int_equal(pin(start_root, top), 0);
    check_counts();
}

static void gives_way_anywhere_in(void **state, int (*run)(void), bool bad, bool pinned)
{
    unsigned calls;
    int rc;

    prepare(state, bad, pinned);
    preempt_at(0, false);
    rc = run();
    calls = preempt_calls();
    assert_true(calls > (top == 2 ? 1 : 10));
    take_image();
    for (unsigned sticky = 0; sticky < 2; sticky++)
        for (unsigned n = 1; n <= calls; n++) {
            prepare(state, bad, pinned);
            preempt_at(n, sticky);
            assert_int_equal(run(), rc);
            preempt_at(0, false);
            compare_image();
            relinquish();
            expect_nothing_left();
        }
}

static void gives_way_in_pin(void **state) { gives_way_anywhere_in(state, run_pin, false, false); }
static void gives_way_in_failing_pin(void **state) { gives_way_anywhere_in(state, run_pin, true, false); }
static void gives_way_in_unpin(void **state) { gives_way_anywhere_in(state, run_unpin, false, true); }
static void gives_way_in_repin(void **state) { gives_way_anywhere_in(state, run_repin, false, true); }
static void gives_way_to_another_type(void **state) { gives_way_anywhere_in(state, run_as_lower_level, false, true); }
static void gives_way_in_relinquish(void **state) { gives_way_anywhere_in(state, run_relinquish, false, true); }

/* What is half done may be left there, tried as something else, given up, or the domain may die. */
static void left_half_way(void **state)
{
    for (unsigned n = 1; n < 40; n++) {
        prepare(state, n & 1, false);
        preempt_at(n, true);
        (void)once(PIN, start_root, top, 0, 0);
        check_counts();
        preempt_at(0, false);
        if (n % 3 == 0)
            (void)pin(start_root, top - 1);
        if (n % 3 == 1)
            assert_int_not_equal(domain_give_up_frame(dom, start_root), 0);
        check_counts();
        relinquish();
        expect_nothing_left();
    }
}

/* --- A guest that chooses when to be preempted -------------------------------------------------------------- */

/* So many half-made L4s, each with a tree below it, as the L2s of one L3. */
#define MANY 24

static mfn_t trap_for(mfn_t l1)
{
    mfn_t x = frames_new(dom), c = frames_new(dom), e = frames_new(dom);

    put(x, 0, pte_make(c, RW));
    put(x, 1, pte_make(c, RW));
    put(c, 0, pte_make(e, RO));
    put(e, 0, pte_make(l1, RW));
    put(e, 1, pte_make(l1, RW));
    preempt_at(2, true);
    assert_int_equal(once(PIN, x, 4, 0, 0), AGAIN);
    preempt_at(0, false);
    assert_true(type_word(x) & FW_PARTIAL);
    return x;
}

/*
 * Each L2 is taken apart as the L4 that it was, which gives way far below, and then becomes what is wanted: had the work gone
 * on, the list of orphans would have got longer with every one.
 */
static void one_chain_of_orphans_at_most(void **state)
{
    mfn_t l1 = frames_new(dom), l3 = frames_new(dom);
    int rc;

    (void)state;
    for (unsigned i = 0; i < MANY; i++)
        put(l3, i, pte_make(trap_for(l1), RW));
    check();
    do {
        preempt_every(3, 5);
        rc = once(PIN, l3, 3, 0, 0);
        assert_in_range(dom->arch.nr_orphans, 0, 3);
        check_counts();
    } while (rc == AGAIN && dom->arch.nr_orphans);
    preempt_at(0, false);
    assert_int_equal(pin(l3, 3), 0);
    check();
    relinquish();
    expect_nothing_left();
}

/*
 * What an entry is to name may be half way to a table of another level, and hold the last reference to the table of the entry. That is
 * taken apart then before the entry is stored: so there is none any more, and nothing may be stored, or be dropped once more.
 */
static void a_table_goes_while_its_entry_changes(void **state)
{
    mfn_t upper = frames_new(dom), table = frames_new(dom), below = frames_new(dom);
    u64 old = pte_make(below, RW);

    (void)state;
    put(table, 5, old);
    put(upper, 0, pte_make(table, top == 3 ? PTE_P : RO));
    put(upper, 1, pte_make(frames_new(dom), top == 3 ? PTE_P : RO));
    if (top == 2)       /* a linear entry, for want of a level 3 */
        assert_int_equal(pin(table, 2), 0);
    preempt_at(top == 2 ? 1 : 2, true);     /* before entry 1 of upper */
    assert_int_equal(once(PIN, upper, top == 2 ? 2 : 3, 0, 0), AGAIN);
    preempt_at(0, false);
    if (top == 2)
        assert_int_equal(unpin(table), 0);
    check();
    assert_int_equal(pt_live_level(type_word(table)), 2);
    assert_int_equal(type_word(table) & FW_COUNT_MASK, 1);
    assert_int_equal(pt_update_node(dom, table, 2, 5, pte_make(upper, RO), 0), AGAIN);
    assert_int_equal(pt_live_level(type_word(table)), 0);
    assert_int_equal(entry(table, 5), old);
    assert_int_equal(refs(below), 1);
    assert_int_equal(refs(upper), 1);
    check();
    relinquish();
    expect_nothing_left();
}

/* The same by what another CPU of the guest's has left over, after this one had taken apart what there was. */
static void a_table_goes_with_what_is_left_over(void **state)
{
    mfn_t upper = frames_new(dom), table = frames_new(dom), below = frames_new(dom);
    u64 old = pte_make(below, RW);

    (void)state;
    put(table, 5, old);
    put(upper, 0, pte_make(table, RO));
    assert_int_equal(pin(upper, 3), 0);
    preempt_at(1, true);
    assert_int_equal(pt_unpin(dom, upper), 0);
    preempt_at(0, false);
    assert_int_equal(dom->arch.nr_orphans, 1);
    assert_int_equal(pt_live_level(type_word(table)), 2);
    assert_int_equal(pt_update_node(dom, table, 2, 5, 0, 0), AGAIN);
    assert_int_equal(entry(table, 5), old);
    assert_int_equal(refs(below), 1);
    check();
    relinquish();
    expect_nothing_left();
}

/* As two CPUs of the guest do in turn: nobody begins while the other's work is left over. */
static void others_orphans_come_first(void **state)
{
    mfn_t a, b;

    for (unsigned n = 1; n < (top == 2 ? 4 : 12); n++) {
        prepare(state, false, true);
        a = start_root;
        b = wide_tree(false);
        assert_int_equal(pin(b, top), 0);
        preempt_at(n, true);
        assert_int_equal(pt_unpin(dom, a), 0);
        assert_true(dom->arch.nr_orphans);
        assert_int_equal(pt_unpin(dom, b), AGAIN);
        assert_true(type_word(b) & FW_PINNED);
        assert_int_equal(pt_update_entry(dom, b, top, top == 3 ? 1 : 5, 0, dom, 0), AGAIN);
        assert_int_equal(pt_pin(dom, a, top), AGAIN);
        check_counts();
        preempt_at(0, false);
        assert_int_equal(pt_unpin(dom, b), 0);
        assert_int_equal(dom->arch.nr_orphans, 0);
        check_counts();
        relinquish();
        expect_nothing_left();
    }
}

/* --- Other domains' frames -------------------------------------------------------------------------------------- */

static void holds_foreign_frames_until_flushed(void **state)
{
    struct tree t = make_tree();
    mfn_t theirs = frames_new(other);

    (void)state;
    assert_int_equal(pin(t.table[top], top), 0);
    fake_may_name_others = true;
    assert_int_equal(pt_update_entry(dom, t.table[1], 1, 3, pte_make(theirs, RW), other, 0), 0);
    assert_int_equal(refs(theirs), 2);
    check();
    assert_int_equal(pt_pin(other, theirs, 1), -EINVAL);
    assert_int_equal(pt_update_entry(dom, t.table[1], 1, 3, 0, dom, 0), 0);
    /* Our CPUs may still write it. */
    assert_int_equal(pt_pin(other, theirs, 1), -EINVAL);
    assert_true(domain_give_up_frame(other, theirs));
    assert_int_equal(refs(theirs), 1);
    leave_hypervisor();
    assert_int_equal(frame_owner_id(theirs), DOMID_INVALID);
    check();
    assert_int_equal(other->refs, 1);
    relinquish();
    expect_nothing_left();
}

/* An entry that keeps its frame keeps its reference; becoming writable is asked for each time anew. */
static void keeps_the_frame(void **state)
{
    struct tree t = make_tree();
    mfn_t theirs = frames_new(other);
    mfn_t l1 = t.table[1];

    (void)state;
    assert_int_equal(pin(t.table[top], top), 0);
    assert_int_equal(update(l1, 1, pte_make(t.data[3], RO)), 0);
    assert_int_equal(update(l1, 1, pte_make(t.data[3], RW)), 0);
    assert_int_equal(refs(t.data[3]), 2);
    assert_int_equal(type_word(t.data[3]), FW_TYPE(FT_WRITABLE) | FW_VALID | 1);
    expect_too_late(l1, 1, pte_make(t.data[3], RO), pte_make(t.data[3], RW | PTE_A));
    assert_int_equal(pt_compare_update_leaf(dom, l1, 1, pte_make(t.data[3], RW), pte_make(t.data[3], RO)), 0);
    assert_int_equal(refs(t.data[3]), 2);
    assert_int_equal(type_word(t.data[3]) & FW_COUNT_MASK, 0);
    check();
    /* Not a table; and not what is not the guest's, even if it is mapped already. */
    assert_int_equal(update(l1, 1, pte_make(l1, RO)), 0);
    assert_int_equal(update(l1, 1, pte_make(l1, RW)), -EINVAL);
    assert_int_equal(pte_mfn(entry(l1, 1)).v, l1.v);
    assert_int_equal(entry(l1, 1) & PTE_RW, 0);
    fake_may_name_others = true;
    assert_int_equal(pt_update_entry(dom, l1, 1, 3, pte_make(theirs, RO), other, 0), 0);
    assert_int_equal(update(l1, 3, pte_make(theirs, RW)), -EINVAL);
    assert_int_equal(update(l1, 3, pte_make(theirs, RO | PTE_D)), 0);      /* flags only: nothing is asked */
    assert_int_equal(type_word(theirs) & FW_COUNT_MASK, 0);
    assert_int_equal(refs(theirs), 2);
    check();
    assert_int_equal(update(l1, 3, 0), 0);
    leave_hypervisor();
    assert_true(domain_give_up_frame(other, theirs));
    relinquish();
    expect_nothing_left();
}

static void many_foreign_frames(void **state)
{
    struct tree t = make_tree();

    (void)state;
    assert_int_equal(pin(t.table[top], top), 0);
    fake_may_name_others = true;
    for (unsigned i = 100; i < 400; i++) {
        mfn_t m = frames_new(other);

        assert_int_equal(pt_update_entry(dom, t.table[1], 1, i, pte_make(m, i & 1 ? RW : RO), other, 0), 0);
        assert_true(domain_give_up_frame(other, m));
    }
    check();
    assert_int_equal(other->tot_pages, 300);
    for (unsigned i = 100; i < 250; i++)
        assert_int_equal(pt_update_entry(dom, t.table[1], 1, i, 0, dom, 0), 0);
    check_counts();
    assert_int_equal(other->tot_pages, 150);
    relinquish();
    expect_nothing_left();
    assert_int_equal(other->tot_pages, 0);
}

static mfn_t guessed;
static unsigned nr_guesses;

/* Another vCPU of dom's, which has guessed the number of a frame that dom is about to get. */
static void use_at_once(spinlock_t *l)
{
    if (l != &dom->page_lock)
        return;
    nr_guesses++;
    assert_int_equal(frame_owner_id(guessed), dom->id);
    on_unlock = NULL;
    assert_int_not_equal(pt_get_table(dom, guessed, 1), 0);
    assert_int_equal(frame_get_writable(guessed, dom), 0);
}

/* From the moment on in which it is the domain's, a frame that the hypervisor writes to as well is no page table. */
static void shared_frames_are_no_tables(void **state)
{
    mfn_t shared = domain_alloc_shared_frame(dom);

    (void)state;
    guessed = shared;
    assert_true(domain_release_frame(dom, shared));
    leave_hypervisor();
    nr_guesses = 0;
    on_unlock = use_at_once;
    shared = domain_alloc_shared_frame(dom);
    assert_true(mfn_eq(shared, guessed));
    assert_int_equal(nr_guesses, 1);
    frame_put_writable(shared);
    assert_int_not_equal(pt_get_table(dom, shared, 1), 0);
    assert_true(domain_release_frame(dom, shared));
    leave_hypervisor();
    expect_nothing_left();
}

/* A frame that is used in any way cannot be withdrawn, and one that is withdrawn cannot be used; the domain is charged all the time. */
static void withdrawn_frames(void **state)
{
    mfn_t shared = domain_alloc_shared_frame(dom), m = frames_new(dom), theirs = frames_new(other);
    struct tree t = make_tree();
    u64 had;

    (void)state;
    assert_false(domain_withdraw_frame(dom, shared));
    assert_true(domain_release_frame(dom, shared));
    assert_int_equal(pin(t.table[top], top), 0);
    for (unsigned level = 1; level <= top; level++)
        assert_false(domain_withdraw_frame(dom, t.table[level]));
    for (unsigned i = 0; i < 2; i++)
        assert_false(domain_withdraw_frame(dom, t.data[i]));
    assert_false(domain_withdraw_frame(dom, theirs));
    assert_false(domain_withdraw_frame(dom, mfn(0)));
    assert_false(domain_withdraw_frame(dom, mfn(~0UL)));
    had = dom->tot_pages;
    assert_true(domain_withdraw_frame(dom, m));
    assert_false(domain_withdraw_frame(dom, m));
    assert_false(frame_get(m, dom));
    assert_int_equal(frame_get_writable(m, dom), -EINVAL);
    assert_false(domain_give_up_frame(dom, m));
    assert_int_not_equal(update(t.table[1], 9, pte_make(m, RO)), 0);
    assert_int_equal(dom->tot_pages, had);
    check_counts();
    domain_return_frame(dom, m);
    assert_int_equal(update(t.table[1], 9, pte_make(m, RO)), 0);
    assert_false(domain_withdraw_frame(dom, m));
    assert_int_equal(update(t.table[1], 9, 0), 0);
    assert_true(domain_withdraw_frame(dom, m));
    domain_free_withdrawn(dom, m);
    check();
    assert_int_equal(dom->tot_pages, had - 1);
    assert_true(domain_give_up_frame(other, theirs));
    relinquish();
    expect_nothing_left();
}

/* What replaces a withdrawn frame is charged beyond the limit, and nobody's either; a domain that dies meanwhile gets nothing back. */
static void withdrawn_while_the_domain_dies(void **state)
{
    mfn_t in = frames_new(dom), out;

    (void)state;
    dom->max_pages = 1;
    assert_true(mfn_eq(domain_alloc_frames(dom, 0, 0), INVALID_MFN));
    assert_true(domain_withdraw_frame(dom, in));
    out = domain_alloc_frames(dom, 0, MEMF_REPLACES | MEMF_WITHDRAWN);
    assert_int_equal(dom->tot_pages, 2);
    assert_false(frame_get(out, dom));
    check_counts();
    dom->dying = DOMAIN_DYING;
    relinquish();
    assert_int_equal(dom->tot_pages, 2);
    domain_return_frame(dom, in);
    domain_return_frame(dom, out);
    leave_hypervisor();
    expect_nothing_left();
    assert_true(frame_accounts_hold(dom));
}

/* --- Anything, in any order --------------------------------------------------------------------------------------- */

static u64 seed;

static u64 next_of_seed(u64 n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % n;
}

static u64 (*random_below)(u64 n) = next_of_seed;      /* a fuzzer has its own (tests/fuzz) */

#define NR_PLAY 40
static mfn_t play[NR_PLAY];

static mfn_t some_frame(void) { return play[random_below(NR_PLAY)]; }
static unsigned some_level(void) { return 1 + (unsigned)random_below(top); }
static unsigned some_index(unsigned level)
{
    static const u16 few[] = { 0, 1, 2, 3, 256, 511, 600, 1023 };

    return level == 3 && top == 3 ? (unsigned)random_below(4) : few[random_below(fmt->pte_bytes == 8 ? 6 : 8)];
}

static u64 some_bits(void) { return random_below(4) & 1 ? PTE_A | (random_below(2) ? PTE_D : 0) : 0; }

static u64 some_entry(unsigned level)
{
    u64 flags = PTE_P | (random_below(2) ? PTE_RW : 0) | some_bits();

    if (!random_below(4))
        return 0;
    if (!random_below(40))
        return pte_make(mfn(DEVICE_MFN), flags);
    return pte_make(some_frame(), level == 3 && top == 3 ? PTE_P : flags);
}

/* What a guest does through a writable mapping of its own. */
static void scribble(void)
{
    mfn_t m = some_frame();
    unsigned level = some_level();

    if (frame_get_writable(m, dom))
        return;
    if (random_below(2))
        memset(frame_words(m), 0, PAGE_SIZE);
    for (unsigned i = 0; i < 3; i++)
        put(m, some_index(level), some_entry(level));
    frame_put_writable(m);
}

/* Tables with good contents do not come about by chance often enough. */
static void compose(void)
{
    unsigned level = some_level();
    mfn_t m = some_frame();

    if (frame_get_writable(m, dom))
        return;
    memset(frame_words(m), 0, PAGE_SIZE);
    for (unsigned n = 0; n < 4; n++) {
        mfn_t below = some_frame();

        if (level > 1 && (!is_table(below) || level_of(below) != level - 1))
            continue;
        put(m, level == 3 && top == 3 ? n : some_index(level),
            pte_make(below, level == 3 && top == 3 ? PTE_P : (level > 1 || random_below(2) ? RW : RO) | some_bits()));
    }
    if (level == fmt->hv_level && random_below(4) == 0)
        put(m, 400, pte_make(m, RO));
    frame_put_writable(m);
    if (random_below(2))
        (void)once(PIN, m, level, 0, 0);
}

static void hold_or_drop_root(void)
{
    mfn_t m = some_frame();

    if (pt_drain_orphans(dom))
        return;
    if (nr_roots && random_below(2))
        (void)pt_put_table(dom, roots[--nr_roots]);
    else if (nr_roots < MAX_HELD && !pt_get_table(dom, m, top))
        roots[nr_roots++] = m;
}

static void hold_or_drop_writable(void)
{
    mfn_t m = some_frame();

    if (nr_writables && random_below(2))
        frame_put_writable(writables[--nr_writables]);
    else if (nr_writables < MAX_HELD && !frame_get_writable(m, dom))
        writables[nr_writables++] = m;
}

static bool any_page(const struct domain *d, void *page) { (void)d, (void)page; return random_below(4); }

static void hold_or_drop_segdesc(void)
{
    mfn_t m = some_frame();

    if (nr_segdescs && random_below(2))
        frame_put_segdesc(dom, segdescs[--nr_segdescs]);
    else if (nr_segdescs < MAX_HELD && !frame_get_segdesc(dom, m, any_page))
        segdescs[nr_segdescs++] = m;
}

static void change_entry(void)
{
    mfn_t m = some_frame();
    unsigned level = level_of(m);

    if (pt_drain_orphans(dom) || !is_table(m) || !(type_word(m) & FW_VALID))
        return;
    (void)pt_update_entry(dom, m, level, some_index(level), some_entry(level), dom,
                          random_below(2) ? PT_PRESERVE_AD : 0);
}

/* The same frame, writable or no longer so. */
static void flip_writable(void)
{
    mfn_t m = some_frame();
    unsigned i = some_index(1);
    u64 e;

    if (pt_drain_orphans(dom) || !is_table(m) || level_of(m) != 1 || !(type_word(m) & FW_VALID))
        return;
    pt_know_l1(dom, m);
    e = entry(m, i);
    if (random_below(2))
        (void)pt_update_entry(dom, m, 1, i, e ^ PTE_RW, dom, random_below(2) ? PT_PRESERVE_AD : 0);
    else
        (void)pt_compare_update_leaf(dom, m, i, e ^ (fmt->id == PT32 || random_below(4) ? 0 : PTE_D), e ^ PTE_RW);
}

static void exchange_frame(void)
{
    u64 n = random_below(NR_PLAY);

    if (domain_give_up_frame(dom, play[n]))
        play[n] = frames_new(dom);
}

static void unpin_some(void) { (void)once(UNPIN, some_frame(), 0, 0, 0); }
static void pin_some(void) { (void)once(PIN, some_frame(), some_level(), 0, 0); }

static void play_once(void)
{
    static void (*const moves[])(void) = {
        scribble, compose, compose, compose, compose, change_entry, change_entry, change_entry, change_entry, flip_writable, flip_writable,
        unpin_some, pin_some, pin_some, hold_or_drop_root, hold_or_drop_writable, hold_or_drop_segdesc, exchange_frame,
    };

    preempt_at((unsigned)random_below(6), random_below(2));
    moves[random_below(ARRAY_SIZE(moves))]();
    preempt_at(0, false);
}

/* Through a linear entry the root is a table of each level; its slots that are the hypervisor's name tables that no test has. */
static bool meets_hv_slots(u64 va)
{
    for (unsigned level = top; top == 4 && level > 1; level--)
        if (pt_index(fmt, level, va) >= fmt->hv_first && pt_index(fmt, level, va) <= fmt->hv_last)
            return true;
    return va >= fmt->hv_start && va < fmt->hv_end;
}

/* Kernels' updates walk in straight code, others by the iterator: they find the same entry, or both none. */
static void both_walks_agree(mfn_t root, u64 va)
{
    struct pt_walk w = pt_walk_from(fmt, root);
    mfn_t table = INVALID_MFN;
    unsigned idx = 0;
    bool found;

    if (meets_hv_slots(va))
        return;
    found = pt_find_l1_below(dom, root, va, &table, &idx);
    while (pt_walk_down(&w, va))
        ;
    if (found) {
        assert_int_equal(w.level, 1);
        assert_int_equal(w.table.v, table.v);
        assert_int_equal(w.idx, idx);
    } else {
        /* Below a linear entry the last table is no level-1 table: the iterator, which is for looking alone, goes there. */
        assert_true(w.level != 1 || level_of(w.table) != 1);
    }
}

static u64 some_address(void)
{
    u64 va = 0;

    for (unsigned level = top; level; level--)
        va |= (u64)some_index(level) << fmt->level[level].shift;
    return top == 4 && va >> 47 ? va | ~0UL << 48 : va;
}

static void walk_some(void)
{
    for (unsigned i = 0; i < nr_roots; i++)
        both_walks_agree(roots[i], some_address());
    both_walks_agree(INVALID_MFN, some_address());
}

static void random_operations(void **state)
{
    for (unsigned round = 0; round < 6; round++) {
        setup(state);
        seed = 0x9e3779b97f4a7c15UL * (round + 1);
        for (unsigned i = 0; i < NR_PLAY; i++)
            play[i] = frames_new(dom);
        for (unsigned i = 0; i < 1500; i++) {
            play_once();
            check();
            walk_some();
        }
        preempt_at(5, false);
        relinquish();
        expect_nothing_left();
    }
}

/* --- Two CPUs ------------------------------------------------------------------------------------------------------- */

/* One takes writable references, as copies and other domains' mappings do without the lock; the other makes tables. */
static struct { int writers, table; } uses[4];
static bool over;

static void *write_now_and_then(void *arg)
{
    u32 x = 1;

    (void)arg;
    cpu_info()->cpu = 1;
    while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST)) {
        unsigned n = (x = x * 1103515245 + 12345) >> 16 & 3;

        if (frame_get_writable(play[n], dom))
            continue;
        __atomic_add_fetch(&uses[n].writers, 1, __ATOMIC_SEQ_CST);
        assert_int_equal(type_word(play[n]) & ~FW_COUNT_MASK, FW_TYPE(FT_WRITABLE) | FW_VALID);
        assert_int_equal(__atomic_load_n(&uses[n].table, __ATOMIC_SEQ_CST), 0);
        __atomic_sub_fetch(&uses[n].writers, 1, __ATOMIC_SEQ_CST);
        frame_put_writable(play[n]);
    }
    return NULL;
}

static void two_cpus(void **state)
{
    unsigned tables = 0;
    pthread_t other_cpu;

    (void)state;
    over = false;
    for (unsigned n = 0; n < ARRAY_SIZE(uses); n++)
        play[n] = frames_new(dom);
    assert_int_equal(pthread_create(&other_cpu, NULL, write_now_and_then, NULL), 0);
    for (unsigned i = 0; i < 100000; i++) {
        unsigned n = i % ARRAY_SIZE(uses);

        pt_lock(dom);
        if (!pt_pin(dom, play[n], 1)) {
            __atomic_store_n(&uses[n].table, 1, __ATOMIC_SEQ_CST);
            assert_int_equal(__atomic_load_n(&uses[n].writers, __ATOMIC_SEQ_CST), 0);
            tables++;
            __atomic_store_n(&uses[n].table, 0, __ATOMIC_SEQ_CST);
            assert_int_equal(pt_unpin(dom, play[n]), 0);
        }
        pt_unlock(dom);
    }
    __atomic_store_n(&over, true, __ATOMIC_SEQ_CST);
    pthread_join(other_cpu, NULL);
    assert_true(tables > 100);
    check_counts();
    relinquish();
    expect_nothing_left();
}

/* expected: the place, if it is known. */
static bool is_known(u64 ma, const void *expected)
{
    u64 *p = NULL;
    u32 *short_p = NULL;
    bool known = pt_in_known_l1(dom, ma, &p), known_short = pt_in_known_mirrored_l1(dom, ma, &short_p);

    assert_false(fmt->id == PT32 ? known : known_short);
    assert_ptr_equal(known ? (void *)p : short_p, expected);
    return known || known_short;
}

/* Addresses that come out at the end of what a u64 holds or at nothing, from the direct map's start, and any bit by itself. */
static void nothing_is_known(void)
{
    for (unsigned bit = 0; bit < 64; bit++)
        assert_false(is_known(1UL << bit, NULL) || is_known(~0UL << bit, NULL) || is_known((1UL << bit) - DIRECTMAP_START, NULL));
    assert_false(is_known(0, NULL) || is_known(0 - DIRECTMAP_START, NULL));
    assert_true(mfn_eq(dom->arch.known_l1.mfn, INVALID_MFN) && mfn_eq(dom->arch.known_mirrored_l1.mfn, INVALID_MFN));
}

static void remembers_a_table(void **state)
{
    struct tree t = make_tree();
    mfn_t l1 = t.table[1];
    u64 ma = mfn_to_maddr(l1).v;

    (void)state;
    if (!SHORT_WAYS)
        skip();     /* nothing is remembered then */
    assert_int_equal(pin(t.table[top], top), 0);
    nothing_is_known();
    pt_know_l1(dom, l1);
    assert_true(is_known(ma, place(l1, 0)) && is_known(ma + 511 * fmt->pte_bytes, place(l1, 511)));
    assert_false(is_known(ma - 8, NULL) || is_known(ma + PAGE_SIZE, NULL));
    for (unsigned bit = PAGE_SHIFT; bit < 64; bit++)
        assert_false(is_known(ma ^ 1UL << bit, NULL));
    assert_int_equal(update_known(place(l1, 1), pte_make(t.data[3], RW)), 0);
    assert_int_equal(update_known(place(l1, 2), pte_make(l1, RW)), -EINVAL);
    set_bits(l1, 1, PTE_D);
    assert_int_equal(pt_update_leaf(dom, l1, 1, pte_make(t.data[3], RO), dom, PT_PRESERVE_AD), 0);
    assert_true(entry(l1, 1) & PTE_D);
    check();
    /* Not while one of its references is left. */
    assert_int_equal(pin(l1, 1), 0);
    assert_int_equal(unpin(t.table[top]), 0);
    assert_true(is_known(ma, place(l1, 0)));
    check();
    assert_int_equal(unpin(l1), 0);
    nothing_is_known();
    check();
}

/* An entry that is writable no longer, by each way of changing it: its frame is a table only once no CPU can write it by what it knows. */
static void no_longer_writable(void **state)
{
    for (unsigned way = 0; way < 5; way++) {
        struct tree t;
        mfn_t l1;
        u64 e;

        setup(state);       /* nothing waits for a flush */
        t = make_tree();
        l1 = t.table[1];
        assert_int_equal(pin(t.table[top], top), 0);
        check();
        e = entry(l1, 0);
        pt_know_l1(dom, l1);
        switch (way) {
        case 0: assert_int_equal(pt_update_leaf(dom, l1, 0, e & ~PTE_RW, dom, 0), 0); break;
        case 1: assert_int_equal(pt_compare_update_leaf(dom, l1, 0, e, e & ~PTE_RW), 0); break;
        case 2: assert_int_equal(update_known(place(l1, 0), e & ~PTE_RW), 0); break;
        case 3: assert_int_equal(update_known(place(l1, 0), 0), 0); break;
        case 4: assert_int_equal(pt_update_leaf(dom, l1, 0, pte_make(t.data[1], RW), dom, 0), 0); break;
        }
        assert_int_equal(pin(t.data[0], 1), 0);
        check();
    }
}

/* Whatever number a guest thinks of, a frame is one of the frame table's, or none. */
static void numbers_are_bounded(void **state)
{
    static const u64 numbers[] = { ARENA_END, ARENA_END + 1, 1UL << 40, 1UL << 52, ~0UL, ~0UL >> PAGE_SHIFT };
    mfn_t m = frames_new(dom);

    (void)state;
    assert_true(mfn_eq(mfn(m.v), m) && mfn_eq(pte_mfn(pte_make(m, RO)), m) && mfn_eq(mfn(ARENA_END - 1), mfn_add(m, ARENA_END - 1 - m.v)));
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        mfn_t none = mfn(numbers[i]);

        assert_true(mfn_eq(none, INVALID_MFN) && mfn_eq(mfn_add(m, numbers[i] - m.v), INVALID_MFN));
        assert_false(mfn_valid(none) || frame_get(none, dom));
        assert_int_equal(frame_get_writable(none, dom), -EINVAL);
        assert_int_equal(pin(none, 1), -EINVAL);
        assert_int_equal(unpin(none), -EINVAL);
    }
    /* As the direct map is laid out, what INVALID_MFN leads to is the page below it: ours, and not there. */
    assert_true(0xffff830000000000UL + (INVALID_MFN.v << PAGE_SHIFT) == 0xffff82fffffff000UL);
    check();
}

#define FORMATS(test) \
    { #test " (64-bit)", test, setup, NULL, &formats[0] }, { #test " (PAE)", test, setup, NULL, &formats[1] }, \
    { #test " (non-PAE)", test, setup, NULL, &formats[2] }

int main(void)
{
    const struct CMUnitTest tests[] = {
        FORMATS(builds_and_takes_apart),
        FORMATS(changes_entries),
        FORMATS(refuses_entries),
        FORMATS(shared_frames_are_no_tables), FORMATS(withdrawn_frames),
        FORMATS(withdrawn_while_the_domain_dies),
        FORMATS(nothing_absent_names_memory),
        FORMATS(caches_are_not_bypassed),
        FORMATS(keeps_the_hypervisors_entries),
        FORMATS(pae_needs_its_fourth_table),
        FORMATS(linear_mappings),
        FORMATS(linear_mappings_under_isolation),
        FORMATS(cache_flags_of_upper_entries),
        FORMATS(gives_way_in_pin),
        FORMATS(gives_way_in_failing_pin),
        FORMATS(gives_way_in_unpin),
        FORMATS(gives_way_in_repin),
        FORMATS(gives_way_to_another_type),
        FORMATS(gives_way_in_relinquish),
        FORMATS(left_half_way),
        { "one_chain_of_orphans_at_most", one_chain_of_orphans_at_most, setup, NULL, &formats[0] },
        FORMATS(a_table_goes_while_its_entry_changes),
        { "a_table_goes_with_what_is_left_over", a_table_goes_with_what_is_left_over, setup, NULL, &formats[0] },
        FORMATS(others_orphans_come_first),
        FORMATS(holds_foreign_frames_until_flushed),
        FORMATS(keeps_the_frame),
        FORMATS(remembers_a_table),
        FORMATS(no_longer_writable),
        FORMATS(numbers_are_bounded),
        FORMATS(many_foreign_frames),
        FORMATS(random_operations),
        FORMATS(two_cpus),
    };

    return cmocka_run_group_tests_name("ptype", tests, NULL, NULL);
}
