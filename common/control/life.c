/* Control calls on a domain as a whole: from its creation to its end, and what the tools see of it. */
#include <asm/features.h>
#include <pvisor/devices.h>
#include <pvisor/evtchn.h>
#include <pvisor/lib.h>
#include <pvisor/sched.h>
#include <pvisor/softirq.h>
#include <pvisor/time.h>
#include "internal.h"

/* What a PV domain may be asked to have. s3_integrity and xs_domain change nothing but what is reported. */
#define FLAGS_ALLOWED (XEN_DOMCTL_CDF_s3_integrity | XEN_DOMCTL_CDF_xs_domain | XEN_DOMCTL_CDF_oos_off | XEN_DOMCTL_CDF_iommu)

static int check_create(const struct xen_domctl_createdomain *c)
{
    u32 version = c->grant_opts & XEN_DOMCTL_GRANT_version_mask;

    if (c->flags & (XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap))
        return refuse(-EINVAL, "HVM and PVH guests are not supported: use type=\"pv\"");
    if (c->flags & XEN_DOMCTL_CDF_iommu && !devices_can_be_given())
        return refuse(-EINVAL, "no PCI device can be given to a domain: that takes an IOMMU (iommu=on), or pci-unsafe=");
    /* Where it keeps what devices reach is asked of HVM guests alone. */
    if (c->iommu_opts & ~(c->flags & XEN_DOMCTL_CDF_iommu ? XEN_DOMCTL_IOMMU_no_sharept : 0))
        return refuse(-EINVAL, "flags %#x, IOMMU options %#x", c->flags, c->iommu_opts);
    if (c->flags & ~FLAGS_ALLOWED)
        return refuse(-EINVAL, "flags %#x, possible are %#x", c->flags, FLAGS_ALLOWED);
    if (c->arch.emulation_flags & ~XEN_X86_EMU_PIT || c->arch.misc_flags & ~XEN_X86_MISC_FLAGS_MAX)
        return refuse(-EINVAL, "emulated devices %#x, misc flags %#x are not for PV guests",
                      c->arch.emulation_flags, c->arch.misc_flags);
    if (version != 1 && version != 2)
        return refuse(-EINVAL, "grant table versions up to %u, possible are 1 and 2", version);
    if (c->altp2m_opts)
        return refuse(-EINVAL, "alternate views of memory, options %#x, are for HVM guests", c->altp2m_opts);
    if (c->vmtrace_size)
        return refuse(-EINVAL, "no trace buffers, %u bytes asked for", c->vmtrace_size);
    return 0;
}

s64 dc_createdomain(struct domain *, struct xen_domctl *op, gva_t)
{
    const struct xen_domctl_createdomain *c = &op->u.createdomain;
    struct domain_config cfg = {
        .ssidref = c->ssidref,
        .flags = c->flags,
        .max_vcpus = c->max_vcpus,
        .max_evtchn_port = c->max_evtchn_port,
        .max_grant_frames = c->max_grant_frames,
        .max_maptrack_frames = c->max_maptrack_frames,
        .grant_opts = c->grant_opts,
        .cpupool = c->cpupool_id,
    };
    struct domain *d;
    int rc = check_create(c);

    if (rc)
        return rc;
    memcpy(cfg.handle, c->handle, sizeof(cfg.handle));
    d = domain_create(op->domain, &cfg, false, &rc);
    if (!d)
        return rc;
    d->arch_config = c->arch;
    op->domain = d->id;
    return 0;
}

s64 dc_destroydomain(struct domain *d, struct xen_domctl *, gva_t)
{
    return domain_kill(d);
}

s64 dc_pausedomain(struct domain *d, struct xen_domctl *, gva_t)
{
    return domain_pause_by_controller(d);
}

s64 dc_unpausedomain(struct domain *d, struct xen_domctl *, gva_t)
{
    return domain_unpause_by_controller(d);
}

s64 dc_resumedomain(struct domain *d, struct xen_domctl *, gva_t)
{
    return domain_resume(d);
}

s64 dc_max_vcpus(struct domain *d, struct xen_domctl *op, gva_t)
{
    if (op->u.max_vcpus.max != d->max_vcpus)
        return refuse(-EINVAL, "%u vCPUs, but d%u was created for %u", op->u.max_vcpus.max, d->id,
                      d->max_vcpus);
    for (u32 i = 0; i < d->max_vcpus; i++) {
        if (d->vcpu[i])
            continue;
        if (!vcpu_create(d, i))
            return -ENOMEM;
        if (preempt_needed())
            return -ERESTART_HYPERCALL;
    }
    return 0;
}

s64 dc_setdomainhandle(struct domain *d, struct xen_domctl *op, gva_t)
{
    memcpy(d->handle, op->u.setdomainhandle.handle, sizeof(d->handle));
    return 0;
}

s64 dc_setdebugging(struct domain *d, struct xen_domctl *op, gva_t)
{
    d->debugger_attached = op->u.setdebugging.enable;
    return 0;
}

s64 dc_settimeoffset(struct domain *d, struct xen_domctl *op, gva_t)
{
    d->time_offset_secs = op->u.settimeoffset.time_offset_seconds;
    domain_wallclock_update(d);
    return 0;
}

s64 dc_subscribe(struct domain *d, struct xen_domctl *op, gva_t)
{
    d->suspend_port = op->u.subscribe.port;
    return 0;
}

s64 dc_set_virq_handler(struct domain *d, struct xen_domctl *op, gva_t)
{
    return virq_set_handler(d, op->u.set_virq_handler.virq);
}

/* --- What the tools see --- */

static void add_vcpus(struct domain *d, struct xen_domctl_getdomaininfo *info)
{
    struct vcpu *v;
    bool all_blocked = true;

    for_each_vcpu(d, v) {
        u32 flags = read_once(v->pause_flags);

        info->cpu_time += vcpu_runtime(v);
        info->max_vcpu_id = v->id;
        if (flags & VPF_DOWN)
            continue;
        info->nr_online_vcpus++;
        all_blocked &= (flags & VPF_BLOCKED) != 0;
        if (read_once(v->is_running))
            info->flags |= XEN_DOMINF_running;
    }
    if (all_blocked)
        info->flags |= XEN_DOMINF_blocked;
}

static u32 state_flags(const struct domain *d)
{
    u32 flags = (u32)d->shutdown_code << XEN_DOMINF_shutdownshift;

    if (d->dying == DOMAIN_DEAD)
        flags |= XEN_DOMINF_dying;
    if (d->is_shut_down)
        flags |= XEN_DOMINF_shutdown;
    if (d->controller_pause_count)
        flags |= XEN_DOMINF_paused;
    if (d->debugger_attached)
        flags |= XEN_DOMINF_debugged;
    if (d->createflags & XEN_DOMCTL_CDF_xs_domain)
        flags |= XEN_DOMINF_xs_domain;
    return flags;
}

void fill_domaininfo(struct domain *d, struct xen_domctl_getdomaininfo *info)
{
    memset(info, 0, sizeof(*info));
    info->domain = d->id;
    info->flags = state_flags(d);
    info->tot_pages = d->tot_pages;
    info->max_pages = d->max_pages;
    info->outstanding_pages = d->outstanding_pages;
    info->shared_info_frame = d->shared_info_mfn.v;
    info->max_vcpu_id = XEN_INVALID_MAX_VCPU_ID;
    info->ssidref = d->ssidref;
    info->cpupool = d->cpupool;
    info->gpaddr_bits = cpu_host.phys_bits;
    info->arch_config = d->arch_config;
    memcpy(info->handle, d->handle, sizeof(info->handle));
    add_vcpus(d, info);
}

/* Tools ask this way whether there is such a domain: nothing to log. */
s64 dc_getdomaininfo(struct domain *d, struct xen_domctl *op, gva_t)
{
    if (!d)
        return -ESRCH;
    fill_domaininfo(d, &op->u.getdomaininfo);
    op->domain = d->id;
    return 0;
}

static void fill_state(const struct domain *d, struct xen_domctl_get_domain_state *s)
{
    s->state = XEN_DOMCTL_GETDOMSTATE_STATE_EXIST;
    if (d->is_shut_down)
        s->state |= XEN_DOMCTL_GETDOMSTATE_STATE_SHUTDOWN;
    if (d->dying)
        s->state |= d->dying == DOMAIN_DEAD ? XEN_DOMCTL_GETDOMSTATE_STATE_DEAD : XEN_DOMCTL_GETDOMSTATE_STATE_DYING;
    if (d->is_control)
        s->caps |= XEN_DOMCTL_GETDOMSTATE_CAP_CONTROL;
    if (d->is_hardware)
        s->caps |= XEN_DOMCTL_GETDOMSTATE_CAP_HARDWARE;
    if (d->createflags & XEN_DOMCTL_CDF_xs_domain)
        s->caps |= XEN_DOMCTL_GETDOMSTATE_CAP_XENSTORE;
    s->unique_id = d->unique_id;
}

static s64 changed_state(struct xen_domctl *op)
{
    u16 domid = domain_next_changed();
    struct domain *d;

    if (domid == DOMID_INVALID)
        return -ENOENT;     /* the end of the list, nothing to log */
    op->domain = domid;
    d = domain_get(domid);
    if (d) {
        fill_state(d, &op->u.get_domain_state);
        domain_put(d);
    }
    return 0;
}

s64 dc_get_domain_state(struct domain *d, struct xen_domctl *op, gva_t)
{
    if (op->u.get_domain_state.pad0)
        return refuse(-EINVAL, "the padding is %#x, expected 0", op->u.get_domain_state.pad0);
    memset(&op->u.get_domain_state, 0, sizeof(op->u.get_domain_state));
    if (op->domain == DOMID_INVALID)
        return changed_state(op);
    if (!d)
        return -ESRCH;
    fill_state(d, &op->u.get_domain_state);
    return 0;
}
