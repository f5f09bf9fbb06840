/*
 * Mapping and unmapping grants.
 *
 * A mapping has up to two parts. The host part is a page-table entry, which owns its reference to the frame
 * (pvisor/gnttab.h). The device part is a reference of its own that keeps the frame in place for a device
 * of the grantee: without an IOMMU its address there is its machine address.
 */
#include "pin.h"
#include <pvisor/guest.h>
#include <pvisor/printk.h>

#define BATCH 32        /* operations between two looks at whether to give way */
#define KEPT_FLAGS (GNTMAP_readonly | GNTMAP_application_map | GNTMAP_contains_pte)

static u8 nr_parts(u32 flags) { return (flags & MAP_PARTS) == MAP_PARTS ? 2 : 1; }

static always_inline int get_references(mfn_t m, const struct domain *owner, bool readonly, u8 nr)
{
    int rc = grant_frame_get(m, owner, readonly);

    if (rc || nr == 1)
        return rc;
    rc = grant_frame_get(m, owner, readonly);
    if (rc)
        grant_frame_put(m, readonly);
    return rc;
}

static always_inline void put_references(mfn_t m, bool readonly, u8 nr)
{
    grant_frame_put(m, readonly);
    if (unlikely(nr == 2))
        grant_frame_put(m, readonly);
}

/* A reference for each part; the host part's goes to its page-table entry. */
static always_inline s16 make_parts(struct pv_grant_walk *walk, const struct gnttab_map_grant_ref *op, struct domain *granter,
                                    mfn_t m)
{
    bool readonly = op->flags & GNTMAP_readonly;
    s16 status = GNTST_okay;
    int rc = get_references(m, granter, readonly, nr_parts(op->flags));

    if (rc && mfn_eq(m, INVALID_MFN))
        return refuse(GNTST_general_error, "grant %u of d%u names no frame of the machine's memory", op->ref, granter->id);
    if (rc)
        return refuse(GNTST_general_error, "grant %u of d%u: frame %#lx %s", op->ref, granter->id, m.v,
                      rc == -EBUSY ? "is in use as a table" : "is not its own");
    if (op->flags & GNTMAP_host_map)
        status = (s16)pv_grant_map(walk, op->host_addr, m, op->flags);
    if (status != GNTST_okay)
        put_references(m, readonly, nr_parts(op->flags));
    return status;
}

static always_inline s16 fill_map(struct pv_grant_walk *walk, struct gnttab_map_grant_ref *op, struct domain *granter,
                                  struct map *map)
{
    struct pin pin = { .ref = op->ref, .readonly = op->flags & GNTMAP_readonly, .whole = true,
                       .uses = nr_parts(op->flags) };
    struct pinned pinned = grant_pin(granter->gnttab, pin, current->domain->id);
    mfn_t m = pinned.frame;
    s16 status = pinned.status;

    if (status != GNTST_okay)
        return status;
    status = make_parts(walk, op, granter, m);
    if (unlikely(status != GNTST_okay)) {
        grant_unpin(granter->gnttab, pin);
        return status;
    }
    map_publish(map, &(struct map){
        .granter = granter->gnttab, .ref = op->ref, .frame = (u32)m.v,
        .flags = (u16)(op->flags & KEPT_FLAGS), .parts = (u8)(op->flags & MAP_PARTS) });
    op->dev_bus_addr = mfn_to_maddr(m).v;
    return GNTST_okay;
}

/* spare: NULL if no handle is left. It is used up if the status is GNTST_okay. */
static always_inline s16 map_one(struct pv_grant_walk *walk, struct gnttab_map_grant_ref *op, struct peer *granter,
                                 const struct spare *spare)
{
    s16 status;

    if (unlikely(!(op->flags & MAP_PARTS)))
        return refuse(GNTST_bad_gntref, "flags %#x ask for no mapping", op->flags);
    if (unlikely(!peer_get(granter, op->dom)))
        return refuse(GNTST_bad_domain, "no domain %u", op->dom);
    if (unlikely(!spare))
        return refuse(GNTST_no_device_space, "all %u map handles are in use", current->domain->gnttab->max_maps);
    status = fill_map(walk, op, granter->d, spare->map);
    if (status == GNTST_okay)
        op->handle = spare->handle;
    return status;
}

/* --- Unmapping ------------------------------------------------------------------------------------- */

struct unmap {
    u64 host_addr, dev_bus_addr, new_addr;
    u32 handle;
    s16 status;
    struct map *at;     /* NULL: nothing is left to do */
    struct map map;     /* parts: what was removed and is to be let go after the flush */
};

/* The first step: no entry maps the frame any more. The lock of t, the caller's table, is held. GNTST_*. */
static always_inline s16 unmap_begin(struct grant_table *t, struct pv_grant_walk *walk, struct unmap *u)
{
    u8 wanted = (u8)((u->host_addr ? GNTMAP_host_map : 0) | (u->dev_bus_addr ? GNTMAP_device_map : 0));
    struct map *m = map_find(t, u->handle, wanted, &u->map);
    s16 status = GNTST_okay;

    u->at = NULL;
    if (unlikely(!m))
        return refuse(GNTST_bad_handle, "%u is not the handle of a mapping", u->handle);
    if (u->dev_bus_addr && u->dev_bus_addr != mfn_to_maddr(mfn_kept(u->map.frame)).v)
        return refuse(GNTST_general_error, "handle %u: bus address %#lx, expected %#lx", u->handle,
                      u->dev_bus_addr, mfn_to_maddr(mfn_kept(u->map.frame)).v);
    if (u->map.parts & GNTMAP_host_map)
        status = (s16)pv_grant_unmap(walk, u->host_addr, mfn_kept(u->map.frame), u->new_addr, u->map.flags);
    if (status == GNTST_okay) {
        map_claim(m, u->map.parts);
        u->at = m;
    }
    return status;
}

/* What the removed parts of a mapping held. */
static always_inline void let_go(const struct map *m)
{
    bool readonly = m->flags & GNTMAP_readonly;
    u8 nr = nr_parts(m->parts);

    if (!m->parts)
        return;
    put_references(mfn_kept(m->frame), readonly, nr);
    grant_unpin(m->granter, (struct pin){ .ref = m->ref, .readonly = readonly, .uses = nr });
}

/* The last steps, after the flush: references, then the handles, then the granters' tables. */
static always_inline void unmap_finish(struct grant_table *t, struct unmap *u, u32 nr)
{
    for (u32 i = 0; i < nr; i++)
        if (likely(u[i].at))
            let_go(&u[i].map);
    spin_lock(&t->lock);
    for (u32 i = 0; i < nr; i++)
        if (u[i].at && !map_settle(t, u[i].at, u[i].handle))
            u[i].at = NULL;
    spin_unlock(&t->lock);
    for (u32 i = 0; i < nr; i++)
        if (u[i].at)
            grant_table_put(u[i].map.granter);
}

/* Removes, flushes, lets go. */
static void unmap_all(struct unmap *u, u32 nr)
{
    struct grant_table *t = current->domain->gnttab;
    struct pv_grant_walk walk;
    bool flush = false;

    pv_grant_begin(&walk, nr ? u[0].host_addr : 0);
    spin_lock(&t->lock);
    for (u32 i = 0; i < nr; i++) {
        u[i].status = unmap_begin(t, &walk, &u[i]);
        flush |= u[i].at && u[i].map.parts & GNTMAP_host_map;
    }
    spin_unlock(&t->lock);
    pv_grant_end();
    if (flush)
        pv_grant_flush(current->domain);
    unmap_finish(t, u, nr);
}

/* How the two operations look in memory. */
struct unmap_layout {
    u8 size, status;
    int (*read)(struct unmap *u, gva_t src);
};

/*
 * The guest's array is read before the page tables are locked and written after: an access to it may fault. Operations before
 * one that cannot be read are made.
 */
static always_inline s64 unmap_batch(gva_t uop, u32 count, const struct unmap_layout *layout)
{
    struct unmap batch[BATCH];
    u32 wanted = min(count, (u32)BATCH), nr = 0;

    while (nr < wanted && !layout->read(&batch[nr], gva_add(uop, (u64)nr * layout->size)))
        nr++;
    unmap_all(batch, nr);
    for (u32 i = 0; i < nr; i++)
        if (copy_to_guest(gva_add(uop, (u64)i * layout->size + layout->status), &batch[i].status, sizeof(batch[i].status)))
            return -EFAULT;
    return nr < wanted ? -EFAULT : (s64)wanted;
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

/* --- Batches of mappings ------------------------------------------------------------------------------ */

/*
 * The guest did not learn the handle: undo the mapping. If the guest changed the entry meanwhile, it stays
 * until death.
 */
static void take_back(const struct gnttab_map_grant_ref *op)
{
    struct unmap u = { .handle = op->handle };

    if (op->status != GNTST_okay)
        return;
    if (op->flags & GNTMAP_host_map)
        u.host_addr = op->host_addr;
    if (op->flags & GNTMAP_device_map)
        u.dev_bus_addr = op->dev_bus_addr;
    unmap_all(&u, 1);
}

static void map_all(struct gnttab_map_grant_ref *op, u32 nr)
{
    struct grant_table *t = current->domain->gnttab;
    struct spare spare[BATCH];
    u32 nr_spare = maps_take(t, spare, nr), used = 0;
    struct peer granter = { .d = NULL };
    struct pv_grant_walk walk;

    pv_grant_begin(&walk, nr && !(op[0].flags & GNTMAP_contains_pte) ? op[0].host_addr : 0);
    for (u32 i = 0; i < nr; i++) {
        op[i].status = map_one(&walk, &op[i], &granter, used < nr_spare ? &spare[used] : NULL);
        used += op[i].status == GNTST_okay;
    }
    pv_grant_end();
    maps_give_back(t, spare + used, nr_spare - used);
    peer_put(&granter);
}

/* As unmap_batch(). */
s64 gnttab_map(gva_t uop, u32 count)
{
    const size_t out = offsetof(struct gnttab_map_grant_ref, dom), size = sizeof(struct gnttab_map_grant_ref);
    struct gnttab_map_grant_ref op[BATCH];
    u32 wanted = min(count, (u32)BATCH), nr = 0;
    s64 rc;

    while (nr < wanted && !copy_from_guest(&op[nr], gva_add(uop, nr * size), size))
        nr++;
    map_all(op, nr);
    rc = nr < wanted ? -EFAULT : (s64)wanted;
    for (u32 i = 0; i < nr; i++) {
        if (!copy_to_guest(gva_add(uop, i * size + out), &op[i].dom, size - out))
            continue;
        take_back(&op[i]);
        rc = -EFAULT;
    }
    return rc;
}
