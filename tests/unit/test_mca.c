/* Corrected machine checks: from the banks of each CPU into the queue, and from there to dom0, in the order in which they were found. */
// SOURCES: tests/unit/fake/cpuid.c common/mca.c common/abi.c common/lib/text.c tests/unit/fake/machine.c tests/unit/fake/log.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../arch/x86/cpu/mcheck.c"
#include <public/errno.h>
#include <pvisor/hypercall.h>
#include <pvisor/guest.h>
#include "fake/fake.h"
#include "fake/log.h"

#define CPUS 3u
#define BANKS 10u
#define CORRECTED (MC_STATUS_VALID | 0x90)
#define FATAL (MC_STATUS_VALID | MC_STATUS_UNCORRECTED | 0xb0)

struct cpu_host cpu_host;
u32 cpu_apic_ids[NR_CPUS] = { 0, 2, 4 };
static u64 msr[CPUS][0x500], now;
static unsigned virqs;

int rdmsr_safe(u32 n, u64 *v) { return n < 0x500 ? (void)(*v = msr[this_cpu_id()][n]), 0 : -EFAULT; }
int wrmsr_safe(u32 n, u64 v) { return n < 0x500 ? (void)(msr[this_cpu_id()][n] = v), 0 : -EFAULT; }
u64 now_ns(void) { return now; }
void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu) { t->fn = fn, t->data = data, t->cpu = (u16)cpu; }
void timer_set(struct timer *t, u64 expires) { t->expires = expires; }
void smp_call(const cpumask_t *cpus, void (*fn)(void *), void *data)
{
    unsigned cpu, self = this_cpu_id();

    for_each_cpu(cpu, cpus) {
        fake_set_cpu(cpu);
        if (cpu != self)
            fn(data);
    }
    fake_set_cpu(self);
}
static void count_virq(u32 virq) { virqs += virq == VIRQ_MCA; }

static struct mca_call {
    u32 cmd, version;
    union { struct xen_mc_fetch_l64 f64; struct xen_mc_fetch_l32 f32; u8 room[24]; } u;
} *call;
static struct mc_info *info;
static enum abi_word word;

static void fresh_of(enum abi_word w)
{
    fake_reset();
    log_clear();
    word = w;
    fake_run(fake_domain(0, w, 1, true), 0);
    current->domain->is_hardware = true;
    fake_set_cpu(0);
    cpumask_zero(&cpu_online_map);
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        cpumask_set(&cpu_online_map, cpu);
    memset(msr, 0, sizeof(msr));
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        msr[cpu][MSR_MCG_CAP] = BANKS;
    taken = found = 0;
    virqs = 0;
    at_boot = true;
    cpu_host.feat[X86_FEATURE_MCA / 32] |= 1u << X86_FEATURE_MCA % 32;
}
static int fresh(void **state) { (void)state; fresh_of(ABI_64); return 0; }
static int fresh_32(void **state) { (void)state; fresh_of(ABI_32); return 0; }

static void pass(unsigned seconds)
{
    now += SECONDS(seconds);
    if (now >= timer.expires)
        timer.fn(timer.data);
}

static s64 fetch_by(u32 flags, u64 id)
{
    static gva_t at, to;
    struct xen_mc_fetch f = { .flags = flags, .fetch_id = id };
    s64 rc;

    at = fake_guest_alloc(PAGE_SIZE);
    to = fake_guest_alloc(PAGE_SIZE);
    call = fake_guest(at);
    info = fake_guest(to);
    f.data = to.v;
    call->cmd = XEN_MC_fetch;
    call->version = XEN_MCA_INTERFACE_VERSION;
    assert_true(abi_encode(word, &xen_mc_fetch_desc, &call->u, &f));
    rc = do_mca(at.v, 0, 0, 0, 0, 0);
    abi_decode(word, &xen_mc_fetch_desc, &f, &call->u);
    return rc ? rc : f.flags == XEN_MC_NODATA ? 0 : (s64)f.fetch_id;
}

static const struct mcinfo_global *global(void) { return (void *)info->mi_data; }
static const struct mcinfo_bank *bank(void) { return (const void *)((const u8 *)info->mi_data + global()->common.size); }

static void errors_of_all_cpus_reach_dom0_in_order(void **state)
{
    (void)state;
    mcheck_init(count_virq);
    assert_int_equal(fetch_by(XEN_MC_NONURGENT, 0), 0);
    assert_int_equal(virqs, 0);
    msr[0][MSR_MC_STATUS(9)] = CORRECTED;
    msr[2][MSR_MC_STATUS(1)] = CORRECTED | MC_STATUS_HAS_ADDR;
    msr[2][MSR_MC_ADDR(1)] = 0x12345678000;
    msr[2][MSR_MC_MISC(1)] = 99;
    pass(29);
    assert_int_equal(virqs, 0);
    pass(1);
    assert_int_equal(virqs, 1);
    assert_int_equal(msr[2][MSR_MC_STATUS(1)], 0);
    assert_non_null(strstr(log_text, "CPU2, bank 1: a corrected error, status 0x8400000000000090, address 0x12345678000, misc 0"));
    for (unsigned again = 0; again < 2; again++) {
        assert_int_equal(fetch_by(XEN_MC_NONURGENT, 0), 1);
        assert_int_equal(global()->common.type, MC_TYPE_GLOBAL);
        assert_int_equal(bank()->common.type, MC_TYPE_BANK);
        assert_int_equal(bank()->common.size, sizeof(struct mcinfo_bank));
        assert_int_equal(bank()->mc_bank, 9);
        assert_int_equal(global()->mc_apicid, 0);
    }
    assert_int_equal(fetch_by(XEN_MC_NONURGENT | XEN_MC_ACK, 1), 1);
    assert_int_equal(fetch_by(XEN_MC_NONURGENT, 0), 2);
    assert_int_equal(info->mi_nentries, 2);
    assert_int_equal(global()->mc_apicid, 4);
    assert_int_equal(global()->mc_flags, MC_FLAG_CORRECTABLE | MC_FLAG_POLLED);
    assert_int_equal(bank()->mc_addr, 0x12345678000);
    assert_int_equal(bank()->mc_misc, 0);
    assert_int_equal(fetch_by(XEN_MC_NONURGENT | XEN_MC_ACK, 2), 2);
    assert_int_equal(fetch_by(XEN_MC_NONURGENT, 0), 0);
}

static void wrong_fetches_are_refused(void **state)
{
    (void)state;
    msr[0][MSR_MC_STATUS(0)] = CORRECTED;
    mcheck_init(count_virq);
    assert_int_equal(fetch_by(0, 0), -EINVAL);
    assert_int_equal(fetch_by(XEN_MC_URGENT | XEN_MC_NONURGENT, 0), -EINVAL);
    assert_int_equal(fetch_by(XEN_MC_NONURGENT | 8, 0), -EINVAL);
    assert_int_equal(fetch_by(XEN_MC_URGENT, 0), 0);
    assert_int_equal(fetch_by(XEN_MC_NONURGENT | XEN_MC_ACK, 2), -EINVAL);
    assert_int_equal(fetch_by(XEN_MC_URGENT | XEN_MC_ACK, 1), -EINVAL);
    assert_int_equal(fetch_by(XEN_MC_NONURGENT | XEN_MC_ACK, 1), 1);
    assert_int_equal(fetch_by(XEN_MC_NONURGENT | XEN_MC_ACK, 1), -EINVAL);
}

/* What is fatal comes as an exception, whose handler reads it; but what was in the banks when the machine came up is told. */
static void uncorrected_ones_are_read_at_the_start_alone(void **state)
{
    (void)state;
    msr[1][MSR_MC_STATUS(3)] = FATAL;
    mcheck_init(count_virq);
    assert_int_equal(fetch_by(XEN_MC_NONURGENT, 0), 1);
    assert_int_equal(global()->mc_flags, MC_FLAG_UNCORRECTABLE | MC_FLAG_RESET);
    assert_non_null(strstr(log_text, "an uncorrected error from before the start"));
    msr[1][MSR_MC_STATUS(3)] = FATAL;
    pass(30);
    assert_int_equal(msr[1][MSR_MC_STATUS(3)], FATAL);
    assert_int_equal(found, 1);
}

static void a_full_queue_keeps_the_first(void **state)
{
    unsigned rounds = 0;

    (void)state;
    mcheck_init(count_virq);
    for (; !strstr(log_text, "dom0 has not taken the 64 before it, so it is in this log alone"); rounds++) {
        assert_true(found < QUEUE || rounds == QUEUE / PER_LOOK);
        for (u32 i = 0; i < BANKS; i++)
            msr[1][MSR_MC_STATUS(i)] = CORRECTED + rounds;
        pass(30);
        assert_true(rounds < 20);
        assert_int_equal(msr[1][MSR_MC_STATUS(PER_LOOK)], CORRECTED + rounds);     /* there is a next look */
    }
    for (u64 id = 1; id <= QUEUE; id++) {
        assert_int_equal(fetch_by(XEN_MC_NONURGENT, 0), id);
        assert_int_equal(bank()->mc_status, CORRECTED + (id - 1) / PER_LOOK);
        assert_int_equal(fetch_by(XEN_MC_NONURGENT | XEN_MC_ACK, id), id);
    }
    assert_int_equal(fetch_by(XEN_MC_NONURGENT, 0), 0);
}

static void banks_that_are_not_there_are_left_alone(void **state)
{
    (void)state;
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        msr[cpu][MSR_MCG_CAP] = 4;
    msr[0][MSR_MC_STATUS(4)] = CORRECTED;
    mcheck_init(count_virq);
    assert_int_equal(found, 0);
    cpu_host.feat[X86_FEATURE_MCA / 32] = 0;
    msr[0][MSR_MC_STATUS(0)] = CORRECTED;
    timer.fn = NULL;
    mcheck_init(count_virq);
    assert_int_equal(found, 0);
    assert_null(timer.fn);
}

#define BOTH(test) { #test " (64)", test, fresh, NULL, NULL }, { #test " (32)", test, fresh_32, NULL, NULL }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(errors_of_all_cpus_reach_dom0_in_order),
        BOTH(wrong_fetches_are_refused),
        BOTH(uncorrected_ones_are_read_at_the_start_alone),
        BOTH(a_full_queue_keeps_the_first),
        BOTH(banks_that_are_not_there_are_left_alone),
    };

    return cmocka_run_group_tests_name("mca", tests, NULL, NULL);
}
