/*
 * A kernel that means harm and has no plan: its vCPUs make random calls on what it holds (fuzz/fuzz.h), while one that makes none sets the
 * others' event flags, so that calls give way at any point, and writes into their arguments. It is dom0, so it also makes domains, gives
 * them memory and nonsense to run, or this kernel, maps what is theirs, and destroys them.
 *
 * Words: rounds= steps of each vCPU, seed=, fuzzers= vCPUs that make calls (the others disturb), children= domains with this kernel at a
 * time, trace=1 tells each call. With one vCPU the sequence is the same in every run.
 */
#include "fuzz/fuzz.h"
#include "clock.h"
#include "events.h"
#include "string.h"
#include "test.h"
#include "vcpus.h"
#include <public/domctl.h>
#include <public/errno.h>
#include <public/sysctl.h>

static bool prepare(void)
{
    static bool done;

    if (!done)
        done = fuzz_prepare(number_word("seed", 4711));
    return done;
}

static bool noticed(word *at)
{
    bool seen;

    *at ^= 1;
    seen = vital_changed() != NULL;
    *at ^= 1;
    return seen && !vital_changed();
}

extern u8 _start[];

/* Or a fault that the kernel brought upon itself would be said to be the hypervisor's. */
TEST(damage_is_noticed)
{
    void *page;
    u64 was;

    REQUIRE(prepare());
    CHECK(vital_changed() == NULL);
    CHECK(noticed((word *)_start));
    CHECK(noticed((word *)&trap_table[3]));
    CHECK(noticed((word *)start_info));
    CHECK(noticed(&p2m[spare_pfn(0)]));
    CHECK(noticed(&model.fixed.roots[0]));
    page = arguments_of(&fuzz[0], 0, true);
    was = entry_of(page, 1);
    make_readonly(page);
    CHECK(vital_changed() != NULL);
    CHECK_OK(update_va_mapping(page, was, UVMF_INVLPG | UVMF_ALL));
    CHECK(vital_changed() == NULL);
}

static unsigned start_vcpus(void)
{
    unsigned n = 1;

    while (n < MAX_TEST_VCPUS && vcpu_op(VCPUOP_is_up, n, NULL) == 0)
        n++;
    model.vcpus = n;
    model.fuzzers = min(model.fuzzers, n);
    /* The last of several that make no calls is left for the calls to start. */
    for (unsigned i = 1; i < (n > model.fuzzers + 1 ? n - 1 : n); i++)
        CHECK_OK(vcpu_start(i, i < model.fuzzers ? fuzzer_main : idler_main));
    return n;
}

static bool others_stop(void)
{
    u64 end = fuzz_now() + 100000 * MS;

    fuzz_stops = true;
    while (fuzzers_stopped + 1 < model.fuzzers && fuzz_now() < end)
        sched_op(SCHEDOP_yield, NULL);
    return fuzzers_stopped + 1 == model.fuzzers;
}

TEST(random_calls)
{
    struct fuzz *z = &fuzz[0];
    const char *why;

    REQUIRE(prepare());
    trap_hook = fuzz_trap;
    write_once(vcpu_info(0)->evtchn_upcall_mask, 0);
    start_vcpus();
    steps_run(z, number_word("rounds", 30000));
    CHECK(others_stop());
    children_end();
    z->buffer = arguments_of(z, 0, true);
    for (unsigned i = 0; i < NR_OTHERS; i++)
        other_end(z, i);
    trap_hook = NULL;
    why = vital_changed();
    if (why)
        printf("PVTEST whose fault: the fuzzer's, %s\n", why);
    CHECK(why == NULL);
    counts_print();
    CHECK(calls_made() != 0);
    CHECK_FAULT(VECTOR_UD, __asm__ volatile("ud2"));
}

static u64 free_pages(void)
{
    struct xen_sysctl op = { .cmd = XEN_SYSCTL_physinfo, .interface_version = XEN_SYSCTL_INTERFACE_VERSION };

    return HYPERCALL(__HYPERVISOR_sysctl, P(&op)) ? 0 : op.u.physinfo.free_pages;
}

/* A domain that gets as far as it can: ports, a grant table, a context, vCPUs that run what happens to lie in its memory. */
static void live_and_die(struct fuzz *z)
{
    struct xen_domctl *op = (void *)z->buffer;
    GUEST(gnttab_setup_table) table = { .nr_frames = 1 + below(z, 4), .frame_list = P(z->buffer + 300) };

    other_make(z, 0);
    REQUIRE(model.other[0] != DOMID_INVALID);
    table.dom = model.other[0];
    (void)grant_table_op(GNTTABOP_setup_table, &table, 1);
    for (unsigned i = 0; i < 200; i++)
        (void)alloc_unbound(model.other[0], 0);
    for (unsigned i = 0; i < 4; i++) {
        memset(op, 0, sizeof(*op));
        op->domain = model.other[0];
        other_set_context(z, op);
        (void)fuzz_domctl(op);
        (void)update_va_mapping_otherdomain(window(i), pte_make(model.loose[below(z, NR_LOOSE)], PTE_READ), UVMF_NONE, model.other[0]);
    }
    memset(op, 0, sizeof(*op));
    op->domain = model.other[0];
    op->cmd = XEN_DOMCTL_unpausedomain;
    CHECK_OK(fuzz_domctl(op));
    for (unsigned i = 0; i < 4; i++)
        sched_op(SCHEDOP_yield, NULL);
    other_end(z, 0);
    for (unsigned i = 0; i < 4; i++)
        CHECK_OK(unmap_at(window(i)));
}

/* Frames that wait for a flush on another CPU are free a little later. */
static u64 free_pages_at_rest(void)
{
    u64 pages, end;

    do {
        pages = free_pages();
        for (end = fuzz_now() + 200 * MS; fuzz_now() < end;)
            sched_op(SCHEDOP_yield, NULL);
    } while (free_pages() != pages);
    return pages;
}

/* Whatever a domain had, the machine has again when it is gone; and that is soon. */
TEST(domains_leave_nothing)
{
    struct fuzz *z = &fuzz[0];
    u64 before = 0, end;

    if (!is_dom0())
        SKIP("others are none of a domU's business");
    REQUIRE(prepare());
    seed_step(z, 4711, 0);
    z->buffer = arguments_of(z, 0, true);
    for (unsigned round = 0; round < 30; round++) {
        live_and_die(z);
        if (round == 4)         /* what the hypervisor keeps after the first ones */
            before = free_pages_at_rest();
    }
    end = fuzz_now() + 5000 * MS;
    while (free_pages() != before && fuzz_now() < end)
        sched_op(SCHEDOP_yield, NULL);
    CHECK_EQ(free_pages(), before);
}

/* A saved domain's clock that does not fit: the hypervisor would divide by it each time the domain runs. */
TEST(absurd_clocks)
{
    static const struct { u64 elapsed; u32 khz; bool fine; } clocks[] = {
        { ~0ULL, ~0u, false }, { ~0ULL, 0, false }, { 1ULL << 63, 2000000, false }, { 0, ~0u, false }, { 0, 1, false },
        { 1ULL << 50, 2000000, true }, { 0, 0, true },
    };
    struct fuzz *z = &fuzz[0];
    struct xen_domctl *op;

    if (!is_dom0())
        SKIP("others are none of a domU's business");
    REQUIRE(prepare());
    seed_step(z, 4711, 0);
    z->buffer = arguments_of(z, 0, true);
    other_make(z, 0);
    REQUIRE(model.other[0] != DOMID_INVALID);
    op = (void *)z->buffer;
    for (unsigned i = 0; i < ARRAY_SIZE(clocks); i++) {
        memset(op, 0, sizeof(*op));
        op->cmd = XEN_DOMCTL_settscinfo;
        op->domain = model.other[0];
        op->u.tsc_info.tsc_mode = 1;
        op->u.tsc_info.elapsed_nsec = clocks[i].elapsed;
        op->u.tsc_info.gtsc_khz = clocks[i].khz;
        CHECK((fuzz_domctl(op) == 0) == clocks[i].fine);
    }
    other_end(z, 0);
}
