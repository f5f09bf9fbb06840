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
 * holds one while it takes or drops references to guests' frames or changes page tables. Operations on the
 * caller's page tables hold its page-table lock for a batch, and take tables' locks inside it.
 *
 * A table outlives its domain while others have its grants mapped: nr_refs counts the domain and each map
 * entry.
 */
#ifndef COMMON_GRANT_GRANT_H
#define COMMON_GRANT_GRANT_H

#include <asm/atomic.h>
#include <public/errno.h>
#include <public/grant_table.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/gnttab.h>

#define ENTRIES_PER_FRAME (PAGE_SIZE / sizeof(struct grant_entry_v1))
#define MAPS_PER_CHUNK    (PAGE_SIZE / sizeof(struct map))

struct active {
    u32 readers, writers;   /* uses read-only and read-write */
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
void grant_table_put(struct grant_table *t);
/* t's lock is held for these, and grant_exists(). grant_active(): NULL if there is no memory; grant_entry(): if the domain is gone. */
static inline bool grant_exists(const struct grant_table *t, u32 ref) { return ref / ENTRIES_PER_FRAME < t->nr_frames; }
struct active *grant_active_grow(struct grant_frame *f, u32 i);
static inline struct active *grant_active(struct grant_table *t, u32 ref)
{
    struct grant_frame *f = &t->frame[ref / ENTRIES_PER_FRAME];
    u32 i = ref % ENTRIES_PER_FRAME;

    return likely(i < f->nr_active) ? &f->active[i] : grant_active_grow(f, i);
}
static inline struct grant_entry_v1 *grant_entry(const struct grant_table *t, u32 ref)
{
    const struct grant_frame *f = &t->frame[ref / ENTRIES_PER_FRAME];

    return f->entry ? &f->entry[ref % ENTRIES_PER_FRAME] : NULL;
}
bool grant_in_use(const struct grant_table *t, u32 ref);

/* --- pin.c --- */
struct pin {
    u32 ref;
    bool readonly;
    bool whole;             /* to map it: not a grant of a part of a page */
    u8 uses;                /* how many uses to count */
};
/*
 * Checks that granter's grant lets the domain grantee do this, and counts the uses. Fills *frame. The
 * frame's owner is not checked: taking the reference does. GNTST_*.
 */
s16 grant_pin(struct grant_table *granter, struct pin pin, u16 grantee, mfn_t *frame);
void grant_unpin(struct grant_table *granter, struct pin pin);
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

/* --- maptrack.c; each but map_publish() takes the lock --- */
/* A handle, and its map, which nobody else can use until map_publish(). NULL: no room. */
struct map *map_new(struct grant_table *t, u32 *handle);
void map_abandon(struct grant_table *t, u32 handle);
/* Without the lock: the map is its maker's until it has parts, and they come last. */
static inline void map_publish(struct map *m, const struct map *as)
{
    atomic_inc(&as->granter->nr_refs);
    m->granter = as->granter;
    m->ref = as->ref;
    m->frame = as->frame;
    m->flags = as->flags;
    smp_wmb();
    write_once(m->parts, as->parts);
}
/*
 * Claims parts of a mapping for removal: those of wanted that are there. NULL if there is no such mapping.
 * *copy is the map, with parts = the claimed ones.
 */
struct map *map_claim(struct grant_table *t, u32 handle, u8 wanted, struct map *copy);
/* Ends a claim of the map m; back: parts that are not removed after all. The last part's removal frees the handle. */
void map_settle(struct grant_table *t, struct map *m, u32 handle, u8 back);

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
