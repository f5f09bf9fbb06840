/*
 * What a kernel that wants more than its due tries, and what has once worked on some hypervisor of this kind. Each test
 * fails if the call gets through; most of them would hang or stop the whole machine if it did.
 */
#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "preempt.h"
#include "string.h"
#include "test.h"
#include "user.h"

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

/* A linear entry leads to a table as if it were one of level 1: to what is in the hypervisor's slots of it, too. */
TEST(linear_hole)
{
#ifdef FORMAT_PT32
    void *top = copy_top();
    word old = current_base(), slot = free_top_slot(), va = slot << 22 | pte_index((void *)format.hv_start, 2) << 12;

    REQUIRE_OK(pin(top, 2));
    REQUIRE_OK(pte_set(pte_at(top, slot), pte_make(virt_to_mfn(top), PTE_P | PTE_US | PTE_A | PTE_D)));
    REQUIRE_OK(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(top), 0));
    mm_set_base(virt_to_mfn(top));
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ((long)HYPERCALL(__HYPERVISOR_set_trap_table, va + i * 4096), -EFAULT);
    REQUIRE_OK(mmuext(MMUEXT_NEW_BASEPTR, old, 0));
    mm_set_base(old);
    CHECK_OK(unpin(top));
    free_top(top);
#else
    SKIP("no slots of the hypervisor's that are in no table that the CPU walks");
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
    /* In a non-PAE domU the loader was there before. */
    for (unsigned i = 0; i <= most; i++)
        REQUIRE_OK(mmuext(MMUEXT_CLEAR_PAGE, p2m[spare_pfn(i)], 0));
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

/* What is given back comes back as zeroes, were it only our own. */
TEST(frames_are_clean)
{
    enum { NR = 8 };
    word *va = window(0), frames[NR];
    GUEST(xen_memory_reservation) r = { .extent_start = P(frames), .nr_extents = NR, .domid = DOMID_SELF };

    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < NR; i++) {
            frames[i] = p2m[spare_pfn(i)];
            REQUIRE_OK(map_at(va, frames[i], PTE_DATA));
            for (unsigned n = 0; n < 4096 / sizeof(word); n++)
                va[n] = 0x5a5a5a5a;
        }
        REQUIRE_OK(unmap_at(va));
        REQUIRE(memory_op(XENMEM_decrease_reservation, &r) == NR);
        for (unsigned i = 0; i < NR; i++)
            frames[i] = spare_pfn(i);
        REQUIRE(memory_op(XENMEM_populate_physmap, &r) == NR);
        for (unsigned i = 0; i < NR; i++) {
            word sum = 0;

            p2m[spare_pfn(i)] = frames[i];
            REQUIRE_OK(map_at(va, frames[i], PTE_READ));
            for (unsigned n = 0; n < 4096 / sizeof(word); n++)
                sum |= va[n];
            CHECK_EQ(sum, 0);
        }
        REQUIRE_OK(unmap_at(va));
    }
}

/* ---- Ways into the hypervisor at bad moments ---- */

#ifdef FORMAT_PT64
#define SP_NAME "rsp"
#define CALL_CLOBBERS , "r11"
#define CALL_INSN "syscall"
#define CALL_ARGS(result) : "=a"(result) : "a"(__HYPERVISOR_xen_version), "D"(XENVER_version), "S"(0), "m"(stack) : "rcx", "r11", "memory"
#else
#define SP_NAME "esp"
#define CALL_CLOBBERS
#define CALL_INSN "int $0x82"
#define CALL_ARGS(result) : "=a"(result) : "a"(__HYPERVISOR_xen_version), "b"(XENVER_version), "c"(0), "m"(stack) : "memory"
#endif

/* A breakpoint on what a MOV to SS reads comes after the next instruction: in the hypervisor, if that leads there. */
TEST(debug_exceptions_put_off)
{
    static u16 stack;
    long version = xen_version(XENVER_version, NULL), got = 0;

    __asm__ volatile("mov %%ss, %0" : "=m"(stack));
    REQUIRE_OK(set_debugreg(0, P(&stack)));
    REQUIRE_OK(set_debugreg(7, 0x400 | 1 | 7 << 16));      /* reads and writes of 2 bytes */
    (void)FAULT_IN(__asm__ volatile("mov %4, %%ss\n " CALL_INSN CALL_ARGS(got)));
    CHECK(last_fault.hit || got == version);
    CHECK(FAULT_IN(__asm__ volatile("mov %0, %%ss\n int3" : : "m"(stack))).hit);
    CHECK(FAULT_IN(__asm__ volatile("mov %0, %%ss\n .byte 0xf1" : : "m"(stack))).hit);
    CHECK(FAULT_IN(__asm__ volatile("mov %0, %%ss\n int $0x80" : : "m"(stack))).hit);
    CHECK(FAULT_IN(__asm__ volatile("mov %0, %%ss\n ud2" : : "m"(stack))).hit);
    CHECK_OK(set_debugreg(7, 0x400));
    CHECK_OK(set_debugreg(0, 0));
    CHECK_OK(set_debugreg(6, 0));
    CHECK(FAULT_IN(__asm__ volatile(".byte 0xf1")).hit);     /* not every emulator knows this one */
    CHECK_EQ(xen_version(XENVER_version, NULL), version);
}

/* Single steps through a call, and alignment checks: the hypervisor runs with neither. */
TEST(flags_at_a_call)
{
    static u16 stack;
    long version = xen_version(XENVER_version, NULL), got = 0;

    for (unsigned i = 0; i < 3; i++) {
        word flags = i == 0 ? 1u << 8 : i == 1 ? 1u << 18 : 1u << 14;     /* TF, AC, NT */

        got = 0;
        (void)FAULT_IN(__asm__ volatile("pushf\n or %5, (%%" SP_NAME ")\n popf\n" CALL_INSN
                                        "\n pushf\n andl $~0x44100, (%%" SP_NAME ")\n popf"
                                        : "=a"(got) : "a"(__HYPERVISOR_xen_version), "D"(XENVER_version), "S"(0),
                                          "m"(stack), "r"(flags), "b"(XENVER_version), "c"(0) : "memory" CALL_CLOBBERS));
        CHECK(last_fault.hit || got == version);
    }
    CHECK_EQ(xen_version(XENVER_version, NULL), version);
}

/* AC, which any program may set, opens user pages to supervisors where SMAP is on. Debug builds look whether it is off inside. */
TEST(alignment_checks_in_user_mode)
{
    static const struct { u8 code[8], n, vector; } ways[] = {
        { { 0x0f, 0x0b }, 2, VECTOR_UD },                       /* ud2 */
        { { 0xcc }, 1, VECTOR_BP },
        { { 0xcd, 0x80 }, 2, 0x80 },
        { { 0xf4 }, 1, VECTOR_GP },                             /* hlt */
        { { 0x68, 0, 0x10, 0, 0, 0xc3 }, 6, VECTOR_PF },        /* push 0x1000; ret */
        { { 0x0f, 0xa2 }, 2, VECTOR_UD },                       /* cpuid; ud2 */
    };

    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++)
        CHECK_EQ(user_run_flags(ways[i].code, ways[i].n, EFLAGS_AC).vector, ways[i].vector);
}

/* A call from the last bytes of the lower half returns to no address at all. */
TEST(call_at_the_edge)
{
#ifdef FORMAT_PT64
    GUEST(callback_register) no_failsafe = { .type = CALLBACKTYPE_failsafe };
    u8 *page = page_alloc(), *va = (u8 *)0x7ffffffff000UL;

    page[4094] = 0x0f;
    page[4095] = 0x05;
    build_tables(va);
    REQUIRE_OK(map_at(va, virt_to_mfn(page), PTE_READ | PTE_US));
    for (unsigned i = 0; i < 4; i++) {
        if (i == 2)     /* without a failsafe callback it is the next instruction that faults */
            REQUIRE_OK(callback_op(CALLBACKOP_register, &no_failsafe));
        CHECK(FAULT_IN(__asm__ volatile("jmp *%0" : : "r"(va + 4094), "a"(__HYPERVISOR_xen_version), "D"(0), "S"(0)
                                        : "rcx", "r11", "memory")).hit);
        CHECK(i < 2 || (last_fault.vector == VECTOR_GP && last_fault.error == 0 && last_fault.regs.ip == P(va + 4096)));
    }
    traps_init();
    CHECK_OK(unmap_at(va));
    page_free(page);
    CHECK_FAULT(VECTOR_UD, __asm__ volatile("ud2"));
#else
    SKIP("no address space with a hole in it");
#endif
}

/* ---- What the hypervisor does for user space, it does with user space's rights ---- */

/* INSB to, or OUTSB from, an address, in user mode. */
static struct fault user_string_io(bool in, const volatile void *address)
{
#ifdef FORMAT_PT64
    u8 code[] = { 0x66, 0xba, 0x64, 0, 0x48, 0xbe, 0, 0, 0, 0, 0, 0, 0, 0, 0x6e };
#else
    /* With data segments, which the way to user mode took away: mov ax; mov ds, ax; mov es, ax. */
    u8 code[] = { 0x66, 0xb8, FLAT_RING3_DS & 0xff, FLAT_RING3_DS >> 8, 0x8e, 0xd8, 0x8e, 0xc0,
                  0x66, 0xba, 0x64, 0, 0xbe, 0, 0, 0, 0, 0x6e };
#endif
    u8 *operand = code + sizeof(code) - 1 - sizeof(word);

    memcpy(operand, &address, sizeof(word));
    operand[-1] = in ? 0xbf : 0xbe;     /* DI or SI */
    operand[sizeof(word)] = in ? 0x6c : 0x6e;
    return user_run(code, sizeof(code));
}

TEST(string_io_of_user_space)
{
    struct physdev_set_iopl iopl = { .iopl = 3 };
    volatile word *kernels = page_alloc();
    struct fault f;

    REQUIRE_OK(physdev_op(PHYSDEVOP_set_iopl, &iopl));
    *kernels = 0x1234;
    for (unsigned in = 0; in < 2; in++) {
        f = user_string_io(in, kernels);
        CHECK_EQ(f.vector, VECTOR_PF);
        CHECK_EQ(f.cr2, (word)kernels);
        CHECK_EQ(f.error & 4, 4);
    }
    f = user_string_io(true, user_page(USER_CODE));     /* which it may read only */
    CHECK_EQ(f.vector, VECTOR_PF);
    CHECK_EQ(*kernels, 0x1234);
    CHECK_EQ(user_string_io(true, user_page(USER_DATA)).vector, VECTOR_UD);
    CHECK_EQ(user_string_io(false, user_page(USER_DATA)).vector, VECTOR_UD);
    iopl.iopl = 0;
    CHECK_OK(physdev_op(PHYSDEVOP_set_iopl, &iopl));
    page_free((void *)kernels);
}

/* A kernel in ring 1 is a supervisor to a CPU with SMEP and SMAP, and its users' pages are its own all the same. */
TEST(kernel_uses_a_user_page)
{
    u8 *page = page_alloc();

    page[0] = 0xc3;
    REQUIRE_OK(map_at(window(0), virt_to_mfn(page), PTE_P | PTE_US));
    for (unsigned i = 0; i < 2; i++) {
        CHECK_NO_FAULT(((void (*)(void))window(0))());
        CHECK_NO_FAULT(CHECK_EQ(*(volatile u8 *)window(0), 0xc3));
    }
    CHECK_OK(unmap_at(window(0)));
    page_free(page);
}

/* ---- Numbers that are no domain's ---- */

TEST(special_domains)
{
    static const domid_t ids[] = { DOMID_IO, DOMID_XEN, 0x7ff3, DOMID_INVALID, 0x7ff5, 0x7fff, 0x8000, 0xffff };
    void *table = table_alloc();

    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
        domid_t id = ids[i];
        struct evtchn_status status = { .dom = id, .port = 1 };
        struct gnttab_query_size size = { .dom = id };
        struct sched_remote_shutdown over = { .domain_id = id };
        GUEST(mmuext_op) op = { .cmd = MMUEXT_PIN_L1_TABLE, .arg1 = virt_to_mfn(table) };

        CHECK_REFUSED(memory_op(XENMEM_current_reservation, &id));
        CHECK_REFUSED(event_channel_op(EVTCHNOP_status, &status));
        CHECK_REFUSED(alloc_unbound(id, DOMID_SELF));
        CHECK_REFUSED(bind_interdomain(id, 1));
        CHECK(grant_table_op(GNTTABOP_query_size, &size, 1) < 0 || size.status < 0);
        CHECK_REFUSED(sched_op(SCHEDOP_remote_shutdown, &over));
        if (id != DOMID_IO)     /* there the frames of entries are meant */
            CHECK_REFUSED(mmuext_op(&op, 1, NULL, id));
    }
    CHECK_OK(map_writable(table));
    make_readonly(table);
    table_free(table);
}

/* ---- What is dom0's alone ---- */

static void check_control_calls(void)
{
    static const unsigned calls[] = { __HYPERVISOR_platform_op, __HYPERVISOR_sysctl, __HYPERVISOR_domctl, __HYPERVISOR_kexec_op,
                                      __HYPERVISOR_arch_0 };
    static u8 arg[256];

    for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
        CHECK_EQ((long)HYPERCALL(calls[i], P(arg)), -EPERM);
    CHECK_EQ(console_io(CONSOLEIO_read, sizeof(arg), arg), -EPERM);
}

/* line=... on the command line: of a PCI function that the domain has. */
static bool is_own_line(unsigned pirq)
{
    const char *line = cmdline_value("line");

    return line && parse_number(line) == pirq;
}

/* Devices, their interrupts and their configuration. */
static void check_device_calls(void)
{
    static const unsigned commands[] = {
        PHYSDEVOP_apic_read, PHYSDEVOP_apic_write, PHYSDEVOP_alloc_irq_vector, PHYSDEVOP_map_pirq, PHYSDEVOP_unmap_pirq,
        PHYSDEVOP_manage_pci_add, PHYSDEVOP_manage_pci_remove, PHYSDEVOP_restore_msi, PHYSDEVOP_setup_gsi, PHYSDEVOP_get_free_pirq,
        PHYSDEVOP_pci_device_add, PHYSDEVOP_pci_device_remove, PHYSDEVOP_restore_msi_ext, PHYSDEVOP_prepare_msix, PHYSDEVOP_release_msix,
        PHYSDEVOP_pci_device_reset };
    static u8 arg[64];

    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        CHECK_EQ(physdev_op(commands[i], arg), -EPERM);
    for (unsigned pirq = 0; pirq < 32; pirq++) {
        struct evtchn_bind_pirq op = { .pirq = pirq };

        if (is_own_line(pirq))
            CHECK_OK(event_channel_op(EVTCHNOP_bind_pirq, &op));
        else
            CHECK_REFUSED(event_channel_op(EVTCHNOP_bind_pirq, &op));
    }
}

/* Frames of the hypervisor's, and what it knows of the machine and of others. */
static void check_memory_calls(void)
{
    static const unsigned commands[] = { XENMEM_machine_memory_map, XENMEM_claim_pages, XENMEM_set_pod_target, XENMEM_acquire_resource,
                                         XENMEM_reserved_device_memory_map };
    static u8 arg[64];
    GUEST(xen_machphys_mfn_list) list = { .max_extents = 1, .extent_start = P(arg) };
    struct gnttab_dump_table dump = { .dom = DOMID_SELF };

    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        CHECK_EQ(memory_op(commands[i], arg), -EPERM);
    CHECK_EQ(grant_table_op(GNTTABOP_dump_table, &dump, 1), -EPERM);
    CHECK_OK(memory_op(XENMEM_machphys_mfn_list, &list));
    CHECK_REFUSED(update_va_mapping_otherdomain(window(0), pte_make(*(word *)arg, PTE_READ), UVMF_NONE, DOMID_XEN));
    CHECK_REFUSED(update_va_mapping_otherdomain(window(0), pte_make(*(word *)arg, PTE_READ), UVMF_NONE, 0));
    CHECK_REFUSED(update_va_mapping_otherdomain(window(0), pte_make(0xb8, PTE_READ), UVMF_NONE, DOMID_IO));
}

TEST(calls_of_dom0)
{
    static const u8 virqs[] = { VIRQ_CONSOLE, VIRQ_DOM_EXC, VIRQ_TBUF, VIRQ_DEBUGGER, VIRQ_CON_RING, VIRQ_PCPU_STATE, VIRQ_MEM_EVENT,
                                VIRQ_ENOMEM, VIRQ_ARCH_0, VIRQ_ARCH_7 };

    if (is_dom0())
        SKIP("is dom0");
    check_control_calls();
    check_device_calls();
    check_memory_calls();
    for (unsigned i = 0; i < ARRAY_SIZE(virqs); i++)
        CHECK_EQ(bind_virq(virqs[i], 0), -EPERM);
}

/* ---- Numbers that are no memory ---- */

/* Where the hypervisor sees memory: so far below the end of its addresses, machine addresses wrap to 0 and on into our own. */
#define DIRECT_MAP 0xffff830000000000ULL

static long update_at(u64 ptr, u64 value)
{
    struct mmu_update req = { .ptr = ptr, .val = value };

    return mmu_update(&req, 1, NULL, DOMID_SELF);
}

/* The table that the last update named goes: there is none then whose entries need no check. */
static void forget_last_table(void)
{
    void *table = table_alloc();

    CHECK_OK(pin(table, 1));
    CHECK_OK(pte_set(pte_at(table, 0), 0));
    CHECK_OK(unpin(table));
    table_free(table);
}

/* An entry in what is no table may not become one by the address that it has for the hypervisor, were that one of ours. */
TEST(address_that_wraps_to_ours)
{
    u8 *page = page_alloc(), *victim = page_alloc();
    u64 entry = pte_make(virt_to_mfn(victim), PTE_DATA);
    volatile pte_raw *here = (void *)page;

    build_tables(NULL);
    REQUIRE_OK(map_at(NULL, virt_to_mfn(page), PTE_DATA));
    for (unsigned i = 0; i < 8; i++) {
        u64 ptr = (i & 4 ? (word)page - DIRECT_MAP : -DIRECT_MAP) + i % 4 * format.pte_bytes;
        struct mmu_update two[2] = { { .ptr = ptr, .val = entry }, { .ptr = ptr, .val = 0 } };

        forget_last_table();
        CHECK_REFUSED(update_at(ptr, entry));
        CHECK_REFUSED(update_at(ptr | MMU_PT_UPDATE_PRESERVE_AD, entry));
        CHECK_REFUSED(update_at(ptr | MMU_MACHPHYS_UPDATE, 1));
        CHECK_REFUSED(mmu_update(two, 2, NULL, DOMID_SELF));
        CHECK_EQ(here[i % 4], 0);
        here[i % 4] = (pte_raw)entry;       /* as if it held a reference */
        CHECK_REFUSED(update_at(ptr, 0));
        CHECK_EQ(here[i % 4], (pte_raw)entry);
        here[i % 4] = 0;
    }
    CHECK_OK(unmap_at(NULL));
    make_readonly(victim);      /* nobody else maps it writable */
    CHECK_OK(pin(victim, 1));
    CHECK_OK(unpin(victim));
    table_free(victim);
    page_free(page);
}

/* Everywhere that a frame's number goes in, one from far beyond memory whose address, in 64 bits, is that of a frame of ours. */
static void check_frame_refused(word mfn, word ours)
{
    GUEST(xen_memory_reservation) r = { .extent_start = P(&mfn), .nr_extents = 1, .domid = DOMID_SELF };
    struct evtchn_init_control control = { .control_gfn = mfn };
    struct evtchn_expand_array array = { .array_gfn = mfn };
    GUEST(gnttab_copy) copy = { .source = { .u = mfn, .domid = DOMID_SELF }, .dest = { .u = ours, .domid = DOMID_SELF }, .len = 8 };

    for (unsigned level = 1; level <= top_level(); level++)
        CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE + level - 1, mfn, 0));
    CHECK_REFUSED(mmuext(MMUEXT_UNPIN_TABLE, mfn, 0));
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, mfn, 0));
    CHECK_REFUSED(mmuext(MMUEXT_NEW_USER_BASEPTR, mfn, 0));
    CHECK_REFUSED(mmuext(MMUEXT_CLEAR_PAGE, mfn, 0));
    CHECK_REFUSED(mmuext(MMUEXT_COPY_PAGE, mfn, ours));
    CHECK_REFUSED(mmuext(MMUEXT_COPY_PAGE, ours, mfn));
    CHECK_REFUSED(set_gdt(&mfn, 512));
    CHECK(memory_op(XENMEM_decrease_reservation, &r) != 1);
    CHECK_REFUSED(event_channel_op(EVTCHNOP_init_control, &control));
    CHECK_REFUSED(event_channel_op(EVTCHNOP_expand_array, &array));
    CHECK(grant_table_op(GNTTABOP_copy, &copy, 1) < 0 || copy.status < 0);
    copy.source.u = ours;
    copy.dest.u = mfn;
    CHECK(grant_table_op(GNTTABOP_copy, &copy, 1) < 0 || copy.status < 0);
}

static void check_address_refused(u64 maddr, u64 value)
{
    struct gnttab_map_grant_ref map = { .host_addr = maddr, .flags = GNTMAP_host_map | GNTMAP_contains_pte, .dom = DOMID_SELF };

    CHECK_REFUSED(update_at(maddr, value));
    CHECK_REFUSED(update_at(maddr | MMU_PT_UPDATE_PRESERVE_AD, value));
    CHECK_REFUSED(update_at(maddr | MMU_MACHPHYS_UPDATE, 1));
    CHECK_REFUSED(update_descriptor(maddr, 0));
    CHECK(grant_table_op(GNTTABOP_map_grant_ref, &map, 1) < 0 || map.status < 0);
}

TEST(numbers_beyond_memory)
{
    const void *table = table_of(window(0), 1);
    u64 entry = pte_make(virt_to_mfn(table), PTE_READ);
    u8 *page = page_alloc();

    for (unsigned bit = sizeof(word) == 8 ? 30 : 28; bit < 8 * sizeof(word); bit++)
        check_frame_refused(virt_to_mfn(page) | 1UL << bit, virt_to_mfn(page));
    check_frame_refused(~0UL, virt_to_mfn(page));
    for (unsigned bit = 42; bit < 64; bit++) {
        CHECK_OK(pte_set(pte_at(table, pte_index(window(0), 1)), 0));       /* the table that the last update named */
        check_address_refused(virt_to_maddr(table) | 1ULL << bit, entry);
    }
    check_address_refused(~7ULL, entry);
    CHECK_EQ(pte_get(table, 0), 0);
    CHECK_OK(map_writable(page));
    page_free(page);
}

/* RAM past the caches may hold what its last owner wrote: only who has devices gets it. */
TEST(uncached_memory)
{
    static const u64 flags[] = { PTE_PWT, PTE_PCD, PTE_PSE };    /* in an L1 entry the last is PAT */
    u8 *page = page_alloc();

    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        long rc = map_at(window(0), virt_to_mfn(page), PTE_DATA | flags[i]);

        CHECK(is_dom0() ? rc == 0 : rc < 0);
        CHECK_OK(map_at(window(0), virt_to_mfn(page), PTE_DATA));
        rc = map_at(window(0), virt_to_mfn(page), PTE_DATA | flags[i]);
        CHECK(is_dom0() ? rc == 0 : rc < 0);
    }
    CHECK_OK(unmap_at(window(0)));
    page_free(page);
}

/* Tables are RAM, too: in entries that are changed, in ones that keep their table, in a table that becomes one. */
TEST(uncached_tables)
{
    static const u64 flags[] = { PTE_PWT, PTE_PCD, PTE_PWT | PTE_PCD };
    const void *below = table_alloc(), *table = table_alloc();

    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        long rc;

        for (unsigned level = 2; level <= top_level(); level++) {
            const void *entry = pte_at(table_of(window(0), level), pte_index(window(0), level));
            u64 was = entry_of(window(0), level);

            rc = pte_set(entry, was | flags[i]);
            CHECK(is_dom0() ? rc == 0 : rc < 0);
            CHECK_EQ(entry_of(window(0), level) & flags[i], is_dom0() ? flags[i] : 0);
            CHECK_OK(pte_set(entry, was));
        }
        make_writable(table);
        *(volatile pte_raw *)table = (pte_raw)pte_make(virt_to_mfn(below), PTE_TABLE | flags[i]);
        make_readonly(table);
        rc = pin(table, 2);
        CHECK(is_dom0() ? rc == 0 : rc < 0);
        if (!rc)
            CHECK_OK(unpin(table));
    }
    table_free((void *)table);
    table_free((void *)below);
}

/* ---- What calls hold on to, and let go of ---- */

/* Exchanges the last of n extents for a new frame: the others are said to be exchanged. frame and out_at are of that one. */
static long exchange_last(const word *frame, word out_at, word n)
{
    GUEST(xen_memory_exchange) x = {
        .in = { .extent_start = P(frame) - (n - 1) * sizeof(word), .nr_extents = n, .domid = DOMID_SELF },
        .out = { .extent_start = out_at - (n - 1) * sizeof(word), .nr_extents = n, .domid = DOMID_SELF },
        .nr_exchanged = n - 1 };

    return memory_op(XENMEM_exchange, &x);
}

/* Lists of which no element but the last is looked at, wherever they begin: that one must not be the hypervisor's. */
TEST(exchange_by_index)
{
    static const word counts[] = { 1, 2, 512, 0x10000, 0x0d000000 };
    static word frame, out;
    word was = p2m[spare_pfn(0)], at[] = { format.hv_start, format.hv_start + 0x3000, (word)DIRECT_MAP, ~(sizeof(word) - 1) };

    frame = was;
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
        for (unsigned k = 0; k < ARRAY_SIZE(at) - (sizeof(word) == 4); k++)
            if (at[k])
                CHECK_REFUSED(exchange_last(&frame, at[k], counts[i]));
        CHECK_EQ(frame, was);
        CHECK_EQ(m2p_raw(was), spare_pfn(0));
    }
    out = spare_pfn(0);
    REQUIRE_OK(exchange_last(&frame, P(&out), 512));
    p2m[spare_pfn(0)] = out;
}

static word loose;      /* a frame of ours that nothing maps */

/* What nobody holds can be exchanged; the new frame is as loose. */
static long still_loose(void)
{
    static word frame, out;
    long rc;

    frame = loose;
    out = spare_pfn(1);
    rc = exchange_last(&frame, P(&out), 1);
    if (!rc)
        loose = p2m[spare_pfn(1)] = out;
    return rc;
}

/* Whatever the call says to it, it holds the frame no longer. */
#define LEAVES_IT_LOOSE(call) do { (void)(call); CHECK_OK(still_loose()); } while (0)
#define LOOSE_AT(offset)      ((u64)loose << 12 | (offset))

static long copy_between(word from, word to)
{
    GUEST(gnttab_copy) op = { .source = { .u = from, .domid = DOMID_SELF }, .dest = { .u = to, .domid = DOMID_SELF }, .len = 64 };

    return grant_table_op(GNTTABOP_copy, &op, 1);
}

static long flush_lines(u32 what, u16 length)
{
    struct gnttab_cache_flush op = { .a.dev_bus_addr = LOOSE_AT(0), .length = length, .op = what };

    return grant_table_op(GNTTABOP_cache_flush, &op, 1);
}

static long init_control(u32 vcpu, u32 offset)
{
    struct evtchn_init_control op = { .control_gfn = loose, .vcpu = vcpu, .offset = offset };

    return event_channel_op(EVTCHNOP_init_control, &op);
}

static long register_info(unsigned vcpu, u32 offset)
{
    struct vcpu_register_vcpu_info op = { .mfn = loose, .offset = offset };

    return vcpu_op(VCPUOP_register_vcpu_info, vcpu, &op);
}

/* As a table of any level, as a root, and as a descriptor table it is refused for its content, which begins with value. */
static long become_a_table(u64 value)
{
    for (unsigned level = 1; level <= top_level(); level++) {
        (void)update_at(LOOSE_AT(0), value);
        CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE + level - 1, loose, 0));
    }
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, loose, 0));
    return 0;
}

static long become_a_gdt(u64 first, word second_frame)
{
    word frames[2] = { loose, second_frame };

    for (unsigned at = 0; at < 8; at += format.pte_bytes)
        CHECK_OK(update_at(LOOSE_AT(at), format.pte_bytes == 8 ? first : (u32)(first >> 8 * at)));
    CHECK_REFUSED(set_gdt(frames, second_frame ? 1024 : 512));
    return 0;
}

TEST(references_left_over)
{
    struct evtchn_expand_array array;
    word theirs = foreign_frame(0);

    loose = p2m[spare_pfn(1)];
    LEAVES_IT_LOOSE(0);
    LEAVES_IT_LOOSE(update_at(LOOSE_AT(MMU_MACHPHYS_UPDATE), spare_pfn(1)));
    LEAVES_IT_LOOSE(update_at(LOOSE_AT(8), 0x1234));
    LEAVES_IT_LOOSE(update_at(LOOSE_AT(8 | MMU_PT_UPDATE_PRESERVE_AD), 0x1234));
    LEAVES_IT_LOOSE(update_descriptor(LOOSE_AT(16), 0));
    LEAVES_IT_LOOSE(update_descriptor(LOOSE_AT(16), ~0ULL));
    LEAVES_IT_LOOSE(mmuext(MMUEXT_CLEAR_PAGE, loose, 0));
    LEAVES_IT_LOOSE(mmuext(MMUEXT_COPY_PAGE, loose, theirs));
    LEAVES_IT_LOOSE(mmuext(MMUEXT_COPY_PAGE, theirs, loose));
    LEAVES_IT_LOOSE(mmuext(MMUEXT_COPY_PAGE, loose, loose));
    LEAVES_IT_LOOSE(mmuext(MMUEXT_UNPIN_TABLE, loose, 0));
    LEAVES_IT_LOOSE(become_a_table(pte_make(theirs, PTE_DATA | PTE_US)));
    LEAVES_IT_LOOSE(become_a_table(pte_make(loose, PTE_DATA | PTE_US)));
    LEAVES_IT_LOOSE(become_a_gdt(0x0000890000000000, 0));       /* a task state segment */
    LEAVES_IT_LOOSE(become_a_gdt(0, theirs));
    LEAVES_IT_LOOSE(map_at((void *)USER_BASE + (1UL << 29), loose, PTE_DATA));
    LEAVES_IT_LOOSE(map_at(window(0), loose, PTE_DATA | 1ULL << 40));
    LEAVES_IT_LOOSE(copy_between(loose, loose));
    LEAVES_IT_LOOSE(copy_between(loose, theirs));
    LEAVES_IT_LOOSE(copy_between(theirs, loose));
    LEAVES_IT_LOOSE(flush_lines(GNTTAB_CACHE_CLEAN, 4096));
    LEAVES_IT_LOOSE(flush_lines(GNTTAB_CACHE_INVAL, 64));
    LEAVES_IT_LOOSE(flush_lines(GNTTAB_CACHE_CLEAN, 5000));
    array.array_gfn = loose;
    LEAVES_IT_LOOSE(event_channel_op(EVTCHNOP_expand_array, &array));
    LEAVES_IT_LOOSE(init_control(77, 0));
    LEAVES_IT_LOOSE(init_control(0, 1));
    LEAVES_IT_LOOSE(register_info(77, 0));
    LEAVES_IT_LOOSE(register_info(0, 4095));
    LEAVES_IT_LOOSE(memory_op(XENMEM_exchange, (void *)format.hv_start));
    CHECK_REFUSED(exchange_last(&loose, format.hv_start, 1));
    LEAVES_IT_LOOSE(0);
}

/* ---- Instructions that the hypervisor carries out ---- */

static bool read_msr(u32 msr, u64 *value)
{
    u32 low = 0, high = 0;

    (void)FAULT_IN(__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr)));
    *value = last_fault.hit ? 0 : (u64)high << 32 | low;
    return !last_fault.hit;
}

static bool write_msr(u32 msr, u64 value)
{
    return !FAULT_IN(__asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)))).hit;
}

/* Each is read and written, whatever the CPU has; and those that tell of others, or lead into the hypervisor, do neither. */
TEST(every_msr)
{
    static const struct { u32 first, last; } ranges[] = {
        { 0, 0xfff }, { 0xc0000000, 0xc000010f }, { 0xc0010000, 0xc00102ff }, { 0xc0011000, 0xc001103f }, { 0x40000000, 0x40000010 } };
    static const u32 silent[] = {
        0x606, 0x610, 0x611, 0x619, 0x639, 0x641, 0x64d, 0xc001029a, 0xc001029b,     /* the power meters */
        0x1d9, 0x1db, 0x600,                                                        /* branch tracing */
        0xc0011019, 0xc001101a, 0xc001101b, 0xc0011027 };                           /* masks of breakpoints */
    u64 value;

    for (unsigned r = 0; r < ARRAY_SIZE(ranges); r++)
        for (u32 msr = ranges[r].first; msr <= ranges[r].last; msr++) {
            (void)read_msr(msr, &value);
            (void)write_msr(msr, ~0ULL >> 1);       /* no address that is canonical */
        }
    for (unsigned i = 0; i < ARRAY_SIZE(silent); i++) {
        (void)read_msr(silent[i], &value);
        if (!CHECK_EQ(value, 0))
            printf("MSR %x\n", silent[i]);
    }
    for (u32 msr = 0xc0000100; msr < 0xc0000103; msr++) {
        CHECK(!write_msr(msr, 1ULL << 47));
        CHECK(!write_msr(msr, 0xffff7fffffffffffULL));
    }
    CHECK_FAULT(VECTOR_UD, __asm__ volatile("ud2"));
}

static void set_xcr(u32 index, u64 value)
{
    (void)FAULT_IN(__asm__ volatile(".byte 0x0f, 0x01, 0xd1" : : "c"(index), "a"((u32)value), "d"((u32)(value >> 32))));
}

static u64 get_xcr0(void)
{
    u32 low, high;

    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0));
    return (u64)high << 32 | low;
}

/* Sets of components that no CPU takes, and ones that this one has not. */
TEST(every_xcr0)
{
    word cr4, a = 1, c = 0;
    u64 was;

    __asm__ volatile("cpuid" : "+a"(a), "+c"(c) : : "ebx", "edx");
    if (!(c >> 26 & 1))
        SKIP("the CPU has no XSAVE");
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    REQUIRE(!FAULT_IN(__asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | 1UL << 18))).hit);
    was = get_xcr0();
    for (unsigned bit = 0; bit < 64; bit++) {
        set_xcr(0, 1ULL << bit);
        set_xcr(0, 1ULL << bit | 1);
        set_xcr(0, was ^ 1ULL << bit);
        set_xcr(0, 7 | 1ULL << bit);
        set_xcr(1 + bit, was);
        CHECK_EQ(get_xcr0() & 1, 1);
    }
    set_xcr(0, 0);
    set_xcr(0, ~0ULL);
    CHECK_EQ(get_xcr0() & 1, 1);
    set_xcr(0, was);
    CHECK_EQ(get_xcr0(), was);
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4));
}

/* INT 0x80 has a gate of its own, which leads nowhere then. */
TEST(no_handler_for_system_calls)
{
    static GUEST(trap_info) few[257];
    unsigned n = 0;

    for (unsigned i = 0; i < 256; i++)
        if (trap_table[i].vector != 0x80)
            few[n++] = trap_table[i];
    REQUIRE_OK(set_trap_table(NULL));
    REQUIRE_OK(set_trap_table(few));
    for (unsigned i = 0; i < 4; i++) {
        struct fault f = USER_RUN(0xcd, 0x80);

        CHECK_EQ(f.vector, VECTOR_GP);
        CHECK_EQ(f.error, 0x80 * 8 + 2);
        CHECK_FAULT(VECTOR_GP, __asm__ volatile("int $0x80"));
    }
    traps_init();
    CHECK_EQ(USER_RUN(0xcd, 0x80).vector, 0x80);
}

static volatile pte_raw *directly_written_slot(void)
{
    CHECK_OK(vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables));
    return pte_at(table_of(window(0), 1), pte_index(window(0), 1) + 1);
}

#define FREE_BIT 9      /* of an entry, for its owner's use */

/* A register's bit number leads as far from the operand as it likes, forwards and backwards: to an entry of ours, and nowhere else. */
TEST(bits_far_away)
{
    static const long distances[] = { 4, 8, 64, 4096, 1 << 20, 1 << 27 };
    volatile pte_raw *slot = directly_written_slot();

    for (unsigned i = 0; i < 2 * ARRAY_SIZE(distances); i++) {
        long distance = i & 1 ? -distances[i / 2] : distances[i / 2], bit = distance * 8 + FREE_BIT;
        u8 *operand = (u8 *)slot - distance, before = 0xaa, after = 0xaa;

        if (distance % (long)sizeof(word))
            continue;
        CHECK_NO_FAULT(__asm__ volatile("bts %2, (%1); setc %0" : "=m"(before) : "r"(operand), "r"(bit) : "memory", "cc"));
        CHECK_EQ(*slot, 1 << FREE_BIT);
        CHECK_EQ(slot[-1] | slot[1], 0);
        CHECK_NO_FAULT(__asm__ volatile("btr %2, (%1); setc %0" : "=m"(after) : "r"(operand), "r"(bit) : "memory", "cc"));
        CHECK_EQ(*slot, 0);
        CHECK_EQ(before << 8 | after, 1);
    }
}

/* An operand size that the instruction has not. */
#define CMPXCHG8B(prefix) \
    CHECK_NO_FAULT(__asm__ volatile(".byte " prefix "\n cmpxchg8b (%1); setz %0" : "=m"(equal), "+r"(at), "+a"(low), "+d"(high), \
                                    "+b"(to_low), "+c"(to_high) : : "memory", "cc"))
TEST(cmpxchg8b_with_prefixes)
{
#ifdef FORMAT_PT32
    SKIP("its entries have four bytes");
#else
    volatile u64 *at = (volatile u64 *)directly_written_slot();
    u64 entry = pte_make(virt_to_mfn(table_of(window(0), 1)), PTE_P | PTE_US);

    for (unsigned i = 0; i < 3; i++) {
        word low = ~0UL, high = ~0UL, to_low = (u32)entry, to_high = (u32)(entry >> 32);
        u8 equal = 0xaa;

        for (unsigned round = 0; round < 2; round++) {     /* first other than what is there, then what was seen there */
            if (i == 0)
                CMPXCHG8B("0x66");
            else if (i == 1)
                CMPXCHG8B("0x66, 0x66, 0x3e");
            else
                CMPXCHG8B("0x3e");
            CHECK_EQ(equal, round);
            CHECK_EQ(low, 0);
            CHECK_EQ(high, 0);
            CHECK_EQ(to_low, (u32)entry);
            CHECK_EQ(to_high, (u32)(entry >> 32));
        }
        CHECK_EQ(pte_mfn(*at), pte_mfn(entry));
        CHECK_NO_FAULT(*(volatile pte_raw *)at = 0);
    }
#endif
}

/* ---- The CPU is the hypervisor's ---- */

static long timer_port;
static bool timer_came;

static void expect_the_timer(void)
{
    timer_came = false;
    port_clear((unsigned)timer_port);
    REQUIRE_OK(set_timer_op(system_time() + 2 * MS));
}

/* Events are masked, so that an interrupt of the machine's is seen by what it leaves behind. */
static noreturn_fn void spin_until_the_timer_comes(void)
{
    for (unsigned n = 0; n < 100000000 && !timer_came; n++)
        timer_came = port_pending((unsigned)timer_port);
    __asm__ volatile("ud2");
    __builtin_unreachable();
}

/* A kernel that clears the interrupt flag in each way that it has runs on with interrupts. */
TEST(interrupts_stay_on)
{
#ifdef FORMAT_PT64
    static u8 stack[4096] __attribute__((aligned(16)));
    word frame[] = { 0, (word)spin_until_the_timer_comes, KERNEL_CS, 0, (word)stack + sizeof(stack) - 8, KERNEL_SS };
#else
    word frame[] = { (word)spin_until_the_timer_comes, KERNEL_CS, 0 };
#endif
    struct physdev_set_iopl iopl = { .iopl = 3 };

    events_off();
    REQUIRE((timer_port = bind_virq(VIRQ_TIMER, 0)) > 0);
    expect_the_timer();
    (void)FAULT_IN(iret_frame(frame, ARRAY_SIZE(frame)));
    CHECK(timer_came);
    REQUIRE_OK(physdev_op(PHYSDEVOP_set_iopl, &iopl));
    expect_the_timer();
    (void)FAULT_IN(__asm__ volatile("cli"); spin_until_the_timer_comes());
    CHECK(timer_came);
    expect_the_timer();
    (void)FAULT_IN(__asm__ volatile("push $2; popf" : : : "cc"); spin_until_the_timer_comes());
    CHECK(timer_came);
    iopl.iopl = 0;
    CHECK_OK(physdev_op(PHYSDEVOP_set_iopl, &iopl));
    CHECK_OK(close_port((unsigned)timer_port));
}

#ifdef FORMAT_PT64
static void block_for_a_while(void)
{
    GUEST(sched_poll) poll = { .timeout = system_time() + MS };

    CHECK_OK(sched_op(SCHEDOP_poll, &poll));
}
#endif

/* The bases of FS and GS are the vCPU's own, set by a call, by WRMSR, or, where there is one, by an instruction that nobody sees. */
TEST(bases_over_a_switch)
{
#ifdef FORMAT_PT64
    static const u32 msrs[] = { 0xc0000100, 0xc0000101, 0xc0000102 };
    u64 value;
    word cr4;

    events_off();
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    (void)FAULT_IN(__asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | 1UL << 16)));
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
            CHECK(write_msr(msrs[i], 0x1000 * (round + 1) + i));
        block_for_a_while();
        for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
            CHECK(read_msr(msrs[i], &value) && value == 0x1000 * (round + 1) + i);
        (void)FAULT_IN(__asm__ volatile(".byte 0xf3, 0x48, 0x0f, 0xae, 0xd0" : : "a"(0x77000 + round)));      /* wrfsbase */
        if (last_fault.hit)
            continue;
        __asm__ volatile(".byte 0xf3, 0x48, 0x0f, 0xae, 0xd8" : : "a"(0x88000 + round));     /* wrgsbase */
        block_for_a_while();
        CHECK(read_msr(msrs[0], &value) && value == 0x77000 + round);
        CHECK(read_msr(msrs[1], &value) && value == 0x88000 + round);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        CHECK(write_msr(msrs[i], 0));
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4));
#else
    SKIP("segments have bases of their own");
#endif
}

/* ---- What answers say ---- */

/* Puts something of its own into the hypervisor's stack. */
static void stir(u64 pattern)
{
    struct mmu_update requests[16];
    domid_t nobody = (domid_t)pattern;

    for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
        requests[i] = (struct mmu_update){ pattern, pattern };
    (void)mmu_update(requests, ARRAY_SIZE(requests), NULL, DOMID_SELF);
    (void)memory_op(XENMEM_maximum_reservation, &nobody);
    (void)copy_between((word)pattern, (word)pattern);
    (void)mmuext((unsigned)pattern, (word)pattern, (word)pattern);
}

/* Buffers of which an answer says the same twice have nothing in them but the answer. */
TEST(answers_hold_nothing_else)
{
    enum { ROOM = 2048 };
    static u8 first[ROOM], again[ROOM];

    for (unsigned cmd = XENVER_version; cmd <= XENVER_commandline2; cmd++) {
        memset(first, 0, ROOM);
        memset(again, 0, ROOM);
        stir(0x5151515151515151);
        (void)xen_version(cmd, first);
        stir(0xa3a3a3a3a3a3a3a3);
        (void)xen_version(cmd, again);
        if (!CHECK(!memcmp(first, again, ROOM)))
            printf("command %u\n", cmd);
    }
    for (unsigned i = 0; i < 2; i++) {
        stir(i ? 0x5151515151515151 : 0xa3a3a3a3a3a3a3a3);
        CHECK_OK(memory_op(XENMEM_machphys_mapping, i ? again : first));
    }
    CHECK(!memcmp(first, again, ROOM));
}
