/* Which defences against speculative execution a CPU gets: a function of what it says of itself and of the wishes alone. */
#include <asm/features.h>
#include <asm/spec.h>

#define ARCH_CAPS_BIT(f) (1UL << (X86_FEATURE_##f - FEATURESET_m10Al * 32))

static bool granted(enum spec_wish wish, bool needed) { return wish == SPEC_AUTO ? needed : wish == SPEC_ON; }

/* Is there something in the CPU's buffers for a guest to find that VERW clears, with the microcode that it has? */
static bool shows_buffers(const struct cpu_host *h)
{
    const u32 *f = h->feat;
    bool mds = !feature_in(f, X86_FEATURE_MDS_NO), taa = feature_in(f, X86_FEATURE_RTM) && !feature_in(f, X86_FEATURE_TAA_NO);

    if (h->vendor == VENDOR_AMD)
        return feature_in(f, X86_FEATURE_VERW_CLEAR) && !(feature_in(f, X86_FEATURE_TSA_SQ_NO) && feature_in(f, X86_FEATURE_TSA_L1_NO));
    return h->vendor == VENDOR_INTEL && ((feature_in(f, X86_FEATURE_MD_CLEAR) && (mds || taa)) || feature_in(f, X86_FEATURE_RFDS_CLEAR));
}

/* Zen 1's divider passes its last result on by speculation (CVE-2023-20588), and so does Hygon's. */
static bool shows_quotients(const struct cpu_host *h) { return cpu_is_zen_1(h) || (h->vendor == VENDOR_AMD && h->family == 0x18); }

/* --- What nothing here stops --- */

static bool is_any_of(u8 model, const u8 *models, unsigned nr)
{
    while (nr)
        if (models[--nr] == model)
            return true;
    return false;
}

/* Returns that other code's branches have trained: AMD's any, Intel's from Skylake on those that find no return address remembered. */
static bool confuses_returns(const struct cpu_host *h)
{
    static const u8 skylakes[] = { 0x4e, 0x55, 0x5e, 0x66, 0x8e, 0x9e };

    if (h->vendor == VENDOR_AMD)
        return h->family >= 0x15 && h->family <= 0x18 && !feature_in(h->feat, X86_FEATURE_BTC_NO);
    return h->vendor == VENDOR_INTEL && h->family == 6 && is_any_of(h->model, skylakes, ARRAY_SIZE(skylakes)) &&
           !feature_in(h->feat, X86_FEATURE_EIBRS);
}

static bool overflows_returns(const struct cpu_host *h)
{
    return h->vendor == VENDOR_AMD && h->family >= 0x17 && h->family <= 0x19 && !feature_in(h->feat, X86_FEATURE_SRSO_NO);
}

/* Skylake's servers to Rocket Lake: Intel's list of what selects targets, and of what has new microcode because it gathers. */
static bool is_late_core(const struct cpu_host *h)
{
    static const u8 models[] = { 0x55, 0x6a, 0x6c, 0x7e, 0x8c, 0x8d, 0x8e, 0x9e, 0xa5, 0xa6, 0xa7 };

    return h->vendor == VENDOR_INTEL && h->family == 6 && is_any_of(h->model, models, ARRAY_SIZE(models));
}

/* What has no enhanced IBRS does not. */
static bool selects_targets(const struct cpu_host *h)
{
    return is_late_core(h) && feature_in(h->feat, X86_FEATURE_EIBRS) && !feature_in(h->feat, X86_FEATURE_ITS_NO);
}

/* AVX2 has the instructions, and hiding it does not take them away: without AVX there are none. A hypervisor below may hide the model. */
static bool gathers_others(const struct cpu_host *h, bool mended)
{
    if (!feature_in(h->feat, X86_FEATURE_AVX))
        return false;
    if (feature_in(h->feat, X86_FEATURE_GDS_CTRL))
        return !mended;
    return feature_in(h->feat, X86_FEATURE_HYPERVISOR) || is_late_core(h);
}

/* Intel's list: Atoms from Goldmont on, and what has such cores beside others; and whatever says so, or may be on the list. */
static bool shows_registers(const struct cpu_host *h)
{
    static const u8 models[] = { 0x5c, 0x5f, 0x7a, 0x86, 0x8a, 0x96, 0x97, 0x9a, 0x9c, 0xb7, 0xba, 0xbe, 0xbf };

    if (feature_in(h->feat, X86_FEATURE_RFDS_CLEAR) || feature_in(h->feat, X86_FEATURE_HYPERVISOR))
        return true;
    return h->family == 6 && is_any_of(h->model, models, ARRAY_SIZE(models));
}

u64 spec_spared(const struct cpu_host *h, bool gds_mended)
{
    u64 bits = 0;

    if (h->vendor != VENDOR_INTEL)
        return 0;
    if (!gathers_others(h, gds_mended))
        bits |= ARCH_CAPS_BIT(GDS_NO);
    if (!shows_registers(h))
        bits |= ARCH_CAPS_BIT(RFDS_NO);
    if (!selects_targets(h))
        bits |= ARCH_CAPS_BIT(ITS_NO);
    return bits;
}

const char *spec_left_open(const struct cpu_host *h, unsigned *next)
{
    static const struct { bool (*has)(const struct cpu_host *h); const char *name; } left[] = {
        { confuses_returns, "branch type confusion (Retbleed)" }, { overflows_returns, "return stack overflow (Inception)" },
        { selects_targets, "indirect target selection" },
    };

    while (*next < ARRAY_SIZE(left))
        if (left[(*next)++].has(h))
            return left[*next - 1].name;
    return NULL;
}

struct spec spec_choose(const struct cpu_host *h, const struct spec_wishes *w)
{
    const u32 *f = h->feat;
    bool intel = h->vendor == VENDOR_INTEL, has_ctrl = intel && feature_in(f, X86_FEATURE_IBRSB);
    bool has_barrier = has_ctrl || feature_in(f, X86_FEATURE_IBPB);
    bool meltdown = intel && !feature_in(f, X86_FEATURE_RDCL_NO);      /* who is spared this is spared L1TF */
    struct spec s;

    s.ibrs = w->ibrs != SPEC_OFF && has_ctrl && feature_in(f, X86_FEATURE_EIBRS);
    s.bhi = w->bhi != SPEC_OFF && has_ctrl && feature_in(f, X86_FEATURE_BHI_CTRL);
    s.ibpb = w->ibpb != SPEC_OFF && has_barrier;
    s.rsb = w->rsb != SPEC_OFF;
    s.div = granted(w->div, shows_quotients(h));
    s.lock = w->lock != SPEC_OFF;
    s.verw = granted(w->verw, shows_buffers(h));
    s.isolate_dom0 = granted(w->xpti.dom0, meltdown);
    s.isolate_domus = granted(w->xpti.domus, meltdown);
    s.l1tf_dom0 = granted(w->l1tf.dom0, false);
    s.l1tf_domus = granted(w->l1tf.domus, meltdown);
    s.thunk = w->thunk == SPEC_OFF ? THUNK_JMP : w->thunk == SPEC_ON ? w->which : THUNK_RETPOLINE;
    s.rrsba = s.thunk == THUNK_RETPOLINE && has_ctrl && feature_in(f, X86_FEATURE_RRSBA_CTRL);
    return s;
}
