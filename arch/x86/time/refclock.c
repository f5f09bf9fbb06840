/*
 * Clocks of known rate, to measure the TSC by: HPET (IA-PC HPET specification 1.0a), ACPI PM timer (ACPI
 * 4.8.3.3) and the PIT's channel 2 (8254 data sheet), in this order of preference.
 */
#include <asm/time.h>
#include <asm/x86.h>
#include <pvisor/acpi.h>
#include <pvisor/printk.h>

#define MEASURE_MS 10

/* --- HPET ------------------------------------------------------------------------------------------ */

#define HPET_CAPS    0x00
#define HPET_CONFIG  0x10
#define HPET_COUNTER 0xf0
#define HPET_MAX_PERIOD_FS 100000000U

static struct ref_clock hpet;
static volatile u32 *hpet_regs;

static u64 hpet_read(void)
{
    return hpet_regs[HPET_COUNTER / 4];
}

static bool hpet_probe(void)
{
    u32 period;

    if (!acpi_info.hpet_address.v)
        return false;
    hpet_regs = acpi_map(acpi_info.hpet_address, 0x400);
    if (!hpet_regs)
        return false;
    period = hpet_regs[HPET_CAPS / 4 + 1];
    if (!period || period > HPET_MAX_PERIOD_FS)
        return false;
    hpet.hz = 1000000000000000UL / period;
    hpet_regs[HPET_CONFIG / 4] |= 1;
    return true;
}

static struct ref_clock hpet = { .name = "HPET", .mask = 0xffffffff, .probe = hpet_probe, .read = hpet_read };

/* --- ACPI PM timer --------------------------------------------------------------------------------- */

static struct ref_clock pm_timer;

static u64 pm_timer_read(void)
{
    return inl(acpi_info.pm_timer_port) & pm_timer.mask;
}

static bool pm_timer_probe(void)
{
    if (acpi_info.pm_timer_32bit)
        pm_timer.mask = 0xffffffff;
    return acpi_info.pm_timer_port != 0;
}

static struct ref_clock pm_timer = {
    .name = "ACPI PM timer", .hz = 3579545, .mask = 0xffffff, .probe = pm_timer_probe, .read = pm_timer_read,
};

/* --- PIT channel 2 --------------------------------------------------------------------------------- */

#define PIT_HZ 1193182

/* Counts down from 65536 again and again. */
static bool pit_probe(void)
{
    outb(0x61, (inb(0x61) & ~2u) | 1);   /* gate on, speaker off */
    outb(0x43, 0xb4);                    /* channel 2, low then high byte, mode 2 */
    outb(0x42, 0);
    outb(0x42, 0);
    return true;
}

static u64 pit_read(void)
{
    unsigned n;

    outb(0x43, 0x80);                    /* latch channel 2 */
    n = inb(0x42);
    n |= (unsigned)inb(0x42) << 8;
    return (0x10000 - n) & 0xffff;
}

static struct ref_clock pit = {
    .name = "PIT", .hz = PIT_HZ, .mask = 0xffff, .probe = pit_probe, .read = pit_read,
};

void pit_delay_us(unsigned us)
{
    u64 last, passed = 0, ticks = (u64)us * PIT_HZ / 1000000 + 1;

    pit_probe();
    last = pit_read();
    for (u64 tries = 0; passed < ticks && tries < (1UL << 26); tries++) {
        u64 now = pit_read();

        passed += (now - last) & pit.mask;
        last = now;
        cpu_relax();
    }
}

/* --- Choosing and measuring ------------------------------------------------------------------------ */

/* Some firmware describes clocks that do not run. */
static bool runs(const struct ref_clock *c)
{
    u64 first = c->read();

    for (unsigned i = 0; i < 100000; i++)
        if (c->read() != first)
            return true;
    return false;
}

struct ref_clock *ref_clock_find(void)
{
    static struct ref_clock *const known[] = { &hpet, &pm_timer, &pit };

    for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
        if (!known[i]->probe())
            continue;
        if (runs(known[i]))
            return known[i];
        printk(LOG_WARNING "%s does not count: not used\n", known[i]->name);
    }
    return NULL;
}

/* Of several tries the quickest is the one that nothing interrupted. */
void ref_clock_sample(const struct ref_clock *c, u64 *tsc, u64 *ref)
{
    u64 best = ~0UL;

    for (unsigned i = 0; i < 6; i++) {
        u64 before = rdtsc_ordered(), value = c->read(), took = rdtsc_ordered() - before;

        if (took >= best)
            continue;
        best = took;
        *tsc = before + took / 2;
        *ref = value;
    }
}

u64 ref_clock_measure_tsc(const struct ref_clock *c)
{
    u64 tsc0, ref0, tsc1, ref1, want = c->hz * MEASURE_MS / 1000, passed = 0;

    ref_clock_sample(c, &tsc0, &ref0);
    for (u64 tries = 0; passed < want; tries++) {
        if (tries > (1UL << 26))
            return 0;
        passed = (c->read() - ref0) & c->mask;
    }
    ref_clock_sample(c, &tsc1, &ref1);
    return mul_div(tsc1 - tsc0, c->hz, (ref1 - ref0) & c->mask);
}
