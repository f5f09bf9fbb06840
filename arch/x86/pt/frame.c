/*
 * The frame table: who owns each frame of RAM, how often it is in use, and as what. See pvisor/frame.h
 * for the rules and asm/pt.h for the bits of the two words.
 */
#include <asm/atomic.h>
#include <asm/dma.h>
#include <asm/frame_ref.h>
#include <asm/pt.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include "internal.h"

static u16 ref_owner(u64 w) { return frame_ref_owner(w); }

u16 frame_owner_id(mfn_t m)
{
    return !mfn_eq(m, INVALID_MFN) ? ref_owner(read_once(frame_refs[m.v])) : DOMID_IO;
}

unsigned frame_type_get(mfn_t m, bool *pinned)
{
    u32 w = read_once(frame_types[m.v]);

    *pinned = w & FW_PINNED;
    return w & FW_VALID ? fw_type(w) : FT_NONE;
}

bool frame_get(mfn_t m, const struct domain *owner) { return frame_take(m, owner); }
void frame_put(mfn_t m) { frame_drop(m); }

/*
 * Writable references: taken without the owner's page-table lock, so by compare-and-exchange against promotion. This is the type's,
 * of a frame that is held; -EBUSY, and it is held no more, if the frame is something else or the count full.
 */
static __attribute__((noinline)) int type_get_writable(mfn_t m, const struct domain *owner)
{
    u32 w = read_once(frame_types[m.v]);

    for (;;) {
        u32 n;
        if (fw_type(w) == FT_WRITABLE && !(w & FW_VALID)) {
            /* Another CPU flushes; its request may be waiting for us. */
            smp_call_poll();
            cpu_relax();
            w = read_once(frame_types[m.v]);
            continue;
        }
        if (fw_type(w) == FT_WRITABLE) {
            n = w + 1;
            if (unlikely((n & FW_COUNT_MASK) == 0))
                break;
        } else if (!(w & (FW_COUNT_MASK | FW_PARTIAL | FW_PINNED))) {
            n = FW_TYPE(FT_WRITABLE) | (fw_type(w) == FT_NONE ? FW_VALID : 0) | 1;
        } else {
            break;
        }
        if (!type_try_change(m, &w, n))
            continue;
        if (unlikely(!(n & FW_VALID))) {
            /* It was a table until now: a CPU may still walk it. */
            domain_flush_stale((struct domain *)owner);
            atomic_or(&frame_types[m.v], FW_VALID);
            if (unlikely(dma_exact))
                dma_frame_changed(m.v);
        }
        return 0;
    }
    frame_put(m);
    return -EBUSY;
}

int frame_get_writable(mfn_t m, const struct domain *owner)
{
    if (!frame_take(m, owner))
        return -EINVAL;
    return likely(frame_take_writable(m)) ? 0 : type_get_writable(m, owner);
}

/*
 * What waits on this CPU until TLBs are flushed on the way out of the hypervisor:
 * - frames whose last reference is gone, since their owner's CPUs may hold translations to them, and IOMMUs, of its devices' spaces;
 * - references that one domain's page tables had of another's frames. The owner's flushes do not reach our CPUs, so
 *   until ours are flushed the frame must neither be freed nor become a table of its owner's.
 */
#define MAX_FOREIGN 64
#define FOREIGN_RW  1u      /* beside the number */
struct pending { u32 head; u32 nr, nr_foreign; u32 foreign[MAX_FOREIGN]; cpumask_t flush; u64 spaces; };
DECLARE_PERCPU(struct pending, free_pending);
DEFINE_PERCPU(struct pending, free_pending);
#define NIL 0u

static void note_flush(struct pending *p, const cpumask_t *m)
{
    for (unsigned i = 0; i < ARRAY_SIZE(p->flush.w); i++)
        p->flush.w[i] |= m->w[i];
}

void frame_put_foreign(const struct domain *d, mfn_t m, bool writable)
{
    struct pending *p;
    u64 flags;

    if (this_cpu(free_pending).nr_foreign == MAX_FOREIGN)
        frames_drain_pending();
    /* The entry is changed before we look at who may have read it: see mm/flush.c. */
    smp_mb();
    flags = irq_save();
    p = &this_cpu(free_pending);
    p->foreign[p->nr_foreign++] = (u32)m.v << 1 | (writable ? FOREIGN_RW : 0);
    note_flush(p, &d->arch.dirty_cpus);
    irq_restore(flags);
    raise_softirq(SOFTIRQ_FREE_FRAMES);
}

static __attribute__((noinline)) void log_and_put_writable(mfn_t m)
{
    frame_log_dirty(m);
    frame_drop_writable(m);
}

/*
 * A page-table entry's reference goes this way only after note_stale(). And so go those of all who write for others, or for themselves what
 * is another's: the log hears of it while the frame is held.
 */
void frame_put_writable(mfn_t m)
{
    if (unlikely(read_once(nr_dirty_logs)))
        log_and_put_writable(m);
    else
        frame_drop_writable(m);
}

/*
 * A reference for use as a descriptor table page: check() sees the frame's contents once no mapping can change them.
 * The caller holds d's pt_lock.
 */
int frame_get_segdesc(struct domain *d, mfn_t m, bool (*check)(const struct domain *d, void *page))
{
    u32 w;

    if (!frame_get(m, d))
        return -EINVAL;
    w = read_once(frame_types[m.v]);
    if (fw_type(w) == FT_SEGDESC && w & FW_COUNT_MASK) {
        atomic_inc(&frame_types[m.v]);
        return 0;
    }
    if (w & (FW_COUNT_MASK | FW_PARTIAL) || !type_try_change(m, &w, FW_TYPE(FT_SEGDESC) | 1))
        goto busy;
    domain_flush_stale(d);
    if (check(d, mfn_to_virt(m))) {
        atomic_or(&frame_types[m.v], FW_VALID);
        return 0;
    }
    log_dirty(d, m);    /* what it has mended */
    type_change(m, 0);
busy:
    frame_put(m);
    return -EINVAL;
}

static always_inline void put_segdesc(struct domain *d, mfn_t m)
{
    note_stale(&d->arch);
    ASSERT(fw_type(frame_types[m.v]) == FT_SEGDESC && frame_types[m.v] & FW_COUNT_MASK);
    atomic_dec(&frame_types[m.v]);
    frame_put(m);
}

/* Since it was got we have mended and written descriptors there, and processors their accessed bits. */
__attribute__((cold, noinline)) static void put_logged_segdesc(struct domain *d, mfn_t m)
{
    log_dirty(d, m);
    put_segdesc(d, m);
}

void frame_put_segdesc(struct domain *d, mfn_t m)
{
    if (unlikely(read_once(d->arch.logging)))
        put_logged_segdesc(d, m);
    else
        put_segdesc(d, m);
}

/* --- A domain's frames --- */

static void note_region(struct domain *d, u64 m)
{
    if (d->regions)
        d->regions[m >> 9 >> 6] |= 1UL << (m >> 9 & 63);
}

/*
 * A frame's owner and whether it counts, and the owner's accounts, change together under the owner's page_lock: so the accounts hold
 * (frame_accounts_hold()) at any moment.
 */
static u64 *account_of(struct domain *d, bool counted) { return counted ? &d->tot_pages : &d->shared_frames; }

/* Not to a domain that dies: the teardown may have looked for frames here already. */
static bool may_have(const struct domain *d, u64 nr, unsigned flags)
{
    if (flags & MEMF_NO_COUNT)
        return true;
    return !d->dying && (flags & MEMF_REPLACES || d->tot_pages + nr <= d->max_pages);
}

/* The reference word of a frame that nothing but its allocation holds. */
static u64 unused_word(const struct domain *d, bool counted)
{
    return (u64)d->id << FR_OWNER_SHIFT | FR_ALLOCATED | (counted ? FR_COUNTED : 0) | 1;
}

static u64 withdrawn_word(const struct domain *d) { return unused_word(d, true) & ~(FR_ALLOCATED | FR_COUNT_MASK); }

static void give_frames(struct domain *d, u64 first, u64 nr, unsigned flags)
{
    bool counted = !(flags & MEMF_NO_COUNT);

    *account_of(d, counted) += nr;
    for (u64 m = first; m < first + nr; m++) {
        note_region(d, m);
        /* Before d owns it, whose vCPUs may be waiting for it: a type reference that stays, so that the frame can be no page table. */
        if (!counted)
            type_change(mfn_kept(m), FW_TYPE(FT_WRITABLE) | FW_VALID | 1);
        write_once(frame_refs[m], flags & MEMF_WITHDRAWN ? withdrawn_word(d) : unused_word(d, counted));
    }
    if (unlikely(iommu_on))
        dma_frames_given(d, first, first + nr, !counted);
}

mfn_t domain_alloc_frames(struct domain *d, unsigned order, unsigned flags)
{
    u64 nr = 1UL << order;
    mfn_t m;
    bool ok;

    /* This look only saves us from clearing frames in vain. */
    if (!may_have(d, nr, flags))
        return INVALID_MFN;
    m = alloc_claimed_frames(flags & MEMF_NO_COUNT ? NULL : &d->outstanding_pages, order, flags);
    if (mfn_eq(m, INVALID_MFN))
        return m;
    spin_lock(&d->page_lock);
    ok = may_have(d, nr, flags);
    if (ok)
        give_frames(d, m.v, nr, flags);
    spin_unlock(&d->page_lock);
    if (ok)
        return m;
    free_frames(m, order);
    return INVALID_MFN;
}

bool frame_accounts_hold(struct domain *d)
{
    u64 counted = 0, shared = 0;
    bool hold;

    spin_lock(&d->page_lock);
    for (u64 m = 0; m < nr_frames; m++) {
        u64 w = frame_refs[m];

        if (!domain_has_region(d, m))
            m |= 511;
        else if (ref_owner(w) == d->id)
            ++*(w & FR_COUNTED ? &counted : &shared);
    }
    hold = counted == d->tot_pages && shared == d->shared_frames;
    spin_unlock(&d->page_lock);
    return hold;
}

mfn_t domain_alloc_shared_frame(struct domain *d)
{
    /* 32-bit guests learn some of these frames as 32-bit addresses, and a domain is not yet one when it is made. */
    return domain_alloc_frames(d, 0, MEMF_NO_COUNT | MEMF_LOW);
}

/* need: flags that the frame must have. The allocation flag goes by compare-and-exchange, so only one caller gets it. */
static bool release(struct domain *d, mfn_t m, u64 need)
{
    u64 w;

    if (mfn_eq(m, INVALID_MFN))
        return false;
    w = read_once(frame_refs[m.v]);
    do {
        if (ref_owner(w) != d->id || (w & need) != need || !(u32)w)
            return false;
    } while (!try_cmpxchg(&frame_refs[m.v], &w, w & ~FR_ALLOCATED));
    if (!(w & FR_COUNTED))
        atomic_dec(&frame_types[m.v]);     /* give_frames()'s */
    frame_put(m);
    return true;
}

bool domain_release_frame(struct domain *d, mfn_t m) { return release(d, m, FR_ALLOCATED); }
bool domain_give_up_frame(struct domain *d, mfn_t m) { return release(d, m, FR_ALLOCATED | FR_COUNTED); }

bool domain_withdraw_frame(struct domain *d, mfn_t m)
{
    u64 w = unused_word(d, true);

    return m.v < nr_frames && try_cmpxchg(&frame_refs[m.v], &w, withdrawn_word(d));
}

void domain_free_withdrawn(const struct domain *d, mfn_t m) { frame_final_put(m, withdrawn_word(d)); }

void domain_return_frames(struct domain *d, mfn_t m, u64 nr)
{
    bool alive;

    spin_lock(&d->page_lock);
    alive = !d->dying;
    for (u64 i = 0; alive && i < nr; i++)
        write_once(frame_refs[m.v + i], unused_word(d, true));
    spin_unlock(&d->page_lock);
    for (u64 i = 0; !alive && i < nr; i++)
        domain_free_withdrawn(d, mfn_kept(m.v + i));
}

bool frame_held(mfn_t m) { return (u32)read_once(frame_refs[m.v]) > 1; }

/* As the M2P's (mm/frame_table.c): a reference and a type that stay; a descriptor table's is one that no writable mapping can have. */
void show_frames(mfn_t m, unsigned order, bool writable)
{
    for (u64 i = 0; i < 1UL << order; i++) {
        type_change(mfn_kept(m.v + i), FW_TYPE(writable ? FT_WRITABLE : FT_SEGDESC) | FW_VALID | 1);
        write_once(frame_refs[m.v + i], (u64)DOMID_XEN << FR_OWNER_SHIFT | 1);
    }
}

void frame_final_put(mfn_t m, u64 w)
{
    struct domain *d = domain_get_owner(ref_owner(w));
    struct pending *p = &this_cpu(free_pending);
    u64 flags, spaces = 0;

    BUG_ON(!d);
    ASSERT(!(frame_types[m.v] & (FW_COUNT_MASK | FW_PARTIAL)) || !(w & FR_COUNTED));
    m2p_set(m, M2P_INVALID);
    spin_lock(&d->page_lock);
    --*account_of(d, w & FR_COUNTED);
    write_once(frame_refs[m.v], (u64)DOMID_INVALID << FR_OWNER_SHIFT);
    spin_unlock(&d->page_lock);
    if (unlikely(dma_exact))
        spaces = dma_frame_freed(d, m.v);
    flags = irq_save();
    write_once(frame_notes[m.v], p->head);
    p->head = (u32)m.v;
    p->nr++;
    p->spaces |= spaces;
    note_flush(p, &d->arch.dirty_cpus);
    irq_restore(flags);
    raise_softirq(SOFTIRQ_FREE_FRAMES);
    domain_put(d);
}

#define DRAIN_DUE 2048      /* some 0.1 ms of work */

bool frames_drain_due(void) { return this_cpu(free_pending).nr >= DRAIN_DUE; }

void frames_drain_pending(void)
{
    struct pending *p = &this_cpu(free_pending), list;
    u64 flags = irq_save();

    list = *p;
    memset(p, 0, sizeof(*p));
    irq_restore(flags);
    flush_tlb_mask(&list.flush);
    if (unlikely(list.spaces))
        iommu_flush(list.spaces);
    for (u32 i = 0; i < list.nr_foreign; i++) {
        mfn_t m = mfn_kept(list.foreign[i] >> 1);

        if (list.foreign[i] & FOREIGN_RW)
            frame_put_writable(m);
        else
            frame_put(m);
    }
    while (list.nr--) {
        u32 next = frame_notes[list.head];
        free_frames(mfn_kept(list.head), 0);
        list.head = next;
    }
}

void m2p_set(mfn_t m, u64 gpfn)
{
    if (!mfn_valid(m))
        return;
    steps_add(1);
    write_once(((u64 *)M2P_RW_START)[m.v], gpfn);
    if (unlikely(compat_m2p_ready))
        compat_m2p_set(m.v, gpfn);
}

u64 m2p_get(mfn_t m) { return mfn_valid(m) ? ((u64 *)M2P_RW_START)[m.v] : M2P_INVALID; }
