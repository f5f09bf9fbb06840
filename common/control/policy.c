/* CPU policies and TSC modes: the copying to and from tools; what they mean is the machine layer's. */
#include <asm/time.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/fetch.h>
#include <pvisor/frame.h>
#include "internal.h"

struct policy_arrays {
    struct xen_cpuid_leaf leaves[POLICY_MAX_LEAVES];
    struct xen_msr_entry msrs[POLICY_MAX_MSRS];
};

/* A null array asks for the largest count. Else the counts are those written, or with -ENOBUFS needed. */
static s64 give_policy(const struct cpu_policy *p, u64 leaves, u32 *nr_leaves, u64 msrs, u32 *nr_msrs)
{
    struct policy_arrays *a = xzalloc(struct policy_arrays);
    s64 rc = 0;

    if (!a)
        return -ENOMEM;
    *nr_leaves = leaves ? min(*nr_leaves, (u32)POLICY_MAX_LEAVES) : POLICY_MAX_LEAVES;
    *nr_msrs = msrs ? min(*nr_msrs, (u32)POLICY_MAX_MSRS) : POLICY_MAX_MSRS;
    if (leaves) {
        rc = cpu_policy_to_leaves(p, a->leaves, nr_leaves);
        if (!rc)
            rc = copy_to_guest(gva(leaves), a->leaves, *nr_leaves * sizeof(*a->leaves));
    }
    if (!rc && msrs) {
        rc = cpu_policy_to_msrs(p, a->msrs, nr_msrs);
        if (!rc)
            rc = copy_to_guest(gva(msrs), a->msrs, *nr_msrs * sizeof(*a->msrs));
    }
    xfree(a);
    return rc;
}

s64 dc_get_cpu_policy(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_cpu_policy *p = &op->u.cpu_policy;

    return give_policy(d->cpuid, p->leaves, &p->nr_leaves, p->msrs, &p->nr_msrs);
}

static s64 take_policy(struct domain *d, const struct xen_domctl_cpu_policy *p, struct policy_arrays *a,
                       struct cpu_policy_error *e)
{
    u32 mark = fetch_mark();

    if (copy_from_guest(a->leaves, gva(p->leaves), p->nr_leaves * sizeof(*a->leaves)))
        return -EFAULT;
    fetch_forget(mark);     /* neither list builds on the other, and they may overlap */
    if (copy_from_guest(a->msrs, gva(p->msrs), p->nr_msrs * sizeof(*a->msrs)))
        return -EFAULT;
    return cpu_policy_set(d, a->leaves, p->nr_leaves, a->msrs, p->nr_msrs, e);
}

s64 dc_set_cpu_policy(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_cpu_policy *p = &op->u.cpu_policy;
    struct cpu_policy_error e = { ~0u, ~0u, ~0u };
    struct policy_arrays *a;
    s64 rc;

    if (d->creation_finished)
        return refuse(-EEXIST, "d%u has run already", d->id);
    if (p->nr_leaves > POLICY_MAX_LEAVES || p->nr_msrs > POLICY_MAX_MSRS)
        return refuse(-E2BIG, "%u leaves and %u MSRs, at most %u and %u are possible", p->nr_leaves,
                      p->nr_msrs, (u32)POLICY_MAX_LEAVES, POLICY_MAX_MSRS);
    a = xzalloc(struct policy_arrays);
    if (!a)
        return -ENOMEM;
    rc = take_policy(d, p, a, &e);
    xfree(a);
    if (rc)
        guest_log("CPU policy of d%u refused: leaf %#x, subleaf %#x, MSR %#x", d->id, e.leaf, e.subleaf,
                  e.msr);
    p->err_leaf = e.leaf;
    p->err_subleaf = e.subleaf;
    p->err_msr = e.msr;
    return rc;
}

s64 sc_cpu_policy(struct xen_sysctl *op)
{
    struct xen_sysctl_cpu_policy *p = &op->u.cpu_policy;
    int rc = -EINVAL;
    const struct cpu_policy *policy = p->_rsvd ? NULL : cpu_policy_system(p->index, &rc);

    return policy ? give_policy(policy, p->leaves, &p->nr_leaves, p->msrs, &p->nr_msrs) : rc;
}

s64 sc_cpu_featureset(struct xen_sysctl *op)
{
    struct xen_sysctl_cpu_featureset *f = &op->u.cpu_featureset;
    u32 room = f->nr_features;
    int rc = -EINVAL;
    const u32 *words;

    if (!f->features) {
        f->nr_features = FEATURESET_WORDS;
        return 0;
    }
    words = cpu_featureset_system(f->index, &rc);
    if (!words)
        return rc;
    f->nr_features = min(room, (u32)FEATURESET_WORDS);
    if (copy_to_guest(gva(f->features), words, f->nr_features * sizeof(*words)))
        return -EFAULT;
    return room < FEATURESET_WORDS ? -ENOBUFS : 0;
}

s64 sc_levelling_caps(struct xen_sysctl *op)
{
    op->u.cpu_levelling_caps.caps = cpu_levelling_caps();
    return 0;
}

s64 dc_settscinfo(struct domain *d, struct xen_domctl *op, gva_t)
{
    const struct xen_domctl_tsc_info *t = &op->u.tsc_info;
    s64 rc;

    domain_pause(d);
    rc = tsc_set_info(d, t->tsc_mode, t->elapsed_nsec, t->gtsc_khz, t->incarnation);
    domain_unpause(d);
    return rc;
}

s64 dc_gettscinfo(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_tsc_info *t = &op->u.tsc_info;

    t->pad = 0;
    if (d != current->domain)
        domain_pause(d);
    tsc_get_info(d, &t->tsc_mode, &t->elapsed_nsec, &t->gtsc_khz, &t->incarnation);
    if (d != current->domain)
        domain_unpause(d);
    return 0;
}
