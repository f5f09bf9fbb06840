/*
 * What depends on the version of a grant table's entries: those of version 2, and the change from one to the
 * other.
 *
 * In version 2 the guest withdraws a grant by clearing the entry's flags, and then looks whether the status
 * says that it is in use:
 *
 *     guest       flags = 0;              full barrier;   status & (reading | writing)?
 *     hypervisor  status |= reading;      full barrier;   flags still grant it?
 *
 * So one of the two sees the other: either the guest finds the grant in use, and leaves the frame alone, or we
 * find it withdrawn and take the mark back. What else is in the entry is read after that.
 *
 * Each use is checked against the entry as it is, also beside others: a use of some bytes (GTF_sub_page) must
 * not open the whole page to the next.
 */
#include "pin.h"
#include <pvisor/lib.h>

/* --- Entries of version 2 --------------------------------------------------------------------------- */

/* NULL if the table has no such entry, is of version 1, or its domain is gone. */
static union grant_entry_v2 guest_shared *entry_v2(const struct grant_table *t, u32 ref)
{
    const struct grant_frame *f;

    if (ref / V2_PER_FRAME >= t->nr_frames)
        return NULL;
    f = &t->frame[index_nospec(ref / V2_PER_FRAME, t->nr_frames)];
    return f->v2 ? &f->v2[ref % V2_PER_FRAME] : NULL;
}

/* Of an entry that entry_v2() found. */
static grant_status_t guest_shared *status_of(const struct grant_table *t, u32 ref)
{
    return &t->status[index_nospec(ref / STATUS_PER_FRAME, t->nr_status)].status[ref % STATUS_PER_FRAME];
}

void unmark_v2(const struct grant_table *t, u32 ref, u16 flags)
{
    if (entry_v2(t, ref))
        atomic_and(status_of(t, ref), (u16)~flags);
}

/* Fills *flags with the entry's as they grant the use. */
static s16 mark_in_use_v2(const struct grant_table *t, const union grant_entry_v2 guest_shared *entry, struct pin pin,
                          u16 grantee, u32 *flags)
{
    struct terms terms = pin_terms(pin, grantee);
    const u32 guest_shared *word = (const u32 guest_shared *)entry;

    *flags = read_shared(*word);
    if ((*flags & terms.looked_at) == terms.wanted) {
        atomic_or(status_of(t, pin.ref), (u16)terms.in_use);    /* a full barrier */
        *flags = read_shared_again(*word);      /* the protocol above; what was read before counts no more */
    }
    if ((*flags & terms.looked_at) == terms.wanted)
        return GNTST_okay;
    return refuse_use(t, pin.ref, *flags, terms);
}

/* All but the frame: GNTST_okay, or PINNED_PART and the bytes that may be touched. */
static struct pinned check_entry_v2(struct grant_table *t, const union grant_entry_v2 guest_shared *entry, struct pin pin,
                                    u16 grantee)
{
    struct pinned pinned = { .status = check_uses(t, grant_active(t, pin.ref), pin, grantee) };
    u32 flags;

    if (pinned.status == GNTST_okay)
        pinned.status = mark_in_use_v2(t, entry, pin, grantee, &flags);
    if (pinned.status != GNTST_okay) {
        unmark_v2(t, pin.ref, (GTF_reading | GTF_writing) & ~grant_uses(t, pin.ref));
    } else if (flags & GTF_sub_page) {
        pinned.status = PINNED_PART;
        pinned.first = read_shared(entry->sub_page.page_off);
        pinned.bytes = read_shared(entry->sub_page.length);
    }
    return pinned;
}

struct pinned pin_v2(struct grant_table *t, u32 ref, u32 uses, bool readonly, bool whole, u16 grantee)
{
    struct pin pin = { .ref = ref, .uses = uses, .readonly = readonly, .whole = whole };
    union grant_entry_v2 guest_shared *entry = entry_v2(t, ref);
    struct pinned pinned;
    struct active *a;

    if (!entry)
        return (struct pinned){ .status = refuse(GNTST_bad_gntref, "grant %u of d%u, its table has %u", ref, t->domid,
                                                 grant_entries(t)) };
    pinned = check_entry_v2(t, entry, pin, grantee);
    if (pinned.status < GNTST_okay)
        return pinned;
    a = grant_active(t, ref);
    if (!a->uses) {
        a->domid = grantee;
        a->frame = (u32)min(read_shared(entry->full_page.frame), (u64)~0u);   /* which no frame's number is */
    }
    pinned.frame = count_uses(a, pin);
    return pinned;
}

/* --- Both versions ---------------------------------------------------------------------------------- */

/* The guest's CPUs may look at the entries meanwhile: each word is written in one go. */
static void swap_words(u64 guest_shared *a, u64 guest_shared *b, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++)
        write_shared(a[i], xchg(&b[i], read_shared(a[i])));
}

s16 grant_swap(struct grant_table *t, u32 a, u32 b)
{
    if (a >= grant_entries(t) || b >= grant_entries(t))
        return refuse(GNTST_bad_gntref, "grants %u and %u, the table has %u", a, b, grant_entries(t));
    if (grant_uses(t, a) || grant_uses(t, b))
        return refuse(GNTST_eagain, "grant %u or %u is in use", a, b);
    if (t->version == 1)
        swap_words((u64 guest_shared *)entry_v1(t, a), (u64 guest_shared *)entry_v1(t, b), sizeof(struct grant_entry_v1) / sizeof(u64));
    else
        swap_words((u64 guest_shared *)entry_v2(t, a), (u64 guest_shared *)entry_v2(t, b), sizeof(union grant_entry_v2) / sizeof(u64));
    return GNTST_okay;
}

int grant_grow_status(struct domain *d, u32 nr)
{
    struct grant_table *t = d->gnttab;

    ASSERT(spin_is_held(&t->lock));
    if (nr && !t->status)
        t->status = xzalloc_array(struct status_frame, gnttab_status_frames(t->max_frames));
    while (t->nr_status < gnttab_status_frames(nr)) {
        mfn_t m = t->status ? domain_alloc_shared_frame(d) : INVALID_MFN;

        if (mfn_eq(m, INVALID_MFN))
            return refuse(-ENOMEM, "no memory for status frame %u of d%u", t->nr_status, d->id);
        t->status[t->nr_status++] = (struct status_frame){ map_frame(m), m };
    }
    return 0;
}

int gnttab_get_status_frame(struct domain *d, u32 idx, mfn_t *m)
{
    struct grant_table *t = d->gnttab;
    int rc;

    if (idx >= gnttab_status_frames(t->max_frames))
        return refuse(-EINVAL, "status frame %u of d%u, expected below %u", idx, d->id,
                      gnttab_status_frames(t->max_frames));
    spin_lock(&t->lock);
    if (t->version == 2)
        rc = grant_grow(d, idx * (u32)(STATUS_PER_FRAME / V2_PER_FRAME) + 1);
    else
        rc = refuse(-EINVAL, "d%u's grant table is of version 1, which has no status frames", d->id);
    if (rc == 0)
        *m = t->status[idx].mfn;
    spin_unlock(&t->lock);
    return rc;
}

/* --- The change ------------------------------------------------------------------------------------- */

/* All frames are looked at and cleared at once, which takes a microsecond for each. */
#define MAX_CHANGED 1024

/* But for the first entries, which the toolstack made, and has mapped. */
static bool in_use(const struct grant_table *t)
{
    for (u32 i = 0; i < t->nr_frames; i++)
        for (u32 k = i ? 0 : GNTTAB_NR_RESERVED_ENTRIES; k < t->frame[i].nr_active; k++)
            if (t->frame[i].active[k].uses)
                return true;
    return false;
}

/* Nothing depends on it, since status frames stay: but a guest that still looks at them is not done with version 2. */
static bool status_mapped(const struct grant_table *t)
{
    for (u32 i = 0; i < t->nr_status; i++)
        if (frame_held(t->status[i].mfn))
            return true;
    return false;
}

static int check_change(const struct domain *d)
{
    const struct grant_table *t = d->gnttab;

    if (t->nr_frames > MAX_CHANGED)
        return refuse(-E2BIG, "%u grant frames, the version of at most %u can be changed", t->nr_frames, MAX_CHANGED);
    if (in_use(t))
        return refuse(-EBUSY, "grants above the first %u are in use", GNTTAB_NR_RESERVED_ENTRIES);
    if (t->version == 2 && status_mapped(t))
        return refuse(-EBUSY, "status frames are still mapped");
    return 0;
}

/* One of the first entries, as it is in version 1. -ERANGE if it cannot be. */
static int keep_entry(const struct grant_table *t, u32 ref, struct grant_entry_v1 *kept)
{
    const union grant_entry_v2 guest_shared *entry = entry_v2(t, ref);
    struct grant_entry_header hdr;
    u64 frame;

    if (!entry) {
        u64 word = read_shared(*(const u64 guest_shared *)entry_v1(t, ref));

        memcpy(kept, &word, sizeof(*kept));
        return 0;
    }
    memcpy(&hdr, &(u32){ read_shared(*(const u32 guest_shared *)entry) }, sizeof(hdr));
    frame = read_shared(entry->full_page.frame);
    *kept = (struct grant_entry_v1){ hdr.flags, hdr.domid, (u32)frame };
    if ((hdr.flags & GTF_type_mask) == GTF_invalid)
        return 0;
    if (frame >> 32 || hdr.flags & GTF_sub_page || (hdr.flags & GTF_type_mask) == GTF_transitive)
        return refuse(-ERANGE, "grant %u, flags %#x for frame %#lx, cannot be said in version 1", ref, hdr.flags, frame);
    return 0;
}

static void restore_entry(const struct grant_table *t, u32 ref, struct grant_entry_v1 kept)
{
    union grant_entry_v2 guest_shared *entry = entry_v2(t, ref);
    u16 uses = grant_uses(t, ref);
    u64 word;

    kept.flags &= (u16)~(GTF_reading | GTF_writing);
    if (entry) {
        write_shared(entry->full_page.frame, kept.frame);
        write_shared(*status_of(t, ref), uses);
        write_shared(*(u32 guest_shared *)entry, kept.flags | (u32)kept.domid << 16);
    } else {
        kept.flags |= uses;
        memcpy(&word, &kept, sizeof(word));
        write_shared(*(u64 guest_shared *)entry_v1(t, ref), word);
    }
}

static void clear_frames(struct grant_table *t)
{
    for (u32 i = 0; i < t->nr_frames; i++) {
        void guest_shared *page = grant_page(&t->frame[i]);

        memset(shared_raw(page), 0, PAGE_SIZE);
        grant_set_page(t, &t->frame[i], page);
    }
    for (u32 i = 0; i < t->nr_status; i++)
        memset(shared_raw(t->status[i].status), 0, PAGE_SIZE);
}

/* The lock is held: nobody begins or ends a use meanwhile. */
static int change_version(struct domain *d, u16 version)
{
    struct grant_entry_v1 kept[GNTTAB_NR_RESERVED_ENTRIES];
    struct grant_table *t = d->gnttab;
    u32 nr_kept = t->nr_frames ? GNTTAB_NR_RESERVED_ENTRIES : 0;
    int rc = check_change(d);

    for (u32 i = 0; !rc && i < nr_kept; i++)
        rc = keep_entry(t, i, &kept[i]);
    if (!rc && version == 2)
        rc = grant_grow_status(d, t->nr_frames);
    if (rc)
        return rc;
    t->version = version;
    clear_frames(t);
    for (u32 i = 0; i < nr_kept; i++)
        restore_entry(t, i, kept[i]);
    return 0;
}

int grant_set_version(struct domain *d, u32 version)
{
    struct grant_table *t = d->gnttab;
    int rc = 0;

    if (version != 1 && version != 2)
        return refuse(-EINVAL, "version %u, expected 1 or 2", version);
    if (version > d->grant_max_version)
        return -ENOSYS;     /* as kernels expect where there is none */
    spin_lock(&t->lock);
    if (version != t->version)
        rc = change_version(d, (u16)version);
    spin_unlock(&t->lock);
    return rc;
}
