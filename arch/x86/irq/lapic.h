/* The local APIC's registers, for the files of irq/. */
#ifndef LAPIC_H
#define LAPIC_H

#include <asm/x86.h>

enum { REG_ID = 0x20, REG_VERSION = 0x30, REG_TPR = 0x80, REG_EOI = 0xb0, REG_LDR = 0xd0, REG_SVR = 0xf0, REG_ESR = 0x280,
       REG_ICR = 0x300, REG_ICR_HIGH = 0x310, REG_LVT_TIMER = 0x320, REG_LVT_THERMAL = 0x330, REG_LVT_PMC = 0x340,
       REG_LVT_LINT0 = 0x350, REG_LVT_LINT1 = 0x360, REG_LVT_ERROR = 0x370, REG_TIMER_INITIAL = 0x380,
       REG_TIMER_CURRENT = 0x390, REG_TIMER_DIVIDE = 0x3e0 };

#define X2APIC_MSR 0x800
#define APIC_BASE_ADDRESS 0x000ffffffffff000UL
#define ICR_PENDING (1u << 12)
#define ICR_ASSERT (1u << 14)
#define ICR_LEVEL (1u << 15)
#define ICR_NMI (4u << 8)
#define ICR_INIT (5u << 8)
#define ICR_STARTUP (6u << 8)

extern bool lapic_by_msr;               /* x2APIC mode */
extern volatile u8 *lapic_page;         /* where it is not */

static inline u32 lapic_read(unsigned reg)
{
    return lapic_by_msr ? (u32)rdmsr(X2APIC_MSR + (reg >> 4)) : *(volatile u32 *)(lapic_page + reg);
}

static inline void lapic_write(unsigned reg, u32 v)
{
    if (lapic_by_msr)
        wrmsr(X2APIC_MSR + (reg >> 4), v);
    else
        *(volatile u32 *)(lapic_page + reg) = v;
}

/* command: the lower word of the ICR. */
void lapic_send(u32 apic_id, u32 command);

#endif
