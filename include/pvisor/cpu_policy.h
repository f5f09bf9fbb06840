/*
 * CPU policies: what CPUID and a few read-only MSRs say to a guest. Raw is the hardware; host what the hypervisor uses of it;
 * pv_max all that a PV guest may have; pv_default what it gets unless the toolstack says otherwise. A domain starts with
 * pv_default, and XEN_DOMCTL_set_cpu_policy replaces it, within pv_max, before the domain first runs.
 *
 * Policies travel as arrays of xen_cpuid_leaf (leaf, subleaf, four registers) and xen_msr_entry (index, value), in
 * the order and ranges that libxenguest 4.17 serialises (Xen 4.17 public/arch-x86/xen.h, sysctl.h, domctl.h).
 */
#ifndef PVISOR_CPU_POLICY_H
#define PVISOR_CPU_POLICY_H

#include <asm/features.h>
#include <asm/x86.h>
#include <public/arch-x86.h>
#include <pvisor/types.h>

struct domain;
struct vcpu;

/* Highest leaves and subleaves that a policy can hold. */
#define POLICY_BASIC  (0xd + 1)
#define POLICY_CACHE  (5 + 1)       /* leaf 4 */
#define POLICY_FEAT   (2 + 1)       /* leaf 7 */
#define POLICY_TOPO   (1 + 1)       /* leaf 0xb */
#define POLICY_XSTATE (62 + 1)      /* leaf 0xd */
#define POLICY_EXTD   (0x21 + 1)    /* 0x80000000... */

/* Entries that a whole policy can take when serialised: what a call with NULL buffers reports. */
#define POLICY_MAX_LEAVES \
    (POLICY_BASIC - 4 + POLICY_CACHE + POLICY_FEAT + POLICY_TOPO + POLICY_XSTATE + POLICY_EXTD + 2)
#define POLICY_MAX_MSRS 2

struct cpu_policy {
    struct cpuid_regs basic[POLICY_BASIC];      /* 4, 7, 0xb and 0xd unused */
    struct cpuid_regs cache[POLICY_CACHE], feat[POLICY_FEAT], topo[POLICY_TOPO], xstate[POLICY_XSTATE];
    struct cpuid_regs extd[POLICY_EXTD];
    u32 hv_limit, hv2_limit;                    /* 0x40000000.a, 0x40000100.a as the toolstack set them */
    u64 platform_info, arch_caps;               /* MSRs 0xce, 0x10a */
    /* Derived by policy_update(): */
    u32 fs[FEATURESET_WORDS];
    u64 xcr0;                                   /* components the guest may enable; 0: no XSAVE */
};

/* Boot, after cpu_detect(): computes the system policies. */
void cpu_policy_init(void);

/* d->cpuid: a private copy of pv_default. 0 or -ENOMEM. */
int cpu_policy_domain_init(struct domain *d);
void cpu_policy_domain_free(struct domain *d);
/* The domain's word size changed (XEN_DOMCTL_set_address_size): 32-bit guests lose LM and, except on AMD, SYSCALL. */
void cpu_policy_domain_resized(struct domain *d);

static inline bool policy_has(const struct cpu_policy *p, enum x86_feature f) { return feature_in(p->fs, f); }

/* CPUID as v sees it, with the dynamic bits (OSXSAVE, sizes by XCR0) and the hypervisor's leaves at 0x40000000. */
struct cpuid_regs guest_cpuid(struct vcpu *v, u32 leaf, u32 subleaf);

/*
 * Back ends of the control calls. They act on plain arrays; the callers copy them from and to the guest.
 *
 * A call with a NULL guest handle reports POLICY_MAX_LEAVES / POLICY_MAX_MSRS (sysctl) and copies nothing.
 * index is XEN_SYSCTL_cpu_policy_*. NULL: index is not known (*err is -EINVAL). HVM guests' are empty.
 */
const struct cpu_policy *cpu_policy_system(u32 index, int *err);

/*
 * Serialise: fill at most *nr entries and set *nr to what was written. -ENOBUFS: the buffer is too small (*nr is then
 * the number needed).
 */
int cpu_policy_to_leaves(const struct cpu_policy *p, struct xen_cpuid_leaf *leaves, u32 *nr);
int cpu_policy_to_msrs(const struct cpu_policy *p, struct xen_msr_entry *msrs, u32 *nr);

/* Where a policy was found wanting. All start as ~0: not identified. */
struct cpu_policy_error {
    u32 leaf, subleaf, msr;
};

/*
 * XEN_DOMCTL_set_cpu_policy. Leaves and MSRs not given stay as they are; features and limits beyond pv_max's and another
 * vendor are -EINVAL, a leaf or MSR outside the ranges above -ERANGE, both with *e. What is not for d's word size, or lacks what
 * it needs, is dropped. The caller has checked that d never ran (else -EEXIST) and is not the caller's own domain. On error d keeps
 * its policy.
 */
int cpu_policy_set(struct domain *d, const struct xen_cpuid_leaf *leaves, u32 nr_leaves,
                   const struct xen_msr_entry *msrs, u32 nr_msrs, struct cpu_policy_error *e);

/*
 * XEN_SYSCTL_get_cpu_featureset: the FEATURESET_WORDS words for index (XEN_SYSCTL_cpu_featureset_*), or NULL with *err as
 * above. The caller copies min(its number, FEATURESET_WORDS), reports the number copied, and -ENOBUFS if its was smaller.
 */
const u32 *cpu_featureset_system(u32 index, int *err);
/* XEN_SYSCTL_get_cpu_levelling_caps. */
u32 cpu_levelling_caps(void);

#endif
