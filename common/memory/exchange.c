/*
 * XENMEM_exchange: frames given up for others that lie together, or lower. The unit is a chunk: the
 * smallest number of input and of output extents that are the same size. A chunk is exchanged as a whole or
 * not at all:
 *
 *     decode   read every output pfn, take every input frame out of the domain's hands, which must be unused, allocate
 *              every output extent
 *     perform  free the input frames, publish the output ones
 *
 * Nobody can map a frame that is out of the domain's hands, and the new ones are so too until they are published: so none stays with the
 * domain that the exchange counts as given.
 */
#include <pvisor/lib.h>
#include <pvisor/softirq.h>
#include "internal.h"

struct exchange {
    struct xen_memory_exchange x;
    struct domain *d;
    unsigned in_order, out_order;       /* of the number of extents in a chunk */
    u64 nr_frames;                      /* in a chunk */
    u64 *in;                            /* frames withdrawn */
    u64 *out, *pfn;                     /* one of each per output extent */
};

static u64 nr_out(const struct exchange *e) { return 1UL << e->out_order; }

static void return_inputs(struct exchange *e, u64 n)
{
    while (n--)
        domain_return_frame(e->d, mfn(e->in[n]));
}

/* n: how many are withdrawn. */
static int withdraw(struct exchange *e, u64 m, u64 *n)
{
    if (!domain_withdraw_frame(e->d, mfn(m)))
        return refuse(-EINVAL, "frame %#lx is not d%u's to give up (owner d%u), mapped, a table, or listed twice", m, e->d->id,
                      frame_owner_id(mfn(m)));
    e->in[(*n)++] = m;
    return 0;
}

static int withdraw_inputs(struct exchange *e, u64 chunk)
{
    u64 n = 0, per_extent = 1UL << e->x.in.extent_order;
    u64 first = chunk << e->in_order;
    int rc;

    for (u64 i = first; i < first + (1UL << e->in_order); i++) {
        u64 base;

        rc = guest_read_word(&base, gva(e->x.in.extent_start), i);
        for (u64 j = 0; !rc && j < per_extent; j++)
            rc = withdraw(e, base + j, &n);
        if (rc) {
            return_inputs(e, n);
            return rc;
        }
    }
    return 0;
}

/*
 * The list is written back as it is read, so that a list which cannot be written is found out before
 * anything is done.
 */
static int read_outputs(struct exchange *e, u64 chunk)
{
    for (u64 i = 0; i < nr_out(e); i++) {
        u64 index = (chunk << e->out_order) + i;

        if (guest_read_word(&e->pfn[i], gva(e->x.out.extent_start), index) ||
            guest_write_word(gva(e->x.out.extent_start), index, e->pfn[i]))
            return -EFAULT;
    }
    return 0;
}

static void free_run(const struct domain *d, u64 first, u64 n)
{
    for (u64 i = 0; i < n; i++)
        domain_free_withdrawn(d, mfn(first + i));
}

/* For a moment the domain is charged for both the old and the new frames, whatever its limit, and has neither. */
static int alloc_outputs(struct exchange *e)
{
    u64 per_extent = 1UL << e->x.out.extent_order;
    unsigned bits = XENMEMF_get_address_bits(e->x.out.mem_flags);

    for (u64 i = 0; i < nr_out(e); i++) {
        mfn_t m = memory_alloc(e->d, e->x.out.extent_order, e->x.out.mem_flags, MEMF_REPLACES | MEMF_WITHDRAWN);

        if (mfn_eq(m, INVALID_MFN)) {
            while (i--)
                free_run(e->d, e->out[i], per_extent);
            /* Drivers' buffers are asked for below one limit after the other, from the lowest on. */
            return bits ? decline(-ENOMEM, "no extent of %lu frames below 2^%u", per_extent, bits)
                        : decline(-ENOMEM, "no extent of %lu frames", per_extent);
        }
        e->out[i] = m.v;
    }
    return 0;
}

static int publish_outputs(struct exchange *e, u64 chunk)
{
    int rc = 0;

    for (u64 i = 0; i < nr_out(e); i++) {
        memory_publish(e->d, mfn(e->out[i]), e->x.out.extent_order, e->pfn[i]);
        if (guest_write_word(gva(e->x.out.extent_start), (chunk << e->out_order) + i, e->out[i]))
            rc = -EFAULT;
    }
    return rc;
}

/* *chunk goes on once it is exchanged, whether the guest can be told or not. */
static int exchange_chunk(struct exchange *e, u64 *chunk)
{
    int rc = read_outputs(e, *chunk);

    if (!rc)
        rc = withdraw_inputs(e, *chunk);
    if (rc)
        return rc;
    rc = alloc_outputs(e);
    if (rc) {
        return_inputs(e, e->nr_frames);
        return rc;
    }
    for (u64 i = 0; i < e->nr_frames; i++)
        free_run(e->d, e->in[i], 1);
    return publish_outputs(e, (*chunk)++);
}

static int check(const struct xen_memory_exchange *x)
{
    const struct xen_memory_reservation *in = &x->in, *out = &x->out;
    unsigned max = memory_max_order();

    if (in->extent_order > max || out->extent_order > max)
        return refuse(-EPERM, "orders %u and %u, at most %u are possible", in->extent_order,
                      out->extent_order, max);
    if (in->domid != out->domid)
        return refuse(-EINVAL, "frames of d%u for frames of d%u, expected one domain", in->domid, out->domid);
    if (x->nr_exchanged > in->nr_extents)
        return refuse(-EINVAL, "%lu extents done already, of %lu", x->nr_exchanged, in->nr_extents);
    if (in->nr_extents > ~0UL >> 16 || out->nr_extents > ~0UL >> 16)
        return refuse(-EINVAL, "%lu and %lu extents, at most %lu are possible", in->nr_extents, out->nr_extents, ~0UL >> 16);
    if (in->nr_extents << in->extent_order != out->nr_extents << out->extent_order)
        return refuse(-EINVAL, "%lu extents of order %u are not as much as %lu of order %u", in->nr_extents,
                      in->extent_order, out->nr_extents, out->extent_order);
    if (!memory_flags_ok(out->mem_flags))
        return refuse(-EINVAL, "no frame has an address of %u bits",
                      XENMEMF_get_address_bits(out->mem_flags));
    return 0;
}

static int begin(struct exchange *e)
{
    unsigned in = e->x.in.extent_order, out = e->x.out.extent_order;

    e->in_order = out > in ? out - in : 0;
    e->out_order = in > out ? in - out : 0;
    e->nr_frames = 1UL << max(in, out);
    e->in = xzalloc_array(u64, e->nr_frames + nr_out(e) * 2);
    if (!e->in)
        return -ENOMEM;
    e->out = e->in + e->nr_frames;
    e->pfn = e->out + nr_out(e);
    return 0;
}

static s64 exchange_all(struct exchange *e, gva_t arg)
{
    gva_t done_at = gva_add(arg, abi_offset(current_word(), xen_memory_exchange, nr_exchanged));
    u64 first = e->x.nr_exchanged >> e->in_order, chunk = first, end = e->x.in.nr_extents >> e->in_order;
    s64 rc = 0;

    while (!rc && chunk < end)
        rc = chunk != first && preempt_needed() ? -ERESTART_HYPERCALL : exchange_chunk(e, &chunk);
    if (guest_write_word(done_at, 0, chunk << e->in_order))
        return -EFAULT;
    return rc == -ERESTART_HYPERCALL ? hypercall_restart(2, (u64)XENMEM_exchange, arg.v) : rc;
}

s64 mem_exchange(gva_t arg, u32)
{
    struct exchange e = { .d = NULL };
    s64 rc;

    if (guest_read_abi(xen_memory_exchange, &e.x, arg))
        return -EFAULT;
    rc = check(&e.x);
    if (rc)
        return rc;
    e.d = domain_target(e.x.in.domid, &rc);
    if (!e.d)
        return rc;
    rc = begin(&e);
    if (!rc) {
        rc = exchange_all(&e, arg);
        xfree(e.in);
    }
    domain_put(e.d);
    return rc;
}
