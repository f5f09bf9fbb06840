/*
 * Mirrors of non-PAE tables: faults that are nobody's but ours, which set accessed and dirty bits; limits; and the levels above, which are
 * a vCPU's own. That mirrors say what tables say, whatever is done to these, is in test_ptype.c.
 */
// SOURCES: arch/x86/pt/dma.c
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/frames.c common/abi.c
// SOURCES: tests/unit/fake/invariant.c tests/unit/fake/clause.c arch/x86/pt/invariant.c arch/x86/pt/mirror_invariant.c
// SOURCES: arch/x86/mm/heap.c
// SOURCES: arch/x86/mm/frames.c arch/x86/pt/frame.c arch/x86/pt/format.c arch/x86/pt/table.c arch/x86/pt/entry.c arch/x86/pt/walk.c
// SOURCES: arch/x86/pt/quick.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/x86.h>
#include "fake/fake.h"
#include "fake/frames.h"
#include "fake/invariant.h"
#include "fake/mirrors.h"

#include "../../arch/x86/pt/mirror.c"

#define RO (PTE_P | PTE_US)
#define RW (PTE_P | PTE_US | PTE_RW)

static struct domain *dom;
static struct vcpu vcpu, *vcpus[] = { &vcpu };
static unsigned nr_flushes;

static void count_flush(u16 id) { nr_flushes += id == dom->id; }

static int setup_format(enum pt_format_id id)
{
    frames_reset();
    dom = frames_domain(1, id);
    dom->vcpu = vcpus;
    dom->max_vcpus = 1;
    vcpu = (struct vcpu){ .domain = dom };
    vcpu.arch.root_kernel = INVALID_MFN;
    on_flush = count_flush;
    nr_flushes = 0;
    return 0;
}

static int setup(void **state) { (void)state; return setup_format(PT32); }
static int setup_pae(void **state) { (void)state; return setup_format(PT32P); }

/* Nothing of the hypervisor's is left, whatever the domain had. */
static int teardown(void **state)
{
    (void)state;
    mirror_free_vcpu(&vcpu);
    while (pt_relinquish(dom))
        ;
    leave_hypervisor();
    assert_int_equal(dom->tot_pages, 0);
    assert_int_equal(dom->arch.nr_mirror_frames, 0);
    mirror_free_domain(dom);
    assert_int_equal(heap_free_frames(), ARENA_NR);
    return 0;
}

static u64 entry(mfn_t m, unsigned i) { return ((u32 *)frame_words(m))[i]; }
static void put(mfn_t m, unsigned i, u64 e) { ((u32 *)frame_words(m))[i] = (u32)e; }

/* --- Accessed and dirty ------------------------------------------------------------------------------------- */

/* Slots of a root; 900, which names the root itself, before the others are accessed. */
static const unsigned slots[] = { 900, 0, 1, 2, 511, 512, 1007 };
static const u64 kinds[] = { 0, PTE_P, RO, RW, PTE_P | PTE_RW, RO | PTE_A, RW | PTE_A, RW | PTE_A | PTE_D, PTE_RW | PTE_US };

static mfn_t make_tree(void)
{
    mfn_t root = frames_new(dom);

    for (unsigned i = 0; i < ARRAY_SIZE(slots); i++) {
        mfn_t l1 = frames_new(dom);

        for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
            put(l1, k, kinds[k] ? pte_make(frames_new(dom), kinds[k]) : 0);
        put(root, slots[i], pte_make(l1, kinds[1 + i]));
    }
    put(root, 900, pte_make(root, RO));
    for (unsigned i = 1008; i < 1024; i++)
        put(root, i, pte_make(frames_new(dom), RW | PTE_A | PTE_D));
    assert_int_equal(pt_pin(dom, root, 2), 0);
    return root;
}

/* As it is without a mirror: would the CPU have made this access by these entries? */
static bool allowed(u64 e, u32 error)
{
    if (!(e & PTE_P) || (error & PF_WRITE && !(e & PTE_RW)))
        return false;
    return e & PTE_US || !(error & PF_USER);
}

static void expect_fault(mfn_t root, unsigned i2, unsigned i1, u32 error)
{
    u64 e2 = entry(root, i2), e1 = e2 & PTE_P ? entry(pte_mfn(e2), i1) : 0;
    bool ours = allowed(e2, error) && allowed(e1, error), linear = i2 == 900;
    u32 reported = error;

    /* What is there and does not permit it is to fault once more, as what is present. */
    if (!ours && !(error & PF_PRESENT)) {
        error = 0;
        ours = allowed(e2, 0) && allowed(e1, 0);
    }
    assert_int_equal(mirror_fault(&vcpu, vcpu.arch.root_kernel, (u64)i2 << 22 | (u64)i1 << 12 | 5, reported), ours);
    assert_int_equal(entry(root, i2), ours ? e2 | PTE_A : e2);
    /* What a linear entry leads to is an upper entry: no hardware walks on from there. */
    if (e2 & PTE_P && !(linear && i1 == i2))
        assert_int_equal(entry(pte_mfn(e2), i1), ours && !linear ? e1 | PTE_A | (error & PF_WRITE ? PTE_D : 0) : e1);
}

static void sets_accessed_and_dirty(void **state)
{
    (void)state;
    for (u32 error = 0; error < 32; error++) {
        if (error & PF_RSVD)
            continue;
        setup(state);
        vcpu.arch.root_kernel = make_tree();
        mirrors_look(dom);
        for (unsigned i = 0; i < ARRAY_SIZE(slots); i++)
            for (unsigned k = 0; k < ARRAY_SIZE(kinds) + 1; k++)
                expect_fault(vcpu.arch.root_kernel, slots[i], k < ARRAY_SIZE(kinds) ? k : slots[i], error);
        mirrors_look(dom);
        teardown(state);
    }
    setup(state);
}

static void other_faults_are_the_guests(void **state)
{
    mfn_t root = make_tree();

    (void)state;
    assert_false(mirror_fault(&vcpu, vcpu.arch.root_kernel, 1UL << 22 | 3UL << 12, 0));
    vcpu.arch.root_kernel = root;
    assert_false(mirror_fault(&vcpu, vcpu.arch.root_kernel, 2UL << 22 | 3UL << 12, PF_RSVD));
    assert_int_equal(entry(root, 2) & PTE_A, 0);
    assert_true(mirror_fault(&vcpu, vcpu.arch.root_kernel, 2UL << 22 | 3UL << 12, 0));
    /* In the hypervisor's slots nothing of the guest's is left that a linear entry could lead to. */
    for (unsigned i = 1008; i < 1024; i++) {
        assert_int_equal(entry(root, i), 0);
        assert_false(mirror_fault(&vcpu, vcpu.arch.root_kernel, 900UL << 22 | (u64)i << 12, 0));
    }
}

/* --- Limits --------------------------------------------------------------------------------------------------- */

static void mirrors_get_no_bigger_than_the_domain(void **state)
{
    mfn_t first = frames_new(dom), last = first;

    (void)state;
    for (unsigned i = 0; i < MIN_LIMIT / 2; i++) {
        last = i ? frames_new(dom) : first;
        assert_int_equal(pt_pin(dom, last, 1), 0);
    }
    last = frames_new(dom);
    assert_int_equal(pt_pin(dom, last, 1), -ENOMEM);
    assert_int_equal(pt_unpin(dom, first), 0);
    assert_int_equal(pt_pin(dom, last, 2), -ENOMEM);
    assert_int_equal(pt_pin(dom, last, 1), 0);
    while (dom->tot_pages < MIN_LIMIT + 8)
        first = frames_new(dom);
    assert_int_equal(pt_pin(dom, first, 2), 0);
    mirrors_look(dom);
}

static void refuses_what_has_no_mirror(void **state)
{
    mfn_t high = domain_alloc_frames(dom, 0, 0), low = frames_new(dom), other = frames_new(dom);

    (void)state;
    assert_true(high.v >> 20);
    assert_int_equal(pt_pin(dom, high, 1), -EINVAL);
    dom->arch.table_limit = 1;
    assert_int_equal(pt_pin(dom, low, 1), 0);
    assert_int_equal(pt_pin(dom, other, 1), -E2BIG);
    dom->arch.table_limit = 0;
    assert_int_equal(pt_pin(dom, other, 1), 0);
    mirrors_look(dom);
}

static void refuses_without_memory(void **state)
{
    mfn_t m = frames_new(dom), taken[ARENA_NR];
    unsigned n = 0;

    (void)state;
    while (!mfn_eq(taken[n] = alloc_frames(0, MEMF_NO_ZERO), INVALID_MFN))
        n++;
    assert_int_equal(pt_pin(dom, m, 2), -ENOMEM);
    mirrors_look(dom);
    free_frames(taken[--n], 0);     /* enough for the row of numbers, not for the mirror */
    assert_int_equal(pt_pin(dom, m, 2), -ENOMEM);
    mirrors_look(dom);
    while (n)
        free_frames(taken[--n], 0);
    assert_int_equal(pt_pin(dom, m, 2), 0);
    mirrors_look(dom);
}

/* Dead mirrors wait for a flush, but no more than so many. */
static void the_dead_are_buried(void **state)
{
    mfn_t m = frames_new(dom);
    u64 had;

    (void)state;
    assert_int_equal(pt_pin(dom, m, 1), 0);
    had = heap_free_frames();
    for (unsigned i = 0; i < 3 * DEAD_MAX; i++) {
        assert_true(mirror_of(dom, m).v != INVALID_MFN.v);
        mirror_free(dom, m, 1);
        assert_int_equal(mirror_alloc(dom, m, 1), 0);
        assert_true(had - heap_free_frames() < 2 * DEAD_MAX);
        assert_int_equal(nr_flushes, (i + 1) / DEAD_MAX);
    }
    mirrors_look(dom);
}

/* --- A vCPU's own levels ---------------------------------------------------------------------------------------- */

static u64 top_entry(void) { return vcpu.arch.monitor_l4[0]; }

static void the_top_leads_to_the_roots_mirror(void **state)
{
    mfn_t root = make_tree();

    (void)state;
    assert_int_equal(mirror_init_vcpu(&vcpu), 0);
    assert_int_equal(top_entry(), 0);
    assert_int_equal(vcpu.arch.cr3, virt_to_maddr(vcpu.arch.monitor_l4).v);
    for (unsigned i = HYP_L4_FIRST; i <= HYP_L4_LAST; i++)
        if (i != (PERDOMAIN_START >> 39 & 511))
            assert_int_equal(vcpu.arch.monitor_l4[i], hyp_l4[i]);
    vcpu.arch.root_kernel = root;
    pt_lock(dom);
    mirror_set_root(&vcpu);
    pt_unlock(dom);
    assert_int_equal(top_entry(), pte_make(mfn_add(mirror_of(dom, root), MIRROR_L3), PTE_P | PTE_RW | PTE_US | PTE_A));
    mirror_clear_root(&vcpu);
    assert_int_equal(top_entry(), 0);
}

/* PAE: its level 3 is copied, with the bits that long mode wants there. */
static u64 l3_expected(u64 e)
{
    return e & PTE_P ? (e & (PTE_MFN_MASK | PTE_PWT | PTE_PCD)) | PTE_P | PTE_RW | PTE_US | PTE_A : 0;
}

static void a_pae_root_is_copied(void **state)
{
    u64 e[4] = { pte_make(frames_new(dom), PTE_P), 0, pte_make(frames_new(dom), PTE_P | PTE_AVAIL_LOW),
                 pte_make(frames_new(dom), PTE_P | PTE_PCD) };
    mfn_t root = frames_new(dom);

    (void)state;
    assert_int_equal(mirror_init_vcpu(&vcpu), 0);
    memcpy(frame_words(root), e, sizeof(e));
    vcpu.arch.root_kernel = root;
    pt_lock(dom);
    mirror_set_root(&vcpu);
    pt_unlock(dom);
    assert_int_equal(top_entry(), virt_to_maddr(vcpu.arch.monitor_l3).v | PTE_P | PTE_RW | PTE_US | PTE_A);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(vcpu.arch.monitor_l3[i], l3_expected(e[i]));
    /* A change reaches the copy, and CPUs; that of a root which nobody uses neither. */
    mirror_root_changed(dom, root, 1, e[0]);
    assert_int_equal(vcpu.arch.monitor_l3[1], l3_expected(e[0]));
    assert_int_equal(nr_flushes, 1);
    mirror_root_changed(dom, pte_mfn(e[0]), 1, 0);
    assert_int_equal(vcpu.arch.monitor_l3[1], l3_expected(e[0]));
    assert_int_equal(nr_flushes, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sets_accessed_and_dirty, setup, teardown),
        cmocka_unit_test_setup_teardown(other_faults_are_the_guests, setup, teardown),
        cmocka_unit_test_setup_teardown(mirrors_get_no_bigger_than_the_domain, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_has_no_mirror, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_without_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(the_dead_are_buried, setup, teardown),
        cmocka_unit_test_setup_teardown(the_top_leads_to_the_roots_mirror, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pae_root_is_copied, setup_pae, teardown),
    };

    return cmocka_run_group_tests_name("mirror", tests, NULL, NULL);
}
