/* Virtual CPUs: wrong numbers and contexts, a second vCPU's life, interrupts between two, and where vcpu_info lies. */
#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "test.h"
#include "vcpus.h"

static const unsigned bad_ids[] = { 4000, 8192, 0x7fffffff, 0xffffffff };

/* ---- vCPU 1 ---- */

static volatile u32 second_runs, second_asked, second_answered;
static volatile u8 second_fpu[16];
static volatile word second_dr7;

/* Counts as a sign of life; when asked, checks its own FPU state and answers. */
static void second_main(void)
{
    static u8 pattern[16] = "vCPU 1's own FPU";
    u8 now[16];

    write_once(vcpu_info(1)->evtchn_upcall_mask, 0);
    second_dr7 = (word)get_debugreg(7);
    __asm__ volatile("movdqu %0, %%xmm3" : : "m"(pattern));
    for (;;) {
        second_runs++;
        if (second_asked != second_answered) {
            __asm__ volatile("movdqu %%xmm3, %0" : "=m"(now));
            for (unsigned i = 0; i < 16; i++)
                second_fpu[i] = now[i];
            second_answered = second_asked;
        }
        sched_op(SCHEDOP_yield, NULL);
    }
}

static vcpu_guest_context *second_context(void) { return vcpu_context(1, second_main); }

static bool have_second(void)
{
    return vcpu_op(VCPUOP_is_up, 1, NULL) >= 0;
}

static bool wait_second(void)
{
    return CHECK(wait_change(&second_runs, second_runs, 5000 * MS));
}

/* ---- Numbers ---- */

TEST(is_up)
{
    CHECK_EQ(vcpu_op(VCPUOP_is_up, 0, NULL), 1);
    for (unsigned i = 0; i < ARRAY_SIZE(bad_ids); i++)
        CHECK_REFUSED(vcpu_op(VCPUOP_is_up, bad_ids[i], NULL));
}

TEST(bad_numbers)
{
    static u64 buffer[1024];

    for (unsigned i = 0; i < ARRAY_SIZE(bad_ids); i++)
        for (unsigned cmd = 0; cmd < 20; cmd++)
            CHECK_REFUSED(vcpu_op(cmd, bad_ids[i], buffer));
    for (unsigned cmd = VCPUOP_register_vcpu_time_memory_area + 1; cmd < 40; cmd++)
        CHECK_REFUSED(vcpu_op(cmd, 0, buffer));
}

TEST(running_vcpu)
{
    CHECK_REFUSED(vcpu_op(VCPUOP_initialise, 0, second_context())); /* it is us */
    CHECK_OK(vcpu_op(VCPUOP_up, 0, NULL));                         /* nothing to do */
    CHECK_EQ(vcpu_op(VCPUOP_is_up, 0, NULL), 1);
}

TEST(timers_of_others)
{
    GUEST(vcpu_set_singleshot_timer) op = { .timeout_abs_ns = 1 };

    if (!have_second())
        SKIP("one vCPU");
    CHECK_REFUSED(vcpu_op(VCPUOP_set_singleshot_timer, 1, &op)); /* for the vCPU itself only */
}

TEST(physical_id)
{
    struct vcpu_get_physid op;
    long rc = vcpu_op(VCPUOP_get_physid, 0, &op);

    if (!is_dom0())
        CHECK_REFUSED(rc);
    CHECK_EQ(vcpu_op(VCPUOP_is_up, 0, NULL), 1);
}

/* ---- Contexts ---- */

TEST(bad_contexts)
{
    vcpu_guest_context *c;

    if (!have_second())
        SKIP("one vCPU");
    CHECK_REFUSED(vcpu_op(VCPUOP_up, 1, NULL)); /* not initialised */
    CHECK_REFUSED(vcpu_op(VCPUOP_initialise, 1, (void *)(format.hv_start + 0x2000000)));
    c = second_context();
    c->ctrlreg[3] = 0xfee00000;
    CHECK_REFUSED(vcpu_op(VCPUOP_initialise, 1, c));
    c = second_context();
#ifdef FORMAT_PT64
    c->ctrlreg[3] = (u64)foreign_frame(0) << 12;
#else
    c->ctrlreg[3] = XEN_PFN_TO_CR3_32(foreign_frame(0));
#endif
    CHECK_REFUSED(vcpu_op(VCPUOP_initialise, 1, c));
#ifndef FORMAT_PT64
    c = second_context();
    c->ctrlreg[3] |= 0x20; /* an unaligned table: the bits count as high bits of the frame number */
    CHECK_REFUSED(vcpu_op(VCPUOP_initialise, 1, c));
#endif
    c = second_context();
    c->gdt_ents = FIRST_RESERVED_GDT_ENTRY + 1;
    CHECK_REFUSED(vcpu_op(VCPUOP_initialise, 1, c));
    c = second_context();
    c->gdt_ents = 512;
    c->gdt_frames[0] = foreign_frame(0);
    CHECK_REFUSED(vcpu_op(VCPUOP_initialise, 1, c));
    CHECK_EQ(vcpu_op(VCPUOP_is_up, 1, NULL), 0);
}

/* ---- Two at once ---- */

/*
 * User mode's tables among its context, as after a restore, without the M2P if the kernel wants that, and a breakpoint on I/O among its
 * debug registers.
 */
TEST(start_second)
{
    vcpu_guest_context *c;
#ifdef FORMAT_PT64
    unsigned slot = format.m2p_start >> 39 & 511;
    u64 *user_top;
#endif

    if (!have_second())
        SKIP("one vCPU");
    c = second_context();
    c->ctrlreg[4] = 8;      /* DE */
    c->debugreg[7] = 0xe0602;
#ifdef FORMAT_PT64
    user_top = page_alloc();
    make_readonly(user_top);
    REQUIRE_OK(pin(user_top, 4));
    CHECK(user_top[slot]);
    REQUIRE_OK(vm_assist(VMASST_CMD_enable, VMASST_TYPE_m2p_strict));
    c->ctrlreg[1] = (u64)virt_to_mfn(user_top) << 12;
#endif
    REQUIRE_OK(vcpu_op(VCPUOP_initialise, 1, c));
#ifdef FORMAT_PT64
    CHECK_EQ(user_top[slot], 0);
#endif
    CHECK_REFUSED(vcpu_op(VCPUOP_initialise, 1, second_context()));
    CHECK_EQ(vcpu_op(VCPUOP_is_up, 1, NULL), 0);
    CHECK_EQ(second_runs, 0);
    CHECK_OK(vcpu_op(VCPUOP_up, 1, NULL));
    wait_second();
    CHECK_EQ(second_dr7, 0xe0602);
    CHECK_EQ(vcpu_op(VCPUOP_is_up, 1, NULL), 1);
}

TEST(interrupt_second)
{
    long port;
    u32 before;

    if (!have_second() || !second_runs)
        SKIP("one vCPU");
    port = bind_ipi(1);
    REQUIRE(port > 0);
    for (unsigned i = 0; i < 10; i++) {
        before = event_count[port];
        CHECK_OK(send_port((unsigned)port));
        CHECK(wait_change(&event_count[port], before, 5000 * MS));
    }
    CHECK_OK(close_port((unsigned)port));
}

TEST(down_and_up)
{
    u32 runs;

    if (!have_second() || !second_runs)
        SKIP("one vCPU");
    CHECK_OK(vcpu_op(VCPUOP_down, 1, NULL));
    CHECK_EQ(vcpu_op(VCPUOP_is_up, 1, NULL), 0);
    sched_op(SCHEDOP_yield, NULL);
    for (u64 end = system_time() + 5 * MS; system_time() < end;)
        sched_op(SCHEDOP_yield, NULL);
    runs = second_runs;
    for (u64 end = system_time() + 5 * MS; system_time() < end;)
        sched_op(SCHEDOP_yield, NULL);
    CHECK_EQ(second_runs, runs);
    CHECK_OK(vcpu_op(VCPUOP_up, 1, NULL));
    wait_second();
}

/* A mapping that vCPU 1 may have in its TLB is gone on both once the call that flushes returns. */
TEST(flush_reaches_second)
{
    volatile u32 *va = window(0);
    u32 *a = page_alloc(), *b = page_alloc();
    word both = 3;

    if (!have_second() || !second_runs)
        SKIP("one vCPU");
    a[0] = 1;
    b[0] = 2;
    for (unsigned i = 0; i < 50; i++) {
        CHECK_OK(update_va_mapping(va, pte_make(virt_to_mfn(i % 2 ? a : b), PTE_READ), UVMF_INVLPG | P(&both)));
        CHECK_EQ(*va, i % 2 ? 1 : 2);
    }
    CHECK_OK(unmap_at(va));
    page_free(a);
    page_free(b);
    wait_second();
}

TEST(fpu_of_two)
{
    static u8 mine[16] = "vCPU 0 has its o", now[16];

    if (!have_second() || !second_runs)
        SKIP("one vCPU");
    __asm__ volatile("movdqu %0, %%xmm3" : : "m"(mine));
    for (unsigned i = 0; i < 20; i++) {
        second_asked++;
        wait_change(&second_answered, second_asked - 1, 5000 * MS);
    }
    __asm__ volatile("movdqu %%xmm3, %0" : "=m"(now));
    CHECK(!memcmp(now, mine, 16));
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(second_fpu[i], (u8)"vCPU 1's own FPU"[i]);
}

TEST(time_of_two)
{
    struct vcpu_time_info t0, t1;
    u64 now, a, b;

    if (!have_second() || !second_runs)
        SKIP("one vCPU");
    t0 = time_info(0);
    t1 = time_info(1);
    now = rdtsc(); /* read once: a busy host may stop us between two readings for longer than the clocks may differ */
    a = scale_tsc(&t0, now);
    b = scale_tsc(&t1, now);
    CHECK(b + 10 * MS > a && a + 10 * MS > b); /* one clock */
}

/* The second vCPU loses its mind: that ends the domain, or its vCPU, not the machine. Here only its state is read. */
TEST(runstate_of_second)
{
    GUEST(vcpu_runstate_info) r;

    if (!have_second() || !second_runs)
        SKIP("one vCPU");
    CHECK_OK(vcpu_op(VCPUOP_get_runstate_info, 1, &r));
    CHECK(r.state >= RUNSTATE_running && r.state <= RUNSTATE_offline);
    CHECK_OK(vcpu_op(VCPUOP_down, 1, NULL));
    for (u64 end = system_time() + 5000 * MS; system_time() < end;) {
        CHECK_OK(vcpu_op(VCPUOP_get_runstate_info, 1, &r));
        if (r.state == RUNSTATE_offline)
            break;
        sched_op(SCHEDOP_yield, NULL);
    }
    CHECK_EQ(r.state, RUNSTATE_offline);
}

/* ---- vcpu_info elsewhere ---- */

static long register_info(unsigned vcpu, word mfn, u32 offset)
{
    struct vcpu_register_vcpu_info op = { .mfn = mfn, .offset = offset };

    return vcpu_op(VCPUOP_register_vcpu_info, vcpu, &op);
}

TEST(register_info_bad)
{
    void *page = page_alloc();

    CHECK_REFUSED(register_info(0, virt_to_mfn(page), 4096));
    CHECK_REFUSED(register_info(0, virt_to_mfn(page), 4096 - 8)); /* would cross the page's end */
    CHECK_REFUSED(register_info(0, virt_to_mfn(page), ~0u));
    CHECK_REFUSED(register_info(0, virt_to_mfn(page), sizeof(word) / 2)); /* words of it are changed in one go */
    CHECK_REFUSED(register_info(0, foreign_frame(0), 0));
    CHECK_REFUSED(register_info(0, ~0UL, 0));
    CHECK_REFUSED(register_info(0, virt_to_mfn(table_of(window(0), 1)), 0));
    CHECK_OK(close_port((unsigned)bind_ipi(0))); /* the old place serves on */
    page_free(page);
}

/* Last of all, since vcpu_info() of the library looks at the old place. */
TEST(register_info_moves)
{
    u8 *page = page_alloc();
    GUEST(vcpu_info) *moved = (void *)(page + 128), *old = vcpu_info(0);
    u32 version;

    events_off();
    REQUIRE_OK(register_info(0, virt_to_mfn(page), 128));
    CHECK_EQ(moved->evtchn_upcall_mask, 1);
    CHECK(moved->time.tsc_to_system_mul != 0);
    CHECK_REFUSED(register_info(0, virt_to_mfn(page), 256)); /* once */
    make_readonly(page);
    CHECK_REFUSED(pin(page, 1)); /* the hypervisor writes to it */
    make_writable(page);
    version = moved->time.version;
    for (unsigned i = 0; i < 10; i++)
        sched_op(SCHEDOP_yield, NULL);
    CHECK(moved->time.version >= version);
    old->evtchn_upcall_pending = 0;
    (void)FAULT_IN(__asm__ volatile("ud2"));
    CHECK(last_fault.hit);
}
