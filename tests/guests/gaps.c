/*
 * The longest that the hypervisor works without a look whether it should give way. A debug build counts steps of work between two looks
 * (include/pvisor/steps.h) and logs each new record, and what is above the bound; tests/guests/run fails a suite for the latter, and shows
 * the former. Here is what makes long work: large trees, lists and extents, each call as large as it may be.
 */
#include <public/errno.h>
#include <public/pvisor.h>
#include "events.h"
#include "grant.h"
#include "hypercall.h"
#include "log.h"
#include "mm.h"
#include "string.h"
#include "test.h"

#define TABLES 200u

/* A level-2 table over level-1 tables that are full. */
static void *full_tree(void)
{
    void *l2 = page_alloc(), *data = page_alloc();

    for (unsigned i = 0; i < TABLES; i++) {
        pte_raw *l1 = page_alloc();

        for (unsigned n = 0; n < pte_count(1); n++)
            l1[n] = (pte_raw)pte_make(virt_to_mfn(data), n % 2 ? PTE_DATA : PTE_READ);
        make_readonly(l1);
        ((pte_raw *)l2)[i] = (pte_raw)pte_make(virt_to_mfn(l1), format.level[2].table_flags);
    }
    make_readonly(l2);
    return l2;
}

TEST(large_tree)
{
    void *l2 = full_tree();

    for (unsigned i = 0; i < 3; i++) {
        REQUIRE_OK(pin(l2, 2));
        CHECK_OK(unpin(l2));
    }
    /* One refused entry at the end undoes all. */
    make_writable(l2);
    ((pte_raw *)l2)[TABLES] = (pte_raw)pte_make(foreign_frame(0), format.level[2].table_flags);
    make_readonly(l2);
    CHECK_REFUSED(pin(l2, 2));
}

#define UPDATES 2000u
static struct mmu_update updates[UPDATES];

TEST(many_updates)
{
    void *l1 = table_of(window(0), 1), *data = page_alloc();
    unsigned done = 0;

    for (unsigned i = 0; i < UPDATES; i++)
        updates[i] = (struct mmu_update){ virt_to_maddr(pte_at(l1, pte_index(window(i % 64), 1))) | MMU_NORMAL_PT_UPDATE,
                                          i % 128 < 64 ? pte_make(virt_to_mfn(data), PTE_DATA) : 0 };
    CHECK_OK(mmu_update(updates, UPDATES, &done, DOMID_SELF));
    CHECK_EQ(done, UPDATES);
    for (unsigned i = 0; i < 64; i++)
        CHECK_OK(unmap_at(window(i)));
}

TEST(large_extents)
{
    static word in[512];
    word out = spare_pfn(511);
    GUEST(xen_memory_exchange) x = {
        .in = { .extent_start = P(in), .nr_extents = 512, .domid = DOMID_SELF },
        .out = { .extent_start = P(&out), .nr_extents = 1, .extent_order = 9, .domid = DOMID_SELF },
    };
    GUEST(xen_memory_reservation) r = { .extent_start = P(&out), .nr_extents = 1, .extent_order = 9, .domid = DOMID_SELF };

    for (unsigned i = 0; i < 512; i++)
        in[i] = p2m[out + i];
    REQUIRE_OK(memory_op(XENMEM_exchange, &x));
    CHECK_EQ(memory_op(XENMEM_decrease_reservation, &r), 1);
    out = spare_pfn(511);
    CHECK_EQ(memory_op(XENMEM_populate_physmap, &r), 1);
    for (unsigned i = 0; i < 512; i++)
        p2m[spare_pfn(511) + i] = out + i;
}

static GUEST(multicall_entry) calls[500];

/* Refusals, whose lines in the log cost most. */
TEST(many_refusals)
{
    for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
        calls[i] = (GUEST(multicall_entry)){ .op = __HYPERVISOR_update_va_mapping, .args = { P(window(0)), ARG64(pte_make(foreign_frame(0), PTE_READ)) } };
    CHECK_OK(multicall(calls, ARRAY_SIZE(calls)));
    CHECK_EQ((long)calls[ARRAY_SIZE(calls) - 1].result, -EINVAL);
}

/* A search of all handles, for a frame that none of them maps. */
TEST(many_handles)
{
    static struct gnttab_map_grant_ref op[512];
    struct gnttab_cache_flush flush = { .a.dev_bus_addr = (u64)foreign_frame(0) << 12, .length = 64, .op = GNTTAB_CACHE_CLEAN };
    grant_ref_t ref = grant_page(0, page_alloc());

    for (unsigned i = 0; i < ARRAY_SIZE(op); i++)
        op[i] = (struct gnttab_map_grant_ref){ .flags = GNTMAP_device_map | GNTMAP_readonly, .ref = ref, .dom = DOMID_SELF };
    for (unsigned n = 0; n < 200000; n += ARRAY_SIZE(op)) {
        REQUIRE_OK(grant_table_op(GNTTABOP_map_grant_ref, op, ARRAY_SIZE(op)));
        REQUIRE(op[ARRAY_SIZE(op) - 1].status == GNTST_okay);
    }
    CHECK_EQ(grant_table_op(GNTTABOP_cache_flush, &flush, 1), -EPERM);
}

/* The last test, since what the suite itself bound goes too. */
TEST(many_ports)
{
    struct evtchn_reset reset = { .dom = DOMID_SELF };
    unsigned n = 0;

    for (; n < 1000 && alloc_unbound(DOMID_SELF, DOMID_SELF) > 0; n++)
        ;
    CHECK(n > 900);
    CHECK_OK(event_channel_op(EVTCHNOP_reset, &reset));
}
