/*
 * What a kernel that wants more than its due tries, and what has once worked on some hypervisor of this kind. Each test
 * fails if the call gets through; most of them would hang or stop the whole machine if it did.
 */
#include "hypercall.h"
#include "mm.h"
#include "preempt.h"
#include "test.h"

/* The value by which handlers tell the entry code that a call is to be made again: it may be a guest's own, too. */
#define SAYS_AGAIN ((word)-0x7001L)

TEST(value_that_means_again)
{
#ifdef FORMAT_PT64
    GUEST(multicall_entry) calls[2] = {
        { .op = __HYPERVISOR_get_debugreg, .args = { 0 } },
        { .op = __HYPERVISOR_xen_version, .args = { XENVER_version } },
    };

    REQUIRE_OK(set_debugreg(0, SAYS_AGAIN));
    CHECK_EQ(get_debugreg(0), SAYS_AGAIN);
    CHECK_OK(multicall(calls, 2));
    CHECK_EQ(calls[0].result, SAYS_AGAIN);
    CHECK_EQ(calls[1].result, xen_version(XENVER_version, NULL));
    CHECK_OK(set_debugreg(0, 0));
#else
    SKIP("no register of a 32-bit guest's holds 64 bits");
#endif
}

/* A chain of tables that name each other on one level, to be taken apart from its end. */
TEST(linear_chain)
{
    enum { LENGTH = 3 };
    void *top[LENGTH];
    unsigned slot = free_top_slot();

    if (top_level() == 3)
        SKIP("no linear top level in PAE");
    for (unsigned i = 0; i < LENGTH; i++) {
        top[i] = copy_top();
        CHECK_OK(pin(top[i], top_level()));
    }
    CHECK_OK(pte_set(pte_at(top[1], slot), pte_make(virt_to_mfn(top[0]), PTE_P | PTE_US | PTE_A)));
    CHECK_REFUSED(pte_set(pte_at(top[2], slot), pte_make(virt_to_mfn(top[1]), PTE_P | PTE_US | PTE_A)));
    CHECK_REFUSED(pte_set(pte_at(top[0], slot), pte_make(virt_to_mfn(top[2]), PTE_P | PTE_US | PTE_A)));
    CHECK_REFUSED(pte_set(pte_at(top[0], slot), pte_make(virt_to_mfn(top[1]), PTE_P | PTE_US | PTE_A)));
    CHECK_OK(unpin(top[0]));
    CHECK_REFUSED(map_writable(top[0]));
    for (unsigned i = LENGTH; --i;)
        CHECK_OK(unpin(top[i]));
    for (unsigned i = 0; i < LENGTH; i++)
        free_top(top[i]);
}

/* The CPU may read our LDT there, and with it have its pages mapped; we may not. */
TEST(place_of_the_ldt)
{
#ifdef FORMAT_PT64
    u64 *page = page_alloc();

    page[1] = 0;
    make_readonly(page);
    REQUIRE_OK(mmuext(MMUEXT_SET_LDT, P(page), 512));
    for (unsigned i = 0; i < 2; i++) {
        CHECK_FAULT(VECTOR_PF, (void)*(volatile u64 *)0xffff820000010000UL);
        CHECK_FAULT(VECTOR_PF, *(volatile u64 *)0xffff820000010000UL = 0);
        CHECK(FAULT_IN(__asm__ volatile("mov %0, %%fs" : : "r"(1 << 3 | 4 | 3))).hit);   /* now it is mapped */
    }
    CHECK_OK(mmuext(MMUEXT_SET_LDT, 0, 0));
    table_free(page);
#else
    SKIP("out of a 32-bit guest's reach");
#endif
}

/* All of a table's entries count, and an entry of the hypervisor's is none of ours whatever the table's level. */
TEST(hypervisors_slots)
{
#ifdef FORMAT_PT64
    void *base = mfn_to_virt(current_base());

    for (unsigned slot = 256; slot < 272; slot++) {
        u64 was = pte_get(base, slot);

        CHECK_REFUSED(pte_set(pte_at(base, slot), 0));
        CHECK_REFUSED(pte_set(pte_at(base, slot), was | PTE_RW | PTE_US));
        CHECK_REFUSED(pte_set(pte_at(base, slot), pte_make(current_base(), PTE_P | PTE_US)));
        CHECK_EQ(pte_get(base, slot), was);
    }
    for (word va = 0xffff800000000000UL; va < 0xffff880000000000UL; va += 1UL << 37)
        CHECK_FAULT(VECTOR_PF, *(volatile word *)va = 0);
#else
    SKIP("one top level for all");
#endif
}

/* A root that is dropped and taken again in every way, and the same frame in both roles. */
TEST(roots_in_both_roles)
{
#ifdef FORMAT_PT64
    void *top = copy_top();

    for (unsigned i = 0; i < 3; i++) {
        REQUIRE_OK(mmuext(MMUEXT_NEW_USER_BASEPTR, virt_to_mfn(top), 0));
        CHECK_OK(mmuext(MMUEXT_NEW_USER_BASEPTR, virt_to_mfn(top), 0));
        CHECK_OK(mmuext(MMUEXT_NEW_USER_BASEPTR, current_base(), 0));
        CHECK_OK(mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0));
        CHECK_OK(mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0));
    }
    CHECK_OK(map_writable(top));    /* no reference was left over */
    CHECK_REFUSED(mmuext(MMUEXT_NEW_USER_BASEPTR, virt_to_mfn(top), 0));
    make_readonly(top);
    free_top(top);
#else
    SKIP("user space has no tables of its own");
#endif
}

/* A table whose pinning was broken off and never gone on with: it is no data, may become another table, and is let go of whole. */
TEST(half_made_tables)
{
    void *l1 = table_alloc();
    u64 entries[2] = { pte_make(virt_to_mfn(l1), format.level[2].table_flags),
                       pte_make(virt_to_mfn(l1), format.level[2].table_flags) };

    for (unsigned i = 0; i < 4; i++) {
        void *table = half_made_table(entries, 0, 2);

        REQUIRE(table != NULL);
        CHECK_REFUSED(map_writable(l1));
        CHECK_REFUSED(pte_set(pte_at(table, 7), 0));
        CHECK_REFUSED(mmuext(MMUEXT_CLEAR_PAGE, virt_to_mfn(table), 0));
        if (i & 1) {
            CHECK_OK(pin(table, 2));
            CHECK_REFUSED(map_writable(l1));
            CHECK_OK(unpin(table));
        } else if (!pin(table, 1)) {
            CHECK_OK(unpin(table));
        }
        CHECK_OK(map_writable(l1));
        make_readonly(l1);
        table_free(table);
    }
    table_free(l1);
}

/* Tables of a mirrored format cost the hypervisor more than the guest: there is an end to it, before its memory's. */
TEST(tables_without_end)
{
    unsigned nr = 0, most = start_info->nr_pages / 8 + 16;

    REQUIRE(spare_pfn(most) >= arena_end);
    while (nr < most && !mmuext(MMUEXT_PIN_L2_TABLE, p2m[spare_pfn(nr)], 0))
        nr++;
#ifdef FORMAT_PT32
    CHECK(nr > most / 2 && nr < most);
#else
    CHECK_EQ(nr, most);
#endif
    for (unsigned i = 0; i < nr; i++)
        REQUIRE_OK(mmuext(MMUEXT_UNPIN_TABLE, p2m[spare_pfn(i)], 0));
    CHECK_OK(mmuext(MMUEXT_PIN_L2_TABLE, p2m[spare_pfn(most)], 0));
    CHECK_OK(mmuext(MMUEXT_UNPIN_TABLE, p2m[spare_pfn(most)], 0));
}
