/*
 * Finding domains: a hash by number for hypercalls, a list by rising number for iteration.
 *
 * domain_get() may be called with almost any lock held, so the hash has a lock of its own, of high rank.
 * Whoever changes the list or the hash holds both locks.
 *
 * References. domain_get()'s are handles: the domain's parts stay as long as there is one. When the last is
 * gone the domain is hidden, and gives its parts back. Frames of it may be mapped by others still; they
 * find their owner by domain_get_owner(), until the last of them is gone and the structure is freed.
 */
#include <asm/atomic.h>
#include <pvisor/printk.h>
#include "internal.h"

struct list domain_list = LIST_INIT(domain_list);
spinlock_t domlist_lock = SPINLOCK_INIT(RANK_DOMLIST);

static spinlock_t hash_lock = SPINLOCK_INIT(RANK_DOMHASH);
static struct domain *hash[DOMAIN_HASH];
static u16 last_id;

static struct domain **bucket(u32 domid) { return &hash[domid % DOMAIN_HASH]; }

/* hash_lock or domlist_lock is held. */
static struct domain *find(u32 domid)
{
    struct domain *d = *bucket(domid);

    while (d && d->id != domid)
        d = d->hash_next;
    return d;
}

/*
 * The first domain with an id of domid or more that domain_get() would find. Who lists all domains asks for the one behind the
 * last: from there it goes on.
 */
static struct domain *find_next(u32 domid)
{
    struct domain *last = domid ? find(domid - 1) : NULL;

    for (struct list *l = last ? &last->node : &domain_list; (l = l->next) != &domain_list; ) {
        struct domain *d = list_entry(l, struct domain, node);

        if (d->id >= domid && !d->hidden)
            return d;
    }
    return NULL;
}

static struct domain *ref_if_visible(struct domain *d)
{
    if (!d || d->hidden || !d->refs)
        return NULL;
    atomic_inc(&d->refs);
    return d;
}

struct domain *domain_get(u32 domid)
{
    struct domain *d;
    u64 flags;

    if (domid == DOMID_SELF)
        domid = current->domain->id;
    flags = spin_lock_irqsave(&hash_lock);
    d = ref_if_visible(find(domid));
    spin_unlock_irqrestore(&hash_lock, flags);
    return d;
}

struct domain *domain_get_owner(u32 domid)
{
    u64 flags = spin_lock_irqsave(&hash_lock);
    struct domain *d = find(domid);

    if (d)
        atomic_inc(&d->refs);
    spin_unlock_irqrestore(&hash_lock, flags);
    return d;
}

struct domain *domain_get_next(u32 domid)
{
    struct domain *d;
    u64 flags;

    spin_lock(&domlist_lock);
    flags = spin_lock_irqsave(&hash_lock);
    d = ref_if_visible(find_next(domid));
    spin_unlock_irqrestore(&hash_lock, flags);
    spin_unlock(&domlist_lock);
    return d;
}

void domain_ref(struct domain *d)
{
    ASSERT(read_once(d->refs) != 0);
    atomic_inc(&d->refs);
}

/*
 * All domains are unmade on one CPU, which never goes offline. A dead domain's count reaches 0 more than once: when a frame of it
 * goes that others had mapped. What takes it apart then comes behind what still does.
 */
#define DESTROYER 0

/*
 * The count reaches 0 and the tasklet is queued in one go, so that a tasklet that runs already cannot free
 * the structure in between.
 */
void domain_put(struct domain *d)
{
    u32 refs = read_once(d->refs);
    u64 flags;

    while (refs > 1)
        if (try_cmpxchg(&d->refs, &refs, refs - 1))
            return;
    ASSERT(refs != 0);
    flags = spin_lock_irqsave(&hash_lock);
    if (atomic_dec_and_test(&d->refs))
        tasklet_schedule_on(DESTROYER, &d->destroy);
    spin_unlock_irqrestore(&hash_lock, flags);
}

bool domain_hide(struct domain *d)
{
    u64 flags = spin_lock_irqsave(&hash_lock);

    if (!d->refs)
        d->hidden = true;
    spin_unlock_irqrestore(&hash_lock, flags);
    return d->hidden;
}

void domain_show(struct domain *d)
{
    write_once(d->hidden, false);
}

/* Where d belongs in the list: before this node. domlist_lock is held. */
static struct list *list_position(const struct domain *d)
{
    struct domain *other;

    list_for_each(other, &domain_list, node)
        if (other->id > d->id)
            return &other->node;
    return &domain_list;
}

bool domain_publish(struct domain *d)
{
    bool is_free;
    u64 flags;

    spin_lock(&domlist_lock);
    is_free = !find(d->id);
    if (is_free) {
        flags = spin_lock_irqsave(&hash_lock);
        d->hash_next = *bucket(d->id);
        *bucket(d->id) = d;
        spin_unlock_irqrestore(&hash_lock, flags);
        list_add_tail(&d->node, list_position(d));
    }
    spin_unlock(&domlist_lock);
    return is_free;
}

bool domain_unpublish(struct domain *d)
{
    struct domain **p = bucket(d->id);
    bool unused;
    u64 flags;

    spin_lock(&domlist_lock);
    flags = spin_lock_irqsave(&hash_lock);
    unused = !d->refs && !d->destroy.queued;
    if (unused) {
        while (*p != d)
            p = &(*p)->hash_next;
        *p = d->hash_next;
        list_del(&d->node);
    }
    spin_unlock_irqrestore(&hash_lock, flags);
    spin_unlock(&domlist_lock);
    return unused;
}

u16 domain_free_id(void)
{
    u16 id = DOMID_INVALID;

    spin_lock(&domlist_lock);
    /* Numbers are not used again at once, so that a tool's stale one finds nothing. 0 is dom0's for ever. */
    for (u32 n = 1; n < DOMID_FIRST_RESERVED && id == DOMID_INVALID; n++) {
        u16 candidate = (u16)((last_id + n - 1) % (DOMID_FIRST_RESERVED - 1) + 1);
        if (!find(candidate))
            id = candidate;
    }
    if (id != DOMID_INVALID)
        last_id = id;
    spin_unlock(&domlist_lock);
    return id;
}
