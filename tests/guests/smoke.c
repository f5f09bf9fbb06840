/* The library itself: traps are caught, memory can be mapped, events arrive. */
#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "test.h"

TEST(fault_is_caught)
{
    CHECK_FAULT(VECTOR_PF, *(volatile int *)window(0) = 1);
    CHECK_EQ(last_fault.cr2, (word)window(0));
    CHECK_FAULT(VECTOR_UD, __asm__ volatile("ud2"));
    CHECK_NO_FAULT((void)0);
}

TEST(map_and_unmap)
{
    u32 *page = page_alloc();
    u32 *alias = window(1);

    page[5] = 77;
    REQUIRE_OK(map_at(alias, virt_to_mfn(page), PTE_DATA));
    CHECK_EQ(alias[5], 77);
    CHECK_EQ(frame_at(alias), virt_to_mfn(page));
    REQUIRE_OK(unmap_at(alias));
    CHECK_EQ(frame_at(alias), BAD_FRAME);
    page_free(page);
}

TEST(event_to_self)
{
    long port = alloc_unbound(DOMID_SELF, DOMID_SELF), other;
    u32 before;

    REQUIRE(port > 0);
    other = bind_interdomain(DOMID_SELF, (unsigned)port);
    REQUIRE(other > 0);
    before = event_count[port];
    CHECK_OK(send_port((unsigned)other));
    CHECK_EQ(event_count[port], before + 1);
    CHECK_OK(close_port((unsigned)port));
    CHECK_OK(close_port((unsigned)other));
}

TEST(time_goes_on)
{
    u64 before = system_time();

    sched_op(SCHEDOP_yield, NULL);
    CHECK(system_time() > before);
}
