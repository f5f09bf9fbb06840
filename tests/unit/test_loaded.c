/* Registers that each CPU remembers: what it remembers is what it has, whatever it had when it started or came back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The machine's registers are ours. */
#define write_cr0 machine_write_cr0
#define write_cr4 machine_write_cr4
#define write_xcr0 machine_write_xcr0
#define write_dr6 machine_write_dr6
#define write_dr7 machine_write_dr7
#define clts machine_clts
#define wrmsr machine_wrmsr
#include <asm/x86.h>
#undef write_cr0
#undef write_cr4
#undef write_xcr0
#undef write_dr6
#undef write_dr7
#undef clts
#undef wrmsr

#define CPUS 2
#define ROUNDS 20000

static struct registers { u64 cr0, cr4, xcr0, dr6, dr7, tsc_aux, spec_ctrl; } machine[CPUS];
static unsigned here, writes;

static void put(u64 *reg, u64 v) { *reg = v; writes++; }
static void write_cr0(u64 v) { put(&machine[here].cr0, v); }
static void write_cr4(u64 v) { put(&machine[here].cr4, v); }
static void write_xcr0(u64 v) { put(&machine[here].xcr0, v); }
static void write_dr6(u64 v) { put(&machine[here].dr6, v); }
static void write_dr7(u64 v) { put(&machine[here].dr7, v); }
static void clts(void) { put(&machine[here].cr0, machine[here].cr0 & ~CR0_TS); }

static void wrmsr(u32 msr, u64 v)
{
    assert_true(msr == MSR_TSC_AUX || msr == MSR_SPEC_CTRL);
    put(msr == MSR_TSC_AUX ? &machine[here].tsc_aux : &machine[here].spec_ctrl, v);
}

#include "../../arch/x86/cpu/loaded.c"

struct cpu_host cpu_host;
static struct cpu_info cpus[CPUS];
static u32 ours;

struct cpu_info *cpu_info(void) { return &cpus[here]; }
u32 spec_ctrl_ours(void) { return ours; }

static void give(enum x86_feature f) { cpu_host.feat[f / 32] |= 1u << f % 32; }

/* An INIT leaves some registers, resets others, and firmware may have had its hands on all. */
static void start(void)
{
    for (u64 *reg = &machine[here].cr0; reg <= &machine[here].spec_ctrl; reg++)
        *reg = (u64)rand() & 0xffff;
    loaded_init_cpu();
}

static int setup(void **state)
{
    (void)state;
    memset(&cpu_host, 0, sizeof(cpu_host));
    cpu_host.cr4 = CR4_PAE | CR4_OSXSAVE;
    cpu_host.xcr0 = 7;
    ours = 1;
    give(X86_FEATURE_RDTSCP);
    give(X86_FEATURE_IBRSB);
    for (here = CPUS; here-- > 0;) {
        cpus[here].cpu = here;
        start();
    }
    here = 0;
    return 0;
}

static void a_start_sets_all(void **state)
{
    const struct registers *m = &machine[0];

    (void)state;
    assert_int_equal(m->cr0, CR0_HOST);
    assert_int_equal(m->cr4, cpu_host.cr4);
    assert_int_equal(m->xcr0, 7);
    assert_int_equal(m->dr6, 0xffff0ff0);
    assert_int_equal(m->dr7, 0x400);
    assert_int_equal(m->tsc_aux, 0);
    assert_int_equal(m->spec_ctrl, 1);
}

static void nothing_the_cpu_lacks_is_touched(void **state)
{
    (void)state;
    cpu_host.xcr0 = 0;
    memset(cpu_host.feat, 0, sizeof(cpu_host.feat));
    memset(machine, 0x55, sizeof(machine));
    loaded_init_cpu();
    assert_int_equal(machine[0].xcr0, 0x5555555555555555);
    assert_int_equal(machine[0].tsc_aux, 0x5555555555555555);
    assert_int_equal(machine[0].spec_ctrl, 0x5555555555555555);
}

static void what_is_there_is_not_written_again(void **state)
{
    (void)state;
    load_cr4(CR4_PAE);
    load_xcr0(3);
    load_tsc_aux(1);
    load_spec_ctrl(5);
    load_ts(true);
    writes = 0;
    load_cr4(CR4_PAE);
    load_xcr0(3);
    load_tsc_aux(1);
    load_spec_ctrl(5);
    load_ts(true);
    assert_int_equal(writes, 0);
}

/* What vCPUs want, on CPUs that go offline and come back in between. */
static void registers_are_as_asked(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        const struct registers *m;
        u64 n = (u64)rand() % 4;

        here = (unsigned)rand() % CPUS;
        m = &machine[here];
        if (rand() % 8 == 0)
            start();
        load_cr4(n), load_xcr0(n | 1), load_tsc_aux((u32)n), load_spec_ctrl((u32)n), load_ts(n & 1);
        assert_int_equal(m->cr4, n);
        assert_int_equal(m->xcr0, n | 1);
        assert_int_equal(m->tsc_aux, n);
        assert_int_equal(m->spec_ctrl, n);
        assert_int_equal(m->cr0, CR0_HOST | (n & 1 ? CR0_TS : 0));
    }
}

#define T(fn) cmocka_unit_test_setup(fn, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_start_sets_all), T(nothing_the_cpu_lacks_is_touched), T(what_is_there_is_not_written_again), T(registers_are_as_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
