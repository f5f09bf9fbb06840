/*
 * Registers that each vCPU has in its own way, and most of them in the same. Each CPU remembers what it has loaded, so that a write
 * which would change nothing is left out. A register and what is remembered of it change together, and by these functions alone:
 * nothing else writes CR0, CR4, XCR0, TSC_AUX or SPEC_CTRL. What a CPU has in them when it starts or comes back is nobody's guess,
 * so then both are set.
 */
#ifndef ASM_LOADED_H
#define ASM_LOADED_H

#include <asm/percpu.h>
#include <asm/x86.h>

struct loaded {
    u64 cr4, xcr0;          /* XCR0 only where cpu_host.xcr0 is not 0 */
    u32 tsc_aux, spec_ctrl;
    bool ts;                /* CR0 is CR0_HOST but for TS */
};
DECLARE_PERCPU(struct loaded, loaded);

/* This CPU starts, for the first time or again: all of them, and the debug registers, as when no vCPU has run on it. */
void loaded_init_cpu(void);

/* For a vCPU that this CPU runs, or is about to. The CPU must have the register. */
static inline void load_cr4(u64 v)
{
    struct loaded *l = &this_cpu(loaded);

    if (l->cr4 != v)
        write_cr4(l->cr4 = v);
}

static inline void load_xcr0(u64 v)
{
    struct loaded *l = &this_cpu(loaded);

    if (l->xcr0 != v)
        write_xcr0(l->xcr0 = v);
}

static inline void load_tsc_aux(u32 v)
{
    struct loaded *l = &this_cpu(loaded);

    if (l->tsc_aux != v)
        wrmsr(MSR_TSC_AUX, l->tsc_aux = v);
}

static inline void load_spec_ctrl(u32 v)
{
    struct loaded *l = &this_cpu(loaded);

    if (l->spec_ctrl != v)
        wrmsr(MSR_SPEC_CTRL, l->spec_ctrl = v);
}

/* CR0.TS. No interrupt handler and no cross call touches the FPU: interrupts may be on. */
static inline void load_ts(bool on)
{
    struct loaded *l = &this_cpu(loaded);

    if (l->ts == on)
        return;
    if (on)
        write_cr0(CR0_HOST | CR0_TS);
    else
        clts();
    l->ts = on;
}

#endif
