/*
 * What holds of grants between two operations:
 *
 *   pins       as often as an active entry counts uses, there are parts of mappings that name it, of the same frame, by the domain that
 *              it says, read-only or not
 *   handles    each is free and on the list, or has parts, of a table that is there
 *   tables     live as long as their domain, or as somebody has their grants mapped
 *
 * The counts are taken down by what holds them, must be 0 then, and are put back.
 */
#include <pvisor/invariant.h>
#include <pvisor/lib.h>
#include "grant.h"

static bool in_use(const struct map *m) { return m->granter != NULL; }
static u32 nr_parts(const struct map *m) { return !!(m->parts & GNTMAP_host_map) + !!(m->parts & GNTMAP_device_map); }

/* Calls fn for each mapping of t's. */
static void each_map(struct grant_table *t, void (*fn)(struct grant_table *t, struct map *m))
{
    for (u32 i = 0; i < t->nr_maps; i++)
        if (in_use(map_at(t, i)))
            fn(t, map_at(t, i));
}

/* The active entry that m is counted in. NULL: there is none. */
static struct active *active_of(const struct map *m)
{
    const struct grant_frame *f;

    if (m->ref / ACTIVE_PER_FRAME >= m->granter->nr_frames)
        return NULL;
    f = &m->granter->frame[m->ref / ACTIVE_PER_FRAME];
    return m->ref % ACTIVE_PER_FRAME < f->nr_active ? &f->active[m->ref % ACTIVE_PER_FRAME] : NULL;
}

static u32 *uses_of(struct active *a, const struct map *m) { return m->flags & GNTMAP_readonly ? &a->readers : &a->writers; }

static void take_down(struct grant_table *t, struct map *m)
{
    struct active *a = active_of(m);

    (void)CLAUSE("mapping", m->parts && !(m->parts & ~MAP_PARTS) && !m->unmapping, "d%u: grant %u of d%u, parts %#x, %u removals under way",
                 t->domid, m->ref, m->granter->domid, m->parts, m->unmapping);
    if (m->parts & GNTMAP_device_map)
        holds("a device's mapping", mfn(m->frame), m->flags & GNTMAP_readonly ? FT_NONE : FT_WRITABLE);
    m->granter->nr_refs--;
    if (!CLAUSE("pins", a && a->frame == m->frame && a->domid == t->domid && *uses_of(a, m) >= nr_parts(m),
                "d%u maps grant %u of d%u, frame %#x, flags %#x; the table says frame %#x for d%u, %u read-only and %u read-write", t->domid,
                m->ref, m->granter->domid, m->frame, m->flags, a ? a->frame : 0, a ? a->domid : 0, a ? a->readers : 0, a ? a->writers : 0))
        return;
    *uses_of(a, m) -= nr_parts(m);
}

static void put_back(struct grant_table *, struct map *m)
{
    struct active *a = active_of(m);

    m->granter->nr_refs++;
    if (a)
        *uses_of(a, m) += nr_parts(m);
}

static void look_at_handles(struct grant_table *t)
{
    u32 nr_free = 0, used = 0;

    for (u32 i = 0; i < t->nr_maps; i++)
        used += in_use(map_at(t, i));
    for (u32 i = t->free_map; i != NO_MAP && nr_free <= t->nr_maps; i = map_at(t, i)->next_free, nr_free++)
        if (!CLAUSE("free handles", i < t->nr_maps && !in_use(map_at(t, i)) && !map_at(t, i)->parts, "d%u: %u is on their list", t->domid, i))
            break;
    (void)CLAUSE("handles", used == t->nr_mapped && used + nr_free == t->nr_maps, "d%u has %u: %u in use (counted are %u), %u free", t->domid,
                 t->nr_maps, used, t->nr_mapped, nr_free);
}

void grants_count(struct domain *d)
{
    if (!d->gnttab)
        return;
    look_at_handles(d->gnttab);
    each_map(d->gnttab, take_down);
}

static void look_at_frame(const struct domain *d, const struct grant_frame *f, u32 first)
{
    (void)CLAUSE("grant frames", frame_owner_id(mfn(f->mfn)) == d->id && !f->v1 == !!f->v2, "frame %#x of d%u's table is d%u's", f->mfn, d->id,
                 frame_owner_id(mfn(f->mfn)));
    for (u32 i = 0; i < f->nr_active; i++)
        (void)CLAUSE("pins", !f->active[i].uses, "grant %u of d%u counts %u read-only and %u read-write uses more than d%u has", first + i,
                     d->id, f->active[i].readers, f->active[i].writers, f->active[i].domid);
}

void grants_compare(struct domain *d)
{
    struct grant_table *t = d->gnttab;

    if (!t)
        return;
    (void)CLAUSE("table's references", t->nr_refs == 1, "d%u's has %d besides those of mappings, expected is 1", d->id, (s32)t->nr_refs);
    for (u32 i = 0; i < t->nr_frames; i++)
        look_at_frame(d, &t->frame[i], i * (u32)ACTIVE_PER_FRAME);
}

void grants_put_back(struct domain *d)
{
    if (d->gnttab)
        each_map(d->gnttab, put_back);
}

bool grants_map(const struct domain *d, mfn_t m)
{
    const struct grant_table *t = d->gnttab;

    for (u32 i = 0; t && i < t->nr_maps; i++)
        if (map_at(t, i)->parts & GNTMAP_host_map && map_at(t, i)->frame == m.v)
            return true;
    return false;
}
