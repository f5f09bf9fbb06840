/*
 * The local APIC (Intel SDM 3A, chapter 10), by its memory page or, where x2APIC mode is on, by MSRs. Its timer is
 * the one clock event source of each CPU: TSC deadline where the CPU has it, else one shot of the bus-clock counter.
 */
#include <asm/percpu.h>
#include <asm/x86.h>
#include <pvisor/acpi.h>
#include <pvisor/cmdline.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>
#include "internal.h"
#include "lapic.h"

#define XAPIC_ID_MAX 254
#define CPUID1_ECX_X2APIC (1u << 21)
#define APIC_BASE_ENABLE (1UL << 11)
#define APIC_BASE_X2APIC (1UL << 10)
#define MSR_TSC_DEADLINE 0x6e0
#define SVR_ENABLE 0x100
#define LVT_MASKED (1u << 16)
#define LVT_LEVEL (1u << 15)
#define LVT_LOW (1u << 13)
#define LVT_NMI (4u << 8)
#define TIMER_DEADLINE (2u << 17)
#define DIVIDE_BY_1 0xb

static bool has_deadline;
static u64 timer_khz;                 /* of the counter; 0 until calibrated */

/* By default only where the machine has CPUs that xAPIC mode cannot name. */
static bool x2apic_chosen, want_x2apic;

static int parse_x2apic(const char *v)
{
    int rc = cmdline_bool(v, &want_x2apic);

    x2apic_chosen |= !rc;
    return rc;
}
CMDLINE_OPTION("x2apic", parse_x2apic);

/* --- Set-up ----------------------------------------------------------------------------------------------- */

static void error_interrupt(struct cpu_regs *)
{
    lapic_write(REG_ESR, 0);
    printk(LOG_WARNING "CPU%u: local APIC error %#x\n", this_cpu_id(), lapic_read(REG_ESR));
}

static void clock_interrupt(struct cpu_regs *)
{
    timer_interrupt();
}

static u32 acpi_uid_of(u32 apic_id)
{
    for (unsigned i = 0; i < acpi_info.nr_cpus; i++)
        if (acpi_info.cpu[i].apic_id == apic_id)
            return acpi_info.cpu[i].acpi_uid;
    return ~0u;
}

/* NMI lines as the MADT names them; the boot CPU has one on LINT1 if it names none. */
static void set_up_nmi_lines(bool boot_cpu)
{
    u32 uid = acpi_uid_of(lapic_id());
    u32 lint[2] = { LVT_MASKED, LVT_MASKED };

    if (boot_cpu && !acpi_info.nr_nmis)
        lint[1] = LVT_NMI;
    for (unsigned i = 0; i < acpi_info.nr_nmis; i++) {
        const struct acpi_lapic_nmi *n = &acpi_info.nmi[i];

        if (n->acpi_uid == ~0u || n->acpi_uid == uid)
            lint[n->lint] = LVT_NMI | ((n->flags & 3) == 3 ? LVT_LOW : 0) |
                            ((n->flags >> 2 & 3) == 3 ? LVT_LEVEL : 0);
    }
    lapic_write(REG_LVT_LINT0, lint[0]);
    lapic_write(REG_LVT_LINT1, lint[1]);
}

static void set_up(bool boot_cpu)
{
    unsigned max_lvt = lapic_read(REG_VERSION) >> 16 & 0xff;

    lapic_write(REG_TPR, 0);
    lapic_write(REG_LVT_TIMER, LVT_MASKED);
    if (max_lvt >= 5)
        lapic_write(REG_LVT_THERMAL, LVT_MASKED);
    if (max_lvt >= 4)
        lapic_write(REG_LVT_PMC, LVT_MASKED);
    lapic_write(REG_SVR, SVR_ENABLE | VEC_SPURIOUS);
    set_up_nmi_lines(boot_cpu);
    lapic_write(REG_LVT_ERROR, VEC_ERROR);
    lapic_write(REG_ESR, 0);
    lapic_eoi();
    lapic_write(REG_TIMER_DIVIDE, DIVIDE_BY_1);
    lapic_write(REG_LVT_TIMER, VEC_TIMER | (has_deadline ? TIMER_DEADLINE : 0));
    /* The SDM wants a fence between this mode's selection and the first deadline, when it was selected by memory access. */
    __asm__ volatile("mfence" ::: "memory");
    cpu_apic_ids[this_cpu_id()] = lapic_id();
}

static bool x2apic_needed(void)
{
    for (unsigned i = 0; i < acpi_info.nr_cpus; i++)
        if (acpi_info.cpu[i].apic_id > XAPIC_ID_MAX)
            return true;
    return false;
}

bool lapic_can_name(u32 apic_id)
{
    return lapic_by_msr || apic_id <= XAPIC_ID_MAX;
}

bool lapic_is_x2apic(void) { return lapic_by_msr; }

static void enter_x2apic(void)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE | APIC_BASE_X2APIC);
}

void lapic_init_bsp(void)
{
    struct cpuid_regs c = cpuid(1, 0);

    if (!(c.d & 1u << 9))
        panic("this CPU has no local APIC");
    has_deadline = c.c & 1u << 24;
    lapic_by_msr = rdmsr(MSR_APIC_BASE) & APIC_BASE_X2APIC;
    if (!lapic_by_msr && (x2apic_chosen ? want_x2apic : x2apic_needed()) && (c.c & CPUID1_ECX_X2APIC)) {
        enter_x2apic();
        lapic_by_msr = true;
    }
    if (!lapic_by_msr) {
        wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE);
        lapic_page = ioremap(lapic_base(), PAGE_SIZE);
        if (!lapic_page)
            panic("the local APIC at %#lx cannot be mapped", lapic_base().v);
    }
    /* While LINT0 still lets them through: QEMU keeps an interrupt of theirs pending for ever if it is closed first. */
    i8259_init();
    vector_set_handler(VEC_TIMER, clock_interrupt);
    vector_set_handler(VEC_ERROR, error_interrupt);
    set_up(true);
    printk("Local APIC: id %u, %s, timer by %s\n", lapic_id(), lapic_by_msr ? "x2APIC" : "xAPIC",
           has_deadline ? "TSC deadline" : "bus clock");
}

void lapic_init_cpu(void)
{
    if (lapic_by_msr)
        enter_x2apic();
    else
        wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE);
    set_up(false);
}

/* --- Starting a CPU ------------------------------------------------------------------------------------------ */

void lapic_send_init_sipi(u32 apic_id, u8 start_page)
{
    lapic_send(apic_id, ICR_INIT | ICR_ASSERT | ICR_LEVEL);
    delay_us(200);
    lapic_send(apic_id, ICR_INIT | ICR_LEVEL);
    delay_us(10000);
    for (unsigned i = 0; i < 2; i++) {
        lapic_send(apic_id, ICR_STARTUP | ICR_ASSERT | start_page);
        delay_us(300);
    }
}

/* --- Timer --------------------------------------------------------------------------------------------------- */

#define CALIBRATION_US 10000
#define MAX_DELTA SECONDS(1000)

/* Counts the bus clock against the TSC, which time_init() has calibrated. All CPUs share the result. */
static void calibrate(void)
{
    u64 wait = tsc_khz() * CALIBRATION_US / 1000, flags = irq_save(), start;
    u32 before, after;

    lapic_write(REG_LVT_TIMER, LVT_MASKED | VEC_TIMER);
    lapic_write(REG_TIMER_INITIAL, ~0u);
    start = rdtsc();
    before = lapic_read(REG_TIMER_CURRENT);
    while (rdtsc() - start < wait)
        cpu_relax();
    after = lapic_read(REG_TIMER_CURRENT);
    wait = rdtsc() - start;
    lapic_write(REG_TIMER_INITIAL, 0);
    lapic_write(REG_LVT_TIMER, VEC_TIMER);
    timer_khz = max((u64)(before - after) * tsc_khz() / wait, 1UL);
    irq_restore(flags);
    printk("Local APIC timer: %lu.%03lu MHz\n", timer_khz / 1000, timer_khz % 1000);
}

/* Ticks of a clock of khz in ns, at least one. No overflow up to MAX_DELTA and 18 GHz. */
static u64 to_ticks(u64 ns, u64 khz)
{
    return max(ns * khz / 1000000, 1UL);
}

void clock_event_set(u64 expires_ns)
{
    u64 now = now_ns(), delta;

    if (expires_ns <= now) {
        raise_softirq(SOFTIRQ_TIMER);
        return;
    }
    if (!has_deadline && !timer_khz) {
        if (!tsc_khz())
            return;
        calibrate();
    }
    /* A deadline further off is simply set again when this one comes. */
    delta = min(expires_ns - now, MAX_DELTA);
    if (has_deadline)
        wrmsr(MSR_TSC_DEADLINE, rdtsc() + to_ticks(delta, tsc_khz()));
    else
        lapic_write(REG_TIMER_INITIAL, min(to_ticks(delta, timer_khz), 0xffffffffUL));
}

void clock_event_off(void)
{
    if (has_deadline)
        wrmsr(MSR_TSC_DEADLINE, 0);
    else
        lapic_write(REG_TIMER_INITIAL, 0);
}
