/*
 * Claims: memory set aside for a domain that is about to be built, so that two toolstacks at once do not both
 * run out half-way; and the one place where guests' memory is allocated.
 */
#include <pvisor/lib.h>
#include "internal.h"

static spinlock_t claim_lock = SPINLOCK_INIT(RANK_LEAF);   /* every outstanding_pages, and their sum */
static u64 total;

u64 claimed_frames(void) { return read_once(total); }

static void set_outstanding(struct domain *d, u64 pages)
{
    u64 flags = spin_lock_irqsave(&claim_lock);

    total = total - d->outstanding_pages + pages;
    d->outstanding_pages = pages;
    spin_unlock_irqrestore(&claim_lock, flags);
}

/* nr of the frames that d claimed are its own now. */
static void use_claim(struct domain *d, u64 nr)
{
    u64 flags = spin_lock_irqsave(&claim_lock), used = min(nr, d->outstanding_pages);

    total -= used;
    d->outstanding_pages -= used;
    spin_unlock_irqrestore(&claim_lock, flags);
}

/* Are nr frames free that others have not claimed? */
static bool available(struct domain *d, u64 nr)
{
    u64 free = heap_free_frames(), flags = spin_lock_irqsave(&claim_lock), others = total - d->outstanding_pages;

    spin_unlock_irqrestore(&claim_lock, flags);
    return others <= free && nr <= free - others;
}

int domain_claim(struct domain *d, u64 pages)
{
    u64 has = read_once(d->tot_pages);

    if (pages && (pages < has || pages > d->max_pages))
        return refuse(-EINVAL, "d%u claims %lu frames; it has %lu and may have %lu", d->id, pages, has,
                      d->max_pages);
    if (pages && !available(d, pages - has))
        return refuse(-ENOMEM, "d%u claims %lu frames more, %lu are free", d->id, pages - has,
                      heap_free_frames());
    set_outstanding(d, pages ? pages - has : 0);
    return 0;
}

s64 mem_claim_pages(gva_t arg, u32 start)
{
    struct xen_memory_reservation r;
    struct domain *d;
    s64 rc;

    (void)start;
    if (!is_control_domain(current->domain))
        return refuse(-EPERM, "for the control domain");
    if (guest_read_abi(xen_memory_reservation, &r, arg))
        return -EFAULT;
    if (r.extent_start || r.extent_order || r.mem_flags)
        return refuse(-EINVAL, "extent_start %#lx, order %u, flags %#x must be 0", r.extent_start,
                      r.extent_order, r.mem_flags);
    d = memory_target(r.domid, &rc);
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
    u64 nr = 1UL << order;
    mfn_t m;

    if (!available(d, nr))
        return INVALID_MFN;
    m = domain_alloc_frames(d, order, MEMF_BITS(preferred_limit(d, mem_flags)) | flags);
    if (mfn_eq(m, INVALID_MFN) && preferred_limit(d, mem_flags) != memory_width_limit(d, mem_flags))
        m = domain_alloc_frames(d, order, MEMF_BITS(memory_width_limit(d, mem_flags)) | flags);
    if (!mfn_eq(m, INVALID_MFN) && read_once(d->outstanding_pages))
        use_claim(d, nr);
    return m;
}
