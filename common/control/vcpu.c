/* Control calls on one vCPU: its context, where it runs, triggers. */
#include <asm/atomic.h>
#include <pvisor/cpupool.h>
#include <pvisor/evtchn.h>
#include <pvisor/frame.h>
#include <pvisor/sched.h>
#include "internal.h"

/* flags is the word after the FPU image in both layouts. */
#define CONTEXT_FLAGS offsetof(struct vcpu_guest_context_64, flags)
_Static_assert(CONTEXT_FLAGS == offsetof(struct vcpu_guest_context_32, flags), "flags of both contexts");

static s64 take_context(struct vcpu *v, const void *raw)
{
    u32 flags = *(const u32 *)((const char *)raw + CONTEXT_FLAGS);
    int rc;

    domain_pause(v->domain);
    rc = arch_vcpu_set_context(v, raw);
    if (!rc && flags & VGCF_online)
        atomic_and(&v->pause_flags, ~VPF_DOWN);
    else if (!rc)
        atomic_or(&v->pause_flags, VPF_DOWN);
    domain_unpause(v->domain);
    return rc;
}

/*
 * A context of nothing takes the vCPU back to before its first. It gives up what it holds and the addresses that its
 * kernel told. Its ports, its vcpu_info and its FIFO queues are its number's, and stay.
 */
static s64 reset(struct vcpu *v)
{
    int rc;

    domain_pause(v->domain);
    v->is_initialised = false;
    atomic_or(&v->pause_flags, VPF_DOWN);
    vcpu_unblock(v);
    rc = arch_vcpu_reset(v);
    domain_unpause(v->domain);
    return rc;
}

/* For a vCPU that is not there toolstacks know -EINVAL from this one, -ESRCH from the others. */
s64 dc_setvcpucontext(struct domain *d, struct xen_domctl *op, gva_t)
{
    const struct xen_domctl_vcpucontext *c = &op->u.vcpucontext;
    struct vcpu *v = control_vcpu(d, c->vcpu);
    size_t size = arch_context_size(d);
    void *raw;
    s64 rc;

    if (!v)
        return -EINVAL;
    if (!c->ctxt)
        return reset(v);
    raw = xzalloc_bytes(size);
    if (!raw)
        return -ENOMEM;
    rc = copy_from_guest(raw, gva(c->ctxt), size);
    if (!rc)
        rc = take_context(v, raw);
    xfree(raw);
    return rc;
}

s64 dc_getvcpucontext(struct domain *d, struct xen_domctl *op, gva_t)
{
    const struct xen_domctl_vcpucontext *c = &op->u.vcpucontext;
    struct vcpu *v = control_vcpu(d, c->vcpu);
    size_t size = arch_context_size(d);
    void *raw;
    s64 rc;

    if (!v)
        return -ESRCH;
    if (!v->is_initialised)
        return refuse(-ENODATA, "d%uv%u has no context yet", d->id, v->id);
    raw = xzalloc_bytes(size);
    if (!raw)
        return -ENOMEM;
    vcpu_pause(v);
    arch_vcpu_get_context(v, raw);
    vcpu_unpause(v);
    rc = copy_to_guest(gva(c->ctxt), raw, size);
    xfree(raw);
    return rc;
}

s64 dc_getvcpuinfo(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_getvcpuinfo *i = &op->u.getvcpuinfo;
    struct vcpu *v = control_vcpu(d, i->vcpu);

    if (!v)
        return -ESRCH;
    i->online = !(v->pause_flags & VPF_DOWN);
    i->blocked = (v->pause_flags & VPF_BLOCKED) != 0;
    i->running = v->is_running;
    i->cpu_time = vcpu_runtime(v);
    i->cpu = v->cpu;
    return 0;
}

/* --- Affinity --- */

static s64 give_effective(const struct xenctl_bitmap *to, const struct domain *d, const cpumask_t *set)
{
    cpumask_t m = cpumask_and(set, &d->sched.pool->cpus);

    return bitmap_to_guest(to, &m, NR_CPUS);
}

s64 dc_setvcpuaffinity(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_vcpuaffinity *a = &op->u.vcpuaffinity;
    struct vcpu *v = control_vcpu(d, a->vcpu);
    cpumask_t hard, soft;
    s64 rc = 0;

    if (!v)
        return -ESRCH;
    if (!(a->flags & (XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT)) ||
        a->flags & ~(XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT | XEN_VCPUAFFINITY_FORCE))
        return refuse(-EINVAL, "flags %#x, expected hard (%#x), soft (%#x) or both, and perhaps force (%#x)", a->flags,
                      XEN_VCPUAFFINITY_HARD, XEN_VCPUAFFINITY_SOFT, XEN_VCPUAFFINITY_FORCE);
    if (a->flags & XEN_VCPUAFFINITY_HARD)
        rc = bitmap_from_guest(&hard, NR_CPUS, &a->cpumap_hard);
    if (!rc && a->flags & XEN_VCPUAFFINITY_SOFT)
        rc = bitmap_from_guest(&soft, NR_CPUS, &a->cpumap_soft);
    if (!rc && a->flags & XEN_VCPUAFFINITY_HARD) {
        rc = vcpu_set_hard_affinity(v, &hard);
        if (rc)
            return rc;
        rc = give_effective(&a->cpumap_hard, d, &hard);
    }
    if (!rc && a->flags & XEN_VCPUAFFINITY_SOFT) {
        vcpu_set_soft_affinity(v, &soft);
        soft = cpumask_and(&soft, &v->sched.hard_affinity);
        rc = give_effective(&a->cpumap_soft, d, &soft);
    }
    return rc;
}

s64 dc_getvcpuaffinity(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_vcpuaffinity *a = &op->u.vcpuaffinity;
    struct vcpu *v = control_vcpu(d, a->vcpu);
    s64 rc = 0;

    if (!v)
        return -ESRCH;
    if (a->flags & XEN_VCPUAFFINITY_HARD)
        rc = bitmap_to_guest(&a->cpumap_hard, &v->sched.hard_affinity, NR_CPUS);
    if (!rc && a->flags & XEN_VCPUAFFINITY_SOFT)
        rc = bitmap_to_guest(&a->cpumap_soft, &v->sched.soft_affinity, NR_CPUS);
    return rc;
}

/* The machine is one node, number 0. */
s64 dc_setnodeaffinity(struct domain *d, struct xen_domctl *op, gva_t)
{
    u64 nodes;
    int rc = bitmap_from_guest(&nodes, 64, &op->u.nodeaffinity.nodemap);

    if (rc)
        return rc;
    if (!(nodes & 1))
        return refuse(-EINVAL, "nodes %#lx; there is node 0 only", nodes);
    d->node_affinity = 1;
    return 0;
}

s64 dc_getnodeaffinity(struct domain *d, struct xen_domctl *op, gva_t)
{
    return bitmap_to_guest(&op->u.nodeaffinity.nodemap, &d->node_affinity, 64);
}

s64 dc_scheduler_op(struct domain *d, struct xen_domctl *op, gva_t)
{
    return sched_domctl(d, &op->u.scheduler_op);
}

/* An NMI is what `xl trigger nmi` can do to a PV guest; the other triggers are an HVM guest's buttons. */
s64 dc_sendtrigger(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct vcpu *v = control_vcpu(d, op->u.sendtrigger.vcpu);

    if (!v)
        return -ESRCH;
    switch (op->u.sendtrigger.trigger) {
    case XEN_DOMCTL_SENDTRIGGER_NMI:
        vcpu_send_nmi(v);
        return 0;
    case XEN_DOMCTL_SENDTRIGGER_POWER:
    case XEN_DOMCTL_SENDTRIGGER_SLEEP:
        return refuse(-EINVAL, "d%u is no HVM guest and has no buttons", d->id);
    }
    return refuse(-ENOSYS, "trigger %u is not offered", op->u.sendtrigger.trigger);
}
