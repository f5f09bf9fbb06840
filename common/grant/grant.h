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
 * The guest chooses between two versions of entries (version.c). In version 2 reading and writing are not in
 * the entry but in status[ref], in frames of their own. The guest can write these too, so nothing is ever
 * decided by them: active entries alone count. They are the same in both versions. All that depends on the
 * version is reached through a frame's v1 or v2: one of them is NULL. The common case, version 1, is in line
 * (pin.h); what finds v1 NULL goes to version.c.
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
#include <pvisor/fetch.h>
#include <pvisor/frame.h>
#include <pvisor/gnttab.h>
#include <pvisor/short_way.h>

#define V1_PER_FRAME      (PAGE_SIZE / sizeof(struct grant_entry_v1))
#define V2_PER_FRAME      (PAGE_SIZE / sizeof(union grant_entry_v2))
#define STATUS_PER_FRAME  (PAGE_SIZE / sizeof(grant_status_t))
#define ACTIVE_PER_FRAME  V1_PER_FRAME      /* in both versions: version 2 leaves the later frames without any */
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
    struct grant_entry_v1 guest_shared *v1;     /* of these the one of the table's version; both NULL once the domain is gone */
    union grant_entry_v2 guest_shared *v2;
    struct active *active;          /* of references from ACTIVE_PER_FRAME times this frame's number on */
    u32 nr_active;                  /* of the first of them; those behind are not in use */
    u32 mfn;
};

/* Stays with the domain once it is there, whatever the version, as its other frames do: so whoever maps it may. */
struct status_frame {
    grant_status_t guest_shared *status;
    mfn_t mfn;
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
    u16 version;                    /* 1 or 2 */

    u32 nr_frames, max_frames;
    struct grant_frame *frame;      /* max_frames of them, made with the first */
    u32 nr_status;                  /* in version 2 enough for the entries of nr_frames */
    struct status_frame *status;    /* gnttab_status_frames(max_frames) of them, made with the first */

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
static inline void guest_shared *grant_page(const struct grant_frame *f) { return f->v1 ? (void guest_shared *)f->v1 : f->v2; }
/* The page has entries of the table's version from now on. */
static inline void grant_set_page(const struct grant_table *t, struct grant_frame *f, void guest_shared *page)
{
    f->v1 = t->version == 1 ? page : NULL;
    f->v2 = t->version == 2 ? page : NULL;
}
/* t's lock is held for all of these. */
static inline u32 grant_entries(const struct grant_table *t)
{
    return t->nr_frames * (u32)(t->version == 2 ? V2_PER_FRAME : V1_PER_FRAME);
}
/* Of an entry that is there. NULL if there is no memory. */
struct active *grant_active_grow(struct grant_frame *f, u32 i);
static inline struct active *grant_active(struct grant_table *t, u32 ref)
{
    struct grant_frame *f = &t->frame[index_nospec(ref / ACTIVE_PER_FRAME, t->nr_frames)];
    u32 i = ref % ACTIVE_PER_FRAME;

    return likely(i < f->nr_active) ? &f->active[index_nospec(i, f->nr_active)] : grant_active_grow(f, i);
}
/* NULL if the table has no such entry, is of version 2, or its domain is gone. */
static inline struct grant_entry_v1 guest_shared *entry_v1(const struct grant_table *t, u32 ref)
{
    const struct grant_frame *f;

    if (unlikely(ref / V1_PER_FRAME >= t->nr_frames))
        return NULL;
    f = &t->frame[index_nospec(ref / V1_PER_FRAME, t->nr_frames)];
    return likely(f->v1) ? &f->v1[ref % V1_PER_FRAME] : NULL;
}
/* GTF_reading and GTF_writing, as the uses of the grant are; 0: it is not in use. */
u16 grant_uses(const struct grant_table *t, u32 ref);

/* --- version.c --- */
/* Chooses the version of d's entries: 0; -EINVAL, -ENOSYS, -EBUSY, -ERANGE, -E2BIG, -ENOMEM and nothing is changed. */
int grant_set_version(struct domain *d, u32 version);
/* The lock of d's table is held. Status frames for the entries of nr frames, or -ENOMEM. */
int grant_grow_status(struct domain *d, u32 nr);
/* The lock is held. Exchanges two idle entries: GNTST_okay or GNTST_bad_gntref, GNTST_eagain. */
s16 grant_swap(struct grant_table *t, u32 a, u32 b);

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
/*
 * Has t's domain a mapping of this frame? 1 or 0. Without the lock; looks at every handle, in chunks from *chunk on, which a guest may
 * have chosen. -ERESTART_HYPERCALL: the CPU is wanted, and *chunk is where to go on.
 */
int grant_maps(struct grant_table *t, mfn_t m, u32 *chunk);
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
    if (short_way(p->d) && p->domid == domid)
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
