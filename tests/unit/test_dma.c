/* Domains that get devices, and lose them, in the middle of their life: what devices reach is right at every step. */
// SOURCES: arch/x86/pt/dma.c
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/frames.c common/abi.c arch/x86/mm/heap.c
// SOURCES: arch/x86/mm/frames.c arch/x86/pt/frame.c arch/x86/pt/format.c arch/x86/pt/table.c arch/x86/pt/entry.c arch/x86/pt/walk.c
// SOURCES: arch/x86/pt/quick.c arch/x86/pt/mirror.c arch/x86/pt/grant.c
// SOURCES: tests/unit/fake/invariant.c tests/unit/fake/clause.c arch/x86/pt/invariant.c arch/x86/pt/mirror_invariant.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/dma.h>
#include <public/errno.h>
#include <public/grant_table.h>
#include <pvisor/frame.h>
#include <pvisor/gnttab.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include "fake/fake.h"
#include "fake/frames.h"
#include "fake/invariant.h"

#define SPACE (SPACE_FIRST_DOMU + 1)    /* domain 1 has the first */

static struct domain *dom, *other;
static mfn_t writable, table, unused;

static int setup(void **state)
{
    (void)state;
    frames_reset();
    dom = frames_domain(1, PT64);
    other = frames_domain(2, PT64);
    fake_invariant_reset();
    writable = frames_new(other);
    table = frames_new(other);
    unused = frames_new(other);
    assert_int_equal(frame_get_writable(writable, other), 0);
    assert_int_equal(pt_get_table(other, table, 1), 0);
    return 0;
}

static int give(void)
{
    int rc;

    do {
        rc = dma_space(other);
        frames_look_devices(ARENA_FIRST, ARENA_END);
    } while (rc == -ERESTART_HYPERCALL);
    return rc;
}

static bool reached(mfn_t m) { return iommu_reaches(SPACE, m.v); }

static void reaches_what_was_writable_before(void **state)
{
    (void)state;
    assert_false(reached(writable));
    assert_int_equal(give(), SPACE);
    assert_true(reached(writable) && !reached(table) && !reached(unused));
    assert_int_equal(give(), SPACE);
    assert_false(iommu_reaches(SPACE_FIRST_DOMU, writable.v));
}

static void follows_what_changes_afterwards(void **state)
{
    (void)state;
    assert_int_equal(give(), SPACE);
    frame_put_writable(writable);
    assert_true(reached(writable));             /* nobody has it as anything else yet */
    assert_int_equal(pt_get_table(other, writable, 1), 0);
    assert_false(reached(writable));
    assert_int_equal(frame_get_writable(unused, other), 0);
    assert_true(reached(unused));
    frame_put_writable(unused);
    assert_true(domain_release_frame(other, unused));
    assert_false(reached(unused));
    frames_look_devices(ARENA_FIRST, ARENA_END);
}

/* Frames change while the space is being made, some before and some behind where that is. */
static void follows_while_it_is_made(void **state)
{
    mfn_t late;

    (void)state;
    preempt_at(1, true);
    assert_int_equal(dma_space(other), -ERESTART_HYPERCALL);
    late = frames_new(other);
    assert_int_equal(frame_get_writable(late, other), 0);
    assert_true(reached(late));
    frame_put_writable(writable);
    assert_int_equal(pt_get_table(other, writable, 1), 0);
    assert_int_equal(give(), SPACE);
    assert_true(reached(late) && !reached(writable));
    preempt_at(0, false);
}

static void ends_with_the_last_device(void **state)
{
    mfn_t late;

    (void)state;
    assert_int_equal(give(), SPACE);
    assert_int_equal(dma_space_drop(other), 0);
    assert_false(reached(writable));
    late = frames_new(other);
    assert_int_equal(frame_get_writable(late, other), 0);
    assert_false(reached(late));
    assert_int_equal(dma_space_drop(other), 0);
    assert_true(dma_exact);                     /* domain 1's */
    assert_int_equal(dma_space_drop(dom), 0);
    assert_false(dma_exact);
    assert_int_equal(give(), SPACE_FIRST_DOMU);
    assert_true(iommu_reaches(SPACE_FIRST_DOMU, late.v) && dma_exact);
}

/* Others, who map frames of a domain that dies, add none while the end gives way. */
static void nothing_comes_back_while_it_ends(void **state)
{
    (void)state;
    assert_int_equal(give(), SPACE);
    preempt_at(1, true);
    for (unsigned i = 0; i <= unused.v - ARENA_FIRST; i++)
        assert_int_equal(dma_space_drop(other), -ERESTART_HYPERCALL);
    assert_int_equal(frame_get_writable(unused, other), 0);
    frames_look_devices(ARENA_FIRST, ARENA_END);
    assert_false(reached(unused));
    while (dma_space_drop(other))
        frames_look_devices(ARENA_FIRST, ARENA_END);
    preempt_at(0, false);
    assert_false(reached(unused) || reached(writable));
}

/* A frame that is its domain's and shared with the hypervisor is writable from the start. */
static void shared_frames_are_reached_as_they_come(void **state)
{
    mfn_t m;

    (void)state;
    assert_int_equal(give(), SPACE);
    m = domain_alloc_shared_frame(other);
    frames_look_devices(ARENA_FIRST, ARENA_END);
    assert_true(reached(m));
    assert_true(domain_release_frame(other, m));
    assert_false(reached(m));
}

static void as_many_as_units_tell_apart(void **state)
{
    struct domain third = *other;

    (void)state;
    third.id = 3;                               /* and it has no frames */
    assert_int_equal(give(), SPACE);
    assert_int_equal(dma_space(&third), -ENOSPC);
    assert_int_equal(dma_space_drop(other), 0);
    assert_int_equal(dma_space(&third), SPACE);
    assert_false(reached(writable));
    assert_int_equal(dma_space_drop(&third), 0);
}

/* An entry of domain 1's, by a grant whose references are taken: true if it is there. */
static bool map_granted(mfn_t l1, unsigned n, mfn_t m, u32 flags)
{
    struct pv_grant_walk walk = { .region = ~0UL, .pte_flags = PTE_P | PTE_US };
    int status;

    pt_lock(dom);
    status = pv_grant_map(&walk, mfn_to_maddr(l1).v + 8 * n, m, flags | GNTMAP_contains_pte);
    pt_unlock(dom);
    return status == GNTST_okay && pte_mfn(frame_words(l1)[n]).v == m.v;
}

/* Both have devices: the mapper's reach neither frame, for which it has entries; the granter's what they reached before. */
static void what_is_granted_stays_its_owners(void **state)
{
    mfn_t l1 = frames_new(dom);

    (void)state;
    assert_int_equal(give(), SPACE);
    assert_int_equal(pt_get_table(dom, l1, 1), 0);
    assert_int_equal(frame_get_writable(writable, other), 0);
    assert_true(frame_get(unused, other));
    assert_true(map_granted(l1, 0, writable, 0) && map_granted(l1, 1, unused, GNTMAP_readonly));
    frames_look_devices(ARENA_FIRST, ARENA_END);
    assert_false(iommu_reaches(SPACE_FIRST_DOMU, writable.v) || iommu_reaches(SPACE_FIRST_DOMU, unused.v));
    assert_true(reached(writable) && !reached(unused));
    frame_put_writable(writable);               /* the granter's own use of it ends, the grant's holds its type */
    assert_int_not_equal(pt_get_table(other, writable, 1), 0);
    assert_true(reached(writable));
    assert_int_equal(pt_put_table(dom, l1), 0);
    leave_hypervisor();
    assert_int_equal(pt_get_table(other, writable, 1), 0);
    assert_false(reached(writable));
}

/* Until the last mapping by a grant ends a frame that was given up is its owner's; then it is out of reach before the heap has it. */
static void what_is_given_up_is_out_of_reach_before_another_gets_it(void **state)
{
    u64 in_heap;

    (void)state;
    assert_int_equal(give(), SPACE);
    frame_put_writable(writable);
    assert_int_equal(frame_get_writable(writable, other), 0);   /* by a grant */
    assert_true(domain_release_frame(other, writable));         /* decrease_reservation */
    assert_true(reached(writable));
    assert_int_equal(frame_get_writable(unused, other), 0);
    frame_put_writable(unused);
    assert_true(reached(unused) && domain_withdraw_frame(other, unused));   /* exchange */
    in_heap = heap_free_frames();
    domain_free_withdrawn(other, unused);
    frame_put_writable(writable);
    assert_false(reached(writable) || reached(unused));
    assert_int_equal(heap_free_frames(), in_heap);
    leave_hypervisor();
    assert_int_equal(heap_free_frames(), in_heap + 2);
}

static unsigned flushes;
static u64 free_at_flush, spaces_at_flush;

static void look_at_flush(u64 spaces)
{
    flushes++;
    free_at_flush = heap_free_frames();
    spaces_at_flush = spaces;
}

/* An extent that is given up is out of reach at once, and units are told of it once: before the heap has any of it. */
static void many_that_are_given_up_wait_for_one_flush(void **state)
{
    mfn_t first;
    u64 in_heap;

    (void)state;
    assert_int_equal(give(), SPACE);
    first = domain_alloc_frames(other, 9, 0);
    for (u64 i = 0; i < 512; i++) {
        assert_int_equal(frame_get_writable(mfn_add(first, i), other), 0);
        frame_put_writable(mfn_add(first, i));
    }
    in_heap = heap_free_frames();
    flushes = 0;
    on_unit_flush = look_at_flush;
    for (u64 i = 0; i < 512; i++) {
        assert_true(reached(mfn_add(first, i)));
        assert_true(domain_release_frame(other, mfn_add(first, i)));
        assert_false(reached(mfn_add(first, i)));
    }
    frames_look_devices(ARENA_FIRST, ARENA_END);
    assert_true(unit_knows(SPACE, first));
    assert_int_equal(flushes, 0);
    leave_hypervisor();
    assert_int_equal(flushes, 1);
    assert_int_equal(spaces_at_flush, 1 << SPACE);
    assert_int_equal(free_at_flush, in_heap);
    assert_int_equal(heap_free_frames(), in_heap + 512);
    for (u64 i = 0; i < 512; i++)
        assert_false(unit_knows(SPACE, mfn_add(first, i)));
}

/* Who changes a type waits for the units at once; and who frees what no device reaches does not bother them. */
static void only_what_was_reached_waits(void **state)
{
    (void)state;
    assert_int_equal(give(), SPACE);
    on_unit_flush = look_at_flush;
    flushes = 0;
    frame_put_writable(writable);
    assert_int_equal(pt_get_table(other, writable, 1), 0);
    assert_false(unit_knows(SPACE, writable));
    assert_true(domain_release_frame(other, unused));
    leave_hypervisor();
    assert_int_equal(flushes, 0);
}

static unsigned guest_lines;
void guest_log(const char *fmt, ...) { guest_lines += fmt != NULL; }

/* It is out of devices' reach, and the line is one about the guest, which has so many and no more. */
static void a_frame_without_memory_for_its_table(void **state)
{
    (void)state;
    assert_int_equal(give(), SPACE);
    iommu_no_memory = true;
    guest_lines = 0;
    assert_int_equal(frame_get_writable(unused, other), 0);
    assert_int_equal(guest_lines, 1);
    assert_false(reached(unused));
    frame_put_writable(writable);
    assert_int_equal(pt_get_table(other, writable, 1), 0);
    assert_false(reached(writable));            /* what is taken away needs none */
    assert_int_equal(guest_lines, 1);
    iommu_no_memory = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(reaches_what_was_writable_before, setup), cmocka_unit_test_setup(follows_what_changes_afterwards, setup),
        cmocka_unit_test_setup(follows_while_it_is_made, setup), cmocka_unit_test_setup(ends_with_the_last_device, setup),
        cmocka_unit_test_setup(nothing_comes_back_while_it_ends, setup),
        cmocka_unit_test_setup(shared_frames_are_reached_as_they_come, setup), cmocka_unit_test_setup(as_many_as_units_tell_apart, setup),
        cmocka_unit_test_setup(what_is_granted_stays_its_owners, setup),
        cmocka_unit_test_setup(what_is_given_up_is_out_of_reach_before_another_gets_it, setup),
        cmocka_unit_test_setup(many_that_are_given_up_wait_for_one_flush, setup),
        cmocka_unit_test_setup(only_what_was_reached_waits, setup),
        cmocka_unit_test_setup(a_frame_without_memory_for_its_table, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
