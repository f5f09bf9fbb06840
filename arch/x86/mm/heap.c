/*
 * The frame allocator: binary buddies in zones, one for each power of two that a frame number's highest bit can be. So
 * what lies below 2^n bytes is whole zones, a limit costs no search, and without one the highest zone gives first:
 * low memory is kept for who can use no other. A block lies in one zone, because it is aligned to its size.
 *
 * A free block keeps its state in its first frame's words in the frame table: the type word says FREE, the order and half
 * of the back link; the reference word holds the links under an owner that nobody has, so that a guest's attempt to take a
 * reference fails like on any frame that is not its own.
 */
#include <asm/pt.h>
#include <public/xen.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>
#include <pvisor/steps.h>

#define MAX_ORDER 18
#define NR_ZONES  32           /* frame numbers have 32 bits here */
#define NIL       0xffffffffu

static struct zone {
    u32 head[MAX_ORDER + 1];
    u64 free;
} zones[NR_ZONES];

static u32 filled;             /* zones that have anything free, a bit each */
static u64 free_now;
static u64 claimed;            /* the sum of all claims */
static spinlock_t heap_lock = SPINLOCK_INIT(RANK_HEAP);
static u64 total_frames;
bool heap_ready;

static unsigned zone_nr(u64 m) { return m ? ilog2(m) : 0; }
static struct zone *zone_of(u64 m) { return &zones[zone_nr(m)]; }

static void count_free(unsigned zone, s64 by)
{
    zones[zone].free += (u64)by;
    free_now += (u64)by;
    filled = zones[zone].free ? filled | 1u << zone : filled & ~(1u << zone);
}

static bool is_free_head(u64 m, unsigned order)
{
    return m < nr_frames && frame_notes[m] >> FW_TYPE_SHIFT == NOTE_HEAP && (frame_notes[m] >> 24 & 31) == order;
}

static void set_links(u64 m, unsigned order, u32 next, u32 prev)
{
    frame_notes[m] = FW_TYPE(NOTE_HEAP) | order << 24 | prev >> 16;
    frame_refs[m] = next | (u64)DOMID_INVALID << FR_OWNER_SHIFT | (u64)(prev & 0xffff) << 48;
}

static u32 link_next(u64 m) { return (u32)frame_refs[m]; }
static u32 link_prev(u64 m) { return (frame_notes[m] & 0xffff) << 16 | (u32)(frame_refs[m] >> 48); }

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
    count_free(zone_nr(m), 1L << order);
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

/* A block of zone n, or NIL. The rest of a larger one goes back. */
static u64 take_from(unsigned n, unsigned order)
{
    for (unsigned o = order; o <= MAX_ORDER; o++) {
        u32 m = zones[n].head[o];

        if (m == NIL)
            continue;
        list_remove(m, o);
        while (o > order) {
            o--;
            list_push(m + (1UL << o), o);
        }
        count_free(n, -(1L << order));
        return m;
    }
    return NIL;
}

/* From the highest zone below 2^bits frames that has such a block. */
static u64 take_below(unsigned bits, unsigned order)
{
    u64 m = NIL;

    for (u32 left = bits < 32 ? filled & ((1u << bits) - 1) : filled; left && m == NIL; left &= ~(1u << ilog2(left)))
        m = take_from(ilog2(left), order);
    return m;
}

static void set_hypervisor_owned(u64 m, unsigned order)
{
    for (u64 i = 0; i < 1UL << order; i++) {
        frame_types[m + i] = 0;
        frame_refs[m + i] = (u64)DOMID_XEN << FR_OWNER_SHIFT;
    }
}

/* Are so many frames free besides what others have claimed? */
static bool available(u64 claim, u64 nr) { return nr + (claimed - claim) <= free_now; }

static void set_claim(u64 *claim, u64 nr)
{
    claimed = claimed - *claim + nr;
    write_once(*claim, nr);
}

/* claim: NULL for the hypervisor's own, which no claim holds up. */
static u64 take(u64 *claim, unsigned bits, unsigned order)
{
    u64 nr = 1UL << order, m;

    if (claim && !available(*claim, nr))
        return NIL;
    m = take_below(bits ? bits - min(bits, (unsigned)PAGE_SHIFT) : 64, order);
    if (m == NIL)
        return NIL;
    set_hypervisor_owned(m, order);
    if (claim && *claim)
        set_claim(claim, *claim - min(*claim, nr));
    return m;
}

mfn_t alloc_frames(unsigned order, unsigned flags) { return alloc_claimed_frames(NULL, order, flags); }

mfn_t alloc_claimed_frames(u64 *claim, unsigned order, unsigned flags)
{
    u64 m;

    if (order > MAX_ORDER)
        return INVALID_MFN;
    spin_lock(&heap_lock);
    m = take(claim, flags & 0x3f, order);
    spin_unlock(&heap_lock);
    if (m == NIL)
        return INVALID_MFN;
    if (!(flags & MEMF_NO_ZERO))
        memset(mfn_to_virt(mfn_kept(m)), 0, PAGE_SIZE << order);
    steps_add((flags & MEMF_NO_ZERO ? 2UL : 10UL) << order);
    return mfn_kept(m);
}

void free_frames(mfn_t m, unsigned order)
{
    ASSERT(m.v + (1UL << order) <= nr_frames);
    steps_add(2UL << order);
    spin_lock(&heap_lock);
    for (u64 i = 0; i < 1UL << order; i++) {
        frame_types[m.v + i] = 0;
        frame_refs[m.v + i] = (u64)DOMID_INVALID << FR_OWNER_SHIFT;
    }
    free_block(m.v, order);
    spin_unlock(&heap_lock);
}

bool heap_claim(u64 *claim, u64 nr)
{
    bool ok;

    spin_lock(&heap_lock);
    ok = !nr || available(*claim, nr);
    if (ok)
        set_claim(claim, nr);
    spin_unlock(&heap_lock);
    return ok;
}

u64 claimed_frames(void) { return read_once(claimed); }

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
    if (!heap_ready) {
        filled = 0;
        free_now = 0;
        for (unsigned z = 0; z < NR_ZONES; z++) {
            zones[z].free = 0;
            for (unsigned o = 0; o <= MAX_ORDER; o++)
                zones[z].head[o] = NIL;
        }
    }
    heap_ready = true;
    total_frames += nr;
    for (u64 m = first.v, end = first.v + nr; m < end;) {
        unsigned order = m ? min(find_first_set(m), (unsigned)MAX_ORDER) : 0;
        while (m + (1UL << order) > end)
            order--;
        free_frames(mfn(m), order);
        m += 1UL << order;
    }
}

/* A block on its list: where it belongs, linked to the one before it, and free as a whole. */
static bool block_holds(u64 m, unsigned zone, unsigned order, u32 prev)
{
    if (!is_free_head(m, order) || zone_nr(m) != zone || link_prev(m) != prev)
        return false;
    for (u64 i = 1; i < 1UL << order; i++)
        if ((u16)(frame_refs[m + i] >> FR_OWNER_SHIFT) != DOMID_INVALID || frame_types[m + i])
            return false;
    return true;
}

bool heap_holds(void)
{
    u64 all = 0;

    for (unsigned z = 0; z < NR_ZONES; all += zones[z++].free) {
        u64 nr = 0;

        for (unsigned o = 0; o <= MAX_ORDER; o++)
            for (u32 prev = NIL, m = zones[z].head[o]; m != NIL; prev = m, m = link_next(m), nr += 1UL << o)
                if (!block_holds(m, z, o, prev))
                    return false;
        if (nr != zones[z].free || (filled >> z & 1) != !!nr)
            return false;
    }
    return all == free_now;
}

u64 heap_free_frames(void) { return read_once(free_now); }

u64 heap_free_below(unsigned bits)
{
    u64 n = 0;

    for (unsigned z = 0; z < NR_ZONES && z + PAGE_SHIFT < bits; z++)
        n += read_once(zones[z].free);
    return n;
}

u64 heap_total_frames(void) { return total_frames; }

mfn_t virt_to_mfn(const void *p) { return maddr_to_mfn(virt_to_maddr(p)); }
