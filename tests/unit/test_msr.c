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
#include <asm/percpu.h>
#include <asm/pt.h>
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
int rdmsr_safe(u32 msr, u64 *v) { *v = msr; return msr < 0x1000 ? 0 : -EFAULT; }
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
    assert_int_equal(pv_set_debugreg(&vcpu, 7, 0x00020001), -EPERM);    /* I/O */
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

#define T(fn) cmocka_unit_test_setup(fn, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(constant_answers), T(efer_follows_the_policy), T(what_the_policy_lacks_faults),
        T(probes_before_there_are_handlers), T(cr4_has_what_the_policy_gives),
        T(breakpoints_stay_with_the_guest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
