/*
 * Requests about page tables that must be refused, in every format to which they apply: with the ABI's error, and with a line
 * in the log that says which check failed. That nothing gets through is what pagetables.c and hostile.c look at; here it is
 * what the one who asked is told.
 */
#include <public/domctl.h>
#include <public/errno.h>
#include <public/pvisor.h>
#include "hypercall.h"
#include "log.h"
#include "mm.h"
#include "string.h"

/* The hypervisor counts some of its RAM as no RAM at all: then it says that a device's frame was asked for. */
#define CHECK_NOT_OURS(call) do {                                                                               \
    log_mark();                                                                                                 \
    CHECK_EQ((long)(call), (long)-EINVAL);                                                                      \
    CHECK(!is_dom0() || log_says("cannot map frame") || log_says("may not map device frame"));                  \
} while (0)

/* RAM of the hypervisor's (from below), free or another domain's (from the end): what an entry must not name. */
TEST(frames_that_are_not_ours)
{
    void *l1 = table_alloc(), *l2 = table_of(window(0), 2);
    unsigned slot = pte_index(window(0), 2) + 8;

    REQUIRE(!(pte_get(l2, slot) & PTE_P));
    REQUIRE_OK(pin(l1, 1));
    for (unsigned nth = 0; nth < 4; nth++) {
        word mfn = foreign_frame(nth);

        if (mfn == BAD_FRAME)
            continue;
        CHECK_NOT_OURS(map_at(window(0), mfn, PTE_READ));
        CHECK_NOT_OURS(map_at(window(0), mfn, PTE_DATA));
        CHECK_NOT_OURS(pte_set(pte_at(l1, 3), pte_make(mfn, PTE_READ)));
        CHECK_SAYS(EINVAL, "no usable L1 table", pte_set(pte_at(l2, slot), pte_make(mfn, PTE_TABLE)));
        CHECK_SAYS(EINVAL, "is not d", mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0));
        CHECK_SAYS(EINVAL, "cannot be a root", mmuext(MMUEXT_NEW_BASEPTR, mfn, 0));
        CHECK_SAYS(EINVAL, "is not d", mmu_update(&(struct mmu_update){ (u64)mfn << 12, 0 }, 1, NULL, DOMID_SELF));
    }
    CHECK_OK(unpin(l1));
    table_free(l1);
}

/* What is a table, a descriptor table, or a page that we can write, is nothing else. */
TEST(frames_in_other_use)
{
    void *l1 = table_alloc(), *l2 = table_of(window(0), 2), *data = page_alloc(), *gdt = table_alloc();
    unsigned slot = pte_index(window(0), 2) + 8;
    word frame = virt_to_mfn(gdt);

    REQUIRE_OK(pin(l1, 1));
    REQUIRE_OK(set_gdt(&frame, 512));
    for (unsigned level = 1; level <= top_level(); level++) {
        word table = virt_to_mfn(table_of(window(0), level));

        CHECK_SAYS(EINVAL, "writable: owner", map_at(window(0), table, PTE_DATA));
        CHECK_SAYS(EINVAL, "writable: owner", pte_set(pte_at(l1, 3), pte_make(table, PTE_DATA)));
    }
    CHECK_SAYS(EINVAL, "writable: owner", map_at(window(0), frame, PTE_DATA));
    CHECK_SAYS(EINVAL, "no usable L1 table", pte_set(pte_at(l2, slot), pte_make(virt_to_mfn(data), PTE_TABLE)));
    CHECK_SAYS(EINVAL, "no usable L1 table", pte_set(pte_at(l2, slot), pte_make(frame, PTE_TABLE)));
    CHECK_SAYS(EINVAL, "cannot be a root", mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(data), 0));
    CHECK_SAYS(EINVAL, "cannot be a root", mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(l1), 0));
    CHECK_SAYS(EINVAL, "is pinned already", pin(l1, 1));
    CHECK_SAYS(EINVAL, "is not pinned", unpin(data));
    REQUIRE_OK(set_gdt(NULL, 0));
    CHECK_OK(unpin(l1));
    table_free(l1);
    table_free(gdt);
    page_free(data);
}

/* A top level that names itself: read-only where the format has linear tables, never in PAE, whose top has four entries. */
TEST(recursive_entries)
{
    void *base = mfn_to_virt(current_base()), *entry = pte_at(base, free_top_slot());
    u64 flags = top_level() == 3 ? PTE_P : PTE_P | PTE_RW | PTE_US;

    CHECK_SAYS(EINVAL, "linear mapping refused", pte_set(entry, pte_make(current_base(), flags)));
#ifdef FORMAT_PT32P
    void *other = copy_top();

    REQUIRE_OK(pin(other, 3));
    CHECK_SAYS(EINVAL, "linear mapping refused", pte_set(entry, pte_make(virt_to_mfn(other), PTE_P)));
    CHECK_SAYS(EINVAL, "fourth L3 entry", pte_set(pte_at(base, 3), 0));
    CHECK_OK(unpin(other));
    free_top(other);
#else
    CHECK_OK(pte_set(entry, pte_make(current_base(), PTE_P | PTE_US | PTE_A)));
    CHECK_OK(pte_set(entry, 0));
#endif
}

TEST(addresses_and_values)
{
    struct mmu_update req = { .ptr = virt_to_maddr(pte_at(table_of(window(0), 1), 4)) };

#ifdef FORMAT_PT32
    req.val = 1ULL << 32;
    CHECK_SAYS(EINVAL, "more than 32 bits", mmu_update(&req, 1, NULL, DOMID_SELF));
    CHECK_SAYS(EINVAL, "more than 32 bits", update_va_mapping(window(0), 1ULL << 40, 0));
#else
    req.ptr += 4;
    CHECK_SAYS(EINVAL, "is not aligned to 8 bytes", mmu_update(&req, 1, NULL, DOMID_SELF));
#endif
    CHECK_SAYS(EINVAL, "no page table for address", map_at((void *)format.hv_start, virt_to_mfn(p2m), PTE_READ));
    for (unsigned level = top_level() + 1; level <= 4; level++)
        CHECK_SAYS(EINVAL, "guest has no L", mmuext(MMUEXT_PIN_L1_TABLE + level - 1, current_base(), 0));
}

TEST(entries_of_the_hypervisor)
{
    CHECK_SAYS(EINVAL, "belongs to the hypervisor", pte_set(hypervisor_entry(), 0));
    CHECK_SAYS(EINVAL, "belongs to the hypervisor", pte_set(hypervisor_entry(), pte_make(current_base(), PTE_P)));
}

#define ONE_DOMCTL(name, ...) ({                                                                                \
    static struct xen_domctl op_;                                                                               \
    op_ = (struct xen_domctl){ .cmd = XEN_DOMCTL_##name, .interface_version = XEN_DOMCTL_INTERFACE_VERSION };   \
    __VA_ARGS__;                                                                                                \
    HYPERCALL(__HYPERVISOR_domctl, P(&op_)); })

/* xl save asks what each frame is; it would take tables of 4-byte entries for PAE's. */
TEST(saving)
{
    static word frames[2];

    if (!is_dom0())
        SKIP("a control call");
#ifdef FORMAT_PT32
    CHECK_SAYS(EOPNOTSUPP, "know no 32-bit non-PAE tables", ONE_DOMCTL(getpageframeinfo3, {
        op_.u.getpageframeinfo3.num = 2;
        op_.u.getpageframeinfo3.array = P(frames);
    }));
    frames[0] = current_base();
    CHECK_OK(ONE_DOMCTL(getpageframeinfo3, {
        op_.u.getpageframeinfo3.num = 1 | PVISOR_PFINFO_NONPAE;
        op_.u.getpageframeinfo3.array = P(frames);
    }));
    CHECK_EQ((u32)frames[0] >> 28 & 7, top_level());
#else
    CHECK_EQ(ONE_DOMCTL(getpageframeinfo3, { op_.u.getpageframeinfo3.num = PVISOR_PFINFO_NONPAE; }), -EOPNOTSUPP);
    frames[0] = current_base();
    CHECK_OK(ONE_DOMCTL(getpageframeinfo3, {
        op_.u.getpageframeinfo3.num = 1;
        op_.u.getpageframeinfo3.array = P(frames);
    }));
    CHECK_EQ((u32)frames[0] >> 28 & 7, top_level());
#endif
}

static u16 new_domain(void)
{
    struct xen_domctl op = { .cmd = XEN_DOMCTL_createdomain, .interface_version = XEN_DOMCTL_INTERFACE_VERSION,
                             .domain = DOMID_ANY };

    op.u.createdomain = (struct xen_domctl_createdomain){ .max_vcpus = 1, .max_evtchn_port = 31, .max_grant_frames = 1,
                                                          .max_maptrack_frames = 1, .grant_opts = 1 };
    if (!CHECK_OK(HYPERCALL(__HYPERVISOR_domctl, P(&op))))
        return DOMID_INVALID;
    return op.domain;
}

#define FREE_GSI 10

/* What xl does to give a device away: the interrupt is dom0's to give; there it ends. The function is 0000:00:00.0. */
static void try_passthrough(u16 domid)
{
    GUEST(physdev_map_pirq) map = { .domid = domid, .type = MAP_PIRQ_TYPE_GSI, .index = FREE_GSI, .pirq = FREE_GSI };
    GUEST(physdev_map_pirq) message = { .domid = domid, .type = MAP_PIRQ_TYPE_MSI_SEG, .index = -1, .pirq = -1 };
    struct physdev_unmap_pirq unmap = { .domid = domid, .pirq = FREE_GSI };

    CHECK_OK(physdev_op(PHYSDEVOP_map_pirq, &map));
    CHECK_SAYS(ENODEV, "0000:00:00.0 is not domain", physdev_op(PHYSDEVOP_map_pirq, &message));
    CHECK_SAYS(EOPNOTSUPP, "it is a bridge", ONE_DOMCTL(assign_device, op_.domain = domid));
    CHECK_SAYS(EOPNOTSUPP, "it is a bridge", ONE_DOMCTL(test_assign_device, op_.domain = DOMID_INVALID));
    CHECK_SAYS(ENODEV, "is not there", ONE_DOMCTL(deassign_device, op_.domain = domid));
    CHECK_SAYS(ESRCH, "there is no domain", ONE_DOMCTL(assign_device, op_.domain = DOMID_INVALID));
    CHECK_SAYS(EOPNOTSUPP, "device of kind 1", ONE_DOMCTL(assign_device, { op_.domain = domid; op_.u.assign_device.dev = 1; }));
    CHECK_OK(physdev_op(PHYSDEVOP_unmap_pirq, &unmap));
    CHECK_EQ(physdev_op(PHYSDEVOP_unmap_pirq, &unmap), -ESRCH);     /* as if it had gone with its function */
}

/* Buttons are HVM guests', a reset is nobody's. */
TEST(triggers_and_devices_of_others)
{
    u16 domid;

    if (!is_dom0())
        SKIP("control calls");
    domid = new_domain();
    REQUIRE(domid != DOMID_INVALID);
    CHECK_OK(ONE_DOMCTL(max_vcpus, { op_.domain = domid; op_.u.max_vcpus.max = 1; }));
#define TRIGGER(name) ONE_DOMCTL(sendtrigger, { op_.domain = domid; op_.u.sendtrigger.trigger = XEN_DOMCTL_SENDTRIGGER_##name; })
    CHECK_OK(TRIGGER(NMI));
    CHECK_SAYS(EINVAL, "has no buttons", TRIGGER(POWER));
    CHECK_SAYS(EINVAL, "has no buttons", TRIGGER(SLEEP));
    CHECK_SAYS(ENOSYS, "trigger 1 is not offered", TRIGGER(RESET));
    CHECK_SAYS(ENOSYS, "trigger 2 is not offered", TRIGGER(INIT));
    try_passthrough(domid);
    CHECK_OK(ONE_DOMCTL(destroydomain, op_.domain = domid));
}

TEST(devices_that_were_reset)
{
    struct pci_device_reset reset = { .flags = 4 };

    if (!is_dom0())
        SKIP("dom0 has the devices");
    CHECK_SAYS(EINVAL, "flags 0x4, possible are 0x3", physdev_op(PHYSDEVOP_pci_device_reset, &reset));
    reset.flags = 3;
    CHECK_OK(physdev_op(PHYSDEVOP_pci_device_reset, &reset));       /* the host bridge */
    reset.dev.bus = 77;
    CHECK_EQ(physdev_op(PHYSDEVOP_pci_device_reset, &reset), -ENODEV);
}

/* Of the host bridge, which is nobody's virtual function. */
TEST(parents_of_devices)
{
    struct physdev_pci_device_add add = { .flags = XEN_PCI_DEV_VIRTFN };
    struct physdev_manage_pci_ext old = { .is_virtfn = 1 };

    if (!is_dom0())
        SKIP("dom0 has the devices");
    CHECK_SAYS(EINVAL, "0000:00:00.0 that makes itself", physdev_op(PHYSDEVOP_pci_device_add, &add));
    CHECK_SAYS(EINVAL, "0000:00:00.0 that makes itself", physdev_op(PHYSDEVOP_manage_pci_add_ext, &old));
    add.physfn.bus = old.physfn.bus = 0xfe;     /* where nothing is */
    CHECK_EQ(physdev_op(PHYSDEVOP_pci_device_add, &add), -ENODEV);
    CHECK_EQ(physdev_op(PHYSDEVOP_manage_pci_add_ext, &old), -ENODEV);
    add.flags = old.is_virtfn = 0;
    CHECK_OK(physdev_op(PHYSDEVOP_pci_device_add, &add));
    CHECK_OK(physdev_op(PHYSDEVOP_manage_pci_add_ext, &old));
}

TEST(no_memory_low_enough)
{
    word extent = spare_pfn(0);
    GUEST(xen_memory_reservation) r = { .extent_start = P(&p2m[extent]), .nr_extents = 1, .domid = DOMID_SELF };

    REQUIRE(memory_op(XENMEM_decrease_reservation, &r) == 1);
    r.extent_start = P(&extent);
    r.mem_flags = XENMEMF_address_bits(13);     /* the first two frames */
    log_mark();
    CHECK_EQ(memory_op(XENMEM_populate_physmap, &r), 0);
    CHECK(!is_dom0() || log_says("no memory low enough for extent 0 of 1"));
    r.mem_flags = 0;
    CHECK_EQ(memory_op(XENMEM_populate_physmap, &r), 1);
    p2m[spare_pfn(0)] = extent;
}

TEST(flags_that_no_format_has)
{
    void *l2 = table_of(window(0), 2);
    unsigned slot = pte_index(window(0), 2) + 8;

    CHECK_SAYS(EINVAL, "large pages are not supported", pte_set(pte_at(l2, slot), PTE_TABLE | PTE_PSE));
#ifndef FORMAT_PT32
    CHECK_SAYS(EINVAL, "guest may not set", pte_set(pte_at(l2, slot), PTE_TABLE | PTE_G));
#endif
}
