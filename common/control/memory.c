/* Control calls on a domain's memory. */
#include <asm/pt_format.h>
#include <public/pvisor.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/frame.h>
#include "internal.h"

/* Less than the domain has now is allowed: it then gets nothing more until it has given some up. */
s64 dc_max_mem(struct domain *d, struct xen_domctl *op, gva_t)
{
    spin_lock(&d->page_lock);
    d->max_pages = op->u.max_mem.max_memkb >> (PAGE_SHIFT - 10);
    spin_unlock(&d->page_lock);
    return 0;
}

/* --- What kind each frame is, for saving --- */

static const u32 type_info[] = {
    [FT_L1] = XEN_DOMCTL_PFINFO_L1TAB,
    [FT_L2] = XEN_DOMCTL_PFINFO_L2TAB,
    [FT_L3] = XEN_DOMCTL_PFINFO_L3TAB,
    [FT_L4] = XEN_DOMCTL_PFINFO_L4TAB,
};

static u32 frame_info(const struct domain *d, mfn_t m)
{
    bool pinned;
    u32 info = XEN_DOMCTL_PFINFO_NOTAB;
    unsigned t;

    if (!frame_get(m, d))
        return XEN_DOMCTL_PFINFO_XTAB;
    t = frame_type_get(m, &pinned);
    if (t < ARRAY_SIZE(type_info))
        info = type_info[t];
    frame_put(m);
    return info && pinned ? info | XEN_DOMCTL_PFINFO_LPINTAB : info;
}

#define MAX_FRAMES_PER_CALL 1024

s64 dc_getpageframeinfo3(struct domain *d, struct xen_domctl *op, gva_t)
{
    const struct xen_domctl_getpageframeinfo3 *g = &op->u.getpageframeinfo3;
    bool is_non_pae = d->arch.fmt->pte_bytes == 4, knows_non_pae = g->num & PVISOR_PFINFO_NONPAE;
    u64 num = g->num & ~PVISOR_PFINFO_NONPAE;

    if (is_non_pae && !knows_non_pae)
        return refuse(-EOPNOTSUPP, "d%u: the tools that save a domain know no %s tables", d->id, d->arch.fmt->name);
    if (knows_non_pae && !is_non_pae)
        return -EOPNOTSUPP;     /* the answer to a question: nothing to be logged */
    if (num > MAX_FRAMES_PER_CALL)
        return refuse(-E2BIG, "%lu frames, at most %u in one call", num, MAX_FRAMES_PER_CALL);
    for (u64 i = 0; i < num; i++) {
        gva_t array = gva(g->array);
        u64 m;

        if (guest_read_word(&m, array, i) || guest_write_word(array, i, frame_info(d, mfn(m))))
            return -EFAULT;
    }
    return 0;
}

s64 dc_hypercall_init(struct domain *d, struct xen_domctl *op, gva_t)
{
    mfn_t m = mfn(op->u.hypercall_init.gmfn);
    void guest_shared *page;

    if (frame_get_writable(m, d))
        return refuse(-EACCES, "frame %#lx is no data page of d%u", op->u.hypercall_init.gmfn, d->id);
    page = map_frame(m);
    arch_init_hypercall_page(d, shared_raw(page));
    unmap_frame(page);
    frame_put_writable(m);
    return 0;
}

s64 dc_set_address_size(struct domain *d, struct xen_domctl *op, gva_t)
{
    return arch_domain_set_address_size(d, op->u.address_size.size);
}

s64 dc_get_address_size(struct domain *d, struct xen_domctl *op, gva_t)
{
    op->u.address_size.size = domain_word(d) == ABI_64 ? 64 : 32;
    return 0;
}
