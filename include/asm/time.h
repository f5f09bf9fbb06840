/*
 * The machine's clocks, and the arithmetic that turns TSC ticks into nanoseconds.
 *
 * ns = scale.ns + (((tsc - scale.tsc) << shift) * mul >> 32) is what vcpu_time_info tells guests, and the
 * hypervisor computes exactly the same, so both read one clock.
 */
#ifndef ASM_TIME_H
#define ASM_TIME_H

#include <pvisor/types.h>

struct domain;
struct vcpu;

struct clock_scale {
    u64 tsc, ns;     /* one instant on both clocks */
    u32 mul;
    s8 shift;        /* negative: to the right */
};

/* (hi * 2^64 + lo) / d; hi < d. */
static inline u64 div128(u64 hi, u64 lo, u64 d)
{
    u64 q, rest;

    __asm__("divq %4" : "=a"(q), "=d"(rest) : "a"(lo), "d"(hi), "rm"(d));
    return q;
}

/* x * mul / div without overflow in between; the result must fit. */
static inline u64 mul_div(u64 x, u64 mul, u64 div)
{
    unsigned __int128 p = (unsigned __int128)x * mul;

    return div128((u64)(p >> 64), (u64)p, div);
}

static always_inline u64 scale_delta(u64 ticks, u32 mul, s8 shift)
{
    if (shift < 0)
        ticks >>= -shift;
    else
        ticks <<= shift;
    return (u64)((unsigned __int128)ticks * mul >> 32);
}

static always_inline u64 scale_to_ns(const struct clock_scale *s, u64 tsc)
{
    return s->ns + scale_delta(tsc - s->tsc, s->mul, s->shift);
}

/*
 * mul and shift for a clock of so many Hz (1 kHz to 1 THz). mul is rounded down: the result never runs
 * ahead.
 */
static inline void scale_set_hz(struct clock_scale *s, u64 hz)
{
    s->shift = 0;
    for (; hz > 2000000000UL; hz >>= 1)
        s->shift--;
    for (; hz <= 1000000000UL; hz <<= 1)
        s->shift++;
    s->mul = (u32)((1000000000UL << 32) / hz);
}

/* RDTSC that is not executed ahead of earlier loads. */
#ifdef HOST_TEST
u64 rdtsc_ordered(void);
#else
static always_inline u64 rdtsc_ordered(void)
{
    u32 lo, hi;

    __asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) :: "memory");
    return lo | (u64)hi << 32;
}
#endif

/* A counter of known rate to measure the TSC by. */
struct ref_clock {
    const char *name;
    u64 hz;
    u64 mask;                 /* where the counter wraps */
    bool (*probe)(void);      /* finds and starts it; may set hz and mask */
    u64 (*read)(void);
};

/* The best that the machine has; NULL: none. Needs acpi_init(). */
struct ref_clock *ref_clock_find(void);
/* A pair of readings taken at the same moment. */
void ref_clock_sample(const struct ref_clock *c, u64 *tsc, u64 *ref);
/* Rate of the TSC in Hz, measured for about 10 ms; 0 if the reference stands still. */
u64 ref_clock_measure_tsc(const struct ref_clock *c);
void pit_delay_us(unsigned us);

/* True if the TSC ticks at one rate in all power states, and the CPUs' counters agree. */
bool tsc_is_constant(void);
bool tsc_is_synchronous(void);
/*
 * While a CPU starts, the boot CPU calls this again and again (it never blocks): time_init_cpu() on the new
 * CPU compares TSCs with it.
 */
void time_sync_serve(void);

/* This CPU's present relation of TSC and system time. */
const struct clock_scale *cpu_clock_scale(void);

/*
 * A domain's TSC (XEN_DOMCTL_settscinfo). d->arch.tsc_native says whether it may read the counter; if not,
 * CR4.TSD is to be set while its vCPUs run and each trapped RDTSC answered with guest_rdtsc().
 */
#define TSC_MODE_DEFAULT 0
#define TSC_MODE_NATIVE 2
void tsc_domain_init(struct domain *d);
/*
 * -EINVAL: no such mode. elapsed: ns of guest time so far; khz: its rate, 0 for this machine's. d must not
 * run.
 */
int tsc_set_info(struct domain *d, u32 mode, u64 elapsed, u32 khz, u32 incarnation);
void tsc_get_info(const struct domain *d, u32 *mode, u64 *elapsed, u32 *khz, u32 *incarnation);
u64 guest_rdtsc(const struct vcpu *v);

/* RTC: seconds since 1970 (UTC), 0 if it cannot be read. Boot only: later its ports are dom0's. */
u64 rtc_read(void);
void guest_time_init(void);
/* Has tell() called, from a timer, on each CPU that has new time parameters, once a second. */
void time_on_rebase(void (*tell)(void));

#endif
