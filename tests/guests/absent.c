/*
 * Entries that are not present and name memory, which a CPU with L1TF reads through all the same (pv-l1tf=yes): a kernel that writes such
 * is mirrored from the first on, and all goes on as before. The entries of non-PAE guests are never walked. Each test may be the first.
 */
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "test.h"

static u64 theirs(void) { return pte_make(foreign_frame(0), PTE_READ & ~PTE_P); }

static volatile pte_raw *slot_of(unsigned page)
{
    return pte_at(table_of(window(page), 1), pte_index(window(page), 1));
}

static void expect_absent(unsigned page, u64 e)
{
    CHECK_EQ(*slot_of(page), e);
    CHECK_FAULT(VECTOR_PF, (void)*(volatile u8 *)window(page));
    CHECK_EQ(last_fault.error & 1, 0);
    CHECK_EQ(*slot_of(page), e);
}

TEST(by_address)
{
    u64 far = 1ULL << 39 | PTE_RW;

    CHECK_OK(update_va_mapping(window(0), theirs(), UVMF_NONE));
    expect_absent(0, theirs());
    if (format.pte_bytes == 8) {
        CHECK_OK(pte_set((const void *)slot_of(0), far));       /* as Linux has it: no machine has memory there */
        expect_absent(0, far);
    }
    CHECK_OK(pte_set((const void *)slot_of(0), 0));
}

TEST(by_mmu_update)
{
    void *page = page_alloc();
    u64 mine = pte_make(virt_to_mfn(page), PTE_READ);

    memset(page, 0x5a, 4096);
    CHECK_OK(map_at(window(1), virt_to_mfn(page), PTE_READ));
    CHECK_EQ(*(volatile u8 *)window(1), 0x5a);
    CHECK_OK(pte_set((const void *)slot_of(1), mine & ~PTE_P));
    CHECK_OK(update_va_mapping(window(1), mine & ~PTE_P, UVMF_INVLPG | UVMF_LOCAL));
    expect_absent(1, mine & ~PTE_P);
    CHECK_OK(pte_set((const void *)slot_of(1), mine));
    CHECK_NO_FAULT(CHECK_EQ(*(volatile u8 *)window(1), 0x5a));
    CHECK_OK(unmap_at(window(1)));
    page_free(page);
}

TEST(by_direct_write)
{
    CHECK_OK(vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables));
    CHECK_NO_FAULT(*slot_of(2) = (pte_raw)theirs());
    expect_absent(2, theirs());
    CHECK_NO_FAULT(*slot_of(2) = 0);
    expect_absent(2, 0);
}

TEST(in_a_table_that_is_pinned)
{
    void *table = table_alloc();

    CHECK_OK(map_writable(table));
    *(volatile pte_raw *)pte_at(table, 9) = (pte_raw)theirs();
    make_readonly(table);
    CHECK_OK(pin(table, 1));
    CHECK_EQ(pte_get(table, 9), theirs());
    CHECK_OK(pte_set(pte_at(table, 9), 0));
    CHECK_OK(unpin(table));
    table_free(table);
}

TEST(in_a_table_above)
{
    void *table = table_of(window(0), 2);
    unsigned i = pte_index(window(0), 2) + 1;

    while (pte_get(table, i) || is_hypervisor_slot(window(0), 2, i))
        i++;
    CHECK_OK(pte_set(pte_at(table, i), theirs()));
    CHECK_EQ(pte_get(table, i), theirs());
    CHECK_OK(pte_set(pte_at(table, i), 0));
}

static void load_cr3(word base)
{
#ifdef FORMAT_PT64
    __asm__ volatile("mov %0, %%cr3" : : "r"(base << 12) : "memory");
#else
    __asm__ volatile("mov %0, %%cr3" : : "r"(XEN_PFN_TO_CR3_32(base)) : "memory");
#endif
}

TEST(in_a_root_that_cr3_is_loaded_with)
{
    word before = current_base();
    void *top = copy_top();
    unsigned i = free_top_slot();

    make_writable(top);
    ((volatile pte_raw *)top)[i] = (pte_raw)theirs();
    make_readonly(top);
    CHECK_NO_FAULT(load_cr3(virt_to_mfn(top)));
    CHECK_EQ(pte_get(top, i), theirs());
    CHECK_NO_FAULT(load_cr3(before));
    free_top(top);
}
