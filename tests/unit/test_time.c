/*
 * System time on CPUs whose TSCs disagree, tick unevenly, or were reset while their CPU was offline: it goes forward on
 * every CPU and across them, and stays near the truth.
 */
// SOURCES: tests/unit/fake/cpuid.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../arch/x86/time/time.c"

/* <stdlib.h> has another strtoull() than the hypervisor. */
void abort(void) __attribute__((noreturn));

#define CPUS 4
#define HZ 2000000000UL          /* of the TSC: 2 ticks a nanosecond */
#define STEP 40                  /* ticks between two readings */

static struct cpu_info cpus[CPUS];
static unsigned here;
static u64 ticks;                /* true time */
static s64 skew[CPUS];
static bool serving;             /* CPU 0 answers whoever starts */
static struct vcpu idle_vcpu;
static struct domain the_idle_domain;
struct domain *idle_domain = &the_idle_domain;

struct cpu_info *cpu_info(void) { return &cpus[here]; }
void printk(const char *fmt, ...) { (void)fmt; }
void panic(const char *fmt, ...) { (void)fmt; abort(); }
void raise_softirq(enum softirq n) { (void)n; }
void vcpu_time_update(struct vcpu *v) { (void)v; }
void pit_delay_us(unsigned us) { (void)us; }
void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu) { t->fn = fn, t->data = data, t->cpu = (u16)cpu; }
void timer_set(struct timer *t, u64 expires) { t->expires = expires; }
void timer_kill(struct timer *t) { (void)t; }

u64 rdtsc_ordered(void)
{
    unsigned asking = here;

    ticks += STEP;
    if (serving && asking) {
        here = 0;
        serving = false;
        time_sync_serve();
        serving = true;
        here = asking;
    }
    return ticks + (u64)skew[here];
}

/* A reference clock of 10 MHz that tells the truth. */
static u64 reference_read(void) { return ticks / 200; }
static struct ref_clock truth = { .name = "truth", .hz = 10000000, .mask = ~0UL, .read = reference_read };
struct ref_clock *ref_clock_find(void) { return &truth; }
u64 ref_clock_measure_tsc(const struct ref_clock *c) { (void)c; return HZ; }
void ref_clock_sample(const struct ref_clock *c, u64 *tsc, u64 *ref)
{
    *tsc = rdtsc_ordered();
    *ref = c->read();
}

static void on(unsigned cpu) { here = cpu; }

/* The CPU that starts another looks at its clock while it waits. */
static void start_cpu(unsigned cpu)
{
    on(0);
    (void)now_ns();
    on(cpu);
    serving = true;
    time_init_cpu();
    serving = false;
    ticks += HZ;             /* its timer comes a second later */
}

static u64 started;          /* true ticks at time 0 */

static void start(bool unstable)
{
    memset(clocks_percpu, 0, sizeof(clocks_percpu));
    latest_ns = 0;
    opt_unstable = unstable;
    for (unsigned i = 0; i < CPUS; i++)
        cpus[i] = (struct cpu_info){ .cpu = i, .current_vcpu = &idle_vcpu };
    idle_vcpu.domain = idle_domain;
    on(0);
    ticks += HZ;
    started = ticks;
    time_init();
    tsc_constant = !unstable;        /* whatever the host's CPU is */
    tsc_synchronous = tsc_constant;
    time_init_cpu();
    for (unsigned i = 1; i < CPUS; i++)
        start_cpu(i);
}

static u64 true_ns(void) { return (ticks - started) / 2; }

/* All CPUs' once-a-second work, and readings on all of them meanwhile. tolerance: ns off the truth. */
static void pass(unsigned seconds, u64 tolerance, unsigned awake)
{
    u64 seen = 0;

    for (unsigned s = 0; s < seconds; s++) {
        for (unsigned i = 0; i < awake; i++) {
            on(i);
            rebase(&this_cpu(clocks));
        }
        for (unsigned n = 0; n < 200; n++) {
            u64 now, real;

            on(n * 7 % awake);
            ticks += HZ / 200;
            now = now_ns();
            real = true_ns();
            assert_true(now >= seen);
            assert_true(now < real + tolerance && real < now + tolerance);
            seen = now;
        }
    }
}

static void equal_counters_need_no_correction(void **state)
{
    (void)state;
    memset(skew, 0, sizeof(skew));
    start(false);
    assert_true(tsc_is_synchronous());
    pass(20, 200, CPUS);
}

static void skewed_counters_show_one_time(void **state)
{
    (void)state;
    skew[1] = 5000000000;
    skew[2] = -7000001;
    skew[3] = 90000;
    start(false);
    assert_false(tsc_is_synchronous());
    pass(20, 500, CPUS);
}

static void a_cpu_comes_back_after_hours(void **state)
{
    (void)state;
    skew[1] = 1000000;
    skew[2] = skew[3] = 0;
    start(false);
    pass(3, 500, CPUS);
    for (unsigned hours = 0; hours < 3; hours++) {
        ticks += HZ * 3600 - 3 * HZ;
        /* The others have kept up. */
        for (unsigned i = 0; i < CPUS - 1; i++) {
            on(i);
            rebase(&this_cpu(clocks));
        }
        pass(3, 500, CPUS - 1);
    }
    skew[CPUS - 1] = -(s64)ticks;    /* it was reset */
    start_cpu(CPUS - 1);
    pass(5, 500, CPUS);
}

static void an_uneven_counter_follows_the_reference(void **state)
{
    (void)state;
    memset(skew, 0, sizeof(skew));
    start(true);
    pass(10, 2000000, CPUS);
    /* One CPU was away meanwhile, longer than the reference is looked at. */
    pass(30, 2000000, CPUS - 1);
    start_cpu(CPUS - 1);
    pass(10, 2000000, CPUS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_counters_need_no_correction),
        cmocka_unit_test(skewed_counters_show_one_time),
        cmocka_unit_test(a_cpu_comes_back_after_hours),
        cmocka_unit_test(an_uneven_counter_follows_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
