/* CPU policies: masks against the public header, serialising and setting, refusals, CPUID. */
// SOURCES: tests/unit/fake/log.c tests/unit/fake/cpuid.c
// SOURCES: arch/x86/cpu/policy.c arch/x86/cpu/policy_check.c arch/x86/cpu/cpuid.c
// SOURCES: arch/x86/cpu/spec_choose.c common/lib/xen_version.c common/lib/text.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <asm/features.h>
#include <public/errno.h>
#include <public/sysctl.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/domain.h>
#include "fake/cpuid.h"
#include "fake/log.h"

void *calloc(size_t, size_t);
void free(void *);
extern const u32 pv_default_mask[], pv_request_mask[];

/* What the unit under test takes from the rest. */
struct cpu_host cpu_host;
static u64 xcr0 = 7;
void *xzalloc_bytes(size_t n) { return calloc(1, n); }
void xfree(void *p) { free(p); }
void guest_log(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_append(fmt, args);
    va_end(args);
}
bool cpu_is_zen_1(const struct cpu_host *h) { (void)h; return false; }
bool cpu_is_zen_2(const struct cpu_host *h) { return h->family == 0x17; }
static bool lfence_waits;
bool amd_lfence_waits(const struct cpu_host *h) { (void)h; return lfence_waits; }
int rdmsr_safe(u32 msr, u64 *v) { (void)msr, (void)v; return -EFAULT; }
u64 tsc_khz(void) { return 2500000; }
u64 fpu_xcr0(const struct vcpu *v) { (void)v; return xcr0; }

static struct cpu_info info;
struct cpu_info *cpu_info(void) { return &info; }

static struct domain dom;
static struct vcpu vcpu = { .domain = &dom };

static int setup(void **state)
{
    (void)state;
    fake_feature_7d = 0;
    cpu_host = (struct cpu_host){ .vendor = VENDOR_INTEL, .phys_bits = 40, .xcr0 = 7 };
    cpu_host.max_basic = cpuid(0, 0).a;
    cpu_host.max_extended = cpuid(0x80000000, 0).a;
    cpu_policy_init();
    memset(&dom, 0, sizeof(dom));
    return cpu_policy_domain_init(&dom);
}

static int teardown(void **state)
{
    (void)state;
    cpu_policy_domain_free(&dom);
    return 0;
}

static void masks_match_the_public_header(void **state)
{
    u32 a[FEATURESET_WORDS] = { 0 }, on_request[FEATURESET_WORDS] = { 0 };
    FILE *f = fopen("/usr/include/xen/arch-x86/cpufeatureset.h", "r");
    char line[256], name[64], attr[8];
    unsigned w, b;

    (void)state;
    if (!f)
        skip();
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "XEN_CPUFEATURE(%63[^,], %u*32+ %u) /*%7[!AaSsHh]", name, &w, &b, attr) == 4) {
            w += b / 32, b %= 32;
            if (strchr(attr, 'A'))
                a[w] |= 1u << b;
            else if (strchr(attr, 'a'))
                on_request[w] |= 1u << b;
        }
    fclose(f);
    assert_memory_equal(a, pv_default_mask, sizeof(a));
    assert_memory_equal(on_request, pv_request_mask, sizeof(a));
}

static void default_is_within_max(void **state)
{
    int err;
    const u32 *def = cpu_featureset_system(XEN_SYSCTL_cpu_featureset_pv, &err);
    const u32 *max = cpu_featureset_system(XEN_SYSCTL_cpu_featureset_pv_max, &err);

    (void)state;
    for (unsigned w = 0; w < FEATURESET_WORDS; w++)
        assert_int_equal(def[w] & ~max[w], 0);
    assert_true(feature_in(def, X86_FEATURE_HYPERVISOR));
    assert_true(feature_in(def, X86_FEATURE_LM));
    assert_false(feature_in(max, X86_FEATURE_VME));
    assert_false(feature_in(max, X86_FEATURE_SMEP));
    assert_false(feature_in(max, X86_FEATURE_SMAP));
    assert_false(feature_in(max, X86_FEATURE_OSXSAVE));
}

static void round_trip_changes_nothing(void **state)
{
    static struct xen_cpuid_leaf leaves[POLICY_MAX_LEAVES], again[POLICY_MAX_LEAVES];
    struct xen_msr_entry msrs[POLICY_MAX_MSRS];
    u32 n = POLICY_MAX_LEAVES, m = POLICY_MAX_MSRS, n2 = POLICY_MAX_LEAVES;
    struct cpu_policy_error e;

    (void)state;
    assert_int_equal(cpu_policy_to_leaves(dom.cpuid, leaves, &n), 0);
    assert_int_equal(cpu_policy_to_msrs(dom.cpuid, msrs, &m), 0);
    assert_int_equal(cpu_policy_set(&dom, leaves, n, msrs, m, &e), 0);
    assert_int_equal(cpu_policy_to_leaves(dom.cpuid, again, &n2), 0);
    assert_int_equal(n, n2);
    assert_memory_equal(leaves, again, n * sizeof(leaves[0]));
    n2 = n - 1;
    assert_int_equal(cpu_policy_to_leaves(dom.cpuid, again, &n2), -ENOBUFS);
    assert_int_equal(n2, n);
}

static void set_is_checked(void **state)
{
    static const struct { struct xen_cpuid_leaf l; int err; } bad[] = {
        { { 0xe, ~0u, 0, 0, 0, 0 }, -ERANGE },          /* beyond the array */
        { { 7, ~0u, 0, 0, 0, 0 }, -ERANGE },            /* lacks its subleaf */
        { { 1, 0, 0, 0, 0, 0 }, -ERANGE },              /* has none */
        { { 0xd, 63, 0, 0, 0, 0 }, -ERANGE },
        { { 0x80000022, ~0u, 0, 0, 0, 0 }, -ERANGE },
        { { 0xc0000000, ~0u, 0, 0, 0, 0 }, -ERANGE },
        { { 0, ~0u, 0x20, 0, 0, 0 }, -EINVAL },         /* limit beyond the host's */
        { { 0x80000000, ~0u, 0xffffffff, 0, 0, 0 }, -EINVAL },
    };
    struct cpu_policy_error e;
    struct cpu_policy *before = dom.cpuid;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(cpu_policy_set(&dom, &bad[i].l, 1, NULL, 0, &e), bad[i].err);
        assert_int_equal(e.leaf, bad[i].l.leaf);
        assert_ptr_equal(dom.cpuid, before);
    }
    assert_int_equal(cpu_policy_set(&dom, NULL, 0, &(struct xen_msr_entry){ .idx = 0x1b }, 1, &e), -ERANGE);
    assert_int_equal(e.msr, 0x1b);
    assert_int_equal(cpu_policy_set(&dom, NULL, 0, &(struct xen_msr_entry){ .idx = 0xce, .flags = 1 }, 1, &e),
                     -EINVAL);
    assert_int_equal(cpu_policy_set(&dom, NULL, 0, &(struct xen_msr_entry){ .idx = 0xce, .val = 1 }, 1, &e),
                     -EINVAL);
}

static void what_needs_a_feature_goes_with_it(void **state)
{
    struct xen_cpuid_leaf l = { 1, ~0u, 0x6f0, 0, 0, 0 };
    struct cpu_policy_error e;

    (void)state;
    assert_int_equal(cpu_policy_set(&dom, &l, 1, NULL, 0, &e), 0);
    assert_false(policy_has(dom.cpuid, X86_FEATURE_XSAVE));
    assert_false(policy_has(dom.cpuid, X86_FEATURE_AVX2));
    assert_int_equal(dom.cpuid->xcr0, 0);
    assert_int_equal(guest_cpuid(&vcpu, 0xd, 0).a, 0);
}

/* One leaf of dom's with a register changed: as the policy of a domain that comes from another machine. */
static int set_changed(u32 leaf, u32 subleaf, u32 *(*reg)(struct xen_cpuid_leaf *), u32 flip, struct cpu_policy_error *e)
{
    static struct xen_cpuid_leaf leaves[POLICY_MAX_LEAVES];
    u32 n = POLICY_MAX_LEAVES;

    log_clear();
    assert_int_equal(cpu_policy_to_leaves(dom.cpuid, leaves, &n), 0);
    for (u32 i = 0; i < n; i++)
        if (leaves[i].leaf == leaf && leaves[i].subleaf == subleaf)
            *reg(&leaves[i]) ^= flip;
    return cpu_policy_set(&dom, leaves, n, NULL, 0, e);
}

static u32 *reg_b(struct xen_cpuid_leaf *l) { return &l->b; }
static u32 *reg_c(struct xen_cpuid_leaf *l) { return &l->c; }
static u32 *reg_d(struct xen_cpuid_leaf *l) { return &l->d; }

static void features_that_are_missing_are_named(void **state)
{
    struct cpu_policy *before = dom.cpuid;
    struct cpu_policy_error e;

    (void)state;
    /* Guests never have these, nor bit 10, whose name nobody knows. */
    assert_int_equal(set_changed(1, XEN_CPUID_NO_SUBLEAF, reg_d, 1u << 1 | 1u << 10, &e), -EINVAL);
    assert_non_null(strstr(log_text, "2 features of the domain's, which guests do not have on this machine: VME 0/10"));
    assert_int_equal(e.leaf, 1);
    assert_int_equal(e.subleaf, XEN_CPUID_NO_SUBLEAF);
    assert_int_equal(set_changed(7, 0, reg_b, 1u << 7 | 1u << 20, &e), -EINVAL);
    assert_non_null(strstr(log_text, ": SMEP SMAP"));
    assert_true(e.leaf == 7 && e.subleaf == 0);
    assert_int_equal(cpu_policy_set(&dom, NULL, 0, &(struct xen_msr_entry){ .idx = 0x10a, .val = 1 }, 1, &e), -EINVAL);
    assert_non_null(strstr(log_text, ": RDCL_NO"));
    assert_int_equal(e.msr, 0x10a);
    assert_int_equal(e.leaf, ~0u);
    assert_ptr_equal(dom.cpuid, before);
}

/* A line that has more names than room is cut, and says how many there are. */
static void all_features_at_once_are_missing(void **state)
{
    struct xen_cpuid_leaf l[] = { { 1, ~0u, 0, 0, ~0u, ~0u }, { 7, 0, 0, ~0u, ~0u, ~0u }, { 0x80000001, ~0u, 0, 0, ~0u, ~0u } };
    struct cpu_policy_error e;

    (void)state;
    log_clear();
    assert_int_equal(cpu_policy_set(&dom, l, ARRAY_SIZE(l), NULL, 0, &e), -EINVAL);
    assert_non_null(strstr(log_text, "features of the domain's"));
    assert_true(strlen(log_text) < 600);
}

static void what_a_guest_does_not_miss_is_dropped(void **state)
{
    struct cpu_policy_error e;

    (void)state;
    assert_false(policy_has(dom.cpuid, X86_FEATURE_DBEXT));
    assert_int_equal(set_changed(0x80000001, XEN_CPUID_NO_SUBLEAF, reg_c, 1u << 26, &e), 0);
    assert_false(policy_has(dom.cpuid, X86_FEATURE_DBEXT));
}

/* Where Xen ran it a guest of an old CPU was told, by a register that the CPU does not have, what the CPU is spared. */
static void what_xen_has_said_of_an_old_cpu_is_so(void **state)
{
    struct xen_msr_entry spared = { .idx = 0x10a, .val = 1UL << 26 | 1UL << 27 | 1UL << 2 };
    struct xen_msr_entry more = { .idx = 0x10a, .val = 1UL << 26 | 1 };
    struct xen_cpuid_leaf has = { 7, 0, 0, 0, 0, 1u << 29 };
    struct cpu_policy_error e;

    (void)state;
    assert_false(policy_has(dom.cpuid, X86_FEATURE_ARCH_CAPS));
    assert_int_equal(cpu_policy_set(&dom, &has, 1, &more, 1, &e), -EINVAL);
    assert_non_null(strstr(log_text, ": RDCL_NO"));
    assert_int_equal(cpu_policy_set(&dom, &has, 1, &spared, 1, &e), 0);
    assert_true(policy_has(dom.cpuid, X86_FEATURE_ARCH_CAPS));
    assert_int_equal(dom.cpuid->arch_caps, 1UL << 26 | 1UL << 27);
    assert_int_equal(guest_cpuid(&vcpu, 7, 0).d >> 29 & 1, 1);
}

/* And what a CPU says by the register that it has, guests are told from the beginning. */
static void what_a_cpu_says_of_itself_is_told(void **state)
{
    (void)state;
    fake_feature_7d = 1u << 29;
    cpu_host.feat[FEATURESET_m10Al] = 1;
    cpu_policy_init();
    cpu_policy_domain_free(&dom);
    assert_int_equal(cpu_policy_domain_init(&dom), 0);
    assert_true(policy_has(dom.cpuid, X86_FEATURE_ARCH_CAPS));
    assert_int_equal(dom.cpuid->arch_caps & 1, 1);
}

/* Its processes' CPUID faulted if they wished, there; here nobody is told of such a thing. */
static void cpuid_faulting_is_not_missed(void **state)
{
    struct xen_msr_entry faulting = { .idx = 0xce, .val = 1UL << 31 }, more = { .idx = 0xce, .val = 1UL << 31 | 1 };
    struct cpu_policy_error e;

    (void)state;
    assert_int_equal(cpu_policy_set(&dom, NULL, 0, &more, 1, &e), -EINVAL);
    assert_int_equal(cpu_policy_set(&dom, NULL, 0, &faulting, 1, &e), 0);
    assert_int_equal(dom.cpuid->platform_info, 0);
}

/* An AMD CPU of so old a family, under another hypervisor or not, and one leaf of a domain that Xen has told what the CPU does not say. */
static int set_of_amd(u8 family, bool waits, struct xen_cpuid_leaf said)
{
    struct xen_cpuid_leaf l[] = { { 0x80000000, XEN_CPUID_NO_SUBLEAF, 0x80000021, 0, 0, 0 }, said };
    struct cpu_policy_error e;
    int err;

    cpu_host.vendor = VENDOR_AMD;
    cpu_host.family = family;
    lfence_waits = waits;
    cpu_policy_init();
    cpu_policy_domain_free(&dom);
    assert_int_equal(cpu_policy_domain_init(&dom), 0);
    err = cpu_policy_set(&dom, l, ARRAY_SIZE(l), NULL, 0, &e);
    lfence_waits = false;
    return err;
}

static void what_xen_says_for_an_amd_cpu_is_so(void **state)
{
    const struct xen_cpuid_leaf waits = { 0x80000021, XEN_CPUID_NO_SUBLEAF, 1u << 2, 0, 0, 0 };
    const struct xen_cpuid_leaf clears = { 0x80000021, XEN_CPUID_NO_SUBLEAF, 1u << 2 | 1u << 6, 0, 0, 0 };
    const struct xen_cpuid_leaf btc_no = { 0x80000008, XEN_CPUID_NO_SUBLEAF, 0, 1u << 29, 0, 0 };

    (void)state;
    assert_int_equal(set_of_amd(0x15, true, waits), 0);
    assert_true(policy_has(dom.cpuid, X86_FEATURE_LFENCE_DISPATCH));
    assert_int_equal(set_of_amd(0x15, false, waits), -EINVAL);
    assert_int_equal(set_of_amd(0x15, true, clears), -EINVAL);
    assert_int_equal(set_of_amd(0x17, true, clears), 0);
    assert_int_equal(set_of_amd(0x17, true, btc_no), -EINVAL);
    assert_int_equal(set_of_amd(0x19, true, btc_no), 0);
}

static void another_vendor_is_refused(void **state)
{
    struct cpu_policy_error e;

    (void)state;
    assert_int_equal(set_changed(0, XEN_CPUID_NO_SUBLEAF, reg_b, 'x', &e), -EINVAL);
    assert_non_null(strstr(log_text, "this machine has one of '"));
    assert_int_equal(e.leaf, 0);
}

static void small_guests_have_no_long_mode(void **state)
{
    (void)state;
    assert_true(policy_has(dom.cpuid, X86_FEATURE_LM));
    dom.arch.word = ABI_32;
    cpu_policy_domain_resized(&dom);
    assert_false(policy_has(dom.cpuid, X86_FEATURE_LM));
    assert_int_equal(guest_cpuid(&vcpu, 0x80000001, 0).d & 1u << 29, 0);
}

static void hypervisor_leaves(void **state)
{
    struct cpuid_regs r = guest_cpuid(&vcpu, 0x40000000, 0);
    char sig[13] = { 0 };

    (void)state;
    memcpy(sig, (u32[]){ r.b, r.c, r.d }, 12);
    assert_string_equal(sig, "XenVMMXenVMM");
    assert_int_equal(r.a, 0x40000005);
    assert_int_equal(guest_cpuid(&vcpu, 0x40000001, 0).a, 4 << 16 | 17);
    assert_int_equal(guest_cpuid(&vcpu, 0x40000002, 0).a, 1);
    assert_int_equal(guest_cpuid(&vcpu, 0x40000005, 0).b, 40);
    assert_int_equal(guest_cpuid(&vcpu, 0x40000006, 0).a, 0);
    /* 2.5 GHz: ns = (tsc >> 1) * 0.8 */
    r = guest_cpuid(&vcpu, 0x40000003, 1);
    assert_int_equal((s8)r.d, -1);
    assert_int_equal(r.c, 0xcccccccc);
}

static void dynamic_bits(void **state)
{
    (void)state;
    vcpu.arch.cr[4] = 0;
    vcpu.arch.kernel_mode = true;
    assert_int_not_equal(guest_cpuid(&vcpu, 1, 0).c & 1u << 27, 0);
    vcpu.arch.kernel_mode = false;
    assert_int_equal(guest_cpuid(&vcpu, 1, 0).c & 1u << 27, 0);
    vcpu.arch.cr[4] = CR4_OSXSAVE;
    assert_int_not_equal(guest_cpuid(&vcpu, 1, 0).c & 1u << 27, 0);
    assert_int_equal(guest_cpuid(&vcpu, 1, 0).b >> 24, 0);
    assert_int_equal(guest_cpuid(&vcpu, 0x15, 0).a, 0);
    assert_int_equal(guest_cpuid(&vcpu, 0x80ffffff, 0).a, 0);
}

static void only_pv_is_here(void **state)
{
    static const u32 no_feature[FEATURESET_WORDS];
    static struct xen_cpuid_leaf leaves[POLICY_MAX_LEAVES];
    const struct cpu_policy *hvm;
    u32 nr;
    int err;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        hvm = cpu_policy_system(i ? XEN_SYSCTL_cpu_policy_hvm_default : XEN_SYSCTL_cpu_policy_hvm_max, &err);
        assert_non_null(hvm);
        assert_int_equal(err, 0);
        assert_memory_equal(hvm->fs, no_feature, sizeof(no_feature));
        /* The limits are told, so that whoever reads policies one after the other does not take the last one's. */
        nr = POLICY_MAX_LEAVES;
        assert_int_equal(cpu_policy_to_leaves(hvm, leaves, &nr), 0);
        assert_true(leaves[0].leaf == 0 && leaves[1].leaf == 0x80000000 && !leaves[0].a && !leaves[1].a);
    }
    assert_null(cpu_policy_system(6, &err));
    assert_int_equal(err, -EINVAL);
    assert_null(cpu_featureset_system(~0u, &err));
    assert_int_equal(err, -EINVAL);
    assert_memory_equal(cpu_featureset_system(XEN_SYSCTL_cpu_featureset_hvm, &err), no_feature, sizeof(no_feature));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(masks_match_the_public_header), T(default_is_within_max), T(round_trip_changes_nothing),
        T(set_is_checked), T(what_needs_a_feature_goes_with_it), T(features_that_are_missing_are_named),
        T(all_features_at_once_are_missing), T(what_a_guest_does_not_miss_is_dropped), T(what_xen_has_said_of_an_old_cpu_is_so),
        T(what_a_cpu_says_of_itself_is_told), T(cpuid_faulting_is_not_missed), T(what_xen_says_for_an_amd_cpu_is_so),
        T(another_vendor_is_refused),
        T(small_guests_have_no_long_mode), T(hypervisor_leaves), T(dynamic_bits), T(only_pv_is_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
