/*
 * MSRs as a PV guest's kernel finds them. One table says for each range how it reads and what becomes of
 * writes; an MSR that is not in it faults. The exception is a kernel that has no handler for #GP yet: it
 * would die of a probe that its CPU model answers, so such reads give zero and such writes are dropped.
 */
#include <asm/emulate.h>
#include <asm/features.h>
#include <asm/loaded.h>
#include <asm/spec.h>
#include <asm/time.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/printk.h>

#define MSR_TSC            0x10
#define MSR_PRED_CMD       0x49
#define MSR_PLATFORM_INFO  0xce
#define MSR_ARCH_CAPS      0x10a
#define APIC_BASE_DEFAULT  0xfee00000UL
#define APIC_BASE_BSP      0x100
#define APIC_BASE_ENABLE   0x800
#define MISC_PERF_AVAIL    (1UL << 7)
#define MISC_BTS_UNAVAIL   (1UL << 11)
#define MISC_PEBS_UNAVAIL  (1UL << 12)
#define MISC_MONITOR       (1UL << 18)
#define MISC_XTPR_DISABLE  (1UL << 23)
#define HWCR_TSC_FREQ_SEL  (1UL << 24)
#define DE_CFG_LFENCE_SERIALISING 2
#define VM_CR_LOCK         8
#define VM_CR_SVM_DISABLE  0x10
#define SPEC_CTRL_IBRS     1
#define SPEC_CTRL_STIBP    2
#define SPEC_CTRL_SSBD     4
#define SPEC_CTRL_PSFD     0x80

typedef int msr_read(struct vcpu *v, u32 msr, u64 *val);
typedef int msr_write(struct vcpu *v, u32 msr, u64 val);

static bool is_64(const struct vcpu *v) { return v->domain->arch.word == ABI_64; }
/* --- Writes that need no thought ---------------------------------------------------------------- */

static int ignore(struct vcpu *, u32, u64)
{
    return 0;
}

/* Only what is there already. */
static int same(struct vcpu *v, u32 msr, u64 val)
{
    u64 is;

    return guest_rdmsr(v, msr, &is) || is != val ? -EINVAL : 0;
}

/* --- Reads and writes of single registers ------------------------------------------------------- */

/* The machine's own; zero where an emulated CPU lacks what the real ones of its model have, and kernels read by plain RDMSR. */
static int hardware(struct vcpu *, u32 msr, u64 *val)
{
    if (rdmsr_safe(msr, val))
        *val = 0;
    return 0;
}

/*
 * LS_CFG: kernels from Linux 4.17 on take its being there, on family 15h and later, for a way to turn off speculative
 * stores, which it is not for a guest.
 */
static int read_ls_cfg(struct vcpu *, u32, u64 *)
{
    return cpu_host.family < 0x15 ? 0 : -EINVAL;
}

static int write_ls_cfg(struct vcpu *v, u32 msr, u64 val) { return read_ls_cfg(v, msr, &val); }

/* Kernels count on LFENCE as far as this says that it waits. */
static int read_de_cfg(struct vcpu *, u32, u64 *val)
{
    *val = amd_lfence_waits(&cpu_host) ? DE_CFG_LFENCE_SERIALISING : 0;
    return 0;
}

/* CPUID faulting: a guest that began where there is such a thing (policy_check.c) may turn it on and off. */
static int write_misc_features(struct vcpu *, u32, u64 val) { return val & ~1UL ? -EINVAL : 0; }

static int write_only(struct vcpu *, u32, u64 *)
{
    return -EINVAL;
}

static int read_tsc(struct vcpu *v, u32, u64 *val)
{
    *val = guest_rdtsc(v);
    return 0;
}

static int read_apic_base(struct vcpu *v, u32, u64 *val)
{
    *val = APIC_BASE_DEFAULT | APIC_BASE_ENABLE | (v->id == 0 ? APIC_BASE_BSP : 0);
    return 0;
}

static int read_misc_enable(struct vcpu *v, u32 msr, u64 *val)
{
    (void)hardware(v, msr, val);
    *val &= ~(MISC_PERF_AVAIL | MISC_MONITOR);
    *val |= MISC_BTS_UNAVAIL | MISC_PEBS_UNAVAIL | MISC_XTPR_DISABLE;
    return 0;
}

static int read_policy(struct vcpu *v, u32 msr, u64 *val)
{
    const struct cpu_policy *p = v->domain->cpuid;

    if (msr == MSR_ARCH_CAPS && !policy_has(p, X86_FEATURE_ARCH_CAPS))
        return -EINVAL;
    *val = msr == MSR_ARCH_CAPS ? p->arch_caps : p->platform_info;
    return 0;
}

static int read_efer(struct vcpu *v, u32, u64 *val)
{
    const struct cpu_policy *p = v->domain->cpuid;

    *val = is_64(v) ? EFER_LME | EFER_LMA : 0;
    if (policy_has(p, X86_FEATURE_SYSCALL))
        *val |= EFER_SCE;
    if (policy_has(p, X86_FEATURE_NX))
        *val |= EFER_NX;
    return 0;
}

/* FS, GS and the user's GS: the CPU has the guest's own while it runs. */
static int read_base(struct vcpu *v, u32 msr, u64 *val)
{
    if (!is_64(v))
        return -EINVAL;
    *val = rdmsr(msr);
    return 0;
}

static int write_base(struct vcpu *v, u32 msr, u64 val)
{
    if (!is_64(v) || !is_canonical(val))
        return -EINVAL;
    wrmsr(msr, val);
    if (msr == MSR_FS_BASE)
        v->arch.fs_base = val;
    else if (msr == MSR_GS_BASE)
        v->arch.gs_base_kernel = val;
    else
        v->arch.gs_base_user = val;
    return 0;
}

static bool has_tsc_aux(const struct vcpu *v)
{
    const struct cpu_policy *p = v->domain->cpuid;

    return policy_has(p, X86_FEATURE_RDTSCP) || policy_has(p, X86_FEATURE_RDPID);
}

static int read_tsc_aux(struct vcpu *v, u32, u64 *val)
{
    *val = v->arch.tsc_aux;
    return has_tsc_aux(v) ? 0 : -EINVAL;
}

static int set_tsc_aux(struct vcpu *v, u32, u64 val)
{
    if (!has_tsc_aux(v) || val >> 32)
        return -EINVAL;
    v->arch.tsc_aux = (u32)val;
    return 0;
}

static u64 spec_ctrl_bits(const struct vcpu *v)
{
    const struct cpu_policy *p = v->domain->cpuid;

    if (!policy_has(p, X86_FEATURE_IBRSB))
        return 0;
    return SPEC_CTRL_IBRS | SPEC_CTRL_STIBP | (policy_has(p, X86_FEATURE_SSBD) ? SPEC_CTRL_SSBD : 0)
         | (policy_has(p, X86_FEATURE_INTEL_PSFD) ? SPEC_CTRL_PSFD : 0);
}

static int read_spec_ctrl(struct vcpu *v, u32, u64 *val)
{
    *val = v->arch.spec_ctrl;
    return spec_ctrl_bits(v) ? 0 : -EINVAL;
}

static int set_spec_ctrl(struct vcpu *v, u32, u64 val)
{
    if (!spec_ctrl_bits(v) || val & ~spec_ctrl_bits(v))
        return -EINVAL;
    v->arch.spec_ctrl = (u32)val;
    return 0;
}

/* The barrier against others' branch predictions is for anyone to have. */
static int write_pred_cmd(struct vcpu *v, u32 msr, u64 val)
{
    const struct cpu_policy *p = v->domain->cpuid;

    if (val & ~1UL || !(policy_has(p, X86_FEATURE_IBRSB) || policy_has(p, X86_FEATURE_IBPB)))
        return -EINVAL;
    return val && wrmsr_safe(msr, val) ? -EINVAL : 0;
}

/* --- The table ---------------------------------------------------------------------------------- */

#define ANY   (1u << VENDOR_OTHER | 1u << VENDOR_INTEL | 1u << VENDOR_AMD)
#define INTEL (1u << VENDOR_INTEL)
#define AMD   (1u << VENDOR_AMD)

/*
 * What the machine has and is none of a guest's business: reads as zero, writes go nowhere. Kernels of 2005 to 2015
 * touch these by plain RDMSR and WRMSR, for no CPU of the model lacks them; which does what: tests/unit/test_msr.c.
 */
#define QUIET(first, last, vendors)     { first, last, vendors, NULL, ignore, 0 }
#define READ_ONLY(first, last, vendors) { first, last, vendors, NULL, NULL, 0 }

/* read NULL: reads as value. write NULL: faults. Of two rules for a register the first counts. */
static const struct msr_rule {
    u32 first, last;
    u8 vendors;
    msr_read *read;
    msr_write *write;
    u64 value;
} rules[] = {
    /* What kernels ask for while they run comes first: the list is searched from its start. */
    { MSR_FS_BASE, MSR_KERNEL_GS_BASE, ANY, read_base, write_base, 0 },
    { MSR_EFER, MSR_EFER, ANY, read_efer, same, 0 },
    { MSR_SPEC_CTRL, MSR_SPEC_CTRL, ANY, read_spec_ctrl, set_spec_ctrl, 0 },
    { MSR_TSC, MSR_TSC, ANY, read_tsc, NULL, 0 },
    { 0x17, 0x17, INTEL, hardware, NULL, 0 },                       /* PLATFORM_ID */
    { MSR_APIC_BASE, MSR_APIC_BASE, ANY, read_apic_base, same, 0 },
    { 0x3a, 0x3a, INTEL, NULL, NULL, 1 },                           /* FEATURE_CONTROL: locked, nothing on */
    { 0x8b, 0x8b, ANY, hardware, ignore, 0 },                       /* microcode revision */
    { MSR_PLATFORM_INFO, MSR_PLATFORM_INFO, INTEL, read_policy, NULL, 0 },
    { 0xfe, 0xfe, ANY, NULL, NULL, 0 },                             /* MTRRcap: there are none */
    { MSR_ARCH_CAPS, MSR_ARCH_CAPS, ANY, read_policy, NULL, 0 },
    { 0x140, 0x140, INTEL, NULL, write_misc_features, 0 },          /* MISC_FEATURES_ENABLES */
    { MSR_SYSENTER_CS, MSR_SYSENTER_EIP, ANY, NULL, ignore, 0 },    /* a callback instead */
    { 0x179, 0x17b, ANY, NULL, ignore, 0 },                         /* machine check: no banks */
    { MSR_MISC_ENABLE, MSR_MISC_ENABLE, INTEL, read_misc_enable, ignore, 0 },
    { 0x1d9, 0x1d9, ANY, NULL, ignore, 0 },                         /* DEBUGCTL */
    { 0x200, 0x26f, ANY, NULL, ignore, 0 },                         /* MTRRs */
    { MSR_PAT, MSR_PAT, ANY, NULL, same, PAT_VALUE },
    { 0x2ff, 0x2ff, ANY, NULL, ignore, 0 },
    { 0x400, 0x47f, ANY, NULL, ignore, 0 },                         /* machine check banks */
    { MSR_STAR, MSR_SFMASK, ANY, NULL, ignore, 0 },
    { MSR_TSC_AUX, MSR_TSC_AUX, ANY, read_tsc_aux, set_tsc_aux, 0 },
    { 0xc0010015, 0xc0010015, AMD, NULL, ignore, HWCR_TSC_FREQ_SEL },
    { 0xc0010114, 0xc0010114, AMD, NULL, ignore, VM_CR_LOCK | VM_CR_SVM_DISABLE },
    { 0xc0011020, 0xc0011020, AMD, read_ls_cfg, write_ls_cfg, 0 },
    { 0xc0011029, 0xc0011029, AMD, read_de_cfg, ignore, 0 },

    QUIET(0x0, 0x1, ANY),                   /* Pentium's machine check */
    QUIET(0x2a, 0x2a, INTEL),               /* EBL_CR_POWERON: bus ratio of a P6 */
    READ_ONLY(0x2c, 0x2c, INTEL),           /* EBC_FREQUENCY_ID: of a Pentium 4 */
    { 0x79, 0x79, INTEL, write_only, ignore, 0 },   /* a microcode update */
    QUIET(0xc1, 0xc8, INTEL),               /* performance counters */
    READ_ONLY(0xcd, 0xcd, INTEL),           /* FSB_FREQ */
    QUIET(0xe2, 0xe4, INTEL),               /* C-states of the package */
    QUIET(0xe7, 0xe8, ANY),                 /* MPERF, APERF */
    QUIET(0xee, 0xee, INTEL),               /* EXT_CONFIG */
    QUIET(0x119, 0x11e, INTEL),             /* BBL_CR_CTL: serial number; CTL3: L2 cache */
    QUIET(0x186, 0x18d, INTEL),             /* what performance counters count */
    READ_ONLY(0x198, 0x198, INTEL),         /* PERF_STATUS */
    QUIET(0x199, 0x19d, INTEL),             /* PERF_CTL, clock modulation, thermal */
    QUIET(0x1a2, 0x1a2, INTEL),             /* TEMPERATURE_TARGET */
    QUIET(0x1a6, 0x1a7, INTEL),             /* OFFCORE_RSP */
    QUIET(0x1ad, 0x1ad, INTEL),             /* TURBO_RATIO_LIMIT */
    QUIET(0x1b0, 0x1b2, INTEL),             /* energy bias, thermal of the package */
    QUIET(0x1fc, 0x1fc, INTEL),             /* POWER_CTL */
    QUIET(0x300, 0x311, INTEL),             /* performance counters of a Pentium 4; fixed ones */
    READ_ONLY(0x345, 0x345, INTEL),         /* PERF_CAPABILITIES */
    QUIET(0x360, 0x371, INTEL),             /* CCCRs of a Pentium 4 */
    QUIET(0x38d, 0x390, INTEL),             /* control of performance counters */
    QUIET(0x3a0, 0x3e1, INTEL),             /* ESCRs of a Pentium 4 */
    QUIET(0x3f1, 0x3f2, INTEL),             /* PEBS */
    READ_ONLY(0x480, 0x491, INTEL),         /* VMX capabilities: none */
    QUIET(0xc0000400, 0xc000040f, AMD),     /* machine check, thresholds */
    QUIET(0xc0010000, 0xc0010007, AMD),     /* performance counters */
    QUIET(0xc0010010, 0xc0010010, AMD),     /* SYSCFG */
    QUIET(0xc0010016, 0xc001001f, AMD),     /* IORRs, TOP_MEM, CLK_CTL, TOP_MEM2, NB_CFG */
    { 0xc0010020, 0xc0010020, AMD, write_only, ignore, 0 },     /* a microcode update */
    QUIET(0xc0010041, 0xc0010042, AMD),     /* FIDVID: frequency and voltage */
    QUIET(0xc0010044, 0xc0010049, AMD),     /* machine check, masks */
    QUIET(0xc0010055, 0xc0010055, AMD),     /* interrupt pending, C1E */
    QUIET(0xc0010058, 0xc0010058, AMD),     /* MMIO_CONF_BASE */
    QUIET(0xc0010061, 0xc001006b, AMD),     /* P-states */
    QUIET(0xc0010070, 0xc0010071, AMD),     /* COFVID */
    QUIET(0xc0010117, 0xc0010118, AMD),     /* SVM's save area and key */
    QUIET(0xc0010140, 0xc0010141, AMD),     /* OSVW: no erratum that the OS knows better */
    QUIET(0xc0010200, 0xc001020b, AMD),     /* more performance counters */
    QUIET(0xc0010230, 0xc0010247, AMD),     /* of the L2 cache and the northbridge */
    QUIET(0xc0011000, 0xc001103d, AMD),     /* configuration of the core, IBS */
};

static const struct msr_rule *find_rule(u32 msr)
{
    for (const struct msr_rule *r = rules; r < rules + ARRAY_SIZE(rules); r++)
        if (msr >= r->first && msr <= r->last && (r->vendors >> cpu_host.vendor & 1))
            return r;
    return NULL;
}

static bool survives_faults(const struct vcpu *v)
{
    return v->arch.traps && v->arch.traps[X86_VEC_GP].address;
}

static int absent(struct vcpu *v, u32 msr, const char *what)
{
    u64 there;

    if (survives_faults(v) || rdmsr_safe(msr, &there))
        return -EINVAL;
    guest_log("%s of MSR %#x before there is a #GP handler: pretended", what, msr);
    return 0;
}

int guest_rdmsr(struct vcpu *v, u32 msr, u64 *val)
{
    const struct msr_rule *r = find_rule(msr);

    *val = r ? r->value : 0;
    if (!r)
        return absent(v, msr, "read");
    return r->read ? r->read(v, msr, val) : 0;
}

int guest_wrmsr(struct vcpu *v, u32 msr, u64 val)
{
    const struct msr_rule *r = find_rule(msr);
    int err = -EINVAL;

    if (msr == MSR_PRED_CMD)
        return write_pred_cmd(v, msr, val);
    if (r && r->write)
        err = r->write(v, msr, val);
    else if (!r)
        err = absent(v, msr, "write");
    if (!err)
        pv_cpu_switch_to(v);
    return err;
}

/* --- Loading ------------------------------------------------------------------------------------ */

#define CR4_SHOWN (CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_MCE)

u64 pv_fixup_cr4(const struct vcpu *v, u64 cr4)
{
    const struct cpu_policy *p = v->domain->cpuid;
    u64 may = CR4_TSD | CR4_DE;

    if (policy_has(p, X86_FEATURE_FSGSBASE))
        may |= CR4_FSGSBASE;
    if (policy_has(p, X86_FEATURE_XSAVE))
        may |= CR4_OSXSAVE;
    return (cr4 & may) | (cpu_host.cr4 & CR4_SHOWN);
}

u64 pv_hw_cr4(const struct vcpu *v)
{
    u64 cr4 = cpu_host.cr4 | (v->arch.cr[4] & (CR4_TSD | CR4_DE | CR4_FSGSBASE));

    if (!v->domain->arch.tsc_native)
        cr4 |= CR4_TSD;
    /* A kernel in ring 1 is a supervisor to the CPU, yet runs and reads its users' pages. */
    return is_64(v) ? cr4 : cr4 & ~(CR4_SMEP | CR4_SMAP);
}

void pv_cpu_switch_to(const struct vcpu *next)
{
    u64 cr4, smap = cpu_host.cr4 & CR4_SMAP;

    if (is_idle_vcpu(next))
        return;
    cr4 = pv_hw_cr4(next);
    load_cr4(cr4 | smap);
    cpu_info()->open_cr4 = smap & ~cr4 ? cr4 : 0;
    load_tsc_aux(next->arch.tsc_aux);
    load_spec_ctrl(next->arch.spec_ctrl | spec_ctrl_ours());
}

/* --- For the toolstack -------------------------------------------------------------------------- */

u32 pv_vcpu_msrs_get(const struct vcpu *v, struct vcpu_msr *out)
{
    u32 n = 0;

    if (v->arch.tsc_aux)
        out[n++] = (struct vcpu_msr){ MSR_TSC_AUX, v->arch.tsc_aux };
    if (v->arch.spec_ctrl)
        out[n++] = (struct vcpu_msr){ MSR_SPEC_CTRL, v->arch.spec_ctrl };
    return n;
}

int pv_vcpu_msr_set(struct vcpu *v, u32 index, u64 value)
{
    int err = -EINVAL;

    if (index == MSR_TSC_AUX)
        err = set_tsc_aux(v, index, value);
    else if (index == MSR_SPEC_CTRL)
        err = set_spec_ctrl(v, index, value);
    return err ? refuse(err, "MSR %#x with value %#lx is not kept per vCPU", index, value) : 0;
}
