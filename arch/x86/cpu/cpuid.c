/*
 * CPUID as a guest sees it: its domain's policy, what changes while it runs, and the hypervisor's leaves
 * (Xen 4.17 public/arch-x86/cpuid.h).
 */
#include <asm/emulate.h>
#include <asm/features.h>
#include <asm/fpu.h>
#include <asm/percpu.h>
#include <asm/x86.h>
#include <public/cpuid.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/domain.h>
#include <pvisor/time.h>
#include <pvisor/version.h>

#define HYPERCALL_MSR 0x40000000

/* ns = ((tsc << shift) * mul) >> 32, with mul's top bit set; a negative shift is to the right. */
static void tsc_scale(u64 khz, u32 *mul, s8 *shift)
{
    u64 hz = khz * 1000, ns = SECONDS(1);

    *shift = 0;
    for (; hz && hz >= 2 * ns; hz >>= 1)
        --*shift;
    for (; hz && hz <= ns; hz <<= 1)
        ++*shift;
    *mul = hz ? (u32)((ns << 32) / hz) : 0;
}

static struct cpuid_regs time_leaf(const struct domain *d, u32 subleaf)
{
    u64 khz = d->arch.tsc_khz ? d->arch.tsc_khz : tsc_khz();
    struct cpuid_regs r = { 0, 0, 0, 0 };
    s8 shift;

    if (subleaf == 0) {
        r.a = (d->arch.tsc_native ? 0 : 1) | (cpu_has(X86_FEATURE_ITSC) ? 2 : 0)
            | (policy_has(d->cpuid, X86_FEATURE_RDTSCP) ? 4 : 0);
        r.b = d->arch.tsc_mode;
        r.c = (u32)khz;
        r.d = d->arch.tsc_incarnation;
    } else if (subleaf == 1) {
        r.a = (u32)d->arch.tsc_offset;
        r.b = (u32)(d->arch.tsc_offset >> 32);
        tsc_scale(khz, &r.c, &shift);
        r.d = (u8)shift;
    } else if (subleaf == 2) {
        r.a = (u32)tsc_khz();
    }
    return r;
}

static u32 hypervisor_limit(const struct domain *d)
{
    u32 limit = d->cpuid->hv_limit & 0xff;

    return limit >= 2 && limit <= XEN_CPUID_MAX_NUM_LEAVES ? limit : XEN_CPUID_MAX_NUM_LEAVES;
}

static struct cpuid_regs hypervisor_leaf(const struct domain *d, u32 n, u32 subleaf)
{
    const struct cpuid_regs none = { 0, 0, 0, 0 };

    if (n > hypervisor_limit(d))
        return none;
    switch (n) {
    case 0:
        return (struct cpuid_regs){ XEN_CPUID_FIRST_LEAF + hypervisor_limit(d), XEN_CPUID_SIGNATURE_EBX,
                                    XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX };
    case 1:
        return (struct cpuid_regs){ version_number, 0, 0, 0 };
    case 2:
        return (struct cpuid_regs){ 1, HYPERCALL_MSR, XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, 0 };
    case 3:
        return time_leaf(d, subleaf);
    case 5:
        return subleaf ? none : (struct cpuid_regs){ 0, cpu_host.phys_bits, 0, 0 };
    default:
        return none;
    }
}

/* Room that XSAVE takes for these components, in the standard or the compacted format. */
static u32 xstate_bytes(const struct cpu_policy *p, u64 xcr0, bool compacted)
{
    u32 size = FPU_LEGACY_SIZE + 64;

    for (unsigned n = 2; n < POLICY_XSTATE; n++) {
        if (!(xcr0 >> n & 1))
            continue;
        if (compacted)
            size = ((p->xstate[n].c & 2) ? ROUND_UP(size, 64u) : size) + p->xstate[n].a;
        else
            size = max(size, p->xstate[n].a + p->xstate[n].b);
    }
    return size;
}

static struct cpuid_regs xstate_leaf(const struct vcpu *v, u32 subleaf)
{
    const struct cpu_policy *p = v->domain->cpuid;
    struct cpuid_regs r = p->xstate[subleaf];

    if (!p->xcr0)
        return (struct cpuid_regs){ 0, 0, 0, 0 };
    if (subleaf == 0)
        r.b = xstate_bytes(p, fpu_xcr0(v), false);
    else if (subleaf == 1 && policy_has(p, X86_FEATURE_XSAVEC))
        r.b = xstate_bytes(p, fpu_xcr0(v), true);
    return r;
}

/*
 * The bit mirrors the guest's CR4. Its kernel, however, sees ours from the start: Linux takes that as the
 * sign that the hypervisor lets it use XSAVE at all, before it sets the bit itself.
 */
static bool shows_osxsave(const struct vcpu *v)
{
    if (!policy_has(v->domain->cpuid, X86_FEATURE_XSAVE))
        return false;
    return (v->arch.cr[4] & CR4_OSXSAVE) || guest_in_kernel(v, guest_regs());
}

static struct cpuid_regs basic_leaf(struct vcpu *v, u32 leaf, u32 subleaf)
{
    const struct cpu_policy *p = v->domain->cpuid;
    const struct cpuid_regs none = { 0, 0, 0, 0 };
    struct cpuid_regs r;

    switch (leaf) {
    case 1:
        r = p->basic[1];
        if (shows_osxsave(v))
            r.c |= 1u << X86_FEATURE_OSXSAVE % 32;
        return r;
    case 4:
        return subleaf < POLICY_CACHE ? p->cache[subleaf] : none;
    case 7:
        return subleaf <= p->feat[0].a && subleaf < POLICY_FEAT ? p->feat[subleaf] : none;
    case 0xb:
        if (!policy_has(p, X86_FEATURE_X2APIC))
            return none;
        return (struct cpuid_regs){ 0, 0, subleaf & 0xff, v->id * 2 };
    case 0xd:
        return subleaf < POLICY_XSTATE ? xstate_leaf(v, subleaf) : none;
    default:
        return p->basic[leaf];
    }
}

/* Those that basic_leaf() does not take as they are in the policy. */
#define SPECIAL_LEAVES (1u << 1 | 1u << 4 | 1u << 7 | 1u << 0xb | 1u << 0xd)

static __attribute__((noinline)) struct cpuid_regs other_leaf(struct vcpu *v, u32 leaf, u32 subleaf)
{
    const struct cpu_policy *p = v->domain->cpuid;
    const struct cpuid_regs none = { 0, 0, 0, 0 };

    if (likely(leaf < POLICY_BASIC))
        return leaf <= p->basic[0].a ? basic_leaf(v, leaf, subleaf) : none;
    if (leaf >> 8 == XEN_CPUID_FIRST_LEAF >> 8)
        return hypervisor_leaf(v->domain, leaf & 0xff, subleaf);
    if (leaf >> 16 == 0x8000)
        return leaf <= p->extd[0].a && (leaf & 0xffff) < POLICY_EXTD ? p->extd[leaf & 0xffff] : none;
    return none;
}

struct cpuid_regs guest_cpuid(struct vcpu *v, u32 leaf, u32 subleaf)
{
    const struct cpu_policy *p = v->domain->cpuid;

    if (leaf < POLICY_BASIC && leaf <= p->basic[0].a && !(SPECIAL_LEAVES >> leaf & 1))
        return p->basic[leaf];
    return other_leaf(v, leaf, subleaf);
}
