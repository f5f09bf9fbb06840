/* What each primitive of the PV interface costs, by a kernel that is started as dom0 (or a domU). */
#include "bench.h"
#include "events.h"
#include "string.h"
#include "user.h"
#include <public/sysctl.h>

extern u8 bench_skip_fault[], bench_skip_ud[], bench_syscall[], bench_demand_fault[];
extern u8 user_syscall_loop[], user_syscall_loop_end[], user_fault_loop[], user_fault_loop_end[];

/* Not timed: when we began, and the pages that are free or ours. First, so that nothing else ran before. */
TEST(start)
{
    static struct xen_sysctl op = { .cmd = XEN_SYSCTL_physinfo, .interface_version = XEN_SYSCTL_INTERFACE_VERSION_4_17 };

    printf("BENCH started %llu\n", (unsigned long long)rdtsc());
    REQUIRE_OK(HYPERCALL(__HYPERVISOR_sysctl, P(&op)));
    printf("BENCH used_pages %llu\n", (unsigned long long)(op.u.physinfo.free_pages + start_info->nr_pages));
}

TEST(hypercall)
{
    REQUIRE(CALL(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0) > 0);
    BENCH("hypercall", 1, CALL(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0));
}

TEST(multicall)
{
    static GUEST(multicall_entry) calls[BATCH];

    for (unsigned i = 0; i < BATCH; i++)
        calls[i].op = __HYPERVISOR_xen_version;
    REQUIRE_OK(CALL(__HYPERVISOR_multicall, calls, BATCH, 0, 0));
    BENCH("multicall", BATCH, CALL(__HYPERVISOR_multicall, calls, BATCH, 0, 0));
}

/* Alternately two frames of ours at one address, as a kernel maps and unmaps. */
TEST(update_va_mapping)
{
    void *va = window(0);
    u64 pte[2] = { pte_make(virt_to_mfn(page_alloc()), PTE_DATA), pte_make(virt_to_mfn(page_alloc()), PTE_DATA) };

    REQUIRE_OK(update_va_mapping(va, pte[0], UVMF_INVLPG));
#ifdef FORMAT_PT64
    BENCH("update_va_mapping", 1, CALL(__HYPERVISOR_update_va_mapping, va, pte[~i & 1], UVMF_INVLPG, 0));
    BENCH("update_va_mapping_prot", 1,
          CALL(__HYPERVISOR_update_va_mapping, va, pte[0] ^ (i & 1 ? 0 : PTE_RW), UVMF_INVLPG, 0));
#else
    BENCH("update_va_mapping", 1, CALL(__HYPERVISOR_update_va_mapping, va, pte[~i & 1], pte[~i & 1] >> 32, UVMF_INVLPG));
#endif
    unmap_at(va);
}

static void handler(unsigned vector, const u8 *entry)
{
    trap_table[vector].address = (word)entry;
    REQUIRE_OK(set_trap_table(trap_table));
}

static void entry_requests(struct mmu_update *req, void *pages[2])
{
    static u32 fresh;

    if (!pages[0]) {
        pages[0] = page_alloc();
        pages[1] = page_alloc();
    }
    fresh++;
    for (unsigned i = 0; i < BATCH; i++) {
        build_tables(window(i));
        req[i].ptr = virt_to_maddr(table_of(window(i), 1)) + pte_index(window(i), 1) * format.pte_bytes;
        req[i].val = pte_make(virt_to_mfn(pages[fresh & 1]), PTE_DATA);
    }
}

TEST(mmu_update)
{
    static struct mmu_update req[2][BATCH];
    static void *pages[2];
    unsigned done;

    entry_requests(req[0], pages);
    entry_requests(req[1], pages);
    REQUIRE_OK(mmu_update(req[0], BATCH, &done, DOMID_SELF));
    CALL(__HYPERVISOR_mmu_update, req[1], 1, 0, DOMID_SELF);
    BENCH("mmu_update", 1, CALL(__HYPERVISOR_mmu_update, req[i & 1], 1, 0, DOMID_SELF));
    mmu_update(req[1], BATCH, &done, DOMID_SELF);
    BENCH("mmu_update_batch", BATCH, CALL(__HYPERVISOR_mmu_update, req[i & 1], BATCH, 0, DOMID_SELF));
    for (unsigned i = 0; i < BATCH; i++)
        unmap_at(window(i));
}

/* The store that Linux makes through its read-only mapping of a page table: a fault, and our emulation. */
TEST(pte_write)
{
    volatile pte_raw *entry;
    u64 pte[2] = { pte_make(virt_to_mfn(page_alloc()), PTE_DATA), pte_make(virt_to_mfn(page_alloc()), PTE_DATA) };

    build_tables(window(0));
    entry = (volatile pte_raw *)table_of(window(0), 1) + pte_index(window(0), 1);
    *entry = (pte_raw)pte[1];
    REQUIRE(frame_at(window(0)) == pte_mfn(pte[1]));
#ifndef FORMAT_PT32P
    BENCH("pte_write", 1, *entry = (pte_raw)pte[i & 1]);
#else
    /* In one piece: CMPXCHG8B. The rounds have an even number of loops. */
    BENCH("pte_write", 1, (void)__sync_bool_compare_and_swap(entry, pte[~i & 1], pte[i & 1]));
    REQUIRE(*entry == pte[1]);
#endif
    unmap_at(window(0));
}

u64 bench_demand_pte;

/* What the handler maps is gone again before each round, and not known to the CPU. */
static void forget_pages(void)
{
    for (unsigned i = 0; i < LOOPS; i++)
        REQUIRE_OK(update_va_mapping(window(i), 0, UVMF_INVLPG));
}

/* A kernel's demand page fault: the handler maps a page by update_va_mapping, returns, and the write goes through. */
static void bench_demand(const char *name, u64 flags)
{
    u64 best = ~0ULL, empty = loop_cost();

    for (unsigned i = 0; i < LOOPS; i++)
        build_tables(window(i));
    bench_demand_pte = pte_make(virt_to_mfn(page_alloc()), flags);
    handler(VECTOR_PF, bench_demand_fault);
    for (unsigned round = 0; round < ROUNDS; round++) {
        forget_pages();
        u64 t = rdtsc();
        for (unsigned i = 0; i < LOOPS; i++) {
            __asm__ volatile("" : "+r"(i) : : "memory");
            *(volatile u32 *)window(i) = 0;
        }
        t = rdtsc() - t;
        best = t < best ? t : best;
    }
    REQUIRE(frame_at(window(LOOPS - 1)) == pte_mfn(bench_demand_pte));
    report(name, best - empty, LOOPS);
    forget_pages();
}

/* As Linux maps pages, and as kernels do that let the CPU set accessed and dirty. */
TEST(demand_fault) { bench_demand("demand_fault", PTE_DATA | PTE_US); }
TEST(demand_fault_clean) { bench_demand("demand_fault_clean", PTE_P | PTE_RW | PTE_US); }

/* An L2 over one L1, all of whose entries map a page writable. */
TEST(pin)
{
    void *l1 = page_alloc(), *l2 = page_alloc();
    word data[8];
    unsigned n = pte_count(1);

    for (unsigned k = 0; k < 8; k++)
        data[k] = virt_to_mfn(page_alloc());
    for (unsigned k = 0; k < n; k++)
        ((pte_raw *)l1)[k] = (pte_raw)pte_make(data[k % 8], PTE_DATA);
    ((pte_raw *)l2)[0] = (pte_raw)pte_make(virt_to_mfn(l1), PTE_TABLE);
    make_readonly(l1);
    make_readonly(l2);
    REQUIRE_OK(pin(l2, 2));
    REQUIRE_OK(unpin(l2));
    GUEST(mmuext_op) op[2] = {
        { .cmd = MMUEXT_PIN_L2_TABLE, .arg1 = virt_to_mfn(l2) }, { .cmd = MMUEXT_UNPIN_TABLE, .arg1 = virt_to_mfn(l2) },
    };
    BENCH("pin_unpin", 1, CALL(__HYPERVISOR_mmuext_op, op, 2, 0, DOMID_SELF));
    make_writable(l2);
    make_writable(l1);
}

static void bench_ext(const char *name, unsigned cmd, word arg)
{
    GUEST(mmuext_op) op = { .cmd = cmd, .arg1 = arg };

    REQUIRE_OK(CALL(__HYPERVISOR_mmuext_op, &op, 1, 0, DOMID_SELF));
    BENCH(name, 1, CALL(__HYPERVISOR_mmuext_op, &op, 1, 0, DOMID_SELF));
}

TEST(tlb_flush) { bench_ext("tlb_flush", MMUEXT_TLB_FLUSH_LOCAL, 0); }
TEST(invlpg) { bench_ext("invlpg", MMUEXT_INVLPG_LOCAL, (word)window(0)); }

TEST(new_baseptr)
{
    GUEST(mmuext_op) op[2] = { { .cmd = MMUEXT_NEW_BASEPTR }, { .cmd = MMUEXT_NEW_BASEPTR } };
    void *top = copy_top();

    op[0].arg1 = virt_to_mfn(top);
    op[1].arg1 = current_base();
    REQUIRE_OK(pin(top, top_level()));
    REQUIRE_OK(CALL(__HYPERVISOR_mmuext_op, &op[0], 1, 0, DOMID_SELF));
    REQUIRE_OK(CALL(__HYPERVISOR_mmuext_op, &op[1], 1, 0, DOMID_SELF));
    BENCH("new_baseptr", 1, CALL(__HYPERVISOR_mmuext_op, &op[i & 1], 1, 0, DOMID_SELF));
    CALL(__HYPERVISOR_mmuext_op, &op[1], 1, 0, DOMID_SELF);
    unpin(top);
    free_top(top);
}

/*
 * What a kernel does when another process runs: in 64 bits, user space has a root of its own. One that keeps its root in
 * PAE changes three of its entries instead (NetBSD).
 */
TEST(address_switch)
{
    GUEST(mmuext_op) op[2][2] = { { { .cmd = MMUEXT_NEW_BASEPTR }, { .cmd = MMUEXT_NEW_USER_BASEPTR } },
                                  { { .cmd = MMUEXT_NEW_BASEPTR }, { .cmd = MMUEXT_NEW_USER_BASEPTR } } };
    unsigned n = top_level() == 4 ? 2 : 1;
    void *top = copy_top();

    op[0][0].arg1 = op[0][1].arg1 = virt_to_mfn(top);
    op[1][0].arg1 = op[1][1].arg1 = current_base();
    REQUIRE_OK(pin(top, top_level()));
    REQUIRE_OK(CALL(__HYPERVISOR_mmuext_op, op[0], n, 0, DOMID_SELF));
    REQUIRE_OK(CALL(__HYPERVISOR_mmuext_op, op[1], n, 0, DOMID_SELF));
    BENCH("address_switch", 1, CALL(__HYPERVISOR_mmuext_op, op[i & 1], n, 0, DOMID_SELF));
    CALL(__HYPERVISOR_mmuext_op, op[1], n, 0, DOMID_SELF);
    unpin(top);
    free_top(top);
}

#ifdef FORMAT_PT32P
TEST(top_entries)
{
    static struct mmu_update req[2][3];
    GUEST(mmuext_op) flush = { .cmd = MMUEXT_TLB_FLUSH_LOCAL };
    void *table[2] = { table_alloc(), table_alloc() }, *base = mfn_to_virt(current_base());

    for (unsigned k = 0; k < 2; k++) {
        for (unsigned slot = 0; slot < 3; slot++) {
            req[k][slot].ptr = virt_to_maddr(pte_at(base, slot));
            req[k][slot].val = slot ? pte_make(virt_to_mfn(table[k]), PTE_P) : pte_get(base, 0);
        }
        REQUIRE_OK(pin(table[k], 2));
        REQUIRE_OK(CALL(__HYPERVISOR_mmu_update, req[k], 3, 0, DOMID_SELF));
    }
    BENCH("top_entries", 1, {
        CALL(__HYPERVISOR_mmu_update, req[i & 1], 3, 0, DOMID_SELF);
        CALL(__HYPERVISOR_mmuext_op, &flush, 1, 0, DOMID_SELF);
    });
}
#endif

TEST(stack_switch)
{
    static u8 stack[4096];

    BENCH("stack_switch", 1, CALL(__HYPERVISOR_stack_switch, KERNEL_SS, stack + sizeof(stack), 0, 0));
}

/* Not delivered: events stay masked, and the port is made idle again after each. */
TEST(event_send)
{
    long port = alloc_unbound(DOMID_SELF, DOMID_SELF), other;
    struct evtchn_send op;
    volatile word *pending;

    REQUIRE(port > 0);
    other = bind_interdomain(DOMID_SELF, (unsigned)port);
    REQUIRE(other > 0);
    op.port = (u32)other;
    pending = (volatile word *)&shared_info->evtchn_pending.word[port / (8 * sizeof(word))];
    events_off();
    BENCH("event_send", 1, {
        *pending = 0;
        shared_info->vcpu_info[0].evtchn_pending_sel = 0;
        shared_info->vcpu_info[0].evtchn_upcall_pending = 0;
        CALL(__HYPERVISOR_event_channel_op, EVTCHNOP_send, &op, 0, 0);
    });
    *pending = 0;
    events_on();
}

TEST(page_fault)
{
    handler(VECTOR_PF, bench_skip_fault);
    BENCH("page_fault", 1, __asm__ volatile("movl %%eax, (%0)" : : "b"(window(9)) : "memory"));
}

TEST(invalid_opcode)
{
    handler(VECTOR_UD, bench_skip_ud);
    BENCH("invalid_opcode", 1, __asm__ volatile("ud2"));
}

#ifdef FORMAT_PT64
static void bench_user(const char *name, const u8 *code, const u8 *end, u64 own)
{
    struct fault f = user_run(code, (unsigned)(end - code));

    REQUIRE(f.hit && f.vector == VECTOR_UD);
    report(name, f.regs.r8 - own * LOOPS, LOOPS);
}

/* User to kernel and back: two changes of page tables. */
TEST(user_syscall)
{
    struct callback_register_l64 reg = { .type = CALLBACKTYPE_syscall, .eip = (word)bench_syscall };

    REQUIRE_OK(callback_op(CALLBACKOP_register, &reg));
    bench_user("user_syscall", user_syscall_loop, user_syscall_loop_end, 2);
}

TEST(user_page_fault)
{
    handler(VECTOR_PF, bench_skip_fault);
    bench_user("user_page_fault", user_fault_loop, user_fault_loop_end, 2);
}
#endif

TEST(read_cr3)
{
    word cr3;

    BENCH("read_cr3", 1, __asm__ volatile("mov %%cr3, %0" : "=r"(cr3)));
    (void)cr3;
}

TEST(rdmsr)
{
    BENCH("rdmsr", 1, __asm__ volatile("rdmsr" : : "c"(0xc0000080) : "eax", "edx"));
}

TEST(forced_cpuid)
{
    BENCH("forced_cpuid", 1, {
        word a = 0;
        __asm__ volatile("ud2; .ascii \"xen\"; cpuid" : "+a"(a) : : "ebx", "ecx", "edx");
    });
}

TEST(timer)
{
    u64 far = system_time() + 3600000 * MS;

#ifdef FORMAT_PT64
    BENCH("timer_set", 1, CALL(__HYPERVISOR_set_timer_op, far + i, 0, 0, 0));
#else
    BENCH("timer_set", 1, CALL(__HYPERVISOR_set_timer_op, (u32)far + i, far >> 32, 0, 0));
#endif
    set_timer_op(0);
}

TEST(console)
{
    BENCH("console_byte", 1, CALL(__HYPERVISOR_console_io, CONSOLEIO_write, 1, "\r", 0));
}

TEST(fpu_switch)
{
    BENCH("fpu_taskswitch", 1, CALL(__HYPERVISOR_fpu_taskswitch, i & 1, 0, 0, 0));
    fpu_taskswitch(0);
    BENCH("fpu_lazy", 1, {
        CALL(__HYPERVISOR_fpu_taskswitch, 1, 0, 0, 0);
        CALL(__HYPERVISOR_fpu_taskswitch, 0, 0, 0, 0);
        __asm__ volatile("fnop");
    });
}

TEST(descriptor)
{
    u64 *gdt = page_alloc();
    word frame = virt_to_mfn(gdt);
    u64 at = virt_to_maddr(gdt) + 8;

    make_readonly(gdt);
    REQUIRE_OK(set_gdt(&frame, 512));
#ifdef FORMAT_PT64
    BENCH("update_descriptor", 1, CALL(__HYPERVISOR_update_descriptor, at, 0x00cff3000000ffffULL + (i & 1), 0, 0));
#else
    BENCH("update_descriptor", 1, CALL(__HYPERVISOR_update_descriptor, at, at >> 32, 0xffff + (i & 1), 0x00cff300));
#endif
    BENCH("set_gdt", 1, CALL(__HYPERVISOR_set_gdt, &frame, 512, 0, 0));
    set_gdt(NULL, 0);
    bench_ext("set_ldt", MMUEXT_SET_LDT, 0);
}

TEST(segment_base)
{
#ifdef FORMAT_PT64
    BENCH("set_segment_base", 1, CALL(__HYPERVISOR_set_segment_base, SEGBASE_FS, 0x1000, 0, 0));
#endif
}

TEST(yield)
{
    BENCH("yield", 1, CALL(__HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0, 0));
}

/* --- Grants to ourselves --- */

/* Our own number, as an event channel between two of our ports shows it. */
static domid_t own_domid(void)
{
    struct evtchn_status status;
    long a = alloc_unbound(DOMID_SELF, DOMID_SELF), b = bind_interdomain(DOMID_SELF, (unsigned)a);

    port_status((unsigned)a, &status);
    close_port((unsigned)a);
    close_port((unsigned)b);
    return status.u.interdomain.dom;
}

static bool prepare_own_grants(void)
{
    domid_t self = own_domid();
    grant_ref_t ref[BATCH];

    for (unsigned k = 0; k < BATCH; k++)
        ref[k] = grant_page(self, page_alloc());
    return prepare_grants(self, ref);
}

TEST(grant_map)
{
    REQUIRE(prepare_own_grants());
    BENCH("grant_map", 1, map_and_unmap(1));
}

TEST(grant_map_batch)
{
    REQUIRE(prepare_own_grants());
    BENCH("grant_map_batch", BATCH, map_and_unmap(BATCH));
}

TEST(grant_copy)
{
    REQUIRE(prepare_own_grants());
    BENCH("grant_copy", BATCH, copy_grants());
}

static volatile word *round_word;
static u32 rounds_seen;

static void round_upcall(unsigned vcpu)
{
    rounds_seen++;
    *round_word = 0;
    shared_info->vcpu_info[vcpu].evtchn_pending_sel = 0;
    shared_info->vcpu_info[vcpu].evtchn_upcall_pending = 0;
}

/* The whole way: send, upcall, a handler that looks for nothing, return. */
TEST(event_round)
{
    long port = alloc_unbound(DOMID_SELF, DOMID_SELF), other;
    struct evtchn_send op;

    REQUIRE(port > 0);
    other = bind_interdomain(DOMID_SELF, (unsigned)port);
    REQUIRE(other > 0);
    op.port = (u32)other;
    round_word = (volatile word *)&shared_info->evtchn_pending.word[port / (8 * sizeof(word))];
    upcall = round_upcall;
    BENCH("event_round", 1, CALL(__HYPERVISOR_event_channel_op, EVTCHNOP_send, &op, 0, 0));
    CHECK(rounds_seen >= LOOPS * 8);
    upcall = scan_two_level;
}
