/*
 * Claims: memory set aside for a domain that is about to be built; the heap keeps them (pvisor/frame.h). And the one place where guests'
 * memory is allocated.
 */
#include <asm/dirty.h>
#include <pvisor/lib.h>
#include <pvisor/steps.h>
#include "internal.h"

/* With the page lock, under which a domain gets frames and begins to die: then its claim has gone for good. */
static int set_claim(struct domain *d, u64 pages)
{
    u64 has = d->tot_pages, more = pages ? pages - has : 0;

    if (pages && (pages < has || pages > d->max_pages))
        return refuse(-EINVAL, "d%u claims %lu frames; it has %lu and may have %lu", d->id, pages, has,
                      d->max_pages);
    if (pages && d->dying)
        return refuse(-EINVAL, "d%u claims %lu frames, but it is dying", d->id, pages);
    if (!heap_claim(&d->outstanding_pages, more))
        return refuse(-ENOMEM, "d%u claims %lu frames more, %lu are free and %lu claimed, by all domains together", d->id, more,
                      heap_free_frames(), claimed_frames());
    return 0;
}

int domain_claim(struct domain *d, u64 pages)
{
    int rc;

    spin_lock(&d->page_lock);
    rc = set_claim(d, pages);
    spin_unlock(&d->page_lock);
    return rc;
}

s64 mem_claim_pages(gva_t arg, u32)
{
    struct xen_memory_reservation r;
    struct domain *d;
    s64 rc;

    if (control_only())
        return -EPERM;
    if (guest_read_abi(xen_memory_reservation, &r, arg))
        return -EFAULT;
    if (r.extent_start || r.extent_order || r.mem_flags)
        return refuse(-EINVAL, "extent_start %#lx, order %u, flags %#x must be 0", r.extent_start,
                      r.extent_order, r.mem_flags);
    d = domain_target(r.domid, &rc);
    if (!d)
        return rc;
    rc = domain_claim(d, r.nr_extents);
    domain_put(d);
    return rc;
}

bool memory_flags_ok(u32 mem_flags)
{
    unsigned bits = XENMEMF_get_address_bits(mem_flags);

    return !bits || bits > PAGE_SHIFT;
}

unsigned memory_width_limit(const struct domain *d, u32 mem_flags)
{
    unsigned bits = XENMEMF_get_address_bits(mem_flags), own = (unsigned)d->arch.physaddr_bits;

    if (!bits || (own && own < bits))
        bits = own;
    return bits && bits < PAGE_SHIFT + 1 + ilog2(max_ram_mfn().v | 1) ? bits : 0;
}

/* A PAE domain may be about to start a non-PAE kernel, which reaches no further: docs/abi.md. */
static unsigned preferred_limit(const struct domain *d, u32 mem_flags)
{
    unsigned bits = memory_width_limit(d, mem_flags);

    return domain_word(d) == ABI_32 && (!bits || bits > 32) && max_ram_mfn().v >> 20 ? 32 : bits;
}

mfn_t memory_alloc(struct domain *d, unsigned order, u32 mem_flags, unsigned flags)
{
    mfn_t m;

    if (order > MAX_ORDER_GUEST)
        steps_allow(20UL << order);
    m = domain_alloc_frames(d, order, MEMF_BITS(preferred_limit(d, mem_flags)) | flags);
    if (mfn_eq(m, INVALID_MFN) && preferred_limit(d, mem_flags) != memory_width_limit(d, mem_flags))
        m = domain_alloc_frames(d, order, MEMF_BITS(memory_width_limit(d, mem_flags)) | flags);
    return m;
}

void memory_publish(struct domain *d, mfn_t m, unsigned order, u64 gpfn)
{
    for (u64 i = 0; i < 1UL << order; i++) {
        m2p_set(mfn_add(m, i), gpfn + i);
        log_dirty(d, mfn_add(m, i));
    }
    domain_return_frames(d, m, 1UL << order);
}
