/* What a CPU starts with in the registers that vCPUs change: see asm/loaded.h. */
#include <asm/features.h>
#include <asm/loaded.h>
#include <asm/spec.h>

DEFINE_PERCPU(struct loaded, loaded);

void loaded_init_cpu(void)
{
    struct loaded *l = &this_cpu(loaded);

    *l = (struct loaded){ .cr4 = cpu_host.cr4, .xcr0 = cpu_host.xcr0, .spec_ctrl = spec_ctrl_ours() };
    write_cr0(CR0_HOST);
    write_cr4(l->cr4);
    if (cpu_host.xcr0)
        write_xcr0(l->xcr0);
    if (cpu_has(X86_FEATURE_RDTSCP) || cpu_has(X86_FEATURE_RDPID))
        wrmsr(MSR_TSC_AUX, l->tsc_aux);
    if (cpu_has(X86_FEATURE_IBRSB))
        wrmsr(MSR_SPEC_CTRL, l->spec_ctrl);
    write_dr7(DR7_RESERVED_SET);
    write_dr6(DR6_RESERVED_SET);
}
