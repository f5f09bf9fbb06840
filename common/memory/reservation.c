/*
 * increase_reservation, populate_physmap, decrease_reservation: a list of extents, done one by one. These
 * return how many extents are done, which is also all that they say about an error.
 */
#include <pvisor/softirq.h>
#include "internal.h"

/* A guest with devices needs long runs for DMA; others have no use for more than a large page. */
#define MAX_ORDER_CONTROL 12

unsigned memory_max_order(void)
{
    const struct domain *d = current->domain;

    return d->is_hardware || d->is_control ? MAX_ORDER_CONTROL : MAX_ORDER_GUEST;
}

/* Does extent i; false stops the call there. */
typedef bool extent_fn(struct domain *d, const struct xen_memory_reservation *r, u64 i);

static void release_extent(struct domain *d, mfn_t m, unsigned order)
{
    for (u64 i = 0; i < 1UL << order; i++)
        if (!domain_give_up_frame(d, mfn_add(m, i)))
            guest_log("frame %#lx of an extent was given up meanwhile", m.v + i);
}

static mfn_t alloc_extent(struct domain *d, const struct xen_memory_reservation *r, u64 i, unsigned flags)
{
    mfn_t m = memory_alloc(d, r->extent_order, r->mem_flags, flags);

    /* libxenguest tries large pages first and expects to fail now and then. */
    if (mfn_eq(m, INVALID_MFN) && !r->extent_order) {
        unsigned bits = memory_width_limit(d, r->mem_flags);

        guest_log("no memory%s for extent %lu of %lu for d%u: it has %lu frames of %lu, %lu are free%s", bits ? " low enough" : "",
                  i, r->nr_extents, d->id, d->tot_pages, d->max_pages, heap_free_frames(),
                  !bits ? "" : bits == 32 ? ", but it takes frames below 4 GiB" : ", but not all in its reach");
    }
    return m;
}

static bool increase_one(struct domain *d, const struct xen_memory_reservation *r, u64 i)
{
    mfn_t m = alloc_extent(d, r, i, 0);

    if (mfn_eq(m, INVALID_MFN))
        return false;
    if (!r->extent_start || !guest_write_word(gva(r->extent_start), i, m.v))
        return true;
    release_extent(d, m, r->extent_order);
    return false;
}

static bool populate_one(struct domain *d, const struct xen_memory_reservation *r, u64 i)
{
    u64 gpfn;
    mfn_t m;

    if (guest_read_word(&gpfn, gva(r->extent_start), i))
        return false;
    m = alloc_extent(d, r, i, MEMF_WITHDRAWN);
    if (mfn_eq(m, INVALID_MFN))
        return false;
    memory_publish(d, m, r->extent_order, gpfn);
    if (!guest_write_word(gva(r->extent_start), i, m.v))
        return true;
    release_extent(d, m, r->extent_order);
    return false;
}

static bool decrease_one(struct domain *d, const struct xen_memory_reservation *r, u64 i)
{
    u64 gmfn;

    if (guest_read_word(&gmfn, gva(r->extent_start), i))
        return false;
    for (u64 j = 0; j < 1UL << r->extent_order; j++)
        if (!domain_give_up_frame(d, mfn(gmfn + j)))
            return refuse(false, "frame %#lx (extent %lu) is not d%u's to give up: owner d%u", gmfn + j, i,
                          d->id, frame_owner_id(mfn(gmfn + j)));
    return true;
}

/* Checks that hold for the whole list. */
static bool reservation_ok(const struct xen_memory_reservation *r, u32 start)
{
    if (r->nr_extents > MEMOP_MAX_EXTENTS)
        return refuse(false, "%lu extents, at most %u go in one call", r->nr_extents, MEMOP_MAX_EXTENTS);
    if (start > r->nr_extents)
        return refuse(false, "start at extent %u of %lu", start, r->nr_extents);
    if (r->extent_order > memory_max_order())
        return refuse(false, "extents of order %u, at most %u are possible", r->extent_order,
                      memory_max_order());
    if (!memory_flags_ok(r->mem_flags))
        return refuse(false, "no frame has an address of %u bits", XENMEMF_get_address_bits(r->mem_flags));
    if (r->mem_flags & XENMEMF_populate_on_demand)
        return refuse(false, "a PV guest cannot be populated on demand");
    return true;
}

static s64 for_each_extent(u32 cmd, gva_t arg, u32 start, extent_fn *fn)
{
    struct xen_memory_reservation r;
    struct domain *d;
    u64 i = start;
    s64 rc;

    if (guest_read_abi(xen_memory_reservation, &r, arg) || !reservation_ok(&r, start))
        return start;
    d = domain_target(r.domid, &rc);
    if (!d)
        return rc == -EPERM ? rc : start;
    for (; i < r.nr_extents; i++) {
        if (i != start && preempt_needed()) {
            domain_put(d);
            return hypercall_restart(2, (u64)cmd | i << MEMOP_EXTENT_SHIFT, arg.v);
        }
        if (!fn(d, &r, i))
            break;
    }
    domain_put(d);
    return (s64)i;
}

s64 mem_increase_reservation(gva_t arg, u32 start)
{
    return for_each_extent(XENMEM_increase_reservation, arg, start, increase_one);
}

s64 mem_populate_physmap(gva_t arg, u32 start)
{
    return for_each_extent(XENMEM_populate_physmap, arg, start, populate_one);
}

s64 mem_decrease_reservation(gva_t arg, u32 start)
{
    return for_each_extent(XENMEM_decrease_reservation, arg, start, decrease_one);
}
