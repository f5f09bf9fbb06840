/*
 * Frames that become page tables, and cease to be: promotion and demotion, pins, tables half way, and the end of a domain. asm/pt.h has
 * the whole story.
 */
#include <asm/atomic.h>
#include <asm/isolation.h>
#include <asm/pt.h>
#include <public/errno.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>
#include "internal.h"

static int demote(struct domain *d, mfn_t m, u32 w);

unsigned table_level(u32 w)
{
    unsigned level = fw_type(w) - FT_L1 + 1u;

    BUG_ON(level < 1 || level > 4);
    return level;
}

unsigned table_progress(const struct pt_format *f, u32 w)
{
    unsigned n = w & FW_COUNT_MASK;

    BUG_ON(n > f->level[table_level(w)].nr_entries);
    return n;
}

unsigned table_checked(const struct pt_format *f, u32 w)
{
    return w & FW_PARTIAL ? table_progress(f, w) : f->level[table_level(w)].nr_entries;
}

static bool give_way(const struct domain *d) { return preempt_needed() && !d->arch.table_limit; }

/* --- Tables on the way --- */

static void set_partial(mfn_t m, u32 w, unsigned progress)
{
    type_change(m, (w & (FW_TYPE(7) | FW_HV)) | FW_PARTIAL | progress);
}

/* at: how many there were before the operation that leaves m behind; what it left before are tables below m. */
static void orphan_insert(struct domain *d, unsigned at, mfn_t m)
{
    struct arch_domain *a = &d->arch;

    BUG_ON(a->nr_orphans >= ARRAY_SIZE(a->orphans) || at > a->nr_orphans);
    for (unsigned i = ARRAY_SIZE(a->orphans) - 1; i > at; i--)
        a->orphans[i] = a->orphans[i - 1];
    a->orphans[at] = m;
    a->nr_orphans++;
}

/* m is partial no more, or somebody goes on with it. */
static void orphan_forget(struct domain *d, mfn_t m)
{
    struct arch_domain *a = &d->arch;

    for (unsigned i = 0; i < a->nr_orphans; i++) {
        if (!mfn_eq(a->orphans[i], m))
            continue;
        a->nr_orphans--;
        memmove(&a->orphans[i], &a->orphans[i + 1], (a->nr_orphans - i) * sizeof(*a->orphans));
        return;
    }
}

const struct known_table no_known_table = { INVALID_MFN, zero_page };

void pt_know_l1(struct domain *d, mfn_t m)
{
    bool mirrored = d->arch.mirrored;

    /* The short ways know no mirror of a table with entries of 8 bytes. */
    if (unlikely(mirrored && d->arch.fmt->pte_bytes == 8))
        return;
    *(mirrored ? &d->arch.known_mirrored_l1 : &d->arch.known_l1) = (struct known_table){ m, mfn_to_virt(m) };
}

void pt_know_none(struct domain *d) { d->arch.known_l1 = d->arch.known_mirrored_l1 = no_known_table; }

/* Before a table's entries lose their references. */
static void forget_l1(struct domain *d, mfn_t m)
{
    if (mfn_eq(d->arch.known_l1.mfn, m))
        d->arch.known_l1 = no_known_table;
    if (mfn_eq(d->arch.known_mirrored_l1.mfn, m))
        d->arch.known_mirrored_l1 = no_known_table;
}

static void end_outward(struct domain *d, mfn_t m)
{
    if (likely(!(read_once(frame_refs[m.v]) & FR_OUTWARD)))
        return;
    atomic_and(&frame_refs[m.v], ~FR_OUTWARD);
    d->arch.nr_outward--;
}

/* The type stays, without a count, so that the frame's next use in another type begins with a flush. */
static void retire(struct domain *d, mfn_t m, unsigned level)
{
    d->arch.nr_tables--;
    if (d->arch.mirror)
        mirror_free(d, m, level);
    end_outward(d, m);
    note_stale(&d->arch);
    type_change(m, FW_TYPE(FT_L1 + level - 1));
    log_dirty(d, m);
}

/* --- Promotion --- */

/*
 * Most of a process's tables is empty, so they are searched in lines of 64 bytes. Plain loads are enough: a table that is not
 * complete can be written by nobody, and the hardware, whose caches may still name it, sets bits only in entries that are
 * not empty.
 */
#define EMPTY_TABLE_STEPS 16u   /* what reading a table takes, whatever is in it */

static always_inline unsigned line_start(unsigned i, unsigned bytes) { return i & ~(CACHE_LINE / bytes - 1); }
static always_inline unsigned line_end(unsigned i, unsigned bytes) { return line_start(i, bytes) + CACHE_LINE / bytes; }

/* What a mirror stands for is stored once more, for the twin. */
static always_inline int promote_leaf(struct domain *d, const struct pt_format *f, mfn_t m, unsigned i, u64 e, u64 least, bool mirrored)
{
    u64 was = e;
    int rc = get_leaf(d, f, &e, d, least);

    if (likely(!rc) && (e != was || mirrored))
        pt_store(d, m, 1, i, e);
    return rc;
}

static always_inline int promote_node(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, u32 w,
                                      unsigned i, u64 e, bool mirrored)
{
    u64 was = e;
    int rc;

    if (is_hv_slot(f, level, w, i))
        return 0;
    if (i && give_way(d))
        return -RESTART;
    rc = get_node(d, f, level, m, i, &e);
    if (likely(!rc) && (e != was || mirrored))
        pt_store(d, m, level, i, e);
    return rc;
}

/*
 * Takes what the entries from *at on need. bytes, mirrored: f's and d's, as constants. *at becomes how many entries hold references now.
 */
static always_inline int promote_range(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, u32 w,
                                       unsigned *at, unsigned bytes, bool mirrored)
{
    const void *table = mfn_to_virt(m);
    const u64 least = least_ref(d);
    unsigned nr = f->level[level].nr_entries, i = *at;
    int rc = 0;

    while (i < nr) {
        unsigned end = min(line_end(i, bytes), nr);

        if (short_way(line_is_empty(table, bytes, i))) {
            i = end;
            continue;
        }
        for (; i < end; i++) {
            u64 e = load_entry(table, bytes, i);

            if (!(e & PTE_P)) {
                if (!l1tf_exposes(d, e) || (level > 1 && is_hv_slot(f, level, w, i)))
                    continue;
                rc = absent_exposes(d, e);
            } else {
                rc = level == 1 ? promote_leaf(d, f, m, i, e, least, mirrored) : promote_node(d, f, m, level, w, i, e, mirrored);
            }
            if (unlikely(rc))
                goto out;
        }
    }
out:
    *at = i;
    return rc;
}

static int promote_entries(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, u32 w, unsigned *at)
{
    steps_add(EMPTY_TABLE_STEPS);
    if (f->pte_bytes == 4)      /* always mirrored */
        return level == 1 ? promote_range(d, f, m, 1, w, at, 4, true) : promote_range(d, f, m, level, w, at, 4, true);
    if (unlikely(d->arch.mirrored))
        return promote_range(d, f, m, level, w, at, 8, true);
    return level == 1 ? promote_range(d, f, m, 1, w, at, 8, false) : promote_range(d, f, m, level, w, at, 8, false);
}

/* Releases the first n entries, from the top down. Returns how many are left when it gives way, 0 when done. */
static always_inline unsigned demote_range(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, u32 w,
                                           unsigned n, unsigned bytes)
{
    const void *table = mfn_to_virt(m);

    while (n) {
        unsigned start = line_start(n - 1, bytes);

        if (short_way(line_is_empty(table, bytes, start))) {
            n = start;
            continue;
        }
        while (n > start) {
            u64 e = load_entry(table, bytes, n - 1);

            if (!(e & PTE_P) || (level > 1 && is_hv_slot(f, level, w, n - 1))) {
                n--;
            } else if (level == 1) {
                n--;
                put_noted_leaf(d, e);
            } else {
                if (give_way(d))
                    return n;
                n--;
                if (put_node(d, m, e) && n)
                    return n;
            }
        }
    }
    return 0;
}

/*
 * One note is enough for all entries: the table hangs in no tree any more, so whoever flushes from now on ends all
 * translations through it, and nothing makes new ones.
 */
static unsigned demote_entries(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, u32 w, unsigned n)
{
    if (level == 4)
        isolation_forget(d, m);
    note_stale(&d->arch);
    steps_add(EMPTY_TABLE_STEPS);
    if (f->pte_bytes == 8)
        return level == 1 ? demote_range(d, f, m, 1, w, n, 8) : demote_range(d, f, m, level, w, n, 8);
    return level == 1 ? demote_range(d, f, m, 1, w, n, 4) : demote_range(d, f, m, level, w, n, 4);
}

/* from: where a partial table is to go on; -1 for a new one. The frame may be partial after an error too. */
static int promote(struct domain *d, mfn_t m, unsigned level, u32 w, int from)
{
    const struct pt_format *f = d->arch.fmt;
    unsigned at = from < 0 ? 0 : (unsigned)from, orphans = d->arch.nr_orphans;
    int rc = 0;

    if (unlikely(d->arch.mirrored))
        rc = mirror_wanted(d, m, level);
    if (!rc)
        rc = promote_entries(d, f, m, level, w, &at);
    if (!rc && f->id == PT32P && level == 3 && !(pt_load(f, mfn_to_virt(m), 3) & PTE_P))
        rc = refuse(-EINVAL, "L3 frame %#lx: the fourth entry, which covers the hypervisor's hole, is not present", m.v);
    if (!rc) {
        if (level == f->hv_level && (f->id != PT32P || w & FW_HV))
            pt_fill_hv_slots(d, mfn_to_virt(m));
        atomic_or(&frame_types[m.v], FW_VALID);
        log_dirty(d, m);
        return 0;
    }
    if (rc == -RESTART) {
        set_partial(m, w, at);
        return rc;      /* the general reference stays with the partial state */
    }
    at = demote_entries(d, f, m, level, w, at);
    if (at) {
        set_partial(m, w, at);
        orphan_insert(d, orphans, m);
    } else {
        retire(d, m, level);
    }
    return rc;
}

static __attribute__((cold, noinline)) int refuse_table(const struct domain *d, mfn_t m)
{
    return mfn_eq(m, INVALID_MFN) ? refuse(-EINVAL, "a frame beyond the machine's memory (%#lx frames) is not d%u's", nr_frames, d->id)
                                  : refuse(-EINVAL, "frame %#lx is not d%u's (owner d%u)", m.v, d->id, frame_owner_id(m));
}

/* The caller has a general reference, which becomes that of the typed one, or goes. */
static __attribute__((noinline)) int get_held_table(struct domain *d, mfn_t m, unsigned level, u32 hv)
{
    enum frame_type type = (enum frame_type)(FT_L1 + level - 1);
    u32 w;
    int rc, from = -1;

    w = read_once(frame_types[m.v]);
    for (;;) {
        if (w & FW_PARTIAL) {
            if (fw_type(w) != type || (w & FW_HV) != hv) {
                rc = demote(d, m, w);
                if (rc)
                    goto out;
                w = read_once(frame_types[m.v]);
                continue;
            }
            from = (int)table_progress(d->arch.fmt, w);
            orphan_forget(d, m);
            type_change(m, FW_TYPE(type) | hv | 1);
            frame_put(m);       /* the partial state's own */
            break;
        }
        if (w & FW_COUNT_MASK) {
            if (fw_type(w) != type || !(w & FW_VALID) || (w & FW_HV) != hv || (w & FW_COUNT_MASK) == FW_COUNT_MASK) {
                rc = -EINVAL;
                goto out;
            }
            atomic_inc(&frame_types[m.v]);
            return 0;
        }
        if (type_try_change(m, &w, FW_TYPE(type) | hv | 1)) {
            d->arch.nr_tables++;
            domain_flush_stale(d);
            break;
        }
    }
    rc = promote(d, m, level, FW_TYPE(type) | hv, from);
    /* What is partial keeps the reference. */
    if (!rc || frame_types[m.v] & FW_PARTIAL)
        return rc;
out:
    frame_put(m);
    return rc;
}

/* Mostly it is such a table already. */
int get_table(struct domain *d, mfn_t m, unsigned level, u32 hv)
{
    u32 w;

    if (unlikely(!frame_take(m, d)))
        return refuse_table(d, m);
    w = read_once(frame_types[m.v]) & ~(FW_PINNED | FW_LINEAR);
    /* The type, complete, and a count from 1 to all but the highest: all other states are numbers outside of the range. */
    if (unlikely(!short_way(w - (FW_TYPE(FT_L1 + level - 1) | FW_VALID | hv | 1) < FW_COUNT_MASK - 1)))
        return get_held_table(d, m, level, hv);
    atomic_inc(&frame_types[m.v]);
    return 0;
}

int pt_get_table(struct domain *d, mfn_t m, unsigned level) { return get_table(d, m, level, 0); }

/* --- Demotion --- */

/*
 * Goes on with a partial frame's demotion; w: its type word. The caller has a general reference of its own. When it is done, the partial
 * state's reference is dropped too. -RESTART: something is left, of this table or on the orphan list.
 */
static int demote(struct domain *d, mfn_t m, u32 w)
{
    const struct pt_format *f = d->arch.fmt;
    unsigned level = table_level(w), orphans = d->arch.nr_orphans, left = demote_entries(d, f, m, level, w, table_progress(f, w));
    bool more = d->arch.nr_orphans > orphans;

    if (left) {
        set_partial(m, w, left);
        return -RESTART;
    }
    orphan_forget(d, m);
    retire(d, m, level);
    frame_put(m);
    return more ? -RESTART : 0;
}

static __attribute__((noinline)) int put_last(struct domain *d, mfn_t m)
{
    const struct pt_format *f = d->arch.fmt;
    u32 w = frame_types[m.v];
    unsigned level = table_level(w), orphans = d->arch.nr_orphans, left;

    BUG_ON(!(w & FW_VALID) || !(w & FW_COUNT_MASK));
    forget_l1(d, m);
    left = demote_entries(d, f, m, level, w, f->level[level].nr_entries);
    if (left) {
        set_partial(m, w, left);    /* our general reference becomes the partial state's */
        orphan_insert(d, orphans, m);
        return -RESTART;
    }
    retire(d, m, level);
    frame_put(m);
    return d->arch.nr_orphans > orphans ? -RESTART : 0;
}

int pt_put_table(struct domain *d, mfn_t m)
{
    u32 w = frame_types[m.v];

    if (unlikely(!(w & FW_VALID) || (w & FW_COUNT_MASK) <= 1))
        return put_last(d, m);
    atomic_dec(&frame_types[m.v]);
    frame_drop(m);
    return 0;
}

int pt_drain_orphans(struct domain *d)
{
    while (d->arch.nr_orphans) {
        mfn_t m = d->arch.orphans[d->arch.nr_orphans - 1];
        int rc = demote(d, m, frame_types[m.v]);

        if (rc)
            return rc;
    }
    return 0;
}

/* --- Pinning --- */

int pt_pin(struct domain *d, mfn_t m, unsigned level)
{
    int rc = pt_drain_orphans(d);

    if (!rc)
        rc = pt_get_table(d, m, level);
    if (rc)
        return rc;
    if (frame_types[m.v] & FW_PINNED) {
        pt_put_table(d, m);
        return refuse(-EINVAL, "frame %#lx is pinned already", m.v);
    }
    atomic_or(&frame_types[m.v], FW_PINNED);
    log_dirty(d, m);
    return 0;
}

int pt_unpin(struct domain *d, mfn_t m)
{
    int rc = pt_drain_orphans(d);
    u32 w;

    if (rc)
        return rc;
    if (!frame_hold(m, d))
        return refuse_table(d, m);
    w = frame_types[m.v];
    if (!(w & FW_PINNED)) {
        frame_put(m);
        return refuse(-EINVAL, "frame %#lx is not pinned (type word %#x)", m.v, w);
    }
    atomic_and(&frame_types[m.v], ~FW_PINNED);
    log_dirty(d, m);
    (void)pt_put_table(d, m);   /* what is left of it is on the orphan list */
    frame_put(m);
    return 0;
}

/* --- The end of a domain --- */

/* One frame of a dying domain, whose vCPUs have let go of their roots: its own partial state, pin and allocation. */
static int relinquish_frame(struct domain *d, mfn_t m)
{
    int rc = 0;
    u32 w;

    if (!frame_hold(m, d))
        return 0;
    w = frame_types[m.v];
    if (w & FW_PARTIAL)
        rc = demote(d, m, w);
    else if (w & FW_PINNED)
        rc = pt_unpin(d, m);
    if (!rc && d->arch.nr_orphans)
        rc = -RESTART;
    if (!rc && !domain_give_up_frame(d, m))
        rc = 0;     /* given up before, or one that we share with the domain */
    frame_put(m);
    return rc;
}

int pt_relinquish(struct domain *d)
{
    u64 m = d->arch.relinquish_at;
    int rc;

    pt_lock(d);
    rc = pt_drain_orphans(d);
    /* A frame may be a table, with its entries: so there is a look after each. */
    for (; !rc && m < nr_frames; d->arch.relinquish_at = ++m) {
        steps_add(1);
        if (!domain_has_region(d, m))
            m |= 511;
        else if ((rc = relinquish_frame(d, mfn(m))) != 0)
            break;
        if (preempt_needed())
            rc = -RESTART;
    }
    pt_unlock(d);
    return rc;
}

/* --- The hypervisor's part of a guest's top-level table --- */

void pt_fill_top(const struct domain *d, u64 *l4)
{
    for (unsigned i = HYP_L4_FIRST; i <= HYP_L4_LAST; i++)
        l4[i] = hyp_l4[i];
    l4[PERDOMAIN_START >> 39 & 511] = d->arch.perdomain_l3_mfn.v << PAGE_SHIFT | PTE_P | PTE_RW | PTE_A;
}

/* The mirrored format's hole is in the mirror alone. The table, which walks and linear entries lead to, has nothing there. */
void pt_fill_hv_slots(struct domain *d, u64 *table)
{
    const struct pt_format *f = d->arch.fmt;

    if (f->id == PT64)
        pt_fill_top(d, table);
    else if (f->id == PT32P)
        for (unsigned i = f->hv_first; i <= f->hv_last; i++)
            table[i] = compat_m2p_l2e(i - f->hv_first);
    else
        memset((u32 *)table + f->hv_first, 0, (f->hv_last - f->hv_first + 1u) * sizeof(u32));
}
