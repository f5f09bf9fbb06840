/*
 * pvisor_op: the change from PAE to non-PAE tables. Here it is refused, and the kernel must go on as if nothing had been;
 * the loader (tools/loader) shows that it works.
 */
#include <public/errno.h>
#include <public/pvisor.h>
#include "hypercall.h"
#include "mm.h"
#include "preempt.h"
#include "test.h"

static struct pvisor_switch_format request;

static long switch_format(void) { return HYPERCALL(__HYPERVISOR_pvisor_op, PVISOROP_switch_format, P(&request)); }

/* Tables, segments and events work. */
static void check_alive(void)
{
    u32 *page = page_alloc();

    page[1] = 4711;
    CHECK_OK(map_at(window(3), virt_to_mfn(page), PTE_READ));
    CHECK_EQ(*(volatile u32 *)((u8 *)window(3) + 4), 4711);
    CHECK_OK(unmap_at(window(3)));
    page_free(page);
}

static void set_request(void)
{
    request = (struct pvisor_switch_format){ PVISOR_FORMAT_NONPAE, (u32)foreign_frame(0), 0xc0100000, 0xc0200000, 0 };
}

TEST(unknown_commands)
{
    CHECK_EQ(HYPERCALL(__HYPERVISOR_pvisor_op, 0, P(&request)), -ENOSYS);
    CHECK_EQ(HYPERCALL(__HYPERVISOR_pvisor_op, 77, P(&request)), -ENOSYS);
    CHECK_EQ(HYPERCALL(__HYPERVISOR_pvisor_op, PVISOROP_switch_format, format.hv_start), -EFAULT);
}

TEST(bad_arguments)
{
    set_request();
    request.format = 3;
    CHECK_EQ(switch_format(), -EINVAL);
    set_request();
    request.eip = 0xfc000000;
    CHECK_EQ(switch_format(), -EINVAL);
    set_request();
    request.esp = 0xfc001000;
    CHECK_EQ(switch_format(), -EINVAL);
    check_alive();
}

/* The builder pinned our root. Formats that cannot be left are refused for that. */
TEST(tables_pinned)
{
    set_request();
    CHECK_EQ(switch_format(), format.levels == 3 ? -EBUSY : -EINVAL);
    check_alive();
}

TEST(bad_root)
{
#ifdef FORMAT_PT32P
    REQUIRE_OK(mmuext(MMUEXT_UNPIN_TABLE, current_base(), 0));
    for (unsigned i = 0; i < 3; i++) {
        set_request();
        request.root_mfn = i == 0 ? (u32)foreign_frame(0) : i == 1 ? 0xfffff : 0xffffffff;
        CHECK_EQ(switch_format(), -EINVAL);
        check_alive();
    }
    CHECK_OK(mmuext(MMUEXT_PIN_L3_TABLE, current_base(), 0));
#endif
    check_alive();
}

/* A half-made table is one of the old format: it must neither outlive the change nor become the root of the new. */
TEST(half_made_table)
{
#ifdef FORMAT_PT32P
    void *l1 = table_alloc(), *table;
    u64 entry = pte_make(virt_to_mfn(l1), format.level[2].table_flags);

    /* The checks stop at the entry, before it counts for anything. */
    REQUIRE((table = half_made_table(&entry, 5, 1)) != NULL);
    REQUIRE_OK(mmuext(MMUEXT_UNPIN_TABLE, current_base(), 0));
    set_request();
    request.root_mfn = (u32)virt_to_mfn(table);
    CHECK_EQ(switch_format(), -EBUSY);
    check_alive();
    CHECK_OK(mmuext(MMUEXT_PIN_L3_TABLE, current_base(), 0));
    CHECK_OK(pin(table, 2));
    CHECK_OK(unpin(table));
    table_free(table);
    table_free(l1);
#endif
    check_alive();
}
