/* What needs no more of the local APIC than its registers: who a CPU is, the end of an interrupt, interrupts for other CPUs. */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <pvisor/cpumask.h>
#include <pvisor/irq.h>
#include "lapic.h"

bool lapic_by_msr;
volatile u8 *lapic_page;
u32 cpu_apic_ids[NR_CPUS];

maddr_t lapic_base(void)
{
    return maddr(rdmsr(MSR_APIC_BASE) & APIC_BASE_ADDRESS);
}

void lapic_eoi(void)
{
    lapic_write(REG_EOI, 0);
}

u32 lapic_id(void)
{
    u32 id = lapic_read(REG_ID);

    return lapic_by_msr ? id : id >> 24;
}

void lapic_send(u32 apic_id, u32 command)
{
    u64 flags;

    if (lapic_by_msr) {
        smp_mb();   /* the MSR write does not wait for earlier stores */
        wrmsr(X2APIC_MSR + (REG_ICR >> 4), (u64)apic_id << 32 | command);
        return;
    }
    flags = irq_save();
    while (lapic_read(REG_ICR) & ICR_PENDING)
        cpu_relax();
    lapic_write(REG_ICR_HIGH, apic_id << 24);
    lapic_write(REG_ICR, command);
    irq_restore(flags);
}

void lapic_send_ipi(unsigned cpu, u8 vector)
{
    lapic_send(cpu_apic_ids[cpu], ICR_ASSERT | vector);
}

void lapic_send_nmi(unsigned cpu)
{
    lapic_send(cpu_apic_ids[cpu], ICR_ASSERT | ICR_NMI);
}
