/*
 * Inside common/grant/.
 *
 * A grant in use appears in two places: the granter's active entry counts its uses ("pins"), and the
 * grantee's map table has an entry per mapping, whose index is the handle. Each use also holds a reference
 * to the frame.
 *
 *     granter's table                               grantee's table
 *     entry[ref]  flags: reading, writing           map[handle] -> granter's table, ref, frame
 *     active[ref] readers, writers, domid, frame
 *
 * While the active entry counts any use, the grant is for one domain and one frame: what the guest writes
 * into its entry meanwhile does not matter.
 *
 * Both parts of a table are guarded by its lock (RANK_GRANT). No path holds two tables' locks, and none
 * holds one while it takes or drops references to guests' frames. Operations on the caller's page tables
 * hold its page-table lock for a batch, and take tables' locks inside it.
 *
 * A table outlives its domain while others have its grants mapped: nr_refs counts the domain and each map
 * entry.
 */
#ifndef COMMON_GRANT_GRANT_H
#define COMMON_GRANT_GRANT_H

#include <asm/atomic.h>
#include <asm/nospec.h>
#include <public/errno.h>
#include <public/grant_table.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/gnttab.h>

#define ENTRIES_PER_FRAME (PAGE_SIZE / sizeof(struct grant_entry_v1))
#define MAPS_PER_CHUNK    (PAGE_SIZE / sizeof(struct map))

struct active {
    union {
        struct { u32 readers, writers; };   /* uses read-only and read-write */
        u64 uses;                           /* both: not 0 if there is any */
    };
    u32 frame;
    u16 domid;              /* the grantee; valid while there is a use */
};

struct grant_frame {
    mfn_t mfn;
    struct grant_entry_v1 *entry;   /* NULL once the domain is gone */
    struct active *active;
    u32 nr_active;                  /* of the frame's first references; those behind are not in use */
};

/* A mapping of somebody's grant. Free when parts and unmapping are 0 and granter is NULL. */
struct map {
    struct grant_table *granter;
    union {
        u32 ref;
        u32 next_free;
    };
    u32 frame;
    u16 flags;              /* GNTMAP_*: readonly, application_map, contains_pte */
    u8 parts;               /* GNTMAP_host_map, GNTMAP_device_map: what is there and nobody is removing */
    u8 unmapping;           /* unmap operations under way */
};

struct grant_table {
    spinlock_t lock;
    u32 nr_refs;
    u16 domid;

    u32 nr_frames, max_frames;
    struct grant_frame *frame;      /* max_frames of them, made with the first */

    u32 nr_maps, max_maps;          /* handles in chunks that exist; limit */
    u32 nr_mapped;
    u32 free_map;                   /* head of the list by next_free; NO_MAP at its end */
    u32 release_next;               /* gnttab_release_mappings() goes on here */
    struct map **chunk;
};

#define NO_MAP 0xffffffffu
#define MAP_PARTS (GNTMAP_host_map | GNTMAP_device_map)

/* --- table.c --- */
/* At least nr frames; t's lock held. -EINVAL beyond the limit, -ENOMEM. */
int grant_grow(struct domain *d, u32 nr);
void grant_table_free(struct grant_table *t);
static inline void grant_table_put(struct grant_table *t)
{
    if (unlikely(atomic_dec_and_test(&t->nr_refs)))
        grant_table_free(t);
}
/* t's lock is held for these, and grant_exists(). grant_active(): NULL if there is no memory; grant_entry(): if the domain is gone. */
static inline bool grant_exists(const struct grant_table *t, u32 ref) { return ref / ENTRIES_PER_FRAME < t->nr_frames; }
struct active *grant_active_grow(struct grant_frame *f, u32 i);
static inline struct active *grant_active(struct grant_table *t, u32 ref)
{
    struct grant_frame *f = &t->frame[index_nospec(ref / ENTRIES_PER_FRAME, t->nr_frames)];
    u32 i = ref % ENTRIES_PER_FRAME;

    return likely(i < f->nr_active) ? &f->active[index_nospec(i, f->nr_active)] : grant_active_grow(f, i);
}
static inline struct grant_entry_v1 *grant_entry(const struct grant_table *t, u32 ref)
{
    const struct grant_frame *f = &t->frame[index_nospec(ref / ENTRIES_PER_FRAME, t->nr_frames)];

    return f->entry ? &f->entry[ref % ENTRIES_PER_FRAME] : NULL;
}
bool grant_in_use(const struct grant_table *t, u32 ref);

/* --- Frames --- */
/* The reference that one use holds. 0 or as frame_get_writable(). */
static inline int grant_frame_get(mfn_t m, const struct domain *owner, bool readonly)
{
    if (!readonly)
        return frame_get_writable(m, owner);
    return frame_get(m, owner) ? 0 : -EINVAL;
}
static inline void grant_frame_put(mfn_t m, bool readonly)
{
    if (readonly)
        frame_put(m);
    else
        frame_put_writable(m);
}

/* --- maptrack.c --- */
/* A free handle, taken off the list: its map is its holder's alone until it has parts. */
struct spare {
    struct map *map;
    u32 handle;
};
/* Takes the lock once, for up to nr of them: how many there were. */
u32 maps_take(struct grant_table *t, struct spare *spare, u32 nr);
void maps_give_back(struct grant_table *t, const struct spare *spare, u32 nr);
/* Without the lock: parts come last. */
static always_inline void map_publish(struct map *m, const struct map *as)
{
    atomic_inc(&as->granter->nr_refs);
    m->granter = as->granter;
    m->ref = as->ref;
    m->frame = as->frame;
    m->flags = as->flags;
    smp_wmb();
    write_once(m->parts, as->parts);
}
static inline struct map *map_at(const struct grant_table *t, u32 handle)
{
    if (unlikely(handle >= t->nr_maps))
        return NULL;
    handle = (u32)index_nospec(handle, t->nr_maps);
    return &t->chunk[handle / MAPS_PER_CHUNK][handle % MAPS_PER_CHUNK];
}
/* t's lock held. NULL if there is no such mapping; *copy is the map, with parts = those of wanted that are there. */
static always_inline struct map *map_find(struct grant_table *t, u32 handle, u8 wanted, struct map *copy)
{
    struct map *m = map_at(t, handle);
    /* A spare one has no parts before it is published. */
    u8 parts = m ? read_once(m->parts) : 0;

    smp_rmb();
    if (unlikely(!parts || m->unmapping == 0xff))
        return NULL;
    *copy = *m;
    copy->parts = parts & wanted;
    return m;
}
/* Without giving up the lock since map_find(): nobody else removes these parts, until map_settle() ends the claim. */
static always_inline void map_claim(struct map *m, u8 parts)
{
    write_once(m->parts, m->parts & (u8)~parts);
    m->unmapping++;
}
static always_inline void map_free(struct grant_table *t, struct map *m, u32 handle)
{
    *m = (struct map){ .next_free = t->free_map };
    t->free_map = handle;
}
/*
 * t's lock held: what was claimed is removed. True if that frees the handle, since nothing is left: then the
 * granter's table is to be put, without the lock.
 */
static always_inline bool map_settle(struct grant_table *t, struct map *m, u32 handle)
{
    m->unmapping--;
    if (m->parts || m->unmapping)
        return false;
    map_free(t, m, handle);
    t->nr_mapped--;
    return true;
}

/* --- The other domain of an operation --- */
/* Stays referenced while the operations of one call name the same: most of a call's do. */
struct peer {
    struct domain *d;       /* NULL: none */
    u16 domid;
};
static inline void peer_put(struct peer *p)
{
    if (p->d)
        domain_put(p->d);
    p->d = NULL;
}
/* NULL if there is no such domain. */
static inline struct domain *peer_get(struct peer *p, u16 domid)
{
    if (p->d && p->domid == domid)
        return p->d;
    peer_put(p);
    p->d = domain_get(domid);
    p->domid = domid;
    return p->d;
}

/*
 * Operations on elements of a guest array: each handles at least one of count elements at uop and returns
 * how many, or a negative errno.
 */
s64 gnttab_map(gva_t uop, u32 count);
s64 gnttab_unmap(gva_t uop, u32 count);
s64 gnttab_unmap_and_replace(gva_t uop, u32 count);
s64 gnttab_copy(gva_t uop, u32 count);

#endif
