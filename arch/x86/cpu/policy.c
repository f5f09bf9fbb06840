/*
 * CPU policies of PV guests: what of the host's features they may have, and how CPUID answers.
 *
 * Who may have which feature follows the letters in Xen 4.17's public/arch-x86/cpufeatureset.h ('A': every
 * guest; 'a': if the toolstack asks; the rest are for hardware-assisted guests or nobody). A policy is kept
 * as leaves; policy_update() makes the featureset from them, cuts it to what is allowed, and puts it back.
 */
#include <asm/features.h>
#include <asm/spec.h>
#include <public/cpuid.h>
#include <public/errno.h>
#include <public/sysctl.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "internal.h"

#define FBIT(f) (1u << (X86_FEATURE_##f) % 32)
#define MSR_MCU_OPT_CTRL   0x123
#define GDS_MITIGATION_OFF (1UL << 4)

/* Given by default ('A'), and in addition on request ('a'); a unit test compares with the header. */
const u32 pv_default_mask[FEATURESET_WORDS] = {
    [FEATURESET_1d] = 0x1fc9cbf5,   [FEATURESET_1c] = 0xf6d83203,   [FEATURESET_e1d] = 0xea500800,
    [FEATURESET_e1c] = 0x042109e3,  [FEATURESET_Da1] = 0x00000007,  [FEATURESET_7b0] = 0xfdaf0b29,
    [FEATURESET_7c0] = 0x02405f43,  [FEATURESET_e8b] = 0x64001005,  [FEATURESET_7d0] = 0xac00441c,
    [FEATURESET_7a1] = 0x00001c30,  [FEATURESET_e21a] = 0x78000064, [FEATURESET_7d2] = 0x00000021,
    [FEATURESET_m10Al] = 0x1d12e173, [FEATURESET_m10Ah] = 0x40000000, [FEATURESET_e21c] = 0x00000006,
};
const u32 pv_request_mask[FEATURESET_WORDS] = {
    [FEATURESET_7b0] = 0x00000010, [FEATURESET_7c0] = 0x18000000, [FEATURESET_e7d] = 0x00000100,
    [FEATURESET_7d0] = 0x00010100,
};

/*
 * What Xen 4.20 gives besides, by default or on request: a domain that began there may bring it. It needs no more state than guests have
 * by 4.17's features.
 */
static const u32 pv_later_mask[FEATURESET_WORDS] = {
    [FEATURESET_7d0] = FBIT(AVX512_FP16),
    [FEATURESET_7a1] = FBIT(SHA512) | FBIT(SM3) | FBIT(SM4) | FBIT(CMPCCXADD) | FBIT(AVX_IFMA),
    [FEATURESET_e21a] = FBIT(NO_NEST_BP) | FBIT(AMD_FSRS) | FBIT(AMD_FSRC) | FBIT(EPSF) | FBIT(FSRSC) | FBIT(AMD_PREFETCHI),
    [FEATURESET_7d1] = FBIT(AVX_VNNI_INT8) | FBIT(AVX_NE_CONVERT) | FBIT(AVX_VNNI_INT16) | FBIT(PREFETCHI),
};

/* Not kept per vCPU by us: AMD's breakpoint address masks. */
static const u32 pv_withheld[FEATURESET_WORDS] = { [FEATURESET_e1c] = FBIT(DBEXT) };

/* Facts about the hardware that a guest sees anyway, not something to be given. */
static const u32 host_facts[FEATURESET_WORDS] = {
    [FEATURESET_7b0] = FBIT(FDP_EXCP_ONLY) | FBIT(NO_FPU_SEL),
    [FEATURESET_m10Al] = FBIT(RSBA) | FBIT(RRSBA),
};

/* Each feature needs the other; in such an order that one pass down the table suffices. */
#define NEEDS(a, b) { X86_FEATURE_##a, X86_FEATURE_##b }
static const struct { u16 feature, needs; } dependencies[] = {
    NEEDS(SSE, FXSR), NEEDS(SSE2, SSE), NEEDS(SSE3, SSE2), NEEDS(SSSE3, SSE3), NEEDS(SSE4_1, SSSE3),
    NEEDS(SSE4_2, SSE4_1), NEEDS(SSE4A, SSE3), NEEDS(PCLMULQDQ, SSE2), NEEDS(AESNI, SSE2), NEEDS(SHA, SSE2),
    NEEDS(GFNI, SSE2), NEEDS(MISALIGNSSE, SSE), NEEDS(MMXEXT, MMX), NEEDS(3DNOW, MMX), NEEDS(3DNOWEXT, 3DNOW),
    NEEDS(LM, SSE2), NEEDS(CX16, LM), NEEDS(LAHF_LM, LM),
    NEEDS(XSAVEOPT, XSAVE), NEEDS(XSAVEC, XSAVE), NEEDS(XGETBV1, XSAVE), NEEDS(AVX, XSAVE),
    NEEDS(FMA, AVX), NEEDS(F16C, AVX), NEEDS(FMA4, AVX), NEEDS(XOP, AVX), NEEDS(VAES, AVX),
    NEEDS(VPCLMULQDQ, AVX), NEEDS(SM3, AVX), NEEDS(AVX2, AVX), NEEDS(AVX_VNNI, AVX2), NEEDS(AVX512F, AVX2),
    NEEDS(SHA512, AVX2), NEEDS(SM4, AVX2), NEEDS(AVX_IFMA, AVX2), NEEDS(AVX_VNNI_INT8, AVX2), NEEDS(AVX_VNNI_INT16, AVX2),
    NEEDS(AVX_NE_CONVERT, AVX2), NEEDS(CMPCCXADD, LM),
    NEEDS(AVX512DQ, AVX512F), NEEDS(AVX512_IFMA, AVX512F), NEEDS(AVX512PF, AVX512F), NEEDS(AVX512ER, AVX512F),
    NEEDS(AVX512CD, AVX512F), NEEDS(AVX512BW, AVX512F), NEEDS(AVX512VL, AVX512F),
    NEEDS(AVX512_VPOPCNTDQ, AVX512F), NEEDS(AVX512_VNNI, AVX512F), NEEDS(AVX512_4VNNIW, AVX512F),
    NEEDS(AVX512_4FMAPS, AVX512F), NEEDS(AVX512_VP2INTERSECT, AVX512F), NEEDS(AVX512_VBMI, AVX512BW),
    NEEDS(AVX512_VBMI2, AVX512BW), NEEDS(AVX512_BITALG, AVX512BW), NEEDS(AVX512_BF16, AVX512BW),
    NEEDS(AVX512_FP16, AVX512BW),
    NEEDS(TSXLDTRK, RTM), NEEDS(STIBP, IBRSB), NEEDS(SSBD, IBRSB), NEEDS(INTEL_PSFD, SSBD),
};

#define XCR0_FP_SSE 3UL
#define XCR0_AVX    4UL
#define XCR0_AVX512 0xe0UL
#define LEAF_BYTES_XSAVE_MIN 576
#define EXTD_INTEL 8                /* highest extended leaf, low bits */

static struct cpu_policy raw_policy, host_policy, pv_max_policy, pv_default_policy;

/* --- Leaves by number --------------------------------------------------------------------------- */

/* The arrays of a policy, in the order of serialisation within their numbering. */
static const struct leaf_range {
    u32 leaf;
    bool by_subleaf;
    u16 count, offset;
} ranges[] = {
    { 0, false, POLICY_BASIC, offsetof(struct cpu_policy, basic) },
    { 4, true, POLICY_CACHE, offsetof(struct cpu_policy, cache) },
    { 7, true, POLICY_FEAT, offsetof(struct cpu_policy, feat) },
    { 0xb, true, POLICY_TOPO, offsetof(struct cpu_policy, topo) },
    { 0xd, true, POLICY_XSTATE, offsetof(struct cpu_policy, xstate) },
    { 0x80000000, false, POLICY_EXTD, offsetof(struct cpu_policy, extd) },
};

static const struct leaf_range *subleaf_range(u32 leaf)
{
    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
        if (ranges[i].by_subleaf && ranges[i].leaf == leaf)
            return &ranges[i];
    return NULL;
}

/* The place of a leaf in p; NULL: not one that a policy has. */
static struct cpuid_regs *find_leaf(const struct cpu_policy *p, u32 leaf, u32 subleaf)
{
    const struct leaf_range *r = subleaf_range(leaf);
    u32 n = subleaf;

    if (!r) {
        r = leaf >> 16 == 0x8000 ? &ranges[ARRAY_SIZE(ranges) - 1] : &ranges[0];
        n = leaf - r->leaf;
    }
    return n < r->count ? (struct cpuid_regs *)((char *)p + r->offset) + n : NULL;
}

/* True if leaf and subleaf are within p's own limits. */
static bool within_limits(const struct cpu_policy *p, u32 leaf, u32 subleaf)
{
    if (leaf >> 16 == 0x8000)
        return leaf <= max(p->extd[0].a, 0x80000000u);      /* the limit itself is always there */
    if (leaf > p->basic[0].a)
        return false;
    return leaf != 7 || subleaf <= p->feat[0].a;
}

typedef void leaf_fn(void *ctx, u32 leaf, u32 subleaf, struct cpuid_regs *r);

/* Calls fn for every leaf that p has, in rising order. */
static void for_each_leaf(const struct cpu_policy *p, leaf_fn *fn, void *ctx)
{
    const struct leaf_range *r;

    for (u32 leaf = 0; leaf < POLICY_BASIC && leaf <= p->basic[0].a; leaf++) {
        r = subleaf_range(leaf);
        if (!r)
            fn(ctx, leaf, XEN_CPUID_NO_SUBLEAF, find_leaf(p, leaf, 0));
        for (u32 sub = 0; r && sub < r->count && within_limits(p, leaf, sub); sub++)
            if (leaf != 0xd || sub < 2 || (p->xcr0 >> sub & 1))
                fn(ctx, leaf, sub, find_leaf(p, leaf, sub));
    }
    for (u32 leaf = 0x80000000; leaf < 0x80000000 + POLICY_EXTD && within_limits(p, leaf, 0); leaf++)
        fn(ctx, leaf, XEN_CPUID_NO_SUBLEAF, find_leaf(p, leaf, 0));
}

/* Nothing stays in leaves that a lowered limit cut off. */
static void clear_beyond_limits(struct cpu_policy *p)
{
    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
        for (u32 n = 0; n < ranges[i].count; n++) {
            u32 leaf = ranges[i].leaf + (ranges[i].by_subleaf ? 0 : n);

            if (!within_limits(p, leaf, n))
                ((struct cpuid_regs *)((char *)p + ranges[i].offset))[n] = (struct cpuid_regs){ 0, 0, 0, 0 };
        }
}

/* --- Featureset and leaves ---------------------------------------------------------------------- */

struct word_home policy_word_home(unsigned w)
{
    static const struct word_home home[FEATURESET_WORDS] = {
        [FEATURESET_1d] = { 1, 0, 3 },           [FEATURESET_1c] = { 1, 0, 2 },
        [FEATURESET_e1d] = { 0x80000001, 0, 3 }, [FEATURESET_e1c] = { 0x80000001, 0, 2 },
        [FEATURESET_Da1] = { 0xd, 1, 0 },        [FEATURESET_7b0] = { 7, 0, 1 },
        [FEATURESET_7c0] = { 7, 0, 2 },          [FEATURESET_e7d] = { 0x80000007, 0, 3 },
        [FEATURESET_e8b] = { 0x80000008, 0, 1 }, [FEATURESET_7d0] = { 7, 0, 3 },
        [FEATURESET_7a1] = { 7, 1, 0 },          [FEATURESET_e21a] = { 0x80000021, 0, 0 },
        [FEATURESET_7b1] = { 7, 1, 1 },          [FEATURESET_7d2] = { 7, 2, 3 },
        [FEATURESET_7c1] = { 7, 1, 2 },          [FEATURESET_7d1] = { 7, 1, 3 },
        [FEATURESET_e21c] = { 0x80000021, 0, 2 },
    };

    return home[w];
}

u32 *policy_feature_word(const struct cpu_policy *p, unsigned w)
{
    struct word_home home = policy_word_home(w);

    if (!home.leaf)
        return (u32 *)&p->arch_caps + (w - FEATURESET_m10Al);
    return (u32 *)find_leaf(p, home.leaf, home.subleaf) + home.reg;
}

static void features_from_leaves(struct cpu_policy *p)
{
    for (unsigned w = 0; w < FEATURESET_WORDS; w++)
        p->fs[w] = *policy_feature_word(p, w);
}

static void features_to_leaves(struct cpu_policy *p)
{
    for (unsigned w = 0; w < FEATURESET_WORDS; w++)
        *policy_feature_word(p, w) = p->fs[w];
    if (cpu_host.vendor == VENDOR_AMD)
        p->extd[1].d |= p->fs[FEATURESET_1d] & COMMON_1D;
}

static void clear_feature(u32 *fs, unsigned f) { fs[f / 32] &= ~(1u << f % 32); }

static void drop_unsupported(u32 *fs)
{
    if (!(cpu_host.xcr0 & XCR0_FP_SSE))
        clear_feature(fs, X86_FEATURE_XSAVE);
    if (!(cpu_host.xcr0 & XCR0_AVX))
        clear_feature(fs, X86_FEATURE_AVX);
    if (!(cpu_host.xcr0 & XCR0_AVX512))
        clear_feature(fs, X86_FEATURE_AVX512F);
    for (unsigned i = 0; i < ARRAY_SIZE(dependencies); i++)
        if (!feature_in(fs, dependencies[i].needs))
            clear_feature(fs, dependencies[i].feature);
    if (!feature_in(fs, X86_FEATURE_ARCH_CAPS))
        fs[FEATURESET_m10Al] = fs[FEATURESET_m10Ah] = 0;
}

/* Leaf 0xd from the components that the features allow; the host tells offsets and sizes. */
static void update_xstate(struct cpu_policy *p)
{
    u32 da1 = p->fs[FEATURESET_Da1], size = LEAF_BYTES_XSAVE_MIN;

    p->xcr0 = feature_in(p->fs, X86_FEATURE_XSAVE) ? XCR0_FP_SSE : 0;
    if (feature_in(p->fs, X86_FEATURE_AVX))
        p->xcr0 |= XCR0_AVX;
    if (feature_in(p->fs, X86_FEATURE_AVX512F))
        p->xcr0 |= XCR0_AVX512;
    memset(p->xstate, 0, sizeof(p->xstate));
    if (!p->xcr0)
        return;
    for (unsigned n = 2; n < POLICY_XSTATE; n++)
        if (p->xcr0 >> n & 1) {
            p->xstate[n] = raw_policy.xstate[n];
            p->xstate[n].d = 0;
            size = max(size, p->xstate[n].a + p->xstate[n].b);
        }
    p->xstate[0] = (struct cpuid_regs){ (u32)p->xcr0, 0, size, (u32)(p->xcr0 >> 32) };
    p->xstate[1].a = da1;
}

/* Makes p consistent: features within max (NULL: any), what follows from them, nothing beyond the limits. */
static void policy_update(struct cpu_policy *p, const u32 *max)
{
    features_from_leaves(p);
    for (unsigned w = 0; max && w < FEATURESET_WORDS; w++)
        p->fs[w] &= max[w];
    drop_unsupported(p->fs);
    features_to_leaves(p);
    update_xstate(p);
    clear_beyond_limits(p);
    features_from_leaves(p);
    if (cpu_host.vendor == VENDOR_AMD)
        p->fs[FEATURESET_e1d] &= ~COMMON_1D;
}

/* --- The system's policies ---------------------------------------------------------------------- */

static void __init read_raw(struct cpu_policy *p)
{
    const struct leaf_range *r;

    p->basic[0].a = min(cpu_host.max_basic, (u32)POLICY_BASIC - 1);
    p->feat[0].a = p->basic[0].a >= 7 ? min(cpuid(7, 0).a, (u32)POLICY_FEAT - 1) : 0;
    p->extd[0].a = min(cpu_host.max_extended, 0x80000000u + POLICY_EXTD - 1);
    for (r = ranges; r < ranges + ARRAY_SIZE(ranges); r++)
        for (u32 n = 0; n < r->count; n++) {
            u32 leaf = r->by_subleaf ? r->leaf : r->leaf + n;

            if (within_limits(p, leaf, n) && (r->by_subleaf || !subleaf_range(leaf)))
                ((struct cpuid_regs *)((char *)p + r->offset))[n] = cpuid(leaf, r->by_subleaf ? n : 0);
        }
    p->basic[0].a = min(p->basic[0].a, (u32)POLICY_BASIC - 1);
    p->feat[0].a = min(p->feat[0].a, (u32)POLICY_FEAT - 1);
    p->extd[0].a = min(p->extd[0].a, 0x80000000u + POLICY_EXTD - 1);
    p->arch_caps = cpu_host.feat[FEATURESET_m10Al] | (u64)cpu_host.feat[FEATURESET_m10Ah] << 32;
    p->xcr0 = p->xstate[0].a | (u64)p->xstate[0].d << 32;
    features_from_leaves(p);
}

/* Leaves that would tell a guest of what it has not: MONITOR, thermal, PMU and so on. */
static void __init hide_leaves(struct cpu_policy *p)
{
    static const u8 hidden[] = { 3, 5, 6, 8, 9, 0xa, 0xc };

    for (unsigned i = 0; i < ARRAY_SIZE(hidden); i++)
        p->basic[hidden[i]] = (struct cpuid_regs){ 0, 0, 0, 0 };
    p->basic[1].b &= 0x00ffffff;
    if (cpu_host.vendor != VENDOR_AMD)
        p->extd[0].a = min(p->extd[0].a, 0x80000000u + EXTD_INTEL);
    p->extd[7] = (struct cpuid_regs){ 0, 0, 0, p->extd[7].d };
    p->extd[8].d = 0;
    for (u32 n = 9; n < POLICY_EXTD; n++)
        if (n != 0x19 && n != 0x21)
            p->extd[n] = (struct cpuid_regs){ 0, 0, 0, 0 };
    p->extd[0x21].b = p->extd[0x21].d = 0;
}

static void __init offer(struct cpu_policy *p, u32 *allowed, unsigned f)
{
    *policy_feature_word(p, f / 32) |= 1u << f % 32;
    allowed[f / 32] |= 1u << f % 32;
}

/* GDS_CTRL, and nobody has turned the mitigation off (Intel, "Gather Data Sampling": MCU_OPT_CTRL's bit 4). */
static bool __init gathers_are_mended(void)
{
    u64 v;

    return feature_in(cpu_host.feat, X86_FEATURE_GDS_CTRL) && !rdmsr_safe(MSR_MCU_OPT_CTRL, &v) && !(v & GDS_MITIGATION_OFF);
}

/*
 * IA32_ARCH_CAPABILITIES where the CPU has none: Xen gives it to guests on all of Intel's, with what such a CPU is spared, and they bring
 * it with them. By default ours get none.
 */
static void __init offer_arch_caps(struct cpu_policy *p, u32 *allowed)
{
    u64 spared = spec_spared(&cpu_host, gathers_are_mended());

    p->basic[0].a = max(p->basic[0].a, 7u);
    offer(p, allowed, X86_FEATURE_ARCH_CAPS);
    p->arch_caps |= spared;
    allowed[FEATURESET_m10Al] |= (u32)spared;
    allowed[FEATURESET_m10Ah] |= (u32)(spared >> 32);
}

/* What AMD's CPUs are, and older ones do not say: Xen says it for them, in a leaf that they do not have. */
static void __init offer_amd_facts(struct cpu_policy *p, u32 *allowed)
{
    bool bare = !feature_in(cpu_host.feat, X86_FEATURE_HYPERVISOR);

    if (amd_lfence_waits(&cpu_host))
        offer(p, allowed, X86_FEATURE_LFENCE_DISPATCH);
    if (bare && cpu_is_zen_2(&cpu_host))
        offer(p, allowed, X86_FEATURE_NSCB);
    if (bare && cpu_host.family == 0x19)
        offer(p, allowed, X86_FEATURE_BTC_NO);
    if (p->extd[0x21].a)
        p->extd[0].a = max(p->extd[0].a, 0x80000021u);
}

static void __init make_pv(struct cpu_policy *p, bool on_request)
{
    u32 allowed[FEATURESET_WORDS];

    *p = host_policy;
    hide_leaves(p);
    for (unsigned w = 0; w < FEATURESET_WORDS; w++)
        allowed[w] = (((pv_default_mask[w] | (on_request ? pv_request_mask[w] | pv_later_mask[w] : 0)) & ~pv_withheld[w])
                      | host_facts[w]);
    p->basic[1].c |= FBIT(HYPERVISOR);
    if (on_request && cpu_host.vendor == VENDOR_INTEL)
        offer_arch_caps(p, allowed);
    if (on_request && cpu_host.vendor == VENDOR_AMD)
        offer_amd_facts(p, allowed);
    policy_update(p, allowed);
}

void __init cpu_policy_init(void)
{
    read_raw(&raw_policy);
    host_policy = raw_policy;
    policy_update(&host_policy, NULL);
    make_pv(&pv_max_policy, true);
    make_pv(&pv_default_policy, false);
}

/* Empty, as Xen's on a CPU that cannot run HVM guests: tools that show all policies go on. */
static const struct cpu_policy hvm_policy;

static const struct cpu_policy *system_policy(u32 index)
{
    switch (index) {
    case XEN_SYSCTL_cpu_policy_raw:        return &raw_policy;
    case XEN_SYSCTL_cpu_policy_host:       return &host_policy;
    case XEN_SYSCTL_cpu_policy_pv_max:     return &pv_max_policy;
    case XEN_SYSCTL_cpu_policy_pv_default: return &pv_default_policy;
    case XEN_SYSCTL_cpu_policy_hvm_max:
    case XEN_SYSCTL_cpu_policy_hvm_default: return &hvm_policy;
    default:                               return NULL;
    }
}

const struct cpu_policy *cpu_policy_system(u32 index, int *err)
{
    const struct cpu_policy *p = system_policy(index);

    *err = p ? 0 : refuse(-EINVAL, "CPU policy %u, expected 0 to %u", index, XEN_SYSCTL_cpu_policy_hvm_default);
    return p;
}

const u32 *cpu_featureset_system(u32 index, int *err)
{
    static const u8 policy_of[] = {
        [XEN_SYSCTL_cpu_featureset_raw] = XEN_SYSCTL_cpu_policy_raw,
        [XEN_SYSCTL_cpu_featureset_host] = XEN_SYSCTL_cpu_policy_host,
        [XEN_SYSCTL_cpu_featureset_pv] = XEN_SYSCTL_cpu_policy_pv_default,
        [XEN_SYSCTL_cpu_featureset_hvm] = XEN_SYSCTL_cpu_policy_hvm_default,
        [XEN_SYSCTL_cpu_featureset_pv_max] = XEN_SYSCTL_cpu_policy_pv_max,
        [XEN_SYSCTL_cpu_featureset_hvm_max] = XEN_SYSCTL_cpu_policy_hvm_max,
    };
    const struct cpu_policy *p;

    if (index >= ARRAY_SIZE(policy_of)) {
        *err = refuse(-EINVAL, "featureset %u, expected 0 to %zu", index, ARRAY_SIZE(policy_of) - 1);
        return NULL;
    }
    p = cpu_policy_system(policy_of[index], err);
    return p ? p->fs : NULL;
}

u32 cpu_levelling_caps(void) { return 0; }

/* --- Domains' policies -------------------------------------------------------------------------- */

/* What d may have at most. */
static void domain_allowed(const struct domain *d, u32 *allowed)
{
    memcpy(allowed, pv_max_policy.fs, sizeof(pv_max_policy.fs));
    if (d->arch.word == ABI_64)
        return;
    clear_feature(allowed, X86_FEATURE_LM);
    if (cpu_host.vendor != VENDOR_AMD)
        clear_feature(allowed, X86_FEATURE_SYSCALL);
}

void cpu_policy_domain_resized(struct domain *d)
{
    u32 allowed[FEATURESET_WORDS];

    domain_allowed(d, allowed);
    policy_update(d->cpuid, allowed);
}

int cpu_policy_domain_init(struct domain *d)
{
    d->cpuid = xzalloc(struct cpu_policy);
    if (!d->cpuid)
        return -ENOMEM;
    *d->cpuid = pv_default_policy;
    /* The machine's own domain stays on this machine, so it may rely on the TSC. */
    if (d->is_hardware)
        d->cpuid->extd[7].d |= pv_max_policy.fs[FEATURESET_e7d];
    cpu_policy_domain_resized(d);
    return 0;
}

void cpu_policy_domain_free(struct domain *d)
{
    xfree(d->cpuid);
    d->cpuid = NULL;
}

/* --- Serialised --------------------------------------------------------------------------------- */

struct leaf_writer {
    struct xen_cpuid_leaf *out;
    u32 room, used;
};

static void write_leaf(void *ctx, u32 leaf, u32 subleaf, struct cpuid_regs *r)
{
    struct leaf_writer *w = ctx;

    if (w->used < w->room)
        w->out[w->used] = (struct xen_cpuid_leaf){ leaf, subleaf, r->a, r->b, r->c, r->d };
    w->used++;
}

int cpu_policy_to_leaves(const struct cpu_policy *p, struct xen_cpuid_leaf *leaves, u32 *nr)
{
    struct leaf_writer w = { .out = leaves, .room = *nr };
    struct cpuid_regs hv = { p->hv_limit, 0, 0, 0 }, hv2 = { p->hv2_limit, 0, 0, 0 };

    for_each_leaf(p, write_leaf, &w);
    write_leaf(&w, XEN_CPUID_FIRST_LEAF, XEN_CPUID_NO_SUBLEAF, &hv);
    write_leaf(&w, XEN_CPUID_FIRST_LEAF + 0x100, XEN_CPUID_NO_SUBLEAF, &hv2);
    *nr = w.used;
    return w.used > w.room ? -ENOBUFS : 0;
}

int cpu_policy_to_msrs(const struct cpu_policy *p, struct xen_msr_entry *msrs, u32 *nr)
{
    u32 room = *nr;

    *nr = POLICY_MAX_MSRS;
    if (room < POLICY_MAX_MSRS)
        return -ENOBUFS;
    msrs[0] = (struct xen_msr_entry){ .idx = MSR_PLATFORM_INFO, .val = p->platform_info };
    msrs[1] = (struct xen_msr_entry){ .idx = MSR_ARCH_CAPABILITIES, .val = p->arch_caps };
    return 0;
}

static int take_leaf(struct cpu_policy *p, const struct xen_cpuid_leaf *l)
{
    struct cpuid_regs *r;
    bool has_subleaf = subleaf_range(l->leaf) != NULL;

    if (has_subleaf == (l->subleaf == XEN_CPUID_NO_SUBLEAF))
        return -ERANGE;
    if (l->leaf == XEN_CPUID_FIRST_LEAF) {
        p->hv_limit = l->a;
        return 0;
    }
    if (l->leaf == XEN_CPUID_FIRST_LEAF + 0x100) {
        p->hv2_limit = l->a;
        return 0;
    }
    r = find_leaf(p, l->leaf, l->subleaf);
    if (!r)
        return -ERANGE;
    *r = (struct cpuid_regs){ l->a, l->b, l->c, l->d };
    return 0;
}

static int take_msr(struct cpu_policy *p, const struct xen_msr_entry *m)
{
    if (m->flags)
        return -EINVAL;
    if (m->idx == MSR_PLATFORM_INFO)
        p->platform_info = m->val;
    else if (m->idx == MSR_ARCH_CAPABILITIES)
        p->arch_caps = m->val;
    else
        return -ERANGE;
    return 0;
}

static int take_all(struct cpu_policy *p, const struct xen_cpuid_leaf *leaves, u32 nr_leaves,
                    const struct xen_msr_entry *msrs, u32 nr_msrs, struct cpu_policy_error *e)
{
    int err;

    for (u32 i = 0; i < nr_leaves; i++) {
        err = take_leaf(p, &leaves[i]);
        if (err) {
            e->leaf = leaves[i].leaf;
            e->subleaf = leaves[i].subleaf;
            return refuse(err, "CPUID leaf %#x:%#x is not part of a policy", e->leaf, e->subleaf);
        }
    }
    for (u32 i = 0; i < nr_msrs; i++) {
        err = take_msr(p, &msrs[i]);
        if (err) {
            e->msr = msrs[i].idx;
            return refuse(err, "MSR %#x (flags %#x) is not part of a policy", e->msr, msrs[i].flags);
        }
    }
    return policy_check(p, &pv_max_policy, e);
}

int cpu_policy_set(struct domain *d, const struct xen_cpuid_leaf *leaves, u32 nr_leaves,
                   const struct xen_msr_entry *msrs, u32 nr_msrs, struct cpu_policy_error *e)
{
    struct cpu_policy *p = xzalloc(struct cpu_policy), *old = d->cpuid;
    int err;

    *e = (struct cpu_policy_error){ ~0u, ~0u, ~0u };
    if (!p)
        return -ENOMEM;
    *p = *old;
    err = take_all(p, leaves, nr_leaves, msrs, nr_msrs, e);
    if (err) {
        xfree(p);
        return err;
    }
    p->platform_info &= pv_max_policy.platform_info;
    d->cpuid = p;
    cpu_policy_domain_resized(d);
    xfree(old);
    return 0;
}
