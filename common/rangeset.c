/*
 * Sets of numbers as a sorted array of ranges that neither overlap nor touch. An operation changes at most one range
 * into two, so room for one more is made first, outside the lock; after that nothing can fail.
 */
#include <public/errno.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/rangeset.h>
#include <pvisor/spinlock.h>

struct range { u64 first, last; };

struct rangeset {
    spinlock_t lock;
    u32 nr, room;
    struct range *range;
};

struct rangeset *rangeset_new(void)
{
    struct rangeset *r = xzalloc(struct rangeset);

    if (r)
        spin_lock_init(&r->lock, RANK_LEAF);
    return r;
}

void rangeset_free(struct rangeset *r)
{
    if (!r)
        return;
    xfree(r->range);
    xfree(r);
}

bool rangeset_is_empty(const struct rangeset *r) { return !r || !read_once(r->nr); }

/* Takes r's lock, with room for one more range; false without memory, and then the lock is free. */
static bool lock_with_room(struct rangeset *r, u64 *flags)
{
    *flags = spin_lock_irqsave(&r->lock);
    while (r->nr == r->room) {
        u32 room = r->room * 2 + 8;
        struct range *bigger, *old;

        spin_unlock_irqrestore(&r->lock, *flags);
        bigger = xzalloc_array(struct range, room);
        if (!bigger)
            return false;
        *flags = spin_lock_irqsave(&r->lock);
        old = bigger;
        if (r->room < room) {
            for (u32 i = 0; i < r->nr; i++)
                bigger[i] = r->range[i];
            old = r->range;
            r->range = bigger;
            r->room = room;
        }
        spin_unlock_irqrestore(&r->lock, *flags);
        xfree(old);
        *flags = spin_lock_irqsave(&r->lock);
    }
    return true;
}

/* First range that ends at or behind n; r->nr if all end before it. */
static u32 lower_bound(const struct rangeset *r, u64 n)
{
    u32 low = 0, high = r->nr;

    while (low < high) {
        u32 mid = (low + high) / 2;

        if (r->range[mid].last < n)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Puts n ranges in the place of those from..to-1. */
static void replace(struct rangeset *r, u32 from, u32 to, const struct range *new, u32 n)
{
    memmove(&r->range[from + n], &r->range[to], (r->nr - to) * sizeof(*new));
    for (u32 i = 0; i < n; i++)
        r->range[from + i] = new[i];
    r->nr = r->nr - (to - from) + n;
}

int rangeset_add(struct rangeset *r, u64 first, u64 last)
{
    struct range new = { first, last };
    u64 flags;
    u32 from, to;

    if (first > last)
        return -EINVAL;
    if (!lock_with_room(r, &flags))
        return -ENOMEM;
    from = to = lower_bound(r, first ? first - 1 : 0);   /* touching ranges become one */
    while (to < r->nr && r->range[to].first <= (last == UINT64_MAX ? last : last + 1)) {
        new.first = min(new.first, r->range[to].first);
        new.last = max(new.last, r->range[to].last);
        to++;
    }
    replace(r, from, to, &new, 1);
    spin_unlock_irqrestore(&r->lock, flags);
    return 0;
}

int rangeset_remove(struct rangeset *r, u64 first, u64 last)
{
    struct range rest[2];
    u64 flags;
    u32 from, to, n = 0;

    if (first > last)
        return -EINVAL;
    if (!lock_with_room(r, &flags))
        return -ENOMEM;
    from = to = lower_bound(r, first);
    while (to < r->nr && r->range[to].first <= last) {
        struct range old = r->range[to++];

        if (old.first < first)
            rest[n++] = (struct range){ old.first, first - 1 };
        if (old.last > last)
            rest[n++] = (struct range){ last + 1, old.last };
    }
    replace(r, from, to, rest, n);
    spin_unlock_irqrestore(&r->lock, flags);
    return 0;
}

/* Copies the first range that does not end before first: no other can contain [first, last], or overlap it without this one. */
static bool find_range(const struct rangeset *r, u64 first, u64 last, struct range *range)
{
    spinlock_t *lock;
    bool found;
    u64 flags;
    u32 i;

    if (!r || first > last)
        return false;
    lock = (spinlock_t *)&r->lock;      /* the set itself stays as it is */
    flags = spin_lock_irqsave(lock);
    i = lower_bound(r, first);
    found = i < r->nr;
    if (found)
        *range = r->range[i];
    spin_unlock_irqrestore(lock, flags);
    return found;
}

bool rangeset_contains(const struct rangeset *r, u64 first, u64 last)
{
    struct range range;

    return find_range(r, first, last, &range) && range.first <= first && range.last >= last;
}

bool rangeset_overlaps(const struct rangeset *r, u64 first, u64 last)
{
    struct range range;

    return find_range(r, first, last, &range) && range.first <= last;
}
