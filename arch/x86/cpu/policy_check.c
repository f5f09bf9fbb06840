/*
 * Whether a domain can have the CPU policy that the toolstack brings. It has run by that policy elsewhere, if it was migrated or saved:
 * its kernel chose its code by the features once, when it started, and does not ask again. So what is missing here is not taken away
 * from it; it is refused, and stays where it is.
 */
#include <public/cpuid.h>
#include <public/errno.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "internal.h"

#define FBIT(f) (1u << (X86_FEATURE_##f) % 32)
#define TEXT_BYTES 400

/*
 * Of these a running guest misses none: facts about the machine; ITSC, which the tools give to who asks for a TSC that is emulated; AMD's
 * breakpoint masks, which Xen gives to all and we to nobody; 0x80000001.edx, where AMD says bits of leaf 1 again.
 */
static const u32 not_missed[FEATURESET_WORDS] = {
    [FEATURESET_1d] = FBIT(HTT), [FEATURESET_e1d] = COMMON_1D, [FEATURESET_e1c] = FBIT(CMP_LEGACY) | FBIT(DBEXT) |
                       FBIT(ADDR_MSK_EXT),
    [FEATURESET_7b0] = FBIT(FDP_EXCP_ONLY) | FBIT(NO_FPU_SEL), [FEATURESET_e7d] = FBIT(ITSC),
    [FEATURESET_m10Al] = FBIT(RSBA) | FBIT(RRSBA),
};

/* PLATFORM_INFO: processes' CPUID can be made to fault, which Xen gives to guests where CPUs have it. We do not, and it is no loss. */
#define PLATFORM_CPUID_FAULTING (1UL << 31)

#define NAME(word, bit, name) [(word) * 32 + (bit)] = #name,
static const char *const names[FEATURESET_WORDS * 32] = { XEN_X86_FEATURES(NAME) };

static void append_name(char *text, unsigned feature)
{
    char number[32];

    snprintf(number, sizeof(number), "%u/%u", feature / 32, feature % 32);
    if (text[0])
        strlcat(text, " ", TEXT_BYTES);
    strlcat(text, names[feature] ? names[feature] : number, TEXT_BYTES);
}

static void point_at(struct cpu_policy_error *e, unsigned word)
{
    struct word_home home = policy_word_home(word);

    if (home.leaf)
        e->leaf = home.leaf, e->subleaf = home.leaf == 7 || home.leaf == 0xd ? home.subleaf : XEN_CPUID_NO_SUBLEAF;
    else
        e->msr = MSR_ARCH_CAPABILITIES;
}

static int check_features(const struct cpu_policy *p, const struct cpu_policy *max, struct cpu_policy_error *e)
{
    char text[TEXT_BYTES] = "";
    unsigned missing = 0;

    for (unsigned f = 0; f < FEATURESET_WORDS * 32; f++) {
        u32 has = *policy_feature_word(p, f / 32) & ~max->fs[f / 32] & ~not_missed[f / 32];

        if (!(has >> f % 32 & 1))
            continue;
        if (!missing++)
            point_at(e, f / 32);
        append_name(text, f);
    }
    return missing ? refuse(-EINVAL, "%u features of the domain's, which guests do not have on this machine: %s", missing, text) : 0;
}

/* Kernels choose between SYSCALL and SYSENTER by the vendor, for 32-bit processes. */
static int check_vendor(const struct cpu_policy *p, const struct cpu_policy *max, struct cpu_policy_error *e)
{
    const struct cpuid_regs *is = &p->basic[0], *here = &max->basic[0];
    u32 says[] = { is->b, is->d, is->c, 0 }, name[] = { here->b, here->d, here->c, 0 };

    if (!memcmp(says, name, sizeof(says)))
        return 0;
    e->leaf = 0;
    return refuse(-EINVAL, "a CPU of '%s', this machine has one of '%s'", (char *)says, (char *)name);
}

/* Limits within max's; nothing in PLATFORM_INFO that the host cannot do. */
static int check_limits(const struct cpu_policy *p, const struct cpu_policy *max, struct cpu_policy_error *e)
{
    const struct { u32 leaf, subleaf, is, allowed; } limit[] = {
        { 0, XEN_CPUID_NO_SUBLEAF, p->basic[0].a, max->basic[0].a },
        { 7, 0, p->feat[0].a, max->feat[0].a },
        { 0x80000000, XEN_CPUID_NO_SUBLEAF, p->extd[0].a, max->extd[0].a },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(limit); i++)
        if (limit[i].is > limit[i].allowed) {
            e->leaf = limit[i].leaf;
            e->subleaf = limit[i].subleaf;
            return refuse(-EINVAL, "limit %#x in CPUID leaf %#x, at most %#x here", limit[i].is,
                          limit[i].leaf, limit[i].allowed);
        }
    if (p->platform_info & ~max->platform_info & ~PLATFORM_CPUID_FAULTING) {
        e->msr = MSR_PLATFORM_INFO;
        return refuse(-EINVAL, "PLATFORM_INFO %#lx, possible are %#lx", p->platform_info,
                      max->platform_info);
    }
    return 0;
}

int policy_check(const struct cpu_policy *p, const struct cpu_policy *max, struct cpu_policy_error *e)
{
    int err = check_features(p, max, e);

    if (!err)
        err = check_limits(p, max, e);
    return err ? err : check_vendor(p, max, e);
}
