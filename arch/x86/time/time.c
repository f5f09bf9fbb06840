/*
 * System time.
 *
 * One exact function takes the TSC to nanoseconds: a rate measured at boot, kept with 56 fraction bits.
 * Each CPU extrapolates from its own recent point on that function with the 32-bit multiplier that guests
 * use too; a timer takes a new point every second, which bounds the multiplier's rounding error to under 2
 * ns and keeps guests correct that compute with 64 bits only. The multiplier is rounded down, so a new
 * point never lies behind the old line, and system time never goes back.
 *
 * Where the TSC's rate is not constant, the new point comes from a reference clock instead, and the rate
 * for the next second is chosen to meet it. Where the CPUs' TSCs disagree, each has an offset, and now_ns()
 * never returns less than it has returned on any CPU.
 */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <asm/time.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>

#define FRACTION_BITS 56
#define REBASE_PERIOD SECONDS(1)

struct cpu_clock {
    struct clock_scale scale;
    s64 tsc_offset;            /* the boot CPU's TSC minus this one's */
    u64 ref_last, ref_ns;      /* unsteady TSC only: the reference clock, unwrapped */
    struct timer rebase;
};
STATIC_PERCPU(struct cpu_clock, clocks);

static struct ref_clock *reference;
static u64 tsc_hz, tsc_base;
static u64 ns_per_tick;     /* with FRACTION_BITS bits after the point */
static bool tsc_constant, tsc_synchronous = true;
static u64 latest_ns;                   /* only kept while the TSCs disagree */
static bool opt_unstable;

static int parse_tsc(const char *value)
{
    bool stable = !strcmp(value, "stable:socket");

    if (!stable && strcmp(value, "unstable") && strcmp(value, "skewed"))
        return -EINVAL;
    opt_unstable = !stable;
    return 0;
}
CMDLINE_OPTION("tsc", parse_tsc);

bool tsc_is_constant(void) { return tsc_constant; }
bool tsc_is_synchronous(void) { return tsc_synchronous; }
u64 tsc_khz(void) { return tsc_hz / 1000; }
const struct clock_scale *cpu_clock_scale(void) { return &this_cpu(clocks).scale; }

static u64 fixed_mul(u64 x, u64 factor)
{
    return (u64)((unsigned __int128)x * factor >> FRACTION_BITS);
}

/* boot_tsc: on the boot CPU's counter. */
static u64 exact_ns(u64 boot_tsc)
{
    return fixed_mul(boot_tsc - tsc_base, ns_per_tick);
}

/* The highest of what any CPU has seen. */
static u64 never_back(u64 ns)
{
    u64 seen = read_once(latest_ns);

    while (ns > seen)
        if (try_cmpxchg(&latest_ns, &seen, ns))
            return ns;
    return seen;
}

u64 now_ns(void)
{
    u64 ns = scale_to_ns(&this_cpu(clocks).scale, rdtsc_ordered());

    return likely(tsc_synchronous) ? ns : never_back(ns);
}

/* --- Once a second --------------------------------------------------------------------------------- */

static void set_scale(struct cpu_clock *c, u64 tsc, u64 ns, u64 hz)
{
    u64 flags = irq_save();

    c->scale.tsc = tsc;
    c->scale.ns = ns;
    scale_set_hz(&c->scale, hz);
    irq_restore(flags);
}

static void rebase_constant(struct cpu_clock *c)
{
    u64 tsc = rdtsc_ordered();

    set_scale(c, tsc, exact_ns(tsc + (u64)c->tsc_offset), tsc_hz);
}

/* Goes on from where the clock is, at a rate that meets the reference clock a second from now. */
static void rebase_unsteady(struct cpu_clock *c)
{
    u64 tsc, ref, ns, ref_passed, hz;
    s64 behind;

    ref_clock_sample(reference, &tsc, &ref);
    ns = scale_to_ns(&c->scale, tsc);
    ref_passed = mul_div((ref - c->ref_last) & reference->mask, SECONDS(1), reference->hz);
    if (!ref_passed)
        return;
    c->ref_last = ref;
    c->ref_ns += ref_passed;
    hz = mul_div(tsc - c->scale.tsc, SECONDS(1), ref_passed);
    behind = (s64)(c->ref_ns - ns);
    behind = max(min(behind, (s64)MILLISECS(200)), -(s64)MILLISECS(200));
    set_scale(c, tsc, ns, max(mul_div(hz, SECONDS(1), (u64)((s64)SECONDS(1) + behind)), 1000UL));
}

/* A reference that wraps sooner than it is read cannot be followed. */
static bool can_follow_reference(void)
{
    return reference->mask / reference->hz > 2 * REBASE_PERIOD / SECONDS(1);
}

static void (*tell_of_rebase)(void);

void time_on_rebase(void (*tell)(void)) { tell_of_rebase = tell; }

static void rebase(void *data)
{
    struct cpu_clock *c = data;

    if (tsc_constant)
        rebase_constant(c);
    else
        rebase_unsteady(c);
    if (tell_of_rebase)
        tell_of_rebase();
    timer_set(&c->rebase, now_ns() + REBASE_PERIOD);
}

/* --- Start ----------------------------------------------------------------------------------------- */

/* Crystal rate times ratio, where the CPU says both (SDM vol. 2, CPUID leaf 15H). */
static u64 tsc_hz_from_cpuid(void)
{
    struct cpuid_regs r;

    if (cpuid(0, 0).a < 0x15)
        return 0;
    r = cpuid(0x15, 0);
    return r.a && r.b && r.c ? (u64)r.c * r.b / r.a : 0;
}

/*
 * CPUID 80000007H says so for newer CPUs; Intel's have had it since family 15 model 3 and family 6 model
 * 14. Under another hypervisor the TSC is one or the other form of virtual time.
 */
static bool detect_constant_tsc(void)
{
    struct cpuid_regs id = cpuid(0, 0), sig = cpuid(1, 0);
    unsigned family = sig.a >> 8 & 0xf, model = (sig.a >> 4 & 0xf) | (sig.a >> 12 & 0xf0);

    if (opt_unstable)
        return false;
    if (cpuid(0x80000000, 0).a >= 0x80000007 && (cpuid(0x80000007, 0).d & 1u << 8))
        return true;
    if (sig.c & 1u << 31)
        return true;
    return id.b == 0x756e6547 /* "Genu" */ && ((family == 15 && model >= 3) || (family == 6 && model >= 14));
}

/*
 * The boot CPU's clock begins with the machine's. One that starts later, at an uneven rate, goes on from the latest seen:
 * by the CPU that waits for it, just now.
 */
static void start_clock(struct cpu_clock *c)
{
    u64 tsc;

    ref_clock_sample(reference, &tsc, &c->ref_last);
    c->ref_ns = tsc_constant ? exact_ns(tsc + (u64)c->tsc_offset) : read_once(latest_ns);
    set_scale(c, tsc, c->ref_ns, tsc_hz);
}

void time_init(void)
{
    u64 measured;

    reference = ref_clock_find();
    if (!reference)
        panic("No clock to measure the TSC by: neither HPET, ACPI PM timer nor PIT counts");
    measured = ref_clock_measure_tsc(reference);
    tsc_hz = tsc_hz_from_cpuid();
    if (!tsc_hz)
        tsc_hz = measured;
    if (tsc_hz < 10000000)
        panic("TSC measured by %s runs at %lu Hz, expected at least 10 MHz", reference->name, tsc_hz);
    tsc_constant = detect_constant_tsc() || !can_follow_reference();
    ns_per_tick = div128(SECONDS(1) >> (64 - FRACTION_BITS), SECONDS(1) << FRACTION_BITS, tsc_hz);
    tsc_base = rdtsc_ordered();
    tsc_synchronous = tsc_constant;
    start_clock(&this_cpu(clocks));
    printk(LOG_INFO "TSC %lu.%03lu MHz by %s%s\n", tsc_hz / 1000000, tsc_hz / 1000 % 1000, reference->name,
           tsc_constant ? "" : ", not constant");
}

/* --- Comparing a starting CPU's TSC with the boot CPU's -------------------------------------------- */

#define SYNC_ROUNDS 32
#define SYNC_TIMEOUT_TICKS (tsc_hz / 200)

static u32 sync_request, sync_answer;
static u64 sync_tsc;

void time_sync_serve(void)
{
    u32 r = __atomic_load_n(&sync_request, __ATOMIC_ACQUIRE);

    if (r == sync_answer)
        return;
    sync_tsc = rdtsc_ordered() + (u64)this_cpu(clocks).tsc_offset;
    __atomic_store_n(&sync_answer, r, __ATOMIC_RELEASE);
}

/* One question and answer. False: nobody answered. */
static bool sync_round(u64 *round_trip, s64 *offset)
{
    u64 start = rdtsc_ordered(), now;
    u32 r = sync_request + 1;

    __atomic_store_n(&sync_request, r, __ATOMIC_RELEASE);
    while (__atomic_load_n(&sync_answer, __ATOMIC_ACQUIRE) != r) {
        if (rdtsc_ordered() - start > SYNC_TIMEOUT_TICKS)
            return false;
        cpu_relax();
    }
    now = rdtsc_ordered();
    *round_trip = now - start;
    *offset = (s64)(sync_tsc - start - *round_trip / 2);
    return true;
}

/* An offset smaller than the error of its measurement counts as none. */
static s64 measure_offset(void)
{
    u64 best = ~0UL, round_trip;
    s64 offset, result = 0;

    for (unsigned i = 0; i < SYNC_ROUNDS && sync_round(&round_trip, &offset); i++) {
        if (round_trip >= best)
            continue;
        best = round_trip;
        result = (u64)(offset < 0 ? -offset : offset) <= round_trip / 2 + 1 ? 0 : offset;
    }
    return result;
}

/*
 * The boot CPU calls it too, once timers work. A CPU that was offline has an old point, from which the multiplier's error
 * has grown, and may have had its TSC reset: it starts anew.
 */
void time_init_cpu(void)
{
    struct cpu_clock *c = &this_cpu(clocks);

    if (this_cpu_id()) {
        c->tsc_offset = measure_offset();
        if (c->tsc_offset) {
            tsc_synchronous = false;
            printk(LOG_WARNING "CPU%u: TSC differs from the boot CPU's by %ld ticks\n", this_cpu_id(),
                   (long)-c->tsc_offset);
        }
        start_clock(c);
    }
    timer_init(&c->rebase, rebase, c, this_cpu_id());
    timer_set(&c->rebase, now_ns() + REBASE_PERIOD);
}

void time_fini_cpu(void)
{
    timer_kill(&this_cpu(clocks).rebase);
}

/* --- Odds and ends --------------------------------------------------------------------------------- */

void delay_us(unsigned us)
{
    u64 start = rdtsc_ordered();

    if (!tsc_hz) {
        pit_delay_us(us);
        return;
    }
    while (rdtsc_ordered() - start < tsc_hz / 1000000 * us)
        cpu_relax();
}
