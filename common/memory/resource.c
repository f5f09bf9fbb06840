/* XENMEM_acquire_resource: hypervisor-made frames of a domain, for the toolstack to map. */
#include <pvisor/gnttab.h>
#include "internal.h"

static u32 max_frames(const struct xen_mem_acquire_resource *r, const struct domain *d)
{
    return r->id == XENMEM_resource_grant_table_id_status ? gnttab_status_frames(d->max_grant_frames)
                                                          : d->max_grant_frames;
}

static int check(const struct xen_mem_acquire_resource *r, const struct domain *d)
{
    u32 max = max_frames(r, d);

    if (r->type != XENMEM_resource_grant_table)
        return refuse(-EOPNOTSUPP, "resource type %u; a PV domain has its grant table (1) only", r->type);
    if (r->id != XENMEM_resource_grant_table_id_shared && r->id != XENMEM_resource_grant_table_id_status)
        return refuse(-EINVAL, "grant table frames of kind %u, expected 0 (entries) or 1 (status)", r->id);
    if (r->frame_list && (!r->nr_frames || r->frame >= max || r->nr_frames > max - r->frame))
        return refuse(-EINVAL, "frames %lu+%u of kind %u, a grant table has at most %u", r->frame, r->nr_frames, r->id,
                      max);
    return 0;
}

static int get_frame(struct domain *d, u32 id, u32 idx, mfn_t *m)
{
    return id == XENMEM_resource_grant_table_id_status ? gnttab_get_status_frame(d, idx, m)
                                                       : gnttab_get_frame(d, idx, m);
}

static s64 list_frames(struct domain *d, const struct xen_mem_acquire_resource *r, gva_t arg, u32 start)
{
    for (u32 i = start; i < r->nr_frames; i++) {
        mfn_t m;
        int rc;

        if (i != start && preempt_needed())
            return hypercall_restart(2, (u64)XENMEM_acquire_resource | (u64)i << MEMOP_EXTENT_SHIFT, arg.v);
        rc = get_frame(d, r->id, (u32)r->frame + i, &m);
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

    if (control_only())
        return -EPERM;
    if (guest_read_abi(xen_mem_acquire_resource, &r, arg))
        return -EFAULT;
    if (r.pad || (!r.frame_list && r.nr_frames))
        return refuse(-EINVAL, "padding %#x, %u frames without a list", r.pad, r.nr_frames);
    d = domain_target(r.domid, &rc);
    if (!d)
        return rc;
    rc = check(&r, d);
    if (!rc && r.frame_list) {
        rc = list_frames(d, &r, arg, start);
    } else if (!rc) {
        r.nr_frames = max_frames(&r, d);
        rc = guest_write_abi(xen_mem_acquire_resource, arg, &r);
    }
    domain_put(d);
    return rc;
}
