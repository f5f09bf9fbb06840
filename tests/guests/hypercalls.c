/*
 * Every hypercall with arguments that are wrong in every way: pointers to the hypervisor's memory, to nothing, across
 * the end of a mapping, numbers out of range. The hypervisor must answer each with an error and go on; what we own must be as before.
 */
#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "test.h"
#include <public/mca.h>
#include <public/platform.h>

#define NR_BAD 8

/* Addresses that no argument may lie at. The last is the last word before a hole, for structures that cross it. */
static void bad_addresses(word bad[NR_BAD])
{
    static void *edge;

    if (!edge) {
        edge = window(10);
        CHECK_OK(map_at(edge, virt_to_mfn(page_alloc()), PTE_DATA));
    }
    bad[0] = format.hv_start;
    bad[1] = format.hv_start + 0x2000000;
    bad[2] = sizeof(word) == 8 ? HYPERVISOR_VIRT_END_64 - 8 : 0xfffffff8;
    bad[3] = sizeof(word) == 8 ? (word)0x0000900000000000 : 0xffffffff;
    bad[4] = P(window(9));
    bad[5] = P(edge) + 4096 - 1;
    bad[6] = 1;
    bad[7] = (word)-4096 - 7;
}

/* Puts back what a call with random numbers may have changed. */
static void restore(void)
{
    GUEST(vcpu_info) *info = vcpu_info(0);

    traps_init();
    fpu_taskswitch(0);
    set_gdt(NULL, 0);
    mmuext(MMUEXT_SET_LDT, 0, 0);
    for (unsigned i = 0; i < 4; i++)
        set_debugreg(i, 0);
    set_debugreg(7, 0x400);
    set_debugreg(6, 0);
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    vcpu_op(VCPUOP_stop_singleshot_timer, 0, NULL);
#ifdef FORMAT_PT64
    set_segment_base(SEGBASE_FS, 0);
    set_segment_base(SEGBASE_GS_KERNEL, 0);
    set_segment_base(SEGBASE_GS_USER, 0);
#endif
    write_once(info->evtchn_upcall_mask, 0);
}

/* ---- Calls whose argument is a pointer: a bad one must be refused ---- */

struct pointer_call {
    u8 number;
    s8 pointer;      /* which argument is the pointer */
    s8 command;      /* which is the command, -1: none */
    u8 commands;     /* commands 0 to commands - 1 are tried */
    u64 except;      /* those that look at no pointer */
    word count;      /* in the argument behind the pointer, if not 0 */
    u64 counting;    /* commands that return how much they did: 0 is a refusal */
};

#define BIT(n) (1ULL << (n))
#define MEMORY_COUNTING (BIT(XENMEM_increase_reservation) | BIT(XENMEM_decrease_reservation) | \
                         BIT(XENMEM_populate_physmap))
#define MEMORY_EXCEPT   (BIT(XENMEM_maximum_ram_page) | BIT(XENMEM_get_sharing_freed_pages) | \
                         BIT(XENMEM_get_sharing_shared_pages))

static const struct pointer_call pointer_calls[] = {
    { __HYPERVISOR_set_trap_table, 0, -1, 1, 0, 0, 0 },
    { __HYPERVISOR_mmu_update, 0, -1, 1, 0, 1, 0 },
    { __HYPERVISOR_set_gdt, 0, -1, 1, 0, 512, 0 },
    { __HYPERVISOR_multicall, 0, -1, 1, 0, 1, 0 },
    { __HYPERVISOR_memory_op, 1, 0, 29, MEMORY_EXCEPT, 0, MEMORY_COUNTING },
    { __HYPERVISOR_xen_version, 1, 0, 10, BIT(XENVER_version) | BIT(XENVER_pagesize), 0, 0 },
    { __HYPERVISOR_grant_table_op, 1, 0, 13, 0, 1, 0 },
    { __HYPERVISOR_mmuext_op, 0, -1, 1, 0, 1, 0 },
    { __HYPERVISOR_xsm_op, 0, -1, 1, 0, 0, 0 },
    { __HYPERVISOR_nmi_op, 1, 0, 1, 0, 0, 0 },
    { __HYPERVISOR_sched_op, 1, 0, 8, BIT(SCHEDOP_yield) | BIT(SCHEDOP_block), 0, 0 },
    { __HYPERVISOR_callback_op, 1, 0, 2, 0, 0, 0 },
    { __HYPERVISOR_event_channel_op, 1, 0, 14, 0, 0, 0 },
    { __HYPERVISOR_event_channel_op_compat, 0, -1, 1, 0, 0, 0 },
    { __HYPERVISOR_physdev_op, 1, 0, 33, BIT(PHYSDEVOP_IRQ_UNMASK_NOTIFY), 0, 0 },
    { __HYPERVISOR_physdev_op_compat, 0, -1, 1, 0, 0, 0 },
    { __HYPERVISOR_sysctl, 0, -1, 1, 0, 0, 0 },
    { __HYPERVISOR_domctl, 0, -1, 1, 0, 0, 0 },
    { __HYPERVISOR_platform_op, 0, -1, 1, 0, 0, 0 },
    { __HYPERVISOR_hvm_op, 1, 0, 4, 0, 0, 0 },
    { __HYPERVISOR_xenpmu_op, 1, 0, 8, 0, 0, 0 },
    { __HYPERVISOR_arch_0, 0, -1, 1, 0, 0, 0 },
};

static void try_pointer(const struct pointer_call *c, unsigned command, word address)
{
    word args[6] = { 0 };
    long rc;

    if (c->command >= 0)
        args[c->command] = command;
    args[c->pointer] = address;
    args[c->pointer + 1] = c->count;
    if (c->number == __HYPERVISOR_mmu_update || c->number == __HYPERVISOR_mmuext_op)
        args[3] = DOMID_SELF;
    rc = hypercall_page_call(c->number, args);
    if (rc > 0 || (rc == 0 && !(c->counting >> command & 1))) {
        printf("  hypercall %u command %u pointer %lx returned %ld\n", c->number, command, address, rc);
        test_unequal(HERE, "bad pointer refused", (u64)rc, (u64)-EFAULT);
    }
}

TEST(bad_pointers)
{
    word bad[NR_BAD];

    bad_addresses(bad);
    for (unsigned i = 0; i < ARRAY_SIZE(pointer_calls); i++) {
        const struct pointer_call *c = &pointer_calls[i];

        for (unsigned command = 0; command < c->commands; command++)
            for (unsigned n = 0; n < NR_BAD && !(c->except >> command & 1); n++)
                try_pointer(c, command, bad[n]);
    }
    restore();
}

TEST(bad_pointers_console)
{
    word bad[NR_BAD];

    bad_addresses(bad);
    for (unsigned n = 0; n < NR_BAD; n++)
        CHECK_REFUSED(console_io(CONSOLEIO_write, 64, (void *)bad[n]));
    CHECK_REFUSED(console_io(77, 1, bad));
}

/* Domain 0 may stop itself by these; so the pointers are bad, and the numbers run over all vCPU commands. */
TEST(bad_pointers_vcpu)
{
    word bad[NR_BAD];

    bad_addresses(bad);
    for (unsigned cmd = 0; cmd < 20; cmd++) {
        if (cmd == VCPUOP_up || cmd == VCPUOP_down || cmd == VCPUOP_is_up || cmd == VCPUOP_stop_periodic_timer ||
            cmd == VCPUOP_stop_singleshot_timer || cmd == VCPUOP_send_nmi)
            continue;
        for (unsigned n = 0; n < NR_BAD; n++)
            CHECK_REFUSED(vcpu_op(cmd, 0, (void *)bad[n]));
    }
    restore();
}

/* ---- Numbers that mean nothing ---- */

TEST(unknown_numbers)
{
    static const word unused[] = { 11, 38, 43, 44, 45, 46, 47, 50, 51, 52, 53, 54, 56, 60, 63 };

    for (unsigned i = 0; i < ARRAY_SIZE(unused); i++)
        CHECK_EQ(HYPERCALL(unused[i], ~0UL, ~0UL, ~0UL, ~0UL, ~0UL, ~0UL), -ENOSYS);
}

TEST(numbers_beyond_table)
{
    static const word numbers[] = { 64, 65, 100, 127, 128, 255, 256, 1000, 0x7fffffff, 0x80000000, 0xffffffff };

    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
        CHECK_EQ(hypercall_bare(numbers[i], (word[6]){ 0 }), -ENOSYS);
    if (sizeof(word) == 8)
        CHECK(hypercall_bare((word)(1ULL << 32 | __HYPERVISOR_xen_version), (word[6]){ 0 }) != 0);
}

TEST(unknown_commands)
{
    static const u8 numbers[] = {
        __HYPERVISOR_memory_op, __HYPERVISOR_xen_version, __HYPERVISOR_grant_table_op, __HYPERVISOR_vm_assist,
        __HYPERVISOR_vcpu_op, __HYPERVISOR_sched_op, __HYPERVISOR_callback_op, __HYPERVISOR_event_channel_op,
        __HYPERVISOR_physdev_op, __HYPERVISOR_hvm_op, __HYPERVISOR_nmi_op, __HYPERVISOR_xenpmu_op,
        __HYPERVISOR_sched_op_compat, __HYPERVISOR_console_io, __HYPERVISOR_set_segment_base,
    };
    static u64 buffer[64];

    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
        for (unsigned cmd = 60; cmd < 64; cmd++) {
            CHECK_REFUSED(HYPERCALL(numbers[i], cmd, P(buffer), 1));
            if (numbers[i] != __HYPERVISOR_memory_op) /* there the high bits are a position */
                CHECK_REFUSED(HYPERCALL(numbers[i], ~(word)cmd, P(buffer), 1));
        }
}

/* ---- All of them, at random ---- */

/* What would stop or reset us with no pointer looked at. */
static bool must_not(word number, const word args[6])
{
    u32 cmd = (u32)args[0];

    switch (number) {
    case __HYPERVISOR_iret:
        return true;
    case __HYPERVISOR_sched_op:
    case __HYPERVISOR_sched_op_compat:
        return cmd != SCHEDOP_yield && cmd < 8;
    case __HYPERVISOR_vcpu_op:
        return cmd == VCPUOP_down || cmd == VCPUOP_up || cmd == VCPUOP_initialise;
    case __HYPERVISOR_set_trap_table:
        return args[0] == 0;
    case __HYPERVISOR_kexec_op:
        return true;
    }
    return false;
}

static word random_argument(const word bad[NR_BAD])
{
    static const word numbers[] = { 0, 1, 2, 0x7fff, 0x8000, 0x7fffffff, 0x80000000, 0xffffffff, ~0UL, ~0UL >> 1,
                                    DOMID_SELF, DOMID_IO, DOMID_XEN, 4096, 0x1000000 };
    u64 r = random_u64();

    switch (r >> 8 & 3) {
    case 0:
        return bad[r >> 16 & (NR_BAD - 1)];
    case 1:
        return numbers[(r >> 16) % ARRAY_SIZE(numbers)];
    case 2:
        return (word)(r >> 16 & 31);
    default:
        return (word)random_u64() | (word)1 << 31; /* no pointer to anything of ours */
    }
}

static void random_call(const word bad[NR_BAD])
{
    word number = (word)(random_u64() % NR_HYPERCALLS), args[6];

    for (unsigned i = 0; i < 6; i++)
        args[i] = random_argument(bad);
    if (sizeof(word) == 4) /* addresses of the kernel itself may come up by chance */
        for (unsigned i = 0; i < 6; i++)
            if (args[i] >= VIRT_BASE && args[i] < VIRT_BASE + 0x8000000)
                args[i] |= 0x30000000;
    if (!must_not(number, args))
        (void)hypercall_page_call(number, args);
    restore();
}

TEST(random_arguments)
{
    word bad[NR_BAD];
    u32 *page = page_alloc();

    bad_addresses(bad);
    for (unsigned i = 0; i < 3000; i++)
        random_call(bad);
    /* Still ourselves: faults, mappings, time. */
    CHECK_FAULT(VECTOR_UD, __asm__ volatile("ud2"));
    page[0] = 9;
    CHECK_OK(map_at(window(0), virt_to_mfn(page), PTE_READ));
    CHECK_EQ(*(volatile u32 *)window(0), 9);
    CHECK_OK(unmap_at(window(0)));
    page_free(page);
}

/* Random contents behind good pointers, for the calls on which that cannot stop us. */
static void random_structure(u64 *buffer, unsigned number, unsigned commands, int pointer)
{
    word args[6] = { 0 };

    for (unsigned i = 0; i < 16; i++)
        buffer[i] = random_u64() & (random_u64() & 1 ? ~0ULL : 0xffff);
    if (pointer)
        args[0] = (word)(random_u64() % commands);
    args[pointer] = P(buffer);
    args[pointer + 1] = 1;
    (void)hypercall_page_call(number, args);
}

TEST(random_structures)
{
    u64 *buffer = page_alloc();

    for (unsigned i = 0; i < 1000; i++) {
        random_structure(buffer, __HYPERVISOR_grant_table_op, 13, 1);
        random_structure(buffer, __HYPERVISOR_callback_op, 2, 1);
        random_structure(buffer, __HYPERVISOR_physdev_op, 12, 1);
        random_structure(buffer, __HYPERVISOR_xenpmu_op, 8, 1);
        random_structure(buffer, __HYPERVISOR_hvm_op, 30, 1);
        random_structure(buffer, __HYPERVISOR_sysctl, 1, 0);
        random_structure(buffer, __HYPERVISOR_platform_op, 1, 0);
        random_structure(buffer, __HYPERVISOR_domctl, 1, 0);
        restore();
    }
    CHECK_FAULT(VECTOR_UD, __asm__ volatile("ud2"));
    page_free(buffer);
}

/* ---- Multicalls ---- */

TEST(multicall_results)
{
    GUEST(multicall_entry) calls[4] = {
        { .op = __HYPERVISOR_xen_version, .args = { XENVER_version } },
        { .op = 63 },
        { .op = __HYPERVISOR_xen_version, .args = { XENVER_pagesize } },
        { .op = __HYPERVISOR_stack_switch, .args = { 0, 0, 0, 0, 0, 0 } },
    };

    calls[3].op = __HYPERVISOR_vcpu_op;
    calls[3].args[0] = VCPUOP_is_up;
    CHECK_OK(multicall(calls, 4)); /* one failing call stops no other */
    CHECK_EQ(calls[0].result, xen_version(XENVER_version, NULL));
    CHECK_EQ((s32)calls[1].result, -ENOSYS);
    CHECK_EQ(calls[2].result, 4096);
    CHECK_EQ(calls[3].result, 1);
    CHECK_OK(multicall(calls, 0));
}

TEST(multicall_arguments_pass_through)
{
    void *page = page_alloc();
    GUEST(multicall_entry) calls[2] = { { .op = __HYPERVISOR_update_va_mapping }, { .op = __HYPERVISOR_update_va_mapping } };
    word args[4] = { P(window(0)), ARG64(pte_make(virt_to_mfn(page), PTE_READ)), UVMF_INVLPG };

    for (unsigned i = 0; i < 4; i++)
        calls[0].args[i] = args[i];
    calls[1].args[0] = P(window(0)) + 4096;
    calls[1].args[1] = 0;
    CHECK_OK(multicall(calls, 2));
    CHECK_EQ(calls[0].result, 0);
    CHECK_EQ(calls[1].result, 0);
    CHECK_EQ(frame_at(window(0)), virt_to_mfn(page));
    CHECK_OK(unmap_at(window(0)));
    page_free(page);
}

TEST(multicall_nested)
{
    GUEST(multicall_entry) inner[1] = { { .op = __HYPERVISOR_xen_version, .args = { XENVER_pagesize } } };
    GUEST(multicall_entry) outer[2] = { { .op = __HYPERVISOR_multicall, .args = { P(inner), 1 } },
                                        { .op = __HYPERVISOR_xen_version, .args = { XENVER_pagesize } } };

    CHECK_OK(multicall(outer, 2));
    CHECK((long)outer[0].result < 0); /* one level only */
    CHECK_EQ(inner[0].result, 0);
    CHECK_EQ(outer[1].result, 4096);
}

/* More than one preemption check's worth, and longer calls inside it. */
TEST(multicall_long)
{
    enum { N = 100, REQUESTS = 200 };
    static GUEST(multicall_entry) calls[N];
    static struct mmu_update req[REQUESTS];
    void *page = page_alloc();
    unsigned bad = 0;

    for (unsigned i = 0; i < REQUESTS; i++) {
        req[i].ptr = virt_to_maddr(pte_at(table_of(window(i), 1), pte_index(window(i), 1)));
        req[i].val = pte_make(virt_to_mfn(page), PTE_READ);
    }
    for (unsigned i = 0; i < N; i++)
        calls[i] = (GUEST(multicall_entry)){ .op = __HYPERVISOR_mmu_update, .result = 99,
                                             .args = { P(req), REQUESTS, 0, DOMID_SELF } };
    CHECK_OK(multicall(calls, N));
    for (unsigned i = 0; i < N; i++)
        bad += calls[i].result != 0;
    CHECK_EQ(bad, 0);
    for (unsigned i = 0; i < REQUESTS; i++)
        CHECK_EQ(frame_at(window(i)), virt_to_mfn(page));
    for (unsigned i = 0; i < REQUESTS; i++)
        CHECK_OK(unmap_at(window(i)));
    page_free(page);
}

TEST(multicall_crossing_pages)
{
    char *two = window(20);
    GUEST(multicall_entry) *calls = (void *)(two + 4096 - sizeof(*calls) - 12);
    void *a = page_alloc(), *b = page_alloc();

    CHECK_OK(map_at(two, virt_to_mfn(a), PTE_DATA));
    CHECK_OK(map_at(two + 4096, virt_to_mfn(b), PTE_DATA));
    for (unsigned i = 0; i < 3; i++)
        calls[i] = (GUEST(multicall_entry)){ .op = __HYPERVISOR_xen_version, .args = { XENVER_pagesize } };
    CHECK_OK(multicall(calls, 3));
    CHECK_EQ(calls[1].result, 4096);
    CHECK_EQ(calls[2].result, 4096);
    CHECK_OK(unmap_at(two + 4096));
    calls[0].result = 0;
    CHECK_REFUSED(multicall(calls, 3));
    CHECK_EQ(calls[0].result, 4096); /* what could be done was done */
    CHECK_OK(unmap_at(two));
    page_free(a);
    page_free(b);
}

TEST(multicall_readonly)
{
    GUEST(multicall_entry) *calls = page_alloc();

    calls[0] = (GUEST(multicall_entry)){ .op = __HYPERVISOR_xen_version, .args = { XENVER_pagesize } };
    CHECK_OK(map_at(window(0), virt_to_mfn(calls), PTE_READ));
    CHECK_REFUSED(multicall(window(0), 1)); /* no room for the result */
    CHECK_OK(unmap_at(window(0)));
    page_free(calls);
}

/* ---- Versions ---- */

TEST(version_numbers)
{
    long version = xen_version(XENVER_version, NULL);
    char extra[XEN_EXTRAVERSION_LEN];

    CHECK_EQ(version >> 16, 4);
    CHECK_EQ(version & 0xffff, 17);
    CHECK_EQ(xen_version(XENVER_pagesize, NULL), 4096);
    CHECK_OK(xen_version(XENVER_extraversion, extra));
    CHECK(extra[0] == '.' || extra[0] == '-');
    CHECK_EQ(extra[sizeof(extra) - 1], 0);
}

TEST(version_capabilities)
{
    static char caps[XEN_CAPABILITIES_INFO_LEN];
    const char *mine = sizeof(word) == 8 ? "xen-3.0-x86_64" : format.levels == 3 ? "xen-3.0-x86_32p" : "xen-3.0-x86_32";

    CHECK_OK(xen_version(XENVER_capabilities, caps));
    CHECK(strstr(caps, mine));
}

/* The same texts at whatever length they have: their size alone for no address, too little room, room enough. */
TEST(version_texts_of_any_length)
{
    static const struct { u8 whole, cut; } texts[] = {
        { XENVER_extraversion2, XENVER_extraversion }, { XENVER_capabilities2, XENVER_capabilities },
        { XENVER_changeset2, XENVER_changeset }, { XENVER_commandline2, XENVER_commandline },
    };
    static struct { u32 len; char text[XEN_CAPABILITIES_INFO_LEN]; } whole;
    static char cut[XEN_CAPABILITIES_INFO_LEN];

    for (unsigned i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        long size = xen_version(texts[i].whole, NULL);

        if (texts[i].whole == XENVER_commandline2 && !is_dom0()) {
            CHECK_EQ(size, -EPERM);
            continue;
        }
        REQUIRE(size > 0 && size < (long)sizeof(cut));
        CHECK_OK(xen_version(texts[i].cut, cut));
        CHECK_EQ(size, (long)strlen(cut));
        whole.len = 0;
        CHECK_EQ(xen_version(texts[i].whole, &whole), -EINVAL);
        whole.len = (u32)size - 1;
        CHECK_EQ(xen_version(texts[i].whole, &whole), -ENOBUFS);
        memset(whole.text, 'x', sizeof(whole.text));
        whole.len = sizeof(whole.text);
        CHECK_EQ(xen_version(texts[i].whole, &whole), size);
        CHECK(!memcmp(whole.text, cut, (size_t)size));
        CHECK_EQ(whole.text[size], 'x');
    }
}

TEST(version_platform)
{
    GUEST(xen_platform_parameters) params = { 0 };

    CHECK_OK(xen_version(XENVER_platform_parameters, &params));
    CHECK_EQ(params.virt_start, format.hv_start);
}

TEST(version_features)
{
    struct xen_feature_info info = { .submap_idx = 0 };

    CHECK_OK(xen_version(XENVER_get_features, &info));
    CHECK_EQ(info.submap >> XENFEAT_dom0 & 1, is_dom0());
    CHECK_EQ(info.submap >> XENFEAT_auto_translated_physmap & 1, 0);
    CHECK_EQ(info.submap >> XENFEAT_mmu_pt_update_preserve_ad & 1, 1);
    info.submap_idx = 99;
    CHECK_REFUSED(xen_version(XENVER_get_features, &info));
}

/* ---- Arguments at the ends of pages ---- */

TEST(arguments_across_pages)
{
    char *two = window(20);
    void *a = page_alloc(), *b = page_alloc();

    CHECK_OK(map_at(two, virt_to_mfn(a), PTE_DATA));
    CHECK_OK(map_at(two + 4096, virt_to_mfn(b), PTE_DATA));
    for (unsigned back = 0; back < 16; back += 4) {
        struct xen_feature_info *info = (void *)(two + 4096 - back);

        info->submap_idx = 0;
        info->submap = 0;
        CHECK_OK(xen_version(XENVER_get_features, info));
        CHECK(info->submap != 0);
    }
    CHECK_OK(xen_version(XENVER_extraversion, two + 4096 - XEN_EXTRAVERSION_LEN));
    CHECK_OK(unmap_at(two + 4096));
    CHECK_OK(xen_version(XENVER_extraversion, two + 4096 - XEN_EXTRAVERSION_LEN)); /* just fits */
    CHECK_REFUSED(xen_version(XENVER_extraversion, two + 4096 - XEN_EXTRAVERSION_LEN + 1));
    CHECK_OK(unmap_at(two));
    page_free(a);
    page_free(b);
}

TEST(results_to_readonly_memory)
{
    void *page = page_alloc();

    CHECK_OK(map_at(window(0), virt_to_mfn(page), PTE_READ));
    CHECK_REFUSED(xen_version(XENVER_extraversion, window(0)));
    CHECK_EQ(*(u8 *)page, 0);
    CHECK_REFUSED(xen_version(XENVER_extraversion, table_of(window(0), 1)));
    CHECK_OK(unmap_at(window(0)));
    page_free(page);
}

/* ---- Both ways in ---- */

TEST(hypercall_by_instruction)
{
    word args[6] = { XENVER_pagesize };

    CHECK_EQ(hypercall_bare(__HYPERVISOR_xen_version, args), 4096);
    CHECK_EQ(hypercall_page_call(__HYPERVISOR_xen_version, args), 4096);
}

/* ---- The old calls of the Xen 3 era ---- */

TEST(old_sched_op)
{
    CHECK_OK(HYPERCALL(__HYPERVISOR_sched_op_compat, SCHEDOP_yield, 0));
    CHECK_REFUSED(HYPERCALL(__HYPERVISOR_sched_op_compat, 9, 0));
}

TEST(old_event_channel_op)
{
    struct evtchn_op op = { .cmd = EVTCHNOP_alloc_unbound };
    unsigned port;

    op.u.alloc_unbound.dom = op.u.alloc_unbound.remote_dom = DOMID_SELF;
    CHECK_OK(HYPERCALL(__HYPERVISOR_event_channel_op_compat, P(&op)));
    port = op.u.alloc_unbound.port;
    CHECK(port != 0);
    op.cmd = EVTCHNOP_close;
    op.u.close.port = port;
    CHECK_OK(HYPERCALL(__HYPERVISOR_event_channel_op_compat, P(&op)));
    CHECK_REFUSED(HYPERCALL(__HYPERVISOR_event_channel_op_compat, P(&op)));
    op.cmd = 55;
    CHECK_REFUSED(HYPERCALL(__HYPERVISOR_event_channel_op_compat, P(&op)));
}

/* The command in front of its argument; what came later has no such form. */
TEST(old_physdev_op)
{
    struct { u32 cmd; union { u32 arg; word align[4]; } u; } op = { .cmd = PHYSDEVOP_set_iopl };
    struct fault f;

    op.u.arg = 1;
    CHECK_OK(HYPERCALL(__HYPERVISOR_physdev_op_compat, P(&op)));
    f = FAULT_IN(__asm__ volatile("inb $0x80, %%al" : : : "eax"));
    CHECK(!f.hit);
    op.u.arg = 4;
    CHECK_REFUSED(HYPERCALL(__HYPERVISOR_physdev_op_compat, P(&op)));
    op.u.arg = 0;
    CHECK_OK(HYPERCALL(__HYPERVISOR_physdev_op_compat, P(&op)));
    CHECK_FAULT(VECTOR_GP, __asm__ volatile("inb $0x80, %%al" : : : "eax"));
    op.cmd = 55;
    CHECK_EQ(HYPERCALL(__HYPERVISOR_physdev_op_compat, P(&op)), -ENOSYS);
    CHECK_EQ(HYPERCALL(__HYPERVISOR_physdev_op_compat, format.hv_start), -EFAULT);
}

TEST(old_set_callbacks)
{
    extern u8 event_entry[], failsafe_entry[];
    u32 before = upcall_count;
    long port = bind_ipi(0);

    REQUIRE(port > 0);
#ifdef FORMAT_PT64
    extern u8 syscall_entry[];
    CHECK_OK(HYPERCALL(__HYPERVISOR_set_callbacks, P(event_entry), P(failsafe_entry), P(syscall_entry)));
#else
    CHECK_OK(HYPERCALL(__HYPERVISOR_set_callbacks, KERNEL_CS, P(event_entry), KERNEL_CS, P(failsafe_entry)));
#endif
    CHECK_OK(send_port((unsigned)port));
    CHECK(upcall_count > before);
    CHECK_OK(close_port((unsigned)port));
    restore();
}

/* ---- The screen ---- */

/* The tests' machine has VGA's text mode. */
TEST(screen_of_dom0)
{
    struct xen_platform_op op = { .cmd = XENPF_get_dom0_console, .interface_version = XENPF_INTERFACE_VERSION };
    long size = HYPERCALL(__HYPERVISOR_platform_op, P(&op));

    if (!is_dom0()) {
        CHECK_EQ(size, -EPERM);
        return;
    }
    if (size == -ENODEV)
        SKIP("this machine has no screen");
    REQUIRE(size > 0 && (unsigned long)size <= sizeof(op.u.dom0_console));
    CHECK_EQ(op.u.dom0_console.video_type, XEN_VGATYPE_TEXT_MODE_3);
    CHECK_EQ(op.u.dom0_console.u.text_mode_3.columns, 80);
    CHECK(op.u.dom0_console.u.text_mode_3.font_height >= 8 && op.u.dom0_console.u.text_mode_3.rows >= 25);
}

/* ---- Machine checks ---- */

#define MOST_CPUS 4

static long mca_cpus(u32 *ncpus, word info)
{
    struct { u32 cmd, version; GUEST(xen_mc_physcpuinfo) p; word room[4]; } op = {
        .cmd = XEN_MC_physcpuinfo, .version = XEN_MCA_INTERFACE_VERSION, .p = { .ncpus = *ncpus, .info = info } };
    long rc = HYPERCALL(__HYPERVISOR_mca, P(&op));

    *ncpus = op.p.ncpus;
    return rc;
}

/* What dom0's driver for machine checks asks before it registers: how many CPUs, then which. */
TEST(machine_check_cpus)
{
    static GUEST(mcinfo_logical_cpu) cpu[MOST_CPUS + 1];
    u32 n = 0, room = 0, one = 1, bad = 1;

    if (!is_dom0()) {
        CHECK_EQ(mca_cpus(&n, 0), -EPERM);
        return;
    }
    REQUIRE_OK(mca_cpus(&n, 0));
    REQUIRE(n >= 1 && n <= MOST_CPUS);
    CHECK_EQ(mca_cpus(&room, P(cpu)), -EINVAL);
    room = MOST_CPUS;
    CHECK_OK(mca_cpus(&room, P(cpu)));
    CHECK_EQ(room, n);
    for (u32 i = 0; i < n; i++) {
        CHECK_EQ(cpu[i].mc_ncores_active, n);
        CHECK_EQ(cpu[i].mc_nmsrvals, 1);
        CHECK(cpu[i].mc_family && cpu[i].mc_vendorid[0] && !cpu[i].mc_vendorid[12]);
        CHECK(!i || cpu[i].mc_apicid != cpu[i - 1].mc_apicid);
    }
    CHECK(!cpu[n].mc_family);
    CHECK_OK(mca_cpus(&one, P(cpu)));
    CHECK_EQ(one, 1);
    CHECK_EQ(mca_cpus(&bad, format.hv_start), -EFAULT);
}
