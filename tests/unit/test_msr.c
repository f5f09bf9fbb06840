/* MSRs and debug registers of PV guests: what reads as what, refusals, kernels without handlers. */
// SOURCES: arch/x86/pv/msr.c arch/x86/pv/debugreg.c arch/x86/cpu/loaded.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <asm/emulate.h>
#include <asm/features.h>
#include <asm/loaded.h>
#include <asm/percpu.h>
#include <asm/pt_format.h>
#include <asm/time.h>
#include <public/errno.h>
#include <pvisor/cpu_policy.h>

struct cpu_host cpu_host;
u32 spec_ctrl_ours(void) { return 0; }
struct domain *idle_domain;
static struct trap_entry traps[256];
static struct cpu_policy policy;
static struct domain dom;
static struct vcpu vcpu = { .domain = &dom };
static struct cpu_info info;    /* some other vCPU is current: nothing reaches the CPU */

struct cpu_info *cpu_info(void) { return &info; }
void guest_log(const char *fmt, ...) { (void)fmt; }
u64 guest_rdtsc(const struct vcpu *v) { (void)v; return 77; }
static bool bare;               /* the machine has no MSR at all */
bool amd_lfence_waits(const struct cpu_host *h) { (void)h; return true; }
int rdmsr_safe(u32 msr, u64 *v) { *v = msr; return msr < 0x1000 && !bare ? 0 : -EFAULT; }
int wrmsr_safe(u32 msr, u64 v) { (void)msr, (void)v; return 0; }

static int setup(void **state)
{
    (void)state;
    memset(&vcpu.arch, 0, sizeof(vcpu.arch));
    memset(&policy, 0, sizeof(policy));
    cpu_host.vendor = VENDOR_INTEL;
    idle_domain = &dom;             /* so that nothing is loaded */
    dom.cpuid = &policy;
    vcpu.arch.traps = traps;
    traps[X86_VEC_GP].address = 0x1000;
    return 0;
}

static void constant_answers(void **state)
{
    u64 v;

    (void)state;
    assert_int_equal(guest_rdmsr(&vcpu, MSR_PAT, &v), 0);
    assert_int_equal(v, 0x050100070406);
    assert_int_equal(guest_wrmsr(&vcpu, MSR_PAT, v), 0);
    assert_int_equal(guest_wrmsr(&vcpu, MSR_PAT, 6), -EINVAL);
    assert_int_equal(guest_rdmsr(&vcpu, MSR_APIC_BASE, &v), 0);
    assert_int_equal(v, 0xfee00900);
    assert_int_equal(guest_rdmsr(&vcpu, MSR_LSTAR, &v), 0);
    assert_int_equal(guest_wrmsr(&vcpu, MSR_LSTAR, ~0UL), 0);
    assert_int_equal(guest_rdmsr(&vcpu, 0x10, &v), 0);
    assert_int_equal(v, 77);
}

static void efer_follows_the_policy(void **state)
{
    u64 v;

    (void)state;
    policy.fs[FEATURESET_e1d] = 1u << 11;
    assert_int_equal(guest_rdmsr(&vcpu, MSR_EFER, &v), 0);
    assert_int_equal(v, EFER_SCE | EFER_LME | EFER_LMA);
    assert_int_equal(guest_wrmsr(&vcpu, MSR_EFER, v), 0);
    assert_int_equal(guest_wrmsr(&vcpu, MSR_EFER, v | EFER_NX), -EINVAL);
}

static void what_the_policy_lacks_faults(void **state)
{
    u64 v;

    (void)state;
    assert_int_equal(guest_rdmsr(&vcpu, MSR_TSC_AUX, &v), -EINVAL);
    assert_int_equal(guest_rdmsr(&vcpu, 0x48, &v), -EINVAL);
    assert_int_equal(guest_rdmsr(&vcpu, 0x10a, &v), -EINVAL);
    assert_int_equal(guest_wrmsr(&vcpu, 0x49, 1), -EINVAL);
    assert_int_equal(pv_vcpu_msr_set(&vcpu, MSR_TSC_AUX, 1), -EINVAL);
    policy.fs[FEATURESET_e1d] = 1u << 27;
    assert_int_equal(pv_vcpu_msr_set(&vcpu, MSR_TSC_AUX, 1UL << 32), -EINVAL);
    assert_int_equal(pv_vcpu_msr_set(&vcpu, MSR_TSC_AUX, 5), 0);
    assert_int_equal(pv_vcpu_msr_set(&vcpu, MSR_EFER, 5), -EINVAL);
    assert_int_equal(guest_rdmsr(&vcpu, MSR_TSC_AUX, &v), 0);
    assert_int_equal(v, 5);
}

static void probes_before_there_are_handlers(void **state)
{
    u64 v;

    (void)state;
    assert_int_equal(guest_rdmsr(&vcpu, 0x9aa, &v), -EINVAL);
    traps[X86_VEC_GP].address = 0;
    assert_int_equal(guest_rdmsr(&vcpu, 0x9aa, &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(guest_wrmsr(&vcpu, 0x9aa, 1), 0);
    assert_int_equal(guest_rdmsr(&vcpu, 0xc0010299, &v), -EINVAL);   /* nor has this CPU it */
}

/* Kernels read these by plain RDMSR, for no real CPU of the model lacks them; some emulators do. */
static void what_an_emulator_lacks_reads_as_nothing(void **state)
{
    u64 v;

    (void)state;
    assert_int_equal(guest_rdmsr(&vcpu, 0x8b, &v), 0);
    assert_int_equal(v, 0x8b);
    bare = true;
    assert_int_equal(guest_rdmsr(&vcpu, 0x17, &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(guest_rdmsr(&vcpu, 0x8b, &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(guest_rdmsr(&vcpu, MSR_MISC_ENABLE, &v), 0);
    assert_int_equal(v & 0x100, 0);     /* a bit of what rdmsr_safe() left there */
    bare = false;
}

static void cr4_has_what_the_policy_gives(void **state)
{
    (void)state;
    cpu_host.cr4 = CR4_PAE | CR4_OSXSAVE | CR4_SMEP | CR4_OSFXSR;
    assert_int_equal(pv_fixup_cr4(&vcpu, ~0UL), CR4_PAE | CR4_OSFXSR | CR4_TSD | CR4_DE);
    assert_int_equal(pv_fixup_cr4(&vcpu, 0), CR4_PAE | CR4_OSFXSR);
    policy.fs[FEATURESET_1c] = 1u << 26;
    assert_true(pv_fixup_cr4(&vcpu, ~0UL) & CR4_OSXSAVE);
    dom.arch.tsc_native = true;
    assert_int_equal(pv_hw_cr4(&vcpu), cpu_host.cr4);
    dom.arch.tsc_native = false;
    assert_int_equal(pv_hw_cr4(&vcpu), cpu_host.cr4 | CR4_TSD);
    dom.arch.word = ABI_32;
    assert_int_equal(pv_hw_cr4(&vcpu), (cpu_host.cr4 | CR4_TSD) & ~CR4_SMEP);
    dom.arch.word = ABI_64;
}

/* In the hypervisor it is on all the same. (Another value than is loaded would be written, which a test cannot.) */
static void ring_1_runs_without_smap(void **state)
{
    (void)state;
    cpu_host.cr4 = CR4_PAE | CR4_SMEP | CR4_SMAP;
    idle_domain = NULL;
    dom.arch.tsc_native = true;
    this_cpu(loaded).cr4 = cpu_host.cr4;
    pv_cpu_switch_to(&vcpu);
    assert_int_equal(info.open_cr4, 0);
    dom.arch.word = ABI_32;
    this_cpu(loaded).cr4 = CR4_PAE | CR4_SMAP;
    pv_cpu_switch_to(&vcpu);
    assert_int_equal(info.open_cr4, CR4_PAE);
    cpu_host.cr4 = CR4_PAE;
    this_cpu(loaded).cr4 = CR4_PAE;
    pv_cpu_switch_to(&vcpu);
    assert_int_equal(info.open_cr4, 0);
    dom.arch.word = ABI_64;
    dom.arch.tsc_native = false;
}

static void breakpoints_stay_with_the_guest(void **state)
{
    u64 v;

    (void)state;
    assert_int_equal(pv_set_debugreg(&vcpu, 0, 0x400000), 0);
    assert_int_equal(pv_set_debugreg(&vcpu, 0, 0xffff800000000000), -EPERM);
    assert_int_equal(pv_set_debugreg(&vcpu, 0, 0xffff82d040000000), -EPERM);
    assert_int_equal(pv_set_debugreg(&vcpu, 0, 0x00007ffffffffffc), -EPERM);
    assert_int_equal(pv_set_debugreg(&vcpu, 3, 0xffff880000000000), 0);
    assert_int_equal(pv_get_debugreg(&vcpu, 0, &v), 0);
    assert_int_equal(v, 0x400000);
    assert_int_equal(pv_set_debugreg(&vcpu, 7, 0x00000001), 0);
    assert_int_equal(pv_set_debugreg(&vcpu, 7, 0x00020001), -EPERM);    /* I/O without CR4.DE */
    assert_int_equal(pv_set_debugreg(&vcpu, 7, 0x00020000), 0);         /* not enabled */
    assert_int_equal(pv_set_debugreg(&vcpu, 7, 0x2000), -EPERM);        /* general detection */
    assert_int_equal(pv_set_debugreg(&vcpu, 7, 1UL << 32), -EINVAL);
    assert_int_equal(pv_set_debugreg(&vcpu, 6, 1UL << 32), -EINVAL);
    assert_int_equal(pv_set_debugreg(&vcpu, 8, 0), -EINVAL);
    assert_int_equal(pv_set_debugreg(&vcpu, 5, 0x0000ffff & ~0x2000), 0);   /* another name of 7 */
    assert_int_equal(pv_get_debugreg(&vcpu, 7, &v), 0);
    assert_int_equal(v, 0x07ff);
    vcpu.arch.cr[4] = CR4_DE;
    assert_int_equal(pv_set_debugreg(&vcpu, 5, 0), -ENODEV);
    assert_int_equal(pv_get_debugreg(&vcpu, 4, &v), -ENODEV);
}

static bool meets(u16 port, unsigned bytes, u64 *dr6)
{
    bool hit;

    assert_int_equal(pv_set_debugreg(&vcpu, 6, 0), 0);
    hit = debugreg_io(&vcpu, port, bytes);
    assert_int_equal(pv_get_debugreg(&vcpu, 6, dr6), 0);
    *dr6 &= 15;
    return hit;
}

/* A breakpoint on I/O: kept with CR4.DE, and met by what overlaps its 1, 2 or 4 ports, as they are aligned. */
static void breakpoints_on_ports(void **state)
{
    u64 v;

    (void)state;
    vcpu.arch.cr[4] = CR4_DE;
    assert_int_equal(pv_set_debugreg(&vcpu, 7, 0xe0602), 0);     /* G0, 4 ports */
    assert_int_equal(pv_get_debugreg(&vcpu, 7, &v), 0);
    assert_int_equal(v, 0xe0602);
    assert_int_equal(pv_set_debugreg(&vcpu, 0, 0x72), 0);
    assert_false(meets(0x6f, 1, &v));
    assert_true(meets(0x6f, 2, &v));
    assert_int_equal(v, 1);
    assert_true(meets(0x70, 1, &v));
    assert_true(meets(0x73, 4, &v));
    assert_false(meets(0x74, 4, &v));
    assert_int_equal(v, 0);
    assert_int_equal(pv_set_debugreg(&vcpu, 3, 0x71), 0);
    assert_int_equal(pv_set_debugreg(&vcpu, 7, 0x200e0440), 0);  /* L3, 1 port; breakpoint 0 is off */
    assert_true(meets(0x70, 2, &v));
    assert_int_equal(v, 8);
    assert_false(meets(0x72, 2, &v));
    assert_int_equal(pv_set_debugreg(&vcpu, 7, 0x100e0440), 0);  /* on writes of data */
    assert_false(meets(0x71, 1, &v));
    assert_int_equal(pv_set_debugreg(&vcpu, 7, 0x200e0440), 0);
    vcpu.arch.cr[4] = 0;
    assert_false(meets(0x71, 1, &v));
}

/*
 * What kernels of 2005 to 2015 read and write without a fixup, by what they see in CPUID. L: Linux, by the file in
 * arch/x86/kernel (before 2.6.24 arch/i386/kernel) or drivers; N: NetBSD, in sys/arch/x86/x86.
 */
enum { RW, RO, WO };
static const struct probe { u32 msr, vendors; u8 access; u64 value; const char *who; } probes[] = {
#define I (1u << VENDOR_INTEL)
#define A (1u << VENDOR_AMD)
    { 0x0, I | A, RW, 0, "L cpu/mcheck/p5.c" },
    { 0x2a, I, RW, 0, "L cpufreq/speedstep-lib.c; N intel_busclock.c" },
    { 0x2c, I, RO, 0, "L cpufreq/speedstep-lib.c; N intel_busclock.c" },
    { 0x79, I, WO, 0, "L microcode_intel.c; N cpu_ucode_intel.c" },
    { 0xc1, I, RW, 0, "L cpu/perfctr-watchdog.c" }, { 0xc2, I, RW, 0, "L cpu/perf_event_p6.c" },
    { 0xcd, I, RO, 0, "L cpufreq/speedstep-lib.c; N intel_busclock.c" },
    { 0xe2, I, RW, 0, "L drivers/idle/intel_idle.c" },
    { 0xe7, I | A, RW, 0, "L cpufreq/mperf.c" }, { 0xe8, I | A, RW, 0, "L cpufreq/mperf.c" },
    { 0xee, I, RW, 0, "L drivers/hwmon/coretemp.c; N coretemp.c" },
    { 0x119, I, RW, 0, "L cpu/common.c (serial number); N identcpu.c" },
    { 0x186, I, RW, 0, "L cpu/perfctr-watchdog.c" },
    { 0x198, I, RO, 0, "L cpufreq/speedstep-centrino.c; N est.c" },
    { 0x199, I, RW, 0, "L cpufreq/speedstep-centrino.c; N est.c" },
    { 0x19a, I, RW, 0, "L cpufreq/p4-clockmod.c; N odcm.c" },
    { 0x19b, I, RW, 0, "L cpu/mcheck/therm_throt.c" }, { 0x19c, I, RW, 0, "L cpu/mcheck/therm_throt.c; N coretemp.c" },
    { 0x19d, I, RW, 0, "L cpu/mcheck/therm_throt.c" },
    { 0x1a2, I, RW, 0, "N coretemp.c" },
    { 0x1ad, I, RW, 0, "L drivers/cpufreq/intel_pstate.c" },
    { 0x1b0, I, RW, 0, "L cpu/intel.c (energy bias)" }, { 0x1b2, I, RW, 0, "L cpu/mcheck/therm_throt.c" },
    { 0x1fc, I, RW, 0, "L drivers/idle/intel_idle.c" },
    { 0x300, I, RW, 0, "L cpu/perfctr-watchdog.c (P4)" }, { 0x36c, I, RW, 0, "L cpu/perfctr-watchdog.c (P4)" },
    { 0x3b8, I, RW, 0, "L cpu/perfctr-watchdog.c (P4)" },
    { 0x345, I, RO, 0, "L cpu/perf_event_intel.c" },
    { 0x38d, I, RW, 0, "L cpu/perf_event_intel.c" }, { 0x38f, I, RW, 0, "L cpu/perf_event_intel.c" },
    { 0x3f1, I, RW, 0, "L cpu/perf_event_intel_ds.c" },
    { 0x482, I, RO, 0, "L cpu/intel.c (detect_vmx_virtcap)" }, { 0x48b, I, RO, 0, "L cpu/intel.c (detect_vmx_virtcap)" },
    { 0x413, I | A, RW, 0, "L cpu/mcheck/mce.c (family 15h)" },
    { 0xc0000408, A, RW, 0, "L cpu/mcheck/mce.c (family 15h)" },
    { 0xc0010000, A, RW, 0, "L cpu/perfctr-watchdog.c" }, { 0xc0010004, A, RW, 0, "L cpu/perfctr-watchdog.c" },
    { 0xc0010010, A, RW, 0, "L cpu/mtrr/cleanup.c" },
    { 0xc0010015, A, RW, 1 << 24, "L cpu/amd.c; N errata.c" },
    { 0xc001001a, A, RW, 0, "L pci/amd_bus.c" }, { 0xc001001d, A, RW, 0, "L pci/amd_bus.c" },
    { 0xc001001b, A, RW, 0, "L cpu/amd.c (K7)" },
    { 0xc001001f, A, RW, 0, "L cpu/amd.c; N errata.c" },
    { 0xc0010020, A, WO, 0, "L microcode_amd.c; N cpu_ucode_amd.c" },
    { 0xc0010041, A, RW, 0, "L cpufreq/powernow-k8.c; N powernow.c" },
    { 0xc0010042, A, RW, 0, "L cpufreq/powernow-k8.c; N powernow.c" },
    { 0xc0010055, A, RW, 0, "L process.c (C1E)" },
    { 0xc0010058, A, RW, 0, "L mmconf-fam10h_64.c, pci/mmconfig-shared.c" },
    { 0xc0010061, A, RW, 0, "L cpufreq/powernow-k8.c" }, { 0xc0010062, A, RW, 0, "L cpufreq/powernow-k8.c" },
    { 0xc0010063, A, RW, 0, "L cpufreq/powernow-k8.c" }, { 0xc0010064, A, RW, 0, "L cpufreq/powernow-k8.c" },
    { 0xc0010071, A, RW, 0, "L drivers/cpufreq/powernow-k8.c" },
    { 0xc0010114, A, RW, 0x18, "L kvm, and virtualization checks at boot" },
    { 0xc0010117, A, RW, 0, "L kvm/svm.c" },
    { 0xc0010140, A, RW, 0, "L cpu/amd.c (cpu_has_amd_erratum)" }, { 0xc0010141, A, RW, 0, "the same" },
    { 0xc0010200, A, RW, 0, "L cpu/perf_event_amd.c" }, { 0xc0010240, A, RW, 0, "L cpu/perf_event_amd_uncore.c" },
    { 0xc0011004, A, RW, 0, "L cpu/amd.c" }, { 0xc0011005, A, RW, 0, "L cpu/amd.c" }, { 0xc001100d, A, RW, 0, "L cpu/amd.c" },
    { 0xc0011020, A, RW, 0, "N errata.c" }, { 0xc0011021, A, RW, 0, "L cpu/amd.c; N errata.c" },
    { 0xc0011022, A, RW, 0, "N errata.c" }, { 0xc0011023, A, RW, 0, "N errata.c" },
    { 0xc0011029, A, RW, 2, "L cpu/amd.c; N errata.c" },
    { 0xc001102a, A, RW, 0, "L cpu/amd.c (erratum 383); N identcpu.c" },
    { 0xc001103a, A, RW, 0, "L cpu/perf_event_amd_ibs.c" },
#undef I
#undef A
};

static void check_probe(const struct probe *p, bool there)
{
    u64 v = 0;
    int read = guest_rdmsr(&vcpu, p->msr, &v), write = guest_wrmsr(&vcpu, p->msr, 0x55);

    if ((read == 0) != (there && p->access != WO) || (write == 0) != (there && p->access != RO) || (!read && v != p->value))
        fail_msg("MSR %#x (%s): read %d, value %#llx; write %d", p->msr, p->who, read, (unsigned long long)v, write);
    if (!read) {
        assert_int_equal(guest_rdmsr(&vcpu, p->msr, &v), 0);    /* what was written is gone */
        assert_true(v == p->value);
    }
}

static void old_kernels_probes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(probes); i++) {
        static const enum cpu_vendor vendors[] = { VENDOR_INTEL, VENDOR_AMD };

        for (unsigned k = 0; k < ARRAY_SIZE(vendors); k++) {
            cpu_host.vendor = vendors[k];
            cpu_host.family = 0xf;
            check_probe(&probes[i], probes[i].vendors >> vendors[k] & 1);
        }
    }
}

/* That LS_CFG can be read means something to later kernels on later CPUs. */
static void ls_cfg_of_old_families_only(void **state)
{
    u64 v;

    (void)state;
    cpu_host.vendor = VENDOR_AMD;
    cpu_host.family = 0x14;
    assert_int_equal(guest_rdmsr(&vcpu, 0xc0011020, &v), 0);
    cpu_host.family = 0x15;
    assert_int_equal(guest_rdmsr(&vcpu, 0xc0011020, &v), -EINVAL);
    assert_int_equal(guest_wrmsr(&vcpu, 0xc0011020, 0), -EINVAL);
}

#define T(fn) cmocka_unit_test_setup(fn, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(constant_answers), T(efer_follows_the_policy), T(what_the_policy_lacks_faults),
        T(probes_before_there_are_handlers), T(what_an_emulator_lacks_reads_as_nothing), T(cr4_has_what_the_policy_gives),
        T(ring_1_runs_without_smap), T(breakpoints_stay_with_the_guest), T(breakpoints_on_ports), T(old_kernels_probes),
        T(ls_cfg_of_old_families_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
