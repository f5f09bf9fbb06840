/*
 * GNTTABOP_copy. Either side is a frame of the caller's own or a grant. A claimed side is kept from one
 * operation to the next, since drivers copy many pieces to or from one page; and the domain longer than that.
 */
#include "pin.h"
#include <pvisor/guest.h>
#include <pvisor/lib.h>
#include <pvisor/preempt.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>

/* The grant is of a part of a page: claimed for one operation, whose bytes were checked, and anew for the next. */
#define PART (1UL << 32)

/* readonly, where functions take it, is true for the source and false for the destination. */
struct side {
    struct peer peer;       /* whose grants the last one of another's was */
    struct domain *owner;   /* NULL: nothing is claimed */
    u64 what;               /* reference or frame number; with PART, one that no operation names */
    u16 domid;
    bool is_ref;
    mfn_t mfn;
    u8 guest_shared *p;
};

static always_inline struct pin side_pin(const struct side *s, bool readonly)
{
    return (struct pin){ .ref = (u32)s->what, .readonly = readonly, .uses = 1 };
}

static always_inline void side_release(struct side *s, bool readonly)
{
    if (!s->owner)
        return;
    unmap_frame(s->p);
    grant_frame_put(s->mfn, readonly);
    if (s->is_ref)
        grant_unpin(s->owner->gnttab, side_pin(s, readonly));
    s->owner = NULL;
}

static always_inline void side_end(struct side *s, bool readonly)
{
    side_release(s, readonly);
    peer_put(&s->peer);
}

static s16 refuse_frame(const struct side *s, bool readonly, mfn_t m, int rc)
{
    if (s->is_ref)
        grant_unpin(s->owner->gnttab, side_pin(s, readonly));
    if (rc == -EBUSY)
        return refuse(GNTST_general_error, "frame %#lx is in use as a table", m.v);
    return refuse(GNTST_bad_page, "frame %#lx is not d%u's", s->is_ref ? m.v : s->what, s->owner->id);
}

static always_inline const struct gnttab_copy_ptr *side_ptr(const struct gnttab_copy *op, bool readonly)
{
    return readonly ? &op->source : &op->dest;
}

/*
 * What pinning said but GNTST_okay. Does the part that is granted have the operation's bytes, which are of one page? If not, it is
 * unpinned.
 */
static __attribute__((cold)) s16 claim_part(struct side *s, const struct gnttab_copy *op, struct pinned granted, bool readonly)
{
    u32 first = side_ptr(op, readonly)->offset, end = (u32)granted.first + granted.bytes;

    if (granted.status != PINNED_PART)
        return granted.status;
    if (first < granted.first || first + op->len > end) {
        grant_unpin(s->owner->gnttab, side_pin(s, readonly));
        return refuse(GNTST_general_error, "grant %u of d%u is of bytes %u to %u, not of %u from %u on", (u32)s->what,
                      s->owner->id, granted.first, end, op->len, first);
    }
    s->what |= PART;
    return GNTST_okay;
}

static always_inline s16 claim_frame(struct side *s, const struct gnttab_copy *op, bool readonly)
{
    mfn_t m;
    int rc;

    if (s->is_ref) {
        struct pinned pinned = grant_pin(s->owner->gnttab, side_pin(s, readonly), current->domain->id);

        if (unlikely(pinned.status != GNTST_okay) && (pinned.status = claim_part(s, op, pinned, readonly)) != GNTST_okay)
            return pinned.status;
        m = pinned.frame;
    } else {
        m = mfn(s->what);
    }
    rc = grant_frame_get(m, s->owner, readonly);
    if (unlikely(rc))
        return refuse_frame(s, readonly, m, rc);
    s->mfn = m;
    s->p = map_frame(m);
    return GNTST_okay;
}

/* Makes s the side that the operation names, if it is not that already. */
static always_inline s16 side_claim(struct side *s, const struct gnttab_copy *op, bool readonly)
{
    const struct gnttab_copy_ptr *ptr = side_ptr(op, readonly);
    bool is_ref = op->flags & (readonly ? GNTCOPY_source_gref : GNTCOPY_dest_gref);
    u64 what = is_ref ? (u32)ptr->u : ptr->u;
    s16 status;

    if (short_way(s->owner) && s->what == what && s->domid == ptr->domid && s->is_ref == is_ref)
        return GNTST_okay;
    side_release(s, readonly);
    if (!is_ref && ptr->domid != DOMID_SELF)
        return refuse(GNTST_permission_denied, "frame %#lx of d%u by its number", what, ptr->domid);
    s->what = what;
    s->domid = ptr->domid;
    s->is_ref = is_ref;
    s->owner = is_ref ? peer_get(&s->peer, ptr->domid) : current->domain;
    if (!s->owner)
        return refuse(GNTST_bad_domain, "no domain %u", ptr->domid);
    status = claim_frame(s, op, readonly);
    if (status != GNTST_okay)
        s->owner = NULL;
    return status;
}

static always_inline s16 copy_one(const struct gnttab_copy *op, struct side *src, struct side *dst)
{
    s16 status;

    if ((u32)op->source.offset + op->len > PAGE_SIZE || (u32)op->dest.offset + op->len > PAGE_SIZE)
        return refuse(GNTST_bad_copy_arg, "%u bytes from offset %u to %u leave the page", op->len,
                      op->source.offset, op->dest.offset);
    status = side_claim(src, op, true);
    if (status == GNTST_okay)
        status = side_claim(dst, op, false);
    if (status == GNTST_okay)
        memmove(shared_raw(dst->p + op->dest.offset), shared_raw(src->p + op->source.offset), op->len);
    return status;
}

/* Each word size by its own constant, of which the check of the address is made. */
static always_inline int put_status(enum abi_word w, gva_t at, s16 status)
{
    return w == ABI_64 ? copy_to_guest_as(ABI_64, at, &status, sizeof(status)) : copy_to_guest_as(ABI_32, at, &status, sizeof(status));
}

s64 gnttab_copy(gva_t uop, u32 count)
{
    enum abi_word w = current_word();
    size_t size = abi_sizeof(w, gnttab_copy), status_at = abi_offset(w, gnttab_copy, status);
    struct side src = { .owner = NULL }, dst = { .owner = NULL };
    s64 done = 0;

    do {
        gva_t elem = gva_add(uop, (u64)done * size);
        struct gnttab_copy op;
        s16 status;

        if (guest_read_abi_as(w, gnttab_copy, &op, elem)) {
            done = -EFAULT;
            break;
        }
        status = copy_one(&op, &src, &dst);
        if (put_status(w, gva_add(elem, status_at), status)) {
            done = -EFAULT;
            break;
        }
    } while (++done < count && !call_gives_way());
    side_end(&src, true);
    side_end(&dst, false);
    return done;
}
