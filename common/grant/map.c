/*
 * Mapping and unmapping grants.
 *
 * A mapping has up to two parts. The host part is a page-table entry, which owns its reference to the frame
 * (pvisor/gnttab.h). The device part is a reference of its own that keeps the frame in place for a device
 * of the grantee: without an IOMMU its address there is its machine address.
 */
#include "grant.h"
#include <pvisor/guest.h>
#include <pvisor/printk.h>

#define KEPT_FLAGS (GNTMAP_readonly | GNTMAP_application_map | GNTMAP_contains_pte)

static u8 nr_parts(u32 flags) { return (flags & MAP_PARTS) == MAP_PARTS ? 2 : 1; }

/* The device part's reference, then the host part's with its page-table entry. */
static s16 make_parts(const struct gnttab_map_grant_ref *op, struct domain *granter, mfn_t m)
{
    bool readonly = op->flags & GNTMAP_readonly;
    s16 status = GNTST_okay;

    for (u8 i = 0; i < nr_parts(op->flags); i++) {
        int rc = grant_frame_get(m, granter, readonly);

        if (rc == 0)
            continue;
        if (i)
            grant_frame_put(m, readonly);
        return refuse(GNTST_general_error, "grant %u of d%u: frame %#lx %s", op->ref, granter->id, m.v,
                      rc == -EBUSY ? "is in use as a table" : "is not its own");
    }
    if (op->flags & GNTMAP_host_map)
        status = (s16)pv_grant_map(op->host_addr, m, op->flags);
    for (u8 i = 0; status != GNTST_okay && i < nr_parts(op->flags); i++)
        grant_frame_put(m, readonly);
    return status;
}

static s16 map_with_handle(struct gnttab_map_grant_ref *op, struct domain *granter, u32 handle)
{
    struct domain *self = current->domain;
    struct pin pin = { .ref = op->ref, .readonly = op->flags & GNTMAP_readonly, .whole = true,
                       .uses = nr_parts(op->flags) };
    mfn_t m;
    s16 status = grant_pin(granter->gnttab, &pin, self->id, &m);

    if (status != GNTST_okay)
        return status;
    status = make_parts(op, granter, m);
    if (status != GNTST_okay) {
        grant_unpin(granter->gnttab, &pin);
        return status;
    }
    map_publish(self->gnttab, handle, &(struct map){
        .granter = granter->gnttab, .ref = op->ref, .frame = (u32)m.v,
        .flags = (u16)(op->flags & KEPT_FLAGS), .parts = (u8)(op->flags & MAP_PARTS) });
    op->handle = handle;
    op->dev_bus_addr = mfn_to_maddr(m).v;
    return GNTST_okay;
}

static s16 map_from(struct gnttab_map_grant_ref *op, struct domain *granter)
{
    struct grant_table *t = current->domain->gnttab;
    u32 handle = map_new(t);
    s16 status;

    if (handle == NO_MAP)
        return refuse(GNTST_no_device_space, "all %u map handles are in use", t->max_maps);
    status = map_with_handle(op, granter, handle);
    if (status != GNTST_okay)
        map_abandon(t, handle);
    return status;
}

static s16 map_one(struct gnttab_map_grant_ref *op)
{
    struct domain *granter;
    s16 status;

    if (!(op->flags & MAP_PARTS))
        return refuse(GNTST_bad_gntref, "flags %#x ask for no mapping", op->flags);
    granter = domain_get(op->dom);
    if (!granter)
        return refuse(GNTST_bad_domain, "no domain %u", op->dom);
    status = map_from(op, granter);
    domain_put(granter);
    return status;
}

/* --- Unmapping ------------------------------------------------------------------------------------- */

#define UNMAP_BATCH 32

struct unmap {
    u64 host_addr, dev_bus_addr, new_addr;
    u32 handle;
    struct map map;     /* parts: what was removed and is to be let go after the flush */
};

/* The first step: no entry maps the frame any more. GNTST_*; on an error nothing is left to do. */
static s16 unmap_begin(struct unmap *u)
{
    struct grant_table *t = current->domain->gnttab;
    u8 wanted = (u8)((u->host_addr ? GNTMAP_host_map : 0) | (u->dev_bus_addr ? GNTMAP_device_map : 0));
    s16 status = GNTST_okay;

    if (!map_claim(t, u->handle, wanted, &u->map)) {
        u->map.granter = NULL;
        return refuse(GNTST_bad_handle, "%u is not the handle of a mapping", u->handle);
    }
    if (u->dev_bus_addr && u->dev_bus_addr != mfn_to_maddr(mfn(u->map.frame)).v)
        status = refuse(GNTST_general_error, "handle %u: bus address %#lx, expected %#lx", u->handle,
                        u->dev_bus_addr, mfn_to_maddr(mfn(u->map.frame)).v);
    else if (u->map.parts & GNTMAP_host_map)
        status = (s16)pv_grant_unmap(u->host_addr, mfn(u->map.frame), u->new_addr, u->map.flags);
    if (status != GNTST_okay) {
        map_settle(t, u->handle, u->map.parts);
        u->map.granter = NULL;
    }
    return status;
}

/* The last step, after the flush: references, then the handle. */
static void unmap_finish(const struct unmap *u)
{
    bool readonly = u->map.flags & GNTMAP_readonly;
    u8 nr = u->map.parts ? nr_parts(u->map.parts) : 0;

    if (!u->map.granter)
        return;
    for (u8 i = 0; i < nr; i++)
        grant_frame_put(mfn(u->map.frame), readonly);
    if (nr)
        grant_unpin(u->map.granter, &(struct pin){ .ref = u->map.ref, .readonly = readonly, .uses = nr });
    map_settle(current->domain->gnttab, u->handle, 0);
}

static void unmap_finish_all(const struct unmap *u, u32 nr)
{
    bool flush = false;

    for (u32 i = 0; i < nr; i++)
        flush |= u[i].map.granter && (u[i].map.parts & GNTMAP_host_map);
    if (flush)
        pv_grant_flush(current->domain);
    for (u32 i = 0; i < nr; i++)
        unmap_finish(&u[i]);
}

/* How the two operations look in memory. */
struct unmap_layout {
    u8 size, status;
    int (*read)(struct unmap *u, gva_t src);
};

static s64 unmap_batch(gva_t uop, u32 count, const struct unmap_layout *layout)
{
    struct unmap batch[UNMAP_BATCH];
    s64 rc = min(count, (u32)UNMAP_BATCH);
    u32 nr = 0;

    while (nr < rc) {
        gva_t elem = gva_add(uop, (u64)nr * layout->size);
        s16 status;

        if (layout->read(&batch[nr], elem)) {
            rc = -EFAULT;
            break;
        }
        status = unmap_begin(&batch[nr]);
        nr++;
        if (copy_to_guest(gva_add(elem, layout->status), &status, sizeof(status))) {
            rc = -EFAULT;
            break;
        }
    }
    unmap_finish_all(batch, nr);
    return rc;
}

static int read_unmap(struct unmap *u, gva_t src)
{
    struct gnttab_unmap_grant_ref op;

    if (copy_from_guest(&op, src, offsetof(struct gnttab_unmap_grant_ref, status)))
        return -EFAULT;
    u->host_addr = op.host_addr;
    u->dev_bus_addr = op.dev_bus_addr;
    u->new_addr = 0;
    u->handle = op.handle;
    return 0;
}

static int read_unmap_and_replace(struct unmap *u, gva_t src)
{
    struct gnttab_unmap_and_replace op;

    if (copy_from_guest(&op, src, offsetof(struct gnttab_unmap_and_replace, status)))
        return -EFAULT;
    u->host_addr = op.host_addr;
    u->dev_bus_addr = 0;
    u->new_addr = op.new_addr;
    u->handle = op.handle;
    return 0;
}

s64 gnttab_unmap(gva_t uop, u32 count)
{
    static const struct unmap_layout layout = {
        sizeof(struct gnttab_unmap_grant_ref), offsetof(struct gnttab_unmap_grant_ref, status), read_unmap };

    return unmap_batch(uop, count, &layout);
}

s64 gnttab_unmap_and_replace(gva_t uop, u32 count)
{
    static const struct unmap_layout layout = {
        sizeof(struct gnttab_unmap_and_replace), offsetof(struct gnttab_unmap_and_replace, status),
        read_unmap_and_replace };

    return unmap_batch(uop, count, &layout);
}

/*
 * The guest did not learn the handle: undo the mapping. If the guest changed the entry meanwhile, it stays
 * until death.
 */
static void take_back(const struct gnttab_map_grant_ref *op)
{
    struct unmap u = { .handle = op->handle };

    if (op->flags & GNTMAP_host_map)
        u.host_addr = op->host_addr;
    if (op->flags & GNTMAP_device_map)
        u.dev_bus_addr = op->dev_bus_addr;
    (void)unmap_begin(&u);
    unmap_finish_all(&u, 1);
}

s64 gnttab_map(gva_t uop, u32 count)
{
    const size_t out = offsetof(struct gnttab_map_grant_ref, status);
    struct gnttab_map_grant_ref op;

    (void)count;
    if (copy_from_guest(&op, uop, sizeof(op)))
        return -EFAULT;
    op.status = map_one(&op);
    if (!copy_to_guest(gva_add(uop, out), (u8 *)&op + out, sizeof(op) - out))
        return 1;
    if (op.status == GNTST_okay)
        take_back(&op);
    return -EFAULT;
}
