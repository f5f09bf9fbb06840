/* The log of what is written to a domain's memory: asm/dirty.h. Kept by bits, in rows of a page, for the guest's frame numbers. */
#include <asm/atomic.h>
#include <asm/dirty.h>
#include <asm/pt.h>
#include <public/errno.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include <pvisor/rangeset.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>
#include "internal.h"

u32 nr_dirty_logs;

/* --- Bits --- */

void dirty_log_mark(struct domain *d, mfn_t m) { log_mark(d->arch.log, m2p_get(m)); }

bool dirty_log_has(const struct domain *d, mfn_t m)
{
    u64 pfn = m2p_get(m), *w = log_word(d->arch.log, pfn);

    return !w || read_once(*w) >> pfn % 64u & 1;
}

bool may_write_unlogged(const struct domain *d, mfn_t m, u64 e)
{
    mfn_t to = pte_mfn(e);

    if (likely(!d->arch.logging) || !(e & PTE_RW) || !is_own(d, to))
        return true;
    if (!dirty_log_has(d, to))
        return false;
    mirror_note_permits(d, m);
    return true;
}

void log_dirty_leaf(struct domain *d, u64 e)
{
    mfn_t m = pte_mfn(e);

    if (likely(!d->arch.logging) || !is_own(d, m))
        return;
    log_first_write(d, m);
}

void frame_log_dirty(mfn_t m)
{
    struct domain *d = domain_get_owner(frame_owner_id(m));

    if (!d)
        return;
    log_dirty(d, m);
    domain_put(d);
}

/* --- Beginning and end --- */

/* nr: numbers that there is to be room for, if there is no log yet. */
static int make_log(struct domain *d, u64 nr)
{
    struct dirty_log *log = d->arch.log;
    u64 rows = DIV_ROUND_UP(nr, LOG_ROW_BITS);

    if (!log) {
        log = xzalloc_bytes(sizeof(*log) + rows * sizeof(*log->row));
        if (!log)
            return -ENOMEM;
        log->nr = ROUND_UP(nr, 64u);    /* whole words: what is beyond is in no report but as written */
        d->arch.log = log;
    }
    for (; log->rows_made < DIV_ROUND_UP(log->nr, LOG_ROW_BITS); log->rows_made++) {
        if (preempt_needed())
            return -RESTART;
        log->row[log->rows_made] = alloc_pages(0);
        if (!log->row[log->rows_made])
            return -ENOMEM;
    }
    return 0;
}

static void set_logging(struct domain *d, bool on)
{
    if (d->arch.logging == on)
        return;
    write_once(d->arch.logging, on);
    if (on)
        atomic_inc(&nr_dirty_logs);
    else
        atomic_dec(&nr_dirty_logs);
}

void dirty_log_end(struct domain *d)
{
    d->arch.log_ready = false;
    set_logging(d, false);
}

void dirty_log_free(struct domain *d)
{
    struct dirty_log *log = d->arch.log;

    for (u64 i = 0; log && i < log->rows_made; i++)
        free_pages(log->row[i], 0);
    xfree(log);
    d->arch.log = NULL;
}

/* Takes back what an L1 table's twins permit of the domain's own memory: written once more, it is noted once more. */
static int withdraw(struct domain *d, mfn_t m)
{
    u64 *twins = mirror_take_leaves(d, m);

    if (!twins)
        return 0;
    for (unsigned i = 0; i < d->arch.fmt->level[1].nr_entries; i++) {
        u64 e = read_once(twins[i]);

        if (e & PTE_RW && is_own(d, pte_mfn(e)))
            write_once(twins[i], e & ~PTE_RW);
    }
    steps_add(64);
    return 0;
}

bool dirty_log_holds(const struct domain *d)
{
    return !d->arch.log_gap && (d->arch.fmt->pte_bytes == 4 || d->arch.store == STORE_MIRRORED);
}

/* noted: of those tables alone that have a note, which is all there can be if all twins were stored while d's writes are logged. */
static int withdraw_all(struct domain *d, bool noted)
{
    int rc = -ENOMEM;

    pt_lock(d);
    /* Asked under the lock: the walk that gives mirrors up has its place where this one would have its own. */
    if (dirty_log_holds(d))
        rc = noted ? mirror_for_each_noted(d, withdraw) : for_each_table(d, withdraw);
    if (!rc) {
        flush_tlb_mask(&d->arch.dirty_cpus);
        d->arch.log_taken = false;
    }
    pt_unlock(d);
    return rc;
}

int dirty_log_withdraw(struct domain *d) { return withdraw_all(d, true); }

/* Under the lock, since the guest, too, may begin to fill mirrors (pt_mirror_step()). */
static void begin_logging(struct domain *d)
{
    pt_lock(d);
    if (!d->arch.logging) {
        d->arch.log_gap = false;
        d->arch.log->made_first = d->arch.fmt->pte_bytes == 8 && (d->arch.store == STORE_IN_PLACE || d->arch.store == STORE_ENDING);
    }
    set_logging(d, true);
    pt_unlock(d);
}

int dirty_log_start(struct domain *d, u64 nr)
{
    int rc;

    if (d->arch.log_ready)
        return refuse(-EBUSY, "d%u's writes are logged already", d->id);
    if (d->is_hardware || !rangeset_is_empty(d->iomem) || pci_find_owned(d->id))
        return refuse(-EOPNOTSUPP, "d%u has devices, whose writes to memory nobody can log", d->id);
    rc = make_log(d, nr);
    if (!rc) {
        begin_logging(d);
        rc = pt_mirror_begin(d);
    }
    if (!rc)
        rc = withdraw_all(d, d->arch.log->made_first);
    if (!rc)
        d->arch.log_ready = true;
    else if (rc != -RESTART)
        set_logging(d, false);
    return rc;
}

int dirty_log_stop(struct domain *d)
{
    dirty_log_end(d);
    if (d->arch.log)
        d->arch.log->under_way.op = 0;
    /* The guest may walk for itself meanwhile (pt_mirror_step()). */
    pt_lock(d);
    if (d->arch.store != STORE_ENDING)
        d->arch.store_at = 0;       /* of a walk that nobody goes on with, or that begins again */
    pt_unlock(d);
    return pt_mirror_end(d);
}

/* --- Reports --- */

u64 dirty_log_take(struct dirty_log *log, u64 pfn, u64 nr, bool clean)
{
    u64 *w = log_word(log, pfn), mask = ~0UL >> (64u - nr), known = !w || log->lost ? mask : 0;

    if (!w || !(read_once(*w) & mask))
        return known;
    return ((clean ? fetch_and(w, ~mask) : read_once(*w)) & mask) | known;
}

/* Processors set accessed bits in descriptors, and we write some. Of tables that are none any more frame_put_segdesc() has told. */
static void note_descriptors(struct vcpu *v)
{
    for (unsigned i = 0; i < PERVCPU_PAGES; i++) {
        u64 e = read_once(v->arch.perdomain_l1[i]);

        if (e & PTE_P && is_own(v->domain, pte_mfn(e)))
            dirty_log_mark(v->domain, pte_mfn(e));
    }
}

void dirty_log_mark_vcpus(struct domain *d)
{
    struct vcpu *v;

    for_each_vcpu(d, v) {
        if (!mfn_eq(v->info_mfn, INVALID_MFN))
            dirty_log_mark(d, v->info_mfn);
        if (v->runstate_phys.at)
            dirty_log_mark(d, v->runstate_phys.mfn);
        if (v->time_phys.at)
            dirty_log_mark(d, v->time_phys.mfn);
        note_descriptors(v);
    }
    if (d->arch.pirq_eoi_map)
        dirty_log_mark(d, d->arch.pirq_eoi_mfn);
}

/* --- What others have mapped --- */

/* m: a table of s's with FR_OUTWARD. */
static void note_viewed(const struct domain *s, mfn_t m, struct domain *d)
{
    const struct pt_format *f = s->arch.fmt;
    unsigned nr = table_checked(f, frame_types[m.v]);

    for (unsigned i = 0; i < nr; i++) {
        u64 e = pt_load(f, mfn_to_virt(m), i);

        if ((e & (PTE_P | PTE_RW)) == (PTE_P | PTE_RW) && is_own(d, pte_mfn(e)))
            dirty_log_mark(d, pte_mfn(e));
    }
    steps_add(64);
}

static bool is_outward(const struct domain *s, u64 m)
{
    u64 w = read_once(frame_refs[m]);

    return w & FR_OUTWARD && frame_ref_owner(w) == s->id;
}

/* The last frame of m's region, or before the next such table in it. */
static u64 pass_over_inward(const struct domain *s, u64 m)
{
    u64 last = min(m | 511, nr_frames - 1);

    if (!domain_has_region(s, m))
        return last;
    for (;; m++) {
        m = pass_lines(frame_refs, sizeof(*frame_refs), m, last, FR_OUTWARD);
        if (m >= last || is_outward(s, m + 1))
            return m;
    }
}

/*
 * s's pt_lock is held. An entry that s has let go of since the beginning, or moved to where the walk has been, is in the log:
 * put_others_leaf(), leaf_moves().
 */
static int note_viewed_by(const struct domain *s, struct domain *d)
{
    u64 *m = &d->arch.log->viewer_at;

    while (s->arch.nr_outward && s->regions && *m < nr_frames) {
        if (domain_has_region(s, *m) && is_outward(s, *m))
            note_viewed(s, mfn_kept(*m), d);
        *m = pass_over_inward(s, *m) + 1;
        steps_add(8);
        if (preempt_needed())
            return -RESTART;
    }
    return 0;
}

int dirty_log_mark_viewed(struct domain *d)
{
    struct dirty_log *log = d->arch.log;
    struct domain *s;
    int rc = 0;

    while (!rc && (s = domain_get_next(log->viewer)) != NULL) {
        if (s->id != log->viewer)
            log->viewer_at = 0;
        log->viewer = s->id;
        pt_lock(s);
        if (s != d)
            rc = note_viewed_by(s, d);
        pt_unlock(s);
        if (!rc) {
            log->viewer++;
            log->viewer_at = 0;
        }
        domain_put(s);
        steps_add(16);
        if (!rc && preempt_needed())
            rc = -RESTART;
    }
    return rc;
}
