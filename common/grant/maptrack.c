/*
 * The grantee's record of its mappings, in page-sized chunks made as handles are needed.
 *
 * Removing a mapping takes three steps: claim its parts, so that no other operation removes them too;
 * remove the page-table entry and flush; then drop what it held and settle. The handle is free after the
 * last part is settled.
 */
#include "pin.h"
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>

static __attribute__((noinline)) bool add_chunk(struct grant_table *t)
{
    u32 first = t->nr_maps, last = min(first + (u32)MAPS_PER_CHUNK, t->max_maps);
    struct map *chunk;

    if (first >= t->max_maps)
        return false;
    if (!t->chunk)
        t->chunk = xzalloc_array(struct map *, DIV_ROUND_UP(t->max_maps, MAPS_PER_CHUNK));
    chunk = t->chunk ? xzalloc_array(struct map, MAPS_PER_CHUNK) : NULL;
    if (!chunk)
        return false;
    t->chunk[first / MAPS_PER_CHUNK] = chunk;
    t->nr_maps = last;
    while (last-- > first)
        map_free(t, map_at(t, last), last);
    return true;
}

u32 maps_take(struct grant_table *t, struct spare *spare, u32 nr)
{
    u32 n = 0;

    spin_lock(&t->lock);
    for (; n < nr && (t->free_map != NO_MAP || add_chunk(t)); n++) {
        spare[n] = (struct spare){ map_at(t, t->free_map), t->free_map };
        t->free_map = spare[n].map->next_free;
    }
    t->nr_mapped += n;
    spin_unlock(&t->lock);
    return n;
}

void maps_give_back(struct grant_table *t, const struct spare *spare, u32 nr)
{
    if (!nr)
        return;
    spin_lock(&t->lock);
    t->nr_mapped -= nr;
    while (nr--)
        map_free(t, spare[nr].map, spare[nr].handle);
    spin_unlock(&t->lock);
}

static bool chunk_maps(struct grant_table *t, u32 first, mfn_t m)
{
    bool found = false;

    spin_lock(&t->lock);
    for (u32 h = first; h < first + MAPS_PER_CHUNK && h < t->nr_maps && !found; h++) {
        const struct map *map = map_at(t, h);

        found = read_once(map->parts) && map->frame == m.v;
    }
    spin_unlock(&t->lock);
    return found;
}

bool grant_maps(struct grant_table *t, mfn_t m)
{
    for (u32 first = 0; first < read_once(t->nr_maps); first += MAPS_PER_CHUNK)
        if (chunk_maps(t, first, m))
            return true;
    return false;
}

/* A host mapping's reference goes with its page-table entry, a device mapping's goes here. */
static void release(struct grant_table *t, u32 handle)
{
    struct map m, *at;
    bool last;

    spin_lock(&t->lock);
    at = map_find(t, handle, MAP_PARTS, &m);
    if (at)
        map_claim(at, m.parts);
    spin_unlock(&t->lock);
    if (!at)
        return;
    if (m.parts & GNTMAP_device_map)
        grant_frame_put(mfn_kept(m.frame), m.flags & GNTMAP_readonly);
    grant_unpin(m.granter, (struct pin){ .ref = m.ref, .readonly = m.flags & GNTMAP_readonly,
                                         .uses = m.parts == MAP_PARTS ? 2 : 1 });
    spin_lock(&t->lock);
    last = map_settle(t, at, handle);
    spin_unlock(&t->lock);
    if (last)
        grant_table_put(m.granter);
}

int gnttab_release_mappings(struct domain *d)
{
    struct grant_table *t = d->gnttab;

    if (!t)
        return 0;
    while (t->release_next < t->nr_maps && t->nr_mapped) {
        release(t, t->release_next++);
        steps_add(10);
        if (t->release_next % 256 == 0 && preempt_needed())
            return -ERESTART_HYPERCALL;
    }
    return 0;
}
