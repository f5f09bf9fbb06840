/*
 * The grantee's record of its mappings, in page-sized chunks made as handles are needed.
 *
 * Removing a mapping takes three steps: claim its parts, so that no other operation removes them too;
 * remove the page-table entry and flush; then drop what it held and settle. The handle is free after the
 * last part is settled.
 */
#include "grant.h"
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>

static struct map *map_at(const struct grant_table *t, u32 handle)
{
    return handle < t->nr_maps ? &t->chunk[handle / MAPS_PER_CHUNK][handle % MAPS_PER_CHUNK] : NULL;
}

static void put_on_free_list(struct grant_table *t, u32 handle)
{
    struct map *m = map_at(t, handle);

    *m = (struct map){ .next_free = t->free_map };
    t->free_map = handle;
}

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
    while (last > first)
        put_on_free_list(t, --last);
    return true;
}

struct map *map_new(struct grant_table *t, u32 *handle)
{
    struct map *m = NULL;

    spin_lock(&t->lock);
    if (t->free_map != NO_MAP || add_chunk(t)) {
        *handle = t->free_map;
        m = map_at(t, *handle);
        t->free_map = m->next_free;
        t->nr_mapped++;
    }
    spin_unlock(&t->lock);
    return m;
}

void map_abandon(struct grant_table *t, u32 handle)
{
    spin_lock(&t->lock);
    put_on_free_list(t, handle);
    t->nr_mapped--;
    spin_unlock(&t->lock);
}

struct map *map_claim(struct grant_table *t, u32 handle, u8 wanted, struct map *copy)
{
    struct map *m;
    u8 parts;

    spin_lock(&t->lock);
    m = map_at(t, handle);
    /* A handle that map_new() gave out has no parts before it is published. */
    parts = m ? read_once(m->parts) : 0;
    smp_rmb();
    if (parts && m->unmapping < 0xff) {
        *copy = *m;
        copy->parts = parts & wanted;
        write_once(m->parts, parts & (u8)~wanted);
        m->unmapping++;
    } else {
        m = NULL;
    }
    spin_unlock(&t->lock);
    return m;
}

void map_settle(struct grant_table *t, struct map *m, u32 handle, u8 back)
{
    struct grant_table *granter = NULL;

    spin_lock(&t->lock);
    m->parts |= back;
    m->unmapping--;
    if (!m->parts && !m->unmapping) {
        granter = m->granter;
        put_on_free_list(t, handle);
        t->nr_mapped--;
    }
    spin_unlock(&t->lock);
    if (granter)
        grant_table_put(granter);
}

/* A host mapping's reference goes with its page-table entry, a device mapping's goes here. */
static void release(struct grant_table *t, u32 handle)
{
    struct map m, *at = map_claim(t, handle, MAP_PARTS, &m);

    if (!at)
        return;
    if (m.parts & GNTMAP_device_map)
        grant_frame_put(mfn(m.frame), m.flags & GNTMAP_readonly);
    grant_unpin(m.granter, (struct pin){ .ref = m.ref, .readonly = m.flags & GNTMAP_readonly,
                                         .uses = m.parts == MAP_PARTS ? 2 : 1 });
    map_settle(t, at, handle, 0);
}

int gnttab_release_mappings(struct domain *d)
{
    struct grant_table *t = d->gnttab;

    if (!t)
        return 0;
    while (t->release_next < t->nr_maps && t->nr_mapped) {
        release(t, t->release_next++);
        if (t->release_next % 256 == 0 && preempt_needed())
            return -ERESTART_HYPERCALL;
    }
    return 0;
}
