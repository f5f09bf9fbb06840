/* A domain's grant table: its frames, which the guest sees, and the active entries beside them. */
#include "pin.h"
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/steps.h>

#define HANDLES_PER_TOOLSTACK_FRAME 256
#define MAX_HANDLES (1u << 22)
#define MAX_FRAMES  (1u << 16)
/* Most domains grant only what the toolstack reserved (console and store). */
#define FEW_ACTIVE  64u

int gnttab_domain_init(struct domain *d, u32 max_frames, u32 max_maptrack)
{
    struct grant_table *t = xzalloc(struct grant_table);

    if (!t)
        return -ENOMEM;
    spin_lock_init(&t->lock, RANK_GRANT);
    t->nr_refs = 1;
    t->domid = d->id;
    t->version = 1;
    t->max_frames = min(max_frames, MAX_FRAMES);
    t->max_maps = min(max_maptrack, MAX_HANDLES / HANDLES_PER_TOOLSTACK_FRAME) * HANDLES_PER_TOOLSTACK_FRAME;
    t->free_map = NO_MAP;
    d->gnttab = t;
    return 0;
}

/* Frames are made when first asked for: by then the domain's word size is known. */
static int add_frame(struct domain *d)
{
    struct grant_table *t = d->gnttab;
    struct grant_frame *f = &t->frame[t->nr_frames];
    mfn_t m = domain_alloc_shared_frame(d);

    if (mfn_eq(m, INVALID_MFN))
        return -ENOMEM;
    f->mfn = (u32)m.v;
    grant_set_page(t, f, map_frame(m));
    t->nr_frames++;
    return 0;
}

int grant_grow(struct domain *d, u32 nr)
{
    struct grant_table *t = d->gnttab;

    ASSERT(spin_is_held(&t->lock));
    if (nr > t->max_frames)
        return refuse(-EINVAL, "%u grant frames for d%u, expected at most %u", nr, d->id, t->max_frames);
    if (nr && !t->frame)
        t->frame = xzalloc_array(struct grant_frame, t->max_frames);
    if (nr && !t->frame)
        return -ENOMEM;
    if (t->version == 2 && grant_grow_status(d, nr))
        return -ENOMEM;
    while (t->nr_frames < nr) {
        int rc = add_frame(d);

        if (rc)
            return refuse(rc, "no memory for grant frame %u of d%u", t->nr_frames, d->id);
    }
    return 0;
}

int gnttab_get_frame(struct domain *d, u32 idx, mfn_t *m)
{
    struct grant_table *t = d->gnttab;
    int rc;

    if (idx >= t->max_frames)
        return refuse(-EINVAL, "grant frame %u of d%u, expected below %u", idx, d->id, t->max_frames);
    spin_lock(&t->lock);
    rc = grant_grow(d, idx + 1);
    if (rc == 0)
        *m = mfn(t->frame[idx].mfn);
    spin_unlock(&t->lock);
    return rc;
}

u16 grant_uses(const struct grant_table *t, u32 ref)
{
    const struct grant_frame *f = &t->frame[ref / ACTIVE_PER_FRAME];
    u32 i = ref % ACTIVE_PER_FRAME;

    if (i >= f->nr_active || !f->active[i].uses)
        return 0;
    return GTF_reading | (f->active[i].writers ? GTF_writing : 0);
}

/* Why the entry does not grant a use on these terms. */
s16 __attribute__((cold)) refuse_use(const struct grant_table *t, u32 ref, u32 entry, struct terms terms)
{
    u32 wrong = (entry & terms.looked_at) ^ terms.wanted;

    if (wrong & ~(u32)GTF_readonly)
        return refuse(GNTST_general_error, "grant %u of d%u: flags %#x for d%u, not a grant to d%u%s", ref, t->domid,
                      entry & 0xffff, entry >> 16, terms.wanted >> 16,
                      (entry & GTF_type_mask) == GTF_transitive ? "; transitive grants are not offered" : "");
    if (wrong)
        return refuse(GNTST_general_error, "grant %u of d%u is read-only", ref, t->domid);
    return refuse(GNTST_general_error, "grant %u of d%u keeps changing", ref, t->domid);
}

/* Room for the first few active entries of a frame, or for all. */
static bool grow_active(struct grant_frame *f, u32 nr)
{
    u32 room = nr <= FEW_ACTIVE ? FEW_ACTIVE : ACTIVE_PER_FRAME;
    struct active *bigger = xzalloc_array(struct active, room);

    if (!bigger)
        return false;
    if (f->nr_active)
        memcpy(bigger, f->active, f->nr_active * sizeof(*bigger));
    xfree(f->active);
    f->active = bigger;
    f->nr_active = room;
    return true;
}

struct active *grant_active_grow(struct grant_frame *f, u32 i)
{
    return grow_active(f, i + 1) ? &f->active[i] : NULL;
}

void grant_table_free(struct grant_table *t)
{
    for (u32 i = 0; i < t->nr_frames; i++)
        xfree(t->frame[i].active);
    xfree(t->frame);
    xfree(t->status);
    for (u32 i = 0; i < DIV_ROUND_UP(t->nr_maps, MAPS_PER_CHUNK); i++)
        xfree(t->chunk[i]);
    xfree(t->chunk);
    xfree(t);
}

static void release_frame(struct domain *d, mfn_t m)
{
    if (!domain_release_frame(d, m))
        panic("grant frame %#lx of d%u is not its own", m.v, d->id);
}

void gnttab_domain_destroy(struct domain *d)
{
    struct grant_table *t = d->gnttab;

    if (!t)
        return;
    d->gnttab = NULL;
    /*
     * Others may be counting down active entries: they must find no guest's entry any more before its frame
     * goes.
     */
    spin_lock(&t->lock);
    for (u32 i = 0; i < t->nr_frames; i++) {
        unmap_frame(grant_page(&t->frame[i]));
        t->frame[i].v1 = NULL;
        t->frame[i].v2 = NULL;
    }
    for (u32 i = 0; i < t->nr_status; i++)
        unmap_frame(t->status[i].status);
    spin_unlock(&t->lock);
    for (u32 i = 0; i < t->nr_frames; i++)
        release_frame(d, mfn(t->frame[i].mfn));
    for (u32 i = 0; i < t->nr_status; i++)
        release_frame(d, t->status[i].mfn);
    grant_table_put(t);
}

void gnttab_dump(struct domain *d)
{
    struct grant_table *t = d->gnttab;

    if (!t)
        return;
    spin_lock(&t->lock);
    printk(LOG_INFO "d%u: grant table, version %u, %u of %u frames; %u of %u handles in use\n", d->id, t->version,
           t->nr_frames, t->max_frames, t->nr_mapped, t->max_maps);
    for (u32 ref = 0; ref < grant_entries(t); ref++) {
        const struct active *a;

        if (!grant_uses(t, ref))
            continue;
        a = grant_active(t, ref);
        printk(LOG_INFO "  %5u: frame %#x, used by d%u: %u read-only, %u read-write\n", ref, a->frame,
               a->domid, a->readers, a->writers);
    }
    spin_unlock(&t->lock);
}

bool gnttab_for_writable(struct domain *d, u32 i, void (*fn)(struct domain *d, mfn_t m))
{
    struct grant_table *t = d->gnttab;
    bool there;

    if (!t)
        return false;
    spin_lock(&t->lock);
    there = i < t->nr_frames;
    for (u32 j = 0; there && j < t->frame[i].nr_active; j++)
        if (t->frame[i].active[j].writers)
            fn(d, mfn_kept(t->frame[i].active[j].frame));
    spin_unlock(&t->lock);
    steps_add(8);
    return there;
}
