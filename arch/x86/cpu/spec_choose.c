/* Which defences against speculative execution a CPU gets: a function of what it says of itself and of the wishes alone. */
#include <asm/features.h>
#include <asm/spec.h>

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

/* Zen 1's divider passes its last result on by speculation (CVE-2023-20588): the models before Zen 2, and all of Hygon's family. */
static bool shows_quotients(const struct cpu_host *h)
{
    return h->vendor == VENDOR_AMD && ((h->family == 0x17 && h->model < 0x30) || h->family == 0x18);
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
    s.verw = granted(w->verw, shows_buffers(h));
    s.isolate_dom0 = granted(w->xpti.dom0, meltdown);
    s.isolate_domus = granted(w->xpti.domus, meltdown);
    s.l1tf_dom0 = granted(w->l1tf.dom0, false);
    s.l1tf_domus = granted(w->l1tf.domus, meltdown);
    s.thunk = w->thunk == SPEC_OFF ? THUNK_JMP : w->thunk == SPEC_ON ? w->which : THUNK_RETPOLINE;
    s.rrsba = s.thunk == THUNK_RETPOLINE && has_ctrl && feature_in(f, X86_FEATURE_RRSBA_CTRL);
    return s;
}
