/*
 * The frame allocator: binary buddies in two zones (below 4 GiB, above). A free block keeps its state
 * in its first frame's words in the frame table: the type word says FREE, the order and half of the
 * back link; the reference word holds the links under an owner that nobody has, so that a guest's
 * attempt to take a reference fails like on any frame that is not its own.
 */
#include <asm/mm.h>
#include <public/errno.h>
#include <public/xen.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>

#define MAX_ORDER 18
#define NR_ZONES  2
#define NIL       0xffffffffu
#define LOW_MFNS  (1UL << (32 - PAGE_SHIFT))

static struct zone {
    u32 head[MAX_ORDER + 1];
    u64 free;
} zones[NR_ZONES];

static spinlock_t heap_lock = SPINLOCK_INIT(RANK_HEAP);
static u64 total_frames;
extern bool heap_ready;

static struct zone *zone_of(u64 m) { return &zones[m >= LOW_MFNS]; }
static bool is_free_head(u64 m, unsigned order)
{
    return m < nr_frames && fw_type(frame_types[m]) == FW_FREE && (frame_types[m] >> 24 & 31) == order;
}

static void set_links(u64 m, unsigned order, u32 next, u32 prev)
{
    frame_types[m] = FW_TYPE(FW_FREE) | order << 24 | prev >> 16;
    frame_refs[m] = next | (u64)DOMID_INVALID << FR_OWNER_SHIFT | (u64)(prev & 0xffff) << 48;
}

static u32 link_next(u64 m) { return (u32)frame_refs[m]; }
static u32 link_prev(u64 m) { return (frame_types[m] & 0xffff) << 16 | (u32)(frame_refs[m] >> 48); }

static void list_push(u64 m, unsigned order)
{
    u32 *head = &zone_of(m)->head[order];

    if (*head != NIL)
        set_links(*head, order, link_next(*head), (u32)m);
    set_links(m, order, *head, NIL);
    *head = (u32)m;
}

static void list_remove(u64 m, unsigned order)
{
    u32 next = link_next(m), prev = link_prev(m);

    if (prev == NIL)
        zone_of(m)->head[order] = next;
    else
        set_links(prev, order, next, link_prev(prev));
    if (next != NIL)
        set_links(next, order, link_next(next), prev);
    frame_types[m] = 0;
}

static void free_block(u64 m, unsigned order)
{
    zone_of(m)->free += 1UL << order;
    while (order < MAX_ORDER) {
        u64 buddy = m ^ 1UL << order;
        if (!is_free_head(buddy, order) || zone_of(buddy) != zone_of(m))
            break;
        list_remove(buddy, order);
        m &= ~(1UL << order);
        order++;
    }
    list_push(m, order);
}

/* First block of a list that ends below limit, or NIL. */
static u32 find_below(const struct zone *z, unsigned order, u64 limit)
{
    u32 m = z->head[order];
    while (m != NIL && m + (1UL << order) > limit)
        m = link_next(m);
    return m;
}

static u64 take_from(struct zone *z, unsigned order, u64 limit)
{
    for (unsigned o = order; o <= MAX_ORDER; o++) {
        u32 m = find_below(z, o, limit);
        if (m == NIL)
            continue;
        list_remove(m, o);
        while (o > order) {
            o--;
            list_push(m + (1UL << o), o);
        }
        z->free -= 1UL << order;
        return m;
    }
    return NIL;
}

static void set_hypervisor_owned(u64 m, unsigned order)
{
    for (u64 i = 0; i < 1UL << order; i++) {
        frame_types[m + i] = 0;
        frame_refs[m + i] = (u64)DOMID_XEN << FR_OWNER_SHIFT;
    }
}

mfn_t alloc_frames(unsigned order, unsigned flags)
{
    unsigned bits = flags & 0x3f;
    u64 limit = bits ? 1UL << (bits > PAGE_SHIFT ? bits - PAGE_SHIFT : 0) : ~0UL, m = NIL;

    if (order > MAX_ORDER)
        return INVALID_MFN;
    spin_lock(&heap_lock);
    if (limit > LOW_MFNS)
        m = take_from(&zones[1], order, limit);
    if (m == NIL)
        m = take_from(&zones[0], order, limit);
    if (m != NIL)
        set_hypervisor_owned(m, order);
    spin_unlock(&heap_lock);
    if (m == NIL)
        return INVALID_MFN;
    if (!(flags & MEMF_NO_ZERO))
        memset(mfn_to_virt(mfn(m)), 0, PAGE_SIZE << order);
    return mfn(m);
}

void free_frames(mfn_t m, unsigned order)
{
    ASSERT(m.v + (1UL << order) <= nr_frames);
    spin_lock(&heap_lock);
    for (u64 i = 0; i < 1UL << order; i++) {
        frame_types[m.v + i] = 0;
        frame_refs[m.v + i] = (u64)DOMID_INVALID << FR_OWNER_SHIFT;
    }
    free_block(m.v, order);
    spin_unlock(&heap_lock);
}

void *alloc_pages(unsigned order)
{
    mfn_t m = alloc_frames(order, 0);
    return mfn_eq(m, INVALID_MFN) ? NULL : mfn_to_virt(m);
}

void free_pages(void *p, unsigned order)
{
    if (p)
        free_frames(virt_to_mfn(p), order);
}

/* Boot only: RAM that nothing uses any more. */
void heap_init_region(mfn_t first, u64 nr)
{
    if (!heap_ready)
        for (unsigned z = 0; z < NR_ZONES; z++) {
            zones[z].free = 0;
            for (unsigned o = 0; o <= MAX_ORDER; o++)
                zones[z].head[o] = NIL;
        }
    heap_ready = true;
    total_frames += nr;
    for (u64 m = first.v, end = first.v + nr; m < end;) {
        unsigned order = m ? min(find_first_set(m), (unsigned)MAX_ORDER) : MAX_ORDER;
        while (m + (1UL << order) > end)
            order--;
        free_frames(mfn(m), order);
        m += 1UL << order;
    }
}

u64 heap_free_frames(void) { return zones[0].free + zones[1].free; }
u64 heap_free_frames_low(void) { return zones[0].free; }
u64 heap_total_frames(void) { return total_frames; }

void *map_frame(mfn_t m) { return mfn_to_virt(m); }
void unmap_frame(const void *p) { (void)p; }
mfn_t virt_to_mfn(const void *p) { return maddr_to_mfn(virt_to_maddr(p)); }
