/*
 * What a kernel that wants more than its due tries, and what has once worked on some hypervisor of this kind. Each test
 * fails if the call gets through; most of them would hang or stop the whole machine if it did.
 */
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

/*
 * L1TF: a CPU speculates with entries that are not present, and so reads whatever its cache has of the memory that they name. The
 * entries of non-PAE guests are never walked. (This suite runs with pv-l1tf=yes.)
 */
TEST(absent_entries)
{
    bool walked = format.pte_bytes == 8;
    u64 theirs = pte_make(foreign_frame(0), PTE_READ & ~PTE_P), far = 1ULL << 39 | PTE_RW;
    void *table = table_alloc();
    volatile pte_raw *slot = pte_at(table_of(window(0), 1), pte_index(window(0), 1));

    CHECK_OK(vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables));
    CHECK_EQ(pte_set((const void *)slot, theirs) < 0, walked);
    CHECK_EQ(update_va_mapping(window(0), theirs, UVMF_NONE) < 0, walked);
    if (walked) {
        CHECK_EQ(*slot, 0);
        CHECK_FAULT(VECTOR_PF, *slot = (pte_raw)theirs);
        CHECK_EQ(*slot, 0);
        CHECK_OK(pte_set((const void *)slot, far));     /* as Linux has it: no machine has memory there */
    }
    CHECK_OK(pte_set((const void *)slot, 0));
    CHECK_OK(map_writable(table));
    *(volatile pte_raw *)pte_at(table, 9) = (pte_raw)theirs;
    make_readonly(table);
    CHECK_EQ(pin(table, 1) < 0, walked);
    if (!walked)
        CHECK_OK(unpin(table));
    table_free(table);
}
