/*
 * Counting the uses of a grant. The guest's entry and the domain it names are one 32-bit word, so that in
 * version 1 they are checked and marked in use in one step: from then on the guest may not withdraw the grant,
 * and one that does all the same only fools itself.
 *
 * In line, since drivers make and end a use for each page of each request.
 */
#ifndef COMMON_GRANT_PIN_H
#define COMMON_GRANT_PIN_H

#include "grant.h"
#include <pvisor/printk.h>

struct pin {
    u32 ref;
    u32 uses;               /* how many to count */
    bool readonly;
    bool whole;             /* to map it: not a grant of a part of a page */
};

/* Two registers. */
struct pinned {
    mfn_t frame;
    s16 status;             /* GNTST_*, with which nothing is pinned unless it is GNTST_okay; or PINNED_PART */
    u16 first, bytes;       /* of a part */
};

/* Pinned, but nothing outside these bytes of the frame may be touched, and they by this use only. Errors are below 0. */
#define PINNED_PART 1

/* What an entry's first word, flags in the low half and domid in the high one, must have to grant a use, and gets by it. */
struct terms {
    u32 looked_at, wanted, in_use;
};
static always_inline struct terms pin_terms(struct pin pin, u16 grantee)
{
    return (struct terms){
        .looked_at = 0xffff0000 | GTF_type_mask | (pin.whole ? GTF_sub_page : 0) | (pin.readonly ? 0 : GTF_readonly),
        .wanted = (u32)grantee << 16 | GTF_permit_access,
        .in_use = GTF_reading | (pin.readonly ? 0 : GTF_writing) };
}

s16 refuse_use(const struct grant_table *t, u32 ref, u32 entry, struct terms terms);

/* Sets GTF_reading, and GTF_writing unless readonly, if the entry grants that to the domain. */
static always_inline s16 mark_in_use(const struct grant_table *t, struct grant_entry_v1 guest_shared *entry, struct pin pin,
                                     u16 grantee)
{
    struct terms terms = pin_terms(pin, grantee);
    u32 guest_shared *word = (u32 guest_shared *)entry;
    u32 w = read_shared(*word);

    for (unsigned i = 0; likely((w & terms.looked_at) == terms.wanted) && i < 5; i++)
        if (likely(try_cmpxchg(word, &w, w | terms.in_use)))
            return GNTST_okay;
    return refuse_use(t, pin.ref, w, terms);
}

/* a: the grant's, NULL if there is no memory for it. GNTST_okay if the domain can have a use beside those there are. */
static always_inline s16 check_uses(const struct grant_table *t, const struct active *a, struct pin pin, u16 grantee)
{
    if (unlikely(!a))
        return refuse(GNTST_general_error, "no memory to note that grant %u of d%u is in use", pin.ref, t->domid);
    if (unlikely(a->uses && a->domid != grantee))
        return refuse(GNTST_general_error, "grant %u of d%u is in use by d%u", pin.ref, t->domid, a->domid);
    return GNTST_okay;
}

static always_inline mfn_t count_uses(struct active *a, struct pin pin)
{
    *(pin.readonly ? &a->readers : &a->writers) += pin.uses;
    return mfn(a->frame);
}

/*
 * As pin_locked(), for an entry of version 2, or refuses one that is not there. A pin's parts one by one, so that the common
 * path has nothing to prepare.
 */
struct pinned pin_v2(struct grant_table *t, u32 ref, u32 uses, bool readonly, bool whole, u16 grantee);

/* With the lock held. */
static always_inline struct pinned pin_locked(struct grant_table *t, struct pin pin, u16 grantee)
{
    struct grant_entry_v1 guest_shared *entry = entry_v1(t, pin.ref);
    struct active *a;
    s16 status;

    if (unlikely(!entry))
        return pin_v2(t, pin.ref, pin.uses, pin.readonly, pin.whole, grantee);
    a = grant_active(t, pin.ref);
    status = check_uses(t, a, pin, grantee);
    if (likely(status == GNTST_okay) && (pin.readonly ? !a->uses : !a->writers))
        status = mark_in_use(t, entry, pin, grantee);
    if (unlikely(status != GNTST_okay))
        return (struct pinned){ .status = status };
    if (!a->uses) {
        a->domid = grantee;
        a->frame = read_shared(entry->frame);
    }
    return (struct pinned){ .frame = count_uses(a, pin), .status = GNTST_okay };
}

/*
 * Checks that granter's grant lets the domain grantee do this, and counts the uses. The frame's owner is not
 * checked: taking the reference does.
 */
static always_inline struct pinned grant_pin(struct grant_table *granter, struct pin pin, u16 grantee)
{
    u32 mark = fetch_mark();    /* a use's checks are its own, whatever others of the call have read of the entry */
    struct pinned pinned;

    spin_lock(&granter->lock);
    pinned = pin_locked(granter, pin, grantee);
    spin_unlock(&granter->lock);
    fetch_forget(mark);
    return pinned;
}

/* The lock is held. Takes the flags out of the status of an entry of version 2; nothing if the domain is gone. */
void unmark_v2(const struct grant_table *t, u32 ref, u16 flags);

static always_inline void grant_unpin(struct grant_table *granter, struct pin pin)
{
    struct grant_entry_v1 guest_shared *entry;
    struct active *a;
    u16 over = 0;

    spin_lock(&granter->lock);
    a = grant_active(granter, pin.ref);
    *(pin.readonly ? &a->readers : &a->writers) -= pin.uses;
    if (!pin.readonly && !a->writers)
        over |= GTF_writing;
    if (!a->uses)
        over |= GTF_reading;
    entry = entry_v1(granter, pin.ref);
    if (over && likely(entry))
        atomic_and(&entry->flags, (u16)~over);
    else if (over)
        unmark_v2(granter, pin.ref, over);
    spin_unlock(&granter->lock);
}

#endif
