/*
 * Counting the uses of a grant. The guest's entry and the domain it names are one 32-bit word, so that they
 * are checked and marked in use in one step: from then on the guest may not withdraw the grant, and one
 * that does all the same only fools itself.
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

s16 refuse_use(const struct grant_table *t, u32 ref, u32 entry, u32 looked_at, u32 wanted);

/* Sets GTF_reading, and GTF_writing unless readonly, if the entry grants that to the domain. */
static always_inline s16 mark_in_use(const struct grant_table *t, struct grant_entry_v1 *entry, struct pin pin, u16 grantee)
{
    u32 *word = (u32 *)entry;       /* flags in the low half, domid in the high one */
    u32 looked_at = 0xffff0000 | GTF_type_mask | (pin.whole ? GTF_sub_page : 0) | (pin.readonly ? 0 : GTF_readonly);
    u32 wanted = (u32)grantee << 16 | GTF_permit_access, in_use = GTF_reading | (pin.readonly ? 0 : GTF_writing);
    u32 w = read_once(*word);

    for (unsigned i = 0; likely((w & looked_at) == wanted) && i < 5; i++)
        if (likely(try_cmpxchg(word, &w, w | in_use)))
            return GNTST_okay;
    return refuse_use(t, pin.ref, w, looked_at, wanted);
}

/* With the lock held. */
static always_inline s16 pin_locked(struct grant_table *t, struct pin pin, u16 grantee, mfn_t *frame)
{
    struct grant_entry_v1 *entry = likely(grant_exists(t, pin.ref)) ? grant_entry(t, pin.ref) : NULL;
    struct active *a;
    s16 status;

    if (unlikely(!entry))
        return refuse(GNTST_bad_gntref, "grant %u of d%u, its table has %lu", pin.ref, t->domid,
                      t->nr_frames * ENTRIES_PER_FRAME);
    a = grant_active(t, pin.ref);
    if (unlikely(!a))
        return refuse(GNTST_general_error, "no memory to note that grant %u of d%u is in use", pin.ref, t->domid);
    if (unlikely(a->uses && a->domid != grantee))
        return refuse(GNTST_general_error, "grant %u of d%u is in use by d%u", pin.ref, t->domid, a->domid);
    if (pin.readonly ? !a->uses : !a->writers) {
        status = mark_in_use(t, entry, pin, grantee);
        if (unlikely(status != GNTST_okay))
            return status;
    }
    if (!a->uses) {
        a->domid = grantee;
        a->frame = read_once(entry->frame);
    }
    *(pin.readonly ? &a->readers : &a->writers) += pin.uses;
    *frame = mfn(a->frame);
    return GNTST_okay;
}

/*
 * Checks that granter's grant lets the domain grantee do this, and counts the uses. Fills *frame. The
 * frame's owner is not checked: taking the reference does. GNTST_*.
 */
static always_inline s16 grant_pin(struct grant_table *granter, struct pin pin, u16 grantee, mfn_t *frame)
{
    s16 status;

    spin_lock(&granter->lock);
    status = pin_locked(granter, pin, grantee, frame);
    spin_unlock(&granter->lock);
    return status;
}

static always_inline void grant_unpin(struct grant_table *granter, struct pin pin)
{
    struct grant_entry_v1 *entry;
    struct active *a;
    u16 over = 0;

    spin_lock(&granter->lock);
    a = grant_active(granter, pin.ref);
    *(pin.readonly ? &a->readers : &a->writers) -= pin.uses;
    if (!pin.readonly && !a->writers)
        over |= GTF_writing;
    if (!a->uses)
        over |= GTF_reading;
    entry = grant_entry(granter, pin.ref);
    if (over && entry)
        atomic_and(&entry->flags, (u16)~over);
    spin_unlock(&granter->lock);
}

#endif
