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

static u32 nr_chunks(const struct grant_table *t) { return DIV_ROUND_UP(read_once(t->nr_maps), (u32)MAPS_PER_CHUNK); }

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
    write_once(t->nr_maps, last);
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

/* Its chunks are whole pages: what is behind nr_maps in the last is 0. */
static bool chunk_maps(struct grant_table *t, u32 chunk, mfn_t m)
{
    const struct map *map;
    bool found = false;

    steps_add(MAPS_PER_CHUNK / 8);
    spin_lock(&t->lock);
    map = t->chunk[index_nospec(chunk, nr_chunks(t))];
    for (u32 i = 0; i < MAPS_PER_CHUNK && !found; i++)
        found = read_once(map[i].parts) && map[i].frame == m.v;
    spin_unlock(&t->lock);
    return found;
}

#define SEARCH_CHUNKS 16    /* between two looks whether to give way: some 10 us */

int grant_maps(struct grant_table *t, mfn_t m, u32 *chunk)
{
    while (*chunk < nr_chunks(t)) {
        if (chunk_maps(t, (*chunk)++, m))
            return 1;
        if (*chunk % SEARCH_CHUNKS == 0 && preempt_needed())
            return -ERESTART_HYPERCALL;
    }
    return 0;
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
