/* XENMEM_acquire_resource: hypervisor-made frames of a domain, for the toolstack to map. */
#include <pvisor/gnttab.h>
#include "internal.h"

static int check(const struct xen_mem_acquire_resource *r, const struct domain *d)
{
    if (r->type != XENMEM_resource_grant_table)
        return refuse(-EOPNOTSUPP, "resource type %u; a PV domain has its grant table (1) only", r->type);
    if (r->id != XENMEM_resource_grant_table_id_shared)
        return refuse(-EINVAL, "grant table frames of kind %u, version 1 has kind 0 only", r->id);
    if (r->frame_list && (!r->nr_frames || r->frame >= d->max_grant_frames ||
                          r->nr_frames > d->max_grant_frames - r->frame))
        return refuse(-EINVAL, "frames %lu+%u of a grant table of at most %u", r->frame, r->nr_frames,
                      d->max_grant_frames);
    return 0;
}

static s64 list_frames(struct domain *d, const struct xen_mem_acquire_resource *r, gva_t arg, u32 start)
{
    for (u32 i = start; i < r->nr_frames; i++) {
        mfn_t m;
        int rc;

        if (i != start && preempt_needed())
            return hypercall_restart(2, (u64)XENMEM_acquire_resource | (u64)i << MEMOP_EXTENT_SHIFT, arg.v);
        rc = gnttab_get_frame(d, (u32)r->frame + i, &m);
        if (rc)
            return rc;
        if (guest_write_word(gva(r->frame_list), i, m.v))
            return -EFAULT;
    }
    return 0;
}

s64 mem_acquire_resource(gva_t arg, u32 start)
{
    struct xen_mem_acquire_resource r;
    struct domain *d;
    s64 rc;

    if (!is_control_domain(current->domain))
        return refuse(-EPERM, "for the control domain");
    if (guest_read_abi(xen_mem_acquire_resource, &r, arg))
        return -EFAULT;
    if (r.pad || (!r.frame_list && r.nr_frames))
        return refuse(-EINVAL, "padding %#x, %u frames without a list", r.pad, r.nr_frames);
    d = memory_target(r.domid, &rc);
    if (!d)
        return rc;
    rc = check(&r, d);
    if (!rc && r.frame_list) {
        rc = list_frames(d, &r, arg, start);
    } else if (!rc) {
        r.nr_frames = d->max_grant_frames;
        rc = guest_write_abi(xen_mem_acquire_resource, arg, &r);
    }
    domain_put(d);
    return rc;
}
